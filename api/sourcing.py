"""Requests whose places the engine chooses, between HTTP and the engine."""

from collections.abc import Sequence

from api.access import Access
from api.schemas import PlanAnswer, PlanBody, PlannedLineAnswer, PlannedPlaceAnswer, ReserveBody, WantedBody
from api.schemas_changes import CartBody
from engine import Inventory, Reservation
from engine.sourcing_plan import Rules, SourcingPlan, Strategy, Wanted


def is_plain(inventory: Inventory, body: ReserveBody) -> bool:
    """Whether every place is named, and nothing else is to be looked at."""
    return (
        body.pool is None
        and not body.allow_partial
        and not body.from_inbound
        and all(line.location is not None for line in body.lines)
        and not inventory.needs_sourcing((line.sku for line in body.lines), body.channel)
    )


async def reserve(inventory: Inventory, key: str, body: ReserveBody, caller: str) -> Reservation:
    """A reserve by rules."""
    return await inventory.source(
        key,
        as_wanted(body.lines),
        rules=rules_of(body),
        ttl_seconds=body.ttl_seconds,
        owner=body.owner,
        reference=body.reference,
        metadata=body.metadata,
        caller=caller,
    )


def as_wanted(lines: Sequence[WantedBody]) -> list[Wanted]:
    """The lines of a body as the engine takes them."""
    return [Wanted(line.sku, line.quantity, line.location) for line in lines]


def rules_of(body: ReserveBody | PlanBody | CartBody) -> Rules:
    """By what a body wants places to be chosen."""
    near = None if body.near is None else (body.near.lat, body.near.lon)
    if isinstance(body, CartBody):
        strategy = Strategy(body.sourcing)
        return Rules(
            pool=body.pool,
            strategy=strategy,
            near=near,
            allow_split=body.allow_split,
            capability=body.capability,
        )
    return Rules(
        body.channel,
        body.pool,
        Strategy(body.sourcing),
        near,
        body.allow_partial,
        body.allow_split,
        body.capability,
        from_inbound=body.from_inbound,
    )


def plan_answer(plan: SourcingPlan, access: Access) -> PlanAnswer:
    """A plan as HTTP answers it."""
    lines = [
        PlannedLineAnswer(
            line.sku,
            line.quantity,
            line.taken,
            [
                PlannedPlaceAnswer(
                    one.location, one.taken, access.shown(one.room), one.reason, one.distance_km
                )
                for one in line.candidates
            ],
        )
        for line in plan.lines
    ]
    return PlanAnswer(plan.can_reserve, plan.version, lines)
