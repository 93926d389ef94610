"""One page with plots, and the README's table, from the committed results.

`python -m benchmarks.report` writes `benchmarks/results/report.html`; `--readme README.md` also renews the
table between the markers in that file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
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


# -------------------------------------------------------------------- the README


def render_table(results: Sequence[Result]) -> str:
    """The README's table: figures with targets and headlines, and what they do not show."""
    lines = ["| what | measured | target |", "| --- | ---: | ---: |"]
    for result in results:
        figures = [figure for figure in result.figures if figure.target is not None]
        lines += map(_row, figures or result.figures[: HEADLINES.get(result.benchmark, 0)])
    lines.append("")
    for result in results:
        lines.append(
            f"*{TITLES.get(result.benchmark, result.benchmark)}* does not show: {result.does_not_show}"
        )
    first = results[0]
    lines.append(
        f"Medians, {first.machine.cores} cores of {first.machine.cpu}, {first.versions['server']}, "
        f"{first.date[:10]}, commit {first.commit}; ratios have both sides from one run."
    )
    return "\n".join(lines)


def _row(figure: Figure) -> str:
    sign = "≤" if figure.better == "lower" else "≥"
    target = "" if figure.target is None else f"{sign} {figure.target:g}"
    if figure.is_met is False:
        target += " (missed)"
    unit = "×" if figure.unit == "ratio" else figure.unit
    return f"| {figure.name.replace('|', '/')} | {number(figure.value)} {unit} | {target} |"


def renew(text: str, table: str) -> str:
    """A file's text with the table between its markers. Raises `BenchmarkError` where it has none."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise BenchmarkError(f"there is no place for the table: write {BEGIN} and {END}, a line each")
    return f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}"


def main(arguments: Sequence[str]) -> None:
    """Writes the page, and where asked the README's table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="the page (default: report.html beside the results)")
    parser.add_argument("--readme", type=Path, help="a Markdown file whose table is to be renewed")
    options = parser.parse_args(arguments)
    results = read_all(options.results)
    page = options.out or options.results / "report.html"
    page.write_text(render_page(results), encoding="utf-8")
    print(f"written: {page}")
    if options.readme is not None:
        before = options.readme.read_text(encoding="utf-8")
        options.readme.write_text(renew(before, render_table(results)), encoding="utf-8")
        print(f"renewed: {options.readme}")


if __name__ == "__main__":
    sys.exit(measure.run(main))
