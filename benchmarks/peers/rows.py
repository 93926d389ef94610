"""The rows of the table: who is measured, how, and which of the promises each one lacks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.peers.bincard import open_bincard
from benchmarks.peers.cluster import Cluster
from benchmarks.peers.drive import measure
from benchmarks.peers.postgres import SLOTS, Style, open_postgres
from benchmarks.peers.programs import measure_bare, measure_pgbench
from benchmarks.peers.redis_patterns import Locked, RedisPattern, Watched, open_pattern
from benchmarks.peers.workload import Measured, Peer, Side, Workload
from engine.topology.embedded import EmbeddedServer

Durability = Literal["none", "local"]
CALLERS = 64
BATCH = 100


@dataclass(frozen=True, slots=True)
class Session:
    """What all rows of one session share."""

    directory: Path
    server: Path
    durability: Durability
    cluster: Cluster | None
    warm_up: float
    seconds: float


Measure = Callable[[Session, Workload], Coroutine[None, None, Measured]]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `lacks` names the promises of Bincard that it does not keep."""

    name: str
    side: Side
    batch: int
    callers: int
    measure: Measure
    lacks: tuple[str, ...] = ()
    needs_postgres: bool = False


_NO_EVENT = "change event"
_NO_BASKET = "several lines in one reservation"
_NO_CONTENT = "refusal of the same id with other content"
PATTERN_LACKS = (_NO_EVENT, _NO_BASKET, _NO_CONTENT)
BARE_LACKS = ("record", "deadline", "idempotency", "commit and release", _NO_EVENT, _NO_BASKET)


@dataclass(frozen=True, slots=True)
class _Shape:
    callers: int = CALLERS
    batch: int = 1

    async def drive(self, peer: Peer, session: Session, workload: Workload) -> Measured:
        return await measure(
            peer,
            workload,
            callers=self.callers,
            batch=self.batch,
            warm_up=session.warm_up,
            seconds=session.seconds,
        )


def _bare(pipeline: int) -> Measure:
    async def run(session: Session, workload: Workload) -> Measured:
        with _empty_server(session) as server:
            return await measure_bare(
                server.url, workload, callers=CALLERS, pipeline=pipeline, seconds=session.seconds
            )

    return run


def _on_server(open_peer: Callable[[str], AbstractAsyncContextManager[Peer]], row: _Shape) -> Measure:
    async def run(session: Session, workload: Workload) -> Measured:
        with _empty_server(session) as server:
            async with open_peer(server.url) as peer:
                return await row.drive(peer, session, workload)

    return run


def _empty_server(session: Session) -> EmbeddedServer:
    """A server that nobody used before, so that no run pays for what another left."""
    return EmbeddedServer.start(
        Path(tempfile.mkdtemp(dir=session.directory)), durability=session.durability, binary=session.server
    )


def _bincard(name: str, shape: _Shape) -> Row:
    return Row(name, "bincard", shape.batch, shape.callers, _on_server(open_bincard, shape))


def _pattern(name: str, kind: type[RedisPattern], *lacks: str) -> Row:
    def open_peer(url: str) -> AbstractAsyncContextManager[Peer]:
        return open_pattern(kind, url, CALLERS)

    run = _on_server(open_peer, _Shape())
    return Row(name, "peer", 1, CALLERS, run, (*PATTERN_LACKS, *lacks))


def _postgres(name: str, style: Style, connections: int, shape: _Shape | None = None, *lacks: str) -> Row:
    shape = shape or _Shape()

    async def run(session: Session, workload: Workload) -> Measured:
        assert session.cluster is not None
        async with open_postgres(session.cluster, style, connections) as peer:
            return await shape.drive(peer, session, workload)

    label = f"PostgreSQL, {name}, {connections} connections"
    missing = (*PATTERN_LACKS, *lacks)
    return Row(label, "peer", shape.batch, shape.callers, run, missing, needs_postgres=True)


async def _pgbench(session: Session, workload: Workload) -> Measured:
    assert session.cluster is not None
    return await measure_pgbench(
        session.cluster, workload, callers=CALLERS, warm_up=session.warm_up, seconds=session.seconds
    )


ROWS: tuple[Row, ...] = (
    Row("bare script, redis-benchmark", "yardstick", 1, CALLERS, _bare(1), BARE_LACKS),
    Row("bare script, redis-benchmark -P 16", "yardstick", 1, CALLERS, _bare(16), BARE_LACKS),
    _bincard("Bincard", _Shape()),
    _pattern("Redis WATCH/MULTI", Watched),
    _pattern("Redis lock per SKU", Locked, "safety while a lock holder stalls"),
    _postgres("function", "function", 64),
    _postgres("function", "function", 16),
    _postgres("function", "function", 8),
    _postgres(
        f"function, {SLOTS} rows a SKU", "slots", 64, None, "quantities that span the rows of a position"
    ),
    _postgres("SELECT FOR UPDATE", "for_update", 64),
    Row(
        "PostgreSQL, function, pgbench",
        "peer",
        1,
        CALLERS,
        _pgbench,
        PATTERN_LACKS,
        needs_postgres=True,
    ),
    *(
        _bincard(f"Bincard, {BATCH} a call, {callers} callers", _Shape(callers, BATCH))
        for callers in (1, 4, CALLERS)
    ),
    *(
        _postgres(f"function, {BATCH} a call", "function", connections, _Shape(connections, BATCH))
        for connections in (1, 4, 16)
    ),
)
