"""Replays a ledger into the state that the books should show, and judges each event on the way.

Written apart from the scripts on purpose: nothing here trusts what an event says of its own effect.
What an event changes is worked out from the reservation's units before and after it; the changes, state
and results that it claims are compared with that. Whatever breaks a promise becomes a `Violation`; the
replay goes on.
"""

from struct import Struct as Layout
from zlib import crc32

import msgspec
from msgspec import Struct

from engine import events, limits
from engine.events import Damage, Event, Gap, LedgerItem, Moved, Reserved, Resolved, Version
from engine.ids import FINGERPRINT_SIZE, NO_OPERATION, reservation_id
from engine.lifecycle import OPEN_STATES, VERBS, find_fault, positions_of, units_of
from engine.records import STATES, Detail, Head, decode_head, decode_plan
from engine.types import State

KEPT_VIOLATIONS = 1000
OPERATION_KIND, MOVEMENT_KIND = b"\2", b"\3"
_decode_detail = msgspec.msgpack.Decoder(Detail).decode


class Violation(Struct, frozen=True):
    """An event that breaks a promise. `invariant` is its short name: I1 … I8."""

    invariant: str
    partition: int
    seq: int
    subject: str
    detail: str


class Counters(Struct):
    """The counters of one position, and who holds claims on it: reservation → place in the order of
    promises.
    """

    on_hand: int = 0
    held: int = 0
    allocated: int = 0
    unsellable: int = 0
    safety_stock: int = 0
    backorder_limit: int = 0
    fenced: int = 0
    low_stock: int = 0
    holders: dict[bytes, int] = msgspec.field(default_factory=dict)

    @property
    def slack(self) -> int:
        """What may still be promised at the utmost; negative where a fact took promised units away."""
        return self.on_hand - self.unsellable + self.backorder_limit - self.held - self.allocated

    @property
    def free(self) -> int:
        return self.on_hand - self.unsellable - self.allocated - self.held - self.safety_stock - self.fenced

    @property
    def available(self) -> int:
        return max(self.free, -self.backorder_limit)

    def numbers(self) -> dict[str, int]:
        """The eight stored counters by name, in the order in which they are stored."""
        return {name: getattr(self, name) for name in COUNTERS}


COUNTERS = tuple(Counters.__struct_fields__[:8])
_LAYOUTS = {16: Layout("<4i"), 32: Layout("<8i")}
_STATE_AT, _DEADLINE_AT = 1, slice(31, 37)
_WIDE, _WIDE_SIZES = 7, (28, 56)


def decode_counters(packed: bytes) -> Counters:
    """A stored position. Raises `ValueError` unless it has one of the four sizes."""
    layout = _LAYOUTS.get(len(packed))
    if layout is not None:
        return Counters(*layout.unpack(packed))
    if len(packed) not in _WIDE_SIZES:
        raise ValueError(f"{len(packed)} bytes are no position")
    counters = Counters()
    for name, at in zip(COUNTERS, range(0, len(packed), _WIDE), strict=False):
        setattr(counters, name, int.from_bytes(packed[at : at + _WIDE], "little", signed=True))
    return counters


class Promise(Struct, gc=False):
    """A reservation as its events leave it, packed as it is stored."""

    head: bytes
    plan: bytes
    detail_crc: int

    def read_head(self) -> Head:
        return decode_head(self.head)[0]

    @property
    def state(self) -> State:
        return STATES[self.head[_STATE_AT] - 1]

    @property
    def deadline_ms(self) -> int:
        return int.from_bytes(self.head[_DEADLINE_AT], "little")


def remembered_crc(stored: bytes) -> int:
    """What a replay keeps of a remembered operation or movement: all but its fingerprint, which is not in
    the ledger.
    """
    at = 2 if stored[:1] == OPERATION_KIND else 1
    return crc32(stored[:at] + stored[at + FINGERPRINT_SIZE :])


class Replay:
    """One partition's state, event by event. `retention_ms` is how long operation ids must be
    remembered; None takes the shortest time that the ledger shows.

    Memory: about 400 bytes a reservation, 200 a movement, 300 a position. Cost: 10 to 20 µs an event.
    """

    def __init__(self, partition: int, *, retention_ms: int | None = None) -> None:
        self.partition = partition
        self.version: Version = events.START
        self.begins_at: int | None = None
        """The first sequence that the ledger holds; None while it is empty."""
        self.events = 0
        self.stock: dict[str, dict[str, Counters]] = {}
        """SKU → location → counters, locations in the order in which they first stocked the SKU."""
        self.reservations: dict[bytes, Promise] = {}
        self.operations: dict[bytes, tuple[int, int]] = {}
        """Remembered operations and movements: when, and the crc of what must be remembered."""
        self.locations: dict[str, bytes] = {}
        self.violations: list[Violation] = []
        self.violation_count = 0
        self._retention_ms = retention_ms
        self._seen_retention_ms: int | None = None

    @property
    def retention_ms(self) -> int:
        """How long operations are remembered."""
        if self._retention_ms is not None:
            return self._retention_ms
        return self._seen_retention_ms or limits.DEFAULT_RETENTION_SECONDS * 1000

    def apply(self, item: LedgerItem) -> None:
        """Takes the next thing that a ledger reader yields."""
        if isinstance(item, Gap):
            self._apply_gap(item)
        elif isinstance(item, Damage):
            self.version = item.version
            self.blame("I1", item.version.seq, "entry", item.reason)
        else:
            if self.begins_at is None:
                self.begins_at = item.seq
            self.events += 1
            self.version = item.version
            if isinstance(item, Reserved):
                self._reserve(item)
            elif isinstance(item, Resolved):
                self._resolve(item)
            elif isinstance(item, Moved):
                self._move(item)
            elif isinstance(item, events.LocationSaved):
                self._save_location(item)

    def remembered_until_ms(self, operation: bytes) -> int:
        """Until when a remembered operation must not be forgotten."""
        return self.operations[operation][0] + self.retention_ms

    def blame(self, invariant: str, seq: int, subject: str, detail: str) -> None:
        """Collects a violation."""
        self.violation_count += 1
        if len(self.violations) < KEPT_VIOLATIONS:
            self.violations.append(Violation(invariant, self.partition, seq, subject, detail))

    def _apply_gap(self, gap: Gap) -> None:
        if self.begins_at is None and gap.after == events.START:
            self.begins_at = gap.found.seq
        self.blame("I1", gap.found.seq, "ledger", f"{gap.kind}: after {gap.after} comes {gap.found}")

    def _save_location(self, event: events.LocationSaved) -> None:
        if event.settings:
            self.locations[event.location] = event.settings
        else:
            self.locations.pop(event.location, None)

    # ---------------------------------------------------------------- facts

    def _move(self, event: Moved) -> None:
        subject = f"{event.sku} at {event.location}"
        self._claim(event.id, event, MOVEMENT_KIND + event.result, subject)
        counters = self.stock.setdefault(event.sku, {}).setdefault(event.location, Counters())
        counters.on_hand += event.quantity
        if event.location not in self.locations:
            self.blame("I4", event.seq, subject, "the location did not exist")
        told = event.read_result()
        if told != (event.seq, counters.on_hand, counters.available):
            self.blame(
                "I4",
                event.seq,
                subject,
                f"the answer says seq, on_hand, available {told}, "
                f"the ledger adds up to {(event.seq, counters.on_hand, counters.available)}",
            )
        if event.quantity < 0 and (counters.slack < 0 or len(event.result) > 21):  # noqa: PLR2004 - bare result
            self._check_uncovered(event, subject, counters)

    def _check_uncovered(self, event: Moved, subject: str, counters: Counters) -> None:
        short, broken = -counters.slack, []
        newest_first = sorted(counters.holders.items(), key=lambda holder: -holder[1])
        for reservation, _ in newest_first:
            if short <= 0:
                break
            promise = self.reservations[reservation]
            units = units_of(promise.read_head(), promise.plan)
            for (sku, location, _), (held, committed, _, _) in zip(
                positions_of(promise.plan), units, strict=True
            ):
                if (sku, location) == (event.sku, event.location):
                    quantity = min(short, held + committed)
                    broken.append((reservation_id(self.partition, reservation), quantity))
                    short -= quantity
        named = [(uncovered.reservation, uncovered.quantity) for uncovered in event.read_uncovered()]
        if named != broken:
            self.blame("I3", event.seq, subject, f"uncovered promises {named} were named, {broken} are")

    def _claim(self, operation: bytes, event: Event, content: bytes, subject: str) -> None:
        """An operation id takes effect once within the retention time."""
        prior = self.operations.get(operation)
        if operation in self.reservations or (
            prior is not None and event.at_ms < prior[0] + self.retention_ms
        ):
            self.blame("I2", event.seq, subject, f"operation {operation.hex()} took effect before")
        self.operations[operation] = (event.at_ms, crc32(content))

    # ---------------------------------------------------------------- reservations

    def _reserve(self, event: Reserved) -> None:
        try:
            head, at = decode_head(event.record)
            plan_end = decode_plan(event.record, at)[1]
            plan, detail = event.record[at:plan_end], event.record[plan_end:]
            ttl_ms = _decode_detail(detail).ttl_seconds * 1000
        except (ValueError, IndexError, msgspec.DecodeError) as error:
            self.blame("I5", event.seq, event.reservation, f"the record cannot be read: {error}")
            return
        prior = self.reservations.get(event.id)
        if prior is not None and (prior.state in OPEN_STATES or event.at_ms < prior.deadline_ms):
            self.blame("I2", event.seq, event.reservation, "was made before")
        remembered = self.operations.get(event.id)
        if remembered is not None and event.at_ms < remembered[0] + self.retention_ms:
            self.blame("I2", event.seq, event.reservation, "its id was that of another operation")
        expected = Head(
            State.HELD, 0, 0, 0, event.epoch, event.epoch, event.seq, event.seq,
            event.at_ms, event.at_ms + ttl_ms, head.fingerprint, (),
        )  # fmt: skip
        if head != expected:
            self.blame("I5", event.seq, event.reservation, f"was made as {head}, not {expected}")
        self.reservations[event.id] = Promise(event.record[:at], plan, crc32(detail))
        for sku, location, quantity in positions_of(plan):
            counters = self._position(event, sku, location)
            counters.held += quantity
            counters.holders[event.id] = event.seq
            self._check_promise(event, sku, location, counters, lowered=True)

    def _position(self, event: Event, sku: str, location: str) -> Counters:
        places = self.stock.get(sku)
        counters = places.get(location) if places else None
        if counters is None:
            self.blame("I4", event.seq, f"{sku} at {location}", "a promise on a position that does not exist")
            counters = self.stock.setdefault(sku, {})[location] = Counters()
        return counters

    def _check_promise(
        self, event: Event, sku: str, location: str, counters: Counters, *, lowered: bool
    ) -> None:
        """G1: no promise may take what is not there, and no counter falls below zero."""
        if (lowered and counters.slack < 0) or counters.held < 0 or counters.allocated < 0:
            self.blame(
                "I3",
                event.seq,
                f"{sku} at {location}",
                f"{counters.held} held + {counters.allocated} allocated of {counters.on_hand} on hand",
            )

    def _resolve(self, event: Resolved) -> None:
        promise = self.reservations.get(event.id)
        if promise is None:
            self.blame(
                "I5",
                event.seq,
                event.reservation,
                f"{type(event).__name__} of a reservation that was never made",
            )
            return
        if event.plan != promise.plan:
            self.blame("I5", event.seq, event.reservation, "its lines are not those that were reserved")
            return
        try:
            before, after = promise.read_head(), event.read_head()
        except IndexError:
            self.blame("I5", event.seq, event.reservation, "its head cannot be read")
            return
        if len(after.progress) not in {0, len(positions_of(promise.plan))}:
            self.blame("I5", event.seq, event.reservation, "its progress is not that of its lines")
            return
        if event.operation != NO_OPERATION:
            content = OPERATION_KIND + bytes((VERBS[type(event)],)) + event.id + event.head
            self._claim(event.operation, event, content, "operation")
        fault = find_fault(event, promise.plan, before, after)
        if fault is not None:
            self.blame(fault[0], event.seq, event.reservation, f"{type(event).__name__.lower()}: {fault[1]}")
        if after.state not in OPEN_STATES:
            kept_ms = after.deadline_ms - event.at_ms
            self._seen_retention_ms = min(self._seen_retention_ms or kept_ms, kept_ms)
        self._change_counters(event, promise.plan, before, after)
        promise.head = event.head
        if event.detail:
            promise.detail_crc = crc32(event.detail)

    def _change_counters(self, event: Resolved, plan: bytes, before: Head, after: Head) -> None:
        deltas = []
        lines = zip(positions_of(plan), units_of(before, plan), units_of(after, plan), strict=True)
        for (sku, location, _), old, new in lines:
            held, allocated, on_hand = new[0] - old[0], new[1] - old[1], old[2] - new[2]
            deltas += [held, allocated, on_hand]
            if not (held or allocated or on_hand):
                continue
            counters = self._position(event, sku, location)
            counters.held += held
            counters.allocated += allocated
            counters.on_hand += on_hand
            if new[0] + new[1] == 0:
                counters.holders.pop(event.id, None)
            elif old[0] + old[1] == 0:
                counters.holders[event.id] = event.seq
            lowered = held + allocated > on_hand
            self._check_promise(event, sku, location, counters, lowered=lowered)
        claimed = [number for delta in event.read_deltas() for number in delta]
        if claimed != deltas:
            self.blame(
                "I4", event.seq, event.reservation, f"says it changes {claimed}, its units change {deltas}"
            )
