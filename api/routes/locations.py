"""Locations: the places that hold stock."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

from fastapi import Request, Response
from msgspec.structs import asdict

from api.codec import decode_location
from api.routes.exchange import (
    Route,
    check_request,
    json_response,
    path_value,
    query_values,
    read_json,
    read_limit,
)
from api.schemas import LocationBody
from engine import InvalidRequest, Inventory, Location
from engine.errors import LocationNotFound


class Locations:
    """Reads and keeps the settings of locations."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("GET", "HEAD"), "/v1/locations", self.page),
            Route(("GET", "HEAD"), "/v1/locations/{id}", self.read),
            Route(("PUT",), "/v1/locations/{id}", self.save),
            Route(("DELETE",), "/v1/locations/{id}", self.delete),
        )

    async def page(self, request: Request) -> Response:
        """Ids in order; a cursor is the last id of the page before."""
        check_request(request)
        query = query_values(request, "limit", "cursor")
        limit = read_limit(query)
        after = _read_cursor(query["cursor"]) if "cursor" in query else ""
        following = [place for place in await self._inventory.locations() if place.id > after]
        page = following[:limit]
        cursor = _cursor(page[-1].id) if len(following) > limit else None
        return json_response(200, {"items": page, "next_cursor": cursor})

    async def read(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        return json_response(200, await self._inventory.location(path_value(request, "id")))

    async def save(self, request: Request) -> Response:
        """Creates (201) or replaces (200). A repeat replaces by the same: it needs no key."""
        check_request(request)
        body = await read_json(request, decode_location)
        location = _as_location(path_value(request, "id"), body)
        try:
            await self._inventory.location(location.id)
        except LocationNotFound:
            created = True
        else:
            created = False
        saved = await self._inventory.save_location(location)
        if created:
            return json_response(201, saved, {"Location": f"/v1/locations/{saved.id}"})
        return json_response(200, saved)

    async def delete(self, request: Request) -> Response:
        check_request(request)
        await self._inventory.delete_location(path_value(request, "id"))
        return Response(status_code=204)


def _as_location(name: str, body: LocationBody) -> Location:
    settings = asdict(body)
    capabilities = tuple(dict.fromkeys(settings.pop("capabilities")))
    return Location(id=name, capabilities=capabilities, **settings)


def _cursor(last: str) -> str:
    return urlsafe_b64encode(last.encode()).decode().rstrip("=")


def _read_cursor(text: str) -> str:
    try:
        last = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode("ascii")
    except ValueError as error:
        raise InvalidRequest("?cursor", "use next_cursor of the page before") from error
    if not last or _cursor(last) != text:
        raise InvalidRequest("?cursor", "use next_cursor of the page before")
    return last
