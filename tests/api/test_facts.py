"""Facts over HTTP: movements of every kind, counts, sets, and what happened to a position."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.service import Answer, Service, expect_problem, fresh_key

MOVE, COUNT = "/v1/stock/movements", "/v1/stock/counts"


def ago(seconds: float) -> str:
    """A moment, as HTTP has it."""
    moment = datetime.now(UTC) - timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def tell(service: Service, sku: str, location: str, *facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Movements of one position, or counts; their results."""
    path, name = (COUNT, "counts") if "counted_at" in facts[0] else (MOVE, "movements")
    body = [{"id": fresh_key(), "sku": sku, "location": location, **fact} for fact in facts]
    answer = service.ask("POST", path, {name: body})
    assert answer.status == 207, answer
    results: list[dict[str, Any]] = answer.json()["results"]
    assert [result["index"] for result in results] == list(range(len(facts)))
    return results


def test_returns_and_conditions(service: Service) -> None:
    """Units that are not fit for sale are on hand and not available."""
    sku, location = service.stocked(10)
    back, hurt, sold, moved, healed = tell(
        service,
        sku,
        location,
        {"kind": "return", "quantity": 2, "condition": "damaged", "reason": "torn"},
        {"kind": "condition", "quantity": 3, "to_condition": "display"},
        {"kind": "adjust", "quantity": -1, "condition": "damaged"},
        {"kind": "condition", "quantity": 1, "condition": "damaged", "to_condition": "display"},
        {"kind": "condition", "quantity": 2, "condition": "display", "to_condition": "sellable"},
    )
    shown = [(one["on_hand"], one["available"], one["effect"]) for one in (back, hurt, sold, moved, healed)]
    assert shown == [(12, 10, 2), (12, 7, 0), (11, 7, -1), (11, 7, 0), (11, 9, 0)]
    position = service.position(sku, location)
    assert (position["unsellable"], position["available"]) == ({"display": 2}, 9)
    (listed,) = service.ask("GET", f"/v1/stock/{sku}").json()["positions"]
    assert listed["unsellable"] == {"display": 2}


def test_a_condition_names_the_promises_it_breaks(service: Service) -> None:
    sku, location = service.stocked(5)
    held = service.reserve([(sku, location, 4)]).json()["id"]
    (told,) = tell(service, sku, location, {"kind": "condition", "quantity": 3, "to_condition": "lost"})
    assert told["uncovered"] == [{"reservation": held, "quantity": 2}]


def test_a_movement_of_a_reservation(service: Service) -> None:
    """It must be a known one; the others are recorded."""
    sku, location = service.stocked(5)
    held = service.reserve([(sku, location, 1)]).json()["id"]
    unknown = held[:-1] + ("A" if held[-1] != "A" else "B")
    results = tell(
        service,
        sku,
        location,
        {"kind": "return", "quantity": 1, "reservation": held},
        {"kind": "return", "quantity": 1, "reservation": service.held()},
    )
    assert [result["status"] for result in results] == [200, 200]
    happened = service.ask("GET", f"/v1/stock/{sku}/{location}/movements").json()["movements"]
    assert held in {one["reservation"] for one in happened}
    body = {
        "id": "m",
        "kind": "return",
        "sku": sku,
        "location": location,
        "quantity": 1,
        "reservation": unknown,
    }
    answer = service.ask("POST", MOVE, {"movements": [body]})
    assert answer.status in {207, 422}


def test_late_facts(service: Service) -> None:
    """What a count has in it does not change on_hand again, whichever comes first."""
    sku, location = service.stocked(10)
    (counted,) = tell(service, sku, location, {"quantity": 4, "counted_at": ago(60)})
    assert (counted["on_hand"], counted["effect"]) == (14, 4), "ten came after it"
    before, after = tell(
        service,
        sku,
        location,
        {"kind": "sale", "quantity": 3, "occurred_at": ago(120)},
        {"kind": "sale", "quantity": 1, "occurred_at": ago(30)},
    )
    assert (before["on_hand"], before["effect"], before["ignored"]) == (14, 0, "counted_since")
    assert (after["on_hand"], after["effect"], "ignored" in after) == (13, -1, False)
    older, newer, ancient = tell(
        service,
        sku,
        location,
        {"quantity": 99, "counted_at": ago(61)},
        {"quantity": 50, "counted_at": ago(29)},
        {"quantity": 1, "counted_at": ago(91 * 86_400)},
    )
    assert (older["on_hand"], older["ignored"]) == (13, "counted_since")
    assert (newer["on_hand"], newer["effect"]) == (60, 47)
    assert ancient["ignored"] == "counted_since"
    other, place = service.stocked(3)
    (ancient,) = tell(service, other, place, {"quantity": 1, "counted_at": ago(91 * 86_400)})
    assert (ancient["on_hand"], ancient["ignored"]) == (3, "too_old")


def test_five_thousand_in_one_request(service: Service) -> None:
    """With a result for each, in order; sent again they replay."""
    sku, location = service.stocked(1)
    facts = [{"id": fresh_key(), "kind": "receive", "quantity": 1} for _ in range(5000)]
    first = tell(service, sku, location, *facts)
    assert [one["on_hand"] for one in first] == list(range(2, 5002))
    again = tell(service, sku, location, *facts)
    assert all(one.pop("replayed") for one in again)
    assert again == first
    counts = [{"id": fresh_key(), "quantity": at, "counted_at": ago(9000 - at)} for at in range(5000)]
    told = tell(service, sku, location, *counts)
    assert [one["on_hand"] for one in told] == [at + 5001 for at in range(5000)]


# ---------------------------------------------------------------- history


def test_what_happened_to_a_position(service: Service) -> None:
    """Newest first by when it happened, with what it did; paged without a gap or a repeat."""
    sku, location = service.stocked(10)
    held = service.reserve([(sku, location, 2)]).json()["id"]
    assert service.ask("POST", f"/v1/reservations/{held}/commit", {"fulfil": True}).status == 200
    occurred = ago(3600)
    late = {"kind": "receive", "quantity": 5, "occurred_at": occurred, "reason": "found", "reference": "r-1"}
    mine = fresh_key()
    tell(service, sku, location, {"id": mine, **late})
    tell(service, sku, location, {"quantity": 4, "counted_at": ago(1800)})
    tell(service, sku, location, {"kind": "condition", "quantity": 1, "to_condition": "lost"})
    path = f"/v1/stock/{sku}/{location}/movements"
    happened = service.ask("GET", path).json()
    assert happened["next_cursor"] is None
    rows = [(one["kind"], one["quantity"], one["effect"]) for one in happened["movements"]]
    assert rows == [
        ("condition", 1, 0),
        ("fulfil", -2, -2),
        ("receive", 10, 10),
        ("count", 4, -1),
        ("receive", 5, 5),
    ]
    last = happened["movements"][-1]
    assert (last["id"], last["reason"], last["reference"]) == (mine, "found", "r-1")
    assert last["occurred_at"] == occurred < last["recorded_at"]
    assert happened["movements"][1]["reservation"] == held
    assert happened["movements"][0]["to_condition"] == "lost"
    paged, query = [], "?limit=2"
    while query:
        page = service.ask("GET", path + query).json()
        paged += page["movements"]
        query = page["next_cursor"] and f"?limit=2&cursor={page['next_cursor']}"
    assert paged == happened["movements"]


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=1001", "?cursor=x", "?cursor=", "?cursor=AAAA", "?since=1"]
)
def test_a_bad_page(service: Service, query: str) -> None:
    sku, location = service.stocked(1)
    answer = service.ask("GET", f"/v1/stock/{sku}/{location}/movements{query}")
    expect_problem(answer, 422, "invalid_request")


def test_the_history_of_what_is_not_there(service: Service) -> None:
    sku, location = service.stocked(1)
    other = service.open_location()
    ask = service.ask
    expect_problem(ask("GET", f"/v1/stock/none/{location}/movements"), 404, "sku_not_found")
    expect_problem(ask("GET", f"/v1/stock/{sku}/none/movements"), 404, "location_not_found")
    expect_problem(ask("GET", f"/v1/stock/{sku}/{other}/movements"), 404, "not_stocked")


# ---------------------------------------------------------------- sets


def put(service: Service, sku: str, location: str, quantity: int, match: str | None, key: str = "") -> Answer:
    """Sets on_hand."""
    headers = {} if match is None else {"If-Match": match}
    headers |= {"Idempotency-Key": key} if key else {}
    return service.ask("PUT", f"/v1/stock/{sku}/{location}", {"quantity": quantity}, headers)


def test_a_set_compares_and_sets(service: Service) -> None:
    sku, location = service.stocked(10)
    path = f"/v1/stock/{sku}/{location}"
    first = service.ask("GET", path).headers["etag"]
    done = put(service, sku, location, 7, f'"other", {first}')
    assert (done.status, done.json()["on_hand"], done.json()["uncovered"]) == (200, 7, [])
    read = service.ask("GET", path)
    assert (read.headers["etag"], read.json()["on_hand"]) == (done.headers["etag"], 7)
    assert service.ask("GET", path, None, {"If-None-Match": done.headers["etag"]}).status == 304
    expect_problem(put(service, sku, location, 8, first), 412, "version_mismatch")
    expect_problem(put(service, sku, location, 8, None), 428, "precondition_required")
    assert service.position(sku, location)["on_hand"] == 7
    held = service.reserve([(sku, location, 5)]).json()["id"]
    expect_problem(put(service, sku, location, 8, done.headers["etag"]), 412, "version_mismatch")
    forced = put(service, sku, location, 3, "*")
    assert forced.json()["uncovered"] == [{"reservation": held, "quantity": 2}]
    (newest, *_) = service.ask("GET", f"{path}/movements").json()["movements"]
    assert newest["kind"] in {"set", "receive"}


def test_a_set_that_is_sent_again(service: Service) -> None:
    """With a key the first answer counts; without one the tag has changed."""
    sku, location = service.stocked(10)
    tag = service.ask("GET", f"/v1/stock/{sku}/{location}").headers["etag"]
    key = fresh_key()
    assert put(service, sku, location, 7, tag, key).status == 200
    again = put(service, sku, location, 7, tag, key)
    assert (again.status, again.headers["idempotent-replayed"]) == (200, "true")
    expect_problem(put(service, sku, location, 8, tag, key), 422, "idempotency_mismatch")
    expect_problem(put(service, sku, location, 7, tag), 412, "version_mismatch")


def test_a_set_of_what_is_not_there(service: Service) -> None:
    """Forced, it makes the position; else there is nothing that could match."""
    sku, location = service.stocked(1)
    other = service.open_location()
    expect_problem(put(service, sku, "none", 1, "*"), 404, "location_not_found")
    expect_problem(put(service, sku, other, 1, '"0123456789abcdef"'), 412, "version_mismatch")
    expect_problem(put(service, f"{sku}-new", location, 1, '"0123456789abcdef"'), 412, "version_mismatch")
    assert put(service, f"{sku}-new", other, 4, "*").json()["on_hand"] == 4


def test_a_weak_tag_matches_nothing(service: Service) -> None:
    sku, location = service.stocked(1)
    tag = service.ask("GET", f"/v1/stock/{sku}/{location}").headers["etag"]
    expect_problem(put(service, sku, location, 2, f"W/{tag}"), 412, "version_mismatch")
