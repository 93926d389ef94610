"""Replays fences, and what steps of reservations with terms do to them: worked out apart from the scripts.

A fence covers open units of its channel first; what is left of it is withheld from all others.
"""

from collections.abc import Iterator

from msgspec import Struct

from engine.cards import FLAG_FENCED
from engine.events import FenceSaved
from engine.ledger_counters import Counters
from engine.records import KIND_PART, VERSION_SIZE, Terms, decode_terms
from engine.types import Fence

Place = tuple[str, str]
"""SKU and location."""


class _Fence(Struct, gc=False):
    """What a fence keeps, of which `used` are open units of its channel."""

    remaining: int = 0
    used: int = 0
    spills: bool = False


class Step(Struct, frozen=True, gc=False):
    """What happened to a reservation's units at a position: how many more are held and allocated, and how
    many left. `waiting` of those held are promised of what is inbound.
    """

    held: int
    allocated: int
    left: int = 0
    waiting: int = 0


class FenceBooks:
    """The fences of one partition, event by event."""

    def __init__(self) -> None:
        self._fences: dict[Place, dict[str, _Fence]] = {}
        self.counts: dict[str, int] = {}
        """Channel → how many fences it has."""

    def has(self, place: Place) -> bool:
        """Whether there is a fence at a position."""
        return place in self._fences

    def at(self, place: Place) -> Iterator[Fence]:
        """The fences of a position, in the order in which they were made."""
        for channel, fence in self._fences.get(place, {}).items():
            total = fence.remaining + fence.used
            yield Fence(channel, *place, total, fence.spills, fence.remaining, fence.used)

    def save(self, event: FenceSaved, counters: Counters) -> str | None:
        """A fence was written or deleted. Returns what is wrong about it."""
        place = event.sku, event.location
        here = self._fences.setdefault(place, {})
        fault, fence = None, here.get(event.channel)
        if event.quantity is None:
            if fence is None:
                fault = "was deleted and was not there"
            elif fence.used:
                fault = f"was deleted while {fence.used} of its units were in use"
            here.pop(event.channel, None)
            self._count(event.channel, 0 if fence is None else -1)
        else:
            if fence is None:
                fence = here[event.channel] = _Fence()
                self._count(event.channel, 1)
            if event.used is not None:
                fence.used = event.used
            fence.spills, fence.remaining = event.spills, max(event.quantity - fence.used, 0)
        if not here:
            del self._fences[place]
        self._sum_up(place, counters)
        return fault

    def room(self, terms: Terms, place: Place, counters: Counters) -> int:
        """How many units that are there a reservation with these terms may take."""
        free = counters.free + counters.backorder_limit
        fence = self._fences.get(place, {}).get(terms.channel)
        if fence is None:
            return free
        return min(free + counters.fenced, fence.remaining + (max(0, free) if fence.spills else 0))

    def follow(self, terms: Terms, index: int, place: Place, counters: Counters, step: Step) -> str | None:
        """A step of a reservation with these terms, whose position of that index it is; the counters have it.
        Returns what is wrong about it.
        """
        if terms.pools and index not in terms.bound:
            counters.floating += step.held
        fence = self._fences.get(place, {}).get(terms.channel)
        opened, taken = step.held + step.allocated, 0
        is_sold = opened == 0 and step.left > 0
        if is_sold:
            # Lapsed units, taken anew and gone at once.
            opened = step.left
        if fence is not None and opened > 0:
            taken = min(opened, fence.remaining)
            fence.used += 0 if is_sold else taken
            fence.remaining -= taken
        elif fence is not None and opened < 0:
            closed = min(-opened, fence.used)
            fence.used -= closed
            # Those of them that left are gone; the others are withheld again.
            fence.remaining += closed - min(closed, step.left)
        self._sum_up(place, counters)
        if opened <= taken + step.waiting:
            return None
        if fence is not None and not fence.spills:
            return f"took {opened - taken - step.waiting} units beyond the fence of {terms.channel}"
        if counters.free + counters.backorder_limit < 0:
            return "took units that are withheld"
        return None

    def carry(self, terms: Terms, index: int, counters: Counters, held: int) -> None:
        """A reservation came from another data set, whose fences tell what they cover of it."""
        if terms.pools and index not in terms.bound:
            counters.floating += held

    def _count(self, channel: str, step: int) -> None:
        self.counts[channel] = self.counts.get(channel, 0) + step
        if not self.counts[channel]:
            del self.counts[channel]

    def _sum_up(self, place: Place, counters: Counters) -> None:
        here = self._fences.get(place)
        if here is None and not counters.flags & FLAG_FENCED:
            return
        counters.fenced = sum(fence.remaining for fence in (here or {}).values())
        counters.flags = counters.flags | FLAG_FENCED if here else counters.flags & ~FLAG_FENCED


def terms_of(kind: int, detail: bytes) -> Terms:
    """The terms that a record of a kind has before what only its caller reads."""
    return decode_terms(detail[VERSION_SIZE:] if kind == KIND_PART else detail)[0]
