"""What a check finds, and what it looked at, so that a history in which nothing happened is seen as one."""

from collections import Counter

from msgspec import Struct

KEPT_VIOLATIONS = 200
NUMBER_BITS = 40


class Violation(Struct, frozen=True):
    """A promise that the history shows broken. `operations` show it, each a file and a number."""

    invariant: str
    subject: str
    detail: str
    operations: tuple[tuple[int, int], ...]


def reference(file: int, number: int) -> int:
    """An operation as one number."""
    return file << NUMBER_BITS | number


class Findings:
    """Collects violations, the first of each invariant and subject, and counts of what was judged."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.violation_count = 0
        self.counts = Counter[str]()
        self._known = set[tuple[str, str]]()

    def blame(self, invariant: str, subject: str, detail: str, *operations: int) -> None:
        """Counts a violation, and keeps it unless one like it is known."""
        self.violation_count += 1
        if len(self.violations) == KEPT_VIOLATIONS or (invariant, subject) in self._known:
            return
        self._known.add((invariant, subject))
        named = tuple((one >> NUMBER_BITS, one & ((1 << NUMBER_BITS) - 1)) for one in operations if one >= 0)
        self.violations.append(Violation(invariant, subject, detail, tuple(dict.fromkeys(named))))
