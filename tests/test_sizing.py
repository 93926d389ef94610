import asyncio
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import product
from pathlib import Path

import pytest
from redis import Redis

from engine import Inventory, Line, Location, LocationKind, Movement, MovementKind, connect
from engine.topology.embedded import EmbeddedServer
from engine.topology.embedded_binary import find_server_binary, inspect_server_binary

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.15
POSITIONS, HOLDS, FINISHED = 6000, 6016, 4096
TOGETHER = 64

spec = importlib.util.spec_from_file_location("sizing", ROOT / "scripts" / "sizing.py")
assert spec is not None
assert spec.loader is not None
sizing = importlib.util.module_from_spec(spec)
sys.modules["sizing"] = sizing
spec.loader.exec_module(sizing)


def used_bytes(url: str) -> int:
    """Memory of a server that nobody else is connected to: the buffers of connections are no data."""
    with Redis.from_url(url) as client:
        while len(client.client_list()) > 1:
            time.sleep(0.01)
        return int(client.info("memory")["used_memory"])


async def measure(url: str, locations: int) -> dict[str, int]:
    """What a real server uses more for positions, for holds and for finished reservations."""
    places = list(product(range(POSITIONS // locations), range(locations)))

    async def stock(inventory: Inventory) -> None:
        for start in range(0, len(places), TOGETHER):
            await asyncio.gather(
                *(
                    inventory.record(
                        Movement(
                            f"m-{sku}-{place}",
                            MovementKind.RECEIVE,
                            f"S-{sku:07d}",
                            f"w{place:02}",
                            1_000_000,
                        )
                    )
                    for sku, place in places[start : start + TOGETHER]
                )
            )

    async def reserve(inventory: Inventory, first: int) -> list[str]:
        chosen = [places[number % len(places)] for number in range(first, first + TOGETHER)]
        held = await asyncio.gather(
            *(
                inventory.reserve(f"cart-{number}", [Line(f"S-{sku:07d}", 1, f"w{place:02}")])
                for number, (sku, place) in enumerate(chosen, first)
            )
        )
        return [reservation.id for reservation in held]

    async def hold(inventory: Inventory) -> None:
        for start in range(0, HOLDS, TOGETHER):
            await reserve(inventory, start)

    async def finish(inventory: Inventory) -> None:
        for start in range(HOLDS, HOLDS + FINISHED, TOGETHER):
            ids = await reserve(inventory, start)
            await asyncio.gather(*map(inventory.commit, ids))
            await asyncio.gather(*map(inventory.fulfil, ids))

    async with closing_inventory(url) as inventory:
        for number in range(locations):
            await inventory.save_location(Location(f"w{number:02}", LocationKind.WAREHOUSE))
    before, measured = used_bytes(url), {}
    for name, work in (("received", stock), ("held", hold), ("finished", finish)):
        async with closing_inventory(url) as inventory:
            await work(inventory)
        after = used_bytes(url)
        measured[name], before = after - before, after
    return measured


@asynccontextmanager
async def closing_inventory(url: str) -> AsyncIterator[Inventory]:
    inventory = await connect(url)
    try:
        yield inventory
    finally:
        await inventory.close()


@pytest.mark.parametrize(("kind", "locations"), [("valkey", 3), ("valkey", 60), ("redis", 3), ("redis", 60)])
async def test_the_sum_agrees_with_a_real_server(tmp_path: Path, kind: str, locations: int) -> None:
    """Positions, open holds and finished reservations of one server, to within `TOLERANCE`."""
    with EmbeddedServer.start(tmp_path, durability="none", binary=find_program(kind)) as server:
        measured = await measure(server.url, locations)
    # A time to live of 15 minutes takes two bytes less than one of a day.
    shape = sizing.Shape(locations=locations, location_bytes=3, detail_bytes=10, together=TOGETHER)
    costs, _ = sizing.load_costs(server=kind, shape=shape)
    positions = POSITIONS // locations * locations
    one_second = {"hold_seconds": 1.0, "busy_share": 0.0}
    stocked = sizing.plan(sizing.Demand(positions, 0.0, movements=positions), costs)
    holding = sizing.plan(sizing.Demand(0, HOLDS, **one_second), costs)
    ended = sizing.plan(
        sizing.Demand(
            0,
            FINISHED,
            hold_seconds=0.0,
            busy_share=1.0,
            retention_seconds=1.0,
            ledger_seconds=1.0,
            history_seconds=1.0,
        ),
        costs,
    )
    for name, made in (("received", stocked), ("held", holding), ("finished", ended)):
        predicted = made.memory_bytes / sizing.MEMORY_HEADROOM
        assert predicted == pytest.approx(measured[name], rel=TOLERANCE), name


def find_program(kind: str) -> Path:
    """The server that the sum knows; the test fails where this machine has another one."""
    if kind == "valkey":
        return find_server_binary({"PATH": ""}).path
    path = shutil.which("redis-server")
    program = inspect_server_binary(Path(path)) if path else None
    if program is None or (program.family, program.version[:4]) != ("redis", "7.0."):
        pytest.fail("needs redis-server 7.0 on PATH: the sum is of that one")
    return program.path


def test_the_sum_agrees_with_the_committed_results() -> None:
    """Memory as `benchmarks.scale` measured it on the largest data set."""
    result = json.loads((sizing.RESULTS / "scale.json").read_bytes())
    totals = sizing.work_out(sizing.SERVERS[result["versions"]["server"].split()[0]]).totals
    measured = {
        figure["labels"]["of"]: figure["value"]
        for figure in sorted(result["figures"], key=lambda figure: figure["labels"].get("skus", 0))
        if figure["labels"].get("of") in totals
    }
    assert totals == pytest.approx(measured, rel=TOLERANCE)


def test_committed_results_take_the_place_of_what_is_built_in(tmp_path: Path) -> None:
    """The largest data set counts, and of a ratio the subject's side."""
    figures = [
        {"name": "reserve at 10,000 SKUs", "value": 1.1, "subject": [3.0], "labels": {"skus": 10_000}},
        {
            "name": "reserve at 1,000,000 SKUs",
            "value": 1.2,
            "subject": [4.0, 6.0, 5.0],
            "labels": {"skus": 1_000_000},
        },
        {"name": "reserve at one of 2,000 locations", "value": 1.3, "subject": [7.0]},
    ]
    (tmp_path / "scale.json").write_text(json.dumps({"figures": figures}), encoding="utf-8")
    costs, origin = sizing.load_costs(tmp_path)
    assert costs.reserve_us == 5
    assert origin["reserve_us"] == "scale.json: reserve at 1,000,000 SKUs"
    assert (costs.commit_us, origin["commit_us"]) == (2.5, "built in")
    assert origin["hold_bytes"] == "worked out"


def test_the_sum() -> None:
    """One row by hand: 1,000 reservations a second, everything else as it comes."""
    costs = sizing.Costs(
        position_bytes=50,
        hold_bytes=150,
        finished_bytes=200,
        receipt_bytes=80,
        reserve_event_bytes=120,
        step_event_bytes=90,
        movement_event_bytes=70,
        history_bytes=100,
        reserve_us=4,
        commit_us=2,
        read_us=1,
        api_write_us=40,
        api_read_us=20,
    )
    made = sizing.plan(sizing.Demand(1_000_000, 1000, movements=1000), costs)
    assert made.movement_bytes == 1000 * 150
    assert made.history_bytes == (1000 + 250 * 30 * 86_400) * 100
    assert made.position_bytes == 50e6
    assert made.open_bytes == 300_000 * 150
    assert made.finished_bytes == 250 * 86_400 * 200
    assert made.ledger_bytes == 300_000 * 120 + 250 * 86_400 * 300
    assert made.primary_cores == pytest.approx(1000 * (4 + 2 * 2 + 10) / 1e6 / 0.5)
    assert made.api_cores == pytest.approx(1000 * (3 * 40 + 10 * 20) / 1e6 / 0.5)
    assert (made.primaries, made.api_hosts) == (2, 1)


def test_the_page_has_the_tables_of_the_calculator() -> None:
    """After new results: `python -m benchmarks.report`."""
    page = (ROOT / "docs" / "operating" / "sizing.md").read_text(encoding="utf-8")
    assert sizing.fill_page(page, *sizing.load_costs()) == page, "run python -m benchmarks.report"


def test_it_runs_without_anything_installed() -> None:
    """The system's Python, isolated."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "scripts" / "sizing.py", "--positions", "1e8", "--rate", "1e6"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "100,000,000 positions, 1,000,000 reservations/s" in done.stdout
