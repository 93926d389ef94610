"""One server, reached by `redis://`, `rediss://` or `unix://`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from engine import keys
from engine.errors import DatasetUnfit, StorageUnavailable
from engine.ids import dataset_mark
from engine.topology.url import Address, ServerUrl, parse_server_url

CONNECT_TIMEOUT_SECONDS = 5.0
MAX_CLIENT_CONNECTIONS = 16
FORMAT = b"5"
"""The version of the stored layout. A release refuses a data set of another."""

_ELSEWHERE = (
    AskError,  # of which MOVED is a kind
    ClusterDownError,
    OSError,
    ReadOnlyError,
    RedisConnectionError,
    RedisTimeoutError,
    TryAgainError,
)


class Standalone:
    """The client for set-up, administration and cold paths, and the way to open hot connections.

    The client never retries: a call whose reply was lost is not sent again behind our back.
    """

    default_partitions = 1

    def __init__(self, url: str | ServerUrl) -> None:
        """`url` names one server. Raises `ValueError` where it cannot be read."""
        self.url = url
        self._server = parse_server_url(url) if isinstance(url, str) else url
        access = self._server.access
        # Read now, so that a certificate that cannot be used is told of at once.
        self._tls = access.tls.context() if access.tls is not None else None
        options: dict[str, Any] = access.client_options()
        connection: type[Connection | SSLConnection | UnixDomainSocketConnection] = Connection
        if self._server.path is not None:
            connection = UnixDomainSocketConnection
            options["path"] = self._server.path
        else:
            connection = Connection if self._tls is None else SSLConnection
            options["host"], options["port"] = self._server.addresses[0]
        # A pool that waits: the usual one raises once its connections are out.
        pool = BlockingConnectionPool(
            max_connections=MAX_CLIENT_CONNECTIONS,
            timeout=CONNECT_TIMEOUT_SECONDS,
            connection_class=connection,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            socket_timeout=30.0,
            **options,
        )
        self._client: Redis = Redis.from_pool(pool)

    @property
    def name(self) -> str:
        """Where the server is, without its password."""
        return self._server.path or str(self._server.addresses[0])

    @property
    def greeting(self) -> Sequence[Sequence[bytes]]:
        """The commands that a new connection starts with."""
        return self._server.access.greeting()

    async def servers(self) -> Sequence[Self]:
        """Every server that takes writes: this one."""
        return (self,)

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> asyncio.Transport:
        """Opens a connection and gives it to the protocol. Raises `OSError`, `TimeoutError`."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            if self._server.path is not None:
                transport, _ = await loop.create_unix_connection(protocol, self._server.path)
            else:
                host, port = self._server.addresses[0]
                transport, _ = await loop.create_connection(protocol, host, port, ssl=self._tls)
        return transport

    async def load_library(self, text: str) -> None:
        """Gives the server our functions. A library of the same name has the same text, and knows what
        sweepers vouched for: it stays.
        """
        try:
            await self._client.function_load(text)
        except RedisError as error:
            if "already exists" in str(error):
                return
            raise StorageUnavailable(f"the server does not take the scripts: {error}") from error

    async def open_dataset(
        self, partitions: int | None, secret: bytes, *, create: bool
    ) -> Mapping[str, bytes]:
        """What was fixed when the data set was made; made now where there is none and `create` allows.

        Every field is set only if absent, so that several may start at once and a start that was cut
        short is completed by the next. Raises `StorageUnavailable`.
        """
        fixed = await self.fix_dataset(partitions or self.default_partitions, secret, create=create)
        await self.begin_partitions(range(int(fixed["partitions"])), dataset_mark(fixed["secret"]))
        return fixed

    async def fix_dataset(self, partitions: int, secret: bytes, *, create: bool) -> Mapping[str, bytes]:
        """The part of `open_dataset` that concerns the whole data set."""
        client = self._client
        try:
            if not create and not await client.exists(keys.dataset()):
                raise DatasetUnfit("the server holds no data set of Bincard's: is it the right one?")
            wanted = {"format": FORMAT, "partitions": str(partitions).encode(), "secret": secret}
            for field, value in wanted.items():
                await client.hsetnx(keys.dataset(), field, value)
            found = cast("dict[bytes, bytes]", await client.hgetall(keys.dataset()))
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error
        return {field.decode(): value for field, value in found.items()}

    async def begin_partitions(self, partitions: Sequence[int], mark: str) -> None:
        """The part of `open_dataset` that concerns partitions."""
        try:
            pipeline = self._client.pipeline(transaction=False)
            for partition in partitions:
                pipeline.hsetnx(keys.meta(partition), "epoch", "1")
                pipeline.hsetnx(keys.meta(partition), "seq", "0")
                pipeline.hsetnx(keys.meta(partition), "dataset", mark)
            await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error

    async def ask(self, *words: str) -> object:
        """The reply to a command of administration, as the server gives it. Raises `StorageUnavailable`."""
        try:
            # The client leaves this method untyped.
            return await cast("Any", self._client).execute_command(*words)
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"{self.name} gives no answer: {error}") from error

    async def server_settings(self, *names: str) -> Mapping[str, str]:
        """Settings as the server has them. Raises `StorageUnavailable`."""
        try:
            found = await self._client.config_get(*names)
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server's settings cannot be read: {error}") from error
        return {_text(name): _text(value) for name, value in found.items()}

    async def server_info(self) -> Mapping[str, str]:
        """The server's INFO. Raises `StorageUnavailable`."""
        try:
            found = await self._client.info()
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error
        return {str(name): str(value) for name, value in found.items()}

    async def replicas(self) -> "Sequence[Standalone]":
        """The replicas that are connected and up to date but for a moment. Raises `StorageUnavailable`."""
        try:
            told = await self._client.info("replication")
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error
        access = self._server.access
        return [
            Standalone(ServerUrl("standalone", (Address(one["ip"], int(one["port"])),), access))
            for name, one in told.items()
            if isinstance(one, dict) and name.startswith("slave") and one.get("state") == "online"
        ]

    async def read_hash(self, key: str) -> dict[bytes, bytes]:
        """A whole hash; for set-up, settings and audits."""
        try:
            return cast("dict[bytes, bytes]", await self._client.hgetall(key))
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error

    async def write_hash(self, key: str, fields: Mapping[str, bytes]) -> None:
        """Sets fields of a hash, all at once; to begin a data set. Raises `StorageUnavailable`."""
        try:
            words = [word for name, value in fields.items() for word in (name.encode(), value)]
            await cast("Any", self._client).execute_command("HSET", key, *words)
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be written to: {error}") from error

    async def running_commands(self) -> Sequence[str]:
        """The last command of each connection. Raises `StorageUnavailable`."""
        try:
            found = await self._client.client_list()
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the connections cannot be listed: {error}") from error
        return [str(one.get("cmd", "")) for one in found]

    async def scan_keys(self, pattern: str) -> AsyncIterator[str]:
        """Keys that match, each at least once."""
        try:
            async for key in self._client.scan_iter(match=pattern, count=1000):
                yield _text(key)
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error

    async def scan_hash(self, key: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """The fields of a large hash, each at least once."""
        try:
            async for field, value in self._client.hscan_iter(key, count=1000):
                yield field, value
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error

    async def scan_sorted(self, key: str) -> AsyncIterator[tuple[bytes, float]]:
        """The members of a large sorted set with their scores, each at least once, in no order."""
        try:
            async for member, score in self._client.zscan_iter(key, count=1000):
                yield member, score
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error

    async def read_stream(
        self, key: str, after: str, count: int, *, until: str = "+"
    ) -> list[tuple[str, bytes]]:
        """The next entries of a ledger: id and the packed events, empty where an entry has none."""
        try:
            found = await self._client.xrange(key, min=f"({after}", max=until, count=count)
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
        return [(entry.decode(), fields.get(b"e", b"")) for entry, fields in entries]

    async def read_at_once(self, *requests: Sequence[str | bytes | int]) -> list[object]:
        """The replies to reading commands, all as of one moment. Raises `StorageUnavailable`."""
        try:
            # One command is of one moment anyway; and a server short of memory takes no transaction.
            pipeline = self._client.pipeline(transaction=len(requests) > 1)
            for request in requests:
                pipeline.execute_command(*request)
            return cast("list[object]", await pipeline.execute())
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error

    async def listen(self, channel: str) -> AsyncIterator[None]:
        """Yields at each message of a channel. Raises `StorageUnavailable`, also after 30 s of silence."""
        async with self._client.pubsub() as pubsub:
            try:
                await pubsub.subscribe(channel)
                async for message in pubsub.listen():
                    if message["type"] == "message":
                        yield
            except (RedisError, OSError) as error:
                raise StorageUnavailable(f"{self.name} gives no answer: {error}") from error

    async def user_flags(self, user: str) -> Sequence[str]:
        """What the server's access list says of a user: `on`, `nopass`, … Raises `StorageUnavailable`."""
        try:
            found = cast("dict[str, Sequence[object]]", await self._client.acl_getuser(user))
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the access list cannot be read: {error}") from error
        return [_text(flag) for flag in found["flags"]] if found else []

    async def close(self) -> None:
        """Closes the client's connections."""
        await self._client.aclose()


def is_elsewhere(error: StorageUnavailable) -> bool:
    """Whether another server, or the same one a moment later, may give the answer that this one did not."""
    cause = error.__cause__
    return isinstance(cause, _ELSEWHERE) and not isinstance(cause, AuthenticationError | AuthorizationError)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
