"""What a channel is shown is what it gets, whatever buffers, fences and policies say."""

from contextlib import suppress
from random import Random

import pytest

from engine import Buffer, Channel, Inventory, Movement, MovementKind, Policy, Pool
from engine.audit import audit
from engine.errors import FenceInUse, FenceNotFound, InsufficientStock
from engine.sourcing_plan import Rules, Wanted
from tests.sourcing.conftest import PLACES

SEEDS = 10
STEPS = 25
CHANNELS = ("web", "app", "desk")


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_channel_gets_what_it_is_shown(inventory: Inventory, seed: int) -> None:
    """At every step all that is shown can be reserved, and one more cannot; together channels never get more
    than there is. Nothing floats meanwhile, so that no unit can make way for one more.
    """
    chance = Random(seed)
    await inventory.save_pool(Pool("all", PLACES))
    buffers = (Buffer(units=chance.randint(0, 2)), Buffer(percent=chance.choice((0, 10, 50))), None)
    for channel, buffer in zip(CHANNELS, buffers, strict=True):
        await inventory.save_channel(Channel(channel, ("all",), buffer))
    for place in PLACES[:4]:
        units = chance.randint(1, 9)
        await inventory.record(Movement(f"in-{place}", MovementKind.RECEIVE, "mug", place, units))
    for step in range(STEPS):
        await _change_something(inventory, chance, step)
        channel = chance.choice(CHANNELS)
        rules = Rules(channel=channel)
        shown, _ = await inventory.availability_by("mug", rules=rules)
        (today,) = await inventory.atp("mug", channel=channel, days=1)
        assert today.atp == shown.available
        _, one_more = await inventory.availability_by("mug", rules=rules, quantity=shown.available + 1)
        assert one_more is False
        with pytest.raises(InsufficientStock):
            await inventory.source(f"more{step}", [Wanted("mug", shown.available + 1)], rules=rules)
        if shown.available:
            _, fits = await inventory.availability_by("mug", rules=rules, quantity=shown.available)
            assert fits is True
            made = await inventory.source(f"all{step}", [Wanted("mug", shown.available)], rules=rules)
            left, _ = await inventory.availability_by("mug", rules=rules)
            assert left.available == 0
            end = chance.choice(("release", "commit", "sell"))
            if end == "release":
                await inventory.release(made.id)
            elif end == "commit":
                await inventory.commit(made.id)
            elif end == "sell":
                await inventory.commit(made.id, fulfil=True)
        for position in await inventory.stock("mug"):
            assert position.held + position.allocated <= position.on_hand + position.backorder_limit
    books = await audit(inventory)
    assert not books.violations, books.violations
    assert not books.differences, books.differences


async def _change_something(inventory: Inventory, chance: Random, step: int) -> None:
    """Goods that come, a policy, a fence."""
    place, choice = chance.choice(PLACES[:4]), chance.random()
    if choice < 0.4:
        units = chance.randint(1, 6)
        await inventory.record(Movement(f"more-{step}", MovementKind.RECEIVE, "mug", place, units))
    elif choice < 0.6:
        policy = Policy("mug", place, chance.randint(0, 3), 0, chance.randint(0, 3))
        await inventory.save_policy(policy)
    elif choice < 0.9:
        spill = chance.random() < 0.5
        await inventory.save_fence(chance.choice(CHANNELS), "mug", place, chance.randint(0, 5), spill=spill)
    else:
        with suppress(FenceNotFound, FenceInUse):
            await inventory.delete_fence(chance.choice(CHANNELS), "mug", place)
