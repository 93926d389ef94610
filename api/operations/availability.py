"""The operations on availability."""

from api import schemas
from api.operations.model import LIMIT, LOCATION, READ, SKU_IN_PATH, TEXT, Operation, Parameter
from api.schemas_settings import NearbyAnswer
from engine import Capability, limits
from engine.nearby import MAX_RADIUS_KM

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
                "channel", "query", LOCATION, "What this channel can sell: by its pools, buffer and fences."
            ),
            Parameter("pool", "query", LOCATION, "What the locations of this pool have."),
            Parameter(
                "quantity",
                "query",
                {"type": "integer", "minimum": 1, "maximum": limits.MAX_QUANTITY},
                "Adds `can_reserve`: whether so many could be had, of channel or pool or else one location.",
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
                "Adds `explanation` to each location: the sum behind the number, and who holds units. A kit "
                "has them in its `components`.",
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
        problems=(
            "sku_not_found",
            "location_not_found",
            "pool_not_found",
            "channel_not_found",
            "invalid_request",
            *READ,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/availability/{sku}/nearby",
        name="get_nearby",
        tag="Availability",
        summary="Where near a place a SKU is to be had",
        description=(
            "Active locations within the radius that stock the SKU and have the capability, the nearest "
            "first. With `quantity`, those alone that can promise so many. With a channel or a pool, what "
            "it can promise of them; of a kit, what they have all parts for."
        ),
        parameters=(
            SKU_IN_PATH,
            Parameter(
                "lat",
                "query",
                {"type": "number", "minimum": -90, "maximum": 90},
                "Degrees north.",
                39.1,
                is_required=True,
            ),
            Parameter(
                "lon",
                "query",
                {"type": "number", "minimum": -180, "maximum": 180},
                "Degrees east.",
                -84.5,
                is_required=True,
            ),
            Parameter(
                "radius_km",
                "query",
                {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_RADIUS_KM, "default": 50},
                "How far to look.",
            ),
            Parameter(
                "quantity",
                "query",
                {"type": "integer", "minimum": 1, "maximum": limits.MAX_QUANTITY},
                "Only locations that can promise so many.",
            ),
            Parameter("limit", "query", LIMIT, "At the most so many locations."),
            Parameter(
                "capability",
                "query",
                {"type": "string", "enum": list(Capability), "default": Capability.PICKUP},
                "What the location must be able to do.",
            ),
            Parameter("channel", "query", LOCATION, "What this channel can sell there."),
            Parameter("pool", "query", LOCATION, "Only locations of this pool."),
        ),
        answers={200: NearbyAnswer},
        answer_example={
            "sku": "A-1",
            "version": "1.1042",
            "locations": [{"location": "s7", "distance_km": 1.254, "available": 7, "status": "in_stock"}],
        },
        has_tag=True,
        problems=("sku_not_found", "pool_not_found", "channel_not_found", "invalid_request", *READ),
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
