"""The operations on availability."""

from api import schemas
from api.operations.model import LOCATION, READ, SKU_IN_PATH, TEXT, Operation, Parameter
from engine import limits

AVAILABILITY = (
    Operation(
        method="GET",
        path="/v1/availability/{sku}",
        name="get_availability",
        tag="Availability",
        summary="What can be promised of a SKU",
        description="`available` is the sum over the asked locations of what is above zero.",
        parameters=(
            SKU_IN_PATH,
            Parameter("location", "query", LOCATION, "Only this location; may be repeated.", repeats=True),
            Parameter(
                "quantity",
                "query",
                {"type": "integer", "minimum": 1, "maximum": limits.MAX_QUANTITY},
                "Adds `can_reserve`: whether one location could promise so many.",
            ),
            Parameter(
                "owner",
                "query",
                TEXT,
                "What this owner holds counts as free: what it could reserve if it began anew.",
                "cart-81",
            ),
            Parameter(
                "explain",
                "query",
                {"type": "boolean", "default": False},
                "Adds `explanation` to each location: the sum behind the number, and who holds units.",
            ),
        ),
        answers={200: schemas.AvailabilityAnswer},
        answer_example={
            "sku": "A-1",
            "available": 7,
            "status": "in_stock",
            "version": "1.1042",
            "locations": [{"location": "s7", "available": 7, "status": "in_stock"}],
        },
        has_tag=True,
        problems=("sku_not_found", "location_not_found", "pool_not_found", "invalid_request", *READ),
    ),
    Operation(
        method="POST",
        path="/v1/availability/query",
        name="query_availability",
        tag="Availability",
        summary="What can be promised of many SKUs",
        description="In the order asked. An unknown SKU has `known` false; it is no failure.",
        body=schemas.QueryBody,
        request_example={"skus": ["A-1", "B-2"], "detail": False},
        answers={200: schemas.QueryAnswer},
        answer_example={
            "items": [
                {"sku": "A-1", "available": 7, "status": "in_stock", "known": True, "version": "1.1042"},
                {"sku": "B-2", "available": 0, "status": "out_of_stock", "known": False, "version": None},
            ]
        },
        problems=("location_not_found", "pool_not_found", *READ),
    ),
)
