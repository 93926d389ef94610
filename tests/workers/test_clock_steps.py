"""The server's clock is set ahead or back while holds are open: none lapses early, all lapse in time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from redis import Redis

from engine import Inventory, Line, Location, LocationKind, Movement, MovementKind
from engine.audit import audit
from engine.dataset import open_dataset
from engine.errors import InsufficientStock
from engine.script import Library, assemble, read_sources
from engine.topology.embedded import EmbeddedServer
from engine.types import State
from engine.workers import Host, Sweeper

OFFSET_KEY = "test:offset"
HOUR = 3_600_000
TTL_SECONDS = 2
STEPS = [HOUR, -HOUR, 5000, -5000]


def scripts() -> Library:
    """Those of the release, but what they take for the server's clock can be set."""
    includes, verbs = read_sources()
    right = "math_floor(time[2] / 1000)"
    assert includes["clock"].count(right) == 1
    set_clock = includes["clock"].replace(right, f"{right} + (redis.call('GET', '{OFFSET_KEY}') or 0)")
    return assemble({**includes, "clock": set_clock}, verbs)


@pytest.fixture
async def open_shop(
    server: EmbeddedServer, control: "Redis[bytes]"
) -> AsyncIterator[Callable[[], Awaitable[Inventory]]]:
    """Opens engines whose watches are their own."""
    opened: list[Inventory] = []

    async def open_one() -> Inventory:
        dataset = await open_dataset(server.url, scripts=scripts(), is_watched=True)
        opened.append(Inventory(dataset))
        return opened[-1]

    yield open_one
    for inventory in opened:
        await inventory.close()
    control.delete(OFFSET_KEY)


async def stocked(inventory: Inventory) -> Inventory:
    await inventory.save_location(Location("s1", LocationKind.STORE))
    await inventory.record(Movement("in", MovementKind.RECEIVE, "mug", "s1", 5))
    return inventory


def loop_time() -> float:
    return asyncio.get_running_loop().time()


async def until_free(inventory: Inventory, units: int) -> float:
    """When so many can be promised."""
    while (await inventory.availability("mug")).available < units:  # noqa: ASYNC110 - the store tells nobody
        await asyncio.sleep(0.02)
    return loop_time()


@pytest.mark.parametrize("step", STEPS)
async def test_under_a_sweeper(
    open_shop: Callable[[], Awaitable[Inventory]], control: "Redis[bytes]", step: int
) -> None:
    """Also for who asks for the held units all the while; and time goes on for what is held afterwards."""
    shopper = await stocked(await open_shop())
    host = Host([Sweeper(await open_shop()), Sweeper(await open_shop())])
    running = asyncio.create_task(host.run())
    await asyncio.sleep(1.3)
    begun = loop_time()
    first = await shopper.reserve("first", [Line("mug", 5, "s1")], ttl_seconds=TTL_SECONDS)
    was_made = loop_time()
    control.set(OFFSET_KEY, step)
    tries = 0
    while True:
        asked = loop_time()
        try:
            second = await shopper.reserve(f"next {tries}", [Line("mug", 5, "s1")], ttl_seconds=TTL_SECONDS)
        except InsufficientStock:
            tries += 1
            await asyncio.sleep(0.01)
        else:
            break
    lasted = loop_time() - begun
    assert tries
    assert TTL_SECONDS - 0.05 < lasted < TTL_SECONDS + 1
    assert (await shopper.reservation(first.id)).state is State.EXPIRED
    # Each was made at some time while it was asked for.
    between_ms = second.created_ms - first.created_ms
    assert (asked - was_made) * 1000 - 500 < between_ms < lasted * 1000 + 500
    begun = loop_time()
    assert TTL_SECONDS - 0.05 < await until_free(shopper, 5) - begun < TTL_SECONDS + 1
    control.delete(OFFSET_KEY)
    await asyncio.sleep(0.5)
    begun = loop_time()
    third = await shopper.reserve("third", [Line("mug", 5, "s1")], ttl_seconds=TTL_SECONDS)
    assert abs(third.created_ms - second.created_ms) < HOUR // 10
    assert TTL_SECONDS - 0.05 < await until_free(shopper, 5) - begun < TTL_SECONDS + 1
    host.stop()
    await running
    report = await audit(shopper)
    assert report.is_clean, report


@pytest.mark.parametrize("step", STEPS)
async def test_a_hold_made_in_the_moment_of_the_step_is_not_short(
    open_shop: Callable[[], Awaitable[Inventory]], control: "Redis[bytes]", step: int
) -> None:
    """Before any sweeper has seen it; a step ahead may make such a hold long."""
    shopper = await stocked(await open_shop())
    sweeper = Sweeper(await open_shop())
    began = loop_time()
    while loop_time() < began + 1.3:
        await sweeper.tick()
        await asyncio.sleep(0.1)
    control.set(OFFSET_KEY, step)
    begun = loop_time()
    held = await shopper.reserve("first", [Line("mug", 5, "s1")], ttl_seconds=TTL_SECONDS)
    while True:
        await sweeper.tick()
        state = (await shopper.reservation(held.id)).state
        if loop_time() - begun > TTL_SECONDS - 0.05:
            break  # It may have lapsed before it was looked at.
        assert state is State.HELD
        await asyncio.sleep(0.02)


async def tick_for(seconds: float, *sweepers: Sweeper) -> None:
    began = loop_time()
    while loop_time() < began + seconds:
        await asyncio.gather(*(sweeper.tick() for sweeper in sweepers))
        await asyncio.sleep(0.02)


async def until_lapsed(inventory: Inventory, reservation: str, *sweepers: Sweeper) -> float:
    """When a hold has been given back."""
    while (await inventory.reservation(reservation)).state is State.HELD:
        await tick_for(0.02, *sweepers)
    return loop_time()


async def test_a_clock_that_goes_back_and_returns_between_two_sweeps(
    open_shop: Callable[[], Awaitable[Inventory]], control: "Redis[bytes]"
) -> None:
    """No sweeper ever sees it, for much longer than one rests: what was held meanwhile has its time."""
    shopper = await stocked(await open_shop())
    sweeper = Sweeper(await open_shop())
    await tick_for(1.3, sweeper)
    control.set(OFFSET_KEY, -HOUR)
    for _ in range(50):
        await shopper.stock("mug")
        await asyncio.sleep(0.02)
    begun = loop_time()
    held = await shopper.reserve("first", [Line("mug", 5, "s1")], ttl_seconds=TTL_SECONDS)
    control.delete(OFFSET_KEY)
    lasted = await until_lapsed(shopper, held.id, sweeper) - begun
    assert TTL_SECONDS - 0.05 < lasted < TTL_SECONDS + 1


async def test_a_clock_that_goes_ahead_and_returns_between_two_sweeps(
    open_shop: Callable[[], Awaitable[Inventory]], control: "Redis[bytes]"
) -> None:
    """What was held before lapses neither early nor an hour late, though two sweepers tell of the step."""
    shopper = await stocked(await open_shop())
    sweepers = Sweeper(await open_shop()), Sweeper(await open_shop())
    await tick_for(1.3, *sweepers)
    begun = loop_time()
    held = await shopper.reserve("first", [Line("mug", 5, "s1")], ttl_seconds=TTL_SECONDS)
    control.set(OFFSET_KEY, HOUR)
    await shopper.reservation(held.id)
    control.delete(OFFSET_KEY)
    lasted = await until_lapsed(shopper, held.id, *sweepers) - begun
    assert TTL_SECONDS - 0.05 < lasted < TTL_SECONDS + 1


async def test_without_a_sweeper_holds_lapse_when_somebody_asks(
    open_shop: Callable[[], Awaitable[Inventory]], control: "Redis[bytes]"
) -> None:
    """An engine alone: its own questions vouch for time, though whoever swept is long gone."""
    gone = Sweeper(await open_shop())
    shopper = await stocked(await open_shop())
    for _ in range(3):
        await gone.tick()
    await shopper.reserve("first", [Line("mug", 5, "s1")], ttl_seconds=1)
    await asyncio.sleep(1.2)
    await shopper.reserve("second", [Line("mug", 5, "s1")], ttl_seconds=1)
    await asyncio.sleep(1.2)
    await until_free(shopper, 5)
    control.set(OFFSET_KEY, HOUR)
    held = await shopper.reserve("third", [Line("mug", 5, "s1")], ttl_seconds=60)
    with pytest.raises(InsufficientStock):
        await shopper.reserve("fourth", [Line("mug", 5, "s1")])
    assert (await shopper.reservation(held.id)).state is State.HELD
