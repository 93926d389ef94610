"""Lists read what they show, and what ended long ago is forgotten."""

import asyncio
import random
from collections import Counter

import pytest

from engine import Inventory, keys, limits
from engine.audit import audit
from engine.document_lists import Walk
from engine.errors import InboundNotFound, TransferNotFound
from engine.types import Goods, Inbound, InboundState, Transfer, TransferState
from engine.workers.sweeper import Sweeper
from tests.driver import START_MS, Shop
from tests.supply.goods import make_stock, stand

DOCUMENT_MS = limits.DOCUMENT_SECONDS * 1000
SKUS, PLACES = [f"sku-{number}" for number in range(6)], ("s1", "s2", "s7")


async def make_some(shop: Shop, count: int) -> tuple[list[Transfer], list[Inbound]]:
    """Transfers and inbound orders in every state, some of one moment; as they are, the newest first."""
    generator, inventory = random.Random(5), shop.inventory
    transfers, orders = [], []
    for number in range(count):
        shop.wait(generator.choice((0, 0.001, 5)))
        source, target = generator.sample(PLACES, 2)
        sku = generator.choice(SKUS)
        sent = await inventory.create_transfer(
            f"t{number}", source=source, target=target, lines=[Goods(sku, 2)], reference=f"t{number}"
        )
        order = await inventory.expect(
            f"i{number}", sku=sku, location=target, quantity=2, expected_ms=START_MS
        )
        steps = generator.randrange(4)
        if steps:
            await inventory.ship_transfer(sent.id)
        if steps == 2:
            await inventory.receive_transfer(sent.id)
            await inventory.receive_inbound(f"r{number}", order.id, 2)
        elif steps == 3:
            await inventory.cancel_transfer(sent.id)
            await inventory.cancel_inbound(order.id)
        transfers.append(await inventory.transfer(sent.id))
        orders.append(await inventory.inbound(order.id))
    newest = sorted(transfers, key=lambda one: (-one.created_ms, one.id))
    return newest, sorted(orders, key=lambda one: (-one.created_ms, one.id))


async def test_pages_are_the_list_in_order(wide: Shop) -> None:
    """Of every filter, at every size of a page: nothing twice, nothing left out, the newest first."""
    transfers, orders = await make_some(wide, 40)
    inventory = wide.inventory
    assert (await inventory.transfers(), await inventory.inbounds()) == (transfers, orders)
    assert {one.state for one in transfers} > {TransferState.DRAFT, TransferState.CANCELLED}
    for limit in (1, 3, 100):
        for state in (None, *TransferState):
            wanted = [one for one in transfers if state in {None, one.state}]
            assert await all_transfers(inventory, state, limit) == wanted
        for sku, location in ((None, None), (SKUS[0], None), (None, "s7"), (SKUS[1], "s2"), ("none", None)):
            found, after = [], None
            while True:
                page = await inventory.inbound_page(sku=sku, location=location, after=after, limit=limit)
                assert len(page.items) == limit or page.next is None
                found, after = found + page.items, page.next
                if after is None:
                    break
            fits = [one for one in orders if sku in {None, one.sku} and location in {None, one.location}]
            assert found == fits
    assert (await audit(inventory)).is_clean


async def all_transfers(
    inventory: Inventory, state: TransferState | None, limit: int
) -> list[Transfer]:  # fmt: skip
    found, after = [], None
    while True:
        page = await inventory.transfer_page(state=state, after=after, limit=limit)
        assert len(page.items) == limit or page.next is None
        found, after = found + page.items, page.next
        if after is None:
            return found


async def test_a_page_reads_no_more_than_it_shows(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one more, which tells whether there is another page; of a state, those of the state."""
    transfers, _ = await make_some(shop, 40)
    read = Counter[int]()
    taking = Walk.take

    async def take(walk: Walk, count: int) -> object:
        found = await taking(walk, count)
        read["documents"] += len(found)
        return found

    monkeypatch.setattr(Walk, "take", take)
    page = await shop.inventory.transfer_page(limit=5)
    assert (page.items, read.pop("documents")) == (transfers[:5], 6)
    page = await shop.inventory.transfer_page(state=TransferState.RECEIVED, after=page.next, limit=2)
    assert (len(page.items), read.pop("documents")) == (2, 3)
    chosen = await shop.inventory.transfer_page(chosen=lambda one: one.id == transfers[-1].id, limit=5)
    assert (chosen.items, chosen.next, read.pop("documents")) == ([transfers[-1]], None, 40)


async def test_a_page_that_finds_little_ends_early(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at so many and tells where it stopped; the pages after it find the rest."""
    transfers, _ = await make_some(shop, 40)
    monkeypatch.setattr("engine.documents.MOST_LOOKED_AT", 10)
    monkeypatch.setattr("engine.documents.AT_ONCE", 4)
    found, after, pages = [], None, 0
    while True:
        page = await shop.inventory.transfer_page(
            chosen=lambda one: one.id in {transfers[0].id, transfers[-1].id}, after=after, limit=5
        )
        found, after, pages = found + page.items, page.next, pages + 1
        if after is None:
            break
    assert (found, pages) == ([transfers[0], transfers[-1]], 4)


async def test_pages_while_documents_come_and_go_on(wide: Shop) -> None:
    """What is made meanwhile is in front; what takes a step stays where it is."""
    transfers, _ = await make_some(wide, 10)
    first = await wide.inventory.transfer_page(limit=4)
    await make_stock(wide.inventory, "s1", mug=1)
    await wide.inventory.create_transfer("new", source="s1", target="s2", lines=[Goods("mug", 1)])
    for one in transfers:
        if one.state is TransferState.SHIPPED:
            await wide.inventory.receive_transfer(one.id)
    rest = await wide.inventory.transfer_page(after=first.next, limit=100)
    assert [one.id for one in (*first.items, *rest.items)] == [one.id for one in transfers]
    assert TransferState.SHIPPED not in {one.state for one in rest.items}


async def test_what_ended_long_ago_is_forgotten(wide: Shop) -> None:
    """Not a moment early, nor what is open; then it is unknown, in no list, and its id is free."""
    transfers, orders = await make_some(wide, 20)
    inventory, ended_ms = wide.inventory, wide.model.now_ms
    stood = {sku: await stand(inventory, sku) for sku in SKUS}
    over = {TransferState.RECEIVED, TransferState.CLOSED, TransferState.CANCELLED}
    kept = [one for one in transfers if one.state not in over]
    await sweep_at(wide, ended_ms + DOCUMENT_MS - 200_000)
    assert (await inventory.transfers(), await inventory.inbounds()) == (transfers, orders)
    await sweep_at(wide, ended_ms + DOCUMENT_MS)
    assert await inventory.transfers() == kept
    assert await inventory.inbounds() == [one for one in orders if one.state is InboundState.EXPECTED]
    assert 0 < len(kept) < 20
    assert {sku: await stand(inventory, sku) for sku in SKUS} == stood
    for one in transfers:
        if one not in kept:
            with pytest.raises(TransferNotFound):
                await inventory.transfer(one.id)
            with pytest.raises(TransferNotFound):
                await inventory.receive_transfer(one.id)
    for order in orders:
        if order.state is not InboundState.EXPECTED:
            with pytest.raises(InboundNotFound):
                await inventory.inbound(order.id)
    assert (await audit(inventory)).is_clean
    gone = next(one for one in transfers if one not in kept)
    again = await inventory.create_transfer(
        str(gone.reference), source="s7", target="s1", lines=[Goods(gone.lines[0].sku, 9)]
    )
    assert (again.id, again.state) == (gone.id, TransferState.DRAFT)
    assert (await inventory.transfers())[0] == again
    assert (await audit(inventory)).is_clean


async def test_the_sweeper_forgets(shop: Shop) -> None:
    """The worker does so by itself, after what was remembered of the steps."""
    await make_some(shop, 10)
    shop.wait(limits.DOCUMENT_SECONDS)
    sweeper = Sweeper(shop.inventory)
    async with asyncio.timeout(30):
        while len(await shop.inventory.transfers()) == 10:
            await sweeper.tick()
    assert not shop.control.exists(keys.operations(0))
    left = await shop.inventory.transfers()
    assert 0 < len(left) < 10
    assert {one.state for one in left} <= {TransferState.DRAFT, TransferState.SHIPPED}


async def sweep_at(shop: Shop, now_ms: int) -> None:
    """Sweeps at a moment, as if the last look was long ago."""
    shop.set_clock(now_ms)
    shop.inventory._trimmed_at = float("-inf")
    await shop.inventory.sweep()
