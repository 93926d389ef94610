"""Runs background workers. They have no loop of their own, so that a test can call one tick."""

import asyncio
from collections.abc import Sequence
from logging import getLogger
from typing import Protocol

from engine.errors import Unavailable, Unconfirmed

log = getLogger("bincard.workers")

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.5
"""Half of what a lapsed hold may be late, so that work goes on in time once the server is back."""


class Worker(Protocol):
    """A piece of work that is done bit by bit. Several of a kind may run in several processes."""

    name: str

    async def tick(self) -> float:
        """Does a bit of work; the seconds until the next bit, 0 when more is waiting."""


class Host:
    """Ticks workers until it is told to stop; what fails in one does not touch the others."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Returns after `stop`, when the ticks under way are done."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(self._keep_ticking(worker), name=worker.name)

    def stop(self) -> None:
        """Asks for the end."""
        self._stopping.set()

    async def _keep_ticking(self, worker: Worker) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            failed = await self._tick(worker, is_first_failure=pause == FIRST_PAUSE_SECONDS)
            if isinstance(failed, float):
                if pause > FIRST_PAUSE_SECONDS:
                    log.warning("%s works again", worker.name)
                pause, wait = FIRST_PAUSE_SECONDS, failed
            else:
                wait, pause = pause, min(2 * pause, LONGEST_PAUSE_SECONDS)
            await self._rest(wait)

    async def _tick(self, worker: Worker, *, is_first_failure: bool) -> float | None:
        """The seconds until the next tick, or None where this one failed."""
        try:
            return float(await worker.tick())
        except (Unavailable, Unconfirmed) as failure:
            if is_first_failure:
                log.warning("%s waits for the server: %s", worker.name, failure)
        except Exception:
            if is_first_failure:
                log.exception("%s failed; it goes on trying", worker.name)
        return None

    async def _rest(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
