"""One primary and its replicas, watched by Sentinels: `redis+sentinel://`.

Every Sentinel is asked, and of their answers that with the highest configuration epoch counts: one that
was cut off still names the old primary. The server must call itself a primary before anything is sent
to it. When the Sentinels name another, connections to the old one are cut at once: what was under way is
then unknown, and repeating it with the same id tells.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from logging import getLogger

from msgspec import Struct

from engine.errors import StorageUnavailable
from engine.topology.routed import NoPrimary, Routed, cancel_all, close_all
from engine.topology.standalone import Standalone
from engine.topology.url import Address, ServerUrl

log = getLogger("bincard.topology")

ASK_TIMEOUT_SECONDS = 1.0
"""A server that takes longer to say who it is counts as gone."""
GRACE_SECONDS = 0.2
"""How long slower Sentinels are waited for once one has answered."""
WATCH_SECONDS = 0.5
"""How often the Sentinels are asked while all is well."""

CLOSE_TRIES = 5
"""What still listens after so many seconds ends with its connection, which is closed then."""

_LATE = "no answer in time"
_UNKNOWN = "No such master"


class Named(Struct, frozen=True, order=True):
    """A Sentinel's answer: the highest epoch comes last in order."""

    epoch: int
    address: Address


class Sentinel(Routed):
    """The primary of a service, wherever it is at the moment."""

    default_partitions = 1

    def __init__(self, url: ServerUrl) -> None:
        self._url = url
        self._sentinels = [
            Standalone(ServerUrl("standalone", (address,), url.sentinel_access)) for address in url.addresses
        ]
        self._servers: dict[Address, Standalone] = {}
        self._primary: Standalone | None = None
        self._connections: list[tuple[asyncio.Transport, Standalone]] = []
        self._is_stale = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def name(self) -> str:
        """The service, and the server that is its primary."""
        return f"{self._url.service} ({self._primary.name if self._primary else 'no primary'})"

    @property
    def greeting(self) -> Sequence[Sequence[bytes]]:
        """The commands that a new connection starts with."""
        return self._url.access.greeting()

    async def servers(self) -> Sequence[Standalone]:
        """The primary."""
        return (await self.server_of(""),)

    async def server_of(self, key: str) -> Standalone:  # noqa: ARG002 - one server has all keys
        """The primary, asked for anew where none is known."""
        if self._primary is None:
            self._primary = await self.find_primary()
        return self._primary

    async def look_again(self) -> None:
        """Forgets the primary, so that the next question asks for it."""
        self._primary = None

    async def load_library(self, text: str) -> None:
        """See `Standalone.load_library`. Replicas get it from the primary."""
        await self._ask("", lambda server: server.load_library(text))

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        """Connects to the primary. Raises `OSError`, `TimeoutError`, `StorageUnavailable`.

        The connection is cut when the server is no longer the primary.
        """
        primary = self._primary = await self.find_primary()
        transport = await primary.connect(protocol)
        self._connections = [one for one in self._connections if not one[0].is_closing()]
        self._connections.append((transport, primary))
        if not self._tasks:
            work = [self._keep_watching(), *map(self._keep_listening, self._sentinels)]
            self._tasks = [asyncio.get_running_loop().create_task(one) for one in work]
        return transport

    async def find_primary(self) -> Standalone:
        """The server that the Sentinels name, once it calls itself a primary. Raises `NoPrimary`."""
        address = await self._ask_sentinels()
        server = self._servers.get(address)
        if server is None:
            server = self._servers[address] = Standalone(
                ServerUrl("standalone", (address,), self._url.access)
            )
        role = await _role_of(server)
        if role != "master":
            raise NoPrimary(
                f"the Sentinels name {address} as the primary of {self._url.service}, but it is "
                f"{role or 'silent'}: a promotion is under way, or the service needs one"
            )
        return server

    async def close(self) -> None:
        """Closes the client's connections."""
        for _ in range(CLOSE_TRIES):
            # Cancelling once is not enough: the client may take it for a lost connection of its own.
            for task in self._tasks:
                task.cancel()
            if not self._tasks:
                break
            _, running = await asyncio.wait(self._tasks, timeout=ASK_TIMEOUT_SECONDS)
            self._tasks = list(running)
        await close_all((*self._sentinels, *self._servers.values()))

    async def _ask_sentinels(self) -> Address:
        asked = {
            asyncio.ensure_future(_ask_one(sentinel, self._url.service)): sentinel.name
            for sentinel in self._sentinels
        }
        try:
            waiting: set[asyncio.Future[Named | str]] = set(asked)
            answers: list[Named] = []
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting,
                    timeout=GRACE_SECONDS if answers else ASK_TIMEOUT_SECONDS,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not done:
                    break
                answers += [answer for one in done if isinstance(answer := one.result(), Named)]
            if answers:
                return max(answers).address
            told = [f"{name}: {one.result() if one.done() else _LATE}" for one, name in asked.items()]
            # A service that nobody knows is no matter of patience.
            error = StorageUnavailable if all(_UNKNOWN in one for one in told) else NoPrimary
            raise error(
                f"no Sentinel names a primary of {self._url.service}: check the addresses, the service's "
                f"name, and sentinel_username and sentinel_password; {'; '.join(told)}"
            )
        finally:
            await cancel_all(asked)

    async def _keep_watching(self) -> None:
        """Cuts connections to servers that are no longer the primary."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._is_stale.wait()
            self._is_stale.clear()
            try:
                primary = await self.find_primary()
            except StorageUnavailable:
                await self._cut_demoted()
            except Exception:
                log.exception("the Sentinels' answer could not be read; they are asked again")
            else:
                self._follow(primary)

    async def _keep_listening(self, sentinel: Standalone) -> None:
        """A Sentinel tells of a promotion at once; asking alone would be half a second behind."""
        while True:
            with suppress(StorageUnavailable):
                async for _ in sentinel.listen("+switch-master"):
                    self._is_stale.set()
            await asyncio.sleep(WATCH_SECONDS)

    def _follow(self, primary: Standalone) -> None:
        if self._primary not in {None, primary}:
            log.warning("the primary of %s is now %s", self._url.service, primary.name)
        self._primary = primary
        for transport, server in self._connections:
            if server is not primary:
                transport.abort()

    async def _cut_demoted(self) -> None:
        """While nobody else is the primary: a silent server may come back, a replica answers stale."""
        for transport, server in self._connections:
            if not transport.is_closing() and await _role_of(server) not in {"master", ""}:
                transport.abort()


async def _ask_one(sentinel: Standalone, service: str) -> Named | str:
    """A Sentinel's answer, or why there is none."""
    try:
        async with asyncio.timeout(ASK_TIMEOUT_SECONDS):
            reply = await sentinel.ask("SENTINEL", "MASTER", service)
    except StorageUnavailable as error:
        return error.detail
    except TimeoutError:
        return _LATE
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    assert isinstance(reply, dict)
    found = {bytes(name).decode(): bytes(value).decode() for name, value in reply.items()}
    return Named(int(found["config-epoch"]), Address(found["ip"], int(found["port"])))


async def _role_of(server: Standalone) -> str:
    """What a server calls itself: `master` or `slave`; empty where it does not answer."""
    try:
        async with asyncio.timeout(ASK_TIMEOUT_SECONDS):
            reply = await server.ask("ROLE")
    except (StorageUnavailable, TimeoutError):
        return ""
    assert isinstance(reply, list)
    return reply[0].decode() if isinstance(reply[0], bytes) else str(reply[0])
