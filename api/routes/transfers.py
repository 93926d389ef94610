"""Transfers: goods that go from one location to another."""

from collections.abc import Sequence

from fastapi import Request, Response
from msgspec.structs import replace

from api.access import Access
from api.codec import format_time
from api.narrowing import seen_among
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
    BrokenAnswer,
    GoodsBody,
    NoBody,
    ReceiveTransferBody,
    TransferAnswer,
    TransferLineAnswer,
    decode_nothing,
    decode_receive_transfer,
    decode_transfer,
)
from engine import InvalidRequest, Inventory
from engine.transfers import not_found, open_units
from engine.types import Goods, Transfer, TransferLine, TransferState

ON_THE_WAY = (TransferState.SHIPPED, TransferState.RECEIVING)
ENDED = (TransferState.RECEIVED, TransferState.CLOSED)


class Transfers:
    """Makes transfers and takes their steps."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("POST",), "/v1/transfers", self.create),
            Route(("GET", "HEAD"), "/v1/transfers", self.page),
            Route(("GET", "HEAD"), "/v1/transfers/{id}", self.read),
            Route(("POST",), "/v1/transfers/{id}/ship", self.ship),
            Route(("POST",), "/v1/transfers/{id}/receive", self.receive),
            Route(("POST",), "/v1/transfers/{id}/cancel", self.cancel),
        )

    async def create(self, request: Request) -> Response:
        """A draft: nothing has moved yet."""
        check_request(request)
        query_values(request)
        key, body, access = (
            required_key(request),
            await read_json(request, decode_transfer),
            access_of(request),
        )
        access.check_location(body.source, body.target)
        made = await self._inventory.create_transfer(
            key,
            source=body.source,
            target=body.target,
            lines=_as_goods(body.lines),
            expected_ms=None if body.expected_at is None else int(body.expected_at.timestamp() * 1000),
            reference=body.reference,
            caller=access.caller,
        )
        headers = {"Location": f"/v1/transfers/{made.id}", **replay_headers(made.replayed)}
        return json_response(201, _as_answer(await self._shown(access, made)), headers)

    async def page(self, request: Request) -> Response:
        """The newest first."""
        check_request(request)
        query = query_values(request, "state", "limit", "cursor")
        access = access_of(request)
        found = await self._inventory.transfer_page(
            state=_read_state(query.get("state")),
            chosen=lambda one: access.covers((one.source, one.target)),
            limit=read_limit(query),
            after=read_cursor(query),
        )
        return json_response(200, page_of(found, _as_answer))

    async def read(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        found = await self._find(access_of(request), path_value(request, "id"))
        return json_response(200, _as_answer(await self._shown(access_of(request), found)))

    async def ship(self, request: Request) -> Response:
        """The goods leave the source."""
        transfer, access = await self._read_step(request), access_of(request)
        done = await self._inventory.ship_transfer(transfer, op_id=sent_key(request), caller=access.caller)
        return _answer(await self._shown(access, done))

    async def receive(self, request: Request) -> Response:
        """Goods came to the target; those that are named need a key, as a repeat would be more of them."""
        check_request(request)
        query_values(request)
        body = await read_json_or_nothing(request, decode_receive_transfer, ReceiveTransferBody())
        lines = None if body.lines is None else _as_goods(body.lines)
        key = sent_key(request) if lines is None else required_key(request)
        access, transfer = access_of(request), path_value(request, "id")
        await self._check(access, transfer)
        received = await self._inventory.receive_transfer(
            transfer, lines, close=body.close, op_id=key, caller=access.caller
        )
        return _answer(await self._shown(access, received))

    async def cancel(self, request: Request) -> Response:
        """What is on its way goes back."""
        transfer, access = await self._read_step(request), access_of(request)
        done = await self._inventory.cancel_transfer(transfer, op_id=sent_key(request), caller=access.caller)
        return _answer(await self._shown(access, done))

    async def _read_step(self, request: Request) -> str:
        check_request(request)
        query_values(request)
        await read_json_or_nothing(request, decode_nothing, NoBody())
        transfer = path_value(request, "id")
        await self._check(access_of(request), transfer)
        return transfer

    async def _check(self, access: Access, transfer: str) -> None:
        if access.is_restricted:
            await self._find(access, transfer)

    async def _find(self, access: Access, transfer: str) -> Transfer:
        """Raises `TransferNotFound`, also where one of its ends is none of the caller's."""
        found = await self._inventory.transfer(transfer)
        if not access.covers((found.source, found.target)):
            raise not_found(transfer)
        return found

    async def _shown(self, access: Access, transfer: Transfer) -> Transfer:
        """A transfer that names those broken promises which the caller may see."""
        seen = await seen_among(self._inventory, access, (one.reservation for one in transfer.uncovered))
        return replace(transfer, uncovered=[one for one in transfer.uncovered if one.reservation in seen])


def _as_goods(lines: Sequence[GoodsBody]) -> list[Goods]:
    return [Goods(line.sku, line.quantity) for line in lines]


def _read_state(text: str | None) -> TransferState | None:
    if text is None:
        return None
    try:
        return TransferState(text)
    except ValueError as error:
        raise InvalidRequest("?state", f"one of {', '.join(TransferState)}") from error


def _answer(transfer: Transfer) -> Response:
    return json_response(200, _as_answer(transfer), replay_headers(transfer.replayed))


def _as_answer(transfer: Transfer) -> TransferAnswer:
    return TransferAnswer(
        transfer.id,
        transfer.state,
        transfer.source,
        transfer.target,
        None if transfer.expected_ms is None else format_time(transfer.expected_ms),
        transfer.reference,
        format_time(transfer.created_ms),
        [_as_line(transfer.state, line) for line in transfer.lines],
        [BrokenAnswer(one.sku, one.reservation, one.quantity) for one in transfer.uncovered],
    )


def _as_line(state: TransferState, line: TransferLine) -> TransferLineAnswer:
    return TransferLineAnswer(
        line.sku,
        line.quantity,
        line.received,
        open_units(line) if state in ON_THE_WAY else 0,
        line.returned,
        line.received - line.quantity if state in ENDED else None,
    )
