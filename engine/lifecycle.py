"""The rules of a reservation's life: which units a verb may move, and what its head must then say.

Pure, and apart from the scripts on purpose: a replay judges by these what the scripts did.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

from engine import events
from engine.events import Event, Resolved
from engine.records import UNKNOWN_REVISION, Head, Undecided, decode_plan
from engine.types import State

Line = tuple[int, int, int, int]
"""Held, committed, fulfilled and released units of a position; what is missing has lapsed."""

Fault = tuple[str, str]
"""The short name of the broken invariant, and what is wrong."""

OPEN_STATES = (State.HELD, State.COMMITTED)
HELD, COMMITTED, FULFILLED, RELEASED = range(4)
_COLUMNS: Mapping[State | Undecided, int] = {
    State.HELD: HELD,
    State.COMMITTED: COMMITTED,
    State.FULFILLED: FULFILLED,
    State.RELEASED: RELEASED,
    State.CANCELLED: RELEASED,
    Undecided.PENDING: HELD,
    Undecided.ABANDONED: RELEASED,
}
VERBS: Mapping[type[Resolved], int] = {
    events.Committed: 2,
    events.Released: 3,
    events.Extended: 4,
    events.Fulfilled: 5,
    events.Cancelled: 6,
    events.Expired: 7,
    events.Decided: 12,
    events.Abandoned: 13,
    events.Followed: 14,
}
"""The code of each verb, as heads and remembered operations have it."""
CANCEL, REPLANNED = VERBS[events.Cancelled], 16


@lru_cache(maxsize=65_536)
def positions_of(plan: bytes) -> tuple[tuple[str, str, int], ...]:
    """SKU, location and quantity of each position of a packed plan."""
    read = decode_plan(plan)[0]
    return tuple((position.sku, position.location, position.quantity) for position in read.positions)


def units_of(head: Head, plan: bytes) -> tuple[Line, ...]:
    """The units of each position by state."""
    if head.progress:
        return head.progress
    return _units_in_state(plan, head.state)


def units_by_place(head: Head, plan: bytes) -> dict[tuple[str, str], Line]:
    """The same, by SKU and location."""
    return {
        (sku, location): line
        for (sku, location, _), line in zip(positions_of(plan), units_of(head, plan), strict=True)
    }


@lru_cache(maxsize=65_536)
def _units_in_state(plan: bytes, state: State | Undecided) -> tuple[Line, ...]:
    lines = []
    for _, _, quantity in positions_of(plan):
        line = [0, 0, 0, 0]
        if state in _COLUMNS:
            line[_COLUMNS[state]] = quantity
        lines.append((line[HELD], line[COMMITTED], line[FULFILLED], line[RELEASED]))
    return tuple(lines)


def find_fault(event: Resolved, plan: bytes, before: Head, after: Head) -> Fault | None:
    """What is wrong with a step from one head to the next; None where all is as it must be."""
    old, new = units_of(before, plan), units_of(after, plan)
    flow = _FLOWS[type(event)]
    for (sku, location, quantity), was, now in zip(positions_of(plan), old, new, strict=True):
        if sum(now) > quantity:
            return "I5", f"{now} units of {sku} at {location} are more than {quantity}"
        change = (now[0] - was[0], now[1] - was[1], now[2] - was[2], now[3] - was[3])
        if any(change) and not flow(change, now, before.state):
            return "I5", f"moved units of {sku} at {location} from {was} to {now}"
    if old == new and not isinstance(event, _MOVES_NOTHING):
        return "I5", "moved no units"
    return (
        _find_state_fault(event, before, after, new)
        or _find_identity_fault(event, before, after, _revision_after(event, before))
        or _find_deadline_fault(event, before, after)
    )


def find_unfit(head: Head, plan: bytes) -> Fault | None:
    """What is wrong with a head that another data set left; None where its units and its state agree."""
    units = units_of(head, plan)
    if len(units) != len(positions_of(plan)):
        return "I5", "its progress is not that of its lines"
    for (sku, location, quantity), now in zip(positions_of(plan), units, strict=True):
        if sum(now) > quantity:
            return "I5", f"{now} units of {sku} at {location} are more than {quantity}"
    open_state: State | None = None
    if any(line[HELD] for line in units):
        open_state = State.HELD
    elif any(line[COMMITTED] for line in units):
        open_state = State.COMMITTED
    found = head.state if head.state in OPEN_STATES else None
    if isinstance(head.state, Undecided) or found != open_state:
        return "I5", f"was {head.state}, but its open units are {open_state or 'none'}"
    return None


def find_replan_fault(
    event: Event, plans: tuple[bytes, bytes], before: Head, after: Head, *, follows: bool
) -> Fault | None:
    """What is wrong with a change from the first plan and head to the second; None where all is as it must
    be. Units may be held anew; what is committed stays so, here or elsewhere, or is given back; what has left
    stays where it left. A part `follows`: which of its units are committed its basket decides.
    """
    if before.state not in OPEN_STATES:
        return "I5", f"the reservation was {before.state}"
    lines = positions_of(plans[1])
    if not lines or len({(sku, location) for sku, location, _ in lines}) < len(lines):
        return "I5", "it has no lines, or two of one position"
    revision = (before.revision + 1) % UNKNOWN_REVISION
    return (
        find_unfit(after, plans[1])
        or _find_moved_fault(
            _count_states(before, plans[0]), _count_states(after, plans[1]), before, after, follows=follows
        )
        or _find_identity_fault(event, before, after, revision)
        or _find_deadline_fault(event, before, after)
    )


_Counted = tuple[dict[tuple[str, str], int], ...]


def _find_moved_fault(
    old: _Counted, new: _Counted, before: Head, after: Head, *, follows: bool
) -> Fault | None:
    if old[FULFILLED] != new[FULFILLED]:
        return "I5", "what had left its locations is not what it was"
    if follows:
        return None
    committed = _sum_skus(old[COMMITTED])
    for sku, units in _sum_skus(new[COMMITTED]).items():
        if units > committed.get(sku, 0):
            return "I5", f"{units} units of {sku} are committed, which were not before"
    held_end = before.held_end
    if old[HELD] and not new[HELD] and before.state is State.HELD:
        held_end = CANCEL
    expected = after.state, held_end, before.closed_by
    if not new[HELD] and not new[COMMITTED]:
        expected = State.FULFILLED if new[FULFILLED] else State.CANCELLED, held_end, CANCEL
    found = after.state, after.held_end, after.closed_by
    if found != expected:
        return "I5", f"its state, held_end, closed_by are {found}, its units make them {expected}"
    return None


def _count_states(head: Head, plan: bytes) -> _Counted:
    """For each of the four states the units of each position that has some."""
    found: _Counted = ({}, {}, {}, {})
    for (sku, location, _), line in zip(positions_of(plan), units_of(head, plan), strict=True):
        for column, units in enumerate(line):
            if units:
                found[column][sku, location] = units
    return found


def _sum_skus(units: Mapping[tuple[str, str], int]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for (sku, _), quantity in units.items():
        sums[sku] = sums.get(sku, 0) + quantity
    return sums


Flow = Callable[[Line, Line, State | Undecided], bool]


def _commits(change: Line, _: Line, state: State | Undecided) -> bool:
    held, committed, fulfilled, released = change
    if state is State.EXPIRED:
        return held == released == 0 and committed >= 0 and fulfilled >= 0
    return sum(change) == 0 and held < 0 and min(committed, fulfilled, released) >= 0


def _releases(change: Line, _: Line, __: State | Undecided) -> bool:
    return change[COMMITTED] == change[FULFILLED] == 0 and change[RELEASED] == -change[HELD] > 0


def _extends(_: Line, __: Line, ___: State | Undecided) -> bool:
    return False


def _follows(change: Line, now: Line, _: State | Undecided) -> bool:
    # It may be brought over several steps at once; what lapsed, was released or left does not come back.
    return change[HELD] <= 0 <= min(change[FULFILLED], change[RELEASED]) and sum(change) <= 0 <= min(now)


def _fulfils(change: Line, _: Line, __: State | Undecided) -> bool:
    return change[HELD] == change[RELEASED] == 0 and change[FULFILLED] == -change[COMMITTED] > 0


def _cancels(change: Line, _: Line, __: State | Undecided) -> bool:
    return change[HELD] == change[FULFILLED] == 0 and change[RELEASED] == -change[COMMITTED] > 0


def _expires(change: Line, now: Line, _: State | Undecided) -> bool:
    return now[HELD] == 0 and change[HELD] < 0 and not any(change[COMMITTED:])


_FLOWS: Mapping[type[Resolved], Flow] = {
    events.Committed: _commits,
    events.Released: _releases,
    events.Extended: _extends,
    events.Fulfilled: _fulfils,
    events.Cancelled: _cancels,
    events.Expired: _expires,
    events.Decided: _extends,
    events.Abandoned: _releases,
    events.Followed: _follows,
}
_MOVES_NOTHING = (events.Extended, events.Decided, events.Followed)
"""Steps that may move no units: a part may be told of units that it cannot have any more."""
_STATES_BEFORE: Mapping[type[Resolved], tuple[State | Undecided, ...]] = {
    events.Committed: (State.HELD, State.EXPIRED),
    events.Released: (State.HELD,),
    events.Extended: (State.HELD,),
    events.Fulfilled: OPEN_STATES,
    events.Cancelled: OPEN_STATES,
    events.Expired: (State.HELD,),
    events.Decided: (Undecided.PENDING,),
    events.Abandoned: (Undecided.PENDING,),
    events.Followed: OPEN_STATES,
}
_STATE_OF_CLOSER: Mapping[int, State | Undecided] = {
    6: State.CANCELLED,
    7: State.EXPIRED,
    13: Undecided.ABANDONED,
}


def _find_state_fault(event: Resolved, before: Head, after: Head, units: tuple[Line, ...]) -> Fault | None:
    if before.state not in _STATES_BEFORE[type(event)]:
        return "I5", f"the reservation was {before.state}"
    held = sum(line[HELD] for line in units)
    committed = sum(line[COMMITTED] for line in units)
    held_end, closed_by, verb = before.held_end, before.closed_by, VERBS[type(event)]
    if held == 0:
        if before.state in {State.HELD, State.EXPIRED}:
            held_end = verb
        if committed == 0:
            closed_by = verb
    state: State | Undecided
    if held:
        state = State.HELD
    elif committed:
        state = State.COMMITTED
    elif any(line[FULFILLED] for line in units):
        state = State.FULFILLED
    else:
        state = _STATE_OF_CLOSER.get(closed_by, State.RELEASED)
    expected, found = (state, held_end, closed_by), (after.state, after.held_end, after.closed_by)
    if expected != found:
        return "I5", f"its state, held_end, closed_by are {found}, its units make them {expected}"
    return None


def _revision_after(event: Resolved, before: Head) -> int:
    is_replaced = bool(event.detail) and not isinstance(event, events.Followed)
    return (before.revision + 1) % UNKNOWN_REVISION if is_replaced else before.revision


def _find_identity_fault(event: Event, before: Head, after: Head, revision: int) -> Fault | None:
    created = (before.created_epoch, before.created_seq, before.created_ms)
    if isinstance(event, events.Decided):
        created = (event.epoch, event.seq, event.at_ms)
    expected = (revision, *created, event.epoch, event.seq)
    found = (
        after.revision,
        after.created_epoch,
        after.created_seq,
        after.created_ms,
        after.changed_epoch,
        after.changed_seq,
    )
    return ("I5", f"its head says {found}, not {expected}") if found != expected else None


def _find_deadline_fault(event: Event, before: Head, after: Head) -> Fault | None:
    if isinstance(event, events.Expired) and event.at_ms < before.deadline_ms:
        early_ms = before.deadline_ms - event.at_ms
        return "I8", f"lapsed {early_ms} ms before its deadline"
    if isinstance(event, events.Decided):
        if after.deadline_ms <= event.at_ms:
            return "I8", "is held for no time"
    elif isinstance(event, events.Extended):
        if after.deadline_ms < before.deadline_ms:
            return "I8", f"its deadline moved back from {before.deadline_ms} to {after.deadline_ms}"
    elif after.state not in OPEN_STATES:
        if after.deadline_ms < event.at_ms:
            return "I8", "it may be forgotten before it ended"
    elif after.deadline_ms != before.deadline_ms:
        return "I8", f"its deadline moved from {before.deadline_ms} to {after.deadline_ms}"
    return None
