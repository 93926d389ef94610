"""Reservations over several partitions: all or nothing, though no script sees more than one partition.

The home partition decides, the parts follow. A basket is opened on its home, each partition holds its lines
as a part, and one script on the home turns the basket from pending into held. Every later step is decided on
the basket and then told to the parts; each telling is idempotent. Whoever coordinates may die at any moment:
what it began is finished by any sweeper, through `repair`.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from logging import getLogger
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from engine import limits
from engine.commands import Answered, Commands, Replan, Reply
from engine.errors import IdempotencyMismatch, Refused, StorageUnavailable, Unavailable, Unconfirmed
from engine.ids import basket_id, fingerprint, keeper_of, part_id
from engine.keys import partition_of
from engine.lifecycle import Line as Units
from engine.lifecycle import units_of
from engine.outcomes import Outcome
from engine.records import (
    KIND_BASKET,
    KIND_PART,
    NO_POSITIONS,
    Head,
    Plan,
    Record,
    Terms,
    Undecided,
    decode_record,
    encode_detail,
    encode_plan,
    encode_terms,
    encode_version,
    is_reservation,
)
from engine.sweep import sweep

log = getLogger("bincard.baskets")

PART_ATTEMPTS = 64
"""How often a part is asked for while what has lapsed, or is left of an older attempt, is given back."""
ATTEMPTS = 4
"""How often a basket is sought anew where another caller's attempt for the same operation came to nothing."""
TELLING_SECONDS = 0.25
"""How long a caller waits until the parts have followed; it goes on after that."""
NOTHING: tuple[bytes, Sequence[Units]] = (NO_POSITIONS, ())
"""What a part has of a basket that has no line in its partition."""
GONE = (Unavailable, Unconfirmed)
"""Where a partition did not answer."""
_MISMATCH = [b"idempotency_mismatch"]


class Part(Struct, frozen=True, gc=False):
    """The positions of a plan that lie in one partition, by their index."""

    partition: int
    indexes: tuple[int, ...]


class Sought(Struct, frozen=True):
    """A basket to be held."""

    partition: int
    operation: bytes
    argument: bytes
    plan: Plan
    terms: bytes = b""
    """What its parts know of how it was chosen: `part_terms`."""
    waits: bool = False
    """Whether it may be promised what is inbound."""


class Found(Struct, frozen=True):
    """What became of it: a refusal in the form of a script's, or the record; `is_new` where we decided."""

    reply: Reply
    record: Record | None
    is_new: bool


def part_terms(terms: Terms) -> bytes:
    """What a part knows of a basket's terms: the channel, whose fences its units may come from."""
    return encode_terms(Terms(terms.channel))


def split_plan(plan: Plan, partitions: int) -> list[Part]:
    """The parts of a plan, one for each partition that it touches."""
    found: dict[int, list[int]] = {}
    for index, position in enumerate(plan.positions):
        found.setdefault(partition_of(position.sku, partitions), []).append(index)
    return [Part(partition, tuple(indexes)) for partition, indexes in found.items()]


class Baskets:
    """Coordinates baskets over the partitions of a data set."""

    def __init__(self, commands: Sequence[Commands], retention_seconds: int) -> None:
        self._commands = commands
        self._partitions = len(commands)
        self._retention_ms = retention_seconds * 1000
        self._tasks: set[asyncio.Task[None]] = set()

    def is_apart(self, plan: Plan, home: int) -> bool:
        """Whether a plan has lines in other partitions than that which has the reservation."""
        if self._partitions == 1:
            return False
        return any(partition_of(place.sku, self._partitions) != home for place in plan.positions)

    async def close(self) -> None:
        """Waits for what is being told."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=TELLING_SECONDS)

    # ---------------------------------------------------------------- operation ids

    @asynccontextmanager
    async def bound(
        self, operation: bytes, mark: bytes, partition: int, *, ttl_seconds: int = 0
    ) -> AsyncIterator[None]:
        """Binds an operation id to its content while its effect happens in a partition. Where nothing
        came of it the bond is taken back. Raises `IdempotencyMismatch` where it is bound to other content.
        """
        await self.bind(operation, mark, partition, ttl_seconds=ttl_seconds)
        try:
            yield
        except (Refused, Unavailable):
            await self.unbind(operation, mark, partition)
            raise

    async def bind(self, operation: bytes, mark: bytes, partition: int, *, ttl_seconds: int = 0) -> None:
        """Has the keeper of an id know its content. Raises `IdempotencyMismatch` as `bound` does."""
        keeper = keeper_of(operation, self._partitions)
        if keeper == partition:
            return
        keep_ms = self._retention_ms + ttl_seconds * 1000
        _, _, _, answer = await self._commands[keeper].bind(operation, mark, keep_ms)
        if answer == _MISMATCH:
            raise IdempotencyMismatch("this operation id was used before, with other content")

    async def unbind(self, operation: bytes, mark: bytes, partition: int) -> None:
        """Takes back one bond of an id of which nothing came; it may stay bound where its keeper is away."""
        keeper = keeper_of(operation, self._partitions)
        if keeper != partition:
            with suppress(*GONE):
                await self._commands[keeper].unbind(operation, mark)

    # ---------------------------------------------------------------- holding

    async def seek(self, sought: Sought) -> Found:
        """Holds a basket, or refuses it with every short line named. Raises `Unavailable`, where nothing came
        of it, and `Unconfirmed`.
        """
        for _ in range(ATTEMPTS):
            begun = await self._begin(sought)
            if isinstance(begun, Found):
                return begun
            attempt, opened = begun
            refusal: Reply | None = None
            failure: Exception | None = None
            is_over = False
            try:
                refusal, is_over = await self._hold_parts(attempt, opened)
            except GONE as error:
                failure = error
            if is_over:
                continue
            hold = refusal is None and failure is None
            found = await self._decide(sought, opened, hold=hold)
            if found is None and hold:
                continue
            if found is not None:
                assert found.record is not None
                if found.record.head.state is not Undecided.ABANDONED:
                    return found
                # Its parts are told before the caller hears of it, who may well ask for fewer at once.
                await self.tell_all(sought.operation, found.record)
            if failure is not None:
                if isinstance(failure, Unavailable):
                    raise failure
                raise StorageUnavailable("a partition did not answer; what others held was given back")
            assert refusal is not None
            if attempt.plan.packed != sought.plan.packed:
                continue
            return Found(refusal, None, is_new=False)
        raise StorageUnavailable("other attempts for the same operation came in between")

    async def _begin(self, sought: Sought) -> Found | tuple[Sought, tuple[int, int]]:
        """Opens a basket, or joins whoever seeks it already: what is to be held, and which attempt that is;
        or what became of it before.
        """
        answered = await self._commands[sought.partition].open_basket(
            sought.argument, len(sought.plan.positions)
        )
        _, epoch, _, answer = answered
        if type(answer) is int:
            return sought, (epoch, answer)
        if answer[0] == b"pending":
            # Whoever began it may have chosen other places: what the parts hold must be what its record says.
            record = decode_record(answer[1])
            joined = replace(sought, plan=record.plan, terms=part_terms(record.terms))
            return joined, (record.head.created_epoch, record.head.created_seq)
        was = decode_record(answer[1]) if answer[0] == b"replayed" else None
        return Found(Reply(*answered), was, is_new=False)

    async def _decide(self, sought: Sought, opened: tuple[int, int], *, hold: bool) -> Found | None:
        """None where the attempt is over and nothing came of it."""
        try:
            answered = await self._commands[sought.partition].decide(sought.operation, opened, hold=hold)
        except Unavailable as error:
            raise Unconfirmed("the basket was not decided; repeat with the same id") from error
        answer = answered[3]
        if answer[0] == b"superseded":
            return None
        record = decode_record(answer[1])
        return Found(Reply(*answered), record, is_new=type(answer[0]) is int)

    async def _hold_parts(self, sought: Sought, opened: tuple[int, int]) -> tuple[Reply | None, bool]:
        """Holds all parts. A refusal with the indexes of the whole plan; and whether the attempt is over."""
        parts = split_plan(sought.plan, self._partitions)
        replies = await asyncio.gather(
            *(self._hold_part(sought, part, opened) for part in parts), return_exceptions=True
        )
        for reply in replies:
            if isinstance(reply, BaseException):
                raise reply
        answered = [reply for reply in replies if not isinstance(reply, BaseException)]
        if any(reply.word == "superseded" for reply in answered):
            return None, True
        refused = [
            (part, reply)
            for part, reply in zip(parts, answered, strict=True)
            if reply.word not in {None, "repeated"}
        ]
        return (merge_refusals(refused) if refused else None), False

    async def _hold_part(self, sought: Sought, part: Part, opened: tuple[int, int]) -> Reply:
        commands = self._commands[part.partition]
        plan = encode_plan([sought.plan.positions[index] for index in part.indexes])
        name = part_id(sought.operation, sought.plan.route)
        body = b"".join(
            (
                limits.SEEK_MS.to_bytes(4, "little"),
                sought.plan.route.to_bytes(2, "little"),
                plan,
                encode_version(opened),
                sought.terms,
            )
        )
        behind = b"\1" if sought.waits else b""
        argument = commands.encode_reserve(
            name, fingerprint(body), body, len(part.indexes), kind=KIND_PART, behind=behind
        )
        for _ in range(PART_ATTEMPTS):
            reply = Reply(*await commands.hold_part(argument, len(part.indexes)))
            if reply.word == "overdue":
                await sweep(commands)
            elif reply.word == "stale":
                # It is left of an attempt that was abandoned; nobody has told it yet.
                await commands.follow(name, opened)
            else:
                return reply
        raise StorageUnavailable("what has lapsed in a partition could not be given back in time")

    # ---------------------------------------------------------------- telling

    async def tell(
        self, route: int, operation: bytes, plan: Plan, head: Head, also: Collection[int] = ()
    ) -> None:
        """Lets the parts follow a step that was decided on the basket, those in partitions of which it has no
        line any more `also`. Waits a little for them, and never raises: who could not be told is told by a
        sweeper.
        """
        task = asyncio.get_running_loop().create_task(self._tell_quietly(route, operation, plan, head, also))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task], timeout=TELLING_SECONDS)

    async def _tell_quietly(
        self, route: int, operation: bytes, plan: Plan, head: Head, also: Collection[int]
    ) -> None:
        try:
            await self._tell_units(route, operation, plan, head, also)
        except GONE as error:
            log.warning("a basket's parts follow later: %s", error)

    async def tell_all(self, operation: bytes, record: Record) -> None:
        """Tells the parts what their basket is by now. Those that do not answer a sweeper tells."""
        with suppress(*GONE):
            await self._tell(operation, record)

    async def _tell(self, operation: bytes, record: Record) -> None:
        await self._tell_units(record.route, operation, record.plan, record.head)

    async def _tell_units(
        self, route: int, operation: bytes, plan: Plan, head: Head, also: Collection[int] = ()
    ) -> None:
        """Raises what a partition raised, once all have been asked."""
        version, shares = (head.changed_epoch, head.changed_seq), share_out(head, plan, self._partitions)
        told = [*shares.items(), *((there, NOTHING) for there in also if there not in shares)]
        asked = [
            self._commands[there].follow(part_id(operation, route), version, lines, units)
            for there, (lines, units) in told
        ]
        for (there, (_, some)), answer in zip(told, await _all_of(asked), strict=True):
            # One of which nothing is open may have been forgotten, or never have been held.
            if answer == [b"missing"] and any(held + committed for held, committed, _, _ in some):
                log.error("the part of basket %s in partition %d is missing", operation.hex(), there)
        await self._commands[route % self._partitions].settle(operation, version)

    # ---------------------------------------------------------------- repairing

    async def repair(self, partition: int) -> int:
        """Finishes what others began and did not end; how many baskets and parts were looked at."""
        _, _, _, found = await self._commands[partition].repair(limits.REPAIR_IDS)
        work = [
            self._repair_one(partition, name, decode_record(raw))
            for name, raw in zip(found[::2], found[1::2], strict=True)
        ]
        for result in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result
        return len(work)

    async def _repair_one(self, partition: int, name: bytes, record: Record) -> None:
        if record.kind == KIND_BASKET:
            # One that is pending has a deadline, and is looked at then.
            if record.head.state is not Undecided.PENDING:
                await self._tell(name, record)
            return
        found = await self._ask_home(basket_id(name, record.route), partition, record)
        if found is not None:
            await self._commands[partition].follow(name, *found)

    async def _ask_home(
        self, operation: bytes, partition: int, part: Record
    ) -> tuple[tuple[int, int], bytes, Sequence[Units]] | None:
        """What was decided on a part's basket: its version, and what it has in that partition; None where it
        is not decided yet.
        """
        assert part.follows is not None
        for _ in range(ATTEMPTS):
            _, _, _, (_, raw) = await self._commands[part.route % self._partitions].find(operation)
            if not is_reservation(raw) or raw[0] != KIND_BASKET:
                # It is forgotten, or never was: then it was not held for long.
                epoch, seq = part.follows
                return (epoch, seq + 1), *NOTHING
            basket = decode_record(raw)
            if basket.head.state is Undecided.PENDING:
                return None
            version = basket.head.changed_epoch, basket.head.changed_seq
            if not part.is_offered or version != part.follows:
                shares = share_out(basket.head, basket.plan, self._partitions)
                return version, *shares.get(partition, NOTHING)
            # Whoever offered it more has not come back to decide: from now on it cannot.
            await self._end_offers(operation, basket)
        return None

    async def _end_offers(self, operation: bytes, basket: Record) -> None:
        """Gives a basket another version, unless it has one already: what was offered at this one is void."""
        await self._commands[basket.route % self._partitions].replan(
            Replan(
                operation,
                (basket.head.changed_epoch, basket.head.changed_seq),
                basket.plan.packed,
                units_of(basket.head, basket.plan.packed),
                encode_terms(basket.terms) + encode_detail(basket.detail),
            )
        )


def share_out(head: Head, plan: Plan, partitions: int) -> dict[int, tuple[bytes, Sequence[Units]]]:
    """What each part has of a basket: a packed plan, and the units of its positions."""
    units = units_of(head, plan.packed)
    return {
        part.partition: (
            encode_plan([plan.positions[index] for index in part.indexes]),
            [units[index] for index in part.indexes],
        )
        for part in split_plan(plan, partitions)
    }


async def _all_of(asked: Sequence[Answered]) -> list[Any]:
    """The answers to all; raises the first error once all have answered."""
    replies = await asyncio.gather(*asked, return_exceptions=True)
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return [reply[3] for reply in replies if not isinstance(reply, BaseException)]


def merge_refusals(refused: Sequence[tuple[Part, Reply]]) -> Reply:
    """One refusal of several parts, as if one script had refused them all."""
    order = list(Outcome)
    word = min((Outcome(reply.word or "") for _, reply in refused), key=order.index)
    step = 3 if word is Outcome.INSUFFICIENT_STOCK else 1
    named: list[list[int]] = []
    first: Reply | None = None
    for part, reply in refused:
        if reply.word == word:
            first = first or reply
            found = reply.answer[2:]
            named += [
                [part.indexes[found[at]], *found[at + 1 : at + step]] for at in range(0, len(found), step)
            ]
    assert first is not None
    answer = [*first.answer[:2], *(number for one in sorted(named) for number in one)]
    return Reply(first.now_ms, first.epoch, first.seq, answer)
