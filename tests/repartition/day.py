"""A random day of a shop, and what must be true of it on another server."""

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from msgspec import Struct, structs
from redis import Redis

from engine import (
    BincardError,
    Buffer,
    Channel,
    Component,
    Count,
    Inventory,
    Item,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Pool,
    Reservation,
)
from engine.dataset import open_dataset
from engine.errors import IdempotencyMismatch
from tests.driver import scripts_with_our_clock, turn_clock

PLACES = ("s1", "s2", "cafe-3")
SKUS = tuple(f"sku {number}/é{{:}}" for number in range(10))
SPREAD, HOT = "everywhere", "hot"
SHELVES = tuple(f"shelf-{number}" for number in range(40))
"""More places than one card has."""
HOUR_MS = 3_600_000
Ask = Callable[[Inventory], Awaitable[Any]]


class Asked(Struct):
    """What was accepted: asked again it gives the same answer, with other content it is refused."""

    again: Ask
    otherwise: Ask


class Day:
    """The shop's doings. Its clock begins an hour ago."""

    def __init__(self, inventory: Inventory, control: "Redis[bytes]", seed: int) -> None:
        self.inventory = inventory
        self.control = control
        self.random = random.Random(seed)
        self.made: list[Reservation] = []
        self.asked: list[Asked] = []
        self.count = 0
        self.now_ms = round(time.time() * 1000) - HOUR_MS

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        turn_clock(self.control, self.inventory.dataset.partitions, self.now_ms)

    async def catch_up(self) -> None:
        """Goes on to the real time, and gives back what has lapsed by then."""
        self.wait(max(0, round(time.time() * 1000) - self.now_ms))
        await self.inventory.sweep()

    async def begin(self, units: int = 40) -> None:
        self.wait(0)
        for place in PLACES:
            await self.inventory.save_location(Location(place, LocationKind.STORE))
        for sku in SKUS:
            for place in PLACES[:2]:
                await self.move(Movement(f"in {sku} {place}", MovementKind.RECEIVE, sku, place, units))

    async def fill(self) -> None:
        """What a day at random does not come to: a SKU at very many places, one that very many hold, stock
        below zero, a promise that is not covered, and every way in which a reservation ends.
        """
        shop = self.inventory
        for place in SHELVES:
            await shop.save_location(Location(place, LocationKind.STORE))
            await self.move(Movement(f"in {place}", MovementKind.RECEIVE, SPREAD, place, 5))
        for number in range(3):
            await self.move(Movement(f"in hot {number}", MovementKind.RECEIVE, HOT, "s1", 999_999_999))
        await self.move(Movement("sold before it came", MovementKind.SALE, HOT, "s2", 7))
        for number in range(60):
            lines = [Line(HOT, 1 + number, "s1"), Line(SPREAD, 1, SHELVES[number % 40])]
            await self.hold(lines[: 1 + number % 2], 90_000)
        held = [one.id for one in self.made]
        await shop.commit_many(held[5:25])
        for one in held[5:10]:
            await shop.cancel(one)
        for one in held[10:15]:
            await shop.fulfil(one)
        for one in held[30:35]:
            await shop.release(one)
        await self.hold(
            [Line(SPREAD, 4, SHELVES[30]), Line(SKUS[0], 1, "s1"), Line(SKUS[1], 1, "s1")], 90_000
        )
        await shop.save_pool(Pool("online", SHELVES))
        await shop.save_pool(Pool("gone", PLACES))
        await shop.save_channel(Channel("web", ("online",), Buffer(units=2)))
        await shop.save_item(Item("box", components=(Component("kit", 1), Component(HOT, 2))))
        await shop.save_item(Item("kit", components=(Component(SKUS[0], 1),), gtins=("40170725",)))
        await shop.delete_pool("gone")
        await self.move(Movement("stolen", MovementKind.SALE, SPREAD, SHELVES[30], 3))

    async def work(self, steps: int, *, longest_ms: int = 20_000) -> None:
        for _ in range(steps):
            self.count += 1
            if longest_ms:
                self.wait(self.random.randrange(longest_ms))
            with suppress(BincardError):
                await self._act()

    async def _act(self) -> None:
        pick = self.random
        choice = pick.random()
        if not self.made or choice < 0.4:
            await self._reserve()
        elif choice < 0.5:
            kind = pick.choice((MovementKind.RECEIVE, MovementKind.SALE, MovementKind.SALE))
            place, sku, units = pick.choice(PLACES), pick.choice(SKUS), pick.randint(1, 25)
            late_ms = pick.choice((None, self.now_ms - pick.randrange(1, 10**6)))
            condition = pick.choice((None, None, None, "damaged"))
            name = f"m{self.count}"
            await self.move(Movement(name, kind, sku, place, units, None, None, late_ms, condition))
            if late_ms is not None and pick.random() < 0.3:
                await self.inventory.count(Count(f"c{self.count}", sku, place, units, late_ms))
        elif choice < 0.55:
            await self.inventory.sweep()
        else:
            await self._step()

    async def move(self, movement: Movement) -> None:
        await self.inventory.record(movement)
        other = structs.replace(movement, quantity=movement.quantity + 1)
        self.asked.append(Asked(lambda shop: shop.record(movement), lambda shop: shop.record(other)))

    async def _reserve(self) -> None:
        pick = self.random
        lines = [
            Line(pick.choice(SKUS), pick.randint(1, 4), pick.choice(PLACES[:2]))
            for _ in range(pick.choice((1, 1, 2, 3, 5)))
        ]
        await self.hold(lines, pick.choice((30, 600, 90_000)))

    async def hold(self, lines: list[Line], ttl: int) -> None:
        self.count += 1
        key = f"k{self.count}"
        other = [*lines, Line(SKUS[0], 1, "s2")]

        def ask(asked: list[Line]) -> Ask:
            return lambda shop: shop.reserve(
                key, asked, ttl_seconds=ttl, owner=f"o{key}", metadata={"n": key}
            )

        self.made.append(await ask(lines)(self.inventory))
        self.asked.append(Asked(ask(lines), ask(other)))

    async def _step(self) -> None:
        pick = self.random
        one = pick.choice(self.made[-25:])
        key = f"s{self.count}" if pick.random() < 0.6 else None
        line = pick.choice(one.lines)
        some = [Line(line.sku, 1, line.location)] if pick.random() < 0.5 else None
        calls: dict[str, Ask] = {
            "commit": lambda shop: shop.commit(one.id, lines=some, remainder="keep", op_id=key),
            "refer": lambda shop: shop.commit(one.id, reference=f"r{key}", op_id=key),
            "sell": lambda shop: shop.commit(one.id, lines=some, fulfil=True, op_id=key),
            "retake": lambda shop: shop.commit(one.id, if_expired="retake", op_id=key),
            "release": lambda shop: shop.release(one.id, lines=some, op_id=key),
            "extend": lambda shop: shop.extend(one.id, 700, op_id=key),
            "fulfil": lambda shop: shop.fulfil(one.id, lines=some, op_id=key),
            "cancel": lambda shop: shop.cancel(one.id, lines=some, op_id=key),
        }
        verb = pick.choice(list(calls))
        done = await calls[verb](self.inventory)
        # What was as asked already is not remembered.
        if key is not None and not done.replayed:
            otherwise = calls["cancel" if verb != "cancel" else "release"]
            self.asked.append(Asked(calls[verb], otherwise))


async def open_day(url: str, control: "Redis[bytes]", partitions: int, seed: int) -> Day:
    """A data set whose clock is ours, with some stock."""
    turn_clock(control, partitions, 1)
    dataset = await open_dataset(url, partitions=partitions, scripts=scripts_with_our_clock())
    day = Day(Inventory(dataset), control, seed)
    await day.begin()
    return day


def plain(answer: object) -> object:
    """An answer without its version, which an epoch begins anew."""
    return structs.replace(answer, version="") if hasattr(answer, "version") else answer


async def tell(inventory: Inventory, day: Day) -> dict[str, object]:
    """Everything that a caller may see of the day."""
    seen: dict[str, object] = {}
    for one in day.made:
        seen[one.id] = await inventory.reservation(one.id)
    for sku in (*SKUS, SPREAD, HOT):
        seen[f"stock {sku}"] = [plain(position) for position in await inventory.stock(sku)]
        seen[f"available {sku}"] = plain(await inventory.availability(sku))
    for index, asked in enumerate(day.asked):
        seen[f"again {index}"] = plain(await asked.again(inventory))
        try:
            await asked.otherwise(inventory)
        except IdempotencyMismatch as refused:
            seen[f"otherwise {index}"] = refused.outcome
    return seen
