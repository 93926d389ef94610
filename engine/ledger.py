"""Replays a ledger into the state that the books should show, and judges each event on the way.

Written apart from the scripts on purpose: nothing here trusts what an event says of its own effect.
What an event changes is worked out from the reservation's units before and after it; the changes, state
and results that it claims are compared with that. Whatever breaks a promise becomes a `Violation`; the
replay goes on.
"""

from collections.abc import Container, Mapping, Sequence
from zlib import crc32

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine import events, limits, moves
from engine.cards import BLOCK_CLAIMS, FLAG_OWN_POLICY, LAST_BLOCK, MAX_PLACES, page_field, page_of, place_of
from engine.events import (
    Carried,
    Counted,
    Damage,
    Event,
    Gap,
    LedgerItem,
    Moved,
    Opening,
    Replanned,
    Reserved,
    Resolved,
    Spread,
    Version,
)
from engine.ids import (
    FINGERPRINT_SIZE,
    NO_FINGERPRINT,
    basket_id,
    fingerprint,
    is_remembered,
    part_id,
    reservation_id,
)
from engine.keys import route_of
from engine.ledger_counters import Counters
from engine.ledger_facts import Effect, FactBooks
from engine.ledger_terms import FenceBooks, Step, terms_of
from engine.lifecycle import (
    OPEN_STATES,
    REPLANNED,
    VERBS,
    Line,
    find_fault,
    find_replan_fault,
    find_unfit,
    positions_of,
    units_by_place,
    units_of,
)
from engine.records import (
    BLOCK_SIZE,
    FINGERPRINT,
    HEAD_SIZE,
    KIND_BASKET,
    KIND_PART,
    KIND_RESERVATION,
    NO_TERMS,
    ROUTE,
    STATES,
    TTL,
    UNKNOWN_REVISION,
    Head,
    Terms,
    Undecided,
    decode_detail,
    decode_tail,
    has_terms,
    split_record,
)
from engine.replayed_settings import ReplayedSettings
from engine.replayed_supply import ReplayedSupply
from engine.setting_forms import SettingClass
from engine.types import State

KEPT_VIOLATIONS = 1000
OPERATION_KIND, MOVEMENT_KIND = b"\2", b"\3"
NAMED_PROMISES = 100
"""Of the promises that a fact broke so many are named, the newest."""


class Violation(Struct, frozen=True):
    """An event that breaks a promise. `invariant` is its short name: I1 … I8."""

    invariant: str
    partition: int
    seq: int
    subject: str
    detail: str


_Units = dict[tuple[str, str], Line]
_NO_UNITS: Line = (0, 0, 0, 0)
_STATE_AT, _DEADLINE = -3, slice(-22, -16)


class Claims(Struct):
    """Who has open units on a card: each reservation, oldest promise first, with the block of its claim.
    `sizes` counts the claims of each block; the newest block is that on the card.
    """

    blocks: dict[bytes, int] = msgspec.field(default_factory=dict)
    sizes: dict[int, int] = msgspec.field(default_factory=dict)
    block: int = 0

    @property
    def first(self) -> int:
        """The oldest block with a claim."""
        return next(iter(self.blocks.values()), self.block)

    def add(self, reservation: bytes) -> int:
        """Enters a reservation as the newest, unless it is there; the block of its claim."""
        if reservation in self.blocks:
            return self.blocks[reservation]
        if self.sizes.get(self.block, 0) >= BLOCK_CLAIMS and self.block < LAST_BLOCK:
            self.block += 1
        self.blocks[reservation] = self.block
        self.sizes[self.block] = self.sizes.get(self.block, 0) + 1
        return self.block

    def rename(self, reservation: bytes, other: bytes) -> None:
        """Puts another id in the place of one."""
        self.blocks = {other if own == reservation else own: block for own, block in self.blocks.items()}

    def end(self, reservation: bytes) -> None:
        """Strikes a reservation out."""
        block = self.blocks.pop(reservation, None)
        if block is not None:
            self.sizes[block] -= 1
            if not self.sizes[block]:
                del self.sizes[block]


class Promise(Struct, gc=False):
    """A reservation as its events leave it, packed as it is stored."""

    front: bytes
    plan: bytes
    detail_crc: int
    blocks: bytes
    tail: bytes
    terms: Terms = NO_TERMS
    detail: bytes = b""
    """Where the record has a revision, or terms: what is remembered of its steps then has it, too."""

    def read_head(self) -> Head:
        return decode_tail(self.tail)

    @property
    def route(self) -> int:
        return int.from_bytes(self.front[ROUTE], "little")

    @property
    def kind(self) -> int:
        return self.front[0]

    @property
    def state(self) -> State | Undecided:
        return STATES[self.tail[_STATE_AT] - 1]

    @property
    def deadline_ms(self) -> int:
        return int.from_bytes(self.tail[_DEADLINE], "little")


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
        self.pages: dict[str, dict[int, list[str]]] = {}
        """Of each divided SKU the locations of its pages."""
        self.claims: dict[str, Claims] = {}
        """Field of a card → claims on it; see `claims_of`."""
        self.stocked: dict[str, int] = {}
        """Location → how many positions are there."""
        self.reservations: dict[bytes, Promise] = {}
        self.operations: dict[bytes, tuple[int, int]] = {}
        """Remembered operations and movements: when, and the crc of what must be remembered."""
        self._carried_until: dict[bytes, int] = {}
        """Of operations that another data set remembered: until when."""
        self.settings = ReplayedSettings(partition)
        self.fences = FenceBooks()
        self.expected = ReplayedSupply()
        self.wanted: dict[str, int] = {}
        """Positions that are to be counted, as their fields have them, and since when."""
        self.facts = FactBooks()
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
            elif isinstance(item, (Moved, Counted)):
                self._take_fact(item)
            elif isinstance(item, Opening):
                self._open(item)
            elif isinstance(item, Replanned):
                self._replan(item)
            elif isinstance(item, Spread):
                self._spread(item)
            elif isinstance(item, Carried):
                self._carry(item)
            else:
                self._apply_other(item)

    def _apply_other(self, item: Event) -> None:
        """Takes an event that is about no reservation and no goods."""
        if isinstance(item, events.SettingSaved):
            self._save_setting(item)
        elif isinstance(item, events.PolicySaved):
            self._save_policy(item)
        elif isinstance(item, events.FenceSaved):
            self._save_fence(item)
        elif isinstance(item, events.Supplied):
            self._supply(item)
        elif isinstance(item, events.DocumentSaved):
            self._save_document(item)

    def remembered_until_ms(self, operation: bytes) -> int:
        """Until when a remembered operation must not be forgotten."""
        carried_ms = self._carried_until.get(operation)
        return self.operations[operation][0] + self.retention_ms if carried_ms is None else carried_ms

    def blame(self, invariant: str, seq: int, subject: str, detail: str) -> None:
        """Collects a violation."""
        self.violation_count += 1
        if len(self.violations) < KEPT_VIOLATIONS:
            self.violations.append(Violation(invariant, self.partition, seq, subject, detail))

    def _apply_gap(self, gap: Gap) -> None:
        if self.begins_at is None and gap.after == events.START:
            self.begins_at = gap.found.seq
        self.blame("I1", gap.found.seq, "ledger", f"{gap.kind}: after {gap.after} comes {gap.found}")

    def _save_setting(self, event: events.SettingSaved) -> None:
        needed: Mapping[SettingClass, Container[str]] = {
            SettingClass.LOCATION: self.stocked,
            SettingClass.CHANNEL: self.fences.counts,
            SettingClass.ITEM: self.stock,
        }
        has_goods = event.id in needed.get(event.kind, ())
        for fault in self.settings.apply(event, has_goods=has_goods):
            self.blame("I4", event.seq, f"{event.kind.name.lower()} {event.id}", fault)

    # ---------------------------------------------------------------- policies and fences

    def _save_policy(self, event: events.PolicySaved) -> None:
        subject = f"{event.sku} at {event.location}"
        counters = self.stock.get(event.sku, {}).get(event.location)
        if counters is None:
            counters = self._make_position(event.sku, event.location)
        if event.location not in self.settings.stored[SettingClass.LOCATION]:
            self.blame("I4", event.seq, subject, "the location did not exist")
        counters.safety_stock, counters.low_stock = event.safety_stock, event.low_stock
        counters.backorder_limit = event.backorder_limit
        counters.flags = counters.flags & ~FLAG_OWN_POLICY | event.is_own * FLAG_OWN_POLICY
        numbers = event.safety_stock, event.backorder_limit, event.low_stock
        if not event.is_own and numbers != self.settings.default_policy(event.sku, event.location):
            self.blame("I4", event.seq, subject, "inherits what its item and location do not say")
        counters.settle()

    def _save_fence(self, event: events.FenceSaved) -> None:
        subject = f"fence of {event.channel}, {event.sku} at {event.location}"
        counters = self._position(event, event.sku, event.location)
        fault = self.fences.save(event, counters)
        counters.settle()
        if fault is not None:
            self.blame("I4", event.seq, subject, fault)
        if event.quantity is not None and event.channel not in self.settings.stored[SettingClass.CHANNEL]:
            self.blame("I4", event.seq, subject, "the channel did not exist")

    def _follow(
        self, event: Event, terms: Terms, index: int, place: tuple[str, str], counters: Counters, step: Step
    ) -> None:
        """What a step on a reservation does to fences, and whether it took what is withheld."""
        if terms == NO_TERMS and not (counters.safety_stock or counters.fenced):
            return
        fault = self.fences.follow(terms, index, place, counters, step)
        if fault is not None:
            self.blame("I3", event.seq, " at ".join(place), fault)

    # ---------------------------------------------------------------- facts

    def _take_fact(self, event: Moved | Counted) -> None:
        subject = f"{event.sku} at {event.location}"
        was_used = event.id in self.operations
        self._claim(event.id, event, MOVEMENT_KIND + event.result, subject)
        counters = self.stock.get(event.sku, {}).get(event.location)
        if counters is None:
            counters = self._make_position(event.sku, event.location)
        if event.location not in self.settings.stored[SettingClass.LOCATION]:
            self.blame("I4", event.seq, subject, "the location did not exist")
        fault = self.facts.find_fault(event, was_used=was_used)
        if fault is not None:
            self.blame("I2", event.seq, subject, fault)
        if isinstance(event, Moved):
            effect = self.facts.move(event)
        else:
            effect = self.facts.count(event, counters.on_hand)
            if not effect.ignored:
                self._end_want(event)
        counters.on_hand += effect.on_hand
        counters.unsellable += effect.unsellable
        counters.settle()
        expected = event.seq, counters.on_hand, counters.available, effect.on_hand, effect.ignored
        told = event.read_result()
        if told != expected:
            self.blame(
                "I4",
                event.seq,
                subject,
                f"the answer says seq, on_hand, available, effect, ignored {told}, "
                f"the ledger adds up to {expected}",
            )
        self._check_uncovered(event, subject, counters, effect)

    def _open(self, event: Opening) -> None:
        counters = self.stock.get(event.sku, {}).get(event.location)
        if counters is None:
            counters = self._make_position(event.sku, event.location)
        effect = self.facts.open(event)
        counters.on_hand += effect.on_hand
        counters.preordered += event.preordered
        counters.unsellable += effect.unsellable
        counters.settle()

    def _check_uncovered(
        self, event: Moved | Counted, subject: str, counters: Counters, effect: Effect
    ) -> None:
        """A fact that takes something away names the promises that it breaks, no other does."""
        short = -counters.slack if effect.on_hand < effect.unsellable else 0
        if short <= 0 and len(event.result) == moves.RESULT_SIZE:
            return
        broken: list[tuple[str, int]] = []
        claims = self.claims_of(self.field_of(event.sku, event.location))
        for reservation in reversed(claims.blocks):
            if short <= 0 or len(broken) == NAMED_PROMISES:
                break
            promise = self.reservations[reservation]
            units = units_of(promise.read_head(), promise.plan)
            for (sku, location, _), (held, committed, _, _) in zip(
                positions_of(promise.plan), units, strict=True
            ):
                quantity = min(short, held + committed)
                if quantity > 0 and (sku, location) == (event.sku, event.location):
                    is_part = promise.kind == KIND_PART
                    name = basket_id(reservation, promise.route) if is_part else reservation
                    broken.append((reservation_id(promise.route, name), quantity))
                    short -= quantity
        named = [(uncovered.reservation, uncovered.quantity) for uncovered in event.read_uncovered()]
        if named != broken:
            self.blame("I3", event.seq, subject, f"uncovered promises {named} were named, {broken} are")

    # ---------------------------------------------------------------- supply

    def _supply(self, event: events.Supplied) -> None:
        subject = f"inbound of {event.sku} at {event.location}"
        self._claim(event.id, event, MOVEMENT_KIND + event.result, subject)
        counters = self.stock.get(event.sku, {}).get(event.location)
        if counters is None:
            counters = self._make_position(event.sku, event.location)
        counters.inbound = self.expected.supply(event)
        counters.preordered = min(counters.preordered, counters.inbound)
        if event.location not in self.settings.stored[SettingClass.LOCATION]:
            self.blame("I4", event.seq, subject, "the location did not exist")
        told, found = event.read_result(), (event.seq, counters.inbound, counters.available)
        if told != found:
            self.blame(
                "I4",
                event.seq,
                subject,
                f"the answer says seq, inbound, available {told}, the ledger adds up to {found}",
            )

    def _save_document(self, event: events.DocumentSaved) -> None:
        subject = f"document {event.id.hex()}"
        if is_remembered(event.operation):
            self._claim(event.operation, event, MOVEMENT_KIND + event.content, subject)
        fault = self.expected.save(event)
        if fault is not None:
            self.blame("I5", event.seq, subject, fault)

    # ---------------------------------------------------------------- cards

    def field_of(self, sku: str, location: str) -> str:
        """The field of the stock hash whose card has a position."""
        return page_field(sku, page_of(location)) if sku in self.pages else sku

    def claims_of(self, field: str) -> Claims:
        """The claims on a card: to be read, not added to."""
        return self.claims.get(field) or Claims()

    def _make_position(self, sku: str, location: str) -> Counters:
        places = self.stock.setdefault(sku, {})
        if len(places) == MAX_PLACES and sku not in self.pages:
            self._divide(sku)
        if sku in self.pages:
            self.pages[sku].setdefault(page_of(location), []).append(location)
        counters = places[location] = Counters()
        self.stocked[location] = self.stocked.get(location, 0) + 1
        return counters

    def _divide(self, sku: str) -> None:
        """A SKU at too many locations for one card: the claims go to the pages of their open units."""
        pages = self.pages[sku] = {}
        for location in self.stock[sku]:
            pages.setdefault(page_of(location), []).append(location)
        for reservation in self.claims.pop(sku, Claims()).blocks:
            promise = self.reservations[reservation]
            units = units_of(promise.read_head(), promise.plan)
            for (name, location, _), (held, committed, _, _) in zip(
                positions_of(promise.plan), units, strict=True
            ):
                if name == sku and held + committed:
                    self._claims_on(sku, location).add(reservation)

    def _claims_on(self, sku: str, location: str) -> Claims:
        return self.claims.setdefault(self.field_of(sku, location), Claims())

    def _claim(self, operation: bytes, event: Event, content: bytes, subject: str) -> None:
        """An operation id takes effect once within the retention time."""
        promise = self.reservations.get(operation)
        if promise is not None and promise.state is Undecided.ABANDONED:
            # Nothing came of it, so its id was free.
            del self.reservations[operation]
        if operation in self.reservations or self._is_remembered(operation, event.at_ms):
            self.blame("I2", event.seq, subject, f"operation {operation.hex()} took effect before")
        self.operations[operation] = (event.at_ms, crc32(content))
        self._carried_until.pop(operation, None)

    def _is_remembered(self, operation: bytes, at_ms: int) -> bool:
        return operation in self.operations and at_ms < self.remembered_until_ms(operation)

    # ---------------------------------------------------------------- reservations

    def _reserve(self, event: Reserved) -> None:
        try:
            parts = split_record(event.record)
            head, plan = decode_tail(parts.tail), parts.plan
            lines = positions_of(plan)
            ttl_ms, terms = limits.SEEK_MS, terms_of(event.record[0], parts.detail)
            if not isinstance(event, events.PartHeld):
                ttl_ms = decode_detail(parts.detail).ttl_seconds * 1000
        except (ValueError, IndexError, msgspec.DecodeError) as error:
            self.blame("I5", event.seq, event.reservation, f"the record cannot be read: {error}")
            return
        ttl, is_sourced = parts.front[TTL], has_terms(parts.detail)
        if ttl != ttl_ms.to_bytes(4, "little"):
            self.blame("I5", event.seq, event.reservation, f"is held for another time than {ttl_ms} ms")
        if event.route != route_of(lines[0][0]) and not isinstance(event, events.PartHeld) and not is_sourced:
            self.blame("I5", event.seq, event.reservation, "its route is not that of its first SKU")
        if not is_sourced and parts.front[FINGERPRINT] != fingerprint(
            ttl + parts.front[ROUTE] + plan + parts.detail
        ):
            self.blame("I5", event.seq, event.reservation, "its fingerprint is not that of what was asked")
        self._check_first(event)
        if self._is_remembered(event.id, event.at_ms):
            self.blame("I2", event.seq, event.reservation, "its id was that of another operation")
        is_basket = isinstance(event, events.BasketOpened)
        expected = Head(
            Undecided.PENDING if is_basket else State.HELD, 0, 0, 0, event.epoch, event.epoch, event.seq,
            event.seq, event.at_ms, event.at_ms + (limits.PENDING_MS if is_basket else ttl_ms), (),
        )  # fmt: skip
        if head != expected:
            self.blame("I5", event.seq, event.reservation, f"was made as {head}, not {expected}")
        detail = _kept_detail(parts.detail, head, terms)
        self.reservations[event.id] = Promise(
            parts.front, plan, crc32(parts.detail), parts.blocks, parts.tail, terms, detail
        )
        if is_basket:
            # Its parts have the units.
            return
        blocks = []
        for index, (sku, location, quantity) in enumerate(lines):
            place, counters = (sku, location), self._position(event, sku, location)
            waiting = counters.promise(quantity, self.fences.room(terms, place, counters))
            counters.held += quantity
            self._follow(event, terms, index, place, counters, Step(quantity, 0, waiting=waiting))
            blocks.append(self._claims_on(sku, location).add(event.id))
            self._check_promise(event, sku, location, counters, lowered=quantity > waiting)
        if parts.blocks != _pack_blocks(blocks):
            self.blame("I5", event.seq, event.reservation, f"its claims do not say that they are in {blocks}")

    # ---------------------------------------------------------------- what comes from another data set

    def _carry(self, event: Carried) -> None:
        if event.record[:1] in {OPERATION_KIND, MOVEMENT_KIND}:
            at = 2 if event.record[:1] == OPERATION_KIND else 1
            content = event.record[:at] + event.record[at + FINGERPRINT_SIZE :]
            self._claim(event.id, event, content, "operation")
            self._carried_until[event.id] = event.until_ms
            return
        try:
            parts = split_record(event.record)
            head, lines = decode_tail(parts.tail), positions_of(parts.plan)
            fault, terms = find_unfit(head, parts.plan), terms_of(event.record[0], parts.detail)
        except (ValueError, IndexError) as error:
            self.blame("I5", event.seq, event.reservation, f"the record cannot be read: {error}")
            return
        if fault is not None:
            self.blame(fault[0], event.seq, event.reservation, fault[1])
            return
        if event.id in self.reservations or self._is_remembered(event.id, event.at_ms):
            self.blame("I2", event.seq, event.reservation, "its id was that of another operation")
        detail = _kept_detail(parts.detail, head, terms)
        promise = Promise(
            parts.front, parts.plan, crc32(parts.detail), parts.blocks, parts.tail, terms, detail
        )
        if promise.route != event.route:
            self.blame("I5", event.seq, event.reservation, "its route is not that of its record")
        self.reservations[event.id] = promise
        units = units_of(head, parts.plan)
        blocks = []
        for index, ((sku, location, _), (held, committed, _, _)) in enumerate(zip(lines, units, strict=True)):
            block = 0
            if promise.kind != KIND_BASKET and held + committed:
                counters = self._position(event, sku, location)
                counters.held += held
                counters.allocated += committed
                self.fences.carry(terms, index, counters, held)
                block = self._claims_on(sku, location).add(event.id)
                self._check_promise(event, sku, location, counters, lowered=True)
            blocks.append(block)
        if parts.blocks != _pack_blocks(blocks):
            self.blame("I5", event.seq, event.reservation, f"its claims do not say that they are in {blocks}")

    def _check_first(self, event: Reserved) -> None:
        """No reservation is made while one of the same id is there. Of a basket that was abandoned nothing
        came, and of a part that is over nothing is left.
        """
        prior = self.reservations.get(event.id)
        if prior is None or prior.state is Undecided.ABANDONED:
            return
        is_remembered = event.at_ms < prior.deadline_ms and not isinstance(event, events.PartHeld)
        if prior.state in OPEN_STATES or prior.state is Undecided.PENDING or is_remembered:
            self.blame("I2", event.seq, event.reservation, "was made before")

    def _position(self, event: Event, sku: str, location: str) -> Counters:
        places = self.stock.get(sku)
        counters = places.get(location) if places else None
        if counters is None:
            self.blame("I4", event.seq, f"{sku} at {location}", "a promise on a position that does not exist")
            counters = self._make_position(sku, location)
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
        if (event.route, event.plan) != (promise.route, promise.plan):
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
        if event.detail:
            promise.detail_crc = crc32(event.detail)
            promise.detail = _kept_detail(event.detail, after, promise.terms)
            if terms_of(promise.kind, event.detail) != promise.terms:
                self.blame("I5", event.seq, event.reservation, "its terms are not those of its beginning")
        self._remember_step(event, VERBS[type(event)], event.operation, promise, event.tail)
        fault = find_fault(event, promise.plan, before, after)
        if fault is not None:
            self.blame(fault[0], event.seq, event.reservation, f"{type(event).__name__.lower()}: {fault[1]}")
        if after.state not in OPEN_STATES and not isinstance(event, events.Abandoned):
            kept_ms = after.deadline_ms - event.at_ms
            self._seen_retention_ms = min(self._seen_retention_ms or kept_ms, kept_ms)
        self._change_counters(event, promise, before, after)
        promise.tail = event.tail
        if isinstance(event, events.Decided):
            ttl_ms = int.from_bytes(promise.front[TTL], "little")
            if after.deadline_ms != event.at_ms + ttl_ms:
                self.blame("I5", event.seq, event.reservation, f"is held for another time than {ttl_ms} ms")

    def _remember_step(
        self, event: Resolved | Replanned, verb: int, operation: bytes, promise: Promise, tail: bytes
    ) -> None:
        """What a step answered is remembered under its operation id; where the lines may change, with the
        lines and the caller's part as they were then.
        """
        if is_remembered(operation):
            lines = promise.plan + promise.detail if promise.detail else b""
            content = OPERATION_KIND + bytes((verb,)) + event.id + lines + tail
            self._claim(operation, event, content, "operation")

    def _replan(self, event: Replanned) -> None:
        """Other lines: what the counters and claims become is worked out from the units before and after."""
        promise = self.reservations.get(event.id)
        if promise is None:
            self.blame("I5", event.seq, event.reservation, "other lines for a reservation never made")
            return
        try:
            parts = split_record(event.record)
            before, after = promise.read_head(), decode_tail(parts.tail)
            if parts.front != promise.front:
                raise ValueError("it does not begin as the one that was made")
            is_part = promise.kind == KIND_PART
            fault = find_replan_fault(event, (promise.plan, parts.plan), before, after, follows=is_part)
            if not is_part:
                decode_detail(parts.detail)
        except (ValueError, IndexError, msgspec.DecodeError) as error:
            self.blame("I5", event.seq, event.reservation, f"the record cannot be read: {error}")
            return
        if fault is not None:
            self.blame(fault[0], event.seq, event.reservation, f"replanned: {fault[1]}")
        if len(units_of(after, parts.plan)) != len(positions_of(parts.plan)):
            return
        old, new = units_by_place(before, promise.plan), units_by_place(after, parts.plan)
        if not is_part and _count_short(parts.detail) > _count_short(promise.detail):
            self._want_counts(event, old, new)
        if promise.kind == KIND_BASKET:
            # Its parts have the units.
            blocks = bytes(len(parts.blocks))
        else:
            terms = terms_of(promise.kind, parts.detail)
            if replace(terms, bound=()) != replace(promise.terms, bound=()):
                self.blame("I5", event.seq, event.reservation, "its terms are not those of its beginning")
            self._shift_units(event, (promise.terms, terms), old, new)
            blocks = self._shift_claims(event.id, promise, old, new)
        if parts.blocks != blocks:
            self.blame("I5", event.seq, event.reservation, "its claims do not say where they are")
        changed = Promise(
            parts.front,
            parts.plan,
            crc32(parts.detail),
            blocks,
            parts.tail,
            terms_of(promise.kind, parts.detail),
            parts.detail,
        )
        self.reservations[event.id] = changed
        self._remember_step(event, REPLANNED, event.operation, changed, parts.tail)
        if after.state not in OPEN_STATES:
            kept_ms = after.deadline_ms - event.at_ms
            self._seen_retention_ms = min(self._seen_retention_ms or kept_ms, kept_ms)

    def _spread(self, event: Spread) -> None:
        """A reservation becomes a basket with one part; no unit moves, and its claims go to the part."""
        promise = self.reservations.get(event.id)
        if promise is None or promise.kind != KIND_RESERVATION or promise.state not in OPEN_STATES:
            self.blame("I5", event.seq, event.reservation, "was made a basket, but is no open reservation")
            return
        try:
            basket, part = split_record(event.record), split_record(event.part_record)
            head, own = decode_tail(basket.tail), decode_tail(part.tail)
            own_terms = terms_of(KIND_PART, part.detail)
        except (ValueError, IndexError) as error:
            self.blame("I5", event.seq, event.reservation, f"a record cannot be read: {error}")
            return
        before = promise.read_head()
        kept = replace(before, changed_epoch=event.epoch, changed_seq=event.seq)
        size = len(event.part_record) - len(part.tail) + HEAD_SIZE - 4
        front = bytes((KIND_PART,)) + size.to_bytes(3, "little") + event.part + NO_FINGERPRINT
        ids = limits.SEEK_MS.to_bytes(4, "little") + promise.front[ROUTE]
        if (basket.front, basket.plan, basket.blocks, crc32(basket.detail), head) != (
            bytes((KIND_BASKET,)) + promise.front[1:],
            promise.plan,
            bytes(len(promise.blocks)),
            promise.detail_crc,
            replace(kept, revision=(before.revision + 1) % UNKNOWN_REVISION),
        ) or (event.part, part.front, part.plan, part.blocks, own, own_terms) != (
            part_id(event.id, promise.route),
            front + ids,
            promise.plan,
            promise.blocks,
            replace(kept, revision=0),
            Terms(promise.terms.channel),
        ):
            self.blame("I5", event.seq, event.reservation, "the basket is not what the reservation was")
        prior = self.reservations.get(event.part)
        if prior is not None and prior.state in OPEN_STATES:
            self.blame("I2", event.seq, event.reservation, "has a part already")
        for index, ((sku, location), line) in enumerate(units_by_place(before, promise.plan).items()):
            if line[0] + line[1]:
                self.claims_of(self.field_of(sku, location)).rename(event.id, event.part)
            if _floats(promise.terms, index):
                self._position(event, sku, location).floating -= line[0]
        for name, parts in ((event.id, basket), (event.part, part)):
            terms = own_terms if name == event.part else promise.terms
            self.reservations[name] = Promise(
                parts.front, parts.plan, crc32(parts.detail), parts.blocks, parts.tail, terms, parts.detail
            )

    def _want_counts(self, event: Replanned, old: _Units, new: _Units) -> None:
        for (sku, location), line in old.items():
            if new.get((sku, location), _NO_UNITS)[1] < line[1]:
                self.wanted[place_of(location).decode() + sku] = event.at_ms

    def _end_want(self, event: Counted) -> None:
        """A position was counted; what is of now lies a millisecond back."""
        field = place_of(event.location).decode() + event.sku
        if self.wanted.get(field, event.occurred_ms + 2) <= event.occurred_ms + 1:
            del self.wanted[field]

    def _shift_units(self, event: Replanned, terms: tuple[Terms, Terms], old: _Units, new: _Units) -> None:
        """The counters of all positions that were or are in the plan, with the terms of before and after."""
        indexes = ({place: index for index, place in enumerate(units)} for units in (old, new))
        before, after = indexes
        for place in {**old, **new}:
            was, now = old.get(place, _NO_UNITS), new.get(place, _NO_UNITS)
            counters = self._position(event, *place)
            # What floated floats no more, or what was bound does.
            floated = place in before and _floats(terms[0], before[place])
            floats = place in after and _floats(terms[1], after[place])
            if place in before and place in after and floated != floats:
                counters.floating += was[0] if floats else -was[0]
            held, allocated = now[0] - was[0], now[1] - was[1]
            if held or allocated:
                counters.held += held
                counters.allocated += allocated
                known = (terms[1], after[place]) if place in after else (terms[0], before[place])
                self._follow(event, *known, place, counters, Step(held, allocated))
                counters.settle()
                self._check_promise(event, *place, counters, lowered=held + allocated > 0)

    def _shift_claims(self, reservation: bytes, promise: Promise, old: _Units, new: _Units) -> bytes:
        """A card on which units open anew gets the claim, one on which none is left loses it; the blocks."""
        named = {
            place: int.from_bytes(promise.blocks[at * BLOCK_SIZE : (at + 1) * BLOCK_SIZE], "little")
            for at, place in enumerate(old)
        }
        claimed: dict[str, int] = {}
        for place, line in old.items():
            if line[0] + line[1]:
                claimed.setdefault(self.field_of(*place), named[place])
        opened, blocks = set(), []
        for place, line in new.items():
            block = named.get(place, 0)
            if line[0] + line[1]:
                field = self.field_of(*place)
                opened.add(field)
                if field not in claimed:
                    claimed[field] = self._claims_on(*place).add(reservation)
                was = old.get(place, _NO_UNITS)
                block = block if was[0] + was[1] else claimed[field]
            blocks.append(block)
        for field in claimed.keys() - opened:
            self.claims_of(field).end(reservation)
        return _pack_blocks(blocks)

    def _change_counters(self, event: Resolved, promise: Promise, before: Head, after: Head) -> None:
        deltas, plan = [], promise.plan
        old_units, new_units = units_of(before, plan), units_of(after, plan)
        for index, ((sku, location, _), old, new) in enumerate(
            zip(positions_of(plan), old_units, new_units, strict=True)
        ):
            held, allocated, on_hand = new[0] - old[0], new[1] - old[1], old[2] - new[2]
            deltas += [held, allocated, on_hand]
            if promise.kind == KIND_BASKET or not (held or allocated or on_hand):
                continue
            counters = self._position(event, sku, location)
            counters.held += held
            counters.allocated += allocated
            counters.on_hand += on_hand
            if on_hand:
                name, version = moves.position_name(sku, location), (event.epoch, event.seq)
                self.facts.leave(name, event.at_ms, version, event.id, on_hand)
            self._follow(
                event, promise.terms, index, (sku, location), counters, Step(held, allocated, -on_hand)
            )
            counters.settle()
            lowered = held + allocated > on_hand
            self._check_promise(event, sku, location, counters, lowered=lowered)
        if promise.kind != KIND_BASKET:
            self._change_claims(event.id, promise, old_units, new_units)
        if event.is_whole:
            signs = event.whole_signs(after.state)
            claimed = [sign * quantity for _, _, quantity in positions_of(plan) for sign in signs]
        else:
            claimed = [number for delta in event.read_deltas() for number in delta]
        if claimed != deltas:
            self.blame(
                "I4", event.seq, event.reservation, f"says it changes {claimed}, its units change {deltas}"
            )

    def _change_claims(
        self, reservation: bytes, promise: Promise, old_units: Sequence[Line], new_units: Sequence[Line]
    ) -> None:
        """A card on which the last open unit went loses the claim; where units open anew it comes back."""
        opened, closed, blocks = set(), set(), []
        for at, ((sku, location, _), old, new) in enumerate(
            zip(positions_of(promise.plan), old_units, new_units, strict=True)
        ):
            was_open, is_open = old[0] + old[1] > 0, new[0] + new[1] > 0
            block = promise.blocks[at * BLOCK_SIZE : (at + 1) * BLOCK_SIZE]
            if is_open:
                opened.add(self.field_of(sku, location))
                if not was_open:
                    block = _pack_blocks([self._claims_on(sku, location).add(reservation)])
            elif was_open:
                closed.add(self.field_of(sku, location))
            blocks.append(block)
        promise.blocks = b"".join(blocks)
        for field in closed - opened:
            self.claims_of(field).end(reservation)


def _kept_detail(detail: bytes, head: Head, terms: Terms) -> bytes:
    is_kept = head.revision or terms != NO_TERMS or has_terms(detail)
    return detail if is_kept else b""


def _floats(terms: Terms, index: int) -> bool:
    return bool(terms.pools) and index not in terms.bound


def _count_short(detail: bytes) -> int:
    """How many times units were not found."""
    later = decode_detail(detail).later if detail else None
    return len(later.short) if later else 0


def _pack_blocks(blocks: Sequence[int]) -> bytes:
    return b"".join([block.to_bytes(BLOCK_SIZE, "little") for block in blocks])
