"""The exception for each refusal of a script."""

from collections.abc import Collection, Sequence

from engine.commands import Reply
from engine.errors import (
    REFUSAL_ERRORS,
    ExceedsOpenQuantity,
    InsufficientStock,
    LocationNotFound,
    NotFound,
    Refused,
)
from engine.outcomes import Outcome
from engine.records import Plan
from engine.types import Excess, Shortage

_DETAILS: dict[Outcome, str] = {
    Outcome.IDEMPOTENCY_MISMATCH: "this operation id was used before, with other content",
    Outcome.NOT_COMMITTED: "nothing of the reservation is committed",
    Outcome.ALREADY_COMMITTED: "the reservation is committed",
    Outcome.ALREADY_RELEASED: "the reservation was released",
    Outcome.ALREADY_FULFILLED: "the goods have left",
    Outcome.ALREADY_CANCELLED: "the reservation was cancelled",
    Outcome.RESERVATION_EXPIRED: "the hold has lapsed and its stock was given back",
    Outcome.RESERVATION_NOT_FOUND: "there is no such reservation",
    Outcome.LOCATION_NOT_FOUND: "there is no such location",
    Outcome.SKU_NOT_FOUND: "no location stocks it",
    Outcome.VERSION_MISMATCH: "the position has changed since it was read",
    Outcome.POOL_NOT_FOUND: "there is no such pool",
    Outcome.CHANNEL_NOT_FOUND: "there is no such channel",
    Outcome.ITEM_NOT_FOUND: "nothing was set for this item",
    Outcome.KEY_NOT_FOUND: "there is no such key",
    Outcome.NOT_STOCKED: "the location does not stock it",
    Outcome.POLICY_NOT_FOUND: "there is no policy",
    Outcome.FENCE_NOT_FOUND: "there is no such fence",
    Outcome.FENCE_IN_USE: "its channel has promised units of it",
    Outcome.LOCATION_IN_USE: "positions exist at the location, or a pool names it",
    Outcome.POOL_IN_USE: "a channel sells from the pool",
    Outcome.CHANNEL_IN_USE: "the channel has fences",
    Outcome.ITEM_IN_USE: "positions of the item exist, or it is part of a kit",
    Outcome.QUANTITY_OUT_OF_RANGE: "on_hand would leave the range that is counted",
}


def plain_refusal(reply: Reply, subject: str) -> Refused:
    """A refusal that names nothing but its subject."""
    word = Outcome(reply.word or "")
    return REFUSAL_ERRORS[word](f"{subject}: {_DETAILS.get(word, word)}", version=_version(reply))


def state_refusal(reply: Reply) -> Refused:
    """A refusal for the state that a reservation is in, or for a reused operation id."""
    word = Outcome(reply.word or "")
    return REFUSAL_ERRORS[word](_DETAILS.get(word, word), version=_version(reply))


def shortage_refusal(reply: Reply, plan: Plan, shares: Sequence[tuple[int, int]]) -> InsufficientStock:
    """Names every line that lies on a short position: index, available and requested units of each."""
    found = reply.answer[2:]
    short = {
        index: (available, requested)
        for index, available, requested in zip(found[::3], found[1::3], found[2::3], strict=True)
    }
    lines = [index for index, _ in shares] if shares else range(len(plan.positions))
    shortages = [
        Shortage(line, *_place(plan, index), short[index][1], short[index][0])
        for line, index in enumerate(lines)
        if index in short
    ]
    first, more = shortages[0], len(shortages) - 1
    detail = f"{first.sku} at {first.location}: {first.requested} requested, {first.available} available"
    if more:
        detail = f"{detail}, and {more} more"
    return InsufficientStock(detail, shortages, version=_version(reply))


def excess_refusal(reply: Reply, plan: Plan, chosen: Sequence[tuple[int, int]]) -> ExceedsOpenQuantity:
    """Names every position of which more was asked than is open."""
    found, asked = reply.answer[2:], dict(chosen)
    excess = [
        Excess(*_place(plan, index), asked[index], units)
        for index, units in zip(found[::2], found[1::2], strict=True)
    ]
    detail = "more units are asked for than are open in this state"
    return ExceedsOpenQuantity(detail, excess, version=_version(reply))


def missing_refusal(reply: Reply, plan: Plan, locations: Collection[str]) -> NotFound:
    """Tells a location that does not exist from a SKU that does not, or that lies elsewhere."""
    for position in plan.positions:
        if position.location not in locations:
            return LocationNotFound(f"there is no location {position.location}", version=_version(reply))
    sku, location = _place(plan, reply.answer[2])
    error = REFUSAL_ERRORS[Outcome(reply.word or "")]
    assert issubclass(error, NotFound)
    return error(f"{sku} at {location}", version=_version(reply))


def _place(plan: Plan, index: int) -> tuple[str, str]:
    position = plan.positions[index]
    return position.sku, position.location


def _version(reply: Reply) -> str | None:
    """`epoch.seq` that the decision was made on, where the answer tells it."""
    return f"{reply.epoch}.{reply.answer[1]}" if len(reply.answer) > 1 else None
