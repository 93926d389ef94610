"""Audits of policies, fences and what channels hold: clean after anything, and no wrong number is missed."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

import pytest
from redis import Redis

import engine
from engine import (
    BincardError,
    Channel,
    Inventory,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Policy,
    Pool,
    Reservation,
    keys,
)
from engine.audit import audit
from engine.cards import FLAG_FENCED, UNLIMITED, decode_fences, encode_fences, fence_field
from engine.events import read_events
from engine.sourcing_plan import Rules, Wanted
from engine.topology.embedded import EmbeddedServer
from engine.types import Fence
from tests.audit.test_audit import faults

PLACES, SKUS, CHANNELS = ("s1", "s2", "s3"), ("mug", "cup/1", "pan é"), ("web", "app")
STOCK, FENCED = keys.stock(0), keys.fenced(0)


async def open_shop(url: str, partitions: int = 1) -> Inventory:
    """Stock at three places. Each channel has one of them, so that what floats stays where it is."""
    inventory = await engine.connect(url, partitions=partitions)
    for place in PLACES:
        await inventory.save_location(Location(place, LocationKind.STORE))
    for channel, place in zip(CHANNELS, PLACES, strict=False):
        await inventory.save_pool(Pool(f"of-{channel}", (place,)))
        await inventory.save_channel(Channel(channel, (f"of-{channel}",)))
    for sku in SKUS:
        for place in PLACES:
            await inventory.record(Movement(f"{sku} {place}", MovementKind.RECEIVE, sku, place, 20))
    return inventory


class Seller:
    """Sells through channels at random, while policies and fences come and go."""

    def __init__(self, inventory: Inventory, seed: int) -> None:
        self.inventory = inventory
        self.random = random.Random(seed)
        self.name = f"seller-{seed}"
        self.made: list[Reservation] = []

    async def act(self, step: int) -> None:
        """One thing; refusals are taken as they come."""
        pick, inventory = self.random, self.inventory
        sku, place, quantity = pick.choice(SKUS), pick.choice(PLACES), pick.randint(1, 6)
        channel = pick.choice(CHANNELS)
        wanted = [Wanted(sku, quantity, pick.choice((place, None, None)))]
        made = pick.choice(self.made[-8:]) if self.made else None
        reservation = made.id if made else ""
        chosen = [Line(line.sku, 1, line.location) for line in made.lines] if made else []
        acts: list[Callable[[], object]] = [
            lambda: inventory.save_policy(
                Policy(sku, place, pick.randint(0, 3), pick.choice((0, 3, UNLIMITED)), 2)
            ),
            lambda: inventory.delete_policy(sku, place),
            lambda: inventory.save_fence(channel, sku, place, pick.randint(0, 9), spill=pick.random() < 0.5),
            lambda: inventory.delete_fence(channel, sku, place),
            lambda: inventory.record(
                Movement(f"{self.name} {step}", MovementKind.ADJUST, sku, place, pick.choice((-5, 5)))
            ),
            *[lambda: self.sell(step, wanted, Rules(channel=channel))] * 4,
            lambda: inventory.release(reservation),
            lambda: inventory.release(reservation, lines=chosen, op_id=f"{self.name} {step}"),
            lambda: inventory.commit(reservation),
            lambda: inventory.commit(reservation, fulfil=True),
            lambda: inventory.commit(
                reservation, lines=chosen, remainder="keep", op_id=f"{self.name} {step}"
            ),
            lambda: inventory.commit(reservation, if_expired="retake"),
            lambda: inventory.fulfil(reservation),
            lambda: inventory.cancel(reservation),
            lambda: inventory.cancel(reservation, lines=chosen, op_id=f"{self.name} {step}"),
        ]
        with suppress(BincardError):
            await pick.choice(acts)()  # type: ignore[misc] - each is a coroutine of its own kind

    async def sell(self, step: int, wanted: list[Wanted], rules: Rules) -> None:
        ttl_seconds = self.random.choice((1, 600))
        made = await self.inventory.source(
            f"{self.name} {step}", wanted, rules=rules, ttl_seconds=ttl_seconds
        )
        self.made.append(made)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("seed", range(2))
async def test_whatever_is_sold_the_books_are_the_ledger(
    server: EmbeddedServer, seed: int, count: int
) -> None:
    """Also after some holds have lapsed; the round counts only if fences were used."""
    inventory = await open_shop(server.url, count)
    sellers = [Seller(inventory, 100 * seed + number) for number in range(8)]
    for moment in range(2):
        for step in range(40):
            await asyncio.gather(*(seller.act(1000 * moment + step) for seller in sellers))
        await asyncio.sleep(1.1)
        await inventory.sweep()
        report = await audit(inventory)
        assert report.is_clean, faults(report)
    kinds = {
        type(event).__name__
        for partition in range(count)
        async for event in read_events(inventory.dataset.topology, partition)
    }
    assert {
        "PolicySaved",
        "FenceSaved",
        "Released",
        "Committed",
        "Fulfilled",
        "Cancelled",
        "Expired",
    } <= kinds
    await inventory.close()


@pytest.fixture
def field() -> str:
    return fence_field("mug", "s1")


def _change_fence(control: "Redis[bytes]", change: Callable[[Fence], Fence | None]) -> None:
    field = fence_field("mug", "s1")
    raw = control.hget(STOCK, field)
    assert raw is not None
    first, *others = decode_fences("mug", "s1", raw)
    changed = change(first)
    control.hset(STOCK, field, encode_fences([*([changed] if changed else []), *others]))


def _change_counter(control: "Redis[bytes]", index: int, change: Callable[[int], int]) -> None:
    """Of mug at s1, which is the first position of its card."""
    raw = control.hget(STOCK, "mug")
    assert raw is not None
    at = 11 + int.from_bytes(raw[3:5], "little") + 4 * index
    number = change(int.from_bytes(raw[at : at + 4], "little"))
    control.hset(STOCK, "mug", raw[:at] + number.to_bytes(4, "little") + raw[at + 4 :])


def _fence(
    fence: Fence, remaining: int, used: int, *, spill: bool | None = None, channel: str | None = None
) -> Fence:
    spill = fence.spill if spill is None else spill
    return Fence(
        channel or fence.channel, fence.sku, fence.location, remaining + used, spill, remaining, used
    )


CORRUPTIONS: dict[str, Callable[["Redis[bytes]"], object]] = {
    "fence lost": lambda control: control.hdel(STOCK, fence_field("mug", "s1")),
    "fence planted": lambda control: control.hset(
        STOCK, fence_field("mug", "s3"), encode_fences([Fence("web", "mug", "s3", 1, False, 1, 0)])
    ),
    "fence of no position": lambda control: control.hset(STOCK, "\nx=y", b""),
    "fence torn": lambda control: control.hset(STOCK, fence_field("mug", "s1"), b"\3web"),
    "one of two fences lost": lambda control: _change_fence(control, lambda _: None),
    "remaining wrong": lambda control: _change_fence(
        control, lambda it: _fence(it, it.remaining + 1, it.used)
    ),
    "used wrong": lambda control: _change_fence(control, lambda it: _fence(it, it.remaining, it.used + 1)),
    "spill wrong": lambda control: _change_fence(
        control, lambda it: _fence(it, it.remaining, it.used, spill=not it.spill)
    ),
    "channel wrong": lambda control: _change_fence(
        control, lambda it: _fence(it, it.remaining, it.used, channel="pos")
    ),
    "count of fences wrong": lambda control: control.hset(FENCED, "web", "2"),
    "count of fences lost": lambda control: control.hdel(FENCED, "app"),
    "count of fences planted": lambda control: control.hset(FENCED, "pos", "1"),
    "safety stock wrong": lambda control: _change_counter(control, 4, lambda it: it + 1),
    "backorder limit wrong": lambda control: _change_counter(control, 5, lambda it: it + 1),
    "fenced wrong": lambda control: _change_counter(control, 6, lambda it: it + 1),
    "low stock wrong": lambda control: _change_counter(control, 7, lambda it: it + 1),
    "inbound wrong": lambda control: _change_counter(control, 8, lambda it: it + 1),
    "flag wrong": lambda control: _change_counter(control, 9, lambda it: it ^ FLAG_FENCED),
    "floating wrong": lambda control: _change_counter(control, 10, lambda it: it + 1),
    "preordered wrong": lambda control: _change_counter(control, 11, lambda it: it + 1),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
async def test_every_corruption_is_found(server: EmbeddedServer, control: "Redis[bytes]", name: str) -> None:
    """One wrong number each, on books that were right before."""
    inventory = await open_shop(server.url)
    await inventory.save_policy(Policy("mug", "s1", 1, 2, 3))
    await inventory.save_fence("web", "mug", "s1", 5)
    await inventory.save_fence("app", "mug", "s1", 4, spill=True)
    await inventory.source("sold", [Wanted("mug", 2, "s1")], rules=Rules(channel="web"))
    await inventory.source("floats", [Wanted("mug", 2)], rules=Rules(channel="web"))
    assert (await audit(inventory)).is_clean
    CORRUPTIONS[name](control)
    report = await audit(inventory)
    assert report.difference_count, faults(report)
    assert not report.violation_count
    await inventory.close()
