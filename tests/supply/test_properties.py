"""Whatever happens to transfers, no unit is lost; whatever is expected, a promise for a day can be kept."""

import asyncio
from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.audit import audit
from engine.errors import Refused
from engine.projection import project
from engine.types import Goods, Position, Supply, SupplyKind, Transfer, TransferState
from tests.driver import Shop, open_shop
from tests.servers import Control, Server
from tests.supply.goods import make_stock, stand

SKUS, PLACES = ("mug", "tea"), ("s1", "s2", "s7")
START, DAYS, DAY_MS = date(2026, 1, 1), 6, 86_400_000
START_OF_2026_MS = 1_767_225_600_000
units = st.integers(1, 6)


class Shipping(RuleBasedStateMachine):
    """Transfers between three places, against a model that is a page long."""

    def __init__(self, url: str, control: Control, runner: asyncio.Runner, partitions: int) -> None:
        super().__init__()
        self.runner = runner
        control.flushall()
        self.shop: Shop = runner.run(open_shop(url, control, partitions))
        self.made: list[Transfer] = []
        self.on_hand = {(sku, place): 0 for sku in SKUS for place in PLACES}
        self.count = 0

    @property
    def inventory(self):  # noqa: ANN201 - the engine
        return self.shop.inventory

    def teardown(self) -> None:
        try:
            assert self.runner.run(audit(self.inventory)).is_clean
        finally:
            self.runner.run(self.inventory.close())

    @initialize(first=units, second=units)
    def stock(self, first: int, second: int) -> None:
        self.runner.run(make_stock(self.inventory, "s1", mug=first, tea=second))
        self.on_hand["mug", "s1"], self.on_hand["tea", "s1"] = first, second

    @rule(
        ends=st.sampled_from([("s1", "s2"), ("s2", "s7"), ("s7", "s1")]),
        lines=st.lists(st.tuples(st.sampled_from(SKUS), units), min_size=1, max_size=3),
    )
    def create(self, ends: tuple[str, str], lines: list[tuple[str, int]]) -> None:
        self.count += 1
        goods = [Goods(*line) for line in lines]
        self.made.append(
            self.runner.run(
                self.inventory.create_transfer(f"t{self.count}", source=ends[0], target=ends[1], lines=goods)
            )
        )

    @precondition(lambda self: self.made)
    @rule(
        data=st.data(),
        verb=st.sampled_from(["ship", "receive", "some", "close", "cancel"]),
        came=st.integers(1, 9),
    )
    def step(self, data: st.DataObject, verb: str, came: int) -> None:
        index = data.draw(st.integers(0, len(self.made) - 1))
        before, shop = self.made[index], self.inventory
        self.count += 1
        some = [Goods(before.lines[0].sku, came)]
        try:
            match verb:
                case "ship":
                    after = self.runner.run(shop.ship_transfer(before.id))
                case "receive":
                    after = self.runner.run(shop.receive_transfer(before.id))
                case "cancel":
                    after = self.runner.run(shop.cancel_transfer(before.id))
                case _:
                    key = f"r{self.count}"
                    after = self.runner.run(
                        shop.receive_transfer(before.id, some, close=verb == "close", op_id=key)
                    )
        except Refused:
            assert self.runner.run(shop.transfer(before.id)) == before
            return
        self.made[index] = after
        for old, new in zip(before.lines, after.lines, strict=True):
            has_left = before.state is TransferState.DRAFT and after.state is TransferState.SHIPPED
            self.on_hand[new.sku, after.source] += new.returned - old.returned - has_left * new.quantity
            self.on_hand[new.sku, after.target] += new.received - old.received

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every position has what the receipts say, and expects what is on its way."""
        way = dict.fromkeys(self.on_hand, 0)
        for transfer in self.made:
            if transfer.state in {TransferState.SHIPPED, TransferState.RECEIVING}:
                for line in transfer.lines:
                    way[line.sku, transfer.target] += max(0, line.quantity - line.received)
        if not any(self.on_hand.values()) and not any(way.values()):
            return
        for sku in SKUS:
            found = self.runner.run(stand(self.inventory, sku))
            for place in PLACES:
                assert found.get(place, (0, 0)) == (self.on_hand[sku, place], way[sku, place]), (sku, place)


def test_transfers_lose_nothing(
    server: Server, control: Control, runner: asyncio.Runner, partitions: int
) -> None:
    """On hand everywhere and on the way: what was there, and what receipts found to be over or short."""
    run_state_machine_as_test(
        lambda: Shipping(server.url, control, runner, partitions),
        settings=settings(max_examples=8, stateful_step_count=25),
    )


@given(
    st.integers(-5, 9),
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(-3, DAYS + 2), st.integers(1, 9)), max_size=5),
    st.integers(0, 20),
)
def test_a_promise_for_a_day_can_be_kept(
    on_hand: int, held: int, coming: list[tuple[int, int]], preordered: int
) -> None:
    """What is promised by hand: each unit that comes goes first to who waits for it, the earliest first."""
    coming.sort()
    preordered = min(preordered, sum(quantity for _, quantity in coming))
    position = Position(
        "s1",
        on_hand,
        held + preordered,
        0,
        0,
        0,
        0,
        0,
        0,
        sum(quantity for _, quantity in coming),
        preordered,
        0,
        "",
    )
    supplies = [
        Supply(bytes(12), quantity, START_OF_2026_MS + day * DAY_MS + 7, SupplyKind.PURCHASE)
        for day, quantity in coming
    ]
    arrivals = [max(0, day) for day, quantity in coming for _ in range(quantity)][preordered:]
    levels = [on_hand - held + sum(arrival <= day for arrival in arrivals) for day in range(DAYS)]
    least = [min(levels[day:]) for day in range(DAYS)]
    assert project(position, supplies, START, DAYS) == least
    assert least == sorted(least)
