"""Defaults of items and locations hold at positions without a policy of their own: from the start, and when
they change. The audit replays it all.
"""

import asyncio
import random

import pytest
from msgspec import structs

from engine import Inventory, Item, Line, Location, Movement, MovementKind, Policy, Status, defaults, limits
from engine.audit import audit
from engine.errors import InsufficientStock, PolicyNotFound
from engine.types import Count, LocationKind, PolicyDefaults
from engine.workers import Inheritor

STORE = Location("s1", LocationKind.STORE, policy=PolicyDefaults(safety_stock=2, low_stock=5))
OTHER = Location("s2", LocationKind.STORE)


async def receive(inventory: Inventory, sku: str, location: str, units: int) -> int:
    told = await inventory.record(
        Movement(f"{sku} {location} {units}", MovementKind.RECEIVE, sku, location, units)
    )
    return told.available


async def numbers_of(inventory: Inventory, sku: str) -> dict[str, tuple[int, int, int]]:
    """Safety stock, backorder limit and low-stock band of each position of a SKU."""
    return {
        at.location: (at.safety_stock, at.backorder_limit, at.low_stock) for at in await inventory.stock(sku)
    }


async def expect_clean(inventory: Inventory) -> None:
    report = await audit(inventory)
    assert report.is_clean, (report.differences[:3], report.violations[:3], report.notes)


async def test_from_the_first_fact(inventory: Inventory) -> None:
    """The answer to the fact itself says so; the item speaks before the location, number by number."""
    await inventory.save_location(STORE)
    await inventory.save_location(OTHER)
    await inventory.save_item(Item("mug", policy=PolicyDefaults(safety_stock=0, backorder_limit=3)))
    assert await receive(inventory, "mug", "s1", 4) == 4
    assert await receive(inventory, "tea", "s1", 4) == 2
    await inventory.count(Count("c", "pen", "s1", 9, 1))
    await inventory.expect("i", sku="hat", location="s1", quantity=7, expected_ms=2**40)
    assert await receive(inventory, "tea", "s2", 4) == 4
    assert await numbers_of(inventory, "mug") == {"s1": (0, 3, 5)}
    assert await numbers_of(inventory, "tea") == {"s1": (2, 0, 5), "s2": (0, 0, 0)}
    assert await numbers_of(inventory, "pen") == await numbers_of(inventory, "hat") == {"s1": (2, 0, 5)}
    assert (await inventory.availability("mug")).status is Status.LOW_STOCK
    assert await inventory.policies() == []
    await expect_clean(inventory)


async def test_when_defaults_change(inventory: Inventory) -> None:
    """At all positions but those with a policy; its deletion brings the defaults back."""
    await inventory.save_location(STORE)
    await inventory.save_location(OTHER)
    for sku in ("mug", "tea"):
        for place in ("s1", "s2"):
            await receive(inventory, sku, place, 10)
    await inventory.save_policy(Policy("mug", "s2", 0, 0, 0))
    await inventory.save_location(structs.replace(STORE, policy=PolicyDefaults(safety_stock=4)))
    await inventory.save_location(structs.replace(OTHER, policy=PolicyDefaults(backorder_limit=1)))
    assert await numbers_of(inventory, "mug") == {"s1": (4, 0, 0), "s2": (0, 0, 0)}
    assert await numbers_of(inventory, "tea") == {"s1": (4, 0, 0), "s2": (0, 1, 0)}
    await inventory.save_item(Item("mug", policy=PolicyDefaults(low_stock=3)))
    assert await numbers_of(inventory, "mug") == {"s1": (4, 0, 3), "s2": (0, 0, 0)}
    assert [policy.location for policy in await inventory.policies("mug")] == ["s2"]
    await inventory.delete_policy("mug", "s2")
    assert await numbers_of(inventory, "mug") == {"s1": (4, 0, 3), "s2": (0, 1, 3)}
    with pytest.raises(PolicyNotFound):
        await inventory.delete_policy("mug", "s2")
    with pytest.raises(InsufficientStock):
        await inventory.reserve("r", [Line("mug", 7, "s1")])
    await inventory.reserve("r", [Line("mug", 11, "s2")])
    await expect_clean(inventory)


async def test_what_is_not_tracked(inventory: Inventory) -> None:
    """It never runs out, here and where it comes next, until it is tracked; facts say what reads say."""
    await inventory.save_location(STORE)
    await inventory.save_location(OTHER)
    await receive(inventory, "gift", "s1", 1)
    await inventory.save_item(Item("gift", tracked=False))
    assert await receive(inventory, "gift", "s2", 1) == limits.MAX_QUANTITY
    found = await inventory.availability("gift")
    assert [(one.available, one.status) for one in found.locations] == [
        (limits.MAX_QUANTITY, Status.IN_STOCK)
    ] * 2
    held = await inventory.reserve("r", [Line("gift", limits.MAX_QUANTITY, "s1"), Line("gift", 5, "s2")])
    told = await inventory.count(Count("c", "gift", "s1", 0, 2**41))
    assert (told.available, told.uncovered) == (limits.MAX_QUANTITY, [])
    await inventory.release(held.id)
    await inventory.save_item(Item("gift"))
    assert (await inventory.availability("gift")).available == 1
    await expect_clean(inventory)


async def test_a_large_location_is_left_to_the_worker(
    inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever began and did not end: another goes on, and does nothing twice."""
    monkeypatch.setattr(defaults, "SMALL_STOCK", 0)
    monkeypatch.setattr(defaults, "AT_ONCE", 4)
    places = [structs.replace(OTHER, id=f"p{number}") for number in range(40)]
    await inventory.save_location(OTHER)
    await asyncio.gather(*(inventory.save_location(place) for place in places))
    for sku in [f"sku {number}" for number in range(20)]:
        await receive(inventory, sku, "s2", 5)
    # A SKU at so many places is divided.
    await asyncio.gather(*(receive(inventory, "mug", place.id, 5) for place in (OTHER, *places)))
    await inventory.save_location(structs.replace(OTHER, policy=PolicyDefaults(safety_stock=1)))
    assert (await numbers_of(inventory, "sku 0"))["s2"] == (0, 0, 0)
    cut = asyncio.ensure_future(Inheritor(inventory).tick())
    while not any([(await numbers_of(inventory, f"sku {number}"))["s2"][0] for number in range(20)]):
        if cut.done():
            break
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    await Inheritor(inventory).tick()
    for sku in [f"sku {number}" for number in range(20)]:
        assert await numbers_of(inventory, sku) == {"s2": (1, 0, 0)}
    told = await numbers_of(inventory, "mug")
    assert told.pop("s2") == (1, 0, 0)
    assert set(told.values()) == {(0, 0, 0)}
    version = (await inventory.availability("mug")).version
    await Inheritor(inventory).tick()
    assert (await inventory.availability("mug")).version == version
    await expect_clean(inventory)


async def act(what: int, inventory: Inventory, sku: str, place: str, said: PolicyDefaults, step: int) -> None:
    if what == 0:
        await inventory.save_location(structs.replace(OTHER, id=place, policy=said))
    elif what == 1:
        await inventory.save_item(Item(sku, policy=said, tracked=step % 5 > 0))
    else:
        await receive(inventory, sku, place, step + 1)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_happens(inventory: Inventory, seed: int) -> None:
    """Settings, policies and facts in any order, several at a time: in the end each position has what the
    settings say, or what its policy says.
    """
    pick = random.Random(seed)
    skus, places, own = ["mug", "tea", "hat"], ["s1", "s2"], dict[tuple[str, str], tuple[int, int, int]]()
    for place in places:
        await inventory.save_location(structs.replace(OTHER, id=place))
    for step in range(30):
        asked = []
        for _ in range(3):
            said = PolicyDefaults(*(pick.choice([None, 0, 1, 2, 3]) for _ in range(3)))
            sku, place = pick.choice(skus), pick.choice(places)
            asked.append(act(pick.randrange(3), inventory, sku, place, said, step))
        await asyncio.gather(*asked)
        place, sku = pick.choice(places), pick.choice(skus)
        if pick.random() < 0.3:
            numbers = (pick.randrange(3), pick.randrange(3), pick.randrange(3))
            await inventory.save_policy(Policy(sku, place, *numbers))
            own[sku, place] = numbers
        elif own and pick.random() < 0.4:
            gone = pick.choice(sorted(own))
            await inventory.delete_policy(*gone)
            del own[gone]
    await inventory.sweep()
    settings = await inventory.settings.latest()
    for sku in skus:
        for place, numbers in (await numbers_of(inventory, sku)).items():
            said = settings.default_policy(sku, place)
            inherited = said.safety_stock, said.backorder_limit, said.low_stock
            assert numbers == own.get((sku, place), inherited)
    await expect_clean(inventory)
