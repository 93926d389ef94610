"""Reservations whose places the engine chooses: by channel, pool and strategy, kits among them.

What lies in one partition is decided by one script, on the stock as it stands. A basket over several
partitions is planned from what each of them tells, then held at the chosen places, all or nothing; where
somebody was faster it is planned anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from engine import limits, planner
from engine.baskets import part_terms
from engine.cards import show
from engine.commands import Reply
from engine.errors import IdempotencyMismatch, InsufficientStock, InvalidRequest
from engine.ids import fingerprint, reservation_id
from engine.keys import route_of
from engine.outcomes import Outcome
from engine.records import (
    FINGERPRINT,
    KIND_BASKET,
    NO_RULES,
    Detail,
    Record,
    Terms,
    Undecided,
    build_reservation,
    decode_record,
    encode_terms,
    first_head,
    is_reservation,
)
from engine.reservations import Asked, Reservations
from engine.sourcing_plan import (
    Candidate,
    Choice,
    Group,
    PlannedLine,
    Reason,
    Rules,
    SourcingPlan,
    Wanted,
    check_rules,
    check_wanted,
    choose,
    decode_candidates,
    encode_request,
    group_of,
    reason_of,
    refuse,
    short,
    short_lines,
    split_groups,
)
from engine.sweep import sweep
from engine.types import Availability, Line, LocationAvailability, Reservation, Shortage

MOST_TRIES = 16
"""How often a basket over several partitions is planned anew before it is refused."""


class Sourcing(Reservations):
    """The part of `Inventory` that chooses places."""

    async def has_kits(self, skus: Iterable[str]) -> bool:
        """Whether some of these SKUs are kits, by settings of the last second: for who was told that they are
        unknown.
        """
        return not (await self.settings.current()).kits.isdisjoint(skus)

    def needs_sourcing(self, skus: Iterable[str], channel: str | None) -> bool:
        """Whether a reserve with places is more than the plain one: for a channel that sells by rules, or
        of a kit. By what this process knows of the settings, which may be a second old.
        """
        settings = self.settings.glance()
        if settings is None:
            return channel is not None
        return channel in settings.channels or (bool(settings.kits) and not settings.kits.isdisjoint(skus))

    async def source(
        self,
        op_id: str,
        lines: Sequence[Wanted],
        *,
        rules: Rules,
        ttl_seconds: int = limits.DEFAULT_TTL_SECONDS,
        owner: str | None = None,
        reference: str | None = None,
        metadata: Mapping[str, object] | None = None,
        caller: str = "",
    ) -> Reservation:
        """Holds lines where the rules say. Cost: 30 to 40 µs of server time, 100 where a thousand
        locations stock the SKU; who is refused pays 3 µs for each of them.

        Raises `InvalidRequest`, `IdempotencyMismatch`, `PoolNotFound`, `ChannelNotFound`, `SkuNotFound`,
        `NotStocked`, `InsufficientStock` (naming every short line).
        """
        if not 1 <= ttl_seconds <= limits.MAX_TTL_SECONDS:
            raise InvalidRequest("/ttl_seconds", f"from 1 to {limits.MAX_TTL_SECONDS}")
        detail = Detail(ttl_seconds, owner, reference, rules.channel, metadata or {})
        packed, order = planner.pack_detail(detail), await self._read_order(lines, rules)
        route = route_of(order.groups[0].members[0][0])
        start = (ttl_seconds * 1000).to_bytes(4, "little") + route.to_bytes(2, "little")
        asked = encode_request(order.groups, rules)
        operation = self._ids.of_request(caller, op_id)
        mark = fingerprint(b"".join((b"source", start, asked, packed)))
        argument = b"".join((operation, mark, start, asked, packed))
        if self._partitions == 1:
            return await self._source(order, operation, route, argument)
        home = route % self._partitions
        async with self.baskets.bound(operation, mark, home, ttl_seconds=ttl_seconds):
            if list(split_groups(order.groups, self._partitions)) == [home]:
                return await self._source(order, operation, route, argument)
            return await self._source_apart(order, operation, mark, route, detail)

    async def _make_way(self, asked: Asked) -> Reservation:
        """A plain reserve that only fits if units that float are moved."""
        lines = asked.plan.positions
        groups = [Group(line.quantity, line.location, ((line.sku, 1),)) for line in lines]
        rules = Rules()
        argument = b"".join(
            (
                asked.operation,
                asked.mark,
                (asked.detail.ttl_seconds * 1000).to_bytes(4, "little"),
                asked.plan.route.to_bytes(2, "little"),
                encode_request(groups, rules),
                planner.pack_detail(asked.detail),
            )
        )
        wanted = [Wanted(line.sku, line.quantity, line.location) for line in lines]
        # The scripts are told no channel; whom a refusal hits is noted all the same.
        order = _Order(wanted, groups, Rules(channel=asked.detail.channel))
        return await self._source(order, asked.operation, asked.plan.route, argument)

    async def plan(self, lines: Sequence[Wanted], *, rules: Rules) -> SourcingPlan:
        """What `source` would do at this moment, and why. Raises as it does, but for short lines."""
        return await self._plan(await self._read_order(lines, rules))

    async def availability_by(
        self,
        sku: str,
        *,
        rules: Rules,
        locations: Sequence[str] = (),
        quantity: int | None = None,
        own: Sequence[bytes] = (),
    ) -> tuple[Availability, bool | None]:
        """What a channel or a pool can promise of a SKU; and whether `quantity` could be reserved, of the
        locations that are named each by itself. What the `own` ids hold counts as free.

        Raises `SkuNotFound`, `PoolNotFound`, `ChannelNotFound`.
        """
        order = replace(await self._read_order([Wanted(sku, quantity or 1)], rules), own=own)
        found = await self._plan(order)
        chosen = [
            one
            for one in found.lines[0].candidates
            if one.reason not in {Reason.INACTIVE, Reason.INCAPABLE}
            and (not locations or one.location in locations)
        ]
        is_kit = order.groups[0].members != ((sku, 1),)
        places = [
            LocationAvailability(
                one.location,
                *(
                    show(one.room, 0, 0, 0)
                    if is_kit
                    else show(one.free, one.backorder_limit, one.low_stock, one.expected)
                ),
            )
            for one in sorted(chosen, key=lambda one: one.location)
        ]
        fits = None
        if quantity is not None:
            # Who names neither channel nor pool has to name one location.
            is_one = bool(locations) or rules.everywhere
            fits = any(one.room >= quantity for one in chosen) if is_one else found.can_reserve
            if is_one and not fits:
                fits = await self._fits_at([one.location for one in chosen], sku, quantity, rules)
        return planner.sum_availability(sku, found.version, places), fits

    async def _fits_at(self, locations: Sequence[str], sku: str, quantity: int, rules: Rules) -> bool:
        """Whether one of some locations that stock a SKU could give so many, if units that float make way."""
        wanted = [Wanted(sku, quantity, location) for location in locations[: limits.MAX_LINES]]
        if not wanted:
            return False
        found = await self.plan(wanted, rules=rules)
        return any(line.taken >= quantity for line in found.lines)

    # ---------------------------------------------------------------- one partition

    async def _read_order(self, lines: Sequence[Wanted], rules: Rules) -> "_Order":
        """Lines as groups: kits by their components. Raises `InvalidRequest`."""
        check_wanted(lines)
        check_rules(lines, rules)
        settings = await self.settings.current()
        if rules.pool is not None and rules.pool in settings.pools:
            places = len(settings.locations_of_pool(rules.pool))
        elif rules.channel is not None and rules.channel in settings.channels:
            places = len(settings.locations_of_channel(rules.channel))
        else:
            places = len(settings.locations)
        return _Order(lines, [group_of(line, settings) for line in lines], rules, places)

    async def _source(self, order: "_Order", operation: bytes, route: int, argument: bytes) -> Reservation:
        commands = self.dataset.commands[route % self._partitions]
        reply = Reply(*await commands.source(argument, order.weight(_FOUND_EARLY)))
        while reply.word == Outcome.OVERDUE:
            await sweep(commands)
            reply = Reply(*await commands.source(argument, order.weight(_FOUND_EARLY)))
        if reply.word not in {None, Outcome.REPLAYED}:
            self.metrics.count("reserve", Outcome(reply.word))
            refusal = refuse(reply, order.groups, order.names, order.rules)
            self._note_loss(refusal, order.rules.channel)
            raise refusal
        is_replayed = reply.word is not None
        self.metrics.count("reserve", Outcome.REPLAYED if is_replayed else Outcome.HELD)
        return _show(decode_record(reply.answer[1]), route, operation, replayed=is_replayed)

    async def _ask_plan(
        self, partition: int, order: "_Order", groups: Sequence[Group]
    ) -> tuple[Sequence[Any], str]:
        """The answer of `plan` for groups of one partition, and the version it is true of."""
        commands, argument = self.dataset.commands[partition], encode_request(groups, order.rules)
        weight = replace(order, groups=groups).weight(_ALL_READ)
        reply = Reply(*await commands.plan(argument, weight, swept=False, own=order.own))
        if reply.word == Outcome.OVERDUE:
            await sweep(commands)
            reply = Reply(*await commands.plan(argument, weight, swept=True, own=order.own))
        if reply.word is not None:
            raise refuse(reply, groups, order.names, order.rules)
        return reply.answer, f"{reply.epoch}.{reply.answer[0]}"

    # ---------------------------------------------------------------- several partitions

    async def _plan(self, order: "_Order") -> SourcingPlan:
        partitions = list(split_groups(order.groups, self._partitions))
        if len(partitions) == 1:
            answer, version = await self._ask_plan(partitions[0], order, order.groups)
            planned = [
                PlannedLine(line.sku, line.quantity, decode_candidates(packed))
                for line, packed in zip(order.lines, answer[2:], strict=True)
            ]
            return SourcingPlan(bool(answer[1]), version, planned)
        rooms, version, choice, _ = await self._choose_apart(order)
        planned = []
        for line, candidates, taken, left in zip(order.lines, rooms, choice.taken, choice.left, strict=True):
            told = [
                replace(
                    one,
                    taken=taken.get(one.location, 0),
                    reason=reason_of(one, taken.get(one.location, 0), left),
                )
                for one in candidates
            ]
            planned.append(PlannedLine(line.sku, line.quantity, told))
        return SourcingPlan(choice.is_enough(order.rules), version, planned)

    async def _choose_apart(self, order: "_Order") -> tuple[list[list[Candidate]], str, Choice, bool]:
        """The candidates of each group, the version they are true of, what is chosen of them, and whether
        some of that is inbound: what is there comes first, wherever it is.
        """
        there = replace(order, rules=replace(order.rules, from_inbound=False))
        rooms, version = await self._read_rooms(there, 1)
        choice = choose(order.groups, rooms, order.rules)
        if not order.rules.from_inbound or not any(choice.left):
            return rooms, version, choice, False
        # Nobody has so many: what is inbound is told only where what is there does not suffice.
        rooms, version = await self._read_rooms(order, limits.MAX_QUANTITY)
        return rooms, version, choose(order.groups, rooms, order.rules, first=choice), True

    async def _read_rooms(self, order: "_Order", sets: int) -> tuple[list[list[Candidate]], str]:
        """The candidates of each group for so many sets: a kit has what each of its partitions has of it."""
        found: list[list[dict[str, Candidate]]] = [[] for _ in order.groups]
        version = ""
        for partition, members in split_groups(order.groups, self._partitions).items():
            own = [Group(sets, group.location, group.members) for _, group in members]
            answer, version = await self._ask_plan(partition, order, own)
            for (index, _), packed in zip(members, answer[2:], strict=True):
                found[index].append({one.location: one for one in decode_candidates(packed)})
        return [
            [
                min((part[location] for part in parts), key=lambda one: one.room)
                for location in parts[0]
                if all(location in part for part in parts)
            ]
            for parts in found
        ], version

    async def _source_apart(
        self, order: "_Order", operation: bytes, mark: bytes, route: int, detail: Detail
    ) -> Reservation:
        """Plans, holds at the chosen places, and plans anew where somebody was faster."""
        prior, tries = await self._find_attempt(operation, mark, route), 0
        while True:
            lines: Sequence[Line]
            if prior is None:
                try:
                    lines, terms, waits = await self._choose_lines(order)
                except InsufficientStock as refusal:
                    # The same request, sent twice at once, may have taken them.
                    prior = await self._find_attempt(operation, mark, route)
                    if prior is None:
                        self._note_loss(refusal, order.rules.channel)
                        raise
                    continue
            elif prior.head.state is Undecided.PENDING:
                # What it holds is not free to anybody, but this request has it already.
                lines, terms, waits = prior.plan.positions, prior.terms, order.rules.from_inbound
            else:
                self.metrics.count("reserve", Outcome.REPLAYED)
                return _show(prior, route, operation, replayed=True)
            try:
                return await self._hold_apart(lines, operation, mark, detail, terms, waits=waits)
            except InsufficientStock:
                prior, tries = None, tries + 1
                if tries == MOST_TRIES:
                    raise

    async def _find_attempt(self, operation: bytes, mark: bytes, route: int) -> Record | None:
        """What came of the same request so far; of an attempt that was abandoned, nothing is held any more.

        Raises `IdempotencyMismatch` where it was another request.
        """
        _, _, _, (_, raw) = await self.dataset.commands[route % self._partitions].find(operation)
        if not is_reservation(raw):
            return None
        record = decode_record(raw)
        if record.head.state is Undecided.ABANDONED:
            await self.baskets.tell_all(operation, record)
            return None
        if raw[FINGERPRINT] != mark:
            raise IdempotencyMismatch("this operation id was used before, with other content")
        return record

    async def _choose_lines(self, order: "_Order") -> tuple[Sequence[Line], Terms, bool]:
        """The places to hold at, by whose terms, and whether some of it is inbound. Raises
        `InsufficientStock`.
        """
        rooms, version, choice, waits = await self._choose_apart(order)
        if not choice.is_enough(order.rules) or not choice.taken[0]:
            refusal = short(_name_short(order, rooms, choice.left), version)
            raise refusal
        return choice.lines(order.groups), Terms(await self._channel_of(order.rules)), waits

    async def _channel_of(self, rules: Rules) -> str:
        """The channel by whose rules places were chosen; one that nobody has saved has none."""
        settings = await self.settings.current()
        return rules.channel if rules.channel is not None and rules.channel in settings.channels else ""

    async def _hold_apart(
        self,
        lines: Sequence[Line],
        operation: bytes,
        mark: bytes,
        detail: Detail,
        terms: Terms,
        *,
        waits: bool,
    ) -> Reservation:
        """Holds lines at the chosen places, as a basket even where one partition has them all: a repeat may
        have chosen others.
        """
        plan, _ = planner.plan_lines(lines)
        partition = plan.route % self._partitions
        body = b"".join(
            (
                (detail.ttl_seconds * 1000).to_bytes(4, "little"),
                plan.route.to_bytes(2, "little"),
                plan.packed,
                encode_terms(terms) or NO_RULES,
                planner.pack_detail(detail),
            )
        )
        argument = self.dataset.commands[partition].encode_reserve(
            operation, mark, body, len(plan.positions), kind=KIND_BASKET
        )
        return await self._reserve_basket(
            Asked(
                partition,
                operation,
                mark,
                plan.positions,
                plan,
                detail,
                argument,
                is_apart=True,
                terms=part_terms(terms),
                waits=waits,
            )
        )


_FOUND_EARLY, _ALL_READ = 0.25, 4.0
"""Positions of a candidate: one only looked at where others have too little, and one that is told of."""


class _Order(Struct, frozen=True):
    """A request, with its lines as groups."""

    lines: Sequence[Wanted]
    groups: Sequence[Group]
    rules: Rules
    places: int = 0
    """Locations of the pools: so many candidates a group may have."""
    own: Sequence[bytes] = ()
    """Ids of reservations and parts whose held units count as free: for who only asks."""

    @property
    def names(self) -> list[str]:
        return [line.sku for line in self.lines]

    def weight(self, of_place: float) -> int:
        """Positions that this counts for in a call, so that one call stays short."""
        free = sum(not group.location for group in self.groups)
        return 4 * len(self.groups) + int(of_place * self.places) * free


def _name_short(order: _Order, rooms: Sequence[Sequence[Candidate]], left: Sequence[int]) -> list[Shortage]:
    missing = [index for index, sets in enumerate(left) if sets] or [0]
    found = {index: (sum(one.room for one in rooms[index]), order.lines[index].quantity) for index in missing}
    return short_lines(found, [(line.sku, line.location, line.quantity) for line in order.lines])


def _show(record: Record, route: int, operation: bytes, *, replayed: bool) -> Reservation:
    head = first_head(record.head, record.detail) if replayed else record.head
    return build_reservation(
        reservation_id(route, operation), head, record.plan, record.detail, replayed=replayed
    )
