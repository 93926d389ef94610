"""Groups of real servers, as `scripts/dev.py` starts them."""

from collections.abc import Iterator

import pytest

from tests.conftest import find_program
from tests.topology.groups import ClusterGroup, SentinelGroup, start_cluster, start_sentinels


@pytest.fixture(scope="module")
def cluster(server_name: str) -> Iterator[ClusterGroup]:
    """Three primaries and three replicas, shared by the tests of a module."""
    with start_cluster(find_program(server_name).path) as group:
        yield group


@pytest.fixture(scope="module")
def sentinels(server_name: str) -> Iterator[SentinelGroup]:
    """A primary, a replica and three Sentinels, shared by the tests of a module."""
    with start_sentinels(find_program(server_name).path) as group:
        yield group
