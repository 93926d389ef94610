"""A data set with locations."""

from collections.abc import AsyncIterator

import pytest

import engine
from engine import Inventory, Location, LocationKind
from tests.servers import Server

PLACES = ("a", "b", "c", "d", "e")


@pytest.fixture(params=[1, 4], ids=["P=1", "P=4"])
async def inventory(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Inventory]:
    """Five stores of one priority."""
    opened = await engine.connect(server.url, partitions=request.param)
    for place in PLACES:
        await opened.save_location(Location(place, LocationKind.STORE))
    yield opened
    await opened.close()
