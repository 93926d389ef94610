"""What size costs: CPU a reserve and memory, from a thousand SKUs to a million, and a SKU in many places.

`python -m benchmarks.scale` runs in about a minute; `--full` fills a million SKUs and a million holds.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from msgspec import Struct
from redis import Redis

from benchmarks import measure, servers, shop
from benchmarks.measure import SEED, BenchmarkError, Figure, Labels, Pairs, Proof, cpu_seconds, figure_of
from benchmarks.servers import Store
from benchmarks.shop import Answered
from engine import Inventory, Line, connect, keys

LOCATIONS = 3
WIDE_LOCATIONS = 2000
SMALL_SKUS = 1000
TOGETHER = 128
TTL_SECONDS = 86_400
SAMPLE = 300
HOLD_BYTES = 300
POSITION_BYTES = 60
SIZE_RATIO = 1.25
READ_MILLISECONDS = 2.0
DOES_NOT_SHOW = (
    "A store that forks to rewrite its log, fragmentation after months, several partitions, HTTP. Memory is "
    "the store's own count, without its log on disk. CPU is of calls with 128 requests each."
)


class Size(Struct, frozen=True):
    """A data set: SKUs at `LOCATIONS` locations each, and holds on them."""

    skus: int
    holds: int


class Data:
    """A data set of one size, its store and what was answered."""

    def __init__(self, store: Store, inventory: Inventory, size: Size) -> None:
        self.store = store
        self.inventory = inventory
        self.size = size
        self.answered = Answered()
        self.bytes_of: dict[str, float] = {}
        self.chance = random.Random(SEED)
        self._ids = 0

    async def fill(self) -> None:
        """Brings the stock, then makes the holds; memory is read after each."""
        places = await shop.open_locations(self.inventory, LOCATIONS)
        empty = self.used_bytes()
        wanted = ((sku, place, shop.PLENTY) for sku in self._all_skus() for place in places)
        self.answered.received += await shop.receive(self.inventory, wanted)
        positions = self.size.skus * LOCATIONS
        filled = self.used_bytes()
        self.bytes_of["movement and its position"] = (filled - empty) / positions
        self.bytes_of["position"] = self._position_bytes() / positions
        log = self._key_bytes(keys.log(0))
        await self.reserve(self.size.holds)
        if self.size.holds:
            self.bytes_of["hold"] = (self.used_bytes() - filled) / self.size.holds
            self.bytes_of["hold: of it ledger"] = (self._key_bytes(keys.log(0)) - log) / self.size.holds

    async def reserve(self, count: int) -> list[str]:
        """So many one-line holds of random positions, in full calls; their ids."""
        ids: list[str] = []
        while count > 0:
            group = [self._reserve() for _ in range(min(count, TOGETHER))]
            held = await asyncio.gather(*group)
            count -= len(held)
            if len(ids) < TOGETHER * 100:
                ids += held
            self.answered.reserved += len(held)
            self.answered.answers += len(held)
        return ids

    async def reserve_cpu(self, count: int) -> float:
        """CPU of the store for one reserve, in microseconds."""
        before = cpu_seconds(self.store.pid)
        await self.reserve(count)
        return (cpu_seconds(self.store.pid) - before) / count * 1e6

    async def finish(self, count: int) -> None:
        """Commits and fulfils fresh reservations, to see what a finished one leaves."""
        before = self.used_bytes()
        for begin in range(0, count, TOGETHER):
            ids = await self.reserve(min(TOGETHER, count - begin))
            await asyncio.gather(*(self.inventory.commit(id_) for id_ in ids))
            await asyncio.gather(*(self.inventory.fulfil(id_) for id_ in ids))
            self.answered.committed += len(ids)
            self.answered.fulfilled += len(ids)
            self.answered.answers += 2 * len(ids)
        self.bytes_of["finished reservation"] = (self.used_bytes() - before) / count

    async def prove(self, name: str) -> Proof:
        """The proof by sums over every position."""
        booked = await shop.add_up(self.inventory, self._all_skus())
        return shop.compare_sums(booked, self.answered, name=name)

    async def _reserve(self) -> str:
        self._ids += 1
        number, place = self.chance.randrange(self.size.skus), self.chance.randrange(LOCATIONS)
        line = Line(shop.sku_name(number), 1, shop.location_name(place))
        held = await self.inventory.reserve(f"cart-{self._ids}", [line], ttl_seconds=TTL_SECONDS)
        return held.id

    def _all_skus(self) -> Iterator[str]:
        return (shop.sku_name(number) for number in range(self.size.skus))

    def used_bytes(self) -> int:
        """Memory that the store counts as used, its buffers for clients left out."""
        with Redis.from_url(self.store.url) as client:
            found = client.info("memory")
            return int(found["used_memory"]) - int(found.get("mem_clients_normal", 0))

    def _key_bytes(self, key: str, samples: int = 100) -> int:
        with Redis.from_url(self.store.url) as client:
            return int(client.memory_usage(key, samples=samples) or 0)

    def _position_bytes(self) -> int:
        """What all positions take: the cards, and the count of each location."""
        return self._key_bytes(keys.stock(0), SAMPLE) + self._key_bytes(keys.stocked(0))


async def compare_sizes(small: Data, large: Data, *, pairs: int, count: int) -> list[Figure]:
    """CPU a reserve of both, in turns."""
    mine, theirs = [], []
    for _ in range(pairs):
        theirs.append(await small.reserve_cpu(count))
        mine.append(await large.reserve_cpu(count))
    size = large.size
    name = f"reserve at {size.skus:,} SKUs and {size.holds:,} holds against {small.size.skus:,} SKUs"
    labels: Labels = {"curve": "size", "skus": size.skus, "holds": size.holds}
    return [
        Pairs(mine, theirs).figure(name, side_unit="µs", target=SIZE_RATIO, labels=labels),
    ]


def memory_figures(data: Data) -> list[Figure]:
    """Bytes of each thing at one size."""
    targets = {"hold": HOLD_BYTES, "position": POSITION_BYTES}
    labels: Labels = {"curve": "memory", "skus": data.size.skus, "holds": data.size.holds}
    return [
        figure_of(
            f"bytes a {name}, {data.size.skus:,} SKUs",
            [value],
            "bytes",
            target=targets.get(name),
            labels={**labels, "of": name},
        )
        for name, value in data.bytes_of.items()
    ]


async def wide_figures(data: Data, *, pairs: int, count: int) -> list[Figure]:
    """One SKU in 2,000 locations: reserving at one of them, reading all."""
    inventory, pid = data.inventory, data.store.pid
    await shop.open_locations(inventory, WIDE_LOCATIONS)
    wide = [("wide", shop.location_name(place), shop.PLENTY) for place in range(WIDE_LOCATIONS)]
    await shop.receive(inventory, [*wide, ("narrow", "w0", shop.PLENTY)], prefix="wide")

    async def reserve_cpu(sku: str, turn: int) -> float:
        places = [data.chance.randrange(WIDE_LOCATIONS) if sku == "wide" else 0 for _ in range(count)]
        before = cpu_seconds(pid)
        for begin in range(0, count, TOGETHER):
            await asyncio.gather(
                *(
                    inventory.reserve(
                        f"{sku}-{turn}-{begin}-{index}", [Line(sku, 1, shop.location_name(place))]
                    )
                    for index, place in enumerate(places[begin : begin + TOGETHER])
                )
            )
        return (cpu_seconds(pid) - before) / count * 1e6

    mine, theirs, waits, cpu = [], [], [], []
    for turn in range(pairs):
        theirs.append(await reserve_cpu("narrow", turn))
        mine.append(await reserve_cpu("wide", turn))
        before, begun = cpu_seconds(pid), time.perf_counter()
        found = await inventory.availability("wide")
        waits.append((time.perf_counter() - begun) * 1000)
        cpu.append((cpu_seconds(pid) - before) * 1000)
        if len(found.locations) != WIDE_LOCATIONS:
            raise BenchmarkError(f"{len(found.locations)} of {WIDE_LOCATIONS} locations were read")
    name = f"reserve at one of {WIDE_LOCATIONS:,} locations against a SKU in one"
    read = f"availability of {WIDE_LOCATIONS:,} locations"
    return [
        Pairs(mine, theirs).figure(name, side_unit="µs", target=SIZE_RATIO),
        figure_of(f"{read}, as a caller sees it", waits, "ms", target=READ_MILLISECONDS),
        figure_of(f"{read}, CPU of the store", cpu, "ms"),
    ]


async def go(
    stores: Sequence[Store], sizes: Sequence[Size], pairs: int, count: int
) -> tuple[list[Figure], list[Proof]]:
    """Fills one data set a store, compares each with the first, proves all."""
    figures: list[Figure] = []
    sets = []
    for store, size in zip(stores, sizes, strict=True):
        begun = time.perf_counter()
        data = Data(store, await connect(store.url), size)
        await data.fill()
        sets.append(data)
        print(f"filled {size.skus:,} SKUs in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    try:
        for data in sets[1:]:
            figures += await compare_sizes(sets[0], data, pairs=pairs, count=count)
        for data in sets:
            await data.finish(count)
            figures += memory_figures(data)
        proofs = [await data.prove(f"{data.size.skus:,} SKUs") for data in sets]
        figures += await wide_figures(sets[0], pairs=pairs, count=count)
        wide = await shop.add_up(sets[0].inventory, ("wide", "narrow"))
        units = 2 * pairs * count
        answered = Answered(received=wide.positions * shop.PLENTY, reserved=units, answers=units)
        return figures, [*proofs, shop.compare_sums(wide, answered, name="many locations")]
    finally:
        for data in sets:
            await data.inventory.close()


def main(arguments: Sequence[str]) -> None:
    """Measures at growing sizes, without a log."""
    parser = measure.parser_of("scale", (__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--full", action="store_true", help="a million SKUs and holds: minutes, 4 GB of memory"
    )
    parser.add_argument("--skus", type=int, default=100_000, help="of the largest set (default: %(default)s)")
    parser.add_argument(
        "--holds", type=int, default=100_000, help="on the largest set (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    skus, holds = options.skus, options.holds
    if options.full:
        skus = holds = 1_000_000
    elif options.quick:
        skus = holds = 3_000
    count = 1_280 if options.quick else 6_400
    sizes = [Size(SMALL_SKUS, 1_000)]
    while sizes[-1].skus * 10 < skus:
        sizes.append(Size(sizes[-1].skus * 10, sizes[-1].holds * 10))
    sizes.append(Size(skus, holds))
    with ExitStack() as stack:
        stores = [stack.enter_context(servers.store("off", options.server)) for _ in sizes]
        figures, proofs = shop.run_loop(go(stores, sizes, options.pairs, count))
    result = measure.make_result(
        "scale",
        figures,
        proofs,
        server=stores[0].name,
        workload={"skus": skus, "holds": holds, "locations": LOCATIONS, "reserves_a_repetition": count},
        does_not_show=DOES_NOT_SHOW,
    )
    measure.finish(result, options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
