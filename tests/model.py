"""What the engine promises, in plain Python: slow, single-threaded, and without a store.

Written from the documents, to be read beside them. A `Call` is one request; `Model.apply` answers it
with `Told`, `Booked` or `Refusal`. The driver in `tests/driver.py` brings the engine's answers into the
same words, so that the two can be compared with `==`.

Time stands still until `now_ms` is set. Whatever has lapsed stays in the books until somebody sweeps:
a reader, a request that would be refused for lack of stock, or the sweeper itself.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Literal

from tests.model_facts import FACTS, HISTORY_MS, FactBook

Place = tuple[str, str]
"""A position: SKU and location."""

Lines = tuple[tuple[str, int, str], ...]
"""SKU, quantity and location of each line."""

Verb = Literal[
    *("reserve", "commit", "release", "extend", "fulfil", "cancel", "move", "replace"),
    *("receive", "sale", "return", "adjust", "condition", "count", "set"),
]

MAX_ON_HAND = 10**15


@dataclass(frozen=True)
class Call:
    """A request. `key` is its operation id, None where the caller chose none.

    `reservation` names a reservation by the key of the reserve that made it.
    """

    verb: Verb
    key: str | None
    lines: Lines | None = None
    reservation: str = ""
    ttl_seconds: int = 900
    keep: bool = False
    fulfil: bool = False
    retake: bool = False
    reference: str | None = None
    occurred_ms: int | None = None
    """When a fact happened; None is now."""
    condition: str = ""
    to_condition: str = ""
    """What the goods of a fact are in, and for `condition` what they come into; no name: sellable."""
    target: str = ""
    """Where a move goes."""


@dataclass(frozen=True)
class Units:
    """What became of the units of one position of a reservation; `back` was released or lapsed."""

    quantity: int
    held: int = 0
    committed: int = 0
    fulfilled: int = 0
    back: int = 0


@dataclass(frozen=True)
class Told:
    """A reservation as a caller is told of it. `version` is a sequence number."""

    state: str
    expires_ms: int | None
    version: int
    units: Mapping[Place, Units]
    reference: str | None = None
    replayed: bool = False


@dataclass(frozen=True)
class Booked:
    """The answer to a fact. `uncovered` names reservations and units, newest promise first; `effect` is what
    it did to on_hand.
    """

    on_hand: int
    available: int
    version: int
    uncovered: tuple[tuple[str, int], ...] = ()
    replayed: bool = False
    effect: int = 0
    ignored: str | None = None


@dataclass(frozen=True)
class Refusal:
    """The answer to a request that has no effect. `named` tells what was short or in excess."""

    word: str
    version: int | None = None
    named: tuple[tuple[object, ...], ...] = ()


Answer = Told | Booked | Refusal


class RefusedError(Exception):
    """Carries a refusal out of a decision."""

    def __init__(self, word: str, version: int | None, named: Iterable[tuple[object, ...]] = ()) -> None:
        super().__init__(word)
        self.refusal = Refusal(word, version, tuple(named))


NOTHING_FURTHER = (0, 0, 0, 0)


@dataclass(frozen=True)
class Policy:
    """What withholds units of a position from sale, or allows more to be sold than there are."""

    unsellable: int = 0
    safety_stock: int = 0
    backorder_limit: int = 0
    fenced: int = 0
    low_stock: int = 0
    further: tuple[int, int, int, int] = NOTHING_FURTHER
    """Inbound, flags, floating, preordered."""


@dataclass
class Position:
    """The counters of one SKU at one location."""

    on_hand: int = 0
    held: int = 0
    allocated: int = 0
    policy: Policy = Policy()

    @property
    def free(self) -> int:
        """What can be promised without a back-order."""
        withheld = self.policy.unsellable + self.policy.safety_stock + self.policy.fenced
        return self.on_hand - withheld - self.allocated - self.held

    @property
    def available(self) -> int:
        """What is shown: never below what may be back-ordered."""
        return max(self.free, -self.policy.backorder_limit)

    @property
    def promisable(self) -> int:
        """The largest request that fits."""
        return self.free + self.policy.backorder_limit

    @property
    def shortfall(self) -> int:
        """Promised units that the goods no longer cover."""
        promised = self.held + self.allocated
        covered = self.on_hand - self.policy.unsellable + self.policy.backorder_limit
        return max(0, min(promised, promised - covered))

    @property
    def status(self) -> str:
        """How a shopper sees it."""
        if self.available > self.policy.low_stock:
            return "in_stock"
        if self.available > 0:
            return "low_stock"
        if self.promisable > 0:
            return "backorder"
        return "preorder" if self.policy.further[0] > self.policy.further[3] else "out_of_stock"


@dataclass
class Share:
    """A reservation's units of one position, by what became of them; the rest has lapsed."""

    quantity: int
    held: int = 0
    committed: int = 0
    fulfilled: int = 0
    released: int = 0
    promised_at: int = 0
    """The sequence number at which these units were promised."""

    @property
    def lapsed(self) -> int:
        return self.quantity - self.held - self.committed - self.fulfilled - self.released

    def told(self) -> Units:
        back = self.released + self.lapsed
        return Units(self.quantity, self.held, self.committed, self.fulfilled, back)


@dataclass
class Reservation:
    """Lines held under one id."""

    name: str
    partition: int
    content: object
    first: Told
    places: tuple[Place, ...]
    """The position of each line; lines may share one."""
    shares: dict[Place, Share]
    deadline_ms: int
    versions: range
    """The sequence number of its last change; where a sweep changed several, any of those."""
    reference: str | None
    parts: dict[Place, Share] | None = None
    """Of a basket over several partitions: the units as its parts have them, who follow what it decides."""
    offered: Mapping[int, int] | None = None
    """Of one whose parts have not heard of other lines: which of them hold what it gets, and since when."""
    hold_ended_by: str | None = None
    closed_by: str | None = None
    forget_ms: int | None = None

    def promised(self, place: Place) -> Share | None:
        """The units of a position as its partition has them."""
        return (self.shares if self.parts is None else self.parts).get(place)

    def total(self, column: str) -> int:
        return sum(int(getattr(share, column)) for share in self.shares.values())

    @property
    def state(self) -> str:
        """State follows units; without any, how the reservation was closed decides."""
        for column, word in (("held", "held"), ("committed", "committed"), ("fulfilled", "fulfilled")):
            if self.total(column):
                return word
        return {"cancel": "cancelled", "expire": "expired"}.get(self.closed_by or "", "released")

    def told(self, *, replayed: bool = False) -> Told:
        state = self.state
        return Told(
            state,
            self.deadline_ms if state == "held" else None,
            self.versions[0],
            {place: share.told() for place, share in self.shares.items()},
            self.reference,
            replayed,
        )


@dataclass
class Memory:
    """An operation id that was used."""

    content: object
    answer: Told | Booked
    forget_ms: int


@dataclass
class Bond:
    """What binds a key to its content while its effect may be in another partition than the key's keeper."""

    content: object
    asked: int
    until_ms: int


@dataclass
class Model:
    """A whole data set. `partition` tells which partition a SKU belongs to, `keeper` which one keeps a key:
    of a movement, or of another request.
    """

    locations: set[str]
    retention_ms: int
    partition: Callable[[str], int] = lambda sku: 0
    now_ms: int = 0
    keeper: Callable[[bool, str], int] = lambda of_movement, key: 0
    positions: dict[Place, Position] = field(default_factory=dict)
    reservations: dict[str, Reservation] = field(default_factory=dict)
    requests: dict[tuple[int, str], Memory] = field(default_factory=dict)
    facts: dict[tuple[int, str], Memory] = field(default_factory=dict)
    sequences: dict[int, int] = field(default_factory=dict)
    expected: dict[Place, dict[bytes, int]] = field(default_factory=dict)
    """Position → source → units that it will bring."""
    bonds: dict[tuple[bool, str], Bond] = field(default_factory=dict)
    rank: Callable[[str], bytes] = str.encode
    """By the key of a count: which of two of one moment is the newer one."""
    book: FactBook = field(default_factory=FactBook)

    # ---------------------------------------------------------------- what callers do

    def apply(self, call: Call) -> Answer:
        """Decides a request."""
        try:
            with self._bound(call):
                if call.verb in FACTS:
                    return self._record(call)
                try:
                    return self._decide(call)
                except RefusedError as refused:
                    if refused.refusal.word != "insufficient_stock" or self.is_apart(call):
                        raise
                # A refusal does not count what has lapsed.
                self.give_back(self._partition_of(call))
                return self._decide(call)
        except RefusedError as refused:
            return refused.refusal

    def is_apart(self, call: Call) -> bool:
        """Whether a reserve touches several partitions."""
        return call.verb == "reserve" and len({self.partition(sku) for sku, _, _ in call.lines or ()}) > 1

    def is_kept(self, key: str, *, of_movement: bool = False) -> bool:
        """Whether a key that took effect is still known in every partition."""
        bond, keeper = self.bonds.get((of_movement, key)), self.keeper(of_movement, key)
        known = self.facts if of_movement else self.requests
        reservation = None if of_movement else self.reservations.get(key)
        is_there = (keeper, key) in known or (reservation is not None and reservation.partition == keeper)
        return is_there or (bond is not None and bond.until_ms > self.now_ms)

    def available(self, sku: str) -> dict[str, tuple[int, str]] | Refusal:
        """What each location that stocks a SKU can promise, and its status."""
        partition = self.partition(sku)
        if not any(known == sku for known, _ in self.positions):
            return Refusal("sku_not_found", self.sequence(partition))
        self.give_back(partition)
        return {
            location: (position.available, position.status)
            for (known, location), position in self.positions.items()
            if known == sku
        }

    def sweep(self, partitions: Iterable[int]) -> int:
        """Gives back what has lapsed, forgets what is old. Returns how many holds there were."""
        count = sum(self.give_back(partition) for partition in partitions)
        for reservation in self.reservations.values():
            self._follow(reservation)
        for partition in partitions:
            self.forget(partition)
        return count

    def give_back(self, partition: int) -> int:
        """Gives back what has lapsed; of a basket over several partitions only a sweep tells the parts.
        Returns how many holds there were.
        """
        lapsed = [
            reservation
            for reservation in self.reservations.values()
            if reservation.partition == partition and self._is_lapsed(reservation)
        ]
        first = self.sequence(partition) + 1
        versions = range(first, first + len(lapsed))
        for reservation in lapsed:
            for place, share in reservation.shares.items():
                if reservation.parts is None:
                    self.positions[place].held -= share.held
                share.held = 0
            self._close(reservation, "expire")
            reservation.versions = versions
        return len(lapsed)

    def forget(self, partition: int) -> None:
        """Forgets what was finished or used longer ago than the retention."""
        for known in (self.requests, self.facts):
            for key in [key for key, memory in known.items() if key[0] == partition]:
                if known[key].forget_ms <= self.now_ms:
                    del known[key]
        for bound in [bound for bound in self.bonds if self.keeper(*bound) == partition]:
            if self.bonds[bound].until_ms <= self.now_ms:
                del self.bonds[bound]
        for name, reservation in list(self.reservations.items()):
            is_old = reservation.forget_ms is not None and reservation.forget_ms <= self.now_ms
            if reservation.partition == partition and is_old:
                del self.reservations[name]

    def sequence(self, partition: int) -> int:
        """The number of effects so far."""
        return self.sequences.get(partition, 0)

    # ---------------------------------------------------------------- reserve

    def _reserve(self, call: Call) -> Told:
        assert call.key is not None
        assert call.lines
        partition = self._partition_of(call)
        content = ("reserve", call.lines, call.ttl_seconds, call.reference)
        prior = self.reservations.get(call.key)
        if prior is not None:
            if prior.content != content:
                raise RefusedError("idempotency_mismatch", None)
            return replace(prior.first, replayed=True)
        if (partition, call.key) in self.requests:
            raise RefusedError("idempotency_mismatch", None)
        wanted = _sum_lines(call.lines)
        is_apart = self.is_apart(call)
        if is_apart:
            version, promised = self._hold_parts(wanted, call.lines, partition)
        else:
            self._check_stock(wanted, call.lines, partition)
            version = self._next(partition)
            promised = {partition: version}
        for place, quantity in wanted.items():
            self.positions[place].held += quantity
        shares = {
            place: Share(quantity, held=quantity, promised_at=promised[self.partition(place[0])])
            for place, quantity in wanted.items()
        }
        deadline_ms = self.now_ms + call.ttl_seconds * 1000
        units = {place: share.told() for place, share in shares.items()}
        first = Told("held", deadline_ms, version, units, call.reference)
        self.reservations[call.key] = Reservation(
            call.key,
            partition,
            content,
            first,
            tuple((sku, location) for sku, _, location in call.lines),
            shares,
            deadline_ms,
            range(version, version + 1),
            call.reference,
            {place: replace(share) for place, share in shares.items()} if is_apart else None,
        )
        return first

    def _hold_parts(
        self, wanted: Mapping[Place, int], lines: Lines, home: int
    ) -> tuple[int, Mapping[int, int]]:
        """Opens a basket over several partitions, holds its parts, decides. Returns the version and, for each
        partition, when its part was held.
        """
        self._next(home)
        promised, refused = dict[int, int](), list[Refusal]()
        for partition in dict.fromkeys(self.partition(sku) for sku, _ in wanted):
            own = {place: units for place, units in wanted.items() if self.partition(place[0]) == partition}
            try:
                try:
                    self._check_stock(own, lines, partition)
                except RefusedError as error:
                    if error.refusal.word != "insufficient_stock":
                        raise
                    self.give_back(partition)
                    self._check_stock(own, lines, partition)
            except RefusedError as error:
                refused.append(error.refusal)
            else:
                promised[partition] = self._next(partition)
        version = self._next(home)
        if not refused:
            return version, promised
        for partition in promised:
            self._next(partition)
        words = ("sku_not_found", "not_stocked", "insufficient_stock")
        word = min((refusal.word for refusal in refused), key=words.index)
        chosen = [refusal for refusal in refused if refusal.word == word]
        named = sorted(part for refusal in chosen for part in refusal.named)
        raise RefusedError(word, chosen[0].version, named)

    def _follow(self, reservation: Reservation) -> None:
        """The parts of a basket come to where it is, each with one event if it moves any units."""
        if reservation.parts is None:
            return
        moved = set()
        for place, part in reservation.parts.items():
            share, position = reservation.shares[place], self.positions[place]
            before, after = part.told(), share.told()
            if (before.held, before.committed, before.fulfilled) != (
                after.held,
                after.committed,
                after.fulfilled,
            ):
                position.held += after.held - before.held
                position.allocated += after.committed - before.committed
                self._leave(place, reservation.name, after.fulfilled - before.fulfilled)
                moved.add(self.partition(place[0]))
            reservation.parts[place] = replace(share)
        for partition in moved:
            self._next(partition)

    @contextmanager
    def _bound(self, call: Call) -> Iterator[None]:
        """Binds a request's key where its keeper is another partition than that of its effect."""
        of_movement = call.verb in FACTS
        partition = self._partition_of(call)
        if call.key is None or partition < 0 or self.keeper(of_movement, call.key) == partition:
            held = self.bonds.get((of_movement, call.key or ""))
            if held is not None and call.key is not None and partition >= 0:
                raise RefusedError("idempotency_mismatch", None)
            yield
            return
        bound, bond = (of_movement, call.key), self.bonds.get((of_movement, call.key))
        content = partition, _content_of(call)
        is_alive = bond is not None and bond.until_ms > self.now_ms
        is_kept = self.is_kept(call.key, of_movement=of_movement)
        if is_kept and not (is_alive and bond is not None and bond.content == content):
            raise RefusedError("idempotency_mismatch", None)
        keep_ms = self.retention_ms + (call.ttl_seconds * 1000 if call.verb == "reserve" else 0)
        until_ms = self.now_ms + keep_ms
        if bond is None or not is_alive:
            bond = Bond(content, 0, until_ms)
        bond = self.bonds[bound] = Bond(content, bond.asked + 1, max(bond.until_ms, until_ms))
        try:
            yield
        except RefusedError:
            bond.asked -= 1
            if not bond.asked:
                del self.bonds[bound]
            raise

    def _check_stock(self, wanted: Mapping[Place, int], lines: Lines, partition: int) -> None:
        version = self.sequence(partition)
        if any(location not in self.locations for _, location in wanted):
            raise RefusedError("location_not_found", version)
        stocked = {sku for sku, _ in self.positions}
        if any(sku not in stocked for sku, _ in wanted):
            raise RefusedError("sku_not_found", version)
        if any(place not in self.positions for place in wanted):
            raise RefusedError("not_stocked", version)
        short = {place for place in wanted if self.positions[place].promisable < wanted[place]}
        if short:
            raise RefusedError(
                "insufficient_stock",
                version,
                (
                    (number, sku, location, wanted[sku, location], self.positions[sku, location].available)
                    for number, (sku, _, location) in enumerate(lines)
                    if (sku, location) in short
                ),
            )

    # ---------------------------------------------------------------- verbs on a reservation

    def _decide(self, call: Call) -> Told:
        if call.verb == "reserve":
            return self._reserve(call)
        reservation = self.reservations.get(call.reservation)
        if reservation is None:
            raise RefusedError("reservation_not_found", None)
        partition = reservation.partition
        chosen = None if call.lines is None else _sum_lines(call.lines)
        content = replace(call, key=None, lines=None), None if chosen is None else tuple(chosen.items())
        if call.key is not None:
            memory = self.requests.get((partition, call.key))
            if memory is not None and memory.content == content:
                assert isinstance(memory.answer, Told)
                return replace(memory.answer, replayed=True)
            if memory is not None or call.key in self.reservations:
                raise RefusedError("idempotency_mismatch", None)
        if call.verb not in {"move", "replace"} and not reservation.shares.keys() >= (chosen or {}).keys():
            raise RefusedError("invalid_request", None)
        if self._is_repeat(call, reservation):
            return reservation.told(replayed=True)
        self._verb(call)(call, reservation, chosen)
        self._close(reservation, call.verb)
        if call.verb != "extend":
            self._follow(reservation)
        answer = reservation.told()
        if call.key is not None:
            # A hold may last longer than the retention: as long as it does, a repeat must not count again.
            last_ms = reservation.deadline_ms if reservation.state == "held" else 0
            forget_ms = max(self.now_ms, last_ms) + self.retention_ms
            self.requests[partition, call.key] = Memory(content, answer, forget_ms)
        return answer

    def _verb(self, call: Call) -> Callable[[Call, Reservation, Mapping[Place, int] | None], None]:
        """What a request does to a reservation."""
        return {
            "commit": self._commit,
            "release": self._release,
            "extend": self._extend,
            "fulfil": self._fulfil,
            "cancel": self._cancel,
        }[call.verb]

    def _is_repeat(self, call: Call, reservation: Reservation) -> bool:
        """Whether the whole reservation already is as asked, by the same verb."""
        state, held_end, closed = reservation.state, reservation.hold_ended_by, reservation.closed_by
        if call.lines is not None or state == "held":
            return False
        if call.verb == "commit":
            is_closed_so = (
                state == "fulfilled" and closed == "commit" if call.fulfil else state == "committed"
            )
            return held_end == "commit" and is_closed_so
        if call.verb == "release":
            return held_end == "release"
        if call.verb == "fulfil":
            return state == "fulfilled" and closed != "cancel"
        if call.verb == "cancel":
            return closed == "cancel" and state in {"cancelled", "fulfilled"}
        return False

    def _commit(self, call: Call, reservation: Reservation, chosen: Mapping[Place, int] | None) -> None:
        goal = "fulfilled" if call.fulfil else "committed"
        if reservation.state == "held":
            takes = self._choose(reservation, "held", chosen)
            for place, share in reservation.shares.items():
                self._move(reservation, place, "held", goal, takes.get(place, 0))
                if not call.keep:
                    self._move(reservation, place, "held", "released", share.held)
        elif reservation.state == "expired" and call.retake and reservation.parts is None:
            takes = self._choose(reservation, "lapsed", chosen)
            version = self.sequence(reservation.partition)
            short = [
                place for place, units in takes.items() if units and self.positions[place].promisable < units
            ]
            if short:
                raise RefusedError(
                    "insufficient_stock",
                    version,
                    (
                        (number, *place, takes[place], self.positions[place].available)
                        for number, place in enumerate(reservation.places)
                        if place in short
                    ),
                )
            for place, units in takes.items():
                if units:
                    reservation.shares[place].promised_at = version + 1
                self._move(reservation, place, "lapsed", goal, units)
        else:
            raise self._not_held(reservation)
        reservation.reference = call.reference or reservation.reference

    def _release(self, call: Call, reservation: Reservation, chosen: Mapping[Place, int] | None) -> None:
        if reservation.state != "held":
            raise self._not_held(reservation)
        for place, units in self._choose(reservation, "held", chosen).items():
            self._move(reservation, place, "held", "released", units)

    def _extend(self, call: Call, reservation: Reservation, chosen: Mapping[Place, int] | None) -> None:
        if reservation.state != "held":
            raise self._not_held(reservation)
        reservation.deadline_ms = max(reservation.deadline_ms, self.now_ms + call.ttl_seconds * 1000)

    def _fulfil(self, call: Call, reservation: Reservation, chosen: Mapping[Place, int] | None) -> None:
        if not reservation.total("committed"):
            raise self._conflict(reservation)
        for place, units in self._choose(reservation, "committed", chosen).items():
            self._move(reservation, place, "committed", "fulfilled", units)

    def _cancel(self, call: Call, reservation: Reservation, chosen: Mapping[Place, int] | None) -> None:
        if not reservation.total("committed"):
            raise self._conflict(reservation)
        for place, units in self._choose(reservation, "committed", chosen).items():
            self._move(reservation, place, "committed", "released", units)

    def _choose(
        self, reservation: Reservation, column: str, chosen: Mapping[Place, int] | None
    ) -> Mapping[Place, int]:
        """The units that a request takes: those it names, or all that are open."""
        open_units = {place: int(getattr(share, column)) for place, share in reservation.shares.items()}
        if chosen is None:
            return open_units
        excess = [place for place, units in chosen.items() if units > open_units[place]]
        if excess:
            raise RefusedError(
                "exceeds_open_quantity",
                self.sequence(reservation.partition),
                ((*place, chosen[place], open_units[place]) for place in excess),
            )
        return chosen

    def _move(self, reservation: Reservation, place: Place, source: str, goal: str, units: int) -> None:
        """Moves units from one column to another and keeps the position's counters in step."""
        share = reservation.shares[place]
        if source != "lapsed":
            setattr(share, source, getattr(share, source) - units)
        setattr(share, goal, getattr(share, goal) + units)
        if reservation.parts is not None:
            return
        position = self.positions[place]
        position.held -= units if source == "held" else 0
        position.allocated += units * ((goal == "committed") - (source == "committed"))
        self._leave(place, reservation.name, units if goal == "fulfilled" else 0)

    def _close(self, reservation: Reservation, verb: str) -> None:
        """Numbers the effect, and notes who took the last held and the last open unit."""
        had_hold = reservation.hold_ended_by in {None, "expire"}
        if not reservation.total("held"):
            if had_hold and verb in {"commit", "release", "expire"}:
                reservation.hold_ended_by = verb
            if not reservation.total("committed"):
                reservation.closed_by = verb
        version = self._next(reservation.partition)
        reservation.versions = range(version, version + 1)
        is_open = reservation.state in {"held", "committed"}
        reservation.forget_ms = None if is_open else self.now_ms + self.retention_ms

    def _conflict(self, reservation: Reservation) -> RefusedError:
        word = {
            "held": "not_committed",
            "committed": "already_committed",
            "fulfilled": "already_fulfilled",
            "released": "already_released",
            "expired": "reservation_expired",
            "cancelled": "already_cancelled",
        }[reservation.state]
        return RefusedError(word, self.sequence(reservation.partition))

    def _not_held(self, reservation: Reservation) -> RefusedError:
        """A hold that lapsed stays lapsed, whatever else of the reservation was committed."""
        if reservation.hold_ended_by == "expire":
            return RefusedError("reservation_expired", self.sequence(reservation.partition))
        return self._conflict(reservation)

    # ---------------------------------------------------------------- facts

    def _record(self, call: Call) -> Booked:
        assert call.key is not None
        assert call.lines
        ((sku, _, location),) = call.lines
        place, partition, content = (sku, location), self.partition(sku), _content_of(call)
        memory = self.facts.get((partition, call.key))
        if memory is not None:
            if memory.content != content:
                raise RefusedError("idempotency_mismatch", None)
            assert isinstance(memory.answer, Booked)
            return replace(memory.answer, replayed=True)
        version = self.sequence(partition)
        if location not in self.locations:
            raise RefusedError("location_not_found", version)
        position = self.positions.get(place, Position())
        if self._is_in_history(call, place):
            # Its key was forgotten: answered as things stand.
            return Booked(position.on_hand, position.available, version, replayed=True)
        before, came, book = position.on_hand, self._units_of(call), deepcopy(self.book)
        ignored = self._enter(call, place, came)
        on_hand = self.book.on_hand(place)
        if abs(on_hand) > MAX_ON_HAND:
            self.book = book
            raise RefusedError("quantity_out_of_range", version)
        self.positions[place] = position
        position.on_hand, effect = on_hand, on_hand - before
        unsellable = self._change_condition(call, place, came)
        uncovered = self._uncovered(place, position.shortfall) if effect < unsellable else ()
        answer = Booked(
            position.on_hand, position.available, self._next(partition), uncovered, False, effect, ignored
        )
        self.facts[partition, call.key] = Memory(content, answer, self.now_ms + self.retention_ms)
        return answer

    def _is_in_history(self, call: Call, place: Place) -> bool:
        moment = call.occurred_ms
        is_old = moment is not None and moment <= self.now_ms - self.retention_ms
        return is_old and (place, moment, call.key) in self.book.known

    def _units_of(self, call: Call) -> int:
        """What came or went with a movement."""
        assert call.lines
        units = call.lines[0][1]
        return {"sale": -units, "condition": 0}.get(call.verb, units)

    def _enter(self, call: Call, place: Place, came: int) -> str | None:
        """Puts a fact into the book; why it changes nothing, if so."""
        assert call.lines
        assert call.key is not None
        units, newest, now_ms = call.lines[0][1], self.book.newest(place), self.now_ms
        if call.verb == "set":
            self.book.set(place, now_ms, units)
            return None
        if call.verb != "count":
            is_past = call.occurred_ms is not None and call.occurred_ms < now_ms
            at_ms = (call.occurred_ms if is_past else None) or self.book.now_for(place, now_ms)
            self.book.come(place, at_ms, came, call.key)
            self.book.known.add((place, at_ms, call.key))
            return "counted_since" if came and newest and at_ms <= newest.at_ms else None
        assert call.occurred_ms is not None
        at_ms, rank = min(call.occurred_ms, now_ms - 1), self.rank(call.key)
        self.book.known.add((place, at_ms, call.key))
        if newest and (at_ms, rank) <= newest[:2]:
            return "counted_since"
        if at_ms < now_ms - HISTORY_MS:
            return "too_old"
        self.book.count(place, at_ms, rank, units)
        return None

    def _change_condition(self, call: Call, place: Place, came: int) -> int:
        """By how many more units are unsellable."""
        assert call.lines
        changes: tuple[tuple[str, int], ...] = ((call.condition, came),)
        if call.verb == "condition":
            units = call.lines[0][1]
            changes = ((call.condition, -units), (call.to_condition, units))
        change = self.book.change_condition(place, changes)
        position = self.positions[place]
        position.policy = replace(position.policy, unsellable=position.policy.unsellable + change)
        return change

    def _leave(self, place: Place, name: str, units: int) -> None:
        """Goods of a reservation leave."""
        if units:
            self.book.come(place, self.now_ms, -units, name)
            self.positions[place].on_hand -= units

    def _uncovered(self, place: Place, shortfall: int) -> tuple[tuple[str, int], ...]:
        holders = [
            (share.promised_at, reservation.name, share.held + share.committed)
            for reservation in self.reservations.values()
            if (share := reservation.promised(place)) is not None and share.held + share.committed
        ]
        named = []
        for _, name, units in sorted(holders, reverse=True):
            if shortfall <= 0:
                break
            named.append((name, min(units, shortfall)))
            shortfall -= units
        return tuple(named)

    # ---------------------------------------------------------------- inside

    def _partition_of(self, call: Call) -> int:
        if call.verb in {"reserve", *FACTS}:
            assert call.lines
            return self.partition(call.lines[0][0])
        reservation = self.reservations.get(call.reservation)
        return -1 if reservation is None else reservation.partition

    def _is_lapsed(self, reservation: Reservation) -> bool:
        return reservation.state == "held" and reservation.deadline_ms <= self.now_ms

    def _next(self, partition: int) -> int:
        self.sequences[partition] = self.sequence(partition) + 1
        return self.sequences[partition]


def _content_of(call: Call) -> Call:
    """What is compared of a request under a key that was used."""
    if call.verb not in FACTS:
        return replace(call, key=None)
    said = call.occurred_ms, call.condition, call.to_condition
    return Call(call.verb, None, call.lines, "", 0, False, False, False, None, *said)


def expect(model: Model, place: Place, source: bytes, units: int) -> None:
    """A source will bring so many units to a position, which is made if it is not there."""
    position = model.positions.setdefault(place, Position())
    expected = model.expected.setdefault(place, {})
    expected[source] = units
    further = sum(expected.values()), *position.policy.further[1:]
    position.policy = replace(position.policy, further=further)
    model._next(model.partition(place[0]))


def _sum_lines(lines: Lines) -> dict[Place, int]:
    wanted: dict[Place, int] = {}
    for sku, quantity, location in lines:
        wanted[sku, location] = wanted.get((sku, location), 0) + quantity
    return wanted
