"""What an audit tells."""

import msgspec
from msgspec import Struct

from engine.ledger import Violation

KEPT_DIFFERENCES = 1000


class Difference(Struct, frozen=True):
    """Something stored that is not as the ledger has it, or as another partition has it."""

    partition: int
    subject: str
    stored: str
    replayed: str


class Note(Struct, frozen=True):
    """Something that the reader of a report must know. Where it is `blocking`, the audit could not say
    that the books are right.
    """

    name: str
    partition: int
    detail: str
    is_blocking: bool


class AuditReport(Struct):
    """What an audit found. The lists keep the first thousand; the counts count all."""

    partitions: int = 0
    positions: int = 0
    reservations: int = 0
    operations: int = 0
    events: int = 0
    elapsed_seconds: float = 0.0
    differences: list[Difference] = msgspec.field(default_factory=list)
    difference_count: int = 0
    violations: list[Violation] = msgspec.field(default_factory=list)
    violation_count: int = 0
    notes: list[Note] = msgspec.field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every count equals the replay of the ledger, and no event breaks a promise."""
        blocked = any(note.is_blocking for note in self.notes)
        return not (self.difference_count or self.violation_count or blocked)

    @property
    def events_per_second(self) -> float:
        return self.events / self.elapsed_seconds if self.elapsed_seconds else 0.0

    def differ(self, partition: int, subject: str, stored: object, replayed: object) -> None:
        """Counts a difference, and keeps it while there are few."""
        self.difference_count += 1
        if len(self.differences) < KEPT_DIFFERENCES:
            self.differences.append(Difference(partition, subject, str(stored), str(replayed)))
