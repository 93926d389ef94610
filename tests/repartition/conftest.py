"""Two servers: one that has a data set, and one that gets it."""

from collections.abc import Iterator

import pytest
from redis import Redis

from engine.topology.embedded import EmbeddedServer
from tests.servers import find_program


@pytest.fixture(scope="session")
def other_server(server_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A second server of the same family."""
    binary = find_program(server_name).path
    with EmbeddedServer.start(tmp_path_factory.mktemp("target"), durability="none", binary=binary) as running:
        yield running


@pytest.fixture
def target(other_server: EmbeddedServer) -> Iterator["Redis[bytes]"]:
    """A client of the second server, which is empty."""
    with Redis.from_url(other_server.url) as client:
        client.flushall()
        yield client
