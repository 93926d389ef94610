#!/usr/bin/env python3
"""Ask a worker thousands of requests made up from its OpenAPI document, valid and invalid, also in chains.

`python3 scripts/examples.py --examples 200` asks that many of each operation in each phase; `--seed S`
asks others. Exit status 1 where an answer was not what the document says.
"""

from __future__ import annotations

import subprocess
import sys

from _bootstrap import ROOT, MissingError, ensure_venv, environment, venv_program


def main(arguments: list[str]) -> int:
    """Installs what is needed, then asks; returns the exit status."""
    try:
        ensure_venv(("test",))
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    command = [str(venv_program("python")), "-m", "tests.api.examples", *arguments]
    try:
        return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
