"""The settings of locations, which every partition keeps."""

import asyncio
from collections.abc import Sequence

from engine import planner, refusals, settings
from engine.commands import Reply
from engine.dataset import Dataset
from engine.errors import REFUSAL_ERRORS, LocationNotFound
from engine.types import Location


class Places:
    """The part of `Inventory` that knows locations."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.metrics = dataset.metrics
        self._partitions = dataset.partitions

    async def save_location(self, location: Location) -> Location:
        """Creates or replaces a location's settings, in every partition."""
        planner.check_location(location.id, "/id")
        await self._send_location(location.id, settings.encode_location(location))
        return location

    async def delete_location(self, location: str) -> None:
        """Deletes a location. Raises `LocationNotFound`, `LocationInUse` while positions exist there."""
        current = settings.encode_location(await self.location(location))
        replies = await self._send_location(location, b"")
        refused = [reply for reply in replies if reply.word in REFUSAL_ERRORS]
        if refused:
            # A partition that refused keeps it: so must those that did not.
            keeping = [partition for partition, reply in enumerate(replies) if reply.word is None]
            await self._send_location(location, current, keeping)
            raise refusals.plain_refusal(refused[0], f"location {location}")

    async def location(self, location: str) -> Location:
        """The settings of a location. Raises `LocationNotFound`."""
        for known in await self.locations():
            if known.id == location:
                return known
        raise LocationNotFound(f"there is no location {location}")

    async def locations(self) -> list[Location]:
        """All locations, by id."""
        # A task of its own: the client needs one, and a caller may step us without (`api/protocol.py`).
        reading = settings.read_locations(self.dataset.topology)
        return await asyncio.get_running_loop().create_task(reading)

    async def _send_location(
        self, location: str, packed: bytes, partitions: Sequence[int] | None = None
    ) -> list[Reply]:
        chosen = range(self._partitions) if partitions is None else partitions
        answers = await asyncio.gather(
            *(self.dataset.commands[partition].save_location(location, packed) for partition in chosen)
        )
        return [Reply(*answer) for answer in answers]
