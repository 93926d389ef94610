from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from engine.errors import Overloaded, Unconfirmed
from engine.workers import Host
from engine.workers import host as host_module


class Scripted:
    """A worker whose ticks return or raise what was given, and which then stops the host."""

    def __init__(self, name: str, *ticks: float | Exception) -> None:
        self.name = name
        self.count = 0
        self._ticks: Iterator[float | Exception] = iter(ticks)
        self.host: Host | None = None
        self.ticked = asyncio.Event()

    async def tick(self) -> float:
        self.count += 1
        self.ticked.set()
        outcome = next(self._ticks, None)
        if outcome is None:
            assert self.host is not None
            self.host.stop()
            return 60.0
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the host rests between ticks; it does not take the time."""
    taken: list[float] = []
    real = Host._rest

    async def rest(self: Host, seconds: float) -> None:
        taken.append(seconds)
        await real(self, 0.0)

    monkeypatch.setattr(host_module.Host, "_rest", rest)
    return taken


async def run(worker: Scripted, *others: Scripted) -> None:
    """Runs a host until the worker stops it."""
    worker.host = Host([worker, *others])
    async with asyncio.timeout(10):
        await worker.host.run()


async def test_a_worker_says_when_it_wants_the_next_tick(rests: list[float]) -> None:
    """What tick returns is how long the host rests."""
    await run(Scripted("sweeper", 0.1, 0.0, 0.3))
    assert rests == [0.1, 0.0, 0.3, 60.0]


async def test_a_server_that_is_away(rests: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """Longer and longer pauses, up to half a second; one line when it begins, one when it ends."""
    away = [Overloaded("too much"), *(Unconfirmed("lost") for _ in range(5))]
    await run(Scripted("sweeper", *away, 0.1))
    assert rests == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.1, 60.0]
    assert caplog.messages == ["sweeper waits for the server: too much", "sweeper works again"]


async def test_a_worker_with_a_fault(rests: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """It goes on trying, its fault is told once with its trace, and the others do not notice."""
    broken = Scripted("broken", *(ZeroDivisionError("by zero") for _ in range(100)))
    await run(Scripted("sweeper", 0.1, 0.1), broken)
    assert broken.count >= 2
    (told,) = caplog.records
    assert (told.levelno, told.getMessage()) == (logging.ERROR, "broken failed; it goes on trying")
    assert told.exc_info is not None


async def test_stopping_wakes_who_rests() -> None:
    """The end does not wait for the next tick."""
    worker = Scripted("slow", 3600.0)
    host = Host([worker])
    running = asyncio.create_task(host.run())
    await worker.ticked.wait()
    host.stop()
    async with asyncio.timeout(5):
        await running
    assert worker.count == 1
