"""No SKU reaches the key of another, however it is spelled, and every one comes back as it went in."""

from urllib.parse import quote
from uuid import uuid4

import pytest
from redis import Redis

from engine import keys
from tests.api.service import Service, expect_problem, fresh_key
from tests.servers import Server

HOSTILE = [
    "{0}",
    "}{",
    "a:b:c",
    "inv:{0}:meta",
    "inv:{0}:sku:A",
    "a/b",
    "/",
    "//",
    "..",
    ".",
    "../../etc",
    "a%2Fb",
    "%",
    "%00",
    "a b",
    " ",
    "a?b=c",
    "a#b",
    "a&b",
    "a+b",
    "a\\b",
    '"',
    "'",
    "<b>",
    "${x}",
    "*",
    "[a]",
    "a-b",
    "schön",
    "商品",
    "📦",
    "é",
    "é",
    "A",
    "a",
    "query",
    "movements",
    "batch",
    "~._-",
    "x" * 64,
    "📦" * 64,
    "\\u0000",
    "null",
    "0",
]
NOT_PRINTABLE = [
    "a\nb",
    "\n",
    "a\rb",
    "a\tb",
    "\x00",
    "a\x7fb",
    "\u200b",
    "\u2028",
    "\u202e",
    "\u00a0",
    "\ue000",
]


@pytest.mark.parametrize("sku", HOSTILE, ids=ascii)
def test_a_sku_comes_back_as_it_went_in(service: Service, sku: str) -> None:
    location = service.open_location()
    service.receive(sku, location, 5)
    path = quote(sku, safe="")
    answer = service.ask("GET", f"/v1/availability/{path}?location={location}")
    assert answer.status == 200, answer
    assert (answer.json()["sku"], answer.json()["available"]) == (sku, 5)
    held = service.reserve([(sku, location, 2)])
    assert held.json()["lines"][0]["sku"] == sku
    position = service.position(sku, location)
    assert (position["on_hand"], position["held"], position["available"]) == (5, 2, 3)
    stock = service.ask("GET", f"/v1/stock/{path}").json()
    assert stock["sku"] == sku
    assert location in [one["location"] for one in stock["positions"]]
    query = service.ask("POST", "/v1/availability/query", {"skus": [sku], "locations": [location]}).json()
    assert (query["items"][0]["sku"], query["items"][0]["available"]) == (sku, 3)
    holders = service.ask("GET", f"/v1/stock/{path}/{location}/holders").json()["holders"]
    assert [(holder["reservation"], holder["held"]) for holder in holders] == [(held.json()["id"], 2)]
    assert service.ask("POST", f"/v1/reservations/{held.json()['id']}/release", {}).status == 200


def test_every_sku_has_stock_of_its_own(service: Service) -> None:
    """All at one location, each with another quantity: none adds to another."""
    location = service.open_location()
    expected = {sku: number for number, sku in enumerate(HOSTILE, 1)}
    movements = [
        {"id": fresh_key(), "kind": "receive", "sku": sku, "location": location, "quantity": quantity}
        for sku, quantity in expected.items()
    ]
    service.ask("POST", "/v1/stock/movements", {"movements": movements})
    assert {sku: service.position(sku, location)["on_hand"] for sku in expected} == expected


@pytest.mark.parametrize("sku", NOT_PRINTABLE, ids=ascii)
def test_a_sku_that_cannot_be_printed(service: Service, sku: str) -> None:
    movement = {"id": fresh_key(), "kind": "receive", "sku": sku, "location": "s7", "quantity": 1}
    answer = service.ask("POST", "/v1/stock/movements", {"movements": [movement]})
    expect_problem(answer, 422, "invalid_request", pointer="/movements/0/sku")
    expect_problem(service.reserve([(sku, "s7", 1)]), 422, "invalid_request", pointer="/lines/0/sku")
    answer = service.ask("GET", f"/v1/availability/{quote(sku, safe='')}")
    expect_problem(answer, 422, "invalid_request", pointer="/sku")
    answer = service.ask("POST", "/v1/availability/query", {"skus": ["A", sku]})
    expect_problem(answer, 422, "invalid_request", pointer="/skus/1")
    expect_problem(
        service.ask("GET", f"/v1/stock/{quote(sku, safe='')}"), 422, "invalid_request", pointer="/sku"
    )


@pytest.mark.one_server
def test_skus_make_no_keys_but_their_own(hot_service: Service, stock_server: Server) -> None:
    """Whatever SKUs there are, no key is added; each adds one field, and its name is the SKU."""
    with Redis.from_url(stock_server.url) as client:
        before, stock = set(client.keys()), keys.stock(0)
        location, mark = hot_service.open_location(), uuid4().hex[:8]
        skus = [f"{mark}{sku}"[:64] for sku in HOSTILE]
        for sku in skus:
            hot_service.receive(sku, location, 1)
        assert set(client.keys()) - before <= {stock.encode(), keys.stocked(0).encode()}
        made = {field.decode() for field in client.hkeys(stock) if field.startswith(mark.encode())}
    assert made == set(skus)
