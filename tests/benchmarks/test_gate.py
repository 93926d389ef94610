from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import gate
from benchmarks.measure import BenchmarkError, Pairs, Proof, make_result, write_result

HOLDS = Proof(holds=True, positions=1, answers=1, detail="one unit, one promise")


def write_baseline(path: Path, value: float) -> None:
    figures = [Pairs([value], [1.0]).figure(name, side_unit="µs") for name in gate.NAMES]
    result = make_result("gate", figures, [HOLDS], server="valkey", workload={}, does_not_show="much")
    write_result(result, path)


@pytest.mark.load
def test_nothing_got_slower() -> None:
    """CPU of the store and of the engine, as ratios to a bare script, are within 20 % of the baseline."""
    _, faults = gate.check()
    assert not faults, f"if it is meant, measure a new baseline with --rebase: {faults}"


@pytest.mark.load
def test_a_regression_is_found_and_an_improvement_is_none(tmp_path: Path) -> None:
    """Against a baseline of next to nothing all is worse; against a high one nothing is."""
    write_baseline(tmp_path / "low.json", 0.01)
    figures, faults = gate.check(tmp_path / "low.json", pairs=1)
    assert [figure.name for figure in figures] == list(gate.NAMES)
    assert len(faults) == len(gate.NAMES)
    write_baseline(tmp_path / "high.json", 1000.0)
    assert gate.check(tmp_path / "high.json", pairs=1)[1] == []


def test_the_margin() -> None:
    """A fifth more passes, a bit more does not; the words give the share."""
    name = gate.NAMES[0]

    def figure(value: float) -> gate.Figure:
        return Pairs([value], [1.0]).figure(name, side_unit="µs")

    known = make_result("gate", [figure(2.0)], [HOLDS], server="", workload={}, does_not_show="")
    assert gate.worse_than(known, figure(2.4)) is None
    assert gate.worse_than(known, figure(1.0)) is None
    fault = gate.worse_than(known, figure(2.5))
    assert fault is not None
    assert "25% more than the 2 × before" in fault


def test_a_missing_baseline(tmp_path: Path) -> None:
    """The gate does not pass for want of something to compare with."""
    with pytest.raises(BenchmarkError, match="is no result file"):
        gate.check(tmp_path / "gone.json")
