"""Puts the stock of the scenarios on the books of a running server: locations, then receipts.

`python benchmarks/load/prepare.py --url http://127.0.0.1:8080 [scenario …]`. Doing it again adds nothing
for as long as the server remembers the movements (24 hours); `--run NAME` receives the same once more.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.load.stage import (
    MOVEMENTS_A_REQUEST,
    SEED,
    STAGES,
    Desk,
    ServerRefusedError,
    Stage,
)


def prepare(desk: Desk, stage: Stage, run: str, seed: int = SEED) -> int:
    """Makes a scenario's stock; gives the number of positions. Raises `ServerRefusedError`."""
    for number in range(stage.locations):
        desk.open_location(stage.location(number))
    receipts: Iterator[dict[str, object]] = (
        {
            "id": f"{run}-{seed}-{stage.name}-{number}",
            "kind": "receive",
            "sku": sku,
            "location": location,
            "quantity": stage.units,
        }
        for number, (sku, location) in enumerate(stage.positions())
    )
    positions = 0
    while part := list(islice(receipts, MOVEMENTS_A_REQUEST)):
        desk.receive(part)
        positions += len(part)
    return positions


def main() -> int:
    """Prepare what the command line names."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("scenarios", nargs="*", metavar="scenario", help=f"of {', '.join(STAGES)}; all")
    options.add_argument("--url", default="http://127.0.0.1:8080")
    options.add_argument(
        "--key", default=os.environ.get("BINCARD_API_KEY"), help="an API key (BINCARD_API_KEY)"
    )
    options.add_argument("--run", default="prepare", help="another name receives the stock once more")
    options.add_argument("--seed", type=int, default=SEED)
    chosen = options.parse_args()
    unknown = set(chosen.scenarios) - STAGES.keys()
    if unknown:
        options.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    try:
        for name in chosen.scenarios or STAGES:
            began = time.monotonic()
            with Desk(chosen.url, chosen.key) as desk:
                positions = prepare(desk, STAGES[name], chosen.run, chosen.seed)
            print(f"{name}: {positions:,} positions in {time.monotonic() - began:.1f} s")
    except (ServerRefusedError, OSError) as fault:
        print(f"prepare: {fault}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
