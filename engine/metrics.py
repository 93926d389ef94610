"""What the engine counts. Plain integers, added up where the work is done and read at scrape time."""

from engine.outcomes import Outcome

CALL_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper bounds of the histogram of requests in one script call."""


class LaneMetrics:
    """How well requests gather into script calls."""

    __slots__ = ("call_counts", "calls", "requests", "stalls")

    def __init__(self) -> None:
        self.calls = 0
        self.requests = 0
        self.stalls = 0
        """How often a server stopped to answer."""
        self.call_counts = [0] * len(CALL_BUCKETS)

    def call_requests(self, count: int) -> None:
        """Notes a call that carries so many requests."""
        self.calls += 1
        self.requests += count
        self.call_counts[min((count - 1).bit_length(), len(CALL_BUCKETS) - 1)] += 1


class EngineMetrics:
    """Operations by verb and outcome, and the lane's figures."""

    __slots__ = ("lane", "operations")

    def __init__(self) -> None:
        self.lane = LaneMetrics()
        self.operations: dict[tuple[str, Outcome], int] = {}

    def count(self, verb: str, outcome: Outcome, units: int = 1) -> None:
        """Notes operations of a verb that ended with an outcome."""
        key = (verb, outcome)
        self.operations[key] = self.operations.get(key, 0) + units
