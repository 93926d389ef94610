"""A data set keeps everything when its number of partitions changes."""

import pytest
from redis import Redis

import engine
from engine import Inventory
from engine.audit import audit
from engine.repartition import repartition
from engine.topology.embedded import EmbeddedServer
from tests.repartition.day import Day, open_day, tell


async def assert_clean(inventory: Inventory) -> None:
    report = await audit(inventory)
    assert report.is_clean, (report.differences[:5], report.violations[:5], report.notes)


async def end(day: Day) -> dict[str, object]:
    """Ends the day at the source; what was to be seen of it."""
    await day.catch_up()
    seen = await tell(day.inventory, day)
    await assert_clean(day.inventory)
    await day.inventory.close()
    return seen


@pytest.mark.parametrize(
    ("before", "after"), [(1, 8), (8, 1), (8, 3), (1, 64), (3, 64)], ids=lambda number: f"P{number}"
)
async def test_a_random_day(
    server: EmbeddedServer,
    control: "Redis[bytes]",
    other_server: EmbeddedServer,
    target: "Redis[bytes]",
    before: int,
    after: int,
) -> None:
    """Every reservation, position and answer is there, the shop goes on, and the way back is as good."""
    day = await open_day(server.url, control, before, seed=before * 100 + after)
    await day.fill()
    await day.work(250)
    seen = await end(day)
    states = {getattr(one, "state", None) for one in seen.values()}
    assert {"held", "committed", "fulfilled", "released", "expired", "cancelled"} <= states
    moved = await repartition(server.url, other_server.url, after)
    assert (moved.before, moved.after, moved.reservations) == (before, after, len(day.made))
    assert moved.gave_way == 0
    shop = await engine.connect(other_server.url)
    try:
        assert shop.dataset.partitions == after
        assert await tell(shop, day) == seen
        day.inventory = shop
        await day.work(120, longest_ms=0)
        await shop.sweep()
        await assert_clean(shop)
        seen = await tell(shop, day)
    finally:
        await shop.close()
    control.flushall()
    await repartition(other_server.url, server.url, before)
    shop = await engine.connect(server.url)
    try:
        assert await tell(shop, day) == seen
        await assert_clean(shop)
    finally:
        await shop.close()
