"""One engine process with many callers, by the clock, against `redis-benchmark` with the bare script."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterator, Sequence

from msgspec import Struct

from benchmarks.measure import Figure, Pairs, figure_of, quantile
from benchmarks.micro.verbs import TTL_SECONDS, Bench
from benchmarks.servers import Log
from benchmarks.yardstick import MAX_CLIENTS, BareScript
from engine import Line

CALLERS = 256
CONCURRENCIES = (1, 4, 16, 64, 256, 1024)
PIPELINE = 16
P99_MILLISECONDS = 3.0
RATIO: dict[Log, float] = {"off": 0.30, "always": 0.18}


class Rate(Struct, frozen=True):
    """What a run of many callers reached."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def reserve_rate(bench: Bench, callers: int, count: int) -> Rate:
    """So many callers, each with one reserve of one line under way at a time."""
    items = [(bench.next_id(), bench.basket(1)) for _ in range(count)]
    turns, micros = iter(items), array("q")
    begun = time.perf_counter()
    await asyncio.gather(*(_call(bench, turns, micros) for _ in range(callers)))
    elapsed = time.perf_counter() - begun
    bench.answered.reserved += count
    bench.answered.answers += count
    return Rate(count / elapsed, quantile(micros, 0.5) / 1000, quantile(micros, 0.99) / 1000)


async def _call(bench: Bench, turns: Iterator[tuple[str, list[Line]]], micros: array[int]) -> None:
    reserve, clock = bench.inventory.reserve, time.perf_counter_ns
    for key, basket in turns:
        begun = clock()
        await reserve(key, basket, ttl_seconds=TTL_SECONDS)
        micros.append((clock() - begun) // 1000)


async def throughput_figures(
    bench: Bench, bare: BareScript, log: Log, *, pairs: int, count: int
) -> list[Figure]:
    """Throughput with 256 callers as a ratio to the bare script on a store without a log, and its p99."""
    rates, yards = [], []
    for _ in range(pairs):
        rates.append(await reserve_rate(bench, CALLERS, count))
        yards.append(bare.run(5 * count, pipeline=PIPELINE, clients=MAX_CLIENTS).per_second)
    labels = {"durability": log, "callers": CALLERS}
    found = Pairs([rate.per_second for rate in rates], yards)
    return [
        found.figure(
            f"engine throughput, log {log}",
            side_unit="1/s",
            target=RATIO[log],
            better="higher",
            labels=labels,
        ),
        figure_of(
            f"engine p99, log {log}",
            [rate.p99_ms for rate in rates],
            "ms",
            target=P99_MILLISECONDS,
            labels=labels,
        ),
    ]


async def concurrency_figures(
    bench: Bench, log: Log, *, pairs: int, count: int, callers: Sequence[int] = CONCURRENCIES
) -> list[Figure]:
    """Throughput and latency against the number of callers: the curve of the report."""
    figures = []
    for number in callers:
        rates = [await reserve_rate(bench, number, min(count, max(500, 100 * number))) for _ in range(pairs)]
        labels = {"durability": log, "callers": number, "curve": "concurrency"}
        for name, unit, series in (
            ("throughput", "1/s", [rate.per_second for rate in rates]),
            ("p50", "ms", [rate.p50_ms for rate in rates]),
            ("p99", "ms", [rate.p99_ms for rate in rates]),
        ):
            figures.append(
                figure_of(
                    f"{name} of {number} callers, log {log}",
                    series,
                    unit,
                    better="higher" if unit == "1/s" else "lower",
                    labels={**labels, "of": name},
                )
            )
    return figures
