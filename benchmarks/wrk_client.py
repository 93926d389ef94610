"""Starts wrk with one of the scripts of `benchmarks/wrk` and reads what it found."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from benchmarks.measure import ROOT, BenchmarkError, cpu_seconds
from benchmarks.servers import Served

SCRIPTS = ROOT / "benchmarks" / "wrk"
CONNECTIONS = 64
TIMEOUT_SECONDS = 10
"""An answer that takes longer counts as broken. The engine says within 5 s that it got none; wrk's own limit
of 2 s would call broken what is merely slow on a busy machine.
"""
_MARK = "@result "


class Load(Struct, frozen=True):
    """What a closed-loop run found. Latencies and CPU are in microseconds; CPU is a request's."""

    requests: int
    per_second: float
    p50: int
    p99: int
    p999: int
    worker_cpu: float
    store_cpu: float


class _Summary(Struct, frozen=True):
    requests: int
    micros: int
    refused: int
    broken: int
    p50: int
    p99: int
    p999: int


def find_wrk() -> str:
    """The path of wrk. Raises `BenchmarkError` where it is not there."""
    program = shutil.which("wrk")
    if program is None:
        raise BenchmarkError("wrk is not on PATH (Debian: apt-get install wrk)")
    return program


def load(
    served: Served,
    script: str,
    *,
    seconds: int,
    path: str = "",
    arguments: Sequence[str] = (),
    connections: int = CONNECTIONS,
) -> Load:
    """Runs wrk with one thread. Raises `BenchmarkError` for any answer that is no success."""
    pids = [served.worker_pid, served.store_pid] if served.store_pid else [served.worker_pid]
    before = [cpu_seconds(pid) for pid in pids]
    found = _run(served, script, seconds, path, arguments, connections)
    used = [cpu_seconds(pid) - begun for pid, begun in zip(pids, before, strict=True)]
    if found.refused or found.broken or not found.requests:
        raise BenchmarkError(
            f"of {found.requests} requests {found.refused} were refused and {found.broken} broke: {script}"
        )
    cpu = [one / found.requests * 1e6 for one in used]
    return Load(
        found.requests,
        found.requests / found.micros * 1e6,
        found.p50,
        found.p99,
        found.p999,
        cpu[0],
        cpu[1] if len(cpu) > 1 else 0.0,
    )


class Flooded(Struct, frozen=True):
    """What a closed-loop run found that is meant to ask for too much."""

    good: int
    refused: int
    seconds: float

    @property
    def goodput(self) -> float:
        return self.good / self.seconds


def flood(
    served: Served, script: str, *, seconds: int, arguments: Sequence[str], connections: int
) -> Flooded:
    """Runs wrk with one thread, refusals counted. Raises `BenchmarkError` where an answer is missing."""
    found = _run(served, script, seconds, "", arguments, connections)
    if found.broken:
        raise BenchmarkError(f"{found.broken} of {found.requests} requests broke: {script}")
    return Flooded(found.requests - found.refused, found.refused, found.micros / 1e6)


def _run(
    served: Served, script: str, seconds: int, path: str, arguments: Sequence[str], connections: int
) -> _Summary:
    words = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{TIMEOUT_SECONDS}s"]
    words += ["-s", str(SCRIPTS / f"{script}.lua"), served.url + path, "--", *arguments]
    done = subprocess.run(  # noqa: S603 - a known program
        [find_wrk(), *words],
        # Not an argument: everybody can see those.
        env={**os.environ, "BINCARD_API_KEY": served.key} if served.key else None,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode != 0 or len(lines) != 1:
        raise BenchmarkError(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return msgspec.json.decode(lines[0].removeprefix(_MARK), type=_Summary)
