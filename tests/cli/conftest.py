from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.served import BINCARD, MARK, Served, Start, below, until


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `bincard` with arguments; at the end nothing of it may live."""
    started: list[Served] = []

    def start_one(*arguments: str, environment: dict[str, str] | None = None) -> Served:
        mark = uuid.uuid4().hex
        errors = tmp_path / f"errors-{len(started)}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BINCARD_")}
        with errors.open("w") as written:
            process = subprocess.Popen(
                [str(BINCARD), *arguments],
                cwd=tmp_path,
                env={**clean, MARK: mark, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=written,
                text=True,
                process_group=0,
            )
        started.append(Served(process, mark, errors))
        return started[-1]

    yield start_one
    for served in started:
        if served.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                served.stop()
        served.process.kill()
        served.process.wait()
        assert served.process.stdout is not None
        served.process.stdout.close()
    with contextlib.suppress(AssertionError):
        until(lambda: not list(below(tmp_path)), "everything ended", 5.0)
    left = {int(place.name): (place / "cmdline").read_bytes() for place in below(tmp_path)}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "processes were left behind"


@pytest.fixture
def serve(start: Start) -> Start:
    """Starts `bincard serve` on a free port with the directory `data`, and waits until it is ready."""

    def serve_one(*arguments: str, environment: dict[str, str] | None = None) -> Served:
        served = start("serve", "--port", "0", *arguments, environment=environment)
        served.wait_until_ready()
        return served

    return serve_one
