"""What one writes on Redis by hand: WATCH/MULTI with retries, and a lock per SKU.

Both keep a record for each reservation under its operation id, which makes a repeat harmless, and a
sorted set of deadlines. Neither keeps a change event. Both run on the server that Bincard runs on.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from benchmarks.peers.workload import TTL_SECONDS, Counters

DEADLINES = "deadlines"
LOCK_MS = 10_000
LOCK_PAUSE_SECONDS = 0.001
"""How long a caller waits before it tries again for a lock that another has."""

UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
"""Only who has the lock gives it back: the published pattern."""


class RedisPattern(ABC):
    """What both have in common: the form of the records, and the books."""

    batched = False

    def __init__(self, client: Redis) -> None:
        self.client = client

    async def prepare(self, stock: Mapping[str, int]) -> None:
        await self.client.flushall()
        async with self.client.pipeline(transaction=False) as pipe:
            for sku, units in stock.items():
                pipe.hset(_stock(sku), mapping={"on_hand": units, "held": 0, "allocated": 0})
            await pipe.execute()

    @abstractmethod
    async def reserve(self, operation: str, sku: str) -> str | None: ...

    @abstractmethod
    async def resolve(self, reservation: str, *, commit: bool) -> None: ...

    async def reserve_many(self, wanted: Sequence[tuple[str, str]]) -> list[str | None]:
        raise NotImplementedError

    async def resolve_many(self, resolved: Sequence[tuple[str, bool]]) -> None:
        raise NotImplementedError

    async def books(self, skus: Sequence[str]) -> dict[str, Counters]:
        async with self.client.pipeline(transaction=False) as pipe:
            for sku in skus:
                pipe.hmget(_stock(sku), ["on_hand", "held", "allocated"])
            found = await pipe.execute()
        return {sku: Counters(*map(int, counters)) for sku, counters in zip(skus, found, strict=True)}

    async def states(self, reservations: Sequence[str]) -> list[str]:
        async with self.client.pipeline(transaction=False) as pipe:
            for reservation in reservations:
                pipe.hget(_record(reservation), "state")
            return [str(state) for state in await pipe.execute()]


class Watched(RedisPattern):
    """Optimistic transactions: read, decide, write if nobody wrote meanwhile, else again."""

    async def reserve(self, operation: str, sku: str) -> str | None:
        stock, record = _stock(sku), _record(operation)
        async with self.client.pipeline(transaction=True) as pipe:
            while True:
                await pipe.watch(stock, record)
                if await pipe.exists(record):
                    return operation
                if not _has_one(await pipe.hmget(stock, ["on_hand", "held", "allocated"])):
                    return None
                pipe.multi()
                _write_hold(pipe, operation, sku)
                if await _execute(pipe):
                    return operation

    async def resolve(self, reservation: str, *, commit: bool) -> None:
        record = _record(reservation)
        async with self.client.pipeline(transaction=True) as pipe:
            while True:
                await pipe.watch(record)
                state, sku = await pipe.hmget(record, ["state", "sku"])
                if state != "held":
                    return
                pipe.multi()
                _write_end(pipe, reservation, str(sku), commit=commit)
                if await _execute(pipe):
                    return


class Locked(RedisPattern):
    """SET NX with an expiry per SKU. A holder that stalls beyond the expiry breaks it: it oversells then."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self._unlock = client.register_script(UNLOCK)

    @asynccontextmanager
    async def _lock(self, sku: str) -> AsyncIterator[None]:
        name, token = f"lock:{sku}", secrets.token_hex(8)
        while not await self.client.set(name, token, nx=True, px=LOCK_MS):  # noqa: ASYNC110 - the lock is in the server, nobody wakes us
            await asyncio.sleep(LOCK_PAUSE_SECONDS)
        try:
            yield
        finally:
            await self._unlock(keys=[name], args=[token])

    async def reserve(self, operation: str, sku: str) -> str | None:
        async with self._lock(sku):
            async with self.client.pipeline(transaction=False) as pipe:
                pipe.exists(_record(operation))
                pipe.hmget(_stock(sku), ["on_hand", "held", "allocated"])
                known, counters = await pipe.execute()
            if known:
                return operation
            if not _has_one(counters):
                return None
            async with self.client.pipeline(transaction=True) as pipe:
                _write_hold(pipe, operation, sku)
                await pipe.execute()
        return operation

    async def resolve(self, reservation: str, *, commit: bool) -> None:
        record = _record(reservation)
        sku = str(await self.client.hget(record, "sku"))
        async with self._lock(sku):
            if await self.client.hget(record, "state") != "held":
                return
            async with self.client.pipeline(transaction=True) as pipe:
                _write_end(pipe, reservation, sku, commit=commit)
                await pipe.execute()


def _stock(sku: str) -> str:
    return f"stock:{sku}"


def _record(operation: str) -> str:
    return f"reservation:{operation}"


def _has_one(counters: Sequence[Any]) -> bool:
    on_hand, held, allocated = map(int, counters)
    return on_hand - held - allocated >= 1


def _write_hold(pipe: Pipeline, operation: str, sku: str) -> None:
    pipe.hincrby(_stock(sku), "held", 1)
    pipe.hset(_record(operation), mapping={"sku": sku, "quantity": 1, "state": "held"})
    pipe.zadd(DEADLINES, {operation: time.time() + TTL_SECONDS})


def _write_end(pipe: Pipeline, reservation: str, sku: str, *, commit: bool) -> None:
    pipe.hincrby(_stock(sku), "held", -1)
    if commit:
        pipe.hincrby(_stock(sku), "allocated", 1)
    pipe.hset(_record(reservation), "state", "committed" if commit else "released")
    pipe.zrem(DEADLINES, reservation)


async def _execute(pipe: Pipeline) -> bool:
    try:
        await pipe.execute()
    except WatchError:
        return False
    return True


@asynccontextmanager
async def open_pattern(kind: type[RedisPattern], url: str, callers: int) -> AsyncIterator[RedisPattern]:
    """A pattern with a connection for every caller, retries off."""
    pool = BlockingConnectionPool.from_url(
        url, max_connections=callers, decode_responses=True, timeout=None, retry=None
    )
    client: Redis = Redis(connection_pool=pool)
    try:
        yield kind(client)
    finally:
        await client.aclose()
        await pool.aclose()
