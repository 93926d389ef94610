"""Holders: who has promises of a position. The lists of reservations are hot routes: see `api/finding.py`."""

from collections.abc import Sequence

from fastapi import Request, Response

from api.finding import as_holder, as_of_query
from api.narrowing import seen_among
from api.routes.exchange import (
    Route,
    access_of,
    check_request,
    json_response,
    path_value,
    query_values,
    read_limit,
)
from engine import InvalidRequest, Inventory
from engine.holders import holder_page


class Finding:
    """Finds who holds what."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (Route(("GET", "HEAD"), "/v1/stock/{sku}/{location}/holders", self.holders),)

    async def holders(self, request: Request) -> Response:
        """Who holds the position's units, the oldest promise first."""
        check_request(request)
        query = query_values(request, "limit", "cursor")
        limit = read_limit(query)
        sku, name = path_value(request, "sku"), path_value(request, "location")
        access = access_of(request)
        access.check_location(name)
        location = await self._inventory.location(name)
        try:
            page = await holder_page(
                self._inventory, sku, location.id, limit=limit, cursor=query.get("cursor")
            )
        except InvalidRequest as error:
            if error.field == "/cursor":
                raise as_of_query(error) from error
            raise
        seen = await seen_among(self._inventory, access, (one.reservation for one in page.holders))
        holders = [as_holder(holder) for holder in page.holders if holder.reservation in seen]
        return json_response(200, {"holders": holders, "next_cursor": page.next_cursor})
