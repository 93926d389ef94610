"""Transfers and inbound orders, and what they bring, go with the data set."""

import pytest
from redis import Redis

import engine
from engine import Inventory, Location, LocationKind, Movement, MovementKind
from engine.audit import audit
from engine.errors import IdempotencyMismatch
from engine.repartition import repartition
from engine.sourcing_plan import Rules, Wanted
from engine.topology.embedded import EmbeddedServer
from engine.types import Goods, Inbound, Transfer, Uncovered
from tests.concurrency.dying import Death, live_until

START_MS, SKUS = 1_700_000_000_000, [f"sku-{number}" for number in range(5)]


async def trade(shop: Inventory) -> tuple[list[Transfer], list[Inbound]]:
    """Transfers and orders in every state; one step is not finished."""
    for place in ("s1", "s2"):
        await shop.save_location(Location(place, LocationKind.STORE))
    for sku in SKUS:
        await shop.record(Movement(f"m-{sku}", MovementKind.RECEIVE, sku, "s1", 50))
    sent = []
    for number in range(5):
        goods = [Goods(sku, number + 1) for sku in SKUS]
        sent.append(await shop.create_transfer(f"t{number}", source="s1", target="s2", lines=goods))
    for transfer in sent[1:4]:
        await shop.ship_transfer(transfer.id, op_id=f"ship {transfer.id}")
    await shop.receive_transfer(sent[2].id, [Goods(SKUS[0], 1)], op_id="some")
    await shop.receive_transfer(sent[3].id)
    assert await live_until(shop, 4, Death.UNSENT, lambda one: one.ship_transfer(sent[4].id)) is None
    orders = [
        await shop.expect(
            f"i{number}", sku=sku, location="s2", quantity=9, expected_ms=START_MS + number, reference="PO"
        )
        for number, sku in enumerate(SKUS)
    ]
    await shop.receive_inbound("r1", orders[1].id, 4)
    await shop.cancel_inbound(orders[2].id)
    return await shop.transfers(), await shop.inbounds()


@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 1)], ids=lambda number: f"P{number}")
async def test_documents_are_kept(
    server: EmbeddedServer,
    control: "Redis[bytes]",
    other_server: EmbeddedServer,
    target: "Redis[bytes]",
    before: int,
    after: int,
) -> None:
    """They read the same, repeats are known, and each goes on: also the step that was not finished."""
    source = await engine.connect(server.url, partitions=before)
    seen = await trade(source)
    expected = {sku: {one.location: one.inbound for one in await source.stock(sku)} for sku in SKUS}
    assert (await audit(source)).is_clean
    await source.close()
    await repartition(server.url, other_server.url, after)
    shop = await engine.connect(other_server.url)
    try:
        assert (await shop.transfers(), await shop.inbounds()) == seen
        assert {sku: {one.location: one.inbound for one in await shop.stock(sku)} for sku in SKUS} == expected
        order = next(one for one in seen[1] if one.received)
        assert (await shop.receive_inbound("r1", order.id, 4)).replayed
        with pytest.raises(IdempotencyMismatch):
            await shop.receive_inbound("r1", order.id, 5)
        await shop.receive_inbound("r2", order.id, 5)
        for transfer in seen[0]:
            await shop.ship_transfer(transfer.id)
            await shop.receive_transfer(transfer.id)
        for number, sku in enumerate(SKUS):
            stood = {one.location: (one.on_hand, one.inbound) for one in await shop.stock(sku)}
            came = 9 if sku == order.sku else 0
            left = 0 if sku == order.sku or number == 2 else 9
            assert stood == {"s1": (50 - 15, 0), "s2": (15 + came, left)}, sku
        assert (await audit(shop)).is_clean
    finally:
        await shop.close()


@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 1)], ids=lambda number: f"P{number}")
async def test_who_waits_still_waits(
    server: EmbeddedServer,
    control: "Redis[bytes]",
    other_server: EmbeddedServer,
    target: "Redis[bytes]",
    before: int,
    after: int,
) -> None:
    """Units promised of what is expected stay so, those without cover do too; what comes is for them."""
    source = await engine.connect(server.url, partitions=before)
    await source.save_location(Location("s1", LocationKind.STORE))
    made = {}
    for number, sku in enumerate(SKUS):
        await source.record(Movement(f"m-{sku}", MovementKind.RECEIVE, sku, "s1", 4))
        await source.expect(f"i-{sku}", sku=sku, location="s1", quantity=9, expected_ms=START_MS + number)
        made[sku] = await source.source(sku, [Wanted(sku, 7, "s1")], rules=Rules(from_inbound=True))
    await source.record(Movement("lost", MovementKind.ADJUST, SKUS[0], "s1", -2, reason="theft"))
    seen = {sku: [one.preordered for one in await source.stock(sku)] for sku in SKUS}
    promised = {sku: await source.promises(made[sku].id) for sku in SKUS}
    assert (await audit(source)).is_clean
    await source.close()
    await repartition(server.url, other_server.url, after)
    shop = await engine.connect(other_server.url)
    try:
        assert {sku: [one.preordered for one in await shop.stock(sku)] for sku in SKUS} == seen
        assert seen == {sku: [3] for sku in SKUS}
        assert {sku: await shop.promises(made[sku].id) for sku in SKUS} == promised
        assert await shop.uncovered(SKUS[0], "s1") == [Uncovered(made[SKUS[0]].id, 2)]
        for order in await shop.inbounds():
            await shop.receive_inbound(f"r-{order.id}", order.id, 5)
        found = {sku: [(one.available, one.preordered) for one in await shop.stock(sku)] for sku in SKUS}
        assert found == {SKUS[0]: [(0, 0)], **{sku: [(2, 0)] for sku in SKUS[1:]}}
        assert (await audit(shop)).is_clean
    finally:
        await shop.close()
