"""What a caller may do: scopes, restrictions, and how much of a quantity is shown.

`keyring.py` finds out who calls, `access_table.py` says what each route asks for. Whoever answers a request
finds its caller in `Request.access`.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from api.problems import ProblemError
from api.quota import Rate
from engine import InvalidRequest, Reservation
from engine.errors import ChannelNotFound, InsufficientStock, LocationNotFound
from engine.types import ApiKey

BANDS = (0, 1, 5, 10, 20, 50, 100)
"""What a banded quantity is rounded down to."""
BANDED = "0, 1, 5, 10, 20, 50 or 100, whichever is the next below"


class Scope(StrEnum):
    """What a key may be good for."""

    AVAILABILITY_READ = "availability:read"
    STOCK_READ = "stock:read"
    STOCK_WRITE = "stock:write"
    RESERVATION_CREATE = "reservation:create"
    RESERVATION_COMMIT = "reservation:commit"
    RESERVATION_RELEASE = "reservation:release"
    SETTINGS_WRITE = "settings:write"
    KEY_ADMIN = "key:admin"
    AUDIT_READ = "audit:read"


OF_SELLERS = frozenset(
    {
        Scope.AVAILABILITY_READ,
        Scope.RESERVATION_CREATE,
        Scope.RESERVATION_COMMIT,
        Scope.RESERVATION_RELEASE,
    }
)
"""The scopes that a key with banded quantities may have."""


class Access(Struct, frozen=True):
    """A verified caller. None as locations or channels: all."""

    caller: str = ""
    """The id of the key, which scopes operation ids; nothing where keys are off."""
    scopes: frozenset[str] = frozenset(Scope)
    locations: frozenset[str] | None = None
    channels: tuple[str, ...] | None = None
    is_banded: bool = False
    expires_ms: int | None = None
    is_restricted: bool = False
    """Whether locations or channels are."""
    rate: Rate | None = None
    """How often it may call, where it has a limit of its own."""

    def require(self, scopes: Collection[str]) -> None:
        """Raises `forbidden` unless the caller has one of some scopes."""
        if self.scopes.isdisjoint(scopes):
            raise forbidden(f"this needs the scope {' or '.join(sorted(scopes))}")

    def check_location(self, *names: str | None) -> None:
        """Raises `LocationNotFound` for one that the caller may not see; None names none."""
        if self.locations is not None:
            for name in names:
                if name is not None and name not in self.locations:
                    raise LocationNotFound(f"there is no location {name[:64]}")

    def channel_of(self, named: str | None, field: str = "/channel") -> str | None:
        """The channel that a request is for: the one it names, or the caller's only one. Raises
        `ChannelNotFound` for one that is not the caller's.
        """
        if self.channels is None:
            return named
        if named is None:
            if len(self.channels) == 1:
                return self.channels[0]
            raise InvalidRequest(field, f"name one of {', '.join(self.channels)}")
        if named not in self.channels:
            raise ChannelNotFound(f"there is no channel {named[:64]}")
        return named

    def sees(self, reservation: Reservation) -> bool:
        """Whether the reservation is there for the caller: of its channels, and at its locations alone."""
        return (self.channels is None or reservation.channel in self.channels) and self.covers(
            line.location for line in reservation.lines
        )

    def covers(self, locations: Iterable[str]) -> bool:
        """Whether all of some locations are the caller's."""
        return self.locations is None or self.locations.issuperset(locations)

    def shown(self, quantity: int) -> int:
        """A quantity as the caller is shown it."""
        return band(quantity) if self.is_banded else quantity


OPEN = Access()
"""Everybody, where keys are off."""


def access_of(key: ApiKey) -> Access:
    """What a key lets its holder do."""
    locations = None if key.locations is None else frozenset(key.locations)
    return Access(
        key.id,
        frozenset(key.scopes),
        locations,
        key.channels,
        key.is_banded,
        key.expires_ms,
        is_restricted=locations is not None or key.channels is not None,
        rate=None
        if key.requests_per_second is None
        else Rate(key.requests_per_second, key.requests_per_second),
    )


def grants(own: Access, key: ApiKey) -> bool:
    """Whether a key reaches no further than the caller, who may then give it."""
    return (
        own.scopes.issuperset(key.scopes)
        and (own.locations is None or (key.locations is not None and own.locations.issuperset(key.locations)))
        and (
            own.channels is None or (key.channels is not None and set(own.channels).issuperset(key.channels))
        )
        and (key.is_banded or not own.is_banded)
        and (own.expires_ms is None or (key.expires_ms is not None and key.expires_ms <= own.expires_ms))
        and (
            own.rate is None
            or (key.requests_per_second is not None and key.requests_per_second <= own.rate.per_second)
        )
    )


def band(quantity: int) -> int:
    """A quantity rounded down to a band; what is below zero stays unknown, too."""
    return BANDS[bisect_right(BANDS, quantity) - 1] if quantity > 0 else 0


def blurred(error: Exception, access: Access) -> Exception:
    """An error as the caller is shown it: without the quantities that it may not know."""
    if access.is_banded and isinstance(error, InsufficientStock):
        error.shortages = [replace(one, available=band(one.available)) for one in error.shortages]
        error.detail = "there is less than was requested"
    return error


def forbidden(detail: str) -> ProblemError:
    """The refusal of a caller who is known, and may not."""
    return ProblemError("forbidden", detail)
