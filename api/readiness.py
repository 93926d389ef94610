"""What stands between a worker and its work, found out beforehand: asking costs nothing."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from logging import getLogger

from engine import Inventory
from engine.doctor import Durability, Severity, examine

log = getLogger("bincard.readiness")

LOOK_SECONDS = 2.0
"""How often the server's settings are looked at while they are good."""
WORRIED_LOOK_SECONDS = 1.0
"""The same while they are not: whoever mends them waits for us to see it."""
OUT_OF_REACH = "server"
"""The finding that tells that nothing could be looked at."""

OF_REPLICAS = frozenset(("confirmation", "min-replicas-to-write", "replicas"))
"""The findings that replicas which are missing or behind explain."""


class Readiness:
    """Looks at the server from time to time. Call `open` before the first question."""

    def __init__(self, inventory: Inventory, durability: str) -> None:
        self._inventory = inventory
        self.durability: Durability = (
            "replicated" if durability == "replicated" else "none" if durability == "none" else "local"
        )
        self._refusals: Sequence[str] = ("the server has not been looked at yet",)
        self.unfit: Sequence[str] = self._refusals
        """Why nothing may be written: what a server that could be looked at has set wrong. One that does
        not answer says nothing of its settings; what was found last counts."""
        self.lacks_replicas = False
        """Whether that is about replicas alone."""
        self._watch: asyncio.Task[None] | None = None
        self.is_draining = False
        """Whether the worker is about to stop: no reason to refuse anyone, but to send nobody new."""

    async def open(self) -> None:
        """Looks for the first time, and from then on again and again."""
        await self._look()
        self._watch = asyncio.get_running_loop().create_task(self._keep_looking())

    async def close(self) -> None:
        """Looks no more."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch

    def reasons(self) -> list[str]:
        """Why the worker is not ready; none where it is."""
        reasons = list(self._refusals)
        if self.is_draining:
            reasons.append("this server is about to stop")
        if not self._inventory.is_connected:
            reasons.append("there is no connection to the stock server")
        elif self._inventory.requests_stuck:
            reasons.append("the stock server has stopped to answer")
        return reasons

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(WORRIED_LOOK_SECONDS if self._refusals else LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        try:
            findings = await examine(self._inventory.dataset, self.durability)
        except Exception as error:
            log.exception("the server could not be examined")
            self._refusals = (f"the server could not be examined: {error}",)
            return
        refusals = [finding for finding in findings if finding.severity is Severity.REFUSAL]
        self._refusals = [
            f"{finding.name} is {finding.found}, must be {finding.expected}: {finding.remedy}"
            for finding in refusals
        ]
        if not any(finding.name == OUT_OF_REACH for finding in refusals):
            self.unfit = self._refusals
            self.lacks_replicas = {finding.name for finding in refusals} <= OF_REPLICAS
