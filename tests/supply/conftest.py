from collections.abc import AsyncIterator

import pytest

from tests.driver import Shop, open_shop
from tests.servers import Control, Server


@pytest.fixture
async def wide(server: Server, control: Control, partitions: int) -> AsyncIterator[Shop]:
    """A fresh data set of each number of partitions."""
    opened = await open_shop(server.url, control, partitions)
    yield opened
    await opened.inventory.close()
