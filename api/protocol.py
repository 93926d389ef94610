"""HTTP/1.1 with a short way for hot requests.

uvicorn's protocol builds an ASGI scope, two messages and two writes for every request. A hot request
needs none of it: here it is answered by its handler in one write. Everything else, and all that
concerns connections (keep-alive, pipelining, draining), stays uvicorn's.
"""

from collections.abc import Coroutine
from logging import getLogger
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.front import MAX_BODY_BYTES, too_large
from api.hot import Handler, Headers, Request

if TYPE_CHECKING:
    from api.app import Application

log = getLogger("bincard.http")

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class _NoEvent:
    """Stands where uvicorn keeps an event: nobody waits for a hot request's body."""

    def set(self) -> None:
        pass


_NO_EVENT = _NoEvent()


class HotCycle:
    """One hot request and its answer. To uvicorn it looks like one of its own cycles."""

    __slots__ = (
        "body",
        "disconnected",
        "handlers",
        "keep_alive",
        "more_body",
        "protocol",
        "request",
        "response_complete",
        "route",
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
        self.body = bytearray()
        self.more_body = True
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
        except StopIteration:
            return
        except BaseException:
            log.exception("request %s was not answered", self.request.request_id)
            self.protocol.transport.close()
            return
        awaited._asyncio_future_blocking = False  # noqa: SLF001 - what a task does with a future
        awaited.add_done_callback(self.step)

    async def run(self) -> None:
        """Answers the request. Its whole body is here."""
        protocol, request = self.protocol, self.request
        front = protocol.application.front
        if len(self.body) > MAX_BODY_BYTES:
            status, body, headers = too_large(request)
            self.keep_alive = False
        else:
            request.body = bytes(self.body)
            status, body, headers = await front.answer(request, self.handlers)
        self.response_complete = True
        if not self.disconnected:
            protocol.transport.write(protocol.encode_answer(self, status, body, headers))
            if not self.keep_alive:
                protocol.transport.close()
        front.metrics.observe(request.method, self.route, status, perf_counter() - self.started)
        protocol.on_response_complete()


class HotProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol for our application."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's arguments, passed on
        super().__init__(*args, **kwargs)
        self.application = cast("Application", self.config.app)
        self._starts_when_complete = False
        self._reads_head = False
        self._default_headers: object = None
        self._default_bytes = b""

    def on_message_begin(self) -> None:
        self._reads_head = True
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        self._reads_head = False
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii", "replace")
        front = self.application.front
        found = front.find(path)
        if found is None:
            self._pass_on()
            return
        request = Request(self.parser.get_method().decode("ascii"), path, query, dict(self.headers))
        request.request_id = front.request_id(request.headers)
        keep_alive = (
            self.parser.get_http_version() != "1.0"
            and self.parser.should_keep_alive()
            and not self.application.is_draining
        )
        before: Any = self.cycle
        cycle: Any = HotCycle(self, request, *found, keep_alive=keep_alive)
        self.cycle = cycle
        if self.expect_100_continue:
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
        """Closes what is idle; a head that has begun to arrive is a request."""
        if not self._reads_head:
            super().shutdown()

    def on_body(self, body: bytes) -> None:
        cycle: object = self.cycle
        if type(cycle) is not HotCycle:
            super().on_body(body)
        elif len(cycle.body) <= MAX_BODY_BYTES:
            # What comes beyond the limit is read and dropped, so that the sender can read our answer.
            cycle.body += body

    def on_message_complete(self) -> None:
        cycle: object = self.cycle
        if type(cycle) is not HotCycle:
            super().on_message_complete()
            return
        cycle.more_body = False
        if self._starts_when_complete:
            self._starts_when_complete = False
            self._start_asgi_task(cycle, self.app)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:  # noqa: ANN401 - either kind of cycle
        if type(cycle) is not HotCycle:
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._starts_when_complete = True
        else:
            cycle.start()

    def encode_answer(self, cycle: HotCycle, status: int, body: bytes, headers: Headers) -> bytes:
        """The whole answer as it goes over the wire."""
        defaults = self.server_state.default_headers
        if defaults is not self._default_headers:
            self._default_headers = defaults
            self._default_bytes = b"".join([b"%b: %b\r\n" % header for header in defaults])
        parts = [STATUS_LINE[status], self._default_bytes]
        parts += [b"%b: %b\r\n" % header for header in headers]
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
