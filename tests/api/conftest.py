"""A server and a worker of their own for the tests of HTTP, started once for each process of the run."""

from collections.abc import Iterator

import pytest

from engine.topology.embedded import EmbeddedServer
from tests.api.service import Service, running


@pytest.fixture(scope="session")
def stock_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """The server that both workers talk to."""
    with EmbeddedServer.start(tmp_path_factory.mktemp("api"), durability="none") as server:
        yield server


@pytest.fixture(scope="session")
def hot_service(stock_server: EmbeddedServer) -> Iterator[Service]:
    with running("hot", stock_server.url) as service:
        yield service


@pytest.fixture(scope="session")
def asgi_service(stock_server: EmbeddedServer) -> Iterator[Service]:
    with running("asgi", stock_server.url, worker=1) as service:
        yield service


@pytest.fixture(params=["hot", "asgi"])
def service(request: pytest.FixtureRequest) -> Service:
    """A worker; every test runs on both ways that a hot request can take."""
    found: Service = request.getfixturevalue(f"{request.param}_service")
    return found
