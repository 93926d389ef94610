"""What topologies of several servers have in common: each question goes to the server that can answer it."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import ClassVar, TypeVar

from engine import keys
from engine.errors import StorageUnavailable
from engine.ids import dataset_mark
from engine.topology.standalone import Standalone, is_elsewhere

PATIENCE_SECONDS = 3.0
"""How long a cold question follows a server that moves: a promotion takes about that long."""
FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.3
PARTITIONS_AT_ONCE = 256
CLOSE_SECONDS = 1.0

_Answer = TypeVar("_Answer")


class NoPrimary(StorageUnavailable):
    """There is no primary to ask at this moment; a promotion may give us one soon."""


class Routed(ABC):
    """Cold paths over several servers. All raise `StorageUnavailable` when patience is at its end.

    Questions are asked again where a server is gone or sends us elsewhere. All of them read, or write
    what was fixed before, so asking twice does no harm.
    """

    default_partitions: ClassVar[int]

    @abstractmethod
    async def server_of(self, key: str) -> Standalone:
        """The server that has a key. Raises `StorageUnavailable` where none is known."""

    @abstractmethod
    async def look_again(self) -> None:
        """Learns anew where the servers are, after one gave no answer."""

    @abstractmethod
    async def servers(self) -> Sequence[Standalone]:
        """Every server that takes writes. Raises `StorageUnavailable`."""

    async def open_dataset(
        self, partitions: int | None, secret: bytes, *, create: bool
    ) -> Mapping[str, bytes]:
        """See `Standalone.open_dataset`."""
        wanted = partitions or self.default_partitions
        fixed = await self._ask(
            keys.dataset(), lambda server: server.fix_dataset(wanted, secret, create=create)
        )
        mark = dataset_mark(fixed["secret"])
        for first in range(0, int(fixed["partitions"]), PARTITIONS_AT_ONCE):
            last = min(first + PARTITIONS_AT_ONCE, int(fixed["partitions"]))
            await asyncio.gather(*(self._begin_partition(number, mark) for number in range(first, last)))
        return fixed

    async def _begin_partition(self, partition: int, mark: str) -> None:
        await self._ask(keys.meta(partition), lambda server: server.begin_partitions((partition,), mark))

    async def read_hash(self, key: str) -> dict[bytes, bytes]:
        """See `Standalone.read_hash`."""
        return await self._ask(key, lambda server: server.read_hash(key))

    async def write_hash(self, key: str, fields: Mapping[str, bytes]) -> None:
        """See `Standalone.write_hash`."""
        await self._ask(key, lambda server: server.write_hash(key, fields))

    async def read_stream(
        self, key: str, after: str, count: int, *, until: str = "+"
    ) -> list[tuple[str, bytes]]:
        """See `Standalone.read_stream`."""
        return await self._ask(key, lambda server: server.read_stream(key, after, count, until=until))

    async def read_at_once(self, *requests: Sequence[str | bytes | int]) -> list[object]:
        """See `Standalone.read_at_once`. All keys are of one partition, that of the first."""
        key = next(str(request[1]) for request in requests if len(request) > 1)
        return await self._ask(key, lambda server: server.read_at_once(*requests))

    async def scan_hash(self, key: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """See `Standalone.scan_hash`. A server that is lost on the way starts it over."""
        async for item in self._scan(key, lambda server: server.scan_hash(key)):
            yield item

    async def scan_sorted(self, key: str) -> AsyncIterator[tuple[bytes, float]]:
        """See `Standalone.scan_sorted`. A server that is lost on the way starts it over."""
        async for item in self._scan(key, lambda server: server.scan_sorted(key)):
            yield item

    async def scan_keys(self, pattern: str) -> AsyncIterator[str]:
        """See `Standalone.scan_keys`. A server that is lost on the way starts it over."""
        async for key in self._scan(keys.dataset(), lambda server: server.scan_keys(pattern)):
            yield key

    async def _ask(self, key: str, question: Callable[[Standalone], Awaitable[_Answer]]) -> _Answer:
        patience = _Patience(self)
        while True:
            try:
                return await question(await self.server_of(key))
            except StorageUnavailable as error:
                await patience.after(error)

    async def _scan(
        self, key: str, scan: Callable[[Standalone], AsyncIterator[_Answer]]
    ) -> AsyncIterator[_Answer]:
        patience = _Patience(self)
        while True:
            try:
                async for item in scan(await self.server_of(key)):
                    yield item
            except StorageUnavailable as error:
                await patience.after(error)
            else:
                return


class _Patience:
    """Waits between the attempts at one question, until it has been long enough."""

    def __init__(self, topology: Routed) -> None:
        self._topology = topology
        self._ends = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        self._pause = FIRST_PAUSE_SECONDS

    async def after(self, error: StorageUnavailable) -> None:
        """Looks where the servers are now. Raises the error where asking again cannot help."""
        may_help = isinstance(error, NoPrimary) or is_elsewhere(error)
        if not may_help or asyncio.get_running_loop().time() + self._pause > self._ends:
            raise error
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        await self._topology.look_again()


async def cancel_all(asked: Iterable[asyncio.Future[_Answer]]) -> None:
    """Ends questions whose answers are not wanted any more, and waits until they let go of the client."""
    running = [one for one in asked if not one.done()]
    for one in running:
        one.cancel()
    if running:
        await asyncio.wait(running, timeout=CLOSE_SECONDS)


async def close_all(servers: Iterable[Standalone]) -> None:
    """Closes clients; one that hangs on a server that is gone does not keep us."""
    closing = [asyncio.ensure_future(server.close()) for server in servers]
    if closing:
        await asyncio.wait(closing, timeout=CLOSE_SECONDS)
