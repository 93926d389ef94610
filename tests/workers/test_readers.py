"""What the background workers that read tell of a data set, on real servers and any number of partitions."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import redis.asyncio

from engine import (
    Channel,
    Inventory,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Pool,
    connect,
    keys,
)
from engine.errors import InsufficientStock, StorageUnavailable
from engine.figures import LedgerCounts, StockCounts
from engine.ids import parse_reservation_id
from engine.keys import partition_of
from engine.metrics import MOST_CHANNELS, MOST_LOCATIONS, NONE, OTHER, Labels
from engine.topology.embedded import EmbeddedServer
from engine.workers import Bookkeeper, Stocktaker, Surveyor
from engine.workers.stocktaker import CALL_CLAIMS, LARGE_BLOCKS

Open = Callable[[int], Awaitable[Inventory]]
PLACES = ("s1", "s2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A real server, emptied before each test."""
    with EmbeddedServer.start(tmp_path_factory.mktemp("readers"), durability="none") as running:
        yield running


@pytest.fixture
async def raw(server: EmbeddedServer) -> AsyncIterator[redis.asyncio.Redis]:
    """A hand on the store that asks the engine nothing."""
    async with redis.asyncio.Redis.from_url(server.url) as connection:
        await connection.flushall()
        yield connection


@pytest.fixture
async def open_shop(server: EmbeddedServer, raw: redis.asyncio.Redis) -> AsyncIterator[Open]:
    """Opens a data set with two locations and a channel."""
    opened: list[Inventory] = []

    async def open_one(partitions: int) -> Inventory:
        inventory = await connect(server.url, partitions=partitions)
        opened.append(inventory)
        for place in PLACES:
            await inventory.save_location(Location(place, LocationKind.STORE))
        await inventory.save_pool(Pool("all", PLACES))
        await inventory.save_channel(Channel("web", ("all",)))
        return inventory

    yield open_one
    for inventory in opened:
        await inventory.close()


async def receive(inventory: Inventory, sku: str, place: str, quantity: int) -> None:
    await inventory.record(Movement(f"r-{sku}-{place}", MovementKind.RECEIVE, sku, place, quantity))


async def take_stock(inventory: Inventory) -> StockCounts:
    """A whole walk."""
    taker = Stocktaker(inventory)
    while taker.counts is None:
        await taker.tick()
    return taker.counts


async def read_all(bookkeeper: Bookkeeper) -> LedgerCounts:
    """What it counts once it has read all there is."""
    for _ in range(200):
        before = bookkeeper.counts()
        await bookkeeper.tick()
        if bookkeeper.counts() == before:
            return before
    raise AssertionError("it reads and reads")


def skus_apart(partitions: int) -> tuple[str, str]:
    """Two SKUs that lie in different partitions, where there are several."""
    names = [f"A-{number}" for number in range(50)]
    return names[0], next(
        name
        for name in names[1:]
        if partitions == 1 or partition_of(name, partitions) != partition_of(names[0], partitions)
    )


async def test_a_stocktake_tells_who_holds_what_where(open_shop: Open, partitions: int) -> None:
    """Holds count once, units where they are; of baskets over several partitions, too."""
    inventory = await open_shop(partitions)
    first, second = skus_apart(partitions)
    for sku in (first, second):
        for place in PLACES:
            await receive(inventory, sku, place, 100)
    lines = [Line(first, 2, "s1"), Line(second, 3, "s2"), Line(second, 4, "s1")]
    await inventory.reserve("basket", lines, channel="web")
    await inventory.reserve("plain", [Line(second, 5, "s2")])
    order = await inventory.reserve("order", [Line(first, 7, "s2"), Line(second, 1, "s2")], channel="web")
    await inventory.commit(order.id)
    part = await inventory.reserve("part", [Line(first, 9, "s2")], channel="web")
    await inventory.commit(part.id, lines=[Line(first, 4, "s2")], remainder="keep")
    # What is left of it to be held lies where its second line is.
    late = await inventory.reserve("late", [Line(first, 1, "s1"), Line(first, 1, "s2")])
    await inventory.commit(late.id, lines=[Line(first, 1, "s1")], remainder="keep")
    gone = await inventory.reserve("gone", [Line(first, 11, "s1")])
    await inventory.release(gone.id)
    found = await take_stock(inventory)
    assert {(one.channel, one.location): (one.holds, one.held, one.allocated) for one in found.places} == {
        ("web", "s1"): (1, 6, 0),
        ("web", "s2"): (1, 8, 12),
        (NONE, "s1"): (0, 0, 1),
        (NONE, "s2"): (2, 6, 0),
    }
    assert {
        one.location: (one.positions, one.on_hand, one.held, one.allocated) for one in found.locations
    } == {
        "s1": (2, 200, 6, 1),
        "s2": (2, 200, 14, 12),
    }
    assert (found.drifted_units, found.uncompared, found.uncovered_positions) == (0, 0, 0)


async def test_many_claims_and_many_places_are_all_counted(open_shop: Open, raw: redis.asyncio.Redis) -> None:
    """A SKU at more locations than a card has, and one with more claims than are compared."""
    inventory = await open_shop(1)
    for number in range(40):
        await inventory.save_location(Location(f"l{number}", LocationKind.STORE))
        await receive(inventory, "wide", f"l{number}", 5)
        await inventory.reserve(f"w{number}", [Line("wide", 1, f"l{number}")])
    claims = 16 * LARGE_BLOCKS + 100
    await receive(inventory, "deep", "s1", 5000)
    await asyncio.gather(
        *(inventory.reserve(f"d{number}", [Line("deep", 2, "s1")]) for number in range(claims))
    )
    found = await take_stock(inventory)
    assert sum(one.holds for one in found.places) == 40 + claims
    assert (
        sum(one.held for one in found.places) == sum(one.held for one in found.locations) == 40 + 2 * claims
    )
    assert (found.drifted_units, found.uncompared) == (0, 1)


async def test_a_tick_of_a_stocktake_is_short_however_much_is_claimed(
    open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other workers share its process: no tick reads more records than two calls do."""
    inventory, skus = await open_shop(1), [f"A-{number}" for number in range(40)]
    for sku in skus:
        await receive(inventory, sku, "s1", 1000)
        lines = [Line(sku, 1, "s1")]
        await asyncio.gather(*(inventory.reserve(f"{sku}-{number}", lines) for number in range(60)))
    claims = 16 * LARGE_BLOCKS + 200
    await receive(inventory, "deep", "s1", 5000)
    await asyncio.gather(
        *(inventory.reserve(f"d{number}", [Line("deep", 1, "s1")]) for number in range(claims))
    )
    taker, read, records, most = Stocktaker(inventory), Stocktaker._read, 0, 0

    async def count(
        self: Stocktaker, partition: int, names: Sequence[str], ids: Sequence[bytes]
    ) -> tuple[dict[str, bytes | None], dict[bytes, bytes | None]]:
        nonlocal records
        records += len(ids)
        return await read(self, partition, names, ids)

    monkeypatch.setattr(Stocktaker, "_read", count)
    while taker.counts is None:
        records = 0
        await taker.tick()
        most = max(most, records)
    assert 0 < most <= 2 * CALL_CLAIMS
    assert sum(one.holds for one in taker.counts.places) == 40 * 60 + claims


async def test_a_stocktake_finds_drift_and_what_is_uncovered(
    open_shop: Open, raw: redis.asyncio.Redis
) -> None:
    """A hand on a record, a record that is gone, and a fact that took goods which were promised."""
    inventory = await open_shop(1)
    for sku in ("A", "B", "C"):
        await receive(inventory, sku, "s1", 10)
    await inventory.reserve("a", [Line("A", 4, "s1")])
    held = await inventory.reserve("b", [Line("B", 6, "s1")])
    await inventory.reserve("c", [Line("C", 8, "s1")])
    await inventory.record(Movement("sold", MovementKind.SALE, "C", "s1", 5))
    assert (await take_stock(inventory)).drifted_units == 0
    routed = parse_reservation_id(held.id)
    assert routed is not None
    await raw.hdel(keys.operations(0), routed[1])
    found = await take_stock(inventory)
    assert (found.drifted_positions, found.drifted_units) == (1, 6)
    assert found.uncovered_positions == 1
    assert {one.location: one.uncovered for one in found.locations} == {"s1": 3}


async def test_a_walk_beside_shoppers_finds_no_drift(open_shop: Open) -> None:
    """Cards and records change while they are read: what is not of one moment is read again."""
    inventory = await open_shop(1)
    for number in range(20):
        await receive(inventory, f"A-{number}", "s1", 100_000)
    over = asyncio.Event()

    async def shop(shopper: int) -> None:
        count = 0
        while not over.is_set():
            count += 1
            held = await inventory.reserve(f"{shopper}-{count}", [Line(f"A-{count % 20}", 1, "s1")])
            if count % 3:
                await inventory.release(held.id)

    shoppers = [asyncio.create_task(shop(shopper)) for shopper in range(8)]
    await asyncio.sleep(0)
    drifts, compared = set(), 0
    for _ in range(20):
        found = await take_stock(inventory)
        drifts.add(found.drifted_units)
        compared += 20 - found.uncompared
    over.set()
    await asyncio.gather(*shoppers)
    assert drifts == {0}
    assert compared > 0


async def test_the_bookkeeper_counts_what_came_of_holds(open_shop: Open, partitions: int) -> None:
    """The same as the events decoded one by one say; partial commits count what they took."""
    inventory = await open_shop(partitions)
    first, second = skus_apart(partitions)
    for sku in (first, second):
        await receive(inventory, sku, "s1", 1000)
    bookkeeper = Bookkeeper(inventory)
    await bookkeeper.tick()
    assert (await read_all(bookkeeper)).events == 0, "it begins where the ledger ends"
    for number in range(12):
        lines = [Line(first, 2, "s1"), Line(second, 3, "s1")][: 1 + number % 2]
        held = await inventory.reserve(f"h{number}", lines, ttl_seconds=1 if number % 6 == 5 else 900)
        if number % 6 in {0, 1}:
            await inventory.commit(held.id)
            if number % 6 == 1:
                await inventory.fulfil(held.id)
            else:
                await inventory.cancel(held.id)
        elif number % 6 == 2:
            await inventory.commit(held.id, lines=[Line(first, 1, "s1")], fulfil=number > 6)
        elif number % 6 == 3:
            await inventory.release(held.id)
    await asyncio.sleep(1.1)
    await inventory.sweep()
    await inventory.record(Movement("sold", MovementKind.SALE, first, "s1", 5))
    counts = await read_all(bookkeeper)
    # Even ones have 2 units, odd ones 5; of each kind there are two.
    assert counts.holds == {
        "held": 12,
        "committed": 6,
        "released": 2,
        "fulfilled": 2,
        "cancelled": 2,
        "expired": 2,
    }
    assert counts.units == {
        "held": 42,
        "committed": 2 * 2 + 2 * 5 + 2 * 1,
        "released": 2 * 5 + 2 * 1,
        "fulfilled": 2 * 5,
        "cancelled": 2 * 2,
        "expired": 2 * 5,
    }
    assert counts.facts == 1
    assert (counts.oversold_units, counts.gaps, counts.rollbacks, counts.damaged, counts.behind) == (0,) * 5


async def test_the_bookkeeper_tells_of_loss(open_shop: Open, raw: redis.asyncio.Redis) -> None:
    """An entry that is gone, one that is damaged, and a ledger that ends earlier than it did."""
    inventory = await open_shop(1)
    await receive(inventory, "A", "s1", 100)
    bookkeeper = Bookkeeper(inventory)
    await bookkeeper.tick()
    await inventory.reserve("a", [Line("A", 1, "s1")])
    entry, fields = (await raw.xrevrange(keys.log(0), count=1))[0]
    await inventory.reserve("b", [Line("A", 1, "s1")])
    await raw.xdel(keys.log(0), entry)
    counts = await read_all(bookkeeper)
    assert (counts.gaps, counts.damaged, counts.rollbacks) == (1, 0, 0)
    epoch, seq = (int(number) for number in await raw.hmget(keys.meta(0), "epoch", "seq"))
    await raw.xadd(keys.log(0), {"e": fields[b"e"][:-1]}, id=f"{epoch}-{seq + 1}")
    counts = await read_all(bookkeeper)
    assert (counts.gaps, counts.damaged, counts.rollbacks) == (1, 1, 0)
    await raw.xdel(keys.log(0), f"{epoch}-{seq + 1}")
    counts = await read_all(bookkeeper)
    assert (counts.gaps, counts.damaged, counts.rollbacks) == (1, 1, 1)


async def test_claims_that_come_while_a_card_is_read_are_no_drift(
    open_shop: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card that meanwhile has another block of claims is read again."""
    inventory = await open_shop(1)
    await receive(inventory, "A", "s1", 1000)
    await inventory.reserve("first", [Line("A", 1, "s1")])
    taker, read, count = Stocktaker(inventory), Stocktaker._read, 0

    async def read_late(
        self: Stocktaker, partition: int, names: Sequence[str], ids: Sequence[bytes]
    ) -> tuple[dict[str, bytes | None], dict[bytes, bytes | None]]:
        nonlocal count
        count += 1
        if count < 3:
            for number in range(20):
                await inventory.reserve(f"{count}-{number}", [Line("A", 1, "s1")])
        return await read(self, partition, names, ids)

    monkeypatch.setattr(Stocktaker, "_read", read_late)
    while taker.counts is None:
        await taker.tick()
    assert (taker.counts.drifted_units, taker.counts.uncompared) == (0, 0)
    assert taker.counts.places[0].held == 41


@pytest.mark.parametrize("follows", [False, True])
async def test_oversold_is_told_unless_a_fact_explains_it(
    open_shop: Open, raw: redis.asyncio.Redis, follows: bool
) -> None:
    """Less than was promised right after a hold is our fault; after a fact that followed, it is not."""
    inventory = await open_shop(1)
    await receive(inventory, "A", "s1", 10)
    bookkeeper = Bookkeeper(inventory)
    await bookkeeper.tick()
    await inventory.reserve("a", [Line("A", 6, "s1")])
    await receive(inventory, "B", "s1", 500)
    for number in range(120):
        await inventory.reserve(f"b{number}", [Line("B", 1, "s1")])
    if follows:
        await inventory.record(Movement("sold", MovementKind.SALE, "A", "s1", 7))
    else:
        card = bytearray(await raw.hget(keys.stock(0), "A"))
        at = 11 + int.from_bytes(card[3:5], "little")
        card[at : at + 4] = (3).to_bytes(4, "little")
        await raw.hset(keys.stock(0), "A", bytes(card))
    counts = await read_all(bookkeeper)
    assert counts.oversold_units == (0 if follows else 3)
    assert counts.uncovered_units == (3 if follows else 0)


async def test_lost_demand_is_noted_by_channel(open_shop: Open) -> None:
    """Units of the lines that were short, whether the caller named a location or a channel chose it."""
    inventory = await open_shop(1)
    await receive(inventory, "A", "s1", 3)
    await receive(inventory, "B", "s1", 3)
    with pytest.raises(InsufficientStock):
        await inventory.reserve("a", [Line("A", 5, "s1"), Line("A", 2, "s1"), Line("B", 1, "s1")])
    with pytest.raises(InsufficientStock):
        await inventory.reserve("b", [Line("B", 4, "s1")], channel="web")
    assert inventory.metrics.lost_units == {NONE: 7, "web": 4}


async def test_a_survey_tells_lags_and_epochs(open_shop: Open, raw: redis.asyncio.Redis) -> None:
    """The oldest hold that is due, the ledger, the skew, another epoch."""
    inventory = await open_shop(1)
    await receive(inventory, "A", "s1", 10)
    surveyor = Surveyor(inventory)
    await inventory.reserve("a", [Line("A", 1, "s1")], ttl_seconds=1)
    await asyncio.sleep(1.3)
    await raw.hset(keys.meta(0), "skew", -500)
    await surveyor.tick()
    assert surveyor.figures is not None
    (partition,), (server,) = surveyor.figures.partitions, surveyor.figures.servers
    assert 700 < partition.late_ms < 20_000
    assert partition.repair_late_ms == 0
    assert (partition.seq, partition.skew_ms) == (6, -500)
    assert partition.entries == await raw.xlen(keys.log(0))
    assert server.used_memory > 500_000
    assert surveyor.figures.epoch_changes == 0
    await raw.hincrby(keys.meta(0), "epoch", 1)
    await surveyor.tick()
    assert surveyor.figures.epoch_changes == 1


async def test_a_survey_does_not_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    """It fails in time, and what was found last stays as old as it is."""
    with EmbeddedServer.start(tmp_path / "data", durability="none") as server:
        inventory = await connect(server.url)
        surveyor = Surveyor(inventory)
        await surveyor.tick()
        found = surveyor.figures
        os.kill(server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(8):
                with pytest.raises(StorageUnavailable, match="no figures came"):
                    await surveyor.tick()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert surveyor.figures is found
        await inventory.close()


async def test_labels_are_few(open_shop: Open) -> None:
    """The names that come first keep theirs for ever; what there is no room for shares one."""
    labels = Labels(2)
    assert [labels.of(name) for name in ("a", "b", "c", "a", "", None, "d", "b")] == [
        *("a", "b", OTHER, "a", NONE, NONE, OTHER, "b")
    ]
    inventory = await open_shop(1)
    for number in range(MOST_LOCATIONS + 5):
        await inventory.save_location(Location(f"l{number}", LocationKind.STORE))
        await receive(inventory, f"A-{number}", f"l{number}", 2)
        await inventory.reserve(
            f"h{number}", [Line(f"A-{number}", 1, f"l{number}")], owner=None, channel=None
        )
    found = await take_stock(inventory)
    assert len(found.locations) == len(found.places) == MOST_LOCATIONS + 1
    assert Counter(one.held for one in found.places) == {1: MOST_LOCATIONS, 5: 1}
    for number in range(MOST_CHANNELS + 5):
        inventory.metrics.lose(f"c{number}", 1)
    assert len(inventory.metrics.lost_units) == MOST_CHANNELS + 1
    assert inventory.metrics.lost_units[OTHER] == 5
