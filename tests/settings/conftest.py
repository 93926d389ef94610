"""A data set on the server's own clock, of one partition or several."""

from collections.abc import AsyncIterator

import pytest

import engine
from engine import Inventory
from engine.settings import read_settings
from tests.servers import Server


@pytest.fixture
async def inventory(server: Server, partitions: int) -> AsyncIterator[Inventory]:
    opened = await engine.connect(server.url, partitions=partitions)
    yield opened
    await opened.close()


@pytest.fixture
async def several(server: Server) -> AsyncIterator[Inventory]:
    """Eight partitions."""
    opened = await engine.connect(server.url, partitions=8)
    yield opened
    await opened.close()


async def stored_everywhere(inventory: Inventory) -> list[object]:
    """What each partition has: its number and all settings."""
    topology, partitions = inventory.dataset.topology, range(inventory.dataset.partitions)
    found = [await read_settings(topology, partition) for partition in partitions]
    return [(settings.number, settings.stored) for settings in found]


async def are_alike(inventory: Inventory) -> bool:
    """Whether all partitions have the same settings, with the same number."""
    first, *others = await stored_everywhere(inventory)
    return all(other == first for other in others)
