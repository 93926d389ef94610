"""Stock: the counters of positions."""

from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response

from api.routes.exchange import (
    Route,
    check_request,
    json_response,
    path_value,
    query_values,
    tagged_response,
)
from api.schemas import PositionAnswer
from engine import Inventory, Position
from engine.errors import NotStocked


class Stock:
    """Reads counters."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("GET", "HEAD"), "/v1/stock/{sku}", self.positions),
            Route(("GET", "HEAD"), "/v1/stock/{sku}/{location}", self.position),
        )

    async def positions(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        sku = path_value(request, "sku")
        found = await self._inventory.stock(sku)
        return json_response(200, {"sku": sku, "positions": [_as_answer(position) for position in found]})

    async def position(self, request: Request) -> Response:
        """One position. Its entity tag is made of the counters alone: the version counts every change of
        the books, also those that leave this position as it was.
        """
        check_request(request)
        query_values(request)
        sku, name = path_value(request, "sku"), path_value(request, "location")
        location = await self._inventory.location(name)
        found = await self._inventory.stock(sku, locations=(location.id,))
        if not found:
            raise NotStocked(f"{sku} at {name}")
        answer = _as_answer(found[0])
        return tagged_response(request, answer, _counters(answer))


def _as_answer(position: Position) -> PositionAnswer:
    return PositionAnswer(
        location=position.location,
        on_hand=position.on_hand,
        held=position.held,
        allocated=position.allocated,
        # Conditions come with the verb that changes them; until then no unit can be in one.
        unsellable={},
        safety_stock=position.safety_stock,
        backorder_limit=position.backorder_limit,
        fenced=position.fenced,
        available=position.available,
        version=position.version,
    )


def _counters(answer: PositionAnswer) -> list[Any]:
    return [getattr(answer, name) for name in answer.__struct_fields__ if name != "version"]
