"""Each partition's books may be right by themselves while a basket and its parts disagree."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from random import Random

import pytest
from redis import Redis

from engine import BincardError, Inventory, Line, Movement, MovementKind, Reservation, keys
from engine.audit import audit
from engine.audit_report import AuditReport
from engine.ids import parse_reservation_id, part_id
from engine.keys import partition_of
from engine.records import encode_plan
from engine.topology.embedded import EmbeddedServer
from tests.concurrency.dying import Death, live_until
from tests.driver import Shop, open_shop, skus_in

PARTITIONS = 4
A, B, C = (next(skus_in(partition, PARTITIONS)) for partition in range(3))
"""SKUs of three partitions; the first one's is the home of a basket of them all."""


@dataclass(frozen=True)
class Planted:
    """A held basket and its parts, to be tampered with."""

    shop: Shop
    reservation: Reservation
    basket: bytes
    part: bytes

    async def follow(self, sku: str, *columns: int) -> None:
        """Tells one part what its basket never decided. The partition's own books agree."""
        commands = self.shop.inventory.dataset.commands[partition_of(sku, PARTITIONS)]
        held, committed, fulfilled, released = columns
        found = [line for line in self.reservation.lines if line.sku == sku]
        plan = encode_plan([Line(line.sku, line.quantity, line.location) for line in found])
        await commands.follow(self.part, (1, 999), plan, [(held, committed, fulfilled, released)])

    def settle(self) -> None:
        """Strikes out every repair, as if it had been done."""
        for partition in range(PARTITIONS):
            self.shop.control.zrem(keys.due(partition), b"r" + self.basket, b"r" + self.part)

    def lose(self, operation: bytes) -> None:
        for partition in range(PARTITIONS):
            self.shop.control.hdel(keys.operations(partition), operation)

    async def step_untold(self, act: Callable[[Inventory], object]) -> None:
        """A step after which its coordinator died."""

        async def take(process: Inventory) -> None:
            await act(process)  # type: ignore[misc] - each is one of the inventory's verbs

        assert await live_until(self.shop.inventory, 2, Death.UNSENT, take) is None


@pytest.fixture
async def planted(server: EmbeddedServer, control: "Redis[bytes]") -> AsyncIterator[Planted]:
    shop = await open_shop(server.url, control, PARTITIONS)
    for sku in (A, B, C):
        await shop.inventory.record(Movement(f"in {sku}", MovementKind.RECEIVE, sku, "s1", 10))
    wanted = [Line(A, 2, "s1"), Line(B, 3, "s1"), Line(C, 1, "s1")]
    reservation = await shop.inventory.reserve("cart", wanted)
    routed = parse_reservation_id(reservation.id)
    assert routed is not None
    route, operation = routed
    yield Planted(shop, reservation, operation, part_id(operation, route))
    await shop.inventory.close()


def named(report: AuditReport) -> set[tuple[int, str]]:
    """The partitions and stored units of what baskets and parts disagree about."""
    return {
        (one.partition, one.stored) for one in report.differences if one.subject.startswith("part of basket")
    }


def behind(report: AuditReport) -> dict[int, str]:
    return {note.partition: note.detail.split()[0] for note in report.notes if note.name == "parts_behind"}


async def test_a_basket_and_its_parts_agree(planted: Planted) -> None:
    planted.settle()
    report = await audit(planted.shop.inventory)
    assert report.is_clean, (report.differences, report.violations)
    assert not report.notes


async def test_a_part_that_moved_by_itself(planted: Planted) -> None:
    """Nobody is to repair it: its partition is named, and what it has."""
    planted.settle()
    await planted.follow(B, 1, 2, 0, 0)
    report = await audit(planted.shop.inventory)
    assert named(report) == {(partition_of(B, PARTITIONS), "1 held 2 committed")}
    (difference,) = report.differences
    assert difference.replayed == "its basket has 3 held"
    assert planted.reservation.id in difference.subject
    assert not report.is_clean


async def test_a_part_that_gave_its_units_back(planted: Planted) -> None:
    planted.settle()
    await planted.follow(C, 0, 0, 0, 1)
    assert named(await audit(planted.shop.inventory)) == {(partition_of(C, PARTITIONS), "nothing")}


async def test_parts_are_behind_until_they_are_told(planted: Planted) -> None:
    """A step whose coordinator died is noted, not blamed; once nobody is to repair it, it is."""
    await planted.step_untold(lambda process: process.release(planted.reservation.id))
    report = await audit(planted.shop.inventory)
    assert report.is_clean, report.differences
    assert behind(report) == {partition_of(sku, PARTITIONS): "1" for sku in (A, B, C)}
    planted.settle()
    report = await audit(planted.shop.inventory)
    assert named(report) == {
        (partition_of(A, PARTITIONS), "2 held"),
        (partition_of(B, PARTITIONS), "3 held"),
        (partition_of(C, PARTITIONS), "1 held"),
    }


async def test_what_was_repaired_is_not_behind(planted: Planted) -> None:
    await planted.step_untold(lambda process: process.commit(planted.reservation.id, fulfil=True))
    planted.shop.wait(6)
    await planted.shop.inventory.sweep()
    report = await audit(planted.shop.inventory)
    assert report.is_clean, report.differences
    assert not report.notes


async def test_a_part_that_is_missing(planted: Planted) -> None:
    planted.settle()
    planted.lose(planted.part)
    report = await audit(planted.shop.inventory)
    assert named(report) == {(partition_of(sku, PARTITIONS), "no such part") for sku in (A, B, C)}


async def test_a_part_that_is_over_may_be_missing(planted: Planted) -> None:
    """It is forgotten after a while; its basket, open elsewhere, lives on."""
    await planted.shop.inventory.commit(planted.reservation.id)
    await planted.shop.inventory.fulfil(planted.reservation.id, lines=[Line(B, 3, "s1")])
    planted.settle()
    planted.shop.control.hdel(keys.operations(partition_of(B, PARTITIONS)), planted.part)
    assert not named(await audit(planted.shop.inventory))


async def test_parts_without_a_basket(planted: Planted) -> None:
    """They are noted while they are going to ask for it."""
    planted.lose(planted.basket)
    report = await audit(planted.shop.inventory)
    assert not named(report)
    assert behind(report) == {partition_of(sku, PARTITIONS): "1" for sku in (A, B, C)}
    planted.settle()
    report = await audit(planted.shop.inventory)
    assert named(report) == {
        (partition_of(A, PARTITIONS), "2 held"),
        (partition_of(B, PARTITIONS), "3 held"),
        (partition_of(C, PARTITIONS), "1 held"),
    }


async def test_what_an_attempt_left_is_behind(planted: Planted) -> None:
    """A coordinator that died while it sought blames nobody: of its basket nothing is decided."""

    async def reserve(process: Inventory) -> Reservation:
        return await process.reserve("other cart", [Line(sku, 1, "s1") for sku in (A, B, C)])

    for nth in range(2, 7):
        await live_until(planted.shop.inventory, nth, Death.UNANSWERED, reserve)
        report = await audit(planted.shop.inventory)
        assert report.is_clean, report.differences
        planted.shop.wait(31)
        await planted.shop.inventory.sweep()
        report = await audit(planted.shop.inventory)
        assert report.is_clean, report.differences
        assert not report.notes


async def test_baskets_need_not_stand_still(planted: Planted) -> None:
    """Audits while baskets are held, sold, given back and lapse: none finds a difference."""
    inventory, stop = planted.shop.inventory, asyncio.Event()
    for sku in (A, B, C):
        await inventory.record(Movement(f"more {sku}", MovementKind.RECEIVE, sku, "s1", 500))
    planted.settle()

    async def shop_on(number: int) -> None:
        random, step = Random(number), 0
        while not stop.is_set():
            step += 1
            key = f"{number}.{step}"
            wanted = [Line(sku, random.randint(1, 3), "s1") for sku in random.sample((A, B, C), 2)]
            try:
                held = await inventory.reserve(key, wanted, ttl_seconds=random.choice((1, 60)))
                await random.choice((inventory.commit, inventory.release, inventory.reservation))(held.id)
            except BincardError:
                continue

    async def sweep_on() -> None:
        while not stop.is_set():
            planted.shop.wait(0.5)
            await inventory.sweep()

    busy = [asyncio.create_task(shop_on(number)) for number in range(8)]
    busy.append(asyncio.create_task(sweep_on()))
    try:
        for _ in range(8):
            report = await audit(inventory)
            assert report.is_clean, (report.differences, report.violations)
    finally:
        stop.set()
        await asyncio.gather(*busy)
