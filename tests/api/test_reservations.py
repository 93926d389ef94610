"""The life of a reservation over HTTP, and the refusals on the way."""

import time
from typing import Any

import pytest

from tests.api.service import Service, expect_problem, fresh_key

BATCH = "/v1/reservations/batch"
UNKNOWN_IDS = [
    "r_AAAAAAAAAAAAAAAAAAAA",
    "x",
    "r_",
    "r_" + "A" * 300,
    "r_%F0%9F%93%A6",
    "..%2F..",
    "%00",
    "r_AAAA+AAA/",
]
VERBS = ["commit", "release", "extend", "fulfil", "cancel"]


@pytest.mark.parametrize("unknown", [one for one in UNKNOWN_IDS if not one.endswith("/")])
def test_an_id_that_nobody_was_given(service: Service, unknown: str) -> None:
    path = f"/v1/reservations/{unknown}"
    expect_problem(service.ask("GET", path), 404, "reservation_not_found", instance=path)
    for verb in VERBS:
        body = {"ttl_seconds": 5} if verb == "extend" else {}
        answer = service.ask("POST", f"{path}/{verb}", body)
        expect_problem(answer, 404, "reservation_not_found", instance=f"{path}/{verb}")


def test_an_id_that_was_tampered_with(service: Service) -> None:
    held = service.held()
    for at in (2, 7, 12, len(held) - 1):
        other = held[:at] + ("A" if held[at] != "A" else "B") + held[at + 1 :]
        expect_problem(service.ask("GET", f"/v1/reservations/{other}"), 404, "reservation_not_found")
    assert service.ask("GET", f"/v1/reservations/{held}").json()["state"] == "held"


def test_from_hold_to_delivery(service: Service) -> None:
    sku, location = service.stocked(10)
    answer = service.reserve([(sku, location, 4)], owner="cart-81", reference="order-7", channel="web")
    assert answer.status == 201
    held = answer.json()
    assert answer.headers["location"] == f"/v1/reservations/{held['id']}"
    assert answer.headers["content-type"] == "application/json"
    line = {"sku": sku, "location": location, "quantity": 4}
    open_line = {**line, "held": 4, "committed": 0, "fulfilled": 0, "released": 0}
    assert held == {
        "id": held["id"],
        "state": "held",
        "expires_at": held["expires_at"],
        "owner": "cart-81",
        "reference": "order-7",
        "channel": "web",
        "metadata": {},
        "version": held["version"],
        "lines": [open_line],
    }
    path = f"/v1/reservations/{held['id']}"
    assert service.ask("GET", path).json() == held
    committed = service.ask("POST", f"{path}/commit").json()
    assert committed["state"] == "committed"
    assert committed["expires_at"] is None
    assert service.position(sku, location)["allocated"] == 4
    part = {"lines": [{**line, "quantity": 1}]}
    fulfilled = service.ask("POST", f"{path}/fulfil", part, {"Idempotency-Key": fresh_key()}).json()
    assert (fulfilled["lines"][0]["committed"], fulfilled["lines"][0]["fulfilled"]) == (3, 1)
    assert service.ask("POST", f"{path}/cancel", {}).status == 200
    position = service.position(sku, location)
    assert (position["on_hand"], position["allocated"], position["held"]) == (9, 0, 0)
    assert position["available"] == 9


def test_a_sale_at_the_till(service: Service) -> None:
    sku, location = service.stocked(10)
    held = service.reserve([(sku, location, 4)]).json()["id"]
    answer = service.ask("POST", f"/v1/reservations/{held}/commit", {"fulfil": True})
    assert answer.json()["state"] == "fulfilled"
    assert service.position(sku, location)["on_hand"] == 6


@pytest.mark.parametrize(
    ("done", "wanted", "status", "code"),
    [
        ("commit", "release", 409, "already_committed"),
        ("commit", "extend", 409, "already_committed"),
        ("release", "commit", 409, "already_released"),
        ("release", "extend", 409, "already_released"),
        ("release", "fulfil", 409, "already_released"),
        ("held", "fulfil", 409, "not_committed"),
        ("held", "cancel", 409, "not_committed"),
        ("fulfilled", "release", 409, "already_fulfilled"),
        ("fulfilled", "cancel", 409, "already_fulfilled"),
        ("cancelled", "commit", 409, "already_cancelled"),
    ],
)
def test_what_is_too_late_or_too_early(
    service: Service, done: str, wanted: str, status: int, code: str
) -> None:
    path = f"/v1/reservations/{service.held()}"
    steps = {"held": [], "fulfilled": ["commit", "fulfil"], "cancelled": ["commit", "cancel"]}.get(
        done, [done]
    )
    for step in steps:
        assert service.ask("POST", f"{path}/{step}", {}).status == 200
    body = {"ttl_seconds": 60} if wanted == "extend" else {}
    expect_problem(service.ask("POST", f"{path}/{wanted}", body), status, code)


def test_more_than_there_is(service: Service) -> None:
    sku, location = service.stocked(3)
    scarce, _ = service.stocked(2)
    service.receive(scarce, location, 1)
    answer = service.reserve([(sku, location, 3), (scarce, location, 2), (sku, location, 1)])
    document = expect_problem(answer, 409, "insufficient_stock")
    assert document["shortages"] == [
        {"line": 0, "sku": sku, "location": location, "requested": 4, "available": 3},
        {"line": 1, "sku": scarce, "location": location, "requested": 2, "available": 1},
        {"line": 2, "sku": sku, "location": location, "requested": 4, "available": 3},
    ]
    assert service.position(sku, location)["held"] == 0


def test_what_does_not_exist(service: Service) -> None:
    sku, location = service.stocked()
    empty = service.open_location()
    expect_problem(service.reserve([(sku, "no-such-place", 1)]), 404, "location_not_found")
    expect_problem(service.reserve([(sku, empty, 1)]), 404, "not_stocked")
    expect_problem(service.reserve([("no-such-sku", location, 1)]), 404, "sku_not_found")
    expect_problem(service.reserve([(sku, location, 1)], pool="none"), 404, "pool_not_found")


def test_more_than_a_reservation_has_open(service: Service) -> None:
    sku, location = service.stocked()
    held = service.reserve([(sku, location, 2)]).json()["id"]
    body = {"lines": [{"sku": sku, "location": location, "quantity": 3}]}
    answer = service.ask("POST", f"/v1/reservations/{held}/commit", body, {"Idempotency-Key": fresh_key()})
    document = expect_problem(answer, 409, "exceeds_open_quantity")
    assert document["excess"] == [{"sku": sku, "location": location, "requested": 3, "open": 2}]
    foreign = {"lines": [{"sku": "other", "location": location, "quantity": 1}]}
    answer = service.ask("POST", f"/v1/reservations/{held}/commit", foreign, {"Idempotency-Key": fresh_key()})
    expect_problem(answer, 422, "invalid_request", pointer="/lines/0")


def test_a_lapsed_hold_is_gone_at_once(service: Service) -> None:
    """Availability counts it back within a second of its end, though nobody sweeps here."""
    sku, location = service.stocked(5)
    begun = time.monotonic()
    held = service.reserve([(sku, location, 5)], ttl_seconds=1).json()
    end, asked = time.monotonic() + 2.0, 0.0
    while service.ask("GET", f"/v1/availability/{sku}").json()["available"] != 5:
        # What was asked in time may be answered late.
        assert asked < end, "the hold has lapsed a second ago and still counts"
        time.sleep(0.01)
        asked = time.monotonic()
    assert asked or time.monotonic() > begun + 1, "it lapsed at once"
    assert service.reserve([(sku, location, 5)]).status == 201
    path = f"/v1/reservations/{held['id']}"
    assert service.ask("GET", path).json()["state"] == "expired"
    expect_problem(service.ask("POST", f"{path}/release", {}), 410, "reservation_expired")
    expect_problem(service.ask("POST", f"{path}/commit", {}), 410, "reservation_expired")
    answer = service.ask("POST", f"{path}/commit", {"if_expired": "retake"})
    expect_problem(answer, 409, "insufficient_stock")


def test_a_batch_mixes_successes_and_refusals(service: Service) -> None:
    sku, location = service.stocked(5)
    held = service.reserve([(sku, location, 1)]).json()["id"]
    line = {"sku": sku, "location": location, "quantity": 2}
    key = fresh_key()
    operations = [
        {"op": "reserve", "key": key, "body": {"lines": [line]}},
        {"op": "commit", "id": held},
        {"op": "reserve", "key": fresh_key(), "body": {"lines": [{**line, "quantity": 50}]}},
        {"op": "reserve", "body": {"lines": [line]}},
        {"op": "release", "id": "r_nobody"},
        {"op": "release"},
        {"op": "extend", "id": held, "body": {"ttl_seconds": 0}},
        {"op": "reserve", "key": "a b", "body": {"lines": [line]}},
        {"op": "reserve", "key": fresh_key(), "body": {"lines": [{**line, "price": 1}]}},
        {"op": "reserve", "key": fresh_key()},
    ]
    answer = service.ask("POST", "/v1/reservations/batch", {"operations": operations})
    assert answer.status == 207
    results = answer.json()["results"]
    assert [result["index"] for result in results] == list(range(10))
    outcomes = [
        (result["status"], result["body"].get("code", result["body"].get("state"))) for result in results
    ]
    assert outcomes == [
        (201, "held"),
        (200, "committed"),
        (409, "insufficient_stock"),
        (400, "idempotency_key_missing"),
        (404, "reservation_not_found"),
        (422, "invalid_request"),
        (422, "invalid_request"),
        (400, "idempotency_key_invalid"),
        (422, "invalid_request"),
        (422, "invalid_request"),
    ]
    assert results[8]["body"]["errors"][0]["pointer"] == "/lines/0/price"
    again = service.ask("POST", "/v1/reservations/batch", {"operations": operations[:1]}).json()["results"][0]
    assert again == {**results[0], "replayed": True}
    assert service.position(sku, location)["held"] == 2


def test_a_batch_of_reserves_alone(service: Service) -> None:
    """It is read in one piece; each still ends as it would have alone."""
    sku, location = service.stocked(5)
    line = {"sku": sku, "location": location, "quantity": 2}
    keys = [fresh_key() for _ in range(7)]
    bodies: list[dict[str, Any]] = [
        {"lines": [line], "owner": "cart-81", "reference": "order-7", "metadata": {"a": [1]}},
        {"lines": [line], "pool": "none"},
        {"lines": [line, {**line, "quantity": 4}], "channel": "web", "ttl_seconds": 7},
        {"lines": [{"sku": sku, "quantity": 2}]},
        {"lines": [line]},
        {"lines": [line]},
        {"lines": [{**line, "sku": "nobody-has-it"}]},
    ]
    keys[5] = f'"{keys[4]}"'
    operations = [{"op": "reserve", "key": key, "body": body} for key, body in zip(keys, bodies, strict=True)]
    results = service.ask("POST", BATCH, {"operations": operations}).json()["results"]
    assert [result["index"] for result in results] == list(range(7))
    outcomes = [(result["status"], result["body"].get("code")) for result in results]
    assert outcomes == [
        (201, None),
        (404, "pool_not_found"),
        (409, "insufficient_stock"),
        (422, "invalid_request"),
        (201, None),
        (201, None),
        (404, "sku_not_found"),
    ]
    # They are independent: with several partitions either of the two may have been the first.
    assert results[5]["body"]["id"] == results[4]["body"]["id"]
    assert sorted(result.get("replayed", False) for result in results[4:6]) == [False, True]
    alone = service.ask("POST", "/v1/reservations", bodies[0], {"Idempotency-Key": keys[0]})
    assert (alone.json(), alone.headers["idempotent-replayed"]) == (results[0]["body"], "true")
    refused = service.ask("POST", "/v1/reservations", bodies[2], {"Idempotency-Key": keys[2]}).json()
    assert refused["shortages"] == [
        {"line": number, "sku": sku, "location": location, "requested": 6, "available": 1}
        for number in range(2)
    ]
    told = results[2]["body"]
    assert [one["requested"] for one in told["shortages"]] == [6, 6]
    assert told["instance"] == f"{BATCH}#2"
    again = service.ask(
        "POST", BATCH, {"operations": [{**operations[0], "key": "a b"}, operations[0]]}
    ).json()["results"]
    assert [result["status"] for result in again] == [400, 201]
    assert service.position(sku, location)["held"] == 4


def test_the_largest_reservation(service: Service) -> None:
    location = service.open_location()
    prefix = fresh_key()
    skus = [f"{prefix}-{number}" for number in range(200)]
    movements = [
        {"id": fresh_key(), "kind": "receive", "sku": sku, "location": location, "quantity": 1}
        for sku in skus
    ]
    recorded = service.ask("POST", "/v1/stock/movements", {"movements": movements}).json()["results"]
    assert {result["status"] for result in recorded} == {200}
    answer = service.reserve([(sku, location, 1) for sku in skus])
    assert answer.status == 201
    assert len(answer.json()["lines"]) == 200
    query = service.ask("POST", "/v1/availability/query", {"skus": skus})
    assert {item["available"] for item in query.json()["items"]} == {0}
