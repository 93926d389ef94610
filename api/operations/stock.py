"""The operations on stock."""

from api import schemas
from api.operations.model import (
    CURSOR,
    LIMIT,
    LOCATION_IN_PATH,
    READ,
    SKU_IN_PATH,
    WRITE,
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
    "unsellable": {"damaged": 1},
    "safety_stock": 0,
    "backorder_limit": 0,
    "fenced": 0,
    "available": 4,
    "version": "1.1042",
}

_IF_MATCH = Parameter(
    "If-Match",
    "header",
    {"type": "string"},
    "The ETag of the position, or `*`.",
    "*",
    is_required=True,
)

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
            "`quantity` is signed for `adjust` alone. Where a field is not valid, nothing is recorded. "
            "`condition` is what the goods were in: `sellable` or left out, or any other name, under which "
            "they are not for sale; a movement of the kind `condition` takes them to `to_condition`. "
            "`occurred_at` may lie in the past: what a count has in it does not change on_hand again "
            "(`ignored`). `reservation` names the one that the movement belongs to."
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
                    "effect": 5,
                }
            ]
        },
        problems=("internal_error",),
    ),
    Operation(
        method="POST",
        path="/v1/stock/counts",
        name="record_counts",
        tag="Stock",
        summary="Record what was counted",
        description=(
            "A count is true as of `counted_at`, whenever it arrives: on_hand is the newest count and what "
            "came and went after it. An older count, and one from before the history that is kept (30 days), "
            "changes nothing (`ignored`). Conditions of goods are left as they are."
        ),
        key="optional",
        body=schemas.CountsBody,
        request_example={
            "counts": [
                {
                    "id": "count-7-A-1",
                    "sku": "A-1",
                    "location": "s7",
                    "quantity": 6,
                    "counted_at": "2026-11-21T09:00:00.000Z",
                }
            ]
        },
        answers={207: schemas.MovementsAnswer},
        answer_example={
            "results": [
                {
                    "index": 0,
                    "status": 200,
                    "on_hand": 6,
                    "available": 4,
                    "version": "1.1045",
                    "uncovered": [],
                    "effect": -1,
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
        method="PUT",
        path="/v1/stock/{sku}/{location}",
        name="set_position",
        tag="Stock",
        summary="Set what is on hand",
        description=(
            "Compares and sets in one step: `If-Match` is the ETag with which the position was read, or `*` "
            "for whatever it is now. It counts as a count of this moment."
        ),
        parameters=(SKU_IN_PATH, LOCATION_IN_PATH, _IF_MATCH),
        key="optional",
        body=schemas.SetBody,
        request_example={"quantity": 7, "reason": "shelf check"},
        answers={200: schemas.SetAnswer},
        answer_example={**_POSITION, "uncovered": []},
        problems=(
            "location_not_found",
            "version_mismatch",
            "precondition_required",
            "quantity_out_of_range",
            *WRITE,
        ),
    ),
    Operation(
        method="GET",
        path="/v1/stock/{sku}/{location}/movements",
        name="list_movements",
        tag="Stock",
        summary="What happened to a position, newest first",
        description=(
            "Everything that came and went, and every count, of the last 30 days, by when it occurred. "
            "`kind` is that of the movement, `count`, `set` or `fulfil` (the goods of a reservation left)."
        ),
        parameters=(
            SKU_IN_PATH,
            LOCATION_IN_PATH,
            Parameter("limit", "query", LIMIT, "Items of a page."),
            CURSOR,
        ),
        answers={200: schemas.HistoryAnswer},
        answer_example={
            "movements": [
                {
                    "kind": "receive",
                    "id": "delivery-9-1",
                    "quantity": 5,
                    "effect": 5,
                    "occurred_at": "2026-11-21T08:00:00.000Z",
                    "recorded_at": "2026-11-21T08:00:01.250Z",
                    "version": "1.1044",
                    "reason": None,
                    "reference": None,
                    "condition": None,
                    "to_condition": None,
                    "reservation": None,
                }
            ],
            "next_cursor": None,
        },
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
