"""HTTP/1.1 with a short way for hot requests.

uvicorn's protocol builds an ASGI scope, two messages and two writes for every request. A hot request
needs none of it: here it is answered by its handler in one write. Everything else, and all that
concerns connections (keep-alive, pipelining, draining), stays uvicorn's.
"""

from collections.abc import Coroutine
from logging import getLogger
from time import perf_counter
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from api.admission import NOBODY, kind_of, operations_of
from api.breaches import breach_of, too_large
from api.front import as_headers, problem_answer
from api.hot import Handler, Headers, Request
from api.limited import LimitedProtocol
from api.limits import MOST_PIPELINED
from api.problems import ProblemError
from api.refusing import UNREAD, refuse_unread
from engine.errors import Overloaded

log = getLogger("bincard.http")

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_OF_UPGRADE = (b"upgrade", b"http2-settings")
PART_BYTES = 65_536
MOST_UNREAD_BYTES = 65_536
"""What is taken from a connection whose request waits to be let in."""
LAST_WORD_SECONDS = 1.0
"""How long a connection that is one too many is kept, for its request to come and be refused."""
_GARBLED = ProblemError("malformed_request", "this is no HTTP/1.1")


class _ReachedError(Exception):
    """Ends the parser's work at a limit."""


class _NoEvent:
    """Stands where uvicorn keeps an event: nobody waits for a hot request's body."""

    def set(self) -> None:
        pass


_NO_EVENT = _NoEvent()


class HotCycle:
    """One hot request and its answer. To uvicorn it looks like one of its own cycles."""

    __slots__ = (
        "disconnected",
        "fault",
        "handlers",
        "is_refused",
        "keep_alive",
        "more_body",
        "parts",
        "protocol",
        "request",
        "response_complete",
        "route",
        "size",
        "started",
        "steps",
    )
    message_event = _NO_EVENT

    def __init__(
        self,
        protocol: "HotProtocol",
        request: Request,
        route: str,
        handlers: dict[str, Handler],
        *,
        keep_alive: bool,
    ) -> None:
        self.protocol = protocol
        self.request = request
        self.route = route
        self.handlers = handlers
        self.keep_alive = keep_alive
        self.parts: list[bytearray] = []
        """The body. One that grows in one piece would leave holes of nine times its size in the heap."""
        self.size = 0
        self.more_body = True
        self.fault: Exception | None = None
        """What keeps it from being read, and is its answer."""
        self.is_refused = False
        self.response_complete = False
        self.disconnected = False
        self.started = perf_counter()
        self.steps: Coroutine[Any, None, None]

    def start(self) -> None:
        """Runs the request to its first wait at once, and from then on whenever a wait is over.

        A task would do the same, a turn of the loop later each time: 3 µs a request.
        """
        self.steps = self.run()
        self.step(None)

    def step(self, over: object) -> None:  # noqa: ARG002 - what was waited for is over; the coroutine asks it
        try:
            awaited: Any = self.steps.send(None)
            if awaited is None:
                # A bare yield: it waits for nothing but its next turn.
                self.protocol.loop.call_soon(self.step, None)
                return
            awaited._asyncio_future_blocking = False  # noqa: SLF001 - what a task does with a future
            awaited.add_done_callback(self.step)
        except StopIteration:
            return
        except BaseException:
            log.exception("request %s was not answered", self.request.request_id)
            self.protocol.transport.close()

    async def run(self) -> None:
        """Answers the request. Its whole body is here."""
        protocol, request = self.protocol, self.request
        front = protocol.application.front
        if self.size > protocol.limits.max_body_bytes and self.fault is None:
            self.fault = too_large(protocol.limits)
            protocol.watch.count("body_bytes")
        if self.fault is not None:
            status, body, headers = problem_answer(self.fault, request)
            self.keep_alive = False
        elif self.is_refused:
            status, body, headers = problem_answer(Overloaded(UNREAD), request)
        else:
            request.body = b"".join(self.parts)
            admission, operations = protocol.application.admission, operations_of(len(request.body))
            admission.enter(operations)
            try:
                status, body, headers = await front.answer(request, self.route, self.handlers)
            finally:
                admission.leave(operations)
        front.metrics.observe(request.method, self.route, status, perf_counter() - self.started)
        if not self.disconnected:
            protocol.transport.write(protocol.encode_answer(self, status, body, headers))
            if protocol.flow.write_paused:
                # Who does not read its answers gets no more of them: what comes meanwhile waits behind us.
                await protocol.flow.drain()
            if not self.keep_alive:
                if self.fault is not None or protocol.ends_early:
                    protocol.linger()
                else:
                    protocol.transport.close()
        self.response_complete = True
        protocol.on_response_complete()


class HotProtocol(LimitedProtocol):
    """uvicorn's HTTP protocol for our application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's arguments, passed on
        super().__init__(*args, **kwargs)
        self._starts_when_complete = False
        self._begins_again = False
        self.ends_early = False
        """Whether the rest of what has come is not read."""
        self._default_headers: object = None
        self._default_bytes = b""
        self.kind = NOBODY
        self._size = 0
        """Of what is being read."""
        self._fault: Exception | None = None
        self._unread = b""
        self._refuses = False
        self._is_one_too_many = False

    # ---------------------------------------------------------------- who is let in

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 - asyncio's or uvloop's
        super().connection_made(transport)
        if len(self.connections) > self.application.most_connections:
            self._is_one_too_many = True
            self.watch.count("connections")
            self.loop.call_later(LAST_WORD_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        admission = self.application.admission
        if self.waits:
            self._unread += data
            if len(self._unread) > MOST_UNREAD_BYTES:
                self.flow.pause_reading()
            return
        if self.lingers:
            self.drop(len(data))
            return
        if self._is_one_too_many:
            self._refuse_connection()
            return
        if not admission.is_easy and self._is_idle():
            kind = kind_of(data)
            if kind is not None and not admission.has_room(kind.rank):
                self.kind, self._unread = kind, data
                self.idle_since = 0.0
                if admission.refuses(kind.rank):
                    self.turn_away(0.0)
                else:
                    admission.wait(self)
                return
        self._read(data)

    def _is_idle(self) -> bool:
        """Whether what comes next begins a request that none is before."""
        cycle: Any = self.cycle
        is_between = cycle is None or (cycle.response_complete and not cycle.more_body)
        return is_between and not self._reads_head and not self.pipeline

    def let_in(self) -> None:
        """Reads the request that waited."""
        data, self._unread = self._unread, b""
        self.flow.resume_reading()
        self._read(data)

    def turn_away(self, seconds: float) -> None:
        """Refuses the request that waited, unread where it is plain enough."""
        data, self._unread = self._unread, b""
        self.flow.resume_reading()
        refusal = None
        if not (self.application.is_draining or self.flow.write_paused):
            refusal = refuse_unread(data, self.encode_defaults(), self.application.front.request_id)
        if refusal is None:
            self._refuses = True
            self._read(data)
            self._refuses = False
            return
        self.transport.write(refusal)
        self.application.front.metrics.observe(self.kind.method, self.kind.route, 503, seconds)
        self.idle_since = self.watch.now

    def _refuse_connection(self) -> None:
        """Answers what is one connection too many, whatever it asks, and closes it."""
        if not self.transport.is_closing():
            request = Request("GET", "/", b"", {})
            request.request_id = self.application.front.request_id(request.headers)
            cycle = HotCycle(self, request, "unmatched", {}, keep_alive=False)
            answer = problem_answer(Overloaded("this server has too many connections"), request)
            self.transport.write(self.encode_answer(cycle, *answer))
            self.application.front.metrics.observe("GET", "unmatched", answer[0], 0.0)
            self.transport.close()

    # ---------------------------------------------------------------- reading

    def _read(self, data: bytes) -> None:
        self._size = self._received + len(data)
        cycle_before, read_head = self.cycle, self._reads_head
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if not self._begins_again:
                    # CONNECT: what follows would be another protocol, which nobody speaks here.
                    self._refuse_the_rest(_GARBLED)
                    return
                self._begins_again = False
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError:
                self._refuse_the_rest(self._fault or _GARBLED)
                return
            else:
                cycle: Any = self.cycle
                if self._reads_head or (cycle is not None and cycle.more_body):
                    if cycle is not cycle_before:
                        self.begin_part(len(data))
                    elif self._reads_head is not read_head:
                        # It is alone in this read, or comes after the rest of a body.
                        self.begin_part(len(data) if self._part_since else 0)
                    self.note_part(len(data))
                elif self._part_since:
                    self.note_whole()
                return

    def _head_without_upgrade(self) -> bytes:
        """The head of a request as if no other protocol had been offered in it (RFC 9110, 7.8: an offer
        may be ignored). The parser takes what follows an offer for the other protocol, its body too.
        """
        lines = [
            b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        ]
        for name, value in self.headers:
            kept = value
            if name in _OF_UPGRADE:
                continue
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                kept = b", ".join(token for token in tokens if token.lower() not in _OF_UPGRADE)
                if not kept:
                    continue
            lines.append(b"%b: %b" % (name, kept))
        return b"\r\n".join([*lines, b"", b""])

    def refuse(self, limit: str) -> None:
        self.watch.count(limit)
        self._refuse_the_rest(breach_of(limit, self.limits))

    def _refuse_the_rest(self, fault: Exception) -> None:
        """Nothing more can be read, or is. What came whole before is answered first, and ends the connection:
        nobody may take a refusal for its answer.
        """
        cycle: Any = self.cycle
        if self.transport.is_closing():
            return
        if cycle is None or (cycle.response_complete and not cycle.more_body):
            self._end(self._stand_in(None), fault)
        elif cycle.response_complete:
            # It was answered before its body was here; this is the rest of it.
            self.transport.close()
        elif not cycle.more_body:
            self.flow.pause_reading()
            cycle.keep_alive = False
            self.ends_early = True
        elif type(cycle) is HotCycle:
            self._end(cycle, fault)
        elif self.pipeline and self.pipeline[0][0] is cycle:
            ours = self._stand_in(cycle)
            self.pipeline[0] = (ours, self.app)
            self._end(ours, fault)
        elif cycle.response_started:
            self.transport.close()
        else:
            # To the application its caller went away.
            cycle.disconnected = True
            cycle.message_event.set()
            self._end(self._stand_in(cycle), fault)

    def _end(self, cycle: Any, fault: Exception) -> None:  # noqa: ANN401 - uvicorn knows it as one of its own
        """Answers a request of which the rest is not read, when its turn comes."""
        cycle.fault = fault
        cycle.parts.clear()
        cycle.more_body = False
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.flow.pause_reading()
        else:
            self._starts_when_complete = False
            cycle.start()

    def _stand_in(self, cycle: Any) -> Any:  # noqa: ANN401 - uvicorn's cycle, and ours in its place
        """A cycle of ours for one of uvicorn's, or for a request of which nothing could be read."""
        request = Request("GET", "/", b"", {})
        if cycle is not None:
            scope = cycle.scope
            request = Request(scope["method"], scope["path"], b"", as_headers(scope["headers"]))
        request.request_id = self.application.front.request_id(request.headers)
        ours: Any = HotCycle(self, request, "unmatched", {}, keep_alive=False)
        self.cycle = ours
        return ours

    def on_message_begin(self) -> None:
        self._reads_head = True
        self.idle_since = 0.0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        # After the body they are trailers, which nobody here asks for.
        if self._reads_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._reads_head = False
        reached = self.reached_by_head(self._size)
        if self.pipeline and len(self.pipeline) >= MOST_PIPELINED:
            reached = "pipelined"
        if reached is not None:
            self.watch.count(reached)
            self._fault = breach_of(reached, self.limits)
            raise _ReachedError
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._begins_again = True
            return
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii", "replace")
        front = self.application.front
        found = front.find(path)
        if found is None:
            self._pass_on()
            return
        request = Request(self.parser.get_method().decode("ascii"), path, query, as_headers(self.headers))
        request.request_id = front.request_id(request.headers)
        request.peer = self.peer
        keep_alive = (
            self.parser.get_http_version() != "1.0"
            and self.parser.should_keep_alive()
            and not self.application.is_draining
        )
        before: Any = self.cycle
        cycle: Any = HotCycle(self, request, *found, keep_alive=keep_alive)
        cycle.is_refused = self._refuses
        self.cycle = cycle
        if self.expect_100_continue:
            declared = request.headers.get(b"content-length", b"0")
            if declared.isdigit() and int(declared) > self.limits.max_body_bytes:
                self.loop.call_soon(self.refuse, "body_bytes")
            else:
                self.transport.write(_CONTINUE)
        if before is None or before.response_complete:
            self._starts_when_complete = True
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _pass_on(self) -> None:
        """Does what uvicorn did when the request began, now that we know that it is uvicorn's."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()
        if self.application.is_draining:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Closes what is idle; a head that has begun to arrive is a request, and so is what waits."""
        if not (self._reads_head or self.waits):
            super().shutdown()

    def on_body(self, body: bytes) -> None:
        cycle: object = self.cycle
        if type(cycle) is not HotCycle:
            super().on_body(body)
        elif cycle.size <= self.limits.max_body_bytes:
            cycle.size += len(body)
            if cycle.parts and len(cycle.parts[-1]) < PART_BYTES:
                cycle.parts[-1] += body
            else:
                cycle.parts.append(bytearray(body))

    def body_size(self, cycle: Any) -> int:  # noqa: ANN401 - either kind of cycle
        return cycle.size if type(cycle) is HotCycle else super().body_size(cycle)

    def on_message_complete(self) -> None:
        if self._begins_again:
            return
        cycle: object = self.cycle
        if type(cycle) is not HotCycle:
            super().on_message_complete()
            return
        cycle.more_body = False
        if self._starts_when_complete:
            self._starts_when_complete = False
            cycle.start()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ANN401 - either kind of cycle
        if type(cycle) is not HotCycle:
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._starts_when_complete = True
        else:
            # Not from here: one answer would start the next, each deeper in the stack.
            self.loop.call_soon(cycle.start)

    def encode_answer(self, cycle: HotCycle, status: int, body: bytes, headers: Headers) -> bytes:
        """The whole answer as it goes over the wire."""
        parts = [STATUS_LINE[status], self.encode_defaults()]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            parts.append(b"connection: close\r\n")
        if status == 304:  # noqa: PLR2004 - Not Modified has no body
            parts.append(b"x-request-id: %b\r\n\r\n" % cycle.request.request_id.encode())
        else:
            parts.append(
                b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n"
                % (cycle.request.request_id.encode(), len(body))
            )
            if cycle.request.method != "HEAD":
                parts.append(body)
        return b"".join(parts)

    def encode_defaults(self) -> bytes:
        """The headers that every answer has."""
        defaults = self.server_state.default_headers
        if defaults is not self._default_headers:
            self._default_headers = defaults
            self._default_bytes = b"".join([b"%b: %b\r\n" % header for header in defaults])
        return self._default_bytes
