"""When promised units that are not there yet will be."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

from msgspec import Struct

from engine import keys
from engine.cards import block_field, decode_card, is_divider, page_field, page_of, split_claims
from engine.ids import basket_id, reservation_id
from engine.lifecycle import COMMITTED, HELD, positions_of, units_of
from engine.records import KIND_PART, WITH_UNITS, decode_record
from engine.supply import Supplies
from engine.types import LinePromise, Position, Supply, Uncovered

BLOCKS_AT_ONCE = 8
MOST_NAMED = 100
"""Uncovered promises that are named, the newest."""
_NONE_WAIT = LinePromise(0, None, 0)


class _Open(Struct, frozen=True, gc=False):
    """Open units of a position: of whose id, as reservations and baskets are filed, and how many."""

    operation: bytes
    route: int
    quantity: int


class Promises(Supplies):
    """The part of `Inventory` that knows who waits for what is inbound."""

    async def promises(self, reservation: str) -> dict[tuple[str, str], LinePromise]:
        """Of each SKU and location of a reservation: how many units are not there yet, and when they will be.

        Units that are there, or come back, are for the oldest promises, and so is the earliest supply. It is
        a view: the card, what is expected, and the promises are each read at a moment of their own. Cost:
        2 µs of server time a SKU; where units wait, 1 µs for each promise that waits, and 15 µs of ours.

        Raises `ReservationNotFound`.
        """
        # A task of its own, as reading from several nodes needs one.
        return await asyncio.get_running_loop().create_task(self._promises(reservation))

    async def _promises(self, reservation: str) -> dict[tuple[str, str], LinePromise]:
        partition, operation = self._route(reservation)
        record = await self._find(reservation, partition, operation)
        plan, found = record.plan.packed, dict[tuple[str, str], LinePromise]()
        seen = dict[str, tuple[Mapping[str, Position], Mapping[str, Sequence[Supply]]]]()
        for (sku, location, _), units in zip(positions_of(plan), units_of(record.head, plan), strict=True):
            found[sku, location] = _NONE_WAIT
            if not units[HELD] + units[COMMITTED]:
                continue
            if sku not in seen:
                _, positions, supplies = await self._read_supplies(sku)
                seen[sku] = {position.location: position for position in positions}, supplies
            position = seen[sku][0].get(location)
            waiting = 0 if position is None else count_waiting(position)
            if waiting:
                newest = await self._newest(sku, location, waiting)
                found[sku, location] = date_promise(operation, newest, seen[sku][1].get(location, ()))
        return found

    async def uncovered(self, sku: str, location: str) -> list[Uncovered]:
        """The newest promises of a position that neither what is there nor what is expected covers, 100 at
        the most. A view, as `promises`.
        """
        positions = (await self._read_supplies(sku))[1]
        short = sum(count_uncovered(position) for position in positions if position.location == location)
        newest = await self._newest(sku, location, short) if short else []
        return [
            Uncovered(reservation_id(one.route, one.operation), one.quantity) for one in newest[:MOST_NAMED]
        ]

    async def _newest(self, sku: str, location: str, units: int) -> list[_Open]:
        """So many of the open units of a position, the newest promise first."""
        found = list[_Open]()
        async for claimants in self._walk_back(sku, location):
            for one in await self._read_open(sku, location, claimants):
                own = min(units, one.quantity)
                found.append(_Open(one.operation, one.route, own))
                units -= own
                if not units:
                    return found
        return found

    async def _walk_back(self, sku: str, location: str) -> AsyncIterator[list[bytes]]:
        """The claims of a card, the newest block and the newest claim first."""
        topology, key = self.dataset.topology, keys.stock(keys.partition_of(sku, self._partitions))
        field = sku
        while True:
            (found,) = await topology.read_at_once(("HMGET", key, field))
            (raw,) = cast("list[bytes | None]", found)
            if raw is None:
                return
            if not is_divider(raw):
                break
            field = page_field(sku, page_of(location))
        card = decode_card(raw)
        yield split_claims(card.claims)[::-1]
        for last in range(card.block, card.first, -BLOCKS_AT_ONCE):
            numbers = range(last - 1, max(card.first, last - BLOCKS_AT_ONCE) - 1, -1)
            (found,) = await topology.read_at_once(
                ("HMGET", key, *(block_field(field, number) for number in numbers))
            )
            for packed in cast("list[bytes | None]", found):
                yield split_claims(packed or b"")[::-1]

    async def _read_open(self, sku: str, location: str, claimants: Sequence[bytes]) -> list[_Open]:
        if not claimants:
            return []
        key = keys.operations(keys.partition_of(sku, self._partitions))
        (found,) = await self.dataset.topology.read_at_once(("HMGET", key, *claimants))
        opened = []
        for claimant, raw in zip(claimants, cast("list[bytes | None]", found), strict=True):
            if raw is None or raw[0] not in WITH_UNITS:
                continue
            record = decode_record(raw)
            own = basket_id(claimant, record.route) if record.kind == KIND_PART else claimant
            plan = record.plan.packed
            for place, units in zip(positions_of(plan), units_of(record.head, plan), strict=True):
                if place[:2] == (sku, location) and units[HELD] + units[COMMITTED]:
                    opened.append(_Open(own, record.route, units[HELD] + units[COMMITTED]))
        return opened


# -------------------------------------------------------------------- rules


def count_waiting(position: Position) -> int:
    """Promised units of a position that are not there, or are there and kept back."""
    missing = position.held + position.allocated - max(0, position.on_hand - position.unsellable)
    return max(position.preordered, missing)


def count_uncovered(position: Position) -> int:
    """Promised units that neither goods nor what is expected nor the backorder limit cover."""
    promised = position.held + position.allocated - position.preordered
    return max(0, promised - (position.on_hand - position.unsellable) - position.backorder_limit)


def date_promise(operation: bytes, newest: Sequence[_Open], supplies: Sequence[Supply]) -> LinePromise:
    """How many of those units that wait, the newest first, are a reservation's, and when the supply comes
    that covers the last of them.
    """
    waiting, undated, promise_ms = 0, 0, None
    rest = [(supply.expected_ms, supply.quantity) for supply in supplies]
    for one in reversed(newest):
        left = one.quantity
        while left and rest:
            expected_ms, quantity = rest[0]
            own = min(left, quantity)
            left -= own
            rest[:1] = [(expected_ms, quantity - own)] if quantity > own else []
            if one.operation == operation:
                promise_ms = expected_ms
        if one.operation == operation:
            waiting, undated = waiting + one.quantity, undated + left
    return LinePromise(waiting, None if undated else promise_ms, undated)
