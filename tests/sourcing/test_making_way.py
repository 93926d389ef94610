"""What floats is counted once and then kept up to date: refusals stay cheap, and nothing is missed."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import engine
from engine import Inventory, Line, Location, LocationKind, Movement, MovementKind, Pool, keys
from engine.audit import audit
from engine.errors import InsufficientStock
from engine.sourcing_plan import Rules, Wanted
from engine.types import Move
from tests.servers import Control, Server, node_of

WEB, APP = Rules(pool="web"), Rules(pool="app")
MANY = 2500
TOGETHER = 250


@pytest.fixture
async def shelves(inventory: Inventory) -> Inventory:
    """The web sells a and b, the app b and c; a web unit floats at a, one of the app at b, and c is full."""
    await inventory.save_pool(Pool("web", ("a", "b")))
    await inventory.save_pool(Pool("app", ("b", "c")))
    for place in ("a", "b", "c"):
        await inventory.record(Movement(f"in {place}", MovementKind.RECEIVE, "mug", place, 1))
    await inventory.source("first", [Wanted("mug", 1, "c")], rules=APP)
    await inventory.source("web", [Wanted("mug", 1)], rules=WEB)
    await inventory.source("app", [Wanted("mug", 1)], rules=APP)
    # Somebody looks for a way, and there is none: from here on there are counts.
    await inventory.record(Movement("in d", MovementKind.RECEIVE, "mug", "d", 1))
    assert not await buys(inventory, "counts")
    return inventory


async def buys(inventory: Inventory, key: str) -> bool:
    """Whether the web gets one more."""
    try:
        await inventory.source(key, [Wanted("mug", 1)], rules=WEB)
    except InsufficientStock:
        return False
    return True


async def release_the_bound(inventory: Inventory) -> None:
    held = await inventory.source("first", [Wanted("mug", 1, "c")], rules=APP)
    await inventory.release(held.id)


async def app_hold(inventory: Inventory) -> str:
    return (await inventory.source("app", [Wanted("mug", 1)], rules=APP)).id


async def test_it_makes_way_once_there_is_room(shelves: Inventory) -> None:
    """Place c comes free, so the app's unit goes there and the web gets b; then nothing is left."""
    await release_the_bound(shelves)
    assert await buys(shelves, "one")
    assert [line.location for line in (await shelves.reservation(await app_hold(shelves))).lines] == ["c"]
    assert not await buys(shelves, "two")


async def commit(inventory: Inventory) -> None:
    await inventory.commit(await app_hold(inventory))


async def name_the_place(inventory: Inventory) -> None:
    await inventory.move(await app_hold(inventory), [Move("mug", "b", "d", 1)], op_id="away")
    await inventory.move(await app_hold(inventory), [Move("mug", "d", "b", 1)], op_id="back")


@pytest.mark.parametrize("change", [commit, name_the_place])
async def test_what_floats_no_more_stays(
    shelves: Inventory, change: Callable[[Inventory], Awaitable[None]]
) -> None:
    """A committed unit and one whose place the caller chose stay at b, though c is free."""
    await change(shelves)
    await release_the_bound(shelves)
    assert not await buys(shelves, "one")


async def test_what_floats_again_makes_way(shelves: Inventory) -> None:
    """One floating hold ends and another begins, after the counts were made."""
    await shelves.release(await app_hold(shelves))
    held = await shelves.source("another", [Wanted("mug", 1)], rules=APP)
    assert [line.location for line in held.lines] == ["b"]
    await release_the_bound(shelves)
    assert await buys(shelves, "one")
    report = await audit(shelves)
    assert not report.differences, report.differences


async def test_a_refusal_costs_the_same_however_many_hold(server: Server, control: Control) -> None:
    """A sold-out SKU with thousands of holds in the pool, and units elsewhere that the pool may not sell."""
    inventory = await engine.connect(server.url, partitions=1)
    for place in ("a", "b", "c"):
        await inventory.save_location(Location(place, LocationKind.STORE))
    await inventory.save_pool(Pool("web", ("a", "b")))
    costs, node = [], node_of(control, keys.stock(0))
    for sku, holds in (("quiet", 10), ("hot", MANY)):
        for place in ("a", "b"):
            await inventory.record(Movement(f"{sku} {place}", MovementKind.RECEIVE, sku, place, holds // 2))
        await inventory.record(Movement(f"{sku} c", MovementKind.RECEIVE, sku, "c", 5))
        for start in range(0, holds, TOGETHER):
            some = range(start, min(start + TOGETHER, holds))
            await asyncio.gather(
                *(inventory.source(f"{sku} {number}", [Wanted(sku, 1)], rules=WEB) for number in some)
            )
        await refuse(inventory, sku, 1)
        node.config_resetstat()
        await refuse(inventory, sku, 50)
        costs.append(node.info("commandstats")["cmdstat_fcall"]["usec"])
    assert costs[1] < 10 * costs[0], costs
    assert (await inventory.reserve("c", [Line("hot", 5, "c")])).lines[0].held == 5
    await inventory.close()


async def refuse(inventory: Inventory, sku: str, times: int) -> None:
    for number in range(times):
        with pytest.raises(InsufficientStock):
            await inventory.source(f"no {sku} {number}", [Wanted(sku, 1)], rules=WEB)
