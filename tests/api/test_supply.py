"""Transfers, inbound orders and what can be promised, over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.api.service import Answer, Service, expect_problem, fresh_key

UNKNOWN = ["AAAAAAAAAAAAAAAAAAAA", "", "%00", "A" * 300]


def post(service: Service, path: str, body: object = None, key: str | None = None) -> Answer:
    """With a key of its own, unless one is given."""
    return service.ask("POST", path, body, {"Idempotency-Key": key or fresh_key()})


def draft(service: Service, *lines: tuple[str, int], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A transfer between two new locations."""
    source, target = service.open_location(), service.open_location()
    goods = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
    answer = post(service, "/v1/transfers", {"from": source, "to": target, "lines": goods, **more})
    assert answer.status == 201, answer
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/v1/transfers/{made['id']}"
    return made


def new_sku() -> str:
    return f"sku-{uuid4().hex[:12]}"


def test_a_transfer_from_draft_to_discrepancy(service: Service) -> None:
    """What each step answers, to the byte."""
    sku, other = new_sku(), new_sku()
    made = draft(service, (sku, 3), (other, 2), (sku, 2), reference="order-7")
    line = {"received": 0, "in_transit": 0, "returned": 0, "discrepancy": None}
    assert made == {
        "id": made["id"],
        "state": "draft",
        "from": made["from"],
        "to": made["to"],
        "expected_at": None,
        "reference": "order-7",
        "created_at": made["created_at"],
        "lines": [{"sku": sku, "quantity": 5, **line}, {"sku": other, "quantity": 2, **line}],
        "uncovered": [],
    }
    path = f"/v1/transfers/{made['id']}"
    expect_problem(service.ask("POST", f"{path}/receive"), 409, "not_shipped")
    service.receive(sku, made["from"], 4)
    held = service.reserve([(sku, made["from"], 4)]).json()["id"]
    shipped = service.ask("POST", f"{path}/ship").json()
    assert (shipped["state"], [one["in_transit"] for one in shipped["lines"]]) == ("shipped", [5, 2])
    assert shipped["uncovered"] == [{"sku": sku, "reservation": held, "quantity": 4}]
    assert service.ask("POST", f"{path}/ship", {}).json() == shipped
    body = {"lines": [{"sku": sku, "quantity": 6}, {"sku": other, "quantity": 1}]}
    expect_problem(service.ask("POST", f"{path}/receive", body), 400, "idempotency_key_missing")
    key = fresh_key()
    first = post(service, f"{path}/receive", body, key)
    again = post(service, f"{path}/receive", body, key)
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (200, first.body, "true")
    assert "idempotent-replayed" not in first.headers
    assert [one["in_transit"] for one in first.json()["lines"]] == [0, 1]
    assert first.json()["state"] == "receiving"
    expect_problem(post(service, f"{path}/receive", {"lines": []}, key), 422, "invalid_request")
    expect_problem(post(service, f"{path}/receive", {"close": True}, key), 422, "idempotency_mismatch")
    stranger = {"lines": [{"sku": new_sku(), "quantity": 1}]}
    expect_problem(post(service, f"{path}/receive", stranger), 422, "invalid_request", pointer="/lines/0/sku")
    closed = post(service, f"{path}/receive", {"lines": [{"sku": sku, "quantity": 1}], "close": True}).json()
    assert (closed["state"], [one["discrepancy"] for one in closed["lines"]]) == ("closed", [2, -1])
    assert service.ask("GET", path).json() == closed
    assert service.position(sku, made["to"])["on_hand"] == 7
    assert service.position(other, made["to"])["on_hand"] == 1
    expect_problem(service.ask("POST", f"{path}/cancel"), 409, "already_closed")
    expect_problem(post(service, f"{path}/receive", body), 409, "already_closed")


def test_a_transfer_that_is_cancelled(service: Service) -> None:
    """A draft just ends; on its way, what did not come goes back."""
    sku = new_sku()
    unsent = draft(service, (sku, 1))
    assert service.ask("POST", f"/v1/transfers/{unsent['id']}/cancel").json()["state"] == "cancelled"
    expect_problem(service.ask("POST", f"/v1/transfers/{unsent['id']}/ship"), 409, "already_cancelled")
    expect_problem(service.ask("GET", f"/v1/stock/{sku}"), 404, "sku_not_found")
    sent = draft(service, (sku, 5))
    path = f"/v1/transfers/{sent['id']}"
    service.ask("POST", f"{path}/ship")
    post(service, f"{path}/receive", {"lines": [{"sku": sku, "quantity": 2}]})
    cancelled = service.ask("POST", f"{path}/cancel").json()
    (line,) = cancelled["lines"]
    assert (line["received"], line["in_transit"], line["returned"]) == (2, 0, 3)
    assert service.ask("POST", f"{path}/cancel").json() == cancelled
    assert [service.position(sku, sent[end])["on_hand"] for end in ("from", "to")] == [-2, 2]
    expect_problem(service.ask("POST", f"{path}/receive"), 409, "already_cancelled")


def test_pages_of_transfers(service: Service) -> None:
    """The newest first, each once, however the pages are cut."""
    made = [draft(service, (new_sku(), 1))["id"] for _ in range(5)]
    found: list[str] = []
    query = "?state=draft&limit=2"
    cursor = ""
    while len(found) < 5:
        page = service.ask("GET", f"/v1/transfers{query}{cursor}").json()
        found += [one["id"] for one in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert sorted(found[:5]) == sorted(made)
    assert made[0] not in [
        one["id"] for one in service.ask("GET", "/v1/transfers?state=closed").json()["items"]
    ]


def test_an_inbound_order(service: Service) -> None:
    """Expected, received in parts, one too many, and listed."""
    sku, location = new_sku(), service.open_location()
    body = {"sku": sku, "location": location, "quantity": 10, "expected_at": "2030-01-01T00:00:00Z"}
    key = fresh_key()
    answer = post(service, "/v1/inbound", {**body, "reference": "PO-9", "kind": "production"}, key)
    made = answer.json()
    assert (answer.status, answer.headers["location"]) == (201, f"/v1/inbound/{made['id']}")
    assert made == {
        "id": made["id"],
        "state": "expected",
        "received": 0,
        "open": 10,
        "discrepancy": None,
        "kind": "production",
        "reference": "PO-9",
        "created_at": made["created_at"],
        **body,
        "expected_at": "2030-01-01T00:00:00.000Z",
    }
    expect_problem(post(service, "/v1/inbound", body, key), 422, "idempotency_mismatch")
    path = f"/v1/inbound/{made['id']}"
    expect_problem(service.ask("POST", f"{path}/receive", {"quantity": 1}), 400, "idempotency_key_missing")
    assert post(service, f"{path}/receive", {"quantity": 4}).json()["open"] == 6
    last = post(service, f"{path}/receive", {"quantity": 7}).json()
    assert (last["state"], last["received"], last["open"], last["discrepancy"]) == ("received", 11, 0, 1)
    assert service.position(sku, location)["on_hand"] == 11
    expect_problem(service.ask("POST", f"{path}/cancel"), 409, "already_closed")
    short = post(service, "/v1/inbound", body).json()
    assert (
        post(service, f"/v1/inbound/{short['id']}/receive", {"quantity": 1, "close": True}).json()["state"]
        == "closed"
    )
    none = post(service, "/v1/inbound", body).json()
    assert service.ask("POST", f"/v1/inbound/{none['id']}/cancel").json()["state"] == "cancelled"
    listed = service.ask("GET", f"/v1/inbound?sku={sku}&location={location}").json()["items"]
    assert {one["id"] for one in listed} == {made["id"], short["id"], none["id"]}
    assert service.ask("GET", f"/v1/inbound?sku={sku}&location=elsewhere").json()["items"] == []


def test_goods_that_are_not_there_yet(service: Service) -> None:
    """Promised with a date, shown where it is asked for, and named when they will not come."""
    sku, location = service.stocked(2)
    moment = "2030-01-01T00:00:00.000Z"
    body = {"sku": sku, "location": location, "quantity": 5, "expected_at": moment}
    order = post(service, "/v1/inbound", body).json()["id"]
    wanted: dict[str, Any] = {"lines": [{"sku": sku, "location": location, "quantity": 6}]}
    expect_problem(post(service, "/v1/reservations", wanted), 409, "insufficient_stock")
    assert service.ask("POST", "/v1/plans", wanted).json()["can_reserve"] is False
    wanted["from_inbound"] = True
    assert service.ask("POST", "/v1/plans", wanted).json()["can_reserve"] is True
    key = fresh_key()
    answer = post(service, "/v1/reservations", wanted, key)
    made = answer.json()
    line = {"sku": sku, "location": location, "quantity": 6, "held": 6, "committed": 0, "fulfilled": 0}
    dated = {**line, "released": 0, "waiting": 4, "promise_at": moment, "undated": 0}
    assert (answer.status, made["lines"]) == (201, [dated])
    again = post(service, "/v1/reservations", wanted, key)
    assert (again.json(), again.headers["idempotent-replayed"]) == (made, "true")
    path = f"/v1/reservations/{made['id']}"
    assert service.ask("GET", path).json()["lines"] == [{**line, "released": 0}]
    assert service.ask("GET", f"{path}?promises=false").json()["lines"] == [{**line, "released": 0}]
    assert service.ask("GET", f"{path}?promises=true").json() == made
    assert service.position(sku, location)["available"] == 0
    shown = service.ask("GET", f"/v1/availability/{sku}").json()["locations"]
    assert [one["status"] for one in shown] == ["preorder"]
    refused = post(service, "/v1/reservations", {**wanted, "lines": [{**wanted["lines"][0], "quantity": 2}]})
    assert expect_problem(refused, 409, "insufficient_stock")["shortages"][0]["available"] == 1
    closed = post(service, f"/v1/inbound/{order}/receive", {"quantity": 1, "close": True}).json()
    assert (closed["state"], closed["uncovered"]) == ("closed", [{"reservation": made["id"], "quantity": 3}])
    cancelled = service.ask("POST", f"/v1/inbound/{order}/cancel").json()
    assert cancelled["uncovered"] == closed["uncovered"]
    assert "uncovered" not in service.ask("GET", f"/v1/inbound/{order}").json()
    left = service.ask("GET", f"{path}?promises=true").json()["lines"]
    assert left == [{**dated, "waiting": 3, "promise_at": None, "undated": 3}]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("?promises=1", "?promises"),
        ("?promises=", "?promises"),
        ("?promise=true", "?promise"),
        ("?promises=true&x=1", "?x"),
        ("?promises=%ff", ""),
    ],
)
def test_bad_questions_after_promises(service: Service, query: str, pointer: str) -> None:
    sku, location = service.stocked(1)
    made = service.reserve([(sku, location, 1)]).json()["id"]
    answer = service.ask("GET", f"/v1/reservations/{made}{query}")
    expect_problem(answer, 422, "invalid_request", pointer=pointer)


def test_what_can_be_promised(service: Service) -> None:
    """Now, with what is overdue, and by the day on which more comes."""
    sku, location = service.stocked(3)
    service.reserve([(sku, location, 1)])
    now = datetime.now(UTC)
    for days, quantity in ((-3, 10), (2, 100), (20, 1000)):
        moment = (now + timedelta(days=days)).isoformat()
        body = {"sku": sku, "location": location, "quantity": quantity, "expected_at": moment}
        assert post(service, "/v1/inbound", body).status == 201
    answer = service.ask("GET", f"/v1/atp/{sku}?location={location}&days=4")
    days = answer.json()["days"]
    assert [day["atp"] for day in days] in ([12, 12, 112, 112], [12, 112, 112, 112])
    assert len(service.ask("GET", f"/v1/atp/{sku}").json()["days"]) == 14
    elsewhere = service.open_location()
    assert service.ask("GET", f"/v1/atp/{sku}?location={elsewhere}&days=1").json()["days"][0]["atp"] == 0
    expect_problem(service.ask("GET", f"/v1/atp/{sku}?location=nowhere"), 404, "location_not_found")
    expect_problem(service.ask("GET", f"/v1/atp/{new_sku()}"), 404, "sku_not_found")


@pytest.mark.parametrize("unknown", UNKNOWN)
def test_ids_that_nobody_was_given(service: Service, unknown: str) -> None:
    """Neither read nor stepped; the id of one kind is none of another."""
    for kind, prefix in (("transfer", "t_"), ("inbound", "i_")):
        path = f"/v1/{'transfers' if kind == 'transfer' else kind}/{prefix}{unknown}"
        expect_problem(service.ask("GET", path), 404, f"{kind}_not_found")
        expect_problem(service.ask("POST", f"{path}/cancel"), 404, f"{kind}_not_found")
        expect_problem(
            post(service, f"{path}/receive", {"quantity": 1} if kind == "inbound" else {}),
            404,
            f"{kind}_not_found",
        )
    made = draft(service, (new_sku(), 1))["id"]
    expect_problem(service.ask("GET", f"/v1/inbound/i_{made[2:]}"), 404, "inbound_not_found")
    expect_problem(service.ask("GET", f"/v1/transfers/r_{made[2:]}"), 404, "transfer_not_found")


def test_places_that_do_not_exist(service: Service) -> None:
    """Nothing is made for them."""
    goods = [{"sku": "A", "quantity": 1}]
    here = service.open_location()
    body = {"from": here, "to": "no-such-place", "lines": goods}
    expect_problem(post(service, "/v1/transfers", body), 404, "location_not_found")
    inbound = {"sku": "A", "location": "no-such-place", "quantity": 1, "expected_at": "2030-01-01T00:00:00Z"}
    expect_problem(post(service, "/v1/inbound", inbound), 404, "location_not_found")
