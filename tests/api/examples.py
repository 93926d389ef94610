"""Requests made up from the OpenAPI document by schemathesis, in all its phases.

By itself it starts a server and a worker; `scripts/examples.py` makes `.venv` ready for it.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from engine.topology.embedded import EmbeddedServer
from tests.api.service import Service, running

CONFIG = Path(__file__).with_name("schemathesis.toml")
RESULT = Path(__file__).with_name("examples.json")
SEED = 8451


def ask_examples(
    service: Service, directory: Path, examples: int, seed: int = SEED, timeout_seconds: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Lets schemathesis loose on a worker, with something on its shelves."""
    service.open_location("s7")
    service.receive("A-1", "s7", 1_000_000)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(CONFIG)),
        *("run", f"{service.url}/openapi.json"),
        *("--seed", str(seed)),
        *("--max-examples", str(examples)),
        *("--max-failures", "50"),
        "--continue-on-failure",
        "--no-color",
    ]
    return subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=timeout_seconds, check=False
    )


def told_by(output: str) -> dict[str, object]:
    """The numbers of a run."""
    operations = re.search(r"Tested: (\d+)", output)
    cases = re.search(r"(\d+) generated, (.*)", output)
    phases = re.findall(r"^  (\S+) +(Examples|Coverage|Fuzzing|Stateful.*)$", output, re.MULTILINE)
    assert operations is not None
    assert cases is not None
    return {
        "operations": int(operations[1]),
        "cases": int(cases[1]),
        "found": cases[2],
        "phases": {name: mark for mark, name in phases},
    }


def main(words: list[str]) -> int:
    """The exit status of schemathesis; the result is kept where it is asked for."""
    parser = argparse.ArgumentParser(prog="examples", description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="of each operation and phase")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--keep", action="store_true", help=f"write the numbers to {RESULT.name}")
    told = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as place:
        server = EmbeddedServer.start(Path(place) / "data", durability="none")
        try:
            with running("hot", server.url) as service:
                finished = ask_examples(service, Path(place), told.examples, told.seed)
                alive = service.ask("GET", "/readyz").status
        finally:
            server.stop()
    sys.stdout.write(finished.stdout + finished.stderr)
    found = {
        "examples": told.examples,
        "seed": told.seed,
        "schemathesis": version("schemathesis"),
        "exit_status": finished.returncode,
        "ready_afterwards": alive == 200,
        **told_by(finished.stdout),
    }
    if told.keep:
        RESULT.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return finished.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
