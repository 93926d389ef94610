"""Walks over all cards again and again: who holds what where, and whether counters and records agree."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from logging import getLogger
from struct import error as StructError  # noqa: N812 - an exception, named as one
from time import monotonic
from typing import cast

from engine import keys
from engine.cards import Card, block_field, decode_card, is_divider, read_shortfalls, split_claims
from engine.figures import LocationCounts, PlaceCounts, StockCounts
from engine.ids import basket_id
from engine.index import read_record
from engine.inventory import Inventory
from engine.lifecycle import COMMITTED, HELD, units_of
from engine.metrics import MOST_CHANNELS, MOST_LOCATIONS, Labels
from engine.records import KIND_PART, WITH_UNITS, Record, is_reservation
from engine.types import State

log = getLogger("bincard.books")

STEP_CARDS = 100
CALL_CLAIMS = 1000
"""Records that one reading asks for: about a millisecond of the server. A card with more is not compared."""
REST_FOR_WORK = 19
"""Rests so many times as long as it worked: a twentieth of a processor at the most. A tick takes
some 20 ms where all that it looks at is claimed."""
LONGEST_REST_SECONDS = 2.0
"""Part of the work is to wait for a server that may be slow."""
PAUSE_SECONDS = 1.0
"""Between the end of a walk and the next."""
READINGS = 4
"""How often a card is read that changes meanwhile."""
LARGE_BLOCKS = CALL_CLAIMS // 16 - 1
"""With the claims on the card itself, which are less than a block, one reading has them."""
_DAMAGED = (ValueError, IndexError, StructError)

Stored = dict[str, bytes | None]
"""Fields of the stock hash."""


class _Walk:
    """What a walk has found so far."""

    def __init__(self) -> None:
        self.began_at = monotonic()
        self.places: dict[tuple[str, str], list[int]] = {}
        self.locations: dict[str, list[int]] = {}
        self.uncovered_positions = self.drifted_positions = self.drifted_units = self.uncompared = 0

    def counts(self) -> StockCounts:
        return StockCounts(
            [PlaceCounts(*where, *numbers) for where, numbers in sorted(self.places.items())],
            [LocationCounts(name, *numbers) for name, numbers in sorted(self.locations.items())],
            self.uncovered_positions,
            self.drifted_positions,
            self.drifted_units,
            self.uncompared,
            self.began_at,
            monotonic(),
        )


class Stocktaker:
    """Takes stock, some cards a tick. Several may, each for itself: it writes nothing."""

    name = "stocktaker"

    def __init__(self, inventory: Inventory) -> None:
        self._commands = inventory.dataset.commands
        self._topology = inventory.dataset.topology
        self._channels, self._locations = Labels(MOST_CHANNELS), Labels(MOST_LOCATIONS)
        self._walk = _Walk()
        self._looking = self._look()
        self._drifted: frozenset[tuple[str, str]] = frozenset()
        self._drifts: set[tuple[str, str]] = set()
        self.counts: StockCounts | None = None
        """What the last whole walk found."""

    async def tick(self) -> float:
        """Looks at some cards. Raises `StorageUnavailable`; the walk then begins anew."""
        begun, is_over = monotonic(), False
        try:
            await anext(self._looking)
        except StopAsyncIteration:
            is_over = True
        except BaseException:
            self._begin()
            raise
        if is_over:
            self.counts = self._walk.counts()
            self._drifted = frozenset(self._drifts)
            self._begin()
        rest = min(REST_FOR_WORK * (monotonic() - begun), LONGEST_REST_SECONDS)
        return max(rest, PAUSE_SECONDS) if is_over else rest

    def _begin(self) -> None:
        self._walk, self._looking, self._drifts = _Walk(), self._look(), set()

    async def _look(self) -> AsyncIterator[None]:
        """Looks at every card; yields after each bit of work, to rest."""
        for partition in range(len(self._commands)):
            async for cards in self._read_cards(partition):
                # Nobody claims units of most cards: what the walk itself read is enough.
                claimed = {field: raw for field, raw in cards.items() if _has_claims(raw)}
                await self._add(partition, cards.keys() - claimed.keys(), dict(cards), {}, is_compared=True)
                yield
                for group in _groups(claimed):
                    large = await self._count(partition, group)
                    yield
                    for field, card in large:
                        for first in range(card.first, card.block - LARGE_BLOCKS, LARGE_BLOCKS):
                            await self._add_older(partition, field, card, first)
                            yield

    async def _read_cards(self, partition: int) -> AsyncIterator[dict[str, bytes]]:
        """The cards of a partition, some at a time."""
        cards = dict[str, bytes]()
        async for field, raw in self._topology.scan_hash(keys.stock(partition)):
            # Fences begin with a line feed, blocks of claims have two, pages of a divided SKU stand for it.
            if not field.startswith(b"\n") and b"\n\n" not in field and not is_divider(raw):
                cards[field.decode()] = raw
                if len(cards) == STEP_CARDS:
                    yield cards
                    cards = {}
        yield cards

    # ---------------------------------------------------------------- some cards

    async def _count(self, partition: int, group: Mapping[str, bytes]) -> list[tuple[str, Card]]:
        """Reads cards and the records that claim their units, until both are of one moment. Returns the cards
        of which older claims remain.
        """
        waiting, stored, records = set(group), Stored(group), dict[bytes, bytes | None]()
        large = list[tuple[str, Card]]()
        for _ in range(READINGS):
            names = [name for field in sorted(waiting) for name in _names_of(field, stored[field])]
            ids = [claim for field in sorted(waiting) for claim in _claims_of(field, stored)][:CALL_CLAIMS]
            fresh, records = await self._read(partition, names, list(dict.fromkeys(ids)))
            steady = [
                field
                for field in waiting
                if all(name in fresh for name in _names_of(field, fresh[field]))
                and records.keys() >= set(_claims_of(field, fresh))
            ]
            waiting.difference_update(steady)
            large += await self._add(partition, steady, fresh, records, is_compared=True)
            if not waiting:
                return large
            stored = fresh
        self._walk.uncompared += len(waiting)
        return large + await self._add(partition, waiting, stored, records, is_compared=False)

    async def _read(
        self, partition: int, names: Sequence[str], ids: Sequence[bytes]
    ) -> tuple[Stored, dict[bytes, bytes | None]]:
        requests: list[Sequence[str | bytes | int]] = [("HMGET", keys.stock(partition), *names)]
        if ids:
            requests.append(("HMGET", keys.operations(partition), *ids))
        found = cast("list[list[bytes | None]]", await self._topology.read_at_once(*requests))
        return (
            dict(zip(names, found[0], strict=True)),
            dict(zip(ids, found[1], strict=True)) if ids else {},
        )

    async def _add(
        self,
        partition: int,
        fields: Iterable[str],
        stored: Stored,
        raw_records: Mapping[bytes, bytes | None],
        *,
        is_compared: bool,
    ) -> list[tuple[str, Card]]:
        """Adds cards with the claims that were read; returns those that have more."""
        records = _read_records(raw_records)
        channels, large = await self._channels_of(records), list[tuple[str, Card]]()
        for field in fields:
            card = _card_of(stored[field])
            if card is None:
                continue
            self._add_counters(card, stored[field] or b"")
            sums = {location: [0, 0] for location in card.locations}
            sku = field.partition("\n")[0]
            for claim in set(_claims_of(field, stored)):
                record = records.get(claim)
                if record is not None:
                    self._add_record(partition, sku, record, channels[claim], sums)
            if card.block - card.first > LARGE_BLOCKS:
                self._walk.uncompared += 1
                large.append((field, card))
            elif is_compared:
                self._compare(sku, card, sums)
        return large

    async def _add_older(self, partition: int, field: str, card: Card, first: int) -> None:
        """Adds some of the older claims of a card that has very many, from a block on."""
        last = min(first + LARGE_BLOCKS, card.block - LARGE_BLOCKS)
        names = [block_field(field, block) for block in range(first, last)]
        blocks, _ = await self._read(partition, names, ())
        ids = [claim for block in blocks.values() if block for claim in split_claims(block)]
        _, found = await self._read(partition, names[:1], list(dict.fromkeys(ids)))
        records = _read_records(found)
        channels = await self._channels_of(records)
        sums = {location: [0, 0] for location in card.locations}
        for claim, record in records.items():
            self._add_record(partition, field.partition("\n")[0], record, channels[claim], sums)

    def _add_counters(self, card: Card, raw: bytes) -> None:
        short = read_shortfalls(raw)
        self._walk.uncovered_positions += len(short)
        for index, location in enumerate(card.locations):
            on_hand, held, allocated = card.counters[index * card.stride : index * card.stride + 3]
            sums = self._walk.locations.setdefault(self._locations.of(location), [0] * 5)
            for at, number in enumerate((1, on_hand, held, allocated, short.get(location, 0))):
                sums[at] += number

    def _add_record(
        self, partition: int, sku: str, record: Record, channel: str | None, sums: Mapping[str, list[int]]
    ) -> None:
        """Adds what a reservation has at the positions of a card."""
        # Of a basket over several partitions, the part at home counts for all.
        is_counted = record.head.state is not State.HELD or record.route % len(self._commands) != partition
        for position, units in zip(
            record.plan.positions, units_of(record.head, record.plan.packed), strict=True
        ):
            is_here = position.sku == sku and position.location in sums
            if is_here:
                sums[position.location][0] += units[HELD]
                sums[position.location][1] += units[COMMITTED]
                where = self._channels.of(channel), self._locations.of(position.location)
                place = self._walk.places.setdefault(where, [0, 0, 0])
                place[0] += not is_counted and units[HELD] > 0
                place[1] += units[HELD]
                place[2] += units[COMMITTED]
            is_counted = is_counted or units[HELD] > 0

    def _compare(self, sku: str, card: Card, sums: Mapping[str, Sequence[int]]) -> None:
        for index, location in enumerate(card.locations):
            _, held, allocated = card.counters[index * card.stride : index * card.stride + 3]
            apart = abs(held - sums[location][0]) + abs(allocated - sums[location][1])
            if not apart:
                continue
            self._walk.drifted_positions += 1
            self._walk.drifted_units += apart
            self._drifts.add((sku, location))
            if (sku, location) not in self._drifted:
                log.error(
                    "the books drifted: %s at %s has %d held and %d allocated, its reservations %d and %d",
                    *(sku, location, held, allocated, *sums[location]),
                )

    async def _channels_of(self, records: Mapping[bytes, Record]) -> dict[bytes, str | None]:
        """The channel of each; of a part, its basket tells."""
        found = {claim: record.terms.channel or record.detail.channel for claim, record in records.items()}
        parts = [claim for claim, name in found.items() if not name and records[claim].kind == KIND_PART]
        asked = (
            self._commands[records[part].route % len(self._commands)].find(
                basket_id(part, records[part].route)
            )
            for part in parts
        )
        for part, (_, _, _, (_, raw)) in zip(parts, await asyncio.gather(*asked), strict=True):
            basket = read_record(raw) if is_reservation(raw) else None
            found[part] = None if basket is None else basket.detail.channel
        return found


def _groups(cards: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Cards that are read together: about so many claims in all."""
    group, claims = dict[str, bytes](), 0
    for field, raw in cards.items():
        card = _card_of(raw)
        own = 0 if card is None else 16 * min(card.block - card.first, LARGE_BLOCKS) + len(card.claims) // 12
        if group and claims + own > CALL_CLAIMS:
            yield group
            group, claims = {}, 0
        group[field] = raw
        claims += own
    if group:
        yield group


def _read_records(found: Mapping[bytes, bytes | None]) -> dict[bytes, Record]:
    """Those that have units themselves and can be read."""
    return {
        claim: record
        for claim, raw in found.items()
        if raw and raw[0] in WITH_UNITS and (record := read_record(raw)) is not None
    }


@lru_cache(maxsize=1024)
def _card_of(raw: bytes | None) -> Card | None:
    try:
        return None if raw is None or is_divider(raw) else decode_card(raw)
    except _DAMAGED:
        return None


def _has_claims(raw: bytes) -> bool:
    card = _card_of(raw)
    return card is not None and (card.block > card.first or card.claims != b"")


def _names_of(field: str, raw: bytes | None) -> list[str]:
    """The fields of a card and of its older claims; of very many, the newest."""
    card = _card_of(raw)
    if card is None:
        return [field]
    first = max(card.first, card.block - LARGE_BLOCKS)
    return [field, *(block_field(field, block) for block in range(first, card.block))]


def _claims_of(field: str, stored: Stored) -> list[bytes]:
    """The claims of a card as far as its fields were read."""
    card = _card_of(stored.get(field))
    if card is None:
        return []
    older = [stored.get(name) or b"" for name in _names_of(field, stored[field])[1:]]
    return [*(claim for block in older for claim in split_claims(block)), *split_claims(card.claims)]
