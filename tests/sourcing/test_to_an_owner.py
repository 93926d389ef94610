"""What a channel or a pool can promise to one who holds units: as if these were given back just now."""

import random

import pytest
from msgspec import structs

from engine import BincardError, Channel, Component, Inventory, Item, Line, Movement, MovementKind, Pool
from engine.errors import InsufficientStock
from engine.sourcing_plan import Rules, Wanted
from engine.types import Buffer, Move

SKUS, PLACES = ("mug", "tea", "cup"), ("a", "b", "c")


async def stock(inventory: Inventory, pick: random.Random) -> None:
    for sku in SKUS:
        for place in PLACES:
            units = pick.randrange(3, 12)
            await inventory.record(Movement(f"{sku}{place}", MovementKind.RECEIVE, sku, place, units))
    await inventory.save_pool(Pool("west", ("a", "b")))
    await inventory.save_pool(Pool("east", ("b", "c")))
    await inventory.save_channel(Channel("web", ("west",), buffer=Buffer(units=1)))
    await inventory.save_channel(Channel("app", ("west", "east")))
    await inventory.save_item(Item("set", components=(Component("mug", 2), Component("tea", 1))))
    for number in range(4):
        channel, place = pick.choice(("web", "app")), pick.choice(PLACES)
        units = pick.randrange(5)
        await inventory.save_fence(channel, SKUS[number % 3], place, units, spill=pick.random() < 0.5)


async def hold(inventory: Inventory, pick: random.Random, number: int) -> str | None:
    """Somebody holds something by some rules; its id, where there was enough."""
    rules = pick.choice([Rules("web"), Rules("app"), Rules(pool="west"), Rules(pool="east"), Rules()])
    place = pick.choice(PLACES) if rules == Rules() else pick.choice([None, "b"])
    wanted = [Wanted(pick.choice(("mug", "tea", "set")), pick.randrange(1, 3), place)]
    if pick.random() < 0.5:
        wanted.append(Wanted("cup", 1, place))
    owner = pick.choice(("ann", "ann", "bob", None))
    try:
        made = await inventory.source(f"hold {number}", wanted, rules=rules, owner=owner)
    except InsufficientStock:
        return None
    return made.id if owner == "ann" else None


@pytest.mark.parametrize("seed", range(4))
async def test_as_if_its_holds_were_given_back(inventory: Inventory, seed: int) -> None:
    """Channel by channel, of SKUs and kits, with fences and buffers: what is told before the holds are
    released is what is told of anybody after.
    """
    pick = random.Random(seed)
    await stock(inventory, pick)
    own = [found for number in range(14) if (found := await hold(inventory, pick, number))]
    assert own
    asked = [
        (sku, rules)
        for sku in (*SKUS, "set")
        for rules in (Rules("web"), Rules("app"), Rules(pool="east"), Rules(everywhere=True))
    ]
    told, plain = [], []
    for sku, rules in asked:
        found, fits = await inventory.availability_to("ann", sku, rules=rules, quantity=2)
        told.append((found.locations, fits))
        found, fits = await inventory.availability_by(sku, rules=rules, quantity=2)
        plain.append((found.locations, fits))
    for reservation in own:
        await inventory.release(reservation)
    after = []
    for sku, rules in asked:
        found, fits = await inventory.availability_by(sku, rules=rules, quantity=2)
        after.append((found.locations, fits))
    assert told == after
    assert told != plain


async def test_asking_changes_nothing(inventory: Inventory) -> None:
    """Many ask at once, in one call for each partition: nobody sees what was set aside for others."""
    await stock(inventory, random.Random(1))
    await inventory.save_fence("app", "mug", "b", 3, spill=True)
    await inventory.record(Movement("more", MovementKind.RECEIVE, "mug", "b", 9))
    for number, owner in enumerate(("ann", "bob")):
        await inventory.source(f"k{number}", [Wanted("mug", 2, "b")], rules=Rules("app"), owner=owner)
    rules = Rules("app")
    alone = [await inventory.availability_to(owner, "mug", rules=rules) for owner in ("ann", "bob", "eve")]
    before = await inventory.availability_by("mug", rules=rules)
    together = [
        await one
        for _ in range(3)
        for one in [inventory.availability_to(owner, "mug", rules=rules) for owner in ("ann", "bob", "eve")]
    ]
    assert together == alone * 3
    assert alone[0] == alone[1] != alone[2] == before == await inventory.availability_by("mug", rules=rules)


async def test_kits_near_a_place_and_in_changes(inventory: Inventory) -> None:
    """A kit is found where all its parts are, by channel as well; changes take its components."""
    await stock(inventory, random.Random(1))
    for fence in await inventory.fences():
        await inventory.delete_fence(fence.channel, fence.sku, fence.location)
    for sku in ("mug", "tea"):
        await inventory.set_on_hand(sku, "a", 8, expected=None)
        await inventory.set_on_hand(sku, "b", 4, expected=None)
        await inventory.set_on_hand(sku, "c", 0, expected=None)
    for number, place in enumerate(PLACES):
        known = await inventory.location(place)
        await inventory.save_location(
            structs.replace(known, lat=10.0, lon=10 + number / 100, capabilities=("pickup",))
        )
    near = await inventory.nearby("set", 10, 10, radius_km=50)
    assert [(one.location, one.available) for one in near.locations] == [("a", 4), ("b", 2), ("c", 0)]
    near = await inventory.nearby("mug", 10, 10, radius_km=50, channel="web")
    assert [(one.location, one.available) for one in near.locations] == [("a", 7), ("b", 3)]
    near = await inventory.nearby("set", 10, 10, radius_km=50, channel="web", quantity=2)
    assert [(one.location, one.available) for one in near.locations] == [("a", 3)]
    made = await inventory.reserve("k", [Line("mug", 1, "a")])
    if inventory.dataset.partitions == 1:
        changed = await inventory.replace_lines(made.id, [Line("set", 2, "b")], op_id="other")
        assert {(line.sku, line.location, line.held) for line in changed.lines} == {
            ("mug", "b", 4),
            ("tea", "b", 2),
        }
        moved = await inventory.move(made.id, [Move("set", "b", "a", 1)], op_id="move")
        assert {(line.sku, line.location, line.held) for line in moved.lines if line.held} == {
            ("mug", "b", 2),
            ("tea", "b", 1),
            ("mug", "a", 2),
            ("tea", "a", 1),
        }
    with pytest.raises(BincardError):
        await inventory.replace_lines(made.id, [Line("set", 99, "b")], op_id="too many")
