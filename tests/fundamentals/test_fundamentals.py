"""Ten things that are always true. Read these first."""

import asyncio

import pytest

from engine import Line, Movement, MovementKind
from engine.errors import (
    AlreadyCommitted,
    AlreadyReleased,
    IdempotencyMismatch,
    InsufficientStock,
    ReservationExpired,
)
from engine.types import Reservation
from tests.driver import Shop

pytestmark = pytest.mark.every_topology


async def receive(shop: Shop, units: int, sku: str = "mug") -> None:
    await shop.inventory.record(Movement(f"receive {sku}", MovementKind.RECEIVE, sku, "s1", units))


async def hold(shop: Shop, key: str, units: int, *, ttl_seconds: int = 900) -> Reservation:
    return await shop.inventory.reserve(key, [Line("mug", units, "s1")], ttl_seconds=ttl_seconds)


async def available(shop: Shop) -> int:
    return (await shop.inventory.availability("mug")).available


async def test_a_hold_takes_units_out_of_sale(shop: Shop) -> None:
    """What is held for one buyer is not offered to the next."""
    await receive(shop, 5)
    await hold(shop, "cart 1", 2)
    assert await available(shop) == 3


async def test_the_last_unit_is_sold_once(shop: Shop) -> None:
    """The second of two buyers is refused, and told what is left."""
    await receive(shop, 1)
    await hold(shop, "cart 1", 1)
    with pytest.raises(InsufficientStock) as refused:
        await hold(shop, "cart 2", 1)
    (short,) = refused.value.shortages
    assert (short.sku, short.requested, short.available) == ("mug", 1, 0)


async def test_a_basket_is_held_whole_or_not_at_all(shop: Shop) -> None:
    """One short line leaves the others untouched."""
    await receive(shop, 5)
    await receive(shop, 1, sku="pot")
    with pytest.raises(InsufficientStock):
        await shop.inventory.reserve("cart 1", [Line("mug", 2, "s1"), Line("pot", 2, "s1")])
    assert await available(shop) == 5


async def test_sending_twice_is_sending_once(shop: Shop) -> None:
    """The same request under the same id gets the same answer and no second effect."""
    await receive(shop, 5)
    first = await hold(shop, "cart 1", 2)
    again = await hold(shop, "cart 1", 2)
    assert again.replayed
    assert (again.id, again.version, again.expires_ms) == (first.id, first.version, first.expires_ms)
    assert await available(shop) == 3


async def test_an_id_stands_for_one_request(shop: Shop) -> None:
    """Another request under a used id is refused without effect."""
    await receive(shop, 5)
    await hold(shop, "cart 1", 2)
    with pytest.raises(IdempotencyMismatch):
        await hold(shop, "cart 1", 3)
    assert await available(shop) == 3


async def test_goods_leave_the_books_when_they_leave_the_shop(shop: Shop) -> None:
    """A hold and a commit leave on_hand alone; fulfilling lowers it."""
    await receive(shop, 5)
    held = await hold(shop, "cart 1", 2)
    await shop.inventory.commit(held.id)
    (ordered,) = await shop.inventory.stock("mug")
    assert (ordered.on_hand, ordered.held, ordered.allocated) == (5, 0, 2)
    await shop.inventory.fulfil(held.id)
    (sold,) = await shop.inventory.stock("mug")
    assert (sold.on_hand, sold.held, sold.allocated, sold.available) == (3, 0, 0, 3)


async def test_a_hold_ends_by_itself(shop: Shop) -> None:
    """Once its time is up, its units are offered again, and it cannot be committed any more."""
    await receive(shop, 5)
    held = await hold(shop, "cart 1", 5, ttl_seconds=60)
    shop.wait(60)
    assert await available(shop) == 5
    with pytest.raises(ReservationExpired):
        await shop.inventory.commit(held.id)


async def test_a_late_payment_takes_the_units_anew_if_they_are_there(shop: Shop) -> None:
    """A lapsed hold can be retaken as long as nobody else has its units."""
    await receive(shop, 5)
    first = await hold(shop, "cart 1", 3, ttl_seconds=60)
    second = await hold(shop, "cart 2", 2, ttl_seconds=60)
    shop.wait(60)
    await shop.inventory.commit(first.id, if_expired="retake")
    await hold(shop, "cart 3", 1)
    with pytest.raises(InsufficientStock):
        await shop.inventory.commit(second.id, if_expired="retake")


async def test_a_promise_is_resolved_once(shop: Shop) -> None:
    """What is committed is not released, and what is released is not committed."""
    await receive(shop, 5)
    kept, dropped = await asyncio.gather(hold(shop, "cart 1", 1), hold(shop, "cart 2", 1))
    await shop.inventory.commit(kept.id)
    await shop.inventory.release(dropped.id)
    with pytest.raises(AlreadyCommitted):
        await shop.inventory.release(kept.id)
    with pytest.raises(AlreadyReleased):
        await shop.inventory.commit(dropped.id)


async def test_what_has_happened_is_recorded_and_names_whom_it_hurts(shop: Shop) -> None:
    """A sale at the till is never refused; the promises it breaks are named, the newest first."""
    await receive(shop, 5)
    first, second = await hold(shop, "cart 1", 2), await hold(shop, "cart 2", 3)
    sold = await shop.inventory.record(Movement("till 1", MovementKind.SALE, "mug", "s1", 4))
    assert (sold.on_hand, sold.available) == (1, 0)
    broken = [(promise.reservation, promise.quantity) for promise in sold.uncovered]
    assert broken == [(second.id, 3), (first.id, 1)]
