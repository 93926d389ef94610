"""The operations on transfers, inbound orders and what can be promised by which day."""

from typing import Any

from api import schemas_supply as schemas
from api.operations.model import (
    CURSOR,
    LIMIT,
    LOCATION,
    READ,
    SKU,
    SKU_IN_PATH,
    WRITE,
    Example,
    Operation,
    Parameter,
)
from engine import limits

_TRANSFER: Example = {
    "id": "t_AAB2cGxhaW4gZXhhbXBsZQ",
    "state": "draft",
    "from": "w1",
    "to": "s7",
    "expected_at": None,
    "reference": "order-7",
    "created_at": "2026-11-21T10:00:00.000Z",
    "lines": [
        {
            "sku": "A-1",
            "quantity": 5,
            "received": 0,
            "in_transit": 0,
            "returned": 0,
            "discrepancy": None,
        }
    ],
    "uncovered": [],
}
_SHIPPED: Example = {
    **_TRANSFER,
    "state": "shipped",
    "expected_at": "2026-11-22T10:00:00.000Z",
    "lines": [{**_TRANSFER["lines"][0], "in_transit": 5}],
}
_CLOSED: Example = {
    **_SHIPPED,
    "state": "closed",
    "lines": [{**_TRANSFER["lines"][0], "received": 4, "discrepancy": -1}],
}
_CANCELLED: Example = {
    **_SHIPPED,
    "state": "cancelled",
    "lines": [{**_TRANSFER["lines"][0], "returned": 5}],
}
_INBOUND: Example = {
    "id": "i_AAB2cGxhaW4gZXhhbXBsZQ",
    "state": "expected",
    "sku": "A-1",
    "location": "w1",
    "quantity": 40,
    "received": 0,
    "open": 40,
    "discrepancy": None,
    "kind": "purchase",
    "expected_at": "2026-12-01T08:00:00.000Z",
    "reference": "PO-9",
    "created_at": "2026-11-21T10:00:00.000Z",
}
_DOCUMENT = "^{}_[A-Za-z0-9_-]{{20}}$"
_TRANSFER_ID = Parameter(
    "id", "path", {"type": "string", "pattern": _DOCUMENT.format("t")}, "The transfer.", _TRANSFER["id"]
)
_INBOUND_ID = Parameter(
    "id", "path", {"type": "string", "pattern": _DOCUMENT.format("i")}, "The inbound order.", _INBOUND["id"]
)
_LIMIT = Parameter("limit", "query", LIMIT, "Items of a page.")
_STATES = {"type": "string", "enum": ["draft", "shipped", "receiving", "received", "closed", "cancelled"]}
_DAYS = {"type": "integer", "minimum": 1, "maximum": limits.MAX_ATP_DAYS, "default": 14}
_KEPT = (
    "Those that have ended are listed for 90 days. A page may be shorter than `limit`: go on while there is "
    "a cursor."
)
_STEP = ("idempotency_mismatch", "location_not_found", "quantity_out_of_range")


def _transfer_step(
    verb: str,
    summary: str,
    description: str,
    **more: Any,  # noqa: ANN401 - the fields of an Operation
) -> Operation:
    settings: dict[str, Any] = {"key": "optional", "body": schemas.NoBody, **more}
    problems = settings.pop("problems")
    return Operation(
        method="POST",
        path="/v1/transfers/{id}/" + verb,
        name=f"{verb}_transfer",
        tag="Transfers",
        summary=summary,
        description=description,
        parameters=(_TRANSFER_ID,),
        body_is_optional=True,
        answers={200: schemas.TransferAnswer},
        problems=("transfer_not_found", *problems, *_STEP, *WRITE),
        **settings,
    )


SUPPLY = (
    Operation(
        method="POST",
        path="/v1/transfers",
        name="create_transfer",
        tag="Transfers",
        summary="Plan to move goods from one location to another",
        description="A draft: no position changes yet. Lines of one SKU are summed.",
        key="required",
        body=schemas.TransferBody,
        request_example={"from": "w1", "to": "s7", "lines": [{"sku": "A-1", "quantity": 5}]},
        answers={201: schemas.TransferAnswer},
        leads_to=("get_transfer", "ship_transfer", "receive_transfer", "cancel_transfer"),
        answer_example=_TRANSFER,
        problems=("idempotency_mismatch", "location_not_found", *WRITE),
    ),
    Operation(
        method="GET",
        path="/v1/transfers",
        name="list_transfers",
        tag="Transfers",
        summary="Transfers, the newest first",
        description=_KEPT,
        parameters=(
            Parameter("state", "query", _STATES, "Those in a state only."),
            _LIMIT,
            CURSOR,
        ),
        answers={200: schemas.TransfersAnswer},
        answer_example={"items": [_TRANSFER], "next_cursor": None},
        problems=("invalid_request", *READ),
    ),
    Operation(
        method="GET",
        path="/v1/transfers/{id}",
        name="get_transfer",
        tag="Transfers",
        summary="A transfer as it stands",
        parameters=(_TRANSFER_ID,),
        answers={200: schemas.TransferAnswer},
        answer_example=_TRANSFER,
        problems=("transfer_not_found", "invalid_request", *READ),
    ),
    _transfer_step(
        "ship",
        "Let the goods leave the source",
        "A fact, never refused for stock: `uncovered` names the promises that it broke. The units are off "
        "the source's on_hand and inbound at the target.",
        problems=("already_cancelled",),
        request_example={},
        answer_example=_SHIPPED,
    ),
    _transfer_step(
        "receive",
        "Record what came to the target",
        "No lines: all that is open. There may be several receipts, and more may come than was shipped. With "
        "`close` no more will: what is missing is the discrepancy of its line.",
        key="partial",
        body=schemas.ReceiveTransferBody,
        request_example={"lines": [{"sku": "A-1", "quantity": 4}], "close": True},
        answer_example=_CLOSED,
        problems=("not_shipped", "already_closed", "already_cancelled"),
    ),
    _transfer_step(
        "cancel",
        "End a transfer",
        "What was shipped and did not come goes back to the source.",
        problems=("already_closed",),
        request_example={},
        answer_example=_CANCELLED,
    ),
    Operation(
        method="POST",
        path="/v1/inbound",
        name="create_inbound",
        tag="Inbound",
        summary="Expect units of a SKU",
        key="required",
        body=schemas.InboundBody,
        request_example={
            "sku": "A-1",
            "location": "w1",
            "quantity": 40,
            "expected_at": "2026-12-01T08:00:00.000Z",
            "reference": "PO-9",
        },
        answers={201: schemas.InboundAnswer},
        leads_to=("get_inbound", "receive_inbound", "cancel_inbound"),
        answer_example=_INBOUND,
        problems=(*_STEP, *WRITE),
    ),
    Operation(
        method="GET",
        path="/v1/inbound",
        name="list_inbound",
        tag="Inbound",
        summary="Inbound orders, the newest first",
        description=_KEPT,
        parameters=(
            Parameter("sku", "query", SKU, "Those of a SKU only."),
            Parameter("location", "query", LOCATION, "Those of a location only."),
            _LIMIT,
            CURSOR,
        ),
        answers={200: schemas.InboundsAnswer},
        answer_example={"items": [_INBOUND], "next_cursor": None},
        problems=("invalid_request", *READ),
    ),
    Operation(
        method="GET",
        path="/v1/inbound/{id}",
        name="get_inbound",
        tag="Inbound",
        summary="An inbound order as it stands",
        parameters=(_INBOUND_ID,),
        answers={200: schemas.InboundAnswer},
        answer_example=_INBOUND,
        problems=("inbound_not_found", "invalid_request", *READ),
    ),
    Operation(
        method="POST",
        path="/v1/inbound/{id}/receive",
        name="receive_inbound",
        tag="Inbound",
        summary="Record units that came",
        description=(
            "There may be several receipts, and more may come than was expected. With `close` no more will: "
            "what is missing is the discrepancy."
        ),
        parameters=(_INBOUND_ID,),
        key="required",
        body=schemas.ReceiveInboundBody,
        request_example={"quantity": 40},
        answers={200: schemas.InboundAnswer},
        answer_example={**_INBOUND, "state": "received", "received": 40, "open": 0, "discrepancy": 0},
        problems=("inbound_not_found", "already_closed", "already_cancelled", *_STEP, *WRITE),
    ),
    Operation(
        method="POST",
        path="/v1/inbound/{id}/cancel",
        name="cancel_inbound",
        tag="Inbound",
        summary="Expect no more of an inbound order",
        description="One of which some units came is closed, with its discrepancy.",
        parameters=(_INBOUND_ID,),
        key="optional",
        body=schemas.NoBody,
        body_is_optional=True,
        request_example={},
        answers={200: schemas.InboundAnswer},
        answer_example={**_INBOUND, "state": "cancelled", "open": 0},
        problems=("inbound_not_found", "already_closed", *_STEP, *WRITE),
    ),
    Operation(
        method="GET",
        path="/v1/atp/{sku}",
        name="get_atp",
        tag="Inbound",
        summary="What can be promised by which day",
        description=(
            "For each day (UTC) what is there and promised to nobody, with what is expected by then, at the "
            "least of all days from it to the last: a promise for a day holds on every later one. What is "
            "overdue is taken to come today. A channel is told what it may take, less its buffer and the "
            "fences of others."
        ),
        parameters=(
            SKU_IN_PATH,
            Parameter("location", "query", LOCATION, "This location only; else all that stock the SKU."),
            Parameter("pool", "query", LOCATION, "The active locations of this pool only."),
            Parameter("channel", "query", LOCATION, "The active locations of this channel's pools only."),
            Parameter("days", "query", _DAYS, "How many days, today included."),
        ),
        answers={200: schemas.AtpAnswer},
        answer_example={"days": [{"date": "2026-11-21", "atp": 5}, {"date": "2026-11-22", "atp": 45}]},
        problems=(
            "sku_not_found",
            "location_not_found",
            "pool_not_found",
            "channel_not_found",
            "invalid_request",
            *READ,
        ),
    ),
)
