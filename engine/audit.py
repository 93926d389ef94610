"""Compares what is stored with what the ledger adds up to, on a server that goes on working.

A partition is audited in groups. Each group is read as of one moment together with the partition's
sequence; the replay then goes forward to that sequence, no further, and the group is compared field by
field. So nothing has to stand still, and no more than one group is in memory beside the replay.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from time import monotonic
from typing import TypeVar, cast
from zlib import crc32

import msgspec
from msgspec import Struct

from engine import keys
from engine.dataset import Dataset
from engine.events import LedgerReader, Version
from engine.ids import OPERATION_ID_SIZE, reservation_id
from engine.inventory import Inventory
from engine.ledger import Promise, Replay, Violation, decode_counters, remembered_crc
from engine.lifecycle import OPEN_STATES
from engine.records import Head, decode_head, decode_plan
from engine.topology import Topology
from engine.types import State

GROUP_SKUS = 100
GROUP_RECORDS = 500
KEPT_DIFFERENCES = 1000
SHOWN_BYTES = 24
_NOT_THERE = "nothing"
# The kind of a reservation's entry in the deadline index; finished ones (`p`) wait to be forgotten.
BEHIND_HOLDS = 2**50
"""As in `lua/lib/batch.lua`."""
_DUE_KINDS = {State.HELD: b"h", State.COMMITTED: b""}

_Item = TypeVar("_Item")


class Difference(Struct, frozen=True):
    """Something stored that is not as the ledger has it."""

    partition: int
    subject: str
    stored: str
    replayed: str


class Note(Struct, frozen=True):
    """Something that the reader of a report must know. Where it is `blocking`, the audit could not say
    that the books are right.
    """

    name: str
    partition: int
    detail: str
    is_blocking: bool


class AuditReport(Struct):
    """What an audit found. The lists keep the first thousand; the counts count all."""

    partitions: int = 0
    positions: int = 0
    reservations: int = 0
    operations: int = 0
    events: int = 0
    elapsed_seconds: float = 0.0
    differences: list[Difference] = msgspec.field(default_factory=list)
    difference_count: int = 0
    violations: list[Violation] = msgspec.field(default_factory=list)
    violation_count: int = 0
    notes: list[Note] = msgspec.field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every count equals the replay of the ledger, and no event breaks a promise."""
        blocked = any(note.is_blocking for note in self.notes)
        return not (self.difference_count or self.violation_count or blocked)

    @property
    def events_per_second(self) -> float:
        return self.events / self.elapsed_seconds if self.elapsed_seconds else 0.0


async def audit(source: Dataset | Inventory, *, retention_seconds: int | None = None) -> AuditReport:
    """Audits a whole data set, also under load. Raises `StorageUnavailable`.

    `retention_seconds` is how long operation ids must be remembered; None takes the shortest time that the
    ledger shows. Memory grows with the ledger's reservations and movements: see `Replay`.
    """
    dataset = source.dataset if isinstance(source, Inventory) else source
    report, begun = AuditReport(partitions=dataset.partitions), monotonic()
    stored, places = await _list_keys(dataset.topology, dataset.partitions, report)
    for partition in range(dataset.partitions):
        part = _PartitionAudit(dataset.topology, partition, report, retention_seconds)
        await part.run(stored[partition], places[partition])
    report.elapsed_seconds = monotonic() - begun
    return report


async def _list_keys(
    topology: Topology, partitions: int, report: AuditReport
) -> tuple[list[list[str]], list[list[str]]]:
    """The SKUs and the locations that each partition has keys of; notes keys that we do not know."""
    skus: list[list[str]] = [[] for _ in range(partitions)]
    places: list[list[str]] = [[] for _ in range(partitions)]
    known = {keys.dataset()}
    for partition in range(partitions):
        for name in (keys.meta, keys.operations, keys.due, keys.log, keys.locations):
            known.add(name(partition))
    seen = set()
    async for key in topology.scan_keys(f"{keys.PREFIX}*"):
        if key in known or key in seen:
            continue
        seen.add(key)
        text = key.removeprefix(keys.PREFIX).partition("}")[0]
        partition = int(text) if text.isascii() and text.isdigit() else partitions
        if partition >= partitions:
            report.notes.append(Note("unknown_key", 0, key, is_blocking=False))
        elif key.startswith(keys.stock_pattern(partition)[:-1]):
            skus[partition].append(keys.sku_of(key))
        elif key.startswith(prefix := keys.stocked(partition, "")):
            places[partition].append(key.removeprefix(prefix))
        else:
            report.notes.append(Note("unknown_key", partition, key, is_blocking=False))
    return skus, places


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

    async def run(self, stored_skus: Sequence[str], stored_places: Sequence[str]) -> None:
        replay = self.replay
        await self._check_end()
        if replay.begins_at is not None and replay.begins_at > 1:
            self._note(
                "ledger_incomplete",
                f"the ledger begins at sequence {replay.begins_at}, not 1: what happened before cannot be "
                "recomputed, so nothing of this partition is compared",
            )
        else:
            await self._compare_locations()
            await self._compare_stock(stored_skus)
            await self._compare_places(stored_places)
            await self._compare_records()
        self.report.events += replay.events
        self.report.violation_count += replay.violation_count
        self.report.violations += replay.violations

    def differ(self, subject: str, stored: object, replayed: object) -> None:
        self.report.difference_count += 1
        if len(self.report.differences) < KEPT_DIFFERENCES:
            self.report.differences.append(Difference(self.partition, subject, str(stored), str(replayed)))

    def _note(self, name: str, detail: str) -> None:
        self.report.notes.append(Note(name, self.partition, detail, is_blocking=True))

    async def _read(self, *requests: Sequence[str | bytes | int]) -> list[object]:
        """Reads as of one moment, and takes the replay to that moment."""
        head, time, *replies = await self.topology.read_at_once(
            ("HMGET", keys.meta(self.partition), "epoch", "seq"), ("TIME",), *requests
        )
        epoch, seq = (int(number or 0) for number in cast("list[bytes | None]", head))
        seconds, microseconds = cast("tuple[int, int]", time)
        self.now_ms = int(seconds) * 1000 + int(microseconds) // 1000
        await self._advance(Version(epoch, seq))
        return replies

    async def _advance(self, until: Version) -> None:
        while self.replay.version < until:
            items = await self.reader.read(until=until)
            if not items:
                return
            for item in items:
                self.replay.apply(item)
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
        await self._read()

    # ---------------------------------------------------------------- stock

    async def _compare_locations(self) -> None:
        (found,) = await self._read(("HGETALL", keys.locations(self.partition)))
        stored = {name.decode(): raw for name, raw in cast("dict[bytes, bytes]", found).items()}
        for location in sorted(stored.keys() | self.replay.locations.keys()):
            ours, theirs = stored.get(location), self.replay.locations.get(location)
            if ours != theirs:
                self.differ(f"settings of location {location}", _show(ours), _show(theirs))

    async def _compare_stock(self, stored_skus: Iterable[str]) -> None:
        listed = set(stored_skus)
        listed.update(self.replay.stock)
        while listed:
            for group in _groups(sorted(listed), GROUP_SKUS):
                requests: list[tuple[str | bytes | int, ...]] = []
                asked = []
                for sku in group:
                    requests.append(("HGETALL", keys.stock(self.partition, sku)))
                    for location in self.replay.stock.get(sku, ()):
                        asked.append((sku, location))
                        requests.append(("SISMEMBER", keys.stocked(self.partition, location), sku))
                replies = iter(await self._read(*requests))
                for sku in group:
                    self._compare_sku(sku, cast("dict[bytes, bytes]", next(replies)))
                    while asked and asked[0][0] == sku:
                        if not next(replies):
                            self.differ(f"SKUs of location {asked[0][1]}", f"not {sku}", sku)
                        asked.pop(0)
            # What the load has added since: few, and known to the replay alone.
            done, listed = listed, set(self.replay.stock)
            listed -= done
            if len(done) <= GROUP_SKUS:
                return

    def _compare_sku(self, sku: str, stored: dict[bytes, bytes]) -> None:
        places = self.replay.stock.get(sku, {})
        self.report.positions += len(places)
        directory = b"".join(bytes((len(name),)) + name for name in map(str.encode, places))
        if stored.pop(b"", b"") != directory:
            self.differ(f"locations of {sku}", "another list", ", ".join(places) or _NOT_THERE)
        for location, counters in places.items():
            name, subject = location.encode(), f"{sku} at {location}"
            packed = stored.pop(name, None)
            if packed is None:
                self.differ(subject, _NOT_THERE, counters.numbers())
            else:
                self._compare_counters(subject, packed, counters.numbers())
            for reservation, order in counters.holders.items():
                found = stored.pop(name + b"\n" + reservation, None)
                if found != b"%d" % order:
                    holder = reservation_id(self.partition, reservation)
                    self.differ(f"{subject}, holder {holder}", _show(found), order)
        for field, packed in stored.items():
            self.differ(f"{sku}, field {_name(field)}", _show(packed), _NOT_THERE)

    def _compare_counters(self, subject: str, packed: bytes, replayed: dict[str, int]) -> None:
        try:
            stored = decode_counters(packed).numbers()
        except ValueError as error:
            self.differ(subject, error, replayed)
            return
        for name, number in replayed.items():
            if stored[name] != number:
                self.differ(f"{subject}, {name}", stored[name], number)

    async def _compare_places(self, stored_places: Iterable[str]) -> None:
        """What is listed at a location and stocked there by no event."""
        for location in sorted(stored_places):
            key = keys.stocked(self.partition, location)
            doubtful = [
                member
                async for member in self.topology.scan_set(key)
                if location not in self.replay.stock.get(member.decode(errors="replace"), ())
            ]
            for group in _groups(doubtful, GROUP_RECORDS):
                listed = await self._read(*(("SISMEMBER", key, member) for member in group))
                for member, is_listed in zip(group, listed, strict=True):
                    sku = member.decode(errors="replace")
                    if is_listed and location not in self.replay.stock.get(sku, ()):
                        self.differ(f"SKUs of location {location}", sku, f"not {sku}")

    # ---------------------------------------------------------------- records

    async def _compare_records(self) -> None:
        replay = self.replay
        strangers: list[bytes] = []
        async for operation, _ in self.topology.scan_hash(keys.operations(self.partition)):
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
        records, *entries = await self._read(
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
            self._compare_reservation(operation, stored, promise)
            kind = _DUE_KINDS.get(promise.state, b"p")
            if stored and kind and (kind, promise.deadline_ms, operation) not in due:
                subject = f"deadline of {reservation_id(self.partition, operation)}"
                self.differ(subject, "no entry in the index", promise.deadline_ms)
        return moved

    def _compare_reservation(self, operation: bytes, stored: bytes | None, promise: Promise) -> None:
        self.report.reservations += 1
        body = promise.head + promise.plan
        if (
            stored is not None
            and stored.startswith(body)
            and crc32(stored[len(body) :]) == promise.detail_crc
        ):
            return
        subject, head = reservation_id(self.partition, operation), promise.read_head()
        if stored is None:
            if head.state in OPEN_STATES or head.deadline_ms > self.now_ms:
                self.differ(subject, _NOT_THERE, head.state)
            return
        try:
            found, at = decode_head(stored)
            plan_end = decode_plan(stored, at)[1]
        except (ValueError, IndexError) as error:
            self.differ(subject, f"an unreadable record: {error}", head.state)
            return
        different = [
            (field, getattr(found, field), getattr(head, field))
            for field in Head.__struct_fields__
            if getattr(found, field) != getattr(head, field)
        ]
        if stored[at:plan_end] != promise.plan:
            different.append(("lines", "others", "those that were reserved"))
        if crc32(stored[plan_end:]) != promise.detail_crc:
            different.append(("owner, reference or metadata", "others", "those that were given"))
        for field, ours, theirs in different or [("form", _show(stored), _show(promise.head))]:
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


def _groups(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    for at in range(0, len(items), size):
        yield items[at : at + size]


def _show(packed: bytes | None) -> str:
    if packed is None:
        return _NOT_THERE
    return f"{packed[:SHOWN_BYTES]!r}{'…' if len(packed) > SHOWN_BYTES else ''}"


def _name(field: bytes) -> str:
    place, _, holder = field.partition(b"\n")
    return f"{place.decode(errors='replace')}, holder {holder.hex()}" if holder else _show(field)
