"""Which versions of a partition have had an effect that somebody was told of, and which nobody explains."""

from engine.check.findings import Findings

SECOND = 1_000_000_000
SEQ_BITS = 56
SEQUENCES = (1 << SEQ_BITS) - 1
NOBODY = -1


def show(version: int) -> str:
    """`epoch.seq`."""
    return f"{version >> SEQ_BITS}.{version & ((1 << SEQ_BITS) - 1)}"


class Effects:
    """The effects of one partition. `is_whole`: the history began before anything had happened in it."""

    def __init__(self, partition: int, begin: int, findings: Findings, *, is_whole: bool) -> None:
        self.partition = partition
        self.is_whole = is_whole
        self.counts_numbers = is_whole
        self.findings = findings
        self.version = begin
        self.has_floats = False
        """Whether there are holds that others may re-bind, by effects that no answer tells."""
        self.holes = set[int]()
        self._between: dict[int, int] = {}
        """Holes of which nothing tells whether they belong to the epoch before or after them, by sequence."""
        self.observed: dict[int, str] = {}
        """Versions of which only a reading has told, and of which reservation: who made them may tell yet."""
        self.unseen = 0
        """Effects that may have happened without an answer that tells their version."""
        self._last_subject = ""
        self._last_operation = NOBODY

    def claim(self, version: int, subject: str, operation: int) -> None:
        """An effect has a version of its own."""
        if version > self.version:
            if version >> SEQ_BITS == self.version >> SEQ_BITS:
                self.holes.update(range(self.version + 1, version))
            else:
                self._leave_between(version)
            self.version = version
            self._last_subject, self._last_operation = subject, operation
        elif (hole := self._hole(version)) is not None:
            self.holes.remove(hole)
        elif self.observed.pop(version, None) == subject:
            return
        elif version > 0 and self.is_whole:
            self.findings.blame(
                "I1",
                f"version {show(version)} of partition {self.partition}",
                f"is the version of two effects: of {subject} and of "
                + (self._last_subject if version == self.version else "another"),
                operation,
                self._last_operation if version == self.version else NOBODY,
            )

    def _leave_between(self, version: int) -> None:
        epoch, last = self.version >> SEQ_BITS, self.version & SEQUENCES
        between = {seq: epoch << SEQ_BITS | seq for seq in range(last + 1, version & SEQUENCES)}
        self._between.update(between)
        self.holes.update(between.values())

    def _hole(self, version: int) -> int | None:
        """The hole that an effect of that version fills."""
        hole = version if version in self.holes else self._between.get(version & SEQUENCES)
        return hole if hole in self.holes else None

    def finish(self) -> None:
        """Effects that nothing in the history explains."""
        counts = self.findings.counts
        counts["effects without an answer"] += len(self.holes)
        is_counted = self.is_whole and self.counts_numbers and not self.has_floats
        if not is_counted or len(self.holes) <= self.unseen:
            return
        first = ", ".join(map(show, sorted(self.holes)[:5]))
        self.findings.blame(
            "I10",
            f"partition {self.partition}",
            f"{len(self.holes)} effects have no answer that tells them, and only {self.unseen} are explained "
            f"by lapsed holds and lost answers; the first are {first}. Was a caller not recorded?",
        )
