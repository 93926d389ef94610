"""A lean HTTP/1.1 client: one keep-alive connection, one request under way, no copies to spare.

It shares its cores with the server it drives, so it parses just what a replay needs: the status,
the body, whether the answer was replayed, and how long to wait. Anything it does not understand
counts as an unknown outcome, never as an answer.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from http import HTTPStatus
from typing import NamedTuple, cast
from urllib.parse import quote, urlsplit

from engine.api_keys import is_whole

DEFAULT_TIMEOUT_S = 10.0
_NO_BODY = frozenset({204, 304})
_HEAD_END = b"\r\n\r\n"


class OutcomeUnknownError(Exception):
    """The request may or may not have taken effect: repeat it with the same key."""


class Answer(NamedTuple):
    """What the server said."""

    status: int
    body: bytes
    replayed: bool
    retry_after_s: float


class Target:
    """A server's address, and the request bytes that are the same every time.

    Raises:
        ValueError: the URL is not `http://host[:port][/prefix]` or its https form.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"not a server's address: {url!r}; write it as http://host:port")
        self.url = url
        self.host = parts.hostname
        self.port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/")
        head = f"Host: {parts.netloc.rpartition('@')[2]}\r\nAccept: application/json\r\n"
        if key:
            if not (key.isascii() and key.isprintable()):
                raise ValueError("the API key holds characters that no header can carry")
            if key.startswith("bck_") and not is_whole(key):
                raise ValueError("the API key is not whole: it was cut off or mistyped")
            head += f"Authorization: Bearer {key}\r\n"
        self._head = head

    def request(self, method: str, path: str, body: bytes = b"", key: str | None = None) -> bytes:
        """Write one request; `path` is already percent-encoded, `key` the Idempotency-Key."""
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._head}"
        if key is not None:
            head += f"Idempotency-Key: {key}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        elif method in {"POST", "PUT"}:
            head += "Content-Length: 0\r\n\r\n"
        else:
            head += "\r\n"
        return head.encode() + body


def segment(name: str) -> str:
    """Percent-encode a name so that it is one segment of a path."""
    return quote(name, safe="")


class Connection(asyncio.Protocol):
    """One TCP connection; `ask` is answered in order because only one request is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Answer] | None = None
        self._received = bytearray()
        self._wanted = 0
        self.asked_at = 0.0

    @property
    def usable(self) -> bool:
        """Whether a further request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def to_itself(self) -> bool:
        """Whether TCP joined the socket to itself, as it may on a free port of this machine."""
        wire = self._transport
        return wire is not None and (wire.get_extra_info("sockname") == wire.get_extra_info("peername"))

    @property
    def waiting(self) -> bool:
        """Whether an answer is outstanding."""
        return self._waiter is not None

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send one request; the future raises `OutcomeUnknownError` when no answer comes."""
        assert self._waiter is None
        if self._transport is None:
            raise OutcomeUnknownError("the connection was lost before the request was sent")
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        self._waiter = waiter
        self._wanted = 0
        self.asked_at = time.monotonic()
        self._transport.write(request)
        return waiter

    def abort(self) -> None:
        """Cut the connection; whoever waits learns that the outcome is unknown."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits that the outcome is unknown."""
        self._transport = None
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(OutcomeUnknownError(f"the connection was lost: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Collect an answer and hand it over once it is whole."""
        received = self._received
        received += data
        if len(received) < self._wanted or self._waiter is None:
            if self._waiter is None:
                self.abort()  # An answer that nobody asked for: never give it to the next asker.
            return
        try:
            answer = self._parse()
        except (ValueError, IndexError):
            self.abort()
            return
        if answer is not None:
            waiter, self._waiter = self._waiter, None
            if not waiter.done():
                waiter.set_result(answer)

    def _parse(self) -> Answer | None:
        """Take one whole answer off the received bytes, or None while some are missing.

        Raises:
            ValueError: these bytes are not an HTTP/1.1 answer that this client understands.
        """
        received = self._received
        end = received.find(_HEAD_END)
        if end < 0:
            return None
        head = bytes(received[:end]).lower() + b"\r\n"
        if not head.startswith(b"http/1.1 "):
            raise ValueError("not an HTTP/1.1 answer")
        status = int(head[9:12])
        start = end + 4
        length = _header(head, b"content-length")
        if status in _NO_BODY:
            body, stop = b"", start
        elif length is not None:
            stop = start + int(length)
            if len(received) < stop:
                self._wanted = stop
                return None
            body = bytes(received[start:stop])
        elif _header(head, b"transfer-encoding") == b"chunked":
            found = _chunked(received, start)
            if found is None:
                return None
            body, stop = found
        else:
            raise ValueError("an answer without a length")
        if len(received) != stop:
            raise ValueError("more bytes than one answer")
        received.clear()
        if _header(head, b"connection") == b"close" and self._transport is not None:
            self._transport.close()
        retry_after = b"" if status < HTTPStatus.BAD_REQUEST else _header(head, b"retry-after") or b""
        return Answer(
            status,
            body,
            b"\r\nidempotent-replayed: true\r\n" in head,
            float(retry_after) if retry_after.isdigit() else 0.0,
        )


class Caller:
    """Keeps one connection open to the target, and gives up on answers that take too long."""

    def __init__(self, target: Target, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        self.target = target
        self._timeout_s = timeout_s
        self._connection: Connection | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send one request.

        Raises:
            OutcomeUnknownError: no connection, a lost connection, or no answer in time.
        """
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self._connect()
        try:
            return await connection.ask(request)
        except asyncio.CancelledError:
            connection.abort()  # The late answer must not reach the next request.
            raise

    def close(self) -> None:
        """Cut the connection."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        self.close()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop),
                    self.target.host,
                    self.target.port,
                    ssl=self.target.tls,
                )
        except (OSError, TimeoutError) as refused:
            raise OutcomeUnknownError(f"no connection to {self.target.url}: {refused}") from refused
        if connection.to_itself:
            connection.abort()
            raise OutcomeUnknownError(f"no connection to {self.target.url}: nobody listens")
        self._connection = connection
        self._watch = loop.call_later(self._timeout_s / 4, self._look)
        return connection

    def _look(self) -> None:
        """Cut a connection whose answer is overdue: one timer per connection, none per request."""
        connection = self._connection
        if connection is None or not connection.usable:
            return
        if connection.waiting and time.monotonic() - connection.asked_at > self._timeout_s:
            connection.abort()
            return
        loop = asyncio.get_running_loop()
        self._watch = loop.call_later(self._timeout_s / 4, self._look)


def _header(head: bytes, name: bytes) -> bytes | None:
    """Find one header in a lower-case head whose last line is complete."""
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        return None
    at += len(name) + 3
    return head[at : head.index(b"\r\n", at)].strip()


def _chunked(received: bytearray, start: int) -> tuple[bytes, int] | None:
    """Join a chunked body (without trailers); give it and where it stops, or None if not whole."""
    body = bytearray()
    while True:
        line_end = received.find(b"\r\n", start)
        if line_end < 0:
            return None
        size = int(bytes(received[start:line_end]).partition(b";")[0], 16)
        start = line_end + 2
        if len(received) < start + size + 2:
            return None
        body += received[start : start + size]
        start += size + 2
        if size == 0:
            return bytes(body), start
