from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks import measure, report
from benchmarks.charts import Bar, Line, bars, curve, number
from benchmarks.measure import (
    BenchmarkError,
    Figure,
    Pairs,
    Proof,
    Result,
    figure_of,
    make_result,
    write_result,
)

HOLDS = Proof(holds=True, positions=1, answers=1, detail="one unit, one promise")
VOID = {"meta", "line", "rect", "circle", "polyline"}


class Balance(HTMLParser):
    """Refuses a page whose elements do not close, or that loads anything."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in {"script", "link", "img"}
        assert not {"src", "href"} & {name for name, _ in attrs}
        if tag not in {*VOID, "th"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def save(folder: Path, benchmark: str, *figures: Figure) -> None:
    result = make_result(
        benchmark, figures, [HOLDS], server="valkey 9", workload={"callers": 2}, does_not_show="a <network>"
    )
    write_result(result, folder / f"{benchmark}.json")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with results of every kind of plot."""
    save(
        tmp_path,
        "canonical",
        figure_of("reservations per second", [50_000.0], "1/s"),
        figure_of("p99 of reserve", [2.5], "ms"),
    )
    ratio = Pairs([2.0], [1.0])
    save(
        tmp_path,
        "micro",
        *(
            ratio.figure(
                f"reserve, batch {batch}",
                side_unit="µs",
                target=1.6 if batch == 64 else None,
                labels={"verb": "reserve", "batch": batch, "durability": "off"},
            )
            for batch in (1, 64)
        ),
    )
    save(
        tmp_path,
        "open_model",
        *(
            figure_of(
                f"hello at {rate}",
                [rate / 1000],
                "ms",
                labels={"curve": "latency", "route": "hello", "rate": rate, "share": "99.0"},
            )
            for rate in (1000, 2000)
        ),
    )
    return tmp_path


def test_the_page_is_whole_and_self_contained(results: Path) -> None:
    """Every element closes, nothing is loaded, what a figure does not show stands beside it."""
    report.main(["--results", str(results)])
    page = (results / "report.html").read_text()
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert page.count("What it does not show:</b> a &lt;network&gt;") == 3
    assert 'class="missed"' in page
    assert page.count("<polyline") == 2


@pytest.mark.parametrize(
    ("render", "rows"),
    [
        (
            report.render_table,
            ["| reserve, batch 64 | 2 × | ≤ 1.6 (missed) |", "| reservations per second | 50,000 1/s |  |"],
        ),
        (
            report.render_first,
            [
                "| reservations a second with their commits, one engine process | 50,000 1/s |",
                "0 of 1 targets are met.",
            ],
        ),
    ],
)
def test_a_table_is_renewed_between_its_markers(
    results: Path, render: Callable[[Sequence[Result]], str], rows: list[str]
) -> None:
    """Once more changes nothing, and what stands around the table stays."""
    table = render(report.read_all(results))
    once = report.renew(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", table)
    assert report.renew(once, table) == once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "old" not in once
    for row in rows:
        assert row in once


@pytest.mark.parametrize("name", report.TABLES)
def test_the_documentation_has_the_committed_results(name: str) -> None:
    """After new ones: `python -m benchmarks.report`."""
    page = (measure.ROOT / name).read_text()
    table = report.TABLES[name](report.read_all(measure.RESULTS))
    assert report.renew(page, table) == page, "run python -m benchmarks.report"


def test_the_committed_page_is_of_the_committed_results() -> None:
    """After new ones: `python -m benchmarks.report`."""
    page = (measure.RESULTS / "report.html").read_text()
    assert report.render_page(report.read_all(measure.RESULTS)) == page, "run python -m benchmarks.report"


def test_a_figure_that_the_readme_shows_is_missed(tmp_path: Path) -> None:
    """It is not left out silently when a benchmark calls it something else."""
    save(tmp_path, "canonical", figure_of("rate", [50_000.0], "1/s"))
    with pytest.raises(BenchmarkError, match="has no figure reservations per second"):
        report.render_first(report.read_all(tmp_path))


def test_a_file_without_markers_is_left_alone() -> None:
    """There is no guessing where the table goes."""
    with pytest.raises(BenchmarkError, match="no place for the table"):
        report.renew("text", "table")


def test_no_results(tmp_path: Path) -> None:
    """The remedy is named."""
    with pytest.raises(BenchmarkError, match=r"run python -m benchmarks\.canonical"):
        report.read_all(tmp_path)


def test_plots_of_one_point_and_of_equal_values() -> None:
    """Degenerate ranges still give a picture with numbers in it."""
    for is_log in (False, True):
        drawn = curve([Line("a", [(1.0, 5.0)])], across="x", up="y", across_log=is_log, up_log=is_log)
        assert not re.search(r"\b(nan|inf)\b", drawn)
        assert drawn.count("<circle") == 1
    assert "0 ms" in bars([Bar("a", 0.0)], unit="ms")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.00123, "0.001"), (1.2345, "1.23"), (999.0, "999"), (45678.0, "45,700")]
)
def test_numbers_read_well(value: float, text: str) -> None:
    """Three digits, thousands apart."""
    assert number(value) == text
