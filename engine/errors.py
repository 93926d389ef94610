"""The exceptions of the engine, one for each word of `Outcome` that is not success.

BincardError
├── InvalidRequest              the caller's values break a rule; names the field and the remedy
├── DatasetUnfit                the server's data set cannot be opened as asked
├── Refused                     decided: no effect
│   ├── IdempotencyMismatch
│   ├── NotFound
│   │   └── ReservationNotFound · LocationNotFound · PoolNotFound · ChannelNotFound · ItemNotFound ·
│   │       KeyNotFound · PolicyNotFound · FenceNotFound · SkuNotFound · NotStocked ·
│   │       TransferNotFound · InboundNotFound
│   ├── StateConflict
│   │   └── ReservationExpired · NotCommitted · AlreadyCommitted · AlreadyReleased ·
│   │       AlreadyFulfilled · AlreadyCancelled · NotShipped · AlreadyClosed
│   ├── SettingInUse
│   │   └── LocationInUse · PoolInUse · ChannelInUse · ItemInUse
│   ├── FenceInUse · ExceedsOpenQuantity · InsufficientStock · QuantityOutOfRange · VersionMismatch
├── Unavailable                 the server could not take it: no effect, send it again
│   └── Overloaded · MemoryFull · ReplicasUnavailable · StorageUnavailable
└── Unconfirmed                 the answer was lost: send it again with the same operation id
"""

from collections.abc import Sequence
from typing import ClassVar

from engine.outcomes import RETRY, Outcome, Retry
from engine.types import Excess, Shortage


class BincardError(Exception):
    """Anything that the engine raises on purpose."""


class InvalidRequest(BincardError):
    """A value breaks a rule. `field` is a JSON pointer into the request."""

    def __init__(self, field: str, remedy: str) -> None:
        super().__init__(f"{field}: {remedy}")
        self.field = field
        self.remedy = remedy


class DatasetUnfit(BincardError):
    """The server holds no data set, or one that this release or these options do not fit."""


class OutcomeError(BincardError):
    """An answer that is not success; `outcome` is its word."""

    outcome: ClassVar[Outcome]

    def __init__(self, detail: str, *, version: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.version = version
        """`epoch.seq` of the books that the decision was made on, where there was one."""

    @property
    def retry(self) -> Retry:
        """Whether sending the request again can help."""
        return RETRY[self.outcome]


class Refused(OutcomeError):
    """The request was decided against; it has no effect."""


class IdempotencyMismatch(Refused):
    outcome = Outcome.IDEMPOTENCY_MISMATCH


class NotFound(Refused):
    """Something that the request names does not exist."""


class ReservationNotFound(NotFound):
    outcome = Outcome.RESERVATION_NOT_FOUND


class LocationNotFound(NotFound):
    outcome = Outcome.LOCATION_NOT_FOUND


class PoolNotFound(NotFound):
    outcome = Outcome.POOL_NOT_FOUND


class ChannelNotFound(NotFound):
    outcome = Outcome.CHANNEL_NOT_FOUND


class ItemNotFound(NotFound):
    outcome = Outcome.ITEM_NOT_FOUND


class KeyNotFound(NotFound):
    outcome = Outcome.KEY_NOT_FOUND


class SkuNotFound(NotFound):
    outcome = Outcome.SKU_NOT_FOUND


class NotStocked(NotFound):
    outcome = Outcome.NOT_STOCKED


class PolicyNotFound(NotFound):
    outcome = Outcome.POLICY_NOT_FOUND


class FenceNotFound(NotFound):
    outcome = Outcome.FENCE_NOT_FOUND


class StateConflict(Refused):
    """The reservation, transfer or inbound order is in a state in which this cannot be done."""


class ReservationExpired(StateConflict):
    outcome = Outcome.RESERVATION_EXPIRED


class NotCommitted(StateConflict):
    outcome = Outcome.NOT_COMMITTED


class AlreadyCommitted(StateConflict):
    outcome = Outcome.ALREADY_COMMITTED


class AlreadyReleased(StateConflict):
    outcome = Outcome.ALREADY_RELEASED


class AlreadyFulfilled(StateConflict):
    outcome = Outcome.ALREADY_FULFILLED


class AlreadyCancelled(StateConflict):
    outcome = Outcome.ALREADY_CANCELLED


class ExceedsOpenQuantity(Refused):
    outcome = Outcome.EXCEEDS_OPEN_QUANTITY

    def __init__(self, detail: str, excess: Sequence[Excess], *, version: str | None = None) -> None:
        super().__init__(detail, version=version)
        self.excess = excess


class InsufficientStock(Refused):
    outcome = Outcome.INSUFFICIENT_STOCK

    def __init__(self, detail: str, shortages: Sequence[Shortage], *, version: str | None = None) -> None:
        super().__init__(detail, version=version)
        self.shortages = shortages

    @property
    def lost_units(self) -> int:
        """What was asked for at all short positions: several lines may name one."""
        asked = {(shortage.sku, shortage.location): shortage.requested for shortage in self.shortages}
        return sum(asked.values())


class QuantityOutOfRange(Refused):
    outcome = Outcome.QUANTITY_OUT_OF_RANGE


class VersionMismatch(Refused):
    """The position is not as the caller saw it."""

    outcome = Outcome.VERSION_MISMATCH


class SettingInUse(Refused):
    """Settings cannot be deleted while stock or other settings need them."""


class LocationInUse(SettingInUse):
    outcome = Outcome.LOCATION_IN_USE


class PoolInUse(SettingInUse):
    outcome = Outcome.POOL_IN_USE


class ChannelInUse(SettingInUse):
    outcome = Outcome.CHANNEL_IN_USE


class ItemInUse(SettingInUse):
    outcome = Outcome.ITEM_IN_USE


class FenceInUse(Refused):
    outcome = Outcome.FENCE_IN_USE


class TransferNotFound(NotFound):
    outcome = Outcome.TRANSFER_NOT_FOUND


class InboundNotFound(NotFound):
    outcome = Outcome.INBOUND_NOT_FOUND


class NotShipped(StateConflict):
    outcome = Outcome.NOT_SHIPPED


class AlreadyClosed(StateConflict):
    outcome = Outcome.ALREADY_CLOSED


class Unavailable(OutcomeError):
    """The server could not take the request; nothing happened. Send it again after a while."""

    retry_after_seconds: ClassVar[int] = 1


class Overloaded(Unavailable):
    outcome = Outcome.OVERLOADED


class MemoryFull(Unavailable):
    outcome = Outcome.MEMORY_FULL
    retry_after_seconds = 5


class ReplicasUnavailable(Unavailable):
    outcome = Outcome.REPLICAS_UNAVAILABLE
    retry_after_seconds = 5


class StorageUnavailable(Unavailable):
    outcome = Outcome.STORAGE_UNAVAILABLE


class Unconfirmed(OutcomeError):
    """The answer was lost. Whether it took effect is learnt by sending it again with the same id."""

    outcome = Outcome.UNCONFIRMED
    retry_after_seconds: ClassVar[int] = 1


REFUSAL_ERRORS: dict[str, type[Refused]] = {
    error.outcome: error
    for error in (
        IdempotencyMismatch,
        ReservationNotFound,
        LocationNotFound,
        PoolNotFound,
        ChannelNotFound,
        ItemNotFound,
        KeyNotFound,
        SkuNotFound,
        NotStocked,
        PolicyNotFound,
        FenceNotFound,
        ReservationExpired,
        NotCommitted,
        AlreadyCommitted,
        AlreadyReleased,
        AlreadyFulfilled,
        AlreadyCancelled,
        ExceedsOpenQuantity,
        InsufficientStock,
        VersionMismatch,
        QuantityOutOfRange,
        LocationInUse,
        PoolInUse,
        ChannelInUse,
        ItemInUse,
        FenceInUse,
        TransferNotFound,
        InboundNotFound,
        NotShipped,
        AlreadyClosed,
    )
}
"""The exception of each word with which a request is refused."""
