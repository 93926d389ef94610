"""Pools, channels and items over HTTP, and what is near a place. Locations: see test_reading.py."""

from collections.abc import Mapping
from itertools import pairwise
from uuid import uuid4

import pytest

from tests.api.service import Service, expect_problem


def fresh(word: str) -> str:
    return f"{word}-{uuid4().hex[:10]}"


def put(service: Service, path: str, body: Mapping[str, object]) -> None:
    answer = service.ask("PUT", path, body)
    assert answer.status in {200, 201}, answer.json()


@pytest.mark.parametrize("word", ["pool", "channel", "item"])
def test_the_life_of_a_setting(service: Service, word: str) -> None:
    location, pool = service.open_location(), fresh("p")
    put(service, f"/v1/pools/{pool}", {"locations": [location]})
    name = fresh(word)
    path = f"/v1/{word}s/{name}"
    first, second, shown = {
        "pool": ({"locations": [location, location]}, {"locations": [location]}, {"locations": [location]}),
        "channel": (
            {"pools": [pool], "buffer": {"units": 2}},
            {"pools": [pool]},
            {"pools": [pool], "buffer": {"units": 2}},
        ),
        "item": (
            {"name": "Box", "gtins": ["4006381333931", "40170725"], "policy": {"low_stock": 3}},
            {},
            {
                "name": "Box",
                "unit": None,
                "gtins": ["04006381333931", "00000040170725"],
                "components": [],
                "tracked": True,
                "policy": {"low_stock": 3},
            },
        ),
    }[word]
    own = {"sku" if word == "item" else "id": name}
    expect_problem(service.ask("GET", path), 404, f"{word}_not_found")
    created = service.ask("PUT", path, first)
    assert (created.status, created.headers["location"]) == (201, path)
    read = service.ask("GET", path)
    assert created.json() == {**own, **shown} == read.json()
    known = {"If-None-Match": read.headers["etag"]}
    assert service.ask("GET", path, None, known).status == 304
    assert service.ask("PUT", path, first).status == 200
    assert service.ask("GET", path, None, known).status == 304
    assert service.ask("PUT", path, second).status == 200
    assert service.ask("GET", path, None, known).status == (304 if word == "pool" else 200)
    assert service.ask("DELETE", path).status == 204
    expect_problem(service.ask("GET", path), 404, f"{word}_not_found")
    expect_problem(service.ask("DELETE", path), 404, f"{word}_not_found")


def test_what_is_needed_stays(service: Service) -> None:
    """From the top down everything can go."""
    location, pool, channel, part, kit = (fresh(word) for word in ("s", "p", "c", "part", "kit"))
    put(service, f"/v1/locations/{location}", {"kind": "store"})
    put(service, f"/v1/pools/{pool}", {"locations": [location]})
    put(service, f"/v1/channels/{channel}", {"pools": [pool]})
    put(service, f"/v1/items/{part}", {})
    put(service, f"/v1/items/{kit}", {"components": [{"sku": part, "quantity": 2}]})
    expect_problem(service.ask("DELETE", f"/v1/locations/{location}"), 409, "location_in_use")
    expect_problem(service.ask("DELETE", f"/v1/pools/{pool}"), 409, "pool_in_use")
    expect_problem(service.ask("DELETE", f"/v1/items/{part}"), 409, "item_in_use")
    made = (("channels", channel), ("pools", pool), ("locations", location), ("items", kit), ("items", part))
    for word, name in made:
        assert service.ask("DELETE", f"/v1/{word}/{name}").status == 204


def test_what_is_named_must_be_there(service: Service) -> None:
    known, unknown = service.open_location(), fresh("x")
    problem = expect_problem(
        service.ask("PUT", f"/v1/pools/{unknown}", {"locations": [known, unknown]}), 404, "location_not_found"
    )
    assert unknown in problem["detail"]
    expect_problem(service.ask("GET", f"/v1/pools/{unknown}"), 404, "pool_not_found")
    expect_problem(service.ask("PUT", f"/v1/channels/{unknown}", {"pools": [unknown]}), 404, "pool_not_found")


def test_a_stocked_item_stays(service: Service) -> None:
    sku, _ = service.stocked()
    put(service, f"/v1/items/{sku}", {"name": "Box"})
    expect_problem(service.ask("DELETE", f"/v1/items/{sku}"), 409, "item_in_use")


def test_kits_that_go_round_or_too_deep(service: Service) -> None:
    names = [fresh("kit") for _ in range(6)]
    for kit, part in pairwise(names[:5]):
        put(service, f"/v1/items/{kit}", {"components": [{"sku": part, "quantity": 1}]})
    for kit, part in ((names[4], names[5]), (names[4], names[0])):
        answer = service.ask("PUT", f"/v1/items/{kit}", {"components": [{"sku": part, "quantity": 1}]})
        expect_problem(answer, 422, "invalid_request", pointer="/components")


def test_a_sku_with_any_text(service: Service) -> None:
    """What an item is called goes through path, cursor and Location as it is."""
    name = f"å/ {uuid4().hex[:6]}"
    path = f"/v1/items/{'%C3%A5%2F%20'}{name[3:]}"
    created = service.ask("PUT", path, {"name": "x"})
    assert (created.json()["sku"], created.headers["location"]) == (name, path)
    assert service.ask("GET", path).json()["sku"] == name


def test_items_come_in_pages(service: Service) -> None:
    made = {fresh(word) for word in ("ä", "b", "c", "d", "e")}
    for name in made:
        put(service, f"/v1/items/{name.replace('ä', '%C3%A4')}", {})
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = service.ask("GET", f"/v1/items?limit=2{cursor and '&cursor=' + cursor}").json()
        assert 1 <= len(page["items"]) <= 2
        found += [item["sku"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert found == sorted(set(found))
    assert made <= set(found)


def test_near_a_place(service: Service) -> None:
    """The nearest first; who cannot hand it out, is closed, too far away or does not stock it is left out."""
    sku = fresh("near")
    shops = {
        "close": {"lat": 10.0, "lon": 179.99, "capabilities": ["pickup"]},
        "across": {"lat": 10.0, "lon": -179.9, "capabilities": ["pickup", "curbside"]},
        "far": {"lat": 14.0, "lon": 179.9, "capabilities": ["pickup"]},
        "shut": {"lat": 10.0, "lon": 179.99, "capabilities": ["pickup"], "active": False},
        "depot": {"lat": 10.0, "lon": 179.99, "capabilities": ["ship"]},
        "empty": {"lat": 10.0, "lon": 179.99, "capabilities": ["pickup"]},
        "nowhere": {"capabilities": ["pickup"]},
    }
    names = {word: fresh(word) for word in shops}
    for word, settings in shops.items():
        put(service, f"/v1/locations/{names[word]}", {"kind": "store", **settings})
        if word != "empty":
            service.receive(sku, names[word], 9 if word == "across" else 2)
    path = f"/v1/availability/{sku}/nearby?lat=10&lon=180"

    def near(more: str = "") -> list[str]:
        return [found["location"] for found in service.ask("GET", path + more).json()["locations"]]

    answer = service.ask("GET", path)
    assert answer.json()["sku"] == sku
    assert answer.json()["locations"] == [
        {"location": names["close"], "distance_km": 1.095, "available": 2, "status": "in_stock"},
        {"location": names["across"], "distance_km": 10.951, "available": 9, "status": "in_stock"},
    ]
    known = {"If-None-Match": answer.headers["etag"]}
    assert service.ask("GET", path, None, known).status == 304
    assert near("&limit=1") == [names["close"]]
    assert near("&quantity=3") == [names["across"]]
    assert near("&radius_km=5") == [names["close"]]
    assert near("&radius_km=1000") == [names["close"], names["across"], names["far"]]
    assert near("&capability=ship") == [names["depot"]]
    assert near("&capability=curbside") == [names["across"]]
    expect_problem(
        service.ask("GET", f"/v1/availability/{fresh('no')}/nearby?lat=1&lon=1"), 404, "sku_not_found"
    )
