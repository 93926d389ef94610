from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from engine import Inventory, Line, Location, LocationKind, Movement, MovementKind, connect, keys, limits
from engine.errors import StorageUnavailable
from engine.outcomes import Outcome
from engine.topology.embedded import EmbeddedServer
from engine.types import State
from engine.workers import Host, Sweeper
from engine.workers.sweeper import TICK_SECONDS

MOST_LATE_SECONDS = 1.0
Open = Callable[..., Awaitable[Inventory]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A real server, emptied before each test."""
    with EmbeddedServer.start(tmp_path_factory.mktemp("sweeper"), durability="none") as running:
        yield running


@pytest.fixture
async def raw(server: EmbeddedServer) -> AsyncIterator[redis.asyncio.Redis]:
    """A look at the store that asks the engine nothing."""
    async with redis.asyncio.Redis.from_url(server.url) as connection:
        await connection.flushall()
        yield connection


@pytest.fixture
async def open_inventory(server: EmbeddedServer, raw: redis.asyncio.Redis) -> AsyncIterator[Open]:
    """Opens engines on the data set, with plenty of stock at `s1`."""
    opened: list[Inventory] = []

    async def open_one(partitions: int | None = None) -> Inventory:
        inventory = await connect(server.url, partitions=partitions)
        opened.append(inventory)
        return inventory

    yield open_one
    for inventory in opened:
        await inventory.close()


async def stock(inventory: Inventory, *skus: str) -> None:
    """A thousand units of each SKU at `s1`."""
    await inventory.save_location(Location("s1", LocationKind.STORE))
    for sku in skus:
        await inventory.record(Movement(f"m-{sku}", MovementKind.RECEIVE, sku, "s1", 1000))


async def test_a_lapsed_hold_comes_back_though_nobody_asks(
    open_inventory: Open, raw: redis.asyncio.Redis
) -> None:
    """At most a second late, by the store's clock; seen in the ledger, where asking changes nothing."""
    inventory = await open_inventory()
    await stock(inventory, "A-1")
    sweeper = await open_inventory()
    host = Host([Sweeper(sweeper)])
    running = asyncio.create_task(host.run())
    begun = asyncio.get_running_loop().time()
    held = await inventory.reserve("cart-1", [Line("A-1", 3, "s1")], ttl_seconds=1)
    version = str((await raw.xrevrange(keys.log(0), count=1))[0][0], "ascii")
    async with asyncio.timeout(10):
        # The ledger wakes us itself: what comes next in it is the expiry.
        ((_, ((_, fields),)),) = await raw.xread({keys.log(0): version}, block=9000)
    late = asyncio.get_running_loop().time() - begun - 1.0
    assert fields
    assert -0.05 < late < MOST_LATE_SECONDS
    host.stop()
    await running
    assert sweeper.metrics.operations["expire", Outcome.EXPIRED] == 1
    assert await raw.zcount(keys.due(0), 0, held.expires_ms or 0) == 0
    assert (await inventory.reservation(held.id)).state is State.EXPIRED
    assert (await inventory.stock("A-1"))[0].held == 0


async def lapse(raw: redis.asyncio.Redis, until_ms: int) -> None:
    """Waits until the store's clock has passed a deadline."""
    while True:
        seconds, microseconds = await raw.time()
        left = until_ms - seconds * 1000 - microseconds // 1000
        if left < 0:
            return
        await asyncio.sleep(left / 1000 + 0.001)


@pytest.mark.parametrize("partition_count", [1, 8])
async def test_ticks_until_nothing_is_left(
    open_inventory: Open, raw: redis.asyncio.Redis, partition_count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that is left asks for the next tick at once; two sweepers share it and count it once."""
    monkeypatch.setattr(limits, "SWEEP_IDS", 16)
    inventory = await open_inventory(partition_count)
    skus = [f"A-{number}" for number in range(20)]
    await stock(inventory, *skus)
    held = [
        # One by one, so that each is an entry of its own in the deadline index.
        await inventory.reserve(f"cart-{number}", [Line(skus[number % 20], 1, "s1")], ttl_seconds=1)
        for number in range(60)
    ]
    await lapse(raw, max(reservation.expires_ms or 0 for reservation in held))
    engines = [await open_inventory() for _ in range(2)]
    sweepers = [Sweeper(engine) for engine in engines]
    waits = [await asyncio.gather(*(sweeper.tick() for sweeper in sweepers))]
    while 0.0 in waits[-1]:
        waits.append(await asyncio.gather(*(sweeper.tick() for sweeper in sweepers)))
    assert waits[-1] == [TICK_SECONDS] * 2
    assert 0.0 in waits[0] or partition_count > 1
    counted = [engine.metrics.operations.get(("expire", Outcome.EXPIRED), 0) for engine in engines]
    assert sum(counted) == 60
    for sku in skus:
        assert (await inventory.stock(sku))[0].held == 0


async def test_a_tick_without_a_server(server: EmbeddedServer, raw: redis.asyncio.Redis) -> None:
    """It says that nothing happened; a later one finds the work."""
    inventory = await connect(server.url)
    sweeper = Sweeper(inventory)
    assert await sweeper.tick() == TICK_SECONDS
    await inventory.close()
    with pytest.raises(StorageUnavailable):
        await sweeper.tick()


@pytest.mark.faults
async def test_a_process_of_its_own(
    open_inventory: Open, server: EmbeddedServer, raw: redis.asyncio.Redis, tmp_path: Path
) -> None:
    """The program gives back what lapses, and ends with 0 on SIGTERM."""
    inventory = await open_inventory()
    await stock(inventory, "A-1")
    environment = {**os.environ, "BINCARD_REDIS_URL": server.url, "BINCARD_RUN_DIR": str(tmp_path)}
    environment.pop("BINCARD_PARENT_PID", None)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "api.worker"),
        env=environment,
        cwd=Path(__file__).parent,
    )
    try:
        await inventory.reserve("cart-1", [Line("A-1", 3, "s1")], ttl_seconds=1)
        version = str((await raw.xrevrange(keys.log(0), count=1))[0][0], "ascii")
        async with asyncio.timeout(20):
            assert await raw.xread({keys.log(0): version}, block=19_000)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
