"""The operations on stock."""

from api import schemas
from api.operations.model import (
    CURSOR,
    LIMIT,
    LOCATION_IN_PATH,
    READ,
    SKU_IN_PATH,
    Example,
    Operation,
    Parameter,
)
from api.operations.reservations import HELD

_POSITION: Example = {
    "location": "s7",
    "on_hand": 7,
    "held": 2,
    "allocated": 0,
    "unsellable": {},
    "safety_stock": 0,
    "backorder_limit": 0,
    "fenced": 0,
    "available": 5,
    "version": "1.1042",
}

STOCK = (
    Operation(
        method="POST",
        path="/v1/stock/movements",
        name="record_movements",
        tag="Stock",
        summary="Record what happened to goods",
        description=(
            "Facts are never refused for lack of stock; `uncovered` names the promises that one broke. "
            "Each movement ends with its own status, in the order given; movements of one position take "
            "effect in that order. `id` is the movement's operation id: a repeat records nothing more. "
            "`quantity` is signed for `adjust` alone. Where a field is not valid, nothing is recorded."
        ),
        key="optional",
        body=schemas.MovementsBody,
        request_example={
            "movements": [
                {"id": "delivery-9-1", "kind": "receive", "sku": "A-1", "location": "s7", "quantity": 5}
            ]
        },
        answers={207: schemas.MovementsAnswer},
        answer_example={
            "results": [
                {
                    "index": 0,
                    "status": 200,
                    "on_hand": 7,
                    "available": 5,
                    "version": "1.1044",
                    "uncovered": [],
                }
            ]
        },
        problems=("internal_error",),
    ),
    Operation(
        method="GET",
        path="/v1/stock/{sku}",
        name="get_stock",
        tag="Stock",
        summary="The counters of a SKU at every location",
        parameters=(SKU_IN_PATH,),
        answers={200: schemas.StockAnswer},
        answer_example={"sku": "A-1", "positions": [_POSITION]},
        problems=("sku_not_found", "invalid_request", *READ),
    ),
    Operation(
        method="GET",
        path="/v1/stock/{sku}/{location}",
        name="get_position",
        tag="Stock",
        summary="The counters of one position",
        description="The ETag is made of the counters, not of the version.",
        parameters=(SKU_IN_PATH, LOCATION_IN_PATH),
        answers={200: schemas.PositionAnswer},
        answer_example=_POSITION,
        has_tag=True,
        problems=("sku_not_found", "location_not_found", "not_stocked", "invalid_request", *READ),
    ),
    Operation(
        method="GET",
        path="/v1/stock/{sku}/{location}/holders",
        name="list_holders",
        tag="Stock",
        summary="Who holds units of a position",
        description="The oldest promise first. The units of a basket's parts are shown as the basket's.",
        parameters=(
            SKU_IN_PATH,
            LOCATION_IN_PATH,
            Parameter("limit", "query", LIMIT, "Holders of a page."),
            CURSOR,
        ),
        answers={200: schemas.HoldersAnswer},
        answer_example={
            "holders": [
                {
                    "reservation": HELD["id"],
                    "state": "held",
                    "held": 2,
                    "allocated": 0,
                    "owner": "cart-81",
                    "reference": "order-7",
                    "expires_at": "2026-11-21T10:00:00.000Z",
                }
            ],
            "next_cursor": None,
        },
        problems=("sku_not_found", "location_not_found", "not_stocked", "invalid_request", *READ),
    ),
)
