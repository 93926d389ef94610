"""Baskets over partitions that take of fences, or wait for inbound goods: whoever coordinates them may die
at any request, and the counters end as without the step or as after it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest

from engine import Channel, Inventory, Line, Movement, MovementKind, Pool, Reservation
from engine.audit import audit
from engine.errors import InsufficientStock
from engine.sourcing_plan import Rules, Wanted
from tests.concurrency.dying import Death, live_until
from tests.driver import Shop, open_shop, skus_in
from tests.servers import Control, Server

PARTITIONS, STOCK, FENCED, INBOUND = 4, 8, 3, 30
"""Enough for two: who repeats a request is told what is free beside what the dead one still holds."""
MOST_REQUESTS = 60
SOON = 2_000_000_000_000
TTL_SECONDS = 900
Counters = list[tuple[int, ...]]


@dataclass
class Basket:
    """Two SKUs in two partitions. `taken` is what it asks of each: of the fence, or beyond what is there."""

    key: str
    skus: tuple[str, str]
    rules: Rules
    taken: int
    id: str = ""


Act = Callable[[Inventory, Basket], Awaitable[object]]


async def source(inventory: Inventory, basket: Basket) -> Reservation:
    wanted = [Wanted(sku, basket.taken) for sku in basket.skus]
    return await inventory.source(basket.key, wanted, rules=basket.rules, ttl_seconds=TTL_SECONDS)


async def source_too_much(inventory: Inventory, basket: Basket) -> None:
    first, second = basket.skus
    wanted = [Wanted(first, basket.taken), Wanted(second, STOCK + INBOUND + 1)]
    with pytest.raises(InsufficientStock):
        await inventory.source(basket.key, wanted, rules=basket.rules, ttl_seconds=TTL_SECONDS)


async def commit(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.commit(basket.id)


async def commit_some(inventory: Inventory, basket: Basket) -> Reservation:
    lines = [Line(sku, 1, "s1") for sku in basket.skus]
    return await inventory.commit(basket.id, lines=lines, op_id=f"{basket.key} some")


async def release(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.release(basket.id)


async def cancel(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.cancel(basket.id)


async def replace(inventory: Inventory, basket: Basket) -> Reservation:
    """Less of one and none of the other."""
    return await inventory.replace_lines(
        basket.id, [Line(basket.skus[0], 1, "s1")], op_id=f"{basket.key} less"
    )


KINDS = {
    "fenced": (Rules(channel="web"), FENCED + 1),
    "waiting": (Rules(pool="all", from_inbound=True), STOCK + 2),
}
SCENARIOS: dict[str, tuple[tuple[Act, ...], Act]] = {
    "source": ((), source),
    "source too much": ((), source_too_much),
    "commit": ((source,), commit),
    "commit some": ((source,), commit_some),
    "release": ((source,), release),
    "replace": ((source,), replace),
    "cancel": ((source, commit), cancel),
}


@dataclass
class Yard:
    """A shop with fences and inbound goods, and as many fresh baskets as one wants."""

    shop: Shop
    names: list[Iterator[str]]
    numbers: Iterator[int] = field(default_factory=count)

    async def new_basket(self, kind: str, before: Sequence[Act]) -> Basket:
        inventory, number = self.shop.inventory, next(self.numbers)
        skus = next(self.names[number % PARTITIONS]), next(self.names[(number + 1) % PARTITIONS])
        for sku in skus:
            await inventory.record(Movement(f"in {sku}", MovementKind.RECEIVE, sku, "s1", STOCK))
            if kind == "fenced":
                await inventory.save_fence("web", sku, "s1", FENCED, spill=True)
            else:
                await inventory.expect(sku, sku=sku, location="s1", quantity=INBOUND, expected_ms=SOON)
        basket = Basket(f"basket {number}", skus, *KINDS[kind])
        for act in before:
            told = await act(inventory, basket)
            assert isinstance(told, Reservation)
            basket.id = told.id
        return basket

    async def counters_of(self, basket: Basket) -> Counters:
        rows = [await self.shop.inventory.stock(sku) for sku in basket.skus]
        return [
            (at.on_hand, at.held, at.allocated, at.fenced, at.inbound, at.preordered, at.available)
            for (at,) in rows
        ]

    async def check_books(self) -> None:
        report = await audit(self.shop.inventory)
        assert report.is_clean, (report.differences, report.violations, report.notes)


@pytest.fixture
async def yard(server: Server, control: Control) -> AsyncIterator[Yard]:
    shop = await open_shop(server.url, control, PARTITIONS)
    await shop.inventory.save_pool(Pool("all", ("s1",)))
    await shop.inventory.save_channel(Channel("web", ("all",)))
    yield Yard(shop, [skus_in(partition, PARTITIONS) for partition in range(PARTITIONS)])
    await shop.inventory.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_coordinator_dies_at_each_request(yard: Yard, kind: str, name: str) -> None:
    """In one half of the cases another process repeats the request; sweepers do the rest."""
    (earlier, act), inventory = SCENARIOS[name], yard.shop.inventory
    basket = await yard.new_basket(kind, earlier)
    fresh = await yard.counters_of(await yard.new_basket(kind, ()))
    before = await yard.counters_of(basket)
    await act(inventory, basket)
    await inventory.baskets.close()
    after = await yard.counters_of(basket)
    assert (before == after) == (act is source_too_much)
    cases = list[tuple[Basket, bool]]()
    deaths = 0
    for death in Death:
        for is_repeated in (False, True):
            for nth in range(1, MOST_REQUESTS):
                basket = await yard.new_basket(kind, earlier)
                has_lived = False

                async def go(process: Inventory, basket: Basket = basket) -> None:
                    nonlocal has_lived
                    await act(process, basket)
                    has_lived = True

                await live_until(inventory, nth, death, go)
                if is_repeated:
                    await act(inventory, basket)
                cases.append((basket, has_lived or is_repeated))
                if has_lived:
                    break
                deaths += 1
            else:
                pytest.fail("it never ends")
    assert deaths >= len(Death) * 2
    for _ in range(2):
        yard.shop.wait(31)
        await inventory.sweep()
    for basket, was_answered in cases:
        found = await yard.counters_of(basket)
        assert found in ([after] if was_answered else [before, after]), (basket, was_answered)
    await yard.check_books()
    yard.shop.wait(2 * TTL_SECONDS)
    await inventory.sweep()
    for basket, _ in cases:
        for now, at_first in zip(await yard.counters_of(basket), fresh, strict=True):
            # Nothing is held any more; without a commit all is as it was.
            assert now[1] == 0
            assert now[2] or now == at_first, basket
    await yard.check_books()
