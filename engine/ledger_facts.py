"""Replays facts: what movements and counts do to a position, worked out apart from the scripts.

on_hand is the newest count and what came and went after it, or where there was none all that came and went;
here it is summed up anew wherever a count changes it.
"""

from msgspec import Struct

from engine import limits, moves
from engine.events import Counted, Moved, Opening
from engine.moves import Member

HISTORY_MS = limits.HISTORY_SECONDS * 1000
COUNTED_SINCE, TOO_OLD = 1, 2


class Effect(Struct, frozen=True):
    """What a fact does: to on_hand and to the unsellable units; `ignored` is why it does nothing."""

    on_hand: int
    unsellable: int = 0
    ignored: int = 0


class FactBooks:
    """What a partition keeps of facts beside counters: histories, newest counts, conditions.

    Memory: about 150 bytes a movement.
    """

    def __init__(self) -> None:
        self.history: dict[bytes, dict[bytes, None]] = {}
        """By position the members of its history, without its name, in the order of the ledger."""
        self.counts: dict[bytes, tuple[int, bytes, int]] = {}
        """By position the newest count: its moment, its rank, its units."""
        self.conditions: dict[bytes, dict[str, int]] = {}

    def leave(self, name: bytes, at_ms: int, version: tuple[int, int], operation: bytes, units: int) -> None:
        """Something came or went, or was counted."""
        packed = Member(b"", at_ms, *version, operation, units).packed
        self.history.setdefault(name, {})[packed] = None

    def move(self, event: Moved) -> Effect:
        """A movement. It changes on_hand unless a count has it in; conditions always."""
        name = moves.position_name(event.sku, event.location)
        self.leave(name, event.occurred_ms, (event.epoch, event.seq), event.id, event.quantity)
        newest = self.counts.get(name)
        is_counted = newest is not None and event.occurred_ms <= newest[0]
        unsellable = self._change_conditions(name, event) if event.moved else 0
        if is_counted:
            return Effect(0, unsellable, COUNTED_SINCE if event.quantity else 0)
        return Effect(event.quantity, unsellable)

    def count(self, event: Counted, on_hand: int) -> Effect:
        """A count, on a position with so many units."""
        name = moves.position_name(event.sku, event.location)
        newest, rank = self.counts.get(name), moves.NEWEST_RANK if event.is_set else event.id
        self.leave(name, event.occurred_ms, (event.epoch, event.seq), event.id, 0)
        if newest is not None and not event.is_set and (event.occurred_ms, rank) <= newest[:2]:
            return Effect(0, ignored=COUNTED_SINCE)
        if event.occurred_ms < event.at_ms - HISTORY_MS:
            return Effect(0, ignored=TOO_OLD)
        later = self._sum_after(name, event.occurred_ms)
        units = event.quantity - later if event.is_set else event.quantity
        self.counts[name] = event.occurred_ms, rank, units
        return Effect(units + later - on_hand)

    def open(self, event: Opening) -> Effect:
        """A position as another data set left it."""
        name = moves.position_name(event.sku, event.location)
        for row in event.rows:
            self.leave(name, row.occurred_ms, (event.epoch, event.seq), row.id, row.units)
        if event.count:
            count = event.count
            units = int.from_bytes(count[18:], "little", signed=True)
            self.counts[name] = int.from_bytes(count[:6], "big"), count[6:18], units
        if event.conditions:
            self.conditions[name] = moves.decode_conditions(event.conditions)
        return Effect(event.on_hand, _above_zero(self.conditions[name]) if event.conditions else 0)

    def find_fault(self, event: Moved | Counted, *, was_used: bool) -> str | None:
        """What is wrong with the moment that a fact was taken to be of, or with its being taken again, where
        its id `was_used` before. To be asked before it is applied.
        """
        name = moves.position_name(event.sku, event.location)
        newest, told_ms = self.counts.get(name), event.read_detail().occurred_ms
        counted_ms = -1 if newest is None else newest[0]
        if isinstance(event, Moved):
            is_now = told_ms is None or told_ms >= event.at_ms
            expected = max(event.at_ms, counted_ms + 1) if is_now else told_ms
        elif event.is_set:
            expected = max(event.at_ms - 1, counted_ms)
        else:
            expected = min(told_ms or 0, event.at_ms - 1)
        if event.occurred_ms != expected:
            return f"was taken to be of {event.occurred_ms}, not {expected}"
        if (
            was_used
            and event.occurred_ms > event.at_ms - HISTORY_MS
            and self._has(name, event.occurred_ms, event.id)
        ):
            return "its position's history has it already"
        return None

    def count_of(self, name: bytes) -> bytes | None:
        """A position's newest count as it is stored."""
        if name not in self.counts:
            return None
        counted_ms, rank, units = self.counts[name]
        return counted_ms.to_bytes(6, "big") + rank + units.to_bytes(7, "little", signed=True)

    def condition_of(self, name: bytes) -> bytes | None:
        """A position's conditions as they are stored."""
        return moves.encode_conditions(self.conditions.get(name, {})) or None

    def _has(self, name: bytes, occurred_ms: int, operation: bytes) -> bool:
        moment = occurred_ms.to_bytes(6, "big")
        return any(
            packed.startswith(moment) and packed[15:27] == operation for packed in self.history.get(name, ())
        )

    def _sum_after(self, name: bytes, moment_ms: int) -> int:
        moment = moment_ms.to_bytes(6, "big")
        return sum(
            int.from_bytes(packed[27:], "big", signed=True)
            for packed in self.history.get(name, ())
            if packed[:6] > moment
        )

    def _change_conditions(self, name: bytes, event: Moved) -> int:
        units = self.conditions.setdefault(name, {})
        before = _above_zero(units)
        for condition, change in ((event.from_condition, -event.moved), (event.to_condition, event.moved)):
            if condition:
                units[condition] = units.get(condition, 0) + change
        for condition in [condition for condition, count in units.items() if not count]:
            del units[condition]
        return _above_zero(units) - before


def _above_zero(units: dict[str, int]) -> int:
    return sum(max(0, count) for count in units.values())
