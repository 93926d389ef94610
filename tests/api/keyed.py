"""A worker that asks for keys, and a shop of which some things are one caller's and some another's."""

import asyncio
import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from secrets import token_bytes
from typing import Any, NamedTuple
from uuid import uuid4

from api.access import Scope
from engine import connect
from engine.api_keys import Wish
from engine.ids import INBOUND_PREFIX, TRANSFER_PREFIX, document_id, reservation_id
from tests.api.service import Answer, Service, fresh_key

EVERYTHING = [scope.value for scope in Scope]
SEEN_SECONDS = 5.0
"""By when every worker knows of a change of a key."""
FAR = "2030-01-01T00:00:00Z"


def first_key(redis_url: str) -> str:
    """A key for everything, made as the command line makes it."""

    async def make() -> str:
        inventory = await connect(redis_url, create=False)
        try:
            made = await inventory.create_key(fresh_key(), Wish("first", tuple(EVERYTHING)))
        finally:
            await inventory.close()
        assert made.text is not None
        return made.text

    # A thread of its own: tests that run in a loop start workers too.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, make()).result()


class Caller:
    """Asks with a key, or with none."""

    def __init__(self, service: Service, key: str | None) -> None:
        self._service = service
        self.key = key

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str | None] | None = None
    ) -> Answer:
        """A header of None is not sent."""
        wanted = {"Idempotency-Key": fresh_key(), **(headers or {})}
        sent = {name: value for name, value in wanted.items() if value is not None}
        if self.key is not None:
            sent["Authorization"] = f"Bearer {self.key}"
        return self._service.ask(method, path, body, sent)

    def get(self, path: str) -> Any:  # noqa: ANN401 - a JSON document
        """What is there. It must be."""
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json()

    def put(self, path: str, body: object) -> None:
        answer = self.ask("PUT", path, body)
        assert answer.status in {200, 201}, answer

    def post(self, path: str, body: object, status: int = 201) -> Any:  # noqa: ANN401 - same
        answer = self.ask("POST", path, body)
        assert answer.status == status, answer
        return answer.json()

    def with_key(self, scopes: list[str] | None = None, **limits: object) -> "Caller":
        """Somebody with a new key."""
        body = {"name": "of a test", "scopes": scopes or EVERYTHING, **limits}
        return Caller(self._service, self.post("/v1/keys", body)["key"])

    def until_seen(self, status: int, seconds: float = SEEN_SECONDS) -> float:
        """Waits until the key is answered so; how long that took."""
        began = time.monotonic()
        while self.ask("GET", "/v1/reservations").status != status:
            assert time.monotonic() - began < seconds, f"not {status} after {seconds} s"
            time.sleep(0.05)
        return time.monotonic() - began


def id_of(caller: Caller) -> str:
    """The id in the text of its key."""
    return (caller.key or "")[4:12]


class Side(NamedTuple):
    """Names of one side of the shop: what exists there, or nothing of the kind."""

    sku: str
    location: str
    second: str
    pool: str
    channel: str
    reservation: str
    transfer: str
    inbound: str

    def names(self) -> set[str]:
        return set(self) - {self.sku}


def ghosts(sku: str) -> Side:
    """Names that nothing has."""
    mark = uuid4().hex[:8]
    words = [f"{word}-{mark}" for word in ("ghost", "ghost2", "ghosts", "ghostly")]
    return Side(
        sku,
        *words,
        reservation_id(0, token_bytes(12)),
        document_id(TRANSFER_PREFIX, 0, token_bytes(12)),
        document_id(INBOUND_PREFIX, 0, token_bytes(12)),
    )


def open_side(admin: Caller, sku: str, word: str, quantity: int) -> Side:
    """Locations, stock, and one of all that names them."""
    mark = uuid4().hex[:8]
    location, second, pool, channel = (f"{word}{kind}-{mark}" for kind in ("", "2", "s", "ly"))
    for place in (location, second):
        admin.put(f"/v1/locations/{place}", {"kind": "store", "capabilities": ["pickup"], "lat": 1, "lon": 1})
        goods = {"id": fresh_key(), "kind": "receive", "sku": sku, "location": place, "quantity": quantity}
        admin.post("/v1/stock/movements", {"movements": [goods]}, 207)
    admin.put(f"/v1/pools/{pool}", {"locations": [location, second]})
    admin.put(f"/v1/channels/{channel}", {"pools": [pool]})
    reservation = hold(admin, sku, channel, location)
    goods = {"from": location, "to": second, "lines": [{"sku": sku, "quantity": 1}]}
    transfer = admin.post("/v1/transfers", goods)["id"]
    supply = {"sku": sku, "location": location, "quantity": 3, "expected_at": FAR}
    inbound = admin.post("/v1/inbound", supply)["id"]
    return Side(sku, location, second, pool, channel, reservation, transfer, inbound)


def hold(caller: Caller, sku: str, channel: str | None, *places: str) -> str:
    """The id of a reservation of a unit at each place."""
    lines = [{"sku": sku, "quantity": 1, "location": place} for place in places]
    body = {"lines": lines, "channel": channel, "owner": f"owner-{channel}", "ttl_seconds": 3600}
    return str(caller.post("/v1/reservations", body)["id"])


def text_of(answer: Answer) -> str:
    """All that an answer says."""
    return json.dumps(dict(answer.headers)) + answer.body.decode()
