#!/usr/bin/env python3
"""Run the engine through many simulated schedules of faults and tell what they showed.

`python3 scripts/simulate.py --schedules 10000` runs that many from a seed by chance; `--seed S` names the
first. A schedule is decided by its seed: `--schedules 1 --seed S` runs one again, step by step the same.
Exit status 1 when a promise was broken, or when too little happened to prove anything.
"""

from __future__ import annotations

import sys

from _bootstrap import become

if __name__ == "__main__":
    become("tests.simulation.campaign", sys.argv[1:])
