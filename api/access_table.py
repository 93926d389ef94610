"""Which scopes each route asks for, and which restrictions of a key it keeps. One table for both lanes.

A route that is not here stops the start. A key that is restricted is refused by a route that does not keep
its restriction: a new route is closed until somebody has thought about it.
"""

from collections.abc import Iterable, Mapping

from msgspec import Struct

from api.access import Access, Scope, forbidden


class Rule(Struct, frozen=True, eq=False):
    """One of `scopes` is enough; without any, the route is public. Whether it keeps to a key's locations, and
    to its channels.
    """

    scopes: frozenset[Scope]
    locations: bool
    channels: bool
    is_public: bool = False

    def check(self, access: Access) -> None:
        """Raises `forbidden` unless the caller may use the route."""
        access.require(self.scopes)
        if access.is_restricted and (
            (access.locations is not None and not self.locations)
            or (access.channels is not None and not self.channels)
        ):
            raise forbidden("this is closed to keys that are restricted to locations or channels")


class UndeclaredRouteError(Exception):
    """A route about which the table says nothing, or the other way round."""


def _whole(*scopes: Scope) -> Rule:
    return Rule(frozenset(scopes), locations=False, channels=False)


def _located(*scopes: Scope) -> Rule:
    return Rule(frozenset(scopes), locations=True, channels=False)


def _selling(*scopes: Scope) -> Rule:
    return Rule(frozenset(scopes), locations=True, channels=True)


_PUBLIC = Rule(frozenset(), locations=True, channels=True, is_public=True)
_ASK = _selling(Scope.AVAILABILITY_READ)
_RESERVE, _COMMIT = _selling(Scope.RESERVATION_CREATE), _selling(Scope.RESERVATION_COMMIT)
_RELEASE = _selling(Scope.RESERVATION_RELEASE)
_ANY_STEP = _selling(Scope.RESERVATION_CREATE, Scope.RESERVATION_COMMIT, Scope.RESERVATION_RELEASE)
_LOOK = _selling(*_ANY_STEP.scopes, Scope.STOCK_READ)
_STOCK, _BOOK = _located(Scope.STOCK_READ), _located(Scope.STOCK_WRITE)
_KNOW, _SET = _located(Scope.STOCK_READ, Scope.SETTINGS_WRITE), _whole(Scope.SETTINGS_WRITE)
_KNOW_ALL = _whole(Scope.STOCK_READ, Scope.SETTINGS_WRITE)
_ADMIN = _selling(Scope.KEY_ADMIN)
_SETTING = {"GET": _KNOW, "PUT": _SET, "DELETE": _SET}
_OF_POSITION = {"GET": _KNOW_ALL, "PUT": _SET, "DELETE": _SET}

ROUTES: Mapping[str, Mapping[str, Rule]] = {
    "/": {"GET": _PUBLIC},
    "/healthz": {"GET": _PUBLIC},
    "/readyz": {"GET": _PUBLIC},
    "/openapi.json": {"GET": _PUBLIC},
    "/docs": {"GET": _PUBLIC},
    "/docs/{asset}": {"GET": _PUBLIC},
    "/problems/{code}": {"GET": _PUBLIC},
    "/metrics": {"GET": _whole(Scope.AUDIT_READ)},
    "/v1/availability/{sku}": {"GET": _ASK},
    "/v1/availability/query": {"GET": _ASK, "POST": _ASK},
    "/v1/availability/{sku}/nearby": {"GET": _ASK},
    "/v1/atp/{sku}": {"GET": _located(Scope.AVAILABILITY_READ)},
    "/v1/plans": {"POST": _ASK},
    "/v1/reservations": {"GET": _LOOK, "POST": _RESERVE},
    "/v1/reservations/batch": {"POST": _ANY_STEP},
    "/v1/reservations/{id}": {"GET": _LOOK},
    "/v1/reservations/{id}/extend": {"POST": _RESERVE},
    "/v1/reservations/{id}/move": {"POST": _RESERVE},
    "/v1/reservations/{id}/lines": {"PUT": _RESERVE},
    "/v1/reservations/{id}/commit": {"POST": _COMMIT},
    "/v1/reservations/{id}/fulfil": {"POST": _COMMIT},
    "/v1/reservations/{id}/ready": {"POST": _COMMIT},
    "/v1/reservations/{id}/collected": {"POST": _COMMIT},
    "/v1/reservations/{id}/short": {"POST": _COMMIT},
    "/v1/reservations/{id}/release": {"POST": _RELEASE},
    "/v1/reservations/{id}/cancel": {"POST": _RELEASE},
    "/v1/pickups": {"GET": _LOOK},
    "/v1/counts/wanted": {"GET": _STOCK},
    "/v1/stock/movements": {"POST": _BOOK},
    "/v1/stock/counts": {"POST": _BOOK},
    "/v1/stock/{sku}": {"GET": _STOCK},
    "/v1/stock/{sku}/{location}": {"GET": _STOCK, "PUT": _BOOK},
    "/v1/stock/{sku}/{location}/movements": {"GET": _STOCK},
    "/v1/stock/{sku}/{location}/holders": {"GET": _STOCK},
    "/v1/transfers": {"GET": _STOCK, "POST": _BOOK},
    "/v1/transfers/{id}": {"GET": _STOCK},
    "/v1/transfers/{id}/ship": {"POST": _BOOK},
    "/v1/transfers/{id}/receive": {"POST": _BOOK},
    "/v1/transfers/{id}/cancel": {"POST": _BOOK},
    "/v1/inbound": {"GET": _STOCK, "POST": _BOOK},
    "/v1/inbound/{id}": {"GET": _STOCK},
    "/v1/inbound/{id}/receive": {"POST": _BOOK},
    "/v1/inbound/{id}/cancel": {"POST": _BOOK},
    "/v1/locations": {"GET": _KNOW},
    "/v1/locations/{id}": _SETTING,
    "/v1/pools": {"GET": _KNOW},
    "/v1/pools/{id}": _SETTING,
    "/v1/channels": {"GET": _KNOW},
    "/v1/channels/{id}": _SETTING,
    "/v1/items": {"GET": _KNOW},
    "/v1/items/{sku}": _SETTING,
    "/v1/policies": {"GET": _KNOW_ALL},
    "/v1/policies/{sku}/{location}": _OF_POSITION,
    "/v1/fences": {"GET": _KNOW_ALL},
    "/v1/fences/{channel}/{sku}/{location}": _OF_POSITION,
    "/v1/keys": {"GET": _ADMIN, "POST": _ADMIN},
    "/v1/keys/{id}": {"GET": _ADMIN},
    "/v1/keys/{id}/rotate": {"POST": _ADMIN},
    "/v1/keys/{id}/revoke": {"POST": _ADMIN},
}

OF_OPERATION: Mapping[str, Rule] = {
    "reserve": _RESERVE,
    "extend": _RESERVE,
    "commit": _COMMIT,
    "fulfil": _COMMIT,
    "release": _RELEASE,
    "cancel": _RELEASE,
}
"""What each operation of a batch asks for."""


LOGGED = frozenset({Scope.SETTINGS_WRITE, Scope.KEY_ADMIN})
"""Scopes of changes that the log tells of, too: they are few, and change what everybody may do."""
_RULES = {
    path: {**methods, "HEAD": methods["GET"]} if "GET" in methods else methods
    for path, methods in ROUTES.items()
}


def rule_of(path: str, method: str) -> Rule:
    """The rule of a route, by its template. HEAD is GET without a body."""
    return _RULES[path][method]


def check_routes(served: Iterable[tuple[str, str]]) -> None:
    """Raises `UndeclaredRouteError` unless the table has exactly the routes that are served: path, method."""
    found = {(path, "GET" if method == "HEAD" else method) for path, method in served}
    declared = {(path, method) for path, methods in ROUTES.items() for method in methods}
    if found != declared:
        missing = ", ".join(f"{method} {path}" for path, method in sorted(found - declared))
        gone = ", ".join(f"{method} {path}" for path, method in sorted(declared - found))
        raise UndeclaredRouteError(
            f"api/access_table.py: routes without a rule: {missing or 'none'}; "
            f"rules without a route: {gone or 'none'}"
        )
