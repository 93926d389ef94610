"""Sourcing, moves, carts that change and counts, wherever the partitions lie."""

import asyncio

import pytest

from engine import Count, Line, Movement, MovementKind, Pool
from engine.audit import audit
from engine.errors import InsufficientStock
from engine.sourcing_plan import Rules, Wanted
from engine.types import Move
from tests.driver import LOCATIONS, Shop

S1, S2, _ = LOCATIONS
CALLERS = 12
UNITS = 8


@pytest.mark.every_topology
async def test_a_crowd_for_two_pools(shop_of_any_size: Shop) -> None:
    """No more is promised than there is, by pools that overlap; what is held moves and is counted."""
    shop = shop_of_any_size
    inventory = shop.inventory
    for place in (S1, S2):
        await inventory.record(Movement(f"in {place}", MovementKind.RECEIVE, "mug", place, UNITS))
    await inventory.save_pool(Pool("both", (S1, S2)))
    await inventory.save_pool(Pool("one", (S1,)))

    async def take(number: int) -> str | None:
        rules = Rules(pool="both" if number % 2 else "one")
        try:
            made = await inventory.source(f"k{number}", [Wanted("mug", 1)], rules=rules)
        except InsufficientStock:
            return None
        again = await inventory.source(f"k{number}", [Wanted("mug", 1)], rules=rules)
        assert (again.id, again.replayed) == (made.id, True)
        return made.id

    held = [found for found in await asyncio.gather(*map(take, range(CALLERS))) if found]
    assert len(held) == CALLERS
    placed = await inventory.reserve("placed", [Line("mug", 2, S2)])
    moved = await inventory.move(placed.id, [Move("mug", S2, S1, 1)], op_id="m")
    assert {(line.location, line.held) for line in moved.lines} == {(S1, 1), (S2, 1)}
    changed = await inventory.replace_lines(placed.id, [Line("mug", 1, S2)], op_id="r")
    assert [(line.location, line.quantity) for line in changed.lines] == [(S2, 1)]
    bought = await inventory.commit(held[0], fulfil=True, op_id="bought")
    (left,) = bought.lines
    shop.wait(1)
    there = UNITS - (left.location == S2)
    told = await inventory.count(Count("c", "mug", S2, there, shop.model.now_ms - 1))
    assert told.on_hand == there
    # 16 units, of which 12 and one are promised or sold.
    rest = [await _take_one(shop, number) for number in range(5)]
    assert rest == [True, True, True, False, False]
    report = await audit(inventory)
    assert report.is_clean, report


async def _take_one(shop: Shop, number: int) -> bool:
    try:
        await shop.inventory.source(f"rest {number}", [Wanted("mug", 1)], rules=Rules(pool="both"))
    except InsufficientStock:
        return False
    return True
