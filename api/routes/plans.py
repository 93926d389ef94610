"""Plans: what a reserve would do, and why."""

from collections.abc import Sequence

from fastapi import Request, Response

from api.codec import decode_plan
from api.narrowing import narrow_choice
from api.routes.exchange import Route, access_of, check_request, json_response, query_values, read_json
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
        body, access = await read_json(request, decode_plan), access_of(request)
        if access.is_restricted:
            body = await narrow_choice(self._inventory, access, body)
        found = await self._inventory.plan(as_wanted(body.lines), rules=rules_of(body))
        return json_response(200, plan_answer(found, access))
