"""Inbound orders, and what can be promised by which day."""

from collections.abc import Sequence

from fastapi import Request, Response
from msgspec.structs import replace

from api.access import Access
from api.codec import format_time
from api.finding import read_number
from api.narrowing import check_supply, seen_among, unknown_sku
from api.promises import uncovered_answer
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
    sent_key,
)
from api.routes.pages import page_of, read_cursor
from api.schemas_supply import (
    AtpAnswer,
    DayAnswer,
    InboundAnswer,
    NoBody,
    decode_inbound,
    decode_nothing,
    decode_receive_inbound,
)
from engine import InvalidRequest, Inventory, limits
from engine.planner import check_location, check_sku
from engine.supply import DEFAULT_ATP_DAYS, not_found
from engine.types import Inbound, InboundState

DAYS_DIGITS = 3
CHOICES = ("location", "pool", "channel")
"""What a projection is limited by: one of them, or nothing."""


class Supply:
    """Makes inbound orders, takes their steps, and projects what can be promised."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("POST",), "/v1/inbound", self.create),
            Route(("GET", "HEAD"), "/v1/inbound", self.page),
            Route(("GET", "HEAD"), "/v1/inbound/{id}", self.read),
            Route(("POST",), "/v1/inbound/{id}/receive", self.receive),
            Route(("POST",), "/v1/inbound/{id}/cancel", self.cancel),
            Route(("GET", "HEAD"), "/v1/atp/{sku}", self.atp),
        )

    async def create(self, request: Request) -> Response:
        """Units will come."""
        check_request(request)
        query_values(request)
        key, body, access = (
            required_key(request),
            await read_json(request, decode_inbound),
            access_of(request),
        )
        access.check_location(body.location)
        made = await self._inventory.expect(
            key,
            sku=body.sku,
            location=body.location,
            quantity=body.quantity,
            expected_ms=int(body.expected_at.timestamp() * 1000),
            kind=body.kind,
            reference=body.reference,
            caller=access.caller,
        )
        headers = {"Location": f"/v1/inbound/{made.id}", **replay_headers(made.replayed)}
        return json_response(201, _as_answer(made), headers)

    async def page(self, request: Request) -> Response:
        """The newest first."""
        check_request(request)
        query = query_values(request, "sku", "location", "limit", "cursor")
        sku, location = query.get("sku"), query.get("location")
        if sku is not None:
            check_sku(sku, "?sku")
        if location is not None:
            check_location(location, "?location")
        access = access_of(request)
        access.check_location(location)
        found = await self._inventory.inbound_page(
            sku=sku,
            location=location,
            chosen=lambda one: access.covers((one.location,)),
            limit=read_limit(query),
            after=read_cursor(query),
        )
        return json_response(200, page_of(found, _as_answer))

    async def read(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        return json_response(200, _as_answer(await self._find(access_of(request), path_value(request, "id"))))

    async def receive(self, request: Request) -> Response:
        """Units came, perhaps more than were expected."""
        check_request(request)
        query_values(request)
        key, body = required_key(request), await read_json(request, decode_receive_inbound)
        access, inbound = access_of(request), path_value(request, "id")
        await self._check(access, inbound)
        received = await self._inventory.receive_inbound(
            key, inbound, body.quantity, close=body.close, caller=access.caller
        )
        return await self._ended(access, received) if body.close else _answer(received)

    async def cancel(self, request: Request) -> Response:
        """What did not come will not."""
        check_request(request)
        query_values(request)
        await read_json_or_nothing(request, decode_nothing, NoBody())
        access, inbound = access_of(request), path_value(request, "id")
        await self._check(access, inbound)
        cancelled = await self._inventory.cancel_inbound(
            inbound, op_id=sent_key(request), caller=access.caller
        )
        return await self._ended(access, cancelled)

    async def _check(self, access: Access, inbound: str) -> None:
        if access.is_restricted:
            await self._find(access, inbound)

    async def _find(self, access: Access, inbound: str) -> Inbound:
        """Raises `InboundNotFound`, also where it is for a location that is none of the caller's."""
        found = await self._inventory.inbound(inbound)
        if not access.covers((found.location,)):
            raise not_found(inbound)
        return found

    async def _ended(self, access: Access, inbound: Inbound) -> Response:
        """An order that brings no more, with the promises that counted on it."""
        broken = await uncovered_answer(self._inventory, inbound.sku, inbound.location)
        seen = await seen_among(self._inventory, access, (one.reservation for one in broken))
        uncovered = [one for one in broken if one.reservation in seen]
        answer = replace(_as_answer(inbound), uncovered=uncovered)
        return json_response(200, answer, replay_headers(inbound.replayed))

    async def atp(self, request: Request) -> Response:
        """What can be promised for each day, at a location or at all that stock the SKU."""
        check_request(request)
        query = query_values(request, *CHOICES, "days")
        days = read_number(query.get("days", str(DEFAULT_ATP_DAYS)), DAYS_DIGITS)
        if not 1 <= days <= limits.MAX_ATP_DAYS:
            raise InvalidRequest("?days", f"a whole number from 1 to {limits.MAX_ATP_DAYS}")
        chosen = [name for name in CHOICES if name in query]
        if len(chosen) > 1:
            raise InvalidRequest(f"?{chosen[1]}", f"one of {', '.join(CHOICES)}")
        for name in chosen:
            check_location(query[name], f"?{name}")
        access, sku, pool = access_of(request), path_value(request, "sku"), query.get("pool")
        locations = [query[name] for name in chosen if name == "location"]
        channel = query.get("channel")
        if access.is_restricted:
            locations = await self._narrow(access, sku, locations, pool, channel)
        found = await self._inventory.atp(sku, locations=locations, pool=pool, channel=channel, days=days)
        told = [DayAnswer(day.date.isoformat(), access.shown(day.atp)) for day in found]
        return json_response(200, AtpAnswer(told))

    async def _narrow(
        self, access: Access, sku: str, locations: list[str], pool: str | None, channel: str | None
    ) -> list[str]:
        """The locations of a caller's projection. It goes over all of a pool or channel: these may have none
        but the caller's.
        """
        access.check_location(*locations)
        check_supply(access, await self._inventory.settings.latest(), channel, pool, is_whole=True)
        stocked = [one.location for one in await self._inventory.stock(sku) if access.covers((one.location,))]
        if not stocked:
            raise unknown_sku(sku)
        return locations if locations or pool or channel else stocked


def _answer(inbound: Inbound) -> Response:
    return json_response(200, _as_answer(inbound), replay_headers(inbound.replayed))


def _as_answer(inbound: Inbound) -> InboundAnswer:
    is_expected = inbound.state is InboundState.EXPECTED
    has_ended = inbound.state in {InboundState.RECEIVED, InboundState.CLOSED}
    return InboundAnswer(
        inbound.id,
        inbound.state,
        inbound.sku,
        inbound.location,
        inbound.quantity,
        inbound.received,
        max(0, inbound.quantity - inbound.received) if is_expected else 0,
        inbound.received - inbound.quantity if has_ended else None,
        inbound.kind,
        format_time(inbound.expected_ms),
        inbound.reference,
        format_time(inbound.created_ms),
    )
