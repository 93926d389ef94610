"""Connections that delay, stall and break; what was sent may arrive long after its sender gave up or died.

A connection keeps the order of what it carries, as TCP does. Two of them know nothing of one another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

import hiredis

from tests.simulation.loop import NOBODY, Process

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.loop import Loop
    from tests.simulation.machines import Machine

SHORTEST_SECONDS, LONGEST_SECONDS = 0.000_05, 0.002
_NEXT = 1e-7
"""The least that lies between two arrivals."""


class Connection(asyncio.Transport):
    """A process's connection to a server. `protocol` is told in the process's own steps."""

    def __init__(
        self, loop: Loop, random: Random, machine: Machine, process: Process, protocol: asyncio.Protocol
    ) -> None:
        super().__init__()
        self._loop, self._random, self._machine, self.process = loop, random, machine, process
        self._protocol = protocol
        self._reader = hiredis.Reader()
        self._sent: deque[bytes] = deque()
        self._arrives = self._returns = 0.0
        self._stalled_until = 0.0
        self._breaks_with_answer = False
        self._is_open = True
        self._takes = self._tells = True
        """Whether what is on its way to the server arrives, and what is on its way back."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_open:
            self._arrives = self._when(self._arrives)
            self._sent.append(bytes(data))
            self._loop.call_at(self._arrives, self._arrive, context=NOBODY)

    def close(self) -> None:
        """The process hangs up: what it has sent arrives, what would come back does not."""
        if self._is_open:
            self._is_open = self._tells = False
            self._machine.connections.remove(self)
            self._loop.call_soon(self._protocol.connection_lost, None, context=self.process.context)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return not self._is_open

    # ---------------------------------------------------------------- what the network does

    def cut(self, *, loses_requests: bool) -> None:
        """Breaks: what is on its way back is lost, and with `loses_requests` what is on its way there."""
        self._takes = not loses_requests
        self._tells = False
        if self._is_open:
            self._is_open = False
            self._machine.connections.remove(self)
            lost = ConnectionResetError("the connection broke")
            self._loop.call_at(
                self._when(0.0), self._protocol.connection_lost, lost, context=self.process.context
            )

    def cut_with_next_answer(self) -> None:
        """Breaks at the very moment at which an answer comes: nothing runs between the two."""
        self._breaks_with_answer = True

    def stall(self, seconds: float) -> None:
        """Carries nothing for so long; then all of it."""
        self._stalled_until = max(self._stalled_until, self._loop.now + seconds)

    def _when(self, last: float) -> float:
        soonest = max(self._loop.now, self._stalled_until)
        return max(last + _NEXT, soonest + self._random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS))

    def _arrive(self) -> None:
        if self._takes and self._loop.now < self._stalled_until:
            # It stalled while something was on its way: whatever was sent first arrives first.
            self._arrives = self._when(self._arrives)
            self._loop.call_at(self._arrives, self._arrive, context=NOBODY)
            return
        if not (self._takes and self._machine.is_up):
            self._takes = False
            return
        self._reader.feed(self._sent.popleft())
        replies = []
        while (words := self._reader.gets()) is not False:
            replies.append(self._machine.execute(cast("list[bytes]", words)))
        if self._tells and replies:
            answer = b"".join(replies)
            # A packet ends where it likes.
            cut = self._random.randrange(len(answer)) if self._random.random() < 0.05 else 0
            for part in (answer[:cut], answer[cut:]) if cut else (answer,):
                self._returns = self._when(self._returns)
                self._loop.call_at(self._returns, self._return, part, context=self.process.context)

    def _return(self, data: bytes) -> None:
        if self._tells:
            self._protocol.data_received(data)
            if self._breaks_with_answer:
                self.close()
