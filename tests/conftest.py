"""Real servers for every test that wants one, each on a socket of its own.

`--server` names which (both by default), `--partitions` how many partitions a data set is given. A
server is started once for each process of the test run and emptied for each test; its functions stay.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis

from engine.topology.embedded import EmbeddedServer
from engine.topology.embedded_binary import ServerBinary, find_server_binary, inspect_server_binary

pytest.register_assert_rewrite("tests.driver")

from tests.driver import Shop, open_shop  # noqa: E402 - its assertions tell more once rewritten

SERVERS = ("valkey", "redis7")
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
    parser.addoption("--partitions", default="1,2,64", help="numbers of partitions, with commas")
    parser.addoption("--simulation-seed", type=int, help="the one schedule to simulate")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server_name" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--server")
        names = SERVERS if wanted == "all" else (wanted,)
        metafunc.parametrize("server_name", names, scope="session")
    if "partitions" in metafunc.fixturenames:
        numbers = [int(number) for number in metafunc.config.getoption("--partitions").split(",")]
        metafunc.parametrize("partitions", numbers, ids=[f"P={number}" for number in numbers])


def find_program(name: str) -> ServerBinary:
    """The program of a server. Fails the test run where it is missing: a skipped server proves nothing."""
    if name == "valkey":
        return find_server_binary({"PATH": ""})
    path = shutil.which("redis-server")
    if path is None:
        pytest.fail("these tests need redis-server 7.0 on PATH (Debian: apt-get install redis-server)")
    program = inspect_server_binary(Path(path))
    if program.family != "redis":
        pytest.fail(f"{path} is {program.family} {program.version}; these tests need a Redis")
    return program


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], EmbeddedServer]]:
    """Starts a server by name, once."""
    started: dict[str, EmbeddedServer] = {}

    def start(name: str) -> EmbeddedServer:
        if name not in started:
            program = find_program(name)
            started[name] = EmbeddedServer.start(
                tmp_path_factory.mktemp(name), durability="none", binary=program.path
            )
        return started[name]

    yield start
    for server in started.values():
        server.stop(timeout_seconds=0)


@pytest.fixture
def server(server_name: str, start_server: Callable[[str], EmbeddedServer]) -> EmbeddedServer:
    """A running server, empty but for the functions that earlier tests loaded."""
    running = start_server(server_name)
    with Redis.from_url(running.url) as client:
        client.flushall()
    return running


@pytest.fixture
def control(server: EmbeddedServer) -> Iterator["Redis[bytes]"]:
    """A plain client beside the engine: to look into the store, to turn the clock, to make trouble."""
    with Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs coroutines of a test that is not one itself."""
    with asyncio.Runner() as one:
        yield one


@pytest.fixture
async def shop(server: EmbeddedServer, control: "Redis[bytes]") -> AsyncIterator[Shop]:
    """A fresh data set of one partition, its clock at `START_MS`."""
    opened = await open_shop(server.url, control, 1)
    yield opened
    await opened.inventory.close()


@pytest.fixture
async def shop_of_any_size(
    server: EmbeddedServer, control: "Redis[bytes]", partitions: int
) -> AsyncIterator[Shop]:
    """The same for every number of partitions."""
    opened = await open_shop(server.url, control, partitions)
    yield opened
    await opened.inventory.close()
