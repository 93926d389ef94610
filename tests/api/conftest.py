"""A server and a worker of their own for the tests of HTTP, started once for each process of the run.

Of `--server` and `--partitions` it has the first, of `--topology` what is asked for.
"""

from collections.abc import Iterator

import pytest

from tests.api.service import Service, make_dataset, running
from tests.servers import SERVERS, Server, Servers


@pytest.fixture(scope="session")
def stock_server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that both workers talk to; nobody empties it."""
    wanted = pytestconfig.getoption("--server")
    name = SERVERS[0] if wanted == "all" else wanted
    servers = Servers(tmp_path_factory.mktemp("api"))
    try:
        server = servers.start(name, pytestconfig.getoption("--topology") or "standalone")
        make_dataset(server.url, int(pytestconfig.getoption("--partitions").split(",")[0]))
        yield server
    finally:
        servers.stop()


@pytest.fixture(scope="session")
def hot_service(stock_server: Server) -> Iterator[Service]:
    with running("hot", stock_server.url) as service:
        yield service


@pytest.fixture(scope="session")
def asgi_service(stock_server: Server) -> Iterator[Service]:
    with running("asgi", stock_server.url, worker=1) as service:
        yield service


@pytest.fixture(params=["hot", "asgi"])
def service(request: pytest.FixtureRequest) -> Service:
    """A worker; every test runs on both ways that a hot request can take."""
    found: Service = request.getfixturevalue(f"{request.param}_service")
    return found
