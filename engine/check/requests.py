"""What requests and answers of a history mean, in the words of the books."""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from engine import moves
from engine.check.books import Books
from engine.check.effects import SECOND, SEQ_BITS
from engine.check.lives import RESOLVING, Request, View
from engine.check.reading import Arguments, ToldLine, ToldReservation
from engine.check.stock import FLOATING, NOTHING, Life, Position
from engine.types import Line, Movement, MovementKind

MARGIN_NS = 20_000_000
"""How much sooner than its time to live we let a hold lapse: clocks do not run alike. And a thousandth."""


class Doubt:
    """What a reserve or a fact of unknown outcome may have done; kept open in the books until `close`."""

    def __init__(self, books: Books, arguments: Arguments) -> None:
        self._lines: list[tuple[Position, int]] = []
        self._moved: tuple[Position, int] | None = None
        self._counted: tuple[Position, int] | None = None
        counted = counted_of(arguments)
        if counted is not None:
            sku, location, quantity = counted
            self._counted = books.position(sku, location), quantity
        movement = arguments.movement
        if movement is not None:
            self._moved = books.position(movement.sku, movement.location), quantity_of(movement)
        for sku, location, quantity in sum_lines(arguments.lines or ()):
            self._lines.append((books.position(sku, location), quantity))
        for sku, location, quantity in pool_lines((one.sku, one.quantity) for one in arguments.wanted or ()):
            self._lines.append((books.position(sku, location), quantity))
        self._apply(1)

    def close(self) -> None:
        self._apply(-1)

    def _apply(self, sign: int) -> None:
        for position, quantity in self._lines:
            units = sign * quantity
            position.change(NOTHING, (0, units, 0, units, 0, units, 0, units))
        if self._moved is not None:
            position, quantity = self._moved
            if quantity > 0:
                position.moved_most += sign * quantity
            else:
                position.moved_least += sign * quantity
        if self._counted is not None:
            position, quantity = self._counted
            if sign > 0:
                position.counts = (*position.counts, quantity)
            else:
                at = position.counts.index(quantity)
                position.counts = position.counts[:at] + position.counts[at + 1 :]


def counted_of(arguments: Arguments) -> tuple[str, str, int] | None:
    """Position and units of a count or of an absolute set."""
    count = arguments.count
    if count is not None:
        return count.sku, count.location, count.quantity
    if arguments.sku and arguments.location:
        return arguments.sku, arguments.location, arguments.quantity
    return None


def quantity_of(movement: Movement) -> int:
    return moves.units_of(movement)


def is_plain(movement: Movement) -> bool:
    """Whether a movement does to availability what it does to on_hand: it speaks of no condition."""
    return movement.kind is not MovementKind.CONDITION and movement.condition is None


def number_of(version: str) -> int:
    epoch, _, seq = version.partition(".")
    return int(epoch) << SEQ_BITS | int(seq)


def deadline_of(begun: int, ttl_seconds: int) -> int:
    return begun + ttl_seconds * (SECOND - SECOND // 1000) - MARGIN_NS


def sum_lines(lines: Sequence[Line]) -> list[tuple[str, str, int]]:
    """Position and quantity, lines of one position summed."""
    if len(lines) == 1:
        line = lines[0]
        return [(line.sku, line.location, line.quantity)]
    sums: dict[tuple[str, str], int] = {}
    for line in lines:
        place = (line.sku, line.location)
        sums[place] = sums.get(place, 0) + line.quantity
    return [(*place, quantity) for place, quantity in sums.items()]


def sum_told(told: ToldReservation) -> list[tuple[str, str, int]]:
    return sum_lines([Line(line.sku, line.quantity, line.location) for line in told.lines])


def pool_lines(units: Iterable[tuple[str, int]]) -> list[tuple[str, str, int]]:
    """Units by SKU, at the place of what floats; in the order of SKUs."""
    sums: dict[str, int] = {}
    for sku, quantity in units:
        sums[sku] = sums.get(sku, 0) + quantity
    return [(sku, FLOATING, quantity) for sku, quantity in sorted(sums.items())]


def pool_told(told: ToldReservation) -> ToldReservation:
    """A reservation whose lines may move, by SKU: wherever its units lie, these sums stay."""
    sums: dict[str, list[int]] = {}
    for line in told.lines:
        units = sums.setdefault(line.sku, [0, 0, 0, 0, 0])
        for column, quantity in enumerate(
            (line.quantity, line.held, line.committed, line.fulfilled, line.released)
        ):
            units[column] += quantity
    return replace(told, lines=tuple(ToldLine(sku, FLOATING, *units) for sku, units in sorted(sums.items())))


def pool_asked(arguments: Arguments) -> Arguments:
    """A verb on a reservation whose lines may move, by SKU."""
    if arguments.lines is None:
        return arguments
    return replace(arguments, lines=[Line(line.sku, line.quantity, FLOATING) for line in arguments.lines])


def places_of(life: Life) -> list[tuple[str, str]]:
    return [(position.sku, position.location) for position in life.positions]


def view_told(told: ToldReservation) -> tuple[str, View]:
    """State and units by position."""
    if len(told.lines) == 1:
        line = told.lines[0]
        return told.state, ((line.held, line.committed, line.fulfilled, line.released),)
    sums: dict[tuple[str, str], list[int]] = {}
    for line in told.lines:
        units = sums.setdefault((line.sku, line.location), [0, 0, 0, 0])
        for column, quantity in enumerate((line.held, line.committed, line.fulfilled, line.released)):
            units[column] += quantity
    return told.state, tuple((units[0], units[1], units[2], units[3]) for units in sums.values())


_WHOLE = {verb: Request(verb) for verb in RESOLVING}


def request_of(name: str, arguments: Arguments, places: Sequence[tuple[str, str]]) -> Request | None:
    """A verb as the rules take it; None where it names a line that the reservation does not have."""
    chosen = None
    if arguments.lines is not None:
        sums: dict[int, int] = {}
        for line in arguments.lines:
            place = (line.sku, line.location)
            if place not in places:
                return None
            index = places.index(place)
            sums[index] = sums.get(index, 0) + line.quantity
        chosen = tuple(sums.items())
    elif name != "commit":
        return _WHOLE[name]
    return Request(
        name,
        chosen,
        keep=arguments.remainder == "keep",
        fulfil=arguments.fulfil,
        retake=arguments.if_expired == "retake",
    )


def content_of(name: str, arguments: Arguments) -> int:
    """Tells requests apart that an engine must not take for one another; coarser than what it compares."""
    return hash(
        (
            name,
            arguments.lines and tuple(sum_lines(arguments.lines)),
            arguments.ttl_seconds,
            arguments.reservation,
            arguments.remainder,
            arguments.fulfil,
            arguments.if_expired,
            arguments.reference,
            arguments.owner,
            arguments.channel,
            arguments.movement,
            arguments.count,
            (arguments.quantity, arguments.sku, arguments.location),
            arguments.moves and tuple(arguments.moves),
            arguments.wanted and tuple(arguments.wanted),
            arguments.rules_text,
        )
    )


def answer_of(told: ToldReservation) -> int:
    return hash(
        (
            told.id,
            told.state,
            told.created_ms,
            told.expires_ms,
            told.owner,
            told.reference,
            told.channel,
            told.version,
            told.lines,
        )
    )


def location_of(raw: msgspec.Raw) -> str:
    """The location that an operation on locations names, or answers with."""
    told: object = msgspec.json.decode(raw)
    while isinstance(told, dict):
        told = told.get("location", told.get("id"))
    return str(told)
