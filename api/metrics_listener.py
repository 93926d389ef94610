"""The one page of `bincard worker`: its metrics. Whoever asks for it has a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from importlib.metadata import version
from socket import socket

from api.exposition import CONTENT_TYPE, ServiceFacts, render
from api.front import as_headers, problem_answer
from api.gate import Gate
from api.hot import Answer, Request
from api.http_worker import HEADERS
from api.keyring import Keyring
from api.listen import base_url
from api.metrics import WorkerCounts
from api.problems import ProblemError
from engine import Inventory, Unavailable
from engine.errors import StorageUnavailable

PATH = "/metrics"
MOST_HEAD_BYTES = 8192
MOST_CONNECTIONS = 32
ANSWER_SECONDS = 5.0
"""From the connection to the last byte of the answer."""
KEYS_PAUSE_SECONDS = 1.0
_REQUEST_WORDS = 3


class MetricsListener:
    """Answers `GET /metrics`; with `asks_keys` to keys that the API would answer."""

    def __init__(self, listener: socket, *, asks_keys: bool) -> None:
        """`listener` is bound."""
        self._listener = listener
        self._asks_keys = asks_keys
        self._gate: Gate | None = None if asks_keys else Gate(None)
        self._counts: Callable[[], WorkerCounts] | None = None
        self._keyring: Keyring | None = None
        self._opening: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None
        self._connections = 0

    @property
    def url(self) -> str:
        """Where the page is."""
        return base_url(self._listener) + PATH

    async def open(self) -> None:
        """Answers from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=MOST_HEAD_BYTES)

    def tell(self, inventory: Inventory, counts: Callable[[], WorkerCounts]) -> None:
        """Gives it something to say, once there is a data set."""
        self._counts = counts
        if self._asks_keys:
            self._opening = asyncio.get_running_loop().create_task(self._open_keys(Keyring(inventory)))

    async def close(self) -> None:
        """Answers nobody any more."""
        if self._server is not None:
            self._server.close()
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
        if self._keyring is not None:
            await self._keyring.close()

    async def _open_keys(self, keyring: Keyring) -> None:
        while self._gate is None:
            try:
                await keyring.open()
            except Unavailable:
                await asyncio.sleep(KEYS_PAUSE_SECONDS)
            else:
                self._keyring, self._gate = keyring, Gate(keyring)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= MOST_CONNECTIONS:
                async with asyncio.timeout(ANSWER_SECONDS):
                    writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                    writer.write_eof()
                    await writer.drain()
                    await reader.read(1)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # There is nobody to tell.
            pass
        finally:
            self._connections -= 1
            writer.transport.abort()

    def _answer(self, head: bytes) -> bytes:
        """The whole answer to a head."""
        first, *lines = head[:-4].split(b"\r\n")
        words = first.split(b" ")
        pairs = [
            (name.strip().lower(), value.strip())
            for name, _, value in (line.partition(b":") for line in lines)
        ]
        path, _, query = words[1].partition(b"?") if len(words) == _REQUEST_WORDS else (b"", b"", b"")
        request = Request(words[0].decode("latin-1"), path.decode("latin-1"), query, as_headers(pairs))
        try:
            status, body, headers = self._page(request, is_whole=bool(path))
        except (ProblemError, Unavailable) as refusal:
            status, body, headers = problem_answer(refusal, request)
        told = [*((name.encode(), value.encode()) for name, value in HEADERS), *headers]
        told += [(b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        top = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
        parts = [top, *(b"%b: %b\r\n" % pair for pair in told), b"\r\n"]
        return b"".join(parts if request.method == "HEAD" else [*parts, body])

    def _page(self, request: Request, *, is_whole: bool) -> Answer:
        """Raises `ProblemError`, `StorageUnavailable`."""
        if not is_whole:
            raise ProblemError("malformed_request", "this is no request")
        if request.path != PATH:
            raise ProblemError("not_found", f"there is nothing but {PATH}")
        if request.method not in {"GET", "HEAD"}:
            raise ProblemError(
                "method_not_allowed", f"{PATH} takes GET, HEAD", headers={"Allow": "GET, HEAD"}
            )
        if self._gate is None:
            raise StorageUnavailable("keys cannot be checked: the stock server cannot be reached")
        self._gate.admit(request, PATH)
        workers = [] if self._counts is None else [self._counts()]
        text = render(workers, ServiceFacts(version("bincard"), 0, None))
        return 200, text.encode(), [(b"content-type", CONTENT_TYPE.encode())]
