"""Where books were restored or taken over an epoch begins. Earlier answers are repeated as they were."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace
from redis import Redis

from engine import Inventory, Line, Movement, MovementKind, MovementResult, Reservation, keys
from tests.driver import Shop

Answer = Reservation | MovementResult
LINES = [Line("mug", 2, "s1"), Line("cup", 1, "s1")]


async def move(inventory: Inventory, _: str) -> Answer:
    return await inventory.record(Movement("delivery", MovementKind.RECEIVE, "mug", "s1", 3))


async def take_away(inventory: Inventory, _: str) -> Answer:
    """More than is free: the answer names a broken promise."""
    return await inventory.record(Movement("till", MovementKind.SALE, "mug", "s1", 9))


async def reserve(inventory: Inventory, _: str) -> Answer:
    return await inventory.reserve("another", LINES)


async def commit(inventory: Inventory, reservation: str) -> Answer:
    return await inventory.commit(reservation, op_id="buy")


async def commit_part(inventory: Inventory, reservation: str) -> Answer:
    return await inventory.commit(reservation, lines=LINES[:1], remainder="keep", op_id="buy one")


async def extend(inventory: Inventory, reservation: str) -> Answer:
    return await inventory.extend(reservation, 3600, op_id="wait")


async def release(inventory: Inventory, reservation: str) -> Answer:
    return await inventory.release(reservation, op_id="no")


@pytest.mark.parametrize("verb", [move, take_away, reserve, commit, commit_part, extend, release])
async def test_a_repeat_in_a_later_epoch(
    shop: Shop, control: Redis[bytes], verb: Callable[[Inventory, str], Awaitable[Answer]]
) -> None:
    """Version included: it is that of the effect, and not of the moment of the repeat."""
    inventory = shop.inventory
    for sku in ("mug", "cup"):
        await inventory.record(Movement(f"in {sku}", MovementKind.RECEIVE, sku, "s1", 10))
    held = await inventory.reserve("cart", LINES)
    first = await verb(inventory, held.id)
    control.hset(keys.meta(0), "epoch", "7")
    again = await verb(inventory, held.id)
    assert again == replace(first, replayed=True)
