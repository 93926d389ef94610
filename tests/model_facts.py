"""The model's facts: on_hand is the newest count and what came and went after it, summed up each time."""

from dataclasses import dataclass, field
from typing import NamedTuple

Place = tuple[str, str]
FACTS = frozenset(("receive", "sale", "return", "adjust", "condition", "count", "set"))
HISTORY_MS = 30 * 86_400_000
SET_RANK = b"\xff" * 12


class Came(NamedTuple):
    """Units that came (above zero) or went, and under which operation."""

    at_ms: int
    units: int
    key: str


class Counted(NamedTuple):
    """Units that were counted. Of two counts of one moment that of the higher rank is the newer one."""

    at_ms: int
    rank: bytes
    units: int


@dataclass
class FactBook:
    """What has happened to the positions of a shop, in no order."""

    came: dict[Place, list[Came]] = field(default_factory=dict)
    counted: dict[Place, list[Counted]] = field(default_factory=dict)
    conditions: dict[Place, dict[str, int]] = field(default_factory=dict)
    known: set[tuple[Place, int, str]] = field(default_factory=set)
    """Position, moment and key of every fact."""

    def newest(self, place: Place) -> Counted | None:
        """The newest count; of sets in one millisecond the last one that was told."""
        counts = self.counted.get(place, [])
        return max(reversed(counts), key=lambda count: count[:2], default=None)

    def on_hand(self, place: Place) -> int:
        """The rule."""
        newest, came = self.newest(place), self.came.get(place, [])
        if newest is None:
            return sum(one.units for one in came)
        return newest.units + sum(one.units for one in came if one.at_ms > newest.at_ms)

    def come(self, place: Place, at_ms: int, units: int, key: str) -> None:
        """Units came or went."""
        self.came.setdefault(place, []).append(Came(at_ms, units, key))

    def now_for(self, place: Place, now_ms: int) -> int:
        """The moment of what happens now: after every count."""
        newest = self.newest(place)
        return now_ms if newest is None else max(now_ms, newest.at_ms + 1)

    def count(self, place: Place, at_ms: int, rank: bytes, units: int) -> None:
        """Units were counted."""
        self.counted.setdefault(place, []).append(Counted(at_ms, rank, units))

    def set(self, place: Place, now_ms: int, units: int) -> None:
        """So many units are there now, whatever came in this millisecond."""
        newest = self.newest(place)
        at_ms = max(now_ms - 1, newest.at_ms if newest else 0)
        later = sum(one.units for one in self.came.get(place, []) if one.at_ms > at_ms)
        self.count(place, at_ms, SET_RANK, units - later)

    def change_condition(self, place: Place, changes: tuple[tuple[str, int], ...]) -> int:
        """Units change their condition; by how many more are unsellable."""
        units = self.conditions.setdefault(place, {})
        before = sum(max(0, count) for count in units.values())
        for name, change in changes:
            if name:
                units[name] = units.get(name, 0) + change
        return sum(max(0, count) for count in units.values()) - before
