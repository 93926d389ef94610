"""Gives lapsed holds back in time, though nobody asks for the SKU."""

import asyncio

from engine.inventory import Inventory
from engine.outcomes import Outcome
from engine.sweep import Swept, sweep

TICK_SECONDS = 0.1
"""A tenth of what a lapsed hold may be late."""


class Sweeper:
    """Sweeps every partition; the store's clock decides what has lapsed."""

    name = "sweeper"

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def tick(self) -> float:
        """Handles some of what is due in each partition.

        A partition that fails does not keep the others waiting. Raises what it raised, then.
        """
        partitions = self._inventory.dataset.commands
        results = await asyncio.gather(*(sweep(commands) for commands in partitions), return_exceptions=True)
        swept = [result for result in results if isinstance(result, Swept)]
        expired = sum(part.expired for part in swept)
        if expired:
            self._inventory.metrics.count("expire", Outcome.EXPIRED, expired)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return TICK_SECONDS if all(part.is_done for part in swept) else 0.0
