"""Moves a data set to another server, with another number of partitions, while nobody uses it.

The source is only read. The target cannot be opened until everything was written, audited and compared.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic

from msgspec import Struct

from engine import keys, limits
from engine.audit import audit_partitions
from engine.audit_report import AuditReport
from engine.cluster_link import new_link
from engine.dataset import FORMAT, MAX_PARTITIONS, UNFINISHED, Dataset
from engine.errors import DatasetUnfit
from engine.metrics import EngineMetrics
from engine.repartition.books import Books, Tell, read_books, read_versions
from engine.repartition.comparing import compare_books
from engine.repartition.layout import lay_out
from engine.repartition.writing import write_books
from engine.script import library
from engine.topology import Topology, open_topology

NAMED_DIFFERENCES = 5
LOOKS, LOOK_SECONDS = 20, 0.05
"""A server knows a moment later than its clients that they are gone."""
_BUSY_COMMANDS = ("fcall", "fcall_ro")


class Repartitioned(Struct, frozen=True):
    """What was moved. `events_per_second` counts those of the source's ledgers, over the whole move."""

    before: int
    after: int
    positions: int
    reservations: int
    answers: int
    gave_way: int
    crossed: int
    events: int
    elapsed_seconds: float

    @property
    def events_per_second(self) -> float:
        return self.events / self.elapsed_seconds if self.elapsed_seconds else 0.0


async def repartition(
    source_url: str,
    target_url: str,
    partitions: int,
    *,
    retention_seconds: int = limits.DEFAULT_RETENTION_SECONDS,
    tell: Tell = lambda _: None,
) -> Repartitioned:
    """Moves the data set of one server into the empty one of another. `tell` gets a line for each stage.

    Raises `DatasetUnfit` where the source is in use, not clean or none, where the target is not empty, or
    where the two differ in the end; `StorageUnavailable`, `ValueError`. Whatever was raised once the
    target was begun, it is left unusable, and the source as it was.
    """
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise ValueError(f"partitions is from 1 to {MAX_PARTITIONS}")
    begun = monotonic()
    source, target = open_topology(source_url), open_topology(target_url)
    try:
        fixed = await _find_source(source)
        await _refuse_unless_empty(target)
        report = await audit_partitions(source, int(fixed["partitions"]))
        _refuse_unless_clean("the source", report)
        tell(f"the source is clean: {report.partitions:,} partitions, {report.events:,} events")
        for note in report.notes:
            tell(f"note: {note.detail} is not moved: nothing of this release made it")
        books = await read_books(source, int(fixed["partitions"]), fixed["secret"], tell)
        layout = lay_out(books, partitions, retention_ms=retention_seconds * 1000)
        tell(f"read {len(books.promises):,} reservations and {len(books.memories):,} answers")
        dataset = await _begin_target(target, books, partitions, retention_seconds)
        try:
            await write_books(dataset, books, layout, tell)
        finally:
            await dataset.link.close()
        after = await audit_partitions(target, partitions)
        _refuse_unless_clean("the target", after)
        tell(f"the target is clean: {after.partitions:,} partitions, {after.events:,} events")
        found = await read_books(target, partitions, books.secret, lambda _: None)
        different = compare_books(books, found, layout)
        if different:
            named = "; ".join(different[:NAMED_DIFFERENCES])
            raise DatasetUnfit(f"the target is not what the source was: {named}")
        await _refuse_users(source)
        if await read_versions(source, books.partitions) != books.versions:
            raise DatasetUnfit("somebody wrote to the source meanwhile: stop whatever uses it, and repeat")
        await target.write_hash(keys.dataset(), {"format": str(FORMAT).encode()})
    finally:
        await source.close()
        await target.close()
    return Repartitioned(
        books.partitions,
        partitions,
        len(books.on_hand),
        len(books.promises),
        len(books.memories),
        len(layout.gave_way),
        layout.crossed,
        report.events,
        monotonic() - begun,
    )


async def _find_source(source: Topology) -> Mapping[str, bytes]:
    """What was fixed when the source was made. Raises `DatasetUnfit`."""
    fixed = {name.decode(): value for name, value in (await source.read_hash(keys.dataset())).items()}
    if not fixed:
        raise DatasetUnfit("the source holds no data set of Bincard's: is it the right server?")
    if int(fixed["format"]) == UNFINISHED:
        raise DatasetUnfit("the source is what a repartition left that did not end")
    if int(fixed["format"]) != FORMAT:
        raise DatasetUnfit(
            f"the source has format {int(fixed['format'])}, this release reads format {FORMAT}"
        )
    await _refuse_users(source)
    return fixed


async def _refuse_users(source: Topology) -> None:
    """Refuses where a connection called our scripts last, unless it goes within a second."""
    looks = LOOKS
    while users := await _count_users(source):
        looks -= 1
        if not looks:
            raise DatasetUnfit(
                f"the source is in use, by {users} connections: stop every `bincard serve` and "
                "`bincard worker`, and every program that uses the engine"
            )
        await asyncio.sleep(LOOK_SECONDS)


async def _count_users(source: Topology) -> int:
    commands = [command for server in await source.servers() for command in await server.running_commands()]
    return sum(command in _BUSY_COMMANDS for command in commands)


async def _refuse_unless_empty(target: Topology) -> None:
    fixed = await target.read_hash(keys.dataset())
    if fixed.get(b"format") == str(UNFINISHED).encode():
        raise DatasetUnfit(
            "the target holds what a repartition left that did not end: empty the server and repeat it"
        )
    if fixed:
        raise DatasetUnfit("the target holds a data set: a repartition needs an empty server")
    async for key in target.scan_keys(f"{keys.PREFIX}*"):
        raise DatasetUnfit(f"the target holds {key}: a repartition needs an empty server")


def _refuse_unless_clean(name: str, report: AuditReport) -> None:
    if not report.is_clean:
        raise DatasetUnfit(
            f"{name} is not clean: {report.difference_count:,} differences, {report.violation_count:,} "
            f"violations, {sum(note.is_blocking for note in report.notes)} parts that could not be compared; "
            "`bincard audit` names them"
        )


async def _begin_target(target: Topology, books: Books, partitions: int, retention_seconds: int) -> Dataset:
    """Begins a data set that nobody else can open, in an epoch that is newer than all of the source's."""
    await target.write_hash(
        keys.dataset(),
        {
            "format": str(UNFINISHED).encode(),
            "partitions": str(partitions).encode(),
            "secret": books.secret,
        },
    )
    epoch = str(books.epoch + 1).encode()
    for partition in range(partitions):
        await target.write_hash(keys.meta(partition), {"epoch": epoch, "seq": b"0"})
    metrics, scripts = EngineMetrics(), library()
    link = new_link(target, scripts, metrics.lane)
    await link.open()
    return Dataset(
        target,
        link,
        partitions=partitions,
        secret=books.secret,
        scripts=scripts,
        retention_seconds=retention_seconds,
        metrics=metrics,
    )
