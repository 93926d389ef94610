"""What a session found: figures for the result file, the table, and the rows where a peer wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import msgspec

from benchmarks.measure import Figure, Pairs, Proof, figure_of
from benchmarks.peers.rows import Row
from benchmarks.peers.workload import Measured, Workload

LOCK = "Redis lock per SKU"
POSTGRES = "PostgreSQL"
AGAINST_POSTGRES = {"uniform": 5.0, "hot": 20.0}
AGAINST_LOCK = 15.0
AGAINST_POSTGRES_BATCHED = 1.5


@dataclass(slots=True)
class Measurements:
    """The repetitions of a row on a workload."""

    row: Row
    workload: Workload
    runs: list[Measured] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Operations per second of each repetition."""
        return [run.operations_per_second for run in self.runs]

    @property
    def rate(self) -> float:
        """Their median."""
        return median(self.rates)

    @property
    def findings(self) -> list[str]:
        """What the oversell checks found; a run counts only where this is empty."""
        return [finding for run in self.runs for finding in run.findings]

    def median_of(self, name: str) -> float | None:
        """The median of another value of the repetitions, None where it was not taken."""
        values = [value for run in self.runs if (value := getattr(run, name)) is not None]
        return median(values) if values else None

    def figure(self) -> Figure:
        """The rate as a figure."""
        labels: dict[str, str | int | float] = {
            "workload": self.workload.name,
            "row": self.row.name,
            "side": self.row.side,
            "operations_a_call": self.row.batch,
            "callers": self.row.callers,
            "lacks": "; ".join(self.row.lacks),
        }
        for name in ("p50_ms", "p99_ms", "client_cpu_share"):
            value = self.median_of(name)
            if value is not None:
                labels[name] = round(value, 3)
        return figure_of(
            f"{self.workload.name}: {self.row.name}",
            self.rates,
            "operations/s",
            better="higher",
            labels=labels,
        )

    def proof(self) -> Proof:
        """The oversell checks of all repetitions in one."""
        return Proof(
            holds=not self.findings,
            positions=self.workload.skus + 1,
            answers=sum(run.operations for run in self.runs),
            detail=f"{self.workload.name}: {self.row.name}: "
            + ("; ".join(self.findings[:3]) or "books equal answers, scarce units went once"),
        )


def best(measured: Sequence[Measurements], start: str, *, batched: bool) -> Measurements | None:
    """The fastest of the rows whose name begins so, with one operation a call or with many."""
    fitting = [one for one in measured if one.row.name.startswith(start) and (one.row.batch > 1) == batched]
    return max(fitting, key=lambda one: one.rate, default=None)


def ratios(measured: Sequence[Measurements]) -> list[Figure]:
    """Bincard against each side that a target names, on each workload."""
    figures = []
    for workload in dict.fromkeys(one.workload for one in measured):
        rows = [one for one in measured if one.workload is workload]
        for start, batched, target in (
            (POSTGRES, False, AGAINST_POSTGRES[workload.name]),
            (LOCK, False, AGAINST_LOCK),
            (POSTGRES, True, AGAINST_POSTGRES_BATCHED),
        ):
            mine, theirs = best(rows, "Bincard", batched=batched), best(rows, start, batched=batched)
            if mine is not None and theirs is not None:
                many = f", {theirs.row.batch} operations a call" if batched else ""
                figures.append(
                    Pairs(mine.rates, theirs.rates).figure(
                        f"{workload.name}: Bincard against {start}'s best{many}",
                        side_unit="operations/s",
                        target=target,
                        better="higher",
                        labels={"subject": mine.row.name, "yardstick": theirs.row.name},
                    )
                )
    return figures


def peer_wins(measured: Sequence[Measurements]) -> list[str]:
    """Every row where a peer beats Bincard's best with as many operations a call, or anything at all."""
    lines = []
    for workload in dict.fromkeys(one.workload for one in measured):
        rows = [one for one in measured if one.workload is workload]
        for batched in (False, True):
            mine = best(rows, "Bincard", batched=batched)
            if mine is None:
                continue
            lines += [
                f"{workload.name}: {one.row.name} does {one.rate / mine.rate:.2f} x {mine.row.name}"
                + (f" (without {', '.join(one.row.lacks)})" if one.row.lacks else "")
                for one in rows
                if one.row.side != "bincard" and (one.row.batch > 1) == batched and one.rate > mine.rate
            ]
    return lines


def table(measured: Sequence[Measurements]) -> list[str]:
    """The table as Markdown."""
    lines = []
    for workload in dict.fromkeys(one.workload for one in measured):
        lines += [
            f"### {workload.name}: {workload.skus:,} SKU{'s' if workload.skus > 1 else ''}",
            "",
            "| row | operations/s | least | most | p50 ms | p99 ms | lacks |",
            "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        ]
        for one in measured:
            if one.workload is not workload:
                continue
            lines.append(
                f"| {one.row.name} | {one.rate:,.0f} | {min(one.rates):,.0f} | {max(one.rates):,.0f} "
                f"| {_ms(one.median_of('p50_ms'))} | {_ms(one.median_of('p99_ms'))} "
                f"| {', '.join(one.row.lacks)} |"
            )
        lines.append("")
    return lines


def raw(measured: Sequence[Measurements]) -> Mapping[str, object]:
    """Every repetition as it was measured."""
    return {
        f"{one.workload.name}: {one.row.name}": [msgspec.to_builtins(run) for run in one.runs]
        for one in measured
    }


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
