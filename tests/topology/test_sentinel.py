"""A data set on a primary that Sentinels watch: verbs, a primary that dies, is frozen, or steps down."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import engine
import engine.audit
from engine import Inventory, Line, keys
from engine.errors import StorageUnavailable
from tests.topology.groups import SentinelGroup, wait_until
from tests.topology.traffic import PLACE, SHOPPERS, SKUS, STOCK, Traffic, prove_books, stock_up


@pytest.fixture
async def inventory(sentinels: SentinelGroup) -> AsyncIterator[Inventory]:
    """A fresh data set on a primary that has its replica."""
    await asyncio.to_thread(sentinels.wait_until_replicated)
    sentinels.primary().call("FLUSHALL")
    opened = await engine.connect(sentinels.url)
    await stock_up(opened, "test")
    yield opened
    await opened.close()


async def test_every_verb_and_the_audit(inventory: Inventory, sentinels: SentinelGroup) -> None:
    """As on one server."""
    assert inventory.dataset.partitions == 1
    held = await inventory.reserve("r", [Line(SKUS[0], 3, PLACE), Line(SKUS[1], 2, PLACE)])
    await inventory.commit(held.id, op_id="c")
    other = await inventory.reserve("r2", [Line(SKUS[2], 1, PLACE)])
    await inventory.release(other.id, op_id="l")
    left = [(await inventory.availability(sku)).available for sku in SKUS[:3]]
    assert left == [STOCK - 3, STOCK - 2, STOCK]
    assert sentinels.primary().call("HLEN", keys.stock(0)) == len(SKUS)
    await prove_books(inventory)


async def test_writes_go_on_after_the_primary_is_killed(
    inventory: Inventory, sentinels: SentinelGroup
) -> None:
    """The replica is promoted; what was under way is unknown, and repeating it converges."""
    traffic, victim = Traffic(inventory, "kill"), sentinels.primary()
    await traffic.until_answered(100)
    victim.kill()
    await traffic.until_answered(100)
    assert sentinels.primary() is not victim
    await traffic.stop()
    assert traffic.answers["unavailable"] + traffic.answers["unconfirmed"] > 0
    await traffic.prove(inventory, may_lose=SHOPPERS)
    await prove_books(inventory)
    await asyncio.to_thread(sentinels.bring_back, victim)


async def test_a_frozen_primary_is_left_and_not_written_to_again(
    inventory: Inventory, sentinels: SentinelGroup
) -> None:
    """It thinks that it is the primary when it wakes; nobody of ours is connected to it any more."""
    traffic, victim = Traffic(inventory, "freeze"), sentinels.primary()
    await traffic.until_answered(100)
    victim.pause()
    try:
        await traffic.until_answered(100)
    finally:
        victim.resume()
    assert victim.info()["role"] == "master"
    before = victim.call("HLEN", keys.operations(0))
    await traffic.until_answered(100)
    await traffic.stop()
    assert victim.call("HLEN", keys.operations(0)) == before
    await traffic.prove(inventory, may_lose=SHOPPERS)
    await prove_books(inventory)
    await asyncio.to_thread(sentinels.demote, victim)


async def test_a_promotion_by_hand_is_followed(inventory: Inventory, sentinels: SentinelGroup) -> None:
    """Nothing is broken, and the old primary takes writes for seconds yet: not ours."""
    old = sentinels.primary()
    await asyncio.to_thread(sentinels.promote_replica)
    await asyncio.to_thread(wait_until, lambda: sentinels.primary() is not old, "another is named")
    await asyncio.to_thread(
        wait_until,
        lambda: sentinels.primary().address in inventory.dataset.topology.name and inventory.is_connected,
        "we are connected to the new primary",
        seconds=2,
    )
    before, traffic = old.call("HLEN", keys.operations(0)), Traffic(inventory, "hand")
    await traffic.until_answered(100)
    await traffic.stop()
    await traffic.prove(inventory)
    await prove_books(inventory)
    assert old.info()["role"] == "master"
    assert old.call("HLEN", keys.operations(0)) == before
    await asyncio.to_thread(sentinels.demote, old)


async def test_one_sentinel_is_enough_and_an_unknown_service_is_told(
    inventory: Inventory, sentinels: SentinelGroup
) -> None:
    """Those that do not answer are named with what they said."""
    addresses = ",".join(node.address for node in sentinels.sentinels)
    sentinels.sentinels[0].pause()
    try:
        opened = await engine.connect(sentinels.url)
        await opened.close()
    finally:
        sentinels.sentinels[0].resume()
    with pytest.raises(StorageUnavailable, match="no Sentinel names a primary of nobody: check"):
        await engine.connect(f"redis+sentinel://bincard:change-me-bincard@{addresses}/nobody")
