"""The lists against a look at every reservation, over random lives of a shop."""

import asyncio
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine import InvalidRequest, Inventory, Line, Refused, Reservation, State, keys
from engine.audit import audit
from engine.errors import ReservationNotFound
from engine.explain import explain, render_sum
from engine.holders import Holder, holder_page
from engine.types import Movement, MovementKind
from engine.workers import Indexer
from tests.driver import RETENTION_SECONDS, Shop, open_shop, skus_in
from tests.servers import Control, Server

PLACES = ("s1", "s2")
OWNERS = ("ann", "b\0ö\n", "x" * 300)
REFERENCES = ("r1", "r\u20ac2")
STEPS = (
    *("reserve",) * 8,
    *("commit", "commit", "rename", "release", "fulfil", "cancel", "extend", "retake"),
    *("wait", "wait", "sweep", "forget"),
    *("index", "index", "walk", "lose", "spoil", "restart", "list"),
)

steps = st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 10**6)), min_size=5, max_size=60)


class Day:
    """A shop, and all that was ever reserved in it, in order."""

    def __init__(self, shop: Shop, others: Sequence[Inventory]) -> None:
        self.shop = shop
        self.everyone = (shop.inventory, *others)
        self.indexers = [Indexer(inventory) for inventory in others]
        here, there = skus_in(0, shop.partitions), skus_in(shop.partitions - 1, shop.partitions)
        self.skus = (next(here), next(here), next(skus_in(1 % shop.partitions, shop.partitions)), next(there))
        self.made: list[str] = []
        self.number = 0

    async def open(self) -> None:
        for sku, place in product(dict.fromkeys(self.skus), PLACES):
            movement = Movement(f"{sku}{place}", MovementKind.RECEIVE, sku, place, 1000)
            await self.shop.inventory.record(movement)

    async def take(self, step: str, pick: int) -> None:
        """One thing happens."""
        self.number += 1
        inventory = self.everyone[pick % len(self.everyone)]
        try:
            await self._take(step, pick, inventory)
        except Refused:
            return

    async def _take(self, step: str, pick: int, inventory: Inventory) -> None:
        if step == "reserve":
            await self._reserve(pick, inventory)
        elif step in {"lose", "spoil", "restart"}:
            self._harm(step, pick)
        elif step == "wait":
            self.shop.wait((1, 3, 20)[pick % 3])
        elif step == "sweep":
            await inventory.sweep()
        elif step == "forget":
            self.shop.wait(RETENTION_SECONDS + 1)
            await inventory.sweep()
        elif step == "index":
            await self.indexers[pick % len(self.indexers)].tick()
        elif step == "walk":
            await inventory.index.walk(pick % self.shop.partitions, b"", 1000)
        elif step == "list":
            await self._compare({"owner": OWNERS[pick % len(OWNERS)]}, inventory, 1 + pick % 5)
        elif self.made:
            await self._resolve(step, self.made[pick % len(self.made)], inventory)

    def _harm(self, step: str, pick: int) -> None:
        control, partition = self.shop.control, pick % self.shop.partitions
        if step == "lose":
            control.delete(keys.found(partition))
            if pick & 64:
                control.delete(keys.find(partition))
        elif step == "spoil":
            control.hset(keys.found(partition), "cursor", ("9-9", "1-99999", "nonsense")[pick % 3])
        else:
            # Books that another process had last are taken over in a new epoch.
            control.hset(keys.meta(partition), "run", "another")

    async def _reserve(self, pick: int, inventory: Inventory) -> None:
        lines = [
            Line(self.skus[(pick + 7 * at) % len(self.skus)], 1 + at, PLACES[(pick // 4 + at) % 2])
            for at in range(1 + pick // 16 % 3)
        ]
        owner = (*OWNERS, None)[pick // 64 % 4]
        reference = (*REFERENCES, None)[pick // 256 % 3]
        ttl_seconds = (2, 5, 600)[pick // 1024 % 3]
        made = await inventory.reserve(
            f"key {self.number}", lines, ttl_seconds=ttl_seconds, owner=owner, reference=reference
        )
        self.made.append(made.id)

    async def _resolve(self, step: str, reservation: str, inventory: Inventory) -> None:
        if step == "commit":
            await inventory.commit(reservation)
        elif step == "rename":
            await inventory.commit(reservation, reference=REFERENCES[self.number % 2])
        elif step == "retake":
            await inventory.commit(reservation, if_expired="retake")
        elif step == "extend":
            await inventory.extend(reservation, 30)
        else:
            await getattr(inventory, step)(reservation)

    # ---------------------------------------------------------------- comparing

    async def compare(self) -> None:
        """Every list has what a look at each reservation finds, and the books are whole."""
        inventory = self.everyone[self.number % len(self.everyone)]
        await inventory.sweep()
        for limit, asked in (
            (1000, {}),
            (3, {"owner": OWNERS[0]}),
            (2, {"owner": OWNERS[1]}),
            (7, {"owner": OWNERS[2], "state": State.HELD}),
            (4, {"reference": REFERENCES[0]}),
            (1, {"reference": REFERENCES[1], "owner": OWNERS[0]}),
            (5, {"sku": self.skus[0]}),
            (2, {"sku": self.skus[2], "location": "s2"}),
            (9, {"location": "s1", "state": State.EXPIRED}),
            (6, {"state": State.COMMITTED}),
            (2, {"sku": "no such"}),
        ):
            await self._compare(asked, inventory, limit)
        for owner in OWNERS:
            await self._compare_availability(owner)
        for sku in self.skus[:2]:
            await self._compare_holders(sku)
        # What is walked through twice has nothing left to strike out.
        for partition in range(self.shop.partitions):
            await inventory.index.walk(partition, b"", 10_000)
            await self._expect_no_strangers(partition)
        report = await audit(inventory)
        assert not report.differences, report.differences[:3]
        assert not [note for note in report.notes if note.name == "unknown_key"]

    async def _standing(self) -> list[Reservation]:
        """What is remembered of all that was reserved, the newest first."""
        found = []
        for name in reversed(self.made):
            try:
                found.append(await self.shop.inventory.reservation(name))
            except ReservationNotFound:
                continue
        return found

    async def _compare(self, asked: dict[str, Any], inventory: Inventory, limit: int) -> None:
        wanted = [one for one in await self._standing() if is_met(one, **asked)]
        found, cursor = list[Reservation](), None
        while True:
            page = await inventory.reservations(**asked, limit=limit, cursor=cursor)
            assert len(page.items) <= limit
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        if self.shop.partitions == 1:
            assert found == wanted
        else:
            # At one moment of two partitions neither is the newer one.
            assert [one.created_ms for one in found] == [one.created_ms for one in wanted]
            assert {one.id: one for one in found} == {one.id: one for one in wanted}

    async def _compare_availability(self, owner: str) -> None:
        """To an owner, what it holds is free; nothing else changes, and every sum adds up."""
        inventory = self.shop.inventory
        mine = [one for one in await self._standing() if one.owner == owner]
        for sku in self.skus:
            plain, own = await inventory.availability(sku), await inventory.availability(sku, owner=owner)
            explained = {one.location: one for one in await explain(inventory, sku, owner=owner)}
            for before, after in zip(plain.locations, own.locations, strict=True):
                held = sum(
                    line.held
                    for one in mine
                    for line in one.lines
                    if (line.sku, line.location) == (sku, before.location)
                )
                assert after.available == before.available + held
                one = explained[before.location]
                assert (one.available, one.own_held, one.status) == (after.available, held, after.status)
                assert one.available == one.on_hand - one.held - one.allocated - one.unsellable + one.own_held
                assert evaluate(render_sum(one)) == one.available
                assert one.held == sum(holder.held for holder in one.holders)
                assert one.allocated == sum(holder.allocated for holder in one.holders)

    async def _compare_holders(self, sku: str) -> None:
        """All pages together are the holders that the explanation has."""
        for one in await explain(self.shop.inventory, sku):
            paged, cursor = list[Holder](), None
            while True:
                page = await holder_page(self.shop.inventory, sku, one.location, limit=2, cursor=cursor)
                paged += page.holders
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert tuple(paged) == one.holders

    async def _expect_no_strangers(self, partition: int) -> None:
        known = {reservation.id for reservation in await self._standing()}
        index = self.shop.inventory.index
        entries = await index.read(partition, b"a", b"\xff" * 24, 10_000)
        assert len(entries) <= len(known)


def is_met(
    one: Reservation,
    *,
    owner: str | None = None,
    reference: str | None = None,
    sku: str | None = None,
    location: str | None = None,
    state: State | None = None,
) -> bool:
    """Whether a reservation is asked for, told once more."""
    return (
        owner in {None, one.owner}
        and reference in {None, one.reference}
        and state in {None, one.state}
        and (sku is None or sku in {line.sku for line in one.lines})
        and (location is None or location in {line.location for line in one.lines})
    )


def evaluate(text: str) -> int:
    """The sum that a sentence is, added up from its own words."""
    told, _, terms = text.partition(" = ")
    total, sign = 0, 1
    for word in terms.split():
        if word in {"−", "+"}:
            sign = -1 if word == "−" else 1
        elif word.lstrip("−").isdecimal():
            total += sign * int(word.replace("−", "-"))
            sign = 1
    assert total == int(told.replace("−", "-"))
    return total


@pytest.mark.parametrize("size", [1, 4], ids=["P=1", "P=4"])
def test_lists_are_what_a_look_at_every_reservation_finds(
    server: Server, control: Control, runner: asyncio.Runner, size: int
) -> None:
    """Whoever lists, whatever became of the index meanwhile: lost, spoilt, behind, made by several at once,
    and in a new epoch of the books.
    """

    async def live(day: Sequence[tuple[str, int]]) -> None:
        shop = await open_shop(server.url, control, size)
        others = [await shop.another_inventory() for _ in range(2)]
        try:
            opened = Day(shop, others)
            await opened.open()
            for step, pick in day:
                await opened.take(step, pick)
            await opened.compare()
        finally:
            for inventory in (shop.inventory, *others):
                await inventory.close()

    @given(steps)
    @settings(
        max_examples=25,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.explicit, Phase.generate),  # making a day shorter takes minutes
    )
    def histories(day: Sequence[tuple[str, int]]) -> None:
        runner.run(live(day))

    histories()


async def test_a_cursor_is_of_one_question(shop: Shop) -> None:
    """Sent with another question, changed or made up, it is refused."""
    await Day(shop, ()).open()
    inventory = shop.inventory
    for number in range(3):
        await inventory.reserve(f"k{number}", [Line(next(skus_in(0, 1)), 1, "s1")], owner="ann")
    page = await inventory.reservations(owner="ann", limit=1)
    assert page.next_cursor is not None
    await inventory.reservations(owner="ann", limit=2, cursor=page.next_cursor)
    good = page.next_cursor
    for bad in (good[:-1], good.swapcase(), good + "=", good + "A", "", "é"):
        with pytest.raises(InvalidRequest):
            await inventory.reservations(owner="ann", cursor=bad)
    with pytest.raises(InvalidRequest):
        await inventory.reservations(owner="ben", cursor=page.next_cursor)
    with pytest.raises(InvalidRequest):
        await inventory.reservations(cursor=page.next_cursor)
