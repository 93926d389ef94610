"""The yardstick: the least that counting without overselling can cost on a store.

A script that reads a number, compares and subtracts: no record, no deadline, no idempotency, no event.
`redis-benchmark` sends it pipelined, as fast as the store takes it.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import time
from collections.abc import Sequence

from msgspec import Struct
from redis import Redis

from benchmarks.measure import BenchmarkError, cpu_seconds
from benchmarks.servers import Store

SCRIPT = """
local left = tonumber(redis.call('GET', KEYS[1]))
local wanted = tonumber(ARGV[1])
if left < wanted then
  return -1
end
return redis.call('DECRBY', KEYS[1], wanted)
"""
UNITS = 10**12
MAX_CLIENTS = 50
MORE_ATTEMPTS = 2
_LAST_MOMENT = "All clients disconnected"
"""What redis-benchmark says, rarely, when its clock ticks between its last answer and its end."""


class Yardstick(Struct, frozen=True):
    """One run: CPU of the store in microseconds a request, requests a second by the clock."""

    cpu_micros: float
    per_second: float


class BareScript:
    """The bare script on a store, over `skus` keys of its own."""

    def __init__(self, store: Store, skus: int) -> None:
        program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
        if program is None:
            raise BenchmarkError("redis-benchmark is not on PATH (Debian: apt-get install redis-tools)")
        self._program = program
        self._store = store
        self._skus = skus
        with Redis.from_url(store.url) as client:
            self._sha = str(client.script_load(SCRIPT))
            pipeline = client.pipeline(transaction=False)
            for number in range(skus):
                pipeline.set(f"bare:{number:012d}", UNITS)
            pipeline.execute()

    def run(self, requests: int, *, pipeline: int = 64, clients: int = 1) -> Yardstick:
        """Sends so many requests, `pipeline` × `clients` of them under way at a time."""
        words = ["-s", self._store.socket, "-n", str(requests), "-P", str(pipeline), "-c", str(clients)]
        words += ["-r", str(self._skus), "--csv", "EVALSHA", self._sha, "1", "bare:__rand_int__", "1"]
        used, elapsed, done = self._run_once(words)
        for _ in range(MORE_ATTEMPTS):
            if _LAST_MOMENT in done.stderr + done.stdout:
                used, elapsed, done = self._run_once(words)
        if done.returncode != 0 or "error" in done.stderr.lower():
            raise BenchmarkError(f"redis-benchmark failed: {done.stderr.strip() or done.stdout.strip()}")
        return Yardstick(used / requests * 1e6, _rate_of(done.stdout, requests / elapsed))

    def _run_once(self, words: Sequence[str]) -> tuple[float, float, subprocess.CompletedProcess[str]]:
        """CPU seconds of the store, seconds by the clock, and what the program said."""
        before, begun = cpu_seconds(self._store.pid), time.perf_counter()
        done = subprocess.run([self._program, *words], capture_output=True, text=True, check=False)  # noqa: S603 - a known program
        return cpu_seconds(self._store.pid) - before, time.perf_counter() - begun, done


def _rate_of(output: str, fallback: float) -> float:
    """Requests a second as redis-benchmark reports them: the second column of its last line."""
    rows = [row for row in csv.reader(output.splitlines()) if len(row) > 1]
    try:
        return float(rows[-1][1])
    except (IndexError, ValueError):
        return fallback
