"""Sourcing, moves and counts in histories: what is legal raises no alarm, and planted faults are found."""

from inspect import getmembers, iscoroutinefunction
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine import Count, Inventory, Movement, MovementKind, MovementResult, Reservation, State, Unconfirmed
from engine.check import check
from engine.check.verbs import KNOWN
from engine.history import (
    FORMAT,
    NOT_RECORDED,
    OF_MANY,
    Begin,
    encode_answer,
    encode_begin,
    encode_call,
    encode_failure,
)
from engine.ids import reservation_id
from engine.sourcing_plan import Rules, Wanted
from engine.types import Move, ReservationLine

ID = reservation_id(7, b"reservation1")
Step = tuple[str, dict[str, object], object]
SOURCE = {"op_id": "k", "lines": [Wanted("mug", 2)], "rules": Rules(pool="all"), "ttl_seconds": 60}
MOVE = {"reservation": ID, "op_id": "m", "moves": [Move("mug", "a", "b", 1)]}
RELEASE = {"reservation": ID}
COUNT = {"count": Count("c", "mug", "a", 5, 1000)}
STOCKED = {"movement": Movement("in", MovementKind.RECEIVE, "mug", "a", 3)}
STOCKED_TOO = {"movement": Movement("in 2", MovementKind.RECEIVE, "mug", "b", 3)}


def line(place: str, held: int, released: int = 0) -> ReservationLine:
    return ReservationLine("mug", place, held + released, held, 0, 0, released)


HELD = Reservation(ID, State.HELD, 0, 60_000, None, None, None, {}, "1.3", [line("a", 2)])
MOVED = replace(HELD, version="1.4", lines=[line("a", 1), line("b", 1)])
BACK = replace(
    MOVED, state=State.RELEASED, expires_ms=None, version="1.5", lines=[line("a", 0, 1), line("b", 0, 1)]
)
COUNTED = MovementResult(5, 5, "1.6", effect=2)
OPENING: tuple[Step, ...] = (
    ("record", STOCKED, MovementResult(3, 3, "1.1", effect=3)),
    ("record", STOCKED_TOO, MovementResult(3, 3, "1.2", effect=3)),
)
DAY: tuple[Step, ...] = (
    *OPENING,
    ("source", SOURCE, HELD),
    ("source", SOURCE, replace(HELD, replayed=True, lines=[line("b", 2)])),
    ("move", MOVE, MOVED),
    ("move", MOVE, replace(MOVED, replayed=True)),
    ("release", RELEASE, BACK),
    ("count", COUNT, COUNTED),
    ("count", COUNT, replace(COUNTED, replayed=True)),
)
PLANTED: dict[str, tuple[str, tuple[Step, ...]]] = {
    "a source forgets its id": ("I2", (*DAY, ("source", SOURCE, replace(HELD, version="1.7")))),
    "a move forgets its id": ("I2", (*DAY[:5], ("move", MOVE, replace(MOVED, version="1.7")))),
    "a count forgets its id": ("I2", (*DAY, ("count", COUNT, replace(COUNTED, version="1.7")))),
    "other goods are held": ("I14", (("source", SOURCE, replace(HELD, lines=[line("a", 3)])),)),
    "a move answers for another": (
        "I14",
        (*DAY[:3], ("move", MOVE, replace(MOVED, id=reservation_id(7, b"reservation2")))),
    ),
    "what is over is held": ("I6", (*DAY, ("reservation", RELEASE, replace(MOVED, version="1.7")))),
    "a version is told twice": ("I11", (*DAY[:3], ("count", COUNT, replace(COUNTED, version="1.3")))),
}


def write(folder: Path, steps: tuple[Step, ...]) -> Path:
    begin = Begin(
        history=FORMAT, process="1-1", clock="one", dataset="one", partitions=1, retention_seconds=7200,
        begins=["1.0"], time=0,
    )  # fmt: skip
    lines = [encode_begin(begin)]
    for number, (verb, arguments, answer) in enumerate(steps):
        lines.append(encode_call(2 * number + 1, number, verb, arguments))
        lost = encode_failure(2 * number + 2, number, Unconfirmed("the answer was lost"))
        lines.append(lost if answer is None else encode_answer(2 * number + 2, number, answer))
    path = folder / "shop.jsonl"
    path.write_bytes(b"".join(lines))
    return path


def test_a_legal_day(tmp_path: Path) -> None:
    report = check([write(tmp_path, DAY)])
    assert report.is_clean, report
    assert report.counts["replays judged"] == 3
    assert report.counts["changed reservations read"]


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(tmp_path: Path, name: str) -> None:
    invariant, steps = PLANTED[name]
    assert invariant in {one.invariant for one in check([write(tmp_path, steps)]).violations}


def test_every_recorded_verb_is_known() -> None:
    recorded = {
        OF_MANY.get(name, name)
        for name, _ in getmembers(Inventory, iscoroutinefunction)
        if not name.startswith("_") and name not in NOT_RECORDED
    }
    assert recorded <= KNOWN
