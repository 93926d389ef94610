"""The stored state of one partition, written and read by the tests themselves.

Every form is spelled out here a second time, on purpose, and so are the keys and the calls: a test that
used the engine's own code would not see both change together.
"""

import re
import socket
import struct
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

import hiredis

from engine.script import Library, assemble, read_sources
from engine.sourcing_plan import Group, Rules, encode_request

NOW = 1_700_000_000_000
RETENTION_MS = 86_400_000
CLOCK_KEY = "test:clock"
CLOCK = f"""local function read_clock()
  local _, _, time, seed = string_find(redis.call('GET', '{CLOCK_KEY}'), '(%d+) (%d+)')
  if seed ~= RUN.seed then
    RUN.seed, RUN.floating = seed, {{}}
    for _, known in pairs(RUN.settings) do
      known.refused = {{}}
    end
  end
  return tonumber(time)
end
"""
"""The tests' clock. Books that are written past the functions make void what these remember of others."""
_seeds = count()
NO_OPERATION = bytes(12)
UNKNOWN = 65_535
"""What a caller says who knows no revision of a reservation."""

HELD, COMMITTED, FULFILLED, RELEASED, EXPIRED, CANCELLED, PENDING, ABANDONED = range(1, 9)
NO_VERB, RESERVE, COMMIT, RELEASE, EXTEND, FULFIL, CANCEL, EXPIRE, MOVEMENT, SETTING = range(10)
BASKET, PART, DECIDE, ABANDON, FOLLOW = range(10, 15)
COUNT, OPENING, SPREAD = 21, 22, 23
OFFERED = b"\1"
"""What stands behind the version of a part that has more than its basket."""
LOCATION, POOL, CHANNEL, ITEM, KEY = range(1, 6)
"""Classes of settings."""
PENDING_MS = 10_000
"""How long the parts of a basket may be sought."""
REPAIR_MS = 5_000
"""How long whoever took a step is given to tell all partitions of it."""
ABANDONED_MS = 60_000
"""How long an abandoned basket is remembered."""
CARRY, REPLAN, POLICY, FENCE, SUPPLY, DOCUMENT = range(15, 21)
FENCED_HERE = 1
_HEAD_FLAGS = struct.Struct("<HHHBBBB")
_CARD_HEAD = struct.Struct("<BHH")
_CARD_HEAD_SIZE = 11
_DIVIDER = b"\xff\x40\0"
_PAGES = 64
_EFFECTS = ("meta", "ops", "due", "log", "stock")
_LEAVING = (*_EFFECTS, "moves")
_FACTS = (*_EFFECTS, "locations", "stocked", "moves", "counts")
HISTORY_MS = 30 * 86_400_000
KEEP_MS = 90 * 86_400_000
_TOLD = (RETENTION_MS,)
_SETTINGS = ("locations", "pools", "channels", "items", "keys")
CALLS: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    # For each verb its keys and its fixed arguments.
    "reserve": (_EFFECTS, _TOLD),
    "commit": (_LEAVING, _TOLD),
    "release": (_EFFECTS, _TOLD),
    "extend": (_EFFECTS, _TOLD),
    "replan": ((*_EFFECTS, "wanted"), _TOLD),
    "fulfil": (_LEAVING, _TOLD),
    "cancel": (_EFFECTS, _TOLD),
    "expire": (_EFFECTS, _TOLD),
    "open_basket": (_EFFECTS, (PENDING_MS,)),
    "hold_part": (_EFFECTS, _TOLD),
    "offer": (_EFFECTS, _TOLD),
    "spread": (_EFFECTS, ()),
    "decide": (_EFFECTS, ()),
    "follow": (_LEAVING, _TOLD),
    "repair": (("meta", "ops", "due"), ()),
    "settle": (("meta", "ops", "due"), ()),
    "bind": (("meta", "ops", "due"), ()),
    "unbind": (("meta", "ops"), ()),
    "forget": (("meta", "ops", "due"), ()),
    "find": (("meta", "ops"), ()),
    "carry": (_EFFECTS, ()),
    "movement": ((*_FACTS, "conditions", "defaults"), _TOLD),
    "record_count": ((*_FACTS, "wanted", "defaults"), (*_TOLD, HISTORY_MS)),
    "opening": ((*_FACTS, "conditions"), ()),
    "trim": (("meta", "moves"), (HISTORY_MS,)),
    "save_setting": (
        (
            "meta",
            "log",
            "stock",
            "stocked",
            "named",
            "changes",
            *_SETTINGS,
            "fenced",
            "defaults",
            "inheriting",
        ),
        (),
    ),
    "save_policy": (("meta", "ops", "log", "stock", "locations", "stocked", "defaults"), ()),
    "inherit": (("meta", "log", "stock", "defaults", "inheriting"), ()),
    "save_fence": (("meta", "log", "stock", "locations", "channels", "fenced"), ()),
    "cards": (("meta", "due", "stock"), ()),
    "source": ((*_EFFECTS, *_SETTINGS[:3]), _TOLD),
    "plan": (("meta", "ops", "due", "stock", *_SETTINGS[:3]), ()),
    "supply": ((*_EFFECTS, "locations", "stocked", "inbound", "defaults"), _TOLD),
    "supplies": (("meta", "due", "stock", "inbound"), ()),
    "save_document": (("meta", "ops", "due", "log", "documents", "listed", "ended"), _TOLD),
    "forget_document": (("meta", "documents", "listed", "ended"), (KEEP_MS,)),
    "find_document": (("meta", "ops", "documents"), ()),
    "outbox": (("meta", "due"), ()),
    "take_over": (("meta",), ()),
    "pace": (("meta",), ()),
    "index": (("meta", "find", "found"), ()),
}


Answer: TypeAlias = Any
"""Whatever a server says."""


_NO_RULES = Rules()
NOBODY = bytes(3)
"""The mark of no caller."""
BEHIND = {"h": 0, "p": 2**50, "r": 2**51, "d": 2**52}
"""How far behind its moment an entry of each kind stands in the deadline index."""


class ScriptError(Exception):
    """The server answered a call with an error."""


class Request(NamedTuple):
    """One request of a call, packed as the verb reads it."""

    verb: str
    packed: bytes


class Position(NamedTuple):
    """The counters of one SKU at one location."""

    on_hand: int = 0
    held: int = 0
    allocated: int = 0
    unsellable: int = 0
    safety_stock: int = 0
    backorder_limit: int = 0
    fenced: int = 0
    low_stock: int = 0
    inbound: int = 0
    flags: int = 0
    floating: int = 0
    preordered: int = 0


class Card(NamedTuple):
    """The stock of a SKU, or of a page of it, by location, with its claims, oldest first.

    `blocks` has the claims that the card had no room for, by number; those on the card itself belong to
    number `block`. `form` is the smallest one where none is given.
    """

    positions: Mapping[str, Position]
    claims: tuple[bytes, ...] = ()
    block: int = 0
    first: int = 0
    blocks: Mapping[int, tuple[bytes, ...]] = {}
    form: int | None = None

    @property
    def packed(self) -> bytes:
        form = self.form
        if form is None:
            counters = [counter for position in self.positions.values() for counter in position]
            form = 0 if all(-(2**31) <= counter < 2**31 for counter in counters) else 1
            form += 2 if any(any(position[4:]) for position in self.positions.values()) else 0
        names = b"".join(place_of(location) + _int(index, 2) for index, location in enumerate(self.positions))
        count, size = 12 if form > 1 else 4, 7 if form % 2 else 4
        counters = [
            counter.to_bytes(size, "little", signed=True)
            for position in self.positions.values()
            for counter in position[:count]
        ]
        head = _CARD_HEAD.pack(form, len(self.positions), len(names)) + _int(self.first, 3)
        return b"".join((head, _int(self.block, 3), names, *counters, *self.claims))


class Divided(NamedTuple):
    """A SKU of very many locations: its cards by the number of their page."""

    pages: Mapping[int, Card]


class Fence(NamedTuple):
    """Units of a position for one channel."""

    channel: str
    remaining: int
    used: int = 0
    spill: int = 0

    @property
    def packed(self) -> bytes:
        return _text(self.channel) + _int(self.remaining, 6) + _int(self.used, 6) + bytes((self.spill,))


class Fences(NamedTuple):
    """The fences of a position; in the place of a card, under a name that `fence_field` makes."""

    fences: tuple[Fence, ...]


class Hold(NamedTuple):
    """A reservation's record. `lines` are (sku, location, quantity); `changed` and `created` are seqs.

    `blocks` are the blocks that the claims went to, 0 where none are given; `first_detail` and `first_lines`
    are those of the beginning, where a step has replaced them. `kind` is also that of a basket or a part;
    `of` is the SKU that a part's basket begins with.
    """

    lines: tuple[tuple[str, str, int], ...]
    state: int = HELD
    held_end: int = NO_VERB
    closed_by: int = NO_VERB
    revision: int = 0
    created: int = 1
    changed: int = 1
    created_ms: int = NOW - 1000
    deadline_ms: int = NOW + 60_000
    fingerprint: bytes = b"madeby00"
    progress: tuple[tuple[int, int, int, int], ...] = ()
    detail: bytes = b"detail"
    epoch: int = 1
    changed_epoch: int = 1
    ttl_ms: int = 60_000
    blocks: tuple[int, ...] = ()
    first_detail: bytes | None = None
    first_lines: tuple[tuple[str, str, int], ...] | None = None
    kind: int = RESERVE
    of: str | None = None

    @property
    def plan(self) -> bytes:
        """The packed plan, its size first."""
        return pack_plan(self.lines)

    @property
    def route(self) -> bytes:
        """Where the reservation belongs: where its first SKU does."""
        return route_of(self.of or (self.first_lines or self.lines)[0][0])

    @property
    def head(self) -> bytes:
        """The end of the record, of 36 bytes."""
        return b"".join(
            (
                _int(self.created, 7),
                _int(self.changed, 7),
                _int(self.deadline_ms, 6),
                _int(self.created_ms, 6),
                _HEAD_FLAGS.pack(
                    self.epoch,
                    self.changed_epoch,
                    self.revision,
                    len(self.progress),
                    self.state,
                    self.held_end,
                    self.closed_by,
                ),
            )
        )

    @property
    def tail(self) -> bytes:
        """What changes, and what a step answers: progress and head."""
        return b"".join(_int(units, 5) for row in self.progress for units in row) + self.head

    def request(self, name: bytes) -> bytes:
        """What a reserve asks for; with blocks and head it is the record."""
        detail = self.detail if self.first_detail is None else self.first_detail
        lines = self.lines if self.first_lines is None else self.first_lines
        begin = name + self.fingerprint + _int(self.ttl_ms, 4) + self.route
        size = len(begin) + len(pack_plan(lines)) + len(detail) + 3 * len(lines) + 36
        return bytes((self.kind,)) + _int(size, 3) + begin + self.plan + self.detail

    def packed(self, name: bytes) -> bytes:
        """The stored form, which has the reservation's own id."""
        blocks = self.blocks or (0,) * len(self.lines)
        assert len(blocks) == len(self.lines)
        return self.request(name) + b"".join(_int(block, 3) for block in blocks) + self.tail


def basket(lines: tuple[tuple[str, str, int], ...], state: int = PENDING) -> Hold:
    """A reservation over several partitions, as its home has it: without claims."""
    return Hold(lines, state, kind=BASKET)


def part(
    lines: tuple[tuple[str, str, int], ...], follows: tuple[int, int] = (1, 5), state: int = HELD
) -> Hold:
    """What lies in one partition of a basket, of which it follows a version."""
    return Hold(lines, state, detail=pack_version(follows), kind=PART)


class Memory(NamedTuple):
    """What is kept of an operation on a reservation. `tail` is what it answered: where the record had a
    revision its plan and its detail stand before the tail.
    """

    verb: int
    fingerprint: bytes
    reservation: bytes
    tail: bytes

    def packed(self, _name: bytes = b"") -> bytes:
        return bytes((2, self.verb)) + self.fingerprint + self.reservation + self.tail


class Fact(NamedTuple):
    """What is kept of a movement, and what it answered. `uncovered` is (reservation, units), `first` the SKU
    that a reservation begins with where that is no shoe; `effect` is what it did to on_hand.
    """

    fingerprint: bytes
    seq: int
    on_hand: int
    available: int
    uncovered: tuple[tuple[bytes, int], ...] = ()
    first: Mapping[bytes, str] = {}
    epoch: int = 1
    effect: int = 0
    ignored: int = 0
    is_supply: bool = False
    """Whether `on_hand` is what is expected: then that is all."""

    @property
    def result(self) -> bytes:
        head = _int(self.seq, 5) + _int(self.epoch, 2) + _signed(self.on_hand) + _signed(self.available)
        if self.is_supply:
            return head
        head += _signed(self.effect) + bytes((self.ignored,))
        return head + b"".join(
            route_of(self.first.get(name, "shoe")) + name + _int(units, 6) for name, units in self.uncovered
        )

    def packed(self, _name: bytes = b"") -> bytes:
        return b"\3" + self.fingerprint + self.result


class Bound(NamedTuple):
    """An operation id that is bound to its content while its effect happens elsewhere."""

    fingerprint: bytes = b"content1"
    count: int = 1
    until_ms: int = NOW + RETENTION_MS

    def packed(self, _name: bytes = b"") -> bytes:
        return bytes((4, self.count)) + self.fingerprint + _int(self.until_ms, 6)


class Reserved(NamedTuple):
    """The event of a reserve, and of what begins a basket or a part: the record, byte for byte."""

    id: bytes
    hold: Hold

    @property
    def packed(self) -> tuple[int, bytes]:
        record = self.hold.packed(self.id)
        assert record[1:4] == _int(len(record) - 4, 3)
        return self.hold.kind, record[4:]


class Resolved(NamedTuple):
    """The event of a step of a reservation. `deltas` are (held, allocated, on_hand) of each position;
    there are none where all units of the plan went together.
    """

    verb: int
    id: bytes
    hold: Hold
    deltas: tuple[tuple[int, int, int], ...] = ()
    operation: bytes = NO_OPERATION
    rest: bytes = b""

    @property
    def packed(self) -> tuple[int, bytes]:
        deltas = b"".join(delta.to_bytes(6, "little", signed=True) for row in self.deltas for delta in row)
        progress, whole = bytes((len(self.hold.progress),)), b"\0" if self.deltas else b"\1"
        begin = self.id + self.operation + self.hold.route + self.hold.plan
        return self.verb, begin + progress + self.hold.tail + whole + deltas + self.rest

    def moves_at(self, now_ms: int) -> "list[Move]":
        """What left with the step, if anything did."""
        if self.hold.kind == BASKET:
            return []
        deltas = [delta[2] for delta in self.deltas]
        if not self.deltas:
            leaves = self.verb == FULFIL or (self.verb == COMMIT and self.hold.state == FULFILLED)
            deltas = [-units if leaves else 0 for _, _, units in self.hold.lines]
        return [
            Move(sku, location, now_ms, self.id, units)
            for (sku, location, _), units in zip(self.hold.lines, deltas, strict=True)
            if units
        ]


class Replanned(NamedTuple):
    """The event of other lines: the whole record."""

    id: bytes
    hold: Hold
    operation: bytes = NO_OPERATION

    @property
    def packed(self) -> tuple[int, bytes]:
        record = self.hold.packed(self.id)
        return REPLAN, self.id + self.operation + _int(len(record), 4) + record


class Spread(NamedTuple):
    """The event of a reservation that became a basket with one part."""

    id: bytes
    basket: Hold
    part: bytes
    hold: Hold

    @property
    def packed(self) -> tuple[int, bytes]:
        record = self.basket.packed(self.id)
        return SPREAD, self.id + self.part + _int(len(record), 4) + record + self.hold.packed(self.part)


class Moved(NamedTuple):
    """The event of a movement."""

    id: bytes
    fact: Fact
    quantity: int
    location: str
    sku: str
    occurred_ms: int | None = None
    moved: int = 0
    conditions: tuple[str, str] = ("", "")
    rest: bytes = b"rest"

    def packed_at(self, now_ms: int) -> tuple[int, bytes]:
        occurred_ms = now_ms if self.occurred_ms is None else self.occurred_ms
        text = _signed(self.quantity) + pack_place(self.location) + pack_sku(self.sku)
        text += pack_conditions(self.moved, *self.conditions) + self.rest
        return MOVEMENT, _pack_fact(self.id, self.fact, occurred_ms) + text

    def moves_at(self, now_ms: int) -> "list[Move]":
        occurred_ms = now_ms if self.occurred_ms is None else self.occurred_ms
        return [Move(self.sku, self.location, occurred_ms, self.id, self.quantity)]


class Counted(NamedTuple):
    """The event of a count, or of a set."""

    id: bytes
    fact: Fact
    quantity: int
    counted_ms: int
    location: str = "W"
    sku: str = "shoe"
    is_set: bool = False
    rest: bytes = b"rest"

    def packed_at(self, now_ms: int) -> tuple[int, bytes]:
        text = _signed(self.quantity) + pack_place(self.location) + pack_sku(self.sku)
        return COUNT, _pack_fact(self.id, self.fact, self.counted_ms) + text + bytes(
            (self.is_set,)
        ) + self.rest

    def moves_at(self, now_ms: int) -> "list[Move]":
        return [Move(self.sku, self.location, self.counted_ms, self.id, 0)]


class Opened(NamedTuple):
    """The event of a position that begins as another data set had it; it is what was asked."""

    on_hand: int
    location: str = "W"
    sku: str = "shoe"
    count: bytes = b""
    conditions: bytes = b""
    rows: tuple[tuple[int, bytes, int], ...] = ()
    preordered: int = 0

    def packed_at(self, now_ms: int) -> tuple[int, bytes]:
        head = (
            _signed(self.on_hand) + _int(self.preordered, 6) + pack_place(self.location) + pack_sku(self.sku)
        )
        head += bytes((len(self.count),)) + self.count + _int(len(self.conditions), 2) + self.conditions
        rows = [
            _int(occurred_ms, 6) + operation + _signed(units) + _int(6, 2) + b"detail"
            for occurred_ms, operation, units in self.rows
        ]
        return OPENING, head + _int(len(rows), 2) + b"".join(rows)

    def moves_at(self, now_ms: int) -> "list[Move]":
        return [Move(self.sku, self.location, *row) for row in self.rows]


class Move(NamedTuple):
    """A line of a position's history, less the version of its event."""

    sku: str
    location: str
    occurred_ms: int
    id: bytes
    units: int

    def packed(self, seq: int = 1, epoch: int = 1) -> bytes:
        head = self.sku.encode() + place_of(self.location) + self.occurred_ms.to_bytes(6, "big")
        version = epoch.to_bytes(2, "big") + seq.to_bytes(7, "big")
        return head + version + self.id + self.units.to_bytes(7, "big", signed=True)


class CountKept(NamedTuple):
    """The newest count of a position; a rank is an id, or that of a set."""

    counted_ms: int
    rank: bytes
    units: int

    @property
    def packed(self) -> bytes:
        return self.counted_ms.to_bytes(6, "big") + self.rank + _signed(self.units)


class Saved(NamedTuple):
    """The event of a setting that was written, or deleted where settings are empty."""

    id: str
    settings: bytes
    number: int = 1
    kind: int = LOCATION
    caller: bytes = NOBODY

    @property
    def packed(self) -> tuple[int, bytes]:
        head = bytes((self.kind,)) + _int(self.number, 6) + self.caller
        return SETTING, head + pack_sku(self.id) + self.settings


class Settings(NamedTuple):
    """All settings of a partition: by class, id → stored form; who names what; with which number each changed
    last; their defaults as they are stored; and which changes of these positions have yet to follow.
    """

    number: int
    locations: Mapping[str, bytes] = {}
    pools: Mapping[str, bytes] = {}
    channels: Mapping[str, bytes] = {}
    items: Mapping[str, bytes] = {}
    keys: Mapping[str, bytes] = {}
    named: Mapping[tuple[int, str], tuple[str, ...]] = {}
    changes: Mapping[tuple[int, str], int] = {}
    defaults: Mapping[tuple[int, str], bytes] = {}
    inheriting: Sequence[tuple[int, int, str]] = ()

    @property
    def stored(self) -> tuple[Mapping[str, bytes], ...]:
        return self.locations, self.pools, self.channels, self.items, self.keys


class PolicySaved(NamedTuple):
    """The event of a policy; without numbers it was deleted, and no defaults are there."""

    sku: str
    location: str
    numbers: tuple[int, int, int] | None = None
    is_own: bool | None = None
    caller: bytes = NOBODY

    @property
    def packed(self) -> tuple[int, bytes]:
        is_own = self.numbers is not None if self.is_own is None else self.is_own
        request = save_policy(self.sku, self.location, self.numbers or (0, 0, 0), caller=self.caller)
        return POLICY, request.packed + _int(is_own, 1)


class FenceSaved(NamedTuple):
    """The event of a fence; without a quantity it was deleted."""

    channel: str
    sku: str
    location: str
    quantity: int | None = None
    spill: int = 0
    used: int | None = None
    caller: bytes = NOBODY

    @property
    def packed(self) -> tuple[int, bytes]:
        return FENCE, save_fence(*self).packed


class Expected(NamedTuple):
    """What one source will bring to a position: units, when, and what kind of source it is."""

    source: bytes
    units: int
    at_ms: int = NOW
    kind: int = 1

    @property
    def packed(self) -> bytes:
        return self.source + _int(self.units, 6) + _int(self.at_ms, 6) + bytes((self.kind,))

    def change(self, received: int) -> bytes:
        """As a request and an event tell it."""
        return (
            self.source + _int(self.units, 6) + _int(received, 6) + _int(self.at_ms, 6) + bytes((self.kind,))
        )


class Supplied(NamedTuple):
    """The event of a supply that was set; `fact` has its inbound units in the place of on_hand."""

    id: bytes
    fact: Fact
    supply: Expected
    received: int = 0
    location: str = "W"
    sku: str = "shoe"

    @property
    def packed(self) -> tuple[int, bytes]:
        text = self.supply.change(self.received) + pack_place(self.location) + pack_sku(self.sku)
        return SUPPLY, self.id + self.fact.result + text


class Noted(NamedTuple):
    """What is kept of a step of a document."""

    fingerprint: bytes
    content: bytes

    def packed(self, _name: bytes = b"") -> bytes:
        return b"\3" + self.fingerprint + self.content


class Paper(NamedTuple):
    """A document as it is stored."""

    version: int
    content: bytes
    is_pending: bool = False

    @property
    def packed(self) -> bytes:
        return _int(self.version, 4) + bytes((self.is_pending,)) + self.content


class Stepped(NamedTuple):
    """The event of a document's step."""

    id: bytes
    paper: Paper
    operation: bytes = NO_OPERATION

    @property
    def packed(self) -> tuple[int, bytes]:
        return DOCUMENT, self.id + self.operation + self.paper.packed


class Carried(NamedTuple):
    """The event of something that another data set remembered."""

    id: bytes
    record: Hold | Memory | Fact
    until_ms: int = NOW + 5
    route: bytes = b"\1\2"

    @property
    def body(self) -> bytes:
        return self.id + _int(self.until_ms, 6) + self.route + self.record.packed(self.id)

    @property
    def packed(self) -> tuple[int, bytes]:
        return CARRY, self.body


class Filed(NamedTuple):
    """The index of reservations: what it knows of the ledger, and its entries."""

    cursor: bytes
    entries: frozenset[bytes] = frozenset()


Operation = Hold | Memory | Fact | Bound | Noted
Event = (
    Reserved
    | Resolved
    | Replanned
    | Moved
    | Counted
    | Opened
    | Saved
    | Carried
    | PolicySaved
    | FenceSaved
    | Supplied
    | Stepped
)
Inbound = Mapping[tuple[str, str], Sequence[Expected]]
"""What is expected, by location and SKU, in its order."""
Places = Mapping[tuple[str, str], bytes]
"""By SKU and location: the newest count, or conditions, packed."""
Stock = Mapping[str, Card | Divided | Fences]
Due = Mapping[tuple[int, str, tuple[bytes, ...]], None] | set[tuple[int, str, tuple[bytes, ...]]]


class Books:
    """One partition on a real server: seed it, call a verb, compare all that is stored."""

    epoch = 1
    seed_number = 0

    def __init__(self, connection: socket.socket, library: Library, partition: int = 0) -> None:
        self._connection = connection
        self._reader = hiredis.Reader()
        self.scripts = library
        self.partition = partition
        self.run = re.findall(rb"run_id:(\w+)", self.raw("INFO", "server"))[0]
        """The server's process, which must have taken the books over."""

    # ---------------------------------------------------------------- the server

    def key(self, name: str) -> str:
        """A key of the partition."""
        return f"inv:{{{self.partition}}}:{name}"

    def raw(self, *words: str | bytes | int) -> Answer:
        """One command of any kind; an error of the server is raised."""
        return self.pipeline([words])[0]

    def pipeline(self, commands: Sequence[Sequence[str | bytes | int]]) -> list[Answer]:
        """Many commands in one write; the first error of the server is raised."""
        self._connection.sendall(b"".join(map(_encode, commands)))
        replies = [self._reply() for _ in commands]
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise ScriptError(str(reply))
        return replies

    def _reply(self) -> Answer:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._connection.recv(1 << 16))
        return reply

    def calls(self, command: str) -> int:
        """How often the server has run a command, in scripts as well."""
        counted = re.search(rb"cmdstat_%b:calls=(\d+)" % command.encode(), self.raw("INFO", "commandstats"))
        return int(counted[1]) if counted else 0

    def turn_clock(self, now_ms: int) -> None:
        """Sets the moment at which every following script runs."""
        self.raw("SET", CLOCK_KEY, f"{now_ms} {self.seed_number}")

    # ---------------------------------------------------------------- calls

    def batch(self, *requests: Request) -> list[Answer]:
        """The answers of requests of one verb that go to the server in one script call."""
        (verb,) = {request.verb for request in requests}
        names, fixed = CALLS[verb]
        function, packed = self.scripts.function(verb), [request.packed for request in requests]
        now_ms, epoch, seq, *answers = self.raw(
            "FCALL", function, len(names), *map(self.key, names), *fixed, *packed
        )
        assert len(answers) == len(requests), "one answer for each request"
        assert epoch == self.epoch
        # Who sets the clock right tells what the time is from then on.
        assert verb == "pace" or now_ms == int(self.raw("GET", CLOCK_KEY).split()[0])
        assert seq == int(self.raw("HGET", self.key("meta"), "seq"))
        return answers

    def one(self, request: Request) -> Answer:
        """The answer of one request."""
        return self.batch(request)[0]

    # ---------------------------------------------------------------- the stored state

    def seed(
        self,
        *,
        seq: int = 1,
        epoch: int = 1,
        stock: Stock | None = None,
        operations: Mapping[bytes, Operation] | None = None,
        due: Due | None = None,
        locations: Mapping[str, bytes] | None = None,
        stocked: Mapping[str, int] | None = None,
        moves: Sequence[bytes] = (),
        to_count: Mapping[tuple[str, str], int] | None = None,
        counts: Places | None = None,
        conditions: Places | None = None,
        settings: Settings | None = None,
        fenced: Mapping[str, int] | None = None,
        filed: Filed | None = None,
        inbound: Inbound | None = None,
        documents: Mapping[bytes, Paper] | None = None,
        listed: Sequence[bytes] = (),
        ended: Mapping[bytes, int] | None = None,
        now_ms: int = NOW,
    ) -> None:
        """Writes the whole state of the partition."""
        self.epoch, self.seed_number = epoch, next(_seeds)
        state = self._state(
            seq=seq,
            epoch=epoch,
            stock=stock,
            operations=operations,
            locations=locations,
            stocked=stocked,
            settings=settings,
            fenced=fenced,
            inbound=inbound,
            documents=documents,
        )
        commands: list[list[str | bytes | int]] = [
            ["FLUSHALL", "SYNC"],
            ["SET", CLOCK_KEY, f"{now_ms} {self.seed_number}"],
        ]
        for key, fields in state.items():
            flat = [word for field in fields.items() for word in field]
            commands += [["HSET", key, *flat[at : at + 512]] for at in range(0, len(flat), 512)]
        for name, places in (("counts", counts), ("conditions", conditions)):
            for (sku, location), packed in (places or {}).items():
                commands.append(["HSET", self.key(name), sku.encode() + place_of(location), packed])
        for (sku, location), when in (to_count or {}).items():
            commands.append(["HSET", self.key("wanted"), place_of(location) + sku.encode(), _int(when, 6)])
        commands += [["ZADD", self.key("moves"), 0, member] for member in moves]
        for when, kind, names in due or ():
            entry = kind.encode() + b"".join(names)
            commands.append(["ZADD", self.key("due"), when + BEHIND[kind], entry])
        commands += [["ZADD", self.key("listed"), 0, entry] for entry in listed]
        commands += [["ZADD", self.key("ended"), when, own] for own, when in (ended or {}).items()]
        for number, kind, name in settings.inheriting if settings else ():
            commands.append(["ZADD", self.key("inheriting"), number, f"{number}\n{kind}\n{name}"])
        for (kind, name), number in settings.changes.items() if settings else ():
            commands.append(["ZADD", self.key("changes"), number, b"%d\n%b" % (kind, name.encode())])
        if filed is not None:
            commands.append(["HSET", self.key("found"), "cursor", filed.cursor])
            commands += [["ZADD", self.key("find"), 0, entry] for entry in filed.entries]
        self.pipeline(commands)

    def expect(
        self,
        *,
        seq: int = 1,
        epoch: int = 1,
        stock: Stock | None = None,
        operations: Mapping[bytes, Operation] | None = None,
        due: Due | None = None,
        log: Sequence[tuple[int, Sequence[Event]]] = (),
        locations: Mapping[str, bytes] | None = None,
        stocked: Mapping[str, int] | None = None,
        to_count: Mapping[tuple[str, str], int] | None = None,
        moves: Sequence[bytes] = (),
        counts: Places | None = None,
        conditions: Places | None = None,
        settings: Settings | None = None,
        fenced: Mapping[str, int] | None = None,
        filed: Filed | None = None,
        inbound: Inbound | None = None,
        documents: Mapping[bytes, Paper] | None = None,
        listed: Sequence[bytes] = (),
        ended: Mapping[bytes, int] | None = None,
    ) -> None:
        """All that the server stores is this, byte for byte, and no key besides.

        `to_count` has positions and since when; `log` has for each entry the sequence of its last event, then
        its events; each entry's moment is the present one. `moves` are those of the history that no event of
        the log tells of.
        """
        wanted: dict[str, Any] = self._state(
            seq=seq,
            epoch=epoch,
            stock=stock,
            operations=operations,
            locations=locations,
            stocked=stocked,
            settings=settings,
            fenced=fenced,
            inbound=inbound,
            documents=documents,
        )
        if to_count:
            wanted[self.key("wanted")] = {
                place_of(location) + sku.encode(): _int(when, 6) for (sku, location), when in to_count.items()
            }
        if settings is not None and settings.changes:
            changes = settings.changes.items()
            wanted[self.key("changes")] = sorted(
                (b"%d\n%b" % (kind, name.encode()), number) for (kind, name), number in changes
            )
        if settings is not None and settings.inheriting:
            wanted[self.key("inheriting")] = sorted(
                (b"%d\n%d\n%b" % (number, kind, name.encode()), number)
                for number, kind, name in settings.inheriting
            )
        if due:
            wanted[self.key("due")] = sorted(
                (kind.encode() + b"".join(names), when + BEHIND[kind]) for when, kind, names in due
            )
        if log:
            now = int(self.raw("GET", CLOCK_KEY).split()[0])
            wanted[self.key("log")] = [
                (f"{epoch}-{last}", now, [pack_event(event, now) for event in events]) for last, events in log
            ]
            moves = [*moves, *moves_of(log, now, epoch)]
        if moves:
            wanted[self.key("moves")] = sorted((member, 0) for member in moves)
        for name, places in (("counts", counts), ("conditions", conditions)):
            if places:
                wanted[self.key(name)] = {
                    sku.encode() + place_of(location): packed for (sku, location), packed in places.items()
                }
        if filed is not None:
            wanted[self.key("found")] = {b"cursor": filed.cursor}
            if filed.entries:
                wanted[self.key("find")] = sorted((entry, 0) for entry in filed.entries)
        sets = {"listed": dict.fromkeys(listed, 0), "ended": ended or {}}
        wanted |= {self.key(name): sorted(entries.items()) for name, entries in sets.items() if entries}
        found = self.read()
        unknown = sorted(set(found) - set(wanted))
        assert not unknown, f"keys that nothing accounts for: {unknown}"
        for key, value in wanted.items():
            assert found.get(key) == value, key

    def _state(
        self,
        *,
        seq: int,
        epoch: int,
        stock: Stock | None,
        operations: Mapping[bytes, Operation] | None,
        locations: Mapping[str, bytes] | None,
        stocked: Mapping[str, int] | None,
        settings: Settings | None,
        fenced: Mapping[str, int] | None,
        inbound: Inbound | None,
        documents: Mapping[bytes, Paper] | None,
    ) -> dict[str, Any]:
        """The hashes of a state: those that have a field."""
        hashes: dict[str, dict[bytes, bytes]] = {
            "meta": {b"epoch": b"%d" % epoch, b"seq": b"%d" % seq, b"run": self.run},
            "stock": {},
            "ops": {name: record.packed(name) for name, record in (operations or {}).items()},
            "locations": {place.encode(): packed for place, packed in (locations or {}).items()},
            "stocked": {place.encode(): b"%d" % count for place, count in (stocked or {}).items()},
            "fenced": {channel.encode(): b"%d" % count for channel, count in (fenced or {}).items()},
            "inbound": {
                place_of(location) + sku.encode(): b"".join(one.packed for one in expected)
                for (location, sku), expected in (inbound or {}).items()
            },
            "documents": {name: paper.packed for name, paper in (documents or {}).items()},
        }
        for sku, item in (stock or {}).items():
            hashes["stock"] |= fields_of(sku, item)
        if settings is not None:
            hashes["meta"][b"settings"] = b"%d" % settings.number
            for key, found in zip(_SETTINGS, settings.stored, strict=True):
                hashes[key] = {name.encode(): packed for name, packed in found.items()}
            hashes["defaults"] = {
                b"%d\n%b" % (kind, name.encode()): packed
                for (kind, name), packed in settings.defaults.items()
            }
            hashes["named"] = {
                b"%d\n%b" % (kind, name.encode()): b"".join(b"%b\n" % user.encode() for user in users)
                for (kind, name), users in settings.named.items()
            }
        return {self.key(name): fields for name, fields in hashes.items() if fields}

    def read(self) -> dict[str, Any]:
        """Every key of the server with its value; events are taken apart, the clock is left out."""
        found: dict[str, Any] = {}
        for raw in self.raw("KEYS", "*"):
            key, kind = raw.decode(), self.raw("TYPE", raw)
            if key == CLOCK_KEY:
                continue
            if kind == b"hash":
                flat = self.raw("HGETALL", raw)
                found[key] = dict(zip(flat[::2], flat[1::2], strict=True))
            elif kind == b"zset":
                flat = self.raw("ZRANGE", raw, 0, -1, "WITHSCORES")
                found[key] = sorted(
                    (entry, int(score)) for entry, score in zip(flat[::2], flat[1::2], strict=True)
                )
            elif kind == b"stream":
                found[key] = [
                    (name.decode(), *split_events(packed))
                    for name, [field, packed] in self.raw("XRANGE", raw, "-", "+")
                    if field == b"e"
                ]
            else:
                found[key] = kind
        return found


# -------------------------------------------------------------------- requests


def reserve(name: bytes, hold: Hold) -> Request:
    """Asks for a reservation; of `hold` only what a caller says of it is looked at."""
    return Request("reserve", hold.request(name))


def open_basket(name: bytes, hold: Hold) -> Request:
    """Begins a basket; of `hold` only what a caller says of it is looked at."""
    return Request("open_basket", hold._replace(kind=BASKET).request(name))


def hold_part(name: bytes, hold: Hold) -> Request:
    """Asks for a part; `name` is the part's own."""
    return Request("hold_part", hold._replace(kind=PART).request(name))


def decide(name: bytes, opened: tuple[int, int] = (1, 1), *, hold: bool = True) -> Request:
    """Decides on the attempt that was opened at a version."""
    return Request("decide", name + pack_version(opened) + bytes((hold,)))


def follow(
    name: bytes,
    version: tuple[int, int],
    lines: tuple[tuple[str, str, int], ...] = (),
    *units: tuple[int, int, int, int],
) -> Request:
    """Tells a part which lines it should have, and of each held, committed, fulfilled and released units."""
    packed = b"".join(_int(number, 5) for row in units for number in row)
    return Request("follow", name + pack_version(version) + pack_plan(lines) + packed)


def offer(name: bytes, hold: Hold, *had: tuple[int, int]) -> Request:
    """Offers a part more; `hold` has all that is to be open there, `had` what the basket has there, held and
    committed.
    """
    packed = b"".join(_int(number, 5) for row in had for number in row)
    return Request("offer", hold._replace(kind=PART).request(name) + packed)


def spread(name: bytes, part: bytes, version: tuple[int, int] = (1, 1)) -> Request:
    """Asks that a reservation become a basket with one part."""
    return Request("spread", name + part + pack_version(version) + _int(30_000, 4))


def repair(limit: int) -> Request:
    """Asks for what somebody began and did not end."""
    return Request("repair", _int(limit, 2))


def settle(name: bytes, version: tuple[int, int]) -> Request:
    """Tells that all partitions know of a step."""
    return Request("settle", name + pack_version(version))


def bind(name: bytes, fingerprint: bytes = b"content1", keep_ms: int = RETENTION_MS) -> Request:
    """Binds an operation id to its content."""
    return Request("bind", name + fingerprint + _int(keep_ms, 6))


def unbind(name: bytes, fingerprint: bytes = b"content1") -> Request:
    """Takes a bind back."""
    return Request("unbind", name + fingerprint)


def resolve(
    verb: str,
    name: bytes,
    own: bytes = b"\0",
    *,
    operation: bytes = NO_OPERATION,
    fingerprint: bytes | None = None,
    known: int = 0,
) -> Request:
    """A step of a reservation; `known` is the revision that the caller has seen."""
    if fingerprint is None:
        fingerprint = bytes(8) if operation == NO_OPERATION else b"content1"
    return Request(verb, name + operation + fingerprint + _int(known, 2) + own)


def replan(
    name: bytes,
    hold: Hold,
    *,
    version: tuple[int, int] = (1, 1),
    operation: bytes = NO_OPERATION,
    fingerprint: bytes = bytes(8),
    is_short: bool = False,
    is_offered: bool = False,
) -> Request:
    """Asks for the lines, the units and the detail of a record; `version` is that of the one before."""
    state = {HELD: 0, COMMITTED: 1, FULFILLED: 2}.get(hold.state, 3)
    units = hold.progress or tuple(
        tuple(quantity if column == state else 0 for column in range(4)) for _, _, quantity in hold.lines
    )
    rows = b"".join(_int(number, 5) for row in units for number in row)
    asked = name + operation + fingerprint + pack_version(version) + bytes((is_short + 2 * is_offered,))
    return Request("replan", asked + hold.plan + rows + hold.detail)


def choose(*chosen: tuple[int, int]) -> bytes:
    """The positions that a request names; none for all."""
    return bytes((len(chosen),)) + b"".join(bytes((index,)) + _int(quantity, 5) for index, quantity in chosen)


def committing(
    *chosen: tuple[int, int], fulfil: int = 0, keep: int = 0, retake: int = 0, rest: bytes = b""
) -> bytes:
    """What a commit takes of its own."""
    return bytes((fulfil, keep, retake)) + choose(*chosen) + rest


def extending(ttl_ms: int) -> bytes:
    """What an extend takes of its own."""
    return _int(ttl_ms, 6)


def expire(limit: int) -> Request:
    """Asks to give back lapsed holds, about so many."""
    return Request("expire", _int(limit, 2))


def carry(carried: Carried) -> Request:
    """What another data set remembers."""
    return Request("carry", carried.body)


def forget(limit: int) -> Request:
    """Asks to forget what is over, about so many memories."""
    return Request("forget", _int(limit, 2))


def find(name: bytes) -> Request:
    """Asks for a record."""
    return Request("find", name)


def index(prior: bytes, cursor: bytes, added: Sequence[bytes] = (), gone: Sequence[bytes] = ()) -> Request:
    """Files entries and strikes others out, for one who goes on from a cursor."""
    lists = [
        _int(len(entries), 2) + b"".join(bytes((len(entry),)) + entry for entry in entries)
        for entries in (added, gone)
    ]
    head = bytes((len(prior),)) + prior + bytes((len(cursor),)) + cursor
    return Request("index", b"".join((head, *lists)))


def move(
    name: bytes,
    quantity: int,
    location: str = "W",
    sku: str = "shoe",
    fingerprint: bytes = b"content1",
    rest: bytes = b"rest",
    *,
    occurred_ms: int = 0,
    moved: int = 0,
    conditions: tuple[str, str] = ("", ""),
) -> Request:
    """Tells of goods that came or went, or are in another condition."""
    text = pack_place(location) + pack_sku(sku) + pack_conditions(moved, *conditions) + rest
    return Request("movement", name + fingerprint + _int(occurred_ms, 6) + _signed(quantity) + text)


def count(
    name: bytes,
    quantity: int,
    counted_ms: int = 0,
    location: str = "W",
    sku: str = "shoe",
    *,
    fingerprint: bytes = b"content1",
    expected: bytes = b"",
) -> Request:
    """Tells what was counted; without a moment it sets on_hand."""
    text = _signed(quantity) + pack_place(location) + pack_sku(sku) + b"rest"
    head = name + fingerprint + _int(len(expected), 2) + expected
    return Request("record_count", head + _int(counted_ms, 6) + text)


def opening(opened: Opened) -> Request:
    """Begins a position."""
    return Request("opening", opened.packed_at(0)[1])


def trim(positions: int, moves: int, after: bytes = b"") -> Request:
    """Asks to forget old history."""
    return Request("trim", _int(positions, 2) + _int(moves, 2) + after)


def save_setting(
    name: str, settings: bytes, kind: int = LOCATION, *, at: int = 0, to: int = 0, caller: bytes = NOBODY
) -> Request:
    """Writes a setting, or deletes it where settings are empty; with `to` a copy of what was decided."""
    head = bytes((kind,)) + _int(at, 6) + _int(to, 6) + caller
    return Request("save_setting", head + pack_sku(name) + settings)


def setting(*names: str, rest: bytes = b"rest") -> bytes:
    """Stored settings that name others."""
    return _int(len(names), 2) + b"".join(map(pack_sku, names)) + rest


def save_policy(
    sku: str, location: str, numbers: tuple[int, int, int] | None, *, caller: bytes = NOBODY
) -> Request:
    """Writes safety stock, backorder limit and low-stock band, or deletes them."""
    text = caller + pack_place(location) + pack_sku(sku)
    return Request("save_policy", text + b"".join(_int(number, 7) for number in numbers or ()))


def inherit(sku: str, location: str) -> Request:
    """Brings a position to its defaults."""
    return Request("inherit", pack_place(location) + pack_sku(sku))


def end_inheriting(number: int, kind: int, name: str) -> Request:
    """Tells that all positions follow a change."""
    member = f"{number}\n{kind}\n{name}".encode()
    return Request("inherit", b"\0" + _int(len(member), 2) + member)


def pack_defaults(*numbers: int | None) -> bytes:
    """Defaults as they are stored."""
    return b"".join(_int(2**53 - 1 if number is None else number, 7) for number in numbers)


def save_fence(
    channel: str,
    sku: str,
    location: str,
    quantity: int | None = None,
    spill: int = 0,
    used: int | None = None,
    caller: bytes = NOBODY,
) -> Request:
    """Writes a fence, or deletes it."""
    text = caller + _text(channel) + pack_place(location) + pack_sku(sku)
    if quantity is not None:
        text += _int(quantity, 6) + bytes((spill,))
    return Request("save_fence", text + (b"" if used is None else _int(used, 6)))


def source(
    name: bytes, groups: Sequence[Group], rules: Rules = _NO_RULES, *, ttl_ms: int = 900_000
) -> Request:  # fmt: skip
    """A reserve whose places the script chooses."""
    start = name + b"content1" + _int(ttl_ms, 4) + route_of(groups[0].members[0][0])
    return Request("source", start + encode_request(groups, rules) + b"detail")


def plan(
    groups: Sequence[Group], rules: Rules = _NO_RULES, *, swept: bool = False, own: Sequence[bytes] = ()
) -> Request:
    """What `source` would do, if these reservations were not there."""
    packed = bytes((swept,)) + _int(len(own), 2) + b"".join(own)
    return Request("plan", packed + encode_request(groups, rules))


def supply(
    name: bytes,
    expected: Expected,
    received: int = 0,
    location: str = "W",
    sku: str = "shoe",
    fingerprint: bytes = b"content1",
) -> Request:
    """Sets what a source will bring to a position."""
    text = expected.change(received) + pack_place(location) + pack_sku(sku)
    return Request("supply", name + fingerprint + text)


def supplies(sku: str, *, swept: bool = False) -> Request:
    """Asks for a SKU's cards and what is expected of it."""
    return Request("supplies", bytes((swept,)) + sku.encode())


def save_document(
    name: bytes,
    version: int,
    content: bytes,
    *,
    is_pending: bool = False,
    is_over: bool = False,
    added: Sequence[bytes] = (),
    gone: Sequence[bytes] = (),
    operation: bytes = NO_OPERATION,
    fingerprint: bytes | None = None,
) -> Request:
    """Stores a document in the place of a version."""
    if fingerprint is None:
        fingerprint = bytes(8) if operation == NO_OPERATION else b"content1"
    head = name + operation + fingerprint + _int(version, 4) + bytes((is_pending, is_over))
    return Request("save_document", head + _entries(added) + _entries(gone) + content)


def forget_document(name: bytes, version: int, entries: Sequence[bytes] = ()) -> Request:
    """Asks to forget a version of a document, with its entries in the index."""
    return Request("forget_document", name + _int(version, 4) + _entries(entries))


def _entries(entries: Sequence[bytes]) -> bytes:
    return _int(len(entries), 2) + b"".join(bytes((len(entry),)) + entry for entry in entries)


def find_document(name: bytes, operation: bytes = NO_OPERATION) -> Request:
    """Asks for a document, and for what an operation stored."""
    return Request("find_document", name + operation)


def outbox(limit: int, offset: int = 0) -> Request:
    """Asks for documents whose effects nobody has seen to."""
    return Request("outbox", _int(limit, 2) + _int(offset, 4))


def take_over(known: int, about: int = 0) -> Request:
    """Take the books over for the server's process, for one who knows an epoch and the time."""
    return Request("take_over", _int(known, 6) + _int(about, 6))


def pace(skew: int, ahead: int = 0, least: int = 0) -> Request:
    """Set the skew of engine time, for one who knows it."""
    return Request("pace", skew.to_bytes(6, "little", signed=True) + _int(ahead, 6) + _int(least, 6))


def cards(sku: str, *, swept: bool = False) -> Request:
    """Asks for all that is stored of a SKU's stock."""
    return Request("cards", bytes((swept,)) + sku.encode())


# -------------------------------------------------------------------- forms


def name(number: int) -> bytes:
    """An operation id for tests; no two are equal."""
    return b"op%010d" % number


def part_name(name: bytes, first: str = "shoe") -> bytes:
    """The id under which the parts of a basket stand that begins with a SKU."""
    number = int.from_bytes(name[9:], "little") + int.from_bytes(route_of(first), "little") + 1
    return name[:9] + _int(number % 2**24, 3)


def pack_plan(lines: Sequence[tuple[str, str, int]]) -> bytes:
    """Lines as records have them, their size first."""
    parts = [bytes((len(lines),))]
    for sku, location, quantity in lines:
        parts += (_int(quantity, 5), pack_place(location), pack_sku(sku))
    return _int(sum(map(len, parts)), 2) + b"".join(parts)


def pack_version(version: tuple[int, int]) -> bytes:
    """Epoch and sequence of a basket's step."""
    return _int(version[0], 2) + _int(version[1], 7)


def pack_terms(channel: str = "", pools: tuple[str, ...] = (), bound: tuple[int, ...] = ()) -> bytes:
    """How a reservation's units were chosen, as it stands before its detail."""
    body = _text(channel) + _text("\n".join(pools)) + bytes((len(bound), *bound))
    return bytes((193, len(body))) + body


def fence_field(sku: str, location: str) -> str:
    """The field of the stock hash that has a position's fences."""
    return place_of(location).decode() + sku


def place_of(location: str) -> bytes:
    """A location as it stands on a card."""
    return b"\n%b=" % location.encode()


def pack_place(location: str) -> bytes:
    """A location in a plan or a movement."""
    return bytes((len(place_of(location)),)) + place_of(location)


def pack_conditions(moved: int, *names: str) -> bytes:
    """Units that go from one condition to another."""
    packed = b"".join(bytes((len(name),)) + name.encode() for name in names)
    return moved.to_bytes(6, "little", signed=True) + packed


def pack_units(**units: int) -> bytes:
    """Units by condition, as they are kept."""
    return b"".join(bytes((len(name),)) + name.encode() + _signed(count) for name, count in units.items())


def _pack_fact(operation: bytes, fact: Fact, moment_ms: int) -> bytes:
    return operation + _int(len(fact.result), 4) + fact.result + _int(moment_ms, 6)


def pack_event(event: Event, now_ms: int) -> tuple[int, bytes]:
    """An event as the ledger has it: its kind and its body."""
    if isinstance(event, Moved | Counted | Opened):
        return event.packed_at(now_ms)
    return event.packed


def moves_of(log: Sequence[tuple[int, Sequence[Event]]], now_ms: int, epoch: int) -> list[bytes]:
    """The lines of the histories that entries of the ledger stand for."""
    return [
        move.packed(last - len(events) + 1 + at, epoch)
        for last, events in log
        for at, event in enumerate(events)
        if isinstance(event, Resolved | Moved | Counted | Opened)
        for move in event.moves_at(now_ms)
    ]


def pack_sku(sku: str) -> bytes:
    """A SKU in a plan or a movement."""
    return _int(len(sku.encode()), 2) + sku.encode()


def route_of(sku: str) -> bytes:
    """Where a SKU belongs, in a data set of any size."""
    return _int(crc32(sku.encode()) & 0xFFFF, 2)


def page_of(location: str) -> int:
    """The page that has a location of a divided SKU."""
    number = 0
    for byte in location.encode():
        number = (number * 31 + byte) % 65_536
    return number % _PAGES


def places_of_pages() -> dict[int, str]:
    """For each page of a divided SKU a location that lies on it."""
    found: dict[int, str] = {}
    for number in range(10_000):
        found.setdefault(page_of(f"L{number}"), f"L{number}")
    assert len(found) == _PAGES
    return found


def fields_of(sku: str, item: Card | Divided | Fences) -> dict[bytes, bytes]:
    """The fields of the stock hash that a SKU has."""
    if isinstance(item, Card):
        return _card_fields(sku.encode(), item)
    if isinstance(item, Fences):
        return {sku.encode(): b"".join(fence.packed for fence in item.fences)}
    fields = {sku.encode(): _DIVIDER}
    for page, card in item.pages.items():
        fields |= _card_fields(b"%b\n%d" % (sku.encode(), page), card)
    return fields


def _card_fields(field: bytes, card: Card) -> dict[bytes, bytes]:
    blocks = {b"%b\n\n%d" % (field, number): b"".join(claims) for number, claims in card.blocks.items()}
    return {field: card.packed, **blocks}


def read_card(packed: bytes) -> Card:
    """The card of a stored form, without its blocks."""
    form, count, names_size = _CARD_HEAD.unpack_from(packed)
    names, at = packed[_CARD_HEAD_SIZE : _CARD_HEAD_SIZE + names_size], _CARD_HEAD_SIZE + names_size
    columns, size = 12 if form > 1 else 4, 7 if form % 2 else 4
    positions: dict[str, Position] = {}
    while names:
        location, _, names = names[1:].partition(b"=")
        assert names[:2] == _int(len(positions), 2)
        names = names[2:]
        counters = [packed[at + column * size : at + (column + 1) * size] for column in range(columns)]
        positions[location.decode()] = Position(
            *(int.from_bytes(counter, "little", signed=True) for counter in counters)
        )
        at += columns * size
    assert len(positions) == count
    claims = tuple(packed[start : start + 12] for start in range(at, len(packed), 12))
    first, block = int.from_bytes(packed[5:8], "little"), int.from_bytes(packed[8:11], "little")
    return Card(positions, claims, block, first, form=form)


def split_events(packed: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """An entry of the ledger: its moment, and kind and body of each event."""
    count, cursor, events = int.from_bytes(packed[6:8], "little"), 8, []
    while cursor < len(packed):
        kind, size = packed[cursor], int.from_bytes(packed[cursor + 1 : cursor + 4], "little")
        events.append((kind, packed[cursor + 4 : cursor + 4 + size]))
        cursor += 4 + size
    assert cursor == len(packed)
    assert count == len(events)
    return int.from_bytes(packed[:6], "little"), events


def tests_library(includes: Mapping[str, str], verbs: Mapping[str, str]) -> Library:
    """The library with a clock that tests can turn."""
    return assemble({**includes, "clock": CLOCK}, verbs)


def read_library() -> Library:
    """The library of this checkout with a clock that tests can turn."""
    return tests_library(*read_sources())


def _encode(words: Sequence[str | bytes | int]) -> bytes:
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _text(text: str) -> bytes:
    return bytes((len(text.encode()),)) + text.encode()


def _int(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")


def _signed(number: int) -> bytes:
    return number.to_bytes(7, "little", signed=True)
