"""A shop whose clock is in the test's hand, of any number of partitions."""

import pytest

from tests.driver import Shop


@pytest.fixture
def shop(shop_of_any_size: Shop) -> Shop:
    return shop_of_any_size
