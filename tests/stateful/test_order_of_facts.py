"""Late facts, in whatever order: on_hand is the newest count and what came and went after it."""

import asyncio
from collections.abc import Sequence
from itertools import count as numbers
from itertools import permutations
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import Count, Inventory, Line, Movement, MovementKind, keys, moves
from engine.audit import audit
from tests.driver import Shop, open_shop
from tests.servers import Control, Server

AGES_MS = (1, 2, 3, 10, 5000, 7 * 86_400_000)
LATEST_MS = 10**6
"""The facts are older than that, and what happens between them is younger."""


class Fact(NamedTuple):
    """Units that came or went, or were counted, so long ago. `number` tells facts apart."""

    number: int
    is_count: bool
    age_ms: int
    units: int

    def at_ms(self, now_ms: int) -> int:
        return now_ms - LATEST_MS - self.age_ms


@st.composite
def facts(draw: st.DrawFn, most: int) -> tuple[Fact, ...]:
    """Some facts, of which several are of one moment."""
    size = draw(st.integers(1, most))
    return tuple(
        Fact(number, is_count, draw(st.sampled_from(AGES_MS)), draw(st.integers(0 if is_count else -9, 30)))
        for number in range(size)
        for is_count in (draw(st.booleans()),)
    )


def rule(shop: Shop, told: Sequence[Fact], now_ms: int, sku: str) -> tuple[int, bytes | None]:
    """What the documents say: on_hand, and the id of the newest count."""
    ids = shop.inventory.dataset.ids
    counts = [
        (fact.at_ms(now_ms), ids.of_movement("", name_of(sku, fact)), fact.units)
        for fact in told
        if fact.is_count
    ]
    since_ms, newest, units = max(counts, default=(0, None, 0))
    came = [fact for fact in told if not fact.is_count and fact.at_ms(now_ms) > since_ms]
    return units + sum(fact.units for fact in came), newest


def name_of(sku: str, fact: Fact) -> str:
    return f"{sku} {fact.number}"


async def tell(inventory: Inventory, sku: str, fact: Fact, now_ms: int) -> None:
    """Tells a fact of `sku` at s1."""
    name, at_ms = name_of(sku, fact), fact.at_ms(now_ms)
    if fact.is_count:
        await inventory.count(Count(name, sku, "s1", fact.units, at_ms))
    elif fact.units:
        kind = MovementKind.ADJUST
        await inventory.record(Movement(name, kind, sku, "s1", fact.units, occurred_ms=at_ms))


async def newest_of(shop: Shop, sku: str) -> bytes | None:
    """The id of the newest count, as it is kept."""
    partition = keys.partition_of(sku, shop.partitions)
    (kept,) = await shop.inventory.dataset.topology.read_at_once(
        ("HGET", keys.counts(partition), moves.position_name(sku, "s1"))
    )
    return None if kept is None else bytes(kept[6:18])  # type: ignore[index] - it is bytes


class Shelf:
    """Tells facts in any order on SKUs of its own, with holds and fulfilments in between."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._numbers = numbers()

    async def check(self, told: Sequence[Fact], order: Sequence[int], random: Random) -> None:
        """Tells facts in an order, some twice, while goods are promised and leave."""
        shop, inventory, now_ms = self.shop, self.shop.inventory, self.shop.model.now_ms
        sku, left = f"sku {next(self._numbers)}", 0
        started = Fact(10**6, is_count=False, age_ms=10**9, units=500)
        await tell(inventory, sku, started, now_ms)
        for at, number in enumerate(order):
            await tell(inventory, sku, told[number], now_ms)
            if random.random() < 0.3:
                await tell(inventory, sku, told[random.choice(order[: at + 1])], now_ms)
            if random.random() < 0.3:
                (position,) = await inventory.stock(sku)
                if position.available > 0:
                    held = await inventory.reserve(f"{sku} {at}", [Line(sku, 1, "s1")])
                    if random.random() < 0.6:
                        await inventory.commit(held.id, fulfil=True)
                        left += 1
        on_hand, newest = rule(shop, (*told, started), now_ms, sku)
        (position,) = await inventory.stock(sku)
        assert position.on_hand == on_hand - left, (told, order)
        assert await newest_of(shop, sku) == newest, (told, order)


def test_all_orders_of_a_few_facts(server: Server, control: Control, runner: asyncio.Runner) -> None:
    """Every permutation of five: counts and movements of the same and of other moments."""
    told = (
        Fact(0, is_count=True, age_ms=5, units=20),
        Fact(1, is_count=False, age_ms=5, units=-3),
        Fact(2, is_count=False, age_ms=4, units=-7),
        Fact(3, is_count=True, age_ms=9, units=90),
        Fact(4, is_count=False, age_ms=9, units=40),
    )
    shop = runner.run(open_shop(server.url, control, 1))
    shelf = Shelf(shop)

    async def go() -> None:
        for number, order in enumerate(permutations(range(len(told)))):
            await shelf.check(told, order, Random(number))
        report = await audit(shop.inventory)
        assert report.is_clean, report
        await shop.inventory.close()

    runner.run(go())


@pytest.mark.timeout(300)
def test_any_order_of_many_facts(
    server: Server, control: Control, partitions: int, runner: asyncio.Runner
) -> None:
    """Any facts in any order, with repeats, holds and fulfilments in between; the books stay clean."""
    shop = runner.run(open_shop(server.url, control, partitions))
    shelf = Shelf(shop)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(facts(12), st.integers(0, 10**6))
    def hold(told: tuple[Fact, ...], seed: int) -> None:
        random = Random(seed)
        order = list(range(len(told)))
        random.shuffle(order)
        runner.run(shelf.check(told, order, random))

    hold()

    async def end() -> None:
        report = await audit(shop.inventory)
        assert report.is_clean, report
        await shop.inventory.close()

    runner.run(end())
