"""Requests as the engine encodes them, held back until they are sent as fast as the store takes them.

The yardstick arrives pipelined and encoded beforehand. To compare like with like, so must ours: a tap
stands where the engine's connection would be, keeps what is written, and gives the answers back later.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import cast
from unittest.mock import patch

import hiredis

from benchmarks.measure import BenchmarkError
from engine import Inventory, connect, dataset
from engine.topology import Standalone

UNDER_WAY = 3
"""Batches that the store has before it: it never waits for the next one."""
RECEIVE_BYTES = 1 << 20
QUIET_TURNS = 3
MOST_TURNS = 1000


class Wire:
    """One blocking connection to the store that all taps share."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)

    def close(self) -> None:
        self._socket.close()

    def exchange(self, batches: Sequence[bytes]) -> list[bytes]:
        """Sends batches, a few ahead of the answers; the raw answers to each."""
        wanted = [_count(batch) for batch in batches]
        reader, received, sent, whole, open_calls = hiredis.Reader(), bytearray(), 0, 0, 0
        while whole < len(batches):
            while sent < len(batches) and sent - whole < UNDER_WAY:
                self._socket.sendall(batches[sent])
                sent += 1
            part = self._socket.recv(RECEIVE_BYTES)
            if not part:
                raise BenchmarkError("the store closed the connection")
            received += part
            reader.feed(part)
            while reader.gets() is not False:
                open_calls += 1
                if open_calls == wanted[whole]:
                    whole, open_calls = whole + 1, 0
        return _split(bytes(received), wanted)


class Tap(asyncio.Transport):
    """Looks like a connection to the protocol that writes to it."""

    def __init__(self, wire: Wire, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._wire = wire
        self._protocol = protocol
        self._written = bytearray()
        self._is_holding = self._is_due = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written += data
        if not self._is_holding and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._pass_on)

    def _pass_on(self) -> None:
        self._is_due = False
        if self._written:
            self.answer(self._wire.exchange([self._take()])[0])

    def _take(self) -> bytes:
        taken = bytes(self._written)
        self._written.clear()
        return taken

    async def hold(self, start: Callable[[], None]) -> bytes:
        """What the protocol writes because of `start`, not sent."""
        self._is_holding = True
        start()
        size = quiet = 0
        for _ in range(MOST_TURNS):
            await asyncio.sleep(0)
            quiet = quiet + 1 if size == len(self._written) else 0
            size = len(self._written)
            if size and quiet == QUIET_TURNS:
                self._is_holding = False
                return self._take()
        raise BenchmarkError("the engine did not send what was asked of it")

    def answer(self, raw: bytes) -> None:
        """Gives the protocol an answer."""
        self._protocol.data_received(raw)

    def get_extra_info(self, name: str, default: object = None) -> object:  # noqa: ARG002 - asyncio's signature
        return default

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close


class _Tapped(Standalone):
    """A topology whose hot connections are taps. The library is there already."""

    def __init__(self, url: str, wire: Wire) -> None:
        super().__init__(url)
        self._wire = wire
        self.tap: Tap | None = None

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        made = protocol()
        self.tap = Tap(self._wire, made)
        made.connection_made(self.tap)
        return self.tap

    async def load_library(self, text: str) -> None:
        """It was loaded by whoever filled the data set."""


async def tapped(url: str, wire: Wire) -> tuple[Inventory, Tap]:
    """An inventory of its own, and the tap on its connection."""
    topology = _Tapped(url, wire)
    # The one seam at which the engine's connection can be replaced.
    with patch.object(dataset, "open_topology", lambda _url: topology):
        inventory = await connect(url, create=False)
    return inventory, cast("Tap", topology.tap)


def _count(batch: bytes) -> int:
    """How many commands a batch has, and hence answers."""
    reader, count = hiredis.Reader(), 0
    reader.feed(batch)
    while reader.gets() is not False:
        count += 1
    return count


def _split(received: bytes, wanted: Sequence[int]) -> list[bytes]:
    """The raw answers of each batch."""
    parts, at = [], 0
    for count in wanted:
        begin = at
        for _ in range(count):
            at = _end(received, at)
        parts.append(received[begin:at])
    return parts


def _end(received: bytes, at: int) -> int:
    """Where the answer that begins here ends."""
    open_items = 1
    while open_items:
        open_items -= 1
        line_end = received.index(b"\r\n", at)
        kind, rest = received[at : at + 1], received[at + 1 : line_end]
        at = line_end + 2
        if kind == b"$" and rest != b"-1":
            at += int(rest) + 2
        elif kind == b"*":
            open_items += max(0, int(rest))
    return at
