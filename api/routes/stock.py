"""Stock: the counters of positions, what they are set to, and what happened to them."""

from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response
from msgspec.structs import asdict, replace

from api.codec import decode_set, format_time
from api.narrowing import seen_among, unknown_sku
from api.problems import ProblemError
from api.routes.exchange import (
    Route,
    access_of,
    asked,
    check_request,
    entity_tag,
    json_response,
    path_value,
    query_values,
    read_json,
    read_limit,
    tagged_response,
)
from api.schemas import HappeningAnswer, PositionAnswer, SetAnswer, UncoveredAnswer
from engine import Inventory, Position
from engine.errors import NotStocked, SkuNotFound
from engine.facts import NO_STATE
from engine.types import Happening


class Stock:
    """Reads and sets counters."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("GET", "HEAD"), "/v1/stock/{sku}", self.positions),
            Route(("GET", "HEAD"), "/v1/stock/{sku}/{location}", self.position),
            Route(("PUT",), "/v1/stock/{sku}/{location}", self.set_on_hand),
            Route(("GET", "HEAD"), "/v1/stock/{sku}/{location}/movements", self.history),
        )

    async def positions(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        sku = path_value(request, "sku")
        access = access_of(request)
        found = [one for one in await self._inventory.stock(sku) if access.covers((one.location,))]
        if not found:
            raise unknown_sku(sku)
        return json_response(200, {"sku": sku, "positions": [_as_answer(position) for position in found]})

    async def position(self, request: Request) -> Response:
        """One position. Its entity tag is made of the counters alone: the version counts every change of
        the books, also those that leave this position as it was.
        """
        check_request(request)
        query_values(request)
        sku, name = path_value(request, "sku"), path_value(request, "location")
        access_of(request).check_location(name)
        location = await self._inventory.location(name)
        found = await self._inventory.stock(sku, locations=(location.id,))
        if not found:
            raise NotStocked(f"{sku} at {name}")
        answer = _as_answer(found[0])
        return tagged_response(request, answer, _counters(answer))

    async def set_on_hand(self, request: Request) -> Response:
        """Sets on_hand as of now, if the position still is as its caller saw it (`If-Match`)."""
        check_request(request)
        query_values(request)
        wanted = asked(request).headers.get(b"if-match")
        if wanted is None:
            raise ProblemError(
                "precondition_required", "send If-Match with the ETag of the position, or * to set it anyhow"
            )
        body = await read_json(request, decode_set)
        sku, location = path_value(request, "sku"), path_value(request, "location")
        access = access_of(request)
        access.check_location(location)
        expected = None if wanted.strip() == b"*" else await self._expect(sku, location, wanted)
        key = asked(request).key()
        result = await self._inventory.set_on_hand(
            sku,
            location,
            body.quantity,
            expected=expected,
            reason=body.reason,
            op_id=key,
            caller=access.caller,
        )
        seen = await seen_among(self._inventory, access, (one.reservation for one in result.uncovered))
        (found,) = await self._inventory.stock(sku, locations=(location,))
        answer = SetAnswer(
            **asdict(_as_answer(found)),
            uncovered=[
                UncoveredAnswer(one.reservation, one.quantity)
                for one in result.uncovered
                if one.reservation in seen
            ],
        )
        headers = {"ETag": entity_tag(_counters(_as_answer(found)))}
        if result.replayed:
            headers["Idempotent-Replayed"] = "true"
        return json_response(200, answer, headers)

    async def _expect(self, sku: str, location: str, wanted: bytes) -> str:
        """The counters that the position has now, where their tag is one of those that are wanted."""
        try:
            found = await self._inventory.stock(sku, locations=(location,))
        except SkuNotFound:
            found = []
        for position in found:
            tag = entity_tag(_counters(_as_answer(position))).encode()
            if tag in [part.strip() for part in wanted.split(b",")]:
                return position.state
        # Whoever repeats a request that took effect is answered as then: the script knows.
        return NO_STATE

    async def history(self, request: Request) -> Response:
        """What happened to a position, newest first."""
        check_request(request)
        query = query_values(request, "limit", "cursor")
        sku, name = path_value(request, "sku"), path_value(request, "location")
        limit, access = read_limit(query), access_of(request)
        access.check_location(name)
        location = await self._inventory.location(name)
        if not await self._inventory.stock(sku, locations=(location.id,)):
            raise NotStocked(f"{sku} at {name}")
        page = await self._inventory.history(sku, location.id, limit=limit, cursor=query.get("cursor"))
        named = [one.reservation for one in page.happenings if one.reservation is not None]
        seen = await seen_among(self._inventory, access, named)
        movements = [_as_happening(_without_others(one, seen)) for one in page.happenings]
        return json_response(200, {"movements": movements, "next_cursor": page.cursor})


def _without_others(happening: Happening, seen: set[str]) -> Happening:
    """A line of the history as somebody may see it who does not see every reservation."""
    if happening.reservation is None or happening.reservation in seen:
        return happening
    return replace(happening, id=None, reservation=None, reference=None, reason=None)


def _as_happening(happening: Happening) -> HappeningAnswer:
    told = asdict(happening)
    occurred_ms, recorded_ms = told.pop("occurred_ms"), told.pop("recorded_ms")
    return HappeningAnswer(
        occurred_at=format_time(occurred_ms),
        recorded_at=None if recorded_ms is None else format_time(recorded_ms),
        **told,
    )


def _as_answer(position: Position) -> PositionAnswer:
    return PositionAnswer(
        location=position.location,
        on_hand=position.on_hand,
        held=position.held,
        allocated=position.allocated,
        unsellable=dict(position.conditions),
        safety_stock=position.safety_stock,
        backorder_limit=position.backorder_limit,
        fenced=position.fenced,
        available=position.available,
        version=position.version,
    )


def _counters(answer: PositionAnswer) -> list[Any]:
    return [getattr(answer, name) for name in answer.__struct_fields__ if name != "version"]
