"""Plans: what a reserve would do, and why."""

from collections.abc import Sequence

from fastapi import Request, Response

from api.codec import decode_plan
from api.routes.exchange import Route, check_request, json_response, query_values, read_json
from api.sourcing import as_wanted, plan_answer, rules_of
from engine import Inventory


class Plans:
    """Plans reservations and makes none."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    def routes(self) -> Sequence[Route]:
        """What these handlers answer."""
        return (Route(("POST",), "/v1/plans", self.plan),)

    async def plan(self, request: Request) -> Response:
        """Where a reserve would take its units from."""
        check_request(request)
        query_values(request)
        body = await read_json(request, decode_plan)
        found = await self._inventory.plan(as_wanted(body.lines), rules=rules_of(body))
        return json_response(200, plan_answer(found))
