"""Facts: goods that came, went or were found to differ, and counts."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from fastapi import Request, Response
from msgspec.structs import replace

from api.access import Access
from api.codec import decode_counts, decode_movements
from api.narrowing import seen_among
from api.problems import ProblemError, as_logged_problem
from api.routes.exchange import (
    Route,
    access_of,
    asked,
    check_request,
    json_response,
    query_values,
    read_json,
)
from api.schemas import CountBody, MovementAnswer, MovementBody, UncoveredAnswer
from engine import Count, InvalidRequest, Inventory, Movement, MovementResult
from engine.errors import NotFound, ReservationNotFound
from engine.moves import check_count, check_movement

CONCURRENT_MOVEMENTS = 512
"""Movements of one request that wait for the server at a time: four full script calls. More would not be
faster, and would make the promises of others wait behind them.
"""
NAMED_ERRORS = 20
"""Invalid movements that one answer names."""
Told = Sequence[MovementResult | BaseException]
_Fact = TypeVar("_Fact", Movement, Count)


class Movements:
    """Records facts."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (
            Route(("POST",), "/v1/stock/movements", self.record),
            Route(("POST",), "/v1/stock/counts", self.count),
        )

    async def record(self, request: Request) -> Response:
        """Records each movement by itself, those of one SKU in the order given. Where one cannot be read,
        none is recorded.
        """
        check_request(request)
        query_values(request)
        body = await read_json(request, decode_movements)
        movements = as_movements(body.movements)
        return await self._record_all(request, "movements", movements, self._inventory.record_many)

    async def count(self, request: Request) -> Response:
        """The same for counts."""
        check_request(request)
        query_values(request)
        body = await read_json(request, decode_counts)
        counts = [_as_count(one) for one in body.counts]
        _check_all("counts", counts, check_count)
        return await self._record_all(request, "counts", counts, self._inventory.count_many)

    async def _record_all(
        self, request: Request, name: str, facts: Sequence[_Fact], record: Callable[..., Awaitable[Told]]
    ) -> Response:
        results: list[MovementAnswer] = []
        access = access_of(request)
        for first in range(0, len(facts), CONCURRENT_MOVEMENTS):
            some = facts[first : first + CONCURRENT_MOVEMENTS]
            try:
                found = await self._record_own(access, some, record)
            except Exception as error:  # noqa: BLE001 - each fact ends with a result of its own
                found = [error] * len(some)
            results += [_told(index, name, one, request) for index, one in enumerate(found, first)]
        return json_response(207, {"results": results})

    async def _record_own(
        self, access: Access, facts: Sequence[_Fact], record: Callable[..., Awaitable[Told]]
    ) -> Told:
        """Records those facts that are the caller's to tell, and shows of the rest that it is not there."""
        if not access.is_restricted:
            return await record(facts, caller=access.caller)
        named = [name for fact in facts if (name := _named(fact))]
        seen, results = (
            await seen_among(self._inventory, access, named),
            list[MovementResult | BaseException](),
        )
        for fact in facts:
            try:
                access.check_location(fact.location)
                name = _named(fact)
                if name and name not in seen:
                    raise ReservationNotFound(f"there is no reservation {name}")
            except NotFound as error:
                results.append(error)
                continue
            results += await record([fact], caller=access.caller)
        broken = (
            one.reservation for told in results if isinstance(told, MovementResult) for one in told.uncovered
        )
        seen = await seen_among(self._inventory, access, broken)
        return [
            replace(told, uncovered=[one for one in told.uncovered if one.reservation in seen])
            if isinstance(told, MovementResult)
            else told
            for told in results
        ]


def _named(fact: Movement | Count) -> str | None:
    """The reservation that a fact is for."""
    return fact.reservation if isinstance(fact, Movement) else None


def as_movements(bodies: Sequence[MovementBody]) -> list[Movement]:
    """The facts that bodies tell. Raises `invalid_request` naming every field that breaks a rule."""
    movements = [
        Movement(
            body.id,
            body.kind,
            body.sku,
            body.location,
            body.quantity,
            body.reason,
            body.reference,
            None if body.occurred_at is None else _milliseconds(body.occurred_at),
            body.condition,
            body.to_condition,
            body.reservation,
        )
        for body in bodies
    ]
    _check_all("movements", movements, check_movement)
    return movements


def _as_count(body: CountBody) -> Count:
    moment = _milliseconds(body.counted_at)
    return Count(body.id, body.sku, body.location, body.quantity, moment, body.reason, body.reference)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _check_all(name: str, facts: Sequence[_Fact], check: Callable[[_Fact], None]) -> None:
    """Raises `invalid_request` naming every fact that breaks a rule."""
    errors: list[dict[str, Any]] = []
    for index, fact in enumerate(facts):
        try:
            check(fact)
        except InvalidRequest as error:
            errors.append({"pointer": f"/{name}/{index}{error.field}", "detail": error.remedy})
    if errors:
        detail = f"{errors[0]['pointer']}: {errors[0]['detail']}"
        if len(errors) > 1:
            detail += f"; {len(errors)} {name} are not valid, none is recorded"
        raise ProblemError("invalid_request", detail, errors=errors[:NAMED_ERRORS])


def _told(index: int, name: str, found: MovementResult | BaseException, request: Request) -> MovementAnswer:
    if isinstance(found, MovementResult):
        return recorded(index, found)
    if not isinstance(found, Exception):
        raise found
    of_front = asked(request)
    problem = as_logged_problem(found, of_front.request_id)
    document = problem.document(f"{of_front.path}#/{name}/{index}", of_front.request_id)
    return MovementAnswer(index, problem.status, body=document)


def recorded(index: int, result: MovementResult) -> MovementAnswer:
    """The result of a fact that was recorded."""
    return MovementAnswer(
        index,
        200,
        on_hand=result.on_hand,
        available=result.available,
        version=result.version,
        uncovered=msgspec.convert(result.uncovered, list[UncoveredAnswer], from_attributes=True),
        effect=result.effect,
        ignored=result.ignored,
        replayed=result.replayed,
    )
