"""Policies, fences and what floats are the same after a repartition, and go on in step."""

import asyncio
from contextlib import suppress

import pytest
from redis import Redis

import engine
from engine import BincardError, Inventory, Line, Movement, MovementKind
from engine.audit import audit
from engine.repartition import repartition
from engine.sourcing_plan import Rules, Wanted
from engine.topology.embedded import EmbeddedServer
from tests.audit.test_audit_fences import SKUS, Seller, open_shop


async def look(inventory: Inventory) -> list[object]:
    """What is to be seen of policies and fences."""
    report = await audit(inventory)
    assert report.is_clean, (report.differences[:5], report.violations[:5], report.notes)
    return [
        await inventory.policies(),
        await inventory.fences(),
        *[
            sorted(
                (place.location, place.on_hand, place.held, place.fenced, place.available)
                for place in await inventory.stock(sku)
            )
            for sku in SKUS
        ],
    ]


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
async def test_policies_and_fences(
    server: EmbeddedServer,
    other_server: EmbeddedServer,
    target: "Redis[bytes]",
    before: int,
    after: int,
) -> None:
    inventory = await open_shop(server.url, before)
    sellers = [Seller(inventory, 7 * number) for number in range(8)]
    for step in range(40):
        await asyncio.gather(*(seller.act(step) for seller in sellers))
    await asyncio.sleep(1.1)
    await inventory.sweep()
    await inventory.record(Movement("more", MovementKind.RECEIVE, "mug", "s1", 99))
    await inventory.save_fence("web", "mug", "s1", 40)
    for number in range(3):
        rules = Rules(channel="web")
        wanted = [Wanted("mug", 4, None if number else "s1")]
        sellers[0].made.append(await inventory.source(f"at last {number}", wanted, rules=rules))
    await inventory.release(sellers[0].made[-1].id, lines=[Line("mug", 1, "s1")], op_id="one back")
    seen = await look(inventory)
    assert seen[0]
    assert any(fence.used for fence in await inventory.fences())
    await inventory.close()
    await repartition(server.url, other_server.url, after)
    shop = await engine.connect(other_server.url)
    assert await look(shop) == seen
    for seller in sellers:
        for reservation in seller.made:
            for end in (shop.release, shop.cancel):
                with suppress(BincardError):
                    await end(reservation.id)
    await look(shop)
    assert not any(fence.used for fence in await shop.fences())
    await shop.close()
