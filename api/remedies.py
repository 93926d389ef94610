"""What to do about each problem: the text behind `/problems/<code>`, for people."""

from collections.abc import Mapping

from engine.outcomes import Retry

REMEDIES: Mapping[str, str] = {
    "malformed_json": "Send the body as one JSON document in UTF-8, without lone surrogates.",
    "malformed_request": "Send a complete HTTP request: the whole body, in the announced length.",
    "idempotency_key_missing": (
        "Send an Idempotency-Key header: any text of your choice that is new for a new request, and the "
        "same when you repeat one. Only it tells a repeat from a second order."
    ),
    "idempotency_key_invalid": "Choose a key of 1 to 255 visible ASCII characters, bare or in double quotes.",
    "unauthenticated": "Send Authorization: Bearer with a key that is whole, not expired and not revoked.",
    "forbidden": (
        "Use a key with a scope that this needs. Some routes are closed to keys that are restricted to "
        "locations or channels."
    ),
    "not_found": "Check the address; /openapi.json lists all of them.",
    "pool_not_found": "Name a pool that exists, or the locations themselves.",
    "method_not_allowed": "Use one of the methods that the Allow header lists.",
    "not_acceptable": "Accept application/json.",
    "request_timeout": "Send the request again with the same key.",
    "payload_too_large": "Split the request.",
    "uri_too_long": "Ask for less at once, or with a body: POST /v1/availability/query.",
    "headers_too_large": "Send fewer and shorter headers.",
    "quota_exceeded": "Wait for `Retry-After` seconds, then send it again with the same key.",
    "unsupported_media_type": "Send the body with Content-Type: application/json.",
    "invalid_request": (
        "Correct what `errors` lists: `pointer` leads to the field (a name after `?` is a parameter of "
        "the query), `detail` says what it must be."
    ),
    "precondition_required": "Send the ETag of the position as If-Match, or * to set it whatever it is.",
    "version_mismatch": "Read the position again, and decide whether the change is still right.",
    "internal_error": "Send it again with the same key; if it stays, look for the request id in the log.",
    "draining": "Send it again with the same key: another server takes it.",
    "reservation_not_found": (
        "Check the id. A reservation that has ended is forgotten a day later, and is then unknown too."
    ),
    "location_not_found": "Create the location first, or correct its id.",
    "sku_not_found": "A SKU is known from its first movement on; check its spelling.",
    "not_stocked": "The location and the SKU exist, but the SKU never was at this location.",
    "policy_not_found": "Save a policy first. A policy of zeros is none.",
    "fence_not_found": "Check channel, SKU and location, or save the fence first.",
    "insufficient_stock": (
        "`shortages` names every line that is short, and what is available. Ask for less or elsewhere; "
        "nothing was held."
    ),
    "not_committed": "Commit the reservation before it is fulfilled or cancelled.",
    "already_committed": "It is promised for good: fulfil it, or cancel it.",
    "already_released": "Its units were given back. Reserve anew.",
    "already_fulfilled": "The goods have left. Record a movement if they come back.",
    "already_cancelled": "Its units were given back. Reserve anew.",
    "exceeds_open_quantity": "`excess` names the positions, and how many units are still open there.",
    "quantity_out_of_range": "A count beyond 10^15 units is taken for a mistake. Check the quantity.",
    "channel_not_found": "Name a channel that exists, or create it first.",
    "key_not_found": "Check the id. A key that reaches further than your own is not shown to you.",
    "item_not_found": "An item has settings once they were saved; a SKU can be stocked without.",
    "location_in_use": "Take it out of its pools. Once it was stocked it stays: set it inactive instead.",
    "pool_in_use": "Take the pool out of its channels first.",
    "channel_in_use": "Delete the fences of the channel first.",
    "item_in_use": "Take the item out of its kits. What was ever stocked keeps its settings.",
    "fence_in_use": (
        "Wait until the channel's reservations have ended, or save the fence with a quantity of 0: then no "
        "more is withheld than the channel has promised."
    ),
    "transfer_not_found": "Check the id: it begins with t_.",
    "inbound_not_found": "Check the id: it begins with i_.",
    "not_shipped": "Ship the transfer first: goods of a draft cannot come.",
    "already_closed": (
        "Everything came, or it was closed short. Record goods that come later as movements; make a new "
        "transfer to send some back."
    ),
    "reservation_expired": (
        'Its units were given back when its time was up. Commit with "if_expired": "retake" to take them '
        "anew if they are still there."
    ),
    "idempotency_mismatch": "This key belongs to another request. Use a new key for a new request.",
    "overloaded": "Nothing happened. Wait as Retry-After says, then send it again with the same key.",
    "memory_full": "Nothing happened. The stock server needs more memory.",
    "replicas_unavailable": "Nothing happened. The stock server waits for its replicas.",
    "storage_unavailable": "Nothing happened. Send it again with the same key when the server is back.",
    "unconfirmed": (
        "It may have taken effect or not. Send the same request with the same key: it then takes effect "
        "once, whichever it was."
    ),
}
"""By code; every problem has one."""

RETRIES: Mapping[Retry, str] = {
    Retry.NEVER: "Sending the same request again changes nothing: the request itself must change.",
    Retry.SAME_KEY: "Send the same request again, with the same key. It takes effect once at the most.",
    Retry.NEW_KEY: "It may succeed later. A later attempt is a new request, with a new key.",
}
"""What `retryable` says."""
