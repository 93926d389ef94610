"""Transfers: goods that go from one location to another."""

from collections.abc import Sequence

from fastapi import Request, Response

from api.codec import format_time
from api.routes.exchange import (
    Route,
    check_request,
    json_response,
    path_value,
    query_values,
    read_json,
    read_json_or_nothing,
    replay_headers,
    required_key,
    sent_key,
)
from api.routes.pages import page_of, sort_newest_first
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
from engine.transfers import open_units
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
        key, body = required_key(request), await read_json(request, decode_transfer)
        made = await self._inventory.create_transfer(
            key,
            source=body.source,
            target=body.target,
            lines=_as_goods(body.lines),
            expected_ms=None if body.expected_at is None else int(body.expected_at.timestamp() * 1000),
            reference=body.reference,
        )
        headers = {"Location": f"/v1/transfers/{made.id}", **replay_headers(made.replayed)}
        return json_response(201, _as_answer(made), headers)

    async def page(self, request: Request) -> Response:
        """The newest first. Reads all documents."""
        check_request(request)
        query = query_values(request, "state", "limit", "cursor")
        found = sort_newest_first(await self._inventory.transfers(state=_read_state(query.get("state"))))
        return json_response(200, page_of(found, query, _as_answer))

    async def read(self, request: Request) -> Response:
        check_request(request)
        query_values(request)
        return json_response(200, _as_answer(await self._inventory.transfer(path_value(request, "id"))))

    async def ship(self, request: Request) -> Response:
        """The goods leave the source."""
        transfer = await self._read_step(request)
        return _answer(await self._inventory.ship_transfer(transfer, op_id=sent_key(request)))

    async def receive(self, request: Request) -> Response:
        """Goods came to the target; those that are named need a key, as a repeat would be more of them."""
        check_request(request)
        query_values(request)
        body = await read_json_or_nothing(request, decode_receive_transfer, ReceiveTransferBody())
        lines = None if body.lines is None else _as_goods(body.lines)
        key = sent_key(request) if lines is None else required_key(request)
        received = await self._inventory.receive_transfer(
            path_value(request, "id"), lines, close=body.close, op_id=key
        )
        return _answer(received)

    async def cancel(self, request: Request) -> Response:
        """What is on its way goes back."""
        transfer = await self._read_step(request)
        return _answer(await self._inventory.cancel_transfer(transfer, op_id=sent_key(request)))

    async def _read_step(self, request: Request) -> str:
        check_request(request)
        query_values(request)
        await read_json_or_nothing(request, decode_nothing, NoBody())
        return path_value(request, "id")


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
