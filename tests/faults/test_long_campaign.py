"""A long campaign may be ended at any moment and goes on later; nothing of it stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.campaign.served import descendants, lives
from tests.topology.groups import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(180)]

COMMAND = [sys.executable, "-m", "tests.faults.campaign", "--short", "--server", "valkey", "--faults", "kill"]
ROOT = Path(__file__).resolve().parents[2]


def read(path: Path) -> Any:  # noqa: ANN401 - JSON
    return json.loads(path.read_text(encoding="utf-8"))


def test_in_pieces(tmp_path: Path) -> None:
    """Two rounds, then as many: the same file has the sum, and no seed is played twice."""
    path = tmp_path / "campaign.json"
    subprocess.run([*COMMAND, "--rounds", "2", "--seed", "7", "--json", path], cwd=ROOT, check=True)
    first = read(path)
    assert (first["seeds"], first["first_seed"], first["next_seed"]) == (2, 7, 9)
    subprocess.run([*COMMAND, "--rounds", "2", "--continue", path], cwd=ROOT, check=True)
    both = read(path)
    assert (both["seeds"], both["first_seed"], both["next_seed"]) == (4, 7, 11)
    assert both["totals"]["operations"] > first["totals"]["operations"]
    assert both["faults"]["valkey"]["kill"]["operations"] == both["totals"]["operations"]


def test_asked_to_end(tmp_path: Path) -> None:
    """In the middle of rounds. The table is there, the processes are not."""
    path = tmp_path / "campaign.json"
    process = subprocess.Popen([*COMMAND, "--rounds", "400", "--seed", "1", "--json", path], cwd=ROOT)
    try:
        # Two that play, what they share, and two servers.
        wait_until(lambda: len(descendants(process.pid)) >= 5, "rounds are played")
        family = descendants(process.pid)
        process.terminate()
        assert process.wait(30) == 143
    finally:
        process.kill()
    wait_until(lambda: not any(map(lives, family)), "everything is gone", seconds=5)
    assert read(path)["next_seed"] > 1
