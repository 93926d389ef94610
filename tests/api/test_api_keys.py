"""API keys at work: made, rotated, revoked; what restricted ones may do, and what the ledger says of each."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine import connect
from engine.api_keys import is_whole
from engine.setting_forms import encode_setting
from tests.api.keyed import (
    EVERYTHING,
    FAR,
    SEEN_SECONDS,
    Caller,
    Side,
    first_key,
    hold,
    id_of,
    open_side,
)
from tests.api.service import Service, expect_problem, fresh_key, running
from tests.api.test_named_callers import events
from tests.servers import Server

KEYS = {"BINCARD_AUTH": "keys"}


@pytest.fixture(scope="module")
def two(stock_server: Server) -> Iterator[tuple[Service, Service]]:
    """Two workers that ask for keys."""
    with running("hot", stock_server.url, 7, KEYS) as one, running("hot", stock_server.url, 8, KEYS) as other:
        yield one, other


@pytest.fixture(scope="module")
def admin(two: tuple[Service, Service], stock_server: Server) -> Caller:
    caller = Caller(two[0], first_key(stock_server.url))
    caller.until_seen(200)
    return caller


@pytest.fixture(scope="module")
def side(admin: Caller) -> Side:
    return open_side(admin, f"sku-{fresh_key()}", "own", 37)


def reserving(side: Side, quantity: int = 1, **more: object) -> dict[str, object]:
    return {"lines": [{"sku": side.sku, "quantity": quantity, "location": side.location}], **more}


def test_a_key_is_shown_once(admin: Caller) -> None:
    """A repeat is answered as the first, but for the text; other content under the same id is refused."""
    body, sent = {"name": "shop", "scopes": ["stock:read"]}, {"Idempotency-Key": fresh_key()}
    first = admin.ask("POST", "/v1/keys", body, sent)
    assert first.status == 201
    assert is_whole(first.json()["key"])
    assert first.headers["cache-control"] == "no-store"
    again = admin.ask("POST", "/v1/keys", body, sent)
    assert (again.status, again.headers["idempotent-replayed"]) == (201, "true")
    assert again.json() == first.json() | {"key": None}
    other = admin.ask("POST", "/v1/keys", body | {"name": "other"}, sent)
    expect_problem(other, 422, "idempotency_mismatch")
    shown = admin.get(f"/v1/keys/{first.json()['id']}")
    assert "key" not in shown
    assert shown in admin.get("/v1/keys?limit=1000")["items"]


def test_pages_of_keys(admin: Caller) -> None:
    for _ in range(3):
        admin.with_key()
    every = [key["id"] for key in admin.get("/v1/keys?limit=1000")["items"]]
    paged, cursor = [], ""
    while cursor is not None:
        page = admin.get(f"/v1/keys?limit=2{cursor and '&cursor=' + cursor}")
        paged += [key["id"] for key in page["items"]]
        cursor = page["next_cursor"]
    assert paged == every


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"scopes": ["everything"]}, "/scopes/0"),
        ({"scopes": []}, "/scopes"),
        ({"name": ""}, "/name"),
        ({"name": "a\u0007"}, "/name"),
        ({"locations": []}, "/locations"),
        ({"locations": ["no such place!"]}, "/locations/0"),
        ({"quantities": "banded"}, "/quantities"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"requests_per_second": 0}, "/requests_per_second"),
        ({"requests_per_second": 1_000_001}, "/requests_per_second"),
        ({"secret": "mine"}, "/secret"),
    ],
)
def test_what_no_key_can_be(admin: Caller, wrong: dict[str, object], pointer: str) -> None:
    answer = admin.ask("POST", "/v1/keys", {"name": "a", "scopes": ["stock:read"], **wrong})
    expect_problem(answer, 422, "invalid_request", pointer=pointer)


def test_nobody_gives_more_than_he_has(admin: Caller, side: Side) -> None:
    """Nor does he see, rotate or revoke a key that reaches further."""
    own = [side.location]
    few = admin.with_key(["key:admin", "stock:read"], locations=own, expires_at=FAR)
    given = {"name": "a", "scopes": ["stock:read"], "locations": own, "expires_at": FAR}
    expect = [
        (given, 201),
        (given | {"scopes": ["stock:write"]}, 403),
        (given | {"locations": None}, 403),
        (given | {"locations": [*own, side.second]}, 403),
        (given | {"expires_at": "2031-01-01T00:00:00Z"}, 403),
        (given | {"expires_at": None}, 403),
        (given | {"channels": ["web"]}, 201),
    ]
    assert [few.ask("POST", "/v1/keys", body).status for body, _ in expect] == [
        status for _, status in expect
    ]
    stronger = id_of(admin)
    for method, path in (("GET", ""), ("POST", "/rotate"), ("POST", "/revoke")):
        answer = few.ask(method, f"/v1/keys/{stronger}{path}")
        expect_problem(answer, 404, "key_not_found")
        none = few.ask(method, f"/v1/keys/aaaaaaaa{path}")
        assert none.json()["detail"] == answer.json()["detail"].replace(stronger, "aaaaaaaa")
    assert stronger not in {key["id"] for key in few.get("/v1/keys?limit=1000")["items"]}


def test_rotation(admin: Caller, two: tuple[Service, Service]) -> None:
    """The secret before is good for the grace; never are more than two."""
    first = admin.with_key()
    path = f"/v1/keys/{id_of(first)}/rotate"
    second = Caller(two[0], admin.post(path, {"grace_seconds": 600}, 200)["key"])
    assert [one.ask("GET", "/v1/reservations").status for one in (first, second)] == [200, 200]
    sent = {"Idempotency-Key": fresh_key()}
    made = admin.ask("POST", path, {"grace_seconds": 600}, sent)
    third = Caller(two[0], made.json()["key"])
    again = admin.ask("POST", path, {"grace_seconds": 600}, sent)
    assert (again.json()["key"], again.headers["idempotent-replayed"]) == (None, "true")
    statuses = [one.ask("GET", "/v1/reservations").status for one in (first, second, third)]
    assert statuses == [401, 200, 200]
    assert len(made.json()["secrets"]) == 2
    fourth = Caller(two[0], admin.post(path, {}, 200)["key"])
    statuses = [one.ask("GET", "/v1/reservations").status for one in (second, third, fourth)]
    assert statuses == [401, 401, 200]


def test_every_worker_hears_of_it(admin: Caller, two: tuple[Service, Service]) -> None:
    """Made, rotated, revoked: the other worker knows within five seconds; what is revoked stays so."""
    made = admin.with_key()
    elsewhere = Caller(two[1], made.key)
    elsewhere.until_seen(200)
    rotated = Caller(two[1], admin.post(f"/v1/keys/{id_of(made)}/rotate", None, 200)["key"])
    rotated.until_seen(200)
    elsewhere.until_seen(401, SEEN_SECONDS)
    revoked = admin.post(f"/v1/keys/{id_of(made)}/revoke", None, 200)
    took = rotated.until_seen(401)
    assert took < SEEN_SECONDS
    assert revoked["secrets"] == []
    assert admin.post(f"/v1/keys/{id_of(made)}/revoke", None, 200)["revoked_at"] == revoked["revoked_at"]
    answer = admin.ask("POST", f"/v1/keys/{id_of(made)}/rotate")
    assert answer.status == 422


def test_keys_outlive_the_worker(admin: Caller, stock_server: Server) -> None:
    """A worker that starts knows all keys at once."""
    made, revoked = admin.with_key(), admin.with_key()
    admin.post(f"/v1/keys/{id_of(revoked)}/revoke", None, 200)
    with running("hot", stock_server.url, 9, KEYS) as service:
        statuses = [Caller(service, one.key).ask("GET", "/v1/reservations").status for one in (made, revoked)]
    assert statuses == [200, 401]


def test_two_callers_with_the_same_idempotency_key(admin: Caller, side: Side) -> None:
    """Have nothing to do with one another; one who repeats gets his own answer, after a rotation too."""
    sent, callers = {"Idempotency-Key": fresh_key()}, [admin.with_key(), admin.with_key()]
    made = [one.ask("POST", "/v1/reservations", reserving(side), sent) for one in callers]
    assert [answer.status for answer in made] == [201, 201]
    assert made[0].json()["id"] != made[1].json()["id"]
    again = [one.ask("POST", "/v1/reservations", reserving(side), sent) for one in callers]
    assert [answer.headers["idempotent-replayed"] for answer in again] == ["true", "true"]
    assert [answer.json()["id"] for answer in again] == [answer.json()["id"] for answer in made]
    movement = {
        "id": fresh_key(),
        "kind": "receive",
        "sku": side.sku,
        "location": side.location,
        "quantity": 1,
    }
    for one in callers:
        told = one.post("/v1/stock/movements", {"movements": [movement]}, 207)["results"][0]
        assert not told.get("replayed")


def test_what_is_kept_proves_nothing(admin: Caller, stock_server: Server) -> None:
    """Neither the settings nor the ledger have the text of a key, or the secret in it."""
    made = admin.with_key()

    async def read() -> list[bytes]:
        inventory = await connect(stock_server.url, create=False)
        try:
            return [encode_setting(key) for key in await inventory.api_keys()]
        finally:
            await inventory.close()

    with ThreadPoolExecutor(1) as thread:
        kept = b"".join(thread.submit(asyncio.run, read()).result())
    assert id_of(made).encode() in kept
    secret = (made.key or "")[13:45].encode()
    assert secret not in kept
    told = repr(events(stock_server.url))
    assert id_of(made) in told
    assert secret.decode() not in told


def test_a_batch_checks_each_operation(admin: Caller, side: Side) -> None:
    """What the key may not do is refused by itself."""
    held = hold(admin, side.sku, None, side.location)
    operations = [
        {"op": "reserve", "key": fresh_key(), "body": reserving(side)},
        {"op": "commit", "id": held, "key": fresh_key()},
        {"op": "cancel", "id": held, "key": fresh_key()},
    ]
    for scopes, expected in (
        (["reservation:create"], [201, 403, 403]),
        (["reservation:commit"], [403, 200, 403]),
        (["reservation:release"], [403, 403, 200]),
    ):
        told = admin.with_key(scopes).post("/v1/reservations/batch", {"operations": operations}, 207)[
            "results"
        ]
        assert [one["status"] for one in told] == expected
    only = admin.with_key(["reservation:commit"])
    told = only.post("/v1/reservations/batch", {"operations": operations[:1]}, 207)["results"]
    assert told[0]["body"]["code"] == "forbidden"


# -------------------------------------------------------------------- restrictions


def test_a_key_of_a_location(admin: Caller, side: Side) -> None:
    """Works with what is there, and sums, lists and chooses among its own."""
    caller = admin.with_key(locations=[side.location])
    found = caller.get(f"/v1/availability/{side.sku}?quantity=30")
    assert [place["location"] for place in found["locations"]] == [side.location]
    assert found["available"] == found["locations"][0]["available"]
    everywhere = admin.get(f"/v1/availability/{side.sku}")
    assert everywhere["available"] > found["available"]
    assert caller.ask("GET", f"/v1/availability/{side.sku}?location={side.second}").status == 404
    items = caller.post("/v1/availability/query", {"skus": [side.sku, "none"], "detail": True}, 200)["items"]
    assert [item["known"] for item in items] == [True, False]
    assert [place["location"] for place in items[0]["locations"]] == [side.location]
    near = caller.get(f"/v1/availability/{side.sku}/nearby?lat=1&lon=1")
    assert [place["location"] for place in near["locations"]] == [side.location]
    positions = caller.get(f"/v1/stock/{side.sku}")["positions"]
    assert [one["location"] for one in positions] == [side.location]
    assert [one["id"] for one in caller.get("/v1/locations")["items"]] == [side.location]
    day = caller.get(f"/v1/atp/{side.sku}?days=1")["days"][0]
    assert day["atp"] == found["available"]
    expect_problem(caller.ask("GET", f"/v1/atp/{side.sku}?pool={side.pool}"), 404, "pool_not_found")
    own, other = hold(caller, side.sku, None, side.location), hold(admin, side.sku, None, side.second)
    listed = {one["id"] for one in caller.get("/v1/reservations?limit=1000")["items"]}
    assert own in listed
    assert other not in listed
    holders = caller.get(f"/v1/stock/{side.sku}/{side.location}/holders")["holders"]
    assert own in {one["reservation"] for one in holders}
    expect_problem(caller.ask("GET", f"/v1/availability/{side.sku}?explain=true"), 403, "forbidden")
    caller.post(f"/v1/reservations/{own}/release", None, 200)
    assert caller.ask("POST", f"/v1/reservations/{other}/release").status == 404


def test_a_pool_that_reaches_further(admin: Caller, side: Side) -> None:
    """Is not there for who would have the engine choose; one that lies within is."""
    both, one = (
        admin.with_key(locations=[side.location, side.second]),
        admin.with_key(locations=[side.location]),
    )
    body: dict[str, Any] = {"lines": [{"sku": side.sku, "quantity": 1}], "pool": side.pool}
    assert both.ask("POST", "/v1/reservations", body).status == 201
    refused = one.ask("POST", "/v1/reservations", body)
    expect_problem(refused, 404, "pool_not_found")
    nothing = one.ask("POST", "/v1/reservations", body | {"pool": "nothing"})
    assert nothing.json()["detail"] == refused.json()["detail"].replace(side.pool, "nothing")
    expect_problem(one.ask("POST", "/v1/plans", body), 404, "pool_not_found")
    by_channel = {"lines": body["lines"], "channel": side.channel}
    expect_problem(one.ask("POST", "/v1/reservations", by_channel), 404, "channel_not_found")
    named = one.ask("POST", "/v1/reservations", reserving(side, channel=side.channel))
    assert named.status == 201
    path, cart = f"/v1/reservations/{named.json()['id']}/lines", {"lines": body["lines"]}
    expect_problem(one.ask("PUT", path, cart), 404, "channel_not_found")
    expect_problem(one.ask("PUT", path, body), 404, "pool_not_found")
    assert admin.ask("PUT", path, body).status == 200
    found = one.get(f"/v1/availability/{side.sku}?channel={side.channel}")
    assert [place["location"] for place in found["locations"]] == [side.location]
    operations = [{"op": "reserve", "key": fresh_key(), "body": body}]
    told = one.post("/v1/reservations/batch", {"operations": operations}, 207)["results"]
    assert told[0]["body"]["code"] == "pool_not_found"


def test_facts_of_a_location(admin: Caller, side: Side) -> None:
    """Each that is told of elsewhere is refused, the others are recorded."""
    caller = admin.with_key(locations=[side.location])
    there = {"kind": "receive", "sku": side.sku, "quantity": 1}
    movements = [
        {"id": fresh_key(), **there, "location": place} for place in (side.location, side.second, "none")
    ]
    told = caller.post("/v1/stock/movements", {"movements": movements}, 207)["results"]
    assert [one["status"] for one in told] == [200, 404, 404]
    other = hold(admin, side.sku, None, side.second)
    sale = {"id": fresh_key(), **there, "kind": "sale", "location": side.location, "reservation": other}
    told = caller.post("/v1/stock/movements", {"movements": [sale]}, 207)["results"]
    assert told[0]["body"]["code"] == "reservation_not_found"


def test_a_key_of_channels(admin: Caller, side: Side) -> None:
    """Sells to them alone: to the only one without naming it."""
    other = open_side(admin, side.sku, "rival", 5)
    one = admin.with_key(channels=[side.channel])
    both = admin.with_key(channels=[side.channel, other.channel])
    made = one.ask("POST", "/v1/reservations", reserving(side))
    assert made.json()["channel"] == side.channel
    expect_problem(
        both.ask("POST", "/v1/reservations", reserving(side)), 422, "invalid_request", pointer="/channel"
    )
    assert both.ask("POST", "/v1/reservations", reserving(side, channel=other.channel)).status == 201
    for name in (other.channel, "nothing"):
        refused = one.ask("POST", "/v1/reservations", reserving(side, channel=name))
        assert refused.json()["detail"] == f"there is no channel {name}"
        expect_problem(refused, 404, "channel_not_found")
        assert one.ask("GET", f"/v1/availability/{side.sku}?channel={name}").status == 404
    pool = {"lines": [{"sku": side.sku, "quantity": 1}], "pool": other.pool}
    expect_problem(one.ask("POST", "/v1/reservations", pool), 404, "pool_not_found")
    assert one.ask("POST", "/v1/reservations", pool | {"pool": side.pool}).status == 201
    places = one.get(f"/v1/availability/{side.sku}")["locations"]
    assert {place["location"] for place in places} == {side.location, side.second}
    listed = one.get("/v1/reservations?limit=1000")["items"]
    assert {found["channel"] for found in listed} == {side.channel}
    for path in ("stock", "atp"):
        expect_problem(one.ask("GET", f"/v1/{path}/{side.sku}"), 403, "forbidden")


def test_bands(admin: Caller) -> None:
    """Whoever is shown bands is shown them everywhere, in words too."""
    side = open_side(admin, f"sku-{fresh_key()}", "banded", 38)
    scopes = ["availability:read", "reservation:create", "reservation:commit", "reservation:release"]
    caller = admin.with_key(scopes, quantities="banded")
    found = caller.get(f"/v1/availability/{side.sku}?quantity=30")
    assert (found["available"], found["can_reserve"]) == (50, False)
    assert {place["available"] for place in found["locations"]} == {20}
    items = caller.post("/v1/availability/query", {"skus": [side.sku], "detail": True}, 200)["items"]
    assert (items[0]["available"], items[0]["locations"][0]["available"]) == (50, 20)
    near = caller.get(f"/v1/availability/{side.sku}/nearby?lat=1&lon=1&quantity=20")
    assert {place["available"] for place in near["locations"]} == {20}
    assert caller.get(f"/v1/availability/{side.sku}/nearby?lat=1&lon=1&quantity=21")["locations"] == []
    days = caller.get(f"/v1/atp/{side.sku}?location={side.second}")["days"]
    assert {day["atp"] for day in days} == {20}
    refused = caller.ask("POST", "/v1/reservations", reserving(side, 1000))
    assert refused.json()["shortages"][0]["available"] == 20
    told = {name: text for name, text in refused.json().items() if name != "request_id"}
    # Names have digits by chance.
    assert "37" not in str(told).replace(side.sku, "").replace(side.location, "")
    operations = [{"op": "reserve", "key": fresh_key(), "body": reserving(side, 1000)}]
    told = caller.post("/v1/reservations/batch", {"operations": operations}, 207)["results"]
    assert told[0]["body"]["shortages"][0]["available"] == 20
    plan = caller.post("/v1/plans", {"lines": [{"sku": side.sku, "quantity": 1}], "pool": side.pool}, 200)
    assert {one["available"] for one in plan["lines"][0]["locations"]} == {20}
    expect_problem(caller.ask("GET", f"/v1/availability/{side.sku}?explain=true"), 403, "forbidden")


def test_metrics_need_a_key(admin: Caller, two: tuple[Service, Service]) -> None:
    assert Caller(two[0], None).ask("GET", "/metrics").status == 401
    assert admin.with_key(["audit:read"]).ask("GET", "/metrics").status == 200
    assert Caller(two[0], None).ask("GET", "/readyz").status == 200


def test_an_expired_key(admin: Caller, two: tuple[Service, Service]) -> None:
    """Ends on its own, in every worker."""
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4))
    caller = admin.with_key(EVERYTHING, expires_at=end)
    there = Caller(two[1], caller.key)
    there.until_seen(200)
    caller.until_seen(401)
    there.until_seen(401)
    shown = admin.get(f"/v1/keys/{id_of(caller)}")
    assert (shown["expires_at"][:19], shown["revoked_at"]) == (end[:19], None)


def test_a_key_with_a_rate(admin: Caller, side: Side) -> None:
    """So many at once and no more, hot or not; others are not held up, and it makes no faster key."""
    caller = admin.with_key(EVERYTHING, requests_per_second=2)
    hot, cold = f"/v1/availability/{side.sku}", f"/v1/locations/{side.location}"
    told = [caller.ask("GET", path) for path in (hot, cold, hot, cold, hot, cold)]
    assert {answer.status for answer in told[:2]} == {200}
    refused = [answer for answer in told if answer.status == 429]
    assert refused
    for answer in refused:
        expect_problem(answer, 429, "quota_exceeded")
        assert int(answer.headers["retry-after"]) >= 1
    assert told[0].headers["ratelimit-policy"] == '"caller";q=2;w=1'
    assert admin.ask("GET", hot).status == 200
    assert "ratelimit-policy" not in admin.ask("GET", hot).headers
    time.sleep(int(refused[-1].headers["retry-after"]))
    faster = caller.ask("POST", "/v1/keys", {"name": "faster", "scopes": ["stock:read"]})
    expect_problem(faster, 403, "forbidden")
    shown = admin.get(f"/v1/keys/{id_of(caller)}")
    assert shown["requests_per_second"] == 2
