"""A connection under limits: what of uvicorn's protocol concerns time and size, done anew.

The clock is the worker's (`watch.py`). What a request costs here, when it is whole in one read, is a few
comparisons.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.limits import MOST_HEADERS, MOST_REQUEST_LINE_BYTES, Limits
from api.quota import network_of
from api.watch import NEVER, Watch, Watched

if TYPE_CHECKING:
    from api.app import Application

LINGER_SECONDS = 2.0
"""How long what still comes is dropped after the last answer, so that the answer is not lost with it."""
HEADER_EXTRA = len(": \r\n")


class LimitedProtocol(HttpToolsProtocol):
    """Deadlines and sizes of one connection. Who extends it says how a breach is answered (`refuse`)."""

    watch: Watch
    limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's arguments, passed on
        super().__init__(*args, **kwargs)
        self.application = cast("Application", self.config.app)
        self.row = NEVER
        self.peer = ""
        self.idle_since = 0.0
        self.waits = False
        """Whether what has come waits to be let in."""
        self.lingers = False
        """Whether the last answer was given, and what still comes is dropped."""
        self._reads_head = False
        self._received = 0
        """Bytes that have come of the head, or of the body."""
        self._part_since = 0.0
        self._before_part = 0
        """How many of them may belong to the request before."""
        self._stuck_since = 0.0
        self._stuck_bytes = 0

    def refuse(self, limit: str) -> None:
        """Answers a request that has reached a limit, and ends the connection."""
        raise NotImplementedError

    # ---------------------------------------------------------------- begin and end

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's or uvloop's
        super().connection_made(transport)
        self.watch = self.application.watch
        self.limits = self.watch.limits
        if self.client is not None:
            self.peer = network_of(self.client[0])
        self.watch.meet(self, cast("Collection[Watched]", self.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        self.waits = False
        self.watch.forget(self)
        self.watch.unread.discard(self)
        self._forget_parts()
        super().connection_lost(exc)
        # They know it as it knows them: the collector would have to find that, some thousand at a time.
        self.parser = self.cycle = None  # type: ignore[assignment]  # nothing comes any more
        self.pipeline.clear()

    def linger(self) -> None:
        """Ends the connection once what was written has been read. Whoever is still sending must not get a
        reset, which would overtake the answer.
        """
        if not (self.lingers or self.transport.is_closing()):
            self._forget_parts()
            self.lingers = True
            self._stuck_since = 0.0
            self.flow.resume_reading()
            self.transport.write_eof()
            self.watch.expect(self, self.watch.now + LINGER_SECONDS)

    def drop(self, size: int) -> None:
        """Drops what comes after the last answer."""
        self._received += size
        if self._received > 2 * self.limits.max_body_bytes:
            self.transport.abort()

    # ---------------------------------------------------------------- idle connections

    def on_response_complete(self) -> None:
        """As uvicorn does it, without a timer for each answer: setting and unsetting one goes through those
        of all connections.
        """
        self.server_state.total_requests += 1
        if self.lingers or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.watch.now

    def _unset_keepalive_if_required(self) -> None:
        """Uvicorn's timer is never set."""

    # ---------------------------------------------------------------- what comes in parts

    def begin_part(self, most_before: int) -> None:
        """Notes that a head or a body has begun; so much of its first read may be of what was before."""
        limits = self.limits
        self._forget_parts()
        self._part_since, self._before_part = self.watch.now, most_before
        seconds = limits.head_seconds if self._reads_head else limits.body_seconds
        self.watch.expect(self, self._part_since + seconds)

    def note_part(self, size: int) -> None:
        """Notes that something has come, and that more of the same head or body is still to come."""
        watch, limits = self.watch, self.limits
        if not self._part_since:
            self.begin_part(0)
        self._received += size
        watch.arriving += size
        received = self._received - self._before_part
        if self._reads_head:
            if received > limits.max_head_bytes:
                self.refuse("head_bytes")
                return
        # Chunks and their extensions may take as much again as what they carry.
        elif self.body_size(self.cycle) > limits.max_body_bytes or received > 2 * limits.max_body_bytes:
            self.refuse("body_bytes")
            return
        if watch.arriving > limits.max_arriving_bytes:
            self.refuse("arriving_bytes")

    def body_size(self, cycle: Any) -> int:  # noqa: ANN401 - uvicorn's cycle
        """The bytes of a body that are kept by now."""
        return len(cycle.body)

    def note_whole(self) -> None:
        """Notes that what came in parts is complete."""
        if self._part_since:
            self._forget_parts()

    def _forget_parts(self) -> None:
        self.watch.arriving -= 0 if self.lingers else self._received
        self._received = 0
        self._part_since = 0.0

    def reached_by_head(self, size: int) -> str | None:
        """The limit that a complete head has reached. It came in a read of so many bytes, or with it."""
        if len(self.headers) > MOST_HEADERS:
            return "headers"
        if len(self.url) > MOST_REQUEST_LINE_BYTES:
            return "request_line"
        if size > self.limits.max_head_bytes:
            whole = sum(len(name) + len(value) + HEADER_EXTRA for name, value in self.headers)
            if whole + len(self.url) > self.limits.max_head_bytes:
                return "head_bytes"
        return None

    # ---------------------------------------------------------------- answers that nobody reads

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since, self._stuck_bytes = self.watch.now, self.transport.get_write_buffer_size()
        self.watch.unread.add(self)
        self.watch.expect(self, self.watch.now + self.limits.unread_seconds)

    def resume_writing(self) -> None:
        self._stuck_since = 0.0
        self.watch.unread.discard(self)
        super().resume_writing()

    # ---------------------------------------------------------------- deadlines

    def look(self, now: float) -> float:
        """Ends what has taken too long; when to look again."""
        if self.lingers or self.transport.is_closing() or self._stuck_since:
            return self._look_at_answers(now)
        cycle: Any = self.cycle
        if self._part_since:
            due, limit = self._deadline_of_part(now)
        elif self.idle_since:
            due, limit = self.idle_since + self.limits.idle_seconds, "idle"
        elif cycle is None or (cycle.response_complete and not self._reads_head):
            # Line ends before a request, which the parser passes over: that is no beginning.
            self.idle_since = now
            return now + self.limits.idle_seconds
        else:
            return now + self.limits.idle_seconds
        if now < due:
            return due
        if limit == "idle":
            self.watch.count(limit)
            self.transport.close()
        else:
            self.refuse(limit)
        return now + LINGER_SECONDS

    def _deadline_of_part(self, now: float) -> tuple[float, str]:
        limits = self.limits
        if self.flow.read_paused:
            # It is us who are late.
            self._part_since = now
        if self._reads_head:
            return self._part_since + limits.head_seconds, "head_time"
        moved = self._received / limits.min_bytes_per_second
        return self._part_since + limits.body_seconds + moved, "body_time"

    def _look_at_answers(self, now: float) -> float:
        """A connection that is about to end, or has too much unread."""
        size = self.transport.get_write_buffer_size()
        if not self._stuck_since:
            self._stuck_since, self._stuck_bytes = now, size
        seconds = self.limits.unread_seconds if size else LINGER_SECONDS
        moved = (self._stuck_bytes - size) / self.limits.min_bytes_per_second
        due = self._stuck_since + seconds + moved
        if now >= due:
            if size:
                self.watch.count("unread_time")
            self.transport.abort()
            return 0.0
        return due
