"""The bodies of HTTP: what comes in, what goes out. The OpenAPI document is built from these.

Unknown fields are refused; defaults are those that the contract names.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from engine import limits
from engine.sourcing_plan import Reason
from engine.types import Ignored, Line, MovementKind, State, Status

SKU_PATTERN = r"^[^\u0000-\u001f\u007f-\u009f]+$"
"""For the document alone: the engine refuses all that cannot be printed, which is quicker and stricter."""
Sku = Annotated[
    str,
    Meta(min_length=1, max_length=limits.MAX_SKU_LENGTH, extra_json_schema={"pattern": SKU_PATTERN}),
]
PATTERN_END = r"$(?!\n)"
"""In Python `$` alone lets a final newline pass. In JSON Schema it does not: the document has it bare."""
LocationId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}" + PATTERN_END)]
Quantity = Annotated[int, Meta(ge=1, le=limits.MAX_QUANTITY)]
TtlSeconds = Annotated[int, Meta(ge=1, le=limits.MAX_TTL_SECONDS)]
Text = Annotated[str, Meta(max_length=255)]
OnHand = Annotated[int, Meta(ge=0, le=limits.MAX_ON_HAND)]
Condition = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,64}" + PATTERN_END)]
Moment = Annotated[datetime, Meta(tz=True)]
MAX_OPERATIONS = 256
"""Operations of one batch."""
Sourcing = Literal["priority", "nearest", "most_stock", "fewest_splits", "single_location"]


class Body(Struct, forbid_unknown_fields=True, frozen=True):
    """A request body."""


class LineBody(Body, frozen=True):
    """Units of a SKU at a location."""

    sku: Sku
    quantity: Quantity
    location: LocationId


Lines = Annotated[list[LineBody], Meta(min_length=1, max_length=limits.MAX_LINES)]


class WantedBody(Body, frozen=True):
    """Units of a SKU, at a location or wherever the pool or channel of the request has them."""

    sku: Sku
    quantity: Quantity
    location: LocationId | None = None


class NearBody(Body, frozen=True):
    """A place on earth."""

    lat: Annotated[float, Meta(ge=-90, le=90)]
    lon: Annotated[float, Meta(ge=-180, le=180)]


Wants = Annotated[list[WantedBody], Meta(min_length=1, max_length=limits.MAX_LINES)]


class PlanBody(Body, frozen=True):
    """A reserve that one wants to know the outcome of."""

    lines: Wants
    channel: LocationId | None = None
    pool: LocationId | None = None
    sourcing: Sourcing = "priority"
    near: NearBody | None = None
    capability: Literal["pickup", "ship", "curbside"] | None = None
    allow_partial: bool = False
    allow_split: bool = True
    from_inbound: bool = False


class ReserveBody(Body, frozen=True):
    """A reservation to be made: all lines or none, unless `allow_partial`. A line without a location is for
    the pool or the channel. With `from_inbound` what is missing may be promised of what is inbound.
    """

    lines: Wants
    ttl_seconds: TtlSeconds = limits.DEFAULT_TTL_SECONDS
    channel: LocationId | None = None
    pool: LocationId | None = None
    sourcing: Sourcing = "priority"
    near: NearBody | None = None
    capability: Literal["pickup", "ship", "curbside"] | None = None
    allow_partial: bool = False
    allow_split: bool = True
    from_inbound: bool = False
    owner: Text | None = None
    reference: Text | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class CommitBody(Body, frozen=True):
    """What of a reservation to commit; nothing named: all of it."""

    lines: Lines | None = None
    remainder: Literal["release", "keep"] = "release"
    fulfil: bool = False
    reference: Text | None = None
    if_expired: Literal["fail", "retake"] = "fail"


class ChooseBody(Body, frozen=True):
    """What of a reservation to release, fulfil or cancel; nothing named: all of it."""

    lines: Lines | None = None


class NoBody(Body, frozen=True):
    """Nothing is to be told."""


class ExtendBody(Body, frozen=True):
    """How long a hold shall last from now on."""

    ttl_seconds: TtlSeconds


class OperationBody(Body, frozen=True):
    """One operation of a batch."""

    op: Literal["reserve", "commit", "release", "extend", "fulfil", "cancel"]
    id: str | None = None
    key: str | None = None
    body: dict[str, Any] | None = None


class BatchBody(Body, frozen=True):
    """Operations that have nothing to do with one another."""

    operations: Annotated[list[OperationBody], Meta(min_length=1, max_length=MAX_OPERATIONS)]


class ReserveOperation(Body, frozen=True):
    """One reserve of a batch that has nothing else, and nothing wrong."""

    op: Literal["reserve"]
    key: str
    body: ReserveBody
    id: str | None = None


class ReservesBody(Body, frozen=True):
    """A batch of reserves as it mostly comes. The document tells of `BatchBody`, which has these, too."""

    operations: Annotated[list[ReserveOperation], Meta(min_length=1, max_length=MAX_OPERATIONS)]


class QueryBody(Body, frozen=True):
    """SKUs whose availability is asked."""

    skus: Annotated[list[Sku], Meta(min_length=1, max_length=limits.MAX_AVAILABILITY_SKUS)]
    channel: LocationId | None = None
    pool: LocationId | None = None
    locations: Annotated[list[LocationId], Meta(max_length=1000)] = field(default_factory=list)
    detail: bool = False


class MovementBody(Body, frozen=True):
    """A fact: goods that came, went or were found to differ. `quantity` is signed for `adjust` alone."""

    id: Annotated[str, Meta(min_length=1, max_length=limits.MAX_OPERATION_ID_LENGTH)]
    kind: MovementKind
    sku: Sku
    location: LocationId
    quantity: Annotated[int, Meta(ge=-limits.MAX_QUANTITY, le=limits.MAX_QUANTITY)]
    reason: Text | None = None
    reference: Text | None = None
    occurred_at: Moment | None = None
    condition: Condition | None = None
    to_condition: Condition | None = None
    reservation: Annotated[str, Meta(max_length=64)] | None = None


class MovementsBody(Body, frozen=True):
    """Facts that have nothing to do with one another."""

    movements: Annotated[list[MovementBody], Meta(min_length=1, max_length=limits.MAX_MOVEMENTS)]


class CountBody(Body, frozen=True):
    """So many units were on hand at a moment."""

    id: Annotated[str, Meta(min_length=1, max_length=limits.MAX_OPERATION_ID_LENGTH)]
    sku: Sku
    location: LocationId
    quantity: OnHand
    counted_at: Moment
    reason: Text | None = None
    reference: Text | None = None


class CountsBody(Body, frozen=True):
    """Counts that have nothing to do with one another."""

    counts: Annotated[list[CountBody], Meta(min_length=1, max_length=limits.MAX_COUNTS)]


class SetBody(Body, frozen=True):
    """So many units are on hand now."""

    quantity: OnHand
    reason: Text | None = None


# -------------------------------------------------------------------- answers


class ReservationLineAnswer(Struct, frozen=True, gc=False):
    """A line and what became of its units. Where promises are told: `waiting` open units of its SKU and
    location are not there yet, the last of them comes at `promise_at`; `undated` of them nothing is expected
    for, and then there is no date.
    """

    sku: str
    location: str
    quantity: int
    held: int
    committed: int
    fulfilled: int
    released: int
    waiting: int | UnsetType = UNSET
    promise_at: str | UnsetType | None = UNSET
    undated: int | UnsetType = UNSET


class ReservationAnswer(Struct, frozen=True, gc=False):
    """A reservation. `expires_at` is null once nothing is held."""

    id: str
    state: State
    expires_at: str | None
    owner: str | None
    reference: str | None
    channel: str | None
    metadata: Mapping[str, Any]
    version: str
    lines: Sequence[ReservationLineAnswer]


class LocationAvailabilityAnswer(Struct, frozen=True, omit_defaults=True):
    """What one location can promise; `explanation` where it was asked, null where the SKU is not stocked."""

    location: str
    available: int
    status: Status
    explanation: "ExplanationAnswer | None" = None


class ComponentAnswer(Struct, frozen=True):
    """What can be promised of a kit's component, of which it needs `quantity` each, with the reasons."""

    sku: str
    quantity: int
    available: int
    status: Status
    locations: list[LocationAvailabilityAnswer]


class AvailabilityAnswer(Struct, frozen=True, omit_defaults=True):
    """What can be promised of a SKU; `can_reserve` where a quantity was asked, `components` where the reasons
    of a kit's number were.
    """

    sku: str
    available: int
    status: Status
    version: str
    locations: list[LocationAvailabilityAnswer]
    can_reserve: bool | None = None
    components: list[ComponentAnswer] | None = None


class QueryItemAnswer(Struct, frozen=True, omit_defaults=True):
    """The availability of one of several SKUs; `locations` where detail was asked."""

    sku: str
    available: int
    status: Status
    known: bool
    version: str | None
    locations: list[LocationAvailabilityAnswer] | None = None


class QueryAnswer(Struct, frozen=True):
    """The availability of several SKUs, in the order they were asked."""

    items: list[QueryItemAnswer]


class ResultAnswer(Struct, frozen=True, omit_defaults=True):
    """How one operation of a batch ended: the status and body that it would have had alone. `codec.Result`
    is what is encoded.
    """

    index: int
    status: int
    body: dict[str, Any]
    replayed: bool = False


class BatchAnswer(Struct, frozen=True):
    """How the operations of a batch ended, in their order."""

    results: list[ResultAnswer]


class UncoveredAnswer(Struct, frozen=True):
    """A promise that a fact broke, and by how many units."""

    reservation: str
    quantity: int


class MovementAnswer(Struct, frozen=True, omit_defaults=True):
    """How one fact was recorded; `body` is the problem where it was not. `effect` is by how much on_hand
    changed; `ignored` why it did not: `counted_since` (a count of that moment or later has it in) or
    `too_old` (a count from before the history that is kept).
    """

    index: int
    status: int
    on_hand: int | None = None
    available: int | None = None
    version: str | None = None
    uncovered: list[UncoveredAnswer] | None = None
    effect: int | None = None
    ignored: Ignored | None = None
    replayed: bool = False
    body: dict[str, Any] | None = None


class MovementsAnswer(Struct, frozen=True):
    """How facts were recorded, in their order."""

    results: list[MovementAnswer]


class HappeningAnswer(Struct, frozen=True):
    """A line of a position's history. `quantity` is the units that came or went, of a count those that were
    counted; `effect` what that did to on_hand. `id` is that of the movement or count.
    """

    kind: str
    id: str | None
    quantity: int
    effect: int | None
    occurred_at: str
    recorded_at: str | None
    version: str
    reason: str | None
    reference: str | None
    condition: str | None
    to_condition: str | None
    reservation: str | None


class HistoryAnswer(Struct, frozen=True):
    """What happened to a position, newest first; `next_cursor` is null on the last page."""

    movements: list[HappeningAnswer]
    next_cursor: str | None


class PositionAnswer(Struct, frozen=True):
    """The counters of a SKU at a location."""

    location: str
    on_hand: int
    held: int
    allocated: int
    unsellable: dict[str, int]
    safety_stock: int
    backorder_limit: int
    fenced: int
    available: int
    version: str


class SetAnswer(PositionAnswer, frozen=True):
    """A position after its on_hand was set, with the promises that this broke."""

    uncovered: list[UncoveredAnswer]


class StockAnswer(Struct, frozen=True):
    """The positions of a SKU."""

    sku: str
    positions: list[PositionAnswer]


class HolderAnswer(Struct, frozen=True):
    """A reservation with open units at a position. `expires_at` is null where nothing lapses."""

    reservation: str
    state: State
    held: int
    allocated: int
    owner: str | None
    reference: str | None
    expires_at: str | None


class PlannedPlaceAnswer(Struct, frozen=True):
    """What a plan does with a location: `available` is what it could give, `quantity` what it would."""

    location: str
    quantity: int
    available: int
    reason: Reason
    distance_km: float | None


class PlannedLineAnswer(Struct, frozen=True):
    """What a plan does for a line: how many of its units it finds, and where."""

    sku: str
    requested: int
    quantity: int
    locations: list[PlannedPlaceAnswer]


class PlanAnswer(Struct, frozen=True):
    """What a reserve would do at this moment."""

    can_reserve: bool
    version: str
    lines: list[PlannedLineAnswer]


class HoldersAnswer(Struct, frozen=True):
    """Who holds units of a position, oldest promise first; there are more unless `next_cursor` is null."""

    holders: list[HolderAnswer]
    next_cursor: str | None


class ReservationsAnswer(Struct, frozen=True):
    """A page of reservations, the newest first. The list goes on until `next_cursor` is null; a page may have
    fewer than were asked for and still go on.
    """

    items: list[ReservationAnswer]
    next_cursor: str | None


class ExplanationAnswer(Struct, frozen=True):
    """Why a location can promise what it does: `on_hand` less the others, plus what of them is promised from
    expected goods (`preordered`) and what of `held` is the asking owner's own, but not below
    `-backorder_limit`. `holders` are the first few, the oldest promise first.
    """

    text: str
    on_hand: int
    held: int
    allocated: int
    unsellable: int
    safety_stock: int
    fenced: int
    backorder_limit: int
    preordered: int
    own_held: int
    holders: list[HolderAnswer]
    more_holders: int


class HealthAnswer(Struct, frozen=True):
    """The process turns."""

    status: Literal["ok"]


class ReadyAnswer(Struct, frozen=True):
    """Whether this worker can do its work; `reasons` says what is in the way. One that is `draining` still
    answers whoever reaches it, and is about to stop.
    """

    status: Literal["ready", "not_ready", "draining"]
    durability: str
    worker: int
    reasons: list[str]


class ProblemKindAnswer(Struct, frozen=True):
    """What a problem's `type` stands for."""

    type: str
    title: str
    status: int
    code: str
    retryable: Literal["never", "same_key", "new_key"]
    remedy: str


class ProblemAnswer(Struct, frozen=True, omit_defaults=True):
    """Why a request has no effect, or, for `unconfirmed`, that its effect is not known (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    retryable: Literal["never", "same_key", "new_key"]
    errors: list[dict[str, str]] | None = None
    shortages: list[dict[str, Any]] | None = None
    excess: list[dict[str, Any]] | None = None


def as_line(line: LineBody) -> Line:
    """A body's line as the engine takes it."""
    return Line(line.sku, line.quantity, line.location)
