"""What a position can promise by which day: pure functions."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from itertools import accumulate

from msgspec import Struct

from engine import limits
from engine.cards import UNLIMITED
from engine.types import Fence, Position, Supply


class Share(Struct, frozen=True):
    """What a channel may take of a position: all but a buffer, of units and of a share of the goods there;
    and its fence.
    """

    units: int = 0
    percent: int = 0
    fence: Fence | None = None

    def of(self, free: int, fenced: int, sellable: int) -> int:
        """Its part of `free` units that nobody was promised, `fenced` ones not among them, where so many
        goods are to be sold: `ROOMS.free_for` of `lua/lib/rooms.lua`.
        """
        after_buffer = free - self.units - -(-sellable * self.percent // 100)
        if self.fence is None:
            return after_buffer
        if free < 0:
            return min(self.fence.remaining, free + fenced)
        return self.fence.remaining + (max(0, after_buffer) if self.fence.spill else 0)


def project(
    position: Position, supplies: Sequence[Supply], today: date, days: int, share: Share | None = None
) -> list[int]:
    """What a position can promise for today and each day that follows, to all or to one who has a share;
    below zero where more is promised than will be there. Who was promised of what is inbound gets what comes
    first.
    """
    if position.backorder_limit >= UNLIMITED:
        return [limits.MAX_QUANTITY] * days
    comes, arrives, promised = [0] * days, [0] * days, position.preordered
    for supply in supplies:
        own = min(promised, supply.quantity)
        promised -= own
        day = (datetime.fromtimestamp(supply.expected_ms // 1000, UTC).date() - today).days
        if day < days:
            comes[max(0, day)] += supply.quantity - own
            arrives[max(0, day)] += supply.quantity
    free, sellable = free_units(position), max(0, position.on_hand - position.unsellable)
    projected = [free + units for units in accumulate(comes)]
    if share is not None:
        goods = [sellable + units for units in accumulate(arrives)]
        projected = [
            share.of(level, position.fenced, there) for level, there in zip(projected, goods, strict=True)
        ]
    for day in reversed(range(days - 1)):
        projected[day] = min(projected[day], projected[day + 1])
    return projected


def free_units(position: Position) -> int:
    """Units that are there and nobody was promised, or how many are missing."""
    promised = position.held + position.allocated - position.preordered
    withheld = position.unsellable + position.safety_stock + position.fenced
    return position.on_hand - promised - withheld
