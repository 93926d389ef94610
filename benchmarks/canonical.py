"""The canonical workload: two numbers, then the proof that they were earned.

256 callers of one engine process hold one unit each of a random SKU, then commit 90 % and release 10 %.
The store is an embedded server with durability `local`: an answer means that the log is on disk.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

# Run as a file, Python looks for modules in benchmarks/ instead of the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from msgspec import Struct

from benchmarks import measure, servers, shop
from benchmarks.measure import SEED, Figure, Labels, Proof, figure_of, quantile
from engine import Inventory, Line, connect
from engine.audit import audit
from engine.errors import InsufficientStock
from engine.topology.embedded import EmbeddedServer

CALLERS = 256
SKUS = 10_000
SCARCE_SHARE = 0.02
"""Of the SKUs; each has so few units that they sell out, so that the proof has something to prove."""
SCARCE_UNITS = 3
COMMITTED_SHARE = 0.9
ROUND_RESERVATIONS = 40_000
DOES_NOT_SHOW = (
    "HTTP, a network, several processes, several locations a SKU, baskets of more than one line, a disk that "
    "is slower than this one; client and store share the cores."
)


class Round(Struct):
    """What one round was told. Latencies are in microseconds, as a caller sees them."""

    seconds: float
    reserved: int
    refused: int
    reserve_micros: array[int]
    settle_micros: array[int]


class Shop:
    """The callers, and what they were told for each SKU."""

    def __init__(self, inventory: Inventory, units: Sequence[int]) -> None:
        self._inventory = inventory
        self._units = units
        self._skus = [shop.sku_name(number) for number in range(len(units))]
        self._place = shop.location_name(0)
        self.committed = [0] * len(units)
        self.refused = [0] * len(units)
        self.answers = 0

    async def fill(self) -> None:
        """Creates the location and brings the stock."""
        await shop.open_locations(self._inventory, 1)
        await shop.receive(
            self._inventory,
            ((sku, self._place, units) for sku, units in zip(self._skus, self._units, strict=True)),
        )

    async def sell(self, number: int, reservations: int) -> Round:
        """One round: callers take numbers from one list until it is empty."""
        chance = random.Random(SEED + number)
        chosen = chance.choices(range(len(self._units)), k=reservations)
        kept = [chance.random() < COMMITTED_SHARE for _ in range(reservations)]
        turns = iter(range(reservations))
        told = Round(0.0, 0, 0, array("q"), array("q"))
        begun = time.perf_counter()
        await asyncio.gather(*(self._call(turns, number, chosen, kept, told) for _ in range(CALLERS)))
        told.seconds = time.perf_counter() - begun
        return told

    async def _call(
        self, turns: Iterator[int], number: int, chosen: Sequence[int], kept: Sequence[bool], told: Round
    ) -> None:
        inventory, clock, skus = self._inventory, time.perf_counter_ns, self._skus
        for turn in turns:
            sku = chosen[turn]
            begun = clock()
            try:
                held = await inventory.reserve(f"{number}-{turn}", [Line(skus[sku], 1, self._place)])
            except InsufficientStock:
                told.refused += 1
                self.refused[sku] += 1
                continue
            between = clock()
            if kept[turn]:
                await inventory.commit(held.id)
                self.committed[sku] += 1
            else:
                await inventory.release(held.id)
            told.reserve_micros.append((between - begun) // 1000)
            told.settle_micros.append((clock() - between) // 1000)
            told.reserved += 1

    async def prove(self, reservations: int) -> Proof:
        """Compares every position with the answers, and the books with the replay of their ledger."""
        faults = []
        positions = await shop.read_positions(self._inventory, self._skus)
        for sku, (name, units) in enumerate(zip(self._skus, self._units, strict=True)):
            place = positions[name][0]
            found, told = (place.on_hand, place.held, place.allocated), (units, 0, self.committed[sku])
            if found != told:
                faults.append(f"{name}: books {found}, answers {told}")
            if self.committed[sku] > units:
                faults.append(f"{name}: {self.committed[sku]} sold of {units}")
        report = await audit(self._inventory)
        if not report.is_clean:
            faults.append(f"the audit found {report.difference_count + report.violation_count} faults")
        sold_out = sum(refused > 0 for refused in self.refused)
        detail = "; ".join(faults[:5]) or (
            f"{len(self._skus):,} positions, {sold_out:,} of them sold out, have exactly the units of "
            f"{reservations:,} answers; the books equal the replay of {report.events:,} events"
        )
        return Proof(holds=not faults, positions=len(self._skus), answers=reservations, detail=detail)


def stock_of(skus: int) -> list[int]:
    """Units of each SKU: plenty of most, few of the scarce ones."""
    chance = random.Random(SEED)
    scarce = set(chance.sample(range(skus), max(1, round(skus * SCARCE_SHARE))))
    return [SCARCE_UNITS if number in scarce else shop.PLENTY for number in range(skus)]


async def go(url: str, rounds: int, reservations: int, skus: int) -> tuple[list[Round], Proof]:
    """All rounds on a fresh data set, a short one to warm up before them, then the proof."""
    inventory = await connect(url)
    try:
        sale = Shop(inventory, stock_of(skus))
        await sale.fill()
        warm_up = await sale.sell(-1, reservations // 4)
        told = [await sale.sell(number, reservations) for number in range(rounds)]
        answers = sum(one.reserved + one.refused for one in (warm_up, *told))
        return told, await sale.prove(answers)
    finally:
        await inventory.close()


def figures_of(told: Sequence[Round]) -> list[Figure]:
    """The two numbers first."""
    reserve = [micros for one in told for micros in one.reserve_micros]
    settle = [micros for one in told for micros in one.settle_micros]
    per_second = [one.reserved / one.seconds for one in told]
    p99 = [quantile(one.reserve_micros, 0.99) / 1000 for one in told]
    figures = [
        figure_of("reservations per second", per_second, "1/s", better="higher"),
        figure_of("p99 of reserve", p99, "ms"),
    ]
    for name, micros in (("reserve", reserve), ("commit or release", settle)):
        for share, label in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "worst")):
            labels: Labels = {"verb": name, "share": share}
            value = quantile(micros, share) / 1000
            figures.append(figure_of(f"{name}: {label} of all rounds", [value], "ms", labels=labels))
    return figures


def main(arguments: Sequence[str]) -> None:
    """Runs the workload, prints two numbers, writes the result."""
    options = measure.parser_of("canonical", __doc__ or "").parse_args(arguments)
    reservations, skus = (2_000, 1_000) if options.quick else (ROUND_RESERVATIONS, SKUS)
    program = servers.find_program(options.server)
    with (
        tempfile.TemporaryDirectory(prefix="bincard-bench-") as directory,
        EmbeddedServer.start(Path(directory), durability="local", binary=program.path) as server,
    ):
        told, proof = shop.run_loop(go(server.url, options.pairs, reservations, skus))
    workload: Labels = {
        "callers": CALLERS,
        "skus": skus,
        "scarce_share": SCARCE_SHARE,
        "committed_share": COMMITTED_SHARE,
        "rounds": options.pairs,
        "reservations_a_round": reservations,
        "durability": "local",
        "partitions": 1,
    }
    figures = figures_of(told)
    result = measure.make_result(
        "canonical",
        figures,
        [proof],
        server=f"{program.family} {program.version}",
        workload=workload,
        does_not_show=DOES_NOT_SHOW,
        raw={"refused": [one.refused for one in told], "seconds": [one.seconds for one in told]},
    )
    measure.finish(result, options)
    rate, late = median(figures[0].series), median(figures[1].series)
    print(f"\n{rate:,.0f} reservations per second\n{late:.2f} ms p99")


if __name__ == "__main__":
    sys.exit(measure.run(main))
