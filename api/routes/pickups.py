"""Orders that are collected in a store."""

from collections.abc import Sequence

import msgspec
from fastapi import Request, Response

from api.codec import format_time, reservation_answer
from api.finding import as_of_query
from api.narrowing import check_reservation
from api.routes.changes import REPLAYED, changed, required_key
from api.routes.exchange import (
    Route,
    access_of,
    asked,
    check_request,
    json_response,
    path_value,
    query_values,
    read_json,
    read_limit,
)
from api.schemas import NoBody, as_line
from api.schemas_changes import (
    AlternativeAnswer,
    AlternativesAnswer,
    LinesBody,
    PickupAnswer,
    PickupsAnswer,
    ShortLineAnswer,
    ShortPickAnswer,
    WantedCountAnswer,
    WantedCountsAnswer,
)
from engine import InvalidRequest, Inventory, Reservation
from engine.pickup_queue import PickupState
from engine.planner import check_location

decode_lines = msgspec.json.Decoder(LinesBody).decode


class Pickups:
    """Marks orders, and lists what a store has to do."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("POST",), "/v1/reservations/{id}/ready", self.ready),
            Route(("POST",), "/v1/reservations/{id}/collected", self.collected),
            Route(("POST",), "/v1/reservations/{id}/short", self.short),
            Route(("GET", "HEAD"), "/v1/pickups", self.queue),
            Route(("GET", "HEAD"), "/v1/counts/wanted", self.wanted),
        )

    async def ready(self, request: Request) -> Response:
        """The goods wait to be collected. A repeat keeps the first moment."""
        await _read_nothing(request)
        access, reservation = access_of(request), path_value(request, "id")
        await check_reservation(self._inventory, access, reservation)
        found = await self._inventory.mark_ready(
            reservation, op_id=asked(request).key(), caller=access.caller
        )
        return json_response(200, _as_pickup(found), REPLAYED if found.replayed else None)

    async def collected(self, request: Request) -> Response:
        """All that is committed has left with the customer."""
        await _read_nothing(request)
        access, reservation = access_of(request), path_value(request, "id")
        await check_reservation(self._inventory, access, reservation)
        key = asked(request).key()
        return changed(await self._inventory.fulfil(reservation, op_id=key, caller=access.caller))

    async def short(self, request: Request) -> Response:
        """What was not found is given back; the answer says who else has it."""
        check_request(request)
        query_values(request)
        key = required_key(request)
        lines = [as_line(line) for line in (await read_json(request, decode_lines)).lines]
        access, reservation = access_of(request), path_value(request, "id")
        await check_reservation(self._inventory, access, reservation)
        access.check_location(*(line.location for line in lines))
        found = await self._inventory.report_short(reservation, lines, op_id=key, caller=access.caller)
        alternatives = [
            AlternativesAnswer(
                line.sku,
                line.location,
                line.quantity,
                [
                    AlternativeAnswer(one.location, access.shown(one.available), one.distance_km)
                    for one in await self._inventory.alternatives(line.sku, line.location)
                    # They are not what a channel may sell there.
                    if access.channels is None and access.covers((one.location,))
                ],
            )
            for line in lines
        ]
        answer = ShortPickAnswer(reservation_answer(found), _ready_at(found), _short_of(found), alternatives)
        return json_response(200, answer, REPLAYED if found.replayed else None)

    async def queue(self, request: Request) -> Response:
        """What a store has to pick or hand over, the oldest order first."""
        check_request(request)
        query = query_values(request, "location", "state", "limit", "cursor")
        limit = read_limit(query)
        if "location" not in query:
            raise InvalidRequest("?location", "name the store")
        try:
            state = PickupState(query["state"]) if "state" in query else None
        except ValueError as error:
            raise InvalidRequest("?state", f"one of {', '.join(PickupState)}") from error
        access = access_of(request)
        access.check_location(query["location"])
        try:
            page = await self._inventory.pickups(
                query["location"], state=state, limit=limit, cursor=query.get("cursor")
            )
        except InvalidRequest as error:
            raise as_of_query(error) from error
        items = [_as_pickup(one) for one in page.items if access.sees(one)]
        return json_response(200, PickupsAnswer(items, page.next_cursor))

    async def wanted(self, request: Request) -> Response:
        """The positions that are to be counted, the longest waiting first."""
        check_request(request)
        query = query_values(request, "location", "limit")
        limit, location = read_limit(query), query.get("location")
        if location is not None:
            check_location(location, "?location")
        access = access_of(request)
        access.check_location(location)
        wanted = await self._inventory.counts_wanted(location=location)
        found = [one for one in wanted if access.covers((one.location,))]
        items = [WantedCountAnswer(one.sku, one.location, format_time(one.since_ms)) for one in found[:limit]]
        return json_response(200, WantedCountsAnswer(items))


_decode_nothing = msgspec.json.Decoder(NoBody).decode


async def _read_nothing(request: Request) -> None:
    """A request without a body, or with an empty object."""
    check_request(request)
    query_values(request)
    await read_json(request, lambda raw: _decode_nothing(raw or b"{}"))


def _as_pickup(reservation: Reservation) -> PickupAnswer:
    return PickupAnswer(reservation_answer(reservation), _ready_at(reservation), _short_of(reservation))


def _ready_at(reservation: Reservation) -> str | None:
    return None if reservation.ready_ms is None else format_time(reservation.ready_ms)


def _short_of(reservation: Reservation) -> list[ShortLineAnswer]:
    return [
        ShortLineAnswer(line.sku, line.location, line.quantity, format_time(line.at_ms))
        for line in reservation.short
    ]
