from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import find_program

pytestmark = [pytest.mark.faults, pytest.mark.slow]

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
BASKETS = 800
"""Enough that both kills come mid-traffic and that some baskets are refused and some expire."""


def test_nothing_acknowledged_is_lost_when_everything_is_killed(server_name: str, tmp_path: Path) -> None:
    """Kill -9 of supervisor, workers and server under load, twice in a row: the books equal the ledger
    after each, both sides of the proof hold, and every acknowledged reservation is there.
    """
    told = tmp_path / "drill.json"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BINCARD_")}
    environment["BINCARD_REDIS_SERVER"] = str(find_program(server_name).path)
    options = {"kills": 2, "baskets": BASKETS, "source": "generator", "seed": 7, "json": told}
    drill = subprocess.run(
        [
            sys.executable,
            str(SCRIPTS / "kill_drill.py"),
            *(f"--{name}={chosen}" for name, chosen in options.items()),
        ],
        env=environment,
        capture_output=True,
        check=False,
        text=True,
    )
    assert drill.returncode == 0, f"{drill.stdout}\n{drill.stderr}"
    (round_,) = json.loads(told.read_text())["rounds"]
    assert [kill["audit"]["is_clean"] for kill in round_["kills"]] == [True, True]
    assert all(kill["processes"] >= 5 for kill in round_["kills"])
    assert round_["audit"]["is_clean"]
    proof, outcomes = round_["replay"]["proof"], round_["replay"]["outcomes"]
    assert proof["answers_agree"]
    assert proof["books_agree"]
    assert proof["reservations_checked"] == proof["reservations_acknowledged"] > 0
    for stake in ("unknown_outcomes", "unknown_resolved", "replayed_answers", "refused", "expired"):
        assert outcomes[stake] > 0, f"a drill without {stake} proves nothing"


SOUND: dict[str, Any] = {
    "ok": True,
    "stopped": "",
    "proof": {
        "answers_agree": True,
        "books_agree": True,
        "reservations_acknowledged": 9,
        "reservations_checked": 9,
        "findings": [],
    },
    "outcomes": {
        "unknown_outcomes": 3,
        "unknown_resolved": 2,
        "replayed_answers": 4,
        "refused": 1,
        "expired": 1,
    },
}
LOST = {
    "rule": "nothing acknowledged is lost",
    "where": "basket-7 r_1",
    "detail": "expected held, found none",
}


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("proof", {"findings": [LOST], "books_agree": False}, "nothing acknowledged is lost: basket-7 r_1"),
        ("proof", {"books_agree": False}, "the proof of no oversell does not hold"),
        ("proof", {"answers_agree": False}, "the proof of no oversell does not hold"),
        ("proof", {"reservations_checked": 8}, "not every acknowledged reservation was read back"),
        ("outcomes", {"unknown_outcomes": 0}, "nothing at stake: no unknown outcomes"),
        ("outcomes", {"replayed_answers": 0}, "nothing at stake: no replayed answers"),
        ("outcomes", {"refused": 0}, "nothing at stake: no refused"),
        ("outcomes", {"expired": 0}, "nothing at stake: no expired"),
    ],
)
def test_the_drill_notices_a_violation(
    monkeypatch: pytest.MonkeyPatch, part: str, change: dict[str, object], words: str
) -> None:
    """A round in which something was lost, or in which nothing could have been lost, counts as failed."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    drill = importlib.import_module("kill_drill")
    assert drill.judge(SOUND) == []
    faults = drill.judge({**SOUND, part: {**SOUND[part], **change}})
    assert any(fault.startswith(words) for fault in faults), faults
