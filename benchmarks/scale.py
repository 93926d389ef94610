"""What size costs: CPU and memory from a thousand SKUs to a million, with a long history, in many places.

`python -m benchmarks.scale` runs in about a minute; `--full` fills a million SKUs and a million holds.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain

from msgspec import Struct
from redis import Redis

from benchmarks import measure, servers, shop
from benchmarks.measure import SEED, BenchmarkError, Figure, Labels, Pairs, Proof, cpu_seconds, figure_of
from benchmarks.servers import Store
from benchmarks.shop import Answered
from engine import Inventory, Line, connect, keys

LOCATIONS = 3
WIDTHS = (1, 100, 2000)
SMALL_SKUS = 1000
TOGETHER = 128
"""Requests of a call."""

FILL_TOGETHER = 4 * TOGETHER
"""While data are made: as many, in several calls."""

KEPT_IDS = 100 * TOGETHER
TTL_SECONDS = 86_400
HOLD_BYTES = 300
POSITION_BYTES = 60
SIZE_RATIO = 1.25
READS = 20
READ_MILLISECONDS = 2.0
DOES_NOT_SHOW = (
    "A store that forks to rewrite its log, fragmentation after months, several partitions, HTTP. Memory is "
    "the store's own count, without its log on disk. CPU and memory are of calls with 128 requests each."
)


class Size(Struct, frozen=True):
    """A data set: SKUs at `LOCATIONS` locations each, holds on them, and reservations that are over."""

    skus: int
    holds: int
    finished: int = 0

    def __str__(self) -> str:
        if self.finished:
            return f"{self.skus:,} SKUs after {self.finished:,} reservations"
        return f"{self.skus:,} SKUs"


class Data:
    """A data set of one size, its store and what was answered."""

    def __init__(self, store: Store, inventory: Inventory, size: Size) -> None:
        self.store = store
        self.inventory = inventory
        self.size = size
        self.answered = Answered()
        self.bytes_of: dict[str, float] = {}
        self.more_skus: list[str] = []
        self.chance = random.Random(SEED)
        self._ids = 0

    async def fill(self) -> None:
        """Brings the stock, then makes the holds; memory is read after each."""
        places = await shop.open_locations(self.inventory, LOCATIONS)
        empty = await self.used_bytes()
        wanted = ((sku, place, shop.PLENTY) for sku in self._all_skus() for place in places)
        self.answered.received += await shop.receive(self.inventory, wanted)
        positions = self.size.skus * LOCATIONS
        filled = await self.used_bytes()
        self.bytes_of["movement and its position"] = (filled - empty) / positions
        self.bytes_of["position"] = self.key_bytes(keys.stock(0)) / positions
        if not self.size.holds:
            return
        log = self.key_bytes(keys.log(0))
        await self.reserve(self.size.holds, FILL_TOGETHER)
        held = await self.used_bytes()
        self.bytes_of["hold"] = (held - filled) / self.size.holds
        self.bytes_of["hold: of it ledger"] = (self.key_bytes(keys.log(0)) - log) / self.size.holds

    async def reserve(self, count: int, together: int = TOGETHER) -> list[str]:
        """So many one-line holds of random positions, in full calls; the ids of the first ones."""
        ids: list[str] = []
        for begin in range(0, count, together):
            held = await asyncio.gather(*(self._reserve() for _ in range(min(count - begin, together))))
            if len(ids) < KEPT_IDS:
                ids += held
        self.answered.reserved += count
        self.answered.answers += count
        return ids

    async def commit(self, ids: Sequence[str], together: int = TOGETHER) -> None:
        """Commits reservations, in full calls."""
        await shop.in_groups(self.inventory.commit, ids, together)
        self.answered.committed += len(ids)
        self.answered.answers += len(ids)

    async def fulfil(self, ids: Sequence[str], together: int = TOGETHER) -> None:
        """Fulfils reservations, in full calls."""
        await shop.in_groups(self.inventory.fulfil, ids, together)
        self.answered.fulfilled += len(ids)
        self.answered.answers += len(ids)

    async def finish(self, count: int) -> None:
        """Commits and fulfils fresh reservations, to see what a finished one leaves."""
        before = await self.used_bytes()
        for begin in range(0, count, KEPT_IDS):
            ids = await self.reserve(min(KEPT_IDS, count - begin), FILL_TOGETHER)
            await self.commit(ids, FILL_TOGETHER)
            await self.fulfil(ids, FILL_TOGETHER)
        self.bytes_of["finished reservation"] = (await self.used_bytes() - before) / count

    async def step_cpu(self, count: int) -> tuple[float, float]:
        """CPU of the store for one reserve and for one commit, in microseconds."""
        begun = cpu_seconds(self.store.pid)
        ids = await self.reserve(count)
        reserved = cpu_seconds(self.store.pid)
        await self.commit(ids)
        done = cpu_seconds(self.store.pid)
        # Else the cards of the smallest set would fill with claims.
        await self.fulfil(ids)
        return (reserved - begun) / count * 1e6, (done - reserved) / count * 1e6

    async def prove(self) -> Proof:
        """The proof by sums over every position."""
        booked = await shop.add_up(self.inventory, chain(self._all_skus(), self.more_skus))
        return shop.compare_sums(booked, self.answered, name=str(self.size))

    async def _reserve(self) -> str:
        self._ids += 1
        number, place = self.chance.randrange(self.size.skus), self.chance.randrange(LOCATIONS)
        line = Line(shop.sku_name(number), 1, shop.location_name(place))
        held = await self.inventory.reserve(f"cart-{self._ids}", [line], ttl_seconds=TTL_SECONDS)
        return held.id

    def _all_skus(self) -> Iterator[str]:
        return (shop.sku_name(number) for number in range(self.size.skus))

    async def used_bytes(self) -> int:
        """Memory that the store counts as used while nobody is connected: their buffers are no data."""
        await self.inventory.close()
        used = _used_alone(self.store.url)
        self.inventory = await connect(self.store.url)
        return used

    def key_bytes(self, key: str) -> int:
        """What a key takes, by making a second one: what the store estimates is off by a fifth."""
        with Redis.from_url(self.store.url) as client:
            # The first answer makes the buffers that belong to this connection.
            client.info("memory")
            before = int(client.info("memory")["used_memory"])
            client.copy(key, f"{key}:copy")
            after = int(client.info("memory")["used_memory"])
            client.delete(f"{key}:copy")
            while client.info("memory")["lazyfree_pending_objects"]:
                time.sleep(0.01)
        return after - before


def _used_alone(url: str) -> int:
    with Redis.from_url(url) as client:
        client.info("memory")
        while len(client.client_list()) > 1:
            time.sleep(0.01)
        return int(client.info("memory")["used_memory"])


Side = tuple[float, ...]
"""Microseconds of one turn, a number a verb."""


async def in_turns(sides: Sequence[Callable[[int], Awaitable[Side]]], pairs: int) -> list[tuple[Side, Side]]:
    """Measures both sides so many times, each first in every other pair; for each pair both results."""
    found: list[tuple[Side, Side]] = []
    for turn in range(pairs):
        if turn % 2:
            mine = await sides[0](turn)
            found.append((mine, await sides[1](turn)))
        else:
            theirs = await sides[1](turn)
            found.append((await sides[0](turn), theirs))
    return found


async def compare_sizes(small: Data, large: Data, *, pairs: int, count: int) -> list[Figure]:
    """CPU a reserve and a commit of both, in turns."""

    async def mine(_turn: int) -> Side:
        return await large.step_cpu(count)

    async def theirs(_turn: int) -> Side:
        return await small.step_cpu(count)

    found = await in_turns((mine, theirs), pairs)
    size = large.size
    labels: Labels = {"skus": size.skus, "holds": size.holds, "finished": size.finished}
    figures = []
    for index, verb in enumerate(("reserve", "commit")):
        is_curve = verb == "reserve" and not size.finished
        what = f"{size.finished:,} finished" if size.finished else f"{size.holds:,} holds"
        figures.append(
            Pairs([pair[0][index] for pair in found], [pair[1][index] for pair in found]).figure(
                f"{verb} at {size.skus:,} SKUs and {what} against {small.size.skus:,} SKUs",
                side_unit="µs",
                target=SIZE_RATIO,
                labels={**labels, "curve": "size"} if is_curve else labels,
            )
        )
    return figures


def memory_figures(data: Data, *, is_largest: bool) -> list[Figure]:
    """Bytes of each thing at one size. Of few things what a store keeps for itself is a share; so targets are
    those of many.
    """
    targets = {"hold": HOLD_BYTES, "position": POSITION_BYTES} if is_largest else {}
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


class Wide:
    """One SKU in many locations, beside as many SKUs in one location each."""

    def __init__(self, data: Data, width: int) -> None:
        self.data = data
        self.width = width
        self.wide = f"wide-{width}"

    def _narrow(self, number: int) -> str:
        return f"narrow-{self.width}-{number}"

    async def fill(self) -> None:
        """Brings the stock; the locations are there."""
        data, narrow = self.data, [self._narrow(number) for number in range(self.width)]
        places = [(sku, shop.location_name(0), shop.PLENTY) for sku in narrow]
        places += [(self.wide, shop.location_name(number), shop.PLENTY) for number in range(self.width)]
        data.answered.received += await shop.receive(data.inventory, places, prefix=self.wide)
        data.more_skus += [self.wide, *narrow]

    async def reserve_cpu(self, count: int, turn: int, *, is_wide: bool) -> Side:
        """CPU of the store for one reserve of the wide SKU, or of the others."""
        inventory, pid, name = self.data.inventory, self.data.store.pid, shop.location_name
        chosen = [self.data.chance.randrange(self.width) for _ in range(count)]

        async def reserve(index: int) -> None:
            number = chosen[index]
            line = Line(self.wide, 1, name(number)) if is_wide else Line(self._narrow(number), 1, name(0))
            await inventory.reserve(f"{self.wide}-{is_wide}-{turn}-{index}", [line], ttl_seconds=TTL_SECONDS)

        begun = cpu_seconds(pid)
        await shop.in_groups(reserve, range(count), TOGETHER)
        used = cpu_seconds(pid) - begun
        self.data.answered.reserved += count
        self.data.answered.answers += count
        return (used / count * 1e6,)

    async def read(self) -> tuple[list[float], float]:
        """Reads the availability of all locations: what each caller waits and the store's CPU, in ms."""
        inventory, pid, waits = self.data.inventory, self.data.store.pid, []
        begun = cpu_seconds(pid)
        for _ in range(READS):
            asked = time.perf_counter()
            found = await inventory.availability(self.wide)
            waits.append((time.perf_counter() - asked) * 1000)
            if len(found.locations) != self.width:
                raise BenchmarkError(f"{len(found.locations)} of {self.width} locations were read")
        return waits, (cpu_seconds(pid) - begun) / READS * 1000

    async def figures(self, *, pairs: int, count: int) -> list[Figure]:
        """What the width costs. At one location there is nothing to compare with."""

        async def mine(turn: int) -> Side:
            return await self.reserve_cpu(count, turn, is_wide=True)

        async def theirs(turn: int) -> Side:
            return await self.reserve_cpu(count, turn, is_wide=False)

        where = f"{self.width:,} location{'s' if self.width > 1 else ''}"
        labels: Labels = {"locations": self.width}
        figures = []
        if self.width > 1:
            found = await in_turns((mine, theirs), pairs)
            name = f"reserve at one of {where} against {self.width:,} SKUs in one each"
            both = Pairs([pair[0][0] for pair in found], [pair[1][0] for pair in found])
            figures.append(both.figure(name, side_unit="µs", target=SIZE_RATIO, labels=labels))
        waits, cpu = [], []
        for _ in range(pairs):
            waited, used = await self.read()
            waits += waited
            cpu.append(used)
        read = f"availability of {where}"
        target = READ_MILLISECONDS if self.width == max(WIDTHS) else None
        return [
            *figures,
            figure_of(f"{read}, as a caller sees it", waits, "ms", target=target, labels=labels),
            figure_of(f"{read}, CPU of the store", cpu, "ms", labels=labels),
        ]


async def wide_figures(data: Data, *, pairs: int, count: int) -> list[Figure]:
    """SKUs in one location and in many: reserving at one of them, reading all."""
    await shop.open_locations(data.inventory, max(WIDTHS))
    figures = []
    for width in WIDTHS:
        wide = Wide(data, width)
        await wide.fill()
        figures += await wide.figures(pairs=pairs, count=count)
    return figures


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
        if size.finished:
            await data.finish(size.finished)
        sets.append(data)
        print(f"filled {size} in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    try:
        for data in sets[1:]:
            figures += await compare_sizes(sets[0], data, pairs=pairs, count=count)
        for data in sets:
            if not data.size.finished:
                await data.finish(2 * count)
                figures += memory_figures(data, is_largest=data.size.skus == sizes[-2].skus)
            else:
                name = f"bytes a finished reservation, {data.size.finished:,} of them"
                figures.append(figure_of(name, [data.bytes_of["finished reservation"]], "bytes"))
        figures += await wide_figures(sets[0], pairs=pairs, count=count)
        return figures, [await data.prove() for data in sets]
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
    parser.add_argument(
        "--finished", type=int, default=100_000, help="reservations of the past (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    skus, holds, finished = options.skus, options.holds, options.finished
    if options.full:
        skus = holds = 1_000_000
        finished = 300_000
    elif options.quick:
        skus = holds = finished = 3_000
    count = 1_280 if options.quick else 6_400
    sizes = [Size(SMALL_SKUS, 1_000)]
    while sizes[-1].skus * 10 < skus:
        sizes.append(Size(sizes[-1].skus * 10, sizes[-1].holds * 10))
    sizes += [Size(skus, holds), Size(SMALL_SKUS, 1_000, finished)]
    with ExitStack() as stack:
        stores = [stack.enter_context(servers.store("off", options.server)) for _ in sizes]
        figures, proofs = shop.run_loop(go(stores, sizes, options.pairs, count))
    result = measure.make_result(
        "scale",
        figures,
        proofs,
        server=stores[0].name,
        workload={
            "skus": skus,
            "holds": holds,
            "finished": finished,
            "locations": LOCATIONS,
            "reserves_a_repetition": count,
        },
        does_not_show=DOES_NOT_SHOW,
    )
    measure.finish(result, options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
