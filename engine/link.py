"""Keeps a lane open: opens it, and opens it again when it breaks."""

import asyncio
from collections.abc import Sequence
from logging import getLogger

from engine import limits
from engine.errors import BincardError, StorageUnavailable
from engine.lane import Answer, Lane, Script
from engine.metrics import LaneMetrics
from engine.script import Library
from engine.topology import Sentinel, Standalone

log = getLogger("bincard.lane")

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class Link:
    """The hot connection to one server, for as long as the engine is open."""

    def __init__(
        self, topology: Standalone | Sentinel, library: Library, metrics: LaneMetrics, *, replicas: int = 0
    ) -> None:
        self._topology = topology
        self._library = library
        self._metrics = metrics
        self._replicas = replicas
        self._lane: Lane | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._is_closing = False

    async def open(self) -> None:
        """Opens the first connection. Raises `StorageUnavailable`."""
        await self._load_library()
        try:
            await self._connect()
        except OSError as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    def submit(self, script: Script, argument: bytes, positions: int = 1) -> "asyncio.Future[Answer]":
        """See `Lane.submit`."""
        assert self._lane is not None, "open() comes first"
        return self._lane.submit(script, argument, positions)

    def submit_many(
        self, script: Script, requests: Sequence[tuple[bytes, int]]
    ) -> "list[tuple[int, asyncio.Future[Answer]]]":
        """See `Lane.submit_many`."""
        assert self._lane is not None, "open() comes first"
        return self._lane.submit_many(script, requests)

    @property
    def is_open(self) -> bool:
        """Whether there is a connection at this moment."""
        return self._lane is not None and self._lane.is_open

    @property
    def requests_stuck(self) -> int:
        """See `Lane.requests_stuck`."""
        return 0 if self._lane is None else self._lane.requests_stuck

    async def close(self) -> None:
        """Closes the connection for good."""
        self._is_closing = True
        while self._keeper is not None and not self._keeper.done():
            # Cancelling once is not enough: the client may take it for a lost connection of its own.
            self._keeper.cancel()
            await asyncio.wait([self._keeper], timeout=LONGEST_PAUSE_SECONDS)
        if self._lane is not None:
            self._lane.close()
            await self._lane.closed

    async def _load_library(self) -> None:
        await self._topology.load_library(self._library.text)

    async def _connect(self) -> None:
        lane = self._new_lane()
        await self._topology.connect(lambda: lane)
        # A server that hangs still takes connections: only one that answers gets requests.
        try:
            async with asyncio.timeout(limits.CALL_TIMEOUT_SECONDS):
                await lane.greeted
        except BaseException:
            lane.close()
            raise
        if not lane.is_open:
            raise StorageUnavailable("the server closed the connection")
        self._lane = lane

    def _new_lane(self) -> Lane:
        return Lane(
            greeting=self._greeting,
            load_library=self._load_library,
            metrics=self._metrics,
            replicas=self._replicas,
        )

    @property
    def _greeting(self) -> Sequence[Sequence[bytes]]:
        return (*self._topology.greeting, (b"PING",))

    async def _keep(self) -> None:
        while not self._is_closing:
            assert self._lane is not None
            await asyncio.shield(self._lane.closed)
            log.warning("the connection to the server was lost; connecting again")
            pause = FIRST_PAUSE_SECONDS
            while not (self.is_open or self._is_closing):
                try:
                    await self._connect()
                    await self._load_library()
                except (OSError, BincardError):
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            log.warning("connected to the server again")
