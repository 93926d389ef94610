"""Real servers for every test that wants one, each on a socket or ports of its own.

`--server` names which (both by default), `--partitions` how many partitions a data set is given,
`--topology` what the functional suite runs on: one server (the default), Sentinel or a cluster. A server is
started once for each process of the test run and emptied for each test; its functions stay.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from engine import limits
from tests.servers import SERVERS, TOPOLOGIES, Control, Server, Servers, open_control

pytest.register_assert_rewrite("tests.driver")

from tests.driver import Shop, open_shop  # noqa: E402 - its assertions tell more once rewritten

FUNCTIONAL = {
    "fundamentals",
    "tables",
    "stateful",
    "concurrency",
    "sourcing",
    "supply",
    "changes",
    "settings",
    "finding",
}
"""The folders of the functional suite. All other tests are about one server, or start what they need."""
PROFILE_VARIABLE = "BINCARD_TEST_PROFILE"

_QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
settings.register_profile(
    "ci",
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=_QUIET,
)
settings.register_profile(
    "campaign",
    max_examples=2000,
    stateful_step_count=80,
    deadline=None,
    print_blob=True,
    suppress_health_check=_QUIET,
)
settings.load_profile(os.environ.get(PROFILE_VARIABLE, "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server", choices=[*SERVERS, "all"], default="all", help="the servers to test on")
    parser.addoption("--topology", choices=TOPOLOGIES, help="what the functional suite runs on")
    parser.addoption("--partitions", default="1,2,64", help="numbers of partitions, with commas")
    parser.addoption("--simulation-seed", type=int, help="the one schedule to simulate")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "topology" in metafunc.fixturenames and metafunc.definition.path.parent.name in FUNCTIONAL:
        chosen = metafunc.config.getoption("--topology")
        if chosen is None and metafunc.definition.get_closest_marker("every_topology"):
            metafunc.parametrize("topology", TOPOLOGIES, scope="session")
        elif chosen is not None:
            metafunc.parametrize("topology", [chosen], scope="session")
    if "server_name" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--server")
        names = SERVERS if wanted == "all" else (wanted,)
        metafunc.parametrize("server_name", names, scope="session")
    if "partitions" in metafunc.fixturenames:
        numbers = [int(number) for number in metafunc.config.getoption("--partitions").split(",")]
        metafunc.parametrize("partitions", numbers, ids=[f"P={number}" for number in numbers])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--topology") in {None, "standalone"}:
        return
    left_out = [item for item in items if item.get_closest_marker("one_server")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Starts a server by name and topology, once."""
    found = Servers(tmp_path_factory.mktemp("servers"))
    yield found
    found.stop()


@pytest.fixture(scope="session")
def topology() -> str:
    """What a test runs on where nothing else was asked for."""
    return "standalone"


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that a busy machine keeps from answering for half a second does not count as gone. Tests of
    servers that hang say after what time.
    """
    monkeypatch.setattr(limits, "STALL_SECONDS", limits.CALL_TIMEOUT_SECONDS)


@pytest.fixture
def server(server_name: str, topology: str, servers: Servers, patience: None) -> Server:
    """A running server, empty but for the functions that earlier tests loaded."""
    running = servers.start(server_name, topology)
    with open_control(running) as client:
        client.flushall()
    return running


@pytest.fixture
def control(server: Server) -> Iterator[Control]:
    """A plain client beside the engine: to look into the store, to turn the clock, to make trouble."""
    with open_control(server) as client:
        yield client


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs coroutines of a test that is not one itself."""
    with asyncio.Runner() as one:
        yield one


@pytest.fixture
async def shop(server: Server, control: Control) -> AsyncIterator[Shop]:
    """A fresh data set of one partition, its clock at `START_MS`."""
    opened = await open_shop(server.url, control, 1)
    yield opened
    await opened.inventory.close()


@pytest.fixture
async def shop_of_any_size(server: Server, control: Control, partitions: int) -> AsyncIterator[Shop]:
    """The same for every number of partitions."""
    opened = await open_shop(server.url, control, partitions)
    yield opened
    await opened.inventory.close()
