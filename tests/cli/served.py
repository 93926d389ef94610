"""A `bincard` that runs as real processes, for tests."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

BINCARD = Path(sys.executable).with_name("bincard")
MARK = "BINCARD_TEST_MARK"
PATIENCE_SECONDS = 30.0


def until(condition: Callable[[], object], what: str = "so", seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something that no handle tells of."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


def below(directory: Path) -> Iterator[Path]:
    """The places in /proc of processes that work in a directory or below."""
    for place in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if place.name.isdigit() and (place / "cwd").readlink().is_relative_to(directory):
                yield place


class Served:
    """A `bincard` that runs, with everything that it started."""

    def __init__(self, process: subprocess.Popen[str], mark: str, errors: Path) -> None:
        self.process = process
        self.mark = mark
        self._errors = errors
        self._server_pid = 0
        self.port = 0

    def wait_until_ready(self) -> str:
        """The one line on the standard output; knows the port from it."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        assert line.startswith("Bincard is ready: http://127.0.0.1:"), f"{line!r}\n{self.errors}"
        self.port = int(line.split("/v1")[0].rpartition(":")[2])
        with contextlib.suppress(FileNotFoundError):
            self._server_pid = self.running_server()["server_pid"]
        return line

    def await_metrics(self) -> int:
        """The port on which `bincard worker` tells its metrics."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        found = re.fullmatch(r"Bincard works .*; metrics http://127\.0\.0\.1:(\d+)/metrics\n", line)
        assert found, f"{line!r}\n{self.errors}"
        self.port = int(found[1])
        return self.port

    def running_server(self, data_dir: str = "data") -> dict[str, Any]:
        """What the embedded server of a data directory tells of itself."""
        found: dict[str, Any] = json.loads((self.directory / data_dir / "server.json").read_text())
        return found

    @property
    def directory(self) -> Path:
        """Where it was started."""
        return self._errors.parent

    @property
    def errors(self) -> str:
        """What it wrote to the standard error so far."""
        return self._errors.read_text()

    def processes(self, command: str = "") -> set[int]:
        """Everything that it started and that lives, itself included, by a part of the command."""
        found = set()
        for place in below(self.directory):
            with contextlib.suppress(OSError):
                # The server overwrites its environment with its title.
                is_ours = f"{MARK}={self.mark}".encode() in (place / "environ").read_bytes()
                is_ours |= int(place.name) == self._server_pid
                if is_ours and command.encode() in (place / "cmdline").read_bytes():
                    found.add(int(place.name))
        return found

    def ask(
        self, method: str, path: str, body: object = None, *, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request on a connection of its own."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", content, headers or {}, method=method
        )
        if content is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read()

    def is_ready(self) -> bool:
        """Whether `GET /readyz` answers 200."""
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def connect(self) -> socket.socket:
        """A connection to the API."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def wait_until_gone(self) -> None:
        """Wait until nothing is left of it."""
        self.process.wait(PATIENCE_SECONDS)
        until(lambda: not self.processes(), f"everything ended, {self.processes()} live")


class Start(Protocol):
    """Starts `bincard` with arguments and an environment."""

    def __call__(self, *arguments: str, environment: dict[str, str] | None = None) -> Served: ...
