import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from engine import Line
from engine.audit import audit
from engine.errors import (
    AlreadyCancelled,
    AlreadyClosed,
    ChannelNotFound,
    IdempotencyMismatch,
    InboundNotFound,
    InvalidRequest,
    LocationNotFound,
    PoolNotFound,
)
from engine.sourcing_plan import Rules, Wanted
from engine.types import Buffer, Channel, InboundState, Location, LocationKind, Pool, SupplyKind
from tests.driver import START_MS, Shop
from tests.supply.goods import make_stock, stand

DAY_MS = 86_400_000


async def test_an_order_that_comes_in_parts(wide: Shop) -> None:
    """Expected, some, a repeat of some, more than the rest; each key counts once."""
    shop = wide.inventory
    made = await shop.expect(
        "i1", sku="mug", location="s1", quantity=10, expected_ms=START_MS, reference="PO-9"
    )
    again = await shop.expect(
        "i1", sku="mug", location="s1", quantity=10, expected_ms=START_MS, reference="PO-9"
    )
    assert (again.id, again.replayed) == (made.id, True)
    assert (made.state, made.kind, made.reference) == (InboundState.EXPECTED, SupplyKind.PURCHASE, "PO-9")
    assert await stand(shop, "mug") == {"s1": (0, 10)}
    some = [await shop.receive_inbound("r1", made.id, 4) for _ in range(2)]
    assert [one.replayed for one in some] == [False, True]
    assert await stand(shop, "mug") == {"s1": (4, 6)}
    with pytest.raises(IdempotencyMismatch):
        await shop.receive_inbound("r1", made.id, 5)
    last = await shop.receive_inbound("r2", made.id, 7)
    assert (last.state, last.received) == (InboundState.RECEIVED, 11)
    late = await shop.receive_inbound("r3", made.id, 1)
    assert (late.state, late.received) == (InboundState.RECEIVED, 12)
    assert await stand(shop, "mug") == {"s1": (12, 0)}
    with pytest.raises(AlreadyClosed):
        await shop.cancel_inbound(made.id)
    assert await shop.inbound(made.id) == late
    assert (await audit(shop)).is_clean


async def test_orders_that_come_short(wide: Shop) -> None:
    """Closed by the last receipt, or by who cancels; without any receipt it is cancelled."""
    shop = wide.inventory
    orders = [
        await shop.expect(f"i{number}", sku="mug", location="s1", quantity=10, expected_ms=START_MS)
        for number in range(3)
    ]
    assert await stand(shop, "mug") == {"s1": (0, 30)}
    closed = await shop.receive_inbound("r0", orders[0].id, 4, close=True)
    await shop.receive_inbound("r1", orders[1].id, 1)
    ended = await shop.cancel_inbound(orders[1].id)
    cancelled = await shop.cancel_inbound(orders[2].id, op_id="c2")
    assert [one.state for one in (closed, ended, cancelled)] == ["closed", "closed", "cancelled"]
    assert await stand(shop, "mug") == {"s1": (5, 0)}
    assert await shop.cancel_inbound(orders[1].id) == ended
    for op_id, order, refusal in (
        ("r2", 0, AlreadyClosed),
        ("r3", 1, AlreadyClosed),
        ("r4", 2, AlreadyCancelled),
    ):
        with pytest.raises(refusal):
            await shop.receive_inbound(op_id, orders[order].id, 1)
    assert {one.id for one in await shop.inbounds(sku="mug")} == {one.id for one in orders}
    assert await shop.inbounds(location="s2") == []


async def test_who_comes_first_decides(wide: Shop) -> None:
    """Many receive at once, some of them the same: each receipt counts once."""
    shop = wide.inventory
    made = await shop.expect("i1", sku="mug", location="s1", quantity=10, expected_ms=START_MS)
    keys = [f"r{number % 6}" for number in range(12)]
    await asyncio.gather(*(shop.receive_inbound(key, made.id, 2) for key in keys))
    assert (await shop.inbound(made.id)).received == 12
    assert await stand(shop, "mug") == {"s1": (12, 0)}
    assert (await audit(shop)).is_clean


async def test_bad_requests(wide: Shop) -> None:
    """Nothing comes of them."""
    shop = wide.inventory
    with pytest.raises(LocationNotFound):
        await shop.expect("i1", sku="mug", location="s9", quantity=1, expected_ms=START_MS)
    for sku, location, quantity, at_ms in (
        ("", "s1", 1, 0),
        ("mug", "", 1, 0),
        ("mug", "s1", 0, 0),
        ("mug", "s1", 1, -1),
    ):
        with pytest.raises(InvalidRequest):
            await shop.expect("i1", sku=sku, location=location, quantity=quantity, expected_ms=at_ms)
    for unknown in ("i_AAAAAAAAAAAAAAAAAAAA", "", "x"):
        with pytest.raises(InboundNotFound):
            await shop.inbound(unknown)


async def test_what_can_be_promised(wide: Shop) -> None:
    """By day, by place, pool and channel; what is overdue is taken to come today."""
    shop = wide.inventory
    await make_stock(shop, "s1", mug=5)
    await shop.reserve("held", [Line("mug", 3, "s1")], ttl_seconds=60)
    for number, (location, days, units) in enumerate(
        [("s1", -2, 10), ("s1", 1, 100), ("s2", 2, 1000), ("s7", 9, 10_000)]
    ):
        at_ms = START_MS + days * DAY_MS
        await shop.expect(f"i{number}", sku="mug", location=location, quantity=units, expected_ms=at_ms)
    found = await shop.atp("mug", days=4)
    today = datetime.fromtimestamp(START_MS // 1000, UTC).date()
    assert [one.date for one in found] == [today + timedelta(day) for day in range(4)]
    assert [one.atp for one in found] == [12, 112, 1112, 1112]
    assert [one.atp for one in await shop.atp("mug", locations=["s2"], days=3)] == [0, 0, 1000]
    await shop.save_pool(Pool("both", ["s2", "s7"]))
    await shop.save_channel(Channel("web", ["both"]))
    assert [one.atp for one in await shop.atp("mug", pool="both", days=10)][-1] == 11_000
    assert await shop.atp("mug", channel="web") == await shop.atp("mug", pool="both")
    wide.wait(61)
    assert [one.atp for one in await shop.atp("mug", days=1)] == [15]
    with pytest.raises(PoolNotFound):
        await shop.atp("mug", pool="none")
    with pytest.raises(ChannelNotFound):
        await shop.atp("mug", channel="none")


async def test_what_a_channel_can_promise(wide: Shop) -> None:
    """Its buffer grows with the goods, its fence does not; of a place that is not active nothing."""
    shop = wide.inventory
    await make_stock(shop, "s1", mug=10)
    await make_stock(shop, "s2", mug=7)
    await shop.save_pool(Pool("both", ["s1", "s2"]))
    await shop.save_channel(Channel("web", ["both"], Buffer(percent=10)))
    for name in ("app", "desk"):
        await shop.save_channel(Channel(name, ["both"]))
    await shop.save_fence("app", "mug", "s1", 4)
    await shop.save_fence("desk", "mug", "s1", 2, spill=True)
    await shop.save_location(Location("s2", LocationKind.STORE, active=False))
    await shop.expect("i", sku="mug", location="s1", quantity=20, expected_ms=START_MS + DAY_MS)
    for channel, found in (("web", [3, 21]), ("app", [4, 4]), ("desk", [6, 26])):
        assert [one.atp for one in await shop.atp("mug", channel=channel, days=2)] == found, channel
        shown, _ = await shop.availability_by("mug", rules=Rules(channel=channel))
        assert shown.available == found[0]
    held = await shop.source("k", [Wanted("mug", 3)], rules=Rules(channel="app"))
    assert [one.atp for one in await shop.atp("mug", channel="app", days=2)] == [1, 1]
    await shop.release(held.id)
    assert [one.atp for one in await shop.atp("mug", pool="both", days=1)] == [4]
