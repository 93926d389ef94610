"""What callers were told of each reservation and each movement must add up to what the positions say."""

import asyncio
from collections import Counter

from engine import Reservation
from tests.faults.campaign.shoppers import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Crowd

ADDS_UP_WITHIN_SECONDS = 12.0
"""Holds lapse between two reads, and who repairs a basket gives its coordinator 5 s."""

Place = tuple[str, str, str]
"""A counter of a position: SKU, location, its name."""


async def find_gap(crowd: Crowd) -> str:
    """Where the sums differ from the counters, once they had the time to agree; nothing where they do."""
    loop = asyncio.get_running_loop()
    ends, pause = loop.time() + ADDS_UP_WITHIN_SECONDS, FIRST_PAUSE_SECONDS
    while True:
        sums, counters = await _add_up(crowd), await _read(crowd)
        # A first sending that was cut off may hold what a later one was refused. It lapses untold.
        wrong = sorted(
            place
            for place in sums | counters
            if sums[place] > counters[place] or (sums[place] < counters[place] and place[2] != "held")
        )
        if not wrong:
            return ""
        if loop.time() > ends:
            return "; ".join(
                f"{place} is {counters[place]}, callers were told of {sums[place]}" for place in wrong[:3]
            )
        await asyncio.sleep(pause)
        pause = min(2 * pause, 4 * LONGEST_PAUSE_SECONDS)


async def _add_up(crowd: Crowd) -> Counter[Place]:
    sums: Counter[Place] = Counter()
    for (sku, location), units in crowd.moved.items():
        sums[sku, location, "on_hand"] += units

    async def add(reservation: str) -> None:
        found = await crowd.insist(lambda it: it.reservation(reservation))
        for line in found.lines if isinstance(found, Reservation) else ():
            sums[line.sku, line.location, "held"] += line.held
            sums[line.sku, line.location, "allocated"] += line.committed
            sums[line.sku, line.location, "on_hand"] -= line.fulfilled

    await asyncio.gather(*map(add, tuple(crowd.reservations)))
    return sums


async def _read(crowd: Crowd) -> Counter[Place]:
    counters: Counter[Place] = Counter()

    async def read(sku: str) -> None:
        found = await crowd.insist(lambda it: it.stock(sku))
        for position in found if isinstance(found, list) else ():
            for name in ("on_hand", "held", "allocated"):
                counters[sku, position.location, name] = getattr(position, name)

    await asyncio.gather(*map(read, {sku for sku, _ in crowd.moved}))
    return counters
