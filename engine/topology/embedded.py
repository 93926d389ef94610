"""A server of our own, for installations that bring none: found, started, watched over, stopped.

It lives and dies with the process that starts it, even when that process is killed with -9, yet not
with the terminal's Ctrl-C: the supervisor drains first and stops the server last.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Literal, Self

from .aof import guard_append_only_files
from .embedded_binary import ServerBinary, find_server_binary, inspect_server_binary
from .embedded_directory import (
    DataDirectory,
    find_running,
    ping,
    socket_path_of,
    socket_url,
    write_private,
)
from .embedded_errors import (
    AppendOnlyFileError,
    DataDirectoryError,
    DataDirectoryLockedError,
    EmbeddedServerError,
    ServerBinaryError,
    ServerStartError,
)

__all__ = [
    "AppendOnlyFileError",
    "DataDirectoryError",
    "DataDirectoryLockedError",
    "EmbeddedDurability",
    "EmbeddedServer",
    "EmbeddedServerError",
    "ServerBinaryError",
    "ServerStartError",
    "find_running",
]

LOG: Final = logging.getLogger("bincard")

EmbeddedDurability = Literal["none", "local"]

READY_TIMEOUT_SECONDS: Final = 300.0
STOP_TIMEOUT_SECONDS: Final = 30.0
READY_POLL_SECONDS: Final = 0.005
LOG_TAIL_BYTES: Final = 2000
LAUNCHER: Final = Path(__file__).with_name("embedded_launch.py")

# Elsewhere a watcher on a pipe takes its place.
DEATH_SIGNAL: Final = sys.platform.startswith("linux")

APPEND_FSYNC: Final = MappingProxyType({"none": "everysec", "local": "always"})
# Safety rests on these: nobody may override them.
FIXED_SETTINGS: Final = MappingProxyType(
    {
        "port": "0",
        "unixsocketperm": "700",
        "protected-mode": "yes",
        "daemonize": "no",
        "supervised": "no",
        "logfile": '""',
        "save": '""',
        "appendonly": "yes",
        "appendfilename": "appendonly.aof",
        "appenddirname": "appendonlydir",
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "no",
        "aof-use-rdb-preamble": "yes",
        "aof-timestamp-enabled": "no",
        "maxmemory-policy": "noeviction",
    }
)
# What `extra` may change.
DEFAULT_SETTINGS: Final = MappingProxyType(
    {
        "always-show-logo": "no",
        "auto-aof-rewrite-min-size": "64mb",
        "auto-aof-rewrite-percentage": "100",
        "aof-rewrite-incremental-fsync": "yes",
        "enable-debug-command": "no",
        "enable-module-command": "no",
        "hash-max-listpack-entries": "128",
        # Large values are freed beside the commands, not in front of them.
        "lazyfree-lazy-expire": "yes",
        "lazyfree-lazy-server-del": "yes",
        "lazyfree-lazy-user-del": "yes",
        "lazyfree-lazy-user-flush": "yes",
        "replica-lazy-flush": "yes",
        # Snapshots are an operator's copies here; the append-only file is the durability, and its
        # own write errors do stop writes.
        "stop-writes-on-bgsave-error": "no",
    }
)


class EmbeddedServer:
    """A running server on a data directory; use as a context manager or call `stop`.

    Start it once, in the supervisor; workers get its `url`. A process forked from this one does not
    own the server: `stop` does nothing there.
    """

    def __init__(self, directory: DataDirectory, found: ServerBinary, url: str) -> None:
        """Internal; use `EmbeddedServer.start`."""
        self.data_dir: Final = directory.path
        self.binary: Final = found.path
        self.family: Final = found.family
        self.version: Final = found.version
        self.url: Final = url
        self.pid = 0
        self._directory = directory
        self._owner_pid = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = threading.Event()
        self._watch_pipe = -1
        self._stopping = threading.Lock()

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        durability: EmbeddedDurability = "local",
        binary: Path | None = None,
        maxmemory_bytes: int | None = None,
        extra: Mapping[str, str] = MappingProxyType({}),
        ready_timeout_seconds: float = READY_TIMEOUT_SECONDS,
    ) -> Self:
        """Start a server on `data_dir` and return once it has loaded its data and answers.

        `extra` adds settings in the words of the server's configuration file. Raises a subclass of
        `EmbeddedServerError`; then nothing is left running.
        """
        found = inspect_server_binary(binary) if binary else find_server_binary()
        settings = _settings(durability, maxmemory_bytes, extra)
        directory = DataDirectory(data_dir.resolve())
        try:
            if not directory.take_clean_mark():
                guard_append_only_files(directory.path)
            socket_path = directory.socket_path()
            server = cls(directory, found, socket_url(socket_path))
            settings |= {"dir": _quoted(directory.path), "unixsocket": _quoted(socket_path)}
            lines = (f"{name} {value}\n" for name, value in settings.items())
            write_private(directory.path / "server.conf", "".join(lines))
        except BaseException:
            directory.release()
            raise
        weak = weakref.ref(server)
        os.register_at_fork(after_in_child=lambda: (ours := weak()) and ours._disown())  # noqa: SLF001 - its own class
        try:
            server._launch(ready_timeout_seconds)
        except BaseException:
            server.stop(timeout_seconds=0)
            raise
        return server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def is_running(self) -> bool:
        """Whether the server process lives."""
        return self._process is not None and not self._ended.is_set()

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until the server has ended, by itself or not; False when the time ran out."""
        return self._ended.wait(timeout_seconds)

    def stop(self, timeout_seconds: float = STOP_TIMEOUT_SECONDS) -> None:
        """End the server, write its last data and give the directory back; safe to repeat.

        After `timeout_seconds` the server is killed, which loses nothing that was confirmed under
        `local`.
        """
        if os.getpid() != self._owner_pid:
            return
        with self._stopping:
            if self._directory.lock_fd < 0:
                return
            if self.is_running():
                self._signal(signal.SIGTERM)
                if not self._ended.wait(timeout_seconds):
                    self._signal(signal.SIGKILL)
                    self._ended.wait()
                elif self._process and self._process.returncode == 0:
                    self._directory.mark_clean()
            self._close_watch_pipe()
            self._directory.retract()
            self._directory.release()

    def _signal(self, number: int) -> None:
        if self._process:
            self._process.send_signal(number)

    def _disown(self) -> None:
        """In a forked child: let go of what would keep the directory taken after the owner."""
        self._close_watch_pipe()
        self._directory.release()

    def _close_watch_pipe(self) -> None:
        if self._watch_pipe >= 0:
            os.close(self._watch_pipe)
            self._watch_pipe = -1

    def _launch(self, ready_timeout_seconds: float) -> None:
        log = self._directory.rotate_log()
        with log.open("ab") as file:
            log.chmod(0o600)
            log_start = file.tell()
        launched: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
        # The death signal comes when the *thread* that started the child ends, not the process. So
        # the child gets a thread of its own, which lives exactly as long.
        keeper = threading.Thread(
            target=self._keep, args=(log, launched), name="bincard-embedded-server", daemon=True
        )
        keeper.start()
        process = launched.get()
        if isinstance(process, OSError):
            raise ServerStartError(f"{self.binary} cannot be started: {process}") from process
        self._process = process
        self.pid = process.pid
        self._directory.announce(server_pid=self.pid, url=self.url)
        self._wait_until_ready(log, log_start, ready_timeout_seconds)

    def _keep(self, log: Path, launched: queue.SimpleQueue[subprocess.Popen[bytes] | OSError]) -> None:
        lock_fd = self._directory.lock_fd
        inherited = [lock_fd]
        pipe = "-"
        if not DEATH_SIGNAL:
            read_end, self._watch_pipe = os.pipe()
            inherited.append(read_end)
            pipe = str(read_end)
        program = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), pipe, str(lock_fd)]
        try:
            with log.open("ab") as output, (self.data_dir / "server.conf").open("rb") as settings:
                # Not by name: the servers take a name for a pattern, and when `?` or `[` in it
                # match nothing they start without settings, on TCP port 6379.
                process = subprocess.Popen(  # noqa: S603 - our own launcher, no shell
                    [*program, str(self.binary)],
                    stdin=settings,
                    stdout=output,
                    stderr=output,
                    pass_fds=inherited,
                    start_new_session=True,
                )
        except OSError as failure:
            launched.put(failure)
            return
        finally:
            if len(inherited) > 1:
                os.close(inherited[1])
        launched.put(process)
        process.wait()
        self._ended.set()

    def _wait_until_ready(self, log: Path, log_start: int, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        socket_path = socket_path_of(self.url)
        answer = b""
        while not self._ended.wait(READY_POLL_SECONDS):
            answer = ping(socket_path)
            # An operator may have set a password in `extra`; then any refusal means: up.
            if answer.startswith((b"+PONG", b"-NOAUTH")):
                return
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"{self.binary} did not become ready within {timeout_seconds:g} s; it last "
                    f"said {answer.decode(errors='replace').strip()!r}. The end of {log}:\n"
                    f"{_tail(log, log_start)}"
                )
        code = self._process.returncode if self._process else None
        raise ServerStartError(
            f"{self.binary} ({self.family} {self.version}) ended while starting, with code {code}. "
            f"The end of {log}:\n{_tail(log, log_start)}"
        )


def _settings(
    durability: EmbeddedDurability, maxmemory_bytes: int | None, extra: Mapping[str, str]
) -> dict[str, str]:
    if durability not in APPEND_FSYNC:
        raise EmbeddedServerError(
            f"durability {durability!r}: an embedded server offers {' and '.join(APPEND_FSYNC)}"
        )
    fixed = {
        **FIXED_SETTINGS,
        "appendfsync": APPEND_FSYNC[durability],
        "maxmemory": str(maxmemory_bytes or 0),
    }
    wanted = {name.lower(): value for name, value in extra.items()}
    refused = sorted(wanted.keys() & {*fixed, "dir", "unixsocket", "include"})
    if refused:
        raise EmbeddedServerError(f"extra may not change {', '.join(refused)}")
    if any(set("\r\n\0") & set(name + value) for name, value in wanted.items()):
        raise EmbeddedServerError("extra may not hold line breaks")
    return {**DEFAULT_SETTINGS, **wanted, **fixed}


def _quoted(path: Path) -> str:
    r"""Quote as the server's configuration file reads it: `\xhh` for all but plain characters."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+=@,:~ "
    return '"' + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(path)) + '"'


def _tail(log: Path, start: int) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace").strip()
    return "(not readable)"
