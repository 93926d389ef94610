"""The ledger as events: one Struct for each kind, and a reader that misses nothing unnoticed.

A partition's ledger is its stream. An entry is what one script call did: its id is `epoch-seq` of its
last event, its field `e` the events, packed:
  now (6 bytes) | count (2) | count times { kind (1) | size (3) | body }
Numbers are little-endian. The bodies' layouts stand in the `--@event` lines of `lua/`. Events keep the
packed parts and decode them when asked, so that a consumer pays for what it reads.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from enum import StrEnum
from functools import partial

from msgspec import Struct

from engine import keys, moves, records
from engine.cards import place_of
from engine.ids import OPERATION_ID_SIZE, basket_id, reservation_id
from engine.records import HEAD_SIZE, PROGRESS_SIZE, VERSION_SIZE, Head, Plan, Record, Undecided
from engine.setting_forms import Setting, SettingClass, decode_names, decode_setting
from engine.supplies import CHANGE_SIZE, decode_change
from engine.topology import Topology
from engine.types import Happening, State, Supply, Uncovered

PAGE_ENTRIES = 200
"""Entries that one read asks for: at 128 events of 200 bytes, 5 MB."""

DELTA_SIZE = 18
_ENTRY_HEAD_SIZE = 8
_EVENT_HEAD_SIZE = 4
_ROUTE_AT = 2 * OPERATION_ID_SIZE
_PLAN_AT = _ROUTE_AT + 2
_CARRIED_AT = OPERATION_ID_SIZE + 8
_SETTING_ID_AT = 12
_MARK_SIZE = 3
_SUPPLY_RESULT_SIZE = 21
_MOVEMENT, _COUNT = 8, 21


def _signed(packed: bytes) -> int:
    return int.from_bytes(packed, "little", signed=True)


class Version(Struct, frozen=True, order=True, gc=False):
    """A point of a partition's history. Its text is `epoch.seq`."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"

    @property
    def entry_id(self) -> str:
        """As the server writes it."""
        return f"{self.epoch}-{self.seq}"


START = Version(0, 0)
"""Before the first event."""


def parse_version(text: str) -> Version:
    """The version that `epoch.seq` or `epoch-seq` names. Raises `ValueError`."""
    epoch, _, seq = text.replace("-", ".", 1).partition(".")
    if not (epoch.isascii() and epoch.isdigit() and seq.isascii() and seq.isdigit()):
        raise ValueError(f"{text[:40]!r} is no version: it reads epoch.seq")
    return Version(int(epoch), int(seq))


class Event(Struct, frozen=True, gc=False):
    """What all events have in common. `at_ms` is the server's clock."""

    partition: int
    epoch: int
    seq: int
    at_ms: int

    @property
    def version(self) -> Version:
        return Version(self.epoch, self.seq)


class _OfReservation(Event, frozen=True, gc=False):
    id: bytes
    route: int

    @property
    def reservation(self) -> str:
        return reservation_id(self.route, self.id)


class Reserved(_OfReservation, frozen=True, gc=False):
    """Units were held for a new reservation. `record` is its record, byte for byte."""

    record: bytes

    def read_record(self) -> Record:
        return records.decode_record(self.record)


class BasketOpened(Reserved, frozen=True, gc=False):
    """A reservation over several partitions began; it is pending until its parts are held."""


class PartHeld(Reserved, frozen=True, gc=False):
    """The lines of a basket that lie in this partition were held. `id` is the part's own."""

    @property
    def reservation(self) -> str:
        return reservation_id(self.route, basket_id(self.id, self.route))


class Resolved(_OfReservation, frozen=True, gc=False):
    """What became of a reservation's units: `tail` is the record's new progress and head, `deltas` the
    changes of held, allocated and on_hand of each position of `plan`; there are none where all units of the
    plan went together. `operation` names at the most the caller where none was chosen; `detail` is empty
    unless the step changed that part of the record.
    """

    operation: bytes
    tail: bytes
    is_whole: bool
    deltas: bytes
    plan: bytes
    detail: bytes

    def read_head(self) -> Head:
        return records.decode_tail(self.tail)

    def read_plan(self) -> Plan:
        return records.decode_plan(self.plan)[0]

    def read_deltas(self) -> list[tuple[int, int, int]]:
        """Changes of held, allocated and on_hand, position by position."""
        if self.is_whole:
            held, allocated, on_hand = self.whole_signs(self.read_head().state)
            units = [position.quantity for position in self.read_plan().positions]
            return [(held * quantity, allocated * quantity, on_hand * quantity) for quantity in units]
        return [
            (
                _signed(self.deltas[at : at + 6]),
                _signed(self.deltas[at + 6 : at + 12]),
                _signed(self.deltas[at + 12 : at + 18]),
            )
            for at in range(0, len(self.deltas), DELTA_SIZE)
        ]

    def whole_signs(self, state: State | Undecided) -> tuple[int, int, int]:  # noqa: ARG002 - commits ask for it
        """How held, allocated and on_hand change when all units go to a state together."""
        return -1, 0, 0


class Committed(Resolved, frozen=True, gc=False):
    """Held (or, taken anew, lapsed) units became allocated, or left at once."""

    def whole_signs(self, state: State | Undecided) -> tuple[int, int, int]:
        return (-1, 0, -1) if state is State.FULFILLED else (-1, 1, 0)


class Released(Resolved, frozen=True, gc=False):
    """Held units were given back."""


class Extended(Resolved, frozen=True, gc=False):
    """The deadline moved."""

    def whole_signs(self, state: State | Undecided) -> tuple[int, int, int]:  # noqa: ARG002 - commits ask for it
        return 0, 0, 0


class Fulfilled(Resolved, frozen=True, gc=False):
    """Committed units left."""

    def whole_signs(self, state: State | Undecided) -> tuple[int, int, int]:  # noqa: ARG002 - commits ask for it
        return 0, -1, -1


class Cancelled(Resolved, frozen=True, gc=False):
    """Committed units were given back."""

    def whole_signs(self, state: State | Undecided) -> tuple[int, int, int]:  # noqa: ARG002 - commits ask for it
        return 0, -1, 0


class Expired(Resolved, frozen=True, gc=False):
    """Held units lapsed."""


class Decided(Resolved, frozen=True, gc=False):
    """All parts of a basket are held, and so is the basket."""

    def whole_signs(self, state: State | Undecided) -> tuple[int, int, int]:  # noqa: ARG002 - commits ask for it
        return 0, 0, 0


class Abandoned(Resolved, frozen=True, gc=False):
    """A basket's parts were not all to be had: nothing was reserved."""


class Followed(Resolved, frozen=True, gc=False):
    """A part was brought to where its basket is. `id` is the part's own."""

    @property
    def reservation(self) -> str:
        return reservation_id(self.route, basket_id(self.id, self.route))

    def read_version(self) -> tuple[int, int]:
        """Epoch and sequence of the basket's step."""
        return records.decode_version(self.detail)


class Replanned(_OfReservation, frozen=True, gc=False):
    """A reservation has other lines, or its caller's part says something else. `record` is what it is from
    then on; `operation` names at the most the caller where none was chosen.
    """

    operation: bytes
    record: bytes

    def read_record(self) -> Record:
        return records.decode_record(self.record)


class Spread(_OfReservation, frozen=True, gc=False):
    """A reservation of one partition became a basket with one part, which has its units: `record` is the
    basket's from then on, `part_record` the part's.
    """

    part: bytes
    record: bytes
    part_record: bytes


class _Fact(Event, frozen=True, gc=False):
    """A fact. `result` is the answer that the caller got, packed; `occurred_ms` the moment it is true of."""

    id: bytes
    result: bytes
    occurred_ms: int
    quantity: int
    location: str
    sku: str
    detail: bytes

    def read_result(self) -> tuple[int, int, int, int, int]:
        """Sequence, on_hand, available, effect and why there was none, as the answer gave them."""
        raw = self.result
        return (
            int.from_bytes(raw[:5], "little"),
            _signed(raw[7:14]),
            _signed(raw[14:21]),
            _signed(raw[21:28]),
            raw[28],
        )

    def read_uncovered(self) -> list[Uncovered]:
        """The promises that the fact broke, newest first."""
        return moves.decode_uncovered(self.result)

    def read_detail(self) -> moves.Detail:
        return moves.decode_detail(self.detail)


class Moved(_Fact, frozen=True, gc=False):
    """Goods came or went (`quantity` is signed), or `moved` units went from one condition to another."""

    moved: int
    from_condition: str
    to_condition: str


class Counted(_Fact, frozen=True, gc=False):
    """`quantity` units were on hand: as of then, or for a set as of now."""

    is_set: bool


class Opening(Event, frozen=True, gc=False):
    """A position began as another data set left it, or got the rest of what it had there: `on_hand` more
    units, those promised that are still expected, the newest count and conditions, as they are kept,
    and lines of its history.
    """

    on_hand: int
    preordered: int
    location: str
    sku: str
    count: bytes
    conditions: bytes
    rows: tuple[moves.Row, ...]

    def find_row(self, member: moves.Member) -> Happening | None:
        """The line that a member of the history stands for."""
        sought = member.occurred_ms, member.id, member.units
        for row in self.rows:
            if (row.occurred_ms, row.id, row.units) == sought:
                return moves.decode_happening(row.happening)
        return None


class Carried(_OfReservation, frozen=True, gc=False):
    """What another data set remembered under an id was filed: a reservation, a basket, a part, or the answer
    to an operation, which is remembered until `until_ms`. `route` is that of what it is about.
    """

    until_ms: int
    record: bytes

    def read_record(self) -> Record:
        return records.decode_record(self.record)


class Supplied(Event, frozen=True, gc=False):
    """What a document will still bring to a position was set; `received` units of it came with that. `result`
    is sequence, epoch, and the position's inbound and available units from then on.
    """

    id: bytes
    result: bytes
    supply: Supply
    received: int
    location: str
    sku: str

    def read_result(self) -> tuple[int, int, int]:
        """Sequence, inbound and available, as the answer gave them."""
        raw = self.result
        return int.from_bytes(raw[:5], "little"), _signed(raw[7:14]), _signed(raw[14:21])


class DocumentSaved(Event, frozen=True, gc=False):
    """A step of a transfer or an inbound order; `is_pending` while its effects on positions are to follow.
    `operation` names at the most the caller where none was chosen.
    """

    id: bytes
    operation: bytes
    number: int
    is_pending: bool
    content: bytes

    @property
    def stored(self) -> bytes:
        """The document as it is stored from then on."""
        return self.number.to_bytes(4, "little") + bytes((self.is_pending,)) + self.content


class SettingSaved(Event, frozen=True, gc=False):
    """The settings of a location, a pool, a channel or an item were written, or, where `settings` are empty,
    deleted. `number` counts the decisions on settings: it is the same in every partition. `caller` is the
    mark of who decided (`ids.caller_mark`), zeros for nobody, and of a copy that was made later.
    """

    caller: bytes
    kind: SettingClass
    number: int
    id: str
    settings: bytes

    def read_setting(self) -> Setting | None:
        return decode_setting(self.kind, self.settings) if self.settings else None

    def read_names(self) -> list[str]:
        """What the settings name: see `setting_forms.names_of`."""
        return decode_names(self.settings)[0] if self.settings else []


class PolicySaved(Event, frozen=True, gc=False):
    """The policy of a position was written; where it is not its own, the defaults hold there. `caller` is the
    mark of who did, zeros for nobody.
    """

    caller: bytes
    location: str
    sku: str
    safety_stock: int
    backorder_limit: int
    low_stock: int
    is_own: bool


class FenceSaved(Event, frozen=True, gc=False):
    """A channel's fence at a position was written; no `quantity`: it was deleted. `used` is told of one that
    comes from another data set. `caller` is the mark of who wrote it, zeros for nobody.
    """

    caller: bytes
    channel: str
    location: str
    sku: str
    quantity: int | None
    spills: bool = False
    used: int | None = None


class GapKind(StrEnum):
    """How a ledger fails to go on where its reader stood."""

    MISSING = "missing"
    """Events between the last one read and the next are not there."""

    ROLLED_BACK = "rolled_back"
    """A newer epoch goes on from an earlier point: what was read after it never happened."""


class Gap(Struct, frozen=True, gc=False):
    """The ledger does not go on where it should: after `after` comes `found`."""

    kind: GapKind
    partition: int
    after: Version
    found: Version


class Damage(Struct, frozen=True, gc=False):
    """An entry that cannot be read; its last event would be `version`."""

    partition: int
    version: Version
    reason: str


LedgerItem = Event | Gap | Damage


def decode_entry(partition: int, last: Version, packed: bytes) -> list[Event]:
    """The events of one entry, in order. Raises `ValueError` unless every byte is accounted for."""
    if len(packed) < _ENTRY_HEAD_SIZE:
        raise ValueError("it is too short for an entry")
    at_ms, count = int.from_bytes(packed[:6], "little"), int.from_bytes(packed[6:8], "little")
    if not 1 <= count <= last.seq:
        raise ValueError(f"it claims to have {count} events")
    epoch, seq, cursor, events = last.epoch, last.seq - count, _ENTRY_HEAD_SIZE, []
    while cursor < len(packed):
        end = cursor + _EVENT_HEAD_SIZE + int.from_bytes(packed[cursor + 1 : cursor + 4], "little")
        if end > len(packed) or cursor + _EVENT_HEAD_SIZE > len(packed):
            raise ValueError("an event is cut short")
        seq += 1
        events.append(_decode_event((partition, epoch, seq, at_ms), packed[cursor:end]))
        cursor = end
    if len(events) != count:
        raise ValueError(f"it has {len(events)} events and claims {count}")
    return events


_FENCE_SIZES = {0, 7, 13}
"""Of what follows the names: nothing, quantity and spill, those and what is used."""
_RESERVED: dict[int, type[Reserved]] = {1: Reserved, 10: BasketOpened, 11: PartHeld}
_RESOLVED: dict[int, type[Resolved]] = {
    2: Committed,
    3: Released,
    4: Extended,
    5: Fulfilled,
    6: Cancelled,
    7: Expired,
    12: Decided,
    13: Abandoned,
    14: Followed,
}


def _decode_event(common: tuple[int, int, int, int], packed: bytes) -> Event:
    kind, body = packed[0], packed[_EVENT_HEAD_SIZE:]
    resolved = _RESOLVED.get(kind)
    if resolved is not None:
        return _decode_resolved(resolved, common, body)
    reserved = _RESERVED.get(kind)
    if reserved is not None:
        route = int.from_bytes(packed[records.ROUTE], "little")
        return reserved(*common, body[:OPERATION_ID_SIZE], route, packed)
    decode = _OTHERS.get(kind)
    if decode is None:
        raise ValueError(f"an event has the unknown kind {kind}")
    return decode(common, body)


def _decode_resolved(kind: type[Resolved], common: tuple[int, int, int, int], body: bytes) -> Resolved:
    plan_end = _PLAN_AT + 2 + int.from_bytes(body[_PLAN_AT : _PLAN_AT + 2], "little")
    if plan_end >= len(body) or not _reads_as_plan(body, _PLAN_AT, plan_end):
        raise ValueError("an event's plan does not fit it")
    tail_at = plan_end + 1
    tail_end = tail_at + body[plan_end] * PROGRESS_SIZE + HEAD_SIZE
    if tail_end >= len(body):
        raise ValueError("an event is cut short")
    tail, is_whole = body[tail_at:tail_end], body[tail_end] == 1
    deltas_at = tail_end + 1
    deltas_end = deltas_at + (0 if is_whole else body[_PLAN_AT + 2] * DELTA_SIZE)
    if kind is Followed and not _is_followed(body[deltas_end:]):
        raise ValueError("an event does not say what was followed")
    if deltas_end > len(body) or body[tail_end] > 1 or records.tail_size(tail) != len(tail):
        raise ValueError("an event's parts do not fit it")
    return kind(
        *common,
        body[:OPERATION_ID_SIZE],
        int.from_bytes(body[_ROUTE_AT:_PLAN_AT], "little"),
        body[OPERATION_ID_SIZE:_ROUTE_AT],
        tail,
        is_whole,
        body[deltas_at:deltas_end],
        body[_PLAN_AT:plan_end],
        body[deltas_end:],
    )


def _is_followed(rest: bytes) -> bool:
    """Whether these are a version and, perhaps, terms."""
    further = len(rest) - VERSION_SIZE
    return further >= 0 and records.decode_terms(rest[VERSION_SIZE:])[1] == further


def _decode_fact(kind: int, common: tuple[int, int, int, int], body: bytes) -> Moved | Counted:
    size = int.from_bytes(body[12:16], "little")
    if size < moves.RESULT_SIZE or (size - moves.RESULT_SIZE) % moves.UNCOVERED_SIZE:
        raise ValueError("a fact's result has an impossible size")
    at = 16 + size
    occurred_ms, quantity = int.from_bytes(body[at : at + 6], "little"), _signed(body[at + 6 : at + 13])
    place_end = at + 14 + body[at + 13]
    location = body[at + 15 : place_end - 1].decode()
    sku_end = place_end + 2 + int.from_bytes(body[place_end : place_end + 2], "little")
    if sku_end >= len(body):
        raise ValueError("a fact is cut short")
    if body[at + 14 : place_end] != place_of(location):
        raise ValueError("a fact's location is none")
    sku, operation, result = body[place_end + 2 : sku_end].decode(), body[:OPERATION_ID_SIZE], body[16:at]
    shared = (*common, operation, result, occurred_ms, quantity, location, sku)
    if kind == _COUNT:
        return Counted(*shared, body[sku_end + 1 :], body[sku_end] == 1)
    from_at = sku_end + 7
    to_at = from_at + body[from_at - 1] + 1
    end = to_at + body[to_at - 1]
    if end > len(body):
        raise ValueError("a fact is cut short")
    from_condition, to_condition = body[from_at : to_at - 1].decode(), body[to_at:end].decode()
    return Moved(*shared, body[end:], _signed(body[sku_end : sku_end + 6]), from_condition, to_condition)


def _decode_opening(common: tuple[int, int, int, int], body: bytes) -> Opening:
    cut = _Cut(body)
    on_hand, preordered, place, sku = _signed(cut.take(7)), cut.number(6), cut.text(1), cut.text(2)
    count, conditions, rows = cut.text(1), cut.text(2), []
    for _ in range(cut.number(2)):
        occurred_ms, operation = cut.number(6), cut.take(OPERATION_ID_SIZE)
        rows.append(moves.Row(occurred_ms, operation, _signed(cut.take(7)), cut.text(2)))
    if cut.at != len(body):
        raise ValueError("an opening does not end where it should")
    return Opening(
        *common, on_hand, preordered, place[1:-1].decode(), sku.decode(), count, conditions, tuple(rows)
    )


class _Cut:
    """Takes bytes apart from the front. Raises `ValueError` where they end too soon."""

    def __init__(self, packed: bytes) -> None:
        self.at = 0
        self._packed = packed

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self._packed):
            raise ValueError("an event is cut short")
        return self._packed[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self, size: int) -> bytes:
        return self.take(self.number(size))


def _decode_saved(common: tuple[int, int, int, int], body: bytes) -> SettingSaved:
    end = _SETTING_ID_AT + int.from_bytes(body[_SETTING_ID_AT - 2 : _SETTING_ID_AT], "little")
    if len(body) < _SETTING_ID_AT or len(body) < end:
        raise ValueError("a setting is cut short")
    kind, number = SettingClass(body[0]), int.from_bytes(body[1:7], "little")
    caller, name = body[7 : 7 + _MARK_SIZE], body[_SETTING_ID_AT:end]
    return SettingSaved(*common, caller, kind, number, name.decode(), body[end:])


def _decode_policy(common: tuple[int, int, int, int], body: bytes) -> PolicySaved:
    location, sku, at = _read_position(body, _MARK_SIZE)
    if len(body) != at + 22 or body[-1] > 1:
        raise ValueError("a policy has three numbers, and says whose they are")
    safety, limit, low = (
        int.from_bytes(body[place : place + 7], "little") for place in range(at, at + 21, 7)
    )
    return PolicySaved(*common, body[:_MARK_SIZE], location, sku, safety, limit, low, body[-1] == 1)


def _decode_fence(common: tuple[int, int, int, int], body: bytes) -> FenceSaved:
    caller, channel_at = body[:_MARK_SIZE], _MARK_SIZE + 1
    channel_end = channel_at + body[_MARK_SIZE]
    channel = body[channel_at:channel_end].decode()
    location, sku, at = _read_position(body, channel_end)
    rules = body[at:]
    if len(rules) not in _FENCE_SIZES:
        raise ValueError("a fence's rules do not fit it")
    if not rules:
        return FenceSaved(*common, caller, channel, location, sku, None)
    used = int.from_bytes(rules[7:], "little") if rules[7:] else None
    return FenceSaved(
        *common, caller, channel, location, sku, int.from_bytes(rules[:6], "little"), rules[6] == 1, used
    )


def _read_position(body: bytes, at: int) -> tuple[str, str, int]:
    """Location and SKU that stand somewhere in an event, and where they end."""
    place_end = at + 1 + body[at]
    location = body[at + 2 : place_end - 1].decode()
    end = place_end + 2 + int.from_bytes(body[place_end : place_end + 2], "little")
    if body[at + 1 : place_end] != place_of(location) or end > len(body):
        raise ValueError("an event's position is none")
    return location, body[place_end + 2 : end].decode(), end


def _decode_supplied(common: tuple[int, int, int, int], body: bytes) -> Supplied:
    result_end = OPERATION_ID_SIZE + _SUPPLY_RESULT_SIZE
    at = result_end + CHANGE_SIZE
    location, sku, end = _read_position(body, at)
    if end != len(body):
        raise ValueError("a supply does not fill its event")
    supply, received = decode_change(body[result_end:at])
    return Supplied(
        *common,
        body[:OPERATION_ID_SIZE],
        body[OPERATION_ID_SIZE:result_end],
        supply,
        received,
        location,
        sku,
    )


def _decode_document(common: tuple[int, int, int, int], body: bytes) -> DocumentSaved:
    at = 2 * OPERATION_ID_SIZE
    if len(body) <= at + 5 or body[at + 4] > 1:
        raise ValueError("a document is cut short")
    return DocumentSaved(
        *common,
        body[:OPERATION_ID_SIZE],
        body[OPERATION_ID_SIZE:at],
        int.from_bytes(body[at : at + 4], "little"),
        body[at + 4] == 1,
        body[at + 5 :],
    )


def _decode_carried(common: tuple[int, int, int, int], body: bytes) -> Carried:
    if len(body) <= _CARRIED_AT:
        raise ValueError("an event carries nothing")
    until_ms, route = body[OPERATION_ID_SIZE : _CARRIED_AT - 2], body[_CARRIED_AT - 2 : _CARRIED_AT]
    return Carried(
        *common,
        body[:OPERATION_ID_SIZE],
        int.from_bytes(route, "little"),
        int.from_bytes(until_ms, "little"),
        body[_CARRIED_AT:],
    )


def _decode_replanned(common: tuple[int, int, int, int], body: bytes) -> Replanned:
    at = _ROUTE_AT + 4
    record = body[at:]
    if int.from_bytes(body[_ROUTE_AT:at], "little") != len(record):
        raise ValueError("an event's record does not fit it")
    route = int.from_bytes(record[records.ROUTE], "little")
    return Replanned(*common, body[:OPERATION_ID_SIZE], route, body[OPERATION_ID_SIZE:_ROUTE_AT], record)


def _decode_spread(common: tuple[int, int, int, int], body: bytes) -> Spread:
    at = _ROUTE_AT + 4
    part_at = at + int.from_bytes(body[_ROUTE_AT:at], "little")
    record, part_record = body[at:part_at], body[part_at:]
    if not part_record:
        raise ValueError("an event's records do not fit it")
    route = int.from_bytes(record[records.ROUTE], "little")
    return Spread(
        *common, body[:OPERATION_ID_SIZE], route, body[OPERATION_ID_SIZE:_ROUTE_AT], record, part_record
    )


_OTHERS: dict[int, Callable[[tuple[int, int, int, int], bytes], Event]] = {
    _MOVEMENT: partial(_decode_fact, _MOVEMENT),
    9: _decode_saved,
    15: _decode_carried,
    16: _decode_replanned,
    17: _decode_policy,
    18: _decode_fence,
    19: _decode_supplied,
    20: _decode_document,
    _COUNT: partial(_decode_fact, _COUNT),
    22: _decode_opening,
    23: _decode_spread,
}


def _reads_as_plan(body: bytes, at: int, end: int) -> bool:
    cursor = at + 3
    for _ in range(body[at + 2]):
        cursor += 6
        if cursor > end:
            return False
        cursor += body[cursor - 1]
        cursor += 2 + int.from_bytes(body[cursor : cursor + 2], "little")
    return cursor == end


def decode_page(
    partition: int, after: Version, page: Sequence[tuple[str, bytes]]
) -> tuple[list[LedgerItem], Version]:
    """The events of entries that follow `after`, which may lie inside the first of them; and the version
    that the reader has reached.
    """
    items: list[LedgerItem] = []
    for entry, packed in page:
        last = parse_version(entry)
        try:
            events = decode_entry(partition, last, packed)
        except (ValueError, IndexError) as error:
            items.append(Damage(partition, last, str(error)))
            after = last
            continue
        first = events[0].version
        if first.seq > after.seq + 1:
            items.append(Gap(GapKind.MISSING, partition, after, first))
        elif last.epoch > after.epoch and first.seq <= after.seq:
            items.append(Gap(GapKind.ROLLED_BACK, partition, after, first))
        elif first.seq <= after.seq:
            events = [event for event in events if event.seq > after.seq]
        items += events
        after = last
    return items, after


class LedgerReader:
    """Reads a partition's ledger from anywhere on. `version` is the last event read: keep it, and a new
    reader goes on from there, also from the middle of an entry.
    """

    def __init__(self, topology: Topology, partition: int, *, after: Version = START) -> None:
        self.version = after
        self._topology = topology
        self._partition = partition

    async def read(self, *, until: Version | None = None, entries: int = PAGE_ENTRIES) -> list[LedgerItem]:
        """The next events, at the most those of so many entries; none when there are no more by now.

        Entries that end after `until` are left for later. Raises `StorageUnavailable`.
        """
        page = await self._topology.read_stream(
            keys.log(self._partition),
            self.version.entry_id,
            entries,
            until=until.entry_id if until else "+",
        )
        items, self.version = decode_page(self._partition, self.version, page)
        return items


async def read_events(
    topology: Topology, partition: int, *, after: Version = START, until: Version | None = None
) -> AsyncIterator[LedgerItem]:
    """Everything that the ledger holds by now, in order. Raises `StorageUnavailable`."""
    reader = LedgerReader(topology, partition, after=after)
    while items := await reader.read(until=until):
        for item in items:
            yield item
