"""The report of a replay: what happened, how fast, and whether the proof holds."""

from __future__ import annotations

from array import array
from pathlib import Path

import msgspec
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

LISTED_FINDINGS = 100


class Latency(msgspec.Struct, frozen=True):
    """How long the answers to one verb took, as the client saw it, in milliseconds."""

    count: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float


class Outcomes(msgspec.Struct):
    """How many baskets ended how, and what happened to requests on the way."""

    held: int = 0
    refused: int = 0
    committed: int = 0
    fulfilled: int = 0
    released: int = 0
    expired: int = 0
    extended: int = 0
    unresolved: int = 0
    duplicates_sent: int = 0
    replayed_answers: int = 0
    unknown_outcomes: int = 0
    unknown_resolved: int = 0
    turned_away: int = 0


class Finding(msgspec.Struct, frozen=True):
    """Something that contradicts the promises: where, and what was expected and found."""

    rule: str
    where: str
    detail: str


class Proof(msgspec.Struct):
    """The two sides of the proof of no oversell.

    `answers_agree`: what the server answered is free of contradiction and never promised more than
    was received. `books_agree`: the server's own books equal what follows from its answers.
    """

    answers_agree: bool = False
    books_agree: bool = False
    skus_compared: int = 0
    positions_compared: int = 0
    positions_contended: int = 0
    units_received: int = 0
    units_fulfilled: int = 0
    units_allocated: int = 0
    reservations_acknowledged: int = 0
    reservations_checked: int = 0
    expiries_seen: int = 0
    findings_total: int = 0
    findings: list[Finding] = []


class ReplayReport(msgspec.Struct):
    """All figures of one replay; durations in seconds unless the name says otherwise."""

    run: str
    url: str
    source: str
    ok: bool
    stopped: str
    seed: int
    scarcity: float
    clients: int
    speed: float | None
    baskets: int
    lines: int
    skus: int
    locations: int
    positions: int
    load_seconds: float
    traffic_seconds: float
    proof_seconds: float
    baskets_per_second: float
    lines_per_second: float
    requests: int
    requests_per_second: float
    latency: dict[str, Latency]
    outcomes: Outcomes
    proof: Proof


def latency(micros: array[int]) -> Latency:
    """Condense latencies in microseconds; exact, every value counts."""
    ordered = sorted(micros)
    last = len(ordered) - 1

    def at(share: float) -> float:
        return ordered[min(last, int(share * len(ordered)))] / 1000

    return Latency(
        count=len(ordered),
        p50_ms=at(0.5),
        p90_ms=at(0.9),
        p99_ms=at(0.99),
        p999_ms=at(0.999),
        max_ms=ordered[last] / 1000,
    )


def write_json(report: ReplayReport, path: Path) -> None:
    """Write the report as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def show(report: ReplayReport, console: Console | None = None) -> None:
    """Print the report for a person."""
    (console or Console()).print(
        Group(_figures(report), _latencies(report), _outcomes(report), _proof(report))
    )


def _figures(report: ReplayReport) -> Table:
    speed = "as fast as the clients go" if report.speed is None else f"{report.speed:g} x"
    table = Table(title=f"Replay {report.run} against {report.url}", show_header=False)
    for name, figure in (
        ("baskets from", report.source),
        (
            "sent",
            (
                f"{report.baskets:,} baskets, {report.lines:,} lines, {report.skus:,} SKUs, "
                f"{report.locations} locations, {report.positions:,} positions"
            ),
        ),
        ("clients, speed", f"{report.clients}, {speed}"),
        ("seed, scarcity", f"{report.seed}, {report.scarcity:g}"),
        (
            "loading, traffic, proof",
            (f"{report.load_seconds:.1f} s, {report.traffic_seconds:.1f} s, {report.proof_seconds:.1f} s"),
        ),
        ("baskets per second", f"{report.baskets_per_second:,.0f}"),
        ("lines per second", f"{report.lines_per_second:,.0f}"),
        ("requests per second", f"{report.requests_per_second:,.0f} ({report.requests:,} in all)"),
    ):
        table.add_row(name, figure)
    return table


def _latencies(report: ReplayReport) -> Table:
    table = Table(title="Latency in milliseconds, seen by the client")
    for column in ("verb", "count", "p50", "p90", "p99", "p99.9", "max"):
        table.add_column(column, justify="left" if column == "verb" else "right")
    for verb, taken in report.latency.items():
        figures = (taken.p50_ms, taken.p90_ms, taken.p99_ms, taken.p999_ms, taken.max_ms)
        table.add_row(verb, f"{taken.count:,}", *(f"{figure:.2f}" for figure in figures))
    return table


def _outcomes(report: ReplayReport) -> Table:
    table = Table(title="Outcomes")
    table.add_column("outcome")
    table.add_column("count", justify="right")
    counts: dict[str, int] = msgspec.structs.asdict(report.outcomes)
    for name, count in counts.items():
        table.add_row(name.replace("_", " "), f"{count:,}")
    return table


def _proof(report: ReplayReport) -> Table:
    proof = report.proof
    verdict = "[bold green]holds[/]" if report.ok else "[bold red]DOES NOT HOLD[/]"
    table = Table(title=f"Proof of no oversell: {verdict}", show_header=False)
    table.add_row("from the answers", "agrees" if proof.answers_agree else "[red]contradicted[/]")
    table.add_row("from the server's books", "agrees" if proof.books_agree else "[red]differs[/]")
    table.add_row("compared", f"{proof.positions_compared:,} positions of {proof.skus_compared:,} SKUs")
    table.add_row("contended positions", f"{proof.positions_contended:,}")
    table.add_row(
        "units",
        f"{proof.units_received:,} received, {proof.units_fulfilled:,} fulfilled, "
        f"{proof.units_allocated:,} allocated",
    )
    table.add_row(
        "reservations read back",
        f"{proof.reservations_checked:,} of {proof.reservations_acknowledged:,} acknowledged, "
        f"{proof.expiries_seen:,} of them expired",
    )
    if report.stopped:
        table.add_row("[red]stopped early[/]", escape(report.stopped))
    for finding in proof.findings:
        table.add_row(f"[red]{finding.rule}[/]", escape(f"{finding.where}: {finding.detail}"))
    if proof.findings_total > len(proof.findings):
        table.add_row("", f"and {proof.findings_total - len(proof.findings):,} more findings")
    return table
