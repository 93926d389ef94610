"""The operations on API keys."""

from api import schemas, schemas_keys
from api.operations.model import CURSOR, LIMIT, READ, WRITE, Example, Operation, Parameter

_ID = Parameter("id", "path", {"type": "string", "pattern": "^[a-z2-7]{8}$"}, "The key.", "k7q2axbm")
_KEY: Example = {
    "id": "k7q2axbm",
    "name": "web shop",
    "scopes": ["availability:read", "reservation:create"],
    "locations": None,
    "channels": ["web"],
    "quantities": "exact",
    "created_at": "2026-11-21T10:00:00.000Z",
    "expires_at": None,
    "revoked_at": None,
    "requests_per_second": None,
    "secrets": [{"created_at": "2026-11-21T10:00:00.000Z", "ends_at": None}],
}
_MADE: Example = {**_KEY, "key": "bck_k7q2axbm_abcdefghijklmnopqrstuvwxyz234567mfrgg2i"}

KEYS = (
    Operation(
        method="GET",
        path="/v1/keys",
        name="list_keys",
        tag="Keys",
        summary="All keys that reach no further than your own",
        parameters=(Parameter("limit", "query", LIMIT, "Items of a page."), CURSOR),
        answers={200: schemas_keys.KeysAnswer},
        answer_example={"items": [_KEY], "next_cursor": None},
        problems=("invalid_request", *READ),
    ),
    Operation(
        method="POST",
        path="/v1/keys",
        name="create_key",
        tag="Keys",
        summary="Make a key",
        description=(
            "`key` is shown in this answer alone; a repeat is answered without it. A key can give no more "
            "than it has itself. With `quantities: banded` the key is shown quantities rounded down to 0, 1, "
            "5, 10, 20, 50 or 100, and may only ask and reserve."
        ),
        key="required",
        body=schemas_keys.KeyBody,
        request_example={
            "name": "web shop",
            "scopes": ["availability:read", "reservation:create"],
            "channels": ["web"],
        },
        answers={201: schemas_keys.MadeKeyAnswer},
        answer_example=_MADE,
        problems=("idempotency_mismatch", *WRITE),
        leads_to=("get_key", "rotate_key", "revoke_key"),
    ),
    Operation(
        method="GET",
        path="/v1/keys/{id}",
        name="get_key",
        tag="Keys",
        summary="A key, without what proves it",
        parameters=(_ID,),
        answers={200: schemas_keys.KeyAnswer},
        answer_example=_KEY,
        problems=("key_not_found", "invalid_request", *READ),
    ),
    Operation(
        method="POST",
        path="/v1/keys/{id}/rotate",
        name="rotate_key",
        tag="Keys",
        summary="Give a key a new secret",
        description="The secret before stays good for `grace_seconds`. No more than two are good at a time.",
        parameters=(_ID,),
        key="required",
        body=schemas_keys.RotateBody,
        body_is_optional=True,
        request_example={"grace_seconds": 3600},
        answers={200: schemas_keys.MadeKeyAnswer},
        answer_example=_MADE,
        problems=("key_not_found", *WRITE),
    ),
    Operation(
        method="POST",
        path="/v1/keys/{id}/revoke",
        name="revoke_key",
        tag="Keys",
        summary="End a key for good",
        description="All workers refuse it within five seconds.",
        parameters=(_ID,),
        body=schemas.NoBody,
        body_is_optional=True,
        request_example={},
        answers={200: schemas_keys.KeyAnswer},
        answer_example=_KEY,
        problems=("key_not_found", *WRITE),
    ),
)
