"""Units that go elsewhere, carts that change, orders that are picked: what callers get."""

import asyncio
import random

import pytest

from engine import Count, Inventory, Line, Movement, MovementKind, Reservation
from engine.audit import audit
from engine.errors import (
    AlreadyCommitted,
    AlreadyFulfilled,
    AlreadyReleased,
    BincardError,
    ExceedsOpenQuantity,
    IdempotencyMismatch,
    InsufficientStock,
    InvalidRequest,
    LocationNotFound,
    NotCommitted,
    NotStocked,
    ReservationNotFound,
    SkuNotFound,
)
from engine.pickup_queue import PickupState
from engine.types import Move
from tests.driver import LOCATIONS, Shop

S1, S2, S7 = LOCATIONS


async def stock(shop: Shop, sku: str, **units: int) -> None:
    for place, quantity in units.items():
        await shop.inventory.record(Movement(f"{sku} to {place}", MovementKind.RECEIVE, sku, place, quantity))


async def free(shop: Shop, sku: str) -> dict[str, int]:
    return {p.location: p.available for p in (await shop.inventory.availability(sku)).locations}


def shown(reservation: Reservation) -> list[tuple[str, str, int, int, int, int, int]]:
    """SKU, location, quantity, held, committed, fulfilled, released of each line."""
    return [
        (line.sku, line.location, line.quantity, line.held, line.committed, line.fulfilled, line.released)
        for line in reservation.lines
    ]


async def expect_clean(inventory: Inventory) -> None:
    report = await audit(inventory)
    assert report.is_clean, [*report.differences, *report.violations, *report.notes]


async def test_held_units_go_elsewhere(shop: Shop) -> None:
    await stock(shop, "A", s1=5, s2=3)
    held = await shop.inventory.reserve("k", [Line("A", 4, S1)], owner="cart")
    moved = await shop.inventory.move(held.id, [Move("A", S1, S2, 3)], op_id="m")
    assert shown(moved) == [("A", S1, 1, 1, 0, 0, 0), ("A", S2, 3, 3, 0, 0, 0)]
    assert (moved.state, moved.owner, moved.expires_ms) == ("held", "cart", held.expires_ms)
    assert await free(shop, "A") == {S1: 4, S2: 0}
    assert (await shop.inventory.reservation(held.id)).lines == moved.lines
    await expect_clean(shop.inventory)


async def test_committed_units_go_first_and_stay_committed(shop: Shop) -> None:
    await stock(shop, "A", s1=5, s2=5)
    held = await shop.inventory.reserve("k", [Line("A", 5, S1)])
    await shop.inventory.commit(held.id, lines=[Line("A", 3, S1)], remainder="keep", op_id="c")
    moved = await shop.inventory.move(held.id, [Move("A", S1, S2, 4)], op_id="m")
    assert shown(moved) == [("A", S1, 1, 1, 0, 0, 0), ("A", S2, 4, 1, 3, 0, 0)]
    done = await shop.inventory.fulfil(held.id, lines=[Line("A", 3, S2)], op_id="f")
    assert done.lines[1].fulfilled == 3
    assert await free(shop, "A") == {S1: 4, S2: 1}
    await expect_clean(shop.inventory)


@pytest.mark.parametrize("back", [2, 3])
async def test_held_units_do_not_come_where_committed_ones_leave(shop: Shop, back: int) -> None:
    """To a part of a basket that would look like a commit that is taken back. One after the other goes."""
    await stock(shop, "A", s1=5, s2=5)
    await stock(shop, "B", s1=5)
    held = await shop.inventory.reserve("k", [Line("B", 1, S1), Line("A", 2, S1), Line("A", 3, S2)])
    await shop.inventory.commit(held.id, lines=[Line("A", 2, S1)], remainder="keep", op_id="c")
    there, back_again = Move("A", S1, S2, 2), Move("A", S2, S1, back)
    with pytest.raises(InvalidRequest) as refused:
        await shop.inventory.move(held.id, [there, back_again], op_id="m")
    assert refused.value.field == "/lines/1/to"
    moved = await shop.inventory.move(held.id, [there], op_id="m")
    assert [(line.sku, line.location, line.held, line.committed) for line in moved.lines] == [
        ("B", S1, 1, 0),
        ("A", S2, 3, 2),
    ]
    await expect_clean(shop.inventory)


async def test_units_that_were_given_back_are_held_again(shop: Shop) -> None:
    """By the lines that the cart had before, in all of its partitions."""
    await stock(shop, "A", s1=5)
    await stock(shop, "B", s1=5)
    held = await shop.inventory.reserve("k", [Line("A", 2, S1), Line("B", 5, S1)])
    await shop.inventory.release(held.id, lines=[Line("B", 2, S1)], op_id="r")
    async with asyncio.timeout(20):
        again = await shop.inventory.replace_lines(held.id, [Line("A", 2, S1), Line("B", 5, S1)], op_id="l")
    assert [(line.sku, line.held, line.released) for line in again.lines] == [("A", 2, 0), ("B", 5, 0)]
    await shop.inventory.baskets.close()
    assert await free(shop, "B") == {S1: 0}
    await expect_clean(shop.inventory)


async def test_a_move_is_made_whole_or_not_at_all(shop: Shop) -> None:
    await stock(shop, "A", s1=5, s2=1)
    held = await shop.inventory.reserve("k", [Line("A", 4, S1)])
    with pytest.raises(InsufficientStock) as refused:
        await shop.inventory.move(held.id, [Move("A", S1, S2, 2)], op_id="m")
    (short,) = refused.value.shortages
    assert (short.line, short.location, short.requested, short.available) == (0, S2, 2, 1)
    with pytest.raises(NotStocked):
        await shop.inventory.move(held.id, [Move("A", S1, S7, 1)], op_id="m2")
    with pytest.raises(LocationNotFound):
        await shop.inventory.move(held.id, [Move("A", S1, "nowhere", 1)], op_id="m3")
    with pytest.raises(ExceedsOpenQuantity) as excess:
        await shop.inventory.move(held.id, [Move("A", S1, S2, 3), Move("A", S1, S2, 2)], op_id="m4")
    assert [(one.requested, one.open) for one in excess.value.excess] == [(5, 4)]
    with pytest.raises(InvalidRequest, match="/lines/0"):
        await shop.inventory.move(held.id, [Move("A", S2, S1, 1)], op_id="m5")
    assert await shop.inventory.reservation(held.id) == held
    await expect_clean(shop.inventory)


async def test_units_that_change_places(shop: Shop) -> None:
    """All moves of a request are made at once, each from where the units were."""
    await stock(shop, "A", s1=2, s2=3)
    held = await shop.inventory.reserve("k", [Line("A", 2, S1), Line("A", 3, S2)])
    moved = await shop.inventory.move(held.id, [Move("A", S1, S2, 2), Move("A", S2, S1, 2)], op_id="m")
    assert shown(moved) == [("A", S1, 2, 2, 0, 0, 0), ("A", S2, 3, 3, 0, 0, 0)]
    await expect_clean(shop.inventory)


async def test_a_cart_that_changes(shop: Shop) -> None:
    """What it has counts for it; what is no longer named is given back."""
    await stock(shop, "A", s1=5)
    held = await shop.inventory.reserve("k", [Line("A", 3, S1)], ttl_seconds=50, metadata={"a": 1})
    more = await shop.inventory.replace_lines(held.id, [Line("A", 2, S1), Line("A", 3, S1)])
    assert shown(more) == [("A", S1, 2, 2, 0, 0, 0), ("A", S1, 3, 3, 0, 0, 0)]
    assert (more.expires_ms, more.metadata) == (held.expires_ms, {"a": 1})
    with pytest.raises(InsufficientStock) as refused:
        await shop.inventory.replace_lines(held.id, [Line("A", 6, S1)])
    assert [(one.requested, one.available) for one in refused.value.shortages] == [(6, 5)]
    with pytest.raises(SkuNotFound):
        await shop.inventory.replace_lines(held.id, [Line("A", 1, S1), Line("A?", 1, S1)])
    less = await shop.inventory.replace_lines(held.id, [Line("A", 1, S1)])
    assert shown(less) == [("A", S1, 1, 1, 0, 0, 0)]
    assert await free(shop, "A") == {S1: 4}
    await expect_clean(shop.inventory)


async def test_lines_of_other_skus(shop: Shop) -> None:
    """Wherever they lie; and where they come back to."""
    await stock(shop, "A", s1=5)
    await stock(shop, "B", s1=5)
    held = await shop.inventory.reserve("k", [Line("A", 3, S1)], ttl_seconds=50)
    wanted = [Line("B", 2, S1), Line("A", 1, S1)]
    other = await shop.inventory.replace_lines(held.id, wanted, op_id="p")
    assert [line.sku for line in other.lines] == ["B", "A"]
    assert other.expires_ms == held.expires_ms
    again = await shop.inventory.replace_lines(held.id, wanted, op_id="p")
    assert (again.replayed, again.lines, again.version) == (True, other.lines, other.version)
    with pytest.raises(InsufficientStock) as refused:
        await shop.inventory.replace_lines(held.id, [Line("A", 2, S1), Line("B", 6, S1), Line("A", 5, S1)])
    assert [(one.line, one.requested, one.available) for one in refused.value.shortages] == [
        (0, 7, 5),
        (1, 6, 5),
        (2, 7, 5),
    ]
    assert (await free(shop, "A"), await free(shop, "B")) == ({S1: 4}, {S1: 3})
    first = await shop.inventory.reserve("k", [Line("A", 3, S1)], ttl_seconds=50)
    assert (first.replayed, first.lines) == (True, held.lines)
    only = await shop.inventory.replace_lines(held.id, [Line("B", 2, S1)])
    assert await free(shop, "A") == {S1: 5}
    back = await shop.inventory.replace_lines(only.id, [Line("A", 4, S1)])
    assert (await free(shop, "A"), await free(shop, "B")) == ({S1: 1}, {S1: 5})
    assert (await shop.inventory.commit(back.id)).lines[0].committed == 4
    assert (await shop.inventory.fulfil(back.id)).lines[0].fulfilled == 4
    await shop.inventory.baskets.close()
    assert await free(shop, "A") == {S1: 1}
    await expect_clean(shop.inventory)


async def test_units_of_a_basket_that_move(shop: Shop) -> None:
    """Of several SKUs at once, held ones and committed ones; all or none."""
    for sku in ("A", "B"):
        await stock(shop, sku, s1=4, s2=3)
    held = await shop.inventory.reserve("k", [Line("A", 4, S1), Line("B", 4, S1)])
    await shop.inventory.commit(held.id, lines=[Line("A", 2, S1)], remainder="keep", op_id="c")
    with pytest.raises(InsufficientStock) as refused:
        await shop.inventory.move(held.id, [Move("A", S1, S2, 3), Move("B", S1, S2, 4)], op_id="m")
    assert [(one.sku, one.requested, one.available) for one in refused.value.shortages] == [("B", 4, 3)]
    assert (await free(shop, "A"), await free(shop, "B")) == ({S1: 0, S2: 3}, {S1: 0, S2: 3})
    moved = await shop.inventory.move(held.id, [Move("A", S1, S2, 3), Move("B", S1, S2, 1)], op_id="n")
    assert shown(moved) == [
        ("A", S1, 1, 1, 0, 0, 0),
        ("A", S2, 3, 1, 2, 0, 0),
        ("B", S1, 3, 3, 0, 0, 0),
        ("B", S2, 1, 1, 0, 0, 0),
    ]
    assert (await free(shop, "A"), await free(shop, "B")) == ({S1: 3, S2: 0}, {S1: 1, S2: 2})
    await expect_clean(shop.inventory)


async def test_two_change_one_basket(shop: Shop) -> None:
    """One after the other; the last one's lines are the basket's, and nothing else is held."""
    for sku in ("A", "B", "C", "D"):
        await stock(shop, sku, s1=4)
    held = await shop.inventory.reserve("k", [Line("A", 2, S1), Line("B", 2, S1)])
    carts = [
        [Line("A", 3, S1), Line("C", 4, S1)],
        [Line("B", 4, S1), Line("D", 1, S1)],
        [Line("C", 1, S1), Line("D", 4, S1), Line("A", 4, S1)],
    ]
    changed = await asyncio.gather(*(shop.inventory.replace_lines(held.id, cart) for cart in carts))
    last = max(changed, key=lambda one: int(one.version.partition(".")[2]))
    await shop.inventory.baskets.close()
    assert await shop.inventory.reservation(held.id) == last
    units = {line.sku: line.held for line in last.lines}
    for sku in ("A", "B", "C", "D"):
        assert await free(shop, sku) == {S1: 4 - units.get(sku, 0)}
    await expect_clean(shop.inventory)


async def test_lines_of_what_is_no_cart(shop: Shop) -> None:
    await stock(shop, "A", s1=9)
    held = await shop.inventory.reserve("k", [Line("A", 3, S1)])
    await shop.inventory.commit(held.id, lines=[Line("A", 1, S1)], remainder="keep", op_id="c")
    with pytest.raises(AlreadyCommitted):
        await shop.inventory.replace_lines(held.id, [Line("A", 1, S1)])
    sold = await shop.inventory.reserve("k2", [Line("A", 3, S1)])
    await shop.inventory.commit(sold.id, lines=[Line("A", 1, S1)], remainder="keep", fulfil=True, op_id="c2")
    with pytest.raises(AlreadyFulfilled):
        await shop.inventory.replace_lines(sold.id, [Line("A", 1, S1)])
    gone = await shop.inventory.reserve("k3", [Line("A", 1, S1)])
    await shop.inventory.release(gone.id)
    with pytest.raises(AlreadyReleased):
        await shop.inventory.replace_lines(gone.id, [Line("A", 1, S1)])
    with pytest.raises(ReservationNotFound):
        await shop.inventory.replace_lines(shop.id_of("never", "A"), [Line("A", 1, S1)])


async def test_every_repeat_answers_as_then(shop: Shop) -> None:
    """Reserve, a partial step, a move, another move, a step on the new lines: each sent again at the end."""
    await stock(shop, "A", s1=9, s2=9)
    inventory = shop.inventory
    first = await inventory.reserve("k", [Line("A", 4, S1), Line("A", 2, S1)])
    some = [Line("A", 1, S1)]
    released = await inventory.release(first.id, lines=some, op_id="r")
    moved = await inventory.move(first.id, [Move("A", S1, S2, 5)], op_id="m")
    back = await inventory.move(first.id, [Move("A", S2, S1, 1)], op_id="b")
    part = await inventory.commit(first.id, lines=[Line("A", 2, S2)], remainder="keep", op_id="c")
    away = await inventory.move(first.id, [Move("A", S2, S1, 4)], op_id="a")
    assert [line.location for line in away.lines] == [S1]
    other = await shop.another_inventory()
    try:
        for books in (inventory, other):
            again = [
                await books.reserve("k", [Line("A", 4, S1), Line("A", 2, S1)]),
                await books.release(first.id, lines=some, op_id="r"),
                await books.move(first.id, [Move("A", S1, S2, 5)], op_id="m"),
                await books.move(first.id, [Move("A", S2, S1, 1)], op_id="b"),
                await books.commit(first.id, lines=[Line("A", 2, S2)], remainder="keep", op_id="c"),
                await books.move(first.id, [Move("A", S2, S1, 4)], op_id="a"),
            ]
            assert all(one.replayed for one in again)
            then = [first, released, moved, back, part, away]
            assert [(one.version, shown(one)) for one in again] == [(one.version, shown(one)) for one in then]
        with pytest.raises(IdempotencyMismatch):
            await other.move(first.id, [Move("A", S1, S2, 1)], op_id="m")
        with pytest.raises(IdempotencyMismatch):
            await other.release(first.id, lines=[Line("A", 2, S2)], op_id="r")
        with pytest.raises(InvalidRequest):
            await other.release(first.id, lines=[Line("A", 2, S2)], op_id="new")
    finally:
        await other.close()
    await expect_clean(inventory)


async def test_who_knows_old_lines_works_on_the_new(shop: Shop) -> None:
    """A process that remembers a hold as it was is told, or asks again."""
    await stock(shop, "A", s1=9, s2=9)
    held = await shop.inventory.reserve("k", [Line("A", 4, S1)])
    other = await shop.another_inventory()
    try:
        await other.move(held.id, [Move("A", S1, S2, 3)], op_id="m")
        part = await shop.inventory.commit(held.id, lines=[Line("A", 2, S2)], remainder="keep", op_id="c")
        assert shown(part) == [("A", S1, 1, 1, 0, 0, 0), ("A", S2, 3, 1, 2, 0, 0)]
        await other.move(held.id, [Move("A", S1, S2, 1)], op_id="m2")
        whole = await shop.inventory.commit(held.id)
        assert shown(whole) == [("A", S2, 4, 0, 4, 0, 0)]
    finally:
        await other.close()
    await expect_clean(shop.inventory)


async def test_an_order_that_is_collected(shop: Shop) -> None:
    await stock(shop, "A", s1=5)
    held = await shop.inventory.reserve("k", [Line("A", 2, S1)])
    with pytest.raises(NotCommitted):
        await shop.inventory.mark_ready(held.id)
    await shop.inventory.commit(held.id)
    ready = await shop.inventory.mark_ready(held.id)
    assert ready.ready_ms == shop.model.now_ms
    shop.wait(5)
    again = await shop.inventory.mark_ready(held.id)
    assert (again.ready_ms, again.replayed) == (ready.ready_ms, True)
    again = await shop.inventory.mark_ready(held.id, op_id="r")
    assert (again.ready_ms, again.replayed) == (ready.ready_ms, True)
    collected = await shop.inventory.fulfil(held.id)
    assert (collected.state, collected.ready_ms) == ("fulfilled", ready.ready_ms)
    with pytest.raises(AlreadyFulfilled):
        await shop.inventory.mark_ready(held.id)
    await expect_clean(shop.inventory)


async def test_the_queue_of_a_store(shop: Shop) -> None:
    """The oldest first, page by page, whatever is ready, collected or cancelled meanwhile; what went
    elsewhere stands in the other queue.
    """
    await stock(shop, "A", s1=50, s2=5)
    inventory = shop.inventory
    names = []
    for number in range(7):
        shop.wait(0.001)
        made = await inventory.reserve(f"k{number}", [Line("A", 1, S1)], ttl_seconds=50)
        names.append(made.id)
    assert (await inventory.pickups(S1)).items == []
    for name in names[1:]:
        await inventory.commit(name)
    await inventory.mark_ready(names[3])
    await inventory.mark_ready(names[5])
    await inventory.fulfil(names[5])
    await inventory.cancel(names[6])
    await inventory.move(names[2], [Move("A", S1, S2, 1)], op_id="m")
    waiting = await inventory.pickups(S1, state=PickupState.WAITING)
    assert [one.id for one in waiting.items] == [names[1], names[4]]
    ready = await inventory.pickups(S1, state=PickupState.READY)
    assert [(one.id, one.ready_ms) for one in ready.items] == [(names[3], shop.model.now_ms)]
    assert [one.id for one in (await inventory.pickups(S2)).items] == [names[2]]
    seen, cursor = [], None
    while True:
        page = await inventory.pickups(S1, limit=1, cursor=cursor)
        seen += [one.id for one in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
        with pytest.raises(InvalidRequest):
            await inventory.pickups(S2, limit=1, cursor=cursor)
    assert seen == [names[1], names[3], names[4]]


async def test_what_is_not_found_at_pick(shop: Shop) -> None:
    await stock(shop, "A", s1=5, s2=1, s7=3)
    await stock(shop, "B", s1=5)
    held = await shop.inventory.reserve("k", [Line("A", 3, S1), Line("B", 1, S1)])
    with pytest.raises(ExceedsOpenQuantity):
        await shop.inventory.report_short(held.id, [Line("A", 2, S1)], op_id="s0")
    await shop.inventory.commit(held.id)
    told = await shop.inventory.report_short(held.id, [Line("A", 2, S1)], op_id="s")
    assert shown(told) == [("A", S1, 3, 0, 1, 0, 2), ("B", S1, 1, 0, 1, 0, 0)]
    assert [(one.sku, one.location, one.quantity) for one in told.short] == [("A", S1, 2)]
    again = await shop.inventory.report_short(held.id, [Line("A", 2, S1)], op_id="s")
    assert (again.replayed, again.lines) == (True, told.lines)
    wanted = await shop.inventory.counts_wanted(location=S1)
    assert [(one.sku, one.location, one.since_ms) for one in wanted] == [("A", S1, shop.model.now_ms)]
    assert await shop.inventory.counts_wanted(location=S2) == []
    others = await shop.inventory.alternatives("A", S1)
    assert [(one.location, one.available) for one in others] == [(S7, 3), (S2, 1)]
    rest = [Line("A", 1, S1), Line("B", 1, S1)]
    assert (await shop.inventory.report_short(held.id, rest, op_id="s2")).state == "cancelled"
    await shop.inventory.count(Count("c", "A", S1, 2, shop.model.now_ms))
    wanted = await shop.inventory.counts_wanted(location=S1)
    assert [(one.sku, one.location) for one in wanted] == [("B", S1)]
    await expect_clean(shop.inventory)


@pytest.mark.parametrize("seed", range(3))
async def test_units_are_neither_made_nor_lost(shop: Shop, seed: int) -> None:
    """Many clients move and replace at once: at every position the open units of all reservations are what is
    counted as held and allocated, and with what is free they are what is there.
    """
    sku = "A"
    await stock(shop, sku, s1=9, s2=9, s7=9)
    made = [await shop.inventory.reserve(f"k{at}", [Line(sku, 3, LOCATIONS[at % 3])]) for at in range(6)]

    async def act(number: int) -> None:
        own = random.Random(seed * 1000 + number)
        for step in range(12):
            name, key = own.choice(made).id, f"{number}-{step}"
            source, target = own.sample(LOCATIONS, 2)
            quantity = own.randint(1, 3)
            try:
                if own.random() < 0.6:
                    await shop.inventory.move(name, [Move(sku, source, target, quantity)], op_id=key)
                elif own.random() < 0.7:
                    lines = [Line(sku, quantity, source), Line(sku, own.randint(1, 4), target)]
                    await shop.inventory.replace_lines(name, lines, op_id=key)
                else:
                    some = [Line(sku, 1, source)]
                    await shop.inventory.commit(name, lines=some, remainder="keep", op_id=key)
            except BincardError:
                continue

    await asyncio.gather(*(act(number) for number in range(8)))
    open_units: dict[str, tuple[int, int]] = dict.fromkeys(LOCATIONS, (0, 0))
    for one in made:
        for line in (await shop.inventory.reservation(one.id)).lines:
            held, allocated = open_units[line.location]
            open_units[line.location] = held + line.held, allocated + line.committed
    for position in await shop.inventory.stock(sku):
        assert (position.held, position.allocated) == open_units[position.location]
        assert position.on_hand == 9 == position.held + position.allocated + position.available
    assert any(allocated for _, allocated in open_units.values())
    await expect_clean(shop.inventory)


async def test_what_another_request_made_ready_is_ready(shop: Shop) -> None:
    """An operation id of its own does not make it ready anew; and it gets an answer."""
    await stock(shop, "A", s1=5)
    held = await shop.inventory.reserve("k", [Line("A", 2, S1)])
    await shop.inventory.commit(held.id)
    first = await shop.inventory.mark_ready(held.id, op_id="one")
    async with asyncio.timeout(20):
        second = await shop.inventory.mark_ready(held.id, op_id="another")
    assert second.replayed
    assert (second.ready_ms, second.version) == (first.ready_ms, first.version)
    await expect_clean(shop.inventory)
