"""Overlapping pools: whoever fits is accepted, wherever the units of others lie, and nobody else."""

from collections.abc import Mapping
from random import Random

import pytest

from engine import Inventory, Line, Movement, MovementKind, Pool, Reservation
from engine.audit import audit
from engine.errors import InsufficientStock
from engine.keys import partition_of
from engine.sourcing_plan import Rules, Wanted
from tests.sourcing.conftest import PLACES

SEEDS = 24
STEPS = 30


class Shelves:
    """What there is of a SKU, what was promised where, and what may lie anywhere in a pool."""

    def __init__(self, stock: Mapping[str, int], pools: Mapping[str, tuple[str, ...]]) -> None:
        self.stock = dict(stock)
        self.pools = pools
        self.bound = dict.fromkeys(stock, 0)
        self.floating = dict.fromkeys(pools, 0)

    def fits(self, pool: str | None, place: str | None, quantity: int) -> bool:
        """Whether all that floats still finds a place, and so much more: by a maximum flow, found apart from
        the scripts.
        """
        room = {name: self.stock[name] - self.bound[name] for name in self.stock}
        wanted = dict(self.floating)
        if place is not None:
            room[place] -= quantity
        elif pool is not None:
            wanted[pool] += quantity
        if min(room.values()) < 0:
            return False
        given = {name: dict.fromkeys(self.pools[name], 0) for name in wanted}
        return all(
            self._place(name, given, room, set()) for name, units in wanted.items() for _ in range(units)
        )

    def _place(
        self, pool: str, given: dict[str, dict[str, int]], room: dict[str, int], seen: set[str]
    ) -> bool:
        """Places one unit of a pool, moving those of others along a path if it must."""
        for place in self.pools[pool]:
            if place in seen:
                continue
            seen.add(place)
            if room[place] > 0:
                room[place] -= 1
                given[pool][place] += 1
                return True
            for other, places in given.items():
                if places.get(place, 0) and self._place(other, given, room, seen):
                    given[other][place] -= 1
                    given[pool][place] += 1
                    return True
        return False


def beside(sku: str) -> str:
    """Another SKU that shares its partition, whatever number of them there is."""
    wide = 4
    names = (f"cup-{number}" for number in range(99))
    return next(name for name in names if partition_of(name, wide) == partition_of(sku, wide))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_random_pools(inventory: Inventory, seed: int) -> None:
    """Requests of pools and for places, of one SKU or two, commits that bind, releases: accepted exactly when
    they fit.
    """
    chance = Random(seed)
    pools = {
        f"p{number}": tuple(chance.sample(PLACES, chance.randint(1, 3)))
        for number in range(chance.randint(2, 4))
    }
    for name, places in pools.items():
        await inventory.save_pool(Pool(name, places))
    shelves = {sku: await _stock(inventory, sku, chance, pools) for sku in ("mug", beside("mug"))}
    held: list[tuple[Reservation, str | None]] = []
    accepted = 0
    for step in range(STEPS):
        choice = chance.random()
        if held and choice < 0.15:
            made, pool = held.pop(chance.randrange(len(held)))
            now = await inventory.release(made.id)
            _forget(shelves, now, pool)
        elif held and choice < 0.25:
            made, pool = held.pop(chance.randrange(len(held)))
            now = await inventory.commit(made.id)
            _forget(shelves, now, pool)
            for line in now.lines:
                shelves[line.sku].bound[line.location] += line.quantity
        else:
            pool = chance.choice([*pools, None])
            place = None if pool else chance.choice(PLACES)
            wanted = [
                Wanted(sku, chance.randint(1, 3), place)
                for sku in chance.choice([["mug"], [*shelves]])
                if place is None or shelves[sku].stock[place]
            ]
            if not wanted:
                continue
            fits = all(shelves[one.sku].fits(pool, one.location, one.quantity) for one in wanted)
            made = await _try(inventory, f"k{step}", pool, wanted)
            assert (made is not None) == fits, (step, pool, wanted)
            if made is None:
                continue
            accepted += 1
            held.append((made, pool))
            _note(shelves, wanted, pool)
    for sku in shelves:
        assert all(one.held + one.allocated <= one.on_hand for one in await inventory.stock(sku))
    assert accepted
    books = await audit(inventory)
    assert not books.violations, books.violations
    assert not books.differences, books.differences


async def _stock(
    inventory: Inventory, sku: str, chance: Random, pools: Mapping[str, tuple[str, ...]]
) -> Shelves:
    """Some units of a SKU, here and there."""
    stock = {place: chance.randint(0, 4) for place in PLACES}
    stock["a"] = stock["a"] or 1
    for place, units in stock.items():
        if units:
            await inventory.record(Movement(f"in-{sku}-{place}", MovementKind.RECEIVE, sku, place, units))
    return Shelves(stock, pools)


def _note(shelves: Mapping[str, Shelves], wanted: list[Wanted], pool: str | None) -> None:
    """A new hold."""
    for one in wanted:
        if pool is not None:
            shelves[one.sku].floating[pool] += one.quantity
        elif one.location is not None:
            shelves[one.sku].bound[one.location] += one.quantity


async def _try(
    inventory: Inventory, key: str, pool: str | None, wanted: list[Wanted]
) -> Reservation | None:  # fmt: skip
    """A reserve, planned before; None where it is refused."""
    plan = await inventory.plan(wanted, rules=Rules(pool=pool, everywhere=True))
    try:
        if pool is not None:
            made = await inventory.source(key, wanted, rules=Rules(pool=pool))
        else:
            made = await inventory.reserve(
                key, [Line(one.sku, one.quantity, one.location) for one in wanted if one.location]
            )
    except InsufficientStock:
        assert not plan.can_reserve
        return None
    assert plan.can_reserve
    return made


def _forget(shelves: Mapping[str, Shelves], made: Reservation, pool: str | None) -> None:
    """A hold that floats, or is bound, no more."""
    for line in made.lines:
        if pool is None:
            shelves[line.sku].bound[line.location] -= line.quantity
        else:
            shelves[line.sku].floating[pool] -= line.quantity
