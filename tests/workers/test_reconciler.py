"""Baskets and parts after a partition lost its newest steps, as in a fail-over to a replica that lags."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from random import Random

import pytest
from redis import Redis

from engine import BincardError, Inventory, Line, Movement, MovementKind, Reservation, keys
from engine.audit import audit
from engine.keys import partition_of
from engine.types import State
from engine.workers import Reconciler, reconciler
from tests.concurrency.dying import Death, live_until
from tests.driver import Shop, open_shop, skus_in
from tests.servers import Server

PARTITIONS = 4
A, B, C, D = (next(skus_in(partition, PARTITIONS)) for partition in range(PARTITIONS))
"""SKUs of four partitions; the first one's is the home of a basket of them all."""
HOME, OTHER = partition_of(A, PARTITIONS), partition_of(B, PARTITIONS)
REPAIR_SECONDS = 31
"""After so long sweepers have done what is due."""


class Lossy:
    """A shop of which a partition can go back to where it was."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.inventory = shop.inventory
        self.reconciler = Reconciler(shop.inventory)
        self._copies: dict[int, dict[bytes, bytes]] = {}

    def copy(self, partition: int) -> None:
        """Keeps what a partition has by now."""
        control = self.shop.control
        names = control.keys(f"inv:{{{partition}}}:*")
        self._copies[partition] = {name: control.dump(name) for name in names}

    def lose(self, *partitions: int) -> None:
        """All that these partitions have got since their copies is gone; somebody else is their server."""
        control = self.shop.control
        for partition in partitions:
            control.delete(*control.keys(f"inv:{{{partition}}}:*"))
            for name, stored in self._copies[partition].items():
                control.restore(name, 0, stored)
            control.hdel(keys.meta(partition), "run")

    async def reconcile(self) -> None:
        """Sweepers have their time, then a whole walk."""
        for _ in range(2):
            self.shop.wait(REPAIR_SECONDS)
            await self.inventory.sweep()
        await self.walk()

    async def walk(self) -> None:
        await self.reconciler.tick()
        while self.reconciler._walk is not None:
            await self.reconciler.tick()

    async def expect_clean(self) -> None:
        await self.inventory.baskets.close()
        report = await audit(self.inventory)
        assert report.is_clean, "\n".join(map(str, (*report.differences, *report.violations)))
        assert not report.notes, report.notes

    async def stock(self, *skus: str) -> None:
        for sku in skus:
            await self.inventory.record(Movement(f"in {sku}", MovementKind.RECEIVE, sku, "s1", 20))

    async def reserve(self, key: str = "cart") -> Reservation:
        made = await self.inventory.reserve(key, [Line(A, 2, "s1"), Line(B, 3, "s1")], ttl_seconds=900)
        await self.inventory.baskets.close()
        return made

    async def columns(self, reservation: Reservation) -> tuple[State, list[tuple[int, int, int, int]]]:
        """What a reservation is, by a process that remembers nothing of it."""
        other = await self.shop.another_inventory()
        try:
            found = await other.reservation(reservation.id)
        finally:
            await other.close()
        return found.state, [(one.held, one.committed, one.fulfilled, one.released) for one in found.lines]


@pytest.fixture
async def lossy(server: Server, control: Redis[bytes]) -> AsyncIterator[Lossy]:
    shop = await open_shop(server.url, control, PARTITIONS)
    found = Lossy(shop)
    await found.stock(A, B, C, D)
    yield found
    await shop.inventory.close()


async def test_what_agrees_is_left_alone(lossy: Lossy) -> None:
    held = await lossy.reserve()
    before = await lossy.columns(held)
    await lossy.walk()
    assert await lossy.columns(held) == before
    epochs = lossy.reconciler._epochs
    assert len(epochs) == PARTITIONS
    assert await lossy.reconciler.tick() >= 1
    assert lossy.reconciler._walk is None, "nothing is new"
    await lossy.expect_clean()


async def test_a_part_that_was_lost_is_given_up(lossy: Lossy) -> None:
    """Its units may be somebody else's by now: the basket keeps the other lines."""
    lossy.copy(OTHER)
    held = await lossy.reserve()
    lossy.lose(OTHER)
    await lossy.inventory.reserve("quick", [Line(B, 20, "s1")])
    await lossy.reconcile()
    assert await lossy.columns(held) == (State.HELD, [(2, 0, 0, 0), (0, 0, 0, 3)])
    await lossy.expect_clean()
    await lossy.inventory.commit(held.id)
    await lossy.expect_clean()


async def test_a_part_that_lost_a_step_is_told_again(lossy: Lossy) -> None:
    held = await lossy.reserve()
    lossy.copy(OTHER)
    await lossy.inventory.commit(held.id)
    await lossy.inventory.baskets.close()
    lossy.lose(OTHER)
    await lossy.reconcile()
    assert await lossy.columns(held) == (State.COMMITTED, [(0, 2, 0, 0), (0, 3, 0, 0)])
    await lossy.expect_clean()


@pytest.mark.parametrize(
    ("steps", "state", "columns"),
    [
        (["commit"], State.HELD, [(2, 0, 0, 0), (0, 3, 0, 0)]),
        (["commit", "fulfil"], State.HELD, [(2, 0, 0, 0), (0, 0, 3, 0)]),
        (["sell"], State.HELD, [(2, 0, 0, 0), (0, 0, 3, 0)]),
        (["release"], State.HELD, [(2, 0, 0, 0), (0, 0, 0, 3)]),
        (["commit", "cancel"], State.HELD, [(2, 0, 0, 0), (0, 0, 0, 3)]),
    ],
)
async def test_the_home_takes_over_what_a_part_knows(
    lossy: Lossy, steps: Sequence[str], state: State, columns: list[tuple[int, int, int, int]]
) -> None:
    """The home lost steps, and its own part with them; the other part has them."""
    held = await lossy.reserve()
    lossy.copy(HOME)
    for step in steps:
        if step == "sell":
            await lossy.inventory.commit(held.id, fulfil=True)
        else:
            await getattr(lossy.inventory, step)(held.id)
        await lossy.inventory.baskets.close()
    lossy.lose(HOME)
    await lossy.reconcile()
    assert await lossy.columns(held) == (state, columns)
    await lossy.expect_clean()


async def test_the_home_lost_the_fulfilment_of_what_was_committed(lossy: Lossy) -> None:
    held = await lossy.reserve()
    await lossy.inventory.commit(held.id)
    await lossy.inventory.baskets.close()
    lossy.copy(HOME)
    await lossy.inventory.fulfil(held.id)
    await lossy.inventory.baskets.close()
    lossy.lose(HOME)
    await lossy.reconcile()
    assert await lossy.columns(held) == (State.COMMITTED, [(0, 2, 0, 0), (0, 0, 3, 0)])
    await lossy.expect_clean()


async def test_a_part_whose_basket_is_lost_gives_back(lossy: Lossy) -> None:
    """It was told of a step, so it would never ask."""
    lossy.copy(HOME)
    held = await lossy.reserve()
    await lossy.inventory.commit(held.id)
    await lossy.inventory.baskets.close()
    lossy.lose(HOME)
    await lossy.reconcile()
    assert (await lossy.inventory.availability(B)).available == 20
    await lossy.expect_clean()
    again = await lossy.reserve()
    assert again.id == held.id
    await lossy.reconcile()
    assert await lossy.columns(again) == (State.HELD, [(2, 0, 0, 0), (3, 0, 0, 0)])
    await lossy.expect_clean()


async def test_a_part_without_lines_any_more_gives_back(lossy: Lossy) -> None:
    """The basket has other lines, and the part that it left has not heard of that."""
    held = await lossy.reserve()
    lossy.copy(OTHER)
    await lossy.inventory.replace_lines(held.id, [Line(A, 2, "s1"), Line(C, 1, "s1")])
    await lossy.inventory.baskets.close()
    lossy.lose(OTHER)
    await lossy.reconcile()
    assert (await lossy.inventory.availability(B)).available == 20
    await lossy.expect_clean()


async def test_what_a_sweeper_was_to_see_to_is_looked_at_again(
    lossy: Lossy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The home lost the commit, and took another step of which the parts are to hear. What is committed in a
    part stays so.
    """
    held = await lossy.reserve()
    lossy.copy(HOME)
    await lossy.inventory.commit(held.id)
    await lossy.inventory.baskets.close()
    lossy.lose(HOME)

    async def release_one(process: Inventory) -> Reservation:
        return await process.release(held.id, lines=[Line(A, 1, "s1")])

    assert await live_until(lossy.inventory, 3, Death.UNSENT, release_one) is None
    assert (await lossy.columns(held))[1] == [(1, 0, 0, 1), (3, 0, 0, 0)]
    monkeypatch.setattr(reconciler, "AGAIN_SECONDS", 0.0)
    await lossy.walk()
    assert (await lossy.columns(held))[1] == [(1, 0, 0, 1), (3, 0, 0, 0)], "a sweeper is to see to it"
    await lossy.reconcile()
    assert await lossy.columns(held) == (State.HELD, [(1, 0, 0, 1), (0, 3, 0, 0)])
    assert lossy.reconciler._again_at is None
    await lossy.expect_clean()


async def test_what_a_process_knew_of_a_lost_step_is_not_answered(lossy: Lossy) -> None:
    """Two revisions have one number: the lost one, and that which another process made since."""
    inventory = lossy.inventory
    await inventory.record(Movement("more", MovementKind.RECEIVE, B, "s2", 20))
    held = await inventory.reserve("cart", [Line(B, 2, "s1")], ttl_seconds=900)
    lossy.copy(OTHER)
    await inventory.replace_lines(held.id, [Line(B, 3, "s1"), Line(B, 4, "s2")])
    lossy.lose(OTHER)
    other = await lossy.shop.another_inventory()
    await other.replace_lines(held.id, [Line(B, 5, "s2")])
    await other.commit(held.id)
    await other.close()
    again = await inventory.commit(held.id)
    assert again.replayed
    assert [(line.location, line.committed) for line in again.lines] == [("s2", 5)]


@pytest.mark.parametrize("is_longer", [True, False])
async def test_what_was_given_back_before_the_loss_stays_given_back(lossy: Lossy, is_longer: bool) -> None:
    """The home lost that its line became longer and was given back, or that some of it was, and lapses."""
    inventory = lossy.inventory
    await inventory.record(Movement("more", MovementKind.RECEIVE, B, "s2", 20))
    lines = [Line(A, 2, "s1"), Line(B, 2 if is_longer else 5, "s1"), Line(B, 1, "s2")]
    held = await inventory.reserve("cart", lines, ttl_seconds=60)
    if not is_longer:
        await inventory.commit(held.id, lines=[Line(B, 3, "s1")], remainder="keep", op_id="c")
    lossy.copy(HOME)
    if is_longer:
        await inventory.replace_lines(held.id, [lines[0], Line(B, 5, "s1"), lines[2]])
        await inventory.release(held.id, lines=[Line(B, 5, "s1")], op_id="r")
    else:
        await inventory.release(held.id, lines=[Line(B, 2, "s1")], op_id="r")
    await inventory.baskets.close()
    lossy.lose(HOME)
    if is_longer:
        await inventory.commit(held.id)
    else:
        lossy.shop.wait(61)
        await inventory.sweep()
    await lossy.reconcile()
    await lossy.expect_clean()


class Walk:
    """Any steps on any baskets."""

    def __init__(self, lossy: Lossy, seed: int) -> None:
        self.random = Random(seed)
        self._lossy = lossy
        self._made: list[str] = []
        self._count = 0

    async def take(self, steps: int) -> None:
        for _ in range(steps):
            self._count += 1
            with suppress(BincardError):
                await self._take_one(f"step {self._count}")
            if self.random.random() < 0.7:
                await self._lossy.inventory.baskets.close()

    async def _take_one(self, op_id: str) -> None:
        inventory, random = self._lossy.inventory, self.random
        skus = random.sample((A, B, C, D), random.randint(2, 4))
        lines = [Line(sku, random.randint(1, 3), "s1") for sku in skus]
        verb = random.choice(("reserve", "reserve", "commit", "keep", "fulfil", "cancel", "release", "lines"))
        if verb == "reserve" or not self._made:
            self._made.append((await inventory.reserve(op_id, lines, ttl_seconds=900)).id)
            return
        target = random.choice(self._made)
        found = await inventory.reservation(target)
        is_open = [Line(one.sku, 1, one.location) for one in found.lines if one.held or one.committed]
        some = is_open[: random.randint(1, 2)] or None
        if verb == "commit":
            await inventory.commit(target, fulfil=random.random() < 0.3)
        elif verb == "keep":
            await inventory.commit(target, lines=some, remainder="keep", op_id=op_id)
        elif verb == "lines":
            await inventory.replace_lines(target, lines, op_id=op_id)
        else:
            await getattr(inventory, verb)(target, lines=some, op_id=op_id)


@pytest.mark.parametrize("seed", range(16))
async def test_whatever_is_lost_the_books_agree_afterwards(lossy: Lossy, seed: int) -> None:
    """Some baskets, any steps, any one or two partitions that go back to any moment; more steps follow."""
    walk = Walk(lossy, seed)
    for _ in range(4):
        await walk.take(8)
        lost = walk.random.sample(range(PARTITIONS), walk.random.randint(1, 2))
        for partition in lost:
            lossy.copy(partition)
            await walk.take(3)
        await lossy.inventory.baskets.close()
        lossy.lose(*lost)
        await walk.take(walk.random.randint(0, 2))
        await lossy.reconcile()
        await lossy.expect_clean()
