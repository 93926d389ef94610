"""Whole schedules: the engine keeps its promises whatever goes wrong, and one that does not is found."""

import subprocess
import sys
from collections import Counter

import pytest

from engine.script import Library, assemble, read_sources
from tests.simulation.campaign import missing_stakes
from tests.simulation.schedule import run_schedule

SCHEDULES, BLOCKS = 600, 6
MOST_SEEDS = 200
SHOW_DIGEST = "from tests.simulation.schedule import run_schedule; print(run_schedule({seed}).digest)"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Which seeds: those of a word on the command line, or the usual ones in blocks."""
    if "seeds" in metafunc.fixturenames:
        seed = metafunc.config.getoption("--simulation-seed")
        size = SCHEDULES // BLOCKS
        blocks = [range(seed, seed + 1)] if seed is not None else []
        blocks = blocks or [range(at, at + size) for at in range(0, SCHEDULES, size)]
        metafunc.parametrize("seeds", blocks, ids=[f"seed={seeds[0]}+{len(seeds)}" for seeds in blocks])


def test_promises_are_kept(seeds: range) -> None:
    """Crashes at any step, lost requests, lost answers, late requests, clocks, fail-over: the books are what
    the ledger adds up to, nothing is oversold, every answer was true and every unknown one converges.
    """
    outcomes: Counter[str] = Counter()
    for seed in seeds:
        result = run_schedule(seed)
        assert not result.findings, f"{result.explain()}\nagain: --simulation-seed={seed}"
        outcomes.update(result.outcomes)
    if len(seeds) > 1:
        assert not missing_stakes(outcomes), "nothing at stake"


@pytest.mark.parametrize("seed", [5, 1161])
def test_a_seed_decides_everything(seed: int) -> None:
    """What was asked, answered and stored is the same in this process and in another."""
    first = run_schedule(seed).digest
    assert run_schedule(seed).digest == first
    command = [sys.executable, "-W", "error", "-c", SHOW_DIGEST.format(seed=seed)]
    told = subprocess.run(
        command, env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."}, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == first
    assert run_schedule(seed + 1).digest != first


def break_scripts(file: str, right: str, wrong: str) -> Library:
    """The scripts of this release with one fault."""
    includes, verbs = read_sources()
    sources = includes if file in includes else verbs
    assert sources[file].count(right) == 1
    sources = {**sources, file: sources[file].replace(right, wrong)}
    return assemble(sources, verbs) if file in includes else assemble(includes, sources)


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        # Ids are forgotten; within a call alone; a fact's are.
        ("reserve", "remembered[id] or priors[i - 1]", "nil"),
        ("reserve", "remembered[id] or priors[i - 1]", "priors[i - 1]"),
        ("facts", "local prior = remembered[id]", "local prior = nil"),
        # One unit too many, in the usual case and in the general one; one too few.
        ("reserve", "most >= held and room", "most >= held - 1 and room"),
        ("card", "return free >= quantity", "return free >= quantity - 1"),
        ("card", "return free >= quantity", "return free > quantity"),
        # A lapsed hold keeps its units; one that was extended ends too early.
        ("lapse", "STATE.HELD, STATE.EXPIRED, -1, 0, 0)", "STATE.HELD, STATE.EXPIRED, 0, 0, 0)"),
        ("lapse", "STATE.HELD and deadline_ms <= now_ms", "STATE.HELD"),
        # Goods leave and stay on the books; the deadline is not filed; the sequence stands still.
        ("commit", "STATE.FULFILLED, -1, 0, -1)", "STATE.FULFILLED, -1, 0, 0)"),
        ("reserve", "add_due('h', deadline_ms, id)", ""),
        ("batch", "last_seq = last_seq + 1", "last_seq = last_seq"),
        # A basket is held though a part was refused; its parts do not follow.
        ("decide", "hold == 1 and hold_basket", "hold_basket"),
        ("follow", "part.head.state > STATE.COMMITTED or not", "part.head.state or not"),
    ],
)
def test_a_broken_engine_is_found(file: str, right: str, wrong: str) -> None:
    """Within a few schedules."""
    broken = break_scripts(file, right, wrong)
    assert any(run_schedule(seed, broken).findings for seed in range(MOST_SEEDS))
