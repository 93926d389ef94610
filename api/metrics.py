"""What one worker counts of HTTP: plain numbers on the hot path, Prometheus text when scraped."""

from bisect import bisect_left

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
