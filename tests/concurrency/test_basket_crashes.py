"""Whoever coordinates a basket may die before or after each of its requests: what it began is finished or
undone by others, and an answer that was given holds.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest

from engine import Inventory, Line, Movement, MovementKind, Reservation, Unavailable, keys, limits
from engine.audit import audit
from engine.errors import InsufficientStock, Refused, ReservationNotFound
from engine.ids import keeper_of, reservation_id
from engine.sweep import sweep_all
from tests.concurrency.dying import Death, Request, live_until
from tests.driver import RETENTION_SECONDS, Shop, open_shop, skus_in
from tests.servers import Control, Server

PARTITIONS = 8
STOCK = 10
MOST_REQUESTS = 40
REPAIRS_AT = 2**51
"""Where repairs stand in the index of deadlines: `lua/lib/batch.lua`."""
BOUND_KIND = b"\4"
TTL_SECONDS = 900
HOUR_SECONDS = 3600


@dataclass(frozen=True)
class Basket:
    """A basket of its own SKUs, three of them in three partitions; a fourth may come to it."""

    key: str
    skus: tuple[str, str, str, str]
    id: str

    @property
    def lines(self) -> list[Line]:
        return self.with_units(2, 3, 1)

    def with_units(self, *units: int) -> list[Line]:
        """Lines with so many units of the first SKUs, of which some may have none."""
        return [Line(sku, count, "s1") for sku, count in zip(self.skus, units, strict=False) if count]


Act = Callable[[Inventory, Basket], Awaitable[object]]
Columns = list[tuple[int, int, int, int]]
"""Held, committed, fulfilled and released units of each SKU."""


async def reserve(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.reserve(basket.key, basket.lines, ttl_seconds=TTL_SECONDS)


async def reserve_too_much(inventory: Inventory, basket: Basket) -> None:
    a, b, c = basket.lines
    with pytest.raises(InsufficientStock) as refused:
        await inventory.reserve(basket.key, [a, Line(b.sku, STOCK + 1, "s1"), c])
    assert [(short.line, short.available) for short in refused.value.shortages] == [(1, STOCK)]


async def reserve_one(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.reserve(basket.key, basket.lines[:1], ttl_seconds=TTL_SECONDS)


async def commit(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.commit(basket.id)


async def commit_under_a_key(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.commit(basket.id, op_id=f"{basket.key} commit", reference="order 7")


async def commit_some(inventory: Inventory, basket: Basket) -> Reservation:
    some = [Line(basket.skus[1], 2, "s1"), Line(basket.skus[2], 1, "s1")]
    return await inventory.commit(basket.id, lines=some, remainder="keep", op_id=f"{basket.key} some")


async def sell(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.commit(basket.id, fulfil=True)


async def release(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.release(basket.id)


async def release_some(inventory: Inventory, basket: Basket) -> Reservation:
    some = [Line(basket.skus[0], 1, "s1"), Line(basket.skus[2], 1, "s1")]
    return await inventory.release(basket.id, lines=some, op_id=f"{basket.key} some")


async def extend(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.extend(basket.id, 2 * TTL_SECONDS)


async def fulfil(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.fulfil(basket.id)


async def cancel(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.cancel(basket.id)


async def cancel_some(inventory: Inventory, basket: Basket) -> Reservation:
    some = [Line(basket.skus[1], 2, "s1")]
    return await inventory.cancel(basket.id, lines=some, op_id=f"{basket.key} some")


async def replace(inventory: Inventory, basket: Basket) -> Reservation:
    """More of one, none of another, as many of the third, and a new one."""
    return await inventory.replace_lines(basket.id, basket.with_units(4, 0, 1, 2))


async def replace_under_a_key(inventory: Inventory, basket: Basket) -> Reservation:
    lines = basket.with_units(1, 5, 0, 2)
    return await inventory.replace_lines(basket.id, lines, op_id=f"{basket.key} other lines")


async def replace_by_others(inventory: Inventory, basket: Basket) -> Reservation:
    """Nothing of what it had."""
    return await inventory.replace_lines(basket.id, basket.with_units(0, 0, 0, 3))


async def replace_by_fewer(inventory: Inventory, basket: Basket) -> Reservation:
    return await inventory.replace_lines(basket.id, basket.with_units(1, 0, 1))


async def replace_by_too_many(inventory: Inventory, basket: Basket) -> None:
    with pytest.raises(InsufficientStock) as refused:
        await inventory.replace_lines(basket.id, basket.with_units(4, 0, 1, STOCK + 1))
    assert [(short.line, short.available) for short in refused.value.shortages] == [(2, STOCK)]


@dataclass(frozen=True)
class Scenario:
    """A step that is cut short, and what had been done before."""

    act: Act
    before: Sequence[Act] = ()

    @property
    def name(self) -> str:
        """The names of its acts, but that of the usual beginning."""
        return " ".join(act.__name__ for act in (*self.before, self.act) if act is not reserve) or "reserve"


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(reserve),
        Scenario(reserve_too_much),
        Scenario(reserve_one),
        Scenario(commit, (reserve,)),
        Scenario(commit_under_a_key, (reserve,)),
        Scenario(commit_some, (reserve,)),
        Scenario(sell, (reserve,)),
        Scenario(release, (reserve,)),
        Scenario(release_some, (reserve,)),
        Scenario(extend, (reserve,)),
        Scenario(fulfil, (reserve, commit)),
        Scenario(cancel, (reserve, commit)),
        Scenario(cancel_some, (reserve, commit)),
        Scenario(replace, (reserve,)),
        Scenario(replace_under_a_key, (reserve,)),
        Scenario(replace_by_others, (reserve,)),
        Scenario(replace_by_fewer, (reserve,)),
        Scenario(replace_by_too_many, (reserve,)),
        Scenario(replace, (reserve_one,)),
        Scenario(replace_by_too_many, (reserve_one,)),
        Scenario(replace_under_a_key, (reserve, replace)),
        Scenario(replace, (reserve, replace_by_others)),
        Scenario(release_some, (reserve, replace)),
        Scenario(sell, (reserve, replace)),
        Scenario(commit_under_a_key, (reserve_one, replace)),
    )
}


REPLACING = ("replace", "replace_by_others", "replace_by_too_many", "reserve_one replace")


@dataclass
class Yard:
    """A shop of many partitions, and as many fresh baskets as one wants."""

    shop: Shop
    names: list[Iterator[str]]
    numbers: Iterator[int] = field(default_factory=count)

    async def new_basket(self, before: Sequence[Act]) -> Basket:
        """Its SKUs have stock; its key's keeper is none of the partitions that it touches, nor are the first
        two of them always the same.
        """
        inventory, number = self.shop.inventory, next(self.numbers)
        places = [(number * 3 + step) % PARTITIONS for step in range(4)]
        sku_a, sku_b, sku_c, sku_d = (next(self.names[place]) for place in places)
        for sku in (sku_a, sku_b, sku_c, sku_d):
            await inventory.record(Movement(f"in {sku}", MovementKind.RECEIVE, sku, "s1", STOCK))
        ids = inventory.dataset.ids
        key = next(
            key
            for key in (f"basket {number}.{attempt}" for attempt in count())
            if keeper_of(ids.of_request("", key), PARTITIONS) not in places
        )
        public = reservation_id(keys.route_of(sku_a), ids.of_request("", key))
        basket = Basket(key, (sku_a, sku_b, sku_c, sku_d), public)
        for act in before:
            await act(inventory, basket)
        return basket

    async def let_sweepers_work(self) -> None:
        """Until all that was begun is finished: a part asks half a minute after it was held."""
        for _ in range(2):
            self.shop.wait(31)
            await self.shop.inventory.sweep()

    async def columns_of(self, basket: Basket) -> Columns:
        try:
            found = await self.shop.inventory.reservation(basket.id)
        except ReservationNotFound:
            return []
        known = {line.sku: (line.held, line.committed, line.fulfilled, line.released) for line in found.lines}
        return [known.get(sku, (0, 0, 0, 0)) for sku in basket.skus]

    async def compare_counters(self, basket: Basket, columns: Columns) -> None:
        """Each partition has just the units that the basket has."""
        units = dict(zip(basket.skus, columns or [(0, 0, 0, 0)] * 4, strict=True))
        positions = self.shop.read_books(basket.skus).positions
        for sku in basket.skus:
            held, committed, fulfilled, _ = units.get(sku, (0, 0, 0, 0))
            position = positions[sku, "s1"]
            found = position.on_hand, position.held, position.allocated
            assert found == (STOCK - fulfilled, held, committed), (basket, columns)
            told = await self.shop.inventory.availability(sku)
            assert told.available == STOCK - held - committed - fulfilled

    async def check_books(self) -> None:
        report = await audit(self.shop.inventory)
        assert report.is_clean, (report.differences, report.violations, report.notes)
        for partition in range(PARTITIONS):
            due = self.shop.control.zrangebyscore(keys.due(partition), REPAIRS_AT, "+inf")
            assert not due, f"partition {partition} has repairs that nobody ends"

    async def check_the_end(self, baskets: Sequence[Basket]) -> None:
        """After the last deadline nothing is held, and later nothing is bound."""
        self.shop.wait(2 * TTL_SECONDS + 1)
        await self.shop.inventory.sweep()
        for basket in baskets:
            columns = await self.columns_of(basket)
            assert not sum(held for held, _, _, _ in columns)
            await self.compare_counters(basket, columns)
        await self.check_books()
        self.shop.wait(2 * TTL_SECONDS + RETENTION_SECONDS + 1)
        await self.shop.inventory.sweep()
        for partition in range(PARTITIONS):
            kept = self.shop.control.hgetall(keys.operations(partition))
            assert not [record for record in kept.values() if record.startswith(BOUND_KIND)]


@pytest.fixture
async def yard(server: Server, control: Control) -> AsyncIterator[Yard]:
    shop = await open_shop(server.url, control, PARTITIONS)
    yield Yard(shop, [skus_in(partition, PARTITIONS) for partition in range(PARTITIONS)])
    await shop.inventory.close()


@dataclass(frozen=True)
class Case:
    """What a coordinator left behind."""

    basket: Basket
    was_answered: bool


async def expect(yard: Yard, scenario: Scenario) -> tuple[Columns, Columns]:
    """The units before the step and after it, where nobody dies."""
    basket = await yard.new_basket(scenario.before)
    before = await yard.columns_of(basket)
    await scenario.act(yard.shop.inventory, basket)
    return before, await yard.columns_of(basket)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_coordinator_dies_at_each_request(yard: Yard, name: str) -> None:
    """In one half of the cases another process repeats the request; sweepers do the rest."""
    scenario, inventory, cases = SCENARIOS[name], yard.shop.inventory, list[Case]()
    before, after = await expect(yard, scenario)
    deaths = 0
    for death in Death:
        for is_repeated in (False, True):
            for nth in range(1, MOST_REQUESTS):
                basket = await yard.new_basket(scenario.before)
                has_lived = False

                async def act(process: Inventory, basket: Basket = basket) -> None:
                    nonlocal has_lived
                    await scenario.act(process, basket)
                    has_lived = True

                await live_until(inventory, nth, death, act)
                if is_repeated:
                    await scenario.act(inventory, basket)
                cases.append(Case(basket, has_lived or is_repeated))
                if has_lived:
                    break
                deaths += 1
            else:
                pytest.fail("it never ends")
    assert deaths >= len(Death) * 2
    await yard.let_sweepers_work()
    for case in cases:
        columns = await yard.columns_of(case.basket)
        assert columns in ([after] if case.was_answered else [before, after]), case
        await yard.compare_counters(case.basket, columns)
    await yard.check_books()
    await yard.check_the_end([case.basket for case in cases])


@pytest.mark.parametrize("name", ["reserve", "reserve_too_much", "commit_some", "release", *REPLACING])
async def test_two_coordinators_of_which_one_dies(yard: Yard, name: str) -> None:
    """Both seek the same basket, or take the same step, at the same time; the one that lives is answered."""
    scenario, inventory, baskets = SCENARIOS[name], yard.shop.inventory, list[Basket]()
    _, after = await expect(yard, scenario)
    for death in Death:
        for lives_first in (False, True):
            for nth in range(1, MOST_REQUESTS):
                basket = await yard.new_basket(scenario.before)
                has_lived = False

                async def act(process: Inventory, basket: Basket = basket) -> None:
                    nonlocal has_lived
                    await scenario.act(process, basket)
                    has_lived = True

                both = [live_until(inventory, nth, death, act), scenario.act(inventory, basket)]
                await asyncio.gather(*(reversed(both) if lives_first else both))
                assert await yard.columns_of(basket) == after
                baskets.append(basket)
                if has_lived:
                    break
            else:
                pytest.fail("it never ends")
    await yard.let_sweepers_work()
    for basket in baskets:
        assert await yard.columns_of(basket) == after
        await yard.compare_counters(basket, after)
    await yard.check_books()
    await yard.check_the_end(baskets)


@pytest.mark.parametrize(
    "name", ["reserve", "reserve_too_much", "commit_some", "sell", "release", *REPLACING]
)
async def test_the_repairer_dies_at_each_request(yard: Yard, name: str) -> None:
    """After the coordinator every repairer dies too, each one request later than the one before, until one
    comes to an end.
    """
    scenario, inventory, baskets = SCENARIOS[name], yard.shop.inventory, list[Basket]()
    before, after = await expect(yard, scenario)
    deaths = 0

    async def repair(process: Inventory) -> bool:
        for partition in range(PARTITIONS):
            await process.baskets.repair(partition)
        return True

    for death in (Death.UNSENT, Death.UNANSWERED):
        for nth in range(1, MOST_REQUESTS):
            basket = await yard.new_basket(scenario.before)
            has_lived = False

            async def act(process: Inventory, basket: Basket = basket) -> None:
                nonlocal has_lived
                await scenario.act(process, basket)
                has_lived = True

            await live_until(inventory, nth, death, act)
            yard.shop.wait(31)
            await asyncio.gather(*(sweep_all(commands) for commands in inventory.dataset.commands))
            for repairs in range(1, MOST_REQUESTS):
                if await live_until(inventory, repairs, death, repair):
                    break
                deaths += 1
                yard.shop.wait(6)
            else:
                pytest.fail("it is never repaired")
            columns = await yard.columns_of(basket)
            assert columns in (before, after)
            await yard.compare_counters(basket, columns)
            baskets.append(basket)
            if has_lived:
                break
        else:
            pytest.fail("it never ends")
    assert deaths > PARTITIONS
    await yard.let_sweepers_work()
    await yard.check_books()
    await yard.check_the_end(baskets)


@pytest.mark.parametrize("name", ["reserve", "reserve_too_much", "commit_some", "release", *REPLACING])
async def test_a_request_comes_when_all_is_over(yard: Yard, name: str) -> None:
    """The network kept it until sweepers had finished what its sender began: a part that is held then belongs
    to nobody, and is given back.
    """
    scenario, inventory = SCENARIOS[name], yard.shop.inventory
    before, after = await expect(yard, scenario)
    for nth in range(1, MOST_REQUESTS):
        basket, lost = await yard.new_basket(scenario.before), list[Request]()
        await live_until(inventory, nth, Death.LOST, lambda by, it=basket: scenario.act(by, it), lost=lost)
        if not lost:
            break
        await yard.let_sweepers_work()
        (request,) = lost
        await inventory.dataset.link.submit(*request)
        await yard.let_sweepers_work()
        columns = await yard.columns_of(basket)
        assert columns in (before, after)
        await yard.compare_counters(basket, columns)
    else:
        pytest.fail("it never ends")
    await yard.let_sweepers_work()
    await yard.check_books()


@pytest.mark.parametrize("name", ["commit_some", "sell", "release", "commit cancel", "replace"])
async def test_the_clock_was_ahead_when_the_coordinator_died(yard: Yard, name: str) -> None:
    """By an hour, until engine time was set right. Sweepers do not wait for that hour before they tell the
    parts, neither of a step that was taken meanwhile nor of one that a sweeper meanwhile did not finish.
    """
    scenario, inventory, cases = SCENARIOS[name], yard.shop.inventory, list[Case]()
    before, after = await expect(yard, scenario)
    for nth in range(1, MOST_REQUESTS):
        early, late = await yard.new_basket(scenario.before), await yard.new_basket(scenario.before)
        true_ms = yard.shop.model.now_ms
        has_lived = await live_until(inventory, nth, Death.UNSENT, lambda by, it=early: scenario.act(by, it))
        yard.shop.wait(HOUR_SECONDS)
        await live_until(inventory, nth, Death.UNSENT, lambda by, it=late: scenario.act(by, it))
        for partition in range(PARTITIONS):
            await inventory.dataset.commands[partition].repair(limits.REPAIR_IDS)
        yard.shop.set_clock(true_ms)
        cases += [Case(early, has_lived is not None), Case(late, has_lived is not None)]
        if has_lived is not None:
            break
    else:
        pytest.fail("it never ends")
    await inventory.sweep()
    for case in cases:
        columns = await yard.columns_of(case.basket)
        assert columns in ([after] if case.was_answered else [before, after]), case
        await yard.compare_counters(case.basket, columns)
    await yard.let_sweepers_work()
    await yard.check_books()


async def test_a_movement_whose_id_was_bound(yard: Yard) -> None:
    """The keeper knows the id before the goods are counted; whoever repeats it counts them once."""
    inventory, ids = yard.shop.inventory, yard.shop.inventory.dataset.ids
    for death in Death:
        for nth in range(1, MOST_REQUESTS):
            basket = await yard.new_basket(())
            sku, home = basket.skus[0], keys.partition_of(basket.skus[0], PARTITIONS)
            key = next(
                key
                for key in (f"{basket.key} {attempt}" for attempt in count())
                if keeper_of(ids.of_movement("", key), PARTITIONS) != home
            )
            movement = Movement(key, MovementKind.RECEIVE, sku, "s1", 5)

            async def act(process: Inventory, movement: Movement = movement) -> object:
                return await process.record(movement)

            has_lived = await live_until(inventory, nth, death, act) is not None
            assert (await inventory.record(movement)).on_hand == STOCK + 5
            assert yard.shop.read_books((sku,)).positions[sku, "s1"].on_hand == STOCK + 5
            other = Movement(key, MovementKind.RECEIVE, basket.skus[1], "s1", 5)
            with pytest.raises(Refused, match="other content"):
                await inventory.record(other)
            if has_lived:
                break
        else:
            pytest.fail("it never ends")
    await yard.check_books()


async def test_a_basket_is_repaired_before_it_is_forgotten(yard: Yard) -> None:
    """Though nobody swept for longer than finished reservations are remembered: a sweeper that forgot the
    basket first would have its parts give back goods that have left.
    """
    inventory = yard.shop.inventory
    basket = await yard.new_basket((reserve,))
    assert await live_until(inventory, 2, Death.UNSENT, lambda process: sell(process, basket)) is None
    assert [column[2] for column in await yard.columns_of(basket)] == [2, 3, 1, 0]
    yard.shop.wait(RETENTION_SECONDS + 1)
    for commands in inventory.dataset.commands:
        await sweep_all(commands, memories=True)
    await yard.let_sweepers_work()
    await yard.compare_counters(basket, [(0, 0, 2, 0), (0, 0, 3, 0), (0, 0, 1, 0), (0, 0, 0, 0)])
    assert await yard.columns_of(basket) == []
    await yard.check_books()


async def test_a_partition_that_is_away_refuses_the_basket(yard: Yard) -> None:
    """What the others held is given back, and the caller knows that nothing came of it."""
    basket, inventory = await yard.new_basket(()), yard.shop.inventory
    away = keys.partition_of(basket.skus[2], PARTITIONS)
    stock = keys.stock(away)
    elsewhere = f"elsewhere {{{away}}}"
    yard.shop.control.rename(stock, elsewhere)
    yard.shop.control.set(stock, "no hash")
    with pytest.raises(Unavailable):
        await reserve(inventory, basket)
    yard.shop.control.rename(elsewhere, stock)
    assert await yard.columns_of(basket) == []
    await yard.compare_counters(basket, [])
    await reserve(inventory, basket)
    await yard.let_sweepers_work()
    await yard.compare_counters(basket, await yard.columns_of(basket))
    await yard.check_books()
