import asyncio
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.peers.bincard import open_bincard
from benchmarks.peers.cluster import private_cluster
from benchmarks.peers.drive import measure
from benchmarks.peers.postgres import Style, create_schema, open_postgres
from benchmarks.peers.redis_patterns import Locked, RedisPattern, Watched, open_pattern
from benchmarks.peers.rows import ROWS, Row
from benchmarks.peers.run import find_server
from benchmarks.peers.table import Measurements, peer_wins, ratios
from benchmarks.peers.workload import HOT, UNIFORM, Counters, Measured, Peer, Workload
from engine.topology.embedded import EmbeddedServer

SMALL = Workload("uniform", skus=20)


async def run_briefly(peer: Peer, workload: Workload, *, batch: int = 1) -> Measured:
    """A moment of load; longer where the machine is so busy that nothing was answered in it."""
    measured = None
    for seconds in (0.15, 1.0, 5.0):
        measured = await measure(peer, workload, callers=8, batch=batch, warm_up=0.0, seconds=seconds)
        if measured.operations:
            break
    assert measured is not None
    return measured


def test_every_peer_is_given_the_same_draws() -> None:
    """Nine in ten turns commit, and a caller's turns depend on nothing but the seed."""
    first = list(islice(UNIFORM.draws(3), 2000))
    assert first == list(islice(UNIFORM.draws(3), 2000))
    assert first != list(islice(UNIFORM.draws(4), 2000))
    assert 0.87 < sum(commit for _, commit in first) / len(first) < 0.93
    assert len({sku for sku, _ in first}) > 800
    assert {sku for sku, _ in islice(HOT.draws(0), 50)} == {"S-0"}


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("workload", [SMALL, HOT])
async def test_bincard_passes_its_check(tmp_path: Path, batch: int, workload: Workload) -> None:
    """The engine's books equal the answers, and the last units go once."""
    with EmbeddedServer.start(tmp_path, durability="none", binary=find_server("valkey").path) as server:
        async with open_bincard(server.url) as peer:
            measured = await run_briefly(peer, workload, batch=batch)
    assert measured.findings == ()
    assert measured.operations > 0


@pytest.mark.parametrize("kind", [Watched, Locked])
@pytest.mark.parametrize("workload", [SMALL, HOT])
async def test_the_redis_patterns_pass_their_check(
    tmp_path: Path, kind: type[RedisPattern], workload: Workload
) -> None:
    """They are slower, not wrong."""
    with EmbeddedServer.start(tmp_path, durability="none", binary=find_server("valkey").path) as server:
        async with open_pattern(kind, server.url, 64) as peer:
            measured = await run_briefly(peer, workload)
    assert measured.findings == ()
    assert measured.operations > 0


@pytest.mark.parametrize(
    ("style", "batch"), [("function", 1), ("function", 100), ("slots", 1), ("for_update", 1)]
)
async def test_postgres_passes_its_check(style: Style, batch: int) -> None:
    """Each style keeps the units together, alone and called with many."""
    # Not below pytest's own directory: the server's user cannot enter it.
    with TemporaryDirectory() as directory, private_cluster(Path(directory), "none") as cluster:
        await create_schema(cluster)
        async with open_postgres(cluster, style, 8) as peer:
            for workload in (SMALL, HOT):
                measured = await run_briefly(peer, workload, batch=batch)
                assert measured.findings == ()
                assert measured.operations > 0


class Overseller:
    """Promises whatever it is asked for."""

    batched = True

    def __init__(self) -> None:
        self.promised = 0

    async def prepare(self, stock: dict[str, int]) -> None:
        del stock

    async def reserve(self, operation: str, sku: str) -> str | None:
        await asyncio.sleep(0)
        self.promised += sku == "S-probe"
        return operation

    async def resolve(self, reservation: str, *, commit: bool) -> None: ...

    async def reserve_many(self, wanted: Sequence[tuple[str, str]]) -> list[str | None]:
        return [await self.reserve(*one) for one in wanted]

    async def resolve_many(self, resolved: Sequence[tuple[str, bool]]) -> None: ...

    async def books(self, skus: Sequence[str]) -> dict[str, Counters]:
        return {sku: Counters(50, self.promised, 0) for sku in skus}

    async def states(self, reservations: Sequence[str]) -> list[str]:
        return ["held"] * len(reservations)


@pytest.mark.parametrize("batch", [1, 10])
async def test_a_peer_that_oversells_is_found_out(batch: int) -> None:
    """The check can fail: by the books, by the records, by the scarce units, by the repeats."""
    measured = await measure(Overseller(), HOT, callers=2, batch=batch, warm_up=0.0, seconds=0.01)
    text = "\n".join(measured.findings)
    assert "the answers add up to" in text
    assert "its caller was told" in text
    assert "128 of 128 callers were promised 50 units" in text
    assert "after 50 promises and their repeats" in text


def fake(name: str, rates: list[float], *, findings: tuple[str, ...] = ()) -> Measurements:
    row = next(row for row in ROWS if row.name == name)
    runs = [Measured(rate, 1.0, 2.0, 0.5, 100, 0, findings) for rate in rates]
    return Measurements(row, UNIFORM, runs)


def test_the_best_of_each_side_is_compared_and_winners_are_named() -> None:
    """Bincard's ratio is against PostgreSQL's fastest row; whoever is ahead is listed with what it lacks."""
    measured = [
        fake("Bincard", [50.0, 60.0, 40.0]),
        fake("Redis lock per SKU", [2.0, 2.0, 2.0]),
        fake("PostgreSQL, function, 64 connections", [5.0, 6.0, 4.0]),
        fake("PostgreSQL, function, 16 connections", [10.0, 10.0, 10.0]),
        fake("bare script, redis-benchmark", [80.0, 80.0, 80.0]),
    ]
    found = {figure.name: figure for figure in ratios(measured)}
    postgres = found["uniform: Bincard against PostgreSQL's best"]
    assert postgres.value == 5.0
    assert postgres.labels["yardstick"] == "PostgreSQL, function, 16 connections"
    assert found["uniform: Bincard against Redis lock per SKU's best"].value == 25.0
    (win,) = peer_wins(measured)
    assert win.startswith("uniform: bare script, redis-benchmark does 1.60 x Bincard (without record")


def test_a_failed_check_keeps_a_session_from_counting() -> None:
    """One finding in one repetition, and the proof of the row does not hold."""
    assert fake("Bincard", [1.0]).proof().holds
    assert not fake("Bincard", [1.0], findings=("one unit too many",)).proof().holds


def test_every_row_has_a_name_of_its_own_and_says_what_it_lacks() -> None:
    """A peer that keeps fewer promises is never shown without saying so."""
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    missing: list[Row] = [row for row in ROWS if row.side != "bincard" and not row.lacks]
    assert missing == []
