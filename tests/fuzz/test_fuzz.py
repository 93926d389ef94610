"""Some seconds of what `scripts/fuzz.py` does for minutes; and that it would find something."""

import pytest

from tests.fuzz import run, targets
from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS

ROUNDS = 300


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_breaks(name: str) -> None:
    done, kept, steps = fuzz(name, seconds=20, seed=1, rounds=ROUNDS)
    assert done >= 20
    assert kept > len(targets.SEEDS[TARGETS[name]])
    assert steps > 30


def test_a_fault_behind_several_checks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blind changes would not pass four checks of a byte each; feedback from the lines reached does."""

    def deep(raw: bytes) -> None:
        if raw[:1] != b"{":
            return
        if raw[1:2] != b"\r":
            return
        if raw[2:3] == b"\xff":
            raise AssertionError("reached")

    monkeypatch.setattr(run, "OURS", (__file__,))
    monkeypatch.setitem(run.TARGETS, "deep", deep)
    monkeypatch.setitem(run.SEEDS, deep, [b"abcdef"])
    with pytest.raises(AssertionError, match="reached") as found:
        fuzz("deep", seconds=60, seed=1)
    assert "deep was given" in found.value.__notes__[0]
