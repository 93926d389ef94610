"""The operations on reservations."""

from collections.abc import Sequence
from typing import Any

from api import schemas
from api.operations.model import (
    CURSOR,
    LIMIT,
    LOCATION,
    READ,
    RESERVATION,
    RESOLVED,
    SKU,
    TEXT,
    WRITE,
    Example,
    Operation,
    Parameter,
)
from engine import State

_LINE = {"sku": "A-1", "quantity": 2, "location": "s7"}
HELD: Example = {
    "id": "r_AAB2cGxhaW4gZXhhbXBsZQ",
    "state": "held",
    "expires_at": "2026-11-21T10:00:00.000Z",
    "owner": "cart-81",
    "reference": "order-7",
    "channel": "web",
    "metadata": {},
    "version": "1.1043",
    "lines": [{**_LINE, "held": 2, "committed": 0, "fulfilled": 0, "released": 0}],
}
_COMMITTED = {
    **HELD,
    "state": "committed",
    "expires_at": None,
    "lines": [{**_LINE, "held": 0, "committed": 2, "fulfilled": 0, "released": 0}],
}
_ID = Parameter("id", "path", RESERVATION, "The reservation.", "r_AAB2cGxhaW4gZXhhbXBsZQ")


def _resolution(
    verb: str,
    summary: str,
    description: str,
    *,
    problems: Sequence[str] = RESOLVED,
    **more: Any,  # noqa: ANN401 - the fields of an Operation
) -> Operation:
    settings: dict[str, Any] = {
        "key": "partial",
        "body": schemas.ChooseBody,
        "body_is_optional": True,
        "answer_example": _COMMITTED,
        **more,
    }
    return Operation(
        method="POST",
        path="/v1/reservations/{id}/" + verb,
        name=f"{verb}_reservation",
        tag="Reservations",
        summary=summary,
        description=description,
        parameters=(_ID,),
        answers={200: schemas.ReservationAnswer},
        problems=("reservation_not_found", "idempotency_mismatch", *problems, *WRITE),
        **settings,
    )


RESERVATIONS = (
    Operation(
        method="POST",
        path="/v1/reservations",
        name="reserve",
        tag="Reservations",
        summary="Hold goods",
        description="All lines or none. A refusal names every line that is short. With `from_inbound` units "
        "that are not there may be promised of what is inbound at a location; the answer then tells when "
        "they will be there.",
        key="required",
        body=schemas.ReserveBody,
        request_example={"lines": [_LINE], "ttl_seconds": 900, "owner": "cart-81"},
        answers={201: schemas.ReservationAnswer},
        leads_to=(
            "get_reservation",
            "commit_reservation",
            "release_reservation",
            "extend_reservation",
            "fulfil_reservation",
            "cancel_reservation",
            "move_reservation",
            "replace_lines",
            "mark_ready",
            "mark_collected",
            "report_short",
        ),
        answer_example=HELD,
        problems=(
            "idempotency_mismatch",
            "location_not_found",
            "sku_not_found",
            "not_stocked",
            "pool_not_found",
            "channel_not_found",
            "insufficient_stock",
            *WRITE,
        ),
    ),
    Operation(
        method="POST",
        path="/v1/plans",
        name="plan_reservation",
        tag="Reservations",
        summary="Ask what a reserve would do, and why",
        description=(
            "Decides as a reserve would now, and holds nothing. Every location that could be asked is "
            "listed, the preferred first, with why it was or was not chosen."
        ),
        body=schemas.PlanBody,
        request_example={"lines": [{"sku": "A-1", "quantity": 2}], "channel": "web", "sourcing": "priority"},
        answers={200: schemas.PlanAnswer},
        answer_example={
            "can_reserve": True,
            "version": "1.1042",
            "lines": [
                {
                    "sku": "A-1",
                    "requested": 2,
                    "quantity": 2,
                    "locations": [
                        {
                            "location": "s7",
                            "quantity": 2,
                            "available": 5,
                            "reason": "chosen",
                            "distance_km": None,
                        }
                    ],
                }
            ],
        },
        problems=(
            "sku_not_found",
            "not_stocked",
            "pool_not_found",
            "channel_not_found",
            "invalid_request",
            *READ,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/reservations",
        name="list_reservations",
        tag="Reservations",
        summary="Find reservations",
        description=(
            "Those that meet everything asked, the newest first; all where nothing is asked. Whatever was "
            "answered before is in the list. Finished reservations are listed as long as they are "
            "remembered. Go on until `next_cursor` is null: a page may have fewer items than asked for "
            "before that."
        ),
        parameters=(
            Parameter("owner", "query", TEXT, "Of this owner.", "cart-81"),
            Parameter("reference", "query", TEXT, "With this reference now.", "order-7"),
            Parameter("sku", "query", SKU, "With a line of this SKU."),
            Parameter("location", "query", LOCATION, "With a line at this location."),
            Parameter("state", "query", {"type": "string", "enum": list(State)}, "In this state now."),
            Parameter("limit", "query", LIMIT, "Items of a page."),
            CURSOR,
        ),
        answers={200: schemas.ReservationsAnswer},
        answer_example={"items": [HELD], "next_cursor": None},
        problems=("invalid_request", *READ),
    ),
    Operation(
        method="GET",
        path="/v1/reservations/{id}",
        name="get_reservation",
        tag="Reservations",
        summary="A reservation as it stands",
        description="With `promises` each line tells how many open units of its SKU and location are not "
        "there yet, and when the supply comes that covers the last of them: a view as of this moment.",
        parameters=(
            _ID,
            Parameter("promises", "query", {"type": "boolean"}, "When its goods will be there as well."),
        ),
        answers={200: schemas.ReservationAnswer},
        answer_example=HELD,
        # `batch` is no id, yet an address.
        problems=("invalid_request", "reservation_not_found", "method_not_allowed", *READ),
    ),
    _resolution(
        "commit",
        "Promise held goods for good",
        "Held becomes allocated; with `fulfil` the goods leave at once. No body commits all.",
        problems=(*RESOLVED, "exceeds_open_quantity", "insufficient_stock", "not_stocked"),
        body=schemas.CommitBody,
        request_example={"fulfil": False, "reference": "order-7"},
    ),
    _resolution(
        "release",
        "Give held goods back",
        "No body releases all that is held.",
        problems=(*RESOLVED, "exceeds_open_quantity"),
        request_example={},
    ),
    _resolution(
        "extend",
        "Let a hold last longer",
        "At least so long from now on; a hold is never shortened.",
        key="optional",
        body=schemas.ExtendBody,
        body_is_optional=False,
        request_example={"ttl_seconds": 900},
        answer_example=HELD,
    ),
    _resolution(
        "fulfil",
        "Let committed goods leave",
        "on_hand falls. No body fulfils all that is committed.",
        problems=(*RESOLVED, "not_committed", "exceeds_open_quantity"),
        request_example={},
    ),
    _resolution(
        "cancel",
        "Give committed goods back",
        "No body cancels all that is committed.",
        problems=(*RESOLVED, "not_committed", "exceeds_open_quantity"),
        request_example={},
    ),
    Operation(
        method="POST",
        path="/v1/reservations/batch",
        name="run_batch",
        tag="Reservations",
        summary="Many operations at once",
        description=(
            "Each is independent and ends with the status and body that it would have had alone; `key` "
            "is its Idempotency-Key and `body` the body of that operation."
        ),
        body=schemas.BatchBody,
        request_example={"operations": [{"op": "reserve", "key": "cart-81", "body": {"lines": [_LINE]}}]},
        answers={207: schemas.BatchAnswer},
        answer_example={"results": [{"index": 0, "status": 201, "body": HELD}]},
        problems=("internal_error",),
    ),
)
