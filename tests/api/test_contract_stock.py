"""What HTTP promises about facts, stock, settings, transfers and supply: a paragraph of it, a test."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.chain import Chain, get, name, post, put
from tests.api.service import Answer, Service, expect_problem, fresh_key

POSITION = {
    "location",
    "on_hand",
    "held",
    "allocated",
    "unsellable",
    "safety_stock",
    "backorder_limit",
    "fenced",
    "available",
    "version",
}


@pytest.fixture
def service(hot_service: Service) -> Service:
    """The way that the product serves."""
    return hot_service


def record(service: Service, *movements: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of movements, each with an id of its own."""
    body = {"movements": [{"id": fresh_key(), **one} for one in movements]}
    answer = service.ask("POST", "/v1/stock/movements", body)
    assert answer.status == 207, answer
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [one["index"] for one in results] == list(range(len(movements)))
    return results


def count(service: Service, sku: str, location: str, quantity: int, at: datetime) -> dict[str, Any]:
    """The result of a count."""
    one = {"sku": sku, "location": location, "quantity": quantity, "counted_at": at.isoformat()}
    answer = service.ask("POST", "/v1/stock/counts", {"counts": [{"id": fresh_key(), **one}]})
    assert answer.status == 207, answer
    (result,) = answer.json()["results"]
    assert result["status"] == 200, result
    found: dict[str, Any] = result
    return found


def committed(service: Service, sku: str, location: str, quantity: int) -> str:
    made: str = service.reserve([(sku, location, quantity)]).json()["id"]
    assert service.ask("POST", f"/v1/reservations/{made}/commit").status == 200
    return made


# ---------------------------------------------------------------- facts


def test_kinds_of_movements(service: Service) -> None:
    sku, location = name("sku"), service.open_location()
    place = {"sku": sku, "location": location}
    results = record(
        service,
        {**place, "kind": "receive", "quantity": 20, "reason": "delivery", "reference": "PO-1"},
        {**place, "kind": "sale", "quantity": 3, "occurred_at": "2026-01-02T03:04:05.678Z"},
        {**place, "kind": "return", "quantity": 1, "condition": "damaged"},
        {**place, "kind": "adjust", "quantity": -2},
        {**place, "kind": "adjust", "quantity": 1},
        {**place, "kind": "condition", "quantity": 4, "condition": "sellable", "to_condition": "display"},
        {**place, "kind": "condition", "quantity": 1, "condition": "damaged", "to_condition": "sellable"},
    )
    assert [one["status"] for one in results] == [200] * 7
    assert [one["on_hand"] for one in results] == [20, 17, 18, 16, 17, 17, 17]
    assert [one["available"] for one in results] == [20, 17, 17, 15, 16, 12, 13]
    assert all(one["uncovered"] == [] for one in results)
    assert service.position(sku, location)["unsellable"] == {"display": 4}


def test_a_return_against_a_reservation(service: Service) -> None:
    """Bought here, brought back there."""
    sku, location = service.stocked(5)
    order, elsewhere = committed(service, sku, location, 2), service.open_location()
    service.ask("POST", f"/v1/reservations/{order}/fulfil")
    back = {"kind": "return", "sku": sku, "location": elsewhere, "quantity": 1, "reservation": order}
    assert record(service, back)[0]["available"] == 1
    (told,) = get(service, f"/v1/stock/{sku}/{elsewhere}/movements")["movements"]
    assert (told["kind"], told["reservation"]) == ("return", order)


def test_facts_are_never_refused(service: Service) -> None:
    """What they broke is named, the newest promise first."""
    sku, location = service.stocked(5)
    old, new = committed(service, sku, location, 3), service.reserve([(sku, location, 2)]).json()["id"]
    (result,) = record(service, {"kind": "sale", "sku": sku, "location": location, "quantity": 4})
    assert (result["status"], result["on_hand"], result["available"]) == (200, 1, 0)
    assert result["uncovered"] == [
        {"reservation": new, "quantity": 2},
        {"reservation": old, "quantity": 2},
    ]
    (more,) = record(service, {"kind": "sale", "sku": sku, "location": location, "quantity": 9})
    assert more["on_hand"] == -8


def test_a_movement_is_its_id(service: Service) -> None:
    """Sent twice it counts once; each of a request ends by itself."""
    sku, location = name("sku"), service.open_location()
    one = {"id": fresh_key(), "kind": "receive", "sku": sku, "location": location, "quantity": 5}
    lost = {**one, "id": fresh_key(), "location": "nowhere"}
    other = {**one, "id": fresh_key()}
    first = service.ask("POST", "/v1/stock/movements", {"movements": [one, lost, other, one]})
    results = first.json()["results"]
    assert [result["status"] for result in results] == [200, 404, 200, 200]
    assert results[1]["body"]["code"] == "location_not_found"
    assert service.position(sku, location)["on_hand"] == 10
    changed = service.ask("POST", "/v1/stock/movements", {"movements": [{**one, "quantity": 6}]})
    (result,) = changed.json()["results"]
    assert (result["status"], result["body"]["code"]) == (422, "idempotency_mismatch")


@pytest.mark.parametrize("kind", ["movements", "counts"])
def test_five_thousand_facts(service: Service, kind: str) -> None:
    skus, location = [name("sku") for _ in range(50)], service.open_location()
    fact = {"location": location, "quantity": 1}
    fact |= {"kind": "receive"} if kind == "movements" else {"counted_at": "2026-11-01T00:00:00Z"}
    facts = [{"id": f"{location}-{n}", "sku": skus[n % 50], **fact} for n in range(5001)]
    answer = service.ask("POST", f"/v1/stock/{kind}", {kind: facts[:5000]})
    assert (answer.status, len(answer.json()["results"])) == (207, 5000)
    assert {one["status"] for one in answer.json()["results"]} == {200}
    assert service.position(skus[7], location)["on_hand"] == (100 if kind == "movements" else 1)
    for wrong in (facts, []):
        answer = service.ask("POST", f"/v1/stock/{kind}", {kind: wrong})
        expect_problem(answer, 422, "invalid_request", pointer=f"/{kind}")


def test_a_count_as_of_its_time(service: Service) -> None:
    """What happened after it is on top of it, whenever it is told."""
    sku, location = service.stocked(10)
    now = datetime.now(UTC)
    hours = [now - timedelta(hours=hour) for hour in range(4)]
    sale = {"kind": "sale", "sku": sku, "location": location, "quantity": 1}
    record(service, {**sale, "occurred_at": hours[1].isoformat()})
    # The ten came now: behind the count, as the sale was.
    result = count(service, sku, location, 6, hours[2])
    assert (result["on_hand"], result["uncovered"]) == (15, [])
    (late,) = record(service, {**sale, "occurred_at": hours[3].isoformat()})
    assert late["on_hand"] == 15


# ---------------------------------------------------------------- stock


def test_positions(service: Service) -> None:
    sku, location = service.stocked(5)
    service.reserve([(sku, location, 1)])
    stock = get(service, f"/v1/stock/{sku}")
    assert set(stock) == {"sku", "positions"}
    (position,) = stock["positions"]
    assert set(position) == POSITION
    assert (position["on_hand"], position["held"], position["available"]) == (5, 1, 4)
    assert position["unsellable"] == {}
    one = service.ask("GET", f"/v1/stock/{sku}/{location}")
    assert one.json() == position
    again = service.ask("GET", f"/v1/stock/{sku}/{location}", headers={"If-None-Match": one.headers["etag"]})
    assert again.status == 304


def test_setting_on_hand(service: Service) -> None:
    """Compare and set."""
    sku, location = service.stocked(5)
    path = f"/v1/stock/{sku}/{location}"
    body = {"quantity": 7, "reason": "found some"}
    expect_problem(service.ask("PUT", path, body), 428, "precondition_required")
    tag = service.ask("GET", path).headers["etag"]
    done = service.ask("PUT", path, body, {"If-Match": tag})
    assert (done.status, done.json()["on_hand"], done.json()["uncovered"]) == (200, 7, [])
    assert done.headers["etag"] == service.ask("GET", path).headers["etag"] != tag
    expect_problem(
        service.ask("PUT", path, {**body, "quantity": 8}, {"If-Match": tag}), 412, "version_mismatch"
    )
    order = committed(service, sku, location, 4)
    forced = service.ask("PUT", path, {"quantity": 1, "reason": "lost"}, {"If-Match": "*"}).json()
    assert (forced["on_hand"], forced["uncovered"]) == (1, [{"reservation": order, "quantity": 3}])


def test_history_and_holders(service: Service) -> None:
    sku, location = service.stocked(5)
    record(service, {"kind": "sale", "sku": sku, "location": location, "quantity": 1, "reason": "till 4"})
    path = f"/v1/stock/{sku}/{location}"
    first = get(service, f"{path}/movements?limit=1")
    rest = get(service, f"{path}/movements?limit=1&cursor={first['next_cursor']}")
    told = first["movements"] + rest["movements"]
    assert [(one["kind"], one["quantity"]) for one in told] == [("sale", -1), ("receive", 5)]
    assert told[0]["reason"] == "till 4"
    order = committed(service, sku, location, 1)
    cart = service.reserve([(sku, location, 2)], owner="cart-81", reference="order-7").json()
    holders = get(service, f"{path}/holders")["holders"]
    none = {"owner": None, "reference": None, "expires_at": None}
    assert holders == [
        {"reservation": order, "state": "committed", "held": 0, "allocated": 1, **none},
        {
            "reservation": cart["id"],
            "state": "held",
            "held": 2,
            "allocated": 0,
            "owner": "cart-81",
            "reference": "order-7",
            "expires_at": cart["expires_at"],
        },
    ]


# ---------------------------------------------------------------- settings


def test_settings(service: Service) -> None:
    """Each is read, created or replaced, deleted, and listed in pages."""
    store, pool, channel, sku = name("store"), name("pool"), name("channel"), name("sku")
    location = {
        "kind": "store",
        "name": "High Street",
        "lat": 52.5,
        "lon": 13.4,
        "priority": 3,
        "active": True,
        "capabilities": ["pickup", "ship", "curbside"],
        "time_zone": "Europe/Berlin",
        "gln": "4012345000009",
    }
    item = {
        "name": "Box",
        "unit": "piece",
        "gtins": ["04006381333931"],
        "tracked": True,
        "components": [{"sku": f"{sku}-part", "quantity": 2}],
    }
    settings = [
        (f"/v1/locations/{store}", {"kind": "warehouse"}, location),
        (f"/v1/pools/{pool}", {"locations": [store]}, {"locations": [store]}),
        (f"/v1/channels/{channel}", {"pools": [pool]}, {"pools": [pool], "buffer": {"percent": 10}}),
        (f"/v1/items/{sku}", {}, item),
    ]
    for path, first, then in settings:
        assert service.ask("PUT", path, first).status == 201
        replaced = service.ask("PUT", path, then)
        assert replaced.status == 200
        assert then.items() <= get(service, path).items()
        assert get(service, path) == replaced.json()
        listed, cursor = [], ""
        while cursor is not None:
            page = get(service, f"{path.rpartition('/')[0]}?limit=1000{cursor and '&cursor=' + cursor}")
            listed += page["items"]
            cursor = page["next_cursor"]
        assert replaced.json() in listed
    assert service.ask("PUT", settings[2][0], {"pools": [pool], "buffer": {"units": 2}}).status == 200
    expect_problem(service.ask("DELETE", settings[0][0]), 409, "location_in_use")
    expect_problem(service.ask("DELETE", settings[1][0]), 409, "pool_in_use")
    for path, *_ in reversed(settings):
        assert service.ask("DELETE", path).status == 204
        assert service.ask("GET", path).status == service.ask("DELETE", path).status == 404


@pytest.mark.parametrize("kind", ["warehouse", "store", "dropship", "virtual"])
def test_kinds_of_locations(service: Service, kind: str) -> None:
    assert put(service, f"/v1/locations/{name('place')}", {"kind": kind})["kind"] == kind


def test_what_is_needed_stays(service: Service) -> None:
    """While stock or promises remain."""
    sku, location = service.stocked(1)
    expect_problem(service.ask("DELETE", f"/v1/locations/{location}"), 409, "location_in_use")
    missing = {"lines": [{"sku": sku, "location": "nowhere", "quantity": 1}]}
    expect_problem(post(service, "/v1/reservations", missing), 404, "location_not_found")
    expect_problem(
        service.ask("PUT", f"/v1/pools/{name('p')}", {"locations": ["none"]}), 404, "location_not_found"
    )
    expect_problem(
        service.ask("PUT", f"/v1/channels/{name('c')}", {"pools": ["none"]}), 404, "pool_not_found"
    )


def test_policies(service: Service) -> None:
    """Safety stock is kept back, back-orders go below it; statuses follow."""
    sku, location = service.stocked(5)
    path = f"/v1/policies/{sku}/{location}"
    expect_problem(service.ask("GET", path), 404, "policy_not_found")
    put(service, path, {"safety_stock": 2, "low_stock": 3})
    found = get(service, f"/v1/availability/{sku}")
    assert (found["available"], found["status"]) == (3, "low_stock")
    expect_problem(service.reserve([(sku, location, 4)]), 409, "insufficient_stock")
    put(service, path, {"backorder_limit": 2})
    assert service.reserve([(sku, location, 6)]).status == 201
    found = get(service, f"/v1/availability/{sku}?quantity=1")
    assert (found["available"], found["status"], found["can_reserve"]) == (0, "backorder", True)
    assert service.reserve([(sku, location, 1)]).status == 201
    assert get(service, f"/v1/availability/{sku}?quantity=1")["can_reserve"] is False
    assert get(service, f"/v1/policies?sku={sku}")["items"] == [get(service, path)]
    assert service.ask("DELETE", path).status == 204


@pytest.mark.parametrize("spill", [True, False])
def test_fences(service: Service, spill: bool) -> None:
    """The channel's own first; given back, it fills up again before anybody else has it."""
    chain = Chain(service)
    path = f"/v1/fences/{chain.channel}/{chain.sku}/{chain.second}"
    assert service.ask("PUT", path, {"quantity": 3, "spill": spill}).status == 201
    assert service.position(chain.sku, chain.second)["fenced"] == 3
    for_all = {"lines": [{"sku": chain.sku, "location": chain.second, "quantity": 3}]}
    expect_problem(post(service, "/v1/reservations", for_all), 409, "insufficient_stock")
    own = {"lines": [{"sku": chain.sku, "location": chain.second, "quantity": 4}], "channel": chain.channel}
    answer = post(service, "/v1/reservations", own)
    if not spill:
        expect_problem(answer, 409, "insufficient_stock")
        own["lines"][0]["quantity"] = 3
        answer = post(service, "/v1/reservations", own)
    assert answer.status == 201
    assert get(service, path)["remaining"] == 0
    expect_problem(service.ask("DELETE", path), 409, "fence_in_use")
    part = {"lines": [{"sku": chain.sku, "location": chain.second, "quantity": 2}]}
    post(service, f"/v1/reservations/{answer.json()['id']}/release", part)
    assert get(service, path)["remaining"] == (1 if spill else 2) or spill
    service.ask("POST", f"/v1/reservations/{answer.json()['id']}/release")
    assert get(service, path)["remaining"] == 3
    assert service.ask("DELETE", path).status == 204


# ---------------------------------------------------------------- transfers and supply


def test_a_transfer(service: Service) -> None:
    """Shipped it is off the source; it comes in several receipts, short and over."""
    sku, source = service.stocked(10)
    other, target = name("sku"), service.open_location()
    service.receive(other, source, 4)
    goods = [{"sku": sku, "quantity": 5}, {"sku": other, "quantity": 2}]
    made = post(service, "/v1/transfers", {"from": source, "to": target, "lines": goods})
    assert (made.status, made.json()["state"]) == (201, "draft")
    path = made.headers["location"]
    assert path == f"/v1/transfers/{made.json()['id']}"
    assert service.position(sku, source)["on_hand"] == 10
    shipped = service.ask("POST", f"{path}/ship")
    assert (shipped.status, shipped.json()["state"]) == (200, "shipped")
    assert service.position(sku, source)["on_hand"] == 5
    assert get(service, f"/v1/atp/{sku}?location={target}&days=1")["days"][0]["atp"] in {0, 5}
    post(service, f"{path}/receive", {"lines": [{"sku": sku, "quantity": 2}]})
    assert service.position(sku, target)["on_hand"] == 2
    last = {"lines": [{"sku": sku, "quantity": 2}, {"sku": other, "quantity": 3}], "close": True}
    closed = post(service, f"{path}/receive", last).json()
    assert (closed["state"], [line["discrepancy"] for line in closed["lines"]]) == ("closed", [-1, 1])
    assert service.position(other, target)["on_hand"] == 3
    expect_problem(service.ask("POST", f"{path}/cancel"), 409, "already_closed")
    assert get(service, path) == closed


def test_a_transfer_that_is_received_or_cancelled_whole(service: Service) -> None:
    sku, source = service.stocked(10)
    body = {"from": source, "to": service.open_location(), "lines": [{"sku": sku, "quantity": 4}]}
    path = post(service, "/v1/transfers", body).headers["location"]
    service.ask("POST", f"{path}/ship")
    assert service.ask("POST", f"{path}/receive").json()["state"] == "received"
    path = post(service, "/v1/transfers", body).headers["location"]
    service.ask("POST", f"{path}/ship")
    assert service.ask("POST", f"{path}/cancel").json()["state"] == "cancelled"
    assert service.position(sku, source)["on_hand"] == 6


def test_inbound_and_atp(service: Service) -> None:
    """By location, pool and channel."""
    chain = Chain(service)
    moment = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    body = {"sku": chain.sku, "location": chain.first, "quantity": 40, "expected_at": moment}
    made = post(service, "/v1/inbound", body)
    assert (made.status, made.json()["kind"]) == (201, "purchase")
    for where, now in (("location={first}", 3), ("pool={pool}", 8), ("channel={channel}", 8)):
        days = get(service, f"/v1/atp/{chain.sku}?{where.format(**vars(chain))}&days=4")["days"]
        assert set(days[0]) == {"date", "atp"}
        # By their dates: it may become midnight meanwhile.
        due = moment[:10]
        assert [day["atp"] for day in days] == [now + 40 * (day["date"] >= due) for day in days]
        assert days[0]["date"] < due <= days[-1]["date"]
    received: Answer = post(service, f"{made.headers['location']}/receive", {"quantity": 25})
    assert (received.status, service.position(chain.sku, chain.first)["on_hand"]) == (200, 28)
