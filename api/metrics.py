"""What one worker counts: plain numbers on the hot path, gathered into a Struct when scraped."""

from bisect import bisect_left
from collections.abc import Iterable

from msgspec import Struct, field

from api.admission import Admission
from api.watch import Watch
from engine.figures import ShopFigures
from engine.metrics import DURATION_BUCKETS, Durations, EngineMetrics

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds."""


class RouteMetrics:
    """The requests of one method, route and status."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BUCKETS) + 1)
        self.seconds = 0.0


class HttpMetrics:
    """The requests of one worker."""

    __slots__ = ("routes",)

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str, int], RouteMetrics] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Notes an answered request."""
        key = (method, route, status)
        found = self.routes.get(key)
        if found is None:
            found = self.routes[key] = RouteMetrics()
        found.buckets[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        found.seconds += seconds


class RouteCounts(Struct, frozen=True):
    """The requests of one method, route and status. `buckets` are counts between bounds, not up to them;
    the last one has no bound.
    """

    method: str
    route: str
    status: int
    buckets: list[int]
    seconds: float


class OperationCount(Struct, frozen=True):
    """How many operations of a verb ended with an outcome."""

    verb: str
    outcome: str
    count: int


class DurationCounts(Struct, frozen=True):
    """How long something took; `buckets` as those of routes."""

    buckets: list[int]
    seconds: float


class Gauges(Struct, frozen=True):
    """What the process of background workers found out, and how old that is by now, in seconds."""

    figures: ShopFigures
    clock_differences: dict[str, float] = field(default_factory=dict)
    """By how many seconds each server's clock is ahead of this machine's."""


class WorkerCounts(Struct, frozen=True):
    """All that one process has counted since it started. It travels between workers as JSON."""

    worker: str
    is_connected: bool
    routes: list[RouteCounts]
    operations: list[OperationCount]
    calls: int
    call_requests: int
    call_buckets: list[int]
    stalls: int = 0
    shed: list[int] = field(default_factory=list)
    """Refused requests by rank; none of a process that admits nobody."""
    under_way: int = 0
    limit: int = 0
    reached: dict[str, int] = field(default_factory=dict)
    """How often each limit of callers was reached."""
    is_ready: bool | None = None
    """None of a process that answers no requests."""
    durations: dict[str, DurationCounts] = field(default_factory=dict)
    """Of script calls, by verb."""
    confirmations: DurationCounts | None = None
    """How long answers waited for replicas; None where none ever did."""
    unconfirmed: int = 0
    lost_units: dict[str, int] = field(default_factory=dict)
    """By channel."""
    gauges: Gauges | None = None
    started_at: float = 0.0
    """By this machine's clock, in seconds since 1970."""


def worker_counts(
    worker: str,
    http: HttpMetrics,
    engine: EngineMetrics,
    admission: Admission | None = None,
    watch: Watch | None = None,
    *,
    is_connected: bool,
    is_ready: bool | None = None,
    gauges: Gauges | None = None,
    started_at: float = 0.0,
) -> WorkerCounts:
    """What a process has counted by now."""
    lane = engine.lane
    return WorkerCounts(
        worker,
        is_connected,
        [
            RouteCounts(method, route, status, list(found.buckets), found.seconds)
            for (method, route, status), found in http.routes.items()
        ],
        [OperationCount(verb, outcome, count) for (verb, outcome), count in engine.operations.items()],
        lane.calls,
        lane.requests,
        list(lane.call_counts),
        lane.stalls,
        [] if admission is None else list(admission.shed),
        0 if admission is None else admission.under_way,
        0 if admission is None else admission.limit,
        dict(watch.reached) if watch is not None else {},
        is_ready=is_ready,
        durations={verb: _durations(found) for verb, found in lane.durations.items()},
        confirmations=_durations(lane.confirmations) if any(lane.confirmations.counts) else None,
        unconfirmed=lane.unconfirmed,
        lost_units=dict(engine.lost_units),
        gauges=gauges,
        started_at=started_at,
    )


def _durations(found: Durations) -> DurationCounts:
    return DurationCounts(list(found.counts), found.seconds)


def sum_routes(workers: Iterable[WorkerCounts]) -> list[RouteCounts]:
    """The requests of all workers, each method, route and status once."""
    sums: dict[tuple[str, str, int], RouteMetrics] = {}
    for worker in workers:
        for counts in worker.routes:
            total = sums.setdefault((counts.method, counts.route, counts.status), RouteMetrics())
            total.buckets = add_buckets(total.buckets, counts.buckets)
            total.seconds += counts.seconds
    return [RouteCounts(*key, total.buckets, total.seconds) for key, total in sorted(sums.items())]


def sum_operations(workers: Iterable[WorkerCounts]) -> list[OperationCount]:
    """The operations of all workers, each verb and outcome once."""
    sums: dict[tuple[str, str], int] = {}
    for worker in workers:
        for counts in worker.operations:
            key = (counts.verb, counts.outcome)
            sums[key] = sums.get(key, 0) + counts.count
    return [OperationCount(*key, count) for key, count in sorted(sums.items())]


def sum_durations(found: Iterable[DurationCounts]) -> DurationCounts:
    """Several histograms of durations in one."""
    buckets, seconds = [0] * (len(DURATION_BUCKETS) + 1), 0.0
    for one in found:
        buckets, seconds = add_buckets(buckets, one.buckets), seconds + one.seconds
    return DurationCounts(buckets, seconds)


def add_buckets(left: list[int], right: list[int]) -> list[int]:
    """Two histograms of the same bounds, added."""
    return [one + other for one, other in zip(left, right, strict=True)]
