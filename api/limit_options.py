"""The options of `bincard serve` that hold callers to limits; `limits.py` says what each means."""

from __future__ import annotations

from typing import Annotated

import typer

from api.limits import DEFAULT


def _limit(name: str, text: str) -> object:
    default = getattr(DEFAULT, name)
    return typer.Option(help=text, show_default="none" if default is None else f"{default:g}")


MaxBodyBytes = Annotated[int | None, _limit("max_body_bytes", "The largest body.")]
MaxHeadBytes = Annotated[int | None, _limit("max_head_bytes", "The largest request line with its headers.")]
MaxConnections = Annotated[int | None, _limit("max_connections", "Connections of one API process.")]
HeadSeconds = Annotated[float | None, _limit("head_seconds", "How long a head may take to arrive.")]
BodySeconds = Annotated[
    float | None, _limit("body_seconds", "How long a body may take to arrive, beside what its bytes add.")
]
UnreadSeconds = Annotated[
    float | None, _limit("unread_seconds", "How long an answer may stay unread, beside what its bytes add.")
]
IdleSeconds = Annotated[
    float | None, _limit("idle_seconds", "How long a connection may stay open between requests.")
]
MinBytesPerSecond = Annotated[
    int | None,
    _limit("min_bytes_per_second", "How many bytes of a body or an answer add a second to its time."),
]
MaxArrivingBytes = Annotated[
    int | None, _limit("max_arriving_bytes", "Of all incomplete requests of an API process.")
]
MaxUnreadBytes = Annotated[int | None, _limit("max_unread_bytes", "Of all unread answers of an API process.")]
RequestsPerSecond = Annotated[
    float | None, _limit("requests_per_second", "How often a caller may ask; 0 for as often as it likes.")
]
RequestBurst = Annotated[int | None, _limit("request_burst", "How many requests a caller may send at once.")]
