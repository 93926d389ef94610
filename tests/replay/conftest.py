from collections.abc import Iterator

import pytest

from tests.replay.stub_server import StubServer


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """Give a listening stub of the server."""
    server = StubServer()
    server.start()
    yield server
    server.stop()
