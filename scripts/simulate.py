#!/usr/bin/env python3
"""Run the engine through many simulated schedules of faults and tell what they showed.

`python3 scripts/simulate.py --schedules 10000` runs that many from a seed by chance; `--seed S` names the
first. A schedule is decided by its seed: `--schedules 1 --seed S` runs one again, step by step the same.
Exit status 1 when a promise was broken, or when too little happened to prove anything.
"""

from __future__ import annotations

import subprocess
import sys

from _bootstrap import ROOT, MissingError, ensure_venv, environment, venv_program


def main(arguments: list[str]) -> int:
    """Installs what is needed, then runs the campaign; returns its exit status."""
    try:
        ensure_venv(("test",))
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    command = [str(venv_program("python")), "-m", "tests.simulation.campaign", *arguments]
    try:
        return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
