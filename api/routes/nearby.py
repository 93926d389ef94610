"""What is available near a place."""

from collections.abc import Mapping, Sequence
from math import isfinite

from fastapi import Request, Response

from api.finding import read_number
from api.hot import QUANTITY_DIGITS
from api.routes.exchange import Route, check_request, path_value, query_values, read_limit, tagged_response
from engine import Capability, InvalidRequest, Inventory

DEFAULT_RADIUS_KM = 50.0
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
        found = await self._inventory.nearby(
            path_value(request, "sku"),
            _read_number(query, "lat"),
            _read_number(query, "lon"),
            radius_km=_read_number(query, "radius_km", DEFAULT_RADIUS_KM),
            capability=Capability(asked),
            quantity=read_number(query["quantity"], QUANTITY_DIGITS) if "quantity" in query else None,
            channel=query.get("channel"),
            pool=query.get("pool"),
            limit=read_limit(query),
        )
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
