"""What a request for sourcing is made of, what scripts tell of it, and the choice over several partitions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from engine import limits
from engine.cards import place_of
from engine.commands import Reply
from engine.errors import (
    REFUSAL_ERRORS,
    ChannelNotFound,
    IdempotencyMismatch,
    InsufficientStock,
    InvalidRequest,
    PoolNotFound,
    Refused,
)
from engine.keys import partition_of
from engine.outcomes import Outcome
from engine.planner import check_location, check_quantity, check_sku
from engine.settings import Settings
from engine.types import Line, Shortage

MOST_MEMBERS = 255
MICRODEGREES = 1_000_000
UNKNOWN_METRES = 2**40 - 1


class Strategy(StrEnum):
    """Which locations are preferred. The order is that of the numbers in `lua/lib/sourcing.lua`."""

    PRIORITY = "priority"
    NEAREST = "nearest"
    MOST_STOCK = "most_stock"
    FEWEST_SPLITS = "fewest_splits"
    SINGLE_LOCATION = "single_location"


class Reason(StrEnum):
    """Why a location was or was not chosen. The order is that of the numbers in `lua/lib/sourcing.lua`."""

    CHOSEN = "chosen"
    NOT_NEEDED = "not_needed"
    OUT_OF_STOCK = "out_of_stock"
    TOO_LITTLE = "too_little"
    INACTIVE = "inactive"
    INCAPABLE = "incapable"


STRATEGIES, REASONS = tuple(Strategy), tuple(Reason)


class Wanted(Struct, frozen=True, gc=False):
    """Units of a SKU, at a location or, where that is None, wherever the pools have them."""

    sku: str
    quantity: int
    location: str | None = None


class Rules(Struct, frozen=True):
    """By what places are chosen."""

    channel: str | None = None
    pool: str | None = None
    strategy: Strategy = Strategy.PRIORITY
    near: tuple[float, float] | None = None
    """Latitude and longitude."""
    allow_partial: bool = False
    allow_split: bool = True
    capability: str | None = None
    everywhere: bool = False
    """Whether all locations will do where neither pool nor channel is named: for who only asks."""
    from_inbound: bool = False
    """Whether units that are missing may be promised of what is inbound."""


class Candidate(Struct, frozen=True):
    """A location as a plan sees it. `room` is how many it could give, `taken` how many it would."""

    location: str
    reason: Reason
    room: int
    taken: int
    free: int
    backorder_limit: int
    low_stock: int
    expected: int
    distance_km: float | None


class PlannedLine(Struct, frozen=True):
    """What a plan does for a line."""

    sku: str
    quantity: int
    candidates: Sequence[Candidate]

    @property
    def taken(self) -> int:
        return sum(candidate.taken for candidate in self.candidates)


class SourcingPlan(Struct, frozen=True):
    """What a reserve would do at this moment."""

    can_reserve: bool
    version: str
    lines: Sequence[PlannedLine]


class Group(Struct, frozen=True):
    """So many sets of members, each set from one location: a line, or a kit."""

    sets: int
    location: str | None
    members: Sequence[tuple[str, int]]
    """SKU and how many of it a set takes."""


class Choice(Struct):
    """What of which location a plan takes for each group, and how many sets are left without one."""

    taken: list[dict[str, int]]
    left: list[int]

    def is_enough(self, rules: Rules) -> bool:
        """Whether a reserve would hold it."""
        return not any(self.left) or (rules.allow_partial and any(self.taken))

    def lines(self, groups: Sequence[Group]) -> list[Line]:
        """The choice as lines with places."""
        return [
            Line(sku, sets * units, location)
            for group, taken in zip(groups, self.taken, strict=True)
            for location, sets in taken.items()
            for sku, units in group.members
        ]


# -------------------------------------------------------------------- what is asked


def check_wanted(lines: Sequence[Wanted]) -> None:
    """Raises `InvalidRequest` at the first line that breaks a rule."""
    if not 1 <= len(lines) <= limits.MAX_LINES:
        raise InvalidRequest("/lines", f"a reservation has 1 to {limits.MAX_LINES} lines")
    for index, line in enumerate(lines):
        check_sku(line.sku, f"/lines/{index}/sku")
        check_quantity(line.quantity, f"/lines/{index}/quantity")
        if line.location is not None:
            check_location(line.location, f"/lines/{index}/location")


def check_rules(lines: Sequence[Wanted], rules: Rules) -> None:
    """Raises `InvalidRequest` where the rules do not say where to look."""
    for name in ("channel", "pool"):
        value = getattr(rules, name)
        if value is not None:
            check_location(value, f"/{name}")
    if rules.channel is None and rules.pool is None and not rules.everywhere:
        for index, line in enumerate(lines):
            if line.location is None:
                raise InvalidRequest(
                    f"/lines/{index}/location", "name a location, or a pool or channel for all"
                )
    if rules.strategy is Strategy.NEAREST and rules.near is None:
        raise InvalidRequest("/near", "nearest to where? name lat and lon")


def group_of(line: Wanted, settings: Settings) -> Group:
    """A line as a group: a kit by its components, all the way down. Raises `InvalidRequest`."""
    members = units_of_line(line.sku, 1, settings, "/lines")
    if (
        len(members) > MOST_MEMBERS
        or max(units for _, units in members) * line.quantity > limits.MAX_QUANTITY
    ):
        raise _too_many(line.sku, "/lines")
    return Group(line.quantity, line.location, members)


def units_of_line(sku: str, quantity: int, settings: Settings, field: str) -> tuple[tuple[str, int], ...]:
    """What so many of a SKU are: units of itself, or of a kit's components. Raises `InvalidRequest`."""
    if sku not in settings.kits:
        return ((sku, quantity),)
    units: dict[str, int] = {}
    rest = [(sku, quantity)]
    while rest:
        one, count = rest.pop()
        if one in settings.kits:
            rest += [(part.sku, part.quantity * count) for part in settings.items[one].components]
        else:
            units[one] = units.get(one, 0) + count
    if max(units.values()) > limits.MAX_QUANTITY:
        raise _too_many(sku, field)
    return tuple(sorted(units.items()))


def _too_many(sku: str, field: str) -> InvalidRequest:
    return InvalidRequest(field, f"so many of kit {sku} have more units than a line may have")


def split_groups(groups: Sequence[Group], partitions: int) -> dict[int, list[tuple[int, Group]]]:
    """The groups of each partition with their index; a kit is in each that has components of it."""
    found: dict[int, list[tuple[int, Group]]] = {}
    for index, group in enumerate(groups):
        members: dict[int, list[tuple[str, int]]] = {}
        for sku, units in group.members:
            members.setdefault(partition_of(sku, partitions), []).append((sku, units))
        for partition, own in members.items():
            found.setdefault(partition, []).append((index, Group(group.sets, group.location, tuple(own))))
    return found


def encode_request(groups: Sequence[Group], rules: Rules) -> bytes:
    """Rules and groups as `lua/lib/sourcing.lua` reads them."""
    lat, lon = rules.near or (0.0, 0.0)
    parts = [
        bytes(
            (
                rules.allow_split + 2 * rules.allow_partial + 4 * rules.everywhere + 8 * rules.from_inbound,
                STRATEGIES.index(rules.strategy) + 1,
            )
        ),
        bytes((rules.near is not None,)),
        round(lat * MICRODEGREES).to_bytes(4, "little", signed=True),
        round(lon * MICRODEGREES).to_bytes(4, "little", signed=True),
        *(_short_text(text) for text in (rules.channel, rules.pool, rules.capability)),
        bytes((len(groups),)),
    ]
    for group in groups:
        place = b"" if group.location is None else place_of(group.location)
        parts += [group.sets.to_bytes(5, "little"), bytes((len(place),)), place, bytes((len(group.members),))]
        for sku, units in group.members:
            name = sku.encode()
            parts += [units.to_bytes(5, "little"), len(name).to_bytes(2, "little"), name]
    return b"".join(parts)


def _short_text(text: str | None) -> bytes:
    packed = (text or "").encode()
    return bytes((len(packed),)) + packed


# -------------------------------------------------------------------- what is told


def decode_candidates(packed: bytes) -> list[Candidate]:
    """The candidates of a group, in the order of the strategy."""
    found, at = [], 0
    while at < len(packed):
        end = at + 1 + packed[at]
        location, cut = packed[at + 2 : end - 1].decode(), end + 1
        numbers = []
        for size, signed in _CANDIDATE:
            numbers.append(int.from_bytes(packed[cut : cut + size], "little", signed=signed))
            cut += size
        room, taken, free, backorder_limit, low_stock, expected, metres = numbers
        found.append(
            Candidate(
                location,
                REASONS[packed[end] - 1],
                room,
                taken,
                free,
                backorder_limit,
                low_stock,
                expected,
                None if metres == UNKNOWN_METRES else metres / 1000,
            )
        )
        at = cut
    return found


_CANDIDATE = ((6, False), (5, False), (7, True), (7, True), (7, True), (7, True), (5, False))


def refuse(reply: Reply, groups: Sequence[Group], names: Sequence[str], rules: Rules) -> Refused:
    """The exception for a refusal: `names` are the SKUs of the lines."""
    word, version = Outcome(reply.word or ""), None
    if len(reply.answer) > 1:
        version = f"{reply.epoch}.{reply.answer[1]}"
    match word:
        case Outcome.POOL_NOT_FOUND:
            return PoolNotFound(f"there is no pool {rules.pool}", version=version)
        case Outcome.CHANNEL_NOT_FOUND:
            return ChannelNotFound(f"there is no channel {rules.channel}", version=version)
        case Outcome.IDEMPOTENCY_MISMATCH:
            return IdempotencyMismatch("this operation id was used before, with other content")
        case Outcome.INSUFFICIENT_STOCK:
            told = reply.answer[2:]
            found = {
                index: (available, asked)
                for index, available, asked in zip(told[::3], told[1::3], told[2::3], strict=True)
            }
            lines = [(name, group.location, group.sets) for name, group in zip(names, groups, strict=True)]
            return short(short_lines(found, lines), version)
        case _:
            pass
    group, name = groups[reply.answer[2]], names[reply.answer[2]]
    where = f" at {group.location}" if group.location else ""
    components = [sku for sku, _ in group.members if sku != name]
    kit = f" (a kit of {', '.join(components)})" if components else ""
    return REFUSAL_ERRORS[word](f"{name}{where}{kit}", version=version)


def short_lines(
    found: Mapping[int, tuple[int, int]], lines: Sequence[tuple[str, str | None, int]]
) -> list[Shortage]:
    """Every short line of a request: `found` has what is available and was asked by index, `lines` SKU,
    location and units. Lines of one position are short together, as in a plain reserve.
    """
    wanted, rooms = Counter[tuple[str, str]](), dict[tuple[str, str], int]()
    for index, (sku, location, units) in enumerate(lines):
        if location is not None:
            wanted[sku, location] += units
            if index in found:
                rooms.setdefault((sku, location), found[index][0])
    shortages = []
    for index, (sku, location, _) in enumerate(lines):
        if location is not None and (sku, location) in rooms:
            place = sku, location
            shortages.append(Shortage(index, sku, location, wanted[place], rooms[place]))
        elif index in found:
            available, asked = found[index]
            shortages.append(Shortage(index, sku, None, asked, available))
    return shortages


def short(shortages: Sequence[Shortage], version: str | None) -> InsufficientStock:
    """Names every short line."""
    first, more = shortages[0], len(shortages) - 1
    where = f" at {first.location}" if first.location else ""
    detail = f"{first.sku}{where}: {first.requested} requested, {first.available} available"
    return InsufficientStock(f"{detail}, and {more} more" if more else detail, shortages, version=version)


# -------------------------------------------------------------------- several partitions


def choose(
    groups: Sequence[Group],
    rooms: Sequence[Sequence[Candidate]],
    rules: Rules,
    *,
    first: Choice | None = None,
) -> Choice:
    """Chooses places on what several partitions told, as `lua/lib/sourcing.lua` does on its own: behind what
    was chosen `first`, unless one location must have all.
    """
    is_single = rules.strategy is Strategy.SINGLE_LOCATION
    if is_single or (rules.strategy is Strategy.FEWEST_SPLITS and first is None):
        found = _choose_few(groups, rooms, rules)
        if is_single or not any(found.left):
            return found
    found = _begin(groups) if first is None else first
    spent = {(line.sku, line.location): 0 for line in found.lines(groups)}
    for line in found.lines(groups):
        spent[line.sku, line.location] += line.quantity
    for index, candidates in enumerate(rooms):
        ordered = candidates
        if rules.strategy is Strategy.MOST_STOCK:
            ordered = sorted(candidates, key=lambda one: -one.room)
        elif rules.strategy is Strategy.NEAREST:
            ordered = sorted(candidates, key=_distance)
        for one in ordered:
            _take(found, spent, groups[index], index, one, rules)
    return found


def _choose_few(groups: Sequence[Group], rooms: Sequence[Sequence[Candidate]], rules: Rules) -> Choice:
    found, spent = _begin(groups), dict[tuple[str, str], int]()
    for index, group in enumerate(groups):
        if group.location is not None:
            for one in rooms[index]:
                _take(found, spent, group, index, one, rules)
    locations = dict.fromkeys(
        one.location for group, candidates in zip(groups, rooms, strict=True) if group.location is None
        for one in candidates
    )  # fmt: skip
    while any(found.left):
        best: Choice | None = None
        best_spent: dict[tuple[str, str], int] = {}
        for location in locations:
            tried, tried_spent = Choice([dict(taken) for taken in found.taken], list(found.left)), dict(spent)
            for index, group in enumerate(groups):
                for one in rooms[index]:
                    if one.location == location and group.location is None:
                        _take(tried, tried_spent, group, index, one, rules)
            if best is None or sum(tried.left) < sum(best.left):
                best, best_spent = tried, tried_spent
        if best is None or sum(best.left) == sum(found.left):
            return found
        found, spent = best, best_spent
        if rules.strategy is Strategy.SINGLE_LOCATION:
            return found
    return found


def _begin(groups: Sequence[Group]) -> Choice:
    return Choice([{} for _ in groups], [group.sets for group in groups])


def _take(
    found: Choice, spent: dict[tuple[str, str], int], group: Group, index: int, one: Candidate, rules: Rules
) -> None:
    """Takes what a location has for a group. Units that other groups took there are gone."""
    room = one.room - max(-(-spent.get((sku, one.location), 0) // units) for sku, units in group.members)
    sets = min(found.left[index], room)
    if sets <= 0 or (not rules.allow_split and sets < found.left[index]) or one.reason in _CLOSED:
        return
    found.left[index] -= sets
    found.taken[index][one.location] = found.taken[index].get(one.location, 0) + sets
    for sku, units in group.members:
        spent[sku, one.location] = spent.get((sku, one.location), 0) + sets * units


def _distance(one: Candidate) -> float:
    return float("inf") if one.distance_km is None else one.distance_km


_CLOSED = {Reason.INACTIVE, Reason.INCAPABLE}


def reason_of(one: Candidate, taken: int, left: int) -> Reason:
    """Why a location gives what it gives."""
    if one.reason in _CLOSED:
        return one.reason
    if taken:
        return Reason.CHOSEN
    if not one.room:
        return Reason.OUT_OF_STOCK
    return Reason.TOO_LITTLE if left else Reason.NOT_NEEDED
