"""What HTTP promises about reservations: a paragraph of it, a test."""

import time
from re import fullmatch
from typing import Any

import pytest

from tests.api.chain import Chain, get, name, post
from tests.api.service import Service, expect_problem, fresh_key

RESERVATION = {"id", "state", "expires_at", "owner", "reference", "channel", "metadata", "version", "lines"}


@pytest.fixture
def service(hot_service: Service) -> Service:
    """The way that the product serves."""
    return hot_service


def line_of(sku: str, location: str, quantity: int, **units: int) -> dict[str, Any]:
    none = {"held": 0, "committed": 0, "fulfilled": 0, "released": 0}
    return {"sku": sku, "location": location, "quantity": quantity, **none, **units}


def held(service: Service, *lines: tuple[str, str, int], **more: Any) -> str:  # noqa: ANN401 - JSON fields
    """The path of a new reservation."""
    answer = service.reserve(lines, **more)
    assert answer.status == 201, answer
    return str(answer.headers["location"])


def test_a_reservation(service: Service) -> None:
    sku, location = service.stocked()
    body = {
        "lines": [{"sku": sku, "quantity": 2, "location": location}],
        "ttl_seconds": 900,
        "channel": None,
        "pool": None,
        "sourcing": "priority",
        "allow_partial": False,
        "allow_split": True,
        "owner": "cart-81",
        "reference": "order-7",
        "metadata": {"till": 4},
    }
    answer = post(service, "/v1/reservations", body)
    made = answer.json()
    assert answer.status == 201
    assert answer.headers["location"] == f"/v1/reservations/{made['id']}"
    assert set(made) == RESERVATION
    assert made["id"].startswith("r_")
    assert fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["expires_at"])
    assert (made["state"], made["owner"], made["reference"]) == ("held", "cart-81", "order-7")
    line = {"sku": sku, "location": location, "quantity": 2}
    assert made["lines"] == [{**line, "held": 2, "committed": 0, "fulfilled": 0, "released": 0}]
    assert get(service, answer.headers["location"]) == made


def test_ways_to_choose_a_place(service: Service) -> None:
    """By priority, distance, stock; with few places or one."""
    chain = Chain(service)
    pool = {"pool": chain.pool}
    assert chain.placed(4, **pool) == [(chain.first, 3), (chain.second, 1)]
    assert chain.placed(4, channel=chain.channel) == [(chain.first, 3), (chain.second, 1)]
    assert chain.placed(2, **pool, sourcing="most_stock") == [(chain.second, 2)]
    near = {"lat": 52.4, "lon": 13.0}
    assert chain.placed(2, **pool, sourcing="nearest", near=near) == [(chain.second, 2)]
    assert chain.placed(4, **pool, sourcing="fewest_splits") == [(chain.second, 4)]
    assert chain.placed(4, **pool, sourcing="single_location") == [(chain.second, 4)]
    assert chain.placed(4, **pool, allow_split=False) == [(chain.second, 4)]
    for wanted in ({"sourcing": "single_location"}, {"allow_split": False}):
        expect_problem(chain.reserve(6, **pool, **wanted), 409, "insufficient_stock")
    expect_problem(chain.reserve(1), 422, "invalid_request", pointer="/lines/0/location")
    expect_problem(chain.reserve(1, **pool, sourcing="nearest"), 422, "invalid_request", pointer="/near")
    expect_problem(chain.reserve(1, pool="none"), 404, "pool_not_found")
    expect_problem(chain.reserve(1, channel="none"), 404, "channel_not_found")


def test_all_or_nothing(service: Service) -> None:
    """Every short line is named, and nothing is held."""
    (sku, location), (other, elsewhere) = service.stocked(1), service.stocked(5)
    answer = service.reserve([(sku, location, 2), (other, elsewhere, 2), (other, elsewhere, 9)])
    problem = expect_problem(answer, 409, "insufficient_stock")
    assert problem["shortages"][0] == {
        "line": 0,
        "sku": sku,
        "location": location,
        "requested": 2,
        "available": 1,
    }
    assert {one["sku"] for one in problem["shortages"]} == {sku, other}
    assert problem["retryable"] == "new_key"
    assert service.position(other, elsewhere)["held"] == 0
    chain = Chain(service)
    short = expect_problem(chain.reserve(9, pool=chain.pool), 409, "insufficient_stock")["shortages"]
    assert short == [{"line": 0, "sku": chain.sku, "location": None, "requested": 9, "available": 8}]


def test_part_of_what_is_wanted(service: Service) -> None:
    """With `allow_partial` as much as there is."""
    chain = Chain(service)
    made = chain.reserve(9, pool=chain.pool, allow_partial=True)
    assert made.status == 201
    assert sum(line["held"] for line in made.json()["lines"]) == 8
    lines = [(chain.sku, chain.other, 10)]
    assert service.reserve(lines, allow_partial=True).json()["lines"][0]["held"] == 7
    expect_problem(service.reserve(lines, allow_partial=True), 409, "insufficient_stock")


def test_limits_of_a_reservation(service: Service) -> None:
    sku, location = service.stocked(500)
    assert service.reserve([(sku, location, 1)] * 200).status == 201
    expect_problem(service.reserve([(sku, location, 1)] * 201), 422, "invalid_request", pointer="/lines")
    expect_problem(service.reserve([]), 422, "invalid_request", pointer="/lines")
    for ttl in (1, 2_592_000):
        assert service.reserve([(sku, location, 1)], ttl_seconds=ttl).status == 201
    for ttl in (0, 2_592_001, 1.5):
        answer = service.reserve([(sku, location, 1)], ttl_seconds=ttl)
        expect_problem(answer, 422, "invalid_request", pointer="/ttl_seconds")


def test_a_whole_commit(service: Service) -> None:
    """The body may be empty. Once more it says the same; what was promised cannot be released."""
    sku, location = service.stocked()
    path = held(service, (sku, location, 2))
    first = service.ask("POST", f"{path}/commit")
    assert set(first.json()) == RESERVATION
    assert (first.status, first.json()["state"], first.json()["expires_at"]) == (200, "committed", None)
    assert first.json()["lines"] == [line_of(sku, location, 2, committed=2)]
    again = service.ask("POST", f"{path}/commit", {})
    assert (again.status, again.json()["state"]) == (200, "committed")
    expect_problem(service.ask("POST", f"{path}/release"), 409, "already_committed")
    assert service.position(sku, location)["allocated"] == 2


def test_a_sale_at_the_till(service: Service) -> None:
    """With `fulfil` the goods leave at once."""
    sku, location = service.stocked()
    path = held(service, (sku, location, 2))
    sold = service.ask("POST", f"{path}/commit", {"fulfil": True, "reference": "receipt-9"}).json()
    assert (sold["state"], sold["reference"]) == ("fulfilled", "receipt-9")
    position = service.position(sku, location)
    assert (position["on_hand"], position["held"], position["allocated"]) == (8, 0, 0)
    expect_problem(service.ask("POST", f"{path}/cancel"), 409, "already_fulfilled")


@pytest.mark.parametrize(("remainder", "rest"), [("release", "released"), ("keep", "held")])
def test_a_partial_commit(service: Service, remainder: str, rest: str) -> None:
    sku, location = service.stocked()
    path = held(service, (sku, location, 5))
    body = {"lines": [{"sku": sku, "location": location, "quantity": 2}], "remainder": remainder}
    done = post(service, f"{path}/commit", body)
    assert (done.status, done.json()["lines"]) == (
        200,
        [line_of(sku, location, 5, committed=2, **{rest: 3})],
    )
    more = {"lines": [{"sku": sku, "location": location, "quantity": 4}]}
    assert post(service, f"{path}/commit", more).status == 409


def test_release_extend_fulfil_cancel(service: Service) -> None:
    sku, location = service.stocked()
    part = {"lines": [{"sku": sku, "location": location, "quantity": 1}]}
    path = held(service, (sku, location, 4), ttl_seconds=60)
    longer = service.ask("POST", f"{path}/extend", {"ttl_seconds": 9000}).json()
    assert longer["expires_at"] > get(service, held(service, (sku, location, 1)))["expires_at"]
    service.ask("POST", f"{path}/commit")
    assert post(service, f"{path}/fulfil", part).json()["lines"][0]["fulfilled"] == 1
    assert post(service, f"{path}/cancel", part).json()["lines"][0]["committed"] == 2
    assert service.position(sku, location)["on_hand"] == 9
    done = service.ask("POST", f"{path}/fulfil").json()
    assert (done["state"], done["lines"][0]["fulfilled"]) == ("fulfilled", 3)
    given = held(service, (sku, location, 1))
    assert service.ask("POST", f"{given}/release").json()["state"] == "released"
    assert service.ask("POST", f"{given}/release").status == 200
    expect_problem(service.ask("POST", f"{given}/commit"), 409, "already_released")
    order = held(service, (sku, location, 1))
    service.ask("POST", f"{order}/commit")
    assert service.ask("POST", f"{order}/cancel").json()["state"] == "cancelled"
    assert service.ask("POST", f"{order}/cancel").status == 200
    expect_problem(service.ask("POST", f"{order}/fulfil"), 409, "already_cancelled")


def test_a_move(service: Service) -> None:
    """Atomic, and the target is asked again."""
    chain = Chain(service)
    path = held(service, (chain.sku, chain.other, 4))
    body = {"lines": [{"sku": chain.sku, "from": chain.other, "to": chain.first, "quantity": 3}]}
    moved = post(service, f"{path}/move", body)
    assert (moved.status, moved.json()["lines"]) == (
        200,
        [line_of(chain.sku, chain.other, 1, held=1), line_of(chain.sku, chain.first, 3, held=3)],
    )
    body["lines"][0]["quantity"] = 1
    expect_problem(post(service, f"{path}/move", body), 409, "insufficient_stock")


def test_a_cart_that_changes(service: Service) -> None:
    """Other lines in one step, all or nothing."""
    (sku, location), elsewhere = service.stocked(3), service.open_location()
    service.receive(sku, elsewhere, 3)
    path = held(service, (sku, location, 3), owner="cart-81")
    lines = [
        {"sku": sku, "location": location, "quantity": 1},
        {"sku": sku, "location": elsewhere, "quantity": 2},
    ]
    changed = service.ask("PUT", f"{path}/lines", {"lines": lines})
    assert (changed.status, changed.json()["owner"]) == (200, "cart-81")
    assert [line["held"] for line in changed.json()["lines"]] == [1, 2]
    lines[1]["quantity"] = 4
    expect_problem(service.ask("PUT", f"{path}/lines", {"lines": lines}), 409, "insufficient_stock")
    assert service.position(sku, location)["held"] == 1


def test_finding_reservations(service: Service) -> None:
    """By owner, reference, SKU, location and state, in pages."""
    service.await_lists()
    (sku, location), owner = service.stocked(9), name("cart")
    made = [held(service, (sku, location, 1), owner=owner, reference=f"{owner}-{n}") for n in range(3)]
    service.ask("POST", f"{made[0]}/commit")
    ids = [path.rpartition("/")[2] for path in made]

    def found(query: str) -> set[str]:
        return {item["id"] for item in get(service, f"/v1/reservations?{query}")["items"]}

    assert found(f"owner={owner}") == set(ids)
    assert found(f"owner={owner}&state=held") == set(ids[1:])
    assert found(f"reference={owner}-2") == {ids[2]}
    assert found(f"sku={sku}") == found(f"location={location}") == set(ids)
    assert found(f"sku={sku}&state=committed") == {ids[0]}
    page = get(service, f"/v1/reservations?owner={owner}&limit=2")
    rest = get(service, f"/v1/reservations?owner={owner}&limit=2&cursor={page['next_cursor']}")
    assert [item["id"] for item in page["items"] + rest["items"]] == ids[::-1]
    assert page["items"][0] == get(service, made[2])
    expect_problem(service.ask("GET", "/v1/reservations?state=lost"), 422, "invalid_request")


def test_a_batch(service: Service) -> None:
    """Independent operations, each with the status it would have had alone, in order."""
    sku, location = service.stocked()
    first, second, third = (held(service, (sku, location, 1)).rpartition("/")[2] for _ in range(3))
    line = {"sku": sku, "location": location, "quantity": 1}
    operations = [
        {"op": "reserve", "key": fresh_key(), "body": {"lines": [line]}},
        {"op": "commit", "id": first, "key": fresh_key()},
        {"op": "release", "id": second, "key": fresh_key()},
        {"op": "extend", "id": third, "key": fresh_key(), "body": {"ttl_seconds": 60}},
        {"op": "release", "id": "r_none", "key": fresh_key()},
        {"op": "reserve", "key": fresh_key(), "body": {"lines": [{**line, "quantity": 99}]}},
        {"op": "reserve", "body": {"lines": [line]}},
    ]
    answer = service.ask("POST", "/v1/reservations/batch", {"operations": operations})
    results = answer.json()["results"]
    assert answer.status == 207
    assert [one["index"] for one in results] == list(range(len(operations)))
    assert [one["status"] for one in results] == [201, 200, 200, 200, 404, 409, 400]
    assert [one["body"].get("state") for one in results[:4]] == ["held", "committed", "released", "held"]
    assert [one["body"]["code"] for one in results[4:]] == [
        "reservation_not_found",
        "insufficient_stock",
        "idempotency_key_missing",
    ]
    rest = [{"op": op, "id": first, "key": fresh_key()} for op in ("fulfil", "cancel")]
    for operation, status in zip(rest, (200, 409), strict=True):
        (one,) = service.ask("POST", "/v1/reservations/batch", {"operations": [operation]}).json()["results"]
        assert one["status"] == status
    many = [{"op": "release", "id": "r_none"}] * 257
    assert service.ask("POST", "/v1/reservations/batch", {"operations": many[:256]}).status == 207
    for wrong in (many, []):
        answer = service.ask("POST", "/v1/reservations/batch", {"operations": wrong})
        expect_problem(answer, 422, "invalid_request", pointer="/operations")


def test_a_batch_by_rules(service: Service) -> None:
    """A reserve of a batch may leave the place to the engine, as one alone may."""
    chain = Chain(service)
    body = {"lines": [{"sku": chain.sku, "quantity": 4}], "pool": chain.pool}
    operations = [{"op": "reserve", "key": fresh_key(), "body": body} for _ in range(3)]
    results = service.ask("POST", "/v1/reservations/batch", {"operations": operations}).json()["results"]
    assert sorted(one["status"] for one in results) == [201, 201, 409]


def test_a_hold_that_lapses(service: Service) -> None:
    """Nobody asks, and at the latest a second after its time its units are for all again."""
    sku, location = service.stocked(3)
    begun = time.monotonic()
    path = held(service, (sku, location, 3), ttl_seconds=1)
    end, asked = time.monotonic() + 2, 0.0
    while get(service, f"/v1/availability/{sku}")["available"] == 0:
        # What was asked in time may be answered late.
        assert asked < end, "the hold does not lapse"
        time.sleep(0.02)
        asked = time.monotonic()
    assert asked or time.monotonic() > begun + 1, "it lapsed at once"
    expect_problem(service.ask("POST", f"{path}/commit"), 410, "reservation_expired")
    expect_problem(service.ask("POST", f"{path}/extend", {"ttl_seconds": 9}), 410, "reservation_expired")
    assert get(service, path)["state"] == "expired"
    retaken = service.ask("POST", f"{path}/commit", {"if_expired": "retake"})
    assert (retaken.status, retaken.json()["state"]) == (200, "committed")
