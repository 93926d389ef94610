"""API keys: made, shown, rotated, revoked. Nobody sees or gives one that reaches further than the own."""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from fastapi import Request, Response

from api.access import Access, forbidden, grants
from api.gate import Gate
from api.key_forms import key_answer, made_answer, wish_of
from api.routes.exchange import (
    Route,
    access_of,
    check_request,
    json_response,
    path_value,
    query_values,
    read_json,
    read_json_or_nothing,
    read_limit,
    replay_headers,
    required_key,
)
from api.schemas import NoBody
from api.schemas_keys import KeyBody, RotateBody
from engine import Inventory
from engine.api_keys import Made, key_of
from engine.errors import KeyNotFound, Unavailable, Unconfirmed
from engine.types import ApiKey

_decode_key = msgspec.json.Decoder(KeyBody).decode
_decode_rotate = msgspec.json.Decoder(RotateBody).decode
_decode_nothing = msgspec.json.Decoder(NoBody).decode
NOT_CACHED = {"Cache-Control": "no-store"}


class Keys:
    """Keeps the keys of a data set."""

    def __init__(self, inventory: Inventory, gate: Gate) -> None:
        self._inventory = inventory
        self._gate = gate

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("GET", "HEAD"), "/v1/keys", self.page),
            Route(("POST",), "/v1/keys", self.create),
            Route(("GET", "HEAD"), "/v1/keys/{id}", self.read),
            Route(("POST",), "/v1/keys/{id}/rotate", self.rotate),
            Route(("POST",), "/v1/keys/{id}/revoke", self.revoke),
        )

    async def page(self, request: Request) -> Response:
        """Keys by id, those that have ended among them; a cursor is the last id of the page before."""
        check_request(request)
        query = query_values(request, "limit", "cursor")
        limit, access = read_limit(query), access_of(request)
        found = [key for key in await self._inventory.api_keys() if grants(access, key)]
        first = bisect_right([key.id for key in found], query.get("cursor", ""))
        page, now_ms = found[first : first + limit], await self._inventory.server_time()
        cursor = page[-1].id if len(found) > first + limit else None
        items = [key_answer(key, now_ms) for key in page]
        return json_response(200, {"items": items, "next_cursor": cursor})

    async def create(self, request: Request) -> Response:
        """Makes a key; only this answer has its text."""
        check_request(request)
        query_values(request)
        op_id, access = required_key(request), access_of(request)
        wish = wish_of(await read_json(request, _decode_key))
        if not grants(access, key_of(wish)):
            raise forbidden("a key can give no more than it has itself: scopes, locations, channels, time")
        made = await self._inventory.create_key(op_id, wish, caller=access.caller)
        return await self._made(201, made, {"Location": f"/v1/keys/{made.key.id}"})

    async def read(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        found = await self._find(access_of(request), path_value(request, "id"))
        return json_response(200, key_answer(found, await self._inventory.server_time()))

    async def rotate(self, request: Request) -> Response:
        """A new secret; what was good before ends, at once or after a grace."""
        check_request(request)
        query_values(request)
        op_id, access = required_key(request), access_of(request)
        body = await read_json_or_nothing(request, _decode_rotate, RotateBody())
        found = await self._find(access, path_value(request, "id"))
        made = await self._inventory.rotate_key(
            op_id, found.id, grace_seconds=body.grace_seconds, caller=access.caller
        )
        return await self._made(200, made, {})

    async def revoke(self, request: Request) -> Response:
        """Ends a key for good. A repeat keeps the first moment: it needs no key."""
        check_request(request)
        query_values(request)
        await read_json_or_nothing(request, _decode_nothing, NoBody())
        access = access_of(request)
        found = await self._find(access, path_value(request, "id"))
        revoked = await self._inventory.revoke_key(found.id, caller=access.caller)
        await self._renew()
        return json_response(200, key_answer(revoked, await self._inventory.server_time()))

    async def _find(self, access: Access, key: str) -> ApiKey:
        """Raises `KeyNotFound`, also for a key that reaches further than the caller's."""
        found = await self._inventory.api_key(key)
        if not grants(access, found):
            raise KeyNotFound(f"there is no key {key[:64]}")
        return found

    async def _made(self, status: int, made: Made, headers: dict[str, str]) -> Response:
        await self._renew()
        answer = made_answer(made, await self._inventory.server_time())
        replayed = replay_headers(made.text is None)
        return json_response(status, answer, {**headers, **NOT_CACHED, **replayed})

    async def _renew(self) -> None:
        # Who changed a key sees it at once, if it is this process that is asked. It is saved, anyhow.
        with suppress(Unavailable, Unconfirmed):
            await self._gate.renew()
