"""What a round runs on: one server, a primary under Sentinels, or a cluster; each with a durability tier."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from redis import Redis, RedisError

from engine import Inventory, Unavailable
from engine.audit import AuditReport, audit
from engine.dataset import Dataset, open_dataset
from engine.history import open_recorded
from engine.script import Library
from engine.topology.embedded import EmbeddedServer
from tests.faults.campaign.machine import Clock
from tests.topology.groups import (
    ClusterGroup,
    Node,
    SentinelGroup,
    start_cluster,
    start_sentinels,
    wait_until,
)

SOCKET_TIMEOUT_SECONDS = 10.0
OPENINGS = 5


@dataclass(frozen=True)
class Tier:
    """What a durability tier asks of those who start groups of servers and open inventories on them."""

    settings: Mapping[str, str] = field(default_factory=dict)
    sentinels: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `start_sentinels`."""

    opening: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `open_dataset`."""


TIERS = {
    "none": Tier(),
    "local": Tier(),
    "replicated": Tier(
        settings={
            "appendonly": "yes",
            "appendfsync": "always",
            "min-replicas-to-write": "1",
            "min-replicas-max-lag": "10",
        },
        sentinels={"replicas": 2},
        opening={"replicas": 1},
    ),
}


class Site(Protocol):
    """What every kind of round needs of what it runs on."""

    tier: str
    """The durability that the servers are set for and the engine is told of, as in `TIERS`."""

    partitions: int

    @property
    def url(self) -> str: ...

    async def begin(self) -> None:
        """Starts, or empties what runs already."""

    async def open(self, url: str, history: Path, scripts: Library | None) -> Inventory:
        """An inventory that records, in the tier of the site; of the site itself or of a way to it."""

    async def audit(self) -> AuditReport:
        """Of the books, once the trouble is over."""

    def histories(self) -> Path | None:
        """What the site itself recorded, if anything."""

    async def end(self) -> None:
        """After each round. What is shared by rounds goes on."""


class _Direct:
    """A site whose servers the engine reaches by itself."""

    tier: str
    partitions: int
    url: str

    async def open(self, url: str, history: Path, scripts: Library | None) -> Inventory:
        more = {"partitions": self.partitions, "scripts": scripts, **TIERS[self.tier].opening}
        dataset = await _open_patiently(url, **more)
        return await open_recorded(dataset, str(history))

    async def audit(self) -> AuditReport:
        dataset = await _open_patiently(self.url, create=False)
        try:
            return await audit(dataset)
        finally:
            await dataset.close()

    def histories(self) -> None:
        return None


async def _open_patiently(url: str, **how: Any) -> Dataset:  # noqa: ANN401 - as `open_dataset`
    """Opens a data set. Sentinels that are busy with a promotion may be late with their answers."""
    for _ in range(OPENINGS):
        with suppress(Unavailable):
            return await open_dataset(url, **how)
        await asyncio.sleep(1.0)
    return await open_dataset(url, **how)


class Single(_Direct):
    """An embedded server in a directory of its own, for one round."""

    def __init__(
        self, program: Path, *, tier: str = "local", partitions: int = 1, has_clock: bool = False
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bincard-round-"))
        self.data = self.folder / "data"
        self.tier, self.partitions = tier, partitions
        self.clock = Clock(self.folder, program) if has_clock else None
        self._program = program if self.clock is None else self.clock.program
        self._server: EmbeddedServer | None = None

    @property
    def server(self) -> EmbeddedServer:
        assert self._server is not None, "begin() comes first"
        return self._server

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def socket(self) -> Path:
        return Path(self.url.removeprefix("unix://"))

    def control(self) -> "Redis[bytes]":
        """A plain client."""
        return Redis(unix_socket_path=str(self.socket), socket_timeout=SOCKET_TIMEOUT_SECONDS)

    async def begin(self) -> None:
        await self.start()

    async def start(self) -> None:
        """Starts the server on the data that are there."""
        durability = "none" if self.tier == "none" else "local"
        self._server = await asyncio.to_thread(
            EmbeddedServer.start, self.data, durability=durability, binary=self._program
        )

    async def kill(self) -> None:
        """SIGKILL, and the end of the process."""
        os.kill(self.pid, signal.SIGKILL)
        await asyncio.to_thread(self.server.stop)

    async def stop(self) -> None:
        """The end in order."""
        await asyncio.to_thread(self.server.stop)

    async def until_ended(self, seconds: float) -> bool:
        """Whether the server ended by itself in that time."""
        has_ended = await asyncio.to_thread(self.server.wait, seconds)
        if has_ended:
            await asyncio.to_thread(self.server.stop)
        return has_ended

    def log_file(self) -> Path:
        """The append-only file that grows."""
        found = sorted((self.data / "appendonlydir").glob("*.incr.aof"))
        return max(found, key=lambda path: int(path.name.split(".")[2]))

    async def end(self) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.stop, 0)
        shutil.rmtree(self.folder, ignore_errors=True)


class Sentinels(_Direct):
    """A primary, its replica and three Sentinels, shared by rounds."""

    def __init__(self, program: Path, *, tier: str = "none") -> None:
        self.tier, self.partitions = tier, 1
        self._program = program
        self._group: SentinelGroup | None = None

    @property
    def group(self) -> SentinelGroup:
        assert self._group is not None, "begin() comes first"
        return self._group

    @property
    def url(self) -> str:
        return self.group.url

    async def begin(self) -> None:
        await asyncio.to_thread(self._begin)

    def _begin(self) -> None:
        if self._group is None:
            self._group = start_sentinels(
                self._program, settings=TIERS[self.tier].settings, **TIERS[self.tier].sentinels
            )
        self.group.primary().call("FLUSHALL")
        self.group.wait_until_replicated()

    def other(self, node: Node) -> Node:
        return next(server for server in self.group.servers if server is not node)

    async def end(self) -> None:
        """The group goes on."""

    def close(self) -> None:
        if self._group is not None:
            self._group.stop()


class Cluster(_Direct):
    """Three primaries and their replicas, shared by rounds."""

    def __init__(self, program: Path, *, tier: str = "none", partitions: int = 64) -> None:
        self.tier, self.partitions = tier, partitions
        self._program = program
        self._group: ClusterGroup | None = None

    @property
    def group(self) -> ClusterGroup:
        assert self._group is not None, "begin() comes first"
        return self._group

    @property
    def url(self) -> str:
        return self.group.url

    async def begin(self) -> None:
        await asyncio.to_thread(self._begin)

    def _begin(self) -> None:
        if self._group is None:
            self._group = start_cluster(self._program, settings=TIERS[self.tier].settings)
        self.group.wait_until_whole()
        for node in self.primaries():
            node.call("FLUSHALL")

    def primaries(self) -> list[Node]:
        """Those who are primaries at this moment."""
        return [node for node in self.group.nodes if node.info().get("role") == "master"]

    def follows(self, node: Node) -> bool:
        """Whether a server is a replica that has caught up with its primary's stream."""
        told = node.info()
        return told.get("role") == "slave" and told.get("master_link_status") == "up"

    def until_following(self, node: Node) -> None:
        wait_until(node.answers, "it answers again")
        wait_until(lambda: self.follows(node), "it follows its new primary")
        self.group.wait_until_whole()

    async def end(self) -> None:
        """The group goes on."""

    def close(self) -> None:
        if self._group is not None:
            self._group.stop()


class Shared:
    """Keeps the groups that rounds share, and ends them."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self._sites: dict[tuple[str, str], Sentinels | Cluster] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for site in self._sites.values():
            site.close()

    def group(self, kind: str, tier: str) -> Sentinels | Cluster:
        """The site of a kind; its servers start with its first round."""
        maker = Sentinels if kind == "sentinel" else Cluster
        if (kind, tier) not in self._sites:
            self._sites[kind, tier] = maker(self.program, tier=tier)
        return self._sites[kind, tier]


def is_refused(client: "Redis[bytes]", word: str) -> bool:
    """Whether the server refuses a write, and with this word."""
    try:
        client.set("campaign", b"x")
    except (RedisError, OSError) as refusal:
        return word in str(refusal) or type(refusal).__name__ == word
    return False
