"""A private PostgreSQL for one session: in a directory of its own, on a Unix socket, gone with us."""

from __future__ import annotations

import ctypes
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

VERSIONS_DIR = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "postgres", "pg_isready", "pgbench")
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "110",
    "shared_buffers": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "fsync": "on",
    "full_page_writes": "on",
    "jit": "off",
    "autovacuum_naptime": "10s",
    "deadlock_timeout": "100ms",
}
"""What every guide sets for such a load; everything else as it comes. `synchronous_commit` is the tier's."""

STOP_SECONDS = 20.0
START_SECONDS = 30.0
_PARENT_DEATH_SIGNAL = 1


class PostgresMissingError(Exception):
    """There is no PostgreSQL here, or it does not start; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server: the directory of its socket, the user to be, its version."""

    socket_dir: Path
    user: str
    version: str
    programs: Path


def find_programs() -> Path:
    """The directory of PostgreSQL's programs: of those on PATH, else the newest that Debian installed.

    Raises `PostgresMissingError`.
    """
    on_path = shutil.which("initdb")
    candidates = [] if on_path is None else [Path(on_path).resolve().parent]
    candidates += sorted(VERSIONS_DIR.glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    for directory in candidates:
        if all((directory / name).exists() for name in PROGRAMS):
            return directory
    raise PostgresMissingError("PostgreSQL is not installed; on Debian: apt-get install postgresql")


def _server_user() -> str | None:
    """Whom the server runs as: PostgreSQL refuses to be root. None: ourselves."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise PostgresMissingError("PostgreSQL cannot run as root, and there is no user postgres or nobody")


def _die_with_parent() -> None:
    """In the child: stop when the process that started us is gone, however it ended."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGQUIT)


@contextmanager
def private_cluster(directory: Path, durability: Literal["none", "local"]) -> Iterator[Cluster]:
    """Starts a new server below `directory`, which is ours alone. Raises `PostgresMissingError`."""
    programs, user = find_programs(), _server_user()
    home = directory / "postgres"
    home.mkdir()
    if user is not None:
        shutil.chown(home, user, pwd.getpwnam(user).pw_gid)
        directory.chmod(0o711)
        shut = [str(parent) for parent in directory.parents if not parent.stat().st_mode & 0o001]
        if shut:
            raise PostgresMissingError(
                f"PostgreSQL runs as {user}, who cannot enter {shut[-1]}: choose another --directory"
            )
    rows = home / "data"
    initialise = [
        str(programs / "initdb"),
        "-D",
        str(rows),
        "-U",
        "bench",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
    ]
    group = pwd.getpwnam(user).pw_gid if user is not None else None
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own program, arguments from here
        initialise, user=user, group=group, cwd=home, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PostgresMissingError(f"initdb failed: {done.stderr.strip()}")
    settings = SETTINGS | {
        "unix_socket_directories": str(home),
        "synchronous_commit": "on" if durability == "local" else "off",
    }
    command = [str(programs / "postgres"), "-D", str(rows)]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]
    log = directory / "postgres.log"
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603 - as above
            command,
            user=user,
            group=group,
            cwd=home,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no other thread of ours runs yet
        )
    try:
        _wait_until_ready(server, programs, home, log)
        yield Cluster(home, "bench", _version(programs), programs)
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _version(programs: Path) -> str:
    said = subprocess.run(  # noqa: S603 - as above
        [programs / "postgres", "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"\d+(?:\.\d+)+", said.stdout)
    return found[0] if found else said.stdout.strip()


def _wait_until_ready(server: subprocess.Popen[bytes], programs: Path, home: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        ready = subprocess.run(  # noqa: S603 - as above
            [programs / "pg_isready", "-h", home, "-U", "bench", "-d", "postgres", "-q"], check=False
        )
        if ready.returncode == 0:
            return
        time.sleep(0.05)
    raise PostgresMissingError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-1000:]}")
