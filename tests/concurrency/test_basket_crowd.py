"""A crowd of callers for hot SKUs in several partitions, in processes of which one goes away."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count, product
from random import Random
from time import monotonic

import pytest

from engine import (
    BincardError,
    Inventory,
    Line,
    Movement,
    MovementKind,
    Reservation,
    Unavailable,
    Unconfirmed,
)
from engine.audit import audit
from engine.errors import Refused, ReservationNotFound
from engine.ids import reservation_id
from engine.keys import route_of
from engine.workers import Sweeper
from tests.concurrency.shopper import PATIENCE_SECONDS
from tests.driver import Shop, open_shop, skus_in
from tests.servers import Control, Server

PARTITIONS = 8
CALLERS = 64
BASKETS = 8
"""Of each caller."""
STOCK = 60
DUPLICATES = 0.25
TTLS = (1, 2, 900)
HOT = tuple(next(skus_in(partition, PARTITIONS)) for partition in range(5))


class Crowd:
    """Callers of several engine processes, the first of which goes away in the middle."""

    def __init__(self, shop: Shop, processes: list[Inventory]) -> None:
        self.shop = shop
        self.processes = processes
        self.seen = Counter[str]()
        self.oversold: list[str] = []
        self.is_busy = asyncio.Event()

    async def call(self, number: int) -> None:
        """Holds baskets and takes a step on each; where its process is gone it goes on with another."""
        random, process = Random(number), self.processes[number % len(self.processes)]
        for step in range(BASKETS):
            if process not in self.processes:
                process = random.choice(self.processes)
            key = f"{number}.{step}"
            skus = random.sample(HOT, random.choice((1, 1, 2, 3, 4)))
            await self.handle_basket(random, key, skus, process)

    async def handle_basket(self, random: Random, key: str, skus: list[str], process: Inventory) -> None:
        wanted = [Line(sku, random.randint(1, 3), "s1") for sku in skus]
        ttl_seconds = random.choice(TTLS)
        held = await self.send(random, lambda by: by.reserve(key, wanted, ttl_seconds=ttl_seconds), process)
        if held is not None:
            self.seen[f"held over {len(skus)}"] += 1
            if self.seen.total() > CALLERS * BASKETS // 3:
                self.is_busy.set()
            await self.resolve(random, held, wanted[:1], process)

    async def resolve(self, random: Random, held: Reservation, some: list[Line], process: Inventory) -> None:
        verb, key = random.choice(("commit", "sell", "some", "release", "cancel", "leave")), f"{held.id} step"
        if verb == "commit":
            await self.send(random, lambda by: by.commit(held.id), process)
        elif verb == "sell":
            await self.send(random, lambda by: by.commit(held.id, fulfil=True, op_id=key), process)
        elif verb == "some":
            await self.send(
                random, lambda by: by.commit(held.id, lines=some, remainder="keep", op_id=key), process
            )
        elif verb == "release":
            await self.send(random, lambda by: by.release(held.id, op_id=key), process)
        elif verb == "cancel" and await self.send(random, lambda by: by.commit(held.id), process):
            await self.send(random, lambda by: by.cancel(held.id, lines=some, op_id=key), process)

    async def send(
        self, random: Random, request: Callable[[Inventory], Awaitable[Reservation]], process: Inventory
    ) -> Reservation | None:
        """Sends until there is an answer, one in four twice at once and by two processes."""
        sends = [process] if random.random() >= DUPLICATES else [process, random.choice(self.processes)]
        answers = await asyncio.gather(*(self.insist(request, by) for by in sends))
        told = [answer for answer in answers if answer is not None]
        if len(told) > 1:
            assert told[0].id == told[1].id
            self.seen["twice"] += 1
        return told[0] if told else None

    async def insist(
        self, request: Callable[[Inventory], Awaitable[Reservation]], process: Inventory
    ) -> Reservation | None:
        ends = monotonic() + PATIENCE_SECONDS
        for attempt in count():
            assert monotonic() < ends, "no answer came"
            try:
                return await request(process)
            except (Unavailable, Unconfirmed):
                self.seen["away"] += 1
                process = self.processes[attempt % len(self.processes)]
                await asyncio.sleep(0.005)
            except Refused as refused:
                self.seen[refused.outcome] += 1
                return None
        return None

    async def sweep(self, sweeper: Sweeper) -> None:
        while True:
            with suppress(BincardError):
                await sweeper.tick()
            await asyncio.sleep(0.01)

    async def watch(self) -> None:
        """Lets time pass, and looks at the books at each moment of it."""
        while True:
            self.shop.wait(0.05)
            for (sku, _), position in self.shop.read_books(HOT).positions.items():
                if min(position.held, position.allocated, position.free) < 0:
                    self.oversold.append(f"{sku}: {position}")
            await asyncio.sleep(0.01)


async def sum_units(shop: Shop) -> Counter[tuple[str, str]]:
    """The units by SKU and column of all reservations that were made, answered or not: by their keys."""
    units, ids = Counter[tuple[str, str]](), shop.inventory.dataset.ids
    keys = [f"{number}.{step}" for number in range(CALLERS) for step in range(BASKETS)]
    for key, first in product(keys, HOT):
        try:
            found = await shop.inventory.reservation(reservation_id(route_of(first), ids.of_request("", key)))
        except ReservationNotFound:
            continue
        for line in found.lines:
            units[line.sku, "held"] += line.held
            units[line.sku, "committed"] += line.committed
            units[line.sku, "fulfilled"] += line.fulfilled
    return units


@pytest.mark.parametrize("is_cut", [False, True], ids=["closed", "cancelled"])
async def test_a_crowd(server: Server, control: Control, is_cut: bool) -> None:
    """No unit is promised twice at any moment, which the replay of every event confirms; and once the
    sweepers are done the counters are the sums over the reservations.
    """
    shop = await open_shop(server.url, control, PARTITIONS)
    for sku in HOT:
        await shop.inventory.record(Movement(f"in {sku}", MovementKind.RECEIVE, sku, "s1", STOCK))
    leaving, staying = await shop.another_inventory(), await shop.another_inventory()
    crowd = Crowd(shop, [leaving, staying])
    helpers = [
        asyncio.create_task(crowd.watch()),
        asyncio.create_task(crowd.sweep(Sweeper(staying))),
        asyncio.create_task(crowd.sweep(Sweeper(leaving))),
    ]
    callers = [asyncio.create_task(crowd.call(number)) for number in range(CALLERS)]
    await crowd.is_busy.wait()
    assert not all(caller.done() for caller in callers)
    crowd.processes.remove(leaving)
    helpers.pop().cancel()
    if is_cut:
        # Callers of the process that goes away are gone with it, wherever they were.
        for caller in callers[::2]:
            caller.cancel()
    await leaving.close()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert not [fault for fault in results if isinstance(fault, Exception)]
    for helper in helpers:
        helper.cancel()
    await asyncio.gather(*helpers, return_exceptions=True)
    assert not crowd.oversold
    assert crowd.seen["twice"]
    assert crowd.seen["insufficient_stock"]
    assert any(crowd.seen[f"held over {number}"] for number in (2, 3, 4))
    for _ in range(3):
        shop.wait(31)
        await shop.inventory.sweep()
    units = await sum_units(shop)
    for (sku, _), position in shop.read_books(HOT).positions.items():
        assert position.held == units[sku, "held"]
        assert position.allocated == units[sku, "committed"]
        assert position.on_hand == STOCK - units[sku, "fulfilled"]
    report = await audit(shop.inventory)
    assert report.is_clean, (report.differences, report.violations, report.notes)
    assert not report.notes
    shop.wait(1000)
    await shop.inventory.sweep()
    assert all(position.held == 0 for position in shop.read_books(HOT).positions.values())
    report = await audit(shop.inventory)
    assert report.is_clean, (report.differences, report.violations, report.notes)
    await staying.close()
    await shop.inventory.close()
