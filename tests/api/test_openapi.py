"""The OpenAPI document tells of every route and of no other, and the server keeps to it."""

import ast
import inspect
import json
import re
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api import hot
from api.admission import Admission
from api.cold import create_cold_app
from api.gate import Gate
from api.limits import DEFAULT
from api.metrics import HttpMetrics
from api.openapi import build_document, problems_of
from api.operations import OPERATIONS
from api.problems import PROBLEMS
from api.remedies import REMEDIES, RETRIES
from api.routes.documentation import ASSETS, FILES
from api.watch import Watch
from engine.outcomes import Retry
from tests.api.service import Service, fresh_key

DOCUMENT = json.loads(build_document("1.2.3"))
IN_DOCUMENT = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
EXAMPLE_VALUES = {"channel": "web", "sku": "x", "location": "y", "id": "r_x", "code": "z", "asset": "a"}


class _NoInventory:
    """Routes are built, never called."""

    metrics = None
    is_connected = False


def _hot_routes() -> set[tuple[str, str]]:
    """What the hot table finds for every path that is spelled in it or in the document."""
    table = hot.Hot(_NoInventory())  # type: ignore[arg-type] - never called
    source = inspect.getsource(hot)
    spelled = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/v1/")
    }
    spelled |= {"/v1/reservations/{id}/" + verb for verb in table._verbs}
    routes = set()
    for template in spelled | {path for _, path in IN_DOCUMENT}:
        found = table.find(template.format(**EXAMPLE_VALUES))
        if found is not None:
            routes |= {(method, found[0]) for method in found[1]}
    # A SKU may be called `query`: that is the route of a SKU, not one of its own.
    # Its rule is in the table all the same.
    assert set(table.routes()) == {(path, method) for method, path in routes}
    return routes - {("GET", "/v1/availability/query")}


def _cold_routes() -> set[tuple[str, str]]:
    app = create_cold_app(
        _NoInventory(),
        HttpMetrics(),
        Admission(),
        Watch(DEFAULT, 1),
        Gate(None),
        durability="none",
        worker=0,
    )  # type: ignore[arg-type] - never called
    return {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute)
        for method in route.methods - {"HEAD"}
    }


def test_every_route_is_in_the_document_and_no_other() -> None:
    assert _hot_routes() | _cold_routes() == IN_DOCUMENT
    assert not _hot_routes() & _cold_routes()


def test_every_reference_leads_somewhere() -> None:
    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        if isinstance(node, list):
            return [found for value in node for found in references(value)]
        return []

    for reference in references(DOCUMENT):
        at: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            at = at[step]


def test_operation_ids_are_unique() -> None:
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))


def test_parameters_of_a_path_are_described() -> None:
    for operation in OPERATIONS:
        in_path = {one.name for one in operation.parameters if one.place == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", operation.path)), operation.path


def test_every_problem_is_documented() -> None:
    assert set(REMEDIES) == set(PROBLEMS)
    assert set(RETRIES) == set(Retry)
    assert set(DOCUMENT["components"]["examples"]) == set(PROBLEMS)
    told = {code for operation in OPERATIONS for code in problems_of(operation)}
    # These may befall any request, or come with a later release's routes.
    everywhere = {
        "malformed_request",
        "method_not_allowed",
        "request_timeout",
        "headers_too_large",
        "uri_too_long",
    }
    assert set(PROBLEMS) - told <= everywhere | {"draining", "quantity_out_of_range"}


@pytest.mark.parametrize("code", PROBLEMS)
def test_a_problem_has_a_page(hot_service: Service, code: str) -> None:
    answer = hot_service.ask("GET", f"/problems/{code}")
    assert answer.json()["code"] == code
    assert answer.json()["status"] == PROBLEMS[code].status
    page = hot_service.ask("GET", f"/problems/{code}", None, {"Accept": "text/html,*/*;q=0.8"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert code in page.body.decode()
    assert "$" not in page.body.decode()


def test_the_document_is_served(service: Service) -> None:
    answer = service.ask("GET", "/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    served = answer.json()
    assert served["openapi"] == "3.1.0"
    assert served["paths"] == json.loads(build_document("1", asks_keys=False))["paths"]
    start = service.ask("GET", "/")
    assert (start.status, start.headers["location"]) == (307, "/docs")


def test_the_page_needs_nothing_from_elsewhere(service: Service) -> None:
    page = service.ask("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name, media in ASSETS.items():
        assert f"/docs/{name}" in page.body.decode()
        assert service.ask("GET", f"/docs/{name}").headers["content-type"] == media
    for path in FILES.iterdir():
        assert not re.search(r"(?:https?:)?//[a-z]", path.read_text(encoding="utf-8")), path


def test_every_example_is_accepted(hot_service: Service) -> None:
    """The requests that the document shows, sent as they are shown, are understood."""
    hot_service.open_location("s7")
    hot_service.receive("A-1", "s7", 100)
    hot_service.open_location("w1")
    held = hot_service.reserve([("A-1", "s7", 2)]).json()["id"]
    goods = {"from": "w1", "to": "s7", "lines": [{"sku": "A-1", "quantity": 5}]}
    supply = {"sku": "A-1", "location": "s7", "quantity": 50, "expected_at": "2030-01-01T00:00:00Z"}
    for path, body in (
        ("pools/s7", {"locations": ["s7"]}),
        ("pools/online", {"locations": ["s7"]}),
        ("channels/s7", {"pools": ["s7"]}),
        ("channels/web", {"pools": ["s7"]}),
        ("items/A-1", {}),
        ("policies/A-1/s7", {"low_stock": 1}),
        ("fences/s7/A-1/s7", {"quantity": 1}),
    ):
        assert hot_service.ask("PUT", f"/v1/{path}", body).status in {200, 201}
    sent = hot_service.ask("POST", "/v1/transfers", goods, {"Idempotency-Key": "sent"}).json()["id"]
    ordered = hot_service.ask("POST", "/v1/inbound", supply, {"Idempotency-Key": "ordered"}).json()["id"]
    key = hot_service.ask(
        "POST", "/v1/keys", {"name": "a", "scopes": ["stock:read"]}, {"Idempotency-Key": fresh_key()}
    )
    assert key.status == 201, key
    ids = {"transfers": sent, "inbound": ordered, "reservations": held, "keys": key.json()["id"]}
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if method == "delete":
                continue
            body = None
            if "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]["example"]
            sku_path = path.format(sku="A-1", channel="s7", location="s7", code="unconfirmed",
                                   asset="docs.css",
                                   id=ids.get(f"{path}//".split("/")[2], "s7"))  # fmt: skip
            needed = [it for it in operation["parameters"] if it["in"] == "query" and it["required"]]
            if needed:
                sku_path += "?" + "&".join(f"{it['name']}={it['example']}" for it in needed)
            wants_key = any(it["in"] == "header" and it["required"] for it in operation["parameters"])
            headers = {"Idempotency-Key": fresh_key()} if wants_key or "transfers" in path else {}
            answer = hot_service.ask(method.upper(), sku_path, body, headers)
            described = operation["responses"]
            assert str(answer.status) in described, (path, answer)
            assert answer.status not in {400, 404, 405, 406, 415, 422}, (path, answer)
