"""Counts as Prometheus reads them (text format 0.0.4)."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

from api.admission import Rank
from api.limits import REACHABLE
from api.metrics import (
    LATENCY_BUCKETS,
    RouteMetrics,
    WorkerCounts,
    add_buckets,
    sum_operations,
    sum_routes,
)
from engine.metrics import CALL_BUCKETS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Family(NamedTuple):
    """A metric: what Prometheus is told of it, and its labels and bounds for whoever reads about it."""

    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


FAMILIES: Mapping[str, Family] = {
    "bincard_http_requests_total": Family(
        "counter", "Answered requests by method, route and status.", ("method", "route", "status")
    ),
    "bincard_http_request_duration_seconds": Family(
        "histogram",
        "Time from the head of a request to the last byte of its answer.",
        ("method", "route"),
        LATENCY_BUCKETS,
    ),
    "bincard_operations_total": Family(
        "counter", "Operations of the engine by verb and outcome.", ("verb", "outcome")
    ),
    "bincard_script_call_requests": Family(
        "histogram", "Requests that one script call carried to the server.", (), CALL_BUCKETS
    ),
    "bincard_requests_shed_total": Family(
        "counter",
        "Requests refused because there was more to do than could be done; the most important first in line.",
        ("priority",),
    ),
    "bincard_operations_under_way": Family(
        "gauge",
        "Operations that an API worker answers at the moment; a batch counts by its size.",
        ("worker",),
    ),
    "bincard_operations_limit": Family(
        "gauge", "How many a worker lets in at once; commits and releases go beyond it.", ("worker",)
    ),
    "bincard_server_stalls_total": Family(
        "counter", "How often a stock server stopped to answer, so that new requests were refused at once."
    ),
    "bincard_limits_reached_total": Family(
        "counter",
        "Requests and connections that were refused or ended at a limit (`docs/operating/limits.md`).",
        ("limit",),
    ),
    "bincard_connection_up": Family(
        "gauge", "Whether a worker has a connection to the stock server (1) or not (0).", ("worker",)
    ),
}
"""Every metric."""


def render(workers: Sequence[WorkerCounts]) -> str:
    """The counts of all workers together; the connection for each."""
    lines: list[str] = []
    routes = sum_routes(workers)
    _head(lines, "bincard_http_requests_total")
    for counts in routes:
        labels = _labels(method=counts.method, route=counts.route, status=str(counts.status))
        lines.append(f"bincard_http_requests_total{labels} {sum(counts.buckets)}")

    durations: dict[tuple[str, str], RouteMetrics] = {}
    for counts in routes:
        total = durations.setdefault((counts.method, counts.route), RouteMetrics())
        total.buckets = add_buckets(total.buckets, counts.buckets)
        total.seconds += counts.seconds
    name = "bincard_http_request_duration_seconds"
    _head(lines, name)
    for (method, route), total in durations.items():
        labelled = {"method": method, "route": route}
        lines += _histogram(name, labelled, LATENCY_BUCKETS, total.buckets, total.seconds)

    _head(lines, "bincard_operations_total")
    for operation in sum_operations(workers):
        labels = _labels(verb=operation.verb, outcome=operation.outcome)
        lines.append(f"bincard_operations_total{labels} {operation.count}")

    name = "bincard_script_call_requests"
    _head(lines, name)
    calls = [0] * len(CALL_BUCKETS)
    for worker in workers:
        calls = add_buckets(calls, worker.call_buckets)
    # A call carries no more than the last bound, so nothing is beyond it.
    lines += _histogram(name, {}, CALL_BUCKETS, [*calls, 0], sum(worker.call_requests for worker in workers))

    _tell_admission(lines, workers)
    name = "bincard_limits_reached_total"
    _head(lines, name)
    for limit in REACHABLE:
        reached = sum(worker.reached.get(limit, 0) for worker in workers)
        lines.append(f"{name}{_labels(limit=limit)} {reached}")
    _head(lines, "bincard_connection_up")
    for worker in sorted(workers, key=lambda counts: counts.worker):
        lines.append(f"bincard_connection_up{_labels(worker=worker.worker)} {int(worker.is_connected)}")
    return "\n".join(lines) + "\n"


def _tell_admission(lines: list[str], workers: Sequence[WorkerCounts]) -> None:
    api_workers = [worker for worker in sorted(workers, key=lambda counts: counts.worker) if worker.limit]
    name = "bincard_requests_shed_total"
    _head(lines, name)
    for rank in Rank:
        shed = sum(worker.shed[rank] for worker in api_workers)
        lines.append(f"{name}{_labels(priority=rank.name.lower())} {shed}")
    _head(lines, "bincard_operations_under_way")
    lines += [
        f"bincard_operations_under_way{_labels(worker=one.worker)} {one.under_way}" for one in api_workers
    ]
    _head(lines, "bincard_operations_limit")
    lines += [f"bincard_operations_limit{_labels(worker=one.worker)} {one.limit}" for one in api_workers]
    _head(lines, "bincard_server_stalls_total")
    lines.append(f"bincard_server_stalls_total {sum(worker.stalls for worker in workers)}")


def _head(lines: list[str], name: str) -> None:
    family = FAMILIES[name]
    lines += (f"# HELP {name} {family.meaning}", f"# TYPE {name} {family.kind}")


def _histogram(
    name: str,
    labels: Mapping[str, str],
    bounds: Iterable[float],
    buckets: Sequence[int],
    total: float,
) -> list[str]:
    """`buckets` has one more than `bounds`; Prometheus wants counts up to a bound, ours are between two."""
    texts = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    lines = [
        f"{name}_bucket{_labels(**labels, le=text)} {count}"
        for text, count in zip(texts, accumulate(buckets), strict=True)
    ]
    lines += (f"{name}_sum{_labels(**labels)} {total!r}", f"{name}_count{_labels(**labels)} {sum(buckets)}")
    return lines


def _labels(**labels: str) -> str:
    if not labels:
        return ""
    texts = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return "{" + ",".join(texts) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
