"""A shopper that never tires: in this process or, run as a program, in one of its own."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count, islice
from random import Random
from time import monotonic

from engine import Inventory, Line, Refused, Reservation, Unavailable, Unconfirmed
from engine.dataset import open_dataset
from tests.driver import RETENTION_SECONDS, scripts_with_our_clock

PLACES = ("s1", "s2")
DUPLICATES = 0.25
PATIENCE_SECONDS = 60.0
"""Until when there must be an answer, however slow a busy machine is to connect again."""


class Shopper:
    """Fills baskets from shared positions and resolves them, sending one request in four twice."""

    def __init__(self, inventory: Inventory, skus: list[str], name: str) -> None:
        self.inventory = inventory
        self.skus = skus
        self.name = name
        self.random = Random(name)
        self.held: list[str] = []
        self.seen = Counter[str]()
        self._numbers = count()

    async def go(self, baskets: int, at_once: int = 8) -> None:
        """Handles many baskets, some at a time."""
        numbers = islice(self._numbers, baskets)

        async def stroll() -> None:
            for number in numbers:
                await self.handle_basket(number)

        await asyncio.gather(*(stroll() for _ in range(at_once)))

    async def handle_basket(self, number: int) -> None:
        random, key = self.random, f"{self.name} {number}"
        lines = [
            Line(random.choice(self.skus), random.randint(1, 3), random.choice(PLACES))
            for _ in range(random.randint(1, 4))
        ]
        held = await self.send(lambda: self.inventory.reserve(key, lines))
        if held is None:
            return
        self.held.append(held.id)
        verb = random.choice(("commit", "commit", "till", "release", "part", "keep"))
        some = lines[:1]
        if verb == "release":
            await self.send(lambda: self.inventory.release(held.id, op_id=f"{key} release"))
        elif verb == "part":
            await self.send(lambda: self.inventory.commit(held.id, lines=some, op_id=f"{key} commit"))
        elif verb == "till":
            await self.send(lambda: self.inventory.commit(held.id, fulfil=True, op_id=f"{key} commit"))
        elif verb == "commit":
            await self.send(lambda: self.inventory.commit(held.id, op_id=f"{key} commit"))
            then = random.choice((self.inventory.fulfil, self.inventory.cancel))
            await self.send(lambda: then(held.id, lines=some, op_id=f"{key} then"))

    async def send(self, request: Callable[[], Awaitable[Reservation]]) -> Reservation | None:
        """Sends until there is an answer; perhaps twice at once, and then both answers must agree."""
        sends = 2 if self.random.random() < DUPLICATES else 1
        answers = await asyncio.gather(*(self.insist(request) for _ in range(sends)))
        told = [answer for answer in answers if answer is not None]
        if len(told) == len(answers) > 1:
            assert told[0].version == told[1].version
            assert told[0].lines == told[1].lines
            assert told[0].replayed or told[1].replayed
        return told[0] if told else None

    async def insist(self, request: Callable[[], Awaitable[Reservation]]) -> Reservation | None:
        ends = monotonic() + PATIENCE_SECONDS
        while monotonic() < ends:
            try:
                answer = await request()
            except Unconfirmed:
                self.seen["unconfirmed"] += 1
            except Unavailable:
                self.seen["unavailable"] += 1
                await asyncio.sleep(0.01)
            except Refused as refused:
                self.seen[refused.outcome] += 1
                return None
            else:
                self.seen["replayed" if answer.replayed else answer.state] += 1
                return answer
        raise AssertionError("no answer came")


async def main(url: str, partitions: int, name: str, baskets: int, skus: list[str]) -> None:
    """Shops in this process and prints the reservations that were made."""
    dataset = await open_dataset(
        url, partitions=partitions, retention_seconds=RETENTION_SECONDS, scripts=scripts_with_our_clock()
    )
    shopper = Shopper(Inventory(dataset), skus, name)
    await shopper.go(baskets)
    await shopper.inventory.close()
    json.dump({"held": shopper.held, "seen": shopper.seen}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5:]))
