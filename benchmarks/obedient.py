"""Callers who do as they are told: one that was refused does not come back before Retry-After.

Requests arrive at a rate, each from a caller who is free at that moment; where everybody has a request under
way or was told to wait, the caller's side holds it back, and nothing is sent. One thread on bare sockets:
this sends several times what a driver on an event loop can.
"""

from __future__ import annotations

import random
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from msgspec import Struct

from benchmarks.measure import BenchmarkError

LONGEST_PAUSE_SECONDS = 0.0005
PATIENCE_SECONDS = 10.0
_RETRY_AFTER = b"\r\nretry-after: "
_READ_BYTES = 65_536


class Obeyed(Struct, frozen=True):
    """What a run found, in requests and milliseconds; what was sent in the first second is in no latency."""

    seconds: float
    arrived: int
    sent: int
    served: int
    refused: int
    served_p99: float
    refused_p99: float
    late_p99: float
    """How far the driver itself was behind with sending."""

    @property
    def goodput(self) -> float:
        return self.served / self.seconds


class _Caller:
    __slots__ = ("counts", "due", "received", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setblocking(False)  # noqa: FBT003 - socket's own signature
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.due, self.counts = 0.0, False


class Crowd:
    """Callers of one server, each with a connection."""

    def __init__(self, url: str, callers: int, make_request: Callable[[int], bytes]) -> None:
        parts = urlsplit(url)
        address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._make_request = make_request
        self._poll = select.epoll()
        self._by_number: dict[int, _Caller] = {}
        for _ in range(callers):
            caller = _Caller(address)
            self._by_number[caller.socket.fileno()] = caller
            self._poll.register(caller.socket.fileno(), select.EPOLLIN)
        self._free = deque(self._by_number.values())
        self._told: deque[tuple[float, _Caller]] = deque()
        self._under_way = self._served = self._refused = 0
        self._served_after: list[float] = []
        self._refused_after: list[float] = []
        self._late: list[float] = []

    def close(self) -> None:
        """Closes every connection."""
        self._poll.close()
        for caller in self._by_number.values():
            caller.socket.close()

    def run(self, rate: float, seconds: float, uncounted: float = 1.0) -> Obeyed:
        """Lets requests arrive at a rate; those of the first moments count in no latency."""
        begun = time.perf_counter()
        arrived = sent = 0
        while (now := time.perf_counter()) < begun + seconds:
            while self._told and self._told[0][0] <= now:
                self._free.append(self._told.popleft()[1])
            count = int((now - begun) * rate)
            counts = now > begun + uncounted
            # The last of those that arrived since the last look come first; who is not sent now, never is.
            for number in range(arrived, count):
                if not self._free:
                    break
                self._send(self._free.popleft(), sent, begun + number / rate, counts=counts)
                sent += 1
            arrived = count
            self._take(LONGEST_PAUSE_SECONDS)
        served, end = self._served, time.perf_counter() + PATIENCE_SECONDS
        taken = time.perf_counter() - begun
        while self._under_way:
            if time.perf_counter() > end:
                raise BenchmarkError(f"{self._under_way} of {sent} requests were never answered")
            self._take(0.01)
        return Obeyed(
            seconds=taken,
            arrived=arrived,
            sent=sent,
            served=served,
            refused=self._refused,
            served_p99=_p99(self._served_after),
            refused_p99=_p99(self._refused_after),
            late_p99=_p99(self._late),
        )

    @property
    def reserved(self) -> int:
        """All that was served, what was answered after the end too."""
        return self._served

    def _send(self, caller: _Caller, number: int, due: float, *, counts: bool) -> None:
        request = self._make_request(number)
        if caller.socket.send(request) != len(request):
            raise BenchmarkError("a request did not fit into a socket")
        caller.due, caller.counts = due, counts
        self._under_way += 1
        if counts:
            self._late.append(time.perf_counter() - due)

    def _take(self, longest: float) -> None:
        for number, _ in self._poll.poll(longest, 512):
            caller = self._by_number[number]
            data = caller.socket.recv(_READ_BYTES)
            if not data:
                raise BenchmarkError("the server closed a connection")
            caller.received += data
            if caller.received.endswith(b"}"):  # every answer is one JSON object, written at once
                self._note(caller, caller.received)
                caller.received = b""

    def _note(self, caller: _Caller, answer: bytes) -> None:
        now = time.perf_counter()
        self._under_way -= 1
        if answer.startswith(b"HTTP/1.1 201 "):
            self._served += 1
            after = self._served_after
            self._free.append(caller)
        elif answer.startswith(b"HTTP/1.1 503 ") and (at := answer.find(_RETRY_AFTER)) > 0:
            self._refused += 1
            after = self._refused_after
            value = answer[at + len(_RETRY_AFTER) :].partition(b"\r")[0]
            self._told.append((now + int(value), caller))
        else:
            raise BenchmarkError(f"an answer that is neither a reservation nor a refusal: {answer[:100]!r}")
        if caller.counts:
            after.append(now - caller.due)


def reserves(skus: int, prefix: str, sku_name: Callable[[int], str], seed: int) -> Callable[[int], bytes]:
    """Reserves of one line of random SKUs, each with a key of its own."""
    chance = random.Random(seed)
    bodies = [
        f'{{"lines":[{{"sku":"{sku_name(n)}","quantity":1,"location":"w0"}}],"ttl_seconds":86400}}'
        for n in range(skus)
    ]
    tails = [f"\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies]
    chance.shuffle(tails)
    head = (
        "POST /v1/reservations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {prefix}"
    ).encode()
    return lambda number: b"%b%d%b" % (head, number, tails[number % skus])


def _p99(found: list[float]) -> float:
    return sorted(found)[len(found) * 99 // 100] * 1000 if found else 0.0
