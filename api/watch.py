"""The clock of a worker's connections: it ends what takes too long, and what is too much in sum.

A connection sits in one row of a wheel, and is looked at when the row's time has come. What happens
between costs nothing: a connection whose deadline has moved on is found not to be due, and gets a new row.
"""

import asyncio
from collections.abc import Collection
from typing import Any, Protocol

from api.limits import Limits

TICK_SECONDS = 0.05
LONGEST_STEP_SECONDS = 0.5
"""Further the clock does not move at once: who has not turned has not listened either."""
NEVER = 1 << 62
LOOKED_AT_IN_A_TURN = 8
PRESSED = 0.9
"""Above that share of the connections that a worker takes, idle ones are closed."""
YOUNG_SECONDS = 1.0
"""So long an idle connection is left alone even then."""


class Watched(Protocol):
    """A connection, as the clock knows it."""

    row: int
    """Where it sits; NEVER: nowhere."""
    idle_since: float
    """0: it is not idle."""
    transport: Any

    def look(self, now: float) -> float:
        """Ends itself if it is late; when to look again, or 0."""


class Watch:
    """The clock of one worker."""

    def __init__(self, limits: Limits, most_connections: int) -> None:
        self.limits = limits
        self.most_connections = most_connections
        self.now = 1.0
        """Seconds that this process has turned: coarse, and never zero."""
        self.arriving = 0
        """Bytes that have come of requests that are not complete."""
        self.unread: set[Watched] = set()
        """Connections whose answers stay unread."""
        self.reached: dict[str, int] = {}
        """How often each limit was reached."""
        self._rows: dict[int, set[Watched]] = {}
        self._row = self._row_of(self.now)
        self._is_looking = False
        self._pressed_by: Collection[Watched] = ()
        self._ticked_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """From now on it moves."""
        loop = asyncio.get_running_loop()
        self._ticked_at = loop.time()
        self._timer = loop.call_later(TICK_SECONDS, self._tick)

    def stop(self) -> None:
        """It stands still."""
        if self._timer is not None:
            self._timer.cancel()

    def count(self, limit: str) -> None:
        """Notes that a limit was reached."""
        self.reached[limit] = self.reached.get(limit, 0) + 1

    def expect(self, one: Watched, at: float) -> None:
        """Looks at a connection at a time, or before."""
        row = self._row_of(at)
        if row < one.row:
            self.forget(one)
            one.row = row
            self._rows.setdefault(row, set()).add(one)

    def forget(self, one: Watched) -> None:
        """Looks at it no more."""
        row = self._rows.get(one.row)
        if row is not None:
            row.discard(one)
        one.row = NEVER

    def meet(self, one: Watched, connections: Collection[Watched]) -> None:
        """Notes a new connection, of all that there are."""
        one.idle_since = self.now
        self.expect(one, self.now + self.limits.idle_seconds)
        if len(connections) > PRESSED * self.most_connections:
            self._pressed_by = connections

    @staticmethod
    def _row_of(at: float) -> int:
        return int(at / TICK_SECONDS) + 1

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        passed = loop.time() - self._ticked_at
        self._ticked_at += passed
        self.now = now = self.now + min(passed, LONGEST_STEP_SECONDS)
        self._timer = loop.call_later(TICK_SECONDS, self._tick)
        if not self._is_looking:
            self._look()
        if self._pressed_by:
            self._make_room(now)
        if self.unread:
            self._cut_off()

    def _look(self) -> None:
        """Looks at those whose row has come, a few in each turn of the loop: thousands who came together are
        late together, and nobody else is to wait for all of them.
        """
        left = LOOKED_AT_IN_A_TURN
        while self._row < self._row_of(self.now):
            row = self._rows.get(self._row)
            while row:
                if not left:
                    self._is_looking = True
                    asyncio.get_running_loop().call_soon(self._look)
                    return
                left -= 1
                one = row.pop()
                one.row = NEVER
                again = one.look(self.now)
                if again:
                    self.expect(one, max(again, self.now))
            self._rows.pop(self._row, None)
            self._row += 1
        self._is_looking = False

    def _make_room(self, now: float) -> None:
        """Closes the longest idle connections, as many as are too many."""
        connections, self._pressed_by = self._pressed_by, ()
        too_many = len(connections) - int(PRESSED * self.most_connections)
        if too_many > 0:
            idle = [one for one in connections if 0 < one.idle_since <= now - YOUNG_SECONDS]
            idle.sort(key=lambda one: one.idle_since)
            for one in idle[:too_many]:
                self.count("idle_pressed")
                one.transport.close()
            # Those that are too young now will not be then.
            self._pressed_by = connections

    def _cut_off(self) -> None:
        """Ends the connections with the most unread bytes, as many as are too many."""
        sizes = {one: one.transport.get_write_buffer_size() for one in self.unread}
        sum_of_all = sum(sizes.values())
        for one in sorted(sizes, key=lambda one: sizes[one], reverse=True):
            if sum_of_all <= self.limits.max_unread_bytes:
                break
            sum_of_all -= sizes[one]
            self.count("unread_bytes")
            one.transport.abort()
