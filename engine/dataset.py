"""A data set on a server: what was fixed when it was made, and the way to its partitions."""

import asyncio
from secrets import token_bytes

from engine import limits
from engine.cluster_link import HotLink, new_link
from engine.commands import Commands
from engine.errors import DatasetUnfit
from engine.ids import OperationIds, dataset_mark
from engine.metrics import EngineMetrics
from engine.pace import Watch
from engine.script import Library, library
from engine.topology import Topology, open_topology

FORMAT = 5
MAX_PARTITIONS = 16_384
SECRET_SIZE = 32
UNFINISHED = 0
"""The format of a data set that a repartition has begun and not ended. No release opens it."""


class Dataset:
    """An open data set. Build it with `open_dataset`."""

    def __init__(
        self,
        topology: Topology,
        link: HotLink,
        *,
        partitions: int,
        secret: bytes,
        scripts: Library,
        retention_seconds: int,
        metrics: EngineMetrics,
        replicas: int = 0,
        is_watched: bool = True,
    ) -> None:
        self.topology = topology
        self.link = link
        self.scripts = scripts
        """The scripts, made out to this data set."""
        self.partitions = partitions
        self.retention_seconds = retention_seconds
        self.replicas = replicas
        """How many must have an effect before it is answered."""
        self.ids = OperationIds(secret)
        self.metrics = metrics
        self.commands = tuple(
            Commands(
                link,
                scripts,
                partition,
                retention_ms=retention_seconds * 1000,
                watch=Watch() if is_watched else None,
            )
            for partition in range(partitions)
        )

    async def confirm(self) -> None:
        """Returns when the replicas have all that was written so far. Raises `Unconfirmed`, `Unavailable`."""
        await asyncio.gather(*(commands.take_over() for commands in self.commands))

    async def close(self) -> None:
        """Closes every connection."""
        await self.link.close()
        await self.topology.close()


async def open_dataset(
    url: str,
    *,
    partitions: int | None = None,
    retention_seconds: int = limits.DEFAULT_RETENTION_SECONDS,
    scripts: Library | None = None,
    create: bool = True,
    replicas: int = 0,
    is_watched: bool | None = None,
) -> Dataset:
    """Opens the data set of a server, made now if there is none and `create` allows.

    `partitions` applies to a new data set (default 1, on a cluster 64); of an old one it must be the number
    that it has. What changes something is answered when so many `replicas` have it, too. `scripts` stands in
    for those of this release: tests pass some whose clock they can turn; `is_watched` sets its steps right,
    as those of a server's are. Raises `StorageUnavailable` where the server cannot be reached, `DatasetUnfit`
    where its data set does not fit, `ValueError` for a URL that cannot be read, and where it made the data
    set, `Unconfirmed` unless the replicas have it.
    """
    if partitions is not None and not 1 <= partitions <= MAX_PARTITIONS:
        raise ValueError(f"partitions is from 1 to {MAX_PARTITIONS}")
    topology, metrics = open_topology(url), EngineMetrics()
    if is_watched is None:
        is_watched = scripts is None
    try:
        secret = token_bytes(SECRET_SIZE)
        fixed = await topology.open_dataset(partitions, secret, create=create)
        if int(fixed["format"]) == UNFINISHED:
            raise DatasetUnfit(
                "the data set is what a repartition left that did not end: empty the server and repeat it"
            )
        if int(fixed["format"]) != FORMAT:
            raise DatasetUnfit(
                f"the data set has format {int(fixed['format'])}, this release reads format {FORMAT}"
            )
        found = int(fixed["partitions"])
        if partitions is not None and partitions != found:
            raise DatasetUnfit(f"the data set has {found} partitions, not {partitions}: leave the option out")
        scripts = (scripts or library()).for_dataset(dataset_mark(fixed["secret"]))
        link = new_link(topology, scripts, metrics.lane, replicas=replicas)
        await link.open()
    except BaseException:
        await topology.close()
        raise
    dataset = Dataset(
        topology,
        link,
        partitions=found,
        secret=fixed["secret"],
        scripts=scripts,
        retention_seconds=retention_seconds,
        metrics=metrics,
        replicas=replicas,
        is_watched=is_watched,
    )
    if replicas and fixed["secret"] == secret:
        try:
            await dataset.confirm()
        except BaseException:
            await dataset.close()
            raise
    return dataset
