"""Who may do what: every operation of the document, asked with every kind of key."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from api.access import Scope
from api.openapi import build_document
from engine.api_keys import is_whole
from tests.api.keyed import (
    EVERYTHING,
    SEEN_SECONDS,
    Caller,
    Side,
    first_key,
    ghosts,
    hold,
    open_side,
    text_of,
)
from tests.api.service import Answer, Service, fresh_key, running
from tests.servers import Server

DOCUMENT = json.loads(build_document("1"))
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
GUARDED = [one for one in OPERATIONS if one[2]["security"]]
QUANTITY, OTHER_QUANTITY = 40, 77_041
"""Units at places of one's own, and at those of others."""
CHANGING = re.compile(
    r'"(?:request_id|version|created_at|expires_at|since|at)": ?"[^"]*"'
    r'|"(?:date|etag|x-request-id|content-length)": "[^"]*"'
    r"|[rti]_[A-Za-z0-9_-]{20}"
)
"""What differs between answers that say the same."""


class Shop(NamedTuple):
    """A worker, what is one's own and what is others'."""

    service: Service
    admin: Caller
    mine: Side
    theirs: Side
    split: str
    """A reservation at places of both."""


@pytest.fixture(scope="module", params=["hot", "asgi"])
def shop(request: pytest.FixtureRequest, stock_server: Server) -> Iterator[Shop]:
    with running(request.param, stock_server.url, 5, {"BINCARD_AUTH": "keys"}) as service:
        yield open_shop(service, stock_server)


def open_shop(service: Service, stock_server: Server) -> Shop:
    admin = Caller(service, first_key(stock_server.url))
    admin.until_seen(200)
    sku = f"sku-{fresh_key()}"
    mine = open_side(admin, sku, "mine", QUANTITY)
    theirs = open_side(admin, sku, "theirs", OTHER_QUANTITY)
    return Shop(service, admin, mine, theirs, hold(admin, sku, mine.channel, mine.location, theirs.location))


def requested(
    method: str, path: str, operation: Mapping[str, Any], side: Side, own: Side
) -> tuple[str, str, object]:
    """The example of an operation, about things of a side. What names none is about one's own."""
    names = {
        "s7": side.location,
        "w1": side.second,
        "A-1": side.sku,
        "web": side.channel,
        "online": side.pool,
    }
    ids = {"reservations": side.reservation, "transfers": side.transfer, "inbound": side.inbound,
           "locations": side.location, "pools": side.pool, "channels": side.channel}  # fmt: skip
    sent = path.format(sku=side.sku, channel=side.channel, location=side.location, code="forbidden",
                       asset="docs.css", id=ids.get(f"{path}//".split("/")[2], "aaaaaaaa"))  # fmt: skip
    query = []
    for one in operation["parameters"]:
        if one["in"] == "query" and one["name"] in {"location", "channel", "pool", "lat", "lon"}:
            if path.startswith("/v1/atp") and one["name"] != "location":
                continue
            known = {
                "location": side.location,
                "channel": side.channel,
                "pool": side.pool,
                "lat": "1",
                "lon": "1",
            }
            query.append(f"{one['name']}={known[one['name']]}")
    if query:
        sent += "?" + "&".join(query)
    body = None
    if "requestBody" in operation:
        example = operation["requestBody"]["content"]["application/json"]["example"]
        body = _renamed(example, names, side)
    return method, sent, body


def _renamed(node: Any, names: Mapping[str, str], side: Side) -> Any:  # noqa: ANN401 - JSON
    if isinstance(node, dict):
        renamed = {key: _renamed(value, names, side) for key, value in node.items()}
        if "op" in renamed:
            renamed["key"] = fresh_key()
        return renamed
    if isinstance(node, list):
        return [_renamed(value, names, side) for value in node]
    if isinstance(node, str) and node.startswith("r_"):
        return side.reservation
    return names.get(node, node) if isinstance(node, str) else node


def _ask(caller: Caller, asked: tuple[str, str, object]) -> Answer:
    method, path, body = asked
    return caller.ask(method, path, body, {"If-Match": "*"})


def test_nobody_gets_in_without_a_key_that_is_good(shop: Shop) -> None:
    """No key, a wrong, a truncated, a revoked and an expired one: one answer for all, at every operation."""
    right = shop.admin.key or ""
    revoked = shop.admin.with_key()
    shop.admin.post(f"/v1/keys/{(revoked.key or '')[4:12]}/revoke", {}, 200)
    rotated = shop.admin.with_key()
    old = rotated.key
    shop.admin.post(f"/v1/keys/{(old or '')[4:12]}/rotate", {}, 200)
    expired = expiring(shop)
    wrong = right[:13] + right[13:45][::-1] + right[45:]
    mistyped = right[:-1] + ("b" if right[-1] != "b" else "c")
    keys = [None, "", wrong, right[:-1], mistyped, right.upper(), revoked.key, old, expired, "x" * 5000]
    assert not is_whole(wrong)
    for operation in GUARDED:
        answers = [
            _ask(Caller(shop.service, key), requested(*operation, shop.mine, shop.mine)) for key in keys
        ]
        told = {CHANGING.sub("", text_of(answer)) for answer in answers}
        assert {answer.status for answer in answers} == {401}, operation[:2]
        assert len(told) == 1, told
        assert answers[0].headers["www-authenticate"].startswith("Bearer")
        assert answers[0].json()["code"] == "unauthenticated"
    for _, path, operation in OPERATIONS:
        if not operation["security"]:
            assert (
                Caller(shop.service, None).ask("GET", path.format(code="forbidden", asset="docs.css")).status
                < 400
            )


def expiring(shop: Shop) -> str | None:
    """A key that has expired."""
    lives_seconds = 5  # Long enough to be used once, on a slow machine too.
    end = datetime.now(UTC) + timedelta(seconds=lives_seconds)
    caller = shop.admin.with_key(expires_at=end.isoformat())
    assert caller.ask("GET", "/v1/reservations").status == 200
    caller.until_seen(401, lives_seconds + SEEN_SECONDS)
    return caller.key


def test_each_operation_needs_one_of_its_scopes(shop: Shop) -> None:
    """With all the others: 403, whatever is asked for."""
    callers: dict[frozenset[str], Caller] = {}
    for operation in GUARDED:
        scopes = frozenset(scope for one in operation[2]["security"] for scope in one["key"])
        assert scopes <= set(Scope)
        others = [scope for scope in EVERYTHING if scope not in scopes]
        if scopes not in callers:
            callers[scopes] = shop.admin.with_key(others)
        for side in (shop.mine, ghosts(shop.mine.sku)):
            answer = _ask(callers[scopes], requested(*operation, side, shop.mine))
            assert (answer.status, answer.json()["code"]) == (403, "forbidden"), operation[:2]


def leaks(shop: Shop, caller: Caller, others: Side, nothing: Side, hidden: set[str]) -> list[str]:
    """What a restricted caller learns of things that are not for it: asked for them, or around them.
    `nothing` has names that lead nowhere, where those of `others` must not be told from such.
    """
    found = []
    split = shop.mine._replace(reservation=shop.split)
    sides = (others, nothing, split) if shop.split in hidden else (others, nothing)
    for operation in GUARDED:
        if operation[1].startswith("/v1/keys"):
            continue
        asked = [requested(*operation, side, shop.mine) for side in sides]
        if operation[0] == "GET":
            names = shop.mine._asdict() | {"id": "x"}
            asked.append(("GET", operation[1].format(**names), None))
        answers = [_ask(caller, one) for one in asked]
        for one, answer in zip(asked, answers, strict=True):
            said, sent = text_of(answer), json.dumps(one)
            found += [f"{one}: {word} in {said}" for word in hidden if word in said and word not in sent]
        told = [_without_names(answer, side) for answer, side in zip(answers[:2], sides[:2], strict=True)]
        if told[0] != told[1]:
            found.append(f"{operation[:2]}: {told[0]} and of nothing {told[1]}")
    return found


def leaks_of_places(shop: Shop) -> list[str]:
    """What a key of some locations learns of the others."""
    caller = shop.admin.with_key(locations=[shop.mine.location, shop.mine.second])
    counts = {str(OTHER_QUANTITY - less) for less in range(3)}
    hidden = {*shop.theirs.names(), shop.split, f"owner-{shop.theirs.channel}", *counts}
    return leaks(shop, caller, shop.theirs, ghosts(shop.mine.sku), hidden)


def leaks_of_channels(shop: Shop) -> list[str]:
    """What a key of a channel learns of another channel."""
    caller = shop.admin.with_key(channels=[shop.mine.channel])
    theirs, ghost = shop.theirs, ghosts(shop.mine.sku)
    others, nothing = (
        shop.mine._replace(pool=side.pool, channel=side.channel, reservation=side.reservation)
        for side in (theirs, ghost)
    )
    hidden = {theirs.pool, theirs.channel, theirs.reservation, f"owner-{theirs.channel}"}
    return leaks(shop, caller, others, nothing, hidden)


def _without_names(answer: Answer, side: Side) -> str:
    said = CHANGING.sub("", text_of(answer))
    for field, name in zip(side._fields, side, strict=True):
        said = said.replace(name, field)
    return f"{answer.status} {said}"


def _state(shop: Shop) -> list[Any]:
    """What others have."""
    side, ask = shop.theirs, shop.admin.get
    positions = [ask(f"/v1/stock/{side.sku}/{place}") for place in (side.location, side.second)]
    for position in positions:
        position.pop("version")
    settings = [
        ask(f"/v1/locations/{side.location}"),
        ask(f"/v1/pools/{side.pool}"),
        ask(f"/v1/channels/{side.channel}"),
    ]
    papers = [ask(f"/v1/transfers/{side.transfer}"), ask(f"/v1/inbound/{side.inbound}")]
    held = [ask(f"/v1/reservations/{one}") for one in (side.reservation, shop.split)]
    return [positions, settings, papers, held]


def test_what_is_not_for_a_key_is_not_there(shop: Shop) -> None:
    """Of other locations, of another channel: answered as what never was, shown nowhere, unchanged."""
    before = _state(shop)
    assert leaks_of_places(shop) == []
    assert _state(shop) == before
    assert leaks_of_channels(shop) == []
    assert _state(shop)[3][0] == before[3][0]


def test_the_right_key_opens_everything(shop: Shop) -> None:
    """No operation is closed to a key with all scopes. It comes last: it changes what the others read."""
    for operation in GUARDED:
        answer = _ask(shop.admin, requested(*operation, shop.mine, shop.mine))
        assert answer.status not in {401, 403}, (operation[:2], answer)
        assert str(answer.status) in operation[2]["responses"], (operation[:2], answer)


def test_the_matrix_sees_a_leak(stock_server: Server) -> None:
    """A worker that forgets to look at the locations that a request names is found out."""
    with running("hot", stock_server.url, 6, {"BINCARD_AUTH": "keys", "BINCARD_TEST_LEAK": "1"}) as service:
        shop = open_shop(service, stock_server)
        assert any("/v1/stock/{sku}/{location}" in one for one in leaks_of_places(shop))
