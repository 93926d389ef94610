"""Runs many schedules on all cores and tells what they showed; started by `scripts/simulate.py`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from random import SystemRandom
from typing import TYPE_CHECKING

from tests.simulation.schedule import run_schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = 50
"""Schedules that a process runs before it tells of them."""
SHOWN = 5
STAKES = (
    "unconfirmed",
    "replayed",
    "insufficient_stock",
    "idempotency_mismatch",
    "reservation_expired",
    "expired",
    "crash",
    "cut",
    "stall",
    "restart",
    "storage_unavailable",
    "memory_full",
)
"""What must have happened, or a campaign proves little: faults that bit, answers that were lost, fights."""

Failures = list[tuple[int, str]]


def run_block(seeds: range) -> tuple[int, Counter[str], Failures]:
    """Runs schedules; how many there were, what happened in them, and those in which something is wrong."""
    outcomes: Counter[str] = Counter()
    failures: Failures = []
    for seed in seeds:
        result = run_schedule(seed)
        outcomes.update(result.outcomes)
        if result.findings:
            failures.append((seed, result.explain()))
    return len(seeds), outcomes, failures


def missing_stakes(outcomes: Counter[str]) -> list[str]:
    """What did not happen in a whole campaign."""
    return [name for name in STAKES if not outcomes[name]]


def run_campaign(first: int, schedules: int, processes: int) -> int:
    """Runs schedules and prints what they showed; the exit status."""
    blocks = [range(at, min(at + BLOCK, first + schedules)) for at in range(first, first + schedules, BLOCK)]
    began, done, outcomes, failures = time.monotonic(), 0, Counter[str](), Failures()
    say = partial(print, flush=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for count, seen, failed in pool.map(run_block, blocks):
            done += count
            outcomes.update(seen)
            for seed, text in failed:
                if len(failures) < SHOWN:
                    say(f"\nFAILED: python3 scripts/simulate.py --schedules 1 --seed {seed}\n{text}")
                failures.append((seed, text))
    minutes = (time.monotonic() - began) / 60
    say(f"{done} schedules from seed {first}, {done / minutes:,.0f} a minute on {processes} processes")
    say(", ".join(f"{name} {count:,}" for name, count in outcomes.most_common()))
    if failures:
        say(f"{len(failures)} failed: seeds {', '.join(str(seed) for seed, _ in failures)}")
    missing = missing_stakes(outcomes) if schedules >= BLOCK else []
    if missing:
        say(f"never happened, so little is proved: {', '.join(missing)}")
    return 1 if failures or missing else 0


def main(arguments: Sequence[str]) -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=None, help="the first; by chance where none is given")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    chosen = parser.parse_args(arguments)
    first = SystemRandom().randrange(10**9) if chosen.seed is None else chosen.seed
    return run_campaign(first, chosen.schedules, chosen.processes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
