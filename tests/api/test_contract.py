"""What HTTP promises about requests and availability: a paragraph of it, a test.

Written from outside: what a caller may rely on. `test_contract_reservations.py` and `test_contract_stock.py`
go on.
"""

import time
from urllib.parse import unquote
from uuid import uuid4

import pytest

from tests.api.chain import Chain, get, keyed, name, post, put
from tests.api.service import Service, expect_problem, fresh_key


@pytest.fixture
def service(hot_service: Service) -> Service:
    """The way that the product serves."""
    return hot_service


# ---------------------------------------------------------------- general rules


def test_unknown_fields_are_refused(service: Service) -> None:
    sku, location = service.stocked()
    line = {"sku": sku, "location": location, "quantity": 1}
    answer = post(service, "/v1/reservations", {"lines": [line], "surprise": 1})
    expect_problem(answer, 422, "invalid_request", pointer="/surprise")
    expect_problem(
        post(service, "/v1/reservations", {"lines": [{**line, "x": 1}]}),
        422,
        "invalid_request",
        pointer="/lines/0/x",
    )
    expect_problem(service.ask("GET", f"/v1/availability/{sku}?spare=1"), 422, "invalid_request")


@pytest.mark.parametrize(
    ("path", "body", "is_required"),
    [
        ("", "reserve", True),
        ("/{held}/move", "move", True),
        ("/{held}/commit", "part", True),
        ("/{committed}/fulfil", "part", True),
        ("/{committed}/cancel", "part", True),
        ("/{held}/release", "part", True),
        ("/{held}/commit", None, False),
        ("/{held}/release", None, False),
        ("/{held}/extend", "extend", False),
        ("/{committed}/fulfil", None, False),
        ("/{committed}/cancel", None, False),
    ],
)
def test_where_a_key_is_required(
    service: Service,
    path: str,
    body: str | None,
    is_required: bool,
) -> None:
    """Where only it makes a repeat safe."""
    sku, location = service.stocked()
    elsewhere = service.open_location()
    service.receive(sku, elsewhere, 10)
    made = service.reserve([(sku, location, 3)]).json()["id"]
    if "committed" in path:
        assert service.ask("POST", f"/v1/reservations/{made}/commit").status == 200
    line = {"sku": sku, "quantity": 1}
    bodies = {
        None: None,
        "reserve": {"lines": [{**line, "location": location}]},
        "part": {"lines": [{**line, "location": location}]},
        "move": {"lines": [{**line, "from": location, "to": elsewhere}]},
        "extend": {"ttl_seconds": 60},
    }
    full = f"/v1/reservations{path.format(held=made, committed=made)}"
    answer = service.ask("POST", full, bodies[body])
    if is_required:
        expect_problem(answer, 400, "idempotency_key_missing")
        assert post(service, full, bodies[body]).status in {200, 201}
    else:
        assert answer.status == 200, answer


@pytest.mark.parametrize("path", ["/v1/transfers", "/v1/inbound", "/v1/inbound/i_x/receive"])
def test_what_makes_a_document_needs_a_key(service: Service, path: str) -> None:
    expect_problem(service.ask("POST", path, {}), 400, "idempotency_key_missing")


def test_keys_are_bare_or_quoted(service: Service) -> None:
    """Both are the same key. 255 visible ASCII characters are the most."""
    sku, location = service.stocked()
    key = fresh_key()
    first = service.reserve([(sku, location, 1)], key)
    again = service.reserve([(sku, location, 1)], f'"{key}"')
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (201, first.body, "true")
    assert "idempotent-replayed" not in first.headers
    assert again.headers["location"] == first.headers["location"]
    expect_problem(service.reserve([(sku, location, 2)], key), 422, "idempotency_mismatch")
    assert service.reserve([(sku, location, 1)], fresh_key().ljust(255, "x")).status == 201
    for bad in ("", "a b", "x" * 256, "é"):
        answer = service.ask("POST", "/v1/reservations", {}, {"Idempotency-Key": bad})
        expect_problem(answer, 400, "idempotency_key_invalid")


def test_a_replay_has_the_first_answer(service: Service) -> None:
    """Also when the reservation has changed since."""
    sku, location = service.stocked()
    key = fresh_key()
    first = service.reserve([(sku, location, 2)], key)
    service.ask("POST", f"/v1/reservations/{first.json()['id']}/commit")
    again = service.reserve([(sku, location, 2)], key)
    assert (again.status, again.body) == (201, first.body)


def test_problems_of_the_protocol(service: Service) -> None:
    sku, location = service.stocked()
    expect_problem(post(service, "/v1/reservations", b"{"), 400, "malformed_json")
    wrong = service.ask("DELETE", "/v1/reservations")
    expect_problem(wrong, 405, "method_not_allowed")
    assert {"GET", "POST"} <= {method.strip() for method in wrong.headers["allow"].split(",")}
    headers = {**keyed(), "Accept": "text/csv"}
    expect_problem(service.ask("POST", "/v1/reservations", {}, headers), 406, "not_acceptable")
    headers = {**keyed(), "Content-Type": "text/csv"}
    expect_problem(service.ask("POST", "/v1/reservations", b"x", headers), 415, "unsupported_media_type")
    body = {"lines": [{"sku": sku, "location": location, "quantity": 0}]}
    answer = post(service, "/v1/reservations", body)
    expect_problem(answer, 422, "invalid_request", instance="/v1/reservations", pointer="/lines/0/quantity")
    named = service.ask("GET", f"/v1/availability/{sku}", headers={"X-Request-Id": "mine-7"})
    assert named.headers["x-request-id"] == "mine-7"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/reservations/r_none", "reservation_not_found"),
        ("/v1/availability/none", "sku_not_found"),
        ("/v1/stock/none", "sku_not_found"),
        ("/v1/locations/none", "location_not_found"),
        ("/v1/pools/none", "pool_not_found"),
        ("/v1/channels/none", "channel_not_found"),
        ("/v1/availability/{sku}?location=none", "location_not_found"),
        ("/v1/availability/{sku}?pool=none", "pool_not_found"),
        ("/v1/availability/{sku}?channel=none", "channel_not_found"),
        ("/v1/stock/{sku}/none", "location_not_found"),
        ("/v1/stock/{sku}/{elsewhere}", "not_stocked"),
        ("/v1/stock/{sku}/{elsewhere}/movements", "not_stocked"),
        ("/v1/stock/{sku}/{elsewhere}/holders", "not_stocked"),
        ("/v1/atp/{sku}?pool=none", "pool_not_found"),
        ("/v1/atp/{sku}?channel=none", "channel_not_found"),
        ("/v1/transfers/t_none", "transfer_not_found"),
    ],
)
def test_what_is_not_there(service: Service, path: str, code: str) -> None:
    sku, _ = service.stocked()
    expect_problem(service.ask("GET", path.format(sku=sku, elsewhere=service.open_location())), 404, code)


@pytest.mark.parametrize("quoted", ["a%2Fb", "%7Bx%7D", "%C3%A4%3A%2A", "..%2F..", "%25", "a%20b", "A.z_~-0"])
def test_any_printable_sku(service: Service, quoted: str) -> None:
    """Percent-encoded in the path."""
    sku = f"{unquote(quoted)}{uuid4().hex[:6]}"
    quoted += sku[-6:]
    _, location = service.stocked(4, sku)
    assert get(service, f"/v1/availability/{quoted}")["sku"] == sku
    assert get(service, f"/v1/stock/{quoted}/{location}")["on_hand"] == 4
    assert service.reserve([(sku, location, 1)]).json()["lines"][0]["sku"] == sku


# ---------------------------------------------------------------- availability


def test_availability(service: Service) -> None:
    chain = Chain(service)
    found = get(service, f"/v1/availability/{chain.sku}")
    assert set(found) == {"sku", "available", "status", "version", "locations"}
    assert (found["sku"], found["available"], found["status"]) == (chain.sku, 15, "in_stock")
    assert {(one["location"], one["available"], one["status"]) for one in found["locations"]} == {
        (chain.first, 3, "in_stock"),
        (chain.second, 5, "in_stock"),
        (chain.other, 7, "in_stock"),
    }
    two = get(service, f"/v1/availability/{chain.sku}?location={chain.other}&location={chain.first}")
    assert two["available"] == 10
    assert {one["location"] for one in two["locations"]} == {chain.other, chain.first}


def test_availability_of_a_pool_and_a_channel(service: Service) -> None:
    """After the channel's buffer and others' fences; what a reserve would accept."""
    chain = Chain(service, buffer={"units": 1})
    assert get(service, f"/v1/availability/{chain.sku}?pool={chain.pool}")["available"] == 8
    of_channel = get(service, f"/v1/availability/{chain.sku}?channel={chain.channel}")
    assert of_channel["available"] == 6
    assert {one["location"]: one["available"] for one in of_channel["locations"]} == {
        chain.first: 2,
        chain.second: 4,
    }
    rival = name("rival")
    put(service, f"/v1/channels/{rival}", {"pools": [chain.pool]})
    put(service, f"/v1/fences/{rival}/{chain.sku}/{chain.second}", {"quantity": 4})
    assert get(service, f"/v1/availability/{chain.sku}?channel={chain.channel}")["available"] == 2
    assert get(service, f"/v1/availability/{chain.sku}?channel={rival}")["available"] in {4, 7}
    expect_problem(chain.reserve(3, channel=chain.channel), 409, "insufficient_stock")
    assert chain.placed(2, channel=chain.channel) == [(chain.first, 2)]


@pytest.mark.parametrize("where", ["", "&pool={pool}", "&channel={channel}", "&location={first}"])
def test_can_reserve(service: Service, where: str) -> None:
    """It says what a reserve would."""
    chain = Chain(service)
    where = where.format(**vars(chain))
    path = f"/v1/availability/{chain.sku}?quantity={{}}{where}"
    most = {"": 7, "&lo": 3}.get(where[:3], 8)
    assert get(service, path.format(most))["can_reserve"] is True
    assert get(service, path.format(most + 1))["can_reserve"] is False
    for bad in ("0", "x", "-1"):
        expect_problem(service.ask("GET", path.format(bad)), 422, "invalid_request", pointer="?quantity")


def test_can_reserve_counts_what_can_make_way(service: Service) -> None:
    """A pool's hold lies somewhere only until somebody needs that place."""
    chain = Chain(service)
    assert chain.reserve(3, pool=chain.pool).json()["lines"][0]["location"] == chain.first
    path = f"/v1/availability/{chain.sku}?location={chain.first}&quantity="
    for where in ("", f"&pool={chain.pool}", f"&channel={chain.channel}"):
        assert get(service, f"{path}3{where}")["can_reserve"] is True
        assert get(service, f"{path}4{where}")["can_reserve"] is False
    assert service.reserve([(chain.sku, chain.first, 3)]).status == 201
    assert get(service, f"{path}1")["can_reserve"] is False


def test_kits(service: Service) -> None:
    """A kit has what its scarcest part has at a place; a kit and its part in one basket are summed."""
    chain, kit, lamp = Chain(service), name("kit"), name("lamp")
    parts = [{"sku": chain.sku, "quantity": 2}, {"sku": lamp, "quantity": 1}]
    put(service, f"/v1/items/{kit}", {"components": parts})
    for place in (chain.first, chain.second):
        service.receive(lamp, place, 9)
    found = get(service, f"/v1/availability/{kit}?quantity=2")
    assert (found["available"], found["can_reserve"]) == (3, True)
    assert get(service, f"/v1/availability/{kit}?quantity=3")["can_reserve"] is False
    in_pool = get(service, f"/v1/availability/{kit}?quantity=3&pool={chain.pool}")
    assert (in_pool["available"], in_pool["can_reserve"]) == (3, True)
    lines = [{"sku": kit, "quantity": 2}, {"sku": chain.sku, "quantity": 2}]
    body = {"lines": [{**line, "location": chain.second} for line in lines]}
    expect_problem(post(service, "/v1/reservations", body), 409, "insufficient_stock")
    body["lines"][1]["quantity"] = 1
    made = post(service, "/v1/reservations", body).json()
    assert {line["sku"]: line["held"] for line in made["lines"]} == {chain.sku: 5, lamp: 2}


def test_buffers_in_percent(service: Service) -> None:
    """Of each location's units, the next whole one."""
    chain = Chain(service, buffer={"percent": 50})
    found = get(service, f"/v1/availability/{chain.sku}?channel={chain.channel}&quantity=4")
    assert (found["available"], found["can_reserve"]) == (3, False)
    assert chain.placed(3, channel=chain.channel) == [(chain.first, 1), (chain.second, 2)]


def test_settings_are_seen_by_others_within_a_second(service: Service, asgi_service: Service) -> None:
    """By a process, too, that nobody has asked anything for long."""
    chain = Chain(service)
    path = f"/v1/availability/{chain.sku}?channel={chain.channel}"
    assert get(asgi_service, path)["available"] == 8
    put(service, f"/v1/channels/{chain.channel}", {"pools": [chain.pool], "buffer": {"units": 2}})
    kit = name("kit")
    put(service, f"/v1/items/{kit}", {"components": [{"sku": chain.sku, "quantity": 2}]})
    time.sleep(1.05)
    assert get(asgi_service, f"/v1/availability/{kit}")["available"] == 6
    put(service, f"/v1/channels/{chain.channel}", {"pools": [chain.pool], "buffer": {"units": 3}})
    time.sleep(1.05)
    lines = [(chain.sku, chain.first, 1)]
    expect_problem(asgi_service.reserve(lines, channel=chain.channel), 409, "insufficient_stock")


def test_explained_availability(service: Service) -> None:
    chain = Chain(service)
    held = service.reserve([(chain.sku, chain.first, 1)], owner="cart-81").json()["id"]
    for where in ("", f"&location={chain.first}", f"&pool={chain.pool}", f"&channel={chain.channel}"):
        found = get(service, f"/v1/availability/{chain.sku}?explain=true{where}")
        (place,) = [one for one in found["locations"] if one["location"] == chain.first]
        assert place["explanation"]["on_hand"] == 3
        assert [one["reservation"] for one in place["explanation"]["holders"]] == [held]


def test_etags_of_availability(service: Service) -> None:
    sku, location = service.stocked()
    path = f"/v1/availability/{sku}"
    tag = service.ask("GET", path).headers["etag"]
    same = service.ask("GET", path, headers={"If-None-Match": tag})
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", tag)
    service.reserve([(sku, location, 1)])
    changed = service.ask("GET", path, headers={"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["etag"] != tag


def test_availability_of_many(service: Service) -> None:
    chain = Chain(service)
    body = {"skus": [chain.sku, "nobody-has-it", chain.sku]}
    answer = service.ask("POST", "/v1/availability/query", body)
    assert answer.status == 200
    items = answer.json()["items"]
    assert [set(item) for item in items] == [{"sku", "available", "status", "known", "version"}] * 3
    assert [(item["sku"], item["available"], item["known"]) for item in items] == [
        (chain.sku, 15, True),
        ("nobody-has-it", 0, False),
        (chain.sku, 15, True),
    ]
    for more, units in (
        ({"locations": [chain.first]}, 3),
        ({"pool": chain.pool}, 8),
        ({"channel": chain.channel}, 8),
    ):
        body = {"skus": [chain.sku], "detail": True, **more}
        (item,) = service.ask("POST", "/v1/availability/query", body).json()["items"]
        assert item["available"] == units
        assert sum(one["available"] for one in item["locations"]) == units
    most = service.ask("POST", "/v1/availability/query", {"skus": ["x"] * 1000})
    assert len(most.json()["items"]) == 1000
    many = service.ask("POST", "/v1/availability/query", {"skus": ["x"] * 1001})
    expect_problem(many, 422, "invalid_request", pointer="/skus")


def test_nearby(service: Service) -> None:
    """By distance, pickup alone unless something else is asked."""
    chain = Chain(service)
    path = f"/v1/availability/{chain.sku}/nearby?lat=52.5&lon=13.4&radius_km=900"
    found = get(service, path)["locations"]
    assert [one["location"] for one in found] == [chain.first, chain.second]
    assert found[0]["distance_km"] < found[1]["distance_km"] < 50
    ships = get(service, f"{path}&capability=ship")["locations"]
    assert [one["location"] for one in ships] == [chain.first, chain.other]
    assert [one["location"] for one in get(service, f"{path}&quantity=4")["locations"]] == [chain.second]
    assert len(get(service, f"{path}&limit=1")["locations"]) == 1
    near = get(service, path.replace("900", "5"))["locations"]
    assert [one["location"] for one in near] == [chain.first]
