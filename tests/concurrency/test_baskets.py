"""Baskets over several partitions: all or nothing, and the parts follow."""

from collections.abc import AsyncIterator

import pytest

from engine import Inventory, Line, Movement, MovementKind, State
from engine.audit import audit
from engine.errors import (
    AlreadyReleased,
    ExceedsOpenQuantity,
    IdempotencyMismatch,
    InsufficientStock,
    NotStocked,
    ReservationExpired,
    SkuNotFound,
)
from engine.ids import keeper_of
from tests.driver import RETENTION_SECONDS, Shop, open_shop, skus_in
from tests.servers import Control, Server

PARTITIONS = 8
A, B, C, D = (next(skus_in(partition, PARTITIONS)) for partition in range(4))
"""A SKU of each of four partitions."""


@pytest.fixture
async def shop(server: Server, control: Control) -> AsyncIterator[Shop]:
    opened = await open_shop(server.url, control, PARTITIONS)
    for sku in (A, B, C, D):
        await opened.inventory.record(Movement(f"in {sku}", MovementKind.RECEIVE, sku, "s1", 10))
    yield opened
    await opened.inventory.close()


@pytest.fixture
async def other(shop: Shop) -> AsyncIterator[Inventory]:
    """Another process on the same data set."""
    opened = await shop.another_inventory()
    yield opened
    await opened.close()


def lines(*wanted: tuple[str, int]) -> list[Line]:
    return [Line(sku, units, "s1") for sku, units in wanted]


def key_kept_in(shop: Shop, partition: int) -> str:
    """A key that a partition keeps."""
    ids = shop.inventory.dataset.ids
    return next(
        key
        for key in (f"key {number}" for number in range(1000))
        if keeper_of(ids.of_request("", key), PARTITIONS) == partition
    )


async def available(shop: Shop, *skus: str) -> list[int]:
    return [(await shop.inventory.availability(sku)).available for sku in skus]


async def check_books(shop: Shop) -> None:
    report = await audit(shop.inventory)
    assert report.is_clean, (report.differences, report.violations, report.notes)


async def test_a_life(shop: Shop) -> None:
    """Held, committed in part, sold: after each step every partition's books agree with the ledger."""
    wanted = lines((A, 2), (B, 3), (C, 1), (B, 1))
    held = await shop.inventory.reserve("cart", wanted, ttl_seconds=60)
    assert await available(shop, A, B, C) == [8, 6, 9]
    await check_books(shop)
    again = await shop.inventory.reserve("cart", wanted, ttl_seconds=60)
    assert again.replayed
    assert (again.version, again.lines, again.expires_ms) == (held.version, held.lines, held.expires_ms)
    assert await shop.inventory.reservation(held.id) == held
    part = await shop.inventory.commit(held.id, lines=lines((B, 2)), remainder="keep", op_id="some")
    assert [line.committed for line in part.lines] == [0, 2, 0, 0]
    await check_books(shop)
    done = await shop.inventory.commit(held.id, fulfil=True)
    assert done.state is State.COMMITTED
    await check_books(shop)
    await shop.inventory.fulfil(held.id)
    assert await available(shop, A, B, C) == [8, 6, 9]
    await check_books(shop)


async def test_every_short_line_of_all_partitions_is_named(shop: Shop) -> None:
    with pytest.raises(InsufficientStock) as found:
        await shop.inventory.reserve("cart", lines((A, 2), (B, 11), (C, 12)))
    assert [(short.line, short.requested, short.available) for short in found.value.shortages] == [
        (1, 11, 10),
        (2, 12, 10),
    ]
    assert await available(shop, A, B, C) == [10, 10, 10]
    with pytest.raises(SkuNotFound):
        await shop.inventory.reserve("cart", lines(("nothing", 2), (C, 2), (A, 99)))
    with pytest.raises(NotStocked):
        await shop.inventory.reserve("cart", [Line(C, 2, "s2"), Line(A, 99, "s1")])
    await check_books(shop)


async def test_a_released_basket_stays_released(shop: Shop) -> None:
    held = await shop.inventory.reserve("cart", lines((A, 2), (C, 2)))
    await shop.inventory.release(held.id)
    with pytest.raises(AlreadyReleased):
        await shop.inventory.commit(held.id)
    assert await available(shop, A, C) == [10, 10]
    await check_books(shop)


async def test_a_basket_that_lapsed_is_not_taken_anew(shop: Shop) -> None:
    held = await shop.inventory.reserve("cart", lines((A, 2), (B, 1)), ttl_seconds=5)
    shop.wait(6)
    assert await shop.inventory.sweep() == 1
    assert await available(shop, A, B) == [10, 10]
    for way in ("fail", "retake"):
        with pytest.raises(ReservationExpired):
            await shop.inventory.commit(held.id, if_expired=way)  # type: ignore[arg-type] - a literal each
    await check_books(shop)
    shop.wait(RETENTION_SECONDS + 1)
    await shop.inventory.sweep()
    await check_books(shop)


OTHERS = {
    "another home": lines((B, 2), (C, 2)),
    "another home's one line": lines((D, 1)),
    "other units": lines((A, 1), (B, 2)),
    "one line of it": lines((A, 2)),
}


@pytest.mark.parametrize("keeper", range(4))
@pytest.mark.parametrize("name", OTHERS)
async def test_a_key_is_bound_to_its_content_in_every_partition(shop: Shop, keeper: int, name: str) -> None:
    key = key_kept_in(shop, keeper)
    held = await shop.inventory.reserve(key, lines((A, 2), (B, 2)))
    with pytest.raises(IdempotencyMismatch):
        await shop.inventory.reserve(key, OTHERS[name])
    with pytest.raises(IdempotencyMismatch):
        await shop.inventory.release(held.id, op_id=key)
    assert await available(shop, A, B, C, D) == [8, 8, 10, 10]
    await check_books(shop)


@pytest.mark.parametrize("keeper", range(4))
@pytest.mark.parametrize("name", OTHERS)
async def test_a_key_that_was_refused_is_free(shop: Shop, keeper: int, name: str) -> None:
    """For any content, of any home: the parts of what was refused are in nobody's way, and a late word of it
    changes nothing. The first home has counted further than any other.
    """
    key = key_kept_in(shop, keeper)
    for number in range(20):
        await shop.inventory.record(Movement(f"count {number}", MovementKind.RECEIVE, A, "s2", 1))
    for _ in range(2):
        with pytest.raises(InsufficientStock):
            await shop.inventory.reserve(key, lines((A, 2), (B, 2), (C, 3), (D, 11)))
    held = await shop.inventory.reserve(key, OTHERS[name])
    wanted = {line.sku: line.quantity for line in OTHERS[name]}
    shop.wait(31)
    await shop.inventory.sweep()
    assert await available(shop, B, C, D) == [10 - wanted.get(sku, 0) for sku in (B, C, D)]
    await check_books(shop)
    done = await shop.inventory.commit(held.id)
    assert done.state is State.COMMITTED
    await check_books(shop)


@pytest.mark.parametrize("keeper", range(4))
async def test_a_key_that_was_refused_may_name_a_step(shop: Shop, keeper: int) -> None:
    key = key_kept_in(shop, keeper)
    with pytest.raises(InsufficientStock):
        await shop.inventory.reserve(key, lines((A, 2), (B, 11)))
    held = await shop.inventory.reserve("cart", lines((A, 2), (C, 1)))
    await shop.inventory.commit(held.id, op_id=key)
    assert (await shop.inventory.commit(held.id, op_id=key)).replayed
    await check_books(shop)


async def test_a_step_that_had_to_be_read_again_leaves_its_key_free(shop: Shop, other: Inventory) -> None:
    """A process that knows an old reference asks, is told so, asks again, and is then refused: of that
    nothing came.
    """
    key = key_kept_in(shop, 5)
    held = await shop.inventory.reserve("cart", lines((A, 2), (B, 2)))
    await shop.inventory.extend(held.id, 1000)
    await other.commit(held.id, lines=lines((A, 1)), remainder="keep", reference="order 7")
    with pytest.raises(ExceedsOpenQuantity):
        await shop.inventory.commit(held.id, lines=lines((A, 2)), remainder="keep", op_id=key)
    await shop.inventory.commit(held.id, lines=lines((A, 1)), op_id=key)
    await check_books(shop)
