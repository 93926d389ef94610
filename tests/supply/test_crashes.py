"""Whoever takes a step of a document may die at any of its requests: others finish what it began, and nothing
happens twice.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count

import pytest

from engine import Inventory
from engine.audit import audit
from engine.errors import TransferNotFound
from engine.ids import INBOUND_PREFIX, TRANSFER_PREFIX, document_id
from engine.keys import route_of
from engine.types import Goods, Inbound, InboundState, Transfer, TransferState
from tests.concurrency.dying import Death, Request, live_until
from tests.driver import START_MS, Shop, open_shop
from tests.servers import Control, Server
from tests.supply.goods import make_stock, stand

PARTITIONS = 8
STOCK, MOST_REQUESTS = 10, 60
ON_THE_WAY = (TransferState.SHIPPED, TransferState.RECEIVING)
Act = Callable[[Inventory, str], Awaitable[object]]
"""A step of the transfer or inbound order of a name."""


@pytest.fixture
async def many(server: Server, control: Control) -> AsyncIterator[Shop]:
    """A fresh data set of many partitions."""
    opened = await open_shop(server.url, control, PARTITIONS)
    yield opened
    await opened.inventory.close()


def skus_of(name: str) -> list[str]:
    """Of its own, in several partitions."""
    return [f"{name}-{number}" for number in range(3)]


def id_of(shop: Inventory, name: str, prefix: str = TRANSFER_PREFIX) -> str:
    return document_id(prefix, route_of(skus_of(name)[0]), shop.dataset.ids.of_request("", name))


async def create(shop: Inventory, name: str) -> Transfer:
    goods = [Goods(sku, units) for sku, units in zip(skus_of(name), (5, 1, 12), strict=True)]
    return await shop.create_transfer(name, source="s1", target="s2", lines=goods)


async def ship(shop: Inventory, name: str) -> Transfer:
    return await shop.ship_transfer(id_of(shop, name), op_id=f"{name} ship")


async def ship_without_key(shop: Inventory, name: str) -> Transfer:
    return await shop.ship_transfer(id_of(shop, name))


async def receive_some(shop: Inventory, name: str) -> Transfer:
    goods = [Goods(sku, units) for sku, units in zip(skus_of(name)[:2], (3, 4), strict=True)]
    return await shop.receive_transfer(id_of(shop, name), goods, op_id=f"{name} receive")


async def receive_rest(shop: Inventory, name: str) -> Transfer:
    return await shop.receive_transfer(id_of(shop, name), close=True)


async def cancel(shop: Inventory, name: str) -> Transfer:
    return await shop.cancel_transfer(id_of(shop, name), op_id=f"{name} cancel")


async def expect(shop: Inventory, name: str) -> Inbound:
    return await shop.expect(name, sku=skus_of(name)[0], location="s2", quantity=7, expected_ms=START_MS)


async def receive_inbound(shop: Inventory, name: str) -> Inbound:
    return await shop.receive_inbound(f"{name} receive", id_of(shop, name, INBOUND_PREFIX), 3)


async def cancel_inbound(shop: Inventory, name: str) -> Inbound:
    return await shop.cancel_inbound(id_of(shop, name, INBOUND_PREFIX))


STEPS: dict[str, tuple[list[Act], Act]] = {
    # What was done before, and the step that somebody dies in.
    "create": ([], create),
    "ship": ([create], ship),
    "ship without a key": ([create], ship_without_key),
    "receive some": ([create, ship], receive_some),
    "receive the rest": ([create, ship, receive_some], receive_rest),
    "cancel a draft": ([create], cancel),
    "cancel on the way": ([create, ship, receive_some], cancel),
    "expect": ([], expect),
    "receive inbound": ([expect], receive_inbound),
    "cancel inbound": ([expect, receive_inbound], cancel_inbound),
}


async def check_transfer(shop: Inventory, name: str) -> None:
    """Every position is as the transfer says, which may be none yet."""
    try:
        transfer = await shop.transfer(id_of(shop, name))
    except TransferNotFound:
        for sku in skus_of(name):
            assert await stand(shop, sku) == {"s1": (STOCK, 0)}
        return
    for line in transfer.lines:
        sent = 0 if transfer.state is TransferState.DRAFT else line.quantity
        if transfer.state is TransferState.CANCELLED:
            # Of a draft nothing left; else all that did not come is back.
            sent = min(line.quantity, line.received)
            assert line.returned in {0, line.quantity - sent}
        way = max(0, line.quantity - line.received) if transfer.state in ON_THE_WAY else 0
        found = await stand(shop, line.sku)
        assert found.pop("s1") == (STOCK - sent, 0), transfer
        assert found in ({"s2": (line.received, way)}, {} if not line.received + way else None), transfer


async def check_inbound(shop: Inventory, name: str) -> None:
    """The position is as the inbound order says, which may be none yet."""
    found = {one.sku: one for one in await shop.inbounds()}.get(skus_of(name)[0])
    if found is not None:
        left = found.quantity - found.received if found.state is InboundState.EXPECTED else 0
        assert (await stand(shop, found.sku)) == {"s1": (STOCK, 0), "s2": (found.received, left)}


@pytest.mark.parametrize("death", Death)
@pytest.mark.parametrize("step", STEPS)
async def test_a_death_at_any_request(many: Shop, step: str, death: Death) -> None:
    """The sweeper finishes what was begun; the caller's repeat does what was not. Either comes first."""
    shop, numbers = many.inventory, count()
    before, act = STEPS[step]
    check = check_inbound if "inbound" in step or step == "expect" else check_transfer
    for nth in range(1, MOST_REQUESTS):
        name = f"{death}-{next(numbers)}"
        await make_stock(shop, "s1", **dict.fromkeys(skus_of(name), STOCK))
        for done in before:
            await done(shop, name)
        lost: list[Request] = []
        answer = await live_until(shop, nth, death, lambda one, name=name: act(one, name), lost=lost)
        if nth % 2:
            many.wait(6)
            await shop.sweep()
            await check(shop, name)
        repeated = await act(shop, name)
        await check(shop, name)
        for script, argument, positions in lost:
            # It was but late: what it tells has long happened, or somebody else decided meanwhile.
            await shop.dataset.link.submit(script, argument, positions)
        many.wait(6)
        await shop.sweep()
        await check(shop, name)
        if answer is not None:
            assert {type(answer), type(repeated)} <= {Transfer, Inbound}
            break
    else:
        pytest.fail(f"{step} makes more than {MOST_REQUESTS} requests")
    assert nth > 2, "nothing was cut off"
    for commands in shop.dataset.commands:
        assert (await commands.outbox(9, 0))[3] == []
    assert (await audit(shop)).is_clean
