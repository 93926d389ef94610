"""Lists by location and SKU know where units were moved to, and from where they are gone."""

import pytest

from engine import Inventory, Line, Movement, MovementKind, Pool
from engine.sourcing_plan import Rules, Wanted
from engine.types import Count, Move
from engine.workers import Indexer
from tests.driver import Shop

PLACES = ("s1", "s2", "s7")


async def listed(inventory: Inventory, **asked: str) -> list[str]:
    return [one.id for one in (await inventory.reservations(**asked)).items]


@pytest.fixture
async def stocked(shop: Shop) -> Inventory:
    for sku in ("mug", "cup"):
        for place in PLACES:
            await shop.inventory.record(Movement(sku + place, MovementKind.RECEIVE, sku, place, 5))
    return shop.inventory


@pytest.mark.parametrize("ahead", [False, True], ids=["when asked", "by the worker"])
async def test_moved_and_replaced(stocked: Inventory, *, ahead: bool) -> None:
    """Whether the index was made before the change, after it, or by a worker in between."""
    made = await stocked.reserve("k", [Line("mug", 2, "s1")], owner="ann", reference="r")
    assert await listed(stocked, location="s1") == [made.id]
    await stocked.move(made.id, [Move("mug", "s1", "s2", 2)], op_id="move")
    await stocked.count(Count("c", "mug", "s1", 9, 1))
    if ahead:
        await Indexer(stocked).tick()
    assert await listed(stocked, location="s2") == [made.id]
    assert await listed(stocked, location="s1") == []
    await stocked.replace_lines(made.id, [Line("cup", 1, "s7"), Line("mug", 1, "s1")], op_id="lines")
    if ahead:
        await Indexer(stocked).tick()
    found = {place: await listed(stocked, location=place) for place in PLACES}
    assert found == {"s1": [made.id], "s2": [], "s7": [made.id]}
    assert await listed(stocked, sku="cup") == [made.id]
    assert await listed(stocked, owner="ann", location="s7") == [made.id]
    assert await listed(stocked, reference="r", location="s2") == []
    # Nothing is left of what it said before.
    await stocked.index.walk(0, b"", 1000)
    entries = await stocked.index.read(0, b"l\x02s2", b"\xff" * 24, 10)
    assert entries == []


async def test_moved_for_another(stocked: Inventory) -> None:
    """A hold that makes way for somebody who can only be served there is found where it is now."""
    await stocked.save_pool(Pool("west", ("s1", "s2")))
    await stocked.save_pool(Pool("east", ("s1", "s7")))
    first = await stocked.source("a", [Wanted("mug", 5)], rules=Rules(pool="west"))
    (before,) = {line.location for line in first.lines}
    assert await listed(stocked, location=before) == [first.id]
    second = await stocked.reserve("b", [Line("mug", 5, before)])
    after = {line.location for line in (await stocked.reservation(first.id)).lines}
    assert before not in after
    assert await listed(stocked, location=before) == [second.id]
    assert await listed(stocked, location=after.pop()) == [first.id]
