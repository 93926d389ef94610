"""Promises of what is inbound: who gets what comes, and when."""

import pytest
from msgspec.structs import replace

from engine import (
    Channel,
    Component,
    Inventory,
    Item,
    Movement,
    MovementKind,
    Pool,
    Status,
)
from engine.audit import audit
from engine.errors import InsufficientStock
from engine.sourcing_plan import Rules, Strategy, Wanted
from engine.types import Buffer, Count, LinePromise, Policy, Reservation, Uncovered

SOON, DAY = 1_900_000_000_000, 86_400_000
WAITS = Rules(from_inbound=True)
POOL = Rules(pool="all", from_inbound=True)
THERE = LinePromise(0, None, 0)


async def receive(shop: Inventory, quantity: int, location: str = "a", sku: str = "mug") -> None:
    await shop.record(Movement(f"{sku}{location}{quantity}", MovementKind.RECEIVE, sku, location, quantity))


async def expect(
    shop: Inventory, quantity: int, location: str = "a", *, days: int = 0, sku: str = "mug"
) -> str:
    made = await shop.expect(
        f"{sku}-{location}-{quantity}-{days}",
        sku=sku,
        location=location,
        quantity=quantity,
        expected_ms=SOON + days * DAY,
    )
    return made.id


async def preorder(shop: Inventory, key: str, quantity: int, rules: Rules = WAITS) -> Reservation:
    location = None if rules.pool or rules.channel else "a"
    return await shop.source(key, [Wanted("mug", quantity, location)], rules=rules)


async def waiting(shop: Inventory) -> dict[str, tuple[int, int, int]]:
    """Of each location: available, inbound, promised of that."""
    return {at.location: (at.available, at.inbound, at.preordered) for at in await shop.stock("mug")}


async def promise(shop: Inventory, made: Reservation, location: str = "a") -> LinePromise:
    return (await shop.promises(made.id))["mug", location]


async def test_nothing_beyond_what_is_inbound(inventory: Inventory) -> None:
    """Real units first; to who does not ask for it nothing of it is promised."""
    await receive(inventory, 2)
    await expect(inventory, 10)
    with pytest.raises(InsufficientStock) as caught:
        await preorder(inventory, "k0", 13)
    assert caught.value.shortages[0].available == 12
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "plain", 3, Rules())
    assert (await inventory.plan([Wanted("mug", 12, "a")], rules=WAITS)).can_reserve
    assert not (await inventory.plan([Wanted("mug", 13, "a")], rules=WAITS)).can_reserve
    assert await waiting(inventory) == {"a": (2, 10, 0)}
    first = await preorder(inventory, "k1", 5)
    assert await waiting(inventory) == {"a": (0, 10, 3)}
    assert (await inventory.availability("mug")).locations[0].status is Status.PREORDER
    again = await preorder(inventory, "k1", 5)
    assert (again.id, again.replayed) == (first.id, True)
    await preorder(inventory, "k2", 7)
    assert await waiting(inventory) == {"a": (0, 10, 10)}
    assert (await inventory.availability("mug")).locations[0].status is Status.OUT_OF_STOCK
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "k3", 1)
    assert (await audit(inventory)).is_clean


async def test_what_comes_is_for_the_oldest(inventory: Inventory) -> None:
    """Receipts and what is given back go to those who wait before anybody else, in the order of promises."""
    await receive(inventory, 2)
    soon, late = await expect(inventory, 4), await expect(inventory, 6, days=2)
    first, second = await preorder(inventory, "k1", 4), await preorder(inventory, "k2", 5)
    assert await waiting(inventory) == {"a": (0, 10, 7)}
    assert await promise(inventory, first) == LinePromise(2, SOON, 0)
    assert await promise(inventory, second) == LinePromise(5, SOON + 2 * DAY, 0)
    await inventory.commit(first.id, op_id="commit")
    assert await promise(inventory, first) == LinePromise(2, SOON, 0)
    await inventory.receive_inbound("came", soon, 3)
    assert await waiting(inventory) == {"a": (0, 7, 4)}
    assert [await promise(inventory, one) for one in (first, second)] == [
        THERE,
        LinePromise(4, SOON + 2 * DAY, 0),
    ]
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "plain", 1, Rules())
    await inventory.cancel(first.id, op_id="cancel")
    assert await waiting(inventory) == {"a": (0, 7, 0)}
    assert [await promise(inventory, one) for one in (first, second)] == [THERE, THERE]
    await inventory.release(second.id, op_id="release")
    assert await waiting(inventory) == {"a": (5, 7, 0)}
    await inventory.cancel_inbound(late)
    assert (await audit(inventory)).is_clean


async def test_a_supply_that_is_cut(inventory: Inventory) -> None:
    """Promises that nothing covers are shown, the newest first; new goods go to them before they are sold."""
    order = await expect(inventory, 10)
    first, second = await preorder(inventory, "k1", 4), await preorder(inventory, "k2", 5)
    assert await inventory.uncovered("mug", "a") == []
    await inventory.receive_inbound("came", order, 2, close=True)
    assert await waiting(inventory) == {"a": (0, 0, 0)}
    assert await inventory.uncovered("mug", "a") == [Uncovered(second.id, 5), Uncovered(first.id, 2)]
    assert await promise(inventory, first) == LinePromise(2, None, 2)
    again = await expect(inventory, 8, days=1)
    assert await promise(inventory, second) == LinePromise(5, SOON + DAY, 0)
    with pytest.raises(InsufficientStock) as caught:
        await preorder(inventory, "k3", 2)
    assert caught.value.shortages[0].available == 1, "seven units are owed before"
    third = await preorder(inventory, "k3", 1)
    assert await waiting(inventory) == {"a": (0, 8, 1)}
    await inventory.receive_inbound("more", again, 8)
    assert await waiting(inventory) == {"a": (0, 0, 0)}
    assert [await promise(inventory, one) for one in (first, second, third)] == [THERE] * 3
    assert await inventory.uncovered("mug", "a") == []
    assert (await audit(inventory)).is_clean


async def test_other_facts_and_settings(inventory: Inventory) -> None:
    """A count that finds more, a policy that keeps back less, a fence that goes: all is for who waits."""
    await receive(inventory, 6)
    await inventory.save_pool(Pool("all", ("a",)))
    await inventory.save_channel(Channel("web", ("all",)))
    await inventory.save_policy(Policy("mug", "a", safety_stock=2))
    await inventory.save_fence("web", "mug", "a", 3)
    await expect(inventory, 20)
    await preorder(inventory, "k1", 9)
    assert await waiting(inventory) == {"a": (0, 20, 8)}
    await inventory.count(Count("count", "mug", "a", 7, SOON))
    assert await waiting(inventory) == {"a": (0, 20, 7)}
    await inventory.save_policy(Policy("mug", "a", safety_stock=0))
    assert await waiting(inventory) == {"a": (0, 20, 5)}
    await inventory.delete_fence("web", "mug", "a")
    assert await waiting(inventory) == {"a": (0, 20, 2)}
    await inventory.save_policy(Policy("mug", "a", backorder_limit=1))
    assert await waiting(inventory) == {"a": (-1, 20, 1)}
    assert (await audit(inventory)).is_clean


async def test_pools(inventory: Inventory) -> None:
    """What is there is taken everywhere before what is inbound anywhere, and moved to where it is needed."""
    await receive(inventory, 1, "a")
    await receive(inventory, 2, "b")
    await expect(inventory, 3, "a")
    await expect(inventory, 5, "b")
    await inventory.save_pool(Pool("all", ("a", "b")))
    made = await preorder(inventory, "k1", 7, POOL)
    assert {line.location: line.quantity for line in made.lines} == {"a": 4, "b": 3}
    assert await waiting(inventory) == {"a": (0, 3, 3), "b": (0, 5, 1)}
    one = Rules(pool="all", from_inbound=True, strategy=Strategy.SINGLE_LOCATION)
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "k2", 5, one)
    assert [line.location for line in (await preorder(inventory, "k3", 4, one)).lines] == ["b"]
    some = Rules(pool="all", from_inbound=True, allow_partial=True)
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "k4", 1, some)
    assert (await audit(inventory)).is_clean


async def test_what_waits_does_not_make_way(inventory: Inventory) -> None:
    """Units that float away from a place where some wait would be for those."""
    await receive(inventory, 2, "a")
    await expect(inventory, 3, "a")
    await inventory.save_pool(Pool("all", ("a", "b")))
    await preorder(inventory, "floats", 3, POOL)
    await receive(inventory, 2, "b")
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "named", 1, Rules())
    assert await waiting(inventory) == {"a": (0, 3, 1), "b": (2, 0, 0)}
    assert (await audit(inventory)).is_clean


async def test_channels(inventory: Inventory) -> None:
    """A buffer and a fence are not eaten up by promises of what is inbound; a fence is used before."""
    await receive(inventory, 6)
    await expect(inventory, 9)
    await inventory.save_pool(Pool("all", ("a",)))
    await inventory.save_channel(Channel("web", ("all",), Buffer(units=2)))
    web = Rules(channel="web", from_inbound=True)
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "k1", 5, web)
    await preorder(inventory, "plain", 6, Rules())
    await preorder(inventory, "k2", 3, web)
    assert await waiting(inventory) == {"a": (0, 9, 3)}
    await inventory.save_channel(Channel("app", ("all",)))
    await inventory.save_fence("app", "mug", "a", 2)
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "k3", 9, Rules(channel="app", from_inbound=True))
    assert (await audit(inventory)).is_clean


async def test_kits_and_policies(inventory: Inventory) -> None:
    """A kit waits for the component that is missing; what may be back-ordered is promised first."""
    await receive(inventory, 2, sku="mug")
    await inventory.save_policy(Policy("mug", "a", backorder_limit=1))
    await inventory.save_item(Item("set", components=(Component(sku="mug", quantity=2),)))
    await expect(inventory, 4)
    made = await inventory.source("k", [Wanted("set", 3, "a")], rules=WAITS)
    assert await waiting(inventory) == {"a": (-1, 4, 3)}
    assert await promise(inventory, made) == LinePromise(4, SOON, 0)
    assert (await audit(inventory)).is_clean


async def test_lapsed_holds_wait_no_more(inventory: Inventory) -> None:
    """Their place goes to the next; who comes late is held to what is there."""
    await expect(inventory, 3)
    first = await inventory.source("k1", [Wanted("mug", 3, "a")], rules=WAITS, ttl_seconds=1)
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "k2", 1)
    while (await inventory.reservation(first.id)).state != "expired":
        await inventory.sweep()
    second = await preorder(inventory, "k3", 3)
    assert await waiting(inventory) == {"a": (0, 3, 3)}
    assert await promise(inventory, second) == LinePromise(3, SOON, 0)
    assert (await audit(inventory)).is_clean


async def test_baskets_over_partitions(inventory: Inventory) -> None:
    """They wait as those of one partition do, in each of theirs, and only for what is not there."""
    skus = [f"sku-{number}" for number in range(8)]
    for sku in skus:
        await expect(inventory, 2, sku=sku)
    await inventory.record(Movement("in", MovementKind.RECEIVE, skus[0], "a", 1))
    lines = [Wanted(sku, 2, "a") for sku in skus]
    too_many = [*lines[:-1], Wanted(skus[-1], 3, "a")]
    assert not (await inventory.plan(too_many, rules=WAITS)).can_reserve
    with pytest.raises(InsufficientStock) as refused:
        await inventory.source("n", too_many, rules=WAITS)
    assert [(one.sku, one.requested, one.available) for one in refused.value.shortages] == [(skus[-1], 3, 2)]
    assert (await inventory.plan(lines, rules=WAITS)).can_reserve
    with pytest.raises(InsufficientStock):
        await inventory.source("n", lines, rules=replace(WAITS, from_inbound=False))
    made = await inventory.source("k", lines, rules=WAITS)
    assert (await inventory.source("k", lines, rules=WAITS)).replayed
    assert [line.held for line in made.lines] == [2] * len(skus)
    await inventory.baskets.close()
    found = [(await inventory.stock(sku))[0].preordered for sku in skus]
    assert found == [1, *([2] * (len(skus) - 1))]
    assert (await audit(inventory)).is_clean
    await inventory.release(made.id)
    await inventory.baskets.close()
    for line in lines:
        await inventory.source(line.sku, [line], rules=WAITS)
    await inventory.release((await inventory.source(skus[0], lines[:1], rules=WAITS)).id)
    await inventory.record(Movement("out", MovementKind.SALE, skus[0], "a", 1))
    await inventory.source("again", lines[:1], rules=WAITS)
    assert [(await inventory.stock(sku))[0].preordered for sku in skus] == [2] * len(skus)
    assert (await audit(inventory)).is_clean
