"""Sends requests at the moments that a rate dictates, whether or not earlier ones were answered.

A latency begins when a request should have left. A driver that waits for a slow answer before it sends
the next one would leave out what that slowness does to others (coordinated omission); this one queues
them and counts their wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

from hdrh.histogram import HdrHistogram
from msgspec import Struct

from benchmarks.measure import BenchmarkError

CONNECTIONS = 64
HIGHEST_MICROS = 60_000_000
DIGITS = 3
PAUSE_SECONDS = 0.0005
PATIENCE_SECONDS = 30.0
WARM_UP_SECONDS = 1.0
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length: "
QUANTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0)


class Arrived(Struct, frozen=True):
    """What a run found, in microseconds. `late` is how far behind the driver itself was: where its p99
    comes near the latencies, the run says little about the server.
    """

    rate: float
    requests: int
    answered: int
    refused: int
    latency: dict[str, int]
    late_p99: int
    refused_latency: dict[str, int]
    """Of refusals alone; `latency` is that of all."""
    seconds: float
    """From the first request that counts to the last answer."""

    @property
    def p99(self) -> int:
        return self.latency["99.0"]


class _Connection(asyncio.Protocol):
    """One connection; one request under way at a time."""

    def __init__(self, answered: Callable[[_Connection, bool], None]) -> None:
        self._answered = answered
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.due = 0.0
        self.counts = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def send(self, request: bytes, due: float, *, counts: bool) -> None:
        """Sends a request that was due at a moment."""
        if self._transport is None:
            raise BenchmarkError("the server closed a connection")
        self.due, self.counts = due, counts
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(_HEAD_END)
        if end >= 0:
            at = received[: end + 2].lower().find(_LENGTH)
            if at < 0:
                raise BenchmarkError("an answer without a length")
            size = int(received[at + len(_LENGTH) : received.index(b"\r\n", at + 2)])
            if len(received) >= end + 4 + size:
                self._received = b""
                self._answered(self, received[9:10] == b"2")
                return
        self._received = received

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Driver:
    """Drives one server. `make_request` gives the bytes of the request with a number."""

    def __init__(
        self, url: str, make_request: Callable[[int], bytes], connections: int = CONNECTIONS
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._make_request = make_request
        self._connections = connections
        self._idle: list[_Connection] = []
        self._waiting: deque[tuple[int, float, bool]] = deque()
        self._latency = HdrHistogram(1, HIGHEST_MICROS, DIGITS)
        self._refused_latency = HdrHistogram(1, HIGHEST_MICROS, DIGITS)
        self._late = HdrHistogram(1, HIGHEST_MICROS, DIGITS)
        self._answered = self._refused = 0

    async def run(self, rate: float, seconds: float) -> Arrived:
        """Sends `rate` requests a second; those of the first second only warm up."""
        loop = asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: _Connection(self._take), self._host, self._port)
            for _ in range(self._connections)
        ]
        connections = [connection for _, connection in made]
        self._idle = list(connections)
        warm_up = int(rate * WARM_UP_SECONDS)
        count = warm_up + int(rate * seconds)
        try:
            begun, number = time.perf_counter(), 0
            while number < count:
                now = time.perf_counter()
                due = begun + number / rate
                while due <= now and number < count:
                    counts = number >= warm_up
                    if counts:
                        self._late.record_value(max(1, round((now - due) * 1e6)))
                    self._offer(number, due, counts=counts)
                    number += 1
                    due = begun + number / rate
                await asyncio.sleep(min(PAUSE_SECONDS, max(0.0, due - time.perf_counter())))
            await self._drain(count)
            taken = time.perf_counter() - begun - warm_up / rate
        finally:
            for connection in connections:
                connection.close()
        return Arrived(
            rate,
            count - warm_up,
            self._answered,
            self._refused,
            _quantiles(self._latency),
            int(self._late.get_value_at_percentile(99.0)),
            _quantiles(self._refused_latency),
            taken,
        )

    def _offer(self, number: int, due: float, *, counts: bool) -> None:
        if self._idle:
            self._idle.pop().send(self._make_request(number), due, counts=counts)
        else:
            self._waiting.append((number, due, counts))

    def _take(self, connection: _Connection, is_success: bool) -> None:  # noqa: FBT001 - a callback
        self._answered += 1
        self._refused += not is_success
        if connection.counts:
            micros = round((time.perf_counter() - connection.due) * 1e6)
            micros = min(HIGHEST_MICROS, max(1, micros))
            self._latency.record_value(micros)
            if not is_success:
                self._refused_latency.record_value(micros)
        if self._waiting:
            number, due, counts = self._waiting.popleft()
            connection.send(self._make_request(number), due, counts=counts)
        else:
            self._idle.append(connection)

    async def _drain(self, count: int) -> None:
        end = time.perf_counter() + PATIENCE_SECONDS
        while self._answered < count:
            if time.perf_counter() > end:
                raise BenchmarkError(f"{count - self._answered} of {count} requests were never answered")
            await asyncio.sleep(0.01)


def _quantiles(histogram: HdrHistogram) -> dict[str, int]:
    return {str(share): int(histogram.get_value_at_percentile(share)) for share in QUANTILES}
