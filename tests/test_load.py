from collections.abc import Iterator
from pathlib import Path

import pytest

from api.load import LoadReport, load, show
from tests.replay.stub_server import StubServer


@pytest.fixture
def stub() -> Iterator[StubServer]:
    """Give a listening stub of the server that knows one store."""
    server = StubServer()
    server.locations["s1"] = {"kind": "store"}
    server.start()
    yield server
    server.stop()


def put(tmp_path: Path, name: str, text: str) -> Path:
    """Write a file to load."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def errors(report: LoadReport) -> list[tuple[int, str]]:
    """List line and field of the errors."""
    return [(line, field) for line, field, _ in report.errors]


def test_stock_is_loaded_once_and_bad_lines_do_not_stop_it(stub: StubServer, tmp_path: Path) -> None:
    """Each bad line is named; corrected, the same file adds only what was missing."""
    header = "sku,location,quantity,kind\n"
    text = f"{header}A-1,s1,5,\nA-2,s1,many,\nA-3,,1,\nA-4,s9,1,\n\nA-1,s1,5,receive\n"
    path = put(tmp_path, "monday.csv", text)
    report = load("stock", path, url=stub.url, progress=False)
    assert (report.lines, report.loaded, report.failed, report.ok) == (5, 2, 3, False)
    assert errors(report) == [(3, "quantity"), (4, "location"), (5, "")]
    assert "location_not_found" in report.errors[2].remedy
    assert stub.positions["A-1", "s1"]["on_hand"] == 10
    put(tmp_path, "monday.csv", text.replace("many", "3"))
    again = load("stock", path, url=stub.url, progress=False)
    assert again.loaded == 3
    assert stub.positions["A-1", "s1"]["on_hand"] == 10
    assert stub.positions["A-2", "s1"]["on_hand"] == 3
    tuesday = put(tmp_path, "tuesday.csv", "sku,location,quantity\nA-1,s1,5\n")
    assert load("stock", tuesday, url=stub.url, progress=False).ok
    assert stub.positions["A-1", "s1"]["on_hand"] == 15


def test_many_lines_travel_in_parts(stub: StubServer, tmp_path: Path) -> None:
    """More lines than one request takes are all loaded."""
    rows = "".join(f'{{"sku":"A-{row}","location":"s1","quantity":1}}\n' for row in range(2500))
    report = load("stock", put(tmp_path, "big.jsonl", rows), url=stub.url, progress=False)
    assert report.ok
    assert report.loaded == 2500 == len(stub.stocked)


def test_locations_and_items(stub: StubServer, tmp_path: Path) -> None:
    """Numbers, lists and truth values arrive as such; the server's own refusals name the field."""
    places = put(
        tmp_path,
        "places.csv",
        "id,kind,name,lat,capabilities,active\nw1,warehouse,Main,39.5,ship;pickup,true\nv1,virtual,,,,\n",
    )
    report = load("locations", places, url=stub.url, progress=False)
    assert stub.locations["w1"] == {
        "kind": "warehouse",
        "name": "Main",
        "lat": 39.5,
        "capabilities": ["ship", "pickup"],
        "active": True,
    }
    assert errors(report) == [(3, "kind")]
    goods = put(tmp_path, "goods.jsonl", '{"sku":"A/1","name":"Milk","gtins":["1"]}\n[1]\n')
    report = load("items", goods, url=stub.url, progress=False)
    assert stub.items == {"A/1": {"name": "Milk", "gtins": ["1"]}}
    assert errors(report) == [(2, "")]
    stub.without_items = True
    report = load("items", goods, url=stub.url, progress=False)
    assert report.stopped == "this server does not offer items yet"


def test_pools_and_channels(stub: StubServer, tmp_path: Path) -> None:
    """Lists in cells, buffers in JSON Lines."""
    pools = put(tmp_path, "pools.csv", "id,locations\nonline,s1;w1\nempty,\n")
    report = load("pools", pools, url=stub.url, progress=False)
    assert stub.sales["pools"] == {"online": {"locations": ["s1", "w1"]}}
    assert errors(report) == [(3, "locations")]
    channels = put(tmp_path, "channels.jsonl", '{"id":"web","pools":["online"],"buffer":{"units":2}}\n')
    assert load("channels", channels, url=stub.url, progress=False).ok
    assert stub.sales["channels"] == {"web": {"pools": ["online"], "buffer": {"units": 2}}}


def test_unknown_columns_and_formats_are_named(
    stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy lists the columns there are; a file of another kind is not guessed at."""
    path = put(tmp_path, "odd.csv", "sku,location,quantity,price\nA-1,s1,1,9\nA-1,s1,1,,x\n")
    report = load("stock", path, url=stub.url, progress=False)
    assert errors(report) == [(2, "price"), (3, "")]
    assert "sku, location, quantity" in report.errors[0].remedy
    show(report)
    assert "odd.csv:2 price: no such column" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"neither \.csv nor"):
        load("stock", put(tmp_path, "odd.xls", ""), url=stub.url, progress=False)


def test_a_server_that_is_away_stops_the_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report says why."""
    monkeypatch.setattr("api.load.PATIENCE_S", 0.1)
    path = put(tmp_path, "a.csv", "sku,location,quantity\nA-1,s1,1\n")
    report = load("stock", path, url="http://127.0.0.1:9", progress=False)
    assert not report.ok
    assert "no connection" in report.stopped
