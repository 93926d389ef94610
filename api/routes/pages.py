"""Pages of lists that have the newest first: a cursor names the last item of the page before."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from api.routes.exchange import read_limit
from engine import InvalidRequest

Shown = TypeVar("Shown")


def page_of(
    items: Sequence[Shown], query: Mapping[str, str], answer: Callable[[Shown], object]
) -> dict[str, Any]:
    """A page of items with an id and the time at which they were made, in their order."""
    limit = read_limit(query)
    if "cursor" in query:
        before = _read_cursor(query["cursor"])
        items = [item for item in items if _key(item) > before]
    cursor = _cursor(items[limit - 1]) if len(items) > limit else None
    return {"items": [answer(item) for item in items[:limit]], "next_cursor": cursor}


def sort_newest_first(items: Sequence[Shown]) -> list[Shown]:
    """The order of pages."""
    return sorted(items, key=_key)


def _key(item: Any) -> tuple[int, str]:  # noqa: ANN401 - whatever has an id and a time
    return -item.created_ms, item.id


def _cursor(item: Any) -> str:  # noqa: ANN401 - whatever has an id and a time
    return urlsafe_b64encode(f"{item.created_ms} {item.id}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[int, str]:
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        made, _, name = raw.decode("ascii").partition(" ")
        before = -int(made), name
    except ValueError as error:
        raise InvalidRequest("?cursor", "use next_cursor of the page before") from error
    if urlsafe_b64encode(f"{-before[0]} {name}".encode()).decode().rstrip("=") != text:
        raise InvalidRequest("?cursor", "use next_cursor of the page before")
    return before
