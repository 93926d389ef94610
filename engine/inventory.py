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
from typing import Literal

from msgspec.structs import replace

from engine import limits, planner, refusals, settings
from engine.commands import Reply, Resolution, Resolve
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
from engine.ids import NO_OPERATION, fingerprint, parse_reservation_id, reservation_id
from engine.keys import partition_of
from engine.outcomes import Outcome
from engine.records import (
    Detail,
    Plan,
    build_reservation,
    decode_head,
    decode_record,
    encode_detail,
    first_head,
    is_reservation,
)
from engine.sweep import forget_all, sweep_all
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
    Status,
)

KNOWN_PLANS = 20_000
"""Reservations whose lines a process remembers, so that a commit needs no look-up first."""

_STATUSES = tuple(Status)


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
        body = plan.packed + planner.pack_detail(detail)
        partition = self._partition_of_plan(plan)
        commands = self.dataset.commands[partition]
        operation = self._ids.of_request(caller, op_id)
        mark = fingerprint(body)
        reply = await commands.reserve(
            operation,
            mark,
            ttl_seconds * 1000,
            body,
            plan.skus,
            swept=False,
            positions=len(plan.positions),
        )
        if reply.word == Outcome.OVERDUE:
            await self._sweep(partition)
            reply = await commands.reserve(
                operation,
                mark,
                ttl_seconds * 1000,
                body,
                plan.skus,
                swept=True,
                positions=len(plan.positions),
            )
        public_id = reservation_id(partition, operation)
        answer = reply.answer
        if type(answer) is int:
            self._remember(public_id, 0, plan, detail)
            self.metrics.count("reserve", Outcome.HELD)
            return planner.new_reservation(public_id, lines, detail, reply.epoch, answer, reply.now_ms)
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
        raise await self._refusal("reserve", reply, plan, shares)

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
            "commit", reservation, lines, op_id, caller, flags=flags, takes_swept=True, reference=reference
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
        partition, operation = self._route(reservation)
        reply = await self.dataset.commands[partition].find(operation)
        raw = reply.answer[1]
        if not is_reservation(raw):
            raise _not_found(reservation)
        record = decode_record(raw)
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
        takes_swept: bool = False,
        chooses: bool = True,
        reference: str | None = None,
    ) -> Reservation:
        partition, operation = self._route(reservation)
        commands, swept, fresh = self.dataset.commands[partition], b"", False
        if takes_swept:
            swept = b"\0"
        while True:
            revision, plan, detail = await self._known_plan(reservation, partition, operation, fresh=fresh)
            chosen = planner.choose_positions(plan, lines) if lines is not None else ()
            choice = planner.encode_choice(chosen) if chooses else b""
            following = _refer(detail, revision + 1, reference)
            rest = b"" if reference is None else encode_detail(following)
            own_operation, mark = NO_OPERATION, bytes(8)
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
            request = Resolve(operation, revision, plan.skus, own_operation, mark, len(plan.positions))
            reply = await commands.resolve(verb, request, flags + swept + choice + rest)
            answer = reply.answer
            if type(answer) is bytes:
                head = decode_head(answer)[0]
                if rest:
                    detail = following
                    self._remember(reservation, head.revision, plan, detail)
                self.metrics.count(verb, _SUCCESS[verb])
                return build_reservation(reservation, head, plan, detail)
            word = answer[0]
            if word in {b"replayed", b"repeated"}:
                head = decode_head(answer[1])[0]
                if head.revision != revision:
                    _, plan, detail = await self._known_plan(reservation, partition, operation, fresh=True)
                self.metrics.count(verb, Outcome.REPLAYED)
                return build_reservation(reservation, head, plan, detail, replayed=True)
            if word == b"stale":
                fresh = True
            elif word == b"overdue":
                await self._sweep(partition)
                swept = b"\1"
            else:
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
        reply = await self.dataset.commands[partition].movement(
            operation, mark, quantity, movement.location, movement.sku, detail
        )
        if type(reply.answer) is bytes:
            self.metrics.count(movement.kind, Outcome.RECORDED)
            return planner.decode_movement_result(reply.answer, partition, reply.epoch)
        if reply.answer[0] == b"replayed":
            self.metrics.count(movement.kind, Outcome.REPLAYED)
            return planner.decode_movement_result(reply.answer[1], partition, reply.epoch, replayed=True)
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
        return await asyncio.gather(
            *(self.dataset.commands[partition].save_location(location, packed) for partition in chosen)
        )

    # ---------------------------------------------------------------- reading

    async def availability(self, sku: str, *, locations: Sequence[str] = ()) -> Availability:
        """What can be promised of a SKU now, at some locations or at all that stock it.

        Raises `SkuNotFound`, `LocationNotFound`, `InvalidRequest`. Cost: about 2 µs of server time and
        0.3 µs a location.
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
        locations = tuple(dict.fromkeys(locations))
        all_commands, partitions = self.dataset.commands, self._partitions
        asked = [(all_commands[partition_of(sku, partitions)], sku) for sku in skus]
        replies = [commands.availability(sku, locations, swept=False) for commands, sku in asked]
        found = []
        for (commands, sku), waiting in zip(asked, replies, strict=True):
            reply = Reply(*await waiting)
            if reply.word == Outcome.OVERDUE:
                await self._sweep_if_possible(commands.partition)
                reply = Reply(*await commands.availability(sku, locations, swept=True))
            found.append(await self._read_availability(sku, reply, locations))
        return found

    async def _read_availability(
        self, sku: str, reply: Reply, locations: Sequence[str]
    ) -> Availability | None:
        answer = reply.answer
        if type(answer[0]) is bytes:
            return None
        places = [
            LocationAvailability(place.decode(), available, _STATUSES[status])
            for place, available, status in zip(answer[1::3], answer[2::3], answer[3::3], strict=True)
        ]
        if len(places) < len(locations):
            places = await self._fill_unstocked(locations, places)
        return planner.sum_availability(sku, f"{reply.epoch}.{answer[0]}", places)

    async def stock(self, sku: str, *, locations: Sequence[str] = ()) -> list[Position]:
        """The counters of a SKU's positions. Raises `SkuNotFound`, `InvalidRequest`."""
        planner.check_sku(sku, "/sku")
        for location in locations:
            planner.check_location(location, "/location")
        locations = tuple(dict.fromkeys(locations))
        partition = partition_of(sku, self._partitions)
        commands = self.dataset.commands[partition]
        reply = await commands.stock(sku, locations, swept=False)
        if reply.word == Outcome.OVERDUE:
            await self._sweep_if_possible(partition)
            reply = await commands.stock(sku, locations, swept=True)
        if reply.word is not None:
            raise refusals.plain_refusal(reply, f"SKU {sku}")
        answer, version = reply.answer, f"{reply.epoch}.{reply.answer[0]}"
        return [planner.read_position(answer[at : at + 10], version) for at in range(1, len(answer), 10)]

    async def _fill_unstocked(
        self, asked: Sequence[str], found: Sequence[LocationAvailability]
    ) -> list[LocationAvailability]:
        """A location that exists but does not stock the SKU has none of it."""
        by_id = {place.location: place for place in found}
        existing = {location.id for location in await self.locations()}
        for location in asked:
            if location not in existing:
                raise LocationNotFound(f"there is no location {location}")
        return [
            by_id.get(location) or LocationAvailability(location, 0, Status.OUT_OF_STOCK)
            for location in dict.fromkeys(asked)
        ]

    # ---------------------------------------------------------------- inside

    def _partition_of_plan(self, plan: Plan) -> int:
        if self._partitions == 1:
            return 0
        found = {partition_of(sku, self._partitions) for sku in plan.skus}
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

    async def _known_plan(
        self, reservation: str, partition: int, operation: bytes, *, fresh: bool
    ) -> tuple[int, Plan, Detail]:
        known = None if fresh else self._plans.get(reservation)
        if known is not None:
            return known
        reply = await self.dataset.commands[partition].find(operation)
        raw = reply.answer[1]
        if not is_reservation(raw):
            raise _not_found(reservation)
        record = decode_record(raw)
        self._remember(reservation, record.head.revision, record.plan, record.detail)
        return record.head.revision, record.plan, record.detail

    async def sweep(self) -> int:
        """Gives back every lapsed hold and forgets what is old; how many holds there were."""
        swept = await asyncio.gather(*(sweep_all(commands) for commands in self.dataset.commands))
        await asyncio.gather(*(forget_all(commands) for commands in self.dataset.commands))
        expired = sum(part.expired for part in swept)
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
