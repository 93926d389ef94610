"""Bytes in, Structs out, and back."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import msgspec
from msgspec import Struct

from api.schemas import (
    BatchBody,
    ChooseBody,
    CommitBody,
    CountsBody,
    ExtendBody,
    MovementsBody,
    PlanBody,
    QueryBody,
    ReservationAnswer,
    ReservationLineAnswer,
    ReserveBody,
    ReservesBody,
    SetBody,
)
from engine.types import Reservation

encode = msgspec.json.Encoder().encode
decode_reserve = msgspec.json.Decoder(ReserveBody).decode
decode_commit = msgspec.json.Decoder(CommitBody).decode
decode_choice = msgspec.json.Decoder(ChooseBody).decode
decode_extend = msgspec.json.Decoder(ExtendBody).decode
decode_batch = msgspec.json.Decoder(BatchBody).decode
decode_reserves = msgspec.json.Decoder(ReservesBody).decode
decode_plan = msgspec.json.Decoder(PlanBody).decode
decode_query = msgspec.json.Decoder(QueryBody).decode
decode_movements = msgspec.json.Decoder(MovementsBody).decode
decode_counts = msgspec.json.Decoder(CountsBody).decode
decode_set = msgspec.json.Decoder(SetBody).decode


@lru_cache(maxsize=1024)
def _format_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=1024)
def format_time(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return f"{_format_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


def parse_time(text: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 time. Raises `ValueError` where it names no zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time names no zone")
    return int(moment.timestamp() * 1000)


def reservation_answer(reservation: Reservation) -> ReservationAnswer:
    """A reservation as HTTP answers it."""
    expires_ms = reservation.expires_ms
    return ReservationAnswer(
        reservation.id,
        reservation.state,
        None if expires_ms is None else format_time(expires_ms),
        reservation.owner,
        reservation.reference,
        reservation.channel,
        reservation.metadata,
        reservation.version,
        # The engine's lines have the same members.
        cast("Sequence[ReservationLineAnswer]", reservation.lines),
    )


class Result(Struct, frozen=True, omit_defaults=True, gc=False):
    """How one operation of a batch ended; a problem document where it was refused."""

    index: int
    status: int
    body: ReservationAnswer | Mapping[str, Any]
    replayed: bool = False


def availability_parts(
    sku: str, available: int, status: str, places: Sequence[object]
) -> tuple[bytes, bytes]:
    """What stands before and after the version in an availability answer: the parts of which it is a
    pure function of the stock, and so what an entity tag may be made of.
    """
    head = encode({"sku": sku, "available": available, "status": status})
    return head[:-1], encode(places)
