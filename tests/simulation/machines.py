"""The servers: each a store with a clock of its own, and what the engine sees of all of them together."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import hiredis

from engine import keys
from engine.errors import DatasetUnfit, StorageUnavailable
from engine.ids import dataset_mark
from engine.topology.standalone import FORMAT
from tests.simulation.loop import NOBODY, Process
from tests.simulation.network import LONGEST_SECONDS, SHORTEST_SECONDS, Connection
from tests.simulation.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from random import Random

    from engine.lane import Answer, Script
    from engine.link import Link
    from tests.simulation.loop import Loop

START_US = 1_700_000_000_000_000


class Machine:
    """One primary, and the copy that a replica of it has."""

    def __init__(self, loop: Loop, random: Random, number: int) -> None:
        self.loop, self.random, self.number = loop, random, number
        self.store = self.new_store()
        self.is_up = True
        self.offset_us = 0
        """What its clock is ahead of ours."""
        self.connections: list[Connection] = []
        self._replica: object = None

    def new_store(self) -> Store:
        """The store that this machine begins with."""
        return Store()

    @property
    def now_us(self) -> int:
        return START_US + int(self.loop.now * 1_000_000) + self.offset_us

    def execute(self, words: Sequence[bytes]) -> bytes:
        return self.store.execute(self.now_us, words)

    def ask(self, *words: str | bytes | int) -> Any:  # noqa: ANN401 - a reply is anything
        """The reply to a command of ours, at once and whatever the network does."""
        return self.store.ask(self.now_us, *words)

    def load_library(self, text: str) -> None:
        """Gives the server functions."""
        self.store.load_library(text)

    def connect(self, process: Process, protocol: asyncio.Protocol) -> Connection:
        """A new connection of a process."""
        connection = Connection(self.loop, self.random, self, process, protocol)
        self.connections.append(connection)
        protocol.connection_made(connection)
        return connection

    def copy_to_replica(self) -> None:
        """The replica has all that is stored now, and will lag from here on."""
        self._replica = self.store.copy()

    def fail_over(self, seconds: float) -> None:
        """The primary is gone; for so long nobody answers, then the replica does, with what it has."""
        if self._replica is not None:
            self.store.put(self._replica)
        self.restart(seconds)

    def restart(self, seconds: float) -> None:
        """Nobody answers for so long, then another process does."""
        self.is_up = False
        for connection in list(self.connections):
            connection.cut(loses_requests=True)
        self.store.restart()
        self.loop.call_later(seconds, self._come_up, context=NOBODY)

    def _come_up(self) -> None:
        self.is_up = True


class Machines:
    """All primaries. Partition p lives on the machine p modulo their number."""

    def __init__(self, loop: Loop, random: Random, number: int, machine: type[Machine] = Machine) -> None:
        self.loop, self.random = loop, random
        self.all = [machine(loop, random, index) for index in range(number)]
        self.fails = 0.0
        """How many of the cold questions get no answer."""

    def of(self, key: str) -> Machine:
        """The machine that has a key."""
        return self.all[int(key.removeprefix(keys.PREFIX).partition("}")[0]) % len(self.all)]


class View:
    """One machine as a process's hot connection wants it."""

    greeting: Sequence[Sequence[bytes]] = ()

    def __init__(self, machines: Machines, machine: Machine, process: Process) -> None:
        self._machines, self._machine, self._process = machines, machine, process

    async def _travel(self) -> None:
        await asyncio.sleep(self._machines.random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))

    async def load_library(self, text: str) -> None:
        await self._travel()
        if not self._machine.is_up:
            raise StorageUnavailable("the server cannot be reached")
        self._machine.load_library(text)
        await self._travel()

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        await self._travel()
        if not self._machine.is_up:
            raise ConnectionRefusedError("nobody listens")
        return self._machine.connect(self._process, protocol())


class Links:
    """The hot connections of a process, one to each machine."""

    def __init__(self, machines: Machines, links: Sequence[Link]) -> None:
        self._machines, self._links = machines, links

    async def open(self) -> None:
        await asyncio.gather(*(link.open() for link in self._links))

    def submit(self, script: Script, argument: bytes, positions: int = 1) -> asyncio.Future[Answer]:
        return self._of(script).submit(script, argument, positions)

    def submit_many(
        self, script: Script, requests: Sequence[tuple[bytes, int]]
    ) -> list[tuple[int, asyncio.Future[Answer]]]:
        return self._of(script).submit_many(script, requests)

    def _of(self, script: Script) -> Link:
        return self._links[self._machines.of(script.first_key).number]

    @property
    def is_open(self) -> bool:
        return all(link.is_open for link in self._links)

    @property
    def requests_stuck(self) -> int:
        return sum(link.requests_stuck for link in self._links)

    async def close(self) -> None:
        await asyncio.gather(*(link.close() for link in self._links))


class SimulatedTopology:
    """What a topology answers: `engine.topology` over the machines of a simulation."""

    default_partitions = 1

    def __init__(self, machines: Machines, process: Process, secret: bytes) -> None:
        self.machines, self._process, self._secret = machines, process, secret

    def views(self) -> list[View]:
        """Each machine as a link wants it."""
        return [View(self.machines, machine, self._process) for machine in self.machines.all]

    async def _ask(self, machine: Machine, *words: str | bytes | int) -> Any:  # noqa: ANN401 - any reply
        random = self.machines.random
        await asyncio.sleep(random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))
        if not machine.is_up or random.random() < self.machines.fails:
            raise StorageUnavailable("the server cannot be reached")
        try:
            return machine.ask(*words)
        except hiredis.ReplyError as error:
            raise StorageUnavailable(f"the server gives no answer: {error}") from error

    async def open_dataset(
        self, partitions: int | None, secret: bytes, *, create: bool
    ) -> Mapping[str, bytes]:
        """As the real one does; the secret follows from the seed."""
        key, number = keys.dataset(), partitions or self.default_partitions
        first = self.machines.of(key)
        if not await self._ask(first, "EXISTS", key) and not create:
            raise DatasetUnfit("the server holds no data set")
        for field, value in (("format", FORMAT), ("partitions", number), ("secret", self._secret)):
            first.ask("HSETNX", key, field, value)
        fixed = await self.read_hash(key)
        for machine in self.machines.all:
            await self._ask(machine, "TIME")
            for partition in range(int(fixed[b"partitions"])):
                meta = keys.meta(partition)
                if self.machines.of(meta) is machine:
                    machine.ask("HSETNX", meta, "epoch", "1")
                    machine.ask("HSETNX", meta, "seq", "0")
                    machine.ask("HSETNX", meta, "dataset", dataset_mark(self._secret))
        return {field.decode(): value for field, value in fixed.items()}

    async def read_hash(self, key: str) -> dict[bytes, bytes]:
        found = await self._ask(self.machines.of(key), "HGETALL", key)
        return dict(zip(found[::2], found[1::2], strict=True))

    async def scan_keys(self, pattern: str) -> AsyncIterator[str]:
        for machine in self.machines.all:
            for key in await self._ask(machine, "KEYS", pattern):
                if fnmatchcase(key.decode(), pattern):
                    yield key.decode()

    async def scan_hash(self, key: str) -> AsyncIterator[tuple[bytes, bytes]]:
        for pair in (await self.read_hash(key)).items():
            yield pair

    async def scan_sorted(self, key: str) -> AsyncIterator[tuple[bytes, float]]:
        found = await self._ask(self.machines.of(key), "ZRANGE", key, 0, -1, "WITHSCORES")
        for member, score in zip(found[::2], found[1::2], strict=True):
            yield member, float(score)

    async def read_stream(
        self, key: str, after: str, count: int, *, until: str = "+"
    ) -> list[tuple[str, bytes]]:
        found = await self._ask(self.machines.of(key), "XRANGE", key, f"({after}", until, "COUNT", count)
        return [
            (entry.decode(), dict(zip(fields[::2], fields[1::2], strict=True)).get(b"e", b""))
            for entry, fields in found
        ]

    async def read_at_once(self, *requests: Sequence[str | bytes | int]) -> list[object]:
        machine = self.machines.of(next(str(request[1]) for request in requests if len(request) > 1))
        await self._ask(machine, "TIME")
        # The client of the real one makes these numbers.
        return [
            [int(number) for number in reply] if request[0] == "TIME" else _pair(request, reply)
            for request, reply in ((request, machine.ask(*request)) for request in requests)
        ]

    async def close(self) -> None:
        """Nothing stays open here."""


def _pair(request: Sequence[str | bytes | int], reply: Any) -> object:  # noqa: ANN401 - any reply
    """A reply as the real client shapes it."""
    if request[0] == "HGETALL":
        return dict(zip(reply[::2], reply[1::2], strict=True))
    if request[0] in {"XRANGE", "XREVRANGE"}:
        return [(entry, dict(zip(fields[::2], fields[1::2], strict=True))) for entry, fields in reply]
    if "WITHSCORES" in request:
        return [[member, float(score)] for member, score in zip(reply[::2], reply[1::2], strict=True)]
    return reply
