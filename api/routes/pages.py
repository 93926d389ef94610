"""Pages of lists that have the newest first: a cursor names the last item of the page before."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from engine import InvalidRequest
from engine.document_lists import Spot
from engine.documents import Page

Shown = TypeVar("Shown")


def page_of(found: Page[Shown], answer: Callable[[Shown], object]) -> dict[str, Any]:
    """A page as it is answered."""
    return {
        "items": [answer(item) for item in found.items],
        "next_cursor": None if found.next is None else _cursor(found.next),
    }


def read_cursor(query: Mapping[str, str]) -> Spot | None:
    """Behind what the page that is asked for begins. Raises `InvalidRequest`."""
    if "cursor" not in query:
        return None
    text = query["cursor"]
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        made, _, name = raw.decode("ascii").partition(" ")
        spot = Spot(int(made), name)
    except ValueError as error:
        raise InvalidRequest("?cursor", "use next_cursor of the page before") from error
    if _cursor(spot) != text:
        raise InvalidRequest("?cursor", "use next_cursor of the page before")
    return spot


def _cursor(spot: Spot) -> str:
    return urlsafe_b64encode(f"{spot.created_ms} {spot.id}".encode()).decode().rstrip("=")
