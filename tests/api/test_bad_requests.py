"""Every bad input is answered with its own problem document, on every route that it can be sent to."""

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import starlette.requests

from api.hot import Hot, Request
from api.limits import DEFAULT, MOST_DEPTH
from api.routes.movements import Movements
from engine.limits import MAX_METADATA_DEPTH
from tests.api.service import Service, expect_problem, fresh_key

ID = "r_AAAAAAAAAAAAAAAAAAAA"
TRANSFER, INBOUND = "t_AAAAAAAAAAAAAAAAAAAA", "i_AAAAAAAAAAAAAAAAAAAA"
BODY_ROUTES = [
    ("POST", "/v1/reservations"),
    ("POST", f"/v1/reservations/{ID}/commit"),
    ("POST", f"/v1/reservations/{ID}/release"),
    ("POST", f"/v1/reservations/{ID}/extend"),
    ("POST", f"/v1/reservations/{ID}/fulfil"),
    ("POST", f"/v1/reservations/{ID}/cancel"),
    ("POST", f"/v1/reservations/{ID}/move"),
    ("PUT", f"/v1/reservations/{ID}/lines"),
    ("POST", f"/v1/reservations/{ID}/ready"),
    ("POST", f"/v1/reservations/{ID}/collected"),
    ("POST", f"/v1/reservations/{ID}/short"),
    ("POST", "/v1/reservations/batch"),
    ("POST", "/v1/availability/query"),
    ("POST", "/v1/stock/movements"),
    ("POST", "/v1/stock/counts"),
    ("PUT", "/v1/locations/nowhere"),
    ("PUT", "/v1/policies/x/nowhere"),
    ("PUT", "/v1/fences/none/x/nowhere"),
    ("PUT", "/v1/pools/nowhere"),
    ("PUT", "/v1/channels/nowhere"),
    ("PUT", "/v1/items/nowhere"),
    ("POST", "/v1/transfers"),
    ("POST", f"/v1/transfers/{TRANSFER}/ship"),
    ("POST", f"/v1/transfers/{TRANSFER}/receive"),
    ("POST", f"/v1/transfers/{TRANSFER}/cancel"),
    ("POST", "/v1/inbound"),
    ("POST", f"/v1/inbound/{INBOUND}/receive"),
    ("POST", f"/v1/inbound/{INBOUND}/cancel"),
]
JSON_READS = [
    "/v1/availability/x",
    "/v1/reservations",
    f"/v1/reservations/{ID}",
    "/v1/stock/x",
    "/v1/stock/x/y",
    "/v1/stock/x/y/holders",
    "/v1/stock/x/y/movements",
    "/v1/locations",
    "/v1/locations/nowhere",
    "/v1/counts/wanted",
    "/v1/pickups?location=s7",
    "/v1/pools",
    "/v1/channels",
    "/v1/items",
    "/v1/availability/x/nearby?lat=1&lon=1",
    "/v1/transfers",
    f"/v1/transfers/{TRANSFER}",
    "/v1/inbound",
    f"/v1/inbound/{INBOUND}",
    "/v1/atp/x",
]
NO_JSON = {
    "cut off": b"{",
    "no JSON": b"nope",
    "two documents": b"{}{}",
    "invalid UTF-8": b'{"lines": "\xff\xfe"}',
    "lone surrogate": b'{"lines": "\\ud800"}',
    "NaN": b'{"lines": NaN}',
    "byte order mark": b"\xef\xbb\xbf{}",
    "raw control character": b'{"lines": "\x00"}',
    "single quotes": b"{'lines': 1}",
    "UTF-16": '{"lines": 1}'.encode("utf-16"),
    "number beyond every range": b'{"lines": 1e999}',
    "nested without end": b"[" * 100_000,
}
NO_OBJECT = {"list": b"[]", "null": b"null", "text": b'"x"', "number": b"1", "true": b"true"}


def _named(table: dict[str, bytes]) -> list[object]:
    return [pytest.param(raw, id=name.replace(" ", "-")) for name, raw in table.items()]


@pytest.mark.parametrize("raw", _named(NO_JSON))
@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
def test_what_is_no_json(service: Service, method: str, path: str, raw: bytes) -> None:
    answer = service.ask(method, path, raw, {"Idempotency-Key": fresh_key()})
    # A decoder meets a wrong type before it meets the end of the text: it may tell of either.
    code = answer.json()["code"]
    assert code in {"malformed_json", "invalid_request"}
    expect_problem(answer, 400 if code == "malformed_json" else 422, code, instance=path)


@pytest.mark.parametrize("raw", _named(NO_OBJECT))
@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
def test_a_body_that_is_no_object(service: Service, method: str, path: str, raw: bytes) -> None:
    answer = service.ask(method, path, raw, {"Idempotency-Key": fresh_key()})
    expect_problem(answer, 422, "invalid_request", instance=path, pointer="")


@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
def test_an_unknown_field(service: Service, method: str, path: str) -> None:
    answer = service.ask(method, path, {"no/such~field": 1}, {"Idempotency-Key": fresh_key()})
    expect_problem(answer, 422, "invalid_request", instance=path, pointer="/no~1such~0field")


@pytest.mark.parametrize(
    ("method", "path", "pointer"),
    [
        ("POST", "/v1/reservations", "/lines"),
        ("POST", f"/v1/reservations/{ID}/extend", "/ttl_seconds"),
        ("POST", f"/v1/reservations/{ID}/move", "/lines"),
        ("PUT", f"/v1/reservations/{ID}/lines", "/lines"),
        ("POST", f"/v1/reservations/{ID}/short", "/lines"),
        ("POST", "/v1/reservations/batch", "/operations"),
        ("POST", "/v1/availability/query", "/skus"),
        ("POST", "/v1/stock/movements", "/movements"),
        ("POST", "/v1/stock/counts", "/counts"),
        ("PUT", "/v1/locations/nowhere", "/kind"),
        ("PUT", "/v1/pools/nowhere", "/locations"),
        ("PUT", "/v1/channels/nowhere", "/pools"),
        ("POST", "/v1/transfers", "/from"),
        ("POST", "/v1/inbound", "/sku"),
        ("POST", f"/v1/inbound/{INBOUND}/receive", "/quantity"),
    ],
)
def test_a_missing_field(service: Service, method: str, path: str, pointer: str) -> None:
    answer = service.ask(method, path, {}, {"Idempotency-Key": fresh_key()})
    expect_problem(answer, 422, "invalid_request", instance=path, pointer=pointer)


LINE = {"sku": "A", "quantity": 1, "location": "s7"}
MOVED = {"sku": "A", "from": "s7", "to": "w1", "quantity": 1}
MOVEMENT = {"id": "m", "kind": "receive", "sku": "A", "location": "s7", "quantity": 1}
RESERVE = "/v1/reservations"
COMMIT = f"/v1/reservations/{ID}/commit"
EXTEND = f"/v1/reservations/{ID}/extend"
BATCH = "/v1/reservations/batch"
ELSEWHERE = f"/v1/reservations/{ID}/move"
LINES = f"/v1/reservations/{ID}/lines"
SHORT = f"/v1/reservations/{ID}/short"
QUERY = "/v1/availability/query"
MOVE = "/v1/stock/movements"
COUNTS = "/v1/stock/counts"
COUNT = {"id": "c", "sku": "A", "location": "s7", "quantity": 1, "counted_at": "2026-01-01T00:00:00.000Z"}
CONDITION = {**MOVEMENT, "kind": "condition", "to_condition": "lost"}
PLACE = "/v1/locations/nowhere"
POOL = "/v1/pools/nowhere"
CHANNEL = "/v1/channels/nowhere"
ITEM = "/v1/items/nowhere"
TRANSFERS, INBOUNDS = "/v1/transfers", "/v1/inbound"
RECEIVE = f"/v1/transfers/{TRANSFER}/receive"
RECEIVE_INBOUND = f"/v1/inbound/{INBOUND}/receive"
GOODS = {"sku": "A", "quantity": 1}
SENT = {"from": "s7", "to": "w1", "lines": [GOODS]}
EXPECTED = {"sku": "A", "location": "s7", "quantity": 1, "expected_at": "2030-01-01T00:00:00Z"}
INVALID_FIELDS: list[tuple[str, object, str]] = [
    (RESERVE, {"lines": []}, "/lines"),
    (RESERVE, {"lines": [LINE] * 201}, "/lines"),
    (RESERVE, {"lines": "x"}, "/lines"),
    (RESERVE, {"lines": [LINE, 7]}, "/lines/1"),
    (RESERVE, {"lines": [{**LINE, "sku": ""}]}, "/lines/0/sku"),
    (RESERVE, {"lines": [{**LINE, "sku": "x" * 65}]}, "/lines/0/sku"),
    (RESERVE, {"lines": [{**LINE, "sku": "a\u0000b"}]}, "/lines/0/sku"),
    (RESERVE, {"lines": [{**LINE, "sku": "a\nb"}]}, "/lines/0/sku"),
    (RESERVE, {"lines": [{**LINE, "sku": "a\u007fb"}]}, "/lines/0/sku"),
    (RESERVE, {"lines": [{**LINE, "sku": "a\u0085b"}]}, "/lines/0/sku"),
    (RESERVE, {"lines": [{**LINE, "sku": 7}]}, "/lines/0/sku"),
    (RESERVE, {"lines": [{**LINE, "sku": None}]}, "/lines/0/sku"),
    (RESERVE, {"lines": [{**LINE, "quantity": 0}]}, "/lines/0/quantity"),
    (RESERVE, {"lines": [{**LINE, "quantity": -1}]}, "/lines/0/quantity"),
    (RESERVE, {"lines": [{**LINE, "quantity": 1_000_000_001}]}, "/lines/0/quantity"),
    (RESERVE, {"lines": [{**LINE, "quantity": 10**30}]}, "/lines/0/quantity"),
    (RESERVE, {"lines": [{**LINE, "quantity": 1.5}]}, "/lines/0/quantity"),
    (RESERVE, {"lines": [{**LINE, "quantity": "1"}]}, "/lines/0/quantity"),
    (RESERVE, {"lines": [{**LINE, "quantity": True}]}, "/lines/0/quantity"),
    (RESERVE, {"lines": [{**LINE, "location": "a b"}]}, "/lines/0/location"),
    (RESERVE, {"lines": [{**LINE, "location": "s7\n"}]}, "/lines/0/location"),
    (RESERVE, {"lines": [{**LINE, "location": "x" * 65}]}, "/lines/0/location"),
    (RESERVE, {"lines": [{**LINE, "location": "ä"}]}, "/lines/0/location"),
    (RESERVE, {"lines": [{**LINE, "price": 1}]}, "/lines/0/price"),
    (RESERVE, {"lines": [{"sku": "A", "quantity": 1}]}, "/lines/0/location"),
    (RESERVE, {"lines": [LINE], "ttl_seconds": 0}, "/ttl_seconds"),
    (RESERVE, {"lines": [LINE], "ttl_seconds": 2_592_001}, "/ttl_seconds"),
    (RESERVE, {"lines": [LINE], "ttl_seconds": "900"}, "/ttl_seconds"),
    (RESERVE, {"lines": [LINE], "owner": "x" * 256}, "/owner"),
    (RESERVE, {"lines": [LINE], "reference": 7}, "/reference"),
    (RESERVE, {"lines": [LINE], "channel": "a b"}, "/channel"),
    (RESERVE, {"lines": [LINE], "metadata": []}, "/metadata"),
    (RESERVE, {"lines": [LINE], "sourcing": "cheapest"}, "/sourcing"),
    (COMMIT, {"lines": []}, "/lines"),
    (COMMIT, {"remainder": "forget"}, "/remainder"),
    (COMMIT, {"fulfil": "yes"}, "/fulfil"),
    (COMMIT, {"if_expired": "hope"}, "/if_expired"),
    (EXTEND, {"ttl_seconds": 0}, "/ttl_seconds"),
    (EXTEND, {"ttl_seconds": 2_592_001}, "/ttl_seconds"),
    (ELSEWHERE, {"lines": []}, "/lines"),
    (ELSEWHERE, {"lines": [MOVED] * 201}, "/lines"),
    (ELSEWHERE, {"lines": [{**MOVED, "to": "s7"}]}, "/lines/0/to"),
    (ELSEWHERE, {"lines": [MOVED, {**MOVED, "from": "a b"}]}, "/lines/1/from"),
    (ELSEWHERE, {"lines": [{**MOVED, "to": 7}]}, "/lines/0/to"),
    (ELSEWHERE, {"lines": [{**MOVED, "quantity": 0}]}, "/lines/0/quantity"),
    (ELSEWHERE, {"lines": [{**MOVED, "quantity": 1_000_000_001}]}, "/lines/0/quantity"),
    (ELSEWHERE, {"lines": [{**MOVED, "sku": "a\u0085b"}]}, "/lines/0/sku"),
    (ELSEWHERE, {"lines": [LINE]}, "/lines/0/location"),
    (LINES, {"lines": []}, "/lines"),
    (LINES, {"lines": [LINE] * 201}, "/lines"),
    (LINES, {"lines": [{**LINE, "quantity": -1}]}, "/lines/0/quantity"),
    (LINES, {"lines": [{**LINE, "sku": "a\u0085b"}]}, "/lines/0/sku"),
    (LINES, {"lines": [LINE], "ttl_seconds": 5}, "/ttl_seconds"),
    (SHORT, {"lines": []}, "/lines"),
    (SHORT, {"lines": [{**LINE, "location": "x" * 65}]}, "/lines/0/location"),
    (BATCH, {"operations": []}, "/operations"),
    (BATCH, {"operations": [{"op": "release", "id": ID}] * 257}, "/operations"),
    (BATCH, {"operations": [{"op": "steal"}]}, "/operations/0/op"),
    (QUERY, {"skus": []}, "/skus"),
    (QUERY, {"skus": ["A"] * 1001}, "/skus"),
    (QUERY, {"skus": ["A", "a\u0000"]}, "/skus/1"),
    (QUERY, {"skus": ["A", 7]}, "/skus/1"),
    (QUERY, {"skus": ["A"], "locations": ["a b"]}, "/locations/0"),
    (QUERY, {"skus": ["A"], "detail": 1}, "/detail"),
    (MOVE, {"movements": []}, "/movements"),
    (MOVE, {"movements": [MOVEMENT] * 5001}, "/movements"),
    (MOVE, {"movements": [MOVEMENT, {**MOVEMENT, "id": ""}]}, "/movements/1/id"),
    (MOVE, {"movements": [{**MOVEMENT, "id": "x" * 256}]}, "/movements/0/id"),
    (MOVE, {"movements": [{**MOVEMENT, "kind": "theft"}]}, "/movements/0/kind"),
    (MOVE, {"movements": [{**MOVEMENT, "quantity": 0}]}, "/movements/0/quantity"),
    (MOVE, {"movements": [{**MOVEMENT, "quantity": -1}]}, "/movements/0/quantity"),
    (MOVE, {"movements": [{**MOVEMENT, "kind": "sale", "quantity": -1}]}, "/movements/0/quantity"),
    (MOVE, {"movements": [{**MOVEMENT, "kind": "adjust", "quantity": 0}]}, "/movements/0/quantity"),
    (MOVE, {"movements": [MOVEMENT] * 3 + [{**MOVEMENT, "quantity": 10**12}]}, "/movements/3/quantity"),
    (MOVE, {"movements": [{**MOVEMENT, "sku": "\u0000"}]}, "/movements/0/sku"),
    (MOVE, {"movements": [{**MOVEMENT, "location": "../x"}]}, "/movements/0/location"),
    (MOVE, {"movements": [{**MOVEMENT, "occurred_at": "yesterday"}]}, "/movements/0/occurred_at"),
    (MOVE, {"movements": [{**MOVEMENT, "occurred_at": "2026-01-01T00:00:00"}]}, "/movements/0/occurred_at"),
    (MOVE, {"movements": [{**MOVEMENT, "price": 1}]}, "/movements/0/price"),
    (TRANSFERS, {**SENT, "from": "a b"}, "/from"),
    (TRANSFERS, {**SENT, "to": "s7"}, "/to"),
    (TRANSFERS, {**SENT, "lines": []}, "/lines"),
    (TRANSFERS, {**SENT, "lines": [GOODS] * 201}, "/lines"),
    (TRANSFERS, {**SENT, "lines": [GOODS, {**GOODS, "quantity": 0}]}, "/lines/1/quantity"),
    (TRANSFERS, {**SENT, "lines": [GOODS, {**GOODS, "quantity": 10**9}]}, "/lines/1/quantity"),
    (TRANSFERS, {**SENT, "lines": [{**GOODS, "sku": "a\nb"}]}, "/lines/0/sku"),
    (TRANSFERS, {**SENT, "lines": [{**GOODS, "location": "s7"}]}, "/lines/0/location"),
    (TRANSFERS, {**SENT, "expected_at": "soon"}, "/expected_at"),
    (TRANSFERS, {**SENT, "expected_at": "1969-12-31T23:59:59Z"}, "/expected_at"),
    (TRANSFERS, {**SENT, "reference": "x" * 256}, "/reference"),
    (TRANSFERS, {**SENT, "source": "s7"}, "/source"),
    (RECEIVE, {"lines": []}, "/lines"),
    (RECEIVE, {"lines": [{**GOODS, "quantity": -1}]}, "/lines/0/quantity"),
    (RECEIVE, {"close": 1}, "/close"),
    (RECEIVE, {"open": True}, "/open"),
    (f"/v1/transfers/{TRANSFER}/ship", {"lines": [GOODS]}, "/lines"),
    (f"/v1/transfers/{TRANSFER}/cancel", {"close": True}, "/close"),
    (INBOUNDS, {**EXPECTED, "quantity": 0}, "/quantity"),
    (INBOUNDS, {**EXPECTED, "location": "a b"}, "/location"),
    (INBOUNDS, {**EXPECTED, "sku": "a\u0000"}, "/sku"),
    (INBOUNDS, {**EXPECTED, "kind": "gift"}, "/kind"),
    (INBOUNDS, {**EXPECTED, "expected_at": "2030-01-01T00:00:00"}, "/expected_at"),
    (INBOUNDS, {**EXPECTED, "expected_at": "9999-12-31T23:59:59-01:00"}, "/expected_at"),
    (INBOUNDS, {**EXPECTED, "price": 1}, "/price"),
    (RECEIVE_INBOUND, {"quantity": 0}, "/quantity"),
    (RECEIVE_INBOUND, {"quantity": 1, "close": "yes"}, "/close"),
    (f"/v1/inbound/{INBOUND}/cancel", {"quantity": 1}, "/quantity"),
    (MOVE, {"movements": [{**MOVEMENT, "occurred_at": "1969-12-31T23:59:59Z"}]}, "/movements/0/occurred_at"),
    (MOVE, {"movements": [{**MOVEMENT, "condition": ""}]}, "/movements/0/condition"),
    (MOVE, {"movements": [{**MOVEMENT, "condition": "so so"}]}, "/movements/0/condition"),
    (MOVE, {"movements": [{**MOVEMENT, "to_condition": "lost"}]}, "/movements/0/to_condition"),
    (MOVE, {"movements": [{**MOVEMENT, "reservation": "order-7"}]}, "/movements/0/reservation"),
    (MOVE, {"movements": [{**CONDITION, "condition": "lost"}]}, "/movements/0/to_condition"),
    (MOVE, {"movements": [{**CONDITION, "to_condition": "sellable"}]}, "/movements/0/to_condition"),
    (MOVE, {"movements": [{**CONDITION, "quantity": -1}]}, "/movements/0/quantity"),
    (COUNTS, {"counts": []}, "/counts"),
    (COUNTS, {"counts": [COUNT] * 5001}, "/counts"),
    (COUNTS, {"counts": [COUNT, {**COUNT, "id": ""}]}, "/counts/1/id"),
    (COUNTS, {"counts": [{**COUNT, "quantity": -1}]}, "/counts/0/quantity"),
    (COUNTS, {"counts": [{**COUNT, "quantity": 10**15 + 1}]}, "/counts/0/quantity"),
    (COUNTS, {"counts": [{**COUNT, "quantity": 1.5}]}, "/counts/0/quantity"),
    (COUNTS, {"counts": [{**COUNT, "sku": "a\nb"}]}, "/counts/0/sku"),
    (COUNTS, {"counts": [{**COUNT, "location": "../x"}]}, "/counts/0/location"),
    (COUNTS, {"counts": [{**COUNT, "counted_at": "yesterday"}]}, "/counts/0/counted_at"),
    (COUNTS, {"counts": [{**COUNT, "counted_at": "2026-01-01T00:00:00"}]}, "/counts/0/counted_at"),
    (COUNTS, {"counts": [{**COUNT, "counted_at": "1969-01-01T00:00:00Z"}]}, "/counts/0/counted_at"),
    (COUNTS, {"counts": [{**COUNT, "kind": "sale"}]}, "/counts/0/kind"),
    (PLACE, {"kind": "moon"}, "/kind"),
    (PLACE, {"kind": "store", "lat": 91}, "/lat"),
    (PLACE, {"kind": "store", "lon": "x"}, "/lon"),
    (PLACE, {"kind": "store", "capabilities": ["fly"]}, "/capabilities/0"),
    (PLACE, {"kind": "store", "gln": "12"}, "/gln"),
    (PLACE, {"kind": "store", "gln": "1234567890123\n"}, "/gln"),
    (PLACE, {"kind": "store", "gln": "4000001000006"}, "/gln"),
    (PLACE, {"kind": "store", "lat": -90.5, "lon": 1}, "/lat"),
    (PLACE, {"kind": "store", "lat": 1}, "/lon"),
    (PLACE, {"kind": "store", "lon": 1}, "/lat"),
    (PLACE, {"kind": "store", "lat": 1, "lon": 180.5}, "/lon"),
    (PLACE, {"kind": "store", "time_zone": "Mars/Olympus"}, "/time_zone"),
    (PLACE, {"kind": "store", "time_zone": ""}, "/time_zone"),
    (PLACE, {"kind": "store", "priority": 1_000_001}, "/priority"),
    (PLACE, {"kind": "store", "policy": {"safety_stock": -1}}, "/policy/safety_stock"),
    (PLACE, {"kind": "store", "policy": {"fenced": 1}}, "/policy/fenced"),
    (POOL, {"locations": []}, "/locations"),
    (POOL, {"locations": ["s"] * 2001}, "/locations"),
    (POOL, {"locations": ["s1", "a b"]}, "/locations/1"),
    (POOL, {"locations": ["s1"], "name": "x"}, "/name"),
    (CHANNEL, {"pools": []}, "/pools"),
    (CHANNEL, {"pools": [7]}, "/pools/0"),
    (CHANNEL, {"pools": ["p"], "buffer": {}}, "/buffer"),
    (CHANNEL, {"pools": ["p"], "buffer": {"units": 1, "percent": 1}}, "/buffer"),
    (CHANNEL, {"pools": ["p"], "buffer": {"units": -1}}, "/buffer/units"),
    (CHANNEL, {"pools": ["p"], "buffer": {"percent": 101}}, "/buffer/percent"),
    (CHANNEL, {"pools": ["p"], "buffer": {"share": 1}}, "/buffer/share"),
    (ITEM, {"name": "x" * 256}, "/name"),
    (ITEM, {"unit": 7}, "/unit"),
    (ITEM, {"gtins": ["4006381333931", "4006381333932"]}, "/gtins/1"),
    (ITEM, {"gtins": ["400638133"]}, "/gtins/0"),
    (ITEM, {"gtins": ["40063813339x1"]}, "/gtins/0"),
    (ITEM, {"gtins": ["40170725"] * 51}, "/gtins"),
    (ITEM, {"components": [{"sku": "A"}]}, "/components/0/quantity"),
    (ITEM, {"components": [{"sku": "A", "quantity": 0}]}, "/components/0/quantity"),
    (ITEM, {"components": [{"sku": "", "quantity": 1}]}, "/components/0/sku"),
    (ITEM, {"components": [{"sku": "nowhere", "quantity": 1}]}, "/components/0/sku"),
    (ITEM, {"components": [{"sku": "A", "quantity": 1}] * 2}, "/components/1/sku"),
    (ITEM, {"components": [{"sku": f"A{n}", "quantity": 1} for n in range(51)]}, "/components"),
    (ITEM, {"tracked": None}, "/tracked"),
    (ITEM, {"sku": "other"}, "/sku"),
]


@pytest.mark.parametrize(
    ("path", "body", "pointer"), INVALID_FIELDS, ids=[f"{path}{at}" for path, _, at in INVALID_FIELDS]
)
def test_a_field_that_breaks_a_rule(service: Service, path: str, body: object, pointer: str) -> None:
    method = "PUT" if path in {PLACE, POOL, CHANNEL, ITEM, LINES} else "POST"
    answer = service.ask(method, path, body, {"Idempotency-Key": fresh_key()})
    expect_problem(answer, 422, "invalid_request", instance=path, pointer=pointer)


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/v1/availability/x?nonsense=1", "?nonsense"),
        ("/v1/availability/x?quantity=0", "?quantity"),
        ("/v1/availability/x?quantity=", "?quantity"),
        ("/v1/availability/x?quantity=1e3", "?quantity"),
        ("/v1/availability/x?quantity=1000000001", "?quantity"),
        ("/v1/availability/x?quantity=99999999999999999999", "?quantity"),
        ("/v1/availability/a%00b", "/sku"),
        ("/v1/availability/a%0Ab", "/sku"),
        ("/v1/availability/" + "x" * 65, "/sku"),
        ("/v1/availability/%FF", ""),
        ("/v1/availability/x?location=a%20b", "/location"),
        ("/v1/availability/x?owner=" + "x" * 256, "?owner"),
        ("/v1/availability/x?explain=yes", "?explain"),
        ("/v1/availability/x?explain=", "?explain"),
        ("/v1/reservations?limit=0", "?limit"),
        ("/v1/reservations?limit=1001", "?limit"),
        ("/v1/reservations?limit=1&limit=2", "?limit"),
        ("/v1/reservations?state=lost", "?state"),
        ("/v1/reservations?state=", "?state"),
        ("/v1/reservations?sku=", "?sku"),
        ("/v1/reservations?sku=a%00b", "?sku"),
        ("/v1/reservations?sku=" + "x" * 65, "?sku"),
        ("/v1/reservations?location=a%20b", "?location"),
        ("/v1/reservations?owner=" + "x" * 256, "?owner"),
        ("/v1/reservations?reference=" + "x" * 256, "?reference"),
        ("/v1/reservations?cursor=", "?cursor"),
        ("/v1/reservations?cursor=%2A", "?cursor"),
        ("/v1/reservations?cursor=%C3%A4", "?cursor"),
        ("/v1/reservations?cursor=" + "A" * 43, "?cursor"),
        ("/v1/reservations?cursor=" + "A" * 5000, "?cursor"),
        ("/v1/reservations?owner=%FF", ""),
        ("/v1/reservations?page=2", "?page"),
        ("/v1/stock/x/y/holders?limit=0", "?limit"),
        ("/v1/stock/x/y/holders?page=2", "?page"),
        ("/v1/stock/a%00b", "/sku"),
        ("/v1/stock/%C3", ""),
        ("/v1/stock/x?nonsense=1", "?nonsense"),
        ("/v1/locations?limit=0", "?limit"),
        ("/v1/locations?limit=1001", "?limit"),
        ("/v1/locations?limit=x", "?limit"),
        ("/v1/locations?limit=1&limit=2", "?limit"),
        ("/v1/locations?cursor=%2A", "?cursor"),
        ("/v1/locations?cursor=", "?cursor"),
        ("/v1/locations?page=2", "?page"),
        ("/v1/pickups", "?location"),
        ("/v1/pickups?location=a%20b", "?location"),
        ("/v1/pickups?location=s7&state=lost", "?state"),
        ("/v1/pickups?location=s7&limit=0", "?limit"),
        ("/v1/pickups?location=s7&cursor=%2A", "?cursor"),
        ("/v1/counts/wanted?limit=0", "?limit"),
        ("/v1/counts/wanted?location=a%20b", "?location"),
        ("/v1/counts/wanted?sku=a", "?sku"),
        ("/v1/locations/%FF", ""),
        ("/v1/items?limit=0", "?limit"),
        ("/v1/pools?cursor=%2A", "?cursor"),
        ("/v1/channels?page=2", "?page"),
        ("/v1/availability/x/nearby", "?lat"),
        ("/v1/availability/x/nearby?lat=1", "?lon"),
        ("/v1/availability/x/nearby?lat=91&lon=1", "?lat"),
        ("/v1/availability/x/nearby?lat=1&lon=-180.1", "?lon"),
        ("/v1/availability/x/nearby?lat=nan&lon=1", "?lat"),
        ("/v1/availability/x/nearby?lat=1_0&lon=1", "?lat"),
        ("/v1/availability/x/nearby?lat=&lon=1", "?lat"),
        ("/v1/availability/x/nearby?lat=1&lon=1&lon=1", "?lon"),
        ("/v1/availability/x/nearby?lat=1&lon=1&radius_km=0", "?radius_km"),
        ("/v1/availability/x/nearby?lat=1&lon=1&radius_km=20041", "?radius_km"),
        ("/v1/availability/x/nearby?lat=1&lon=1&quantity=0", "?quantity"),
        ("/v1/availability/x/nearby?lat=1&lon=1&limit=0", "?limit"),
        ("/v1/availability/x/nearby?lat=1&lon=1&capability=fly", "?capability"),
        ("/v1/availability/a%00b/nearby?lat=1&lon=1", "/sku"),
        ("/v1/transfers?limit=0", "?limit"),
        ("/v1/transfers?cursor=%2A", "?cursor"),
        ("/v1/transfers?cursor=eCB5", "?cursor"),
        ("/v1/transfers?state=lost", "?state"),
        ("/v1/transfers?sku=x", "?sku"),
        ("/v1/inbound?limit=1001", "?limit"),
        ("/v1/inbound?cursor=", "?cursor"),
        ("/v1/inbound?sku=", "?sku"),
        ("/v1/inbound?location=a%20b", "?location"),
        ("/v1/inbound?state=expected", "?state"),
        ("/v1/atp/x?days=0", "?days"),
        ("/v1/atp/x?days=367", "?days"),
        ("/v1/atp/x?days=1e1", "?days"),
        ("/v1/atp/x?location=a%20b", "?location"),
        ("/v1/atp/x?nonsense=1", "?nonsense"),
        ("/v1/atp/x?pool=a%20b", "?pool"),
        ("/v1/atp/x?channel=web&location=s7", "?channel"),
        ("/v1/atp/a%00b", "/sku"),
    ],
)
def test_a_parameter_that_breaks_a_rule(service: Service, path: str, pointer: str) -> None:
    answer = service.ask("GET", path)
    expect_problem(answer, 422, "invalid_request", instance=path.partition("?")[0], pointer=pointer)


@pytest.mark.parametrize("path", ["/v1/locations/a%20b", "/v1/locations/" + "x" * 65, "/v1/locations/a%2Fb"])
def test_a_location_id_that_breaks_a_rule(service: Service, path: str) -> None:
    expect_problem(service.ask("PUT", path, {"kind": "store"}), 422, "invalid_request", pointer="/id")
    expect_problem(service.ask("GET", path), 404, "location_not_found")


@pytest.mark.parametrize(("method", "path"), BODY_ROUTES)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_a_body_that_is_not_said_to_be_json(service: Service, method: str, path: str, kind: str) -> None:
    headers = {"Idempotency-Key": fresh_key(), "Content-Type": kind}
    expect_problem(service.ask(method, path, b"{}", headers), 415, "unsupported_media_type", instance=path)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_a_body_that_is_said_to_be_json(service: Service, kind: str) -> None:
    answer = service.ask("POST", QUERY, b'{"skus": ["A"]}', {"Content-Type": kind})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path"), [*BODY_ROUTES, *(("GET", path) for path in JSON_READS), ("DELETE", PLACE)]
)
@pytest.mark.parametrize("accept", ["text/html", "image/png, text/csv"])
def test_a_caller_that_takes_no_json(service: Service, method: str, path: str, accept: str) -> None:
    body = None if method in {"GET", "DELETE"} else {}
    answer = service.ask(method, path, body, {"Idempotency-Key": fresh_key(), "Accept": accept})
    expect_problem(answer, 406, "not_acceptable", instance=path.partition("?")[0])


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/*",
        "application/json",
        "APPLICATION/JSON",
        "text/html, */*;q=0.1",
        "application/problem+json",
    ],
)
def test_a_caller_that_takes_json(service: Service, accept: str) -> None:
    assert service.ask("GET", "/v1/locations", None, {"Accept": accept}).status == 200
    expect_problem(
        service.ask("GET", "/v1/availability/none", None, {"Accept": accept}), 404, "sku_not_found"
    )


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/reservations/batch", {"POST"}),
        ("DELETE", "/v1/reservations", {"GET", "HEAD", "POST"}),
        ("PUT", f"/v1/reservations/{ID}", {"GET", "HEAD"}),
        ("GET", COMMIT, {"POST"}),
        ("PATCH", EXTEND, {"POST"}),
        ("GET", ELSEWHERE, {"POST"}),
        ("POST", LINES, {"PUT"}),
        ("POST", "/v1/counts/wanted", {"GET", "HEAD"}),
        ("POST", "/v1/availability/x", {"GET", "HEAD"}),
        ("DELETE", QUERY, {"GET", "HEAD", "POST"}),
        ("DELETE", MOVE, {"GET", "HEAD", "POST"}),
        ("POST", "/v1/stock/x", {"GET", "HEAD"}),
        ("POST", PLACE, {"GET", "HEAD", "PUT", "DELETE"}),
        ("PUT", "/v1/locations", {"GET", "HEAD"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("DELETE", "/metrics", {"GET", "HEAD"}),
        ("OPTIONS", "/openapi.json", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_an_address_does_not_take(
    service: Service, method: str, path: str, allow: set[str]
) -> None:
    answer = service.ask(method, path)
    expect_problem(answer, 405, "method_not_allowed", instance=path)
    assert set(answer.headers["allow"].split(", ")) == allow


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/nope",
        "/v1/locations/",
        "/v1/stock/",
        f"/v1/reservations/{ID}/steal",
        "/v1/reservations/x/y/z",
        "/v1/availability/",
        "/v1/availability/a/b/c",
        "/v1/reservationsx",
        "/problems/nonsense",
        "/docs/x",
    ],
)
def test_an_address_that_leads_nowhere(service: Service, path: str) -> None:
    expect_problem(service.ask("GET", path), 404, "not_found", instance=path)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", RESERVE), ("POST", BATCH), ("POST", MOVE), ("PUT", PLACE)]
)
def test_a_body_that_is_too_large(service: Service, method: str, path: str) -> None:
    raw = b'{"x":"' + b"x" * DEFAULT.max_body_bytes + b'"}'
    answer = service.ask(method, path, raw, {"Idempotency-Key": fresh_key()})
    expect_problem(answer, 413, "payload_too_large", instance=path)


@pytest.mark.parametrize("text", ["0" * 10 + "1", "000019999", "1" * 4400, "0" * 4400 + "1"])
def test_a_number_with_many_digits(service: Service, text: str) -> None:
    """Python refuses to read some of them; cut off, some would pass."""
    answer = service.ask("GET", f"/v1/locations?limit={text}")
    expect_problem(answer, 422, "invalid_request", pointer="?limit")
    text = text.rjust(12, "0")
    answer = service.ask("GET", f"/v1/availability/none?quantity={text}")
    expect_problem(answer, 422, "invalid_request", pointer="?quantity")


def test_nested_too_deeply(service: Service) -> None:
    raw = b'{"lines": [{"sku": "x", "quantity": 1, "location": "y"}], "metadata": {"a": %b}}'
    answer = service.ask(
        "POST", "/v1/reservations", raw % (b"[" * 5000 + b"]" * 5000), {"Idempotency-Key": fresh_key()}
    )
    detail = expect_problem(answer, 400, "malformed_json")["detail"]
    assert detail == "the body is nested too deeply: metadata at the most 16 deep, nothing else"


@pytest.mark.parametrize("is_batch", [False, True])
@pytest.mark.parametrize("is_array", [False, True])
@pytest.mark.parametrize("levels", [2, 16, 17, 300])
def test_how_deep_metadata_may_be(service: Service, levels: int, *, is_array: bool, is_batch: bool) -> None:
    """As deep as the limit it is kept as it came; deeper, it is refused by name."""
    assert MOST_DEPTH == MAX_METADATA_DEPTH == 16
    sku, location = service.stocked()
    nested: object = "x"
    for _ in range(levels - 1):
        nested = [1, nested] if is_array else {"a": 1, "b": nested}
    line = {"sku": sku, "quantity": 1, "location": location}
    body: dict[str, Any] = {"lines": [line], "metadata": {"first": "flat", "deep": nested}}
    key = {"Idempotency-Key": fresh_key()}
    if is_batch:
        operation = {"op": "reserve", "key": fresh_key(), "body": body}
        (told,) = service.ask("POST", BATCH, {"operations": [operation]}, key).json()["results"]
        status, found = told["status"], told["body"]
    else:
        answer = service.ask("POST", RESERVE, body, key)
        status, found = answer.status, answer.json()
    if levels <= 16:
        assert (status, found["metadata"]) == (201, body["metadata"])
    else:
        assert (status, found["code"]) == (422, "invalid_request")
        (error,) = found["errors"]
        assert (error["pointer"].rpartition("/")[2], error["detail"]) == (
            "metadata",
            "nested at the most 16 deep",
        )


class _Broken:
    """An inventory that fails as nobody foresaw."""

    settings = SimpleNamespace(peek=object)

    async def release(self, *_: object, **__: object) -> None:
        raise KeyError("gone")

    def needs_sourcing(self, *_: object) -> bool:
        return False

    record_many = reserve_many = release


async def test_a_fault_in_a_batch_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    request = Request("POST", "/v1/reservations/batch", b"", {})
    request.request_id = "mine"
    request.body = b'{"operations": [{"op": "release", "id": "r_x"}]}'
    status, body, _ = await Hot(cast("Any", _Broken())).batch(request)
    assert (status, b"internal_error" in body) == (207, True)
    (record,) = caplog.records
    assert "mine" in record.getMessage()
    assert record.exc_info is not None


async def test_a_fault_in_reserves_is_told_for_each(caplog: pytest.LogCaptureFixture) -> None:
    request = Request("POST", "/v1/reservations/batch", b"", {})
    line = b'{"sku": "a", "quantity": 1, "location": "b"}'
    one = b'{"op": "reserve", "key": "k", "body": {"lines": [%b]}}' % line
    request.body = b'{"operations": [%b, {"op": "reserve"}, %b]}' % (one, one)
    status, body, _ = await Hot(cast("Any", _Broken())).batch(request)
    results = json.loads(body)["results"]
    assert (status, [result["status"] for result in results]) == (207, [500, 400, 500])
    assert len(caplog.records) == 2


async def test_a_fault_in_a_movement_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    request = Request("POST", "/v1/stock/movements", b"", {})
    request.request_id = "mine"
    raw = b'{"movements": [{"id": "a", "kind": "receive", "sku": "a", "location": "b", "quantity": 1}]}'

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": [], "state": {"request": request}}
    scope["app"] = SimpleNamespace(state=SimpleNamespace(limits=DEFAULT))
    answer = await Movements(cast("Any", _Broken())).record(starlette.requests.Request(scope, receive))
    assert (answer.status_code, b"internal_error" in answer.body) == (207, True)
    (record,) = caplog.records
    assert "mine" in record.getMessage()
    assert record.exc_info is not None
