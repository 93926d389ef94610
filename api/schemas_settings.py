"""The bodies of HTTP for settings: locations, pools, channels, items; and what is near a place."""

from typing import Annotated

from msgspec import Meta, Struct, field

from api.schemas import PATTERN_END, Body, LocationId, Quantity, Sku, Text
from engine import limits
from engine.types import Capability, LocationKind, Status

Units = Annotated[int, Meta(ge=0, le=limits.MAX_QUANTITY)]
Gtin = Annotated[str, Meta(pattern=r"^[0-9]{8,14}" + PATTERN_END)]
Names = Annotated[list[LocationId], Meta(min_length=1, max_length=limits.MAX_NAMES)]


class PolicyDefaultsBody(Body, frozen=True):
    """What holds at positions without a policy of their own; what is null is left to others."""

    safety_stock: Units | None = None
    backorder_limit: Units | None = None
    low_stock: Units | None = None


class LocationBody(Body, frozen=True):
    """The settings of a location. `lat` and `lon` come together."""

    kind: LocationKind
    name: Text | None = None
    lat: Annotated[float, Meta(ge=-90, le=90)] | None = None
    lon: Annotated[float, Meta(ge=-180, le=180)] | None = None
    priority: Annotated[int, Meta(ge=-limits.MAX_PRIORITY, le=limits.MAX_PRIORITY)] = 0
    capabilities: list[Capability] = field(default_factory=list)
    active: bool = True
    time_zone: Text | None = None
    gln: Annotated[str, Meta(pattern=r"^[0-9]{13}" + PATTERN_END)] | None = None
    policy: PolicyDefaultsBody | None = None


class PoolBody(Body, frozen=True):
    """Locations that are promised together."""

    locations: Names


class BufferBody(Body, frozen=True):
    """What a channel leaves to the others at each position: `units`, or `percent` of what is available."""

    units: Units | None = None
    percent: Annotated[int, Meta(ge=0, le=limits.MAX_PERCENT)] | None = None


class ChannelBody(Body, frozen=True):
    """The pools that a channel sells from."""

    pools: Names
    buffer: BufferBody | None = None


class ComponentBody(Body, frozen=True):
    """A part of a kit."""

    sku: Sku
    quantity: Quantity


class ItemBody(Body, frozen=True):
    """The settings of an item. With components it is a kit."""

    name: Text | None = None
    unit: Annotated[str, Meta(max_length=32)] | None = None
    gtins: Annotated[list[Gtin], Meta(max_length=limits.MAX_GTINS)] = field(default_factory=list)
    components: Annotated[list[ComponentBody], Meta(max_length=limits.MAX_COMPONENTS)] = field(
        default_factory=list
    )
    tracked: bool = True
    policy: PolicyDefaultsBody | None = None


# -------------------------------------------------------------------- answers


class PolicyDefaultsAnswer(Struct, frozen=True, omit_defaults=True):
    """What holds at positions without a policy of their own."""

    safety_stock: int | None = None
    backorder_limit: int | None = None
    low_stock: int | None = None


class LocationAnswer(Struct, frozen=True):
    """A location and its settings."""

    id: str
    kind: LocationKind
    name: str | None
    lat: float | None
    lon: float | None
    priority: int
    capabilities: list[Capability]
    active: bool
    time_zone: str | None
    gln: str | None
    policy: PolicyDefaultsAnswer | None


class PoolAnswer(Struct, frozen=True):
    """A pool."""

    id: str
    locations: list[str]


class BufferAnswer(Struct, frozen=True, omit_defaults=True):
    """What a channel leaves to the others: one of the two."""

    units: int | None = None
    percent: int | None = None


class ChannelAnswer(Struct, frozen=True):
    """A channel."""

    id: str
    pools: list[str]
    buffer: BufferAnswer | None


class ComponentAnswer(Struct, frozen=True):
    """A part of a kit."""

    sku: str
    quantity: int


class ItemAnswer(Struct, frozen=True):
    """An item and its settings. GTINs have 14 digits, whatever they were sent as."""

    sku: str
    name: str | None
    unit: str | None
    gtins: list[str]
    components: list[ComponentAnswer]
    tracked: bool
    policy: PolicyDefaultsAnswer | None


class LocationsAnswer(Struct, frozen=True):
    """A page of locations; `next_cursor` is null on the last one."""

    items: list[LocationAnswer]
    next_cursor: str | None


class PoolsAnswer(Struct, frozen=True):
    """A page of pools; `next_cursor` is null on the last one."""

    items: list[PoolAnswer]
    next_cursor: str | None


class ChannelsAnswer(Struct, frozen=True):
    """A page of channels; `next_cursor` is null on the last one."""

    items: list[ChannelAnswer]
    next_cursor: str | None


class ItemsAnswer(Struct, frozen=True):
    """A page of items; `next_cursor` is null on the last one."""

    items: list[ItemAnswer]
    next_cursor: str | None


class NearbyLocationAnswer(Struct, frozen=True):
    """What a location near a place can promise."""

    location: str
    distance_km: float
    available: int
    status: Status


class NearbyAnswer(Struct, frozen=True):
    """What can be promised of a SKU near a place, the nearest location first."""

    sku: str
    version: str
    locations: list[NearbyLocationAnswer]
