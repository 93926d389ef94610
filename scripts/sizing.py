#!/usr/bin/env python3
"""How many servers, and how much memory: `python3 scripts/sizing.py --positions 1e6 --rate 20000`.

Standard library only. Bytes are worked out from the stored forms as a server allocates them; microseconds
come from the committed results in benchmarks/results where these have them, else from the constants below.
`--write` puts the tables into the sizing page.
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


LARGEST_SMALL_CLASS = 128
"""Up to here size classes are 16 bytes apart; above, four to each doubling."""


@dataclass(frozen=True, slots=True)
class Server:
    """How a server allocates, as measured.

    Redis gives a field of a hash an entry, its name and its value, each a piece of its own; Valkey keeps them
    in one piece up to `embedded` bytes. `bucket` is a field's share of the table, between two doublings.
    """

    name: str
    has_classes: bool
    """Pieces are of size classes (jemalloc) or of any 16 bytes (libc)."""

    bucket: float
    embedded: int
    member: float
    """Of a sorted set, besides the text."""

    node: float
    """Of a stream, besides the entries."""

    def piece(self, size: float) -> int:
        """What the allocator counts for a piece of memory."""
        wanted = math.ceil(size)
        if not self.has_classes:
            return max(24, -(-(wanted + 8) // 16) * 16 - 8)
        step = 16 if wanted <= LARGEST_SMALL_CLASS else 1 << (wanted - 1).bit_length() - 3
        return -(-wanted // step) * step

    def text(self, size: float) -> int:
        """A string in a piece of its own."""
        return self.piece(size + text_head(size))

    def field(self, name: float, value: float) -> float:
        """A field of a large hash."""
        if self.embedded == 0:
            return self.piece(HASH_ENTRY) + self.text(name) + self.text(value) + self.bucket
        together = name + text_head(name) + value + EMBEDDED_HEAD
        if together <= self.embedded:
            return self.piece(together) + self.bucket
        return self.piece(name + text_head(name) + POINTER) + self.text(value) + self.bucket

    def entry(self, size: float) -> float:
        """An entry of a stream: nodes take entries up to 4 kB together, or one."""
        entries = max(1, min(NODE_ENTRIES, int((NODE_BYTES - NODE_HEAD) / (size + ENTRY_HEAD))))
        return (self.piece(NODE_HEAD + entries * (size + ENTRY_HEAD)) + self.node) / entries


HASH_ENTRY, POINTER, EMBEDDED_HEAD = 24, 8, 4
NODE_BYTES, NODE_ENTRIES, NODE_HEAD, ENTRY_HEAD = 4096, 100, 21, 17


def text_head(size: float) -> int:
    """What a string has besides its bytes: 1, 3 or 5 in front and a zero behind."""
    return next((head for limit, head in ((32, 2), (256, 4)) if size < limit), 6)


SERVERS = {
    "valkey": Server("Valkey 9.1", has_classes=False, bucket=16, embedded=128, member=52, node=48),
    "redis": Server("Redis 7.0", has_classes=True, bucket=12, embedded=0, member=95, node=26),
}
"""Valkey as it comes with Bincard, with the allocator of libc; Redis as Debian has it, with jemalloc."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What names and calls are like. Reservations have one line."""

    locations: int = 3
    """Of a SKU."""

    counters: int = 4
    """Of a position: 8 of SKUs with a policy."""

    sku_bytes: int = 9
    location_bytes: int = 2
    detail_bytes: int = 12
    """Owner, reference and metadata of a reservation; 12 of one that has none of them."""

    together: int = 128
    """Requests of one call: a partition that is busy has full calls, one that is not has calls of one."""


MAX_PLACES, PAGES = 32, 64
CARD_HEAD, CLAIM, ID, EVENT_HEAD, ENTRY_BODY = 11, 12, 12, 4, 8
RECORD_FRONT, RECORD_HEAD, BLOCK_NUMBER, MOVEMENT_RESULT, MOVEMENT_DETAIL = 30, 36, 3, 21, 12
MOVE_TAIL = 34
"""Of the stored forms: see `engine/lua/lib/card.lua`, `record.lua` and `batch.lua`."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one of a thing costs. Bytes are of server memory, microseconds of CPU on one core.

    A hold is an open reservation, a finished one was committed and fulfilled, a receipt is a remembered
    movement; none of them includes its events, which stay until they are trimmed.
    """

    position_bytes: float
    hold_bytes: float
    finished_bytes: float
    receipt_bytes: float
    reserve_event_bytes: float
    """A commit or fulfilment has less: `step_event_bytes`."""

    step_event_bytes: float
    movement_event_bytes: float
    history_bytes: float
    """A line of the physical history: of a movement, and of each line that is fulfilled."""

    reserve_us: float = 4.0
    commit_us: float = 2.5
    read_us: float = 2.0
    api_write_us: float = 40.0
    api_read_us: float = 25.0

    @property
    def events_bytes(self) -> float:
        """The events of a reservation that was reserved, committed and fulfilled."""
        return self.reserve_event_bytes + 2 * self.step_event_bytes

    @property
    def totals(self) -> dict[str, float]:
        """Each thing with its events, named as a result of `benchmarks.scale` names it."""
        return {
            "position": self.position_bytes,
            "hold": self.hold_bytes + self.reserve_event_bytes,
            "finished reservation": self.finished_bytes + self.events_bytes + self.history_bytes,
            "movement and its position": self.receipt_bytes
            + self.movement_event_bytes
            + self.history_bytes
            + self.position_bytes,
        }


def work_out(server: Server, shape: Shape | None = None) -> Costs:
    """The bytes of each thing on a server."""
    shape = shape or Shape()
    plan_bytes = 3 + 6 + 2 + shape.location_bytes + 2 + shape.sku_bytes
    record = RECORD_FRONT + plan_bytes + shape.detail_bytes + BLOCK_NUMBER + RECORD_HEAD
    step = EVENT_HEAD + 2 * ID + plan_bytes + RECORD_HEAD + 2
    memory = 1 + 8 + MOVEMENT_RESULT
    movement = EVENT_HEAD + ID + 4 + MOVEMENT_RESULT + 7 + 3 + shape.location_bytes + 2 + shape.sku_bytes
    moved = shape.sku_bytes + 1 + shape.location_bytes + MOVE_TAIL
    deadline = (server.text(1 + ID * shape.together) + server.member) / shape.together
    remembered = server.field(ID, record)

    def event(size: float) -> float:
        return server.entry(ENTRY_BODY + shape.together * size) / shape.together

    return Costs(
        position_bytes=card_bytes(server, shape) / shape.locations,
        hold_bytes=remembered + CLAIM + deadline,
        # The entry of its deadline stays until that is past.
        finished_bytes=remembered + 2 * deadline,
        receipt_bytes=server.field(ID, memory) + deadline,
        reserve_event_bytes=event(record),
        step_event_bytes=event(step),
        movement_event_bytes=event(movement + MOVEMENT_DETAIL),
        history_bytes=server.text(moved) + server.member,
    )


def card_bytes(server: Server, shape: Shape) -> float:
    """The counters of a SKU at all its locations: one card, or at many locations one each page."""
    place = 4 + shape.location_bytes + 4 * shape.counters
    if shape.locations <= MAX_PLACES:
        return server.field(shape.sku_bytes, CARD_HEAD + shape.locations * place)
    pages = PAGES * (1 - (1 - 1 / PAGES) ** shape.locations)
    page = server.field(shape.sku_bytes + 3, CARD_HEAD + shape.locations / pages * place)
    return server.field(shape.sku_bytes, 3) + pages * page


SOURCES: dict[str, tuple[tuple[str, str], ...]] = {
    "reserve_us": (
        ("scale", "reserve at "),
        ("micro", "reserve, batch 64, log always"),
        ("micro", "reserve, batch 64, log off"),
    ),
    "commit_us": (
        ("scale", "commit at "),
        ("micro", "commit, batch 64, log always"),
        ("micro", "commit, batch 64, log off"),
    ),
    "read_us": (("http_api", "availability: CPU of the store"),),
    "api_write_us": (("http_api", "reserve: CPU of the worker"),),
    "api_read_us": (("http_api", "availability: CPU of the worker"),),
}
"""For each cost where it is looked for: the benchmark, and how the figure begins. The first found counts."""

CALLS = 3
"""Of a reservation that is reserved, committed and fulfilled."""


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
    history_seconds: float = 30 * 24 * HOUR_SECONDS
    """How long the physical history is kept (`HISTORY_SECONDS` in `engine/limits.py`)."""
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
    history_bytes: float
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
    open_bytes = open_holds * costs.hold_bytes
    finished_bytes = finished * costs.finished_bytes
    day_bytes = mean * 24 * HOUR_SECONDS * costs.events_bytes
    ledger_bytes = open_holds * costs.reserve_event_bytes
    ledger_bytes += day_bytes * demand.ledger_seconds / (24 * HOUR_SECONDS)
    movement_bytes = demand.movements * (costs.receipt_bytes + costs.movement_event_bytes)
    history_bytes = (demand.movements + mean * demand.history_seconds) * costs.history_bytes
    used = position_bytes + open_bytes + finished_bytes + movement_bytes + history_bytes + ledger_bytes
    memory = used * MEMORY_HEADROOM
    reads = demand.reservations * demand.reads_each
    # To fulfil costs about as much as to commit.
    writes_us = demand.reservations * (costs.reserve_us + 2 * costs.commit_us)
    primary_cores = (writes_us + reads * costs.read_us) / 1e6 / HEADROOM
    api_us = demand.reservations * CALLS * costs.api_write_us + reads * costs.api_read_us
    api_cores = api_us / 1e6 / HEADROOM
    return Plan(
        position_bytes=position_bytes,
        open_bytes=open_bytes,
        finished_bytes=finished_bytes,
        movement_bytes=movement_bytes,
        history_bytes=history_bytes,
        ledger_bytes=ledger_bytes,
        ledger_bytes_a_day=day_bytes,
        memory_bytes=memory,
        primary_cores=primary_cores,
        primaries=max(1, math.ceil(primary_cores), math.ceil(memory / LARGEST_PRIMARY_BYTES)),
        api_cores=api_cores,
        api_hosts=max(1, math.ceil(api_cores / demand.cores)),
    )


# ---------------------------------------------------------------- the costs


def load_costs(
    directory: Path = RESULTS, *, server: str = "valkey", shape: Shape | None = None
) -> tuple[Costs, dict[str, str]]:
    """The costs, and for each where it comes from. Raises `ValueError` for an unreadable result file."""
    costs = work_out(SERVERS[server], shape)
    origin = {
        field.name: "worked out" if field.name.endswith("_bytes") else "built in" for field in fields(Costs)
    }
    for name, places in SOURCES.items():
        for benchmark, begin in places:
            found = find(read_figures(directory / f"{benchmark}.json"), begin)
            if found is not None:
                costs = replace(costs, **{name: cost_of(found)})
                origin[name] = f"{benchmark}.json: {found['name']}"
                break
    return costs, origin


def read_figures(path: Path) -> list[Figure]:
    """The figures of a result file, none where there is no file."""
    try:
        figures: list[Figure] = json.loads(path.read_bytes())["figures"]
    except FileNotFoundError:
        return []
    return figures


def find(figures: list[Figure], begin: str) -> Figure | None:
    """The figure whose name begins so, the one with the most SKUs where several do."""
    fitting = [figure for figure in figures if str(figure["name"]).startswith(begin)]
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
        (
            "| reservations/s | API hosts | primaries | for CPU alone | open holds | finished | history "
            "| ledger a day |"
        ),
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rate in RATE_STEPS:
        made = plan(Demand(positions, rate), costs)
        rows.append(
            f"| {rate:,} | {made.api_hosts} | {made.primaries} | {max(1, math.ceil(made.primary_cores))} "
            f"| {in_bytes(made.open_bytes)} | {in_bytes(made.finished_bytes)} "
            f"| {in_bytes(made.history_bytes)} | {in_bytes(made.ledger_bytes_a_day)} |"
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


def server_table() -> list[str]:
    """Each thing with its events, by server and by how many requests share a call."""
    calls = (128, 8, 1)
    columns = [(server, together) for server in SERVERS.values() for together in calls]
    rows = [
        "| bytes, with events | "
        + " | ".join(f"{server.name}, {together}" for server, together in columns)
        + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    totals = [work_out(server, Shape(together=together)).totals for server, together in columns]
    rows += [
        f"| {name} | " + " | ".join(f"{total[name]:.0f}" for total in totals) + " |" for name in totals[0]
    ]
    return rows


def width_table() -> list[str]:
    """A position by how many locations its SKU has."""
    widths = (1, 3, 10, 30, 100, 2000)
    rows = ["| bytes a position | " + " | ".join(f"{width:,}" for width in widths) + " |"]
    rows.append("| --- |" + " ---: |" * len(widths))
    for server in SERVERS.values():
        values = [work_out(server, Shape(locations=width)).position_bytes for width in widths]
        rows.append(f"| {server.name} | " + " | ".join(f"{value:.0f}" for value in values) + " |")
    return rows


def fill_page(page: str, costs: Costs, origin: dict[str, str]) -> str:
    """The sizing page with its tables made anew."""
    tables = {
        "costs": cost_table(costs, origin),
        "servers": server_table(),
        "widths": width_table(),
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
            f"  physical history     {in_bytes(made.history_bytes)}",
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
    options.add_argument("--server", choices=SERVERS, default="valkey", help="the store's program")
    usual = Shape()
    options.add_argument("--locations", type=int, default=usual.locations, help="of a SKU")
    options.add_argument("--sku-bytes", type=int, default=usual.sku_bytes, help="length of a SKU")
    options.add_argument(
        "--location-bytes", type=int, default=usual.location_bytes, help="of a location's id"
    )
    options.add_argument("--detail-bytes", type=int, default=usual.detail_bytes, help="owner, metadata …")
    options.add_argument("--together", type=int, default=usual.together, help="requests of one call")
    options.add_argument("--write", action="store_true", help="writes the tables into the sizing page")
    chosen = options.parse_args()
    if chosen.write:
        costs, origin = load_costs()
        PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8"), costs, origin), encoding="utf-8")
        print(f"written: {PAGE}")
        return 0
    shape = Shape(
        locations=chosen.locations,
        sku_bytes=chosen.sku_bytes,
        location_bytes=chosen.location_bytes,
        detail_bytes=chosen.detail_bytes,
        together=chosen.together,
    )
    costs, _ = load_costs(server=chosen.server, shape=shape)
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
