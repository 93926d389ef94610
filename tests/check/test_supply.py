"""Histories with transfers, inbound orders and carts without places are judged like all others."""

from pathlib import Path

import pytest

import engine
from engine import Inventory, Line, Location, LocationKind, Movement, MovementKind, Pool
from engine.check import check
from engine.check.reading import find_files
from engine.errors import InsufficientStock
from engine.sourcing_plan import Rules, Wanted
from engine.topology.embedded import EmbeddedServer
from engine.types import Goods


async def trade(shop: Inventory) -> None:
    for place in ("s1", "s2"):
        await shop.save_location(Location(place, LocationKind.STORE))
    await shop.record(Movement("m1", MovementKind.RECEIVE, "mug", "s1", 20))
    order = await shop.expect("i1", sku="tea", location="s2", quantity=7, expected_ms=1)
    await shop.receive_inbound("r1", order.id, 3)
    await shop.receive_inbound("r1", order.id, 3)
    sent = await shop.create_transfer(
        "t1", source="s1", target="s2", lines=[Goods("mug", 5), Goods("tea", 1)]
    )
    await shop.ship_transfer(sent.id)
    await shop.reserve("cart", [Line("mug", 15, "s1")])
    await shop.receive_transfer(sent.id, [Goods("mug", 4)], close=True, op_id="r2")
    await shop.reserve("more", [Line("mug", 4, "s2"), Line("tea", 3, "s2")])
    await shop.stock("mug")
    await shop.availability("tea")
    await shop.atp("mug")


async def test_transfers_are_judged(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    """What they did to the stock is recorded as the facts that it was: nothing is wrong, nothing unknown."""
    path = tmp_path / "shop.jsonl"
    monkeypatch.setenv("BINCARD_HISTORY", str(path))
    shop = await engine.connect(server.url, partitions=partitions)
    await trade(shop)
    await shop.close()
    report = check(find_files(path))
    assert report.is_clean, report.violations
    assert not [note for note in report.notes if "not known to this release" in note], report.notes
    assert report.counts["operations: save_document"] >= 8


async def test_carts_without_places_are_judged(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitions: int
) -> None:
    """The lines that were chosen for them are recorded as if their callers had named the places."""
    path = tmp_path / "carts.jsonl"
    monkeypatch.setenv("BINCARD_HISTORY", str(path))
    shop = await engine.connect(server.url, partitions=partitions)
    for place in ("s1", "s2"):
        await shop.save_location(Location(place, LocationKind.STORE))
        await shop.record(Movement(f"in {place}", MovementKind.RECEIVE, "mug", place, 3))
    await shop.save_pool(Pool("all", ("s1", "s2")))
    cart = await shop.reserve("cart", [Line("mug", 1, "s2")])
    for units in (4, 4, 6):
        await shop.source_lines(cart.id, [Wanted("mug", units)], rules=Rules(pool="all"), op_id=f"{units}")
    with pytest.raises(InsufficientStock):
        await shop.source_lines(cart.id, [Wanted("mug", 7)], rules=Rules(pool="all"), op_id="7")
    await shop.commit(cart.id)
    again = await shop.source_lines(cart.id, [Wanted("mug", 6)], rules=Rules(pool="all"), op_id="6")
    assert again.replayed
    await shop.stock("mug")
    await shop.close()
    report = check(find_files(path))
    assert report.is_clean, report.violations
    assert report.counts["operations: replace_lines"] >= 3
