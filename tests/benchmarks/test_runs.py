"""Each benchmark runs to its end, with its proof; what the numbers are does not matter here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from api.commands.bench import CHECKOUT, bench, list_benchmarks
from api.settings import SettingsError
from benchmarks import canonical, partitions, scale
from benchmarks.measure import BenchmarkError, find_figure, read_result
from benchmarks.micro import __main__ as micro
from benchmarks.wrk_client import find_wrk

BINCARD = Path(sys.executable).with_name("bincard")


def test_canonical_ends_with_two_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rate and p99 come last, and the result file has both with the proof."""
    out = tmp_path / "canonical.json"
    canonical.main(["--quick", "--pairs", "2", "--out", str(out)])
    result = read_result(out)
    assert [proof.holds for proof in result.proofs] == [True]
    assert find_figure(result, "reservations per second").value > 0
    assert sum(map(int, result.raw["refused"])) > 0, "scarce SKUs sell out"  # type: ignore[call-overload]
    rate, p99 = capsys.readouterr().out.splitlines()[-2:]
    assert rate.endswith("reservations per second")
    assert p99.endswith("ms p99")


def test_quick_runs_write_nothing_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tiny run never takes the place of a committed result."""
    monkeypatch.setattr("benchmarks.measure.RESULTS", tmp_path)
    canonical.main(["--quick", "--pairs", "1"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_micro(tmp_path: Path) -> None:
    """Every operation is measured in both durability settings, and the books agree."""
    micro.main(["--quick", "--out", str(tmp_path / "micro.json")])
    result = read_result(tmp_path / "micro.json")
    measured = {(figure.labels.get("verb"), figure.labels.get("durability")) for figure in result.figures}
    for verb in ("reserve", "commit", "release", "extend", "fulfil", "refusal", "movement", "expire"):
        assert {(verb, "off"), (verb, "always")} <= measured
    assert find_figure(result, "codec: reserve, plan and encode").value > 1
    assert len(result.proofs) == 2


def test_partitions(tmp_path: Path) -> None:
    """Baskets over several partitions are compared with those of one, and proven on all."""
    partitions.main(["--quick", "--pairs", "1", "--out", str(tmp_path / "partitions.json")])
    result = read_result(tmp_path / "partitions.json")
    assert find_figure(result, "baskets a second over several, against one partition").value > 0
    assert len(result.proofs) == 3


def test_scale(tmp_path: Path) -> None:
    """Sizes are compared, memory is split, many locations are read."""
    scale.main(["--quick", "--pairs", "1", "--out", str(tmp_path / "scale.json")])
    result = read_result(tmp_path / "scale.json")
    assert find_figure(result, "bytes a hold, 3,000 SKUs").value > 50
    assert len(result.proofs) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["http_api", "open_model", "overload"])
def test_http(tmp_path: Path, name: str) -> None:
    """Our API and the bare applications are started, loaded and stopped, and the books agree."""
    out = tmp_path / "result.json"
    assert bench(name, ["--quick", "--out", str(out)]) == 0
    assert read_result(out).proofs[0].holds


def test_wrk_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wrk there is one plain sentence."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BenchmarkError, match="apt-get install wrk"):
        find_wrk()


def test_the_command_lists_what_there_is(tmp_path: Path) -> None:
    """Programs are offered, the modules that they share are not."""
    offered = list_benchmarks(CHECKOUT)
    assert offered[0] == "canonical"
    assert {"micro", "scale", "http_api", "open_model", "report", "gate"} <= set(offered)
    assert not {"measure", "servers", "shop", "charts", "bare_apps"} & set(offered)
    with pytest.raises(SettingsError, match="there is no benchmark nope; there are canonical, "):
        bench("nope", [])
    with pytest.raises(SettingsError, match="of a checkout"):
        bench("canonical", [], tmp_path)


def test_the_command_passes_options_on(tmp_path: Path) -> None:
    """Options without a name go to the canonical workload; its exit status comes back."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(BINCARD), "bench", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert run("--quick", "--pairs", "1").stdout.rstrip().endswith("p99")
    assert "usage: python -m benchmarks.gate" in run("gate", "--", "--help").stdout
    assert run("gate", "--nonsense").returncode == 2
    assert list(tmp_path.iterdir()) == []
