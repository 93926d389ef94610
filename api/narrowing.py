"""Requests of callers that are restricted to locations or channels: what they may name, what they are shown.

Whatever lies outside is as if it were not there. Nothing here is called for callers without restrictions.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from api.access import Access, forbidden
from api.schemas import PlanBody, ReserveBody
from engine import Availability, Inventory, Reservation, Status
from engine.errors import ChannelNotFound, PoolNotFound, ReservationNotFound, SkuNotFound
from engine.planner import sum_availability
from engine.settings import Settings
from engine.types import LocationAvailability

_Body = TypeVar("_Body", ReserveBody, PlanBody)


async def narrow_choice(inventory: Inventory, access: Access, body: _Body) -> _Body:
    """A reserve or a plan as the caller may make it. Raises `LocationNotFound`, `PoolNotFound`,
    `ChannelNotFound`, `InvalidRequest`.
    """
    channel = access.channel_of(body.channel)
    access.check_location(*(line.location for line in body.lines))
    chooses = body.pool is not None or any(line.location is None for line in body.lines)
    if chooses:
        settings = await inventory.settings.latest()
        check_supply(access, settings, channel, body.pool, is_whole=True)
    return body if channel == body.channel else replace(body, channel=channel)


def check_supply(
    access: Access, settings: Settings, channel: str | None, pool: str | None, *, is_whole: bool
) -> None:
    """Raises `PoolNotFound` or `ChannelNotFound` unless the caller's locations are in the pool, or in the
    channel's; with `is_whole`, unless there are no others.
    """
    if pool is not None:
        reach = settings.locations_of_pool(pool) if pool in settings.pools else ()
        if not _is_within(access, reach, is_whole=is_whole) or not _sells_from(access, settings, pool):
            raise PoolNotFound(f"there is no pool {pool[:64]}")
    elif channel is not None and access.locations is not None:
        reach = settings.locations_of_channel(channel) if channel in settings.channels else ()
        if not _is_within(access, reach, is_whole=is_whole):
            raise ChannelNotFound(f"there is no channel {channel[:64]}")


def _is_within(access: Access, reach: Sequence[str], *, is_whole: bool) -> bool:
    if access.locations is None:
        return True
    return bool(reach) and (
        access.locations.issuperset(reach) if is_whole else not access.locations.isdisjoint(reach)
    )


def _sells_from(access: Access, settings: Settings, pool: str) -> bool:
    return access.channels is None or any(
        pool in settings.channels[channel].pools
        for channel in access.channels
        if channel in settings.channels
    )


def own_places(access: Access, named: Sequence[str]) -> Sequence[str]:
    """The locations that an answer may be about: those that were named, or the caller's; nothing for all.
    Raises `LocationNotFound`.
    """
    access.check_location(*named)
    return named if named or access.locations is None else sorted(access.locations)


def narrowed(sku: str, found: Availability, access: Access, named: Sequence[str]) -> Availability:
    """An availability with the caller's places alone. Raises `SkuNotFound` where there are none."""
    if access.locations is None:
        return found
    places = {place.location: place for place in found.locations if place.location in access.locations}
    if not places:
        raise unknown_sku(sku)
    chosen = [
        places.get(name) or LocationAvailability(name, 0, Status.OUT_OF_STOCK)
        for name in dict.fromkeys(named)
    ]
    return sum_availability(sku, found.version, chosen or list(places.values()))


def unknown_sku(sku: str) -> SkuNotFound:
    """The refusal of a SKU that no place has which the caller may see."""
    return SkuNotFound(f"SKU {sku}: no location stocks it")


def blurred_availability(found: Availability, access: Access) -> Availability:
    """An availability in bands, where the caller is shown those."""
    if not access.is_banded:
        return found
    places = [replace(place, available=access.shown(place.available)) for place in found.locations]
    return replace(found, available=access.shown(found.available), locations=places)


def refuse_explanation(access: Access) -> None:
    """Reasons name holders, and all numbers. Raises `forbidden`."""
    if access.is_restricted or access.is_banded:
        raise forbidden("reasons are for keys that are not restricted, and are shown exact quantities")


async def check_reservation(inventory: Inventory, access: Access, reservation: str) -> None:
    """Raises `ReservationNotFound` unless the reservation is there for the caller."""
    if access.is_restricted and not access.sees(await inventory.reservation(reservation)):
        raise ReservationNotFound(f"there is no reservation {reservation[:64]}")


async def check_cart(inventory: Inventory, access: Access, reservation: str, pool: str | None) -> None:
    """Raises `PoolNotFound` or `ChannelNotFound` unless the caller may have places chosen for it."""
    if access.is_restricted:
        channel = access.channel_of((await inventory.reservation(reservation)).channel)
        check_supply(access, await inventory.settings.latest(), channel, pool, is_whole=True)


async def seen_among(inventory: Inventory, access: Access, reservations: Iterable[str]) -> set[str]:
    """Those of some reservations that are there for a caller. Cost: a read for each, if it is restricted."""
    asked = list(dict.fromkeys(reservations))
    if not access.is_restricted:
        return set(asked)

    async def is_seen(one: str) -> bool:
        try:
            return access.sees(await inventory.reservation(one))
        except ReservationNotFound:
            return False

    told = await asyncio.gather(*(is_seen(one) for one in asked))
    return {one for one, is_there in zip(asked, told, strict=True) if is_there}


def check_seen(access: Access, found: Reservation) -> Reservation:
    """A reservation that was read. Raises `ReservationNotFound` unless it is there for the caller."""
    if access.is_restricted and not access.sees(found):
        raise ReservationNotFound(f"there is no reservation {found.id[:64]}")
    return found
