"""What partitions cost: the same baskets on one partition, inside one of many, and over several of them.

Three data sets on servers of their own, durability `local`, measured in turns. Callers hold baskets of three
lines and commit them; alone, one caller shows what a basket takes by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Literal

from msgspec import Struct

from benchmarks import measure, servers, shop
from benchmarks.measure import SEED, Figure, Labels, Proof, figure_of, paired
from engine import Inventory, Line, connect
from engine.audit import audit
from engine.keys import partition_of

PARTITIONS = 16
LINES = 3
CALLERS = 64
SKUS = 4_800
BASKETS = 6_000
LONE_BASKETS = 400
Where = Literal["one partition", "inside one of many", "over several"]
DOES_NOT_SHOW = (
    "A cluster: all partitions lie on one server, so that the ratio shows the price of the protocol and not "
    "what several servers gain. HTTP, a network, scarce stock, partial steps. All share the cores."
)


class Sale(Struct):
    """Callers of one data set, whose baskets lie where `where` says."""

    where: Where
    inventory: Inventory
    groups: Sequence[Sequence[str]]
    """The SKUs of a basket come from one group, or with one group from several partitions."""
    numbers: Iterator[int]
    sold: int = 0

    async def fill(self) -> None:
        """Creates the location and brings plenty."""
        await shop.open_locations(self.inventory, 1)
        place = shop.location_name(0)
        await shop.receive(
            self.inventory, ((sku, place, shop.PLENTY) for group in self.groups for sku in group)
        )

    def _basket(self, chance: random.Random) -> list[Line]:
        place = shop.location_name(0)
        if self.where == "over several":
            chosen = [chance.choice(group) for group in chance.sample(self.groups, LINES)]
        else:
            chosen = chance.sample(chance.choice(self.groups), LINES)
        return [Line(sku, 1, place) for sku in chosen]

    async def sell(self, baskets: int, callers: int) -> tuple[float, float]:
        """Baskets a second that were held and committed, and the median time of a reserve in milliseconds."""
        took: list[float] = []
        turns = iter(range(baskets))

        async def call() -> None:
            for _ in turns:
                number = next(self.numbers)
                lines = self._basket(random.Random(number))
                begun = time.perf_counter()
                held = await self.inventory.reserve(f"basket {number}", lines)
                took.append(time.perf_counter() - begun)
                await self.inventory.commit(held.id)

        begun = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(callers)))
        seconds = time.perf_counter() - begun
        self.sold += baskets
        return baskets / seconds, 1000 * median(took)

    async def prove(self) -> Proof:
        """Every basket is allocated as a whole, and the books equal the replay of their ledgers."""
        booked = await shop.add_up(self.inventory, (sku for group in self.groups for sku in group))
        answered = shop.Answered(
            received=booked.positions * shop.PLENTY,
            reserved=self.sold * LINES,
            committed=self.sold * LINES,
            answers=2 * self.sold,
        )
        proof = shop.compare_sums(booked, answered, name=self.where)
        report = await audit(self.inventory)
        if not report.is_clean:
            faults = report.difference_count + report.violation_count
            proof = Proof(
                holds=False, positions=booked.positions, answers=0, detail=f"the audit found {faults} faults"
            )
        return proof


def groups_of(where: Where) -> list[list[str]]:
    """The SKUs: in one group on one partition, else by their partitions."""
    names = [shop.sku_name(number) for number in range(SKUS)]
    if where == "one partition":
        return [names]
    return [[sku for sku in names if partition_of(sku, PARTITIONS) == one] for one in range(PARTITIONS)]


async def open_sale(where: Where, url: str) -> Sale:
    """A data set with stock for its callers."""
    partitions = 1 if where == "one partition" else PARTITIONS
    sale = Sale(where, await connect(url, partitions=partitions), groups_of(where), itertools.count(SEED))
    await sale.fill()
    await sale.sell(CALLERS, CALLERS)
    return sale


def compare(runner: asyncio.Runner, sale: Sale, plain: Sale, pairs: int, baskets: int) -> list[Figure]:
    """One kind of baskets beside those of one partition."""
    rates = paired(
        lambda: runner.run(sale.sell(baskets, CALLERS))[0],
        lambda: runner.run(plain.sell(baskets, CALLERS))[0],
        pairs,
    )
    alone = paired(
        lambda: runner.run(sale.sell(LONE_BASKETS, 1))[1],
        lambda: runner.run(plain.sell(LONE_BASKETS, 1))[1],
        pairs,
    )
    labels: Labels = {"where": sale.where}
    added = [mine - theirs for mine, theirs in zip(alone.subject, alone.yardstick, strict=True)]
    return [
        rates.figure(
            f"baskets a second {sale.where}, against one partition",
            side_unit="baskets/s",
            better="higher",
            labels=labels,
        ),
        figure_of(f"a lone reserve {sale.where} takes longer by", added, "ms", labels=labels),
    ]


def main(arguments: Sequence[str]) -> None:
    """Measures in turns, proves, writes the result."""
    options = measure.parser_of("partitions", (__doc__ or "").partition("\n")[0]).parse_args(arguments)
    baskets = 600 if options.quick else BASKETS
    kinds: tuple[Where, ...] = ("one partition", "inside one of many", "over several")
    with ExitStack() as stack, asyncio.Runner() as runner:
        stores = [stack.enter_context(servers.store("always", options.server)) for _ in kinds]
        sales = [runner.run(open_sale(where, store.url)) for where, store in zip(kinds, stores, strict=True)]
        plain, *others = sales
        figures = [
            figure for sale in others for figure in compare(runner, sale, plain, options.pairs, baskets)
        ]
        proofs = [runner.run(sale.prove()) for sale in sales]
        for sale in sales:
            runner.run(sale.inventory.close())
    result = measure.make_result(
        "partitions",
        figures,
        proofs,
        server=stores[0].name,
        workload={
            "partitions": PARTITIONS,
            "lines": LINES,
            "callers": CALLERS,
            "skus": SKUS,
            "baskets_a_repetition": baskets,
            "durability": "local",
        },
        does_not_show=DOES_NOT_SHOW,
    )
    measure.finish(result, options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
