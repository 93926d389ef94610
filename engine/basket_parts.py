"""Finds parts that do not have what their basket has: no partition's ledger tells of another's.

Nothing has to stand still. A part may be behind its basket as long as somebody is to repair that, so whether
a repair is due is read together with the record. A basket is read before its parts and again after them, a
part without a basket again after that was looked for: what changed in between is not blamed.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import cast

import msgspec
from msgspec import Struct

from engine import keys
from engine.baskets import split_plan
from engine.ids import basket_id, part_id
from engine.lifecycle import Line as Units
from engine.lifecycle import units_of
from engine.records import KIND_BASKET, KIND_PART, Record, Undecided, decode_record
from engine.topology import Topology
from engine.types import Line

GROUP_RECORDS, GROUP_LOOKS = 500, 5000
LOOKS = 4
"""How often a basket that changes while it is compared is looked at; one that always does is left out."""
REPAIR = b"r"
"""What the entry of a repair in the deadline index begins with: `repair_entry` of `lua/lib/batch.lua`."""
_NOTHING_OPEN = "no open units"


class _Seen(Struct, frozen=True, gc=False):
    """A basket or a part; no record where there is none. `is_due`: a sweeper will look at it."""

    record: Record | None
    is_due: bool

    @property
    def version(self) -> tuple[int, int] | None:
        return None if self.record is None else (self.record.head.changed_epoch, self.record.head.changed_seq)

    @property
    def units(self) -> tuple[Units, ...]:
        return () if self.record is None else units_of(self.record.head, self.record.plan.packed)


_Place = tuple[int, bytes]
"""A partition and an id in it."""


class Apart(Struct, frozen=True, gc=False):
    """A part that does not have what its basket has, or has units of none; what both have, in words.
    `is_due`: a sweeper will see to it.
    """

    partition: int
    basket: bytes
    route: int
    is_due: bool
    stored: str
    given: str


def find_apart(topology: Topology, partitions: int) -> AsyncIterator[list[Apart]]:
    """Compares all baskets and parts, some hundreds at a time; of each group those that are apart, so that
    the reader may rest in between. Cost: a look at every remembered operation. Raises `StorageUnavailable`.
    """
    return _Comparison(topology, partitions).run()


class _Comparison:
    def __init__(self, topology: Topology, partitions: int) -> None:
        self.topology = topology
        self.partitions = partitions
        self.found: list[Apart] = []

    async def run(self) -> AsyncIterator[list[Apart]]:
        for partition in range(self.partitions):
            async for group in self._scan(partition, KIND_BASKET):
                await self._compare_group(partition, group)
                yield self._take()
            async for group in self._scan(partition, KIND_PART):
                await self._find_strays(partition, group)
                yield self._take()

    def _take(self) -> list[Apart]:
        found, self.found = self.found, []
        return found

    async def _scan(self, partition: int, kind: int) -> AsyncIterator[Sequence[bytes]]:
        """The ids of all records of a kind, in groups; empty ones where there are few among many others."""
        seen: set[bytes] = set()
        group: list[bytes] = []
        looked_at = 0
        async for operation, stored in self.topology.scan_hash(keys.operations(partition)):
            looked_at += 1
            if stored[0] == kind and operation not in seen:
                seen.add(operation)
                group.append(operation)
            if len(group) == GROUP_RECORDS or looked_at == GROUP_LOOKS:
                yield group
                group, looked_at = [], 0
        yield group

    async def _see(self, kind: int, wanted: Sequence[_Place]) -> dict[_Place, _Seen]:
        """Records of a kind; those of one partition as of one moment."""
        ids: defaultdict[int, list[bytes]] = defaultdict(list)
        for partition, operation in wanted:
            ids[partition].append(operation)
        found = {}
        for partition, group in ids.items():
            records, repairs = await self.topology.read_at_once(
                ("HMGET", keys.operations(partition), *group),
                ("ZMSCORE", keys.due(partition), *(REPAIR + operation for operation in group)),
            )
            for operation, raw, due in zip(
                group, cast("list[bytes | None]", records), cast("list[object]", repairs), strict=True
            ):
                found[partition, operation] = _Seen(_read(kind, raw), due is not None)
        return found

    # ---------------------------------------------------------------- baskets

    async def _compare_group(self, home: int, ids: Sequence[bytes]) -> None:
        for _ in range(LOOKS):
            places = [(home, operation) for operation in ids]
            before = await self._see(KIND_BASKET, places)
            parts = await self._see(
                KIND_PART,
                [
                    (part.partition, part_id(operation, seen.record.route))
                    for (_, operation), seen in before.items()
                    if seen.record is not None
                    for part in split_plan(seen.record.plan, self.partitions)
                ],
            )
            after = await self._see(KIND_BASKET, places)
            ids = [place[1] for place in places if before[place].version != after[place].version]
            for place in places:
                basket = after[place]
                if basket.record is not None and basket.version == before[place].version:
                    is_due = basket.is_due or before[place].is_due
                    self._compare_basket(place[1], basket.record, parts, is_due=is_due)
            if not ids:
                return

    def _compare_basket(
        self, operation: bytes, basket: Record, parts: Mapping[_Place, _Seen], *, is_due: bool
    ) -> None:
        if basket.head.state is Undecided.PENDING:
            # Its parts are sought.
            return
        units, name = units_of(basket.head, basket.plan.packed), part_id(operation, basket.route)
        for own in split_plan(basket.plan, self.partitions):
            place, given = (own.partition, name), [units[index] for index in own.indexes]
            part = parts[place]
            if part.record is None or part.record.plan.positions != _positions(basket, own.indexes):
                # One of which nothing is open may have been forgotten, or never have been held. One that has
                # other lines may have been offered more, or not have heard of its own yet.
                is_awaited = part.record is not None and (is_due or part.is_due)
                if is_awaited or _is_open(given):
                    words = "no such part", _show(given)
                    self._add(place, operation, basket, words, is_due=is_awaited)
                continue
            # An abandoned basket may meet what is left of an earlier life; what was not open did not move.
            is_over = basket.head.state is Undecided.ABANDONED
            columns = 2 if is_over else 3
            if [row[:columns] for row in part.units] == [row[:columns] for row in given]:
                continue
            words = _show(part.units), _show(given)
            self._add(place, operation, basket, words, is_due=is_due or part.is_due)

    # ---------------------------------------------------------------- parts without a basket

    async def _find_strays(self, partition: int, ids: Sequence[bytes]) -> None:
        """Parts that have open units of a basket that is not there, or has no such part."""
        places = [(partition, operation) for operation in ids]
        parts = {
            place: seen.record
            for place, seen in (await self._see(KIND_PART, places)).items()
            if seen.record is not None and _is_open(seen.units)
        }
        homes = {
            place: (part.route % self.partitions, basket_id(place[1], part.route))
            for place, part in parts.items()
        }
        baskets = await self._see(KIND_BASKET, list(homes.values()))
        strays = [
            place
            for place, part in parts.items()
            if not self._is_of(part, place, baskets[homes[place]].record)
        ]
        again = await self._see(KIND_PART, strays)
        for place in strays:
            seen, (_, operation) = again[place], homes[place]
            # One that has changed since was read beside a basket of another moment.
            if not _is_open(seen.units) or seen.record != parts[place]:
                continue
            words = _show(seen.units), _NOTHING_OPEN
            self._add(place, operation, parts[place], words, is_due=seen.is_due)

    def _is_of(self, part: Record, place: _Place, basket: Record | None) -> bool:
        if basket is None:
            return False
        return basket.head.state is Undecided.PENDING or any(
            own.partition == place[0] and part.plan.positions == _positions(basket, own.indexes)
            for own in split_plan(basket.plan, self.partitions)
        )

    def _add(
        self, place: _Place, operation: bytes, record: Record, words: tuple[str, str], *, is_due: bool
    ) -> None:
        self.found.append(Apart(place[0], operation, record.route, is_due, *words))


def _read(kind: int, raw: bytes | None) -> Record | None:
    """A record of a kind. One that cannot be read is named where its partition is compared."""
    if raw is None or raw[0] != kind:
        return None
    try:
        return decode_record(raw)
    except (ValueError, IndexError, msgspec.DecodeError):
        return None


def _positions(basket: Record, indexes: Sequence[int]) -> tuple[Line, ...]:
    return tuple(basket.plan.positions[index] for index in indexes)


def _is_open(units: Sequence[Units]) -> bool:
    return any(held + committed for held, committed, _, _ in units)


def _show(units: Sequence[Units]) -> str:
    columns = ("held", "committed", "fulfilled")
    return ", ".join(
        " ".join(f"{count} {word}" for count, word in zip(row, columns, strict=False) if count) or "nothing"
        for row in units
    )
