"""Pure functions that turn what a caller asks for into what scripts understand."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from re import compile as compile_pattern

from msgspec.structs import replace

from engine import limits
from engine.errors import InvalidRequest
from engine.nearby import MAX_RADIUS_KM
from engine.records import (
    Detail,
    Plan,
    Record,
    build_reservation,
    decode_detail,
    decode_plan,
    decode_tail,
    encode_detail,
    encode_plan,
    first_head,
    tail_size,
)
from engine.types import (
    Availability,
    Line,
    LocationAvailability,
    Reservation,
    ReservationLine,
    State,
    Status,
)

LOCATION_PATTERN = compile_pattern(r"[A-Za-z0-9._-]{1,64}")
_NESTING = frozenset((dict, list, tuple))
_PLAN_SIZE = 65_534
"""Bytes of a plan that its size field can tell, less the count."""
_PLAIN_SKU = compile_pattern(r"[A-Za-z0-9._~-]{1,64}")


def check_sku(sku: str, field: str) -> None:
    """Raises `InvalidRequest` unless the text is a SKU: 1–64 printable characters."""
    if _PLAIN_SKU.fullmatch(sku):
        return
    if not 1 <= len(sku) <= limits.MAX_SKU_LENGTH:
        raise InvalidRequest(field, f"a SKU has 1 to {limits.MAX_SKU_LENGTH} characters")
    if not sku.isprintable():
        raise InvalidRequest(field, "a SKU has printable characters only")


def check_location(location: str, field: str) -> None:
    """Raises `InvalidRequest` unless the text is a location id."""
    if not LOCATION_PATTERN.fullmatch(location):
        raise InvalidRequest(field, "a location id has 1 to 64 of A-Z a-z 0-9 . _ -")


def check_quantity(quantity: int, field: str) -> None:
    """Raises `InvalidRequest` unless the number is the quantity of a line."""
    if not 1 <= quantity <= limits.MAX_QUANTITY:
        raise InvalidRequest(field, f"a quantity is from 1 to {limits.MAX_QUANTITY}")


def check_place(lat: float, lon: float, radius_km: float) -> None:
    """Raises `InvalidRequest` unless the numbers are a place on earth and a distance."""
    if not -90 <= lat <= 90:  # noqa: PLR2004 - the poles
        raise InvalidRequest("?lat", "from -90 to 90")
    if not -180 <= lon <= 180:  # noqa: PLR2004 - the date line
        raise InvalidRequest("?lon", "from -180 to 180")
    if not 0 < radius_km <= MAX_RADIUS_KM:
        raise InvalidRequest("?radius_km", f"above 0, at the most {MAX_RADIUS_KM}")


def check_reference(reference: str | None) -> None:
    """Raises `InvalidRequest` for the reference of a document that is too long."""
    if reference is not None and len(reference) > limits.MAX_REFERENCE_LENGTH:
        raise InvalidRequest("/reference", f"at the most {limits.MAX_REFERENCE_LENGTH} characters")


def check_moment(at_ms: int | None, field: str) -> None:
    """Raises `InvalidRequest` for a time that is not from 1970 to 9999."""
    if at_ms is not None and not 0 <= at_ms < limits.END_OF_TIME_MS:
        raise InvalidRequest(field, "a time from 1970 to 9999")


def check_lines(lines: Sequence[Line]) -> None:
    """Raises `InvalidRequest` at the first line that breaks a rule."""
    if not 1 <= len(lines) <= limits.MAX_LINES:
        raise InvalidRequest("/lines", f"a reservation has 1 to {limits.MAX_LINES} lines")
    for index, line in enumerate(lines):
        if not _are_plain(line.sku, line.location):
            check_sku(line.sku, f"/lines/{index}/sku")
            check_location(line.location, f"/lines/{index}/location")
        if not 1 <= line.quantity <= limits.MAX_QUANTITY:
            check_quantity(line.quantity, f"/lines/{index}/quantity")


@lru_cache(maxsize=65_536)
def _are_plain(sku: str, location: str) -> bool:
    return bool(_PLAIN_SKU.fullmatch(sku) and LOCATION_PATTERN.fullmatch(location))


def plan_lines(lines: Sequence[Line]) -> tuple[Plan, tuple[tuple[int, int], ...]]:
    """Sums lines per position. The second value is each line's position and quantity, or empty where
    every line has a position of its own.
    """
    if len(lines) == 1:
        return Plan((lines[0],), encode_plan(lines)), ()
    indexes: dict[tuple[str, str], int] = {}
    quantities: list[int] = []
    shares = []
    for line in lines:
        index = indexes.setdefault((line.sku, line.location), len(indexes))
        if index == len(quantities):
            quantities.append(line.quantity)
        else:
            quantities[index] += line.quantity
        shares.append((index, line.quantity))
    positions = tuple(
        Line(sku, quantity, location) for (sku, location), quantity in zip(indexes, quantities, strict=True)
    )
    if sum(len(place.sku.encode()) + len(place.location) + 10 for place in positions) > _PLAN_SIZE:
        raise InvalidRequest("/lines", "the names of the lines are too long together: make two reservations")
    plan = Plan(positions, encode_plan(positions))
    return plan, () if len(positions) == len(lines) else tuple(shares)


def check_choice(lines: Sequence[Line]) -> None:
    """Raises `InvalidRequest` for what can choose nothing of any reservation."""
    if not 1 <= len(lines) <= limits.MAX_LINES:
        raise InvalidRequest("/lines", f"1 to {limits.MAX_LINES} lines, or none of the member for all")
    for number, line in enumerate(lines):
        check_quantity(line.quantity, f"/lines/{number}/quantity")


def choose_positions(plan: Plan, lines: Sequence[Line]) -> tuple[tuple[int, int], ...]:
    """The positions of a plan that lines name, with their summed quantities.

    Raises `InvalidRequest` for a line that the reservation does not have.
    """
    check_choice(lines)
    known = {(position.sku, position.location): index for index, position in enumerate(plan.positions)}
    chosen: dict[int, int] = {}
    for number, line in enumerate(lines):
        index = known.get((line.sku, line.location))
        if index is None:
            raise InvalidRequest(f"/lines/{number}", "the reservation has no line of this SKU and location")
        chosen[index] = chosen.get(index, 0) + line.quantity
    return tuple(chosen.items())


def encode_choice(chosen: Sequence[tuple[int, int]]) -> bytes:
    """Chosen positions as Lua reads them; none stands for all."""
    return bytes((len(chosen),)) + b"".join(
        bytes((index,)) + quantity.to_bytes(5, "little") for index, quantity in chosen
    )


def _is_deeper(values: Iterable[object], levels: int) -> bool:
    """Whether there are objects and arrays in one another beyond some levels."""
    return any(
        levels == 0 or _is_deeper(value.values() if isinstance(value, dict) else value, levels - 1)
        for value in values
        if isinstance(value, (dict, list, tuple))
    )


def pack_detail(detail: Detail) -> bytes:
    """The detail of a new reservation. Raises `InvalidRequest` where it cannot be kept."""
    # Nearly always it is flat, which is seen at once.
    if not _NESTING.isdisjoint(map(type, detail.metadata.values())) and _is_deeper(
        detail.metadata.values(), limits.MAX_METADATA_DEPTH - 1
    ):
        raise InvalidRequest("/metadata", f"nested at the most {limits.MAX_METADATA_DEPTH} deep")
    try:
        packed = encode_detail(detail)
    except (OverflowError, RecursionError) as error:
        raise InvalidRequest("/metadata", "integers of 64 bits, and not nested so deeply") from error
    if len(packed) > limits.MAX_DETAIL_BYTES:
        raise InvalidRequest(
            "/metadata", f"with owner and reference at the most {limits.MAX_DETAIL_BYTES} bytes"
        )
    return packed


def first_lines(record: Record) -> tuple[Plan, Detail]:
    """Plan and detail of a reservation as it was made."""
    detail = record.detail
    if detail.later is None:
        return record.plan, detail
    plan, shares = record.plan, detail.lines
    if detail.later.first:
        plan, shares = plan_lines([Line(*line) for line in detail.later.first])
    return plan, replace(detail, lines=shares, later=None)


def first_reservation(public_id: str, record: Record, *, replayed: bool) -> Reservation:
    """A reservation as it was when it was made: what a repeated reserve answers."""
    head = first_head(record.head, record.detail)
    return build_reservation(public_id, head, *first_lines(record), replayed=replayed)


def replayed_reservation(public_id: str, answer: bytes, record: Record) -> Reservation:
    """A reservation as a remembered step left it; `record` is what it is by now."""
    head, before = decode_tail(answer), answer[: len(answer) - tail_size(answer)]
    if before:
        plan, end = decode_plan(before)
        detail = decode_detail(before[end:])
    elif head.revision:
        plan, detail = record.plan, record.detail
    else:
        plan, detail = first_lines(record)
    return build_reservation(public_id, head, plan, detail, replayed=True)


def new_reservation(
    public_id: str, lines: Sequence[Line], detail: Detail, epoch: int, seq: int, now_ms: int
) -> Reservation:
    """A reservation as it was just made: every unit is held."""
    return Reservation(
        public_id,
        State.HELD,
        now_ms,
        now_ms + detail.ttl_seconds * 1000,
        detail.owner,
        detail.reference,
        detail.channel,
        detail.metadata,
        f"{epoch}.{seq}",
        [ReservationLine(line.sku, line.location, line.quantity, line.quantity, 0, 0, 0) for line in lines],
    )


def sum_availability(sku: str, version: str, places: Sequence[LocationAvailability]) -> Availability:
    """A SKU's availability over locations: units above zero are summed, the best status is shown."""
    if len(places) == 1:
        return Availability(sku, max(0, places[0].available), places[0].status, version, places)
    total = 0
    best = Status.OUT_OF_STOCK
    for place in places:
        total += max(0, place.available)
        if _RANK[place.status] < _RANK[best]:
            best = place.status
    return Availability(sku, total, best, version, places)


_RANK = {
    Status.IN_STOCK: 0,
    Status.LOW_STOCK: 1,
    Status.PREORDER: 2,
    Status.BACKORDER: 3,
    Status.OUT_OF_STOCK: 4,
}
