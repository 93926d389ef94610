"""One operation of each kind, ready to be measured: what it needs beforehand, and the call itself.

Calls go through `Inventory`, so nothing here knows how requests are encoded. `batch` calls that are made
in one turn of the event loop leave as one script call.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from benchmarks import shop
from benchmarks.measure import SEED, BenchmarkError, cpu_seconds
from benchmarks.micro.tap import Tap, Wire, tapped
from benchmarks.servers import Store
from benchmarks.shop import Answered
from engine import Inventory, Line, Movement, MovementKind
from engine.errors import InsufficientStock

SKUS = 10_000
BASKET_LINES = 10
SOLD_OUT_SKUS = 100
WIDE = {3: 200, 100: 20, 2000: 2}
"""How many SKUs there are in so many locations."""
TTL_SECONDS = 3600
SHORT_TTL_SECONDS = 1
TAPS = 100
"""Batches that are encoded before the first of them is sent."""
ANSWER_SECONDS = 10.0


class Verb(Struct, frozen=True):
    """An operation of so many lines. `prepare` makes so many things to call it with."""

    name: str
    prepare: Callable[[Bench, Inventory, int], Awaitable[Sequence[Any]]]
    call: Callable[[Bench, Inventory, Any], Awaitable[object]]
    note: Callable[[Answered, int], None]
    lines: int = 1


class Bench:
    """A filled data set and its store. Every figure is CPU time of the store in microseconds."""

    def __init__(self, inventory: Inventory, store: Store) -> None:
        self.inventory = inventory
        self.store = store
        self.answered = Answered()
        self.chance = random.Random(SEED)
        self._ids = 0
        self._taps: list[tuple[Inventory, Tap]] = []
        self._wire: Wire
        self.encode_micros = self.decode_micros = 0.0

    async def fill(self) -> None:
        """Brings the stock: `SKUS` at one location, some sold out, some in many locations."""
        await shop.open_locations(self.inventory, max(WIDE))
        wanted = [(shop.sku_name(number), "w0", shop.PLENTY) for number in range(SKUS)]
        for locations, count in WIDE.items():
            for number in range(count):
                wanted += [(wide_name(locations, number), f"w{place}", 5) for place in range(locations)]
        wanted += [(sold_out_name(number), "w0", 1) for number in range(SOLD_OUT_SKUS)]
        self.answered.received += await shop.receive(self.inventory, wanted)

        async def sell_out(number: int) -> None:
            line = Line(sold_out_name(number), 1, "w0")
            await self.inventory.reserve(self.next_id(), [line], ttl_seconds=TTL_SECONDS)

        await shop.in_groups(sell_out, range(SOLD_OUT_SKUS))
        self.answered.reserved += SOLD_OUT_SKUS

    def all_skus(self) -> list[str]:
        """Everything that is stocked here."""
        return [
            *(shop.sku_name(number) for number in range(SKUS)),
            *(sold_out_name(number) for number in range(SOLD_OUT_SKUS)),
            *(wide_name(locations, number) for locations, count in WIDE.items() for number in range(count)),
        ]

    def next_id(self) -> str:
        """An operation id that was not used before."""
        self._ids += 1
        return f"cart-{self._ids}"

    def basket(self, lines: int) -> list[Line]:
        """One unit each of so many different SKUs."""
        return [Line(shop.sku_name(number), 1, "w0") for number in self.chance.sample(range(SKUS), lines)]

    async def reserve_many(
        self, inventory: Inventory, count: int, *, ttl_seconds: int = TTL_SECONDS
    ) -> list[str]:
        """So many holds of one line; their ids."""

        async def reserve(basket: list[Line]) -> str:
            return (await inventory.reserve(self.next_id(), basket, ttl_seconds=ttl_seconds)).id

        ids = await shop.in_groups(reserve, [self.basket(1) for _ in range(count)])
        self.answered.reserved += count
        self.answered.answers += count
        return ids

    async def commit_many(self, inventory: Inventory, count: int) -> list[str]:
        """So many committed reservations of one line; their ids."""
        ids = await self.reserve_many(inventory, count)
        await shop.in_groups(inventory.commit, ids)
        self.answered.committed += count
        return ids

    @asynccontextmanager
    async def taps(self, count: int) -> AsyncIterator[None]:
        """While inside, `measure` has so many batches ready at a time."""
        wire = Wire(self.store.socket)
        taps = [await tapped(self.store.url, wire) for _ in range(count)]
        self._wire, self._taps = wire, taps
        try:
            yield
        finally:
            self._taps = []
            for inventory, _ in taps:
                await inventory.close()
            wire.close()

    async def measure(self, verb: Verb, batch: int, count: int) -> float:
        """CPU of the store for one operation, when they come `batch` at a time."""
        done, used, encoding, decoding = 0, 0.0, 0.0, 0.0
        while done < count:
            batches, calls = [], []
            for inventory, tap in self._taps:
                items = await verb.prepare(self, inventory, batch)
                tasks: list[asyncio.Task[object]] = []

                def start(items: Sequence[Any] = items, asked: Inventory = inventory) -> None:
                    tasks.extend(asyncio.ensure_future(verb.call(self, asked, item)) for item in items)  # noqa: B023 - called below, in this turn

                begun = time.process_time()
                batches.append(await tap.hold(start))
                encoding += time.process_time() - begun
                calls.append(tasks)
                done += batch
                if done >= count:
                    break
            before = cpu_seconds(self.store.pid)
            answers = self._wire.exchange(batches)
            used += cpu_seconds(self.store.pid) - before
            for (_, tap), answer, tasks in zip(self._taps, answers, calls, strict=False):
                begun = time.process_time()
                tap.answer(answer)
                await asyncio.wait_for(asyncio.gather(*tasks), ANSWER_SECONDS)
                decoding += time.process_time() - begun
        verb.note(self.answered, done)
        self.answered.answers += done
        self.encode_micros, self.decode_micros = encoding / done * 1e6, decoding / done * 1e6
        return used / done * 1e6

    async def measure_expiry(self, batch: int, count: int) -> float:
        """The same for holds that lapse and are given back."""
        count -= count % batch
        for _ in range(0, count, batch):
            await self.reserve_many(self.inventory, batch, ttl_seconds=SHORT_TTL_SECONDS)
        await asyncio.sleep(SHORT_TTL_SECONDS + 0.05)
        before, begun, swept = cpu_seconds(self.store.pid), time.monotonic(), 0
        while swept < count:
            swept += await self.inventory.sweep()
            if time.monotonic() - begun > 60:  # noqa: PLR2004 - seconds; it takes less than one
                raise BenchmarkError(f"{count} holds lapsed, {swept} were given back")
        used = cpu_seconds(self.store.pid) - before
        self.answered.given_back += count
        return used / count * 1e6


def wide_name(locations: int, number: int) -> str:
    """A SKU that so many locations stock."""
    return f"W-{locations}-{number}"


def sold_out_name(number: int) -> str:
    return f"OUT-{number}"


async def _ready(_bench: Bench, _inventory: Inventory, count: int) -> Sequence[object]:
    return [None] * count


def _no_units(answered: Answered, count: int) -> None:
    """Nothing moved."""


def _reserved(lines: int) -> Callable[[Answered, int], None]:
    def note(answered: Answered, count: int) -> None:
        answered.reserved += lines * count

    return note


def _committed(answered: Answered, count: int) -> None:
    answered.committed += count


def _given_back(answered: Answered, count: int) -> None:
    answered.given_back += count


def _fulfilled(answered: Answered, count: int) -> None:
    answered.fulfilled += count


def _received(answered: Answered, count: int) -> None:
    answered.received += count


def _reserve(lines: int) -> Verb:
    async def prepare(bench: Bench, _inventory: Inventory, count: int) -> Sequence[tuple[str, list[Line]]]:
        return [(bench.next_id(), bench.basket(lines)) for _ in range(count)]

    async def call(_bench: Bench, inventory: Inventory, item: tuple[str, list[Line]]) -> object:
        return await inventory.reserve(item[0], item[1], ttl_seconds=TTL_SECONDS)

    name = "reserve" if lines == 1 else f"reserve of {lines} lines"
    return Verb(name, prepare, call, _reserved(lines), lines)


async def _refuse(bench: Bench, inventory: Inventory, _item: object) -> object:
    wanted = Line(sold_out_name(bench.chance.randrange(SOLD_OUT_SKUS)), 1, "w0")
    try:
        await inventory.reserve(bench.next_id(), [wanted])
    except InsufficientStock:
        return None
    raise BenchmarkError(f"{wanted.sku} is sold out and was promised")


async def _commit(_bench: Bench, inventory: Inventory, item: str) -> object:
    return await inventory.commit(item)


async def _release(_bench: Bench, inventory: Inventory, item: str) -> object:
    return await inventory.release(item)


async def _extend(_bench: Bench, inventory: Inventory, item: str) -> object:
    return await inventory.extend(item, 2 * TTL_SECONDS)


async def _fulfil(_bench: Bench, inventory: Inventory, item: str) -> object:
    return await inventory.fulfil(item)


async def _move(bench: Bench, inventory: Inventory, _item: object) -> object:
    sku = shop.sku_name(bench.chance.randrange(SKUS))
    return await inventory.record(Movement(bench.next_id(), MovementKind.RECEIVE, sku, "w0", 1))


def _availability(locations: int) -> Verb:
    async def call(bench: Bench, inventory: Inventory, _item: object) -> object:
        if locations == 1:
            return await inventory.availability(shop.sku_name(bench.chance.randrange(SKUS)))
        number = bench.chance.randrange(WIDE[locations])
        return await inventory.availability(wide_name(locations, number))

    return Verb(f"availability in {locations}", _ready, call, _no_units)


async def _held(bench: Bench, inventory: Inventory, count: int) -> Sequence[str]:
    return await bench.reserve_many(inventory, count)


async def _promised(bench: Bench, inventory: Inventory, count: int) -> Sequence[str]:
    return await bench.commit_many(inventory, count)


RESERVE = _reserve(1)
COMMIT = Verb("commit", _held, _commit, _committed)
AVAILABILITY = _availability(1)
VERBS = (
    RESERVE,
    _reserve(BASKET_LINES),
    Verb("refusal", _ready, _refuse, _no_units),
    COMMIT,
    Verb("release", _held, _release, _given_back),
    Verb("extend", _held, _extend, _no_units),
    Verb("fulfil", _promised, _fulfil, _fulfilled),
    Verb("movement", _ready, _move, _received),
    AVAILABILITY,
    *(_availability(locations) for locations in WIDE),
)
