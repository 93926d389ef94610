"""Transfers: goods that go from one location to another, and may be on their way for a while.

Shipped units are off the source's on_hand and inbound at the target; receipts turn them into on_hand there.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from engine import limits, planner
from engine.document_lists import AT_ONCE, Spot
from engine.documents import Document, Documents, Moving, Name, Outbox, Page, SupplyChange, take_over
from engine.errors import AlreadyCancelled, AlreadyClosed, InvalidRequest, NotShipped, TransferNotFound
from engine.ids import (
    NO_FINGERPRINT,
    TRANSFER_PREFIX,
    document_id,
    fingerprint,
    parse_document_id,
    unremembered,
)
from engine.index import entry_prefix
from engine.keys import route_of
from engine.types import Goods, SupplyKind, Transfer, TransferLine, TransferState

_OPEN = frozenset((TransferState.SHIPPED, TransferState.RECEIVING, TransferState.RECEIVED))
"""The states in which goods may come."""
_OVER = frozenset((TransferState.RECEIVED, TransferState.CLOSED, TransferState.CANCELLED))
_EVERY, _BY_STATE = b"t", b"u"
"""Kinds of entries in the index of documents."""
_encode = msgspec.msgpack.Encoder().encode


class TransferDocument(Document, frozen=True, array_like=True, kw_only=True, tag="transfer"):
    """A transfer as it is stored."""

    state: TransferState
    source: str
    target: str
    lines: tuple[TransferLine, ...]
    expected_ms: int | None = None

    @property
    def route(self) -> int:
        return route_of(self.lines[0].sku)

    @property
    def id_prefix(self) -> str:
        return TRANSFER_PREFIX

    @property
    def is_over(self) -> bool:
        return self.state in _OVER

    @property
    def listed_by(self) -> Sequence[bytes]:
        return _EVERY, entry_prefix(_BY_STATE, self.state)


_Decide = Callable[[TransferDocument, int], TransferDocument | None]


class Transfers(Documents):
    """The part of `Inventory` that knows transfers."""

    async def create_transfer(
        self,
        op_id: str,
        *,
        source: str,
        target: str,
        lines: Sequence[Goods],
        expected_ms: int | None = None,
        reference: str | None = None,
        caller: str = "",
    ) -> Transfer:
        """A draft, of which no position knows yet. Lines of one SKU are summed.

        Raises `InvalidRequest`, `LocationNotFound`, `IdempotencyMismatch`.
        """
        planner.check_location(source, "/from")
        planner.check_location(target, "/to")
        if source == target:
            raise InvalidRequest("/to", "another location than the one that the goods come from")
        planner.check_moment(expected_ms, "/expected_at")
        planner.check_reference(reference)
        summed = _sum_goods(lines)
        for location in (source, target):
            await self.location(location)
        operation = self._ids.of_request(caller, op_id)
        route = route_of(lines[0].sku)
        mark = fingerprint(_encode(("transfer", source, target, tuple(lines), expected_ms, reference)))
        name = Name(route % self._partitions, operation, document_id(TRANSFER_PREFIX, route, operation))
        made = [TransferLine(sku, quantity) for sku, quantity in summed.items()]

        def decide(document: Document | None, now_ms: int) -> Document | None:
            return take_over(
                document,
                TransferDocument(
                    mark=mark,
                    created_ms=now_ms,
                    reference=reference,
                    state=TransferState.DRAFT,
                    source=source,
                    target=target,
                    lines=tuple(made),
                    expected_ms=expected_ms,
                ),
            )

        document, replayed = await self._take_document_step(name, "create_transfer", operation, mark, decide)
        return _as_transfer(name, _transfer_of(name, document), replayed=replayed)

    async def ship_transfer(self, transfer: str, *, op_id: str | None = None, caller: str = "") -> Transfer:
        """The goods leave the source: a fact, never refused for stock. A repeat does nothing.

        Raises `TransferNotFound`, `AlreadyCancelled`, `IdempotencyMismatch`.
        """
        return await self._step_transfer(transfer, "ship_transfer", (op_id, caller), ship)

    async def receive_transfer(
        self,
        transfer: str,
        lines: Sequence[Goods] | None = None,
        *,
        close: bool = False,
        op_id: str | None = None,
        caller: str = "",
    ) -> Transfer:
        """Goods came to the target: all that are open, or those of the lines, which may be more. With `close`
        no more will come. With lines an operation id is needed: a repeat would be another receipt.

        Raises `InvalidRequest`, `TransferNotFound`, `NotShipped`, `AlreadyClosed`, `AlreadyCancelled`,
        `IdempotencyMismatch`.
        """
        received = None if lines is None else _sum_goods(lines)

        def decide(document: TransferDocument, now_ms: int) -> TransferDocument | None:
            return receive(document, now_ms, received=received, close=close)

        content = (tuple(lines) if lines is not None else None, close)
        return await self._step_transfer(transfer, "receive_transfer", (op_id, caller), decide, content)

    async def cancel_transfer(self, transfer: str, *, op_id: str | None = None, caller: str = "") -> Transfer:
        """Ends it: what was shipped and did not come goes back to the source.

        Raises `TransferNotFound`, `AlreadyClosed`, `IdempotencyMismatch`.
        """
        return await self._step_transfer(transfer, "cancel_transfer", (op_id, caller), cancel)

    async def transfer(self, transfer: str) -> Transfer:
        """A transfer. Raises `TransferNotFound`."""
        name = self._transfer_name(transfer)
        return _as_transfer(name, _transfer_of(name, await self._find_document(name, TransferDocument)))

    async def transfers(self, *, state: TransferState | None = None) -> list[Transfer]:
        """All transfers, or those in a state, the newest first. Cost: reads all of them."""
        page = await self.transfer_page(state=state, limit=AT_ONCE)
        found = page.items
        while page.next is not None:
            page = await self.transfer_page(state=state, after=page.next, limit=AT_ONCE)
            found += page.items
        return found

    async def transfer_page(
        self,
        *,
        state: TransferState | None = None,
        chosen: Callable[[Transfer], bool] = lambda _: True,
        after: Spot | None = None,
        limit: int,
    ) -> Page[Transfer]:
        """Some of the transfers, or of those in a state, that are chosen, the newest first. A page goes on
        where the one before ended, whatever came or went since.
        """

        def show(name: Name, document: Document) -> Transfer | None:
            if not isinstance(document, TransferDocument) or state not in {None, document.state}:
                return None
            found = _as_transfer(name, document)
            return found if chosen(found) else None

        prefix = _EVERY if state is None else entry_prefix(_BY_STATE, state)
        return await self._page_documents(prefix, show, after=after, limit=limit)

    async def _step_transfer(
        self,
        transfer: str,
        verb: str,
        asked: tuple[str | None, str],
        decide: _Decide,
        content: object = None,
    ) -> Transfer:
        name, (op_id, caller) = self._transfer_name(transfer), asked
        operation, mark = unremembered(caller), NO_FINGERPRINT
        if op_id is not None:
            operation = self._ids.of_request(caller, op_id)
            mark = fingerprint(_encode((verb, transfer, content)))

        def step(document: Document | None, now_ms: int) -> Document | None:
            return decide(_transfer_of(name, document), now_ms)

        document, replayed = await self._take_document_step(name, verb, operation, mark, step)
        return _as_transfer(name, _transfer_of(name, document), replayed=replayed)

    def _transfer_name(self, transfer: str) -> Name:
        routed = parse_document_id(TRANSFER_PREFIX, transfer)
        if routed is None:
            raise not_found(transfer)
        return Name(routed[0] % self._partitions, routed[1], transfer)


# -------------------------------------------------------------------- steps


def ship(document: TransferDocument, now_ms: int) -> TransferDocument | None:
    """The goods leave the source. Raises `AlreadyCancelled`."""
    if document.state is TransferState.CANCELLED:
        raise AlreadyCancelled("the transfer was cancelled")
    if document.state is not TransferState.DRAFT:
        return None
    expected_ms = now_ms if document.expected_ms is None else document.expected_ms
    shipped = replace(document, expected_ms=expected_ms)
    supplies = [_expect(shipped, line, line.quantity, 0) for line in document.lines]
    movements = [Moving(line.sku, document.source, -line.quantity) for line in document.lines]
    return _step(shipped, TransferState.SHIPPED, document.lines, supplies, movements)


def receive(
    document: TransferDocument, _: int, *, received: Mapping[str, int] | None, close: bool
) -> TransferDocument | None:
    """Goods came: those that are named, or all that are open. Raises what refuses it."""
    if document.state is TransferState.DRAFT:
        raise NotShipped("the transfer was not shipped")
    if document.state is TransferState.CANCELLED:
        raise AlreadyCancelled("the transfer was cancelled")
    if document.state not in _OPEN:
        if received is None:
            return None
        raise AlreadyClosed("the transfer is closed")
    known = {line.sku for line in document.lines}
    for index, sku in enumerate(received or ()):
        if sku not in known:
            raise InvalidRequest(f"/lines/{index}/sku", "the transfer has no line of this SKU")
    supplies, movements, lines = [], [], []
    for line in document.lines:
        came = open_units(line) if received is None else received.get(line.sku, 0)
        after = replace(line, received=line.received + came)
        left = 0 if close else open_units(after)
        if left != open_units(line):
            supplies.append(_expect(document, line, left, came))
        if came:
            movements.append(Moving(line.sku, document.target, came))
        lines.append(after)
    if not any(map(open_units, lines)):
        state = TransferState.RECEIVED
    else:
        state = TransferState.CLOSED if close else TransferState.RECEIVING
    if not movements and state is document.state:
        return None
    return _step(document, state, lines, supplies, movements)


def cancel(document: TransferDocument, _: int) -> TransferDocument | None:
    """What is on its way goes back. Raises `AlreadyClosed`."""
    if document.state is TransferState.CANCELLED:
        return None
    if document.state in {TransferState.RECEIVED, TransferState.CLOSED}:
        raise AlreadyClosed("the transfer has ended")
    if document.state is TransferState.DRAFT:
        return _step(document, TransferState.CANCELLED, document.lines, [], [])
    on_way = [line for line in document.lines if open_units(line)]
    supplies = [_expect(document, line, 0, 0) for line in on_way]
    movements = [Moving(line.sku, document.source, open_units(line)) for line in on_way]
    lines = [replace(line, returned=open_units(line)) for line in document.lines]
    return _step(document, TransferState.CANCELLED, lines, supplies, movements)


def open_units(line: TransferLine) -> int:
    """Units that did not come yet."""
    return max(0, line.quantity - line.received)


def _expect(document: TransferDocument, line: TransferLine, left: int, came: int) -> SupplyChange:
    assert document.expected_ms is not None
    return SupplyChange(line.sku, document.target, left, came, document.expected_ms, SupplyKind.TRANSFER)


def _step(
    document: TransferDocument,
    state: TransferState,
    lines: Sequence[TransferLine],
    supplies: Sequence[SupplyChange],
    movements: Sequence[Moving],
) -> TransferDocument:
    outbox = Outbox(tuple(supplies), tuple(movements)) if supplies or movements else None
    return replace(document, step=document.step + 1, state=state, lines=tuple(lines), outbox=outbox)


def _sum_goods(lines: Sequence[Goods]) -> dict[str, int]:
    """Units of each SKU. Raises `InvalidRequest`."""
    if not 1 <= len(lines) <= limits.MAX_LINES:
        raise InvalidRequest("/lines", f"1 to {limits.MAX_LINES} lines")
    summed: dict[str, int] = {}
    for index, line in enumerate(lines):
        planner.check_sku(line.sku, f"/lines/{index}/sku")
        planner.check_quantity(line.quantity, f"/lines/{index}/quantity")
        summed[line.sku] = summed.get(line.sku, 0) + line.quantity
        planner.check_quantity(summed[line.sku], f"/lines/{index}/quantity")
    return summed


def _transfer_of(name: Name, document: Document | None) -> TransferDocument:
    if not isinstance(document, TransferDocument):
        raise not_found(name.public)
    return document


def _as_transfer(name: Name, document: TransferDocument, *, replayed: bool = False) -> Transfer:
    return Transfer(
        name.public,
        document.state,
        document.source,
        document.target,
        document.lines,
        document.expected_ms,
        document.reference,
        document.created_ms,
        document.uncovered,
        replayed,
    )


def not_found(transfer: str) -> TransferNotFound:
    return TransferNotFound(f"there is no transfer {transfer[:64]}")
