"""The binary forms that Python and Lua share: plans, reservation records, movement results.

`lua/lib/record.lua` gives the layout of a record. Numbers are little-endian.
"""

from collections.abc import Mapping, Sequence
from struct import Struct as Layout

import msgspec
from msgspec import Struct

from engine.types import Reservation, ReservationLine, State

STATES = tuple(State)
HEADER_SIZE = 45
PROGRESS_SIZE = 20
KIND_RESERVATION = 1
_FLAGS = Layout("<BBBBHBHH")
_COUNTS = Layout("<HBB")


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


class PlannedPosition(Struct, frozen=True, gc=False):
    """A position of a basket: `slot` is the index of its SKU in the plan."""

    slot: int
    quantity: int
    location: str


class Plan(Struct, frozen=True, gc=False):
    """A basket with its lines summed per position. `packed` is its binary form, size first."""

    skus: tuple[str, ...]
    positions: tuple[PlannedPosition, ...]
    packed: bytes


class Head(Struct, frozen=True, gc=False):
    """The part of a reservation's record that changes. `progress` has held, committed, fulfilled and
    released units of each position; it is empty while all units are in `state`.
    """

    state: State
    held_end: int
    closed_by: int
    revision: int
    created_epoch: int
    changed_epoch: int
    created_seq: int
    changed_seq: int
    created_ms: int
    deadline_ms: int
    fingerprint: bytes
    progress: tuple[tuple[int, int, int, int], ...]


class Record(Struct, frozen=True):
    """A reservation as it is stored."""

    head: Head
    plan: Plan
    detail: Detail


# In one order of members, so that equal content is equal bytes.
_encode_detail = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_detail = msgspec.msgpack.Decoder(Detail).decode


def encode_plan(skus: Sequence[str], positions: Sequence[PlannedPosition]) -> bytes:
    """A plan as Lua reads it, its size in the first two bytes."""
    parts = [bytes((len(skus), len(positions)))]
    for position in positions:
        location = position.location.encode()
        parts += (
            bytes((position.slot,)),
            position.quantity.to_bytes(5, "little"),
            bytes((len(location),)),
            location,
        )
    for sku in skus:
        name = sku.encode()
        parts += (len(name).to_bytes(2, "little"), name)
    packed = b"".join(parts)
    return len(packed).to_bytes(2, "little") + packed


def decode_plan(raw: bytes, at: int = 0) -> tuple[Plan, int]:
    """A plan and where it ends."""
    size, sku_count, position_count = _COUNTS.unpack_from(raw, at)
    end, cursor = at + 2 + size, at + 4
    positions, skus = [], []
    for _ in range(position_count):
        quantity = int.from_bytes(raw[cursor + 1 : cursor + 6], "little")
        length = raw[cursor + 6]
        location = raw[cursor + 7 : cursor + 7 + length].decode()
        positions.append(PlannedPosition(raw[cursor], quantity, location))
        cursor += 7 + length
    for _ in range(sku_count):
        length = int.from_bytes(raw[cursor : cursor + 2], "little")
        skus.append(raw[cursor + 2 : cursor + 2 + length].decode())
        cursor += 2 + length
    return Plan(tuple(skus), tuple(positions), raw[at:end]), end


def encode_detail(detail: Detail) -> bytes:
    return _encode_detail(detail)


def decode_head(raw: bytes) -> tuple[Head, int]:
    """The head of a record and where it ends."""
    _, state, held_end, closed_by, revision, positions, created_epoch, changed_epoch = _FLAGS.unpack_from(raw)
    end = HEADER_SIZE + positions * PROGRESS_SIZE
    progress = tuple(
        (
            int.from_bytes(raw[at : at + 5], "little"),
            int.from_bytes(raw[at + 5 : at + 10], "little"),
            int.from_bytes(raw[at + 10 : at + 15], "little"),
            int.from_bytes(raw[at + 15 : at + 20], "little"),
        )
        for at in range(HEADER_SIZE, end, PROGRESS_SIZE)
    )
    head = Head(
        STATES[state - 1],
        held_end,
        closed_by,
        revision,
        created_epoch,
        changed_epoch,
        int.from_bytes(raw[11:18], "little"),
        int.from_bytes(raw[18:25], "little"),
        int.from_bytes(raw[25:31], "little"),
        int.from_bytes(raw[31:37], "little"),
        raw[37:45],
        progress,
    )
    return head, end


def decode_record(raw: bytes) -> Record:
    """A reservation's record."""
    head, at = decode_head(raw)
    plan, at = decode_plan(raw, at)
    return Record(head, plan, _decode_detail(raw[at:]))


def is_reservation(raw: bytes) -> bool:
    """Whether a remembered operation is a reservation."""
    return raw[:1] == bytes((KIND_RESERVATION,))


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
        head.fingerprint,
        (),
    )


def build_reservation(
    reservation: str, head: Head, plan: Plan, detail: Detail, *, replayed: bool = False
) -> Reservation:
    """A reservation as callers see it."""
    state = head.state
    columns = head.progress or [_in_state(state, position.quantity) for position in plan.positions]
    if detail.lines:
        lines = _share_out(plan, detail.lines, columns)
    else:
        lines = [
            _line(plan.skus[position.slot], position.location, position.quantity, *column)
            for position, column in zip(plan.positions, columns, strict=True)
        ]
    return Reservation(
        reservation,
        state,
        head.created_ms,
        head.deadline_ms if state is State.HELD else None,
        detail.owner,
        reference_at(detail, head.revision),
        detail.channel,
        detail.metadata,
        f"{head.changed_epoch}.{head.changed_seq}",
        lines,
        replayed,
    )


def reference_at(detail: Detail, revision: int) -> str | None:
    """The reference that a reservation had when its record was at a revision."""
    for since, reference in reversed(detail.references):
        if since <= revision:
            return reference
    return detail.reference


def _in_state(state: State, quantity: int) -> tuple[int, int, int, int]:
    if state is State.HELD:
        return quantity, 0, 0, 0
    if state is State.COMMITTED:
        return 0, quantity, 0, 0
    if state is State.FULFILLED:
        return 0, 0, quantity, 0
    return 0, 0, 0, quantity


def _line(
    sku: str, location: str, quantity: int, held: int, committed: int, fulfilled: int, _released: int
) -> ReservationLine:
    # What lapsed was given back as well.
    back = quantity - held - committed - fulfilled
    return ReservationLine(sku, location, quantity, held, committed, fulfilled, back)


def _share_out(
    plan: Plan, lines: Sequence[tuple[int, int]], columns: Sequence[tuple[int, int, int, int]]
) -> list[ReservationLine]:
    """Lines that share a position share its units: the first line is served first."""
    left = [list(column[:3]) for column in columns]
    shared = []
    for index, quantity in lines:
        position, room, taken = plan.positions[index], quantity, []
        for column in (2, 1, 0):
            units = min(room, left[index][column])
            left[index][column] -= units
            room -= units
            taken.append(units)
        fulfilled, committed, held = taken
        shared.append(
            _line(plan.skus[position.slot], position.location, quantity, held, committed, fulfilled, 0)
        )
    return shared
