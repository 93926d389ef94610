"""Finding reservations by what is known of them: the part of `Inventory` that lists."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from contextlib import suppress
from heapq import heappop, heappush
from typing import cast

import msgspec
from msgspec import Struct

from engine import keys, planner
from engine.cards import PAGES, is_divider, page_field, without_holds
from engine.dataset import Dataset
from engine.errors import InvalidRequest, Unavailable, Unconfirmed
from engine.ids import parse_reservation_id, part_id, reservation_id
from engine.index import (
    ALL,
    BEHIND_ALL,
    LOCATION,
    ORDER_SIZE,
    OWNER,
    REFERENCE,
    SKU,
    Index,
    entries_of,
    entry_prefix,
    may_be_in,
    operation_of,
    read_record,
)
from engine.keys import partition_of
from engine.lifecycle import HELD, positions_of, units_of
from engine.places import Places
from engine.records import WITH_UNITS, Record, build_reservation, reference_at
from engine.types import Reservation, State

MAX_PAGE = 1000
DEFAULT_PAGE = 100
MOST_LOOKED_AT = 5000
"""Entries that one page looks at: some 50 ms of our time. A page that has found less than it was asked for by
then ends early, and its cursor goes on from there."""
LEAST_READ, MOST_READ = 16, 512
"""Entries that are read of a partition at a time."""
RECORDS_AT_ONCE = 256
_MARK_SIZE = 8
_BAD_CURSOR = "use next_cursor of the page before, with the same filters"


class Sought(Struct, frozen=True, array_like=True):
    """What a list asks for; None does not matter."""

    owner: str | None = None
    reference: str | None = None
    sku: str | None = None
    location: str | None = None
    state: State | None = None

    @property
    def prefix(self) -> bytes:
        """What the entries of the narrowest index begin with."""
        for kind, text in (
            (REFERENCE, self.reference),
            (OWNER, self.owner),
            (SKU, self.sku),
            (LOCATION, self.location),
        ):
            if text is not None:
                return entry_prefix(kind, text)
        return ALL

    def is_met_by(self, record: Record) -> bool:
        """Whether a record, state apart, is sought."""
        detail, positions = record.detail, record.plan.positions
        return (
            (self.owner is None or detail.owner == self.owner)
            and (self.reference is None or reference_at(detail, record.head.revision) == self.reference)
            and (self.sku is None or any(line.sku == self.sku for line in positions))
            and (self.location is None or any(line.location == self.location for line in positions))
        )


class ReservationPage(Struct, frozen=True):
    """Reservations, the newest first. With `next_cursor` the list goes on; a page may have fewer items than
    it was asked for, or none, and still go on.
    """

    items: Sequence[Reservation]
    next_cursor: str | None


class Finding(Places):
    """The part of `Inventory` that finds reservations."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self.index = Index(dataset)

    async def reservations(
        self,
        *,
        owner: str | None = None,
        reference: str | None = None,
        sku: str | None = None,
        location: str | None = None,
        state: State | None = None,
        limit: int = DEFAULT_PAGE,
        cursor: str | None = None,
    ) -> ReservationPage:
        """A page of the reservations that meet all that is asked, the newest first.

        It has everything that was answered before it was asked. A page goes on where the one before ended,
        whatever came or went since. Finished reservations are listed as long as they are remembered. Raises
        `InvalidRequest`, `Overloaded` while the index is being made. Cost: 5 µs of server time for each
        partition, 1 µs for each reservation looked at, and 15 µs of ours.
        """
        if sku is not None:
            planner.check_sku(sku, "/sku")
        if location is not None:
            planner.check_location(location, "/location")
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidRequest("/limit", f"a whole number from 1 to {MAX_PAGE}")
        sought = Sought(owner, reference, sku, location, state)
        before = BEHIND_ALL if cursor is None else self._read_cursor(sought, cursor)
        # A task of its own: the client needs one, and a caller may step us without (`api/protocol.py`).
        return await asyncio.get_running_loop().create_task(self._find_page(sought, before, limit))

    async def _own_holds(self, owner: str, sku: str) -> list[bytes]:
        """The ids under which an owner may hold units of a SKU in its partition. Raises as a list does."""
        partition, ids, cursor = partition_of(sku, self._partitions), list[bytes](), None
        while True:
            page = await self.reservations(
                owner=owner, sku=sku, state=State.HELD, limit=MAX_PAGE, cursor=cursor
            )
            for reservation in page.items:
                routed = parse_reservation_id(reservation.id)
                assert routed is not None, "we made it"
                route, operation = routed
                if route % self._partitions == partition:
                    ids.append(operation)
                if self._partitions > 1:
                    ids.append(part_id(operation, route))
            cursor = page.next_cursor
            if cursor is None:
                return ids

    async def _cards_without(self, sku: str, owner: str) -> tuple[str, list[bytes]]:
        """The version and the cards of a SKU as they would be without what an owner holds there: the cards
        and the holds are read as of one moment.
        """
        ids = await self._own_holds(owner, sku)
        partition, asked = partition_of(sku, self._partitions), [sku]
        holds = [_ask_for(keys.operations(partition), ids)] if ids else []
        while True:
            head, texts, *records = await self.dataset.topology.read_at_once(
                ("HMGET", keys.meta(partition), "epoch", "seq"),
                ("HMGET", keys.stock(partition), *asked),
                *holds,
            )
            cards = [text for text in cast("list[bytes | None]", texts) if text]
            if len(asked) > 1 or not cards or not is_divider(cards[0]):
                break
            asked = [sku, *(page_field(sku, page) for page in range(PAGES))]
        epoch, seq = (number.decode() if number else "0" for number in cast("list[bytes | None]", head))
        held = _held_of(sku, cast("list[bytes | None]", records[0]) if records else [])
        return f"{epoch}.{seq}", [without_holds(card, held) for card in cards if not is_divider(card)]

    async def _find_page(self, sought: Sought, before: bytes, limit: int) -> ReservationPage:
        walk = _Walk(self.index, self._partitions, sought, before, limit)
        await walk.begin()
        found: list[tuple[bytes, Record]] = []
        wanted = max(LEAST_READ, limit + 1)
        while len(found) <= limit and walk.looked_at < MOST_LOOKED_AT and not walk.is_over:
            found += await walk.take(min(RECORDS_AT_ONCE, wanted))
            # What is rare is looked for in larger steps.
            wanted *= 2
        await walk.strike_out()
        ended_at = None if walk.is_over else walk.last
        if len(found) > limit:
            del found[limit:]
            ended_at = found[-1][0]
        items = [
            build_reservation(
                reservation_id(record.route, operation_of(order)), record.head, record.plan, record.detail
            )
            for order, record in found
        ]
        return ReservationPage(items, None if ended_at is None else self._cursor(sought, ended_at))

    def _cursor(self, sought: Sought, order: bytes) -> str:
        mark = self.dataset.ids.mark_of_page(_encode(sought) + order)
        return urlsafe_b64encode(order + mark).decode().rstrip("=")

    def _read_cursor(self, sought: Sought, text: str) -> bytes:
        try:
            raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        except ValueError as error:
            raise InvalidRequest("/cursor", _BAD_CURSOR) from error
        order = raw[:ORDER_SIZE]
        if len(raw) != ORDER_SIZE + _MARK_SIZE or self._cursor(sought, order) != text:
            raise InvalidRequest("/cursor", _BAD_CURSOR)
        return order


def _ask_for(key: str, fields: Sequence[bytes]) -> tuple[str | bytes, ...]:
    return ("HMGET", key, *fields)


def _held_of(sku: str, stored: Sequence[bytes | None]) -> dict[str, int]:
    """The units of a SKU that some records hold at each location."""
    held: dict[str, int] = {}
    for raw in stored:
        record = read_record(raw) if raw is not None and raw[0] in WITH_UNITS else None
        if record is not None:
            plan = record.plan.packed
            for (name, location, _), units in zip(
                positions_of(plan), units_of(record.head, plan), strict=True
            ):
                if name == sku:
                    held[location] = held.get(location, 0) + units[HELD]
    return held


class _Walk:
    """Goes through the entries of one prefix in all partitions, the newest first."""

    def __init__(self, index: Index, partitions: int, sought: Sought, before: bytes, limit: int) -> None:
        self._index = index
        self._partitions = partitions
        self._sought = sought
        self._prefix = sought.prefix
        self._read = min(MOST_READ, max(LEAST_READ, 2 * limit // partitions))
        # Each partition is a source of orders, and so is what its index could not be given.
        self._orders: list[list[bytes]] = [[] for _ in range(2 * partitions)]
        self._next: list[bytes | None] = [before] * partitions + [None] * partitions
        """Before what a source goes on; None at its end."""
        self._heap: list[tuple[bytes, int]] = []
        self._doubted: dict[int, list[bytes]] = {}
        self.last = before
        """What the walk has come to."""
        self.looked_at = 0

    async def begin(self) -> None:
        """Waits until the index has what the ledgers have."""
        everywhere = range(self._partitions)
        unfiled = await asyncio.gather(*(self._index.catch_up(partition) for partition in everywhere))
        for source, entries in enumerate(unfiled, self._partitions):
            orders = [entry[-ORDER_SIZE:] for entry in entries if self._is_ours(entry)]
            self._orders[source] = sorted(order for order in orders if order < self.last)
        await asyncio.gather(*(self._read_more(source) for source in everywhere))
        for source in range(2 * self._partitions):
            await self._offer(source)

    def _is_ours(self, entry: bytes) -> bool:
        return entry.startswith(self._prefix) and len(entry) == len(self._prefix) + ORDER_SIZE

    async def _read_more(self, partition: int) -> None:
        before = self._next[partition]
        if before is None:
            return
        entries = await self._index.read(partition, self._prefix, before, self._read)
        self._orders[partition] = [entry[-ORDER_SIZE:] for entry in reversed(entries)]
        self._next[partition] = entries[-1][-ORDER_SIZE:] if len(entries) == self._read else None

    async def _offer(self, source: int) -> None:
        """Puts the next of a source where the newest of all is taken from."""
        if not self._orders[source]:
            await self._read_more(source)
        if self._orders[source]:
            heappush(self._heap, (self._orders[source].pop().translate(_TURNED), source))

    @property
    def is_over(self) -> bool:
        """Whether there are no further entries."""
        return not self._heap

    async def take(self, count: int) -> list[tuple[bytes, Record]]:
        """The records of the next so many entries that are sought, with their orders."""
        taken: list[tuple[int, bytes]] = []
        while self._heap and len(taken) < count:
            turned, source = heappop(self._heap)
            order = turned.translate(_TURNED)
            if order != self.last:
                taken.append((source % self._partitions, order))
            self.last = order
            await self._offer(source)
        self.looked_at += len(taken)
        return await self._choose(taken)

    async def _choose(self, taken: Sequence[tuple[int, bytes]]) -> list[tuple[bytes, Record]]:
        asked: dict[int, list[bytes]] = {}
        for partition, order in taken:
            asked.setdefault(partition, []).append(operation_of(order))
        reading = (self._index.records(partition, ids) for partition, ids in asked.items())
        stored = dict(zip(asked, await asyncio.gather(*reading), strict=True))
        found, state = [], self._sought.state
        for partition, order in taken:
            raw = stored[partition].get(operation_of(order))
            if raw is not None and state is not None and not may_be_in(raw, state):
                continue
            record = None if raw is None else read_record(raw)
            if record is None or self._prefix + order not in entries_of(operation_of(order), record):
                self._doubted.setdefault(partition, []).append(self._prefix + order)
            elif self._sought.is_met_by(record):
                found.append((order, record))
        return found

    async def strike_out(self) -> None:
        """Strikes out the entries that were met and are no more. Others will, where that fails."""
        with suppress(Unavailable, Unconfirmed):
            for partition, entries in self._doubted.items():
                await self._index.strike_out(partition, entries)


_TURNED = bytes(range(255, -1, -1))
"""Turns the order of bytes around: a heap gives the least first."""
_encode = msgspec.msgpack.Encoder().encode
