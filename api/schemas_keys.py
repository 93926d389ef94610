"""The bodies of HTTP for API keys."""

from typing import Annotated, Literal

from msgspec import Meta

from api.access import Scope
from api.schemas import Body, LocationId, Moment
from engine import limits
from engine.api_keys import MAX_NAME_LENGTH, MAX_RATE

Ids = Annotated[list[LocationId], Meta(min_length=1, max_length=limits.MAX_NAMES)]
Quantities = Literal["exact", "banded"]
GraceSeconds = Annotated[int, Meta(ge=0, le=limits.MAX_TTL_SECONDS)]


class KeyBody(Body, frozen=True):
    """A key to be made. Without `locations` or `channels` it is for all, without `expires_at` for good,
    without `requests_per_second` as fast as everybody.
    """

    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
    scopes: Annotated[list[Scope], Meta(min_length=1)]
    locations: Ids | None = None
    channels: Ids | None = None
    quantities: Quantities = "exact"
    expires_at: Moment | None = None
    requests_per_second: Annotated[int, Meta(ge=1, le=MAX_RATE)] | None = None


class RotateBody(Body, frozen=True):
    """How long the secret before stays good beside the new one."""

    grace_seconds: GraceSeconds = 0


class SecretAnswer(Body, frozen=True):
    """One of the secrets of a key, without its text."""

    created_at: str
    ends_at: str | None


class KeyAnswer(Body, frozen=True):
    """A key, without what proves it. `secrets` are those that are good, the newest last."""

    id: str
    name: str
    scopes: list[str]
    locations: list[str] | None
    channels: list[str] | None
    quantities: Quantities
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    requests_per_second: int | None
    secrets: list[SecretAnswer]


class MadeKeyAnswer(KeyAnswer, frozen=True):
    """A key and the text to send as bearer, which is shown this once: null where the request is a repeat."""

    key: str | None


class KeysAnswer(Body, frozen=True):
    """A page of keys."""

    items: list[KeyAnswer]
    next_cursor: str | None
