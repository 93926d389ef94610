import pytest

from api import demo
from api.replay.baskets import Baskets, BasketsUnavailableError
from tests.replay.stub_server import StubServer


def not_installed() -> Baskets:
    """Behave as if the extra were absent."""
    raise BasketsUnavailableError("not installed")


def test_demo_is_loaded_once(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few stores and a warehouse; loading again, even with ids forgotten, changes nothing."""
    monkeypatch.setattr(demo, "complete_journey", not_installed)
    shown = demo.load_demo(stub.url)
    assert len(stub.locations) == 5
    assert stub.locations["w1"]["kind"] == "warehouse"
    assert len(stub.stocked) == demo.SKUS
    assert stub.items[demo.KIT]["components"]
    pools, channels = stub.sales["pools"], stub.sales["channels"]
    assert set(pools["online"]["locations"]) == set(stub.locations)
    assert set(pools["stores"]["locations"]) == set(stub.locations) - {"w1"}
    assert sorted(pools["north"]["locations"] + pools["south"]["locations"]) == sorted(
        pools["stores"]["locations"]
    )
    assert set(channels) == {"web", "app", "pos", "marketplace"}
    assert stub.positions[shown["sku"], shown["location"]]["on_hand"] == shown["available"] > 0
    before = {at: dict(units) for at, units in stub.positions.items()}
    stub.movement_ids.clear()
    assert demo.load_demo(stub.url) == shown
    assert {at: dict(units) for at, units in stub.positions.items()} == before


def test_demo_needs_no_items_route(stub: StubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are left out where the server keeps no items."""
    monkeypatch.setattr(demo, "complete_journey", not_installed)
    stub.without_items = True
    assert demo.load_demo(stub.url)["available"] > 0
    assert not stub.items
