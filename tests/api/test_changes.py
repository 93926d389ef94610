"""Reservations that change and orders for pickup, over HTTP."""

from typing import Any

from tests.api.service import Service, expect_problem, fresh_key


def keyed() -> dict[str, str]:
    return {"Idempotency-Key": fresh_key()}


def line_of(sku: str, location: str, quantity: int, **units: int) -> dict[str, Any]:
    none = {"held": 0, "committed": 0, "fulfilled": 0, "released": 0}
    return {"sku": sku, "location": location, "quantity": quantity, **none, **units}


def test_a_move(service: Service) -> None:
    sku, near = service.stocked(5)
    far = service.open_location()
    service.receive(sku, far, 2)
    path = f"/v1/reservations/{service.reserve([(sku, near, 3)]).json()['id']}"
    body, key = {"lines": [{"sku": sku, "from": near, "to": far, "quantity": 2}]}, keyed()
    moved = service.ask("POST", f"{path}/move", body, key)
    assert moved.status == 200
    assert "bincard-durability" in moved.headers
    assert moved.json()["lines"] == [line_of(sku, near, 1, held=1), line_of(sku, far, 2, held=2)]
    again = service.ask("POST", f"{path}/move", body, key)
    assert (again.body, again.headers["idempotent-replayed"]) == (moved.body, "true")
    more = {"lines": [{"sku": sku, "from": near, "to": far, "quantity": 1}]}
    short = expect_problem(service.ask("POST", f"{path}/move", more, keyed()), 409, "insufficient_stock")
    assert short["shortages"] == [{"line": 0, "sku": sku, "location": far, "requested": 3, "available": 2}]
    excess = {"lines": [{"sku": sku, "from": near, "to": far, "quantity": 4}]}
    expect_problem(service.ask("POST", f"{path}/move", excess, keyed()), 409, "exceeds_open_quantity")
    assert service.position(sku, far)["held"] == 2


def test_a_cart_that_changes(service: Service) -> None:
    sku, location = service.stocked(5)
    path = f"/v1/reservations/{service.reserve([(sku, location, 3)]).json()['id']}"
    line = {"sku": sku, "location": location}
    answer = service.ask("PUT", f"{path}/lines", {"lines": [{**line, "quantity": 5}]})
    assert (answer.status, answer.json()["lines"]) == (200, [line_of(sku, location, 5, held=5)])
    short = service.ask("PUT", f"{path}/lines", {"lines": [{**line, "quantity": 6}]})
    document = expect_problem(short, 409, "insufficient_stock")
    assert document["shortages"] == [{**line, "line": 0, "requested": 6, "available": 5}]
    assert service.position(sku, location)["held"] == 5
    service.ask("POST", f"{path}/commit")
    late = service.ask("PUT", f"{path}/lines", {"lines": [{**line, "quantity": 1}]})
    expect_problem(late, 409, "already_committed")


def test_a_cart_that_leaves_its_places_to_us(service: Service) -> None:
    sku, near = service.stocked(2)
    far = service.open_location()
    service.receive(sku, far, 2)
    pool, channel = f"pool-{sku}", f"channel-{sku}"
    assert service.ask("PUT", f"/v1/pools/{pool}", {"locations": [near, far]}).status in {200, 201}
    path = f"/v1/reservations/{service.reserve([(sku, far, 1)]).json()['id']}/lines"
    wanted = {"lines": [{"sku": sku, "quantity": 4}]}
    nowhere = service.ask("PUT", path, wanted)
    assert expect_problem(nowhere, 422, "invalid_request")["errors"][0]["pointer"] == "/lines/0/location"
    expect_problem(
        service.ask("PUT", path, wanted | {"sourcing": "nearest", "pool": pool}), 422, "invalid_request"
    )
    expect_problem(service.ask("PUT", path, wanted | {"channel": channel}), 422, "invalid_request")
    key = keyed()
    full = service.ask("PUT", path, wanted | {"pool": pool}, key)
    assert full.status == 200
    assert {line["location"]: line["held"] for line in full.json()["lines"]} == {far: 2, near: 2}
    more = service.ask("PUT", path, {"lines": [{"sku": sku, "quantity": 5}], "pool": pool})
    (short,) = expect_problem(more, 409, "insufficient_stock")["shortages"]
    assert short == {"line": 0, "sku": sku, "location": None, "requested": 5, "available": 4}
    again = service.ask("PUT", path, wanted | {"pool": pool}, key)
    assert (again.body, again.headers["idempotent-replayed"]) == (full.body, "true")


def test_an_order_that_is_collected(service: Service) -> None:
    sku, location = service.stocked(5)
    path = f"/v1/reservations/{service.reserve([(sku, location, 3)]).json()['id']}"
    expect_problem(service.ask("POST", f"{path}/ready"), 409, "not_committed")
    expect_problem(service.ask("POST", f"{path}/collected"), 409, "not_committed")
    service.ask("POST", f"{path}/commit")
    queue = f"/v1/pickups?location={location}"
    (item,) = service.ask("GET", f"{queue}&state=waiting").json()["items"]
    assert (item["reservation"]["id"], item["ready_at"]) == (path.rpartition("/")[2], None)
    ready = service.ask("POST", f"{path}/ready").json()
    assert service.ask("GET", f"{queue}&state=waiting").json() == {"items": [], "next_cursor": None}
    assert service.ask("GET", f"{queue}&state=ready").json() == {"items": [ready], "next_cursor": None}
    assert (ready["reservation"]["state"], ready["short"]) == ("committed", [])
    assert ready["ready_at"].endswith("Z")
    again = service.ask("POST", f"{path}/ready", {})
    assert again.json() == ready
    assert again.headers["idempotent-replayed"] == "true"
    collected = service.ask("POST", f"{path}/collected")
    assert (collected.status, collected.json()["state"]) == (200, "fulfilled")
    assert service.ask("POST", f"{path}/collected").headers["idempotent-replayed"] == "true"
    assert service.position(sku, location)["on_hand"] == 2


def test_what_is_not_found_at_pick(service: Service) -> None:
    """The nearest that has it comes first, one without coordinates last, one that is inactive not at all."""
    sku, location = service.stocked(5)
    places = {"here": location, **{name: service.open_location() for name in ("near", "far", "off", "lost")}}
    settings = {"here": (52.5, 13.4), "near": (52.4, 13.1), "far": (48.1, 11.6), "off": (52.5, 13.4)}
    for name, (lat, lon) in settings.items():
        body = {"kind": "store", "lat": lat, "lon": lon, "active": name != "off"}
        assert service.ask("PUT", f"/v1/locations/{places[name]}", body).status == 200
    for name in ("near", "far", "off", "lost"):
        service.receive(sku, places[name], 7)
    path = f"/v1/reservations/{service.reserve([(sku, location, 3)]).json()['id']}"
    service.ask("POST", f"{path}/commit")
    line, key = {"sku": sku, "location": location, "quantity": 2}, keyed()
    answer = service.ask("POST", f"{path}/short", {"lines": [line]}, key)
    assert answer.status == 200
    told = answer.json()
    assert told["reservation"]["lines"] == [line_of(sku, location, 3, committed=1, released=2)]
    assert [(one["sku"], one["quantity"]) for one in told["short"]] == [(sku, 2)]
    (others,) = told["alternatives"]
    assert {name: others[name] for name in line} == line
    assert [one["location"] for one in others["locations"]] == [places[n] for n in ("near", "far", "lost")]
    assert others["locations"][0] == {"location": places["near"], "available": 7, "distance_km": 23.173}
    assert others["locations"][2]["distance_km"] is None
    again = service.ask("POST", f"{path}/short", {"lines": [line]}, key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["reservation"] == told["reservation"]
    wanted = service.ask("GET", f"/v1/counts/wanted?location={location}").json()
    (position,) = wanted["items"]
    assert position == {"sku": sku, "location": location, "since": position["since"]}
    assert position["since"] >= told["short"][0]["at"]
    too_much = service.ask("POST", f"{path}/short", {"lines": [line]}, keyed())
    assert expect_problem(too_much, 409, "exceeds_open_quantity")["excess"][0]["open"] == 1
