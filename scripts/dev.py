#!/usr/bin/env python3
"""A cluster, or a primary under Sentinels, on this machine: `python3 scripts/dev.py cluster|sentinel`.

Starts the servers on free ports in a temporary directory, prints the URL for `--redis-url`, and stops
everything and removes it on Ctrl-C or SIGTERM. Nothing is written to disk that outlives it, so it is for
trying out and for tests, not for stock. Needs Python 3.11 with pip, no containers.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from _bootstrap import ROOT, MissingError, ensure_venv, say, venv_program
from _groups import GroupError, SentinelGroup, start_cluster, start_sentinels

if TYPE_CHECKING:
    from types import FrameType

    from _groups import Group

FIND = """
import shutil, sys
from pathlib import Path
from engine.topology.embedded import ServerBinaryError
from engine.topology.embedded_binary import find_server_binary, inspect_server_binary
try:
    named = shutil.which("redis-server")
    if sys.argv[1] == "redis":
        if named is None:
            sys.exit("redis-server is not on PATH (Debian: apt-get install redis-server)")
        print(inspect_server_binary(Path(named)).path)
    else:
        print(find_server_binary({"PATH": ""}).path)
except ServerBinaryError as error:
    sys.exit(str(error))
"""


def main(arguments: list[str] | None = None) -> int:
    """Start, print, wait for the end; returns the exit status."""
    parser = argparse.ArgumentParser(description="Start servers to try Bincard's topologies on.")
    parser.add_argument("group", choices=["cluster", "sentinel"])
    parser.add_argument(
        "--server", choices=["valkey", "redis"], default="valkey", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        ensure_venv()
        program = find_program(options.server)
        with start_cluster(program) if options.group == "cluster" else start_sentinels(program) as group:
            tell(group)
            while True:
                time.sleep(3600)
    except (MissingError, GroupError) as fault:
        print(fault, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def find_program(name: str) -> Path:
    """The program of a server: Valkey's comes with Bincard, a Redis is looked for on PATH.

    Raises:
        MissingError: there is none that is new enough.
    """
    asked = subprocess.run(
        [str(venv_program("python")), "-c", FIND, name], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        raise MissingError(asked.stderr.strip())
    return Path(asked.stdout.strip())


def tell(group: Group) -> None:
    """Print where everything is and what to try."""
    kind = "a primary, a replica, three Sentinels" if isinstance(group, SentinelGroup) else "cluster"
    say(f"{kind} on ports {', '.join(str(node.port) for node in group.nodes)}")
    say(f"process ids {', '.join(str(node.pid) for node in group.nodes)}; kill one and see")
    print(f"\n  {group.url}\n", flush=True)
    print(f"  .venv/bin/bincard serve --durability none --redis-url '{group.url}'\n", flush=True)
    say("Ctrl-C stops all of it")


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the form of a signal's handler
    raise KeyboardInterrupt


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
