"""Baskets over several partitions: all or nothing, and the parts follow."""

import pytest

from engine import Line, Movement, MovementKind, State
from engine.audit import audit
from engine.errors import (
    AlreadyReleased,
    IdempotencyMismatch,
    InsufficientStock,
    NotStocked,
    ReservationExpired,
    SkuNotFound,
)
from tests.driver import Shop, open_shop, skus_in


@pytest.fixture
async def shop(server, control):
    opened = await open_shop(server.url, control, 8)
    yield opened
    await opened.inventory.close()


def skus(count):
    return [next(skus_in(partition, 8)) for partition in range(count)]


async def stock_up(shop, units, *names):
    for name in names:
        await shop.inventory.record(Movement(f"receive {name}", MovementKind.RECEIVE, name, "s1", units))


async def available(shop, *names):
    return [(await shop.inventory.availability(name)).available for name in names]


async def clean(shop):
    report = await audit(shop.inventory)
    assert report.is_clean, (report.differences, report.violations, report.notes)


async def test_a_life(shop: Shop) -> None:
    a, b, c = skus(3)
    await stock_up(shop, 10, a, b, c)
    lines = [Line(a, 2, "s1"), Line(b, 3, "s1"), Line(c, 1, "s1"), Line(b, 1, "s1")]
    held = await shop.inventory.reserve("k", lines, ttl_seconds=60)
    assert await available(shop, a, b, c) == [8, 6, 9]
    await clean(shop)
    again = await shop.inventory.reserve("k", lines, ttl_seconds=60)
    assert again.replayed
    assert again.version == held.version and again.lines == held.lines and again.expires_ms == held.expires_ms
    read = await shop.inventory.reservation(held.id)
    assert read == held, (read, held)
    part = await shop.inventory.commit(held.id, lines=[Line(b, 2, "s1")], remainder="keep", op_id="p")
    assert [line.committed for line in part.lines] == [0, 2, 0, 0]
    await clean(shop)
    done = await shop.inventory.commit(held.id, fulfil=True)
    assert done.state is State.COMMITTED
    await clean(shop)
    await shop.inventory.fulfil(held.id)
    assert await available(shop, a, b, c) == [8, 6, 9]
    await clean(shop)


async def test_refused(shop: Shop) -> None:
    a, b, c = skus(3)
    await stock_up(shop, 10, a, b, c)
    lines = [Line(a, 2, "s1"), Line(b, 11, "s1"), Line(c, 12, "s1")]
    with pytest.raises(InsufficientStock) as found:
        await shop.inventory.reserve("k", lines)
    assert [(s.line, s.requested, s.available) for s in found.value.shortages] == [(1, 11, 10), (2, 12, 10)]
    assert await available(shop, a, b, c) == [10, 10, 10]
    await clean(shop)
    # The key is free, for other content too.
    held = await shop.inventory.reserve("k", [Line(a, 2, "s1"), Line(c, 2, "s1")])
    with pytest.raises(IdempotencyMismatch):
        await shop.inventory.reserve("k", [Line(b, 2, "s1"), Line(c, 2, "s1")])
    with pytest.raises(IdempotencyMismatch):
        await shop.inventory.reserve("k", [Line(b, 2, "s1")])
    await shop.inventory.release(held.id)
    with pytest.raises(AlreadyReleased):
        await shop.inventory.commit(held.id)
    assert await available(shop, a, b, c) == [10, 10, 10]
    await clean(shop)
    with pytest.raises(SkuNotFound):
        await shop.inventory.reserve("k2", [Line("nothing", 2, "s1"), Line(c, 2, "s1"), Line(a, 99, "s1")])
    with pytest.raises(NotStocked):
        await shop.inventory.reserve("k2", [Line(c, 2, "s2"), Line(a, 99, "s1")])
    await clean(shop)


async def test_lapsed(shop: Shop) -> None:
    a, b, c = skus(3)
    await stock_up(shop, 10, a, b, c)
    held = await shop.inventory.reserve("k", [Line(a, 2, "s1"), Line(b, 1, "s1")], ttl_seconds=5)
    shop.wait(6)
    assert await shop.inventory.sweep() == 1
    assert await available(shop, a, b) == [10, 10]
    with pytest.raises(ReservationExpired):
        await shop.inventory.commit(held.id)
    await clean(shop)
    shop.wait(10000)
    await shop.inventory.sweep()
    await clean(shop)
