"""The engine's public face: one method for each verb.

Each method checks its arguments, plans, makes one script call, and returns or raises. All raise
`Unavailable` (nothing happened) and, where they change something, `Unconfirmed` (send it again with the
same operation id). `caller` scopes operation ids: two callers' equal ids have nothing to do with one
another.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal, cast

from msgspec.structs import replace

from engine import limits, planner, refusals, settings
from engine.cards import read_availability, read_positions
from engine.commands import Answered, Commands, Reply, Resolution
from engine.dataset import Dataset
from engine.errors import (
    REFUSAL_ERRORS,
    InvalidRequest,
    LocationNotFound,
    Refused,
    ReservationNotFound,
    SkuNotFound,
    Unavailable,
    Unconfirmed,
)
from engine.ids import FINGERPRINT_SIZE, NO_OPERATION, fingerprint, parse_reservation_id, reservation_id
from engine.keys import partition_of
from engine.outcomes import Outcome
from engine.records import (
    UNKNOWN_REVISION,
    Detail,
    Plan,
    Record,
    build_reservation,
    decode_record,
    decode_tail,
    encode_detail,
    first_head,
    is_reservation,
)
from engine.sweep import sweep_all
from engine.types import (
    Availability,
    Line,
    Location,
    LocationAvailability,
    Movement,
    MovementKind,
    MovementResult,
    Position,
    Reservation,
    ReserveRequest,
    Status,
)

KNOWN_PLANS = 20_000
"""Reservations whose lines a process remembers, so that a commit needs no look-up first."""

_NO_MARK = bytes(FINGERPRINT_SIZE)


class Inventory:
    """The stock of every location, and the promises on it. Build it with `engine.connect`."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.metrics = dataset.metrics
        self._partitions = dataset.partitions
        self._ids = dataset.ids
        self._plans: OrderedDict[str, tuple[int, Plan, Detail]] = OrderedDict()
        self._sweeps: dict[int, asyncio.Task[object]] = {}

    async def close(self) -> None:
        """Closes every connection; what is under way becomes unknown."""
        await self.dataset.close()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the server at this moment."""
        return self.dataset.link.is_open

    # ---------------------------------------------------------------- reservations

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
        """Holds all lines or none. Cost: about 4 µs of server time a line, one round trip.

        Raises `InvalidRequest`, `IdempotencyMismatch`, `LocationNotFound`, `SkuNotFound`, `NotStocked`,
        `InsufficientStock` (naming every short line).
        """
        planner.check_lines(lines)
        if not 1 <= ttl_seconds <= limits.MAX_TTL_SECONDS:
            raise InvalidRequest("/ttl_seconds", f"from 1 to {limits.MAX_TTL_SECONDS}")
        plan, shares = planner.plan_lines(lines)
        detail = Detail(ttl_seconds, owner, reference, channel, metadata or {}, shares)
        body = b"".join(
            ((ttl_seconds * 1000).to_bytes(6, "little"), plan.packed, planner.pack_detail(detail))
        )
        partition = self._partition_of_plan(plan)
        commands = self.dataset.commands[partition]
        operation, mark = self._ids.of_request(caller, op_id), fingerprint(body)
        while True:
            now_ms, epoch, seq, answer = await commands.reserve(operation, mark, body, len(plan.positions))
            if answer != _OVERDUE:
                break
        public_id = reservation_id(partition, operation)
        if type(answer) is int:
            self._remember(public_id, 0, plan, detail)
            self.metrics.count("reserve", Outcome.HELD)
            return planner.new_reservation(public_id, lines, detail, epoch, answer, now_ms)
        if answer[0] == b"replayed":
            record = decode_record(answer[1])
            self.metrics.count("reserve", Outcome.REPLAYED)
            return build_reservation(
                public_id,
                first_head(record.head, record.detail),
                record.plan,
                record.detail,
                replayed=True,
            )
        raise await self._refusal("reserve", Reply(now_ms, epoch, seq, answer), plan, shares)

    async def reserve_many(
        self, requests: Sequence[ReserveRequest], *, caller: str = ""
    ) -> list[Reservation | Exception]:
        """Reserves that have nothing to do with one another; for each, in order, what `reserve` would
        have returned or raised.
        """
        found = await asyncio.gather(
            *(
                self.reserve(
                    request.op_id,
                    request.lines,
                    ttl_seconds=request.ttl_seconds,
                    owner=request.owner,
                    reference=request.reference,
                    channel=request.channel,
                    metadata=request.metadata,
                    caller=caller,
                )
                for request in requests
            ),
            return_exceptions=True,
        )
        return cast("list[Reservation | Exception]", found)

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

    async def reservation(self, reservation: str) -> Reservation:
        """A reservation as it stands. Raises `ReservationNotFound`."""
        record = await self._find(reservation, *self._route(reservation))
        return build_reservation(reservation, record.head, record.plan, record.detail)

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
        partition, operation = self._route(reservation)
        commands, known = self.dataset.commands[partition], self._plans.get(reservation)
        if known is None and (lines is not None or reference is not None):
            known = await self._find_plan(reservation, partition, operation)
        while True:
            revision, plan, detail = known or _UNKNOWN
            chosen = planner.choose_positions(plan, lines) if lines is not None else ()
            choice = planner.encode_choice(chosen) if chooses else b""
            following = _refer(detail, (revision + 1) % UNKNOWN_REVISION, reference)
            rest = b"" if reference is None else encode_detail(following)
            own_operation, mark = NO_OPERATION, _NO_MARK
            if op_id is not None:
                own_operation = self._ids.of_request(caller, op_id)
                mark = fingerprint(
                    b"".join(
                        (
                            verb.encode(),
                            operation,
                            flags,
                            choice,
                            b"" if reference is None else b"\1" + reference.encode(),
                        )
                    )
                )
            now_ms, epoch, seq, answer = await commands.resolve(
                verb,
                operation,
                b"".join((flags, choice, rest)),
                known=revision,
                operation=own_operation,
                fingerprint=mark,
                positions=len(plan.positions) or 1,
            )
            if type(answer) is bytes:
                head = decode_tail(answer)
                if rest:
                    detail = following
                    self._remember(reservation, head.revision, plan, detail)
                self.metrics.count(verb, _SUCCESS[verb])
                return build_reservation(reservation, head, plan, detail)
            word = answer[0]
            if type(word) is int:
                record = self._learn(reservation, answer[1])
                self.metrics.count(verb, _SUCCESS[verb])
                return build_reservation(reservation, record.head, record.plan, record.detail)
            if word in {b"replayed", b"repeated"}:
                if len(answer) > 2:  # noqa: PLR2004 - word, tail, and the record of who does not know it
                    record = self._learn(reservation, answer[2])
                    plan, detail = record.plan, record.detail
                self.metrics.count(verb, Outcome.REPLAYED)
                return build_reservation(reservation, decode_tail(answer[1]), plan, detail, replayed=True)
            if word == b"stale":
                known = await self._find_plan(reservation, partition, operation)
            elif word != b"overdue":
                if known is None:
                    _, plan, detail = await self._find_plan(reservation, partition, operation)
                reply = Reply(now_ms, epoch, seq, answer)
                raise await self._refusal(verb, reply, plan, detail.lines, chosen)

    # ---------------------------------------------------------------- facts and settings

    async def record(self, movement: Movement, *, caller: str = "") -> MovementResult:
        """Records a fact. Raises `InvalidRequest`, `LocationNotFound`, `IdempotencyMismatch`,
        `QuantityOutOfRange`; never for lack of stock.
        """
        planner.check_movement(movement)
        partition = partition_of(movement.sku, self._partitions)
        quantity = -movement.quantity if movement.kind is MovementKind.SALE else movement.quantity
        detail = planner.encode_movement_detail(movement)
        operation = self._ids.of_movement(caller, movement.id)
        mark = fingerprint(
            b"\0".join((movement.sku.encode(), movement.location.encode(), b"%d" % quantity, detail))
        )
        now_ms, epoch, seq, answer = await self.dataset.commands[partition].movement(
            operation, mark, quantity, movement.location, movement.sku, detail
        )
        if type(answer) is bytes:
            self.metrics.count(movement.kind, Outcome.RECORDED)
            return planner.decode_movement_result(answer, partition, epoch)
        if answer[0] == b"replayed":
            self.metrics.count(movement.kind, Outcome.REPLAYED)
            return planner.decode_movement_result(answer[1], partition, epoch, replayed=True)
        reply = Reply(now_ms, epoch, seq, answer)
        raise refusals.plain_refusal(reply, f"movement {movement.id}: {movement.sku} at {movement.location}")

    async def save_location(self, location: Location) -> Location:
        """Creates or replaces a location's settings, in every partition."""
        planner.check_location(location.id, "/id")
        await self._send_location(location.id, settings.encode_location(location))
        return location

    async def delete_location(self, location: str) -> None:
        """Deletes a location. Raises `LocationNotFound`, `LocationInUse` while positions exist there."""
        current = settings.encode_location(await self.location(location))
        replies = await self._send_location(location, b"")
        refused = [reply for reply in replies if reply.word in REFUSAL_ERRORS]
        if refused:
            # A partition that refused keeps it: so must those that did not.
            keeping = [partition for partition, reply in enumerate(replies) if reply.word is None]
            await self._send_location(location, current, keeping)
            raise refusals.plain_refusal(refused[0], f"location {location}")

    async def location(self, location: str) -> Location:
        """The settings of a location. Raises `LocationNotFound`."""
        for known in await self.locations():
            if known.id == location:
                return known
        raise LocationNotFound(f"there is no location {location}")

    async def locations(self) -> list[Location]:
        """All locations, by id."""
        # A task of its own: the client needs one, and a caller may step us without (`api/protocol.py`).
        reading = settings.read_locations(self.dataset.topology)
        return await asyncio.get_running_loop().create_task(reading)

    async def _send_location(
        self, location: str, packed: bytes, partitions: Sequence[int] | None = None
    ) -> list[Reply]:
        chosen = range(self._partitions) if partitions is None else partitions
        answers = await asyncio.gather(
            *(self.dataset.commands[partition].save_location(location, packed) for partition in chosen)
        )
        return [Reply(*answer) for answer in answers]

    # ---------------------------------------------------------------- reading

    async def availability(self, sku: str, *, locations: Sequence[str] = ()) -> Availability:
        """What can be promised of a SKU now, at some locations or at all that stock it.

        Raises `SkuNotFound`, `LocationNotFound`, `InvalidRequest`. Cost: about 1 µs of server time and as
        much of ours, and 0.3 µs a location.
        """
        found = (await self.availability_of((sku,), locations=locations))[0]
        if found is None:
            raise SkuNotFound(f"SKU {sku}: no location stocks it")
        return found

    async def availability_of(
        self, skus: Sequence[str], *, locations: Sequence[str] = ()
    ) -> list[Availability | None]:
        """The same for many SKUs at once; None for a SKU that no location stocks. Each answer is true of
        its own moment. Raises `LocationNotFound`, `InvalidRequest`.
        """
        for sku in skus:
            planner.check_sku(sku, "/sku")
        for location in locations:
            planner.check_location(location, "/location")
        all_commands, partitions = self.dataset.commands, self._partitions
        asked = [all_commands[partition_of(sku, partitions)] for sku in skus]
        replies = [commands.cards(sku, swept=False) for commands, sku in zip(asked, skus, strict=True)]
        found: list[Availability | None] = []
        for commands, sku, waiting in zip(asked, skus, replies, strict=True):
            version, cards = await self._read_cards(commands, sku, waiting)
            if not cards:
                found.append(None)
                continue
            places = read_availability(cards[0])
            for card in cards[1:]:
                places += read_availability(card)
            if locations:
                places = await self._choose_places(locations, places)
            found.append(planner.sum_availability(sku, version, places))
        return found

    async def stock(self, sku: str, *, locations: Sequence[str] = ()) -> list[Position]:
        """The counters of a SKU's positions. Raises `SkuNotFound`, `InvalidRequest`."""
        planner.check_sku(sku, "/sku")
        for location in locations:
            planner.check_location(location, "/location")
        commands = self.dataset.commands[partition_of(sku, self._partitions)]
        version, cards = await self._read_cards(commands, sku, commands.cards(sku, swept=False))
        if not cards:
            raise SkuNotFound(f"SKU {sku}: no location stocks it", version=version)
        found = [position for card in cards for position in read_positions(card, version)]
        if not locations:
            return found
        by_location = {position.location: position for position in found}
        return [by_location[location] for location in dict.fromkeys(locations) if location in by_location]

    async def _read_cards(
        self, commands: Commands, sku: str, waiting: Answered
    ) -> tuple[str, Sequence[bytes]]:
        """The version that was read and the cards of a SKU, of which an unknown one has none."""
        _, epoch, seq, answer = await waiting
        if answer == _OVERDUE:
            await self._sweep_if_possible(commands.partition)
            _, epoch, seq, answer = await commands.cards(sku, swept=True)
        version = f"{epoch}.{seq}"
        if type(answer) is bytes:
            return version, (answer,) if answer else ()
        return version, [card for card in answer[1:] if card]

    async def _choose_places(
        self, asked: Sequence[str], found: Sequence[LocationAvailability]
    ) -> list[LocationAvailability]:
        """The asked places. A location that exists but does not stock the SKU has none of it."""
        by_id, asked = {place.location: place for place in found}, tuple(dict.fromkeys(asked))
        if any(location not in by_id for location in asked):
            existing = {location.id for location in await self.locations()}
            for location in asked:
                if location not in existing:
                    raise LocationNotFound(f"there is no location {location}")
        return [
            by_id.get(location) or LocationAvailability(location, 0, Status.OUT_OF_STOCK)
            for location in asked
        ]

    # ---------------------------------------------------------------- inside

    def _partition_of_plan(self, plan: Plan) -> int:
        if self._partitions == 1:
            return 0
        found = {partition_of(position.sku, self._partitions) for position in plan.positions}
        if len(found) > 1:
            raise InvalidRequest(
                "/lines",
                "the lines lie in several partitions of this data set: reserve them apart, "
                "or use a data set of one partition",
            )
        return found.pop()

    def _route(self, reservation: str) -> tuple[int, bytes]:
        routed = parse_reservation_id(reservation, self._partitions)
        if routed is None:
            raise _not_found(reservation)
        return routed

    def _remember(self, reservation: str, revision: int, plan: Plan, detail: Detail) -> None:
        self._plans[reservation] = (revision, plan, detail)
        if len(self._plans) > KNOWN_PLANS:
            self._plans.popitem(last=False)

    def _learn(self, reservation: str, raw: bytes) -> Record:
        """Reads a record, and remembers what its next step needs."""
        record = decode_record(raw)
        self._remember(reservation, record.head.revision, record.plan, record.detail)
        return record

    async def _find(self, reservation: str, partition: int, operation: bytes) -> Record:
        _, _, _, (_, raw) = await self.dataset.commands[partition].find(operation)
        if not is_reservation(raw):
            raise _not_found(reservation)
        return self._learn(reservation, raw)

    async def _find_plan(
        self, reservation: str, partition: int, operation: bytes
    ) -> tuple[int, Plan, Detail]:
        record = await self._find(reservation, partition, operation)
        return record.head.revision, record.plan, record.detail

    async def sweep(self) -> int:
        """Gives back every lapsed hold and forgets what is old; how many holds there were."""
        expired = sum(await asyncio.gather(*(sweep_all(commands) for commands in self.dataset.commands)))
        await asyncio.gather(*(sweep_all(commands, memories=True) for commands in self.dataset.commands))
        self.metrics.count("expire", Outcome.EXPIRED, expired)
        return expired

    async def _sweep_if_possible(self, partition: int) -> None:
        """For reads: a server that refuses writes still answers, with lapsed holds counted as held."""
        with suppress(Unavailable, Unconfirmed):
            await self._sweep(partition)

    async def _sweep(self, partition: int) -> None:
        """Sweeps a partition for all who ask at once: each waits for a sweep that began after it asked."""
        running = self._sweeps.get(partition)
        if running is not None and not running.done():
            await asyncio.wait([running])
        following = self._sweeps.get(partition)
        if following is None or following is running or following.done():
            following = asyncio.get_running_loop().create_task(sweep_all(self.dataset.commands[partition]))
            self._sweeps[partition] = following
        await asyncio.shield(following)

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
                existing = {location.id for location in await self.locations()}
                return refusals.missing_refusal(reply, plan, existing)
            case _:
                return refusals.state_refusal(reply)


_OVERDUE = [b"overdue"]
_UNKNOWN = (UNKNOWN_REVISION, Plan((), b""), Detail(0, None, None, None, {}))
"""Stands for the plan of a reservation of which we know nothing: its record comes with the answer."""
_SUCCESS: dict[str, Outcome] = {
    "commit": Outcome.COMMITTED,
    "release": Outcome.RELEASED,
    "extend": Outcome.EXTENDED,
    "fulfil": Outcome.FULFILLED,
    "cancel": Outcome.CANCELLED,
}


def _refer(detail: Detail, revision: int, reference: str | None) -> Detail:
    """The detail of a reservation that is given another reference, if it is given one."""
    if reference is None:
        return detail
    return replace(detail, references=(*detail.references, (revision, reference)))


def _not_found(reservation: str) -> ReservationNotFound:
    return ReservationNotFound(f"there is no reservation {reservation[:64]}")
