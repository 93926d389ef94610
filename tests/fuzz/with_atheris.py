"""The same targets under libFuzzer, which sees the branches taken: `python -m tests.fuzz.with_atheris words`.

Needs `pip install atheris`. What makes a target raise is written to a file `crash-…`, and the exit status is
not 0.
"""

import argparse
import os
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import atheris

# It changes the code of modules while they are imported, so these come behind it.
with atheris.instrument_imports(include=["api", "engine"]):
    from tests.fuzz.targets import SEEDS, TARGETS
from tests.fuzz.run import LONGEST


def main() -> int:
    """The exit status of libFuzzer, which ends its process."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=8451)
    told = parser.parse_args()
    target = TARGETS[told.target]
    with tempfile.TemporaryDirectory() as corpus:
        for raw in SEEDS[target]:
            (Path(corpus) / sha256(raw).hexdigest()).write_bytes(raw)
        child = os.fork()
        if not child:
            options = [f"-max_total_time={int(60 * told.minutes)}", f"-seed={told.seed}"]
            options += [f"-max_len={LONGEST}", "-print_final_stats=1", "-verbosity=0", corpus]
            atheris.Setup([sys.argv[0], *options], target)
            atheris.Fuzz()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
