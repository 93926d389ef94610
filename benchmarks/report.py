"""One page with plots, and the tables of the documentation, from the committed results.

`python -m benchmarks.report` writes `benchmarks/results/report.html` and renews every page of the
documentation in which results stand: the README, the page on speed, the page on sizing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

from benchmarks import measure
from benchmarks.charts import Bar, Line, bars, curve, number
from benchmarks.measure import RESULTS, BenchmarkError, Figure, Result, read_result

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
TITLES = {
    "canonical": "The canonical workload",
    "micro": "Every operation against the bare script",
    "http_api": "Over HTTP, closed loop",
    "open_model": "Over HTTP, at fixed rates",
    "overload": "More than can be done",
    "crowd": "A thousand clients over all verbs",
    "guards": "What guards cost",
    "hostile": "Attackers beside good clients",
    "scale": "What size costs",
    "partitions": "What partitions cost",
    "peers": "Beside its peers",
}
HEADLINES = {"canonical": 2, "crowd": 0, "partitions": 4, "peers": 12}
"""Where figures have no targets: how many of the first ones the README shows."""
FIRST = {
    "canonical": {
        "reservations per second": "reservations a second with their commits, one engine process",
        "p99 of reserve": "p99 of these reserves",
    },
    "http_api": {
        "reserve: requests": "reserves a second over HTTP, one worker",
        "reserve against typed": "reserve over HTTP, against a FastAPI route that does nothing",
        "hot against reserve": "everybody at one SKU, against all SKUs evenly",
    },
    "peers": {
        "uniform: Bincard against PostgreSQL's best": (
            "durable reserves a second, against PostgreSQL's best of six ways"
        ),
        "hot: Bincard against PostgreSQL's best": "the same with everybody at one SKU",
        "uniform: Bincard against Redis lock per SKU's best": "the same against a Redis lock for each SKU",
    },
    "scale": {
        "reserve at 1,000,000 SKUs and 1,000,000 holds against 1,000 SKUs": (
            "time of a reserve among a million SKUs and holds, against a thousand"
        ),
        "bytes a hold, 1,000,000 SKUs": "memory of a hold",
    },
    "overload": {
        "busy worker, 6,000 callers who wait as told, 3 × its peak arrive: served against their peak": (
            "served at three times what a worker can do, of its best"
        ),
        "busy worker, 6,000 callers who wait as told, 3 × its peak arrive: p99 of refusals": (
            "p99 of the refusals meanwhile"
        ),
    },
    "guards": {
        "availability: guarded against bare": "availability over HTTP with keys and rates, of that without",
    },
}
"""What the README shows, in words that need no context."""
STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
svg { width: 100%; max-width: 640px; font: 12px system-ui, sans-serif; fill: currentColor; display: block }
.grid { stroke: currentColor; opacity: .15 }
.target { stroke: currentColor; stroke-width: 2; stroke-dasharray: 3 2 }
.plain { fill: #6b7f99 } .met { fill: #3b9d5a } .missed { fill: #c43f3f }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .15rem .7rem .15rem 0; text-align: left } td.n { text-align: right }
details { margin: .7rem 0 } .no { color: #c43f3f } .small { opacity: .75 }
"""


def read_all(folder: Path) -> list[Result]:
    """Every result in a folder, in the order of the page. Raises `BenchmarkError` where there is none."""
    found = [read_result(path) for path in sorted(folder.glob("*.json")) if path.stem in TITLES]
    if not found:
        raise BenchmarkError(f"{folder} has no results: run python -m benchmarks.canonical first")
    order = list(TITLES)
    return sorted(
        found, key=lambda result: order.index(result.benchmark) if result.benchmark in order else 99
    )


# -------------------------------------------------------------------- the page


def render_page(results: Sequence[Result]) -> str:
    """The whole page, everything inside it."""
    sections = "\n".join(_render_section(result) for result in results)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Bincard: benchmarks</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head><body>\n<h1>Bincard: benchmarks</h1>\n"
        "<p>Medians of alternating repetitions; a ratio has both sides from one run on one machine. The "
        "dashed lines are targets. Every run ended with a proof that no unit was promised twice.</p>\n"
        f"{sections}\n</body></html>\n"
    )


def _render_section(result: Result) -> str:
    title = TITLES.get(result.benchmark, result.benchmark)
    plots = "\n".join(plot for draw in _PLOTS for plot in draw(result) if plot)
    proofs = "; ".join(proof.detail for proof in result.proofs)
    workload = ", ".join(f"{name} {value}" for name, value in result.workload.items())
    machine = result.machine
    return (
        f"<h2>{escape(title)}</h2>\n{plots}\n"
        f"<details><summary>All {len(result.figures)} figures</summary>{_table(result.figures)}</details>\n"
        f"<p><b>What it does not show:</b> {escape(result.does_not_show)}</p>\n"
        f'<p class="small">{escape(result.date[:10])}, commit {escape(result.commit)}, seed {result.seed}, '
        f"{machine.cores} cores of {escape(machine.cpu)}, {escape(machine.system)}, Python {machine.python}, "
        f"{escape(result.versions['server'])}. Workload: {escape(workload)}. Proof: {escape(proofs)}.</p>"
    )


def _table(figures: Sequence[Figure]) -> str:
    rows = [
        f'<tr><td>{escape(figure.name)}</td><td class="n">{number(figure.value)}</td>'
        f"<td>{escape(figure.unit)}</td><td>{_bound(figure)}</td>"
        f'<td class="small">{" ".join(number(value) for value in figure.series[:9])}</td></tr>'
        for figure in figures
    ]
    return f"<table><tr><th>what<th>median<th>unit<th>target<th>single runs</tr>{''.join(rows)}</table>"


def _bound(figure: Figure) -> str:
    if figure.target is None:
        return ""
    sign = "≤" if figure.better == "lower" else "≥"
    verdict = "met" if figure.is_met else '<span class="no">missed</span>'
    return f"{sign} {figure.target:g} {verdict}"


# -------------------------------------------------------------------- the plots


def _draw_targets(result: Result) -> Iterable[str]:
    """Every figure with a target, by unit."""
    figures = [figure for figure in result.figures if figure.target is not None]
    for unit in dict.fromkeys(figure.unit for figure in figures):
        rows = [
            Bar(figure.name, figure.value, figure.target, figure.is_met)
            for figure in figures
            if figure.unit == unit
        ]
        yield bars(rows, unit="×" if unit == "ratio" else unit)


def _draw_batches(result: Result) -> Iterable[str]:
    """CPU of each operation by batch size, one plot a durability setting."""
    figures = [figure for figure in result.figures if "batch" in figure.labels and figure.unit == "ratio"]
    for log in dict.fromkeys(figure.labels.get("durability") for figure in figures):
        lines = _group(
            (figure for figure in figures if figure.labels.get("durability") == log), "verb", "batch"
        )
        narrow = [line for line in lines if "100" not in line.name and "2000" not in line.name]
        yield curve(narrow, across=f"batch size, log {log}", up="CPU × bare script", up_log=True)


def _draw_concurrency(result: Result) -> Iterable[str]:
    figures = [figure for figure in result.figures if figure.labels.get("curve") == "concurrency"]
    for of, up in (("throughput", "reserves a second"), ("p99", "p99, ms")):
        chosen = [figure for figure in figures if figure.labels.get("of") == of]
        yield curve(_group(chosen, "durability", "callers"), across="callers", up=up, up_log=of == "p99")


def _draw_latency(result: Result) -> Iterable[str]:
    figures = [figure for figure in result.figures if figure.labels.get("curve") == "latency"]
    for share in ("50.0", "99.0", "99.9"):
        chosen = [figure for figure in figures if figure.labels.get("share") == share]
        yield curve(
            _group(chosen, "route", "rate"),
            across="requests a second",
            up=f"p{share.removesuffix('.0')}, ms",
            across_log=False,
            up_log=True,
        )


def _draw_size(result: Result) -> Iterable[str]:
    figures = [figure for figure in result.figures if figure.labels.get("curve") == "size"]
    if figures:
        points = [(float(figure.labels["skus"]), figure.value) for figure in figures]
        yield curve([Line("reserve", points)], across="SKUs", up="CPU × at the smallest size")
    memory = [figure for figure in result.figures if figure.labels.get("curve") == "memory"]
    yield curve(_group(memory, "of", "skus"), across="SKUs", up="bytes")


def _draw_peers(result: Result) -> Iterable[str]:
    figures = [figure for figure in result.figures if "row" in figure.labels]
    for workload in dict.fromkeys(figure.labels.get("workload") for figure in figures):
        rows = [
            Bar(str(figure.labels["row"]), figure.value)
            for figure in figures
            if figure.labels.get("workload") == workload
        ]
        yield f"<h3>{escape(str(workload))}</h3>" + bars(
            sorted(rows, key=lambda row: -row.value), unit="operations/s"
        )


_PLOTS: Sequence[Callable[[Result], Iterable[str]]] = (
    _draw_targets,
    _draw_batches,
    _draw_concurrency,
    _draw_latency,
    _draw_size,
    _draw_peers,
)


def _group(figures: Iterable[Figure], name: str, across: str) -> list[Line]:
    """Curves by one label, with another one across."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for figure in figures:
        lines.setdefault(str(figure.labels[name]), []).append((float(figure.labels[across]), figure.value))
    return [Line(key, points) for key, points in lines.items()]


# -------------------------------------------------------------------- the documentation


def render_table(results: Sequence[Result]) -> str:
    """The table of all figures with targets and some others, and what they do not show."""
    lines = ["| what | measured | target |", "| --- | ---: | ---: |"]
    for result in results:
        figures = [figure for figure in result.figures if figure.target is not None]
        lines += map(_row, figures or result.figures[: HEADLINES.get(result.benchmark, 0)])
    lines.append("")
    for result in results:
        lines.append(
            f"- *{TITLES.get(result.benchmark, result.benchmark)}* does not show: {result.does_not_show}"
        )
    lines += ["", _measured(results[0])]
    return "\n".join(lines)


def render_first(results: Sequence[Result]) -> str:
    """The short table: what a newcomer asks for, and how many of all targets are met."""
    lines = ["| what | measured |", "| --- | ---: |"]
    targets = [figure for result in results for figure in result.figures if figure.target is not None]
    for result in results:
        found = {figure.name: figure for figure in result.figures}
        for name, words in FIRST.get(result.benchmark, {}).items():
            if name not in found:
                raise BenchmarkError(f"{result.benchmark} has no figure {name}, which the README shows")
            lines.append(f"| {words} | {_value(found[name])} |")
    met = sum(bool(figure.is_met) for figure in targets)
    lines += ["", f"{met} of {len(targets)} targets are met. {_measured(results[0])}"]
    return "\n".join(lines)


def _measured(result: Result) -> str:
    return (
        f"Medians, {result.machine.cores} cores of {result.machine.cpu}, {result.versions['server']}, "
        f"{result.date[:10]}, commit {result.commit}; ratios have both sides from one run."
    )


def _value(figure: Figure) -> str:
    return f"{number(figure.value)} {'×' if figure.unit == 'ratio' else figure.unit}"


def _row(figure: Figure) -> str:
    sign = "≤" if figure.better == "lower" else "≥"
    target = "" if figure.target is None else f"{sign} {figure.target:g}"
    if figure.is_met is False:
        target += " (missed)"
    return f"| {figure.name.replace('|', '/')} | {_value(figure)} | {target} |"


def renew(text: str, table: str) -> str:
    """A file's text with the table between its markers. Raises `BenchmarkError` where it has none."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise BenchmarkError(f"there is no place for the table: write {BEGIN} and {END}, a line each")
    return f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}"


TABLES = {"README.md": render_first, "docs/operating/speed.md": render_table}
"""The pages with a table between markers, and what it is made by."""
SIZING = measure.ROOT / "scripts" / "sizing.py"


def renew_pages(results: Sequence[Result]) -> Iterator[Path]:
    """Renews the pages of the documentation in which results stand; yields each."""
    for name, render in TABLES.items():
        page = measure.ROOT / name
        page.write_text(renew(page.read_text(encoding="utf-8"), render(results)), encoding="utf-8")
        yield page
    subprocess.run(  # noqa: S603 - a script of this repository
        [sys.executable, SIZING, "--write"], check=True, stdout=subprocess.DEVNULL
    )
    yield measure.ROOT / "docs" / "operating" / "sizing.md"


def main(arguments: Sequence[str]) -> None:
    """Writes the page with plots, and the tables of the documentation."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--results", type=Path, help="a directory of others: writes their page only")
    options = parser.parse_args(arguments)
    directory = options.results or RESULTS
    results = read_all(directory)
    page = directory / "report.html"
    page.write_text(render_page(results), encoding="utf-8")
    print(f"written: {page}")
    if options.results is None:
        for renewed in renew_pages(results):
            print(f"renewed: {renewed}")


if __name__ == "__main__":
    sys.exit(measure.run(main))
