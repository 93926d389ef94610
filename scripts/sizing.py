#!/usr/bin/env python3
"""How many servers, and how much memory: `python3 scripts/sizing.py --positions 1e6 --rate 20000`.

Standard library only. Costs come from the committed results in benchmarks/results where these have them,
else from the constants below. `--write` puts the tables into the sizing page.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "operating" / "sizing.md"
HOUR_SECONDS = 3600
Figure = dict[str, Any]
HEADROOM = 0.5
"""Plan for half of what was measured: peaks, a rewrite of the log, a replica that catches up."""

MEMORY_HEADROOM = 1.4
"""Fragmentation, buffers, and pages copied while the log is rewritten."""

POSITION_STEPS = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
RATE_STEPS = (100, 1_000, 10_000, 100_000, 1_000_000)
LARGEST_PRIMARY_BYTES = 64 << 30
"""The largest primary that we would run: beyond it, restarts and copies take too long."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one of a thing costs. Bytes are of server memory, microseconds of CPU on one core.

    A position is one of three of its SKU. A hold has one line and includes its ledger entry; a finished
    reservation was reserved, committed and fulfilled, and includes the entries of all three. A receipt
    is a remembered movement, its entry, and the position that it made.
    """

    position_bytes: float = 82.0
    hold_bytes: float = 261.0
    event_bytes: float = 102.0
    finished_bytes: float = 495.0
    receipt_bytes: float = 250.0
    reserve_us: float = 4.0
    commit_us: float = 2.5
    read_us: float = 2.0
    api_write_us: float = 40.0
    api_read_us: float = 25.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where a result file has a cost: by the start of a figure's name, or by its label `of`.

    Of several the one with the most SKUs counts. Of a ratio it is the subject's side.
    """

    benchmark: str
    name: str = ""
    of: str = ""


SOURCES: dict[str, tuple[Source, ...]] = {
    "position_bytes": (Source("scale", of="position"),),
    "hold_bytes": (Source("scale", of="hold"),),
    "event_bytes": (Source("scale", of="hold: of it ledger"),),
    "finished_bytes": (Source("scale", of="finished reservation"),),
    "receipt_bytes": (Source("scale", of="movement and its position"),),
    "reserve_us": (
        Source("scale", "reserve at "),
        Source("micro", "reserve, batch 64, log always"),
        Source("micro", "reserve, batch 64, log off"),
    ),
    "commit_us": (
        Source("micro", "commit, batch 64, log always"),
        Source("micro", "commit, batch 64, log off"),
    ),
    "read_us": (Source("http_api", "availability: CPU of the store"),),
    "api_write_us": (Source("http_api", "reserve: CPU of the worker"),),
    "api_read_us": (Source("http_api", "availability: CPU of the worker"),),
}
"""For each cost where it is looked for, the first found counts."""

EVENTS = 3
"""Entries of a reservation that was reserved, committed and fulfilled."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the shop asks for, at its busiest; rates are per second."""

    positions: int
    reservations: float
    movements: float = 0.0
    """Receipts, sales and adjustments of the retention time: each is remembered with its entry."""
    reads_each: float = 10.0
    hold_seconds: float = 300.0
    retention_seconds: float = 24 * HOUR_SECONDS
    ledger_seconds: float = 24 * HOUR_SECONDS
    """How long entries stay in memory, until they are archived and trimmed."""
    busy_share: float = 0.25
    """The mean rate over these times, as a share of the peak."""
    cores: int = 8
    """Of an API host; each serves with one worker process."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What that takes. `ledger_bytes_a_day` is what the archive must take over."""

    position_bytes: float
    open_bytes: float
    finished_bytes: float
    movement_bytes: float
    ledger_bytes: float
    ledger_bytes_a_day: float
    memory_bytes: float
    primary_cores: float
    primaries: int
    api_cores: float
    api_hosts: int


def plan(demand: Demand, costs: Costs) -> Plan:
    """Memory by kind, primaries by CPU and by memory (whichever is more), API hosts by CPU."""
    mean = demand.reservations * demand.busy_share
    open_holds = demand.reservations * demand.hold_seconds
    finished = mean * demand.retention_seconds
    position_bytes = demand.positions * costs.position_bytes
    open_bytes = open_holds * (costs.hold_bytes - costs.event_bytes)
    finished_bytes = finished * max(0.0, costs.finished_bytes - EVENTS * costs.event_bytes)
    day_bytes = mean * 24 * HOUR_SECONDS * EVENTS * costs.event_bytes
    ledger_bytes = open_holds * costs.event_bytes + day_bytes * demand.ledger_seconds / (24 * HOUR_SECONDS)
    movement_bytes = demand.movements * max(0.0, costs.receipt_bytes - costs.position_bytes)
    used = position_bytes + open_bytes + finished_bytes + movement_bytes + ledger_bytes
    memory = used * MEMORY_HEADROOM
    reads = demand.reservations * demand.reads_each
    # To fulfil costs about as much as to commit.
    writes_us = demand.reservations * (costs.reserve_us + 2 * costs.commit_us)
    primary_cores = (writes_us + reads * costs.read_us) / 1e6 / HEADROOM
    api_us = demand.reservations * EVENTS * costs.api_write_us + reads * costs.api_read_us
    api_cores = api_us / 1e6 / HEADROOM
    return Plan(
        position_bytes=position_bytes,
        open_bytes=open_bytes,
        finished_bytes=finished_bytes,
        movement_bytes=movement_bytes,
        ledger_bytes=ledger_bytes,
        ledger_bytes_a_day=day_bytes,
        memory_bytes=memory,
        primary_cores=primary_cores,
        primaries=max(1, math.ceil(primary_cores), math.ceil(memory / LARGEST_PRIMARY_BYTES)),
        api_cores=api_cores,
        api_hosts=max(1, math.ceil(api_cores / demand.cores)),
    )


# ---------------------------------------------------------------- the costs


def load_costs(directory: Path = RESULTS) -> tuple[Costs, dict[str, str]]:
    """The costs, and for each where it comes from. Raises `ValueError` for an unreadable result file."""
    costs, origin = Costs(), {field.name: "built in" for field in fields(Costs)}
    for name, places in SOURCES.items():
        for source in places:
            found = find(read_figures(directory / f"{source.benchmark}.json"), source)
            if found is not None:
                costs = replace(costs, **{name: cost_of(found)})
                origin[name] = f"{source.benchmark}.json: {found['name']}"
                break
    return costs, origin


def read_figures(path: Path) -> list[Figure]:
    """The figures of a result file, none where there is no file."""
    try:
        figures: list[Figure] = json.loads(path.read_bytes())["figures"]
    except FileNotFoundError:
        return []
    return figures


def find(figures: list[Figure], source: Source) -> Figure | None:
    """The figure of a source, the one with the most SKUs where several fit."""
    fitting = [
        figure
        for figure in figures
        if (source.of and figure.get("labels", {}).get("of") == source.of)
        or (source.name and str(figure["name"]).startswith(source.name))
    ]
    return max(fitting, key=lambda figure: figure.get("labels", {}).get("skus", 0), default=None)


def cost_of(figure: Figure) -> float:
    """Its value, or of a ratio the median of the subject's side."""
    subject = figure.get("subject")
    return float(median(subject) if subject else figure["value"])


# ---------------------------------------------------------------- for people


def in_bytes(value: float) -> str:
    """A size with three significant digits."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = min(len(units) - 1, int(math.log10(value) / 3) if value >= 1 else 0)
    return f"{value / 1000**power:.3g} {units[power]}"


def position_table(costs: Costs) -> list[str]:
    """Memory of the positions alone."""
    rows = ["| positions | memory | with headroom | primaries for memory |", "| ---: | ---: | ---: | ---: |"]
    for positions in POSITION_STEPS:
        made = plan(Demand(positions, 0.0), costs)
        rows.append(
            f"| {positions:,} | {in_bytes(made.position_bytes)} | {in_bytes(made.memory_bytes)} "
            f"| {made.primaries} |"
        )
    return rows


def rate_table(costs: Costs, positions: int = 1_000_000) -> list[str]:
    """Hosts, primaries and bytes by reservations per second at the peak."""
    rows = [
        "| reservations/s | API hosts | primaries | for CPU alone | open holds | finished | ledger a day |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rate in RATE_STEPS:
        made = plan(Demand(positions, rate), costs)
        rows.append(
            f"| {rate:,} | {made.api_hosts} | {made.primaries} | {max(1, math.ceil(made.primary_cores))} "
            f"| {in_bytes(made.open_bytes)} | {in_bytes(made.finished_bytes)} "
            f"| {in_bytes(made.ledger_bytes_a_day)} |"
        )
    return rows


def cost_table(costs: Costs, origin: dict[str, str]) -> list[str]:
    """The costs and where they come from."""
    rows = ["| cost | value | source |", "| --- | ---: | --- |"]
    for field in fields(Costs):
        name, _, unit = field.name.rpartition("_")
        value = f"{getattr(costs, field.name):.4g} {'µs' if unit == 'us' else unit}"
        rows.append(f"| {name.replace('_', ' ')} | {value} | {origin[field.name]} |")
    return rows


def fill_page(page: str, costs: Costs, origin: dict[str, str]) -> str:
    """The sizing page with its tables made anew."""
    tables = {
        "costs": cost_table(costs, origin),
        "positions": position_table(costs),
        "rates": rate_table(costs),
    }
    for name, rows in tables.items():
        begin, end = f"<!-- {name} -->\n", "\n<!-- end -->"
        before, _, rest = page.partition(begin)
        page = before + begin + "\n".join(rows) + end + rest.partition(end)[2]
    return page


def describe(demand: Demand, made: Plan) -> str:
    """A plan as text."""
    return "\n".join(
        (
            f"{demand.positions:,} positions, {demand.reservations:,.0f} reservations/s at the peak",
            f"  positions            {in_bytes(made.position_bytes)}",
            f"  open holds           {in_bytes(made.open_bytes)}",
            f"  finished, remembered {in_bytes(made.finished_bytes)}",
            f"  movements            {in_bytes(made.movement_bytes)}",
            f"  ledger               {in_bytes(made.ledger_bytes)}",
            f"  ledger a day         {in_bytes(made.ledger_bytes_a_day)}",
            f"  memory with headroom {in_bytes(made.memory_bytes)}",
            f"  primaries            {made.primaries} ({made.primary_cores:.2f} cores of script time)",
            f"  API hosts            {made.api_hosts} of {demand.cores} cores ({made.api_cores:.1f} cores)",
        )
    )


def main() -> int:
    """Answer the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--positions", type=float, default=1e6, help="SKUs × locations that stock them")
    options.add_argument("--rate", type=float, default=1000, help="reservations per second at the peak")
    options.add_argument("--movements", type=float, default=0, help="receipts and the like remembered")
    options.add_argument("--reads", type=float, default=10, help="availability reads per reservation")
    options.add_argument("--hold-seconds", type=float, default=300, help="how long a hold stays open")
    options.add_argument("--retention-hours", type=float, default=24, help="until a finished one goes")
    options.add_argument("--ledger-hours", type=float, default=24, help="until entries are archived")
    options.add_argument("--busy-share", type=float, default=0.25, help="mean rate as a share of the peak")
    options.add_argument("--cores", type=int, default=8, help="of an API host")
    options.add_argument("--write", action="store_true", help="writes the tables into the sizing page")
    chosen = options.parse_args()
    costs, origin = load_costs()
    if chosen.write:
        PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8"), costs, origin), encoding="utf-8")
        print(f"written: {PAGE}")
        return 0
    demand = Demand(
        positions=int(chosen.positions),
        reservations=chosen.rate,
        movements=chosen.movements,
        reads_each=chosen.reads,
        hold_seconds=chosen.hold_seconds,
        retention_seconds=chosen.retention_hours * HOUR_SECONDS,
        ledger_seconds=chosen.ledger_hours * HOUR_SECONDS,
        busy_share=chosen.busy_share,
        cores=chosen.cores,
    )
    print(describe(demand, plan(demand, costs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
