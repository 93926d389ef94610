"""What a position can hold, as far as a history tells: every number from its least to its most."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from engine.check.effects import NOBODY
from engine.check.lives import Request, Share, Stand

NOTHING: Share = (0, 0, 0, 0, 0, 0, 0, 0)
FLOATING = ""
"""Where units of a SKU are put down that may lie at any of its locations. It is the name of none."""


class Position(Struct):
    """The sums of one SKU at one location over all movements and reservations of a history.

    `free` is what was moved less what reservations took: fulfilling changes neither. Pairs are least and
    most; they differ by what nobody was told.
    """

    sku: str
    location: str
    exists: bool = False
    moved: int = 0
    moved_least: int = 0
    """What unconfirmed movements may add, not above zero; `moved_most` not below."""
    moved_most: int = 0
    held_least: int = 0
    held_most: int = 0
    committed_least: int = 0
    committed_most: int = 0
    fulfilled_least: int = 0
    fulfilled_most: int = 0
    taken_least: int = 0
    taken_most: int = 0
    came: int = 0
    """All that movements brought, and `went` all that they took, whether a count has them in or not."""
    went: int = 0
    counts: tuple[int, ...] = ()
    """Units of counts that nobody knows the outcome of. Each may have been made, or may be made yet."""
    is_counted: bool = False
    """Whether somebody has asked for a count of it."""
    is_adrift: bool = False
    """Whether `moved` is not known, until somebody is told what is on hand."""
    pinned: int = 0
    """The version at which `moved` was worked out from what was on hand: what happened by then is in it."""
    is_judged: bool = True
    last: int = 0
    """The operation that changed it last."""

    @property
    def name(self) -> str:
        return f"{self.sku} at {self.location}"

    @property
    def all_moved(self) -> tuple[int, int]:
        """What came less what went. A count that was made leaves what it found, and what moved since."""
        least, most = self.moved + self.moved_least, self.moved + self.moved_most
        for quantity in self.counts:
            least = min(least, quantity - self.went + self.moved_least)
            most = max(most, quantity + self.came + self.moved_most + self.fulfilled_most)
        return least, most

    @property
    def free(self) -> tuple[int, int]:
        least, most = self.all_moved
        return least - self.taken_most, most - self.taken_least

    @property
    def on_hand(self) -> tuple[int, int]:
        least, most = self.all_moved
        return least - self.fulfilled_most, most - self.fulfilled_least

    @property
    def available(self) -> tuple[int, int]:
        """As it is shown: not below zero."""
        least, most = self.free
        return max(0, least), max(0, most)

    def change(self, before: Share, after: Share) -> None:
        """Takes one reservation's share for another."""
        self.held_least += after[0] - before[0]
        self.held_most += after[1] - before[1]
        self.committed_least += after[2] - before[2]
        self.committed_most += after[3] - before[3]
        self.fulfilled_least += after[4] - before[4]
        self.fulfilled_most += after[5] - before[5]
        self.taken_least += after[6] - before[6]
        self.taken_most += after[7] - before[7]


class Life(Struct):
    """A reservation. `bases` are the stands that it may have had at `version`, its last change that is
    known, and up to the version `ahead`, at which somebody was refused for it.
    """

    id: str
    positions: tuple[Position, ...] = ()
    bases: tuple[Stand, ...] = ()
    version: int = 0
    is_followed: bool = True
    floats: bool = False
    """Whether the engine chose its places, and may choose others: it is followed by SKU then."""
    ahead: int = 0
    may_expire: bool = False
    hidden: tuple[tuple[str, Request], ...] = ()
    """What may have happened to it unseen, with the operation ids."""
    shares: tuple[Share, ...] = ()
    deadline: int = 0
    """Before this time of the recorder's clock it cannot have lapsed."""
    expires_ms: int = 0
    told: int = 0
    """The latest version of it that a caller was told."""
    seen: tuple[int, str, dict[str, tuple[int, int, int, int]]] | None = None
    """Of one whose lines may change: the latest version that was told, its state and its units by SKU."""
    touched: int = 0
    """When the last operation that changed it began."""
    last: int = NOBODY


def widen(position: Position, floats: Position) -> Position:
    """A position at which any of the units may lie that float between the locations of its SKU."""
    seen = replace(position)
    seen.change(
        NOTHING,
        (0, floats.held_most, 0, floats.committed_most, 0, floats.fulfilled_most, 0, floats.taken_most),
    )
    return seen


def add_up(sku: str, positions: Iterable[Position]) -> Position:
    """All positions of a SKU as one: units that go from one to another change nothing of it."""
    total = Position(sku, "all locations")
    for one in positions:
        moved = one.all_moved
        total.moved_least += moved[0]
        total.moved_most += moved[1]
        total.change(
            NOTHING,
            (
                one.held_least, one.held_most, one.committed_least, one.committed_most,
                one.fulfilled_least, one.fulfilled_most, one.taken_least, one.taken_most,
            ),
        )  # fmt: skip
        total.last = max(total.last, one.last)
    return total


def words(bounds: tuple[int, int]) -> str:
    """`5`, or `from 3 to 5`."""
    least, most = bounds
    return f"{least}" if least == most else f"from {least} to {most}"
