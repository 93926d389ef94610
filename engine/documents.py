"""Documents: what takes several steps, over several positions, that may lie in several partitions.

A document is one field of a hash. A step replaces it, if nobody else did meanwhile, and says in the same
write what must happen to positions because of it: its outbox. Whoever took the step sees to that before it
answers; if it dies, whoever comes next does, and each effect has an operation id of its own, so that it
happens once. A document with an outbox takes no further step.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from logging import getLogger
from typing import Generic, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine import keys, limits
from engine.commands import Reply
from engine.document_lists import AT_ONCE, MOST_LOOKED_AT, Spot, Walk
from engine.errors import IdempotencyMismatch, Overloaded, Refused
from engine.ids import NO_OPERATION, document_id, fingerprint, is_remembered
from engine.outcomes import Outcome
from engine.refusals import plain_refusal
from engine.reservations import Reservations
from engine.supplies import encode_supply
from engine.types import Broken, Movement, MovementKind, MovementResult, Supply, SupplyKind

log = getLogger("bincard.documents")

ATTEMPTS = 16
"""How often a step is decided anew because somebody else took another one meanwhile."""
CALLER = "\1document"
"""Whose movements those of documents are: no caller has such a name."""
_MEMORY_KIND, _MARK, _CONTENT_AT = 3, slice(1, 9), 9
_VERSION_SIZE = 4


class SupplyChange(Struct, frozen=True, array_like=True):
    """What is still to come of a document's units at a position, and how many came with this step."""

    sku: str
    location: str
    open: int
    received: int
    expected_ms: int
    kind: SupplyKind


class Moving(Struct, frozen=True, array_like=True):
    """Goods of a document that came (above zero) or went."""

    sku: str
    location: str
    quantity: int


class Outbox(Struct, frozen=True, array_like=True):
    """What a step does to positions. First the supplies: goods that are there and still expected as well
    could be promised twice.
    """

    supplies: tuple[SupplyChange, ...] = ()
    movements: tuple[Moving, ...] = ()


class Document(Struct, frozen=True, array_like=True, kw_only=True):
    """What every document has. `mark` is the fingerprint of the request that made it."""

    mark: bytes
    created_ms: int
    step: int = 0
    reference: str | None = None
    outbox: Outbox | None = None
    uncovered: tuple[Broken, ...] = ()

    @property
    @abstractmethod
    def route(self) -> int:
        """Where it belongs: where its first SKU does."""

    @property
    @abstractmethod
    def id_prefix(self) -> str:
        """What its public id begins with."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Whether no step is awaited any more."""

    @property
    @abstractmethod
    def listed_by(self) -> Sequence[bytes]:
        """The prefixes of its entries in the index."""

    def entries(self, own: bytes) -> list[bytes]:
        """Its entries in the index."""
        order = Spot(self.created_ms, document_id(self.id_prefix, self.route, own)).order
        return [prefix + order for prefix in self.listed_by]


class Name(NamedTuple):
    """Where a document is, and its public id."""

    partition: int
    id: bytes
    public: str


class Stored(NamedTuple):
    """A document as it is stored."""

    version: int
    is_pending: bool
    document: Document


Decide = Callable[[Document | None, int], Document | None]
"""What a step makes of a document at a time; None where it has nothing to do. Raises what refuses it."""
_Kind = TypeVar("_Kind", bound=Document)
_Shown = TypeVar("_Shown")


class Page(NamedTuple, Generic[_Shown]):
    """Some of a list, and behind what the next page goes on; None where there is no more."""

    items: list[_Shown]
    next: Spot | None


_encode = msgspec.msgpack.Encoder().encode


class Documents(Reservations, ABC):
    """The part of `Inventory` that takes steps of documents."""

    @abstractmethod
    async def record_many(
        self, movements: Sequence[Movement], *, caller: str = ""
    ) -> list[MovementResult | BaseException]:
        """Records facts: see `Inventory`."""

    @staticmethod
    @abstractmethod
    def decode_document(content: bytes) -> Document:
        """A document of any kind."""

    # ---------------------------------------------------------------- effects

    async def set_supply(
        self, operation: bytes, supply: Supply, *, sku: str, location: str, received: int = 0
    ) -> str:
        """Sets what a document will still bring to a position; the version. `received` came with this step.

        Raises `LocationNotFound`, `QuantityOutOfRange`.
        """
        partition = keys.partition_of(sku, self._partitions)
        mark = fingerprint(encode_supply(supply, received=received) + f"{location}\0{sku}".encode())
        answered = await self.dataset.commands[partition].supply(
            operation, mark, supply, location, sku, received=received
        )
        answer = answered[3]
        if type(answer) is list and answer[0] == b"replayed":
            answer = answer[1]
        if type(answer) is list:
            raise plain_refusal(Reply(*answered), f"inbound of {sku} at {location}")
        epoch, seq = int.from_bytes(answer[5:7], "little"), int.from_bytes(answer[:5], "little")
        return f"{epoch}.{seq}"

    async def save_document(
        self,
        name: Name,
        document: Document,
        before: Stored | None,
        *,
        operation: bytes = NO_OPERATION,
        mark: bytes = b"",
    ) -> str | None:
        """Stores a document in the place of what was seen of it; None where that is not what is stored.

        Raises `IdempotencyMismatch`.
        """
        entries = document.entries(name.id)
        _, epoch, _, answer = await self.dataset.commands[name.partition].save_document(
            name.id,
            _encode(document),
            version=before.version if before else 0,
            is_pending=document.outbox is not None,
            is_over=document.is_over,
            added=entries,
            gone=[entry for entry in before.document.entries(name.id) if entry not in entries]
            if before
            else [],
            operation=operation,
            fingerprint=mark or bytes(8),
        )
        if type(answer) is int:
            return f"{epoch}.{answer}"
        if answer[0] == b"idempotency_mismatch":
            raise _mismatch()
        return None

    async def deliver_documents(self) -> int:
        """Sees to what nobody has seen to in time; to how many documents. What is refused stays for later,
        and the log tells of it. Raises `Unavailable`, `Unconfirmed`.
        """
        found = await asyncio.gather(*(self._deliver_of(partition) for partition in range(self._partitions)))
        return sum(found)

    async def _deliver_of(self, partition: int) -> int:
        delivered = left = 0
        while True:
            _, _, _, ids = await self.dataset.commands[partition].outbox(limits.OUTBOX_IDS, left)
            for own in ids:
                name = Name(partition, own, own.hex())
                stored, _, _ = await self._read_document(name)
                if stored is None or not stored.is_pending:
                    continue
                try:
                    await self._deliver(name, stored)
                    delivered += 1
                except Refused as refused:
                    log.warning("a step of document %s cannot be finished yet: %s", name.public, refused)
                    left += 1
            if len(ids) < limits.OUTBOX_IDS:
                return delivered

    async def _deliver(self, name: Name, stored: Stored) -> Document:
        """Sees to the effects of the last step, and stores that they happened. Raises what refuses one."""
        settled = await self._drive(name, stored.document)
        await self.save_document(name, settled, stored)
        return settled

    async def _drive(self, name: Name, document: Document) -> Document:
        """The document once its effects happened. Each happens once, however often this is called."""
        outbox = document.outbox
        if outbox is None:
            return document
        await _all_of(
            *(
                self.set_supply(
                    self._ids.of_supply(name.id, document.step, change.sku),
                    Supply(name.id, change.open, change.expected_ms, change.kind),
                    sku=change.sku,
                    location=change.location,
                    received=change.received,
                )
                for change in outbox.supplies
            )
        )
        movements = [_as_movement(name, document, moving) for moving in outbox.movements]
        results = await self.record_many(movements, caller=CALLER) if movements else []
        uncovered = list(document.uncovered)
        for moving, result in zip(outbox.movements, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            uncovered += [Broken(moving.sku, one.reservation, one.quantity) for one in result.uncovered]
        return replace(document, outbox=None, uncovered=tuple(uncovered))

    # ---------------------------------------------------------------- steps

    async def _take_document_step(
        self, name: Name, verb: str, operation: bytes, mark: bytes, decide: Decide
    ) -> tuple[Document, bool]:
        """Takes a step and sees to its effects; the document, and whether this is an earlier answer.

        Without an operation id nothing is remembered: such a step is idempotent by the document's state.
        """
        bound = (
            nullcontext()
            if not is_remembered(operation)
            else self.baskets.bound(operation, mark, name.partition)
        )
        async with bound:
            stored, is_replay = await self._decide_step(name, operation, mark, decide)
        self.metrics.count(verb, Outcome.REPLAYED if is_replay else Outcome.SAVED)
        if is_replay:
            return await self._drive(name, stored.document), True
        if stored.is_pending:
            return await self._deliver(name, stored), False
        return stored.document, False

    async def _decide_step(
        self, name: Name, operation: bytes, mark: bytes, decide: Decide
    ) -> tuple[Stored, bool]:
        for _ in range(ATTEMPTS):
            stored, memory, now_ms = await self._read_document(name, operation)
            if stored is not None and stored.is_pending:
                await self._deliver(name, stored)
                continue
            if memory:
                if memory[0] != _MEMORY_KIND or memory[_MARK] != mark:
                    raise _mismatch()
                return Stored(0, is_pending=False, document=self.decode_document(memory[_CONTENT_AT:])), True
            changed = decide(stored.document if stored else None, now_ms)
            if changed is None:
                assert stored is not None
                return stored, False
            saved = await self.save_document(name, changed, stored, operation=operation, mark=mark)
            if saved is not None:
                version = stored.version if stored else 0
                return Stored(version + 1, changed.outbox is not None, changed), False
        raise Overloaded(f"{name.public}: others change it all the time")

    async def _read_document(
        self, name: Name, operation: bytes = NO_OPERATION
    ) -> tuple[Stored | None, bytes, int]:
        """A document, what is remembered of an operation, and the time."""
        now_ms, _, _, (_, raw, memory) = await self.dataset.commands[name.partition].find_document(
            name.id, operation
        )
        return (self._read_stored(raw) if raw else None), memory, now_ms

    def _read_stored(self, raw: bytes) -> Stored:
        version, is_pending, content = split_document(raw)
        return Stored(version, is_pending, self.decode_document(content))

    async def _find_document(self, name: Name, kind: type[_Kind]) -> _Kind | None:
        stored, _, _ = await self._read_document(name)
        return stored.document if stored is not None and isinstance(stored.document, kind) else None

    # ---------------------------------------------------------------- lists

    async def _page_documents(
        self,
        prefix: bytes,
        show: Callable[[Name, Document], _Shown | None],
        *,
        after: Spot | None,
        limit: int,
        partitions: Sequence[int] | None = None,
    ) -> Page[_Shown]:
        """Those documents of a prefix that are shown, the newest first. Where few of them are, the page ends
        early. Cost: reads what is shown, one more, and what is left out.
        """
        asked = range(self._partitions) if partitions is None else partitions
        walk = Walk(self.dataset.topology, asked, prefix, after, limit)
        # A task of its own: the client needs one, and a caller may step us without (`api/protocol.py`).
        return await asyncio.get_running_loop().create_task(self._read_page(walk, show, limit))

    async def _read_page(
        self, walk: Walk, show: Callable[[Name, Document], _Shown | None], limit: int
    ) -> Page[_Shown]:
        await walk.begin()
        found: list[tuple[Spot, _Shown]] = []
        count = limit + 1
        while len(found) <= limit and walk.looked_at < MOST_LOOKED_AT and not walk.is_over:
            for (spot, partition, own), raw in await walk.take(min(count, AT_ONCE)):
                shown = show(Name(partition, own, spot.id), self._read_stored(raw).document)
                if shown is not None:
                    found.append((spot, shown))
            count = AT_ONCE
        items = [shown for _, shown in found[:limit]]
        if len(found) > limit:
            return Page(items, found[limit - 1][0])
        return Page(items, None if walk.is_over else walk.last)

    # ---------------------------------------------------------------- forgetting

    async def forget_documents(self, partition: int, now_ms: int) -> int:
        """Forgets the first documents of a partition that ended long ago; how many. Raises `Unavailable`,
        `Unconfirmed`.
        """
        keep_ms = max(limits.DOCUMENT_SECONDS, self.dataset.retention_seconds) * 1000
        last_ms = now_ms - keep_ms
        (found,) = await self.dataset.topology.read_at_once(
            ("ZRANGE", keys.ended(partition), 0, last_ms, "BYSCORE", "LIMIT", 0, limits.TRIM_DOCUMENTS)
        )
        gone = await asyncio.gather(
            *(self._forget_document(Name(partition, own, own.hex())) for own in cast("list[bytes]", found))
        )
        return sum(gone)

    async def _forget_document(self, name: Name) -> int:
        stored, _, _ = await self._read_document(name)
        if stored is None:
            return 0
        entries = stored.document.entries(name.id)
        commands = self.dataset.commands[name.partition]
        _, _, _, gone = await commands.forget_document(name.id, stored.version, entries)
        return int(gone)


def split_document(raw: bytes) -> tuple[int, bool, bytes]:
    """Version, whether effects are to follow, and content of a document as it is stored."""
    version = int.from_bytes(raw[:_VERSION_SIZE], "little")
    return version, raw[_VERSION_SIZE] == 1, raw[_VERSION_SIZE + 1 :]


def take_over(document: Document | None, made: Document) -> Document | None:
    """What the request that makes a document makes of one that is there. Its operation id is the document's,
    and so is known for as long as that. Raises `IdempotencyMismatch`.
    """
    if document is None:
        return made
    if document.mark != made.mark:
        raise _mismatch()
    return None


def _mismatch() -> IdempotencyMismatch:
    return IdempotencyMismatch("this operation id was used before, with other content")


def _as_movement(name: Name, document: Document, moving: Moving) -> Movement:
    own = f"{name.id.hex()}.{document.step}.{moving.location}.{moving.sku}"
    if moving.quantity > 0:
        kind, reason = MovementKind.RECEIVE, None
    else:
        kind, reason = MovementKind.ADJUST, "transfer"
    return Movement(own, kind, moving.sku, moving.location, moving.quantity, reason, document.reference)


async def _all_of(*waiting: Awaitable[object]) -> None:
    """Waits for all, then raises what the first raised that failed."""
    for result in await asyncio.gather(*waiting, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
