"""Orders that are collected in a store: the part of `Inventory` that marks them."""

import asyncio
from collections.abc import Sequence
from math import asin, cos, radians, sin, sqrt

from engine import keys, planner, rearranging
from engine.changes import Changes, content_of
from engine.types import Alternative, Availability, Line, Location, Reservation, WantedCount

EARTH_KM = 6371.0


class Pickups(Changes):
    """The part of `Inventory` that marks orders for pickup: committed reservations, wherever they lie."""

    async def mark_ready(
        self, reservation: str, *, op_id: str | None = None, caller: str = ""
    ) -> Reservation:
        """The goods of a committed reservation wait to be collected, from now on; a repeat keeps the first
        moment. Raises as `commit` does, `NotCommitted`.
        """
        return await self._change("ready", reservation, op_id, caller, b"", rearranging.made_ready)

    async def report_short(
        self, reservation: str, lines: Sequence[Line], *, op_id: str, caller: str = ""
    ) -> Reservation:
        """Committed units were not found: they are cancelled, which the reservation remembers, and their
        positions are to be counted. Raises as `commit` does, `NotCommitted`.
        """
        planner.check_lines(lines)
        return await self._change(
            "short",
            reservation,
            op_id,
            caller,
            content_of(lines),
            lambda record, now_ms: rearranging.found_short(record, lines, now_ms),
            is_short=True,
        )

    async def counts_wanted(self, *, location: str | None = None) -> list[WantedCount]:
        """The positions at which units were not found, the longest waiting first. Cost: 1 µs of ours each."""
        # A task of its own: the client needs one, and a caller may step us without (`api/protocol.py`).
        return await asyncio.get_running_loop().create_task(self._read_wanted(location))

    async def _read_wanted(self, location: str | None) -> list[WantedCount]:
        found: dict[tuple[str, str], WantedCount] = {}
        for partition in range(self._partitions):
            async for field, since in self.dataset.topology.scan_hash(keys.wanted(partition)):
                place, _, sku = field[1:].partition(b"=")
                since_ms = int.from_bytes(since, "little")
                one = WantedCount(sku.decode(), place.decode(), since_ms)
                known = found.get((one.location, one.sku))
                if location in {None, one.location} and (known is None or known.since_ms > since_ms):
                    found[one.location, one.sku] = one
        return sorted(found.values(), key=lambda one: (one.since_ms, one.location, one.sku))


def rank_alternatives(
    location: str, found: Availability | None, locations: Sequence[Location]
) -> list[Alternative]:
    """Other active locations that have a SKU: the nearest first where coordinates tell, then those that have
    the most.
    """
    by_id = {place.id: place for place in locations}
    others = [
        Alternative(place.location, place.available, distance_km(by_id.get(location), by_id[place.location]))
        for place in (() if found is None else found.locations)
        if place.location != location and place.available > 0 and by_id[place.location].active
    ]
    return sorted(others, key=_by_distance)


def distance_km(one: Location | None, other: Location) -> float | None:
    """The distance between two locations as the crow flies; None where one has no coordinates."""
    if one is None or one.lat is None or one.lon is None or other.lat is None or other.lon is None:
        return None
    lat, other_lat = radians(one.lat), radians(other.lat)
    turned = sin((other_lat - lat) / 2) ** 2
    turned += cos(lat) * cos(other_lat) * sin(radians(other.lon - one.lon) / 2) ** 2
    return round(2 * EARTH_KM * asin(min(1.0, sqrt(turned))), 3)


def _by_distance(one: Alternative) -> tuple[bool, float, int, str]:
    return one.distance_km is None, one.distance_km or 0.0, -one.available, one.location
