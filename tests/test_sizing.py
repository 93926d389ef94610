import asyncio
import importlib.util
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from redis import Redis

from engine import Line, Location, LocationKind, Movement, MovementKind, connect
from engine.topology.embedded import EmbeddedServer
from engine.topology.embedded_binary import find_server_binary

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.15
SKUS, LOCATIONS, HOLDS, FINISHED = 2000, 3, 6000, 4000
TOGETHER = 64

spec = importlib.util.spec_from_file_location("sizing", ROOT / "scripts" / "sizing.py")
assert spec is not None
assert spec.loader is not None
sizing = importlib.util.module_from_spec(spec)
sys.modules["sizing"] = sizing
spec.loader.exec_module(sizing)


def used_bytes(client: "Redis[bytes]") -> int:
    found = client.info("memory")
    return int(found["used_memory"]) - int(found.get("mem_clients_normal", 0))


async def measure(url: str) -> dict[str, int]:
    """What a real server uses more for positions, for holds and for finished reservations."""
    inventory = await connect(url)
    for number in range(LOCATIONS):
        await inventory.save_location(Location(f"w{number}", LocationKind.WAREHOUSE))
    places = list(product(range(SKUS), range(LOCATIONS)))

    async def reserve(number: int) -> str:
        sku, place = places[number % len(places)]
        held = await inventory.reserve(f"cart-{number}", [Line(f"S-{sku:07d}", 1, f"w{place}")])
        return held.id

    with Redis.from_url(url) as client:
        points = [used_bytes(client)]
        for start in range(0, len(places), TOGETHER):
            await asyncio.gather(
                *(
                    inventory.record(
                        Movement(
                            f"m-{sku}-{place}", MovementKind.RECEIVE, f"S-{sku:07d}", f"w{place}", 1_000_000
                        )
                    )
                    for sku, place in places[start : start + TOGETHER]
                )
            )
        points.append(used_bytes(client))
        for start in range(0, HOLDS, TOGETHER):
            await asyncio.gather(*map(reserve, range(start, min(HOLDS, start + TOGETHER))))
        points.append(used_bytes(client))
        for start in range(HOLDS, HOLDS + FINISHED, TOGETHER):
            ids = await asyncio.gather(*map(reserve, range(start, start + TOGETHER)))
            await asyncio.gather(*map(inventory.commit, ids))
            await asyncio.gather(*map(inventory.fulfil, ids))
        points.append(used_bytes(client))
    await inventory.close()
    names = ("received", "held", "finished")
    return {name: later - first for name, first, later in zip(names, points, points[1:], strict=False)}


async def test_the_sum_agrees_with_a_real_server(tmp_path: Path) -> None:
    """Positions, open holds and finished reservations of one server, to within `TOLERANCE`."""
    costs, _ = sizing.load_costs()
    with EmbeddedServer.start(
        tmp_path, durability="none", binary=find_server_binary({"PATH": ""}).path
    ) as server:
        measured = await measure(server.url)
    rounds = -(-FINISHED // TOGETHER) * TOGETHER
    one_second = {"hold_seconds": 1.0, "busy_share": 0.0}
    stocked = sizing.plan(sizing.Demand(SKUS * LOCATIONS, 0.0, movements=SKUS * LOCATIONS), costs)
    holding = sizing.plan(sizing.Demand(0, HOLDS, **one_second), costs)
    ended = sizing.plan(
        sizing.Demand(0, rounds, hold_seconds=0.0, busy_share=1.0, retention_seconds=1.0, ledger_seconds=1.0),
        costs,
    )
    for name, made in (("received", stocked), ("held", holding), ("finished", ended)):
        predicted = made.memory_bytes / sizing.MEMORY_HEADROOM
        assert predicted == pytest.approx(measured[name], rel=TOLERANCE), name


def test_committed_results_take_the_place_of_what_is_built_in(tmp_path: Path) -> None:
    """The largest data set counts, and of a ratio the subject's side."""
    figures = [
        {"name": "bytes a hold, 1,000 SKUs", "value": 400, "labels": {"of": "hold", "skus": 1000}},
        {"name": "bytes a hold, 1,000,000 SKUs", "value": 250, "labels": {"of": "hold", "skus": 1_000_000}},
        {"name": "reserve at 1,000,000 SKUs", "value": 1.2, "subject": [4.0, 6.0, 5.0]},
    ]
    (tmp_path / "scale.json").write_text(json.dumps({"figures": figures}), encoding="utf-8")
    costs, origin = sizing.load_costs(tmp_path)
    assert (costs.hold_bytes, costs.reserve_us) == (250, 5)
    assert origin["hold_bytes"] == "scale.json: bytes a hold, 1,000,000 SKUs"
    assert origin["commit_us"] == "built in"
    assert costs.commit_us == sizing.Costs().commit_us


def test_the_sum() -> None:
    """One row by hand: 1,000 reservations a second, everything else as it comes."""
    costs = sizing.Costs(
        position_bytes=50,
        hold_bytes=250,
        event_bytes=100,
        finished_bytes=500,
        receipt_bytes=200,
        reserve_us=4,
        commit_us=2,
        read_us=1,
        api_write_us=40,
        api_read_us=20,
    )
    made = sizing.plan(sizing.Demand(1_000_000, 1000), costs)
    assert made.position_bytes == 50e6
    assert made.open_bytes == 300_000 * 150
    assert made.finished_bytes == 250 * 86_400 * 200
    assert made.ledger_bytes == 300_000 * 100 + 250 * 86_400 * 300
    assert made.primary_cores == pytest.approx(1000 * (4 + 2 * 2 + 10) / 1e6 / 0.5)
    assert made.api_cores == pytest.approx(1000 * (3 * 40 + 10 * 20) / 1e6 / 0.5)
    assert (made.primaries, made.api_hosts) == (1, 1)


def test_the_page_has_the_tables_of_the_calculator() -> None:
    """After new results: `python3 scripts/sizing.py --write`."""
    page = (ROOT / "docs" / "operating" / "sizing.md").read_text(encoding="utf-8")
    assert sizing.fill_page(page, *sizing.load_costs()) == page, "run python3 scripts/sizing.py --write"


def test_it_runs_without_anything_installed() -> None:
    """The system's Python, isolated."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "scripts" / "sizing.py", "--positions", "1e8", "--rate", "1e6"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "100,000,000 positions, 1,000,000 reservations/s" in done.stdout
