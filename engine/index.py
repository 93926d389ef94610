"""Files reservations under what they are found by: owner, reference, SKU, location.

The index of a partition is made from its ledger, by whoever asks and by a worker ahead of them; the verbs
that hold stock know nothing of it. It is a sorted set of entries that all have one score, so that they stand
in the order of their bytes:

  kind (1) | what is looked for: size (1), text | created: ms (6), seq (6) | operation id (12)

Numbers are big-endian; a text of more than 64 bytes stands as its digest. An entry counts only while its
record says the same, so what was forgotten or changed may stay until somebody meets it; what must never
happen is that one is missing. Hence the cursor: `lua/index.lua` moves it only from where its caller went on.
Where there is no cursor, or one that the ledger does not know, all records are filed anew.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from hashlib import blake2b
from struct import error as StructError  # noqa: N812 - an exception, named as one
from typing import cast

import msgspec

from engine import keys, limits
from engine.commands import Commands
from engine.dataset import Dataset
from engine.errors import Overloaded, StorageUnavailable, Unavailable, Unconfirmed
from engine.events import (
    START,
    Carried,
    Decided,
    Event,
    Followed,
    Gap,
    LedgerItem,
    LedgerReader,
    Replanned,
    Reserved,
    Resolved,
    Version,
    parse_version,
)
from engine.ids import NO_OPERATION, OPERATION_ID_SIZE
from engine.records import (
    KIND_PART,
    Head,
    Record,
    Undecided,
    decode_record,
    decode_tail,
    is_reservation,
    reference_at,
)
from engine.topology import Topology
from engine.types import State

ALL, OWNER, REFERENCE, SKU, LOCATION = b"a", b"o", b"r", b"s", b"l"
ORDER_SIZE = 24
"""When a reservation was made, and its id: what entries of one kind and text are ordered by."""
BEHIND_ALL = b"\xff" * ORDER_SIZE
MAX_TEXT_BYTES = 64
PAGE_ENTRIES = 50
"""Entries of the ledger that one step reads: at 128 events of 200 bytes, 1.3 MB."""
CALL_ENTRIES = 400
"""Entries of the index that one call files: less than a millisecond of server time."""
MOST_UNFILED = 100_000
"""Entries that a process keeps to itself where the server takes no writes."""
STEP_RECORDS = 2000
"""Records that one step looks at, where all are filed anew."""
_DAMAGED = (ValueError, IndexError, StructError, msgspec.MsgspecError)
LOST = Version(2**63, 2**63)
"""Beyond every ledger."""


def entry_prefix(kind: bytes, text: str) -> bytes:
    """What all entries of a kind and text begin with, and no others."""
    raw = text.encode()
    if kind == ALL:
        return kind
    if len(raw) > MAX_TEXT_BYTES:
        return kind + b"\xff" + blake2b(raw, digest_size=16).digest()
    return kind + bytes((len(raw),)) + raw


def order_of(operation: bytes, head: Head) -> bytes:
    """The end of a reservation's entries: newer ones are greater."""
    return head.created_ms.to_bytes(6, "big") + head.created_seq.to_bytes(6, "big") + operation


def entries_of(operation: bytes, record: Record) -> list[bytes]:
    """The entries of a record; none of what no caller sees."""
    if record.kind == KIND_PART or isinstance(record.head.state, Undecided):
        return []
    detail, order = record.detail, order_of(operation, record.head)
    reference = reference_at(detail, record.head.revision)
    prefixes = [ALL]
    if detail.owner is not None:
        prefixes.append(entry_prefix(OWNER, detail.owner))
    if reference is not None:
        prefixes.append(entry_prefix(REFERENCE, reference))
    prefixes += [entry_prefix(SKU, sku) for sku in {line.sku for line in record.plan.positions}]
    prefixes += [entry_prefix(LOCATION, place) for place in {line.location for line in record.plan.positions}]
    return [prefix + order for prefix in prefixes]


def read_record(raw: bytes) -> Record | None:
    """A record; None where it is damaged: the audit tells of that, the others are found all the same."""
    try:
        return decode_record(raw)
    except _DAMAGED:
        return None


def may_be_in(raw: bytes, state: State) -> bool:
    """Whether a record may be in a state; much quicker than to read all of it."""
    try:
        return decode_tail(raw).state is state
    except _DAMAGED:
        return True


def entries_in(operation: bytes, raw: bytes) -> list[bytes]:
    """The entries of a record as it is stored."""
    record = read_record(raw)
    return [] if record is None else entries_of(operation, record)


def operation_of(entry: bytes) -> bytes:
    """The operation id that an entry ends with."""
    return entry[-OPERATION_ID_SIZE:]


class Index:
    """The index of a data set, one set of entries for each partition."""

    def __init__(self, dataset: Dataset) -> None:
        self._topology = dataset.topology
        self._commands = dataset.commands
        self._runs: dict[int, asyncio.Task[frozenset[bytes]]] = {}

    async def close(self) -> None:
        """Ends what is under way: whoever asks next goes on from there."""
        running = [run for run in self._runs.values() if not run.done()]
        for run in running:
            run.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # ---------------------------------------------------------------- filing

    async def catch_up(self, partition: int) -> frozenset[bytes]:
        """Files all that the ledger has by now. All who ask at once share the work: each waits for a run that
        began after it asked. Returns the entries that a server that takes no writes could not be given.

        Raises `Overloaded` where it takes too long (the work goes on), `StorageUnavailable`.
        """
        try:
            async with asyncio.timeout(limits.CALL_TIMEOUT_SECONDS):
                running = self._runs.get(partition)
                if running is not None and not running.done():
                    await asyncio.wait([running])
                following = self._runs.get(partition)
                if following is None or following is running or following.done():
                    following = asyncio.get_running_loop().create_task(self._run(partition))
                    # All who asked may have given up when it fails.
                    following.add_done_callback(lambda done: done.cancelled() or done.exception())
                    self._runs[partition] = following
                return await asyncio.shield(following)
        except TimeoutError as error:
            raise Overloaded("the index of reservations is being made: ask again") from error
        except Unconfirmed as error:
            raise StorageUnavailable("the index of reservations could not be read") from error

    async def _run(self, partition: int) -> frozenset[bytes]:
        filing = Filing(self._topology, self._commands[partition], keeps_unfiled=True)
        while await filing.step():
            pass
        return frozenset(filing.unfiled)

    def filing(self, partition: int) -> "Filing":
        """Filing by steps, for who does it ahead of those who ask."""
        return Filing(self._topology, self._commands[partition])

    # ---------------------------------------------------------------- reading

    async def read(self, partition: int, prefix: bytes, before: bytes, count: int) -> list[bytes]:
        """The next entries of a prefix whose orders are less than `before`, the newest first."""
        (found,) = await self._topology.read_at_once(
            (
                "ZRANGE",
                keys.find(partition),
                b"(" + prefix + before,
                b"[" + prefix,
                "BYLEX",
                "REV",
                "LIMIT",
                0,
                count,
            )
        )
        return cast("list[bytes]", found)

    async def read_on(self, partition: int, prefix: bytes, after: bytes, count: int) -> list[bytes]:
        """The next entries of a prefix whose orders are greater than `after`, the oldest first."""
        last = b"[" + prefix + BEHIND_ALL
        (found,) = await self._topology.read_at_once(
            ("ZRANGE", keys.find(partition), b"(" + prefix + after, last, "BYLEX", "LIMIT", 0, count)
        )
        return cast("list[bytes]", found)

    async def records(self, partition: int, operations: Sequence[bytes]) -> dict[bytes, bytes]:
        """The records of reservations as they are stored, by operation id."""
        (found,) = await self._topology.read_at_once(("HMGET", keys.operations(partition), *operations))
        return _as_reservations(operations, found)

    # ---------------------------------------------------------------- striking out

    async def walk(self, partition: int, after: bytes, count: int) -> bytes:
        """Looks at the next entries in the order of their bytes and strikes out those that do not count any
        more; the last one of them, or nothing at the end.
        """
        start = b"(" + after if after else b"-"
        (found,) = await self._topology.read_at_once(
            ("ZRANGE", keys.find(partition), start, b"+", "BYLEX", "LIMIT", 0, count)
        )
        entries = cast("list[bytes]", found)
        if entries:
            await self.strike_out(partition, entries)
        return entries[-1] if len(entries) == count else b""

    async def strike_out(self, partition: int, entries: Sequence[bytes]) -> int:
        """Strikes out those of some entries that their records do not confirm; how many.

        A record may come to say again what an entry says. The event of that would be filed later, so the
        cursor of the moment at which the record was read must still be the one.
        """
        operations = list(dict.fromkeys(map(operation_of, entries)))
        cursor, found = await self._topology.read_at_once(
            ("HGET", keys.found(partition), "cursor"), ("HMGET", keys.operations(partition), *operations)
        )
        if not cursor:
            return 0
        records = _as_reservations(operations, found)
        confirmed = {entry for operation, raw in records.items() for entry in entries_in(operation, raw)}
        gone, cursor = [entry for entry in entries if entry not in confirmed], cast("bytes", cursor)
        struck = 0
        for first in range(0, len(gone), CALL_ENTRIES):
            some = gone[first : first + CALL_ENTRIES]
            _, _, _, answer = await self._commands[partition].index(cursor, cursor, (), some)
            struck += len(some) if type(answer) is int else 0
        return struck


class Filing:
    """A way through a partition's ledger, from where the index ends to where the ledger ends at its start."""

    def __init__(self, topology: Topology, commands: Commands, *, keeps_unfiled: bool = False) -> None:
        self._topology = topology
        self._commands = commands
        self._partition = commands.partition
        self._keeps_unfiled = keeps_unfiled
        self._writes = True
        self.unfiled: set[bytes] = set()
        """What a server that takes no writes could not be given."""
        self._target: Version | None = None
        self._cursor = b""
        self._reader: LedgerReader | None = None
        self._records: AsyncIterator[tuple[bytes, bytes]] | None = None
        """All records of the partition, where they are filed anew."""
        self._records_as_of = START

    async def step(self) -> bool:
        """Does a bit of the work; whether there is more. Raises `Unavailable`, `Unconfirmed`."""
        if self._records is not None:
            return await self._file_records(self._records)
        if self._reader is not None:
            return await self._file_page(self._reader)
        return await self._begin()

    async def _begin(self) -> bool:
        """Looks where the index ends, and then where the ledger does, which is behind that."""
        (cursor,) = await self._topology.read_at_once(("HGET", keys.found(self._partition), "cursor"))
        self._cursor = cast("bytes | None", cursor) or b""
        _, epoch, seq, _ = await self._commands.find(NO_OPERATION)
        if self._target is None:
            self._target = Version(epoch, seq)
        if not self._cursor:
            # Whatever comes while they are read, the ledger has behind this point.
            self._records_as_of = Version(epoch, seq)
            self._records = self._topology.scan_hash(keys.operations(self._partition))
            return True
        try:
            version = parse_version(self._cursor.decode())
        except ValueError:
            version = LOST
        if version.epoch > epoch or version.seq > seq:
            return await self._begin_anew()
        self._reader = LedgerReader(self._topology, self._partition, after=version)
        return version < self._target

    async def _begin_anew(self) -> bool:
        """Takes back a cursor that the ledger does not know: from then on nobody goes on from it."""
        self._reader = None
        await self._commands.index(self._cursor, b"", ())
        return True

    async def _file_page(self, reader: LedgerReader) -> bool:
        """Files the next events of the ledger."""
        items = await reader.read(until=self._target, entries=PAGE_ENTRIES)
        if any(isinstance(item, Gap) for item in items):
            return await self._begin_anew()
        records = await self._records_of(items)
        added: list[bytes] = []
        for item in items:
            if isinstance(item, Event):
                added += _entries_of_event(item, records)
                if len(added) >= CALL_ENTRIES and item.version < reader.version:
                    if not await self._file_events(added, item.version):
                        return True
                    added = []
        if not items:
            return False
        is_ours = await self._file_events(added, reader.version)
        return not is_ours or self._target is None or reader.version < self._target

    async def _records_of(self, items: Sequence[LedgerItem]) -> Mapping[bytes, bytes]:
        """The present records of the events that do not tell all that an entry needs."""
        news = [item for item in items if isinstance(item, Resolved) and _has_news(item)]
        asked = list(dict.fromkeys(event.id for event in news))
        if not asked:
            return {}
        (found,) = await self._topology.read_at_once(("HMGET", keys.operations(self._partition), *asked))
        return _as_reservations(asked, found)

    async def _file_records(self, records: AsyncIterator[tuple[bytes, bytes]]) -> bool:
        """Files some of all the records, and with the last of them the cursor."""
        added, looked_at, cursor = list[bytes](), 0, self._cursor
        async for operation, raw in records:
            looked_at += 1
            if is_reservation(raw):
                added += entries_in(operation, raw)
            if len(added) >= CALL_ENTRIES or looked_at >= STEP_RECORDS:
                break
        else:
            cursor, self._records = self._records_as_of.entry_id.encode(), None
        if not await self._file(added, cursor):
            self._records = None
        return True

    async def _file_events(self, added: Sequence[bytes], version: Version) -> bool:
        """Files what came up to a version; whether nobody else has gone on meanwhile."""
        if self._writes:
            try:
                return await self._file(added, version.entry_id.encode())
            except Unavailable:
                if not self._keeps_unfiled:
                    raise
                self._writes = False
        self.unfiled.update(added)
        if len(self.unfiled) > MOST_UNFILED:
            raise Overloaded("the server takes no writes, and there is too much that was not filed before")
        return True

    async def _file(self, added: Sequence[bytes], cursor: bytes) -> bool:
        answer: object = True
        for first in range(0, len(added) or 1, CALL_ENTRIES):
            some = added[first : first + CALL_ENTRIES]
            following = cursor if first + CALL_ENTRIES >= len(added) else self._cursor
            _, _, _, answer = await self._commands.index(self._cursor, following, some)
            if type(answer) is not int:
                self._reader = None
                return False
        self._cursor = cursor
        return True


def _has_news(event: Resolved) -> bool:
    """Whether a step made a reservation visible, or changed what it is found by."""
    return isinstance(event, Decided) or (bool(event.detail) and not isinstance(event, Followed))


def _entries_of_event(event: Event, records: Mapping[bytes, bytes]) -> list[bytes]:
    if type(event) is Reserved:
        return entries_in(event.id, event.record)
    if isinstance(event, Carried | Replanned) and is_reservation(event.record):
        return entries_in(event.id, event.record)
    if isinstance(event, Resolved) and _has_news(event) and event.id in records:
        return entries_in(event.id, records[event.id])
    return []


def _as_reservations(operations: Sequence[bytes], found: object) -> dict[bytes, bytes]:
    stored = cast("Iterable[bytes | None]", found)
    return {
        operation: raw
        for operation, raw in zip(operations, stored, strict=True)
        if raw is not None and is_reservation(raw)
    }
