"""Idempotency keys: which are taken, where one is needed, and that a repeat gets the first answer."""

from typing import Any

import pytest

from tests.api.service import Service, expect_problem, fresh_key

INVALID_KEYS = ["", '""', '"unfinished', "a b", "x" * 256, "k\u00e9y", '"in"side"s"x" ', "tab\tbed"]


@pytest.mark.parametrize("key", INVALID_KEYS, ids=repr)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/reservations", {"lines": [{"sku": "A", "quantity": 1, "location": "s7"}]}),
        ("POST", "/v1/reservations/{id}/commit", {}),
        ("POST", "/v1/reservations/{id}/release", {}),
        ("POST", "/v1/reservations/{id}/extend", {"ttl_seconds": 5}),
        ("POST", "/v1/reservations/{id}/fulfil", {}),
        ("POST", "/v1/reservations/{id}/cancel", {}),
        ("POST", "/v1/reservations/{id}/move", {"lines": []}),
        ("PUT", "/v1/reservations/{id}/lines", {"lines": []}),
        ("POST", "/v1/reservations/{id}/ready", None),
        ("POST", "/v1/reservations/{id}/collected", None),
        ("POST", "/v1/reservations/{id}/short", {"lines": []}),
        ("POST", "/v1/stock/movements", {"movements": []}),
        ("PUT", "/v1/locations/nowhere", {"kind": "store"}),
        ("DELETE", "/v1/locations/nowhere", None),
    ],
)
def test_a_key_that_cannot_be_used(service: Service, method: str, path: str, body: object, key: str) -> None:
    path = path.format(id="r_AAAAAAAAAAAAAAAAAAAA")
    answer = service.ask(method, path, body, {"Idempotency-Key": key.encode("latin-1").decode("latin-1")})
    expect_problem(answer, 400, "idempotency_key_invalid", instance=path)


def test_creating_without_a_key(service: Service) -> None:
    answer = service.ask("POST", "/v1/reservations", {"lines": []})
    expect_problem(answer, 400, "idempotency_key_missing")


@pytest.mark.parametrize("verb", ["move", "short"])
def test_changing_a_part_without_a_key(service: Service, verb: str) -> None:
    answer = service.ask("POST", f"/v1/reservations/{service.held()}/{verb}", {"lines": []})
    expect_problem(answer, 400, "idempotency_key_missing")


@pytest.mark.parametrize("verb", ["commit", "release", "fulfil", "cancel"])
def test_a_part_without_a_key(service: Service, verb: str) -> None:
    sku, location = service.stocked()
    held = service.reserve([(sku, location, 2)]).json()["id"]
    lines = {"lines": [{"sku": sku, "location": location, "quantity": 1}]}
    answer = service.ask("POST", f"/v1/reservations/{held}/{verb}", lines)
    expect_problem(answer, 400, "idempotency_key_missing")
    assert service.position(sku, location)["held"] == 2


def test_a_key_in_quotes_is_the_bare_key(service: Service) -> None:
    sku, location = service.stocked()
    key = fresh_key()
    first = service.reserve([(sku, location, 2)], key)
    again = service.reserve([(sku, location, 2)], f'"{key}"')
    assert (first.status, again.status) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers


def test_the_longest_key(service: Service) -> None:
    sku, location = service.stocked()
    key = (fresh_key() + "x" * 255)[:255]
    assert service.reserve([(sku, location, 1)], key).status == 201
    assert service.reserve([(sku, location, 1)], key).headers["idempotent-replayed"] == "true"


def test_a_repeat_gets_the_first_answer_whatever_came_after(service: Service) -> None:
    sku, location = service.stocked()
    key = fresh_key()
    first = service.reserve([(sku, location, 2)], key, owner="cart", metadata={"a": [1, None]})
    path = f"/v1/reservations/{first.json()['id']}"
    assert service.ask("POST", f"{path}/commit").json()["state"] == "committed"
    again = service.reserve([(sku, location, 2)], key, owner="cart", metadata={"a": [1, None]})
    assert (again.status, again.body) == (201, first.body)
    assert again.headers["location"] == first.headers["location"] == path
    assert again.headers["idempotent-replayed"] == "true"
    assert service.position(sku, location)["allocated"] == 2


@pytest.mark.parametrize(
    ("quantity", "change"),
    [(2, {"ttl_seconds": 5}), (2, {"owner": "other"}), (2, {"metadata": {"a": 1}}), (3, {})],
)
def test_a_key_with_other_content(service: Service, quantity: int, change: dict[str, Any]) -> None:
    sku, location = service.stocked()
    key = fresh_key()
    assert service.reserve([(sku, location, 2)], key).status == 201
    answer = service.reserve([(sku, location, quantity)], key, **change)
    expect_problem(answer, 422, "idempotency_mismatch")
    assert service.position(sku, location)["held"] == 2


@pytest.mark.parametrize(("verb", "field"), [("commit", "committed"), ("release", "released")])
def test_a_part_is_taken_once(service: Service, verb: str, field: str) -> None:
    sku, location = service.stocked()
    held = service.reserve([(sku, location, 5)]).json()["id"]
    body: dict[str, Any] = {"lines": [{"sku": sku, "location": location, "quantity": 2}]}
    if verb == "commit":
        body["remainder"] = "keep"
    key = {"Idempotency-Key": fresh_key()}
    first = service.ask("POST", f"/v1/reservations/{held}/{verb}", body, key)
    again = service.ask("POST", f"/v1/reservations/{held}/{verb}", body, key)
    assert (first.status, again.status) == (200, 200), first
    assert first.body == again.body
    assert first.json()["lines"][0][field] == 2
    assert again.headers["idempotent-replayed"] == "true"
    other = {**body, "lines": [{"sku": sku, "location": location, "quantity": 1}]}
    answer = service.ask("POST", f"/v1/reservations/{held}/{verb}", other, key)
    expect_problem(answer, 422, "idempotency_mismatch")


def test_a_movement_is_recorded_once(service: Service) -> None:
    sku, location = service.stocked(10)
    movement = {"id": fresh_key(), "kind": "sale", "sku": sku, "location": location, "quantity": 3}
    first = service.ask("POST", "/v1/stock/movements", {"movements": [movement]}).json()["results"][0]
    service.receive(sku, location, 5)
    again = service.ask("POST", "/v1/stock/movements", {"movements": [movement]}).json()["results"][0]
    assert first["on_hand"] == 7
    assert again == {**first, "replayed": True}
    assert service.position(sku, location)["on_hand"] == 12
    other = service.ask("POST", "/v1/stock/movements", {"movements": [{**movement, "quantity": 4}]})
    result = other.json()["results"][0]
    assert (result["status"], result["body"]["code"]) == (422, "idempotency_mismatch")


def test_the_same_movement_twice_in_a_request(service: Service) -> None:
    sku, location = service.stocked(1)
    movement = {"id": fresh_key(), "kind": "receive", "sku": sku, "location": location, "quantity": 3}
    answer = service.ask("POST", "/v1/stock/movements", {"movements": [movement, movement]})
    assert [result["on_hand"] for result in answer.json()["results"]] == [4, 4]
    assert service.position(sku, location)["on_hand"] == 4
