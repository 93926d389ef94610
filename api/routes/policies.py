"""Policies of positions, and fences of channels."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Sequence

import msgspec
from fastapi import Request, Response

from api.replay.client import segment
from api.routes.exchange import (
    Route,
    access_of,
    check_request,
    json_response,
    path_value,
    query_values,
    read_json,
    read_limit,
    tagged_response,
)
from api.schemas_policies import FenceBody, PolicyBody
from engine import Fence, InvalidRequest, Inventory, Policy
from engine.errors import FenceNotFound, PolicyNotFound
from engine.planner import check_location, check_sku

_decode_policy = msgspec.json.Decoder(PolicyBody).decode
_decode_fence = msgspec.json.Decoder(FenceBody).decode


class Policies:
    """Reads and keeps policies and fences."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        policy, fence = "/v1/policies/{sku}/{location}", "/v1/fences/{channel}/{sku}/{location}"
        return (
            Route(("GET", "HEAD"), "/v1/policies", self.list_policies),
            Route(("GET", "HEAD"), policy, self.read_policy),
            Route(("PUT",), policy, self.save_policy),
            Route(("DELETE",), policy, self.delete_policy),
            Route(("GET", "HEAD"), "/v1/fences", self.list_fences),
            Route(("GET", "HEAD"), fence, self.read_fence),
            Route(("PUT",), fence, self.save_fence),
            Route(("DELETE",), fence, self.delete_fence),
        )

    # ---------------------------------------------------------------- policies

    async def list_policies(self, request: Request) -> Response:
        """By SKU and location."""
        check_request(request)
        query = query_values(request, "sku", "limit", "cursor")
        limit, after = read_limit(query), _read_cursor(query, 2)
        if "sku" in query:
            check_sku(query["sku"], "?sku")
        found = await self._inventory.policies(query.get("sku"))
        return _page(found, [(one.sku, one.location) for one in found], after, limit)

    async def read_policy(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        found = await self._inventory.policy(path_value(request, "sku"), path_value(request, "location"))
        return tagged_response(request, found, found)

    async def save_policy(self, request: Request) -> Response:
        """Creates (201) or replaces (200). A repeat replaces by the same: it needs no key."""
        check_request(request)
        body = await read_json(request, _decode_policy)
        sku, location = path_value(request, "sku"), path_value(request, "location")
        try:
            await self._inventory.policy(sku, location)
        except PolicyNotFound:
            status = 201
        else:
            status = 200
        policy = Policy(sku, location, body.safety_stock, body.backorder_limit, body.low_stock)
        saved = await self._inventory.save_policy(policy, caller=access_of(request).caller)
        return _saved(status, saved, "policies", sku, location)

    async def delete_policy(self, request: Request) -> Response:
        check_request(request)
        sku, location = path_value(request, "sku"), path_value(request, "location")
        await self._inventory.delete_policy(sku, location, caller=access_of(request).caller)
        return Response(status_code=204)

    # ---------------------------------------------------------------- fences

    async def list_fences(self, request: Request) -> Response:
        """By channel, SKU and location."""
        check_request(request)
        query = query_values(request, "channel", "sku", "limit", "cursor")
        limit, after = read_limit(query), _read_cursor(query, 3)
        if "channel" in query:
            check_location(query["channel"], "?channel")
        if "sku" in query:
            check_sku(query["sku"], "?sku")
        found = await self._inventory.fences(channel=query.get("channel"), sku=query.get("sku"))
        return _page(found, [(one.channel, one.sku, one.location) for one in found], after, limit)

    async def read_fence(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        found = await self._inventory.fence(*_fence_names(request))
        return tagged_response(request, found, found)

    async def save_fence(self, request: Request) -> Response:
        """Creates (201) or replaces (200). A repeat replaces by the same: it needs no key."""
        check_request(request)
        body = await read_json(request, _decode_fence)
        names = _fence_names(request)
        try:
            await self._inventory.fence(*names)
        except FenceNotFound:
            status = 201
        else:
            status = 200
        saved = await self._inventory.save_fence(
            *names, body.quantity, spill=body.spill, caller=access_of(request).caller
        )
        return _saved(status, saved, "fences", *names)

    async def delete_fence(self, request: Request) -> Response:
        check_request(request)
        await self._inventory.delete_fence(*_fence_names(request), caller=access_of(request).caller)
        return Response(status_code=204)


def _fence_names(request: Request) -> tuple[str, str, str]:
    return path_value(request, "channel"), path_value(request, "sku"), path_value(request, "location")


def _saved(status: int, saved: Policy | Fence, *names: str) -> Response:
    if status == 200:  # noqa: PLR2004 - replaced
        return json_response(status, saved)
    return json_response(status, saved, {"Location": "/v1/" + "/".join(map(segment, names))})


def _page(
    found: Sequence[Policy | Fence], names: Sequence[tuple[str, ...]], after: tuple[str, ...], limit: int
) -> Response:
    """What follows a place in a list whose names are in order."""
    first = bisect_right(names, after)
    page = found[first : first + limit]
    cursor = _cursor(names[first + limit - 1]) if len(found) > first + limit else None
    return json_response(200, {"items": page, "next_cursor": cursor})


def _cursor(names: Sequence[str]) -> str:
    return urlsafe_b64encode("\n".join(names).encode()).decode().rstrip("=")


def _read_cursor(query: dict[str, str], count: int) -> tuple[str, ...]:
    """The names that a page ended with; none where no cursor was sent."""
    if "cursor" not in query:
        return ()
    text = query["cursor"]
    try:
        names = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode().split("\n")
    except ValueError as error:
        raise InvalidRequest("?cursor", "use next_cursor of the page before") from error
    if len(names) != count or _cursor(names) != text:
        raise InvalidRequest("?cursor", "use next_cursor of the page before")
    return tuple(names)
