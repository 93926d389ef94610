"""Reservations that change: the part of `Inventory` that gives them other lines."""

import asyncio
from collections.abc import Collection, Sequence
from time import monotonic

from engine import planner, rearranging
from engine.commands import Replan, Reply
from engine.errors import InvalidRequest, Refused, Unavailable
from engine.ids import NO_FINGERPRINT, fingerprint, unremembered
from engine.lifecycle import OPEN_STATES, units_of
from engine.outcomes import Outcome
from engine.rearranging import Arrange, Change
from engine.records import (
    KIND_BASKET,
    Plan,
    Record,
    Undecided,
    build_reservation,
    decode_record,
    decode_tail,
    encode_plan,
    is_reservation,
)
from engine.reservations import Known, Reservations, not_found
from engine.sourcing_plan import units_of_line
from engine.sweep import sweep
from engine.types import Line, Move, Reservation, State

PAUSE_SECONDS = 0.0001
"""So long, times a number of its own, a change waits that meets another one of the same basket."""


class Changes(Reservations):
    """The part of `Inventory` that gives reservations other lines."""

    async def move(
        self, reservation: str, moves: Sequence[Move], *, op_id: str, caller: str = ""
    ) -> Reservation:
        """Units that are held or committed go to other locations, all of them or none; they stay what they
        are. Of a kit its components go.

        Raises as `commit` does, `SkuNotFound`, `NotStocked`, `LocationNotFound`. Cost: two script calls, and
        two more for each partition where it lies in several.
        """
        rearranging.check_moves(moves)
        content = "\0".join(f"{m.sku}\0{m.source}\0{m.target}\0{m.quantity}" for m in moves).encode()
        settings = await self.settings.current()
        parts = [
            Move(sku, move.source, move.target, quantity)
            for index, move in enumerate(moves)
            for sku, quantity in units_of_line(move.sku, move.quantity, settings, f"/lines/{index}")
        ]
        return await self._change(
            "move", reservation, op_id, caller, content, lambda record, _: rearranging.moved(record, parts)
        )

    async def replace_lines(
        self,
        reservation: str,
        lines: Sequence[Line],
        *,
        op_id: str | None = None,
        caller: str = "",
        asked: bytes | None = None,
    ) -> Reservation:
        """A hold gets other lines in one step, or stays as it is; what it has already counts for it, and what
        is no longer named is given back. Its deadline stays. For a kit it gets
        the components. Raises as `move` does, and `AlreadyCommitted` or
        `AlreadyFulfilled` where anything of it was. `asked` is what the operation id stands for where that is
        not these lines.
        """
        planner.check_lines(lines)
        content = asked or content_of(lines)
        settings = await self.settings.current()
        parts = [
            Line(sku, quantity, line.location)
            for index, line in enumerate(lines)
            for sku, quantity in units_of_line(line.sku, line.quantity, settings, f"/lines/{index}")
        ]
        return await self._change(
            "replace",
            reservation,
            op_id,
            caller,
            content,
            lambda record, _: rearranging.replaced(record, parts),
        )

    async def _change(
        self,
        verb: str,
        reservation: str,
        op_id: str | None,
        caller: str,
        content: bytes,
        arrange: Arrange,
        *,
        is_short: bool = False,
    ) -> Reservation:
        """Works a change out of the record as it is and makes it, unless the record has changed meanwhile:
        then once more. With `is_short` the positions that lose committed units are to be counted.
        """
        partition, name = self._route(reservation)
        operation, mark = unremembered(caller), NO_FINGERPRINT
        if op_id is not None:
            operation = self._ids.of_request(caller, op_id)
            mark = fingerprint(b"\0".join((verb.encode(), name, content)))
        commands, rounds = self.dataset.commands[partition], 0
        while True:
            now_ms, epoch, seq, (_, raw) = await commands.find(name)
            record = decode_record(raw) if is_reservation(raw) else None
            if record is None or isinstance(record.head.state, Undecided):
                raise not_found(reservation)
            change, refusal = _work_out(arrange, record, now_ms, f"{epoch}.{seq}")
            if refusal is not None and op_id is None:
                raise refusal
            if change is not None and self._is_apart(record, change, partition):
                done = await self._replan_apart(verb, reservation, record, change, operation, mark)
                if done is not None:
                    return done
                # Whoever changes the same basket waits for another time.
                await asyncio.sleep(rounds * PAUSE_SECONDS * change.plan.packed[-1])
                rounds += 1
                continue
            asked = _ask(name, record, change, operation, mark, is_short=is_short)
            done = await self._replan(verb, reservation, asked, change, partition)
            if done is not None:
                return done
            if refusal is not None:
                raise refusal
            if change is None and record.head.state in OPEN_STATES:
                return build_reservation(reservation, record.head, record.plan, record.detail, replayed=True)

    def _is_apart(self, record: Record, change: Change, partition: int) -> bool:
        """Whether other partitions must have a part in a change."""
        if self._partitions == 1:
            return False
        if change.plan.packed == record.plan.packed:
            # Of the same lines more may be open than were: of those that were given back.
            before = units_of(record.head, record.plan.packed)
            return record.kind == KIND_BASKET and any(
                now[0] + now[1] > was[0] + was[1] for now, was in zip(change.units, before, strict=True)
            )
        return record.kind == KIND_BASKET or self.baskets.is_apart(change.plan, partition)

    async def _replan_apart(
        self, verb: str, reservation: str, record: Record, change: Change, operation: bytes, mark: bytes
    ) -> Reservation | None:
        """Changes the lines of a basket over several partitions: see `engine.offers`. None where the change
        must be worked out anew. Raises the refusal.
        """
        partition, name = self._route(reservation)
        if mark is NO_FINGERPRINT:
            return await self._replanned_apart(verb, reservation, record, change, operation, mark)
        async with self.baskets.bound(operation, mark, partition):
            known = _ask(name, record, None, operation, mark, is_short=False)
            done = await self._replanned(verb, reservation, known, None, partition)
            if done is None:
                done = await self._replanned_apart(verb, reservation, record, change, operation, mark)
        if done is None:
            await self.baskets.unbind(operation, mark, partition)
        return done

    async def _replanned_apart(
        self, verb: str, reservation: str, record: Record, change: Change, operation: bytes, mark: bytes
    ) -> Reservation | None:
        partition, name = self._route(reservation)
        if record.kind != KIND_BASKET:
            await self.baskets.spread(name, record)
            return None
        done: Reservation | None = None
        try:
            refusal, is_over = await self.baskets.offer(name, record, change)
            if refusal is not None:
                raise await self._refusal(verb, refusal, change.plan, change.shares)
            if not is_over:
                asked = _ask(name, record, change, operation, mark, is_short=False, is_offered=True)
                also = self.baskets.touched(record.plan.positions)
                done = await self._replanned(verb, reservation, asked, change, partition, also)
        except (Refused, Unavailable):
            await self.baskets.withdraw(name, record, change)
            raise
        if done is None:
            await self.baskets.withdraw(name, record, change)
        return done

    async def _replan(
        self, verb: str, reservation: str, asked: Replan, change: Change | None, partition: int
    ) -> Reservation | None:
        """What became of a change; None where it must be worked out anew. Raises the refusal."""
        if asked.fingerprint is NO_FINGERPRINT or self._partitions == 1:
            return await self._replanned(verb, reservation, asked, change, partition)
        async with self.baskets.bound(asked.operation, asked.fingerprint, partition):
            done = await self._replanned(verb, reservation, asked, change, partition)
        if done is None:
            await self.baskets.unbind(asked.operation, asked.fingerprint, partition)
        return done

    async def _replanned(
        self,
        verb: str,
        reservation: str,
        asked: Replan,
        change: Change | None,
        partition: int,
        also: Collection[int] = (),
    ) -> Reservation | None:
        answered = await self.dataset.commands[partition].replan(asked)
        answer = answered[3]
        if type(answer) is bytes:
            assert change is not None, "without other lines nothing is changed"
            head = decode_tail(answer)
            self.metrics.count(verb, Outcome.REPLANNED)
            self._known.pop(reservation, None)
            known = Known(
                partition,
                self._route(reservation)[1],
                head.revision,
                change.plan,
                change.detail,
                monotonic(),
                answered[1],
                asked.is_basket,
            )
            if head.state is State.HELD:
                self._remember(reservation, known)
            await self._tell_parts(verb, reservation, known, head, also)
            return build_reservation(reservation, head, change.plan, change.detail)
        if answer[0] == b"replayed":
            self.metrics.count(verb, Outcome.REPLAYED)
            return planner.replayed_reservation(reservation, answer[1], decode_record(answer[2]))
        if answer == [b"stale"]:
            return None
        if answer == [b"overdue"]:
            await sweep(self.dataset.commands[partition])
            return None
        plan = Plan((), b"") if change is None else change.plan
        raise await self._refusal(verb, Reply(*answered), plan, () if change is None else change.shares)


def content_of(lines: Sequence[Line]) -> bytes:
    """What an operation id stands for that is about these lines."""
    return "\0".join(f"{line.sku}\0{line.location}\0{line.quantity}" for line in lines).encode()


def _work_out(
    arrange: Arrange, record: Record, now_ms: int, version: str
) -> tuple[Change | None, Refused | InvalidRequest | None]:
    """What a record becomes, or why it cannot. What is over the script refuses, unless it is a repeat."""
    if record.head.state not in OPEN_STATES:
        return None, None
    try:
        return arrange(record, now_ms), None
    except Refused as error:
        error.version = version
        return None, error
    except InvalidRequest as error:
        return None, error


def _ask(
    name: bytes,
    record: Record,
    change: Change | None,
    operation: bytes,
    mark: bytes,
    *,
    is_short: bool,
    is_offered: bool = False,
) -> Replan:
    """What is asked of the script; of no version where nothing but a repeat can be answered."""
    if change is None:
        return Replan(name, (0, 0), encode_plan(()), (), b"", operation, mark)
    version = record.head.changed_epoch, record.head.changed_seq
    return Replan(
        name,
        version,
        change.plan.packed,
        change.units,
        change.rest,
        operation,
        mark,
        is_short=is_short,
        is_basket=record.kind == KIND_BASKET,
        is_offered=is_offered,
    )
