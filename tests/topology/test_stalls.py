"""A server that hangs without closing anything, and the link that waits for it."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import Line, Location, LocationKind, connect, limits
from engine.errors import StorageUnavailable, Unconfirmed
from engine.topology.embedded import EmbeddedServer


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - the link has no event for it
            await asyncio.sleep(0.01)


async def test_a_hanging_server_gets_no_requests_until_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still takes connections, which are no reason to send it anything; when it goes on, so do we."""
    with EmbeddedServer.start(tmp_path / "server", durability="none") as server:
        inventory = await connect(server.url)
        try:
            monkeypatch.setattr(limits, "STALL_SECONDS", 0.1)
            monkeypatch.setattr(limits, "CALL_TIMEOUT_SECONDS", 3.0)
            os.kill(server.pid, signal.SIGSTOP)
            reading = asyncio.ensure_future(inventory.availability("A-1"))
            await until(lambda: inventory.requests_stuck == 1)
            with pytest.raises(StorageUnavailable, match="stopped to answer"):
                await inventory.reserve("key-1", [Line("A-1", 1, "s7")])
            with pytest.raises(Unconfirmed):
                await reading
            await until(lambda: not inventory.is_connected)
            # Longer than it takes to connect again, were that all that is asked.
            await asyncio.sleep(1)
            assert not inventory.is_connected
            assert inventory.requests_stuck == 0
            with pytest.raises(StorageUnavailable):
                await inventory.reserve("key-1", [Line("A-1", 1, "s7")])
            os.kill(server.pid, signal.SIGCONT)
            await until(lambda: inventory.is_connected)
            await inventory.save_location(Location("s7", LocationKind.STORE))
        finally:
            os.kill(server.pid, signal.SIGCONT)
            await inventory.close()
