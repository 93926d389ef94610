"""Counts as Prometheus reads them (text format 0.0.4)."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from api.admission import Rank
from api.limits import REACHABLE
from api.metric_families import FAMILIES
from api.metrics import (
    LATENCY_BUCKETS,
    DurationCounts,
    Gauges,
    RouteMetrics,
    WorkerCounts,
    add_buckets,
    sum_durations,
    sum_operations,
    sum_routes,
)
from engine.figures import LedgerCounts, StockCounts, StoreFigures
from engine.metrics import CALL_BUCKETS, DURATION_BUCKETS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
STALE_SECONDS = 5.0
"""Figures of the store that are older are left out."""

Row = tuple[Mapping[str, str], float]


class ServiceFacts(NamedTuple):
    """What does not change while a process lives."""

    version: str
    partitions: int
    durability: str | None
    """None: whoever answers serves nobody, and no data set is told of."""


def render(workers: Sequence[WorkerCounts], facts: ServiceFacts) -> str:
    """The counts of all workers together, and what background workers found out about the store."""
    page = _Page()
    page.one("bincard_build_info", 1, version=facts.version, python=platform.python_version())
    if facts.durability is not None:
        page.one("bincard_dataset_info", 1, partitions=str(facts.partitions), durability=facts.durability)
    workers = sorted(workers, key=lambda counts: counts.worker)
    _tell_requests(page, workers)
    _tell_calls(page, workers)
    _tell_admission(page, [worker for worker in workers if worker.limit])
    page.one("bincard_server_stalls_total", sum(worker.stalls for worker in workers))
    page.rows("bincard_connection_up", [({"worker": one.worker}, one.is_connected) for one in workers])
    page.rows(
        "bincard_worker_start_time_seconds", [({"worker": one.worker}, one.started_at) for one in workers]
    )
    page.rows(
        "bincard_worker_ready",
        [({"worker": one.worker}, one.is_ready) for one in workers if one.is_ready is not None],
    )
    _tell_shop(page, next((worker.gauges for worker in workers if worker.gauges is not None), None))
    return page.text


class _Page:
    """The text so far."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self._lines) + "\n"

    def one(self, name: str, value: float, **labels: str) -> None:
        """A metric of one series."""
        self.rows(name, [(labels, value)])

    def rows(self, name: str, rows: Iterable[Row]) -> None:
        """A metric with its series."""
        self._head(name)
        self._lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in rows]

    def histograms(
        self,
        name: str,
        rows: Iterable[tuple[Mapping[str, str], Sequence[int], float]],
        bounds: Iterable[float],
    ) -> None:
        """A histogram's series: labels, counts and sum of each. Counts are between bounds, the last beyond
        all; Prometheus wants counts up to a bound.
        """
        self._head(name)
        texts = [*(f"{bound:g}" for bound in bounds), "+Inf"]
        for labels, buckets, total in rows:
            self._lines += [
                f"{name}_bucket{_labels({**labels, 'le': text})} {count}"
                for text, count in zip(texts, accumulate(buckets), strict=True)
            ]
            own = _labels(labels)
            self._lines += (f"{name}_sum{own} {total!r}", f"{name}_count{own} {sum(buckets)}")

    def _head(self, name: str) -> None:
        family = FAMILIES[name]
        self._lines += (f"# HELP {name} {family.meaning}", f"# TYPE {name} {family.kind}")


def _tell_requests(page: _Page, workers: Sequence[WorkerCounts]) -> None:
    routes = sum_routes(workers)
    page.rows(
        "bincard_http_requests_total",
        [
            ({"method": one.method, "route": one.route, "status": str(one.status)}, sum(one.buckets))
            for one in routes
        ],
    )
    durations: dict[tuple[str, str], RouteMetrics] = {}
    for counts in routes:
        total = durations.setdefault((counts.method, counts.route), RouteMetrics())
        total.buckets = add_buckets(total.buckets, counts.buckets)
        total.seconds += counts.seconds
    page.histograms(
        "bincard_http_request_duration_seconds",
        [
            ({"method": method, "route": route}, total.buckets, total.seconds)
            for (method, route), total in durations.items()
        ],
        LATENCY_BUCKETS,
    )
    page.rows(
        "bincard_operations_total",
        [({"verb": one.verb, "outcome": one.outcome}, one.count) for one in sum_operations(workers)],
    )
    lost: dict[str, int] = {}
    for worker in workers:
        for channel, units in worker.lost_units.items():
            lost[channel] = lost.get(channel, 0) + units
    page.rows(
        "bincard_refused_units_total", [({"channel": name}, units) for name, units in sorted(lost.items())]
    )


def _tell_calls(page: _Page, workers: Sequence[WorkerCounts]) -> None:
    calls = [0] * len(CALL_BUCKETS)
    for worker in workers:
        calls = add_buckets(calls, worker.call_buckets)
    # A call carries no more than the last bound, so nothing is beyond it.
    requests = sum(worker.call_requests for worker in workers)
    page.histograms("bincard_script_call_requests", [({}, [*calls, 0], requests)], CALL_BUCKETS)
    verbs: dict[str, list[DurationCounts]] = {}
    for worker in workers:
        for verb, found in worker.durations.items():
            verbs.setdefault(verb, []).append(found)
    summed = [(verb, sum_durations(found)) for verb, found in sorted(verbs.items())]
    page.histograms(
        "bincard_script_call_duration_seconds",
        [({"verb": verb}, found.buckets, found.seconds) for verb, found in summed],
        DURATION_BUCKETS,
    )
    waits = [worker.confirmations for worker in workers if worker.confirmations is not None]
    if waits:
        total = sum_durations(waits)
        page.histograms(
            "bincard_replica_wait_seconds", [({}, total.buckets, total.seconds)], DURATION_BUCKETS
        )
    page.one("bincard_replica_failures_total", sum(worker.unconfirmed for worker in workers))


def _tell_admission(page: _Page, workers: Sequence[WorkerCounts]) -> None:
    """Of API workers."""
    page.rows(
        "bincard_requests_shed_total",
        [({"priority": rank.name.lower()}, sum(worker.shed[rank] for worker in workers)) for rank in Rank],
    )
    page.rows("bincard_operations_under_way", [({"worker": one.worker}, one.under_way) for one in workers])
    page.rows("bincard_operations_limit", [({"worker": one.worker}, one.limit) for one in workers])
    page.rows(
        "bincard_limits_reached_total",
        [({"limit": limit}, sum(one.reached.get(limit, 0) for one in workers)) for limit in REACHABLE],
    )


# ------------------------------------------------------------------------- the store and the shop


def _tell_shop(page: _Page, gauges: Gauges | None) -> None:
    figures = None if gauges is None else gauges.figures
    store = None if figures is None else figures.store
    is_up = figures is not None and store is not None and figures.asked_at - store.read_at <= STALE_SECONDS
    page.one("bincard_scrape_store_up", is_up)
    if gauges is None or figures is None:
        return
    if is_up and store is not None:
        _tell_servers(page, store, gauges.clock_differences)
        _tell_partitions(page, store)
    _tell_ledger(page, figures.ledger)
    if is_up and figures.stock is not None:
        _tell_stock(page, figures.stock, figures.asked_at)


def _tell_servers(page: _Page, store: StoreFigures, differences: Mapping[str, float]) -> None:
    for name, values in (
        ("bincard_server_memory_used_bytes", [one.used_memory for one in store.servers]),
        ("bincard_server_memory_max_bytes", [one.max_memory for one in store.servers]),
        ("bincard_server_memory_peak_bytes", [one.peak_memory for one in store.servers]),
        ("bincard_server_memory_resident_bytes", [one.resident_memory for one in store.servers]),
        ("bincard_server_memory_machine_bytes", [one.machine_memory for one in store.servers]),
        ("bincard_server_memory_copied_bytes", [one.copied_memory for one in store.servers]),
        ("bincard_server_fork_seconds", [one.fork_seconds for one in store.servers]),
        ("bincard_server_rewriting", [one.is_rewriting for one in store.servers]),
        ("bincard_server_log_good", [one.are_writes_good for one in store.servers]),
        ("bincard_server_replicas", [one.replicas for one in store.servers]),
        ("bincard_server_uptime_seconds", [one.uptime_seconds for one in store.servers]),
        (
            "bincard_server_clock_difference_seconds",
            [differences.get(one.name, 0.0) for one in store.servers],
        ),
    ):
        rows = zip(store.servers, values, strict=True)
        page.rows(name, [({"server": server.name}, value) for server, value in rows])


def _tell_partitions(page: _Page, store: StoreFigures) -> None:
    partitions = store.partitions
    skew = max((one.skew_ms for one in partitions), key=abs)
    page.one("bincard_clock_skew_seconds", skew / 1000)
    page.one("bincard_sweep_lag_seconds", max(one.late_ms for one in partitions) / 1000)
    page.one("bincard_repair_lag_seconds", max(one.repair_late_ms for one in partitions) / 1000)
    page.one("bincard_ledger_entries", sum(one.entries for one in partitions))
    page.one("bincard_ledger_events", sum(one.seq for one in partitions))
    page.one("bincard_index_lag_events", sum(one.unindexed for one in partitions))
    page.one("bincard_epoch", max(one.epoch for one in partitions))
    page.one("bincard_epoch_changes_total", store.epoch_changes)


def _tell_ledger(page: _Page, ledger: LedgerCounts) -> None:
    page.rows("bincard_holds_total", [({"result": word}, count) for word, count in ledger.holds.items()])
    page.rows("bincard_hold_units_total", [({"result": word}, count) for word, count in ledger.units.items()])
    page.one("bincard_facts_total", ledger.facts)
    page.one("bincard_uncovered_promises_total", ledger.uncovered_promises)
    page.one("bincard_uncovered_promise_units_total", ledger.uncovered_units)
    page.one("bincard_oversold_units_total", ledger.oversold_units)
    page.one("bincard_ledger_rollbacks_total", ledger.rollbacks)
    page.one("bincard_ledger_gaps_total", ledger.gaps)
    page.one("bincard_ledger_damaged_entries_total", ledger.damaged)
    page.one("bincard_bookkeeper_lag_events", ledger.behind)


def _tell_stock(page: _Page, stock: StockCounts, now: float) -> None:
    for name, values in (
        ("bincard_open_holds", [one.holds for one in stock.places]),
        ("bincard_held_units", [one.held for one in stock.places]),
        ("bincard_allocated_units", [one.allocated for one in stock.places]),
    ):
        rows = zip(stock.places, values, strict=True)
        page.rows(name, [({"channel": one.channel, "location": one.location}, value) for one, value in rows])
    for name, values in (
        ("bincard_positions", [one.positions for one in stock.locations]),
        ("bincard_on_hand_units", [one.on_hand for one in stock.locations]),
        ("bincard_uncovered_units", [one.uncovered for one in stock.locations]),
    ):
        by_location = zip(stock.locations, values, strict=True)
        page.rows(name, [({"location": one.location}, value) for one, value in by_location])
    page.one("bincard_uncovered_positions", stock.uncovered_positions)
    page.one("bincard_drifted_positions", stock.drifted_positions)
    page.one("bincard_drifted_units", stock.drifted_units)
    page.one("bincard_uncompared_cards", stock.uncompared)
    page.one("bincard_stocktake_age_seconds", now - stock.ended_at)
    page.one("bincard_stocktake_duration_seconds", stock.ended_at - stock.began_at)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    texts = (f'{name}="{_escape(value)}"' for name, value in labels.items())
    return "{" + ",".join(texts) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
