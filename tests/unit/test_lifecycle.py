"""What the steps of a basket and of its parts may do, judged by the rules alone."""

from typing import NamedTuple

import pytest

from engine.events import Abandoned, Decided, Expired, Followed, Resolved
from engine.lifecycle import find_fault, units_of
from engine.records import Head, Undecided, encode_plan, encode_version
from engine.types import Line, State

PLAN = encode_plan((Line("shoe", 5, "W"), Line("hat", 2, "S")))
AT_MS = 1_700_000_000_000
EPOCH, SEQ = 2, 40
Row = tuple[int, int, int, int]


def head(state: State | Undecided, *progress: Row, **fields: int) -> Head:
    """The head before a step, of epoch 1 and sequence 7."""
    values = {
        "held_end": 0,
        "closed_by": 0,
        "revision": 0,
        "created_epoch": 1,
        "changed_epoch": 1,
        "created_seq": 7,
        "changed_seq": 7,
        "created_ms": AT_MS - 500,
        "deadline_ms": AT_MS + 9_000,
    }
    return Head(state, **(values | fields), progress=progress)


def after(state: State | Undecided, *progress: Row, **fields: int) -> Head:
    """The head after the step."""
    return head(state, *progress, **({"changed_epoch": EPOCH, "changed_seq": SEQ} | fields))


def event(kind: type[Resolved], detail: bytes = b"") -> Resolved:
    return kind(0, EPOCH, SEQ, AT_MS, bytes(12), 1, bytes(12), b"", True, b"", PLAN, detail)


DECIDED = event(Decided)
ABANDONED = event(Abandoned)
FOLLOWED = event(Followed, encode_version((3, 9)))
SOUGHT = head(Undecided.PENDING)
HELD = after(State.HELD, created_epoch=EPOCH, created_seq=SEQ, created_ms=AT_MS, deadline_ms=AT_MS + 60_000)
OVER = after(Undecided.ABANDONED, closed_by=13, deadline_ms=AT_MS + 60_000)
PART = head(State.HELD)
GONE = {"held_end": 14, "closed_by": 14, "deadline_ms": AT_MS + 86_400_000}


class Step(NamedTuple):
    """A step, and the invariant that it breaks, if any."""

    event: Resolved
    before: Head
    after: Head
    broken: str | None = None


SOUND = {
    "a basket is held from now on": Step(DECIDED, SOUGHT, HELD),
    "a basket is abandoned": Step(ABANDONED, SOUGHT, OVER),
    "a part is committed": Step(FOLLOWED, PART, after(State.COMMITTED, held_end=14)),
    "a part is given back": Step(FOLLOWED, PART, after(State.RELEASED, **GONE)),
    "a part is told of what it cannot have any more": Step(FOLLOWED, PART, after(State.HELD)),
    "a part lapses": Step(FOLLOWED, PART, after(State.RELEASED, (0, 0, 0, 0), (0, 0, 0, 0), **GONE)),
    "a part catches up": Step(
        FOLLOWED, PART, after(State.COMMITTED, (0, 1, 3, 1), (0, 0, 0, 1), held_end=14)
    ),
    "a part in parts": Step(FOLLOWED, PART, after(State.HELD, (4, 1, 0, 0), (2, 0, 0, 0))),
    "a committed part is sent": Step(
        FOLLOWED,
        head(State.COMMITTED, held_end=14),
        after(State.FULFILLED, (0, 0, 4, 1), (0, 0, 2, 0), **GONE),
    ),
    "a held basket lapses": Step(
        event(Expired),
        head(State.HELD, deadline_ms=AT_MS),
        after(State.EXPIRED, held_end=7, closed_by=7, deadline_ms=AT_MS + 1),
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_step(name: str) -> None:
    """Nothing is found wrong with it."""
    step = SOUND[name]
    assert find_fault(step.event, PLAN, step.before, step.after) is None


MADE = {"created_epoch": EPOCH, "created_seq": SEQ, "created_ms": AT_MS, "deadline_ms": AT_MS + 60_000}
BROKEN = {
    "decided twice": Step(DECIDED, head(State.HELD), HELD, "I5"),
    "decided when it was abandoned": Step(DECIDED, head(Undecided.ABANDONED, closed_by=13), HELD, "I5"),
    "decided with fewer units": Step(
        DECIDED, SOUGHT, after(State.HELD, (4, 0, 0, 1), (2, 0, 0, 0), **MADE), "I5"
    ),
    "decided and pending": Step(DECIDED, SOUGHT, after(Undecided.PENDING, **MADE), "I5"),
    "made before it was decided": Step(DECIDED, SOUGHT, after(State.HELD, deadline_ms=AT_MS + 60_000), "I5"),
    "held for no time": Step(DECIDED, SOUGHT, after(State.HELD, **(MADE | {"deadline_ms": AT_MS})), "I8"),
    "abandoned when it was held": Step(ABANDONED, head(State.HELD), OVER, "I5"),
    "abandoned in part": Step(ABANDONED, SOUGHT, after(Undecided.PENDING, (0, 0, 0, 5), (2, 0, 0, 0)), "I5"),
    "abandoned and released": Step(
        ABANDONED, SOUGHT, after(State.RELEASED, closed_by=13, deadline_ms=AT_MS), "I5"
    ),
    "abandoned, ended by nobody": Step(
        ABANDONED, SOUGHT, after(Undecided.ABANDONED, deadline_ms=AT_MS + 60_000), "I5"
    ),
    "abandoned, made anew": Step(ABANDONED, SOUGHT, after(Undecided.ABANDONED, closed_by=13, **MADE), "I5"),
    "abandoned, forgotten too early": Step(
        ABANDONED, SOUGHT, after(Undecided.ABANDONED, closed_by=13, deadline_ms=AT_MS - 1), "I8"
    ),
    "followed when it was over": Step(
        FOLLOWED, head(State.RELEASED, held_end=14, closed_by=14), after(State.FULFILLED, **GONE), "I5"
    ),
    "followed back to held": Step(
        FOLLOWED, head(State.COMMITTED, held_end=14), after(State.HELD, held_end=14), "I5"
    ),
    "followed back from sent": Step(
        FOLLOWED,
        head(State.COMMITTED, (0, 1, 4, 0), (0, 2, 0, 0), held_end=14),
        after(State.COMMITTED, (0, 2, 3, 0), (0, 2, 0, 0), held_end=14),
        "I5",
    ),
    "followed back from released": Step(
        FOLLOWED,
        head(State.HELD, (4, 0, 0, 1), (2, 0, 0, 0)),
        after(State.HELD, (4, 1, 0, 0), (2, 0, 0, 0)),
        "I5",
    ),
    "followed to what had lapsed": Step(
        FOLLOWED,
        head(State.COMMITTED, (0, 4, 0, 0), (0, 2, 0, 0), held_end=14),
        after(State.COMMITTED, (0, 5, 0, 0), (0, 2, 0, 0), held_end=14),
        "I5",
    ),
    "followed to more than there is": Step(
        FOLLOWED, PART, after(State.COMMITTED, (0, 6, 0, 0), (0, 2, 0, 0), held_end=14), "I5"
    ),
    "followed to less than nothing": Step(
        FOLLOWED, PART, after(State.HELD, (-1, 5, 0, 0), (2, 0, 0, 0)), "I5"
    ),
    "followed, ended by nobody": Step(FOLLOWED, PART, after(State.COMMITTED), "I5"),
    "followed, deadline moved": Step(
        FOLLOWED, PART, after(State.COMMITTED, held_end=14, deadline_ms=AT_MS), "I8"
    ),
    "followed, another revision": Step(FOLLOWED, PART, after(State.COMMITTED, held_end=14, revision=1), "I5"),
    "followed at another version": Step(
        FOLLOWED, PART, after(State.COMMITTED, held_end=14, changed_seq=SEQ + 1), "I5"
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_step(name: str) -> None:
    """Each row is a sound step with one thing wrong."""
    step = BROKEN[name]
    fault = find_fault(step.event, PLAN, step.before, step.after)
    assert fault is not None
    assert fault[0] == step.broken


@pytest.mark.parametrize(
    ("state", "units"),
    [
        (Undecided.PENDING, ((5, 0, 0, 0), (2, 0, 0, 0))),
        (Undecided.ABANDONED, ((0, 0, 0, 5), (0, 0, 0, 2))),
    ],
)
def test_units_of_what_is_undecided(state: Undecided, units: tuple[Row, ...]) -> None:
    """A pending basket's parts are held as far as it knows; of an abandoned one all went back."""
    assert units_of(head(state), PLAN) == units
