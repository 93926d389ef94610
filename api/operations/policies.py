"""The operations on policies and fences."""

from api import schemas_policies as schemas
from api.operations.model import (
    CURSOR,
    LIMIT,
    LOCATION,
    LOCATION_IN_PATH,
    READ,
    SKU,
    SKU_IN_PATH,
    WRITE,
    Example,
    Operation,
    Parameter,
)

_CHANNEL = Parameter("channel", "path", LOCATION, "The channel.", "web")
_SKU_ASKED = Parameter("sku", "query", SKU, "Those of this SKU alone.")
_PAGE = (Parameter("limit", "query", LIMIT, "Items of a page."), CURSOR)
_POLICY: Example = {
    "sku": "A-1",
    "location": "s7",
    "safety_stock": 2,
    "backorder_limit": 0,
    "low_stock": 5,
}
_FENCE: Example = {
    "channel": "web",
    "sku": "A-1",
    "location": "s7",
    "quantity": 10,
    "spill": False,
    "remaining": 7,
    "used": 3,
}
_POLICY_PATH, _POLICY_NAMES = "/v1/policies/{sku}/{location}", (SKU_IN_PATH, LOCATION_IN_PATH)
_FENCE_PATH = "/v1/fences/{channel}/{sku}/{location}"
_FENCE_NAMES = (_CHANNEL, SKU_IN_PATH, LOCATION_IN_PATH)

POLICIES = (
    Operation(
        method="GET",
        path="/v1/policies",
        name="list_policies",
        tag="Policies",
        summary="All policies, by SKU and location",
        description="Without `sku` each page looks through all stock.",
        parameters=(_SKU_ASKED, *_PAGE),
        answers={200: schemas.PoliciesAnswer},
        answer_example={"items": [_POLICY], "next_cursor": None},
        problems=("invalid_request", *READ),
    ),
    Operation(
        method="GET",
        path=_POLICY_PATH,
        name="get_policy",
        tag="Policies",
        summary="The policy of a position",
        parameters=_POLICY_NAMES,
        has_tag=True,
        answers={200: schemas.PolicyAnswer},
        answer_example=_POLICY,
        problems=("policy_not_found", "invalid_request", *READ),
    ),
    Operation(
        method="PUT",
        path=_POLICY_PATH,
        name="save_policy",
        tag="Policies",
        parameters=_POLICY_NAMES,
        summary="Create or replace the policy of a position",
        description=(
            "`safety_stock` units stay out of sale; up to `backorder_limit` may be promised that are not "
            "there; with `low_stock` units or fewer the status is `low_stock`. Without a "
            "policy the defaults of item and location hold; one of zeros keeps them away. "
            "The position is made where there is none. What is promised stays promised."
        ),
        key="optional",
        body=schemas.PolicyBody,
        request_example={"safety_stock": 2, "low_stock": 5},
        answers={200: schemas.PolicyAnswer, 201: schemas.PolicyAnswer},
        answer_example=_POLICY,
        problems=("location_not_found", *WRITE),
    ),
    Operation(
        method="DELETE",
        path=_POLICY_PATH,
        name="delete_policy",
        tag="Policies",
        parameters=_POLICY_NAMES,
        summary="Take the policy of a position away",
        key="optional",
        answers={204: None},
        problems=("policy_not_found", "invalid_request", *WRITE),
    ),
    Operation(
        method="GET",
        path="/v1/fences",
        name="list_fences",
        tag="Fences",
        summary="All fences, by channel, SKU and location",
        description="Without `sku` each page looks through all stock.",
        parameters=(
            Parameter("channel", "query", LOCATION, "Those of this channel alone."),
            _SKU_ASKED,
            *_PAGE,
        ),
        answers={200: schemas.FencesAnswer},
        answer_example={"items": [_FENCE], "next_cursor": None},
        problems=("invalid_request", *READ),
    ),
    Operation(
        method="GET",
        path=_FENCE_PATH,
        name="get_fence",
        tag="Fences",
        summary="The fence of a channel at a position",
        parameters=_FENCE_NAMES,
        has_tag=True,
        answers={200: schemas.FenceAnswer},
        answer_example=_FENCE,
        problems=("fence_not_found", "invalid_request", *READ),
    ),
    Operation(
        method="PUT",
        path=_FENCE_PATH,
        name="save_fence",
        tag="Fences",
        parameters=_FENCE_NAMES,
        summary="Keep units of a position for a channel",
        description=(
            "`quantity` units are for the channel alone, those that it has promised already among them. With "
            "`spill` it may go on to what is for all. What it gives back fills the fence first; what leaves "
            "is gone from it. More units than there are may be kept."
        ),
        key="optional",
        body=schemas.FenceBody,
        request_example={"quantity": 10, "spill": False},
        answers={200: schemas.FenceAnswer, 201: schemas.FenceAnswer},
        answer_example=_FENCE,
        problems=("location_not_found", "channel_not_found", "not_stocked", *WRITE),
    ),
    Operation(
        method="DELETE",
        path=_FENCE_PATH,
        name="delete_fence",
        tag="Fences",
        parameters=_FENCE_NAMES,
        summary="Give what remains of a fence to all",
        key="optional",
        answers={204: None},
        problems=("fence_not_found", "fence_in_use", "invalid_request", *WRITE),
    ),
)
