"""The binary forms that Python and Lua share: plans and reservation records.

`lua/lib/record.lua` gives the layout of a record. Numbers are little-endian.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from struct import Struct as Layout

import msgspec
from msgspec import Struct

from engine.cards import place_of
from engine.keys import route_of
from engine.types import Line, Reservation, ReservationLine, ShortLine, State


class Undecided(StrEnum):
    """States of a basket over several partitions that no caller sees: its parts are sought, or were not all
    there.
    """

    PENDING = "pending"
    ABANDONED = "abandoned"


STATES: tuple[State | Undecided, ...] = (*State, *Undecided)
_HELD, _COMMITTED, _FULFILLED = State.HELD, State.COMMITTED, State.FULFILLED
HEAD_SIZE = 36
PROGRESS_SIZE = 20
BLOCK_SIZE = 3
PLAN_AT = 30
ID, FINGERPRINT, TTL, ROUTE = slice(4, 16), slice(16, 24), slice(24, 28), slice(28, PLAN_AT)
"""Where a reservation's record has these."""
KIND_RESERVATION, KIND_BASKET, KIND_PART = 1, 10, 11
VERSION_SIZE = 9
"""Of the version of the basket that a part follows: epoch (2), seq (7)."""
_TERMS_MARK = 193
"""No detail begins with it."""
UNKNOWN_REVISION = 65_535
"""Stands for the revision of a record of which one knows nothing; what comes after 65534 is 0."""
WITH_UNITS = frozenset((KIND_RESERVATION, KIND_PART))
"""The kinds that hold units themselves: a basket leaves that to its parts."""
_RESERVATIONS = {bytes((KIND_RESERVATION,)), bytes((KIND_BASKET,))}
_HEAD = Layout("<7s7s6s6sHHHBBBB")
_PROGRESS_COUNT_AT = -4


class Later(Struct, frozen=True, array_like=True):
    """What came to be known of a reservation after it was made."""

    first: Sequence[tuple[str, int, str]] = ()
    """The lines that it was made with, where it has others by now: SKU, quantity, location."""
    ready_ms: int | None = None
    """Since when its goods wait to be collected."""
    short: Sequence[tuple[str, str, int, int]] = ()
    """What was not found when it was picked: SKU, location, quantity, when."""


NOTHING_LATER = Later()


class Detail(Struct, frozen=True, array_like=True):
    """The part of a record's body that only Python reads. Empty `lines`: one line a position."""

    ttl_seconds: int
    owner: str | None
    reference: str | None
    channel: str | None
    metadata: Mapping[str, object]
    lines: Sequence[tuple[int, int]] = ()
    """For each line its position and quantity, where lines share positions."""
    references: Sequence[tuple[int, str]] = ()
    """The references that commits gave in place of the first one, each with the revision it began."""
    later: Later | None = None


class Plan(Struct, frozen=True, gc=False):
    """A basket with its lines summed per position. `packed` is its binary form, size first."""

    positions: tuple[Line, ...]
    packed: bytes

    @property
    def route(self) -> int:
        """The route of the reservation that has this plan: that of its first SKU."""
        return route_of(self.positions[0].sku)


class Head(Struct, frozen=True, gc=False):
    """The part of a reservation's record that changes. `progress` has held, committed, fulfilled and
    released units of each position; it is empty while all units are in `state`.
    """

    state: State | Undecided
    held_end: int
    closed_by: int
    revision: int
    created_epoch: int
    changed_epoch: int
    created_seq: int
    changed_seq: int
    created_ms: int
    deadline_ms: int
    progress: tuple[tuple[int, int, int, int], ...]


class Terms(Struct, frozen=True, gc=False):
    """What scripts know of how a reservation's units were chosen: see `lua/lib/terms.lua`. `bound` has the
    indexes of the positions that the caller named.
    """

    channel: str = ""
    pools: tuple[str, ...] = ()
    bound: tuple[int, ...] = ()


NO_TERMS = Terms()
NO_RULES = bytes((193, 3, 0, 0, 0))
"""Terms that say nothing, of a reservation whose places were chosen by nobody's rules but the engine's."""


class Record(Struct, frozen=True):
    """A reservation as it is stored. A part has the detail `NO_DETAIL`, and `follows`: epoch and sequence of
    what it knows of its basket.
    """

    kind: int
    route: int
    head: Head
    plan: Plan
    detail: Detail
    follows: tuple[int, int] | None = None
    terms: Terms = NO_TERMS
    is_offered: bool = False
    """Of a part: whether it has more than its basket, for what that may get."""


NO_DETAIL = Detail(0, None, None, None, {})
NO_PLAN = Plan((), b"")
NO_POSITIONS = b"\1\0\0"
"""A packed plan without positions."""
OFFERED = b"\1"
"""What a part's record ends with, before its blocks, while it has more than its basket: `lua/offer.lua`."""
# In one order of members, so that equal content is equal bytes.
_encode_detail = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_detail = msgspec.msgpack.Decoder(Detail).decode


def decode_detail(raw: bytes) -> Detail:
    """What only the caller reads of a record, behind its terms. Raises `ValueError`, `DecodeError`."""
    return _decode_detail(raw[decode_terms(raw)[1] :])


class RecordParts(Struct, frozen=True, gc=False):
    """A reservation's record, cut up. `front` is all before the plan; `tail` is progress and head."""

    front: bytes
    plan: bytes
    detail: bytes
    blocks: bytes
    tail: bytes


def encode_plan(positions: Sequence[Line]) -> bytes:
    """A plan as Lua reads it, its size in the first two bytes."""
    if len(positions) == 1:
        only = positions[0]
        return _encode_one(only.sku, only.quantity, only.location)
    return _encode_positions(positions)


@lru_cache(maxsize=65_536)
def _encode_one(sku: str, quantity: int, location: str) -> bytes:
    return _encode_positions((Line(sku, quantity, location),))


def _encode_positions(positions: Sequence[Line]) -> bytes:
    parts = [bytes((len(positions),))]
    for position in positions:
        parts.append(position.quantity.to_bytes(5, "little"))
        parts.append(_encode_names(position.sku, position.location))
    packed = b"".join(parts)
    return len(packed).to_bytes(2, "little") + packed


@lru_cache(maxsize=65_536)
def _encode_names(sku: str, location: str) -> bytes:
    place, name = place_of(location), sku.encode()
    return b"%c%b%b%b" % (len(place), place, len(name).to_bytes(2, "little"), name)


def decode_plan(raw: bytes, at: int = 0) -> tuple[Plan, int]:
    """A plan and where it ends. Raises `ValueError` or `IndexError` where there is none."""
    end, cursor, positions = at + 2 + int.from_bytes(raw[at : at + 2], "little"), at + 3, []
    for _ in range(raw[at + 2]):
        quantity = int.from_bytes(raw[cursor : cursor + 5], "little")
        place_end = cursor + 6 + raw[cursor + 5]
        location = raw[cursor + 7 : place_end - 1].decode()
        cursor = place_end + 2 + int.from_bytes(raw[place_end : place_end + 2], "little")
        positions.append(Line(raw[place_end + 2 : cursor].decode(), quantity, location))
    if cursor != end or end > len(raw):
        raise ValueError("a plan's positions do not fill it")
    return Plan(tuple(positions), raw[at:end]), end


def encode_detail(detail: Detail) -> bytes:
    return _encode_detail(detail)


def encode_terms(terms: Terms) -> bytes:
    """Terms as a record has them: nothing where there are none."""
    if terms == NO_TERMS:
        return b""
    parts = terms.channel.encode(), "\n".join(terms.pools).encode(), bytes(terms.bound)
    body = b"".join(b"%c%b" % (len(part), part) for part in parts)
    return b"%c%c%b" % (_TERMS_MARK, len(body), body)


def has_terms(raw: bytes) -> bool:
    """Whether bytes begin with terms."""
    return raw[:1] == bytes((_TERMS_MARK,))


def decode_terms(raw: bytes) -> tuple[Terms, int]:
    """The terms that bytes begin with, and where they end."""
    if not has_terms(raw):
        return NO_TERMS, 0
    parts, at = [], 2
    for _ in range(3):
        parts.append(raw[at + 1 : at + 1 + raw[at]])
        at += 1 + raw[at]
    if at != 2 + raw[1]:
        raise ValueError("terms do not fill their place")
    channel, pools, bound = parts
    return Terms(channel.decode(), tuple(pools.decode().split("\n")) if pools else (), tuple(bound)), at


def decode_tail(raw: bytes) -> Head:
    """The head, with the progress before it, that a record or an answer ends with. Raises `ValueError` or
    `IndexError` where it is none.
    """
    if len(raw) < HEAD_SIZE:
        raise ValueError("it is too short for the head of a record")
    (
        created_seq,
        changed_seq,
        deadline_ms,
        created_ms,
        created_epoch,
        changed_epoch,
        revision,
        count,
        state,
        held_end,
        closed_by,
    ) = _HEAD.unpack_from(raw, len(raw) - HEAD_SIZE)
    return Head(
        STATES[state - 1],
        held_end,
        closed_by,
        revision,
        created_epoch,
        changed_epoch,
        int.from_bytes(created_seq, "little"),
        int.from_bytes(changed_seq, "little"),
        int.from_bytes(created_ms, "little"),
        int.from_bytes(deadline_ms, "little"),
        _decode_progress(raw, count) if count else (),
    )


def encode_tail(head: Head) -> bytes:
    """Progress and head, as a record ends with them."""
    progress = b"".join([number.to_bytes(5, "little") for line in head.progress for number in line])
    return progress + _HEAD.pack(
        head.created_seq.to_bytes(7, "little"),
        head.changed_seq.to_bytes(7, "little"),
        head.deadline_ms.to_bytes(6, "little"),
        head.created_ms.to_bytes(6, "little"),
        head.created_epoch,
        head.changed_epoch,
        head.revision,
        len(head.progress),
        STATES.index(head.state) + 1,
        head.held_end,
        head.closed_by,
    )


def _decode_progress(raw: bytes, count: int) -> tuple[tuple[int, int, int, int], ...]:
    end = len(raw) - HEAD_SIZE
    return tuple(
        (
            int.from_bytes(raw[at : at + 5], "little"),
            int.from_bytes(raw[at + 5 : at + 10], "little"),
            int.from_bytes(raw[at + 10 : at + 15], "little"),
            int.from_bytes(raw[at + 15 : at + 20], "little"),
        )
        for at in range(end - count * PROGRESS_SIZE, end, PROGRESS_SIZE)
    )


def tail_size(raw: bytes) -> int:
    """The bytes of the tail that a record ends with."""
    return HEAD_SIZE + PROGRESS_SIZE * raw[_PROGRESS_COUNT_AT]


def split_record(raw: bytes) -> RecordParts:
    """The parts of a reservation's record. Raises `ValueError` or `IndexError` where it is none."""
    if len(raw) < PLAN_AT + 3 + HEAD_SIZE:
        raise ValueError("it is too short for a record")
    plan_end = PLAN_AT + 2 + int.from_bytes(raw[PLAN_AT : PLAN_AT + 2], "little")
    tail_at = len(raw) - tail_size(raw)
    blocks_at = tail_at - BLOCK_SIZE * raw[PLAN_AT + 2]
    if plan_end > blocks_at:
        raise ValueError("a record's plan does not fit it")
    return RecordParts(
        raw[:PLAN_AT], raw[PLAN_AT:plan_end], raw[plan_end:blocks_at], raw[blocks_at:tail_at], raw[tail_at:]
    )


def decode_record(raw: bytes) -> Record:
    """The record of a reservation, a basket or a part."""
    plan, plan_end = decode_plan(raw, PLAN_AT)
    blocks_at = len(raw) - tail_size(raw) - BLOCK_SIZE * len(plan.positions)
    route = int.from_bytes(raw[ROUTE], "little")
    head, rest = decode_tail(raw), raw[plan_end:blocks_at]
    if raw[0] == KIND_PART:
        terms, end = decode_terms(rest[VERSION_SIZE:])
        is_offered = rest[VERSION_SIZE + end :] == OFFERED
        return Record(raw[0], route, head, plan, NO_DETAIL, decode_version(rest), terms, is_offered)
    return Record(raw[0], route, head, plan, decode_detail(rest), None, decode_terms(rest)[0])


def is_reservation(raw: bytes) -> bool:
    """Whether a remembered operation is a reservation, in one partition or over several."""
    return raw[:1] in _RESERVATIONS


def encode_version(version: tuple[int, int]) -> bytes:
    """Epoch and sequence of a basket's step."""
    return version[0].to_bytes(2, "little") + version[1].to_bytes(7, "little")


def decode_version(raw: bytes) -> tuple[int, int]:
    return int.from_bytes(raw[:2], "little"), int.from_bytes(raw[2:VERSION_SIZE], "little")


def first_head(head: Head, detail: Detail) -> Head:
    """The head that a reservation had when it was made: what a replayed reserve answers."""
    return Head(
        State.HELD,
        0,
        0,
        0,
        head.created_epoch,
        head.created_epoch,
        head.created_seq,
        head.created_seq,
        head.created_ms,
        head.created_ms + detail.ttl_seconds * 1000,
        (),
    )


def build_reservation(
    reservation: str, head: Head, plan: Plan, detail: Detail, *, replayed: bool = False
) -> Reservation:
    """A reservation as callers see it."""
    state = head.state
    assert isinstance(state, State), "no caller is shown what is not decided"
    if detail.lines:
        columns = head.progress or [_in_state(state, position.quantity) for position in plan.positions]
        lines = _share_out(plan, detail.lines, columns)
    elif head.progress:
        lines = [
            _line(position, position.quantity, *column[:3])
            for position, column in zip(plan.positions, head.progress, strict=True)
        ]
    else:
        lines = [
            ReservationLine(
                position.sku, position.location, position.quantity, *_in_state(state, position.quantity)
            )
            for position in plan.positions
        ]
    return Reservation(
        reservation,
        state,
        head.created_ms,
        head.deadline_ms if state is _HELD else None,
        detail.owner,
        reference_at(detail, head.revision),
        detail.channel,
        detail.metadata,
        f"{head.changed_epoch}.{head.changed_seq}",
        lines,
        replayed,
        *_marks_of(detail),
    )


def _marks_of(detail: Detail) -> tuple[int | None, Sequence[ShortLine]]:
    """Since when it is ready, and what was not found."""
    if detail.later is None:
        return None, ()
    return detail.later.ready_ms, [ShortLine(*one) for one in detail.later.short]


def reference_at(detail: Detail, revision: int) -> str | None:
    """The reference that a reservation had when its record was at a revision."""
    for since, reference in reversed(detail.references):
        if since <= revision:
            return reference
    return detail.reference


def _in_state(state: State, quantity: int) -> tuple[int, int, int, int]:
    if state is _COMMITTED:
        return 0, quantity, 0, 0
    if state is _HELD:
        return quantity, 0, 0, 0
    if state is _FULFILLED:
        return 0, 0, quantity, 0
    return 0, 0, 0, quantity


def _line(position: Line, quantity: int, held: int, committed: int, fulfilled: int) -> ReservationLine:
    # What lapsed was given back as well.
    back = quantity - held - committed - fulfilled
    return ReservationLine(position.sku, position.location, quantity, held, committed, fulfilled, back)


def _share_out(
    plan: Plan, lines: Sequence[tuple[int, int]], columns: Sequence[tuple[int, int, int, int]]
) -> list[ReservationLine]:
    """Lines that share a position share its units: the first line is served first."""
    left = [list(column[:3]) for column in columns]
    shared = []
    for index, quantity in lines:
        room, taken = quantity, []
        for column in (2, 1, 0):
            units = min(room, left[index][column])
            left[index][column] -= units
            room -= units
            taken.append(units)
        fulfilled, committed, held = taken
        shared.append(_line(plan.positions[index], quantity, held, committed, fulfilled))
    return shared
