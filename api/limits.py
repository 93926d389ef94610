"""How much a caller may send, how slowly, and how often. See `docs/operating/limits.md`."""

import os
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Struct

LIMITS_VARIABLE = "BINCARD_LIMITS"
"""Where the supervisor tells a worker of its limits, as JSON."""
MOST_HEADERS = 100
MOST_REQUEST_LINE_BYTES = 8192
"""Of path and query."""
MOST_DEPTH = 16
"""Of objects and arrays in metadata, which alone may nest as its sender likes: all else has a declared form.
What is too deep even to be read is refused by the decoder. The engine has the number as MAX_METADATA_DEPTH;
it is not asked for it here, as it takes a while to import.
"""
MOST_PIPELINED = 1024
"""Requests of one connection that wait for the one before them, some 800 bytes each."""

Bytes = Annotated[int, msgspec.Meta(description="a number of bytes, 1024 or more", ge=1024)]
Deadline = Annotated[float, msgspec.Meta(description="seconds, above zero", gt=0)]
Rate = Annotated[float, msgspec.Meta(description="a number, zero (no limit) or more", ge=0)]
Burst = Annotated[int, msgspec.Meta(description="a whole number above zero", ge=1)]


class Limits(Struct, frozen=True, kw_only=True):
    """What one worker holds callers to."""

    max_body_bytes: Bytes = 8 * 1024 * 1024
    """5,000 movements with every field at its longest are about 5 MB."""
    max_head_bytes: Bytes = 32 * 1024
    """Request line and headers."""
    max_connections: Annotated[int, msgspec.Meta(description="a whole number above zero", ge=1)] | None = None
    """Of one worker; None: 10,000, or fewer where the process may have fewer files open."""
    head_seconds: Deadline = 10.0
    """From the first byte of a request to the end of its head."""
    body_seconds: Deadline = 10.0
    """From the end of the head to the end of the body, and more for what has come."""
    unread_seconds: Deadline = 20.0
    """For how long an answer may stay unread, and more for what was read."""
    idle_seconds: Deadline = 75.0
    min_bytes_per_second: Annotated[int, msgspec.Meta(description="a whole number above zero", ge=1)] = (
        16 * 1024
    )
    """How slowly bodies may come and answers be read: so many bytes prolong a deadline by a second."""
    max_arriving_bytes: Bytes = 256 * 1024 * 1024
    """Of all requests that are not complete."""
    max_unread_bytes: Bytes = 256 * 1024 * 1024
    """Of all answers that are written and not read."""
    requests_per_second: Rate = 0.0
    """Of one caller; 0: no limit."""
    request_burst: Burst = 100
    """How many it may send at once."""

    def as_variables(self) -> Mapping[str, str]:
        """For the environment of a worker."""
        return {LIMITS_VARIABLE: msgspec.json.encode(self).decode()}


DEFAULT = Limits()
REACHABLE = (
    "arriving_bytes",
    "body_bytes",
    "body_time",
    "connections",
    "head_bytes",
    "head_time",
    "headers",
    "idle",
    "idle_pressed",
    "pipelined",
    "rate",
    "request_line",
    "unread_bytes",
    "unread_time",
)
"""What metrics call them."""


def limits_of_environment() -> Limits:
    """What the supervisor told."""
    told = os.environ.get(LIMITS_VARIABLE)
    return msgspec.json.decode(told, type=Limits) if told else DEFAULT
