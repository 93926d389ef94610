"""What is expected: inbound orders, and what can be promised by which day."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine import keys, limits, planner
from engine.cards import decode_fences, fence_field, read_positions
from engine.document_lists import AT_ONCE, Spot
from engine.documents import Document, Documents, Moving, Name, Outbox, Page, SupplyChange, take_over
from engine.errors import (
    AlreadyCancelled,
    AlreadyClosed,
    ChannelNotFound,
    InboundNotFound,
    InvalidRequest,
    LocationNotFound,
    PoolNotFound,
    SkuNotFound,
    Unavailable,
    Unconfirmed,
)
from engine.ids import (
    INBOUND_PREFIX,
    NO_FINGERPRINT,
    document_id,
    fingerprint,
    parse_document_id,
    unremembered,
)
from engine.index import entry_prefix
from engine.keys import partition_of, route_of
from engine.projection import Share, project
from engine.settings import Settings
from engine.supplies import unpack_supplies
from engine.sweep import sweep_all
from engine.types import Buffer, Inbound, InboundState, Position, Supply, SupplyKind

DEFAULT_ATP_DAYS = 14
_OVERDUE = [b"overdue"]
_READINGS = 8
"""How often positions are read whose fences change meanwhile."""
_EVERY, _BY_SKU, _BY_LOCATION = b"i", b"s", b"l"
"""Kinds of entries in the index of documents."""
_encode = msgspec.msgpack.Encoder().encode


class InboundDocument(Document, frozen=True, array_like=True, kw_only=True, tag="inbound"):
    """An inbound order as it is stored."""

    state: InboundState
    sku: str
    location: str
    quantity: int
    kind: SupplyKind
    expected_ms: int
    received: int = 0

    @property
    def route(self) -> int:
        return route_of(self.sku)

    @property
    def id_prefix(self) -> str:
        return INBOUND_PREFIX

    @property
    def is_over(self) -> bool:
        return self.state is not InboundState.EXPECTED

    @property
    def listed_by(self) -> Sequence[bytes]:
        return _EVERY, entry_prefix(_BY_SKU, self.sku), entry_prefix(_BY_LOCATION, self.location)


class DayAtp(Struct, frozen=True, gc=False):
    """What can be promised for a day (UTC) and every later one."""

    date: date
    atp: int


class Supplies(Documents):
    """The part of `Inventory` that knows what is expected."""

    async def expect(
        self,
        op_id: str,
        *,
        sku: str,
        location: str,
        quantity: int,
        expected_ms: int,
        kind: SupplyKind = SupplyKind.PURCHASE,
        reference: str | None = None,
        caller: str = "",
    ) -> Inbound:
        """Units of a SKU will come to a location. Raises `InvalidRequest`, `LocationNotFound`,
        `QuantityOutOfRange`, `IdempotencyMismatch`.
        """
        planner.check_sku(sku, "/sku")
        planner.check_location(location, "/location")
        planner.check_quantity(quantity, "/quantity")
        planner.check_moment(expected_ms, "/expected_at")
        planner.check_reference(reference)
        await self.location(location)
        operation, route = self._ids.of_request(caller, op_id), route_of(sku)
        mark = fingerprint(_encode(("inbound", sku, location, quantity, expected_ms, kind, reference)))
        name = Name(route % self._partitions, operation, document_id(INBOUND_PREFIX, route, operation))

        def decide(document: Document | None, now_ms: int) -> Document | None:
            return take_over(
                document,
                InboundDocument(
                    mark=mark,
                    created_ms=now_ms,
                    reference=reference,
                    outbox=Outbox((SupplyChange(sku, location, quantity, 0, expected_ms, kind),)),
                    state=InboundState.EXPECTED,
                    sku=sku,
                    location=location,
                    quantity=quantity,
                    kind=kind,
                    expected_ms=expected_ms,
                ),
            )

        document, replayed = await self._take_document_step(name, "expect", operation, mark, decide)
        return _as_inbound(name, _inbound_of(name, document), replayed=replayed)

    async def receive_inbound(
        self, op_id: str, inbound: str, quantity: int, *, close: bool = False, caller: str = ""
    ) -> Inbound:
        """Units came, perhaps more than were expected. With `close` no more will.

        Raises `InvalidRequest`, `InboundNotFound`, `AlreadyClosed`, `AlreadyCancelled`,
        `IdempotencyMismatch`.
        """
        planner.check_quantity(quantity, "/quantity")
        name, operation = self._inbound_name(inbound), self._ids.of_request(caller, op_id)
        mark = fingerprint(_encode(("receive_inbound", inbound, quantity, close)))

        def decide(document: Document | None, _: int) -> Document | None:
            return receive(_inbound_of(name, document), quantity, close=close)

        document, replayed = await self._take_document_step(name, "receive_inbound", operation, mark, decide)
        return _as_inbound(name, _inbound_of(name, document), replayed=replayed)

    async def cancel_inbound(self, inbound: str, *, op_id: str | None = None, caller: str = "") -> Inbound:
        """What did not come will not. Raises `InboundNotFound`, `AlreadyClosed`, `IdempotencyMismatch`."""
        name = self._inbound_name(inbound)
        operation, mark = unremembered(caller), NO_FINGERPRINT
        if op_id is not None:
            operation = self._ids.of_request(caller, op_id)
            mark = fingerprint(_encode(("cancel_inbound", inbound)))

        def decide(document: Document | None, _: int) -> Document | None:
            return cancel(_inbound_of(name, document))

        document, replayed = await self._take_document_step(name, "cancel_inbound", operation, mark, decide)
        return _as_inbound(name, _inbound_of(name, document), replayed=replayed)

    async def inbound(self, inbound: str) -> Inbound:
        """An inbound order. Raises `InboundNotFound`."""
        name = self._inbound_name(inbound)
        return _as_inbound(name, _inbound_of(name, await self._find_document(name, InboundDocument)))

    async def inbounds(self, *, sku: str | None = None, location: str | None = None) -> list[Inbound]:
        """Inbound orders, of a SKU or a location or all, the newest first. Cost: reads all of them."""
        page = await self.inbound_page(sku=sku, location=location, limit=AT_ONCE)
        found = page.items
        while page.next is not None:
            page = await self.inbound_page(sku=sku, location=location, after=page.next, limit=AT_ONCE)
            found += page.items
        return found

    async def inbound_page(
        self,
        *,
        sku: str | None = None,
        location: str | None = None,
        chosen: Callable[[Inbound], bool] = lambda _: True,
        after: Spot | None = None,
        limit: int,
    ) -> Page[Inbound]:
        """Some of the inbound orders, of a SKU or a location or all, that are chosen, the newest first. A
        page goes on where the one before ended, whatever came or went since.
        """

        def show(name: Name, document: Document) -> Inbound | None:
            if not isinstance(document, InboundDocument):
                return None
            if sku not in {None, document.sku} or location not in {None, document.location}:
                return None
            found = _as_inbound(name, document)
            return found if chosen(found) else None

        prefix, partitions = _EVERY, None
        if sku is not None:
            prefix, partitions = entry_prefix(_BY_SKU, sku), [partition_of(sku, self._partitions)]
        elif location is not None:
            prefix = entry_prefix(_BY_LOCATION, location)
        return await self._page_documents(prefix, show, after=after, limit=limit, partitions=partitions)

    def _inbound_name(self, inbound: str) -> Name:
        routed = parse_document_id(INBOUND_PREFIX, inbound)
        if routed is None:
            raise not_found(inbound)
        return Name(routed[0] % self._partitions, routed[1], inbound)

    # ---------------------------------------------------------------- available to promise

    async def atp(
        self,
        sku: str,
        *,
        locations: Sequence[str] = (),
        pool: str | None = None,
        channel: str | None = None,
        days: int = DEFAULT_ATP_DAYS,
    ) -> list[DayAtp]:
        """What can be promised of a SKU for today and each day that follows, at some locations, those of a
        pool or of a channel, or at all; to a channel what it may take: its fences are its own, and what its
        buffer leaves to others is not.

        A promise for a day is also one for every later day, so each number is the least that is projected
        from its day to the last. What is overdue is taken to come today. Raises `SkuNotFound`,
        `LocationNotFound`, `PoolNotFound`, `ChannelNotFound`, `InvalidRequest`.
        """
        planner.check_sku(sku, "/sku")
        for location in locations:
            planner.check_location(location, "/location")
        if not 1 <= days <= limits.MAX_ATP_DAYS:
            raise InvalidRequest("?days", f"a whole number from 1 to {limits.MAX_ATP_DAYS}")
        is_chosen, shares = bool(locations), dict[str, Share]()
        if pool is not None or channel is not None:
            is_chosen, locations = True, await self._locations_of(pool, channel)
        if channel is None:
            now_ms, positions, supplies = await self._read_supplies(sku)
        else:
            now_ms, positions, supplies, shares = await self._read_shares(sku, channel)
        if not positions:
            raise SkuNotFound(f"SKU {sku}: no location stocks it")
        stocked = {position.location for position in positions}
        if any(location not in stocked for location in locations):
            existing = {location.id for location in await self.locations()}
            for location in locations:
                if location not in existing:
                    raise LocationNotFound(f"there is no location {location}")
        today = datetime.fromtimestamp(now_ms // 1000, UTC).date()
        totals = [0] * days
        for position in positions:
            if not is_chosen or position.location in locations:
                coming, share = supplies.get(position.location, ()), shares.get(position.location)
                own = project(position, coming, today, days, share)
                totals = [total + max(0, atp) for total, atp in zip(totals, own, strict=True)]
        return [DayAtp(today + timedelta(day), atp) for day, atp in enumerate(totals)]

    async def _locations_of(self, pool: str | None, channel: str | None) -> Sequence[str]:
        """The locations of a pool, or of all pools of a channel."""
        settings = await self.settings.current()
        if pool is not None:
            if pool not in settings.pools:
                settings = await self.settings.latest()
            if pool not in settings.pools:
                raise PoolNotFound(f"there is no pool {pool[:64]}")
            return _active(settings, settings.locations_of_pool(pool))
        assert channel is not None
        if channel not in settings.channels:
            settings = await self.settings.latest()
        if channel not in settings.channels:
            raise ChannelNotFound(f"there is no channel {channel[:64]}")
        return _active(settings, settings.locations_of_channel(channel))

    async def _read_shares(
        self, sku: str, channel: str
    ) -> tuple[int, list[Position], dict[str, list[Supply]], dict[str, Share]]:
        """The same, and what a channel may take of each position: fences stand beside the positions, so these
        are read again until nothing has changed between the two.
        """
        partition = partition_of(sku, self._partitions)
        buffer = (await self.settings.current()).channels[channel].buffer or Buffer()
        readings = 0
        while True:
            now_ms, positions, supplies = await self._read_supplies(sku)
            fields = [fence_field(sku, position.location) for position in positions]
            head, *stored = await self.dataset.topology.read_at_once(
                ("HMGET", keys.meta(partition), "epoch", "seq"),
                *([("HMGET", keys.stock(partition), *fields)] if fields else []),
            )
            epoch, seq = cast("list[bytes]", head)
            readings += 1
            is_whole = not positions or positions[0].version == f"{epoch.decode()}.{seq.decode()}"
            if is_whole or readings == _READINGS:
                break
        raw = cast("list[bytes | None]", stored[0]) if stored else []
        shares = {}
        for position, packed in zip(positions, raw, strict=True):
            fences = decode_fences(sku, position.location, packed or b"")
            own = next((fence for fence in fences if fence.channel == channel), None)
            shares[position.location] = Share(buffer.units or 0, buffer.percent or 0, own)
        return now_ms, positions, supplies, shares

    async def _read_supplies(self, sku: str) -> tuple[int, list[Position], dict[str, list[Supply]]]:
        """The time, and a SKU's positions with what each expects, as of one moment."""
        commands = self.dataset.commands[partition_of(sku, self._partitions)]
        now_ms, epoch, seq, answer = await commands.supplies(sku, swept=False)
        if answer == _OVERDUE:
            # A server that refuses writes still answers, with lapsed holds counted as held.
            with suppress(Unavailable, Unconfirmed):
                await sweep_all(commands)
            now_ms, epoch, seq, answer = await commands.supplies(sku, swept=True)
        cards, inbound = answer
        positions = [position for card in cards for position in read_positions(card, f"{epoch}.{seq}")]
        places = {
            place[1:-1].decode(): packed for place, packed in zip(inbound[::2], inbound[1::2], strict=True)
        }
        return now_ms, positions, {place: unpack_supplies(packed) for place, packed in places.items()}


# -------------------------------------------------------------------- rules


def _active(settings: Settings, locations: Sequence[str]) -> list[str]:
    """Nothing is promised from the others."""
    return [location for location in locations if settings.locations[location].active]


def receive(document: InboundDocument, quantity: int, *, close: bool) -> InboundDocument:
    """Units came. Raises what refuses it."""
    if document.state is InboundState.CANCELLED:
        raise AlreadyCancelled("the inbound order was cancelled")
    if document.state is InboundState.CLOSED:
        raise AlreadyClosed("the inbound order is closed")
    received = document.received + quantity
    left = 0 if close else max(0, document.quantity - received)
    state = InboundState.EXPECTED
    if received >= document.quantity:
        state = InboundState.RECEIVED
    elif close:
        state = InboundState.CLOSED
    supplies = (_expect(document, left, quantity),) if document.state is InboundState.EXPECTED else ()
    return replace(
        document,
        step=document.step + 1,
        state=state,
        received=received,
        outbox=Outbox(supplies, (Moving(document.sku, document.location, quantity),)),
    )


def cancel(document: InboundDocument) -> InboundDocument | None:
    """No more will come. Raises `AlreadyClosed`."""
    if document.state is InboundState.RECEIVED:
        raise AlreadyClosed("all of the inbound order was received")
    if document.state is not InboundState.EXPECTED:
        return None
    return replace(
        document,
        step=document.step + 1,
        state=InboundState.CLOSED if document.received else InboundState.CANCELLED,
        outbox=Outbox((_expect(document, 0, 0),)),
    )


def _expect(document: InboundDocument, left: int, came: int) -> SupplyChange:
    return SupplyChange(document.sku, document.location, left, came, document.expected_ms, document.kind)


def _inbound_of(name: Name, document: Document | None) -> InboundDocument:
    if not isinstance(document, InboundDocument):
        raise not_found(name.public)
    return document


def _as_inbound(name: Name, document: InboundDocument, *, replayed: bool = False) -> Inbound:
    return Inbound(
        name.public,
        document.state,
        document.sku,
        document.location,
        document.quantity,
        document.received,
        document.kind,
        document.expected_ms,
        document.reference,
        document.created_ms,
        replayed,
    )


def not_found(inbound: str) -> InboundNotFound:
    return InboundNotFound(f"there is no inbound order {inbound[:64]}")
