"""Server CPU of every operation against the bare script, and what one engine process reaches.

`python -m benchmarks.micro`
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks import measure, servers, shop
from benchmarks.measure import Figure, Pairs, Proof, figure_of
from benchmarks.micro.throughput import concurrency_figures, throughput_figures
from benchmarks.micro.verbs import SKUS, TAPS, VERBS, Bench, Verb
from benchmarks.servers import Log, Store
from benchmarks.yardstick import BareScript
from engine import connect

BATCHES = (1, 8, 64)
TARGET_BATCH = 64
TARGETS: dict[tuple[str, Log], float] = {
    ("reserve", "off"): 1.6,
    ("reserve", "always"): 1.3,
    **{
        (verb, log): 1.0
        for verb in ("commit", "reserve of 10 lines", "refusal", "expire")
        for log in ("off", "always")
    },
}
DOES_NOT_SHOW = (
    "Latency under a fixed rate, HTTP, a network, large key spaces (see scale), or the engine's own CPU "
    "except where a figure is called codec or throughput. The yardstick keeps no record of what it promised."
)


class Plan:
    """How much to measure."""

    def __init__(self, *, quick: bool, pairs: int) -> None:
        self.pairs = 2 if quick else pairs
        self.batches: Sequence[int] = (1, 64) if quick else BATCHES
        self.taps = 10 if quick else TAPS
        self.requests = 640 if quick else 12_800
        self.yardstick_requests = 10_000 if quick else 100_000
        self.reservations = 2_000 if quick else 50_000

    def count(self, verb: Verb | None, batch: int) -> int:
        """How many operations one repetition has: fewer of the slow ones."""
        requests = self.requests if batch > 1 else self.requests // 4
        if verb is not None and verb.name == "availability in 2000":
            return max(batch, requests // 64)
        if verb is not None and (verb.lines > 1 or verb.name == "availability in 100"):
            return max(batch, requests // 8)
        return requests


async def verb_figures(bench: Bench, bare: BareScript, log: Log, plan: Plan) -> list[Figure]:
    """Every operation in every batch size, each next to a run of the yardstick."""
    figures: list[Figure] = []
    for verb in VERBS:
        # Taps of their own for every verb: an inventory remembers its reservations.
        async with bench.taps(plan.taps):
            figures += [await batch_figure(bench, bare, log, plan, verb, batch) for batch in plan.batches]
            if log == "off":
                figures += await codec_figures(bench, verb, plan)
    return figures + [await batch_figure(bench, bare, log, plan, None, batch) for batch in plan.batches]


async def codec_figures(bench: Bench, verb: Verb, plan: Plan) -> list[Figure]:
    """CPU of the engine's own process for one operation: until its request is written, and from the raw
    answer to the caller's result. Event loop and tasks are in it, sockets are not.
    """
    encoding, decoding = [], []
    for _ in range(plan.pairs):
        await bench.measure(verb, TARGET_BATCH, plan.count(verb, TARGET_BATCH))
        encoding.append(bench.encode_micros)
        decoding.append(bench.decode_micros)
    return [
        figure_of(f"codec: {verb.name}, {step}", series, "µs", labels={"codec": step, "verb": verb.name})
        for step, series in (("plan and encode", encoding), ("decode and build", decoding))
    ]


async def batch_figure(
    bench: Bench, bare: BareScript, log: Log, plan: Plan, verb: Verb | None, batch: int
) -> Figure:
    """One operation in one batch size; no verb stands for expiry."""
    count, mine, theirs = plan.count(verb, batch), [], []
    for _ in range(plan.pairs):
        theirs.append(bare.run(plan.yardstick_requests).cpu_micros)
        if verb is None:
            mine.append(await bench.measure_expiry(batch, count))
        else:
            mine.append(await bench.measure(verb, batch, count) / verb.lines)
    name = "expire" if verb is None else verb.name
    per = " per line" if verb is not None and verb.lines > 1 else ""
    title = f"{name}{per}, batch {batch}, log {log}"
    figure = Pairs(mine, theirs).figure(
        title,
        side_unit="µs",
        target=TARGETS.get((name, log)) if batch == TARGET_BATCH else None,
        labels={"verb": name, "batch": batch, "durability": log},
    )
    print(f"{title}: {figure.value:g} ×", file=sys.stderr)
    return figure


async def measure_store(
    store: Store, bare: BareScript, free: BareScript, log: Log, plan: Plan
) -> tuple[list[Figure], Proof]:
    """All figures of one durability setting. `free` is the yardstick on a store without a log."""
    inventory = await connect(store.url)
    try:
        bench = Bench(inventory, store)
        await bench.fill()
        figures = await verb_figures(bench, bare, log, plan)
        figures += await throughput_figures(bench, free, log, pairs=plan.pairs, count=plan.reservations)
        figures += await concurrency_figures(bench, log, pairs=plan.pairs, count=plan.reservations)
        booked = await shop.add_up(inventory, bench.all_skus())
        return figures, shop.compare_sums(booked, bench.answered, name=f"log {log}")
    finally:
        await inventory.close()


def main(arguments: Sequence[str]) -> None:
    """Measures without a log, then with one that is on disk before each answer."""
    options = measure.parser_of("micro", __doc__ or "").parse_args(arguments)
    plan = Plan(quick=options.quick, pairs=options.pairs)
    figures: list[Figure] = []
    proofs: list[Proof] = []
    name = ""
    for log in ("off", "always"):
        with ExitStack() as stack:
            store = stack.enter_context(servers.store(log, options.server))
            bare = free = BareScript(store, SKUS)
            if log == "always":
                free = BareScript(stack.enter_context(servers.store("off", options.server)), SKUS)
            found, proof = shop.run_loop(measure_store(store, bare, free, log, plan))
            figures += found
            proofs.append(proof)
            name = store.name
    workload: measure.Labels = {
        "skus": SKUS,
        "yardstick": "redis-benchmark -P 64 -c 1 EVALSHA; throughput: -P 16 -c 50 on a store without a log",
        "operations_a_repetition": plan.requests,
        "pairs": plan.pairs,
    }
    result = measure.make_result(
        "micro", figures, proofs, server=name, workload=workload, does_not_show=DOES_NOT_SHOW
    )
    measure.finish(result, options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
