"""The data directory of an embedded server: who may use it, where the server is, how it ended.

lock          held by the owner *and* by the server, whichever lives longer
owner.lock    held by the owner alone, with its pid inside
server.json   where the running server is, for other commands
clean.json    the append-only files as a graceful stop left them
server.conf, server.log, appendonlydir/    the server's own
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import Final, TypedDict

from .aof import DIRECTORY, sync_directory
from .embedded_errors import DataDirectoryError, DataDirectoryLockedError

LOG: Final = logging.getLogger("bincard")

# Bytes of a unix socket's path, without the closing zero.
SOCKET_PATH_BYTES: Final = 103 if sys.platform == "darwin" else 107
SOCKET_NAME: Final = "server.sock"
SHORT_DIRECTORY_PREFIX: Final = "bincard-"
DYING_OWNER_SECONDS: Final = 1.0
DYING_SERVER_SECONDS: Final = 10.0
LOCK_POLL_SECONDS: Final = 0.02
PING_TIMEOUT_SECONDS: Final = 2.0
LOG_BYTES: Final = 4 << 20
LOGS_KEPT: Final = 2


class RunningServer(TypedDict):
    """The content of `server.json`."""

    owner_pid: int
    server_pid: int
    url: str


class DataDirectory:
    """Exclusive use of a data directory; `release` gives it back."""

    def __init__(self, path: Path) -> None:
        """Take the directory, creating it; raises `DataDirectoryError`.

        Waits up to 10 s for the server of an owner that is gone, because it dies a moment after it; and
        1 s for an owner, because one that was killed holds its lock until the kernel has cleared it away.
        """
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._owner_fd = _open_private(path / "owner.lock")
        except OSError as failure:
            raise DataDirectoryError(f"data directory {path} cannot be used: {failure}") from failure
        self.lock_fd = -1
        try:
            self._take()
        except BaseException:
            self.release()
            raise
        self._remove_short_directory()

    def _take(self) -> None:
        if not self._wait_for_lock(self._owner_fd, DYING_OWNER_SECONDS):
            owner = os.pread(self._owner_fd, 32, 0).decode(errors="replace").strip()
            raise DataDirectoryLockedError(
                f"data directory {self.path} is in use by process {owner or '(starting)'}. Stop "
                "that process, choose another --data-dir, or connect to its server instead."
            )
        os.ftruncate(self._owner_fd, 0)
        os.pwrite(self._owner_fd, f"{os.getpid()}\n".encode(), 0)
        self.lock_fd = _open_private(self.path / "lock")
        if not self._wait_for_lock(self.lock_fd, DYING_SERVER_SECONDS):
            running = read_running(self.path)
            server = f"process {running['server_pid']}" if running else "a process"
            raise DataDirectoryLockedError(
                f"data directory {self.path} is still in use by {server}, a server whose owner "
                f"is gone and which has not ended within {DYING_SERVER_SECONDS:.0f} s. "
                "End that process, then start again."
            )

    def _wait_for_lock(self, descriptor: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not _try_lock(descriptor, self.path):
            if time.monotonic() > deadline:
                return False
            time.sleep(LOCK_POLL_SECONDS)
        return True

    def release(self) -> None:
        """Give up the directory; the server's own hold on it lasts until the server has ended."""
        for descriptor in (self.lock_fd, self._owner_fd):
            if descriptor >= 0:
                os.close(descriptor)
        self.lock_fd = self._owner_fd = -1

    def socket_path(self) -> Path:
        """Choose where the server listens; a short private directory when the path is too long."""
        path = self.path / SOCKET_NAME
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return path
        for parent in (None, "/tmp"):  # noqa: S108 - mkdtemp makes a private directory in it
            with contextlib.suppress(OSError):
                short = Path(tempfile.mkdtemp(prefix=SHORT_DIRECTORY_PREFIX, dir=parent))
                if len(os.fsencode(short / SOCKET_NAME)) <= SOCKET_PATH_BYTES:
                    return short / SOCKET_NAME
                short.rmdir()
        raise DataDirectoryError(
            f"no directory short enough for a socket: {path} and {tempfile.gettempdir()} make "
            f"paths of more than {SOCKET_PATH_BYTES} bytes"
        )

    def announce(self, *, server_pid: int, url: str) -> None:
        """Tell other commands where the server is."""
        running = RunningServer(owner_pid=os.getpid(), server_pid=server_pid, url=url)
        write_private(self.path / "server.json", json.dumps(running) + "\n")

    def retract(self) -> None:
        """Undo `announce` and remove the private directory of the socket, if there was one."""
        self._remove_short_directory()
        (self.path / "server.json").unlink(missing_ok=True)

    def _remove_short_directory(self) -> None:
        running = read_running(self.path)
        if running is None:
            return
        directory = socket_path_of(running["url"]).parent
        if directory != self.path and directory.name.startswith(SHORT_DIRECTORY_PREFIX):
            shutil.rmtree(directory, ignore_errors=True)

    def mark_clean(self) -> None:
        """Remember that a graceful stop left the append-only files whole."""
        write_private(self.path / "clean.json", json.dumps(self._append_only_sizes()) + "\n")

    def take_clean_mark(self) -> bool:
        """Whether the files are as a graceful stop left them; forgets it, durably."""
        mark = self.path / "clean.json"
        try:
            clean: object = json.loads(mark.read_text())
        except (OSError, ValueError):
            clean = None
        mark.unlink(missing_ok=True)
        sync_directory(self.path)
        sizes = self._append_only_sizes()
        return bool(sizes) and clean == sizes

    def _append_only_sizes(self) -> dict[str, list[int]]:
        directory = self.path / DIRECTORY
        if not directory.is_dir():
            return {}
        found = ((path.name, path.stat()) for path in sorted(directory.iterdir()))
        return {name: [status.st_size, status.st_mtime_ns] for name, status in found}

    def rotate_log(self) -> Path:
        """Return the server's log, moved aside first when it has grown large."""
        log = self.path / "server.log"
        with contextlib.suppress(FileNotFoundError):
            if log.stat().st_size > LOG_BYTES:
                for number in range(LOGS_KEPT, 0, -1):
                    older = log if number == 1 else log.with_name(f"server.log.{number - 1}")
                    with contextlib.suppress(FileNotFoundError):
                        older.replace(log.with_name(f"server.log.{number}"))
        return log


def find_running(data_dir: Path) -> str | None:
    """Return the URL of the server that runs on `data_dir`, None when none answers there."""
    running = read_running(data_dir)
    if running is None or not ping(socket_path_of(running["url"])):
        return None
    return running["url"]


def ping(path: Path) -> bytes:
    """Return the first line a server at `path` answers, empty when there is none."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PING_TIMEOUT_SECONDS)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(512)
    return b""


def socket_url(path: Path) -> str:
    """Spell a socket's path as a URL."""
    return "unix://" + urllib.parse.quote(str(path))


def socket_path_of(url: str) -> Path:
    """Undo `socket_url`."""
    return Path(urllib.parse.unquote(url.removeprefix("unix://")))


def read_running(data_dir: Path) -> RunningServer | None:
    """Read `server.json`; None when it is absent or not ours."""
    try:
        found = json.loads((data_dir / "server.json").read_text())
        return RunningServer(
            owner_pid=int(found["owner_pid"]),
            server_pid=int(found["server_pid"]),
            url=str(found["url"]),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_private(path: Path, text: str) -> None:
    """Replace a file whole, durably, readable by its owner alone."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(_open_private(draft), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def _open_private(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int, directory: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failure:
        if failure.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return False
        raise DataDirectoryError(
            f"the file system of {directory} has no locks ({failure}); choose a local one"
        ) from failure
    return True
