"""Policies and fences over HTTP."""

from uuid import uuid4

import pytest

from tests.api.service import Service, expect_problem, fresh_key

MOST = 1_000_000_000


def open_channel(service: Service) -> str:
    """A new channel that sells from a pool of its own."""
    name, location = f"c-{uuid4().hex[:8]}", service.open_location()
    assert service.ask("PUT", f"/v1/pools/{name}", {"locations": [location]}).status == 201
    assert service.ask("PUT", f"/v1/channels/{name}", {"pools": [name]}).status == 201
    return name


def test_the_life_of_a_policy(service: Service) -> None:
    """Made, read, replaced as a whole, deleted."""
    sku, location = service.stocked(5)
    path = f"/v1/policies/{sku}/{location}"
    expect_problem(service.ask("GET", path), 404, "policy_not_found")
    expect_problem(service.ask("DELETE", path), 404, "policy_not_found")
    made = service.ask("PUT", path, {"safety_stock": 2, "low_stock": 4})
    named = {"sku": sku, "location": location}
    assert (made.status, made.headers["location"]) == (201, path)
    assert made.json() == {**named, "safety_stock": 2, "backorder_limit": 0, "low_stock": 4}
    shown = service.ask("GET", f"/v1/stock/{sku}").json()["positions"][0]
    assert (shown["safety_stock"], shown["backorder_limit"], shown["available"]) == (2, 0, 3)
    assert service.ask("GET", f"/v1/availability/{sku}").json()["status"] == "low_stock"
    replaced = service.ask("PUT", path, {"backorder_limit": 10})
    assert replaced.status == 200
    assert service.ask("GET", path).json() == replaced.json()
    assert replaced.json() == {**named, "safety_stock": 0, "backorder_limit": 10, "low_stock": 0}
    assert service.ask("DELETE", path).status == 204
    expect_problem(service.ask("GET", path), 404, "policy_not_found")


def test_a_policy_makes_its_position(service: Service) -> None:
    """A SKU is known from its first policy on, and may be promised before it is there."""
    sku, location = f"new {uuid4().hex[:8]}", service.open_location()
    path = f"/v1/policies/{sku.replace(' ', '%20')}/{location}"
    made = service.ask("PUT", path, {"backorder_limit": 3})
    assert (made.status, made.headers["location"]) == (201, path)
    answer = service.ask("GET", f"/v1/availability/{sku.replace(' ', '%20')}").json()
    assert (answer["available"], answer["status"]) == (0, "backorder")
    body = {"lines": [{"sku": sku, "quantity": 3, "location": location}]}
    held = service.ask("POST", "/v1/reservations", body, {"Idempotency-Key": fresh_key()})
    assert held.status == 201
    again = service.ask("POST", "/v1/reservations", body, {"Idempotency-Key": fresh_key()})
    expect_problem(again, 409, "insufficient_stock")


def test_what_is_not_tracked_never_runs_out(service: Service) -> None:
    """It shows the most that a line can have, whatever is held."""
    sku, location = service.stocked(1)
    service.ask("PUT", f"/v1/policies/{sku}/{location}", {"backorder_limit": 10**15})
    body = {"lines": [{"sku": sku, "quantity": MOST, "location": location}]}
    for _ in range(2):
        held = service.ask("POST", "/v1/reservations", body, {"Idempotency-Key": fresh_key()})
        assert held.status == 201
        answer = service.ask("GET", f"/v1/availability/{sku}").json()
        assert (answer["available"], answer["status"]) == (MOST, "in_stock")


def test_the_life_of_a_fence(service: Service) -> None:
    """Made, read, replaced, deleted; what it keeps nobody else can take."""
    (sku, location), channel = service.stocked(5), open_channel(service)
    path = f"/v1/fences/{channel}/{sku}/{location}"
    expect_problem(service.ask("GET", path), 404, "fence_not_found")
    expect_problem(service.ask("DELETE", path), 404, "fence_not_found")
    made = service.ask("PUT", path, {"quantity": 4})
    named = {"channel": channel, "sku": sku, "location": location}
    assert (made.status, made.headers["location"]) == (201, path)
    assert made.json() == {**named, "quantity": 4, "spill": False, "remaining": 4, "used": 0}
    shown = service.ask("GET", f"/v1/stock/{sku}").json()["positions"][0]
    assert (shown["fenced"], shown["available"]) == (4, 1)
    body = {"lines": [{"sku": sku, "quantity": 2, "location": location}]}
    refused = service.ask("POST", "/v1/reservations", body, {"Idempotency-Key": fresh_key()})
    expect_problem(refused, 409, "insufficient_stock")
    replaced = service.ask("PUT", path, {"quantity": 2, "spill": True})
    assert (replaced.status, replaced.json()["spill"]) == (200, True)
    assert service.ask("GET", path).json() == replaced.json()
    assert service.ask("DELETE", path).status == 204
    expect_problem(service.ask("GET", path), 404, "fence_not_found")


def test_lists(service: Service) -> None:
    """Page by page, in order, each once; of a SKU or a channel alone where that is asked."""
    (sku, first), channel = service.stocked(5), open_channel(service)
    other, _ = service.stocked(5)
    places = sorted([first, *(service.open_location() for _ in range(4))])
    for location in places:
        service.ask("PUT", f"/v1/policies/{sku}/{location}", {"safety_stock": 1})
        assert service.ask("PUT", f"/v1/fences/{channel}/{sku}/{location}", {"quantity": 1}).status == 201
    service.ask("PUT", f"/v1/policies/{other}/{first}", {"safety_stock": 1})
    for path in (f"/v1/policies?sku={sku}", f"/v1/fences?channel={channel}", f"/v1/fences?sku={sku}"):
        found, cursor, pages = [], "", 0
        while cursor is not None:
            page = service.ask("GET", f"{path}&limit=2{cursor and '&cursor=' + cursor}").json()
            found += [item["location"] for item in page["items"]]
            cursor, pages = page["next_cursor"], pages + 1
        assert (found, pages) == (places, 3)
    everything = [
        (item["sku"], item["location"])
        for item in service.ask("GET", "/v1/policies?limit=1000").json()["items"]
    ]
    assert everything == sorted(everything)
    assert {(sku, first), (other, first)} <= set(everything)
    assert service.ask("GET", f"/v1/policies?sku={uuid4().hex}").json()["items"] == []
    assert service.ask("GET", f"/v1/fences?sku={uuid4().hex}").json()["items"] == []
    wrong = service.ask("GET", f"/v1/fences?sku={sku}&channel=none").json()
    assert wrong == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    "body",
    [
        {"quantity": -1},
        {"quantity": MOST + 1},
        {"spill": True},
        {"quantity": 1.5},
        {"quantity": "1"},
        {"quantity": 1, "spill": 1},
        {"quantity": 1, "more": 1},
    ],
)
def test_a_fence_with_bad_fields(service: Service, body: dict[str, object]) -> None:
    sku, location = service.stocked(5)
    expect_problem(service.ask("PUT", f"/v1/fences/web/{sku}/{location}", body), 422, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        {"safety_stock": -1},
        {"safety_stock": MOST + 1},
        {"backorder_limit": MOST + 1},
        {"backorder_limit": 10**15 + 1},
        {"low_stock": None},
        {"low_stock": True},
        {"spare": 1},
    ],
)
def test_a_policy_with_bad_fields(service: Service, body: dict[str, object]) -> None:
    sku, location = service.stocked(5)
    expect_problem(service.ask("PUT", f"/v1/policies/{sku}/{location}", body), 422, "invalid_request")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/policies/x/a%20b",
        "/v1/policies/a%00b/s1",
        f"/v1/policies/{'x' * 65}/s1",
        "/v1/fences/a%20b/x/s1",
        "/v1/fences/web/a%0Ab/s1",
        "/v1/fences/web/x/a%2Fb",
    ],
)
def test_names_that_are_none(service: Service, method: str, path: str) -> None:
    body = {"quantity": 1} if "fences" in path else {}
    expect_problem(service.ask(method, path, body if method == "PUT" else None), 422, "invalid_request")


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "cursor=", "cursor=x", "cursor=YQ", "spare=1", "sku=a&sku=b", "sku="]
)
@pytest.mark.parametrize("path", ["/v1/policies", "/v1/fences"])
def test_queries_that_are_none(service: Service, path: str, query: str) -> None:
    expect_problem(service.ask("GET", f"{path}?{query}"), 422, "invalid_request")


def test_what_does_not_exist(service: Service) -> None:
    """Location, channel, position: each has its own word."""
    (sku, location), channel = service.stocked(5), open_channel(service)
    elsewhere = service.open_location()
    asked = {"quantity": 1}
    expect_problem(service.ask("PUT", f"/v1/policies/{sku}/none", {}), 404, "location_not_found")
    expect_problem(service.ask("PUT", f"/v1/fences/{channel}/{sku}/none", asked), 404, "location_not_found")
    expect_problem(service.ask("PUT", f"/v1/fences/none/{sku}/{location}", asked), 404, "channel_not_found")
    expect_problem(service.ask("PUT", f"/v1/fences/{channel}/{sku}/{elsewhere}", asked), 404, "not_stocked")
