"""Stock to sell in a benchmark, and the proof afterwards that no unit was promised twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any, TypeVar

from msgspec import Struct

from benchmarks.measure import BenchmarkError, Proof
from engine import Inventory, Location, LocationKind, Movement, MovementKind, Position
from engine.errors import SkuNotFound

TOGETHER = 512
PLENTY = 10**9
"""Units of a SKU that shall never run out: the most that one movement may bring."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Booked(Struct, frozen=True):
    """The counters of many positions, added up. `oversold` lists positions that promise too much."""

    positions: int
    on_hand: int
    held: int
    allocated: int
    oversold: Sequence[str]


def run_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Runs a coroutine on the event loop that the API runs on, too."""
    import uvloop  # noqa: PLC0415 - absent on Windows, where no benchmark runs

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def sku_name(number: int) -> str:
    return f"S-{number:07d}"


def location_name(number: int) -> str:
    return f"w{number}"


async def in_groups(
    call: Callable[[Item], Awaitable[Result]], items: Iterable[Item], size: int = TOGETHER
) -> list[Result]:
    """Calls with each item, so many at a time; the results in order."""
    results: list[Result] = []
    left = iter(items)
    while group := list(islice(left, size)):
        results += await asyncio.gather(*(call(item) for item in group))
    return results


async def open_locations(inventory: Inventory, count: int) -> list[str]:
    """Creates locations w0, w1 and so on."""
    names = [location_name(number) for number in range(count)]

    async def save(name: str) -> None:
        await inventory.save_location(Location(name, LocationKind.WAREHOUSE))

    await in_groups(save, names, 64)
    return names


async def receive(inventory: Inventory, wanted: Iterable[tuple[str, str, int]], *, prefix: str = "in") -> int:
    """Brings units of SKUs to locations; how many units in all."""
    units = count = 0
    group = []
    for count, (sku, place, quantity) in enumerate(wanted):
        units += quantity
        movement = Movement(f"{prefix}-{count}", MovementKind.RECEIVE, sku, place, quantity)
        group.append(inventory.record(movement))
        if len(group) == TOGETHER:
            await asyncio.gather(*group)
            group = []
    await asyncio.gather(*group)
    return units


async def read_positions(inventory: Inventory, skus: Iterable[str]) -> dict[str, list[Position]]:
    """The counters of SKUs as the books have them; nothing for one that has none."""

    async def read(sku: str) -> tuple[str, list[Position]]:
        try:
            return sku, await inventory.stock(sku)
        except SkuNotFound:
            return sku, []

    return dict(await in_groups(read, skus))


async def add_up(inventory: Inventory, skus: Iterable[str]) -> Booked:
    """Adds up the counters of SKUs, and looks at each position for a promise without a unit."""
    positions = on_hand = held = allocated = 0
    oversold = []
    for sku, places in (await read_positions(inventory, skus)).items():
        for place in places:
            positions += 1
            on_hand += place.on_hand
            held += place.held
            allocated += place.allocated
            if place.held + place.allocated + place.unsellable > place.on_hand or place.on_hand < 0:
                oversold.append(f"{sku} at {place.location}")
    return Booked(positions, on_hand, held, allocated, oversold)


class Answered(Struct):
    """What the callers were told, in units."""

    received: int = 0
    reserved: int = 0
    committed: int = 0
    given_back: int = 0
    """Released or lapsed while held."""
    fulfilled: int = 0
    answers: int = 0


def compare_sums(booked: Booked, answered: Answered, *, name: str = "") -> Proof:
    """The proof by sums: the books have exactly the units that the answers add up to, and no position
    promises more than it has.
    """
    expected = {
        "on hand": (booked.on_hand, answered.received - answered.fulfilled),
        "held": (booked.held, answered.reserved - answered.committed - answered.given_back),
        "allocated": (booked.allocated, answered.committed - answered.fulfilled),
    }
    faults = [
        f"{what}: books {books:,}, answers {answers:,}"
        for what, (books, answers) in expected.items()
        if books != answers
    ]
    faults += [f"oversold: {where}" for where in booked.oversold[:5]]
    detail = "; ".join(faults) or (
        f"{booked.positions:,} positions promise no more than they have; held, allocated and on hand equal "
        f"the sums of {answered.answers:,} answers"
    )
    return Proof(
        holds=not faults,
        positions=booked.positions,
        answers=answered.answers,
        detail=f"{name}: {detail}" if name else detail,
    )


def require(proof: Proof) -> Proof:
    """The proof. Raises `BenchmarkError` where it does not hold."""
    if not proof.holds:
        raise BenchmarkError(f"this run does not count: {proof.detail}")
    return proof
