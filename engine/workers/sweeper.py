"""Gives lapsed holds back in time, though nobody asks for the SKU."""

import asyncio
from collections.abc import Awaitable

from engine.commands import Commands
from engine.inventory import Inventory
from engine.outcomes import Outcome
from engine.sweep import Swept, sweep

TICK_SECONDS = 0.1
"""A tenth of what a lapsed hold may be late."""
TICKS_BETWEEN_MEMORIES = 10


class Sweeper:
    """Sweeps every partition; the store's clock decides what has lapsed."""

    name = "sweeper"

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._ticks_until_memories = 0

    async def tick(self) -> float:
        """Handles some of what is due in each partition; memories to forget once in ten times, and old
        history and documents behind them.

        Baskets over several partitions are repaired, and documents driven on, where there is something to
        do. A partition that
        fails does not keep the others waiting. Raises what it raised, then.
        """
        partitions = self._inventory.dataset.commands
        holds = [sweep(commands) for commands in partitions]
        memories = []
        if self._ticks_until_memories == 0:
            self._ticks_until_memories = TICKS_BETWEEN_MEMORIES
            # First what documents began and did not end: until then it must be remembered what happened.
            delivered = asyncio.ensure_future(self._inventory.deliver_documents())
            memories = [_forget(commands, delivered) for commands in partitions]
        self._ticks_until_memories -= 1
        results = await asyncio.gather(*holds, *memories, return_exceptions=True)
        expired = sum(part.count for part in results[: len(holds)] if isinstance(part, Swept))
        if expired:
            self._inventory.metrics.count("expire", Outcome.EXPIRED, expired)
        repairs = [
            self._inventory.baskets.repair(partition)
            for partition, part in enumerate(results[: len(holds)])
            if isinstance(part, Swept) and part.has_repairs
        ]
        repaired = await asyncio.gather(*repairs, return_exceptions=True)
        swept = []
        for result in (*results, *repaired):
            if isinstance(result, BaseException):
                raise result
            if isinstance(result, Swept):
                swept.append(result)
        if any(not part.is_done for part in swept[len(holds) :]):
            self._ticks_until_memories = 0
        elif memories:
            await self._inventory.trim()
        return TICK_SECONDS if all(part.is_done for part in swept) else 0.0


async def _forget(commands: Commands, delivered: Awaitable[object]) -> Swept:
    await delivered
    return await sweep(commands, memories=True)
