import io
import threading
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from api.replay import ReplayOptions, ReplayReport, replay, show
from tests.replay.stub_server import StubServer


@pytest.fixture(autouse=True)
def short_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Abandoned holds end after one second, so that no test waits for three."""
    monkeypatch.setattr("api.replay.plan.LONGEST_TTL_S", 1)


def play(
    stub: StubServer,
    *,
    baskets: int = 250,
    seed: int = 5,
    scarcity: float = 0.5,
    survive_s: float = 0.0,
    json_file: Path | None = None,
) -> ReplayReport:
    """Replay generated baskets with little stock, so that refusals happen."""
    return replay(
        ReplayOptions(
            url=stub.url,
            baskets=baskets,
            clients=8,
            seed=seed,
            scarcity=scarcity,
            source="generator",
            survive_s=survive_s,
            timeout_s=2.0,
            json_file=json_file,
            progress=False,
        )
    )


def rules(report: ReplayReport) -> set[str]:
    """Name the rules that the findings are about."""
    return {finding.rule for finding in report.proof.findings}


def test_proof_holds_twice_in_a_row(stub: StubServer, tmp_path: Path) -> None:
    """An honest server: both sides agree, also on top of what an earlier replay left behind."""
    first = play(stub, json_file=tmp_path / "report.json")
    assert first.ok, first.proof.findings
    counts = first.outcomes
    assert min(counts.refused, counts.expired, counts.released, counts.committed) > 0
    assert counts.held + counts.refused == first.baskets == 250
    assert counts.duplicates_sent
    assert counts.replayed_answers
    assert first.proof.reservations_checked == counts.held
    assert first.proof.expiries_seen == counts.expired
    assert first.proof.positions_compared == first.positions
    assert {"reserve", "commit", "release", "fulfil"} <= set(first.latency)
    written = msgspec.json.decode((tmp_path / "report.json").read_bytes(), type=ReplayReport)
    assert msgspec.json.encode(written) == msgspec.json.encode(first)
    second = play(stub, baskets=100)
    assert second.ok, second.proof.findings
    assert second.run != first.run


def test_unknown_outcomes_are_repeated_until_known(stub: StubServer) -> None:
    """Lost replies and unconfirmed answers: the same key converges, and the proof holds."""
    stub.lose_replies = 0.05
    stub.unconfirmed = 0.05
    report = play(stub, baskets=150)
    assert report.ok, report.proof.findings
    assert report.outcomes.unknown_outcomes
    assert report.outcomes.unknown_resolved


def test_replay_survives_a_crash_of_the_server(stub: StubServer) -> None:
    """Every connection is cut mid-run, the server is away for a moment and comes back."""

    def crash() -> None:
        while len(stub.reservations) < 50:
            time.sleep(0.001)
        stub.crash_and_return(away_s=0.3)

    watcher = threading.Thread(target=crash)
    watcher.start()
    report = play(stub, survive_s=20)
    watcher.join()
    assert report.ok, (report.stopped, report.proof.findings)
    assert report.outcomes.unknown_outcomes >= 1


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        ("oversell", "no oversell"),
        ("forget_keys", "one effect per key"),
        ("leak_units", "books equal answers"),
        ("forget_reservations", "nothing acknowledged is lost"),
    ],
)
def test_proof_finds_planted_bugs(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch, fault: str, rule: str
) -> None:
    """A server that promises twice, forgets keys, loses units or reservations is found out."""
    monkeypatch.setattr("api.replay.run.SETTLE_S", 0.3)
    setattr(stub, fault, True)
    report = play(stub, baskets=60, scarcity=3 if fault == "forget_keys" else 0.5)
    assert not report.ok
    assert rule in rules(report), report.proof.findings
    assert report.proof.findings_total >= len(report.proof.findings) > 0


def test_a_server_that_is_not_there_stops_the_replay(stub: StubServer) -> None:
    """The report says so, and it does not claim a proof."""
    options = ReplayOptions(
        url="http://127.0.0.1:9",
        baskets=5,
        clients=2,
        source="generator",
        survive_s=0.2,
        progress=False,
    )
    report = replay(options)
    assert not report.ok
    assert "no connection" in report.stopped
    paper = io.StringIO()
    show(report, Console(file=paper, width=120))
    assert "DOES NOT HOLD" in paper.getvalue()


@pytest.mark.parametrize("wrong", [{"baskets": 0}, {"clients": 0}, {"speed": 0}, {"scarcity": 0}])
def test_impossible_options_are_refused(wrong: dict[str, int]) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match=r"at least one|above zero"):
        ReplayOptions(url="http://127.0.0.1:9", **wrong)  # type: ignore[arg-type]


def test_speed_keeps_to_the_clock_of_the_baskets(stub: StubServer) -> None:
    """Twenty baskets of one generated year, a year in half a second: it takes about that long."""
    report = replay(
        ReplayOptions(
            url=stub.url,
            baskets=20,
            clients=4,
            speed=364 * 86_400 / 0.5,
            source="generator",
            progress=False,
        )
    )
    assert report.ok, report.proof.findings
    assert report.traffic_seconds > 0.3
