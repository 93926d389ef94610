"""Attackers beside good clients: what the good ones notice, and how soon the attackers are gone.

A program of its own holds thousands of silent connections, sends heads and bodies a byte a second, stops
in the middle of a head, sends heads and bodies without end, and asks for long answers that it does not read;
what is closed is opened again. Requests at a steady rate come beside it. Then nothing new is opened, and
every attacker must be closed within its deadline. `python -m benchmarks.hostile`
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import urlsplit

from api.limited import LINGER_SECONDS
from api.limits import DEFAULT
from benchmarks import measure, servers, shop
from benchmarks.arrivals import Arrived, Driver
from benchmarks.http_api import SKUS, fill, prove
from benchmarks.measure import BenchmarkError, Figure, Pairs, Proof, figure_of
from benchmarks.open_model import reserve_requests
from benchmarks.servers import Served

SECONDS = 20
RATE, CONNECTIONS = 400.0, 64
PAUSE_SECONDS = 1.0
SLACK_SECONDS = 1.5
"""The attacker notices late on two cores."""
FILLING_SECONDS = 5.0
"""Until the system's own buffers are full; what it takes counts as read."""
PRESENT, PATIENCE_SECONDS = 0.9, 30.0
PIECE = b"x" * 65_536
DOES_NOT_SHOW = (
    "Attackers who fill the line itself, or arrive from many machines: that is the affair of what stands in "
    "front. Attackers, good clients, worker and store share two cores, so part of what the good clients "
    "notice is the attackers' own work."
)
_HEAD = b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


class Kind(NamedTuple):
    """A kind of attacker: how many there are, and by when it must be closed."""

    connections: int
    deadline: float


KINDS = {
    "silent": Kind(5000, DEFAULT.idle_seconds),
    "half a head": Kind(200, DEFAULT.head_seconds),
    "slow head": Kind(500, DEFAULT.head_seconds),
    "slow body": Kind(500, DEFAULT.body_seconds),
    "endless head": Kind(5, LINGER_SECONDS),
    "endless body": Kind(3, LINGER_SECONDS),
    "unread answers": Kind(10, DEFAULT.unread_seconds + FILLING_SECONDS),
}


class Attack:
    """All attackers of one run."""

    def __init__(self, url: str, seconds: float, share: float) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._end = time.monotonic() + seconds
        self._share = share
        self.lived: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.left = 0

    async def run(self) -> None:
        """Attacks until the time is over, then waits until all have been closed."""
        attackers = []
        for kind, (count, _) in KINDS.items():
            attackers += [self._go_on(kind) for _ in range(max(1, int(count * self._share)))]
        self.left = len(attackers)
        await asyncio.gather(*attackers)

    async def _go_on(self, kind: str) -> None:
        act: Callable[[socket.socket], Awaitable[None]] = getattr(self, "_" + kind.replace(" ", "_"))
        limit = KINDS[kind].deadline + 30
        await asyncio.sleep(random.uniform(0, 2 * PAUSE_SECONDS))
        while time.monotonic() < self._end:
            with socket.socket() as connection:
                connection.setblocking(False)  # noqa: FBT003 - a method of the standard library
                if kind == "unread answers":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                began = time.monotonic()
                with suppress(OSError, TimeoutError):
                    await asyncio.get_running_loop().sock_connect(connection, self._address)
                    began = time.monotonic()
                    async with asyncio.timeout(limit):
                        await act(connection)
                self.lived[kind].append(time.monotonic() - began)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _drip(self, connection: socket.socket, begin: bytes, piece: bytes, pause: float) -> None:
        """Sends pieces until the other side ends the connection."""
        loop = asyncio.get_running_loop()
        ended = asyncio.ensure_future(self._read(connection))
        try:
            await loop.sock_sendall(connection, begin)
            while not ended.done():
                if piece:
                    await loop.sock_sendall(connection, piece)
                await asyncio.wait({ended}, timeout=pause)
        finally:
            ended.cancel()

    async def _read(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while await loop.sock_recv(connection, 4096):
                pass

    async def _silent(self, connection: socket.socket) -> None:
        await self._read(connection)

    async def _half_a_head(self, connection: socket.socket) -> None:
        await self._drip(connection, _HEAD, b"", 60.0)

    async def _slow_head(self, connection: socket.socket) -> None:
        await self._drip(connection, _HEAD + b"X: ", b"x", PAUSE_SECONDS)

    async def _slow_body(self, connection: socket.socket) -> None:
        await self._drip(connection, _CHUNKED, b"1\r\nx\r\n", PAUSE_SECONDS)

    async def _endless_head(self, connection: socket.socket) -> None:
        await self._drip(connection, _HEAD + b"X: ", PIECE, 0.1)

    async def _endless_body(self, connection: socket.socket) -> None:
        await self._drip(connection, _CHUNKED, b"10000\r\n" + PIECE + b"\r\n", 0.005)

    async def _unread_answers(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        body = json.dumps(
            {"skus": [shop.sku_name(number) for number in range(SKUS)], "detail": True}
        ).encode()
        head = b"POST /v1/availability/query HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
        while True:
            # At some time it is not taken any more, because the answers before are not.
            await loop.sock_sendall(connection, head + body)


def attack(url: str, seconds: float, share: float) -> None:
    """The program of the attackers; prints the longest life of each kind, in seconds."""
    # Their work is that of other machines: here it gets the time that nobody else wants. The nicest process
    # still keeps a core for some ms when one that is not nice wakes up; an idle one gives it up at once.
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    attackers = Attack(url, seconds, share)
    shop.run_loop(attackers.run())
    print(json.dumps({kind: max(lived) for kind, lived in attackers.lived.items()}))


def good_clients(api: Served, seconds: int) -> Arrived:
    """What the others see."""
    driver = Driver(api.url, reserve_requests(), CONNECTIONS)
    return shop.run_loop(driver.run(RATE, seconds))


def await_attackers(worker: int, share: float) -> None:
    """Waits until most of them are there: some kinds are between two lives. Raises `BenchmarkError`."""
    wanted = PRESENT * sum(max(1, int(kind.connections * share)) for kind in KINDS.values())
    end = time.monotonic() + PATIENCE_SECONDS
    while len(os.listdir(f"/proc/{worker}/fd")) < wanted:  # noqa: PTH208 - their number is all that is asked
        if time.monotonic() > end:
            raise BenchmarkError("the attackers do not get through to the worker")
        time.sleep(0.05)


def one_turn(api: Served, seconds: int, share: float) -> tuple[Arrived, Arrived, dict[str, float], float]:
    """Without attackers and with them: what good clients saw, how long attackers lived, memory in bytes."""
    quiet = good_clients(api, seconds)
    # It goes on for as long as the good clients are there, after some seconds in which it comes about.
    words = ["attack", api.url, str(seconds + 8), str(share)]
    command = [sys.executable, "-m", "benchmarks.hostile", *words]
    attackers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own module
    try:
        await_attackers(api.worker_pid, share)
        attacked = good_clients(api, seconds)
        memory = measure.resident_bytes(api.worker_pid)
        out, _ = attackers.communicate(timeout=DEFAULT.idle_seconds + seconds + 60)
    finally:
        attackers.kill()
        attackers.wait()
    print(f"p99 {quiet.p99 / 1000:.1f} ms, attacked {attacked.p99 / 1000:.1f} ms", file=sys.stderr)
    return quiet, attacked, json.loads(out), memory


def figures_of(turns: Sequence[tuple[Arrived, Arrived, dict[str, float], float]]) -> list[Figure]:
    """What the turns showed."""
    quiet = [turn[0].p99 / 1000 for turn in turns]
    attacked = [turn[1].p99 / 1000 for turn in turns]
    figures = [
        Pairs(attacked, quiet).figure(
            "p99 of good clients against that without attackers", side_unit="ms", target=2.0, better="lower"
        ),
        Pairs(
            [turn[1].latency["50.0"] / 1000 for turn in turns],
            [turn[0].latency["50.0"] / 1000 for turn in turns],
        ).figure("p50 of good clients against that without attackers", side_unit="ms"),
        figure_of("p99 of good clients", quiet, "ms"),
        figure_of("p99 of good clients, attacked", attacked, "ms"),
        figure_of("good clients that were refused, attacked", [float(turn[1].refused) for turn in turns], ""),
        figure_of("memory of the worker, attacked", [turn[3] / 1e6 for turn in turns], "MB"),
    ]
    for kind, (_, deadline) in KINDS.items():
        lived = [turn[2][kind] for turn in turns]
        if not all(lived):
            raise BenchmarkError(f"there was no attacker of the kind {kind}")
        figures.append(
            figure_of(f"{kind}: longest life", lived, "s", target=deadline + SLACK_SECONDS, better="lower")
        )
    return figures


def main(arguments: Sequence[str]) -> None:
    """Runs the good clients alone and beside the attackers, in turns."""
    if arguments[:1] == ["attack"]:
        attack(arguments[1], float(arguments[2]), float(arguments[3]))
        return
    options = measure.parser_of("hostile", (__doc__ or "").partition("\n")[0]).parse_args(arguments)
    seconds, pairs, share = (3, 1, 0.02) if options.quick else (SECONDS, options.pairs, 1.0)
    turns, proofs, name = [], list[Proof](), ""
    for _ in range(pairs):
        with servers.api(options.server) as api:
            name, received = api.store_name, shop.run_loop(fill(api.store_url))
            turns.append(one_turn(api, seconds, share))
            reserved = sum(seen.answered - seen.refused for seen in turns[-1][:2])
            proofs.append(shop.run_loop(prove(api.store_url, received, reserved, 2 * CONNECTIONS)))
    result = measure.make_result(
        "hostile",
        figures_of(turns),
        proofs,
        server=name,
        workload={
            "seconds": seconds,
            "skus": SKUS,
            "workers": 1,
            "durability": "local",
            "rate": RATE,
            "connections": CONNECTIONS,
            "share of attackers": share,
            **{f"attackers: {kind}": count for kind, (count, _) in KINDS.items()},
        },
        does_not_show=DOES_NOT_SHOW,
    )
    measure.finish(result, options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
