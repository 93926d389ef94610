"""Callers who count, sell from pools and lose answers, on a real server: what they do is recorded."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from time import time

from engine import (
    Channel,
    Count,
    InvalidRequest,
    Inventory,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Pool,
    Refused,
    Reservation,
)
from engine.dataset import open_dataset
from engine.history import open_recorded
from engine.script import assemble, read_sources
from engine.sourcing_plan import Rules, Wanted

PLACES, SKUS, CALLERS = ("a", "b", "c"), ("mug", "cup"), 6
POOLS = {"west": ("a", "b"), "east": ("b", "c")}
Request = Callable[[], Awaitable[object]]


async def open_walked(url: str, path: Path, file: str = "", right: str = "", wrong: str = "") -> Inventory:
    """A recorded shop with pools and a channel; its scripts may have one fault."""
    includes, verbs = read_sources()
    if file:
        sources = includes if file in includes else verbs
        assert sources[file].count(right) == 1
        sources[file] = sources[file].replace(right, wrong)
    library = assemble(includes, verbs)
    inventory = await open_recorded(await open_dataset(url, partitions=1, scripts=library), str(path))
    for place in PLACES:
        await inventory.save_location(Location(place, LocationKind.STORE))
    for name, places in POOLS.items():
        await inventory.save_pool(Pool(name, places))
    await inventory.save_channel(Channel("web", ("west", "east")))
    for sku in SKUS:
        for place in PLACES:
            await inventory.record(Movement(f"in {sku} {place}", MovementKind.RECEIVE, sku, place, 9))
    return inventory


async def walk(inventory: Inventory, seed: int, rounds: int, *, loses: bool) -> None:
    """Some callers beside one another. Who loses answers gives up on some requests, and repeats others."""
    callers = [
        _Caller(inventory, Random(f"{seed} {number}"), f"{number}", loses) for number in range(CALLERS)
    ]
    for _ in range(rounds):
        await asyncio.gather(*(caller.step() for caller in callers))
    for caller in callers:
        await caller.look()


class _Caller:
    def __init__(self, inventory: Inventory, random: Random, name: str, loses: bool) -> None:
        self.inventory, self.random, self.name, self.loses = inventory, random, name, loses
        self.held: list[Reservation] = []
        self.lost: list[Request] = []
        self.number = 0

    async def step(self) -> None:
        random = self.random
        if self.lost and random.random() < 0.3:
            await self.send(self.lost.pop(random.randrange(len(self.lost))))
            return
        self.number += 1
        choices = (self.source, self.source, self.reserve, self.resolve, self.resolve, self.move, self.count)
        told = await random.choice((*choices, self.look))()
        if isinstance(told, Reservation) and told.id not in {one.id for one in self.held}:
            self.held.append(told)

    async def send(self, request: Request) -> object:
        random = self.random
        task = asyncio.ensure_future(request())
        if self.loses and random.random() < 0.15:
            for _ in range(random.randint(0, 6)):
                await asyncio.sleep(0)
            if not task.done():
                task.cancel()
                self.lost.append(request)
        try:
            return await task
        except (asyncio.CancelledError, InvalidRequest, Refused):
            return None

    async def source(self) -> object:
        random, key = self.random, f"{self.name} {self.number}"
        pool = random.choice((*POOLS, None))
        rules = Rules(channel=None if pool else "web", pool=pool, allow_partial=random.random() < 0.2)
        wanted = [Wanted(sku, random.randint(1, 3)) for sku in SKUS if random.random() < 0.7]
        ttl_seconds = random.choice((1, 900, 900))
        return await self.send(
            lambda: self.inventory.source(
                key, wanted or [Wanted("mug", 1)], rules=rules, ttl_seconds=ttl_seconds
            )
        )

    async def reserve(self) -> object:
        random, key = self.random, f"{self.name} {self.number}"
        lines = [Line(random.choice(SKUS), random.randint(1, 3), random.choice(PLACES))]
        return await self.send(lambda: self.inventory.reserve(key, lines))

    async def resolve(self) -> object:
        if not self.held:
            return None
        random, inventory, held = self.random, self.inventory, self.random.choice(self.held)
        own = random.choice((None, f"{self.name} {self.number}"))
        part = [Line(line.sku, 1, line.location) for line in held.lines[:1]]
        requests: list[Request] = [
            lambda: inventory.commit(held.id, op_id=own, if_expired="retake"),
            lambda: inventory.commit(held.id, lines=part, remainder="keep", op_id=own),
            lambda: inventory.commit(held.id, fulfil=True, op_id=own),
            lambda: inventory.release(held.id, op_id=own),
            lambda: inventory.extend(held.id, 900, op_id=own),
            lambda: inventory.fulfil(held.id, lines=part, op_id=own),
            lambda: inventory.fulfil(held.id, op_id=own),
            lambda: inventory.cancel(held.id, op_id=own),
            lambda: inventory.reservation(held.id),
        ]
        return await self.send(random.choice(requests))

    async def move(self) -> object:
        random = self.random
        kind = random.choice((MovementKind.SALE, MovementKind.RECEIVE, MovementKind.RETURN))
        moment = random.choice((None, round(time() * 1000) - random.randint(0, 300)))
        fact = Movement(
            f"{self.name} {self.number}", kind, random.choice(SKUS), random.choice(PLACES),
            random.randint(1, 4), occurred_ms=moment,
        )  # fmt: skip
        return await self.send(lambda: self.inventory.record(fact))

    async def count(self) -> object:
        random, key = self.random, f"{self.name} {self.number}"
        sku, place, quantity = random.choice(SKUS), random.choice(PLACES), random.randint(0, 15)
        counted = Count(key, sku, place, quantity, round(time() * 1000) - random.choice((0, 0, 20, 400)))
        own = random.choice((key, None))
        requests: list[Request] = [
            lambda: self.inventory.count(counted),
            lambda: self.inventory.set_on_hand(sku, place, quantity, expected=None, op_id=own),
        ]
        return await self.send(random.choice(requests))

    async def look(self) -> object:
        for sku in SKUS:
            await self.inventory.stock(sku)
            await self.inventory.availability(sku)
        return None
