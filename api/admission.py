"""How much a worker takes on at once, and who waits or is refused where it is more.

Requests on the hot routes that are being answered have a limit. Where it is reached, the next ones stay
unread in a waiting room, the most important first, and what cannot be let in within a moment is refused:
before it is read, because reading is most of what a request costs. See `docs/operating/overload.md`.
"""

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, Protocol

FEWEST, STEADY, FIRST, MOST = 64, 512, 4096, 16_384
"""Of the limit, in operations. It starts at FIRST: a burst, such as everybody at once for the last unit, has
room whole. A worker that is busy for longer gets STEADY at least, unless its server is slow; the other two
are bounds.
"""
SHARES = (6.0, 4.0, 1.0, 0.75)
"""By rank: up to how much of the limit such a request is let in. What others do not reach is kept for it."""
PATIENCE_SECONDS = 0.02
"""How long a request waits at the most before it is refused. The answer must be there within 50 ms, and one
turn of the loop, which may lie before and after it, takes up to 10."""
LATE_SECONDS = 0.03
"""Who has waited for so long is not refused any more, but let in when its turn comes."""
TICK_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 0.25
"""How long those who were let in should wait for their answer: a slow server gets fewer at once. For so long
what is answered is measured before the limit is set by it: a burst has few answers when it begins.
"""
STEADY_WAIT_SECONDS = 0.05
"""What a busy process answers in that time is enough at once: more make it no faster."""
AT_ONCE = 256
"""A process that has no time left reads and answers no more than that at once; the others wait unread. What
more would touch is in no cache any more when it is needed again."""
REFUSALS_PER_ANSWER, MOST_SAVED = 0.25, 256.0
"""Such a process refuses no more than its answers pay for, or it would do nothing else: who is over and not
refused when coming waits, and is let in."""
IDLE, BUSY = 0.8, 0.95
"""Below that share of the time the process waits for the server, and more at once are faster; above the
other they only make it slower."""
MOST_CONNECTIONS = 10_000
"""Of one worker. Each costs some 10 kB, and a turn of the loop reads from up to a thousand."""
FILES_FOR_OTHERS = 64
BYTES_OF_OPERATION = 512
"""A body of so many more bytes counts as one more operation: those of a batch have not been read yet. Each
has some 180, and costs less than a request of its own.
"""


class Rank(IntEnum):
    """What goes before what."""

    COMMIT = 0
    RELEASE = 1
    RESERVE = 2
    READ = 3


class Kind(NamedTuple):
    """What the first line of a request tells."""

    rank: Rank
    method: str
    route: str


_VERBS = {
    b"commit": Rank.COMMIT,
    b"fulfil": Rank.COMMIT,
    b"release": Rank.RELEASE,
    b"cancel": Rank.RELEASE,
    b"extend": Rank.RELEASE,
}
_KINDS = {verb: Kind(rank, "POST", "/v1/reservations/{id}/" + verb.decode()) for verb, rank in _VERBS.items()}
_RESERVE = Kind(Rank.RESERVE, "POST", "/v1/reservations")
_BATCH = Kind(Rank.RESERVE, "POST", "/v1/reservations/batch")
_QUERY = Kind(Rank.READ, "POST", "/v1/availability/query")
_AVAILABILITY = Kind(Rank.READ, "GET", "/v1/availability/{sku}")
_RESERVATION = Kind(Rank.READ, "GET", "/v1/reservations/{id}")
_LONGEST_LINE = 1024
NOBODY = Kind(Rank.READ, "GET", "unmatched")


def operations_of(body_bytes: int) -> int:
    """For how many operations a request counts."""
    return 1 + body_bytes // BYTES_OF_OPERATION


def most_connections() -> int:
    """How many connections a worker takes: fewer than it may have files open."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS
    import resource  # noqa: PLC0415 - not on every system

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files < 0 else max(1, min(MOST_CONNECTIONS, files - FILES_FOR_OTHERS))


def kind_of(data: bytes) -> Kind | None:
    """The kind of request that data begins with; None for whatever is none of a hot route."""
    end = data.find(b" HTTP/1.1\r\n", 0, _LONGEST_LINE)
    if end < 0:
        return None
    line = data[:end]
    if line == b"POST /v1/reservations":
        return _RESERVE
    if line.startswith(b"GET /v1/availability/"):
        return _AVAILABILITY
    if line.startswith(b"POST /v1/reservations/"):
        rest = line[22:]
        return _BATCH if rest == b"batch" else _KINDS.get(rest.rpartition(b"/")[2])
    if line.startswith(b"GET /v1/reservations/"):
        return _RESERVATION
    return _QUERY if line == b"POST /v1/availability/query" else None


class Guest(Protocol):
    """A connection with a request that may wait."""

    kind: Kind
    waits: bool
    """Set and unset by the admission, and unset by a guest who goes."""

    def let_in(self) -> None:
        """Reads the request and answers it."""

    def turn_away(self, seconds: float) -> None:
        """Refuses the request, which has waited so long."""


class Admission:
    """What one worker has taken on. `stuck` tells how many operations wait for a node that does not answer:
    they must not keep those of other nodes out.
    """

    def __init__(self, stuck: Callable[[], int] = lambda: 0) -> None:
        self._stuck = stuck
        self._load = _OwnLoad()
        self.under_way = 0
        self.limit = FIRST
        self._at_once = MOST
        self._bound = FIRST
        """Who may be under way at once: the lower of both, and what is stuck."""
        self._crowd = AT_ONCE
        """From so many on it is worth a look how busy the process is."""
        self._calm = AT_ONCE / 2
        """With fewer, and nobody who waits, it is over."""
        self.is_easy = True
        """Whether nobody waits and everybody would be let in: all that is asked of a request then."""
        self.shed = [0] * len(Rank)
        """Refused requests by rank."""
        self._rooms: tuple[deque[tuple[float, Guest]], ...] = tuple(deque() for _ in Rank)
        self._waiting = 0
        self._left = 0
        self._lets_in = False
        self._is_full = self._is_busy = False
        self._saved = 0.0
        """Refusals that a busy process may make."""
        self._timer: asyncio.TimerHandle | None = None
        self._tick: asyncio.TimerHandle | None = None
        self._ticks: deque[tuple[float, int]] = deque(maxlen=1 + round(LONGEST_WAIT_SECONDS / TICK_SECONDS))
        """When stock was taken, and how many had been answered by then."""

    def enter(self, operations: int) -> None:
        """Notes a request that is answered from now on."""
        self.under_way += operations
        if self.under_way >= self._crowd and self.is_easy:
            self._grow_busy()

    def leave(self, operations: int) -> None:
        """Notes that it has its answer."""
        self.under_way -= operations
        if not self.is_easy:
            self._left += operations
            self._saved += REFUSALS_PER_ANSWER * operations
            if not self._lets_in:
                self._lets_in = True
                asyncio.get_running_loop().call_soon(self._let_in)

    def has_room(self, rank: Rank) -> bool:
        """Whether a request would be let in at once: there is room, and nobody of its rank or of a better one
        waits for it.
        """
        return self.under_way < SHARES[rank] * self._bound and not (
            self._waiting and any(self._rooms[: rank + 1])
        )

    def refuses(self, rank: Rank) -> bool:
        """Whether a request for which there is no room is refused at once: the process has no time left, and
        more than will have their turn soon are waiting already. Notes it, if so.
        """
        if not self._is_busy or self._saved < 1:
            return False
        if self.under_way + self._waiting < SHARES[rank] * (self.limit + self._stuck()):
            return False
        self._saved -= 1
        self.shed[rank] += 1
        return True

    def wait(self, guest: Guest) -> None:
        """Has a request wait until it is let in or turned away."""
        loop = asyncio.get_running_loop()
        guest.waits = True
        self._rooms[guest.kind.rank].append((loop.time(), guest))
        self._waiting += 1
        if self._timer is None:
            self._timer = loop.call_later(PATIENCE_SECONDS, self._turn_away)

    # ---------------------------------------------------------------- the room

    def _let_in(self) -> None:
        self._lets_in = False
        for rank, room in zip(Rank, self._rooms, strict=True):
            bound = SHARES[rank] * self._bound
            while room and self.under_way < bound:
                _, guest = room.popleft()
                self._waiting -= 1
                if guest.waits:
                    guest.waits = False
                    guest.let_in()
            if room:
                break
        if not self._waiting and self.under_way < self._calm:
            # The next burst is let in whole, whatever the last one met.
            self.is_easy = True
            self._is_full = self._is_busy = False
            self._at_once, self.limit = MOST, max(self.limit, FIRST)
            self._set_bounds(self._stuck())

    def _set_bounds(self, stuck: int) -> None:
        self._bound = min(self.limit, self._at_once) + stuck
        self._crowd = AT_ONCE + stuck
        self._calm = stuck + min(AT_ONCE, SHARES[Rank.READ] * self._bound) / 2

    def _turn_away(self) -> None:
        """Refuses, many at a time, those who are too many, of them who came last, and those who have others
        go before all the time. A busy process did so when they came, and lets in the rest, late as it may be.
        """
        loop = asyncio.get_running_loop()
        now, self._timer = loop.time(), None
        limit, is_behind = self.limit + self._stuck(), False
        for rank, room in zip(Rank, self._rooms, strict=True):
            if is_behind:
                while (
                    room and now - room[0][0] >= PATIENCE_SECONDS and (not self._is_busy or self._saved >= 1)
                ):
                    self._refuse(room.popleft(), now)
            elif not self._is_busy:
                most = SHARES[rank] * limit
                while room and self.under_way + self._waiting > most and now - room[-1][0] < LATE_SECONDS:
                    self._refuse(room.pop(), now)
            is_behind = is_behind or bool(room)
        if self._waiting:
            self._timer = loop.call_later(PATIENCE_SECONDS, self._turn_away)

    def _refuse(self, waiting: tuple[float, Guest], now: float) -> None:
        since, guest = waiting
        self._waiting -= 1
        if guest.waits:
            guest.waits = False
            self._saved -= 1
            self.shed[guest.kind.rank] += 1
            guest.turn_away(now - since)

    # ---------------------------------------------------------------- the limit

    def _grow_busy(self) -> None:
        loop = asyncio.get_running_loop()
        self.is_easy, stuck = False, self._stuck()
        self._set_bounds(stuck)
        self._is_full = self._fills(stuck)
        self._left, self._saved = 0, 0.0
        self._ticks.clear()
        self._ticks.append((loop.time(), 0))
        self._load.since_last()
        if self._tick is not None:
            self._tick.cancel()
        self._tick = loop.call_later(TICK_SECONDS, self._take_stock)

    def _fills(self, stuck: int) -> bool:
        """Whether there is enough to do for some to be refused."""
        return self.under_way + self._waiting >= SHARES[Rank.READ] * (self.limit + stuck)

    def _take_stock(self) -> None:
        """Sets the limit anew while it is reached, from what was answered of late."""
        loop, stuck = asyncio.get_running_loop(), self._stuck()
        now, self._tick = loop.time(), None
        if self.is_easy:
            self._set_bounds(stuck)
            if stuck:
                self._tick = loop.call_later(TICK_SECONDS, self._take_stock)
            return
        busy = self._load.since_last() / (now - self._ticks[-1][0])
        self._is_busy = busy > (IDLE if self._is_busy else BUSY)
        self._saved = max(0.0, min(self._saved, MOST_SAVED))
        if busy > BUSY:
            self._at_once = AT_ONCE
        elif busy < IDLE:
            self._at_once = min(MOST, 2 * self._at_once)
        if not self._is_full and self._fills(stuck):
            self._is_full = True
            self._ticks.clear()
        self._ticks.append((now, self._left))
        since, left_before = self._ticks[0]
        left = self._left - left_before
        if left and self._is_full and len(self._ticks) == self._ticks.maxlen:
            # A server that answers nothing at all is no slow one: `stuck` will tell of it.
            self.limit = next_limit(self.limit, left / (now - since), busy)
        self._set_bounds(stuck)
        self._tick = loop.call_later(TICK_SECONDS, self._take_stock)
        if not self._lets_in:
            self._lets_in = True
            loop.call_soon(self._let_in)


def next_limit(limit: int, per_second: float, busy: float) -> int:
    """The limit after a while in which so many operations a second were answered, and the process was busy
    for such a share of the time.
    """
    steady = max(STEADY, int(per_second * STEADY_WAIT_SECONDS))
    if busy < IDLE:
        limit = limit * 5 // 4
    elif busy > BUSY and limit > steady:
        limit = max(steady, limit * 9 // 10)
    elif limit < steady:
        limit = steady
    return max(FEWEST, min(limit, MOST, int(per_second * LONGEST_WAIT_SECONDS)))


class _OwnLoad:
    """For how long this process had something to do: time on a processor, and waiting for one."""

    def __init__(self) -> None:
        self._path = Path("/proc/self/schedstat")
        self._tells_waits = self._path.exists()
        self._last = self._read()

    def _read(self) -> float:
        if self._tells_waits:
            on, waiting, _ = self._path.read_bytes().split()
            return (int(on) + int(waiting)) / 1e9
        return time.process_time()

    def since_last(self) -> float:
        """Seconds since the last question."""
        before, self._last = self._last, self._read()
        return self._last - before
