"""One server, reached by `redis://`, `rediss://` or `unix://`."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from engine import keys
from engine.errors import DatasetUnfit, StorageUnavailable

CONNECT_TIMEOUT_SECONDS = 5.0
MAX_CLIENT_CONNECTIONS = 16
FORMAT = b"2"
"""The version of the stored layout. A release refuses a data set of another."""


class Standalone:
    """The client for set-up, administration and cold paths, and the way to open hot connections.

    The client never retries: a call whose reply was lost is not sent again behind our back.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._options = parse_url(url)
        # A pool that waits: the usual one raises once its connections are out.
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CLIENT_CONNECTIONS,
            timeout=CONNECT_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            socket_timeout=30.0,
        )
        self._client: Redis = Redis.from_pool(pool)

    @property
    def greeting(self) -> Sequence[Sequence[bytes]]:
        """The commands that a new connection starts with."""
        commands: list[list[bytes]] = []
        password = self._options.get("password")
        if password is not None:
            user = self._options.get("username") or "default"
            commands.append([b"AUTH", str(user).encode(), str(password).encode()])
        database = self._options.get("db")
        if database:
            commands.append([b"SELECT", str(database).encode()])
        return commands

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Opens a connection and gives it to the protocol. Raises `OSError`, `TimeoutError`."""
        loop, options = asyncio.get_running_loop(), self._options
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            if "path" in options:
                await loop.create_unix_connection(protocol, str(options["path"]))
                return
            secure = self.url.startswith("rediss://")
            await loop.create_connection(
                protocol,
                str(options.get("host", "localhost")),
                int(str(options.get("port", 6379))),
                ssl=ssl.create_default_context() if secure else None,
            )

    async def load_library(self, text: str) -> None:
        """Gives the server our functions; a library of the same name has the same text."""
        try:
            await self._client.function_load(text, replace=True)
        except RedisError as error:
            raise StorageUnavailable(f"the server does not take the scripts: {error}") from error

    async def open_dataset(
        self, partitions: int | None, secret: bytes, *, create: bool
    ) -> Mapping[str, bytes]:
        """What was fixed when the data set was made; made now where there is none and `create` allows.

        Every field is set only if absent, so that several may start at once and a start that was cut
        short is completed by the next. Raises `StorageUnavailable`.
        """
        client = self._client
        try:
            if not create and not await client.exists(keys.dataset()):
                raise DatasetUnfit("the server holds no data set of Bincard's: is it the right one?")
            wanted = {"format": FORMAT, "partitions": str(partitions or 1).encode(), "secret": secret}
            for field, value in wanted.items():
                await client.hsetnx(keys.dataset(), field, value)
            found = cast("dict[bytes, bytes]", await client.hgetall(keys.dataset()))
            pipeline = client.pipeline(transaction=False)
            for partition in range(int(found[b"partitions"])):
                pipeline.hsetnx(keys.meta(partition), "epoch", "1")
                pipeline.hsetnx(keys.meta(partition), "seq", "0")
            await pipeline.execute()
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error
        return {field.decode(): value for field, value in found.items()}

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

    async def read_hash(self, key: str) -> dict[bytes, bytes]:
        """A whole hash; for set-up, settings and audits."""
        try:
            return cast("dict[bytes, bytes]", await self._client.hgetall(key))
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error

    async def scan_keys(self, pattern: str) -> AsyncIterator[str]:
        """Keys that match, each at least once."""
        async for key in self._client.scan_iter(match=pattern, count=1000):
            yield _text(key)

    async def scan_hash(self, key: str) -> AsyncIterator[tuple[bytes, bytes]]:
        """The fields of a large hash, each at least once."""
        async for field, value in self._client.hscan_iter(key, count=1000):
            yield field, value

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

    async def read_together(self, *key_list: str) -> list[dict[bytes, bytes]]:
        """Several hashes as they stand at one moment."""
        try:
            pipeline = self._client.pipeline(transaction=True)
            for key in key_list:
                pipeline.hgetall(key)
            return cast("list[dict[bytes, bytes]]", await pipeline.execute())
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error

    async def read_at_once(self, *requests: Sequence[str | bytes | int]) -> list[object]:
        """The replies to reading commands, all as of one moment. Raises `StorageUnavailable`."""
        try:
            pipeline = self._client.pipeline(transaction=True)
            for request in requests:
                pipeline.execute_command(*request)
            return cast("list[object]", await pipeline.execute())
        except (RedisError, OSError) as error:
            raise StorageUnavailable(f"the server cannot be reached: {error}") from error

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


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
