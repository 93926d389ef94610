"""The bodies of HTTP for policies and fences."""

from typing import Annotated

from msgspec import Meta, Struct

from api.schemas import Body
from api.schemas_settings import Units
from engine.cards import UNLIMITED

Limit = Annotated[int, Meta(ge=0, le=UNLIMITED)]


class PolicyBody(Body, frozen=True):
    """What stays out of sale at a position, what may be promised that is not there, and with how many
    units or fewer the stock is low.
    """

    safety_stock: Units = 0
    backorder_limit: Limit = 0
    low_stock: Units = 0


class PolicyAnswer(Struct, frozen=True):
    """The policy of a position."""

    sku: str
    location: str
    safety_stock: int
    backorder_limit: int
    low_stock: int


class PoliciesAnswer(Struct, frozen=True):
    """A page of policies; `next_cursor` is null on the last one."""

    items: list[PolicyAnswer]
    next_cursor: str | None


class FenceBody(Body, frozen=True):
    """Units for one channel. With `spill` it may go on to what is for all once they are used."""

    quantity: Units
    spill: bool = False


class FenceAnswer(Struct, frozen=True):
    """A fence: of its quantity `used` are open units of the channel, `remaining` are withheld from others."""

    channel: str
    sku: str
    location: str
    quantity: int
    spill: bool
    remaining: int
    used: int


class FencesAnswer(Struct, frozen=True):
    """A page of fences; `next_cursor` is null on the last one."""

    items: list[FenceAnswer]
    next_cursor: str | None
