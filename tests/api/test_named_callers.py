"""The ledger names the key of whoever caused an effect."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine import connect
from engine.events import (
    DocumentSaved,
    Event,
    FenceSaved,
    Moved,
    PolicySaved,
    Reserved,
    Resolved,
    SettingSaved,
    read_events,
)
from engine.ids import caller_mark, mark_of
from tests.api.keyed import Caller, Side, first_key, hold, id_of, open_side
from tests.api.service import fresh_key, running
from tests.servers import Server


@pytest.fixture(scope="module")
def admin(stock_server: Server) -> Iterator[Caller]:
    with running("hot", stock_server.url, 7, {"BINCARD_AUTH": "keys"}) as service:
        caller = Caller(service, first_key(stock_server.url))
        caller.until_seen(200)
        yield caller


@pytest.fixture(scope="module")
def side(admin: Caller) -> Side:
    return open_side(admin, f"sku-{fresh_key()}", "own", 37)


def test_of_effects_on_stock(admin: Caller, side: Side, stock_server: Server) -> None:
    """Of a reserve, of a step without an id of its own, of a fact: by the key's id."""
    caller = admin.with_key()
    held = hold(caller, side.sku, None, side.location)
    assert (
        caller.ask("POST", f"/v1/reservations/{held}/commit", None, {"Idempotency-Key": None}).status == 200
    )
    other = admin.with_key()
    other.ask("POST", f"/v1/reservations/{held}/fulfil", None, {"Idempotency-Key": fresh_key()})
    sku = f"sku-{fresh_key()}"
    goods = {"id": fresh_key(), "kind": "receive", "sku": sku, "location": side.location, "quantity": 1}
    other.post("/v1/stock/movements", {"movements": [goods]}, 207)
    callers = [mark for event in events(stock_server.url) if (mark := _mark(event, held, sku)) is not None]
    own, others = caller_mark(id_of(caller)), caller_mark(id_of(other))
    assert callers == [own, own, others, others]


def test_of_settings_and_documents(admin: Caller, side: Side, stock_server: Server) -> None:
    """Of every request that changes a setting, a policy, a fence, a document or a key: by the key's id."""
    caller, name = admin.with_key(), f"x{fresh_key()[:20]}"
    place, channel = {"kind": "store"}, {"pools": [name]}
    own, seen = caller_mark(id_of(caller)), len(events(stock_server.url))
    sku = side.sku
    asked: list[tuple[str, str, object, type[Event]]] = [
        ("PUT", f"/v1/locations/{name}", place, SettingSaved),
        ("PUT", f"/v1/pools/{name}", {"locations": [name]}, SettingSaved),
        ("PUT", f"/v1/channels/{name}", channel, SettingSaved),
        ("PUT", f"/v1/items/{name}", {}, SettingSaved),
        ("PUT", f"/v1/policies/{sku}/{side.location}", {"low_stock": 3}, PolicySaved),
        ("PUT", f"/v1/fences/{name}/{sku}/{side.location}", {"quantity": 1}, FenceSaved),
        ("DELETE", f"/v1/fences/{name}/{sku}/{side.location}", None, FenceSaved),
        ("DELETE", f"/v1/policies/{sku}/{side.location}", None, PolicySaved),
        ("DELETE", f"/v1/items/{name}", None, SettingSaved),
        ("DELETE", f"/v1/channels/{name}", None, SettingSaved),
        ("DELETE", f"/v1/pools/{name}", None, SettingSaved),
        ("DELETE", f"/v1/locations/{name}", None, SettingSaved),
        ("POST", "/v1/inbound", _order(sku, side.location), DocumentSaved),
        ("POST", "/v1/keys", {"name": "another", "scopes": ["audit:read"]}, SettingSaved),
    ]
    for method, path, body, _ in asked:
        status = caller.ask(method, path, body, {"Idempotency-Key": fresh_key()}).status
        assert status in {200, 201, 204}, (method, path, status)
    made = events(stock_server.url)[seen:]
    named = [event for event in made if _changer(event) == own]
    assert [type(event) for event in named] == [kind for _, _, _, kind in asked]
    made_key = named[-1]
    assert isinstance(made_key, SettingSaved)
    for verb in ("rotate", "revoke"):
        headers = {"Idempotency-Key": fresh_key()}
        assert caller.ask("POST", f"/v1/keys/{made_key.id}/{verb}", {}, headers).status == 200
    assert [_changer(event) for event in events(stock_server.url)[-2:]] == [own, own]


def _order(sku: str, location: str) -> object:
    """Goods that are on their way."""
    return {"sku": sku, "location": location, "quantity": 5, "expected_at": "2099-01-01T00:00:00Z"}


def _changer(event: Event) -> bytes | None:
    """Who made a change, as the event has it."""
    match event:
        case SettingSaved() | PolicySaved() | FenceSaved():
            return event.caller
        case DocumentSaved():
            return mark_of(event.operation)
    return None


def _mark(event: Event, held: str, sku: str) -> bytes | None:
    match event:
        case Reserved() if event.reservation == held:
            return mark_of(event.id)
        case Resolved() if event.reservation == held:
            return mark_of(event.operation)
        case Moved() if event.sku == sku:
            return mark_of(event.id)
    return None


def events(url: str) -> list[Event]:
    """All of the ledger."""

    async def read() -> list[Event]:
        inventory = await connect(url, create=False)
        try:
            topology, count = inventory.dataset.topology, inventory.dataset.partitions
            return [
                one
                for partition in range(count)
                async for one in read_events(topology, partition)
                if isinstance(one, Event)
            ]
        finally:
            await inventory.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, read()).result()
