"""The domain: what callers pass in and get back. All are immutable but where noted.

Quantities are integers in the item's base unit. Times are milliseconds since 1970 UTC by the server's
clock (`…_ms`); durations are seconds (`…_seconds`).
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec import Struct

from engine import limits


class Status(StrEnum):
    """How a position looks to a shopper."""

    IN_STOCK = "in_stock"
    LOW_STOCK = "low_stock"
    OUT_OF_STOCK = "out_of_stock"
    BACKORDER = "backorder"
    PREORDER = "preorder"


class State(StrEnum):
    """Where a reservation is in its life. The order is that of the codes in `lua/lib/record.lua`."""

    HELD = "held"
    COMMITTED = "committed"
    FULFILLED = "fulfilled"
    RELEASED = "released"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Line(Struct, frozen=True, gc=False):
    """Units of a SKU at a location."""

    sku: str
    quantity: int
    location: str


class Move(Struct, frozen=True, gc=False):
    """Units of a SKU that go from one location of a reservation to another one."""

    sku: str
    source: str
    target: str
    quantity: int


class ReserveRequest(Struct, frozen=True, gc=False):
    """One of several reservations that are asked for in one call; the arguments of `Inventory.reserve`."""

    op_id: str
    lines: Sequence[Line]
    ttl_seconds: int = limits.DEFAULT_TTL_SECONDS
    owner: str | None = None
    reference: str | None = None
    channel: str | None = None
    metadata: Mapping[str, object] | None = None


class ReservationLine(Struct, frozen=True, gc=False):
    """A line of a reservation and what became of its units; held + committed + fulfilled + released =
    quantity, where units that lapsed or were cancelled count as released.
    """

    sku: str
    location: str
    quantity: int
    held: int
    committed: int
    fulfilled: int
    released: int


class ShortLine(Struct, frozen=True, gc=False):
    """Units of a reservation that were not found when they were to be picked."""

    sku: str
    location: str
    quantity: int
    at_ms: int


class WantedCount(Struct, frozen=True, gc=False):
    """A position that is to be counted, and since when."""

    sku: str
    location: str
    since_ms: int


class Alternative(Struct, frozen=True, gc=False):
    """Another location that has a SKU, with its distance where that is known."""

    location: str
    available: int
    distance_km: float | None


class Reservation(Struct, frozen=True):
    """Lines held under one id. `version` is `epoch.seq` of the change that made it what it is.
    `replayed` tells that this is the answer of an earlier, equal request.
    """

    id: str
    state: State
    created_ms: int
    expires_ms: int | None
    """When the hold lapses; None once nothing is held."""
    owner: str | None
    reference: str | None
    channel: str | None
    metadata: Mapping[str, object]
    version: str
    lines: Sequence[ReservationLine]
    replayed: bool = False
    ready_ms: int | None = None
    """Since when the goods wait to be collected; None unless somebody said so."""
    short: Sequence[ShortLine] = ()


class Shortage(Struct, frozen=True, gc=False):
    """A line that does not fit. `requested` is the sum over all lines of its position."""

    line: int
    sku: str
    location: str | None
    """None where any location of a pool would have done."""
    requested: int
    available: int


class Excess(Struct, frozen=True, gc=False):
    """Units asked of a reservation's position beyond those open there."""

    sku: str
    location: str
    requested: int
    open: int


class Uncovered(Struct, frozen=True, gc=False):
    """A promise that a fact broke, and by how many units."""

    reservation: str
    quantity: int


class MovementKind(StrEnum):
    """What happened to the goods."""

    RECEIVE = "receive"
    SALE = "sale"
    RETURN = "return"
    ADJUST = "adjust"
    CONDITION = "condition"


class Movement(Struct, frozen=True):
    """A fact. `quantity` counts the goods that moved (signed for `adjust` alone); `id` is its
    operation id; `occurred_ms` defaults to the moment of recording, and one in the future is taken as that.

    `condition` is what the goods were in: those of a `condition` movement go from there to `to_condition`,
    all others come or go in it. None and `sellable` are the same. `reservation` is the one it belongs to.
    """

    id: str
    kind: MovementKind
    sku: str
    location: str
    quantity: int
    reason: str | None = None
    reference: str | None = None
    occurred_ms: int | None = None
    condition: str | None = None
    to_condition: str | None = None
    reservation: str | None = None


class Count(Struct, frozen=True):
    """So many units were on hand at a moment, whatever is told later of before or after it. `id` is its
    operation id; a moment in the future is taken as just now.
    """

    id: str
    sku: str
    location: str
    quantity: int
    counted_ms: int
    reason: str | None = None
    reference: str | None = None


class Ignored(StrEnum):
    """Why a fact did not change on_hand. The order is that of the codes in `lua/lib/facts.lua`."""

    COUNTED_SINCE = "counted_since"
    """A count of that moment or later has it in."""
    TOO_OLD = "too_old"
    """A count from before the history that is kept."""


class MovementResult(Struct, frozen=True):
    """What the books say after a fact. `effect` is by how much on_hand changed."""

    on_hand: int
    available: int
    version: str
    uncovered: Sequence[Uncovered] = ()
    replayed: bool = False
    effect: int = 0
    ignored: Ignored | None = None


class Happening(Struct, frozen=True):
    """One line of a position's history. `quantity` is the units that came or went, of a count those that were
    counted; `effect` what that did to on_hand. What the ledger does not have any more is None.
    """

    kind: str
    id: str | None
    quantity: int
    effect: int | None
    occurred_ms: int
    recorded_ms: int | None
    version: str
    reason: str | None = None
    reference: str | None = None
    condition: str | None = None
    to_condition: str | None = None
    reservation: str | None = None


class LocationAvailability(Struct, frozen=True, gc=False):
    """What one location can promise."""

    location: str
    available: int
    status: Status


class NearbyLocation(Struct, frozen=True, gc=False):
    """What a location near a place can promise."""

    location: str
    distance_km: float
    available: int
    status: Status


class Nearby(Struct, frozen=True):
    """What can be promised of a SKU near a place, the nearest location first."""

    sku: str
    version: str
    locations: Sequence[NearbyLocation]


class Availability(Struct, frozen=True):
    """What can be promised of a SKU: `available` is the sum over `locations` of what is above zero."""

    sku: str
    available: int
    status: Status
    version: str
    locations: Sequence[LocationAvailability]


class Position(Struct, frozen=True, gc=False):
    """The counters of one SKU at one location."""

    location: str
    on_hand: int
    held: int
    allocated: int
    unsellable: int
    safety_stock: int
    backorder_limit: int
    fenced: int
    low_stock: int
    inbound: int
    """Expected, and of that already promised."""
    preordered: int
    available: int
    version: str
    """`epoch.seq` of the books that were read."""
    conditions: Mapping[str, int] = {}
    """The unsellable units by condition."""
    state: str = ""
    """All stored counters: what an absolute set may expect."""
    has_policy: bool = False
    """Whether it has a policy of its own, not the defaults of its item and location."""


class Policy(Struct, frozen=True, gc=False):
    """What stays out of sale at a position, what may be promised that is not there, and from how many units
    on the stock is low. A limit of `cards.UNLIMITED` is that of an item that is not tracked.
    """

    sku: str
    location: str
    safety_stock: int = 0
    backorder_limit: int = 0
    low_stock: int = 0


class Fence(Struct, frozen=True, gc=False):
    """Units of a position for one channel: `quantity` in all, of which `used` are open units of the channel
    and `remaining` are withheld from all others. With `spill` the channel may go on to what is for all.
    """

    channel: str
    sku: str
    location: str
    quantity: int
    spill: bool = False
    remaining: int = 0
    used: int = 0


class LocationKind(StrEnum):
    """What sort of place a location is."""

    WAREHOUSE = "warehouse"
    STORE = "store"
    DROPSHIP = "dropship"
    VIRTUAL = "virtual"


class Capability(StrEnum):
    """What a location can do for an order."""

    PICKUP = "pickup"
    SHIP = "ship"
    CURBSIDE = "curbside"


class PolicyDefaults(Struct, frozen=True, omit_defaults=True):
    """What holds at positions that have no policy of their own; what is None is left to others."""

    safety_stock: int | None = None
    backorder_limit: int | None = None
    low_stock: int | None = None


class Location(Struct, frozen=True):
    """The settings of a place that holds stock. Lower `priority` is chosen first."""

    id: str
    kind: LocationKind
    name: str | None = None
    lat: float | None = None
    lon: float | None = None
    priority: int = 0
    capabilities: tuple[Capability, ...] = ()
    active: bool = True
    time_zone: str | None = None
    gln: str | None = None
    policy: PolicyDefaults | None = None


class Pool(Struct, frozen=True):
    """Locations that are promised together. Pools may overlap."""

    id: str
    locations: tuple[str, ...]


class Buffer(Struct, frozen=True, omit_defaults=True):
    """What a channel leaves to the others at each position: units, or percent of what is available."""

    units: int | None = None
    percent: int | None = None


class Channel(Struct, frozen=True):
    """Where demand comes from, and the pools it sells from."""

    id: str
    pools: tuple[str, ...]
    buffer: Buffer | None = None


class KeySecret(Struct, frozen=True):
    """One of the texts that prove a key: only its hash is known."""

    digest: bytes
    """SHA-256 of the whole text."""
    made_ms: int
    made_by: bytes
    """The operation id of the request that made it."""
    ends_ms: int | None = None


class ApiKey(Struct, frozen=True):
    """Who may call, and what that one may do. None as locations or channels: all."""

    id: str
    name: str
    scopes: tuple[str, ...]
    locations: tuple[str, ...] | None
    channels: tuple[str, ...] | None
    is_banded: bool
    """Whether quantities are shown rounded."""
    created_ms: int
    expires_ms: int | None
    secrets: tuple[KeySecret, ...]
    """The newest last."""
    content: bytes
    """The fingerprint of the request that made the key."""
    revoked_ms: int | None = None
    requests_per_second: int | None = None
    """How often it may call in the long run; None: as often as everybody."""


class Component(Struct, frozen=True):
    """A part of a kit, and how many of it one kit takes."""

    sku: str
    quantity: int


class Item(Struct, frozen=True):
    """What is known of a SKU. With components it is a kit: it is sold, and they are what is promised. What is
    not `tracked` is not counted.
    """

    sku: str
    name: str | None = None
    unit: str | None = None
    gtins: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    tracked: bool = True
    policy: PolicyDefaults | None = None


class SupplyKind(StrEnum):
    """Where expected units come from. The order is that of the codes in `lua/supply.lua`."""

    PURCHASE = "purchase"
    PRODUCTION = "production"
    TRANSFER = "transfer"
    RETURN = "return"


class LinePromise(Struct, frozen=True, gc=False):
    """Units of a reservation that are not there yet: how many, when the last of them comes, and how many of
    them nothing is expected for; then there is no date.
    """

    waiting: int
    promise_ms: int | None
    undated: int


class Supply(Struct, frozen=True, gc=False):
    """Units that one source will bring to a position. `source` is the id of a document."""

    source: bytes
    quantity: int
    expected_ms: int
    kind: SupplyKind


class InboundState(StrEnum):
    """Where an inbound order is in its life; `closed`: it came short, and no more will come."""

    EXPECTED = "expected"
    RECEIVED = "received"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class Inbound(Struct, frozen=True):
    """An inbound order: units of a SKU that a location expects."""

    id: str
    state: InboundState
    sku: str
    location: str
    quantity: int
    received: int
    kind: SupplyKind
    expected_ms: int
    reference: str | None
    created_ms: int
    replayed: bool = False


class TransferState(StrEnum):
    """Where a transfer is in its life. `received`: all that was shipped came; `closed`: no more will come."""

    DRAFT = "draft"
    SHIPPED = "shipped"
    RECEIVING = "receiving"
    RECEIVED = "received"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class TransferLine(Struct, frozen=True, gc=False):
    """Units of a SKU that go from one location to another. `returned` went back to the source when the
    transfer was cancelled on its way.
    """

    sku: str
    quantity: int
    received: int = 0
    returned: int = 0


class Goods(Struct, frozen=True, gc=False):
    """Units of a SKU, where the location goes without saying."""

    sku: str
    quantity: int


class Broken(Struct, frozen=True, gc=False):
    """A promise on a SKU that a fact broke, and by how many units."""

    sku: str
    reservation: str
    quantity: int


class Transfer(Struct, frozen=True):
    """Goods that go from one location to another."""

    id: str
    state: TransferState
    source: str
    target: str
    lines: Sequence[TransferLine]
    expected_ms: int | None
    reference: str | None
    created_ms: int
    uncovered: Sequence[Broken] = ()
    """The promises at the source that the shipment broke."""
    replayed: bool = False


class Basket(Struct, frozen=True):
    """What a reserve asks for."""

    lines: Sequence[Line]
    ttl_seconds: int
    owner: str | None = None
    reference: str | None = None
    channel: str | None = None
    metadata: Mapping[str, object] = msgspec.field(default_factory=dict)
