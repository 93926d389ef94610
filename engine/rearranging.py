"""Pure functions: what a reservation becomes when its units go elsewhere, or its lines are others."""

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from engine import limits, planner
from engine.errors import (
    AlreadyCommitted,
    AlreadyFulfilled,
    ExceedsOpenQuantity,
    InvalidRequest,
    NotCommitted,
)
from engine.lifecycle import Line as Units
from engine.lifecycle import units_of
from engine.records import (
    NOTHING_LATER,
    Detail,
    Later,
    Plan,
    Record,
    Terms,
    encode_detail,
    encode_plan,
    encode_terms,
)
from engine.types import Excess, Line, Move, State

Place = tuple[str, str]
"""SKU and location."""


class Change(Struct, frozen=True):
    """What a reservation shall be. `shares` says of each line of the request on which position it lies, for
    who is told that it does not fit.
    """

    plan: Plan
    units: Sequence[Units]
    detail: Detail
    terms: Terms
    shares: Sequence[tuple[int, int]] = ()

    @property
    def rest(self) -> bytes:
        """The caller's part of the record, terms first."""
        return encode_terms(self.terms) + encode_detail(self.detail)


Arrange = Callable[[Record, int], Change | None]
"""Works a change out of a record and the engine's time; None where there is nothing to change. Raises what
the request is refused with.
"""


class _Units:
    """The units of one position on their way; `quantity` has those that have lapsed, too."""

    def __init__(self, quantity: int, units: Units) -> None:
        self.quantity = quantity
        self.held, self.committed, self.fulfilled, self.released = units

    def add(self, held: int, committed: int) -> None:
        self.quantity += held + committed
        self.held += held
        self.committed += committed

    @property
    def packed(self) -> Units:
        return self.held, self.committed, self.fulfilled, self.released


def check_moves(moves: Sequence[Move]) -> None:
    """Raises `InvalidRequest` at the first that breaks a rule."""
    if not 1 <= len(moves) <= limits.MAX_LINES:
        raise InvalidRequest("/lines", f"1 to {limits.MAX_LINES} lines")
    for index, move in enumerate(moves):
        planner.check_sku(move.sku, f"/lines/{index}/sku")
        planner.check_location(move.source, f"/lines/{index}/from")
        planner.check_location(move.target, f"/lines/{index}/to")
        planner.check_quantity(move.quantity, f"/lines/{index}/quantity")
        if move.source == move.target:
            raise InvalidRequest(f"/lines/{index}/to", "another location than `from`")


def moved(record: Record, moves: Sequence[Move]) -> Change:
    """Units at other locations. Committed units go before held ones; all go from where they were before."""
    lines, asked = _read_lines(record), [(move.sku, move.source, move.quantity) for move in moves]
    _check_open(asked, lines, "held", "committed")
    before = {place: (line.held, line.committed) for place, line in lines.items()}
    added: dict[Place, _Units] = {}
    follow: dict[Place, list[Place]] = {}
    for move in moves:
        source, target = lines[move.sku, move.source], (move.sku, move.target)
        committed = min(move.quantity, source.committed)
        held = move.quantity - committed
        source.add(-held, -committed)
        added.setdefault(target, _Units(0, (0, 0, 0, 0))).add(held, committed)
        follow.setdefault((move.sku, move.source), []).append(target)
    for place, units in added.items():
        if place in lines:
            lines[place].add(units.held, units.committed)
    for index, move in enumerate(moves):
        target = (move.sku, move.target)
        if (
            target in lines
            and lines[target].held > before[target][0]
            and lines[target].committed < before[target][1]
        ):
            remedy = "a location that no committed units leave while held ones come: move those first"
            raise InvalidRequest(f"/lines/{index}/to", remedy)
    arranged: dict[Place, _Units] = {}
    for place, line in lines.items():
        if line.quantity:
            arranged[place] = line
        # New lines stand behind, or in the place of, the first one that they come from.
        for target in follow.get(place, ()):
            if target not in lines:
                arranged.setdefault(target, added[target])
    if len(arranged) > limits.MAX_LINES:
        raise InvalidRequest("/lines", f"a reservation has at the most {limits.MAX_LINES} lines")
    indexes = {place: index for index, place in enumerate(arranged)}
    return _change(
        record,
        arranged,
        named=added.keys(),
        shares=tuple((indexes[move.sku, move.target], move.quantity) for move in moves),
    )


def replaced(record: Record, lines: Sequence[Line]) -> Change:
    """Other lines for a hold of which nothing was committed."""
    units = units_of(record.head, record.plan.packed)
    if any(row[1] for row in units):
        raise AlreadyCommitted("units of the reservation are committed")
    if any(row[2] for row in units):
        raise AlreadyFulfilled("units of the reservation have left")
    plan, shares = planner.plan_lines(lines)
    arranged = {
        (line.sku, line.location): _Units(line.quantity, (line.quantity, 0, 0, 0)) for line in plan.positions
    }
    return _change(record, arranged, named=arranged.keys(), shares=shares, are_kept=True)


def made_ready(record: Record, now_ms: int) -> Change | None:
    """The goods of a committed reservation wait to be collected."""
    if record.head.state is not State.COMMITTED:
        raise NotCommitted("units of the reservation are still held")
    later = record.detail.later or NOTHING_LATER
    if later.ready_ms is not None:
        return None
    return _with_later(record, replace(later, ready_ms=now_ms))


def found_short(record: Record, lines: Sequence[Line], now_ms: int) -> Change:
    """Committed units that are not there are given back, and that is written down."""
    arranged = _read_lines(record)
    _check_open([(line.sku, line.location, line.quantity) for line in lines], arranged, "committed")
    for line in lines:
        units = arranged[line.sku, line.location]
        units.committed -= line.quantity
        units.released += line.quantity
    later = record.detail.later or NOTHING_LATER
    told = [(line.sku, line.location, line.quantity, now_ms) for line in lines]
    changed = _with_later(record, replace(later, short=[*later.short, *told]))
    return replace(changed, units=[line.packed for line in arranged.values()])


def _with_later(record: Record, later: Later) -> Change:
    units = units_of(record.head, record.plan.packed)
    return Change(record.plan, units, replace(record.detail, later=later), record.terms)


def _read_lines(record: Record) -> dict[Place, _Units]:
    units = units_of(record.head, record.plan.packed)
    return {
        (line.sku, line.location): _Units(line.quantity, row)
        for line, row in zip(record.plan.positions, units, strict=True)
    }


def _check_open(asked: Sequence[tuple[str, str, int]], lines: Mapping[Place, _Units], *states: str) -> None:
    """Raises `InvalidRequest` for a line that the reservation does not have, `ExceedsOpenQuantity` naming all
    of which it has too little.
    """
    sums: dict[Place, int] = {}
    for number, (sku, location, quantity) in enumerate(asked):
        if (sku, location) not in lines:
            raise InvalidRequest(f"/lines/{number}", "the reservation has no line of this SKU and location")
        sums[sku, location] = sums.get((sku, location), 0) + quantity
    excess = []
    for place, quantity in sums.items():
        units = sum(getattr(lines[place], state) for state in states)
        if quantity > units:
            excess.append(Excess(*place, quantity, units))
    if excess:
        detail = "more units are asked for than are open in this state"
        raise ExceedsOpenQuantity(detail, excess)


def _change(
    record: Record,
    arranged: Mapping[Place, _Units],
    *,
    named: Collection[Place],
    shares: Sequence[tuple[int, int]],
    are_kept: bool = False,
) -> Change:
    """A change to other lines. `named` are the places that the caller chose: units there stay where they are.
    With `are_kept` the shares are those of the reservation's own lines.
    """
    places = tuple(Line(sku, units.quantity, location) for (sku, location), units in arranged.items())
    detail = record.detail
    later = detail.later or NOTHING_LATER
    if not later.first:
        later = replace(later, first=_lines_of(record))
    return Change(
        Plan(places, encode_plan(places)),
        [units.packed for units in arranged.values()],
        replace(detail, lines=shares if are_kept else (), later=later),
        _bind(record, list(arranged), named),
        shares,
    )


def _lines_of(record: Record) -> list[tuple[str, int, str]]:
    """The lines of a reservation as its caller named them."""
    positions, shares = record.plan.positions, record.detail.lines
    if not shares:
        return [(line.sku, line.quantity, line.location) for line in positions]
    return [(positions[index].sku, quantity, positions[index].location) for index, quantity in shares]


def _bind(record: Record, places: Sequence[Place], named: Collection[Place]) -> Terms:
    """The terms for other lines: bound is what was bound, and what the caller names now."""
    terms, positions = record.terms, record.plan.positions
    if not terms.pools:
        return terms
    bound = {(positions[index].sku, positions[index].location) for index in terms.bound}
    return replace(
        terms,
        bound=tuple(index for index, place in enumerate(places) if place in bound or place in named),
    )
