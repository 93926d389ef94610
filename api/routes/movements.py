"""Movements: facts about goods that came, went or were found to differ."""

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import Request, Response

from api.codec import decode_movements
from api.problems import ProblemError, as_logged_problem
from api.routes.exchange import Route, asked, check_request, json_response, query_values, read_json
from api.schemas import MovementAnswer, MovementBody, UncoveredAnswer
from engine import InvalidRequest, Inventory, Movement, MovementResult
from engine.planner import check_movement

CONCURRENT_MOVEMENTS = 512
"""Movements of one request that wait for the server at a time: four full script calls. More would not be
faster, and would make the promises of others wait behind them.
"""
NAMED_ERRORS = 20
"""Invalid movements that one answer names."""


class Movements:
    """Records facts."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (Route(("POST",), "/v1/stock/movements", self.record),)

    async def record(self, request: Request) -> Response:
        """Records each movement by itself, those of one SKU in the order given. Where one cannot be read,
        none is recorded.
        """
        check_request(request)
        query_values(request)
        body = await read_json(request, decode_movements)
        movements = as_movements(body.movements)
        results: list[MovementAnswer] = []
        for first in range(0, len(movements), CONCURRENT_MOVEMENTS):
            some = movements[first : first + CONCURRENT_MOVEMENTS]
            try:
                found = await self._inventory.record_many(some)
            except Exception as error:  # noqa: BLE001 - each movement ends with a result of its own
                found = [error] * len(some)
            results += [_told(index, one, request) for index, one in enumerate(found, first)]
        return json_response(207, {"results": results})


def as_movements(bodies: Sequence[MovementBody]) -> list[Movement]:
    """The facts that bodies tell. Raises `invalid_request` naming every field that breaks a rule."""
    movements, errors = [], []
    for index, body in enumerate(bodies):
        occurred = body.occurred_at
        movement = Movement(
            body.id,
            body.kind,
            body.sku,
            body.location,
            body.quantity,
            body.reason,
            body.reference,
            None if occurred is None else int(occurred.timestamp() * 1000),
        )
        try:
            check_movement(movement)
        except InvalidRequest as error:
            errors.append({"pointer": f"/movements/{index}{error.field}", "detail": error.remedy})
        movements.append(movement)
    if errors:
        raise _invalid(errors)
    return movements


def _invalid(errors: list[dict[str, Any]]) -> ProblemError:
    detail = f"{errors[0]['pointer']}: {errors[0]['detail']}"
    if len(errors) > 1:
        detail += f"; {len(errors)} movements are not valid, none is recorded"
    return ProblemError("invalid_request", detail, errors=errors[:NAMED_ERRORS])


def _told(index: int, found: MovementResult | BaseException, request: Request) -> MovementAnswer:
    if isinstance(found, MovementResult):
        return _recorded(index, found)
    if not isinstance(found, Exception):
        raise found
    of_front = asked(request)
    problem = as_logged_problem(found, of_front.request_id)
    document = problem.document(f"{of_front.path}#/movements/{index}", of_front.request_id)
    return MovementAnswer(index, problem.status, body=document)


def _recorded(index: int, result: MovementResult) -> MovementAnswer:
    return MovementAnswer(
        index,
        200,
        on_hand=result.on_hand,
        available=result.available,
        version=result.version,
        uncovered=msgspec.convert(result.uncovered, list[UncoveredAnswer], from_attributes=True),
        replayed=result.replayed,
    )
