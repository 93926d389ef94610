"""Prints `docs/reference/scopes.md`, from the routes as they are declared."""

import sys

from api.access import Scope
from api.access_table import ROUTES, Rule

_MEANINGS = {
    Scope.AVAILABILITY_READ: "ask what can be promised",
    Scope.STOCK_READ: "read counters, holders, histories, transfers, inbound orders and settings",
    Scope.STOCK_WRITE: "record what came, went or was counted; transfers and inbound orders",
    Scope.RESERVATION_CREATE: "hold units, extend and change holds",
    Scope.RESERVATION_COMMIT: "turn holds into orders, hand goods over",
    Scope.RESERVATION_RELEASE: "give units back, of holds and of orders",
    Scope.SETTINGS_WRITE: "change locations, pools, channels, items, policies and fences",
    Scope.KEY_ADMIN: "make, show, rotate and revoke keys that reach no further than the own",
    Scope.AUDIT_READ: "read metrics",
}
_HEAD = """\
# Scopes

This page is generated; `.venv/bin/python -m api.scopes_page > docs/reference/scopes.md` writes it anew.
See [API keys](../operating/api-keys.md).

| scope | lets its holder |
| --- | --- |
"""
_ROUTES = """
Of several scopes one is enough. A key that is restricted to locations, or to channels, is refused (403) where
the route does not keep to them.

| route | scopes | keeps to |
| --- | --- | --- |
"""


def render() -> str:
    """The page."""
    scopes = [f"| `{scope}` | {_MEANINGS[scope]} |" for scope in Scope]
    routes = [
        f"| `{method} {path}` | {_scopes(rule)} | {_kept(rule)} |"
        for path, methods in ROUTES.items()
        for method, rule in methods.items()
    ]
    return _HEAD + "\n".join(scopes) + "\n" + _ROUTES + "\n".join(routes) + "\n"


def _scopes(rule: Rule) -> str:
    return ", ".join(f"`{scope}`" for scope in Scope if scope in rule.scopes) or "public"


def _kept(rule: Rule) -> str:
    if rule.is_public:
        return ""
    return ", ".join(
        word for word, is_kept in (("locations", rule.locations), ("channels", rule.channels)) if is_kept
    )


if __name__ == "__main__":
    sys.stdout.write(render())
