"""Compares what is stored with what the ledger adds up to, on a server that goes on working.

A partition is audited in groups. Each group is read as of one moment together with the partition's
sequence; the replay then goes forward to that sequence, no further, and the group is compared field by
field. So nothing has to stand still, and no more than one group is in memory beside the replay. Baskets over
several partitions are then compared with their parts: see `audit_baskets`.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import TypeVar, cast
from zlib import crc32

from engine import keys
from engine.audit_baskets import compare_baskets
from engine.audit_documents import compare_documents
from engine.audit_facts import compare_facts
from engine.audit_index import compare_index
from engine.audit_report import AuditReport, Note
from engine.audit_settings import compare_settings
from engine.cards import (
    DIVIDER,
    POLICY_COUNTERS,
    Card,
    block_field,
    decode_card,
    decode_fences,
    encode_fences,
    fence_field,
    page_field,
    place_of,
    split_claims,
    split_fence_field,
)
from engine.dataset import Dataset
from engine.events import Event, LedgerReader, Version
from engine.ids import OPERATION_ID_SIZE, reservation_id
from engine.inventory import Inventory
from engine.ledger import Claims, Promise, Replay, remembered_crc
from engine.ledger_counters import COUNTERS
from engine.lifecycle import OPEN_STATES
from engine.records import FINGERPRINT, KIND_PART, TTL, Head, Undecided, decode_tail, split_record
from engine.setting_forms import FORMS
from engine.supplies import pack_supplies
from engine.topology import Topology
from engine.types import State

GROUP_SKUS = 100
GROUP_RECORDS = 500
SHOWN_BYTES = 24
BLOCKS_AHEAD = 8
"""Blocks that are read before the ledger has them: a card may fill some while we ask."""
_NOT_THERE = "nothing"
BOUND_KIND = b"\4"
# The kind of a reservation's entry in the deadline index; finished ones (`p`) wait to be forgotten.
BEHIND_HOLDS = 2**50
"""As in `lua/lib/batch.lua`."""
_DUE_KINDS = {State.HELD: b"h", Undecided.PENDING: b"h", State.COMMITTED: b""}

_Item = TypeVar("_Item")


async def audit(source: Dataset | Inventory, *, retention_seconds: int | None = None) -> AuditReport:
    """Audits a whole data set, also under load. Raises `StorageUnavailable`.

    `retention_seconds` is how long operation ids must be remembered; None takes the shortest time that the
    ledger shows. Memory grows with the ledger's reservations and movements: see `Replay`.
    """
    dataset = source.dataset if isinstance(source, Inventory) else source
    return await audit_partitions(dataset.topology, dataset.partitions, retention_seconds=retention_seconds)


async def audit_partitions(
    topology: Topology, partitions: int, *, retention_seconds: int | None = None
) -> AuditReport:
    """The same for a data set that nobody has opened: nothing is written to its server."""
    report, begun = AuditReport(partitions=partitions), monotonic()
    await _note_unknown_keys(topology, partitions, report)
    for partition in range(partitions):
        await _PartitionAudit(topology, partition, report, retention_seconds).run()
        await compare_index(topology, partition, report)
    await compare_baskets(topology, partitions, report)
    await compare_settings(topology, partitions, report)
    report.elapsed_seconds = monotonic() - begun
    return report


async def _note_unknown_keys(topology: Topology, partitions: int, report: AuditReport) -> None:
    names = (
        *(keys.meta, keys.operations, keys.due, keys.log, keys.stock, keys.stocked, keys.fenced),
        *(keys.named, keys.changes, keys.inbound, keys.documents, keys.listed, keys.ended, keys.wanted),
        *(keys.defaults, keys.inheriting),
        *(keys.find, keys.found),
        *(keys.moves, keys.counts, keys.conditions),
        *(form.key for form in FORMS.values()),
    )
    seen = {keys.dataset(), *(name(partition) for name in names for partition in range(partitions))}
    async for key in topology.scan_keys(f"{keys.PREFIX}*"):
        if key not in seen:
            seen.add(key)
            text = key.removeprefix(keys.PREFIX).partition("}")[0]
            partition = int(text) if text.isascii() and text.isdigit() else 0
            report.notes.append(
                Note("unknown_key", partition if partition < partitions else 0, key, is_blocking=False)
            )


class _PartitionAudit:
    """The audit of one partition."""

    def __init__(
        self, topology: Topology, partition: int, report: AuditReport, retention_seconds: int | None
    ) -> None:
        self.partition = partition
        self.topology = topology
        self.report = report
        retention_ms = None if retention_seconds is None else retention_seconds * 1000
        self.replay = Replay(partition, retention_ms=retention_ms)
        self.reader = LedgerReader(topology, partition)
        self.now_ms = 0

    async def run(self) -> None:
        replay = self.replay
        await self._check_end()
        if replay.begins_at is not None and replay.begins_at > 1:
            self._note(
                "ledger_incomplete",
                f"the ledger begins at sequence {replay.begins_at}, not 1: what happened before cannot be "
                "recomputed, so nothing of this partition is compared",
            )
        else:
            await self._compare_settings()
            await self._compare_wanted()
            await self._compare_stock()
            await self._compare_counts(keys.stocked, self.replay.stocked, "positions of location")
            await self._compare_counts(keys.fenced, self.replay.fences.counts, "fences of channel")
            await self._compare_inbound()
            await compare_documents(self)
            await self._compare_records()
            await compare_facts(self)
        self.report.events += replay.events
        self.report.violation_count += replay.violation_count
        self.report.violations += replay.violations

    def differ(self, subject: str, stored: object, replayed: object) -> None:
        self.report.differ(self.partition, subject, stored, replayed)

    def _note(self, name: str, detail: str) -> None:
        self.report.notes.append(Note(name, self.partition, detail, is_blocking=True))

    async def read(self, *requests: Sequence[str | bytes | int]) -> list[object]:
        """Reads as of one moment, and takes the replay to that moment."""
        head, time, *replies = await self.topology.read_at_once(
            ("HMGET", keys.meta(self.partition), "epoch", "seq", "skew"), ("TIME",), *requests
        )
        epoch, seq, skew = (int(number or 0) for number in cast("list[bytes | None]", head))
        seconds, microseconds = cast("tuple[int, int]", time)
        # Engine time: after a step of the clock it may stand still where the last event was.
        self.now_ms = max(self.now_ms, int(seconds) * 1000 + int(microseconds) // 1000 - skew)
        await self._advance(Version(epoch, seq))
        return replies

    async def _advance(self, until: Version) -> None:
        while self.replay.version < until:
            items = await self.reader.read(until=until)
            if not items:
                return
            for item in items:
                self.replay.apply(item)
                if isinstance(item, Event):
                    self.now_ms = max(self.now_ms, item.at_ms)
            await asyncio.sleep(0)

    async def _check_end(self) -> None:
        """The partition's sequence is that of its last event, which is the first thing to be read."""
        partition = self.partition
        head, last = await self.topology.read_at_once(
            ("HMGET", keys.meta(partition), "epoch", "seq"),
            ("XREVRANGE", keys.log(partition), "+", "-", "COUNT", 1),
        )
        epoch, seq = (number.decode() if number else "?" for number in cast("list[bytes | None]", head))
        entries = cast("list[tuple[bytes, object]]", last)
        end = entries[0][0].decode() if entries else "0-0"
        ends_well = end == f"{epoch}-{seq}" or (seq == "0" and not entries)
        # A new epoch has no event until something happens in it.
        if not ends_well and not (end.split("-")[1] == seq and int(end.split("-")[0]) < int(epoch)):
            self.differ("sequence", f"{epoch}.{seq}", f"the ledger ends at {end.replace('-', '.')}")
        await self.read()

    # ---------------------------------------------------------------- stock

    async def _compare_settings(self) -> None:
        """The four hashes, who names what, when each changed, and the number of the last change."""
        wanted, partition = self.replay.settings, self.partition
        head, named, changes, defaults, *hashes = await self.read(
            ("HGET", keys.meta(partition), "settings"),
            ("HGETALL", keys.named(partition)),
            ("ZRANGEBYSCORE", keys.changes(partition), "-inf", "+inf", "WITHSCORES"),
            ("HGETALL", keys.defaults(partition)),
            *(("HGETALL", form.key(partition)) for form in FORMS.values()),
        )
        self._compare_texts(
            "number of settings", {"": cast("bytes | None", head) or b"0"}, {"": b"%d" % wanted.number}
        )
        self._compare_texts("who names", _as_texts(named), wanted.users())
        self._compare_texts("defaults of", _as_texts(defaults), wanted.defaults())
        numbers = {
            field.decode(): b"%d" % number for field, number in cast("list[tuple[bytes, float]]", changes)
        }
        replayed = {field: b"%d" % number for field, number in wanted.changed.items()}
        self._compare_texts("last change of", numbers, replayed)
        for (kind, form), found in zip(FORMS.items(), hashes, strict=True):
            self._compare_texts(f"settings of {form.word}", _as_texts(found), wanted.stored[kind])

    def _compare_texts(self, subject: str, stored: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> None:
        for name in sorted(stored.keys() | wanted.keys()):
            ours, theirs = stored.get(name), wanted.get(name)
            if ours != theirs:
                self.differ(f"{subject} {name}".strip(), _show(ours), _show(theirs))

    async def _compare_wanted(self) -> None:
        (found,) = await self.read(("HGETALL", keys.wanted(self.partition)))
        stored = {
            field.decode(): int.from_bytes(raw, "little")
            for field, raw in cast("dict[bytes, bytes]", found).items()
        }
        for field in sorted(stored.keys() | self.replay.wanted.keys()):
            ours, theirs = stored.get(field), self.replay.wanted.get(field)
            if ours != theirs:
                self.differ(f"a count that is wanted, {_show(field.encode())}", ours, theirs)

    async def _compare_stock(self) -> None:
        await self._compare_strangers()
        done: set[str] = set()
        while waiting := sorted(self.replay.stock.keys() - done):
            done.update(waiting)
            for group in _groups(waiting, GROUP_SKUS):
                await self._compare_skus(group)
            # What the load has added since is known to the replay alone; where it is little, it is left out.
            if len(waiting) <= GROUP_SKUS:
                return

    async def _compare_strangers(self) -> None:
        """Fields that no event made."""
        stock = keys.stock(self.partition)
        strangers = [
            field async for field, _ in self.topology.scan_hash(stock) if not self._is_expected(field)
        ]
        for group in _groups(strangers, GROUP_RECORDS):
            (found,) = await self.read(("HMGET", stock, *group))
            for field, stored in zip(group, cast("list[bytes | None]", found), strict=True):
                if stored is not None and not self._is_expected(field):
                    self.differ(f"stock, field {_show(field)}", _show(stored), _NOT_THERE)

    def _is_expected(self, field: bytes) -> bool:
        if field.startswith(b"\n"):
            return self.replay.fences.has(split_fence_field(field.decode(errors="replace")))
        replay, (card, _, block) = self.replay, field.decode(errors="replace").partition("\n\n")
        sku, _, page = card.partition("\n")
        is_card = _number_of(page) in replay.pages.get(sku, ()) if page else sku in replay.stock
        if not block or not is_card:
            return is_card
        claims, number = replay.claims_of(card), _number_of(block)
        return number in claims.sizes and number != claims.block

    async def _compare_skus(self, group: Sequence[str]) -> None:
        """Compares SKUs; those of which more fields came while we asked, again."""
        while group:
            asked = [name for sku in group for name in self._fields_of(sku, ahead=BLOCKS_AHEAD)]
            (found,) = await self.read(("HMGET", keys.stock(self.partition), *asked))
            stored = {
                name: raw
                for name, raw in zip(asked, cast("list[bytes | None]", found), strict=True)
                if raw is not None
            }
            known, again = set(asked), []
            for sku in group:
                if known.issuperset(self._fields_of(sku)):
                    self._compare_sku(sku, stored)
                else:
                    again.append(sku)
            group = again

    def _cards_of(self, sku: str) -> dict[str, Sequence[str]]:
        """The fields that have a SKU's cards, each with its locations in order."""
        pages = self.replay.pages.get(sku)
        if pages is None:
            return {sku: tuple(self.replay.stock[sku])}
        return {page_field(sku, page): locations for page, locations in pages.items()}

    def _fields_of(self, sku: str, *, ahead: int = 0) -> Iterator[str]:
        """The fields that a SKU must have, and so many of the blocks that may come next."""
        if sku in self.replay.pages:
            yield sku
        for location in self.replay.stock[sku]:
            if self.replay.fences.has((sku, location)):
                yield fence_field(sku, location)
        for field in self._cards_of(sku):
            claims = self.replay.claims_of(field)
            yield field
            for block in claims.sizes:
                if block != claims.block:
                    yield block_field(field, block)
            for block in range(claims.block, claims.block + ahead):
                yield block_field(field, block)

    def _compare_sku(self, sku: str, stored: Mapping[str, bytes]) -> None:
        self.report.positions += len(self.replay.stock[sku])
        if sku in self.replay.pages and stored.get(sku) != DIVIDER:
            self.differ(f"{sku}, field {_show(sku.encode())}", _show(stored.get(sku)), "a divided SKU")
        for field, locations in self._cards_of(sku).items():
            raw = stored.get(field)
            if raw is None:
                self.differ(f"card {_show(field.encode())}", _NOT_THERE, ", ".join(locations))
                continue
            try:
                card = decode_card(raw)
            except ValueError as error:
                self.differ(f"card {_show(field.encode())}", error, ", ".join(locations))
                continue
            self._compare_positions(sku, card, locations)
            self._compare_claims(sku, field, card, stored)
        for location in self.replay.stock[sku]:
            self._compare_fences(sku, location, stored.get(fence_field(sku, location)))

    def _compare_fences(self, sku: str, location: str, stored: bytes | None) -> None:
        replayed = list(self.replay.fences.at((sku, location)))
        if (stored or b"") == encode_fences(replayed):
            return
        try:
            found: object = ", ".join(map(str, decode_fences(sku, location, stored or b"")))
        except ValueError as error:
            found = error
        self.differ(f"fences of {sku} at {location}", found, ", ".join(map(str, replayed)))

    def _compare_positions(self, sku: str, card: Card, locations: Sequence[str]) -> None:
        if card.locations != tuple(locations):
            self.differ(f"locations of {sku}", ", ".join(card.locations), ", ".join(locations))
        for index, location in enumerate(card.locations):
            counters = self.replay.stock[sku].get(location)
            if counters is None:
                continue
            numbers = card.counters[index * card.stride : (index + 1) * card.stride]
            for name, number, replayed in zip(
                COUNTERS, numbers + (0,) * POLICY_COUNTERS, counters.numbers().values(), strict=False
            ):
                if number != replayed:
                    self.differ(f"{sku} at {location}, {name}", number, replayed)

    def _compare_claims(self, sku: str, field: str, card: Card, stored: Mapping[str, bytes]) -> None:
        claims = self.replay.claims_of(field)
        if (card.first, card.block) != (claims.first, claims.block):
            self.differ(
                f"blocks of {sku}", f"{card.first} to {card.block}", f"{claims.first} to {claims.block}"
            )
        found = [
            (reservation, block)
            for block in sorted({*claims.sizes, *range(claims.block, claims.block + BLOCKS_AHEAD)})
            for reservation in split_claims(stored.get(block_field(field, block), b""))
        ]
        found += [(reservation, claims.block) for reservation in split_claims(card.claims)]
        if found != list(claims.blocks.items()):
            self._name_claims(sku, claims, found)

    def _name_claims(self, sku: str, claims: Claims, found: Sequence[tuple[bytes, int]]) -> None:
        ours, theirs = dict(found), claims.blocks
        different = {*ours.items()} ^ {*theirs.items()}
        for reservation in sorted({reservation for reservation, _ in different}):
            promise = self.replay.reservations.get(reservation)
            holder = reservation_id(promise.route, reservation) if promise else reservation.hex()
            places = [
                _NOT_THERE if block is None else f"block {block}"
                for block in (ours.get(reservation), theirs.get(reservation))
            ]
            self.differ(f"{sku}, holder {holder}", *places)
        if not different:
            self.differ(f"{sku}, holders", "another order", "the order of their promises")

    async def _compare_counts(
        self, key: Callable[[int], str], counts: Mapping[str, int], subject: str
    ) -> None:
        (found,) = await self.read(("HGETALL", key(self.partition)))
        stored = {name.decode(): raw.decode() for name, raw in cast("dict[bytes, bytes]", found).items()}
        replayed = {name: str(count) for name, count in counts.items()}
        for name in sorted(stored.keys() | replayed.keys()):
            ours, theirs = stored.get(name, _NOT_THERE), replayed.get(name, _NOT_THERE)
            if ours != theirs:
                self.differ(f"{subject} {name}", ours, theirs)

    # ---------------------------------------------------------------- supply

    async def _compare_inbound(self) -> None:
        await self._compare_hash(
            keys.inbound(self.partition),
            lambda: [place_of(location) + sku.encode() for sku, location in self.replay.expected.supplies],
            self._replayed_supplies,
            "inbound",
        )

    def _replayed_supplies(self, field: bytes) -> bytes | None:
        place, _, sku = field.partition(b"=")
        found = self.replay.expected.supplies.get((sku.decode(), place[1:].decode()))
        return pack_supplies(list(found.values())) if found else None

    async def _compare_hash(
        self,
        key: str,
        list_known: Callable[[], Sequence[bytes]],
        replayed: Callable[[bytes], bytes | None],
        subject: str,
    ) -> None:
        """Compares each field of a hash with what the ledger makes of it."""
        known = list_known()
        seen = set(known)
        strangers = [field async for field, _ in self.topology.scan_hash(key) if field not in seen]
        for group in _groups([*known, *dict.fromkeys(strangers)], GROUP_RECORDS):
            (found,) = await self.read(("HMGET", key, *group))
            for field, stored in zip(group, cast("list[bytes | None]", found), strict=True):
                if stored != replayed(field):
                    self.differ(f"{subject} {_show(field)}", _show(stored), _show(replayed(field)))

    # ---------------------------------------------------------------- records

    async def _compare_records(self) -> None:
        replay = self.replay
        strangers: list[bytes] = []
        async for operation, stored in self.topology.scan_hash(keys.operations(self.partition)):
            # That an id is bound to its content is no effect, and no event tells of it.
            if stored[:1] == BOUND_KIND:
                continue
            if operation not in replay.reservations and operation not in replay.operations:
                strangers.append(operation)
        for group in _groups([*replay.reservations, *replay.operations, *strangers], GROUP_RECORDS):
            waiting = deque([group])
            while waiting:
                moved = await self._compare_group(waiting.popleft())
                if moved:
                    waiting.append(moved)

    async def _compare_group(self, group: Sequence[bytes]) -> list[bytes]:
        """Compares records and their entries in the deadline index. Returns the ids whose deadline moved
        while we asked.
        """
        replay = self.replay
        asked = {
            operation: promise.deadline_ms
            for operation in group
            if (promise := replay.reservations.get(operation)) is not None
        }
        # Memories to forget stand behind all holds.
        moments = sorted({place for moment in asked.values() for place in (moment, moment + BEHIND_HOLDS)})
        records, *entries = await self.read(
            ("HMGET", keys.operations(self.partition), *group),
            *(("ZRANGEBYSCORE", keys.due(self.partition), moment, moment) for moment in moments),
        )
        due = {
            (entry[:1], moment % BEHIND_HOLDS, entry[at : at + OPERATION_ID_SIZE])
            for moment, found in zip(moments, cast("list[list[bytes]]", entries), strict=True)
            for entry in found
            for at in range(1, len(entry), OPERATION_ID_SIZE)
        }
        moved = []
        for operation, stored in zip(group, cast("list[bytes | None]", records), strict=True):
            promise = replay.reservations.get(operation)
            if promise is None:
                self._compare_operation(operation, stored)
                continue
            if promise.deadline_ms != asked.get(operation):
                moved.append(operation)
                continue
            if promise.state is Undecided.ABANDONED and (stored is None or stored[:1] == BOUND_KIND):
                # Nothing came of it, so its id was free.
                continue
            self._compare_reservation(operation, stored, promise)
            kind = _DUE_KINDS.get(promise.state, b"p")
            if promise.kind == KIND_PART and promise.state in OPEN_STATES:
                # Its basket has the deadline.
                kind = b""
            if stored and kind and (kind, promise.deadline_ms, operation) not in due:
                subject = f"deadline of {reservation_id(promise.route, operation)}"
                self.differ(subject, "no entry in the index", promise.deadline_ms)
        return moved

    def _compare_reservation(self, operation: bytes, stored: bytes | None, promise: Promise) -> None:
        self.report.reservations += 1
        body, end = promise.front + promise.plan, promise.blocks + promise.tail
        if (
            stored is not None
            and len(stored) >= len(body) + len(end)
            and stored.startswith(body)
            and stored.endswith(end)
            and crc32(stored[len(body) : -len(end)]) == promise.detail_crc
        ):
            return
        subject, head = reservation_id(promise.route, operation), promise.read_head()
        if stored is None:
            is_open = head.state in OPEN_STATES or head.state is Undecided.PENDING
            if is_open or head.deadline_ms > self.now_ms:
                self.differ(subject, _NOT_THERE, head.state)
            return
        try:
            parts = split_record(stored)
            found = decode_tail(parts.tail)
        except (ValueError, IndexError) as error:
            self.differ(subject, f"an unreadable record: {error}", head.state)
            return
        different = [
            (field, getattr(found, field), getattr(head, field))
            for field in Head.__struct_fields__
            if getattr(found, field) != getattr(head, field)
        ]
        for name, ours, theirs in (
            ("fingerprint", parts.front[FINGERPRINT], promise.front[FINGERPRINT]),
            ("time to live", parts.front[TTL], promise.front[TTL]),
            ("blocks of its claims", parts.blocks, promise.blocks),
        ):
            if ours != theirs:
                different.append((name, _show(ours), _show(theirs)))
        if parts.plan != promise.plan:
            different.append(("lines", "others", "those that were reserved"))
        if crc32(parts.detail) != promise.detail_crc:
            different.append(("owner, reference or metadata", "others", "those that were given"))
        for field, ours, theirs in different or [("form", _show(stored), _show(body + end))]:
            self.differ(f"{subject}, {field}", ours, theirs)

    def _compare_operation(self, operation: bytes, stored: bytes | None) -> None:
        subject, remembered = f"operation {operation.hex()}", self.replay.operations.get(operation)
        if remembered is None:
            if stored is not None:
                self.differ(subject, _show(stored), _NOT_THERE)
            return
        self.report.operations += 1
        if stored is None:
            if self.replay.remembered_until_ms(operation) > self.now_ms:
                self.differ(subject, _NOT_THERE, "remembered")
        elif remembered_crc(stored) != remembered[1]:
            self.differ(subject, _show(stored), "another answer")


def _as_texts(found: object) -> dict[str, bytes]:
    return {name.decode(): raw for name, raw in cast("dict[bytes, bytes]", found).items()}


def _groups(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def _number_of(text: str) -> int:
    """The number that a part of a field's name is; -1 where it is none as we write it."""
    number = int(text) if text.isdecimal() else -1
    return number if str(number) == text else -1


def _show(packed: bytes | None) -> str:
    if packed is None:
        return _NOT_THERE
    return f"{packed[:SHOWN_BYTES]!r}{'…' if len(packed) > SHOWN_BYTES else ''}"
