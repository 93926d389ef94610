"""What a data set holds, whatever the number of its partitions.

A basket and its parts are one promise here, as are a reservation and its claims. The same reading of two
data sets can be compared, and one be written from the other.
"""

from collections.abc import Callable, Mapping
from typing import cast

import msgspec
from msgspec import Struct

from engine import keys, moves
from engine.baskets import split_plan
from engine.cards import (
    block_field,
    decode_card,
    decode_fences,
    is_divider,
    page_of,
    read_positions,
    split_claims,
    split_fence_field,
)
from engine.document_kinds import decode_document
from engine.documents import split_document
from engine.errors import DatasetUnfit
from engine.events import (
    Carried,
    Counted,
    DocumentSaved,
    Event,
    Moved,
    Replanned,
    Resolved,
    Supplied,
    read_events,
)
from engine.facts import tell_happening
from engine.ids import OPERATION_ID_SIZE, basket_id, is_remembered, part_id, reservation_id
from engine.lifecycle import (
    COMMITTED,
    FULFILLED,
    HELD,
    OPEN_STATES,
    Line,
    positions_of,
    units_by_place,
    units_of,
)
from engine.records import (
    FINGERPRINT,
    KIND_BASKET,
    KIND_PART,
    KIND_RESERVATION,
    ROUTE,
    STATES,
    Head,
    Plan,
    Record,
    Undecided,
    decode_plan,
    decode_record,
    decode_tail,
    split_record,
)
from engine.setting_forms import FORMS, SettingClass
from engine.supplies import unpack_supplies
from engine.topology import Topology
from engine.types import Fence, Happening, Supply

Key = tuple[int, bytes]
"""A reservation's route and operation id: what its public id is made of."""

Tell = Callable[[str], None]

KIND_OPERATION, KIND_MOVEMENT, KIND_BOUND = 2, 3, 4
MEMORIES_FROM, MEMORIES_TO = 2**50, 2**51
"""Where the deadline index has what is to be forgotten; see `lua/lib/batch.lua`."""
TOLD_EVENTS = 200_000
_STATE_AT = -3
_BOUND_MARK, _BOUND_UNTIL = slice(2, 10), slice(10, 16)


class Promise(Struct, frozen=True):
    """A reservation, with what its record has in every data set. `front` is that of a reservation in one
    partition.
    """

    partition: int
    front: bytes
    plan: bytes
    detail: bytes
    tail: bytes

    def read_head(self) -> Head:
        return decode_tail(self.tail)

    def read_plan(self) -> Plan:
        return decode_plan(self.plan)[0]

    def read_units(self) -> tuple[Line, ...]:
        return units_of(self.read_head(), self.plan)

    @property
    def route(self) -> int:
        return int.from_bytes(self.front[ROUTE], "little")

    @property
    def mark(self) -> bytes:
        return self.front[FINGERPRINT]

    @property
    def is_open(self) -> bool:
        """Whether it has open units: its state follows from them."""
        return STATES[self.tail[_STATE_AT] - 1] in OPEN_STATES

    @property
    def content(self) -> tuple[bytes, bytes, bytes, bytes]:
        """What must be the same after a move."""
        return self.front, self.plan, self.detail, self.tail


class Memory(Struct, frozen=True):
    """The answer to an operation, and where it belongs."""

    partition: int
    operation: bytes
    route: int
    until_ms: int
    record: bytes

    @property
    def mark(self) -> bytes:
        at = 2 if self.record[0] == KIND_OPERATION else 1
        return self.record[at : at + 8]


class Books(Struct):
    """A data set as it stood while nobody wrote to it."""

    partitions: int
    secret: bytes
    versions: list[tuple[int, int]] = msgspec.field(default_factory=list)
    """Epoch and sequence of each partition."""
    now_ms: int = 0
    settings: dict[tuple[SettingClass, str], bytes] = msgspec.field(default_factory=dict)
    """Those of partition 0, which decides on them."""
    on_hand: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    """SKU and location, in the order of the cards, as if all parts had followed their baskets."""
    policies: dict[tuple[str, str], tuple[int, int, int]] = msgspec.field(default_factory=dict)
    """SKU and location: safety stock, backorder limit and low-stock band, where there is a policy."""
    inheriting: list[tuple[str, str]] = msgspec.field(default_factory=list)
    """The positions that have the defaults of their items and locations."""
    fences: dict[tuple[str, str], list[Fence]] = msgspec.field(default_factory=dict)
    """SKU and location: fences in the order in which they were made."""
    preordered: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    """SKU and location: units promised of what is expected, where there are some."""
    supplies: dict[tuple[str, str], list[Supply]] = msgspec.field(default_factory=dict)
    """SKU and location → what is expected there, the earliest first."""
    documents: dict[tuple[int, bytes], tuple[bool, bytes]] = msgspec.field(default_factory=dict)
    """Route and id → whether effects are to follow, and the content."""
    promises: dict[Key, Promise] = msgspec.field(default_factory=dict)
    memories: list[Memory] = msgspec.field(default_factory=list)
    bonds: dict[bytes, tuple[bytes, int]] = msgspec.field(default_factory=dict)
    """Bound operation ids: to what, and until when."""
    counts: dict[tuple[str, str], bytes] = msgspec.field(default_factory=dict)
    conditions: dict[tuple[str, str], bytes] = msgspec.field(default_factory=dict)
    history: dict[tuple[str, str], list[moves.Row]] = msgspec.field(default_factory=dict)
    """What happened to positions, in the order of time."""
    claims: dict[str, list[Key]] = msgspec.field(default_factory=dict)
    """Field of a card → who has open units there, oldest promise first."""

    def in_order(self) -> list[tuple[SettingClass, str, bytes]]:
        """Settings in an order in which they can be made: what is named comes before what names it."""
        return [(kind, name, packed) for (kind, name), packed in sorted(self.settings.items())]

    @property
    def epoch(self) -> int:
        return max(epoch for epoch, _ in self.versions)


async def read_versions(topology: Topology, partitions: int) -> list[tuple[int, int]]:
    """Epoch and sequence of every partition."""
    found = []
    for partition in range(partitions):
        meta = await topology.read_hash(keys.meta(partition))
        found.append((int(meta.get(b"epoch", b"0")), int(meta.get(b"seq", b"0"))))
    return found


async def read_books(topology: Topology, partitions: int, secret: bytes, tell: Tell) -> Books:
    """Reads a data set that nobody writes to. Raises `DatasetUnfit` where somebody did meanwhile, or where a
    part of a basket is not there; `StorageUnavailable`. Memory: about a kilobyte a reservation.
    """
    books = Books(partitions, secret, await read_versions(topology, partitions))
    parts: dict[tuple[int, Key], Record] = {}
    baskets: list[Key] = []
    events = 0
    for partition in range(partitions):
        reading = _Reading(topology, partition, books)
        await reading.read()
        parts |= {(partition, key): record for key, record in reading.parts.items()}
        baskets += reading.baskets
        told = events // TOLD_EVENTS
        events += reading.events
        if events // TOLD_EVENTS > told:
            tell(f"read {partition + 1} of {partitions} partitions, {events:,} events")
    for key in baskets:
        _follow(books, key, parts)
    for rows in books.history.values():
        rows.sort(key=lambda row: (row.occurred_ms, row.id, row.units))
    for field, found in books.claims.items():
        books.claims[field] = [key for key in found if _claims_on(books, key, field)]
    if await read_versions(topology, partitions) != books.versions:
        raise DatasetUnfit("somebody wrote to the data set while it was read: stop whatever uses it")
    return books


def _follow(books: Books, key: Key, parts: Mapping[tuple[int, Key], Record]) -> None:
    """Counts on_hand as if a basket's parts had followed it. A part that is over may have been forgotten."""
    promise = books.promises[key]
    plan, units = promise.read_plan(), promise.read_units()
    for own in split_plan(plan, books.partitions):
        part = parts.get((own.partition, key))
        # Its lines may be those of another step.
        found = {} if part is None else units_by_place(part.head, part.plan.packed)
        for index in own.indexes:
            sku, location = plan.positions[index].sku, plan.positions[index].location
            if (sku, location) not in found:
                if units[index][HELD] + units[index][COMMITTED]:
                    raise DatasetUnfit(
                        f"reservation {reservation_id(*key)} has no part in partition {own.partition}: "
                        "restore a backup, or end it"
                    )
                continue
            left = found[sku, location][FULFILLED] - units[index][FULFILLED]
            books.on_hand[sku, location] += left
            if left:
                now_ms, name = books.now_ms, reservation_id(*key)
                told = Happening("fulfil", None, left, left, now_ms, now_ms, "", reservation=name)
                row = moves.Row(books.now_ms, part_id(key[1], key[0]), left, moves.encode_happening(told))
                books.history.setdefault((sku, location), []).append(row)


def _claims_on(books: Books, key: Key, field: str) -> bool:
    """Whether a promise has open units on a card; a part that is behind may still claim some."""
    promise, (sku, _, page) = books.promises.get(key), field.partition("\n")
    if promise is None or not promise.is_open:
        return False
    return any(
        name == sku and line[HELD] + line[COMMITTED] > 0 and page in {"", str(page_of(location))}
        for (name, location, _), line in zip(positions_of(promise.plan), promise.read_units(), strict=True)
    )


class _Reading:
    """Reads one partition."""

    def __init__(self, topology: Topology, partition: int, books: Books) -> None:
        self.parts: dict[Key, Record] = {}
        self.baskets: list[Key] = []
        self.events = 0
        self._topology = topology
        self._partition = partition
        self._books = books
        self._members: dict[tuple[int, int], list[moves.Member]] = {}

    async def read(self) -> None:
        time, *settings = await self._topology.read_at_once(
            ("TIME",), *(("HGETALL", form.key(self._partition)) for form in FORMS.values())
        )
        seconds, microseconds = cast("tuple[int, int]", time)
        self._books.now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        for kind, found in zip(FORMS, cast("list[dict[bytes, bytes]]", settings), strict=True):
            for name, packed in found.items():
                if self._partition == 0:
                    self._books.settings[kind, name.decode()] = packed
        stored = {
            operation: raw
            async for operation, raw in self._topology.scan_hash(keys.operations(self._partition))
        }
        self._read_records(stored)
        await self._read_facts()
        await self._read_ledger(stored)
        await self._read_supplies()
        await self._read_stock(stored)

    def _read_records(self, stored: Mapping[bytes, bytes]) -> None:
        books = self._books
        for operation, raw in stored.items():
            if raw[0] in {KIND_RESERVATION, KIND_BASKET}:
                cut = split_record(raw)
                if isinstance(decode_tail(cut.tail).state, Undecided):
                    # Nothing came of it, or nothing yet: who asked for it asks again.
                    continue
                front = bytes((KIND_RESERVATION,)) + cut.front[1:]
                key = _key_of(raw, operation)
                books.promises[key] = Promise(self._partition, front, cut.plan, cut.detail, cut.tail)
                if raw[0] == KIND_BASKET:
                    self.baskets.append(key)
            elif raw[0] == KIND_PART:
                self.parts[_key_of(raw, operation)] = decode_record(raw)
            elif raw[0] == KIND_BOUND:
                until_ms = int.from_bytes(raw[_BOUND_UNTIL], "little")
                if until_ms > books.now_ms:
                    books.bonds[operation] = raw[_BOUND_MARK], until_ms

    async def _read_facts(self) -> None:
        """Counts, conditions, and which events the histories stand on."""
        books, partition = self._books, self._partition
        for key, found in (
            (keys.counts(partition), books.counts),
            (keys.conditions(partition), books.conditions),
        ):
            async for name, packed in self._topology.scan_hash(key):
                found[moves.split_name(name)] = packed
        async for packed, _ in self._topology.scan_sorted(keys.moves(partition)):
            member = moves.decode_member(packed)
            self._members.setdefault((member.epoch, member.seq), []).append(member)

    def _tell_history(self, event: Event) -> None:
        for member in self._members.pop((event.epoch, event.seq), ()):
            told = moves.encode_happening(tell_happening(member, event))
            row = moves.Row(member.occurred_ms, member.id, member.units, told)
            self._books.history.setdefault(moves.split_name(member.name), []).append(row)

    async def _read_ledger(self, stored: Mapping[bytes, bytes]) -> None:
        """Histories, and answers to operations: only the ledger knows where they belong in a data set of
        another size.
        """
        until, routes = await self._read_until(), dict[bytes, int]()
        wanted = {name for name, raw in stored.items() if raw[0] in {KIND_OPERATION, KIND_MOVEMENT}}
        async for item in read_events(self._topology, self._partition):
            self.events += 1
            if isinstance(item, Event):
                self._tell_history(item)
            if isinstance(item, (Moved, Counted)):
                if item.id in wanted:
                    routes[item.id] = keys.route_of(item.sku)
            elif isinstance(item, Resolved | Replanned):
                if is_remembered(item.operation):
                    routes[item.operation] = item.route
            elif isinstance(item, Carried):
                routes[item.id] = item.route
            elif isinstance(item, Supplied):
                routes[item.id] = keys.route_of(item.sku)
            elif isinstance(item, DocumentSaved):
                routes[item.operation] = decode_document(item.content).route
        for operation in sorted(wanted, key=lambda name: (until.get(name, 0), name)):
            until_ms = until.get(operation, self._books.now_ms)
            self._books.memories.append(
                Memory(self._partition, operation, routes[operation], until_ms, stored[operation])
            )

    async def _read_until(self) -> dict[bytes, int]:
        """When what is remembered may be forgotten, as the deadline index has it."""
        found: dict[bytes, int] = {}
        async for entry, place in self._topology.scan_sorted(keys.due(self._partition)):
            if MEMORIES_FROM <= place < MEMORIES_TO:
                for at in range(1, len(entry), OPERATION_ID_SIZE):
                    operation = entry[at : at + OPERATION_ID_SIZE]
                    found[operation] = max(int(place) - MEMORIES_FROM, found.get(operation, 0))
        return found

    async def _read_supplies(self) -> None:
        async for field, packed in self._topology.scan_hash(keys.inbound(self._partition)):
            place, _, sku = field.partition(b"=")
            self._books.supplies[sku.decode(), place[1:].decode()] = unpack_supplies(packed)
        async for own, raw in self._topology.scan_hash(keys.documents(self._partition)):
            _, is_pending, content = split_document(raw)
            self._books.documents[decode_document(content).route, own] = is_pending, content

    async def _read_stock(self, stored: Mapping[bytes, bytes]) -> None:
        fields = {
            field.decode(): raw async for field, raw in self._topology.scan_hash(keys.stock(self._partition))
        }
        for field in sorted(fields):
            raw = fields[field]
            if field.startswith("\n"):
                place = split_fence_field(field)
                self._books.fences[place] = decode_fences(*place, raw)
                continue
            if "\n\n" in field or is_divider(raw):
                continue
            card, sku = decode_card(raw), field.partition("\n")[0]
            for index, location in enumerate(card.locations):
                self._books.on_hand[sku, location] = card.counters[index * card.stride]
            for at in read_positions(raw, ""):
                policy = at.safety_stock, at.backorder_limit, at.low_stock
                if at.has_policy:
                    self._books.policies[sku, at.location] = policy
                elif any(policy):
                    self._books.inheriting.append((sku, at.location))
                if at.preordered:
                    self._books.preordered[sku, at.location] = at.preordered
            blocks = [fields.get(block_field(field, block), b"") for block in range(card.first, card.block)]
            claims = split_claims(b"".join((*blocks, card.claims)))
            self._books.claims[field] = [_key_of(stored[claim], claim) for claim in claims]


def _key_of(raw: bytes, operation: bytes) -> Key:
    """The key of a reservation, a basket or a part, given its record."""
    route = int.from_bytes(raw[ROUTE], "little")
    return route, basket_id(operation, route) if raw[0] == KIND_PART else operation


def open_units(books: Books) -> dict[tuple[str, str], int]:
    """The units of each position that are promised."""
    found: dict[tuple[str, str], int] = {}
    for promise in books.promises.values():
        if promise.is_open:
            units = promise.read_units()
            for (sku, location, _), line in zip(positions_of(promise.plan), units, strict=True):
                found[sku, location] = found.get((sku, location), 0) + line[HELD] + line[COMMITTED]
    return found
