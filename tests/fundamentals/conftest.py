"""What is always true is so with any number of partitions."""

import pytest

from tests.driver import Shop


@pytest.fixture
def shop(shop_of_any_size: Shop) -> Shop:
    """A fresh data set, its clock in the test's hand."""
    return shop_of_any_size
