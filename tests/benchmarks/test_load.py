"""Locust patches the standard library when it is imported, so what needs it runs in a process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from benchmarks.load.prepare import prepare
from benchmarks.load.stage import STAGES, Desk
from tests.topology.groups import free_ports

ROOT = Path(__file__).resolve().parents[2]
JUDGE = """
import json, sys
from benchmarks.load.books import Tally, differences
from benchmarks.load.stage import Stage
given = json.load(sys.stdin)
tally = Tally()
tally.merge(given["tally"])
stage = Stage("t", locations=1, skus=1, units=10)
print(json.dumps(list(differences(stage, given["before"], given["after"], tally))))
"""


def position(on_hand: int, held: int, allocated: int) -> dict[str, dict[str, dict[str, int]]]:
    return {"T-0": {"t-0": {"on_hand": on_hand, "held": held, "allocated": allocated}}}


@pytest.mark.parametrize(
    ("units", "begun", "ended", "after", "finding"),
    [
        pytest.param([0, 2, 3, 1, 0], 6, 6, (8, 1, 3), "", id="agrees"),
        pytest.param([5, 0, 0, 0, 2], 2, 2, (13, 0, 0), "", id="facts agree"),
        pytest.param([0, 0, 3, 0, 0], 3, 3, (10, 0, 2), "allocated 2, by the answers 3", id="lost"),
        pytest.param([0, 1, 0, 0, 0], 1, 1, (10, 0, 0), "on_hand 10, by the answers 9", id="not sold"),
        pytest.param([0, 0, 0, 0, 0], 1, 1, (10, 1, 0), "1 held, 0 before", id="stray hold"),
        pytest.param([0, 0, 11, 0, 0], 9, 9, (10, 0, 11), "OVERSOLD", id="oversold"),
        pytest.param([0, 0, 0, 0, 0], 2, 1, (10, 0, 0), "unknown outcome", id="unknown"),
        pytest.param([0, 0, 0, 0, 0], 0, 0, (10, 0, 0), "nothing to prove", id="nothing"),
    ],
)
def test_the_proof_finds_what_contradicts(
    units: list[int], begun: int, ended: int, after: tuple[int, int, int], finding: str
) -> None:
    """received, fulfilled, committed, abandoned, lowered against the books before and after."""
    given = {
        "tally": {"units": {"T-0\nt-0": units}, "begun": begun, "ended": ended},
        "before": position(10, 0, 0),
        "after": position(*after),
    }
    done = subprocess.run(
        [sys.executable, "-c", JUDGE],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    found = "\n".join(json.loads(done.stdout))
    assert (finding in found) if finding else (found == "")


def free_port() -> str:
    return str(free_ports(1)[0])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`bincard serve` on a free port."""
    port = free_port()
    home = tmp_path_factory.mktemp("serve")
    program = Path(sys.executable).with_name("bincard")
    serving = subprocess.Popen(
        [program, "serve", "--port", port, "--data-dir", home / "data", "--durability", "none"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=home,
    )
    deadline = time.monotonic() + 30
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                break
        except OSError:
            if time.monotonic() > deadline or serving.poll() is not None:
                raise
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    serving.terminate()
    serving.wait(30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "stage"),
    [("checkout", "checkout"), ("replenish", "replenish")],
)
def test_a_scenario_runs_and_proves_itself(url: str, tmp_path: Path, file: str, stage: str) -> None:
    """A second of load from two processes: status 0, the proof in the log, the reports written."""
    with Desk(url) as desk:
        assert prepare(desk, STAGES[stage], "test") == STAGES[stage].skus * STAGES[stage].locations
    command = [sys.executable, "-m", "locust", "-f", f"benchmarks/load/{file}.py", "--headless", "-H", url]
    # Where Locust's processes meet; two runs at a time must not meet each other.
    meeting = free_port()
    command += ["--master-bind-port", meeting, "--master-port", meeting]
    command += ["--clients", "4", "--seconds", "1", "--processes", "2", "--only-summary"]
    command += ["--csv", str(tmp_path / "run"), "--html", str(tmp_path / "run.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=90)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "no oversell" in done.stderr
    assert (tmp_path / "run.html").stat().st_size > 1000
    assert "POST reservations" in (tmp_path / "run_stats.csv").read_text(encoding="utf-8")


def test_preparing_again_adds_nothing(url: str) -> None:
    """The movements have ids of their own; another run's name makes others."""
    stage = STAGES["flash"]
    with Desk(url) as desk:
        before = desk.positions("FLASH-0").get("flash-0", {"on_hand": 0})["on_hand"]
        for run, expected in (("once", 5000), ("once", 5000), ("twice", 10_000)):
            prepare(desk, stage, run)
            assert desk.positions("FLASH-0")["flash-0"]["on_hand"] == before + expected
