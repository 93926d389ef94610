"""Random walks over preorders, receipts and whatever else moves units; the audit judges them."""

from random import Random

import pytest

from engine import Inventory, Line, Movement, MovementKind, Pool
from engine.audit import audit
from engine.errors import Refused
from engine.sourcing_plan import Rules, Wanted
from engine.types import Count, Policy, Reservation
from tests.driver import skus_in

SOON = 1_900_000_000_000
RULES = (Rules(), Rules(pool="all"), Rules(from_inbound=True), Rules(pool="all", from_inbound=True))


SKUS = tuple(next(skus_in(partition, 4)) for partition in range(2))


class Walk:
    """A shop of two places and two SKUs, and somebody who does this and that."""

    def __init__(self, shop: Inventory, seed: int) -> None:
        self.shop = shop
        self.random = Random(seed)
        self.made: list[Reservation] = []
        self.orders: list[str] = []
        self.kept = 0
        """How many preorders waited for something."""

    async def hold(self, key: str) -> None:
        rules, quantity = self.random.choice(RULES), self.random.randint(1, 5)
        location = None if rules.pool else self.random.choice("ab")
        skus = self.random.sample(SKUS, self.random.choice((1, 2)))
        wanted = [Wanted(sku, quantity, location) for sku in skus]
        self.made.append(await self.shop.source(key, wanted, rules=rules))

    async def expect(self, key: str) -> None:
        place, quantity = self.random.choice("ab"), self.random.randint(1, 9)
        order = await self.shop.expect(
            key, sku=self.random.choice(SKUS), location=place, quantity=quantity, expected_ms=SOON + quantity
        )
        self.orders.append(order.id)

    async def bring(self, key: str) -> None:
        order, closes = self.random.choice(self.orders), self.random.random() < 0.2
        await self.shop.receive_inbound(key, order, self.random.randint(1, 5), close=closes)

    async def cut(self, key: str) -> None:
        await self.shop.cancel_inbound(self.random.choice(self.orders), op_id=key)

    async def count(self, key: str) -> None:
        found = Count(
            key, self.random.choice(SKUS), self.random.choice("ab"), self.random.randint(0, 9), SOON
        )
        await self.shop.count(found)

    async def change_policy(self, _: str) -> None:
        numbers = self.random.randint(0, 2), self.random.randint(0, 2)
        await self.shop.save_policy(Policy(self.random.choice(SKUS), self.random.choice("ab"), *numbers))

    async def resolve(self, key: str) -> None:
        one = self.random.choice(self.made)
        shop = self.shop
        verb = self.random.choice([shop.release, shop.cancel, shop.fulfil, shop.commit])
        await verb(one.id, op_id=key)

    async def replace_lines(self, key: str) -> None:
        one, place = self.random.choice(self.made), self.random.choice("ab")
        lines = [Line(sku, self.random.randint(1, 4), place) for sku in self.random.sample(SKUS, 2)]
        await self.shop.replace_lines(one.id, lines, op_id=key)

    async def go(self, steps: int) -> None:
        """Takes random steps; after each nobody waits while something is free."""
        for number in range(steps):
            ways = [self.hold, self.hold, self.expect, self.count, self.change_policy]
            ways += [self.bring, self.cut] if self.orders else []
            ways += [self.resolve, self.resolve, self.replace_lines] if self.made else []
            try:
                await self.random.choice(ways)(f"step {number}")
            except Refused:
                continue
            await self.shop.baskets.close()
            for at in [at for sku in SKUS for at in await self.shop.stock(sku)]:
                self.kept += at.preordered
                assert 0 <= at.preordered <= at.inbound
                promised = at.held + at.allocated - at.preordered
                free = at.on_hand - at.unsellable - promised - at.safety_stock
                assert not at.preordered or free + at.backorder_limit <= 0


@pytest.mark.parametrize("seed", range(4))
async def test_random_walks(inventory: Inventory, seed: int) -> None:
    await inventory.save_pool(Pool("all", ("a", "b")))
    for sku in SKUS:
        for place in ("a", "b"):
            await inventory.record(Movement(f"{sku} {place}", MovementKind.RECEIVE, sku, place, 3))
    walk = Walk(inventory, seed)
    await walk.go(120)
    assert walk.kept
    report = await audit(inventory)
    assert report.is_clean, report
