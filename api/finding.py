"""Lists of reservations, and availability with its reasons: hot routes for those who ask for more."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from msgspec import Struct

from api.access import Access
from api.codec import encode, format_time, reservation_answer
from api.schemas import ExplanationAnswer, HolderAnswer
from engine import InvalidRequest, Inventory, State, Status
from engine.errors import LocationNotFound
from engine.explain import Explanation, explain, render_share, render_sum
from engine.holders import Holder
from engine.planner import sum_availability
from engine.sourcing_plan import Rules, units_of_line
from engine.types import LocationAvailability

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
LIMIT_DIGITS = 4
MAX_TEXT = 255
HOLDERS_SHOWN = 5
"""Holders that an explanation names; the route of the holders has them all."""
READINGS = 8
"""How often number and reasons are read until they are of one moment."""
_FILTERS = ("owner", "reference", "sku", "location", "state")


class ExplainedPlace(Struct, frozen=True):
    """What one location can promise, and why. `explanation` is None where the SKU is not stocked."""

    location: str
    available: int
    status: Status
    explanation: ExplanationAnswer | None


class ExplainedComponent(Struct, frozen=True):
    """What a kit has of a component, of which it needs `quantity` each."""

    sku: str
    quantity: int
    available: int
    status: Status
    locations: Sequence[ExplainedPlace]


class ExplainedAvailability(Struct, frozen=True):
    """An `Availability` whose locations are explained; a kit has its `components` explained instead."""

    available: int
    status: Status
    version: str
    locations: Sequence[ExplainedPlace]
    components: Sequence[ExplainedComponent] | None = None


def read_values(query: bytes, *allowed: str) -> dict[str, str]:
    """The parameters of a query. Raises `InvalidRequest` for one that is unknown or comes twice."""
    try:
        given = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict")
    except (UnicodeError, ValueError) as error:
        raise InvalidRequest("", "the query is percent-encoded UTF-8") from error
    for name, values in given.items():
        if name not in allowed:
            raise InvalidRequest(f"?{name}", "there is no such parameter")
        if len(values) > 1:
            raise InvalidRequest(f"?{name}", "send it once")
    return {name: values[0] for name, values in given.items()}


def read_number(text: str, most_digits: int) -> int:
    """A whole number of a query; -1 for what is none, or has more digits than any that is allowed."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= most_digits else -1


def read_limit(query: Mapping[str, str]) -> int:
    """How many items a page has. Raises `InvalidRequest`."""
    limit = read_number(query.get("limit", str(DEFAULT_LIMIT)), LIMIT_DIGITS)
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest("?limit", f"a whole number from 1 to {MAX_LIMIT}")
    return limit


def read_text(name: str, text: str) -> str:
    """A text to look for. Raises `InvalidRequest` for one that no reservation can have."""
    if len(text) > MAX_TEXT:
        raise InvalidRequest(f"?{name}", f"at the most {MAX_TEXT} characters")
    return text


async def list_reservations(inventory: Inventory, query: bytes, access: Access) -> bytes:
    """A page of reservations as the query asks for it, of those that the caller may see."""
    given = read_values(query, *_FILTERS, "limit", "cursor")
    limit = read_limit(given)
    access.check_location(given.get("location"))
    for name in ("owner", "reference"):
        read_text(name, given.get(name, ""))
    state = None
    if "state" in given:
        try:
            state = State(given["state"])
        except ValueError as error:
            raise InvalidRequest("?state", f"one of {', '.join(State)}") from error
    try:
        page = await inventory.reservations(
            owner=given.get("owner"),
            reference=given.get("reference"),
            sku=given.get("sku"),
            location=given.get("location"),
            state=state,
            limit=limit,
            cursor=given.get("cursor"),
        )
    except InvalidRequest as error:
        raise as_of_query(error) from error
    items = [reservation_answer(one) for one in page.items if not access.is_restricted or access.sees(one)]
    return encode({"items": items, "next_cursor": page.next_cursor})


def as_of_query(error: InvalidRequest) -> InvalidRequest:
    """A fault of an argument that the query brought."""
    return InvalidRequest(f"?{error.field.removeprefix('/')}", error.remedy)


async def explained_availability(
    inventory: Inventory, sku: str, locations: Sequence[str], owner: str | None
) -> ExplainedAvailability:
    """Availability with its reasons, all of one moment. Raises as `Inventory.availability` does."""
    by_location = {one.location: one for one in await explain(inventory, sku, owner=owner)}
    asked = list(dict.fromkeys(locations)) or list(by_location)
    if not by_location.keys() >= set(asked):
        existing = {location.id for location in await inventory.locations()}
        for location in asked:
            if location not in existing:
                raise LocationNotFound(f"there is no location {location}")
    version = next(iter(by_location.values())).version
    places = [
        LocationAvailability(location, by_location[location].available, by_location[location].status)
        if location in by_location
        else LocationAvailability(location, 0, Status.OUT_OF_STOCK)
        for location in asked
    ]
    total = sum_availability(sku, version, places)
    return ExplainedAvailability(
        total.available,
        total.status,
        version,
        [
            ExplainedPlace(
                place.location, place.available, place.status, _as_answer(by_location.get(place.location))
            )
            for place in places
        ],
    )


async def explained_by_rules(
    inventory: Inventory,
    sku: str,
    rules: Rules,
    *,
    locations: Sequence[str],
    quantity: int | None,
    owner: str | None,
) -> tuple[ExplainedAvailability, bool | None]:
    """What a channel or a pool can promise, with its reasons, and whether the quantity fits. The reasons are
    of the same moment unless the SKU changes all the time. Raises as `Inventory.availability_by` does.
    """
    settings = await inventory.settings.current()
    if sku in settings.kits:
        return await _explained_kit(
            inventory, sku, rules, locations=locations, quantity=quantity, owner=owner
        )
    readings = 0
    while True:
        reasons = {one.location: one for one in await explain(inventory, sku, owner=owner)}
        if owner is None:
            found, fits = await inventory.availability_by(
                sku, rules=rules, locations=locations, quantity=quantity
            )
        else:
            found, fits = await inventory.availability_to(
                owner, sku, rules=rules, locations=locations, quantity=quantity
            )
        readings += 1
        if next(iter(reasons.values())).version == found.version or readings == READINGS:
            break
    channel = settings.channels.get(rules.channel) if rules.channel is not None else None
    places = []
    for place in found.locations:
        one = reasons.get(place.location)
        text = None if one is None or channel is None else render_share(one, channel, place.available)
        places.append(ExplainedPlace(place.location, place.available, place.status, _as_answer(one, text)))
    return ExplainedAvailability(found.available, found.status, found.version, places), fits


async def _explained_kit(
    inventory: Inventory,
    kit: str,
    rules: Rules,
    *,
    locations: Sequence[str],
    quantity: int | None,
    owner: str | None,
) -> tuple[ExplainedAvailability, bool | None]:
    """What there is of a kit, and what of each component, which is read a moment later."""
    if owner is None:
        found, fits = await inventory.availability_by(
            kit, rules=rules, locations=locations, quantity=quantity
        )
    else:
        found, fits = await inventory.availability_to(
            owner, kit, rules=rules, locations=locations, quantity=quantity
        )
    settings = await inventory.settings.current()
    components = []
    for sku, units in units_of_line(kit, 1, settings, "?sku"):
        if rules.everywhere:
            own = await explained_availability(inventory, sku, locations, owner)
        else:
            own, _ = await explained_by_rules(
                inventory, sku, rules, locations=locations, quantity=None, owner=owner
            )
        components.append(ExplainedComponent(sku, units, own.available, own.status, own.locations))
    places = [ExplainedPlace(one.location, one.available, one.status, None) for one in found.locations]
    return ExplainedAvailability(found.available, found.status, found.version, places, components), fits


def _as_answer(found: Explanation | None, text: str | None = None) -> ExplanationAnswer | None:
    if found is None:
        return None
    return ExplanationAnswer(
        text=render_sum(found) if text is None else text,
        on_hand=found.on_hand,
        held=found.held,
        allocated=found.allocated,
        unsellable=found.unsellable,
        safety_stock=found.safety_stock,
        fenced=found.fenced,
        backorder_limit=found.backorder_limit,
        preordered=found.preordered,
        own_held=found.own_held,
        holders=[as_holder(holder) for holder in found.holders[:HOLDERS_SHOWN]],
        more_holders=max(0, len(found.holders) - HOLDERS_SHOWN),
    )


def as_holder(holder: Holder) -> HolderAnswer:
    """A holder as HTTP answers it."""
    return HolderAnswer(
        reservation=holder.reservation,
        state=holder.state,
        held=holder.held,
        allocated=holder.allocated,
        owner=holder.owner,
        reference=holder.reference,
        expires_at=None if holder.expires_ms is None else format_time(holder.expires_ms),
    )
