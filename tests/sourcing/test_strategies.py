"""Where units are taken from, and what a plan tells of it."""

import pytest

from engine import (
    Capability,
    Channel,
    Component,
    Inventory,
    Item,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Pool,
    Reservation,
)
from engine.audit import audit
from engine.errors import (
    ChannelNotFound,
    IdempotencyMismatch,
    InsufficientStock,
    InvalidRequest,
    PoolNotFound,
)
from engine.sourcing_plan import Reason, Rules, Strategy, Wanted
from engine.types import Buffer

STORE = LocationKind.STORE


@pytest.fixture
async def shop(inventory: Inventory) -> Inventory:
    """Mugs everywhere, cups in two places; the further a place the more it has."""
    for number, place in enumerate(("a", "b", "c")):
        await inventory.save_location(
            Location(
                place,
                STORE,
                lat=50.0 + number,
                lon=8.0,
                priority=number,
                capabilities=(Capability.PICKUP,) if place == "b" else (),
            )
        )
        await inventory.record(Movement(f"m{place}", MovementKind.RECEIVE, "mug", place, 2 + 2 * number))
    for place in ("b", "c"):
        await inventory.record(Movement(f"c{place}", MovementKind.RECEIVE, "cup", place, 3))
    await inventory.save_pool(Pool("all", ("a", "b", "c")))
    await inventory.save_pool(Pool("west", ("a", "b")))
    await inventory.save_channel(Channel("web", ("all",), Buffer(units=1)))
    return inventory


def places(made: Reservation) -> list[tuple[str, str, int]]:
    return [(line.sku, line.location, line.quantity) for line in made.lines]


@pytest.mark.parametrize(
    ("strategy", "quantity", "found"),
    [
        (Strategy.PRIORITY, 3, [("mug", "a", 2), ("mug", "b", 1)]),
        (Strategy.MOST_STOCK, 3, [("mug", "c", 3)]),
        (Strategy.NEAREST, 3, [("mug", "b", 3)]),
        (Strategy.FEWEST_SPLITS, 3, [("mug", "b", 3)]),
        (Strategy.FEWEST_SPLITS, 9, [("mug", "c", 6), ("mug", "b", 3)]),
        (Strategy.SINGLE_LOCATION, 5, [("mug", "c", 5)]),
    ],
)
async def test_strategies(
    shop: Inventory, strategy: Strategy, quantity: int, found: list[tuple[str, str, int]]
) -> None:
    rules = Rules(pool="all", strategy=strategy, near=(51.1, 8.0))
    assert places(await shop.source("k", [Wanted("mug", quantity)], rules=rules)) == found


async def test_a_basket_from_one_location(shop: Inventory) -> None:
    """The first place has no cups."""
    rules = Rules(pool="all", strategy=Strategy.SINGLE_LOCATION)
    made = await shop.source("k", [Wanted("mug", 2), Wanted("cup", 2)], rules=rules)
    assert places(made) == [("mug", "b", 2), ("cup", "b", 2)]
    with pytest.raises(InsufficientStock) as caught:
        await shop.source("k2", [Wanted("mug", 2), Wanted("cup", 4)], rules=rules)
    assert [short.sku for short in caught.value.shortages] == ["cup"]


async def test_lines_of_one_position_are_short_together(shop: Inventory) -> None:
    """As in a plain reserve, whichever of them it is that does not fit."""
    lines = [Wanted("mug", 2, "a"), Wanted("cup", 1), Wanted("mug", 1, "a")]
    with pytest.raises(InsufficientStock) as caught:
        await shop.source("k", lines, rules=Rules(pool="all"))
    found = [
        (short.line, short.location, short.requested, short.available) for short in caught.value.shortages
    ]
    assert found == [(0, "a", 3, 2), (2, "a", 3, 2)]


async def test_without_splits_a_line_comes_from_one_place(shop: Inventory) -> None:
    rules = Rules(pool="all", allow_split=False)
    assert places(await shop.source("k", [Wanted("mug", 3)], rules=rules)) == [("mug", "b", 3)]
    with pytest.raises(InsufficientStock):
        await shop.source("k2", [Wanted("mug", 7)], rules=rules)


async def test_a_part_of_what_was_asked(shop: Inventory) -> None:
    rules = Rules(pool="west", allow_partial=True)
    made = await shop.source("k", [Wanted("mug", 20), Wanted("cup", 1)], rules=rules)
    assert places(made) == [("mug", "a", 2), ("mug", "b", 4), ("cup", "b", 1)]
    with pytest.raises(InsufficientStock):
        await shop.source("k2", [Wanted("mug", 1)], rules=rules)


async def test_a_channel_leaves_its_buffer(shop: Inventory) -> None:
    found, fits = await shop.availability_by("mug", rules=Rules(channel="web"), quantity=9)
    assert ([one.available for one in found.locations], found.available, fits) == ([1, 3, 5], 9, True)
    _, fits = await shop.availability_by("mug", rules=Rules(channel="web"), quantity=10)
    assert fits is False
    with pytest.raises(InsufficientStock):
        await shop.source("k", [Wanted("mug", 10)], rules=Rules(channel="web"))
    assert len((await shop.source("k", [Wanted("mug", 9)], rules=Rules(channel="web"))).lines) == 3


async def test_a_share_as_a_buffer(shop: Inventory) -> None:
    """A quarter of what is there to be sold, rounded up: 1, 1 and 2."""
    await shop.save_channel(Channel("app", ("all",), Buffer(percent=25)))
    found, _ = await shop.availability_by("mug", rules=Rules(channel="app"))
    assert [one.available for one in found.locations] == [1, 3, 4]


async def test_a_repeat_is_the_same_reservation(shop: Inventory) -> None:
    rules = Rules(pool="all")
    first = await shop.source("k", [Wanted("mug", 3), Wanted("cup", 1)], rules=rules, owner="cart-1")
    again = await shop.source("k", [Wanted("mug", 3), Wanted("cup", 1)], rules=rules, owner="cart-1")
    assert (again.id, again.replayed, places(again)) == (first.id, True, places(first))
    with pytest.raises(IdempotencyMismatch):
        await shop.source("k", [Wanted("mug", 2), Wanted("cup", 1)], rules=rules, owner="cart-1")


async def test_inactive_and_incapable_places(shop: Inventory) -> None:
    await shop.save_location(Location("a", STORE, active=False))
    plan = await shop.plan([Wanted("mug", 1)], rules=Rules(pool="all", capability="pickup"))
    assert {one.location: one.reason for one in plan.lines[0].candidates} == {
        "a": Reason.INACTIVE,
        "b": Reason.CHOSEN,
        "c": Reason.INCAPABLE,
    }
    made = await shop.source("k", [Wanted("mug", 4)], rules=Rules(pool="all", capability="pickup"))
    assert places(made) == [("mug", "b", 4)]


async def test_kits(shop: Inventory) -> None:
    """A set of two mugs and a cup is sold from one place; a mug beside it counts as well."""
    await shop.save_item(Item("set", components=(Component("mug", 2), Component("cup", 1))))
    found, fits = await shop.availability_by("set", rules=Rules(pool="all"), quantity=5)
    assert ([(one.location, one.available) for one in found.locations], fits) == ([("b", 2), ("c", 3)], True)
    made = await shop.source("k", [Wanted("set", 1, "b"), Wanted("mug", 2, "b")], rules=Rules())
    assert sorted(places(made)) == [("cup", "b", 1), ("mug", "b", 4)]
    with pytest.raises(InsufficientStock):
        await shop.source("k2", [Wanted("set", 3), Wanted("mug", 3)], rules=Rules(pool="all"))
    await shop.save_item(Item("box", components=(Component("set", 2),)))
    made = await shop.source("k3", [Wanted("box", 1)], rules=Rules(pool="all"))
    assert sorted(places(made)) == [("cup", "c", 2), ("mug", "c", 4)]


async def test_what_is_not_there(shop: Inventory) -> None:
    with pytest.raises(PoolNotFound):
        await shop.source("k", [Wanted("mug", 1)], rules=Rules(pool="none"))
    with pytest.raises(ChannelNotFound):
        await shop.source("k", [Wanted("mug", 1)], rules=Rules(channel="none"))
    with pytest.raises(InvalidRequest, match="location"):
        await shop.source("k", [Wanted("mug", 1)], rules=Rules())
    with pytest.raises(InvalidRequest, match="lat and lon"):
        await shop.source("k", [Wanted("mug", 1)], rules=Rules(pool="all", strategy=Strategy.NEAREST))


async def test_the_place_that_fewest_pools_share(shop: Inventory) -> None:
    """Of places of one priority the one that others need least."""
    for place in ("a", "b"):
        await shop.save_location(Location(place, STORE, priority=0))
    await shop.save_pool(Pool("alone", ("b",)))
    await shop.save_pool(Pool("too", ("a", "c")))
    await shop.save_pool(Pool("three", ("a",)))
    assert places(await shop.source("k", [Wanted("mug", 1)], rules=Rules(pool="west"))) == [("mug", "b", 1)]


async def test_a_kit_of_a_pool_is_audited(shop: Inventory) -> None:
    """It lies at one place and floats nowhere; the ledger still tells that its lines were chosen."""
    await shop.save_item(Item("set", components=(Component("mug", 1), Component("cup", 2))))
    made = await shop.source("kit", [Wanted("set", 1)], rules=Rules(pool="all"))
    await shop.commit(made.id, op_id="bought")
    report = await audit(shop)
    assert report.is_clean, report
