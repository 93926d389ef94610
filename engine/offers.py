"""Baskets over several partitions that get other lines: what they get is held before they are changed.

Each part is offered what it gets, at the version that the basket has, and has it beside what it had. One
script on the home then gives the basket its other lines, if the version is still the same, and the parts
follow as after every step. Any other step gives the basket another version, and with it the offers are void:
parts that are told of it give back what is not the basket's. Who coordinates may die at any moment; a part
that nobody told asks the home, which is given another version first.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct

from engine import limits
from engine.baskets import GONE, PART_ATTEMPTS, Baskets, Part, merge_refusals, part_terms, share_out
from engine.commands import Reply
from engine.errors import StorageUnavailable
from engine.ids import fingerprint, part_id
from engine.keys import partition_of
from engine.lifecycle import units_by_place
from engine.rearranging import Change
from engine.records import (
    KIND_BASKET,
    KIND_PART,
    OFFERED,
    Record,
    Undecided,
    decode_record,
    encode_plan,
    encode_version,
    is_reservation,
)
from engine.sweep import sweep
from engine.types import Line

_ONLY_LOST = -1
"""Stands for the index of a position that the changed plan does not have."""


class Offer(Struct, frozen=True):
    """What a part shall have open of each position, for a basket that may get more: all units, and how many
    of them it has held and committed already. `indexes` are those of the changed plan.
    """

    partition: int
    lines: tuple[Line, ...]
    had: tuple[tuple[int, int], ...]
    indexes: tuple[int, ...]


def offers_of(record: Record, change: Change, partitions: int) -> list[Offer]:
    """An offer for each part that gets something, and for each that has no line any more: the offer sees to
    it that the part hears of that, whatever becomes of us.
    """
    before = units_by_place(record.head, record.plan.packed)
    places = [(line.sku, line.location) for line in change.plan.positions]
    after = {
        place: held + committed for place, (held, committed, _, _) in zip(places, change.units, strict=True)
    }
    indexes = {place: index for index, place in enumerate(places)}
    touched = {partition_of(sku, partitions) for sku, _ in places}
    found: dict[int, list[tuple[Line, tuple[int, int], int]]] = {}
    wanted = set[int]()
    for place in {**before, **after}:
        held, committed, _, _ = before.get(place, (0, 0, 0, 0))
        units = max(held + committed, after.get(place, 0))
        if units:
            sku, location = place
            partition = partition_of(sku, partitions)
            line = Line(sku, units, location), (held, committed), indexes.get(place, _ONLY_LOST)
            found.setdefault(partition, []).append(line)
            if units > held + committed or partition not in touched:
                wanted.add(partition)
    return [
        Offer(
            partition,
            tuple(line for line, _, _ in lines),
            tuple(had for _, had, _ in lines),
            tuple(index for _, _, index in lines),
        )
        for partition, lines in found.items()
        if partition in wanted
    ]


class Offers(Baskets):
    """Coordinates baskets over the partitions of a data set, also those that change."""

    def touched(self, lines: Sequence[Line]) -> set[int]:
        """The partitions in which lines lie."""
        return {partition_of(line.sku, self._partitions) for line in lines}

    async def spread(self, operation: bytes, record: Record) -> None:
        """Makes a reservation of one partition a basket. Where it has changed meanwhile nothing happens."""
        commands, name = self._commands[record.route % self._partitions], part_id(operation, record.route)
        version = record.head.changed_epoch, record.head.changed_seq
        for _ in range(PART_ATTEMPTS):
            reply = Reply(*await commands.spread(operation, name, version, len(record.plan.positions)))
            if reply.word != "behind":
                return
            # It is left of a basket of that name that was abandoned; nobody has told it yet.
            await commands.follow(name, version)

    async def offer(self, operation: bytes, record: Record, change: Change) -> tuple[Reply | None, bool]:
        """Has the parts hold what a basket gets. A refusal with the indexes of the changed plan; and whether
        somebody else changes the basket. Raises `StorageUnavailable`.
        """
        offers = offers_of(record, change, self._partitions)
        replies = await asyncio.gather(
            *(self._offer(operation, record, offer) for offer in offers), return_exceptions=True
        )
        answered = list[Reply]()
        for reply in replies:
            if isinstance(reply, GONE):
                raise StorageUnavailable(
                    "a partition did not answer; what others held is given back"
                ) from reply
            if isinstance(reply, BaseException):
                raise reply
            answered.append(reply)
        if any(reply.word in {"superseded", "taken"} for reply in answered):
            return None, True
        refused = [
            (Part(offer.partition, offer.indexes), reply)
            for offer, reply in zip(offers, answered, strict=True)
            if reply.word not in {None, "repeated"}
        ]
        return (merge_refusals(refused) if refused else None), False

    async def _offer(self, operation: bytes, record: Record, offer: Offer) -> Reply:
        commands, name = self._commands[offer.partition], part_id(operation, record.route)
        version = record.head.changed_epoch, record.head.changed_seq
        body = b"".join(
            (
                limits.SEEK_MS.to_bytes(4, "little"),
                record.route.to_bytes(2, "little"),
                encode_plan(offer.lines),
                encode_version(version),
                part_terms(record.terms),
                OFFERED,
            )
        )
        had, count = offer.had, len(offer.lines)
        for _ in range(PART_ATTEMPTS):
            argument = commands.encode_reserve(
                name,
                fingerprint(body),
                body,
                count,
                kind=KIND_PART,
                behind=b"".join([units.to_bytes(5, "little") for line in had for units in line]),
            )
            reply = Reply(*await commands.offer(argument, count))
            if reply.word == "overdue":
                await sweep(commands)
            elif reply.word == "behind":
                share = share_out(record.head, record.plan, self._partitions).get(offer.partition, ())
                told = Reply(*await commands.follow(name, version, *share))
                if told.word == "missing":
                    # The server lost it, and what it had: the basket takes that anew.
                    had = ((0, 0),) * count
            else:
                return reply
        raise StorageUnavailable("a part could not be brought to where its basket is in time")

    async def withdraw(self, operation: bytes, record: Record, change: Change) -> None:
        """Has the parts give back what they were offered at a record's version. Who cannot be told asks."""
        with suppress(*GONE):
            await self._end_offers(operation, record)
            _, _, _, (_, raw) = await self._commands[record.route % self._partitions].find(operation)
            if is_reservation(raw) and raw[0] == KIND_BASKET:
                found = decode_record(raw)
                if found.head.state is not Undecided.PENDING:
                    also = self.touched((*record.plan.positions, *change.plan.positions))
                    await self._tell_units(found.route, operation, found.plan, found.head, also)
