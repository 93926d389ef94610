"""PostgreSQL with asyncpg: functions that do all in one round trip, or a transaction as ORMs do it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import asyncpg

from benchmarks.peers.cluster import Cluster
from benchmarks.peers.workload import LOCATION, TTL_SECONDS, Counters

SCHEMA = Path(__file__).with_name("schema.sql")
TTL = timedelta(seconds=TTL_SECONDS)
SLOTS = 16
STATES = ("held", "committed", "released")

Style = Literal["function", "slots", "for_update"]
Statements = dict[str, Any]


class Connection:
    """A connection with its statements prepared."""

    def __init__(self, raw: asyncpg.Connection[asyncpg.Record]) -> None:
        self.raw = raw
        self.statements: Statements = {}

    async def prepare(self, queries: Mapping[str, str]) -> None:
        for name, query in queries.items():
            self.statements[name] = await self.raw.prepare(query)
        # Parsing takes locks and keeps them until the next statement is over.
        await self.raw.fetchval("SELECT 1")


WHERE_POSITION = f"WHERE sku = $1 AND location = '{LOCATION}' AND slot = 0"
QUERIES: dict[Style, dict[str, str]] = {
    "function": {
        "reserve": f"SELECT reserve($1, $2, '{LOCATION}', 1, $3)",
        "resolve": "SELECT resolve($1, $2)",
        "reserve_many": f"SELECT reserve_many($1, $2, '{LOCATION}', $3, $4)",
        "resolve_many": f"SELECT resolve_many($1, $2, '{LOCATION}')",
    },
    "slots": {
        "reserve": f"SELECT reserve_in_slots($1, $2, '{LOCATION}', 1, $3)",
        "resolve": "SELECT resolve($1, $2)",
    },
    "for_update": {
        "find_stock": f"SELECT on_hand, held, allocated FROM stock {WHERE_POSITION} FOR UPDATE",  # noqa: S608 - constants of ours
        "save_stock": f"UPDATE stock SET held = $2, allocated = $3 {WHERE_POSITION}",  # noqa: S608 - as above
        "find": "SELECT sku, state FROM reservation WHERE id = $1 FOR UPDATE",
        "insert": (
            "INSERT INTO reservation (id, sku, location, slot, quantity, expires_at) "  # noqa: S608 - as above
            f"VALUES ($1, $2, '{LOCATION}', 0, 1, now() + $3)"
        ),
        "save": "UPDATE reservation SET state = $2 WHERE id = $1",
    },
}


class Postgres:
    """A pool without ceremony: whoever has a connection has it to himself, nothing is reset between."""

    def __init__(self, connections: Sequence[Connection], style: Style) -> None:
        self.batched = style == "function"
        self._style: Style = style
        self._all = connections
        self._free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
        for connection in connections:
            self._free.put_nowait(connection)

    async def prepare(self, stock: Mapping[str, int]) -> None:
        raw = self._all[0].raw
        await raw.execute("TRUNCATE stock, reservation")
        slots = SLOTS if self._style == "slots" else 1
        rows = [
            (sku, LOCATION, slot, units // slots + (slot < units % slots))
            for sku, units in stock.items()
            for slot in range(slots)
        ]
        await raw.copy_records_to_table("stock", records=rows, columns=("sku", "location", "slot", "on_hand"))
        await raw.execute("VACUUM ANALYZE stock")
        await raw.execute("CHECKPOINT")

    async def reserve(self, operation: str, sku: str) -> str | None:
        connection = await self._free.get()
        try:
            if self._style == "for_update":
                held = await _reserve_for_update(connection, _uuid(operation), sku)
            else:
                held = await _reserve(connection, _uuid(operation), sku)
        finally:
            self._free.put_nowait(connection)
        return operation if held else None

    async def resolve(self, reservation: str, *, commit: bool) -> None:
        connection = await self._free.get()
        try:
            if self._style == "for_update":
                await _resolve_for_update(connection, _uuid(reservation), commit=commit)
            else:
                await connection.statements["resolve"].fetchval(_uuid(reservation), commit)
        finally:
            self._free.put_nowait(connection)

    async def reserve_many(self, wanted: Sequence[tuple[str, str]]) -> list[str | None]:
        ids = [_uuid(operation) for operation, _ in wanted]
        connection = await self._free.get()
        try:
            found = await connection.statements["reserve_many"].fetchval(
                ids, [sku for _, sku in wanted], [1] * len(ids), TTL
            )
        finally:
            self._free.put_nowait(connection)
        held = set(found or ())
        return [operation if name in held else None for name, (operation, _) in zip(ids, wanted, strict=True)]

    async def resolve_many(self, resolved: Sequence[tuple[str, bool]]) -> None:
        connection = await self._free.get()
        try:
            await connection.statements["resolve_many"].fetchval(
                [_uuid(reservation) for reservation, _ in resolved], [commit for _, commit in resolved]
            )
        finally:
            self._free.put_nowait(connection)

    async def books(self, skus: Sequence[str]) -> dict[str, Counters]:
        rows = await self._all[0].raw.fetch(
            "SELECT sku, sum(on_hand)::bigint, sum(held)::bigint, sum(allocated)::bigint FROM stock "
            "WHERE sku = ANY ($1) GROUP BY sku",
            list(skus),
        )
        return {row[0]: Counters(row[1], row[2], row[3]) for row in rows}

    async def states(self, reservations: Sequence[str]) -> list[str]:
        rows = await self._all[0].raw.fetch(
            "SELECT id, state FROM reservation WHERE id = ANY ($1)", [_uuid(name) for name in reservations]
        )
        found = {row[0]: STATES[row[1]] for row in rows}
        return [found.get(_uuid(name), "missing") for name in reservations]


async def _reserve(connection: Connection, operation: UUID, sku: str) -> bool:
    while True:
        try:
            return bool(await connection.statements["reserve"].fetchval(operation, sku, TTL))
        except asyncpg.DeadlockDetectedError:
            continue


async def _reserve_for_update(connection: Connection, operation: UUID, sku: str) -> bool:
    statements = connection.statements
    async with connection.raw.transaction():
        on_hand, held, allocated = await statements["find_stock"].fetchrow(sku)
        if await statements["find"].fetchrow(operation) is not None:
            return True
        if on_hand - held - allocated < 1:
            return False
        await statements["save_stock"].fetchrow(sku, held + 1, allocated)
        await statements["insert"].fetchrow(operation, sku, TTL)
    return True


async def _resolve_for_update(connection: Connection, reservation: UUID, *, commit: bool) -> None:
    statements = connection.statements
    async with connection.raw.transaction():
        sku, state = await statements["find"].fetchrow(reservation)
        if state != 0:
            return
        _, held, allocated = await statements["find_stock"].fetchrow(sku)
        await statements["save"].fetchrow(reservation, 1 if commit else 2)
        await statements["save_stock"].fetchrow(sku, held - 1, allocated + commit)


def _uuid(operation: str) -> UUID:
    return UUID(bytes=hashlib.md5(operation.encode(), usedforsecurity=False).digest())


async def create_schema(cluster: Cluster) -> None:
    """Tables and functions, once a session."""
    raw = await asyncpg.connect(host=str(cluster.socket_dir), user=cluster.user, database="postgres")
    try:
        await raw.execute(SCHEMA.read_text(encoding="utf-8"))
    finally:
        await raw.close()


@asynccontextmanager
async def open_postgres(cluster: Cluster, style: Style, connections: int) -> AsyncIterator[Postgres]:
    """So many connections, each with the style's statements prepared."""
    opened: list[Connection] = []
    try:
        for _ in range(connections):
            raw = await asyncpg.connect(host=str(cluster.socket_dir), user=cluster.user, database="postgres")
            opened.append(Connection(raw))
            await opened[-1].prepare(QUERIES[style])
        yield Postgres(opened, style)
    finally:
        for connection in opened:
            await connection.raw.close()
