"""The bodies of requests that change reservations, and of pickups."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from api.schemas import Body, Lines, LocationId, NearBody, Quantity, ReservationAnswer, Sku, Sourcing, Wants
from engine import limits


class MoveLineBody(Body, frozen=True):
    """Units of a SKU that go from one location to another one."""

    sku: Sku
    source: LocationId = field(name="from")
    target: LocationId = field(name="to")
    quantity: Quantity


class MoveBody(Body, frozen=True):
    """What of a reservation goes elsewhere."""

    lines: Annotated[list[MoveLineBody], Meta(min_length=1, max_length=limits.MAX_LINES)]


class CartBody(Body, frozen=True):
    """The lines that a reservation shall have. A line without a location is for the pool, or for the channel
    of the reservation.
    """

    lines: Wants
    pool: LocationId | None = None
    sourcing: Sourcing = "priority"
    near: NearBody | None = None
    capability: Literal["pickup", "ship", "curbside"] | None = None
    allow_split: bool = True


class LinesBody(Body, frozen=True):
    """Lines of a reservation."""

    lines: Lines


class AlternativeAnswer(Struct, frozen=True):
    """Another location that has the SKU; its distance is null where coordinates are missing."""

    location: str
    available: int
    distance_km: float | None


class AlternativesAnswer(Struct, frozen=True):
    """Where what was not found can be had instead, the nearest first."""

    sku: str
    location: str
    quantity: int
    locations: Sequence[AlternativeAnswer]


class ShortLineAnswer(Struct, frozen=True):
    """Units that were not found when they were to be picked."""

    sku: str
    location: str
    quantity: int
    at: str


class PickupAnswer(Struct, frozen=True):
    """An order for pickup. `ready_at` is null until it is ready; `short` has what was not found."""

    reservation: ReservationAnswer
    ready_at: str | None
    short: Sequence[ShortLineAnswer]


class ShortPickAnswer(Struct, frozen=True):
    """What is left of an order, and where the rest can be had."""

    reservation: ReservationAnswer
    ready_at: str | None
    short: Sequence[ShortLineAnswer]
    alternatives: Sequence[AlternativesAnswer]


class PickupsAnswer(Struct, frozen=True):
    """Orders of a store, the oldest first; `next_cursor` is null on the last page."""

    items: Sequence[PickupAnswer]
    next_cursor: str | None


class WantedCountAnswer(Struct, frozen=True):
    """A position that is to be counted."""

    sku: str
    location: str
    since: str


class WantedCountsAnswer(Struct, frozen=True):
    """Positions that are to be counted, the longest waiting first."""

    items: Sequence[WantedCountAnswer]
