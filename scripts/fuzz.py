#!/usr/bin/env python3
"""Throw changed bytes at everything that reads what others wrote: `python3 scripts/fuzz.py --minutes 5`.

HTTP connections, bodies, words of the request, what the store keeps, the ledger, append-only files, files of
`bincard load`; `--only words` takes one of them. `--minutes` is for each, `--seed` begins elsewhere. With
`--atheris` libFuzzer does it, which `pip install atheris` brings. Exit status 1 where something broke; a
file beside names what broke it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from _bootstrap import ROOT, MissingError, ensure_venv, environment, venv_program

TARGETS = ("connections", "bodies", "words", "stored", "ledger", "append_only_file", "load_files")


def main(words: list[str]) -> int:
    """Installs what is needed, then fuzzes one after the other."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--minutes", default="5")
    parser.add_argument("--seed", default="8451")
    parser.add_argument("--atheris", action="store_true")
    told = parser.parse_args(words)
    try:
        ensure_venv(("test",))
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    module = "tests.fuzz.with_atheris" if told.atheris else "tests.fuzz.run"
    broken = 0
    for target in (told.only,) if told.only else TARGETS:
        options = ["--minutes", told.minutes, "--seed", told.seed]
        command = [str(venv_program("python")), "-m", module, target, *options]
        broken += subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode != 0
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
