"""Trouble that the machine makes for one process: slow or failing disks, no room, a clock that is set."""

import asyncio
import atexit
import resource
import shutil
import signal
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

ATTACH_SECONDS = 10.0
POLL_SECONDS = 0.005
CLOCK_SOURCE = Path(__file__).with_name("clock.c")


class Traced:
    """Has strace meddle with the system calls of a process, all its threads included, while inside.

    `injection` is what strace takes: `fdatasync:delay_enter=20000`, `fdatasync:error=EIO`.
    """

    def __init__(self, pid: int, injection: str) -> None:
        self._pid = pid
        self._injection = injection
        self.hits = 0
        """System calls that were meddled with; known once outside."""

    async def __aenter__(self) -> Self:
        calls = self._injection.partition(":")[0]
        self._strace = await asyncio.create_subprocess_exec(
            *("strace", "-f", "-qq", "-p", str(self._pid), "-e", f"trace={calls}"),
            *("-e", f"inject={self._injection}"),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._said = asyncio.ensure_future(self._count())
        async with asyncio.timeout(ATTACH_SECONDS):
            while not is_traced(self._pid):
                assert self._strace.returncode is None, "strace may not attach to a process of ours"
                await asyncio.sleep(POLL_SECONDS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._strace.returncode is None:
            self._strace.send_signal(signal.SIGINT)
        await self._said
        await self._strace.wait()

    async def _count(self) -> None:
        assert self._strace.stderr is not None
        async for line in self._strace.stderr:
            self.hits += b"(DELAYED)" in line or b"(INJECTED)" in line


def is_traced(pid: int) -> bool:
    """Whether a debugger holds the process, or the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    return "TracerPid:\t0\n" not in status


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP holds the process."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return text.rpartition(") ")[2].startswith("T")


def limit_file_size(pid: int, size_bytes: int) -> None:
    """No file of the process may grow beyond; -1 for no limit. It must ignore SIGXFSZ, as a program does
    that a Python process becomes.
    """
    limit = resource.RLIM_INFINITY if size_bytes < 0 else size_bytes
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, hard))


class Clock:
    """A clock that can be set, for servers that are started by `program`."""

    def __init__(self, folder: Path, server: Path) -> None:
        self._step = folder / "clock"
        self.step(0)
        self.program = folder / f"{server.name}-with-clock"
        shim = compile_clock()
        self.program.write_text(
            f'#!/bin/sh\nexport CAMPAIGN_CLOCK="{self._step}" LD_PRELOAD="{shim}"\nexec "{server}" "$@"\n',
            encoding="utf-8",
        )
        self.program.chmod(0o755)

    def step(self, seconds: int) -> None:
        """Sets the clock so far from the true time."""
        if not self._step.exists():
            self._step.write_bytes(bytes(8))
        with self._step.open("r+b", buffering=0) as file:  # in place: servers have it mapped
            file.write(struct.pack("=q", seconds * 1_000_000))


@cache
def _shim_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="bincard-clock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def compile_clock() -> Path:
    """The shim, compiled once for each process of the campaign."""
    shim = _shim_folder() / "clock.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-nostdlib", "-o", str(shim), str(CLOCK_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the clock does not compile:\n{done.stderr}"
    return shim
