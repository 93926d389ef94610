"""Reservations that change: units that go elsewhere, other lines."""

from collections.abc import Sequence

import msgspec
from fastapi import Request, Response

from api.codec import reservation_answer
from api.hot import MISSING_KEY
from api.narrowing import check_cart, check_reservation
from api.problems import ProblemError
from api.routes.exchange import (
    Route,
    access_of,
    asked,
    check_request,
    json_response,
    path_value,
    query_values,
    read_json,
)
from api.schemas_changes import CartBody, MoveBody
from api.sourcing import as_wanted, rules_of
from engine import Inventory, Reservation
from engine.types import Line, Move

decode_move = msgspec.json.Decoder(MoveBody).decode
decode_cart = msgspec.json.Decoder(CartBody).decode
REPLAYED = {"Idempotent-Replayed": "true"}


class Changes:
    """Gives reservations other lines."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("POST",), "/v1/reservations/{id}/move", self.move),
            Route(("PUT",), "/v1/reservations/{id}/lines", self.replace),
        )

    async def move(self, request: Request) -> Response:
        """Moves held and committed units, all that are named or none."""
        check_request(request)
        query_values(request)
        key = required_key(request)
        body = await read_json(request, decode_move)
        moves = [Move(line.sku, line.source, line.target, line.quantity) for line in body.lines]
        access, reservation = access_of(request), path_value(request, "id")
        await check_reservation(self._inventory, access, reservation)
        access.check_location(*(place for move in moves for place in (move.source, move.target)))
        return changed(await self._inventory.move(reservation, moves, op_id=key, caller=access.caller))

    async def replace(self, request: Request) -> Response:
        """Replaces the lines of a hold. A repeat replaces by the same: it needs no key."""
        check_request(request)
        query_values(request)
        body = await read_json(request, decode_cart)
        access, reservation = access_of(request), path_value(request, "id")
        await check_reservation(self._inventory, access, reservation)
        access.check_location(*(line.location for line in body.lines))
        key, lines = asked(request).key(), as_wanted(body.lines)
        named = [Line(line.sku, line.quantity, line.location) for line in lines if line.location is not None]
        if len(named) == len(lines):
            done = await self._inventory.replace_lines(reservation, named, op_id=key, caller=access.caller)
        else:
            await check_cart(self._inventory, access, reservation, body.pool)
            done = await self._inventory.source_lines(
                reservation, lines, rules=rules_of(body), op_id=key, caller=access.caller
            )
        return changed(done)


def required_key(request: Request) -> str:
    """The idempotency key. Raises `idempotency_key_missing`."""
    key = asked(request).key()
    if key is None:
        raise ProblemError("idempotency_key_missing", MISSING_KEY)
    return key


def changed(reservation: Reservation) -> Response:
    """A reservation after a step."""
    headers = REPLAYED if reservation.replayed else None
    return json_response(200, reservation_answer(reservation), headers)
