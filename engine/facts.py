"""Facts: goods that came, went or were found to differ, counts, and what happened to a position."""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from secrets import token_hex
from typing import NamedTuple, cast

from msgspec import Struct
from msgspec.structs import replace

from engine import keys, moves, planner, refusals
from engine.commands import Answered, Reply
from engine.errors import (
    InvalidRequest,
    Refused,
    ReservationNotFound,
    Unavailable,
)
from engine.events import Counted, Event, Moved, Opening, Resolved, decode_entry, parse_version
from engine.ids import fingerprint, parse_reservation_id
from engine.keys import partition_of
from engine.lane import Answer
from engine.moves import Member
from engine.outcomes import Outcome
from engine.records import is_reservation
from engine.reservations import Reservations
from engine.types import Count, Happening, Movement, MovementResult

MAX_PAGE = 1000
SET = "set"
NO_STATE = "-"
"""What no position is like: only a repeat succeeds under it."""


class _Fact(NamedTuple):
    """A fact as it is sent. `label` counts it in the metrics, `subject` names it in a refusal."""

    label: str
    subject: str
    operation: bytes
    mark: bytes
    partition: int
    argument: bytes
    submit: Callable[[bytes], Answered]
    reservation: str | None = None


class HistoryPage(Struct, frozen=True):
    """A part of a position's history, the newest first; `cursor` leads to what is older, if there is more."""

    happenings: Sequence[Happening]
    cursor: str | None


class Facts(Reservations):
    """The part of `Inventory` that records what has happened to goods."""

    async def record(self, movement: Movement, *, caller: str = "") -> MovementResult:
        """Records a fact. Raises `InvalidRequest`, `LocationNotFound`, `IdempotencyMismatch`,
        `QuantityOutOfRange`, `ReservationNotFound`; never for lack of stock.
        """
        return await self._tell(self._prepare_movement(movement, caller))

    async def record_many(
        self, movements: Sequence[Movement], *, caller: str = ""
    ) -> list[MovementResult | BaseException]:
        """Facts, those of one SKU in the order given; for each what `record` would return or raise.

        Where a fact has another fate than its neighbours (a partition that moves), it may come
        after those that follow it. Raises `InvalidRequest`, and then none is recorded.
        """
        return await self._tell_many([self._prepare_movement(movement, caller) for movement in movements])

    async def count(self, count: Count, *, caller: str = "") -> MovementResult:
        """Records a count. Raises what `record` does."""
        return await self._tell(self._prepare_count(count, caller))

    async def count_many(
        self, counts: Sequence[Count], *, caller: str = ""
    ) -> list[MovementResult | BaseException]:
        """Counts in the order given; for each what `count` would return or raise. Raises as `record_many`."""
        return await self._tell_many([self._prepare_count(count, caller) for count in counts])

    async def set_on_hand(
        self,
        sku: str,
        location: str,
        quantity: int,
        *,
        expected: str | None,
        reason: str | None = None,
        op_id: str | None = None,
        caller: str = "",
    ) -> MovementResult:
        """Sets a position's on_hand as of now, if its `state` still is the expected one; None is any, also
        that of a position that does not exist yet, `NO_STATE` none.

        Raises `VersionMismatch` and what `record` does.
        """
        planner.check_sku(sku, "/sku")
        planner.check_location(location, "/location")
        moves.check_counted(quantity)
        name = token_hex(16) if op_id is None else op_id
        detail = moves.Detail(SET, reason, None, None, op_id)
        content = moves.encode_set(expected or "", quantity, sku, location, detail)
        fact = self._prepare_fact(SET, name, sku, location, content, caller)
        mark = fingerprint(moves.encode_set("", quantity, sku, location, detail))
        return await self._tell(fact._replace(mark=mark, argument=moves.frame(fact.operation, mark, content)))

    async def history(self, sku: str, location: str, *, limit: int, cursor: str | None = None) -> HistoryPage:
        """What happened to a position, newest first. Raises `InvalidRequest`, `StorageUnavailable`.

        Cost: one entry of the ledger for each line.
        """
        planner.check_sku(sku, "/sku")
        planner.check_location(location, "/location")
        name, partition = moves.position_name(sku, location), partition_of(sku, self._partitions)
        newest = b"(" + (name + b"\xff" if cursor is None else name + _read_cursor(cursor))
        key = keys.moves(partition)
        packed = await self._read(
            ("ZRANGE", key, newest, b"[" + name, "BYLEX", "REV", "LIMIT", 0, min(limit, MAX_PAGE) + 1)
        )
        members = [moves.decode_member(member) for member in cast("list[bytes]", packed[0])]
        page = members[:limit]
        events = await self._read_events(partition, page)
        told = [tell_happening(member, event) for member, event in zip(page, events, strict=True)]
        return HistoryPage(told, _cursor(page[-1]) if len(members) > limit else None)

    async def conditions(self, sku: str, locations: Sequence[str]) -> dict[str, dict[str, int]]:
        """The unsellable units of positions by condition."""
        if not locations:
            return {}
        key = keys.conditions(partition_of(sku, self._partitions))
        names = [moves.position_name(sku, location) for location in locations]
        (found,) = await self._read(("HMGET", key, *names))
        return {
            location: {name: units for name, units in moves.decode_conditions(raw).items() if units > 0}
            for location, raw in zip(locations, cast("list[bytes | None]", found), strict=True)
            if raw is not None
        }

    # ---------------------------------------------------------------- sending

    def _prepare_movement(self, movement: Movement, caller: str) -> _Fact:
        moves.check_movement(movement)
        content = moves.encode_movement(movement)
        label, (sku, location) = movement.kind.value, (movement.sku, movement.location)
        return self._prepare_fact(label, movement.id, sku, location, content, caller, movement.reservation)

    def _prepare_count(self, count: Count, caller: str) -> _Fact:
        moves.check_count(count)
        content = moves.encode_count(count)
        return self._prepare_fact("count", count.id, count.sku, count.location, content, caller)

    def _prepare_fact(
        self,
        label: str,
        name: str,
        sku: str,
        location: str,
        content: bytes,
        caller: str,
        reservation: str | None = None,
    ) -> _Fact:
        partition = partition_of(sku, self._partitions)
        commands = self.dataset.commands[partition]
        operation, mark = self._ids.of_movement(caller, name), fingerprint(content)
        submit = commands.record_count if label in {SET, "count"} else commands.movement
        subject = f"{label} {name}: {sku} at {location}"
        argument = moves.frame(operation, mark, content)
        return _Fact(label, subject, operation, mark, partition, argument, submit, reservation)

    async def _tell(self, fact: _Fact) -> MovementResult:
        (result,) = await self._tell_many((fact,))
        if isinstance(result, BaseException):
            raise result
        return result

    async def _tell_many(self, facts: Sequence[_Fact]) -> list[MovementResult | BaseException]:
        """Records facts; of each the result or what it raises."""
        raised: Sequence[BaseException | None] = [None] * len(facts)
        if any(fact.reservation for fact in facts):
            raised = await self._before(facts, raised, self._find_reservation)
        if self._partitions > 1:
            # All first: each bond has a way of its own, and the facts leave in order.
            raised = await self._before(facts, raised, self._bind)
        sent = [self._send_fact(fact) for fact, error in zip(facts, raised, strict=True) if error is None]
        results = iter(await asyncio.gather(*sent, return_exceptions=True))
        return [next(results) if error is None else error for error in raised]

    async def _before(
        self,
        facts: Sequence[_Fact],
        raised: Sequence[BaseException | None],
        step: Callable[[_Fact], Awaitable[None]],
    ) -> list[BaseException | None]:
        """Takes a step for each fact that has raised nothing yet."""
        steps = [step(fact) for fact, error in zip(facts, raised, strict=True) if error is None]
        results = iter(await asyncio.gather(*steps, return_exceptions=True))
        return [next(results) if error is None else error for error in raised]

    async def _find_reservation(self, fact: _Fact) -> None:
        """Raises `ReservationNotFound` where a fact names one that nobody knows (any more)."""
        parsed = parse_reservation_id(fact.reservation) if fact.reservation else None
        if parsed is None:
            return
        route, operation = parsed
        _, epoch, _, (seq, raw) = await self.dataset.commands[route % self._partitions].find(operation)
        if not raw or not is_reservation(raw):
            raise ReservationNotFound(
                f"{fact.subject}: there is no reservation {fact.reservation}", version=f"{epoch}.{seq}"
            )

    async def _bind(self, fact: _Fact) -> None:
        await self.baskets.bind(fact.operation, fact.mark, fact.partition)

    async def _send_fact(self, fact: _Fact) -> MovementResult:
        """Records a fact whose id is bound. Raises what `record` does."""
        try:
            return self._recorded(fact, await fact.submit(fact.argument))
        except (Refused, Unavailable):
            await self.baskets.unbind(fact.operation, fact.mark, fact.partition)
            raise

    def _recorded(self, fact: _Fact, answered: tuple[int, int, int, Answer]) -> MovementResult:
        """What became of a fact. Raises the refusal."""
        now_ms, epoch, seq, answer = answered
        if type(answer) is bytes:
            self.metrics.count(fact.label, Outcome.RECORDED)
            return moves.decode_result(answer)
        if answer[0] == b"replayed":
            self.metrics.count(fact.label, Outcome.REPLAYED)
            return moves.decode_result(answer[1], replayed=True)
        raise refusals.plain_refusal(Reply(now_ms, epoch, seq, answer), fact.subject)

    # ---------------------------------------------------------------- reading

    async def _read(self, *requests: Sequence[str | bytes | int]) -> list[object]:
        # A task of its own: the client needs one, and a caller may step us without (`api/protocol.py`).
        reading = self.dataset.topology.read_at_once(*requests)
        return await asyncio.get_running_loop().create_task(reading)

    async def _read_events(self, partition: int, members: Sequence[Member]) -> list[Event | None]:
        """The events that members of the history point to; None where the ledger does not have one."""
        if not members:
            return []
        log = keys.log(partition)
        starts = dict.fromkeys(f"{member.epoch}-{member.seq}" for member in members)
        replies = await self._read(*(("XRANGE", log, start, "+", "COUNT", 1) for start in starts))
        found: dict[tuple[int, int], Event] = {}
        for reply in replies:
            for entry, fields in cast("list[tuple[bytes, dict[bytes, bytes]]]", reply):
                for event in decode_entry(partition, parse_version(entry.decode()), fields[b"e"]):
                    found[event.epoch, event.seq] = event
        return [found.get((member.epoch, member.seq)) for member in members]


def tell_happening(member: Member, event: Event | None) -> Happening:
    """A line of a history, given the event that its member points to."""
    version = f"{member.epoch}.{member.seq}"
    told = Happening("unknown", None, member.units, None, member.occurred_ms, None, version)
    if isinstance(event, Opening):
        return event.find_row(member) or told
    if isinstance(event, Resolved):
        return replace(
            told,
            kind="fulfil",
            effect=member.units,
            recorded_ms=event.at_ms,
            reservation=event.reservation,
        )
    if not isinstance(event, (Moved, Counted)):
        return told
    quantity, detail = member.units, event.read_detail()
    if isinstance(event, Counted):
        quantity = event.quantity
    elif not quantity:
        quantity = event.moved
    return Happening(
        detail.kind,
        detail.id,
        quantity,
        moves.decode_result(event.result).effect,
        member.occurred_ms,
        event.at_ms,
        version,
        detail.reason,
        detail.reference,
        detail.condition,
        detail.to_condition,
        detail.reservation,
    )


def _cursor(last: Member) -> str:
    tail = last.packed[len(last.name) :]
    return urlsafe_b64encode(tail).decode().rstrip("=")


def _read_cursor(text: str) -> bytes:
    try:
        tail = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError as error:
        raise InvalidRequest("?cursor", "use next_cursor of the page before") from error
    if len(tail) != moves.TAIL_SIZE or urlsafe_b64encode(tail).decode().rstrip("=") != text:
        raise InvalidRequest("?cursor", "use next_cursor of the page before")
    return tail
