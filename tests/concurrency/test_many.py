"""Calls that carry many operations do what as many single calls would have done."""

import asyncio

import pytest

from engine import Line, Movement, MovementKind, MovementResult, Reservation, ReserveRequest, State
from engine.audit import audit
from engine.errors import (
    AlreadyCommitted,
    IdempotencyMismatch,
    InsufficientStock,
    InvalidRequest,
    LocationNotFound,
    ReservationNotFound,
)
from tests.driver import Shop

SKUS = [f"sku-{number}" for number in range(8)]


async def stock_up(shop: Shop, units: int) -> None:
    for sku in SKUS:
        fact = Movement(f"receive {sku}", MovementKind.RECEIVE, sku, "s1", units)
        await shop.inventory.record(fact)


def ask(key: str, sku: str, units: int = 1) -> ReserveRequest:
    return ReserveRequest(key, [Line(sku, units, "s1")])


def kinds(found: list[Reservation | Exception]) -> list[object]:
    return [one.state if isinstance(one, Reservation) else type(one) for one in found]


async def test_each_is_decided_by_itself_and_in_order(shop: Shop) -> None:
    """Holds, refusals, repeats, mismatches and mistakes stand side by side. Of several partitions each has an
    order of its own.
    """
    await stock_up(shop, 2)
    found = await shop.inventory.reserve_many(
        [
            ask("a", "sku-0"),
            ask("b", "sku-0", 2),
            ask("a", "sku-0"),
            ask("a", "sku-0", 2),
            ask("c", "sku-1", 0),
            ask("d", "sku-1", 2),
            ReserveRequest("e", [Line("sku-0", 1, "s1")], ttl_seconds=0),
        ]
    )
    assert kinds(found) == [
        State.HELD,
        InsufficientStock,
        State.HELD,
        IdempotencyMismatch,
        InvalidRequest,
        State.HELD,
        InvalidRequest,
    ]
    first, again = found[0], found[2]
    assert isinstance(first, Reservation)
    assert isinstance(again, Reservation)
    assert (again.id, again.version, again.replayed) == (first.id, first.version, True)


async def test_holds_are_resolved_together(shop_of_any_size: Shop) -> None:
    """Commits and releases of many, with strangers among them; those that the process knows nothing of as
    well as those that it made.
    """
    shop = shop_of_any_size
    await stock_up(shop, 100)
    made = await shop.inventory.reserve_many([ask(f"k{n}", SKUS[n % 8]) for n in range(200)])
    ids = [one.id for one in made if isinstance(one, Reservation)]
    assert len(ids) == 200
    other = await shop.another_inventory()
    committed = await other.commit_many([*ids[:100], "r_nobody", ids[0]])
    assert kinds(committed) == [*[State.COMMITTED] * 100, ReservationNotFound, State.COMMITTED]
    assert [one.replayed for one in committed if isinstance(one, Reservation)] == [*[False] * 100, True]
    released = await shop.inventory.release_many([*ids[100:], ids[0]])
    assert kinds(released) == [*[State.RELEASED] * 100, AlreadyCommitted]
    assert all(
        (line.sku, line.quantity, line.released) == (SKUS[n % 8], 1, 1)
        for n, one in enumerate(released[:100], 100)
        for line in one.lines  # type: ignore[union-attr] - all were released
    )
    gone = await other.commit_many(ids[:1], fulfil=True)
    assert kinds(gone) == [AlreadyCommitted]
    await other.close()
    report = await audit(shop.inventory)
    assert not report.violations


async def test_many_callers_with_many_each_never_oversell(shop_of_any_size: Shop) -> None:
    """Eight callers ask for 800 of 400 units, a quarter of it twice: 400 are held, each key once."""
    shop = shop_of_any_size
    await stock_up(shop, 50)
    groups = [[ask(f"{caller}-{n}", SKUS[n % 8]) for n in range(100)] for caller in range(8)]
    sent = [*groups, *groups[:2]]
    found = await asyncio.gather(*(shop.inventory.reserve_many(group) for group in sent))
    held = {one.id for group in found for one in group if isinstance(one, Reservation)}
    assert len(held) == 400
    for sku in SKUS:
        (position,) = await shop.inventory.stock(sku)
        assert (position.held, position.available) == (50, 0)


async def test_facts_of_one_sku_keep_their_order(shop_of_any_size: Shop) -> None:
    """Wherever their ids are kept; one that is refused leaves the others as they are."""
    shop = shop_of_any_size
    facts = [Movement(f"m{n}", MovementKind.ADJUST, SKUS[n % 2], "s1", 1) for n in range(600)]
    facts[100] = Movement("m100", MovementKind.ADJUST, SKUS[0], "nowhere", 1)
    facts[200] = Movement("m0", MovementKind.ADJUST, SKUS[0], "s1", 7)
    found = await shop.inventory.record_many(facts)
    refused = {n: type(one) for n, one in enumerate(found) if isinstance(one, Exception)}
    assert refused == {100: LocationNotFound, 200: IdempotencyMismatch}
    for first, last in ((0, 298), (1, 300)):
        told = [one.on_hand for one in found[first::2] if isinstance(one, MovementResult)]
        assert told == list(range(1, last + 1))
    again = await shop.inventory.record_many(facts)
    assert all(one.replayed for one in again if isinstance(one, MovementResult))
    assert (await audit(shop.inventory)).is_clean


async def test_nothing_asked_is_nothing_done(shop: Shop) -> None:
    """No requests, no call."""
    assert await shop.inventory.reserve_many([]) == []
    assert await shop.inventory.record_many([]) == []
    assert await shop.inventory.commit_many([]) == []
    assert await shop.inventory.release_many([]) == []


@pytest.mark.parametrize("count", [1, 127, 128, 129, 1000])
async def test_any_number_fits(shop: Shop, count: int) -> None:
    """However many calls they take, every request has its own answer."""
    await stock_up(shop, 1000)
    made = await shop.inventory.reserve_many([ask(f"k{n}", SKUS[n % 8], 1 + n % 3) for n in range(count)])
    assert [(one.lines[0].sku, one.lines[0].quantity) for one in made if isinstance(one, Reservation)] == [
        (SKUS[n % 8], 1 + n % 3) for n in range(count)
    ]
