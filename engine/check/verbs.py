"""The operations of histories and the words of refusals, by what can be judged of them."""

from engine.check.lives import RESOLVING
from engine.check.wider import CHANGING, COUNTING, POLICIES
from engine.outcomes import Outcome

READING = frozenset(
    {
        *("reservation", "availability", "availability_of", "nearby", "stock"),
        *("location", "locations", "pool", "pools", "channel", "channels", "item", "items"),
        *("policy", "policies", "fence", "fences", "plan", "availability_by", "alternatives"),
        *("conditions", "counts_wanted", "history", "pickups"),
        *("availability_to", "can_reserve", "has_kits", "promises", "uncovered"),
    }
)
SETTINGS = {
    **{f"save_{word}": 1 for word in ("location", "pool", "channel", "item")},
    **{f"delete_{word}": 3 for word in ("location", "pool", "channel", "item")},
    "save_document": 1,
    "set_supply": 1,
}
"""Operations on settings, documents and supplies, and how many effects one may have in each partition."""
MAKING = frozenset({"reserve", "source"})
FACTS = COUNTING | {"record"}
WITH_IDS = RESOLVING | CHANGING | MAKING | FACTS
KNOWN = READING | SETTINGS.keys() | POLICIES | WITH_IDS | {"sweep"}
STATE_WORDS = frozenset(
    {
        Outcome.RESERVATION_EXPIRED,
        Outcome.NOT_COMMITTED,
        Outcome.ALREADY_COMMITTED,
        Outcome.ALREADY_RELEASED,
        Outcome.ALREADY_FULFILLED,
        Outcome.ALREADY_CANCELLED,
        Outcome.EXCEEDS_OPEN_QUANTITY,
    }
)
NOT_TAKEN = frozenset(
    {
        "invalid_request",
        Outcome.OVERLOADED,
        Outcome.MEMORY_FULL,
        Outcome.REPLICAS_UNAVAILABLE,
        Outcome.STORAGE_UNAVAILABLE,
    }
)
