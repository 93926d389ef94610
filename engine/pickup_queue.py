"""The queue of a store: orders that wait to be picked, and those that wait for their customer."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from engine import planner
from engine.errors import InvalidRequest
from engine.finding import DEFAULT_PAGE, MAX_PAGE, MOST_LOOKED_AT, Finding
from engine.ids import reservation_id
from engine.index import LOCATION, ORDER_SIZE, entries_of, entry_prefix, operation_of, read_record
from engine.lifecycle import COMMITTED, positions_of, units_of
from engine.records import Record, build_reservation
from engine.types import Reservation

READ_AT_ONCE = 256
"""Entries that are read of a partition at a time."""
BEFORE_ALL = bytes(ORDER_SIZE)
_MARK_SIZE = 8
_BAD_CURSOR = "use next_cursor of the page before, with the same filters"


class PickupState(StrEnum):
    """What an order in a store waits for."""

    WAITING = "waiting"
    """To be picked."""
    READY = "ready"
    """For its customer."""


class PickupPage(Struct, frozen=True):
    """Orders, the oldest first. With `next_cursor` the list goes on; a page may have fewer items than it was
    asked for, or none, and still go on.
    """

    items: Sequence[Reservation]
    next_cursor: str | None


class PickupQueue(Finding):
    """The part of `Inventory` that lists what a store has to do."""

    async def pickups(
        self,
        location: str,
        *,
        state: PickupState | None = None,
        limit: int = DEFAULT_PAGE,
        cursor: str | None = None,
    ) -> PickupPage:
        """A page of the reservations with committed units at a location, the oldest first. It has everything
        that was answered before it was asked. Raises `InvalidRequest`, `Overloaded` while the index is being
        made. Cost: 1 µs of server time for each reservation of the location that is still remembered.
        """
        planner.check_location(location, "/location")
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest("/limit", f"a whole number from 1 to {MAX_PAGE}")
        scope = b"\0".join((b"pickups", location.encode(), (state or "").encode()))
        after = BEFORE_ALL if cursor is None else self._read_place(scope, cursor)
        # A task of its own: the client needs one, and a caller may step us without (`api/protocol.py`).
        walk = self._walk_queue(location, state, limit, after)
        found, ended_at = await asyncio.get_running_loop().create_task(walk)
        items = [
            build_reservation(
                reservation_id(record.route, operation_of(order)), record.head, record.plan, record.detail
            )
            for order, record in found
        ]
        return PickupPage(items, None if ended_at is None else self._mark_place(scope, ended_at))

    async def _walk_queue(
        self, location: str, state: PickupState | None, limit: int, after: bytes
    ) -> tuple[list[tuple[bytes, Record]], bytes | None]:
        """The next orders with their records; and where the list goes on, unless it has ended."""
        prefix, found, looked_at = entry_prefix(LOCATION, location), list[tuple[bytes, Record]](), 0
        everywhere = range(self._partitions)
        unfiled = await asyncio.gather(*(self.index.catch_up(partition) for partition in everywhere))
        while True:
            read = await asyncio.gather(
                *(self.index.read_on(partition, prefix, after, READ_AT_ONCE) for partition in everywhere)
            )
            # Beyond where one partition was cut off the others are not complete.
            ends = [entries[-1][-ORDER_SIZE:] for entries in read if len(entries) == READ_AT_ONCE]
            until = min(ends, default=None)
            for partition, entries in enumerate(read):
                orders = {entry[-ORDER_SIZE:] for entry in (*entries, *_of(unfiled[partition], prefix))}
                some = [order for order in orders if order > after and (until is None or order <= until)]
                looked_at += len(some)
                found += await self._read_queue(partition, prefix, some, location, state)
            found.sort(key=_order_of)
            if len(found) > limit:
                return found[:limit], found[limit - 1][0]
            if until is None or looked_at >= MOST_LOOKED_AT:
                return found, until
            after = until

    async def _read_queue(
        self,
        partition: int,
        prefix: bytes,
        orders: Sequence[bytes],
        location: str,
        state: PickupState | None,
    ) -> list[tuple[bytes, Record]]:
        if not orders:
            return []
        stored = await self.index.records(partition, [operation_of(order) for order in orders])
        found = []
        for order in orders:
            operation = operation_of(order)
            record = read_record(stored[operation]) if operation in stored else None
            if (
                record is not None
                and prefix + order in entries_of(operation, record)
                and _is_in_queue(record, location, state)
            ):
                found.append((order, record))
        return found

    def _mark_place(self, scope: bytes, order: bytes) -> str:
        mark = self.dataset.ids.mark_of_page(scope + order)
        return urlsafe_b64encode(order + mark).decode().rstrip("=")

    def _read_place(self, scope: bytes, text: str) -> bytes:
        try:
            raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except ValueError as error:
            raise InvalidRequest("/cursor", _BAD_CURSOR) from error
        order = raw[:ORDER_SIZE]
        if len(raw) != ORDER_SIZE + _MARK_SIZE or self._mark_place(scope, order) != text:
            raise InvalidRequest("/cursor", _BAD_CURSOR)
        return order


def _is_in_queue(record: Record, location: str, state: PickupState | None) -> bool:
    plan, later = record.plan.packed, record.detail.later
    is_ready = later is not None and later.ready_ms is not None
    if state is not None and is_ready != (state is PickupState.READY):
        return False
    return any(
        place == location and units[COMMITTED] > 0
        for (_, place, _), units in zip(positions_of(plan), units_of(record.head, plan), strict=True)
    )


def _of(entries: frozenset[bytes], prefix: bytes) -> list[bytes]:
    return [entry for entry in entries if entry.startswith(prefix) and len(entry) == len(prefix) + ORDER_SIZE]


def _order_of(one: tuple[bytes, Record]) -> bytes:
    return one[0]
