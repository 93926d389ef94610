import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Inventory, Line, Movement, MovementKind, Policy
from engine.cards import UNLIMITED, show
from engine.errors import NotStocked, SkuNotFound
from engine.explain import Explanation, explain, render_explanations, render_sum
from engine.sourcing_plan import Rules, Wanted
from engine.topology.embedded import EmbeddedServer
from tests.audit.conftest import PLACES, SKUS, Shopper, shop_at_random
from tests.audit.test_audit_fences import open_shop


async def test_a_number_is_told_with_its_holders(inventory: Inventory) -> None:
    """Oldest promise first; the sum stands before them."""
    cart = await inventory.reserve("a", [Line(SKUS[0], 4, "s1")], owner="cart-1", ttl_seconds=600)
    order = await inventory.reserve("b", [Line(SKUS[0], 3, "s1")], reference="order-7")
    await inventory.commit(order.id)
    (explained,) = await explain(inventory, SKUS[0], "s1")
    assert render_sum(explained) == "53 = 60 on hand − 4 held − 3 allocated"
    oldest, newest = explained.holders
    assert (newest.reservation, newest.held, newest.allocated) == (order.id, 0, 3)
    assert (newest.reference, newest.expires_ms) == ("order-7", None)
    assert (oldest.reservation, oldest.held, oldest.owner) == (cart.id, 4, "cart-1")
    assert oldest.expires_ms == cart.expires_ms
    text = render_explanations([explained])
    assert text.index(cart.id) < text.index(order.id)


async def test_the_sum_is_the_availability(inventory: Inventory) -> None:
    """At every position, after anything that shoppers do, and the holders hold exactly what is held."""
    await shop_at_random(inventory, shoppers=12, steps=60)
    for sku in SKUS:
        explained, shown = await explain(inventory, sku), await inventory.availability(sku)
        while explained[0].version != shown.version:  # holds lapse meanwhile
            explained, shown = await explain(inventory, sku), await inventory.availability(sku)
        assert {one.location: one.available for one in explained} == {
            place.location: place.available for place in shown.locations
        }
        for one in explained:
            assert one.available == max(0, one.on_hand - one.held - one.allocated - one.unsellable)
            assert one.held == sum(holder.held for holder in one.holders)
            assert one.allocated == sum(holder.allocated for holder in one.holders)


async def test_an_explanation_is_of_one_moment(inventory: Inventory) -> None:
    """Under load, holders and counters still agree."""
    stop = asyncio.Event()

    async def shop(number: int) -> None:
        shopper = Shopper(inventory, number, SKUS[:2])
        while not stop.is_set():
            await shopper.act()

    shoppers = [asyncio.create_task(shop(number)) for number in range(4)]
    try:
        for _ in range(30):
            for one in await explain(inventory, SKUS[0]):
                assert one.held == sum(holder.held for holder in one.holders)
                assert one.allocated == sum(holder.allocated for holder in one.holders)
    finally:
        stop.set()
        await asyncio.gather(*shoppers)


async def test_what_is_not_there_has_no_explanation(inventory: Inventory) -> None:
    await inventory.record(Movement("m", MovementKind.RECEIVE, "only here", PLACES[0], 1))
    with pytest.raises(NotStocked):
        await explain(inventory, "only here", PLACES[1])
    with pytest.raises(SkuNotFound):
        await explain(inventory, "nowhere")


@pytest.mark.parametrize(
    ("on_hand", "held", "safety_stock", "backorder_limit", "available", "text"),
    [
        (12, 4, 2, 0, 6, "6 = 12 on hand − 4 held − 2 safety stock"),
        (0, 0, 0, 0, 0, "0 = 0 on hand"),
        (-2, 0, 0, 5, -2, "−2 = −2 on hand"),
        (1, 4, 0, 0, 0, "0, the backorder limit, as −3 = 1 on hand − 4 held"),
    ],
)
def test_sums_in_words(
    on_hand: int, held: int, safety_stock: int, backorder_limit: int, available: int, text: str
) -> None:
    explained = Explanation(
        "A", "s1", available, on_hand, held, 0, 0, safety_stock, 0, backorder_limit, "1.1", ()
    )
    assert render_sum(explained) == text


async def test_whose_fences_it_are(server: EmbeddedServer) -> None:
    """Safety stock and each fence are terms of the sum, and what is not tracked says so."""
    inventory = await open_shop(server.url)
    await inventory.save_policy(Policy("mug", "s1", safety_stock=2))
    await inventory.save_fence("web", "mug", "s1", 5)
    await inventory.save_fence("app", "mug", "s1", 4)
    await inventory.source("sold", [Wanted("mug", 3, "s1")], rules=Rules(channel="web"))
    for location in (None, "s1"):
        explained = (await explain(inventory, "mug", location))[0]
        text = "9 = 20 on hand − 3 held − 2 safety stock − 2 fenced for web − 4 fenced for app"
        assert render_sum(explained) == text
        assert [(fence.channel, fence.used) for fence in explained.fences] == [("web", 3), ("app", 0)]
    await inventory.save_policy(Policy("mug", "s1", backorder_limit=UNLIMITED))
    (explained,) = await explain(inventory, "mug", "s1")
    assert render_sum(explained).startswith("never runs out, for it is not tracked: 11 = 20 on hand")
    await inventory.close()


units = st.integers(0, 10**6)


@given(st.integers(-(10**6), 10**6), units, units, units, units, units, units, units, units)
def test_every_sum_adds_up(
    on_hand: int,
    held: int,
    allocated: int,
    unsellable: int,
    safety_stock: int,
    fenced: int,
    preordered: int,
    own_held: int,
    backorder_limit: int,
) -> None:
    """What is told is the sum of the terms that are told, and the number that is shown."""
    taken_off = held + allocated + unsellable + safety_stock + fenced
    free = on_hand - taken_off + preordered + own_held
    available, status = show(free, backorder_limit, 0, 0)
    text = render_sum(
        Explanation(
            "A",
            "s1",
            available,
            on_hand,
            held,
            allocated,
            unsellable,
            safety_stock,
            fenced,
            backorder_limit,
            "1.1",
            (),
            own_held,
            status,
            (),
            preordered,
        )
    ).replace("−", "-")
    limited, _, rest = text.rpartition(", the backorder limit, as ")
    told, _, terms = rest.partition(" = ")
    signs = re.sub(r"[^-+0-9 ]", "", terms)
    assert int(told) == free == sum(map(int, re.findall(r"[-+]?\d+", re.sub(r"([-+]) +", r"\1", signs))))
    assert available == (int(limited) if limited else free)
