"""Promises of what is inbound: who gets what comes, and when."""

import pytest

from engine import Channel, Inventory, Location, LocationKind, Movement, MovementKind, Pool
from engine.audit import audit
from engine.errors import InsufficientStock
from engine.sourcing_plan import Rules, Strategy, Wanted
from engine.types import Reservation

SOON = 1_900_000_000_000
DAY = 86_400_000
WAITS = Rules(from_inbound=True)


async def receive(shop: Inventory, quantity: int, location: str = "a", key: str = "") -> None:
    op = f"r{location}{quantity}{key}"
    await shop.record(Movement(op, MovementKind.RECEIVE, "mug", location, quantity))


async def expect(shop: Inventory, quantity: int, location: str = "a", *, days: int = 0) -> str:
    made = await shop.expect(
        f"{location}-{quantity}-{days}",
        sku="mug",
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


async def test_nothing_beyond_what_is_inbound(inventory: Inventory) -> None:
    await receive(inventory, 2)
    await expect(inventory, 10)
    with pytest.raises(InsufficientStock) as caught:
        await preorder(inventory, "k0", 13)
    assert caught.value.shortages[0].available == 12
    with pytest.raises(InsufficientStock):
        await inventory.source("plain", [Wanted("mug", 3, "a")], rules=Rules())
    await preorder(inventory, "k1", 5)
    assert await waiting(inventory) == {"a": (0, 10, 3)}
    await preorder(inventory, "k2", 7)
    assert await waiting(inventory) == {"a": (0, 10, 10)}
    with pytest.raises(InsufficientStock):
        await preorder(inventory, "k3", 1)
    assert (await audit(inventory)).is_clean


async def test_what_comes_is_for_the_oldest(inventory: Inventory) -> None:
    """Receipts, releases and counts go to those who wait before anybody else; steps have operation ids."""
    await receive(inventory, 2)
    order = await expect(inventory, 10)
    first = await preorder(inventory, "k1", 4)
    second = await preorder(inventory, "k2", 5)
    assert await waiting(inventory) == {"a": (0, 10, 7)}
    await inventory.commit(first.id, op_id="commit")
    await inventory.receive_inbound("came", order, 3)
    assert await waiting(inventory) == {"a": (0, 7, 4)}
    await inventory.cancel(first.id, op_id="cancel")
    assert await waiting(inventory) == {"a": (0, 7, 0)}
    await inventory.release(second.id, op_id="release")
    assert await waiting(inventory) == {"a": (5, 7, 0)}
    assert (await audit(inventory)).is_clean
