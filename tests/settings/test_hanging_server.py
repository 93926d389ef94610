"""A server that hangs must not keep those waiting who only look whether settings have changed."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from engine import connect
from engine.errors import StorageUnavailable
from engine.settings import FRESH_SECONDS
from engine.topology.embedded import EmbeddedServer


async def test_settings_of_a_server_that_hangs(tmp_path: Path) -> None:
    """Each reserve looks at them first: it is refused in time, again and again, and works afterwards."""
    with EmbeddedServer.start(tmp_path / "data", durability="none") as server:
        inventory = await connect(server.url)
        await inventory.settings.current()
        await asyncio.sleep(FRESH_SECONDS)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for _ in range(2):
                async with asyncio.timeout(5):
                    with pytest.raises(StorageUnavailable, match="does not tell its settings"):
                        await inventory.settings.current()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await inventory.settings.current()
        await inventory.close()
