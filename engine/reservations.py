"""Holding stock, and what becomes of it: the part of `Inventory` that makes and resolves reservations."""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from typing import Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from engine import limits, planner, refusals
from engine.baskets import Sought
from engine.commands import Answered, AnsweredMany, Reply, Resolution
from engine.dataset import Dataset
from engine.errors import (
    BincardError,
    IdempotencyMismatch,
    InsufficientStock,
    InvalidRequest,
    Refused,
    ReservationNotFound,
    Unavailable,
    Unconfirmed,
)
from engine.ids import (
    NO_FINGERPRINT,
    fingerprint,
    parse_reservation_id,
    reservation_id,
    unremembered,
)
from engine.lane import Answer
from engine.offers import Offers
from engine.outcomes import Outcome
from engine.places import Places
from engine.records import (
    KIND_BASKET,
    KIND_RESERVATION,
    NO_DETAIL,
    NO_PLAN,
    UNKNOWN_REVISION,
    Detail,
    Head,
    Plan,
    Record,
    Undecided,
    build_reservation,
    decode_record,
    decode_tail,
    is_reservation,
)
from engine.sweep import sweep
from engine.types import Line, Reservation, ReserveRequest, State

KNOWN_RESERVATIONS = 4096
"""Held reservations that a process remembers, so that the answer to a commit need not carry their lines."""


class Known(Struct, frozen=True, gc=False):
    """What a process knows of a reservation: where it is, and its record as of `revision`.

    A later epoch may have lost that revision and have another one by the same number, so what was learned in
    an earlier one is not trusted.
    """

    partition: int
    operation: bytes
    revision: int
    plan: Plan
    detail: Detail
    learned: float
    """When, by the monotonic clock. Once the retention has passed since, the id may have begun a new life."""
    epoch: int
    is_basket: bool = False
    """Whether it lies in several partitions, and so has parts."""


class Asked(Struct, frozen=True, gc=False):
    """A reserve, ready to be sent."""

    partition: int
    operation: bytes
    mark: bytes
    lines: Sequence[Line]
    plan: Plan
    detail: Detail
    argument: bytes
    is_apart: bool
    """Whether the lines lie in several partitions."""
    terms: bytes = b""
    """What their parts know of how they were chosen."""
    waits: bool = False
    """Whether they may be promised what is inbound."""


class _Step(Struct, frozen=True, gc=False):
    """A step on a reservation, ready to be sent; `own` is what the verb itself takes."""

    verb: Resolution
    reservation: str
    known: Known
    chosen: Sequence[tuple[int, int]]
    own: bytes
    operation: bytes
    mark: bytes


_Sent = TypeVar("_Sent", Known, Asked)


class Reservations(Places):
    """The part of `Inventory` that makes and resolves reservations."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self._ids = dataset.ids
        self._known: OrderedDict[str, Known] = OrderedDict()
        self.baskets = Offers(dataset.commands, dataset.retention_seconds)
        self._trusted_seconds = dataset.retention_seconds / 2

    async def reserve(
        self,
        op_id: str,
        lines: Sequence[Line],
        *,
        ttl_seconds: int = limits.DEFAULT_TTL_SECONDS,
        owner: str | None = None,
        reference: str | None = None,
        channel: str | None = None,
        metadata: Mapping[str, object] | None = None,
        caller: str = "",
    ) -> Reservation:
        """Holds all lines or none. Cost: 4 µs of server time, 2 µs for each further line.

        Raises `InvalidRequest`, `IdempotencyMismatch`, `LocationNotFound`, `SkuNotFound`, `NotStocked`,
        `InsufficientStock` (naming every short line).
        """
        asked = self._prepare(op_id, lines, ttl_seconds, owner, reference, channel, metadata, caller)
        if self._partitions > 1:
            return await self._reserve_bound(asked)
        return await self._reserved(asked, await self._send_reserve(asked))

    async def reserve_many(
        self, requests: Sequence[ReserveRequest], *, caller: str = ""
    ) -> list[Reservation | Exception]:
        """Reserves that have nothing to do with one another, in few script calls; for each, in order, what
        `reserve` would have returned or raised. Half the cost of as many calls of `reserve`.
        """
        asked: list[Asked | Exception] = []
        for one in requests:
            try:
                asked.append(
                    self._prepare(
                        one.op_id,
                        one.lines,
                        one.ttl_seconds,
                        one.owner,
                        one.reference,
                        one.channel,
                        one.metadata,
                        caller,
                    )
                )
            except InvalidRequest as error:
                asked.append(error)
        if self._partitions > 1:
            return await self._reserve_apart(asked)
        sent = [
            (
                group,
                self.dataset.commands[partition].reserve_many(
                    [(a.argument, len(a.plan.positions)) for _, a in group]
                ),
            )
            for partition, group in _by_partition(asked)
        ]
        results: list[Reservation | Exception] = [
            a if isinstance(a, Exception) else _NO_ANSWER for a in asked
        ]
        held = 0
        for group, answers in sent:
            for (index, one_asked), answered in zip(group, await _gather_answers(answers), strict=True):
                if isinstance(answered, Exception):
                    results[index] = answered
                elif type(answered[3]) is int:
                    held += 1
                    results[index] = self._new_reservation(one_asked, answered)
                else:
                    try:
                        results[index] = await self._reserved(one_asked, answered)
                    except BincardError as error:
                        results[index] = error
        if held:
            self.metrics.count("reserve", Outcome.HELD, held)
        return results

    async def commit(
        self,
        reservation: str,
        *,
        lines: Sequence[Line] | None = None,
        remainder: Literal["release", "keep"] = "release",
        fulfil: bool = False,
        if_expired: Literal["fail", "retake"] = "fail",
        reference: str | None = None,
        op_id: str | None = None,
        caller: str = "",
    ) -> Reservation:
        """Turns held units into allocated ones, or with `fulfil` lets the goods leave at once.

        With `lines`, only those; what is left is released or kept held. A reservation that lapsed is
        taken anew where `if_expired` says so and the stock is still there. Raises
        `ReservationNotFound`, `ReservationExpired`, `AlreadyReleased`, `AlreadyCommitted`,
        `AlreadyFulfilled`, `AlreadyCancelled`, `ExceedsOpenQuantity`, `InsufficientStock`,
        `IdempotencyMismatch`, `InvalidRequest`.
        """
        flags = bytes((fulfil, remainder == "keep", if_expired == "retake"))
        return await self._resolve(
            "commit", reservation, lines, op_id, caller, flags=flags, reference=reference
        )

    async def release(
        self,
        reservation: str,
        *,
        lines: Sequence[Line] | None = None,
        op_id: str | None = None,
        caller: str = "",
    ) -> Reservation:
        """Gives held units back: all, or those of `lines`. Raises as `commit` does."""
        return await self._resolve("release", reservation, lines, op_id, caller)

    async def extend(
        self, reservation: str, ttl_seconds: int, *, op_id: str | None = None, caller: str = ""
    ) -> Reservation:
        """Lets a hold last at least so long from now on; never shortens it. Raises as `commit` does."""
        if not 1 <= ttl_seconds <= limits.MAX_TTL_SECONDS:
            raise InvalidRequest("/ttl_seconds", f"from 1 to {limits.MAX_TTL_SECONDS}")
        flags = (ttl_seconds * 1000).to_bytes(6, "little")
        return await self._resolve("extend", reservation, None, op_id, caller, flags=flags, chooses=False)

    async def fulfil(
        self,
        reservation: str,
        *,
        lines: Sequence[Line] | None = None,
        op_id: str | None = None,
        caller: str = "",
    ) -> Reservation:
        """The goods of committed units leave: on_hand falls. Raises as `commit` does, `NotCommitted`."""
        return await self._resolve("fulfil", reservation, lines, op_id, caller)

    async def cancel(
        self,
        reservation: str,
        *,
        lines: Sequence[Line] | None = None,
        op_id: str | None = None,
        caller: str = "",
    ) -> Reservation:
        """Gives committed units back. Raises as `commit` does, `NotCommitted`."""
        return await self._resolve("cancel", reservation, lines, op_id, caller)

    async def commit_many(
        self, reservations: Sequence[str], *, fulfil: bool = False
    ) -> list[Reservation | Exception]:
        """Commits whole reservations in few script calls; for each, in order, what `commit` would have
        returned or raised.
        """
        return await self._resolve_many("commit", reservations, bytes((fulfil, False, False)))

    async def release_many(self, reservations: Sequence[str]) -> list[Reservation | Exception]:
        """Releases whole reservations in few script calls; for each, in order, what `release` would have
        returned or raised.
        """
        return await self._resolve_many("release", reservations, b"")

    async def reservation(self, reservation: str) -> Reservation:
        """A reservation as it stands. Raises `ReservationNotFound`."""
        record = await self._find(reservation, *self._route(reservation))
        return build_reservation(reservation, record.head, record.plan, record.detail)

    # ---------------------------------------------------------------- reserve

    def _prepare(
        self,
        op_id: str,
        lines: Sequence[Line],
        ttl_seconds: int,
        owner: str | None,
        reference: str | None,
        channel: str | None,
        metadata: Mapping[str, object] | None,
        caller: str,
    ) -> Asked:
        """A reserve as it is sent. Raises `InvalidRequest`."""
        planner.check_lines(lines)
        if not 1 <= ttl_seconds <= limits.MAX_TTL_SECONDS:
            raise InvalidRequest("/ttl_seconds", f"from 1 to {limits.MAX_TTL_SECONDS}")
        plan, shares = planner.plan_lines(lines)
        detail = Detail(ttl_seconds, owner, reference, channel, metadata or {}, shares)
        body = b"".join(
            (
                (ttl_seconds * 1000).to_bytes(4, "little"),
                plan.route.to_bytes(2, "little"),
                plan.packed,
                planner.pack_detail(detail),
            )
        )
        partition = plan.route % self._partitions
        is_apart = self.baskets.is_apart(plan, partition)
        operation, mark = self._ids.of_request(caller, op_id), fingerprint(body)
        argument = self.dataset.commands[partition].encode_reserve(
            operation,
            mark,
            body,
            len(plan.positions),
            kind=KIND_BASKET if is_apart else KIND_RESERVATION,
        )
        return Asked(partition, operation, mark, lines, plan, detail, argument, is_apart)

    async def _reserve_bound(self, asked: Asked) -> Reservation:
        """A reserve in a data set of several partitions: its operation id may have been used in another."""
        ttl_seconds = asked.detail.ttl_seconds
        async with self.baskets.bound(asked.operation, asked.mark, asked.partition, ttl_seconds=ttl_seconds):
            if asked.is_apart:
                return await self._reserve_basket(asked)
            return await self._reserved(asked, await self._send_reserve(asked))

    async def _reserve_basket(self, asked: Asked) -> Reservation:
        sought = Sought(
            asked.partition, asked.operation, asked.argument, asked.plan, asked.terms, asked.waits
        )
        found = await self.baskets.seek(sought)
        if found.record is None:
            raise await self._no_reserve(found.reply, asked)
        public_id = reservation_id(asked.plan.route, asked.operation)
        self.metrics.count("reserve", Outcome.HELD if found.is_new else Outcome.REPLAYED)
        return planner.first_reservation(public_id, found.record, replayed=not found.is_new)

    async def _reserve_apart(self, asked: Sequence[Asked | Exception]) -> list[Reservation | Exception]:
        """Many reserves in a data set of several partitions."""
        waiting = [self._reserve_bound(one) for one in asked if not isinstance(one, Exception)]
        reserved = iter(await asyncio.gather(*waiting, return_exceptions=True))
        results: list[Reservation | Exception] = []
        for one in asked:
            result = one if isinstance(one, Exception) else next(reserved)
            if isinstance(result, BaseException) and not isinstance(result, BincardError):
                raise result
            results.append(result)
        return results

    def _send_reserve(self, asked: Asked) -> Answered:
        return self.dataset.commands[asked.partition].reserve(asked.argument, len(asked.plan.positions))

    async def _reserved(self, asked: Asked, answered: tuple[int, int, int, Answer]) -> Reservation:
        """What became of a reserve. Raises the refusal."""
        while answered[3] == _OVERDUE:
            await sweep(self.dataset.commands[asked.partition])
            answered = await self._send_reserve(asked)
        if answered[3] == _FLOATING:
            return await self._make_way(asked)
        if type(answered[3]) is int:
            self.metrics.count("reserve", Outcome.HELD)
            return self._new_reservation(asked, answered)
        reply = Reply(*answered)
        if reply.answer[0] == b"replayed":
            self.metrics.count("reserve", Outcome.REPLAYED)
            public_id = reservation_id(asked.plan.route, asked.operation)
            return planner.first_reservation(public_id, decode_record(reply.answer[1]), replayed=True)
        raise await self._no_reserve(reply, asked)

    async def _no_reserve(self, reply: Reply, asked: Asked) -> Refused:
        """The exception for a refused reserve; what was not there is noted as demand that was lost."""
        refusal = await self._refusal("reserve", reply, asked.plan, asked.detail.lines)
        self._note_loss(refusal, asked.detail.channel)
        return refusal

    def _note_loss(self, refusal: Refused, channel: str | None) -> None:
        if isinstance(refusal, InsufficientStock):
            self.metrics.lose(channel, refusal.lost_units)

    async def _make_way(self, asked: Asked) -> Reservation:
        """Holds lines that fit only if others move: see `engine.sourcing`."""
        raise NotImplementedError

    def _new_reservation(self, asked: Asked, answered: tuple[int, int, int, Answer]) -> Reservation:
        now_ms, epoch, _, seq = answered
        assert type(seq) is int
        public_id = reservation_id(asked.plan.route, asked.operation)
        learned = monotonic()
        known = Known(asked.partition, asked.operation, 0, asked.plan, asked.detail, learned, epoch)
        self._remember(public_id, known)
        return planner.new_reservation(public_id, asked.lines, asked.detail, epoch, seq, now_ms)

    # ---------------------------------------------------------------- what becomes of it

    async def _resolve(
        self,
        verb: Resolution,
        reservation: str,
        lines: Sequence[Line] | None,
        op_id: str | None,
        caller: str,
        *,
        flags: bytes = b"",
        chooses: bool = True,
        reference: str | None = None,
    ) -> Reservation:
        known = self._what_is_known(reservation)
        if known.revision == UNKNOWN_REVISION and (lines is not None or reference is not None):
            known = await self._find_known(reservation, known)
        asked = b""
        if lines is not None:
            planner.check_choice(lines)
            asked = planner.plan_lines(lines)[0].packed
        while True:
            known, chosen, missing = await self._choose(reservation, known, lines, op_id)
            choice = planner.encode_choice(chosen) if chosen else _ALL if chooses else b""
            following, rest = known.detail, b""
            if reference is not None:
                following = _refer(known.detail, (known.revision + 1) % UNKNOWN_REVISION, reference)
                rest = planner.pack_detail(following)
            operation, mark = unremembered(caller), NO_FINGERPRINT
            if op_id is not None:
                operation = self._ids.of_request(caller, op_id)
                told = b"" if reference is None else b"\1" + reference.encode()
                mark = fingerprint(b"".join((verb.encode(), known.operation, flags, asked, told)))
            step = _Step(verb, reservation, known, chosen, b"".join((flags, choice, rest)), operation, mark)
            try:
                done = await self._take_bound_step(step, following if rest else None)
            except IdempotencyMismatch:
                raise
            except Refused:
                if missing is not None:
                    raise missing from None
                raise
            if isinstance(done, Reservation):
                return done
            if missing is not None:
                raise missing
            known = done

    async def _take_bound_step(self, step: _Step, following: Detail | None) -> Reservation | Known:
        if step.mark is NO_FINGERPRINT or self._partitions == 1:
            return await self._take_step(step, following)
        partition = step.known.partition
        async with self.baskets.bound(step.operation, step.mark, partition):
            done = await self._take_step(step, following)
        if isinstance(done, Known):
            await self.baskets.unbind(step.operation, step.mark, partition)
        return done

    async def _choose(
        self, reservation: str, known: Known, lines: Sequence[Line] | None, op_id: str | None
    ) -> tuple[Known, Sequence[tuple[int, int]], InvalidRequest | None]:
        """The positions that lines name, and what is known of the reservation by then. Where it does not have
        them, it may have had them when the same request came first: the error is raised if it is no repeat.
        """
        if lines is None:
            return known, (), None
        while True:
            try:
                return known, planner.choose_positions(known.plan, lines), None
            except InvalidRequest as error:
                found = await self._find_known(reservation, known)
                if found.revision == known.revision:
                    if op_id is None or not known.revision:
                        raise
                    return replace(known, revision=UNKNOWN_REVISION), _ANY_CHOICE, error
                known = found

    async def _take_step(self, step: _Step, following: Detail | None) -> Reservation | Known:
        """A step on a reservation; or what is known of it by now, where it must be asked again. `following`
        is the detail that it will have, where that changes.
        """
        known = step.known
        answered = await self.dataset.commands[known.partition].resolve(
            step.verb,
            known.operation,
            step.own,
            known=known.revision,
            operation=step.operation,
            fingerprint=step.mark,
            positions=len(known.plan.positions) or _UNKNOWN_POSITIONS,
        )
        if answered[3] == _STALE:
            return await self._find_known(step.reservation, known)
        if answered[3] == _OVERDUE:
            await sweep(self.dataset.commands[known.partition])
            return known
        if following is not None and type(answered[3]) is bytes:
            known = replace(known, revision=decode_tail(answered[3]).revision, detail=following)
        return await self._resolved(step.verb, step.reservation, known, Reply(*answered), step.chosen)

    async def _resolve_many(
        self, verb: Resolution, reservations: Sequence[str], flags: bytes
    ) -> list[Reservation | Exception]:
        own = flags + _ALL
        asked: list[Known | Exception] = []
        for reservation in reservations:
            try:
                asked.append(self._what_is_known(reservation))
            except ReservationNotFound as error:
                asked.append(error)
        sent = [
            (
                group,
                self.dataset.commands[partition].resolve_many(
                    verb,
                    [
                        (one.operation, one.revision, len(one.plan.positions) or _UNKNOWN_POSITIONS)
                        for _, one in group
                    ],
                    own,
                ),
            )
            for partition, group in _by_partition(asked)
        ]
        results: list[Reservation | Exception] = [
            a if isinstance(a, Exception) else _NO_ANSWER for a in asked
        ]
        for group, answers in sent:
            for (index, known), answered in zip(group, await _gather_answers(answers), strict=True):
                if isinstance(answered, Exception):
                    results[index] = answered
                    continue
                try:
                    reply = Reply(*answered)
                    results[index] = await self._resolved(verb, reservations[index], known, reply)
                except BincardError as error:
                    results[index] = error
        return results

    async def _resolved(
        self,
        verb: Resolution,
        reservation: str,
        known: Known,
        reply: Reply,
        chosen: Sequence[tuple[int, int]] = (),
    ) -> Reservation:
        """What became of a request on a reservation. Raises the refusal."""
        answer = reply.answer
        if type(answer) is bytes:
            head = decode_tail(answer)
            self.metrics.count(verb, _SUCCESS[verb])
            if reply.epoch != known.epoch:
                record = await self._find_done(reservation, known)
                if record.head.revision != head.revision:
                    # Somebody has given it other lines since; a sweeper tells its parts.
                    return planner.replayed_reservation(reservation, answer, record)
                known = _known_of(known, record, reply.epoch)
            if head.state is State.HELD:
                self._remember(reservation, known)
            else:
                # Its busy days are over: whoever comes back to it gets the record with the answer.
                self._known.pop(reservation, None)
            await self._tell_parts(verb, reservation, known, head)
            return build_reservation(reservation, head, known.plan, known.detail)
        word = answer[0]
        if type(word) is int:
            record = self._learn(reservation, known, answer[1], reply.epoch)
            self.metrics.count(verb, _SUCCESS[verb])
            known = _known_of(known, record, reply.epoch)
            await self._tell_parts(verb, reservation, known, record.head)
            return build_reservation(reservation, record.head, record.plan, record.detail)
        if word in _REPEATS:
            self.metrics.count(verb, Outcome.REPLAYED)
            if len(answer) > 2:  # noqa: PLR2004 - word, tail, and the record of who does not know it
                record = self._learn(reservation, known, answer[2], reply.epoch)
                return planner.replayed_reservation(reservation, answer[1], record)
            head = decode_tail(answer[1])
            if (head.revision, reply.epoch) == (known.revision, known.epoch):
                return build_reservation(reservation, head, known.plan, known.detail, replayed=True)
            record = await self._find_done(reservation, known)
            return planner.replayed_reservation(reservation, answer[1], record)
        if known.revision == UNKNOWN_REVISION:
            known = await self._find_known(reservation, known)
        raise await self._refusal(verb, reply, known.plan, known.detail.lines, chosen)

    async def _tell_parts(
        self, verb: str, reservation: str, known: Known, head: Head, also: Collection[int] = ()
    ) -> None:
        """Of a basket over several partitions the parts follow; an extension moves no units."""
        if known.is_basket and verb != "extend":
            route, operation = self._routed(reservation)
            await self.baskets.tell(route, operation, known.plan, head, also)

    async def _refusal(
        self,
        verb: str,
        reply: Reply,
        plan: Plan,
        shares: Sequence[tuple[int, int]],
        chosen: Sequence[tuple[int, int]] = (),
    ) -> Refused:
        """The exception for a refused request on a plan's positions."""
        word = Outcome(reply.word or "")
        self.metrics.count(verb, word)
        match word:
            case Outcome.INSUFFICIENT_STOCK:
                return refusals.shortage_refusal(reply, plan, shares)
            case Outcome.EXCEEDS_OPEN_QUANTITY:
                return refusals.excess_refusal(reply, plan, chosen)
            case Outcome.SKU_NOT_FOUND | Outcome.NOT_STOCKED:
                existing = (await self.settings.latest()).locations
                return refusals.missing_refusal(reply, plan, existing)
            case _:
                return refusals.state_refusal(reply)

    # ---------------------------------------------------------------- what a process knows

    def _routed(self, reservation: str) -> tuple[int, bytes]:
        routed = parse_reservation_id(reservation)
        if routed is None:
            raise not_found(reservation)
        return routed

    def _route(self, reservation: str) -> tuple[int, bytes]:
        route, operation = self._routed(reservation)
        return route % self._partitions, operation

    def _what_is_known(self, reservation: str) -> Known:
        """What the process remembers of a reservation, or just where it is."""
        known = self._known.get(reservation)
        if (
            known is not None
            and monotonic() - known.learned < self._trusted_seconds
            and known.epoch == self.dataset.commands[known.partition].epoch
        ):
            return known
        partition, operation = self._route(reservation)
        return Known(partition, operation, UNKNOWN_REVISION, NO_PLAN, NO_DETAIL, 0.0, 0)

    def _remember(self, reservation: str, known: Known) -> None:
        self._known[reservation] = known
        if len(self._known) > KNOWN_RESERVATIONS:
            self._known.popitem(last=False)

    def _learn(self, reservation: str, known: Known, raw: bytes, epoch: int) -> Record:
        """Reads a record, and remembers what the next step of a hold needs."""
        record = decode_record(raw)
        if record.head.state is State.HELD:
            self._remember(reservation, _known_of(known, record, epoch))
        return record

    async def _find(self, reservation: str, partition: int, operation: bytes) -> Record:
        _, _, _, (_, raw) = await self.dataset.commands[partition].find(operation)
        if not is_reservation(raw):
            raise not_found(reservation)
        record = decode_record(raw)
        if isinstance(record.head.state, Undecided):
            raise not_found(reservation)
        return record

    async def _find_done(self, reservation: str, known: Known) -> Record:
        """The record, for the answer to what has been done: whoever does not get it must not be told that
        nothing was.
        """
        try:
            return await self._find(reservation, known.partition, known.operation)
        except Unavailable as error:
            raise Unconfirmed("it was done, but its answer is incomplete; repeat with the same id") from error

    async def _find_known(self, reservation: str, known: Known) -> Known:
        # If another one begins meanwhile, what is learned counts as old at once.
        epoch = self.dataset.commands[known.partition].epoch
        record = await self._find(reservation, known.partition, known.operation)
        return _known_of(known, record, epoch)


def _known_of(known: Known, record: Record, epoch: int) -> Known:
    """What a record that was read in an epoch tells of a reservation."""
    return Known(
        known.partition,
        known.operation,
        record.head.revision,
        record.plan,
        record.detail,
        monotonic(),
        epoch,
        record.kind == KIND_BASKET,
    )


def _by_partition(
    asked: Sequence[_Sent | Exception],
) -> list[tuple[int, list[tuple[int, _Sent]]]]:
    """What is sent to each partition, with its place among all; errors are sent nowhere."""
    groups: dict[int, list[tuple[int, _Sent]]] = {}
    for index, one in enumerate(asked):
        if not isinstance(one, Exception):
            groups.setdefault(one.partition, []).append((index, one))
    return list(groups.items())


async def _gather_answers(
    sent: AnsweredMany,
) -> list[tuple[int, int, int, Answer] | Exception]:
    """The answers to requests that were sent together, or why there is none."""
    answers: list[tuple[int, int, int, Answer] | Exception] = []
    for count, waiting in sent:
        try:
            now_ms, epoch, seq, found = await waiting
        except BincardError as error:
            answers += [error] * count
        else:
            answers += [(now_ms, epoch, seq, answer) for answer in found]
    return answers


_UNKNOWN_POSITIONS = 4
"""What a reservation of which we know nothing is taken to touch."""
_NO_ANSWER = ReservationNotFound("not asked")
_ALL = planner.encode_choice(())
_ANY_CHOICE = ((0, 1),)
"""Of a record whose revision nobody has seen: answered where it is a repeat, else found to be out of date."""
_OVERDUE, _STALE, _FLOATING = [b"overdue"], [b"stale"], [b"floating"]
_REPEATS = {b"replayed", b"repeated"}
_SUCCESS: dict[str, Outcome] = {
    "commit": Outcome.COMMITTED,
    "release": Outcome.RELEASED,
    "extend": Outcome.EXTENDED,
    "fulfil": Outcome.FULFILLED,
    "cancel": Outcome.CANCELLED,
}


def _refer(detail: Detail, revision: int, reference: str) -> Detail:
    """The detail of a reservation that is given another reference."""
    return replace(detail, references=(*detail.references, (revision, reference)))


def not_found(reservation: str) -> ReservationNotFound:
    """The refusal of an id that names nothing."""
    return ReservationNotFound(f"there is no reservation {reservation[:64]}")
