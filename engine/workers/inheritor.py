"""Brings positions to defaults that have changed, though nobody waits for it."""

from engine.inventory import Inventory

TICK_SECONDS = 1.0


class Inheritor:
    """Looks for changed defaults of items and locations in every partition. Several may run."""

    name = "inheritor"

    def __init__(self, inventory: Inventory) -> None:
        self._keeper = inventory.defaults

    async def tick(self) -> float:
        """Follows all changes there are. Raises `Unavailable`, `Unconfirmed`; the next tick begins anew."""
        await self._keeper.catch_up()
        return TICK_SECONDS
