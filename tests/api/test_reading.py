"""Availability, stock and locations as they are read."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest

from tests.api.service import Service, expect_problem, fresh_key


def test_availability_over_locations(service: Service) -> None:
    sku, first = service.stocked(5)
    second = service.open_location()
    service.receive(sku, second, 2)
    empty = service.open_location()
    answer = service.ask("GET", f"/v1/availability/{sku}").json()
    assert (answer["sku"], answer["available"], answer["status"]) == (sku, 7, "in_stock")
    assert {one["location"]: one["available"] for one in answer["locations"]} == {first: 5, second: 2}
    assert set(answer) == {"sku", "available", "status", "version", "locations"}
    some = service.ask("GET", f"/v1/availability/{sku}?location={second}&location={empty}").json()
    assert some["available"] == 2
    assert [one["available"] for one in some["locations"]] == [2, 0]
    for quantity, fits in ((5, True), (6, False)):
        asked = service.ask("GET", f"/v1/availability/{sku}?quantity={quantity}").json()
        assert asked["can_reserve"] is fits
    expect_problem(service.ask("GET", f"/v1/availability/{sku}?location=none"), 404, "location_not_found")
    expect_problem(service.ask("GET", f"/v1/availability/{sku}?pool=none"), 404, "pool_not_found")
    expect_problem(service.ask("GET", "/v1/availability/none"), 404, "sku_not_found")


def test_a_query_keeps_its_order(service: Service) -> None:
    sku, location = service.stocked(5)
    other, _ = service.stocked(3)
    body = {"skus": [other, "none", sku, other], "detail": True}
    items = service.ask("POST", "/v1/availability/query", body).json()["items"]
    assert [item["sku"] for item in items] == body["skus"]
    assert [item["available"] for item in items] == [3, 0, 5, 3]
    assert [item["known"] for item in items] == [True, False, True, True]
    assert items[2]["locations"] == [{"location": location, "available": 5, "status": "in_stock"}]
    plain = service.ask("POST", "/v1/availability/query", {"skus": [sku]}).json()["items"][0]
    assert "locations" not in plain


@pytest.mark.parametrize("path", ["/v1/availability/{sku}", "/v1/stock/{sku}/{location}"])
def test_an_entity_tag_changes_with_what_it_tags(service: Service, path: str) -> None:
    sku, location = service.stocked(5)
    path = path.format(sku=sku, location=location)
    first = service.ask("GET", path)
    tag = first.headers["etag"]
    service.stocked()  # the books go on, but not for this position
    for known in (tag, f'"other", {tag}', "*", "W/" + tag.removeprefix("W/")):
        again = service.ask("GET", path, None, {"If-None-Match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert service.ask("GET", path, None, {"If-None-Match": '"other"'}).status == 200
    service.receive(sku, location, 1)
    changed = service.ask("GET", path, None, {"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["etag"] != tag


def test_stock_shows_every_counter(service: Service) -> None:
    sku, location = service.stocked(10)
    committed = service.reserve([(sku, location, 3)], owner="cart", reference="order").json()["id"]
    service.ask("POST", f"/v1/reservations/{committed}/commit")
    held = service.reserve([(sku, location, 2)], owner="late").json()
    stock = service.ask("GET", f"/v1/stock/{sku}").json()
    (position,) = stock["positions"]
    assert position == {
        "location": location,
        "on_hand": 10,
        "held": 2,
        "allocated": 3,
        "unsellable": {},
        "safety_stock": 0,
        "backorder_limit": 0,
        "fenced": 0,
        "available": 5,
        "version": position["version"],
    }
    holders = service.ask("GET", f"/v1/stock/{sku}/{location}/holders").json()["holders"]
    assert [(one["reservation"], one["state"], one["held"], one["allocated"]) for one in holders] == [
        (committed, "committed", 0, 3),
        (held["id"], "held", 2, 0),
    ]
    assert [one["expires_at"] for one in holders] == [None, held["expires_at"]]
    assert [(one["owner"], one["reference"]) for one in holders] == [("cart", "order"), ("late", None)]


def test_stock_that_is_not_there(service: Service) -> None:
    sku, _ = service.stocked()
    elsewhere = service.open_location()
    expect_problem(service.ask("GET", "/v1/stock/none"), 404, "sku_not_found")
    for path in ("", "/holders"):
        expect_problem(service.ask("GET", f"/v1/stock/{sku}/none{path}"), 404, "location_not_found")
        expect_problem(service.ask("GET", f"/v1/stock/{sku}/{elsewhere}{path}"), 404, "not_stocked")
        expect_problem(service.ask("GET", f"/v1/stock/none/{elsewhere}{path}"), 404, "sku_not_found")


def test_a_fact_names_the_promises_that_it_breaks(service: Service) -> None:
    sku, location = service.stocked(5)
    first = service.reserve([(sku, location, 2)]).json()["id"]
    second = service.reserve([(sku, location, 3)]).json()["id"]
    sale = {"id": fresh_key(), "kind": "sale", "sku": sku, "location": location, "quantity": 4}
    answer = service.ask("POST", "/v1/stock/movements", {"movements": [sale]})
    assert answer.status == 207
    (result,) = answer.json()["results"]
    assert (result["status"], result["on_hand"]) == (200, 1)
    assert [one["reservation"] for one in result["uncovered"]] == [second, first]
    assert sum(one["quantity"] for one in result["uncovered"]) == 4


def test_movements_succeed_and_fail_one_by_one(service: Service) -> None:
    sku, location = service.stocked(5)
    moment = datetime.now(UTC) - timedelta(days=1)
    base = {"kind": "adjust", "sku": sku, "location": location, "occurred_at": moment.isoformat()}
    movements = [
        {**base, "id": fresh_key(), "quantity": -2, "reason": "broken", "reference": "r-1"},
        {**base, "id": fresh_key(), "quantity": 1, "location": "none"},
        {**base, "id": fresh_key(), "quantity": 10, "kind": "sale", "occurred_at": None},
    ]
    results = service.ask("POST", "/v1/stock/movements", {"movements": movements}).json()["results"]
    assert [result["status"] for result in results] == [200, 404, 200]
    assert results[1]["body"]["code"] == "location_not_found"
    assert results[1]["body"]["instance"] == "/v1/stock/movements#/movements/1"
    assert results[2]["on_hand"] == -7


def test_one_bad_movement_stops_all(service: Service) -> None:
    sku, location = service.stocked(5)
    good = {"id": fresh_key(), "kind": "receive", "sku": sku, "location": location, "quantity": 1}
    bad = {**good, "quantity": 0}
    answer = service.ask("POST", "/v1/stock/movements", {"movements": [good, bad, good, bad]})
    document = expect_problem(answer, 422, "invalid_request")
    assert [error["pointer"] for error in document["errors"]] == [
        "/movements/1/quantity",
        "/movements/3/quantity",
    ]
    assert service.position(sku, location)["on_hand"] == 5


def test_the_life_of_a_location(service: Service) -> None:
    name = f"loc-{uuid4().hex[:8]}"
    path = f"/v1/locations/{name}"
    settings = {
        "kind": "warehouse",
        "name": "Main",
        "lat": 39.1,
        "lon": -84.5,
        "priority": 3,
        "capabilities": ["ship", "pickup", "ship"],
        "active": False,
        "time_zone": "Europe/Berlin",
        "gln": "4000001000005",
        "policy": {"safety_stock": 2},
    }
    created = service.ask("PUT", path, settings)
    assert (created.status, created.headers["location"]) == (201, path)
    expected = {"id": name, **settings, "capabilities": ["ship", "pickup"]}
    assert created.json() == expected == service.ask("GET", path).json()
    replaced = service.ask("PUT", path, {"kind": "store"})
    assert replaced.status == 200
    assert replaced.json()["name"] is None
    assert service.ask("DELETE", path).status == 204
    expect_problem(service.ask("GET", path), 404, "location_not_found")
    expect_problem(service.ask("DELETE", path), 404, "location_not_found")


def test_a_location_with_stock_stays(service: Service) -> None:
    _, location = service.stocked()
    expect_problem(service.ask("DELETE", f"/v1/locations/{location}"), 409, "location_in_use")
    assert service.ask("GET", f"/v1/locations/{location}").status == 200


def test_locations_come_in_pages(service: Service) -> None:
    made = {service.open_location() for _ in range(5)}
    found: list[str] = []
    cursor = ""
    while cursor is not None:
        page = service.ask("GET", f"/v1/locations?limit=2{cursor and '&cursor=' + cursor}").json()
        assert 1 <= len(page["items"]) <= 2
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert made <= set(found)
    assert all(before < after for before, after in pairwise(found))
