"""What background workers find out about the store and the shop; it travels to who is scraped, as JSON."""

from collections.abc import Sequence

from msgspec import Struct, field


class ServerFigures(Struct, frozen=True):
    """One stock server. Sizes are in bytes; 0 where the server does not tell."""

    name: str
    used_memory: int
    max_memory: int
    """0: no limit is set."""
    peak_memory: int
    resident_memory: int
    machine_memory: int
    copied_memory: int
    """What the last rewrite of the log took beside: the next needs as much again."""
    fork_seconds: float
    is_rewriting: bool
    are_writes_good: bool
    """Whether the last write to the log worked."""
    replicas: int
    uptime_seconds: int
    clock_ms: int
    """The server's clock when the figures came, `read_at` of our monotonic one."""
    read_at: float


class PartitionFigures(Struct, frozen=True):
    """One partition. `late_ms` and `repair_late_ms` are the ages of the oldest that is due and not done."""

    epoch: int
    seq: int
    skew_ms: int
    late_ms: int
    repair_late_ms: int
    entries: int
    unindexed: int
    """Events that the index of reservations does not know yet."""


class StoreFigures(Struct, frozen=True):
    """All servers and partitions, and when they were read, by our monotonic clock."""

    servers: Sequence[ServerFigures]
    partitions: Sequence[PartitionFigures]
    epoch_changes: int
    read_at: float


class PlaceCounts(Struct, frozen=True):
    """Open promises of a channel at a location. A hold of several lines counts where its first is."""

    channel: str
    location: str
    holds: int
    held: int
    allocated: int


class LocationCounts(Struct, frozen=True):
    """What cards say of a location. `uncovered` are units promised beyond what lies there or may be owed."""

    location: str
    positions: int
    on_hand: int
    held: int
    allocated: int
    uncovered: int


class StockCounts(Struct, frozen=True):
    """A stocktake: all cards, each as of one moment of the walk that ended at `ended_at`."""

    places: Sequence[PlaceCounts] = ()
    locations: Sequence[LocationCounts] = ()
    uncovered_positions: int = 0
    drifted_positions: int = 0
    drifted_units: int = 0
    uncompared: int = 0
    """Cards with too many claims, or that changed too often while they were read."""
    began_at: float = 0.0
    ended_at: float = 0.0


class LedgerCounts(Struct, frozen=True):
    """What came to pass since a process began to read the ledger: holds and units by what became of them."""

    holds: dict[str, int] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)
    events: int = 0
    facts: int = 0
    uncovered_promises: int = 0
    uncovered_units: int = 0
    oversold_units: int = 0
    rollbacks: int = 0
    gaps: int = 0
    damaged: int = 0
    behind: int = 0
    """Events that were not read yet when last looked at."""


class ShopFigures(Struct, frozen=True):
    """All of it. `asked_at` is the reader's monotonic clock when this was put together."""

    asked_at: float
    store: StoreFigures | None
    stock: StockCounts | None
    ledger: LedgerCounts
