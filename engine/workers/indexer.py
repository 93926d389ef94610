"""Keeps the index of reservations up with the ledger, so that those who ask seldom have to."""

import asyncio
from time import monotonic

from engine.index import Filing
from engine.inventory import Inventory

TICK_SECONDS = 0.25
REST_FOR_WORK = 4
"""Rests so many times as long as it worked: a fifth of a processor at the most. Who asks for a list while it
is behind does the rest of the work."""
WALK_ENTRIES = 250
"""Entries of the index that one tick looks at: a thousand a second."""
WALK_PAUSE_SECONDS = 60.0
"""Between a walk through all entries and the next."""


class Indexer:
    """Files what happened in every partition, and strikes out what was forgotten. Several may run."""

    name = "indexer"

    def __init__(self, inventory: Inventory) -> None:
        self._index = inventory.index
        self._partitions = range(inventory.dataset.partitions)
        self._filings: dict[int, Filing] = {}
        self._walks_in = 0
        self._walked_to = b""
        self._walks_at = 0.0

    async def tick(self) -> float:
        """Takes a step in each partition, and looks at some entries of one.

        A partition that fails does not keep the others waiting. Raises what it raised, then.
        """
        begun = monotonic()
        results = await asyncio.gather(*map(self._step, self._partitions), return_exceptions=True)
        await self._walk()
        for result in results:
            if isinstance(result, BaseException):
                raise result
        rest = REST_FOR_WORK * (monotonic() - begun)
        return rest if any(results) else max(rest, TICK_SECONDS)

    async def _step(self, partition: int) -> bool:
        """A step of the way through a ledger; a way that failed begins anew."""
        filing = self._filings.pop(partition, None) or self._index.filing(partition)
        if await filing.step():
            self._filings[partition] = filing
            return True
        return False

    async def _walk(self) -> None:
        if monotonic() < self._walks_at:
            return
        self._walked_to = await self._index.walk(self._walks_in, self._walked_to, WALK_ENTRIES)
        if not self._walked_to:
            self._walks_in = (self._walks_in + 1) % len(self._partitions)
            if self._walks_in == 0:
                self._walks_at = monotonic() + WALK_PAUSE_SECONDS
