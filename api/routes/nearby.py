"""What is available near a place."""

from collections.abc import Mapping, Sequence
from math import isfinite

from fastapi import Request, Response
from msgspec.structs import replace

from api.finding import read_number
from api.hot import QUANTITY_DIGITS
from api.narrowing import check_supply, unknown_sku
from api.routes.exchange import (
    Route,
    access_of,
    check_request,
    path_value,
    query_values,
    read_limit,
    tagged_response,
)
from engine import Capability, InvalidRequest, Inventory
from engine.errors import SkuNotFound

DEFAULT_RADIUS_KM = 50.0
MOST_PLACES = 1_000_000
"""Are found where some of them are left out afterwards."""
MOST_CHARACTERS = 24
"""Of a number with a fraction."""


class Nearby:
    """Finds where near a place a SKU is to be had."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (Route(("GET", "HEAD"), "/v1/availability/{sku}/nearby", self.read),)

    async def read(self, request: Request) -> Response:
        """Locations by distance."""
        check_request(request)
        query = query_values(
            request, "lat", "lon", "radius_km", "quantity", "limit", "capability", "channel", "pool"
        )
        asked = query.get("capability", Capability.PICKUP)
        if asked not in set(Capability):
            raise InvalidRequest("?capability", f"one of {', '.join(Capability)}")
        access, limit = access_of(request), read_limit(query)
        channel, pool = access.channel_of(query.get("channel"), "?channel"), query.get("pool")
        quantity = read_number(query["quantity"], QUANTITY_DIGITS) if "quantity" in query else None
        if access.is_restricted:
            check_supply(access, await self._inventory.settings.current(), channel, pool, is_whole=False)
        try:
            found = await self._inventory.nearby(
                path_value(request, "sku"),
                _read_number(query, "lat"),
                _read_number(query, "lon"),
                radius_km=_read_number(query, "radius_km", DEFAULT_RADIUS_KM),
                capability=Capability(asked),
                quantity=quantity,
                channel=channel,
                pool=pool,
                limit=limit if access.locations is None else MOST_PLACES,
            )
        except SkuNotFound as error:
            raise unknown_sku(path_value(request, "sku")) if access.is_restricted else error from None
        places = [place for place in found.locations if access.covers((place.location,))]
        if access.is_banded:
            shown = (replace(place, available=access.shown(place.available)) for place in places)
            places = [place for place in shown if place.available >= (quantity or 0)]
        found = replace(found, locations=places[:limit])
        return tagged_response(request, found, (found.sku, found.locations))


def _read_number(query: Mapping[str, str], name: str, usual: float | None = None) -> float:
    """A number of the query. Raises `InvalidRequest`."""
    text = query.get(name)
    if text is None and usual is not None:
        return usual
    try:
        number = float(text[:MOST_CHARACTERS]) if text and text.isascii() and "_" not in text else None
    except ValueError:
        number = None
    if number is None or not isfinite(number):
        raise InvalidRequest(f"?{name}", "is missing" if text is None else "a number")
    return number
