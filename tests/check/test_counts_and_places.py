"""Counts, and holds whose places the engine chooses: their quantities are judged, soundly."""

from pathlib import Path

import pytest
from redis import Redis

from engine import Count, MovementResult, Position
from engine.check import check
from engine.check.reading import find_files
from engine.topology.embedded import EmbeddedServer
from tests.check.test_wider_verbs import OPENING, Step, write
from tests.check.walker import open_walked, walk

JUDGED = (
    "counts judged",
    "facts before a count",
    "facts judged",
    "chosen places judged",
    "promises judged by SKU",
    "sums over locations judged",
    "stock answers judged",
    "life cycle steps",
)


@pytest.mark.parametrize("loses", [False, True], ids=["told", "lost"])
async def test_a_legal_walk(server: EmbeddedServer, tmp_path: Path, *, loses: bool) -> None:
    """Counts of now and of before, late facts, shared pools, lost answers."""
    inventory = await open_walked(server.url, tmp_path / "shop.jsonl")
    await walk(inventory, 1, 60, loses=loses)
    await inventory.close()
    report = check(find_files(tmp_path / "shop.jsonl"))
    assert report.violations == []
    assert not [name for name in JUDGED if not report.counts.get(name)]
    assert bool(report.unknown) == loses


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("record_count", "return quantity + later, 0, quantity", "return quantity + later - 1, 0, quantity"),
        ("record_count", "return quantity, 0, quantity - later", "return quantity - 1, 0, quantity - later"),
        ("record_count", "hand_of[position] = on_hand", "hand_of[position] = on_hand - 1"),
        (
            "source",
            "held_of[position] = held_of[position] + line.quantity",
            "held_of[position] = held_of[position] + line.quantity - 1",
        ),
        (
            "source",
            "line.quantity, line.held = line.quantity - move.quantity, line.held - move.quantity",
            "line.quantity, line.held = line.quantity + 0, line.held + 0",
        ),
    ],
    ids=[
        "a count loses a unit",
        "a set loses a unit",
        "unseen",
        "one unit too few is held",
        "a move doubles",
    ],
)
async def test_a_broken_engine_is_found(
    server: EmbeddedServer, control: "Redis[bytes]", tmp_path: Path, file: str, right: str, wrong: str
) -> None:
    """Scripts with a fault in them: the history shows it, of the first walk most often."""
    for seed in range(12):
        # What is in use already is not judged by quantity.
        control.flushall()
        path = tmp_path / f"shop {seed}.jsonl"
        inventory = await open_walked(server.url, path, file, right, wrong)
        await walk(inventory, seed, 40, loses=False)
        await inventory.close()
        if "I4" in {violation.invariant for violation in check(find_files(path)).violations}:
            return
    pytest.fail("no walk showed it")


def told(on_hand: int, version: int) -> Step:
    """What is on hand at one place, as read."""
    row = Position("a", on_hand, 0, 0, 0, 0, 0, 0, 0, 0, 0, on_hand, f"1.{version}")
    return "stock", {"sku": "mug", "locations": ["a"]}, [row]


COUNT = {"count": Count("c", "mug", "a", 5, 1000)}
LOST: tuple[Step, ...] = (*OPENING, ("count", COUNT, None))
MADE = MovementResult(5, 5, "1.3", replayed=True, effect=2)
LEGAL: dict[str, tuple[Step, ...]] = {
    "it was made": (*LOST, told(5, 3), told(5, 3)),
    "it was not made": (*LOST, told(3, 2)),
    "it is made later": (*LOST, told(3, 2), told(5, 3)),
    "it is told later": (*LOST, told(5, 3), ("count", COUNT, MADE), told(5, 3)),
    "it is told at once": (*LOST, ("count", COUNT, MADE), told(5, 3)),
}
PLANTED: dict[str, tuple[Step, ...]] = {
    "it lost a unit": (*LOST, told(2, 3)),
    "it found what nobody counted or brought": (*LOST, told(9, 3)),
    "a unit is lost behind it": (*LOST, told(5, 3), told(4, 3)),
    "its repeat tells of another": (*LOST, ("count", COUNT, MADE), told(3, 3)),
    "a unit is lost behind its repeat": (*LOST, told(5, 3), ("count", COUNT, MADE), told(4, 3)),
}


@pytest.mark.parametrize("name", LEGAL)
def test_a_lost_count_is_no_fault(tmp_path: Path, name: str) -> None:
    """Its outcome is unknown: whatever it may have done is allowed, at any later version."""
    report = check([write(tmp_path, LEGAL[name])])
    assert report.violations == []


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_behind_a_lost_count_is_found(tmp_path: Path, name: str) -> None:
    """No more than that is."""
    assert "I4" in {one.invariant for one in check([write(tmp_path, PLANTED[name])]).violations}
