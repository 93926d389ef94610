"""Every word that the engine may answer with, in order of precedence.

The word is the same everywhere: what Lua returns, this enum, the exception, the HTTP problem, the
metric's label, the heading in the documentation. Where several refusals apply, the first one listed is
the one that is answered.
"""

from enum import StrEnum


class Retry(StrEnum):
    """Whether sending the request again can help."""

    NEVER = "never"
    """The request itself must change."""
    SAME_KEY = "same_key"
    """Send the same request with the same operation id: it takes effect once, however often it is sent."""
    NEW_KEY = "new_key"
    """The state may change; a later attempt is a new operation."""


class Outcome(StrEnum):
    """What became of a request."""

    HELD = "held"
    COMMITTED = "committed"
    RELEASED = "released"
    EXTENDED = "extended"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"
    REPLANNED = "replanned"
    EXPIRED = "expired"
    RECORDED = "recorded"
    SAVED = "saved"
    UNCHANGED = "unchanged"
    CARD = "card"
    CARDS = "cards"
    PLANNED = "planned"
    FOUND = "found"
    FORGOTTEN = "forgotten"
    TRIMMED = "trimmed"
    TAKEN_OVER = "taken_over"
    PACED = "paced"
    REPLAYED = "replayed"
    REPEATED = "repeated"

    # Told by the script to the engine, never to a caller.
    SUPERSEDED = "superseded"
    MISSING = "missing"
    STALE = "stale"
    FLOATING = "floating"
    PENDING = "pending"
    OVERDUE = "overdue"
    OPENED = "opened"
    DECIDED = "decided"
    ABANDONED = "abandoned"
    FOLLOWED = "followed"
    BEHIND = "behind"
    TAKEN = "taken"
    SPREAD = "spread"
    REPAIRS = "repairs"
    SETTLED = "settled"
    BOUND = "bound"
    UNBOUND = "unbound"
    CARRIED = "carried"
    KIT_IN_ITSELF = "kit_in_itself"
    KIT_TOO_DEEP = "kit_too_deep"
    OVERTAKEN = "overtaken"
    INDEXED = "indexed"
    EXPECTED = "expected"

    # Refusals: no effect.
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    RESERVATION_NOT_FOUND = "reservation_not_found"
    LOCATION_NOT_FOUND = "location_not_found"
    POOL_NOT_FOUND = "pool_not_found"
    CHANNEL_NOT_FOUND = "channel_not_found"
    ITEM_NOT_FOUND = "item_not_found"
    KEY_NOT_FOUND = "key_not_found"
    SKU_NOT_FOUND = "sku_not_found"
    NOT_STOCKED = "not_stocked"
    POLICY_NOT_FOUND = "policy_not_found"
    FENCE_NOT_FOUND = "fence_not_found"
    RESERVATION_EXPIRED = "reservation_expired"
    NOT_COMMITTED = "not_committed"
    ALREADY_COMMITTED = "already_committed"
    ALREADY_RELEASED = "already_released"
    ALREADY_FULFILLED = "already_fulfilled"
    ALREADY_CANCELLED = "already_cancelled"
    EXCEEDS_OPEN_QUANTITY = "exceeds_open_quantity"
    INSUFFICIENT_STOCK = "insufficient_stock"
    VERSION_MISMATCH = "version_mismatch"
    QUANTITY_OUT_OF_RANGE = "quantity_out_of_range"
    LOCATION_IN_USE = "location_in_use"
    POOL_IN_USE = "pool_in_use"
    CHANNEL_IN_USE = "channel_in_use"
    ITEM_IN_USE = "item_in_use"
    FENCE_IN_USE = "fence_in_use"
    TRANSFER_NOT_FOUND = "transfer_not_found"
    INBOUND_NOT_FOUND = "inbound_not_found"
    NOT_SHIPPED = "not_shipped"
    ALREADY_CLOSED = "already_closed"

    # The server could not take the request: no effect.
    OVERLOADED = "overloaded"
    MEMORY_FULL = "memory_full"
    REPLICAS_UNAVAILABLE = "replicas_unavailable"
    STORAGE_UNAVAILABLE = "storage_unavailable"

    # The answer was lost: the effect may or may not have happened.
    UNCONFIRMED = "unconfirmed"


RETRY: dict[Outcome, Retry] = {
    Outcome.IDEMPOTENCY_MISMATCH: Retry.NEVER,
    Outcome.RESERVATION_NOT_FOUND: Retry.NEVER,
    Outcome.LOCATION_NOT_FOUND: Retry.NEVER,
    Outcome.POOL_NOT_FOUND: Retry.NEVER,
    Outcome.CHANNEL_NOT_FOUND: Retry.NEVER,
    Outcome.ITEM_NOT_FOUND: Retry.NEVER,
    Outcome.KEY_NOT_FOUND: Retry.NEVER,
    Outcome.SKU_NOT_FOUND: Retry.NEVER,
    Outcome.NOT_STOCKED: Retry.NEVER,
    Outcome.POLICY_NOT_FOUND: Retry.NEVER,
    Outcome.FENCE_NOT_FOUND: Retry.NEVER,
    Outcome.RESERVATION_EXPIRED: Retry.NEVER,
    Outcome.NOT_COMMITTED: Retry.NEVER,
    Outcome.ALREADY_COMMITTED: Retry.NEVER,
    Outcome.ALREADY_RELEASED: Retry.NEVER,
    Outcome.ALREADY_FULFILLED: Retry.NEVER,
    Outcome.ALREADY_CANCELLED: Retry.NEVER,
    Outcome.EXCEEDS_OPEN_QUANTITY: Retry.NEVER,
    Outcome.INSUFFICIENT_STOCK: Retry.NEW_KEY,
    Outcome.VERSION_MISMATCH: Retry.NEW_KEY,
    Outcome.QUANTITY_OUT_OF_RANGE: Retry.NEVER,
    Outcome.LOCATION_IN_USE: Retry.NEW_KEY,
    Outcome.POOL_IN_USE: Retry.NEW_KEY,
    Outcome.CHANNEL_IN_USE: Retry.NEW_KEY,
    Outcome.ITEM_IN_USE: Retry.NEW_KEY,
    Outcome.FENCE_IN_USE: Retry.NEW_KEY,
    Outcome.TRANSFER_NOT_FOUND: Retry.NEVER,
    Outcome.INBOUND_NOT_FOUND: Retry.NEVER,
    Outcome.NOT_SHIPPED: Retry.NEW_KEY,
    Outcome.ALREADY_CLOSED: Retry.NEVER,
    Outcome.OVERLOADED: Retry.SAME_KEY,
    Outcome.MEMORY_FULL: Retry.SAME_KEY,
    Outcome.REPLICAS_UNAVAILABLE: Retry.SAME_KEY,
    Outcome.STORAGE_UNAVAILABLE: Retry.SAME_KEY,
    Outcome.UNCONFIRMED: Retry.SAME_KEY,
}
"""For each word that is not success: whether sending again can help."""

OF_DOCUMENTS: frozenset[str] = frozenset(
    {
        Outcome.TRANSFER_NOT_FOUND,
        Outcome.INBOUND_NOT_FOUND,
        Outcome.NOT_SHIPPED,
        Outcome.ALREADY_CLOSED,
    }
)
"""Refusals of transfers and inbound orders: no script answers them, as scripts cannot read documents."""

REFUSALS: frozenset[str] = frozenset(
    word
    for word in RETRY
    if word
    not in {
        Outcome.OVERLOADED,
        Outcome.MEMORY_FULL,
        Outcome.REPLICAS_UNAVAILABLE,
        Outcome.STORAGE_UNAVAILABLE,
        Outcome.UNCONFIRMED,
    }
)
"""The words with which a request is refused."""
