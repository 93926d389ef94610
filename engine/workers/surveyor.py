"""Reads a few figures from each server and partition: memory, clock, deadlines, the ledger's length."""

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import cast

from engine import keys
from engine.errors import StorageUnavailable
from engine.events import parse_version
from engine.figures import PartitionFigures, ServerFigures, StoreFigures
from engine.inventory import Inventory
from engine.topology import Standalone

TICK_SECONDS = 1.0
REST_FOR_WORK = 39
"""Rests so many times as long as it worked, where there are many partitions."""
LONGEST_REST_SECONDS = 2.0
"""Part of the work is to wait for a server that may be slow, and figures must not become old."""
ANSWER_SECONDS = 2.0
BEHIND_HOLDS, BEHIND_MEMORIES, BEHIND_REPAIRS = 2**50, 2**51, 2**52
"""Where the kinds of entries begin in the deadline index: see `lua/lib/batch.lua`."""
_NO_CURSOR = b"0.0"


class Surveyor:
    """Looks at the store each second. Several may, each for itself: it writes nothing."""

    name = "surveyor"

    def __init__(self, inventory: Inventory) -> None:
        self._topology = inventory.dataset.topology
        self._partitions = range(inventory.dataset.partitions)
        self._epochs: dict[int, int] = {}
        self._epoch_changes = 0
        self.figures: StoreFigures | None = None
        """What was found last."""

    async def tick(self) -> float:
        """Looks once. Raises `StorageUnavailable`, also where a server hangs."""
        begun = monotonic()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                servers = await self._topology.servers()
                figures = await asyncio.gather(*map(_read_server, servers))
                partitions = await asyncio.gather(*map(self._read_partition, self._partitions))
        except TimeoutError as late:
            raise StorageUnavailable(f"no figures came within {ANSWER_SECONDS:g} s") from late
        for partition, found in zip(self._partitions, partitions, strict=True):
            self._epoch_changes += self._epochs.get(partition, found.epoch) != found.epoch
            self._epochs[partition] = found.epoch
        self.figures = StoreFigures(figures, partitions, self._epoch_changes, monotonic())
        return min(max(TICK_SECONDS, REST_FOR_WORK * (monotonic() - begun)), LONGEST_REST_SECONDS)

    async def _read_partition(self, partition: int) -> PartitionFigures:
        due = keys.due(partition)
        head, time, hold, repair, entries, cursor = await self._topology.read_at_once(
            ("HMGET", keys.meta(partition), "epoch", "seq", "skew"),
            ("TIME",),
            ("ZRANGEBYSCORE", due, "-inf", f"({BEHIND_HOLDS}", "WITHSCORES", "LIMIT", 0, 1),
            ("ZRANGEBYSCORE", due, BEHIND_MEMORIES, f"({BEHIND_REPAIRS}", "WITHSCORES", "LIMIT", 0, 1),
            ("XLEN", keys.log(partition)),
            ("HGET", keys.found(partition), "cursor"),
        )
        epoch, seq, skew = (int(number or 0) for number in cast("list[bytes | None]", head))
        now_ms = _milliseconds(time) - skew
        indexed = parse_version((cast("bytes | None", cursor) or _NO_CURSOR).decode())
        return PartitionFigures(
            epoch,
            seq,
            skew,
            _age_of(hold, now_ms),
            _age_of(repair, now_ms + BEHIND_MEMORIES),
            cast("int", entries),
            max(0, seq - indexed.seq),
        )


def _age_of(found: object, now_ms: int) -> int:
    """How long the first entry of a range has been due."""
    first = cast("Sequence[object]", found)
    if not first:
        return 0
    # One client gives pairs, another a flat list.
    score = first[0][1] if isinstance(first[0], (tuple, list)) else first[1]
    return max(0, now_ms - int(float(cast("float", score))))


def _milliseconds(time: object) -> int:
    seconds, microseconds = cast("tuple[int, int]", time)
    return int(seconds) * 1000 + int(microseconds) // 1000


async def _read_server(server: Standalone) -> ServerFigures:
    asked_at = monotonic()
    (time,) = await server.read_at_once(("TIME",))
    told_at = (asked_at + monotonic()) / 2
    told = await server.server_info()

    def number(name: str) -> int:
        return _number(told, name)

    return ServerFigures(
        server.name,
        number("used_memory"),
        number("maxmemory"),
        number("used_memory_peak"),
        number("used_memory_rss"),
        number("total_system_memory"),
        max(number("aof_last_cow_size"), number("rdb_last_cow_size")),
        number("latest_fork_usec") / 1e6,
        number("aof_rewrite_in_progress") + number("rdb_bgsave_in_progress") > 0,
        told.get("aof_last_write_status", "ok") == "ok",
        number("connected_slaves"),
        number("uptime_in_seconds"),
        _milliseconds(time),
        told_at,
    )


def _number(told: Mapping[str, str], name: str) -> int:
    text = told.get(name, "0")
    return int(text) if text.isdigit() else 0
