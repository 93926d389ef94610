"""Adds up the ledger from its packed bytes, a microsecond or two an event. `events.py` has the layouts."""

from engine.ids import OPERATION_ID_SIZE
from engine.moves import RESULT_SIZE, UNCOVERED_SIZE
from engine.records import HEAD_SIZE, PLAN_AT, PROGRESS_SIZE

_ENTRY_HEAD, _EVENT_HEAD = 8, 4
_RESERVE, _PART, _DECIDE = 1, 11, 12
_COMMIT = 2
_ENDS = {2: "committed", 3: "released", 5: "fulfilled", 6: "cancelled", 7: "expired"}
_COLUMN = {3: 0, 7: 0, 5: 6, 6: 6}
"""Where a delta has what such a step took away: held, or allocated."""
_FACTS = {8, 21}
_DELTA_SIZE = 18
_PLAN_OF_STEP = _EVENT_HEAD + 2 * OPERATION_ID_SIZE + 2
_RESULT_AT = _EVENT_HEAD + OPERATION_ID_SIZE + 4
_UNCOVERED_UNITS = slice(14, 20)
HELD = "held"
WORDS = (HELD, *_ENDS.values())

Hold = tuple[str, str, int]
"""SKU, location and units of a line that was held."""


class Tally:
    """The sums of all entries that were added."""

    __slots__ = ("events", "facts", "holds", "uncovered_promises", "uncovered_units", "units")

    def __init__(self) -> None:
        self.holds = dict.fromkeys(WORDS, 0)
        self.units = dict.fromkeys(WORDS, 0)
        self.events = self.facts = 0
        self.uncovered_promises = self.uncovered_units = 0

    def add(self, packed: bytes, held: list[Hold]) -> int:
        """Adds an entry, and to `held` the lines that it holds. How many events it has.

        Raises `ValueError` or `IndexError` where it is damaged.
        """
        at, events = _ENTRY_HEAD, 0
        while at < len(packed):
            kind = packed[at]
            end = at + _EVENT_HEAD + int.from_bytes(packed[at + 1 : at + _EVENT_HEAD], "little")
            if end > len(packed):
                raise ValueError("an event is cut short")
            events += 1
            if kind in _ENDS:
                self._add_step(kind, packed[at:end])
            elif kind in {_RESERVE, _PART}:
                units = _read_hold(packed, at + PLAN_AT, held)
                if kind == _RESERVE:
                    self.holds[HELD] += 1
                    self.units[HELD] += units
            elif kind == _DECIDE:
                self.holds[HELD] += 1
                self.units[HELD] += _units_of_plan(packed, at + _PLAN_OF_STEP)[0]
            elif kind in _FACTS:
                self._add_fact(packed[at:end])
            at = end
        if events != int.from_bytes(packed[6:_ENTRY_HEAD], "little"):
            raise ValueError("an entry has other events than it claims")
        self.events += events
        return events

    def _add_step(self, kind: int, event: bytes) -> None:
        units, plan_end = _units_of_plan(event, _PLAN_OF_STEP)
        whole_at = plan_end + 1 + event[plan_end] * PROGRESS_SIZE + HEAD_SIZE
        if event[whole_at] != 1:
            deltas = event[whole_at + 1 : whole_at + 1 + event[_PLAN_OF_STEP + 2] * _DELTA_SIZE]
            if kind == _COMMIT:
                units = self._add_partial_commit(deltas)
            else:
                units = -_sum_column(deltas, _COLUMN[kind])
        word = _ENDS[kind]
        self.holds[word] += 1
        self.units[word] += units

    def _add_partial_commit(self, deltas: bytes) -> int:
        """What a commit took; what it gave back counts as released units of no further hold."""
        taken = _sum_column(deltas, 6) - _sum_column(deltas, 12)
        given_back = -_sum_column(deltas, 0) - taken
        if given_back > 0:
            self.units["released"] += given_back
        return taken

    def _add_fact(self, event: bytes) -> None:
        self.facts += 1
        size = int.from_bytes(event[_RESULT_AT - 4 : _RESULT_AT], "little")
        for at in range(_RESULT_AT + RESULT_SIZE, _RESULT_AT + size, UNCOVERED_SIZE):
            self.uncovered_promises += 1
            self.uncovered_units += int.from_bytes(
                event[at : at + UNCOVERED_SIZE][_UNCOVERED_UNITS], "little"
            )


def _units_of_plan(packed: bytes, at: int) -> tuple[int, int]:
    """The units of all positions of a plan, and where it ends."""
    end, cursor, units = at + 2 + int.from_bytes(packed[at : at + 2], "little"), at + 3, 0
    for _ in range(packed[at + 2]):
        units += int.from_bytes(packed[cursor : cursor + 5], "little")
        cursor += 6 + packed[cursor + 5]
        cursor += 2 + int.from_bytes(packed[cursor : cursor + 2], "little")
    if cursor != end:
        raise ValueError("a plan's positions do not fill it")
    return units, end


def _read_hold(packed: bytes, at: int, held: list[Hold]) -> int:
    cursor, units = at + 3, 0
    for _ in range(packed[at + 2]):
        quantity = int.from_bytes(packed[cursor : cursor + 5], "little")
        units += quantity
        place_end = cursor + 6 + packed[cursor + 5]
        end = place_end + 2 + int.from_bytes(packed[place_end : place_end + 2], "little")
        held.append(
            (packed[place_end + 2 : end].decode(), packed[cursor + 7 : place_end - 1].decode(), quantity)
        )
        cursor = end
    return units


def _sum_column(deltas: bytes, column: int) -> int:
    return sum(
        int.from_bytes(deltas[at + column : at + column + 6], "little", signed=True)
        for at in range(0, len(deltas), _DELTA_SIZE)
    )
