"""Carts that change and leave their places to the engine: what stays, what is chosen, what is refused."""

import asyncio
from collections import Counter
from random import Random

import pytest

from engine import Buffer, Channel, Inventory, Item, Line, Movement, MovementKind, Pool, Reservation
from engine.audit import audit
from engine.errors import (
    AlreadyCommitted,
    AlreadyReleased,
    IdempotencyMismatch,
    InsufficientStock,
    InvalidRequest,
    PoolNotFound,
    ReservationNotFound,
)
from engine.sourcing_plan import Rules, Strategy, Wanted
from engine.types import Component
from tests.driver import skus_in
from tests.sourcing.conftest import PLACES

A, B, C = (next(skus_in(partition, 4)) for partition in range(3))
NO_RULES = Rules()


@pytest.fixture
async def shop(inventory: Inventory) -> Inventory:
    """The web shop sells from three of the stores."""
    await inventory.save_pool(Pool("near", PLACES[:3]))
    await inventory.save_pool(Pool("far", PLACES[3:]))
    await inventory.save_channel(Channel("web", ("near",)))
    for sku, units in ((A, (2, 3, 4)), (B, (5, 0, 5))):
        for place, quantity in zip(PLACES, units, strict=False):
            if quantity:
                await stock(inventory, sku, place, quantity)
    return inventory


async def stock(inventory: Inventory, sku: str, place: str, units: int) -> None:
    await inventory.record(Movement(f"{sku} to {place}", MovementKind.RECEIVE, sku, place, units))


def held(reservation: Reservation) -> dict[tuple[str, str], int]:
    return {(line.sku, line.location): line.held for line in reservation.lines if line.held}


async def expect_clean(inventory: Inventory) -> None:
    await inventory.baskets.close()
    report = await audit(inventory)
    assert report.is_clean, (report.differences, report.violations, report.notes)


async def test_what_is_there_stays(shop: Inventory) -> None:
    """By priority the rest would be at `a` first; what the cart has at `c` is not carried there."""
    cart = await shop.reserve("k", [Line(A, 3, "c")], channel="web")
    more = await shop.source_lines(cart.id, [Wanted(A, 6), Wanted(B, 1)], rules=NO_RULES)
    assert held(more) == {(A, "c"): 3, (A, "a"): 2, (A, "b"): 1, (B, "a"): 1}
    assert (more.id, more.expires_ms, more.channel) == (cart.id, cart.expires_ms, "web")
    same = await shop.source_lines(cart.id, [Wanted(A, 6), Wanted(B, 1)], rules=NO_RULES)
    assert held(same) == held(more)
    less = await shop.source_lines(cart.id, [Wanted(A, 1)], rules=NO_RULES)
    assert sum(held(less).values()) == 1
    await expect_clean(shop)


async def test_a_place_that_is_named_comes_first(shop: Inventory) -> None:
    """Units that one line wants at a place do not stay for another one."""
    cart = await shop.source("k", [Wanted(A, 2)], rules=Rules(channel="web"))
    assert held(cart) == {(A, "a"): 2}
    changed = await shop.source_lines(
        cart.id, [Wanted(A, 2, "a"), Wanted(A, 1), Wanted(A, 2)], rules=NO_RULES
    )
    assert held(changed) == {(A, "a"): 2, (A, "b"): 3}
    await expect_clean(shop)


async def test_another_pool_and_strategy(shop: Inventory) -> None:
    await stock(shop, A, "d", 9)
    cart = await shop.source("k", [Wanted(A, 1)], rules=Rules(channel="web"))
    far = await shop.source_lines(cart.id, [Wanted(A, 4)], rules=Rules(pool="far"))
    assert held(far) == {(A, "a"): 1, (A, "d"): 3}
    one = await shop.source_lines(cart.id, [Wanted(A, 4)], rules=Rules(strategy=Strategy.SINGLE_LOCATION))
    assert held(one) == {(A, "c"): 4}
    whole = await shop.source_lines(cart.id, [Wanted(A, 3)], rules=Rules(allow_split=False))
    assert list(held(whole).values()) == [3]
    await expect_clean(shop)


async def test_a_refusal_changes_nothing_and_names_the_line(shop: Inventory) -> None:
    other = await shop.reserve("other", [Line(A, 1, "b")])
    cart = await shop.source("k", [Wanted(A, 4), Wanted(B, 2)], rules=Rules(channel="web"))
    with pytest.raises(InsufficientStock) as caught:
        await shop.source_lines(cart.id, [Wanted(B, 10), Wanted(A, 9)], rules=NO_RULES, op_id="more")
    (short,) = caught.value.shortages
    assert (short.line, short.sku, short.location, short.requested, short.available) == (1, A, None, 9, 8)
    with pytest.raises(InsufficientStock) as caught:
        await shop.source_lines(cart.id, [Wanted(A, 5), Wanted(A, 4)], rules=NO_RULES)
    assert [(short.line, short.available) for short in caught.value.shortages][-1] == (1, 8)
    with pytest.raises(InsufficientStock) as caught:
        await shop.source_lines(cart.id, [Wanted(A, 5)], rules=Rules(allow_split=False))
    assert [(short.line, short.available) for short in caught.value.shortages] == [(0, 8)]
    assert held(await shop.reservation(cart.id)) == held(cart)
    await shop.release(other.id)
    done = await shop.source_lines(cart.id, [Wanted(B, 10), Wanted(A, 9)], rules=NO_RULES, op_id="more")
    assert sum(held(done).values()) == 19
    await expect_clean(shop)


async def test_a_repeat_is_answered_as_before(shop: Inventory) -> None:
    """Also when it could not be done any more, when the cart has changed since, and when the pool is gone."""
    cart = await shop.source("k", [Wanted(A, 1)], rules=Rules(channel="web"))
    wanted, rules = [Wanted(A, 9), Wanted(B, 1)], Rules(pool="near")
    done = await shop.source_lines(cart.id, wanted, rules=rules, op_id="all")
    again = await shop.source_lines(cart.id, wanted, rules=rules, op_id="all")
    assert (again.replayed, held(again)) == (True, held(done))
    await shop.source_lines(cart.id, [Wanted(B, 1)], rules=rules, op_id="less")
    await shop.reserve("other", [Line(A, 4, "c")])
    again = await shop.source_lines(cart.id, wanted, rules=rules, op_id="all")
    assert (again.replayed, held(again)) == (True, held(done))
    with pytest.raises(IdempotencyMismatch):
        await shop.source_lines(cart.id, [Wanted(A, 8)], rules=rules, op_id="all")
    with pytest.raises(PoolNotFound):
        await shop.source_lines(cart.id, wanted, rules=Rules(pool="none"), op_id="none")
    await shop.commit(cart.id)
    again = await shop.source_lines(cart.id, wanted, rules=rules, op_id="all")
    assert (again.replayed, held(again)) == (True, held(done))
    await expect_clean(shop)


async def test_who_names_nothing(shop: Inventory) -> None:
    cart = await shop.reserve("k", [Line(A, 1, "a")])
    with pytest.raises(InvalidRequest) as caught:
        await shop.source_lines(cart.id, [Wanted(A, 1, "a"), Wanted(B, 1)], rules=NO_RULES)
    assert caught.value.field == "/lines/1/location"
    with pytest.raises(ReservationNotFound):
        await shop.source_lines(cart.id[:-4] + "AAAA", [Wanted(A, 1)], rules=NO_RULES)


async def test_what_is_over(shop: Inventory) -> None:
    cart = await shop.source("k", [Wanted(A, 1)], rules=Rules(channel="web"))
    await shop.commit(cart.id)
    with pytest.raises(AlreadyCommitted):
        await shop.source_lines(cart.id, [Wanted(A, 2)], rules=NO_RULES)
    gone = await shop.source("g", [Wanted(A, 1)], rules=Rules(channel="web"))
    await shop.release(gone.id)
    with pytest.raises(AlreadyReleased):
        await shop.source_lines(gone.id, [Wanted(A, 2)], rules=NO_RULES, op_id="late")


async def test_a_kit_is_chosen_anew(shop: Inventory) -> None:
    await shop.save_item(Item("set", components=(Component(A, 2), Component(B, 1))))
    cart = await shop.source("k", [Wanted("set", 1)], rules=Rules(channel="web"))
    assert held(cart) == {(A, "a"): 2, (B, "a"): 1}
    more = await shop.source_lines(cart.id, [Wanted("set", 3)], rules=NO_RULES)
    assert held(more) == {(A, "a"): 2, (B, "a"): 1, (A, "c"): 4, (B, "c"): 2}
    with pytest.raises(InsufficientStock):
        await shop.source_lines(cart.id, [Wanted("set", 4)], rules=NO_RULES)
    await expect_clean(shop)


@pytest.mark.parametrize("seed", range(8))
async def test_a_cart_gets_all_that_is_free_to_it(shop: Inventory, seed: int) -> None:
    """What is shown to its owner is what it can have, to the unit; one more is refused."""
    chance = Random(seed)
    await shop.save_channel(Channel("app", ("near", "far"), Buffer(units=chance.randint(0, 2))))
    for place in PLACES[3:]:
        await stock(shop, A, place, chance.randint(1, 5))
    for number in range(10):
        channel, owner = chance.choice(("web", "app")), f"owner {number}"
        rules = Rules(channel=channel)
        try:
            cart = await shop.source(
                f"k{number}", [Wanted(A, chance.randint(1, 3)), Wanted(B, 1)], rules=rules, owner=owner
            )
        except InsufficientStock:
            continue
        most = (await shop.availability_to(owner, A, rules=rules))[0].available
        with pytest.raises(InsufficientStock):
            await shop.source_lines(cart.id, [Wanted(B, 1), Wanted(A, most + 1)], rules=NO_RULES)
        full = await shop.source_lines(cart.id, [Wanted(B, 1), Wanted(A, most)], rules=NO_RULES)
        assert Counter(line.sku for line in full.lines for _ in range(line.held)) == {A: most, B: 1}
        few = [Wanted(A, chance.randint(1, 2)), Wanted(B, chance.randint(1, 2))]
        try:
            await shop.source_lines(cart.id, few, rules=NO_RULES, op_id=f"few {number}")
        except InsufficientStock:
            await shop.release(cart.id)
        await shop.baskets.close()
    await expect_clean(shop)


async def test_carts_that_change_at_once(shop: Inventory) -> None:
    """Each wants three more of nine; whoever is refused finds too little for it when asked again."""
    carts = [await shop.source(f"k{i}", [Wanted(A, 1)], rules=Rules(channel="web")) for i in range(5)]

    async def change(cart: Reservation) -> bool:
        try:
            await shop.source_lines(cart.id, [Wanted(A, 3)], rules=NO_RULES)
        except InsufficientStock:
            return False
        return True

    done = await asyncio.gather(*(change(cart) for cart in carts))
    assert sum(done) == 2
    assert (await shop.availability_by(A, rules=Rules(channel="web")))[0].available == 0
    await expect_clean(shop)
