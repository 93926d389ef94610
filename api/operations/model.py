"""How an operation is described, and what several have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from api.schemas import SKU_PATTERN
from engine import limits

Example = Mapping[str, Any]

SKU = {"type": "string", "minLength": 1, "maxLength": limits.MAX_SKU_LENGTH, "pattern": SKU_PATTERN}
LOCATION = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}
RESERVATION = {"type": "string", "pattern": "^r_[A-Za-z0-9_-]{20}$"}
TEXT = {"type": "string", "maxLength": 255}
LIMIT = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}

READ = ("storage_unavailable", "overloaded", "internal_error")
"""What may befall any request that asks the engine."""
WRITE = (*READ, "unconfirmed", "memory_full", "replicas_unavailable")
BODY = ("malformed_json", "unsupported_media_type", "payload_too_large", "invalid_request")
RESOLVED = (
    "already_committed",
    "already_released",
    "already_fulfilled",
    "already_cancelled",
    "reservation_expired",
)


class Parameter(Struct, frozen=True):
    """A parameter of the path or the query."""

    name: str
    place: str
    schema: Mapping[str, Any]
    meaning: str
    example: object = None
    repeats: bool = False
    is_required: bool = False
    """Those of the path are, whatever this says."""


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path. `answers` gives the Struct of each success; None for no body."""

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str = ""
    parameters: Sequence[Parameter] = ()
    key: str = ""
    """Whether an Idempotency-Key is `required`, `partial` (required with lines) or `optional`."""
    body: type[Struct] | None = None
    body_is_optional: bool = False
    request_example: Example | None = None
    answers: Mapping[int, type[Struct] | str | None]
    """A text instead of a Struct is a media type that is no JSON."""
    answer_example: Example | None = None
    leads_to: Sequence[str] = ()
    """Names of the operations that take the `id` of the answer."""
    has_tag: bool = False
    """Answers carry an ETag, and If-None-Match is honoured."""
    problems: Sequence[str] = ()


SKU_IN_PATH = Parameter("sku", "path", SKU, "The SKU, percent-encoded.", "A-1")
LOCATION_IN_PATH = Parameter("location", "path", LOCATION, "The location.", "s7")
CURSOR = Parameter("cursor", "query", {"type": "string"}, "`next_cursor` of the page before.")
