"""`bincard serve`: one process that starts, watches and stops all the others.

It binds the address once, starts the embedded server where no other is named, makes the data set,
and runs API workers, which share the listening socket, and one process of background workers. The
end goes the other way: the listening socket closes, API workers finish the requests that they have,
then the background workers end, then the server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from logging import getLogger
from pathlib import Path
from socket import socket
from types import FrameType
from urllib.parse import urlsplit

from api.child import Child
from api.http_worker import DRAIN_SECONDS, NOTICE_SECONDS
from api.limits import DEFAULT, Limits
from api.listen import base_url, bind, listen
from api.run_directory import RUN_DIRECTORY_VARIABLE, run_directory
from api.settings import ServeSettings
from engine import connect
from engine.topology.embedded import EmbeddedDurability, EmbeddedServer, EmbeddedServerError

log = getLogger("bincard.supervisor")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KILL_MARGIN_SECONDS = 5.0
BACKGROUND_STOP_SECONDS = 10.0
IMPATIENCE_SECONDS = 1.0
"""A second signal after this long ends everything at once; one that comes sooner is the same wish."""
WATCH_SECONDS = 0.1
READY_POLL_SECONDS = 0.05
READY_TIMEOUT_SECONDS = 2.0
READY_COMPLAINT_SECONDS = 15.0
SERVER_RESTARTS = 5
FAILED_STARTS = 4
"""So many ends of API workers before the first readiness mean that they cannot start at all."""
REASON_BYTES = 1000


class ServeError(Exception):
    """It cannot serve, or no longer; the text says why."""


class _StopAsked(BaseException):
    """A signal asks for the end while the start blocks. No `Exception`: nothing may swallow it."""


def serve(settings: ServeSettings, limits: Limits = DEFAULT) -> int:
    """Serves until a signal asks for the end; the exit status.

    Raises `SettingsError`, `PortTakenError`, `EmbeddedServerError`, `StorageUnavailable`, `ServeError`.
    """
    settings.check()
    if settings.auth == "off":
        log.warning("authentication is off: every program on this machine can change the stock")
    server: EmbeddedServer | None = None
    with bind(settings.host, settings.port) as listener, run_directory() as directory, _signals_raise():
        try:
            if settings.redis_url is None:
                server = EmbeddedServer.start(settings.data_dir, durability=_embedded_tier(settings))
        except _StopAsked:
            return 0
        supervisor = Supervisor(settings, limits, listener, server, directory)
        try:
            asyncio.run(supervisor.run())
        except _StopAsked:
            return 0
        finally:
            supervisor.stop_server()
    return 0


class Supervisor:
    """The processes of one `bincard serve`, from the start of the workers to the end of the drain."""

    def __init__(
        self,
        settings: ServeSettings,
        limits: Limits,
        listener: socket,
        server: EmbeddedServer | None,
        directory: Path,
    ) -> None:
        """`directory` is where the workers meet."""
        self._settings = settings
        self._limits = limits
        self._directory = directory
        self._listener = listener
        self._server = server
        self._address = base_url(listener)
        self._stopping = asyncio.Event()
        self._stop_asked_at = 0.0
        self._failure: Exception | None = None
        self._is_ready = False
        self._early_ends = 0
        self._api: list[Child] = []
        self._background: list[Child] = []

    async def run(self) -> None:
        """Returns when everything but the server has ended. Raises `ServeError` and what `serve` lists."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            # Who started us with `nohup` does not want the hang-up to end it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._ask_to_stop, number)
        await self._make_dataset()
        if self._stopping.is_set():
            return
        listen(self._listener)
        self._start_children()
        helpers = [loop.create_task(self._announce()), loop.create_task(self._watch_server())]
        for helper in helpers:
            helper.add_done_callback(self._take_outcome)
        await self._stopping.wait()
        await self._drain()
        for helper in helpers:
            helper.cancel()
        await asyncio.wait(helpers)
        if self._failure is not None:
            raise self._failure

    def stop_server(self) -> None:
        """Ends the embedded server, where there is one."""
        if self._server is not None:
            self._server.stop()

    # ---------------------------------------------------------------- start

    @property
    def _storage_url(self) -> str:
        if self._server is not None:
            return self._server.url
        assert self._settings.redis_url is not None, "without a URL there is a server of our own"
        return self._settings.redis_url

    async def _make_dataset(self) -> None:
        try:
            inventory = await connect(self._storage_url, partitions=self._settings.partitions)
        except ValueError as fault:
            raise ServeError(str(fault)) from None
        await inventory.close()

    def _start_children(self) -> None:
        settings, descriptor = self._settings, self._listener.fileno()
        common = {
            "BINCARD_REDIS_URL": self._storage_url,
            "BINCARD_DURABILITY": settings.durability,
            "BINCARD_REPLICAS": str(settings.replicas),
            "BINCARD_AUTH": settings.auth,
            RUN_DIRECTORY_VARIABLE: str(self._directory),
            **self._limits.as_variables(),
        }
        for worker in range(settings.workers):
            variables = {**common, "BINCARD_WORKER": str(worker), "BINCARD_LISTEN_FD": str(descriptor)}
            child = Child(
                f"api-{worker}",
                "api.http_worker",
                variables,
                descriptors=(descriptor,),
                ended=self._note_end,
            )
            self._api.append(child)
        self._background.append(Child("background", "api.worker", common))
        for child in (*self._background, *self._api):
            child.start()

    def _note_end(self) -> None:
        self._early_ends += not self._is_ready
        if self._early_ends >= FAILED_STARTS:
            self._fail(ServeError("the API workers do not start; what they said is above"))

    async def _announce(self) -> None:
        """Prints where everything is, once it answers."""
        loop = asyncio.get_running_loop()
        began = complained = loop.time()
        while (reason := await _unready(self._address)) is not None:
            if loop.time() - complained > READY_COMPLAINT_SECONDS:
                complained = loop.time()
                log.warning("not ready after %.0f s: %s", complained - began, reason)
            await asyncio.sleep(READY_POLL_SECONDS)
        self._is_ready = True
        address = self._address
        with suppress(OSError):
            print(f"Bincard is ready: {address}/v1 (docs {address}/docs, metrics {address}/metrics)")  # noqa: T201 - the line that whoever started it waits for
            sys.stdout.flush()

    # ---------------------------------------------------------------- while it runs

    async def _watch_server(self) -> None:
        """Starts the embedded server again when it ends by itself; workers reconnect by themselves."""
        while self._server is not None:
            await asyncio.sleep(WATCH_SECONDS)
            if self._stopping.is_set():
                return
            if not self._server.is_running():
                log.error(
                    "the embedded server (process %d) ended by itself; it starts again", self._server.pid
                )
                await self._restart_server(self._server)

    async def _restart_server(self, ended: EmbeddedServer) -> None:
        await asyncio.to_thread(ended.stop)
        for attempt in range(1, SERVER_RESTARTS + 1):
            if self._stopping.is_set():
                return
            try:
                self._server = await asyncio.to_thread(
                    EmbeddedServer.start, ended.data_dir, durability=_embedded_tier(self._settings)
                )
            except EmbeddedServerError as fault:
                log.error("the embedded server does not start (attempt %d): %s", attempt, fault)  # noqa: TRY400 - its text tells all
                await asyncio.sleep(attempt)
                continue
            log.warning("the embedded server runs again as process %d", self._server.pid)
            if self._server.url != ended.url:
                # A path too long for a socket got another short directory.
                for child in (*self._api, *self._background):
                    child.tell({"BINCARD_REDIS_URL": self._server.url})
            return
        self._fail(ServeError("the embedded server ended and does not start again; see above"))

    # ---------------------------------------------------------------- the end

    def _ask_to_stop(self, number: signal.Signals) -> None:
        now = asyncio.get_running_loop().time()
        if not self._stopping.is_set():
            log.warning("%s: the requests under way are finished, then everything ends", number.name)
            self._stop_asked_at = now
            self._stopping.set()
        elif now - self._stop_asked_at > IMPATIENCE_SECONDS:
            log.warning("asked a second time to stop: everything ends at once")
            # The children and the server are bound to our life.
            os._exit(1)

    def _take_outcome(self, helper: asyncio.Task[None]) -> None:
        """Without the watch over the rest, nobody would know what still works."""
        fault = None if helper.cancelled() else helper.exception()
        if isinstance(fault, Exception):
            self._fail(fault)

    def _fail(self, reason: Exception) -> None:
        self._failure = self._failure or reason
        self._stopping.set()

    async def _drain(self) -> None:
        # Ours must close too: as long as one is open, new connections wait for an answer in vain.
        self._listener.close()
        patience = NOTICE_SECONDS + DRAIN_SECONDS + KILL_MARGIN_SECONDS
        await asyncio.gather(*(child.stop(patience) for child in self._api))
        await asyncio.gather(*(child.stop(BACKGROUND_STOP_SECONDS) for child in self._background))


def _embedded_tier(settings: ServeSettings) -> EmbeddedDurability:
    return "none" if settings.durability == "none" else "local"


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Lets a signal interrupt the blocking start of the server, which then leaves nothing running."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _StopAsked

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _unready(address: str) -> str | None:
    """Why `GET /readyz` does not answer 200, or None where it does."""
    parts = urlsplit(address)
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(
                f"GET /readyz HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
            )
            answer = await reader.read()
    except (OSError, TimeoutError) as fault:
        return str(fault) or "no answer"
    finally:
        if writer is not None:
            writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] == [b"%d" % HTTPStatus.OK]:
        return None
    return body[:REASON_BYTES].decode(errors="replace") or "no answer"
