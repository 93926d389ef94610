"""Light traffic that repeats what it must, and the proof that the books hold exactly what was answered."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from engine import (
    Inventory,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Reservation,
    Unavailable,
    Unconfirmed,
)
from engine.audit import audit
from engine.errors import ReservationNotFound

PLACE = "s1"
SKUS = tuple(f"sku {number}" for number in range(90))
STOCK = 10_000
SHOPPERS = 8
"""How much a promotion may lose at the most: what the primary answered last and had sent to no replica."""
PAUSE_SECONDS = 0.02


class Traffic:
    """Shoppers who reserve one unit, then commit or release it, and repeat what was not answered.

    Every id is sent until there is an answer, so the books must in the end hold exactly what was answered.
    """

    def __init__(self, inventory: Inventory, name: str, shoppers: int = SHOPPERS) -> None:
        self.inventory = inventory
        self.name = name
        self.answers: Counter[str] = Counter()
        self.committed: Counter[str] = Counter()
        self._is_over = False
        self._tasks = [asyncio.create_task(self._shop(number)) for number in range(shoppers)]

    async def stop(self) -> None:
        """Lets everybody finish what they began."""
        self._is_over = True
        async with asyncio.timeout(20):
            await asyncio.gather(*self._tasks)

    async def until_answered(self, more: int, seconds: float = 20) -> None:
        """Waits for so many further reservations."""
        wanted = self.answers["ok"] + more
        async with asyncio.timeout(seconds):
            while self.answers["ok"] < wanted:
                for task in self._tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(PAUSE_SECONDS)

    async def prove(self, inventory: Inventory, *, may_lose: int = 0) -> None:
        """What can be promised is the stock less what was committed: nothing was lost or done twice."""
        found = await inventory.availability_of(SKUS)
        left = {one.sku: one.available for one in found if one is not None}
        expected = {sku: STOCK - self.committed[sku] for sku in SKUS}
        if may_lose:
            assert sum(abs(left[sku] - expected[sku]) for sku in SKUS) <= may_lose
            assert self.answers["lost"] <= may_lose
        else:
            assert left == expected
            assert not self.answers["lost"]

    async def _shop(self, shopper: int) -> None:
        number = 0
        while not self._is_over:
            number += 1
            name, sku = f"{self.name} {shopper} {number}", SKUS[(shopper * 37 + number) % len(SKUS)]
            try:
                await self._buy(name, sku, is_kept=number % 2 == 1)
            except ReservationNotFound:
                self.answers["lost"] += 1

    async def _buy(self, name: str, sku: str, *, is_kept: bool) -> None:
        held = await self._insist(lambda: self.inventory.reserve(name, [Line(sku, 1, PLACE)]))
        self.answers["ok"] += 1
        if is_kept:
            await self._insist(lambda: self.inventory.commit(held.id, op_id=f"c {name}"))
            self.committed[sku] += 1
        else:
            await self._insist(lambda: self.inventory.release(held.id, op_id=f"r {name}"))

    async def _insist(self, call: Callable[[], Awaitable[Reservation]]) -> Reservation:
        while True:
            try:
                return await call()
            except Unconfirmed:
                self.answers["unconfirmed"] += 1
            except Unavailable:
                self.answers["unavailable"] += 1
            await asyncio.sleep(PAUSE_SECONDS)


async def stock_up(inventory: Inventory, name: str) -> None:
    """A location that has some of everything."""
    await inventory.save_location(Location(PLACE, LocationKind.STORE))
    await asyncio.gather(
        *(
            inventory.record(Movement(f"in {name} {sku}", MovementKind.RECEIVE, sku, PLACE, STOCK))
            for sku in SKUS
        )
    )


async def prove_books(inventory: Inventory) -> None:
    """Every count equals the replay of the ledger."""
    report = await audit(inventory)
    assert report.is_clean, (report.differences, report.violations, report.notes)
