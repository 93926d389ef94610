from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from benchmarks.measure import (
    BenchmarkError,
    Figure,
    Pairs,
    Proof,
    Result,
    cpu_seconds,
    figure_of,
    find_figure,
    make_result,
    paired,
    quantile,
    read_result,
    write_result,
)
from benchmarks.shop import Answered, Booked, compare_sums

HOLDS = Proof(holds=True, positions=1, answers=1, detail="one unit, one promise")


def result_of(*figures: Figure, proofs: tuple[Proof, ...] = (HOLDS,)) -> Result:
    return make_result(
        "canonical", figures, proofs, server="valkey 9", workload={"callers": 2}, does_not_show="much"
    )


def test_pairs_alternate_and_give_the_median_of_their_ratios() -> None:
    """One disturbed pair moves nothing, and neither side always goes first."""
    order: list[str] = []
    mine, theirs = iter([2.0, 20.0, 2.2]), iter([1.0, 1.0, 1.0])

    def subject() -> float:
        order.append("subject")
        return next(mine)

    def yardstick() -> float:
        order.append("yardstick")
        return next(theirs)

    pairs = paired(subject, yardstick, 3)
    assert pairs.ratio == 2.2
    assert order == ["subject", "yardstick", "yardstick", "subject", "subject", "yardstick"]


def test_a_figure_knows_whether_its_target_is_met() -> None:
    """Lower and higher targets, and none."""
    pairs = Pairs([3.0, 3.0], [2.0, 2.0])
    assert pairs.figure("cost", side_unit="µs", target=1.6).is_met
    assert not pairs.figure("rate", side_unit="1/s", target=1.6, better="higher").is_met
    assert figure_of("p99", [1.0], "ms").is_met is None


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.0, 1)])
def test_quantile(share: float, expected: int) -> None:
    """The smallest value that so many do not exceed."""
    assert quantile(range(1, 101), share) == expected


def test_cpu_time_counts_work_and_not_sleep() -> None:
    """The clock goes on while a process sleeps; its CPU time does not."""
    begun = cpu_seconds(os.getpid())
    time.sleep(0.1)
    slept = cpu_seconds(os.getpid()) - begun
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    worked = cpu_seconds(os.getpid()) - begun - slept
    assert slept < 0.05 <= worked + 0.01


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    """What is written is what is read."""
    result = result_of(figure_of("rate", [1.0, 2.0, 3.0], "1/s", labels={"callers": 2}))
    write_result(result, tmp_path / "r.json")
    assert msgspec.json.encode(read_result(tmp_path / "r.json")) == msgspec.json.encode(result)
    assert find_figure(result, "rate").value == 2.0
    with pytest.raises(BenchmarkError, match="no figure 'other'"):
        find_figure(result, "other")


@pytest.mark.parametrize("proofs", [(), (HOLDS, Proof(holds=False, positions=1, answers=1, detail="two"))])
def test_a_run_without_proof_is_not_written(tmp_path: Path, proofs: tuple[Proof, ...]) -> None:
    """No proof, no number."""
    with pytest.raises(BenchmarkError, match="does not count"):
        write_result(result_of(proofs=proofs), tmp_path / "r.json")
    assert not list(tmp_path.iterdir())


def test_no_result_file(tmp_path: Path) -> None:
    """A file of another form is named."""
    (tmp_path / "r.json").write_text('{"format": 1}')
    with pytest.raises(BenchmarkError, match=r"r\.json is no result file"):
        read_result(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("booked", "fault"),
    [
        (Booked(2, 9, 3, 4, ()), None),
        (Booked(2, 9, 4, 4, ()), "held: books 4, answers 3"),
        (Booked(2, 9, 3, 5, ()), "allocated: books 5, answers 4"),
        (Booked(2, 8, 3, 4, ()), "on hand: books 8, answers 9"),
        (Booked(2, 9, 3, 4, ("A at w0",)), "oversold: A at w0"),
    ],
)
def test_the_proof_by_sums(booked: Booked, fault: str | None) -> None:
    """Each sum that differs, and each position that promises too much, breaks the proof."""
    told = Answered(received=10, reserved=10, committed=5, given_back=2, fulfilled=1, answers=10)
    proof = compare_sums(booked, told)
    assert proof.holds is (fault is None)
    assert fault is None or fault in proof.detail
