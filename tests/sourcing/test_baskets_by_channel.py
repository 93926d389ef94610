"""What a channel buys over several partitions: from its fences, and never from those of others."""

from random import Random

import pytest

from engine import Buffer, Channel, Inventory, Line, Movement, MovementKind, Policy, Pool
from engine.audit import audit
from engine.errors import FenceInUse, FenceNotFound, InsufficientStock
from engine.sourcing_plan import Rules, Wanted
from engine.types import Fence
from tests.driver import skus_in
from tests.sourcing.conftest import PLACES

SKUS = tuple(next(skus_in(partition, 4)) for partition in range(3))
CHANNELS = ("web", "app", "desk")
A, B, C = SKUS


async def stock(inventory: Inventory, sku: str, units: int, place: str = "a") -> None:
    await inventory.record(Movement(f"{sku} to {place}", MovementKind.RECEIVE, sku, place, units))


async def fence(inventory: Inventory, sku: str) -> tuple[int, int]:
    """What is left of the fence, and what is used."""
    (found,) = await inventory.fences(sku=sku)
    assert isinstance(found, Fence)
    return found.remaining, found.used


async def expect_clean(inventory: Inventory) -> None:
    await inventory.baskets.close()
    report = await audit(inventory)
    assert report.is_clean, (report.differences, report.violations, report.notes)


async def test_a_basket_takes_from_its_fences(inventory: Inventory) -> None:
    """In each partition; and what becomes of its units becomes of theirs."""
    await inventory.save_pool(Pool("all", PLACES))
    await inventory.save_channel(Channel("web", ("all",)))
    for sku in SKUS:
        await stock(inventory, sku, 5)
        await inventory.save_fence("web", sku, "a", 4)
    with pytest.raises(InsufficientStock):
        await inventory.reserve("others", [Line(sku, 2, "a") for sku in SKUS])
    web = Rules(channel="web")
    with pytest.raises(InsufficientStock):
        await inventory.source("more", [Wanted(A, 4), Wanted(B, 5)], rules=web)
    held = await inventory.source("k", [Wanted(A, 4), Wanted(B, 3)], rules=web)
    assert [await fence(inventory, sku) for sku in SKUS] == [(0, 4), (1, 3), (4, 0)]
    await expect_clean(inventory)
    other = [Line(A, 2, "a"), Line(B, 4, "a"), Line(C, 4, "a")]
    with pytest.raises(InsufficientStock):
        await inventory.replace_lines(held.id, [*other, Line(C, 1, "a")])
    assert [await fence(inventory, sku) for sku in SKUS] == [(0, 4), (1, 3), (4, 0)]
    await inventory.replace_lines(held.id, other)
    await inventory.baskets.close()
    assert [await fence(inventory, sku) for sku in SKUS] == [(2, 2), (0, 4), (0, 4)]
    await inventory.commit(held.id)
    await inventory.fulfil(held.id, lines=[Line(B, 3, "a")], op_id="f")
    await inventory.cancel(held.id, lines=[Line(C, 3, "a")], op_id="c")
    await inventory.baskets.close()
    assert [await fence(inventory, sku) for sku in SKUS] == [(2, 2), (0, 1), (3, 1)]
    await expect_clean(inventory)


@pytest.mark.parametrize("seed", range(6))
async def test_a_channel_gets_what_it_is_shown(inventory: Inventory, seed: int) -> None:
    """Of each SKU all that is shown, in one basket; one more of any cannot be had."""
    chance = Random(seed)
    await inventory.save_pool(Pool("all", PLACES))
    buffers = (Buffer(units=chance.randint(0, 2)), Buffer(percent=chance.choice((0, 10, 50))), None)
    for channel, buffer in zip(CHANNELS, buffers, strict=True):
        await inventory.save_channel(Channel(channel, ("all",), buffer))
    for sku in SKUS:
        for place in PLACES[:2]:
            await stock(inventory, sku, chance.randint(1, 9), place)
    for step in range(12):
        await _change_something(inventory, chance, step)
        channel = chance.choice(CHANNELS)
        rules = Rules(channel=channel)
        shown = {sku: (await inventory.availability_by(sku, rules=rules))[0].available for sku in SKUS}
        wanted = [Wanted(sku, units) for sku, units in shown.items() if units]
        if not wanted:
            continue
        more = [Wanted(one.sku, one.quantity + (one is wanted[-1])) for one in wanted]
        with pytest.raises(InsufficientStock):
            await inventory.source(f"more{step}", more, rules=rules)
        made = await inventory.source(f"all{step}", wanted, rules=rules)
        assert {line.sku for line in made.lines} == {one.sku for one in wanted}
        for one in wanted:
            assert (await inventory.availability_by(one.sku, rules=rules))[0].available == 0
        await _end(inventory, chance, made.id, [Line(one.sku, one.held, one.location) for one in made.lines])
        await inventory.baskets.close()
        for sku in SKUS:
            for position in await inventory.stock(sku):
                assert position.held + position.allocated <= position.on_hand
    await expect_clean(inventory)


async def _end(inventory: Inventory, chance: Random, reservation: str, lines: list[Line]) -> None:
    end = chance.choice(("release", "commit", "sell", "fewer", "back"))
    if end == "release":
        await inventory.release(reservation)
    elif end == "commit":
        await inventory.commit(reservation)
    elif end == "sell":
        await inventory.commit(reservation, fulfil=True)
    elif end == "fewer":
        await inventory.replace_lines(reservation, lines[:1])
        await inventory.release(reservation)
    elif end == "back":
        await inventory.commit(reservation)
        await inventory.cancel(reservation, lines=lines[:1], op_id=f"{reservation} back")


async def _change_something(inventory: Inventory, chance: Random, step: int) -> None:
    """Goods that come, a policy, a fence."""
    sku, place, what = chance.choice(SKUS), chance.choice(PLACES[:2]), chance.randrange(4)
    if what == 0:
        units = chance.randint(1, 6)
        await inventory.record(Movement(f"m{step}", MovementKind.RECEIVE, sku, place, units))
    elif what == 1:
        await inventory.save_policy(Policy(sku, place, safety_stock=chance.randint(0, 3)))
    elif what == 2:
        spill = chance.random() < 0.5
        await inventory.save_fence(chance.choice(CHANNELS), sku, place, chance.randint(0, 5), spill=spill)
    else:
        try:
            await inventory.delete_fence(chance.choice(CHANNELS), sku, place)
        except (FenceNotFound, FenceInUse):
            return
