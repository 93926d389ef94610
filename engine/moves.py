"""Facts as the scripts, the history and the ledger have them: pure functions, both ways.

A movement's or a count's argument, its result, and the members of the physical history. The layouts stand in
`lua/movement.lua`, `lua/record_count.lua`, `lua/lib/facts.lua` and `lua/lib/batch.lua`.
"""

from collections.abc import Sequence
from re import compile as compile_pattern

import msgspec
from msgspec import Struct

from engine import limits, planner
from engine.cards import place_of
from engine.errors import InvalidRequest
from engine.ids import OPERATION_ID_SIZE, parse_reservation_id, reservation_id
from engine.lane import bulk
from engine.types import Count, Happening, Ignored, Movement, MovementKind, MovementResult, Uncovered

SELLABLE = "sellable"
CONDITION_PATTERN = compile_pattern(r"[A-Za-z0-9._-]{1,64}")
RESULT_SIZE = 29
UNCOVERED_SIZE = 20
COUNT_SIZE = 25
NEWEST_RANK = b"\xff" * OPERATION_ID_SIZE
"""The rank of an absolute set among the counts of its moment."""
TAIL_SIZE = 34
_IGNORED = (None, *Ignored)
_encode = msgspec.msgpack.Encoder().encode


class Detail(Struct, frozen=True, array_like=True):
    """What a caller said of a fact beside its numbers, as its event carries it."""

    kind: str
    reason: str | None = None
    reference: str | None = None
    occurred_ms: int | None = None
    id: str | None = None
    condition: str | None = None
    to_condition: str | None = None
    reservation: str | None = None


decode_detail = msgspec.msgpack.Decoder(Detail).decode


class Member(Struct, frozen=True, gc=False):
    """A member of the physical history. `name` is that of the position, `id` that of the operation or the
    reservation; of a count `units` are 0.
    """

    name: bytes
    occurred_ms: int
    epoch: int
    seq: int
    id: bytes
    units: int

    @property
    def packed(self) -> bytes:
        return b"".join(
            (
                self.name,
                self.occurred_ms.to_bytes(6, "big"),
                self.epoch.to_bytes(2, "big"),
                self.seq.to_bytes(7, "big"),
                self.id,
                self.units.to_bytes(7, "big", signed=True),
            )
        )


def decode_member(packed: bytes) -> Member:
    """A member of the history. Raises `ValueError` where it is none."""
    at = len(packed) - TAIL_SIZE
    if at < 1:
        raise ValueError(f"{len(packed)} bytes are no movement")
    return Member(
        packed[:at],
        int.from_bytes(packed[at : at + 6], "big"),
        int.from_bytes(packed[at + 6 : at + 8], "big"),
        int.from_bytes(packed[at + 8 : at + 15], "big"),
        packed[at + 15 : at + 27],
        int.from_bytes(packed[at + 27 :], "big", signed=True),
    )


def position_name(sku: str, location: str) -> bytes:
    """How histories, counts and conditions name a position."""
    return sku.encode() + place_of(location)


def split_name(name: bytes) -> tuple[str, str]:
    """The SKU and the location of a position's name."""
    sku, _, place = name.partition(b"\n")
    return sku.decode(), place[:-1].decode()


def decode_conditions(packed: bytes) -> dict[str, int]:
    """Units by condition, also those below zero."""
    found, at = {}, 0
    while at < len(packed):
        end = at + 1 + packed[at]
        found[packed[at + 1 : end].decode()] = int.from_bytes(packed[end : end + 7], "little", signed=True)
        at = end + 7
    return found


def encode_conditions(units: dict[str, int]) -> bytes:
    """The stored form of units by condition."""
    return b"".join(
        bytes((len(name),)) + name.encode() + count.to_bytes(7, "little", signed=True)
        for name, count in units.items()
        if count
    )


def check_movement(movement: Movement) -> None:
    """Raises `InvalidRequest` at the first field that breaks a rule."""
    _check_id(movement.id)
    planner.check_sku(movement.sku, "/sku")
    planner.check_location(movement.location, "/location")
    if movement.kind is MovementKind.ADJUST:
        if movement.quantity == 0 or abs(movement.quantity) > limits.MAX_QUANTITY:
            raise InvalidRequest(
                "/quantity", f"an adjustment is from 1 to {limits.MAX_QUANTITY}, either sign"
            )
    else:
        planner.check_quantity(movement.quantity, "/quantity")
    _check_time(movement.occurred_ms, "/occurred_at")
    for condition, field in ((movement.condition, "/condition"), (movement.to_condition, "/to_condition")):
        if condition is not None and not CONDITION_PATTERN.fullmatch(condition):
            raise InvalidRequest(field, "a condition has 1 to 64 of A-Z a-z 0-9 . _ -")
    if movement.kind is MovementKind.CONDITION:
        if _plain(movement.condition) == _plain(movement.to_condition):
            raise InvalidRequest("/to_condition", "name another condition than the one the units are in")
    elif movement.to_condition is not None:
        raise InvalidRequest("/to_condition", "only a movement of the kind condition has it")
    if movement.reservation is not None and parse_reservation_id(movement.reservation) is None:
        raise InvalidRequest("/reservation", "is no id of a reservation")


def check_count(count: Count) -> None:
    """Raises `InvalidRequest` at the first field that breaks a rule."""
    _check_id(count.id)
    planner.check_sku(count.sku, "/sku")
    planner.check_location(count.location, "/location")
    check_counted(count.quantity)
    _check_time(count.counted_ms, "/counted_at")


def check_counted(quantity: int) -> None:
    """Raises `InvalidRequest` unless so many units can be on hand."""
    if not 0 <= quantity <= limits.MAX_ON_HAND:
        raise InvalidRequest("/quantity", f"units on hand are from 0 to {limits.MAX_ON_HAND}")


def _check_id(operation: str) -> None:
    if not 1 <= len(operation) <= limits.MAX_OPERATION_ID_LENGTH:
        raise InvalidRequest("/id", f"an operation id has 1 to {limits.MAX_OPERATION_ID_LENGTH} characters")


def _check_time(moment_ms: int | None, field: str) -> None:
    if moment_ms is not None and moment_ms < 1:
        raise InvalidRequest(field, "a moment after 1970 began")


def _plain(condition: str | None) -> str:
    """A condition as the scripts know it: the sellable one has no name."""
    return "" if condition is None or condition == SELLABLE else condition


def units_of(movement: Movement) -> int:
    """The units that came (above zero) or went."""
    if movement.kind is MovementKind.CONDITION:
        return 0
    return -movement.quantity if movement.kind is MovementKind.SALE else movement.quantity


def encode_movement(movement: Movement) -> bytes:
    """The argument of `movement` behind id and fingerprint."""
    units, condition = units_of(movement), _plain(movement.condition)
    moved, leaves, comes = units, "", condition
    if movement.kind is MovementKind.CONDITION:
        moved, leaves, comes = movement.quantity, condition, _plain(movement.to_condition)
    detail = Detail(
        movement.kind,
        movement.reason,
        movement.reference,
        movement.occurred_ms,
        movement.id,
        movement.condition,
        movement.to_condition,
        movement.reservation,
    )
    return b"".join(
        (
            (movement.occurred_ms or 0).to_bytes(6, "little"),
            units.to_bytes(7, "little", signed=True),
            _pack_position(movement.sku, movement.location),
            (moved if leaves or comes else 0).to_bytes(6, "little", signed=True),
            bytes((len(leaves),)),
            leaves.encode(),
            bytes((len(comes),)),
            comes.encode(),
            _encode(detail),
        )
    )


def encode_count(count: Count) -> bytes:
    """The argument of `record_count` behind id and fingerprint."""
    detail = Detail("count", count.reason, count.reference, count.counted_ms, count.id)
    return _encode_counted(b"", count.counted_ms, count.quantity, count.sku, count.location, detail)


def encode_set(expected: str, quantity: int, sku: str, location: str, detail: Detail) -> bytes:
    """The same for an absolute set."""
    return _encode_counted(expected.encode(), 0, quantity, sku, location, detail)


def _encode_counted(
    expected: bytes, counted_ms: int, quantity: int, sku: str, location: str, detail: Detail
) -> bytes:
    return b"".join(
        (
            len(expected).to_bytes(2, "little"),
            expected,
            counted_ms.to_bytes(6, "little"),
            quantity.to_bytes(7, "little", signed=True),
            _pack_position(sku, location),
            _encode(detail),
        )
    )


def _pack_position(sku: str, location: str) -> bytes:
    place, name = place_of(location), sku.encode()
    return b"".join((bytes((len(place),)), place, len(name).to_bytes(2, "little"), name))


def frame(operation: bytes, mark: bytes, content: bytes) -> bytes:
    """A whole argument, ready for the wire."""
    return bulk(operation + mark + content)


def decode_result(packed: bytes, *, replayed: bool = False) -> MovementResult:
    """The result of a fact as the scripts pack it. Its epoch is that of the effect."""
    seq, epoch = int.from_bytes(packed[:5], "little"), int.from_bytes(packed[5:7], "little")
    return MovementResult(
        int.from_bytes(packed[7:14], "little", signed=True),
        int.from_bytes(packed[14:21], "little", signed=True),
        f"{epoch}.{seq}",
        decode_uncovered(packed),
        replayed,
        int.from_bytes(packed[21:28], "little", signed=True),
        _IGNORED[packed[28]],
    )


def decode_uncovered(packed: bytes) -> list[Uncovered]:
    """The promises that a result names."""
    return [
        Uncovered(
            reservation_id(int.from_bytes(packed[at : at + 2], "little"), packed[at + 2 : at + 14]),
            int.from_bytes(packed[at + 14 : at + 20], "little"),
        )
        for at in range(RESULT_SIZE, len(packed), UNCOVERED_SIZE)
    ]


class Row(Struct, frozen=True, gc=False):
    """A line of a history that another data set had; `happening` is packed."""

    occurred_ms: int
    id: bytes
    units: int
    happening: bytes


def encode_opening(
    sku: str,
    location: str,
    on_hand: int,
    count: bytes,
    conditions: bytes,
    rows: Sequence[Row],
    *,
    preordered: int,
) -> bytes:
    """The argument of `lua/opening.lua`, which is the event."""
    head = (
        on_hand.to_bytes(7, "little", signed=True),
        preordered.to_bytes(6, "little"),
        _pack_position(sku, location),
        bytes((len(count),)),
        count,
        len(conditions).to_bytes(2, "little"),
        conditions,
        len(rows).to_bytes(2, "little"),
    )
    packed = [
        b"".join(
            (
                row.occurred_ms.to_bytes(6, "little"),
                row.id,
                row.units.to_bytes(7, "little", signed=True),
                len(row.happening).to_bytes(2, "little"),
                row.happening,
            )
        )
        for row in rows
    ]
    return b"".join((*head, *packed))


def encode_happening(happening: Happening) -> bytes:
    """A line of a history as an opening carries it."""
    return _encode(happening)


decode_happening = msgspec.msgpack.Decoder(Happening).decode
