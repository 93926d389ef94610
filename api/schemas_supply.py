"""The bodies of HTTP for transfers, inbound orders and what can be promised by which day."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from api.schemas import Body, LocationId, Quantity, Sku, Text
from api.schemas import NoBody as NoBody  # noqa: PLC0414 - told on
from engine import limits
from engine.types import InboundState, SupplyKind, TransferState

Moment = Annotated[datetime, Meta(tz=True)]


class GoodsBody(Body, frozen=True):
    """Units of a SKU."""

    sku: Sku
    quantity: Quantity


GoodsLines = Annotated[list[GoodsBody], Meta(min_length=1, max_length=limits.MAX_LINES)]


class TransferBody(Body, frozen=True, rename={"source": "from", "target": "to"}):
    """Goods that shall go from one location to another."""

    source: LocationId
    target: LocationId
    lines: GoodsLines
    expected_at: Moment | None = None
    reference: Text | None = None


class ReceiveTransferBody(Body, frozen=True):
    """What of a transfer came; nothing named: all that is open. With `close` no more will."""

    lines: GoodsLines | None = None
    close: bool = False


class InboundBody(Body, frozen=True):
    """Units of a SKU that a location expects."""

    sku: Sku
    location: LocationId
    quantity: Quantity
    expected_at: Moment
    kind: SupplyKind = SupplyKind.PURCHASE
    reference: Text | None = None


class ReceiveInboundBody(Body, frozen=True):
    """Units that came. With `close` no more will."""

    quantity: Quantity
    close: bool = False


# -------------------------------------------------------------------- answers


class TransferLineAnswer(Struct, frozen=True):
    """A line of a transfer. `in_transit` was shipped and did not come yet. `discrepancy` is `received` less
    `quantity` once no more will come: below zero where goods are missing; null before.
    """

    sku: str
    quantity: int
    received: int
    in_transit: int
    returned: int
    discrepancy: int | None


class BrokenAnswer(Struct, frozen=True):
    """A promise at the source that the shipment broke, and by how many units."""

    sku: str
    reservation: str
    quantity: int


class TransferAnswer(Struct, frozen=True, rename={"source": "from", "target": "to"}):
    """A transfer as it stands."""

    id: str
    state: TransferState
    source: str
    target: str
    expected_at: str | None
    reference: str | None
    created_at: str
    lines: list[TransferLineAnswer]
    uncovered: list[BrokenAnswer]


class TransfersAnswer(Struct, frozen=True):
    """A page of transfers, the newest first; `next_cursor` is null on the last one."""

    items: list[TransferAnswer]
    next_cursor: str | None


class UncoveredAnswer(Struct, frozen=True):
    """A promise that neither goods nor what is expected cover, and by how many units."""

    reservation: str
    quantity: int


class InboundAnswer(Struct, frozen=True):
    """An inbound order as it stands. `open` is still expected; `discrepancy` as for transfers. Where no more
    will come by this request, `uncovered` has the promises at SKU and location that nothing covers now, the
    newest first, 100 at the most.
    """

    id: str
    state: InboundState
    sku: str
    location: str
    quantity: int
    received: int
    open: int
    discrepancy: int | None
    kind: SupplyKind
    expected_at: str
    reference: str | None
    created_at: str
    uncovered: list[UncoveredAnswer] | UnsetType = UNSET


class InboundsAnswer(Struct, frozen=True):
    """A page of inbound orders, the newest first; `next_cursor` is null on the last one."""

    items: list[InboundAnswer]
    next_cursor: str | None


class DayAnswer(Struct, frozen=True):
    """What can be promised for a day (UTC) and every later one."""

    date: Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    atp: int


class AtpAnswer(Struct, frozen=True):
    """Today and the days that follow."""

    days: list[DayAnswer]


decode_transfer = msgspec.json.Decoder(TransferBody).decode
decode_receive_transfer = msgspec.json.Decoder(ReceiveTransferBody).decode
decode_inbound = msgspec.json.Decoder(InboundBody).decode
decode_receive_inbound = msgspec.json.Decoder(ReceiveInboundBody).decode
decode_nothing = msgspec.json.Decoder(NoBody).decode
