"""The counters of a position, as a replay adds them up."""

from msgspec import Struct

from engine import limits
from engine.cards import UNLIMITED


class Counters(Struct, gc=False):
    """The counters of one position."""

    on_hand: int = 0
    held: int = 0
    allocated: int = 0
    unsellable: int = 0
    safety_stock: int = 0
    backorder_limit: int = 0
    fenced: int = 0
    low_stock: int = 0
    inbound: int = 0
    flags: int = 0
    floating: int = 0
    preordered: int = 0

    @property
    def slack(self) -> int:
        """What may still be promised at the utmost; negative where a fact took promised units away."""
        return self.uncommitted + self.backorder_limit

    @property
    def uncommitted(self) -> int:
        """Sellable units that are there and nobody was promised; those promised of what is inbound do not
        count.
        """
        return self.on_hand - self.unsellable - self.held - self.allocated + self.preordered

    @property
    def free(self) -> int:
        return self.uncommitted - self.safety_stock - self.fenced

    @property
    def available(self) -> int:
        if self.backorder_limit >= UNLIMITED:
            return limits.MAX_QUANTITY
        return max(self.free, -self.backorder_limit)

    def promise(self, quantity: int, room: int) -> int:
        """How many of `quantity` units, to be held where there is real room for `room`, are promised of what
        is inbound; the counter has them.
        """
        waiting = min(max(0, quantity - max(0, room)), max(0, self.inbound - self.preordered))
        self.preordered += waiting
        return waiting

    def settle(self) -> None:
        """Whatever is free goes to those who wait for what is inbound. To be called after every change."""
        if self.preordered:
            self.preordered -= min(self.preordered, max(0, self.free + self.backorder_limit))

    def numbers(self) -> dict[str, int]:
        """The stored counters by name, in the order in which they are stored."""
        return {name: getattr(self, name) for name in COUNTERS}


COUNTERS = Counters.__struct_fields__
"""Their names, in the order in which they are stored."""
