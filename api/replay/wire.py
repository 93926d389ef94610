"""The bodies of the public HTTP interface that a replay sends and reads."""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus

import msgspec


class Line(msgspec.Struct, frozen=True):
    """A line of a reservation that is asked for."""

    sku: str
    quantity: int
    location: str


class ReserveBody(msgspec.Struct, frozen=True):
    """The body of `POST /v1/reservations`."""

    lines: list[Line]
    ttl_seconds: int
    owner: str
    reference: str


class State(StrEnum):
    """The states of a reservation that a replay can bring about."""

    HELD = "held"
    COMMITTED = "committed"
    FULFILLED = "fulfilled"
    RELEASED = "released"
    EXPIRED = "expired"


class ReservedLine(msgspec.Struct, frozen=True):
    """A line as the server has it."""

    sku: str
    location: str
    quantity: int


class Reservation(msgspec.Struct, frozen=True):
    """A reservation as the server answers it; only what the proof looks at."""

    id: str
    state: str
    lines: list[ReservedLine]


class Shortage(msgspec.Struct, frozen=True):
    """One short line of a refusal."""

    sku: str
    location: str
    requested: int
    available: int


class Problem(msgspec.Struct, frozen=True):
    """A problem document; only what the proof looks at."""

    code: str = ""
    detail: str = ""
    shortages: list[Shortage] = []
    errors: list[dict[str, str]] = []


class Movement(msgspec.Struct, frozen=True):
    """One item of `POST /v1/stock/movements`."""

    id: str
    kind: str
    sku: str
    location: str
    quantity: int


class Movements(msgspec.Struct, frozen=True):
    """The body of `POST /v1/stock/movements`."""

    movements: list[Movement]


class MovementResult(msgspec.Struct, frozen=True):
    """What became of one movement; `status` is its own HTTP status."""

    index: int
    status: int
    code: str = ""
    detail: str = ""
    body: Problem | None = None

    @property
    def accepted(self) -> bool:
        """Whether the movement is on the books."""
        return self.status < HTTPStatus.BAD_REQUEST

    @property
    def remedy(self) -> str:
        """What the server says about a refused movement."""
        said = self.body or Problem(code=self.code, detail=self.detail)
        return said.detail or said.code or f"status {self.status}"


class MovementResults(msgspec.Struct, frozen=True):
    """The 207 answer to movements."""

    results: list[MovementResult]


class Position(msgspec.Struct, frozen=True):
    """One position on the server's books, in units."""

    location: str
    on_hand: int
    held: int
    allocated: int
    unsellable: dict[str, int] = {}
    backorder_limit: int = 0
    available: int = 0

    @property
    def sellable(self) -> int:
        """Units that can be promised if nothing is held."""
        return self.on_hand - self.allocated - sum(self.unsellable.values()) + self.backorder_limit


class Stock(msgspec.Struct, frozen=True):
    """The answer of `GET /v1/stock/{sku}`."""

    sku: str
    positions: list[Position]


def problem(body: bytes) -> Problem:
    """Read a problem document; an unreadable one becomes a problem with its text as detail."""
    try:
        return msgspec.json.decode(body, type=Problem)
    except msgspec.DecodeError:
        return Problem(detail=body[:200].decode(errors="replace"))
