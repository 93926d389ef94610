"""How a reservation may live, step by step: the rules that its callers rely on, apart from the scripts.

A `Stand` is all that decides what a verb does next. Part of it no answer tells (who took the last held
unit, what lapsed and what was released), so a checker keeps every stand that its answers leave possible.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

Units = tuple[int, int, int, int, int]
"""Held, committed, fulfilled, released and lapsed units of one position."""

View = tuple[tuple[int, int, int, int], ...]
"""What an answer tells of each position: held, committed, fulfilled, and what was given back."""

HELD, COMMITTED, FULFILLED, RELEASED, LAPSED = range(5)
MAX_STANDS = 64
"""Stands of one reservation that are told apart; with more, it is not judged any further."""


class Stand(NamedTuple):
    """Where a reservation is in its life."""

    units: tuple[Units, ...]
    held_end: str = ""
    """The verb that took the last held unit."""
    closed_by: str = ""
    """The verb that took the last open unit."""


class Request(NamedTuple):
    """A verb on a reservation. `chosen` has position and units; None for all."""

    verb: str
    chosen: tuple[tuple[int, int], ...] | None = None
    keep: bool = False
    fulfil: bool = False
    retake: bool = False


RESOLVING = frozenset({"commit", "release", "extend", "fulfil", "cancel"})
REPEATED = "repeated"
EXPIRE = Request("expire")


def new_stand(quantities: Iterable[int]) -> Stand:
    """A reservation that was just made."""
    return Stand(tuple((quantity, 0, 0, 0, 0) for quantity in quantities))


def _sum(stand: Stand, column: int) -> int:
    return sum(units[column] for units in stand.units)


@lru_cache(maxsize=65_536)
def state_of(stand: Stand) -> str:
    """The state that the units add up to."""
    if _sum(stand, HELD):
        return "held"
    if _sum(stand, COMMITTED):
        return "committed"
    if _sum(stand, FULFILLED):
        return "fulfilled"
    return {"cancel": "cancelled", "expire": "expired"}.get(stand.closed_by, "released")


@lru_cache(maxsize=65_536)
def view_of(stand: Stand) -> tuple[str, View]:
    """What a caller is told."""
    return state_of(stand), tuple(
        (units[0], units[1], units[2], units[3] + units[4]) for units in stand.units
    )


@lru_cache(maxsize=65_536)
def step(stand: Stand, request: Request) -> Stand | str:  # noqa: PLR0911 - a rule a line
    """What a verb makes of a stand; or the word that it is refused with, or `REPEATED`."""
    verb, state = request.verb, state_of(stand)
    if verb == "expire":
        return _move(stand, HELD, LAPSED, None, verb) if state == "held" else "not_held"
    if _is_repeat(stand, request, state):
        return REPEATED
    if verb in {"fulfil", "cancel"}:
        if not _sum(stand, COMMITTED):
            return _CONFLICTS[state]
        return _move(stand, COMMITTED, FULFILLED if verb == "fulfil" else RELEASED, request.chosen, verb)
    if state == "held":
        if verb == "extend":
            return stand
        if verb == "release":
            return _move(stand, HELD, RELEASED, request.chosen, verb)
        return _commit(stand, request)
    if verb == "commit" and state == "expired" and request.retake:
        return _move(stand, LAPSED, FULFILLED if request.fulfil else COMMITTED, request.chosen, verb)
    return "reservation_expired" if stand.held_end == "expire" else _CONFLICTS[state]


_CONFLICTS = {
    "held": "not_committed",
    "committed": "already_committed",
    "fulfilled": "already_fulfilled",
    "released": "already_released",
    "expired": "reservation_expired",
    "cancelled": "already_cancelled",
}


def _is_repeat(stand: Stand, request: Request, state: str) -> bool:  # noqa: PLR0911 - a verb a line
    """Whether the whole reservation already is as asked, by the same verb."""
    if request.chosen is not None or state == "held":
        return False
    match request.verb:
        case "commit" if request.fulfil:
            return stand.held_end == "commit" and state == "fulfilled" and stand.closed_by == "commit"
        case "commit":
            return stand.held_end == "commit" and state == "committed"
        case "release":
            return stand.held_end == "release"
        case "fulfil":
            return state == "fulfilled" and stand.closed_by != "cancel"
        case "cancel":
            return stand.closed_by == "cancel" and state in {"cancelled", "fulfilled"}
        case _:
            return False


def _commit(stand: Stand, request: Request) -> Stand | str:
    taken = _move(stand, HELD, FULFILLED if request.fulfil else COMMITTED, request.chosen, "commit")
    if isinstance(taken, str) or request.keep or not _sum(taken, HELD):
        return taken
    return _move(taken, HELD, RELEASED, None, "commit")


def _move(
    stand: Stand, source: int, goal: int, chosen: Sequence[tuple[int, int]] | None, verb: str
) -> Stand | str:
    moved = [list(units) for units in stand.units]
    takes = [(index, units[source]) for index, units in enumerate(moved)] if chosen is None else chosen
    for index, quantity in takes:
        if quantity > moved[index][source]:
            return "exceeds_open_quantity"
        moved[index][source] -= quantity
        moved[index][goal] += quantity
    after = Stand(tuple((u[0], u[1], u[2], u[3], u[4]) for u in moved), stand.held_end, stand.closed_by)
    if _sum(after, HELD):
        return after
    held_end = verb if state_of(stand) in {"held", "expired"} else stand.held_end
    return after._replace(held_end=held_end, closed_by=stand.closed_by if _sum(after, COMMITTED) else verb)


def reachable(
    stands: Iterable[Stand], hidden: Iterable[Request], *, may_expire: bool
) -> tuple[Stand, ...] | None:
    """Every stand that unseen steps may have led to; None where there are too many to tell apart."""
    found = list(dict.fromkeys(stands))
    steps = [request for request in hidden if request.verb != "extend"]
    if may_expire:
        steps.append(EXPIRE)
    if not steps:
        return tuple(found)
    known = set(found)
    for stand in found:
        for request in steps:
            after = step(stand, request)
            if not isinstance(after, str) and after not in known:
                known.add(after)
                found.append(after)
        if len(found) > MAX_STANDS:
            return None
    return tuple(found)


Share = tuple[int, int, int, int, int, int, int, int]
"""What a reservation has of a position: least and most of held, committed, fulfilled, and of all three."""


@lru_cache(maxsize=65_536)
def shares_of(stands: tuple[Stand, ...]) -> tuple[Share, ...]:
    """The least and the most that a reservation may have of each of its positions."""
    shares = []
    for alternatives in zip(*(stand.units for stand in stands), strict=True):
        held = [units[HELD] for units in alternatives]
        committed = [units[COMMITTED] for units in alternatives]
        fulfilled = [units[FULFILLED] for units in alternatives]
        taken = [sum(units[:RELEASED]) for units in alternatives]
        shares.append(
            (
                min(held), max(held), min(committed), max(committed),
                min(fulfilled), max(fulfilled), min(taken), max(taken),
            )
        )  # fmt: skip
    return tuple(shares)
