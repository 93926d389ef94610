"""The regression gate: a few ratios against those that are committed; 20 % worse fails.

`python -m benchmarks.gate` compares, with `--rebase` it writes the baseline anew: run that on a quiet
machine, and commit the file together with the reason. All sides are CPU time, never the clock, so that
other work on the machine matters little; sides alternate, medians count, and what fails is measured
again a few times: other work only ever adds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks import measure, servers, shop
from benchmarks.measure import RESULTS, BenchmarkError, Figure, Pairs, Proof, Result, find_figure, read_result
from benchmarks.micro.throughput import CALLERS, reserve_rate
from benchmarks.micro.verbs import AVAILABILITY, COMMIT, RESERVE, SKUS, Bench, Verb
from benchmarks.servers import Store
from benchmarks.yardstick import BareScript
from engine import connect

BASELINE = RESULTS / "baseline.json"
SERVER = "valkey"
"""The store from the wheel: the same everywhere, whatever else is installed."""
WORSE = 1.2
PAIRS = 7
AGAIN = 3
BATCH = 64
TAPS = 25
REQUESTS = 3_200
YARDSTICK_REQUESTS = 50_000
ENGINE_REQUESTS = 10_000
ENGINE = "engine process, reserve of 256 callers"
VERBS: Mapping[str, Verb] = {
    f"store, {verb.name}, batch {BATCH}": verb for verb in (RESERVE, COMMIT, AVAILABILITY)
}
NAMES = (*VERBS, ENGINE)
DOES_NOT_SHOW = (
    "Anything but whether CPU grew: short runs without a log, on one key space of a thousand SKUs."
)


class Gate:
    """Measures single ratios on a running store."""

    def __init__(self, bench: Bench, bare: BareScript, pairs: int) -> None:
        self._bench = bench
        self._bare = bare
        self._pairs = pairs

    async def measure(self, name: str) -> Figure:
        """CPU of one operation against that of the bare script on the store."""
        if name == ENGINE:
            return await self._pair(name, self._engine_cpu)
        verb = VERBS[name]
        async with self._bench.taps(TAPS):
            return await self._pair(name, lambda: self._bench.measure(verb, BATCH, REQUESTS))

    async def _pair(self, name: str, subject: Callable[[], Awaitable[float]]) -> Figure:
        mine, theirs = [], []
        for _ in range(self._pairs):
            theirs.append(self._bare.run(YARDSTICK_REQUESTS).cpu_micros)
            mine.append(await subject())
        return Pairs(mine, theirs).figure(name, side_unit="µs")

    async def _engine_cpu(self) -> float:
        """CPU of this process for one reserve, in microseconds."""
        before = time.process_time()
        await reserve_rate(self._bench, CALLERS, ENGINE_REQUESTS)
        return (time.process_time() - before) / ENGINE_REQUESTS * 1e6


@asynccontextmanager
async def opened(store: Store, pairs: int) -> AsyncIterator[tuple[Gate, Bench]]:
    """A gate on a filled data set."""
    inventory = await connect(store.url)
    try:
        bench = Bench(inventory, store)
        await bench.fill()
        yield Gate(bench, BareScript(store, SKUS), pairs), bench
    finally:
        await inventory.close()


def worse_than(baseline: Result, figure: Figure) -> str | None:
    """What to say of a figure that is worse than its baseline by more than the margin."""
    known = find_figure(baseline, figure.name).value
    if figure.value <= WORSE * known:
        return None
    more = f"{figure.value / known - 1:.0%} more than the {known:.3g} × before"
    return f"{figure.name}: {figure.value:.3g} × the bare script, {more}"


async def compare(store: Store, baseline: Result, pairs: int) -> tuple[list[Figure], list[str]]:
    """Every ratio, and what is worse however often it is measured."""
    figures: list[Figure] = []
    faults: list[str] = []
    async with opened(store, pairs) as (gate, bench):
        for name in NAMES:
            figure = await gate.measure(name)
            for _ in range(AGAIN):
                if worse_than(baseline, figure) is None:
                    break
                figure = min(figure, await gate.measure(name), key=lambda one: one.value)
            figures.append(figure)
            fault = worse_than(baseline, figure)
            if fault:
                faults.append(fault)
        shop.require(await _prove(bench))
    return figures, faults


async def rebase(store: Store, pairs: int) -> tuple[list[Figure], Proof]:
    """Every ratio anew, and the proof."""
    async with opened(store, pairs) as (gate, bench):
        figures = [await gate.measure(name) for name in NAMES]
        return figures, await _prove(bench)


async def _prove(bench: Bench) -> Proof:
    booked = await shop.add_up(bench.inventory, bench.all_skus())
    return shop.compare_sums(booked, bench.answered)


def check(baseline: Path = BASELINE, *, pairs: int = PAIRS) -> tuple[list[Figure], list[str]]:
    """Runs the gate; the second value tells what got worse. Raises `BenchmarkError`."""
    known = read_result(baseline)
    with servers.store("off", SERVER) as store:
        return shop.run_loop(compare(store, known, pairs))


def main(arguments: Sequence[str]) -> None:
    """Compares, or with `--rebase` writes the baseline."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gate", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rebase", action="store_true", help="write the baseline anew")
    parser.add_argument("--baseline", type=Path, default=BASELINE, help="default: %(default)s")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if options.rebase:
        with servers.store("off", SERVER) as store:
            figures, proof = shop.run_loop(rebase(store, options.pairs))
        result = measure.make_result(
            "gate",
            figures,
            [proof],
            server=store.name,
            workload={"batch": BATCH, "skus": SKUS, "requests": REQUESTS, "pairs": options.pairs},
            does_not_show=DOES_NOT_SHOW,
        )
        measure.write_result(result, options.baseline)
        faults: list[str] = []
    else:
        figures, faults = check(options.baseline, pairs=options.pairs)
    for figure in figures:
        print(f"{figure.name}: {figure.value:.3g} × the bare script")
    if faults:
        raise BenchmarkError("slower than the baseline: " + "; ".join(faults))


if __name__ == "__main__":
    sys.exit(measure.run(main))
