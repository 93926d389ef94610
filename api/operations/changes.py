"""The operations that change reservations, and those of pickups."""

from api import schemas, schemas_changes
from api.operations.model import (
    CURSOR,
    LIMIT,
    LOCATION,
    READ,
    RESERVATION,
    RESOLVED,
    WRITE,
    Operation,
    Parameter,
)
from api.operations.reservations import HELD

_ID = Parameter("id", "path", RESERVATION, "The reservation.", "r_AAB2cGxhaW4gZXhhbXBsZQ")
_LINE = {"sku": "A-1", "quantity": 2, "location": "s7"}
_FITS = ("location_not_found", "sku_not_found", "not_stocked", "insufficient_stock")
_COMMON = ("reservation_not_found", "idempotency_mismatch", *RESOLVED)
_SHORT = {"sku": "A-1", "location": "s7", "quantity": 2, "at": "2026-11-21T10:00:00.000Z"}

CHANGES = (
    Operation(
        method="POST",
        path="/v1/reservations/{id}/move",
        name="move_reservation",
        tag="Reservations",
        summary="Promise units from another location",
        description="Held and committed units stay what they are. All that are named go, or none.",
        parameters=(_ID,),
        key="required",
        body=schemas_changes.MoveBody,
        request_example={"lines": [{"sku": "A-1", "from": "s7", "to": "w1", "quantity": 2}]},
        answers={200: schemas.ReservationAnswer},
        answer_example=HELD,
        problems=(*_COMMON, *_FITS, "exceeds_open_quantity", *WRITE),
    ),
    Operation(
        method="PUT",
        path="/v1/reservations/{id}/lines",
        name="replace_lines",
        tag="Reservations",
        summary="Change what a cart holds",
        description=(
            "The hold has these lines from then on, or stays as it is. What it has already counts for it; "
            "what is no longer named is given back. The deadline stays. Of a line without a location stays "
            "where it is what the hold has of the SKU; places for the rest are chosen from the pool, or for "
            "the channel of the reservation."
        ),
        parameters=(_ID,),
        key="optional",
        body=schemas_changes.CartBody,
        request_example={"lines": [_LINE]},
        answers={200: schemas.ReservationAnswer},
        answer_example=HELD,
        problems=(*_COMMON, *_FITS, *WRITE),
    ),
    Operation(
        method="POST",
        path="/v1/reservations/{id}/ready",
        name="mark_ready",
        tag="Pickup",
        summary="The goods wait to be collected",
        description="Of a committed reservation. A repeat keeps the first moment.",
        parameters=(_ID,),
        key="optional",
        body=schemas.NoBody,
        body_is_optional=True,
        request_example={},
        answers={200: schemas_changes.PickupAnswer},
        answer_example={"reservation": HELD, "ready_at": "2026-11-21T10:00:00.000Z", "short": []},
        problems=(*_COMMON, "not_committed", *WRITE),
    ),
    Operation(
        method="POST",
        path="/v1/reservations/{id}/collected",
        name="mark_collected",
        tag="Pickup",
        summary="The customer has the goods",
        description="All that is committed is fulfilled: on_hand falls.",
        parameters=(_ID,),
        key="optional",
        body=schemas.NoBody,
        body_is_optional=True,
        request_example={},
        answers={200: schemas.ReservationAnswer},
        answer_example=HELD,
        problems=(*_COMMON, "not_committed", *WRITE),
    ),
    Operation(
        method="POST",
        path="/v1/reservations/{id}/short",
        name="report_short",
        tag="Pickup",
        summary="Units were not found when they were picked",
        description=(
            "They are cancelled, the reservation remembers it, and the position is to be counted. The answer "
            "tells who else has them, the nearest first."
        ),
        parameters=(_ID,),
        key="required",
        body=schemas_changes.LinesBody,
        request_example={"lines": [_LINE]},
        answers={200: schemas_changes.ShortPickAnswer},
        answer_example={
            "reservation": HELD,
            "ready_at": None,
            "short": [_SHORT],
            "alternatives": [
                {
                    **_LINE,
                    "locations": [{"location": "w1", "available": 5, "distance_km": 3.2}],
                }
            ],
        },
        problems=(*_COMMON, "not_committed", "exceeds_open_quantity", *WRITE),
    ),
    Operation(
        method="GET",
        path="/v1/pickups",
        name="list_pickups",
        tag="Pickup",
        summary="What a store has to pick or hand over",
        description=(
            "Reservations with committed units at the location, the oldest first. A page may have fewer items"
            " than `limit`, and still go on."
        ),
        parameters=(
            Parameter("location", "query", LOCATION, "The store.", "s7", is_required=True),
            Parameter(
                "state",
                "query",
                {"enum": ["waiting", "ready"]},
                "Those to be picked, or those that are ready; without it both.",
            ),
            Parameter("limit", "query", LIMIT, "Items of a page."),
            CURSOR,
        ),
        answers={200: schemas_changes.PickupsAnswer},
        answer_example={
            "items": [{"reservation": HELD, "ready_at": None, "short": []}],
            "next_cursor": None,
        },
        problems=("invalid_request", *READ),
    ),
    Operation(
        method="GET",
        path="/v1/counts/wanted",
        name="list_wanted_counts",
        tag="Stock",
        summary="Positions that are to be counted",
        description="Those where something was not found, the longest waiting first.",
        parameters=(
            Parameter("location", "query", LOCATION, "Only this location.", "s7"),
            Parameter("limit", "query", LIMIT, "How many at the most."),
        ),
        answers={200: schemas_changes.WantedCountsAnswer},
        answer_example={"items": [{"sku": "A-1", "location": "s7", "since": "2026-11-21T10:00:00.000Z"}]},
        problems=("invalid_request", *READ),
    ),
)
