"""The hot connection: many concurrent requests, few script calls.

Requests that wait for the same verb and partition leave together as one call; while a call is under
way the next ones gather, so batches grow with load and a lone request never waits. All calls of one
turn are written at once. Nothing is ever sent twice: when the connection breaks, what was written is
unknown and what was not yet written had no effect.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from logging import getLogger
from time import perf_counter
from typing import Any, cast

import hiredis

from engine import limits
from engine.errors import (
    BincardError,
    MemoryFull,
    Overloaded,
    ReplicasUnavailable,
    StorageUnavailable,
    Unconfirmed,
)
from engine.metrics import LaneMetrics

log = getLogger("bincard.lane")

Answer = Any
"""What a script answers to one request: an integer, bytes or a list of these."""

ANSWER_HEAD = 3
"""What a reply has before the answers of the requests: the moment, the epoch and the sequence."""

_STALLED = "the server has stopped to answer; requests are taken again as soon as it does"
_MISSING_FUNCTION = "ERR Function not found"
_TAKE_OVER_FIRST = "NOTBEGUN"
MOST_TAKE_OVERS = 3
"""How often a call asks for it: a partition that moves meanwhile is taken over where it arrives, too."""
_WAIT = b"*3\r\n$4\r\nWAIT\r\n"
_REFUSALS: dict[str, Callable[[str], BincardError]] = {
    # The server's error codes for a call that it refused before it ran.
    "OOM": lambda text: MemoryFull(f"the server's memory is full: {text}"),
    "NOREPLICAS": lambda text: ReplicasUnavailable(f"too few replicas: {text}"),
    **{
        code: lambda text: StorageUnavailable(f"the server refuses writes: {text}")
        for code in (
            "MISCONF",
            "LOADING",
            "READONLY",
            "MASTERDOWN",
            "CLUSTERDOWN",
            "BUSY",
            "NODATASET",
            "NOTBEGUN",
            "OTHERDATA",
            "EPOCHSPENT",
            "NOAUTH",
            "NOPERM",
        )
    },
}


def bulk(text: bytes) -> bytes:
    """A string as it goes over the wire."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


class Home:
    """A partition as the lane knows it: the newest epoch seen of its books, and how they are taken over."""

    __slots__ = ("asked_at", "epoch", "is_watched", "now_ms", "take_over")

    def __init__(self) -> None:
        self.epoch = 0
        self.now_ms = 0
        """The engine time of the last answer, which came at `asked_at` of the loop's clock."""
        self.asked_at = 0.0
        self.is_watched = False
        """Whether engine time goes as fast as our own."""
        self.take_over: Script | None = None


class Script:
    """A verb bound to one partition: what every call of it begins with.

    Lower `priority` leaves first when several verbs wait: 0 commit, 1 release, 2 reserve, 3 read. What it
    answers waits for replicas where it `is_confirmed` and the lane knows how many.
    """

    __slots__ = ("first_key", "home", "is_confirmed", "parts", "prefix", "priority", "verb")

    def __init__(
        self,
        function: str,
        keys: Sequence[str],
        arguments: Sequence[str] = (),
        *,
        priority: int,
        home: Home | None = None,
        is_confirmed: bool = False,
        verb: str = "",
    ) -> None:
        words = ["FCALL", function, str(len(keys)), *keys, *arguments]
        self.prefix = b"".join([bulk(word.encode()) for word in words])
        self.parts = len(words)
        self.first_key = keys[0]
        self.priority = priority
        self.home = home or Home()
        self.is_confirmed = is_confirmed
        self.verb = verb


def encode_known(home: Home, now: float) -> bytes:
    """What the lane knows of a partition, for whoever takes it over: its epoch, and what time it must be."""
    about = 0
    if home.is_watched and home.now_ms:
        about = home.now_ms + int((now - home.asked_at) * 1000)
    return home.epoch.to_bytes(6, "little") + about.to_bytes(6, "little")


class _Call:
    """The requests that leave as one script call."""

    __slots__ = (
        "arguments",
        "confirmation",
        "counts",
        "futures",
        "is_last",
        "positions",
        "reloaded",
        "script",
        "sent_at",
        "take_overs",
        "taken_over",
        "tries",
    )

    def __init__(self, script: Script) -> None:
        self.script = script
        self.arguments: list[bytes] = []
        self.futures: list[asyncio.Future[Answer]] = []
        self.counts: list[int] = []
        """For each future how many answers it gets as a list; 0 for one answer by itself."""
        self.positions = 0
        self.sent_at = 0.0
        self.is_last = False
        self.reloaded = False
        self.tries = self.take_overs = 0
        self.taken_over: asyncio.Future[Answer] | None = None
        self.confirmation: _Confirmation | None = None
        """What its answers wait for."""

    def encode(self) -> bytes:
        count = b"*%d\r\n" % (self.script.parts + len(self.arguments))
        return b"".join((count, self.script.prefix, *self.arguments))

    def fail(self, error: BincardError) -> None:
        for future in self.futures:
            if not future.done():
                future.set_exception(error)


class _Confirmation(_Call):
    """The end of a turn whose answers wait for replicas: a small write, then WAIT.

    WAIT speaks of what this connection wrote last. A call that only repeated an answer wrote nothing, though
    the answer's effect may be on its way yet: hence the write.
    """

    __slots__ = ("held", "is_written", "refusal")

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.held: list[tuple[_Call, Sequence[Answer]]] = []
        self.is_written = False
        self.refusal = ""
        """Why the write failed."""

    def fail(self, error: BincardError) -> None:
        for call, _ in self.held:
            call.fail(error)


class Lane(asyncio.Protocol):
    """One connection to one server. Build it with `open_lane` of a topology."""

    def __init__(
        self,
        *,
        greeting: Sequence[Sequence[bytes]],
        load_library: Callable[[], Awaitable[None]],
        metrics: LaneMetrics,
        turns_under_way: int = 2,
        replicas: int = 0,
    ) -> None:
        """`replicas` is how many must have an effect before it is answered."""
        self._loop = asyncio.get_running_loop()
        self._greeting = greeting
        self._load_library = load_library
        self._metrics = metrics
        self._turns_allowed = turns_under_way
        self._replicas = replicas
        self._wait = _WAIT + bulk(b"%d" % replicas) + bulk(b"%d" % limits.REPLICA_TIMEOUT_MS)
        self._turns = 0
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._greetings_due = 0
        self._open: dict[Script, _Call] = {}
        self._full: list[_Call] = []
        self._under_way: deque[_Call] = deque()
        self._waiting = 0
        self._flush_is_due = self._is_draining = False
        self._watch: asyncio.TimerHandle | None = None
        self._sent_at = 0.0
        self._is_stalled = False
        self.greeted: asyncio.Future[None] = self._loop.create_future()
        """Done once the server has answered the greeting, or never will."""
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # ---------------------------------------------------------------- requests

    def submit(self, script: Script, argument: bytes, positions: int = 1) -> "asyncio.Future[Answer]":
        """Queues one request; the future gives `(now_ms, epoch, seq, answer)`.

        `argument` is in wire form (`bulk`); `positions` counts what the request touches. Raises (from the
        future) `Unavailable` where nothing happened, `Unconfirmed` where it may have.
        """
        if self._transport is None:
            return self._failed(StorageUnavailable("there is no connection to the server"))
        if self._is_stalled:
            return self._failed(StorageUnavailable(_STALLED))
        if self._waiting >= limits.QUEUE_REQUESTS:
            return self._failed(Overloaded("too many requests wait for the server"))
        future: asyncio.Future[Answer] = self._loop.create_future()
        call = self._open.get(script)
        if call is None:
            call = self._open[script] = _Call(script)
        elif (
            len(call.arguments) >= limits.CALL_REQUESTS or call.positions + positions > limits.CALL_POSITIONS
        ):
            self._full.append(call)
            call = self._open[script] = _Call(script)
        call.arguments.append(argument)
        call.futures.append(future)
        call.counts.append(0)
        call.positions += positions
        self._waiting += 1
        if not self._flush_is_due and self._turns < self._turns_allowed:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)
        return future

    def submit_many(
        self, script: Script, requests: Sequence[tuple[bytes, int]]
    ) -> "list[tuple[int, asyncio.Future[Answer]]]":
        """Queues many requests, each its argument and its positions, in as many calls as they need. Each
        future stands for the next so many of them and gives `(now_ms, epoch, seq, [answer, …])`.
        """
        if self._transport is None:
            return [(len(requests), self._failed(StorageUnavailable("there is no connection to the server")))]
        if self._is_stalled:
            return [(len(requests), self._failed(StorageUnavailable(_STALLED)))]
        if self._waiting + len(requests) > limits.QUEUE_REQUESTS:
            return [(len(requests), self._failed(Overloaded("too many requests wait for the server")))]
        futures, at = [], 0
        while at < len(requests):
            call = self._open.get(script)
            if call is None:
                call = self._open[script] = _Call(script)
            begun = at
            while at < len(requests) and len(call.arguments) < limits.CALL_REQUESTS:
                argument, positions = requests[at]
                if call.arguments and call.positions + positions > limits.CALL_POSITIONS:
                    break
                call.arguments.append(argument)
                call.positions += positions
                at += 1
            if at > begun:
                future: asyncio.Future[Answer] = self._loop.create_future()
                call.futures.append(future)
                call.counts.append(at - begun)
                futures.append((at - begun, future))
            if at < len(requests):
                self._full.append(self._open.pop(script))
        self._waiting += len(requests)
        if not self._flush_is_due and self._turns < self._turns_allowed:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)
        return futures

    def _failed(self, error: BincardError) -> "asyncio.Future[Answer]":
        future: asyncio.Future[Answer] = self._loop.create_future()
        future.set_exception(error)
        return future

    def _flush(self) -> None:
        self._flush_is_due = False
        if self._transport is None or not (self._open or self._full):
            return
        calls = sorted((*self._full, *self._open.values()), key=lambda call: call.script.priority)
        self._full.clear()
        self._open.clear()
        self._write_turn(calls)

    def _write_turn(self, calls: Sequence[_Call]) -> None:
        words = [call.encode() for call in calls]
        self._turns += 1
        if not self._under_way:
            self._sent_at = self._loop.time()
        self._under_way.extend(calls)
        now = perf_counter()
        for call in calls:
            call.sent_at = now
            self._metrics.call_requests(len(call.arguments))
        confirmation = self._confirm(calls, words) if self._replicas else None
        if confirmation is not None:
            confirmation.sent_at = now
        (confirmation or calls[-1]).is_last = True
        assert self._transport is not None
        self._transport.write(b"".join(words))
        if self._watch is None:
            self._watch = self._loop.call_later(limits.STALL_SECONDS, self._check_time)

    def _confirm(self, calls: Sequence[_Call], words: list[bytes]) -> _Confirmation | None:
        """Ends a turn with what its answers wait for; None where nothing in it needs that."""
        confirmed = [call for call in calls if call.script.is_confirmed]
        for call in calls:
            call.confirmation = None
        taking = next((call.script.home.take_over for call in confirmed if call.script.home.take_over), None)
        if taking is None:
            return None
        confirmation = _Confirmation(taking)
        for call in confirmed:
            call.confirmation = confirmation
        self._under_way.append(confirmation)
        words += (self._encode_take_over(taking).encode(), self._wait)
        return confirmation

    def _check_time(self) -> None:
        """Lets nobody in while no answer comes, until one does. Gives one that never comes up: the connection
        is closed, its requests are unknown.
        """
        self._watch = None
        if not self._under_way:
            return
        waited = self._loop.time() - self._sent_at
        if waited < limits.STALL_SECONDS:
            self._watch = self._loop.call_later(limits.STALL_SECONDS - waited, self._check_time)
        elif waited < limits.CALL_TIMEOUT_SECONDS:
            if not self._is_stalled:
                self._is_stalled = True
                self._metrics.stalls += 1
                log.warning("the server has not answered for %.1f s; new requests are refused", waited)
            self._watch = self._loop.call_later(limits.CALL_TIMEOUT_SECONDS - waited, self._check_time)
        elif self._transport is not None:
            self._transport.abort()

    # ---------------------------------------------------------------- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._greetings_due = len(self._greeting)
        for words in self._greeting:
            self._transport.write(b"*%d\r\n" % len(words) + b"".join(map(bulk, words)))
        if not self._greetings_due:
            self.greeted.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._is_stalled = False
        self._reader.feed(data)
        if not self._is_draining:
            self._drain()

    def _drain(self) -> None:
        """Takes the answers that came, one call at a time. What its callers ask next is written before their
        neighbours wake, so that the server works while they do: it answers together what it got together.
        """
        self._is_draining = False
        if self._transport is None:
            # It broke meanwhile, and everyone has been told.
            return
        if self._flush_is_due:
            self._is_draining = True
            self._loop.call_soon(self._drain)
            return
        while (reply := self._reader.gets()) is not False:
            if self._greetings_due:
                self._greetings_due -= 1
                if isinstance(reply, hiredis.ReplyError):
                    log.error("the server refused the connection: %s", reply)
                    self.close()
                    return
                if not self._greetings_due and not self.greeted.done():
                    self.greeted.set_result(None)
                continue
            if not self._under_way:
                # The connection was lost before this was taken, or the server turns us away unasked.
                self.close()
                return
            self._take_reply(reply)
            if self._under_way:
                self._is_draining = True
                self._loop.call_soon(self._drain)
                return

    def _take_reply(self, reply: Answer) -> None:
        call = self._under_way.popleft()
        self._sent_at = self._loop.time()
        if type(call) is not _Confirmation:
            self._metrics.call_took(call.script.verb, perf_counter() - call.sent_at)
        if type(call) is _Confirmation:
            if not call.is_written:
                call.is_written = True
                call.refusal = str(reply) if isinstance(reply, hiredis.ReplyError) else ""
                self._under_way.appendleft(call)
                return
            self._take_confirmation(call, reply)
        elif isinstance(reply, hiredis.ReplyError):
            self._take_error(call, str(reply))
        elif type(reply) is not list or len(reply) != len(call.arguments) + ANSWER_HEAD:
            self._waiting -= len(call.arguments)
            call.fail(Unconfirmed("the server's answer is none of ours; is something else answering?"))
            if self._transport is not None:
                self._transport.abort()
        elif call.confirmation is not None:
            call.confirmation.held.append((call, reply))
        else:
            self._deliver(call, reply)
        if call.is_last:
            call.is_last = False
            self._turns -= 1
            if not self._flush_is_due and (self._open or self._full):
                self._flush_is_due = True
                self._loop.call_soon(self._flush)

    def _deliver(self, call: _Call, reply: Sequence[Answer]) -> None:
        now_ms, epoch, seq = reply[0], reply[1], reply[2]
        self._waiting -= len(call.arguments)
        home = call.script.home
        if epoch > home.epoch:  # noqa: PLR1730 - a call of max() costs twice the comparison
            home.epoch = epoch
        home.now_ms, home.asked_at = now_ms, self._sent_at
        at = ANSWER_HEAD
        for future, count in zip(call.futures, call.counts, strict=True):
            if not future.done():
                answer = reply[at : at + count] if count else reply[at]
                future.set_result((now_ms, epoch, seq, answer))
            at += count or 1

    def _take_confirmation(self, confirmation: _Confirmation, reply: Answer) -> None:
        self._metrics.confirmations.observe(perf_counter() - confirmation.sent_at)
        if not confirmation.refusal and type(reply) is int and reply >= self._replicas:
            for call, answer in confirmation.held:
                self._deliver(call, answer)
            return
        self._metrics.unconfirmed += 1
        self._waiting -= sum(len(call.arguments) for call, _ in confirmation.held)
        told = confirmation.refusal or str(reply)
        if confirmation.refusal or type(reply) is not int:
            log.error("replicas cannot be waited for: %s", told)
        confirmation.fail(
            Unconfirmed(
                f"of {self._replicas} replicas that must have it, confirmed: {told}; repeat with the same id"
            )
        )

    def _take_error(self, call: _Call, text: str) -> None:
        if text.startswith(_MISSING_FUNCTION) and not call.reloaded:
            call.reloaded = True
            task = self._loop.create_task(self._reload(call))
            task.add_done_callback(lambda done: done.exception())
            return
        if text.startswith(_TAKE_OVER_FIRST):
            if call.take_overs < MOST_TAKE_OVERS and call.script.home.take_over is not None:
                call.take_overs += 1
                self._loop.call_soon(self._take_over, call)
                return
            self._waiting -= len(call.arguments)
            call.fail(_why_not_taken_over(call, text))
            return
        self._waiting -= len(call.arguments)
        if text.startswith(_MISSING_FUNCTION):
            call.fail(StorageUnavailable("the server keeps losing the scripts"))
            return
        refusal = _REFUSALS.get(text.split(" ", 1)[0])
        if refusal is not None:
            call.fail(refusal(text))
            return
        log.error("a script failed: %s", text)
        call.fail(Unconfirmed("the script failed on the server; its log and ours tell more"))

    def _take_over(self, call: _Call) -> None:
        """Another process had the books last: the call did nothing and goes again, behind what takes them."""
        if self._transport is None:
            self._waiting -= len(call.arguments)
            call.fail(StorageUnavailable("the connection was lost before the request was sent"))
            return
        script = call.script.home.take_over
        assert script is not None
        taking = self._encode_take_over(script)
        call.taken_over = self._loop.create_future()
        call.taken_over.add_done_callback(lambda done: done.cancelled() or done.exception())
        taking.futures.append(call.taken_over)
        taking.counts.append(0)
        self._waiting += 1
        self._write_turn([taking, call])

    def _encode_take_over(self, script: Script) -> _Call:
        call = _Call(script)
        call.arguments.append(bulk(encode_known(script.home, self._loop.time())))
        return call

    async def _reload(self, call: _Call) -> None:
        """The server lost the library (a flush, an empty replica): it ran nothing, so send again."""
        try:
            await self._load_library()
        except Exception as error:  # noqa: BLE001 - whatever it was, the requests must be answered
            self._waiting -= len(call.arguments)
            call.fail(StorageUnavailable(f"the scripts could not be loaded: {error}"))
            return
        if self._transport is None:
            self._waiting -= len(call.arguments)
            call.fail(StorageUnavailable("the connection was lost before the request was sent"))
            return
        self._write_turn([call])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        if self._watch is not None:
            self._watch.cancel()
        lost = Unconfirmed("the connection was lost before the answer came; repeat with the same id")
        for call in self._under_way:
            call.fail(lost)
        unsent = StorageUnavailable("the connection was lost before the request was sent")
        for call in (*self._full, *self._open.values()):
            call.fail(unsent)
        self._under_way.clear()
        self._full.clear()
        self._open.clear()
        for over in (self.closed, self.greeted):
            if not over.done():
                over.set_result(None)

    @property
    def is_open(self) -> bool:
        """Whether requests can be submitted."""
        return self._transport is not None

    @property
    def requests_stuck(self) -> int:
        """How many requests wait for a server that has stopped to answer."""
        return self._waiting if self._is_stalled and self._transport is not None else 0

    def close(self) -> None:
        """Closes the connection; what is under way becomes unknown."""
        if self._transport is not None:
            self._transport.close()


def _why_not_taken_over(call: _Call, text: str) -> BincardError:
    taken = call.taken_over
    if taken is not None and taken.done() and not taken.cancelled():
        error = taken.exception()
        if isinstance(error, BincardError):
            return error
    return StorageUnavailable(f"the books could not be taken over: {text}")
