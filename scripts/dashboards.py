#!/usr/bin/env python3
"""Writes the Grafana dashboards of `deploy/grafana/dashboards` from the panels below.

`python3 scripts/dashboards.py` writes them anew; a test holds that they are up to date, and asks a live
Prometheus each query.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "dashboards"
WIDTH, HEIGHT = 24, 8
D = 'dataset="$dataset"'
"""In each query: the data set that was chosen."""


class Panel(NamedTuple):
    """Queries with their legends; `unit` as Grafana knows it. `stat` shows the last value, large."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    meaning: str = ""
    width: int = 12
    kind: str = "timeseries"
    alarm_above: float | None = None


def stat(title: str, unit: str, query: str, meaning: str = "", *, alarm_above: float | None = None) -> Panel:
    """One number."""
    return Panel(title, unit, ((query, ""),), meaning, 4, "stat", alarm_above)


BOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "overview": (
        "Overview",
        (
            stat("Oversold units", "short", f"max(bincard_oversold_units_total{{{D}}})", "0", alarm_above=0),
            stat("Drift of the books", "short", f"max(bincard_drifted_units{{{D}}})", "0", alarm_above=0),
            stat(
                "Uncovered units",
                "short",
                f"sum(bincard:uncovered_units{{{D}}})",
                "Promised, and not there any more because of facts.",
                alarm_above=0,
            ),
            stat("Requests", "reqps", f"sum(bincard:requests:rate5m{{{D}}})"),
            stat("Reserve p99", "s", f"bincard:reserve_seconds:p99_5m{{{D}}}", alarm_above=0.05),
            stat("Oldest lapsed hold", "s", f"max(bincard_sweep_lag_seconds{{{D}}})", alarm_above=1),
            Panel(
                "Requests by status",
                "reqps",
                (
                    (
                        f"sum by (status) (rate(bincard_http_requests_total{{{D}}}[$__rate_interval]))",
                        "{{status}}",
                    ),
                ),
            ),
            Panel(
                "What became of holds",
                "short",
                ((f"bincard:holds:rate5m{{{D}}}", "{{result}}"),),
                "Reservations a second.",
            ),
            Panel(
                "Open holds by channel",
                "short",
                ((f"sum by (channel) (bincard:open_holds{{{D}}})", "{{channel}}"),),
            ),
            Panel(
                "Units: held, allocated, on hand",
                "short",
                (
                    (f"sum(bincard:held_units{{{D}}})", "held"),
                    (f"sum(bincard:allocated_units{{{D}}})", "allocated"),
                    (f"sum(bincard:on_hand_units{{{D}}})", "on hand"),
                ),
            ),
            Panel(
                "Processes",
                "short",
                (
                    (f"sum(bincard_worker_ready{{{D}}})", "workers that are ready"),
                    (f"sum(bincard_connection_up{{{D}}})", "processes with a connection"),
                    (f"min(bincard_scrape_store_up{{{D}}})", "store gives figures"),
                ),
            ),
            Panel(
                "Memory of stock servers",
                "bytes",
                (
                    (f"max by (server) (bincard_server_memory_used_bytes{{{D}}})", "used, {{server}}"),
                    (f"max by (server) (bincard_server_memory_max_bytes{{{D}}})", "limit, {{server}}"),
                ),
            ),
        ),
    ),
    "reservations": (
        "Reservations",
        (
            Panel(
                "Time of a reserve",
                "s",
                (
                    (f"bincard:reserve_seconds:p50_5m{{{D}}}", "p50"),
                    (f"bincard:reserve_seconds:p99_5m{{{D}}}", "p99"),
                ),
                "From the head of the request to the last byte of the answer.",
            ),
            Panel(
                "Operations by outcome",
                "ops",
                ((f"bincard:operations:rate5m{{{D}}}", "{{verb}}: {{outcome}}"),),
            ),
            Panel(
                "Units by what became of them",
                "short",
                ((f"bincard:hold_units:rate5m{{{D}}}", "{{result}}"),),
                "Units a second.",
            ),
            Panel(
                "Conversion",
                "percentunit",
                ((f"bincard:conversion:ratio_rate1h{{{D}}}", "committed of held"),),
                "Units that were committed, of those that were held, over an hour.",
            ),
            Panel(
                "Refused units by channel",
                "short",
                ((f"bincard:refused_units:rate5m{{{D}}}", "{{channel}}"),),
                "Lost demand: units a second of lines that were not there.",
            ),
            Panel(
                "Demand that is refused",
                "percentunit",
                ((f"bincard:refused_demand:ratio_rate5m{{{D}}}", "refused of asked"),),
            ),
            Panel(
                "Open holds by channel and location",
                "short",
                ((f"bincard:open_holds{{{D}}}", "{{channel}} at {{location}}"),),
            ),
            Panel(
                "Promises broken by facts",
                "short",
                (
                    (
                        f"max(rate(bincard_uncovered_promises_total{{{D}}}[$__rate_interval]))",
                        "promises a second",
                    ),
                ),
            ),
        ),
    ),
    "locations": (
        "Locations",
        (
            Panel("On hand", "short", ((f"bincard:on_hand_units{{{D}}}", "{{location}}"),)),
            Panel(
                "Held",
                "short",
                ((f"sum by (location) (bincard:held_units{{{D}}})", "{{location}}"),),
            ),
            Panel(
                "Allocated",
                "short",
                ((f"sum by (location) (bincard:allocated_units{{{D}}})", "{{location}}"),),
                "Committed and not yet gone.",
            ),
            Panel("Uncovered", "short", ((f"bincard:uncovered_units{{{D}}}", "{{location}}"),)),
            Panel(
                "Positions",
                "short",
                ((f"max by (location) (bincard_positions{{{D}}})", "{{location}}"),),
                "SKUs that a location stocks, or did.",
            ),
            Panel(
                "Age of these figures",
                "s",
                (
                    (f"min(bincard_stocktake_age_seconds{{{D}}})", "age"),
                    (f"min(bincard_stocktake_duration_seconds{{{D}}})", "how long the walk took"),
                ),
            ),
        ),
    ),
    "server": (
        "Servers and processes",
        (
            Panel(
                "Script calls: time",
                "s",
                (
                    (
                        (
                            "histogram_quantile(0.99, sum by (verb, le) "
                            f"(rate(bincard_script_call_duration_seconds_bucket{{{D}}}[$__rate_interval])))"
                        ),
                        "p99 {{verb}}",
                    ),
                ),
            ),
            Panel(
                "Requests in a call",
                "short",
                (
                    (
                        (
                            f"sum(rate(bincard_script_call_requests_sum{{{D}}}[$__rate_interval])) / "
                            f"sum(rate(bincard_script_call_requests_count{{{D}}}[$__rate_interval]))"
                        ),
                        "mean",
                    ),
                ),
            ),
            Panel(
                "Operations under way",
                "short",
                (
                    (f"sum by (worker) (bincard_operations_under_way{{{D}}})", "worker {{worker}}"),
                    (f"min(bincard_operations_limit{{{D}}})", "limit of a worker"),
                ),
            ),
            Panel(
                "Turned away, and stalls",
                "short",
                (
                    (f"bincard:shed:rate5m{{{D}}}", "{{priority}} a second"),
                    (
                        f"sum(increase(bincard_server_stalls_total{{{D}}}[$__rate_interval]))",
                        "stalls of a stock server",
                    ),
                ),
            ),
            Panel(
                "Memory",
                "bytes",
                (
                    (f"max by (server) (bincard_server_memory_used_bytes{{{D}}})", "used, {{server}}"),
                    (f"max by (server) (bincard_server_memory_peak_bytes{{{D}}})", "peak, {{server}}"),
                    (
                        f"max by (server) (bincard_server_memory_resident_bytes{{{D}}})",
                        "resident, {{server}}",
                    ),
                    (f"max by (server) (bincard_server_memory_copied_bytes{{{D}}})", "copied, {{server}}"),
                    (f"max by (server) (bincard_server_memory_machine_bytes{{{D}}})", "machine, {{server}}"),
                ),
            ),
            Panel(
                "Rewrites of the log",
                "short",
                (
                    (f"max by (server) (bincard_server_rewriting{{{D}}})", "rewriting, {{server}}"),
                    (f"max by (server) (bincard_server_fork_seconds{{{D}}})", "last fork in s, {{server}}"),
                    (f"min by (server) (bincard_server_log_good{{{D}}})", "log is good, {{server}}"),
                ),
            ),
            Panel(
                "Replicas",
                "short",
                (
                    (f"min by (server) (bincard_server_replicas{{{D}}})", "connected, {{server}}"),
                    (
                        f"sum(rate(bincard_replica_failures_total{{{D}}}[$__rate_interval]))",
                        "turns a second without confirmation",
                    ),
                ),
            ),
            Panel(
                "Clocks",
                "s",
                (
                    (f"max(bincard_clock_skew_seconds{{{D}}})", "skew"),
                    (
                        f"max by (server) (bincard_server_clock_difference_seconds{{{D}}})",
                        "ahead of the API, {{server}}",
                    ),
                ),
            ),
            Panel(
                "Background work",
                "s",
                (
                    (f"max(bincard_sweep_lag_seconds{{{D}}})", "oldest lapsed hold"),
                    (f"max(bincard_repair_lag_seconds{{{D}}})", "oldest repair"),
                ),
            ),
            Panel(
                "Readers of the ledger",
                "short",
                (
                    (f"max(bincard_bookkeeper_lag_events{{{D}}})", "not counted"),
                    (f"max(bincard_index_lag_events{{{D}}})", "not filed"),
                ),
                "Events.",
            ),
            Panel(
                "Ledger",
                "short",
                (
                    (f"max(bincard_ledger_entries{{{D}}})", "entries"),
                    (f"max(bincard_ledger_events{{{D}}})", "events"),
                    (f"max(bincard_epoch{{{D}}})", "epoch"),
                ),
            ),
            Panel(
                "Uptime",
                "s",
                (
                    (f"max by (server) (bincard_server_uptime_seconds{{{D}}})", "{{server}}"),
                    (f"time() - bincard_worker_start_time_seconds{{{D}}}", "worker {{worker}}"),
                ),
            ),
        ),
    ),
    "slos": (
        "Service levels",
        (
            *tuple(
                Panel(
                    f"{title}: burn rate",
                    "short",
                    tuple(
                        (f"bincard:{metric}{window}{{{D}}} / {budget}", window)
                        for window in ("5m", "30m", "1h", "6h")
                    ),
                    f"{promise} 1 uses the budget up in 30 days; 14.4 over 1h and 5m is a page.",
                )
                for title, metric, budget, promise in (
                    (
                        "Answers",
                        "answer_errors:ratio_rate",
                        0.001,
                        "99.9 % of requests get an answer below 500.",
                    ),
                    ("Reserve", "reserve_slow:ratio_rate", 0.01, "99 % of reserves take 50 ms at the most."),
                    (
                        "Give-back",
                        "give_back_late:ratio",
                        0.001,
                        "99.9 % of the time no lapsed hold waits for longer than a second.",
                    ),
                )
            ),
            Panel(
                "No oversell, no drift, no loss",
                "short",
                (
                    (f"max(bincard_oversold_units_total{{{D}}})", "oversold units"),
                    (f"max(bincard_drifted_units{{{D}}})", "drifted units"),
                    (f"max(bincard_ledger_rollbacks_total{{{D}}})", "roll-backs"),
                    (f"max(bincard_ledger_gaps_total{{{D}}})", "gaps"),
                    (f"max(bincard_ledger_damaged_entries_total{{{D}}})", "damaged entries"),
                ),
                "All of them are 0.",
            ),
        ),
    ),
}


def board(name: str) -> str:
    """A dashboard as Grafana imports it."""
    title, panels = BOARDS[name]
    source = {"type": "prometheus", "uid": "${datasource}"}
    content = {
        "uid": f"bincard-{name}",
        "title": f"Bincard: {title}",
        "tags": ["bincard"],
        "editable": False,
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["bincard"], "title": "Bincard", "asDropdown": True}],
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                {
                    "name": "dataset",
                    "label": "Data set",
                    "type": "query",
                    "datasource": source,
                    "query": "label_values(bincard_build_info, dataset)",
                    "refresh": 2,
                },
            ]
        },
        "panels": _place(panels, source),
    }
    return json.dumps(content, indent=2) + "\n"


def _place(panels: tuple[Panel, ...], source: dict[str, str]) -> list[dict[str, Any]]:
    placed, x, y = [], 0, 0
    for number, panel in enumerate(panels, 1):
        height = HEIGHT // 2 if panel.kind == "stat" else HEIGHT
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        if number > 1 and x == 0 and panels[number - 2].kind == "stat":
            y -= HEIGHT // 2
        placed.append(
            {
                "id": number,
                "type": panel.kind,
                "title": panel.title,
                "description": panel.meaning,
                "datasource": source,
                "gridPos": {"x": x, "y": y, "w": panel.width, "h": height},
                "fieldConfig": {"defaults": {"unit": panel.unit, **_alarm(panel)}, "overrides": []},
                "targets": [
                    {
                        "refId": chr(ord("A") + index),
                        "datasource": source,
                        "expr": query,
                        "legendFormat": legend,
                    }
                    for index, (query, legend) in enumerate(panel.queries)
                ],
            }
        )
        x += panel.width
    return placed


def _alarm(panel: Panel) -> dict[str, Any]:
    if panel.alarm_above is None:
        return {}
    # A step counts from its value on: what is just above turns red.
    steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.alarm_above + 1e-9}]
    return {"thresholds": {"mode": "absolute", "steps": steps}}


def main() -> None:
    """Writes all of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in BOARDS:
        (FOLDER / f"{name}.json").write_text(board(name), encoding="utf-8")


if __name__ == "__main__":
    main()
