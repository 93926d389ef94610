"""The books of one partition as its history tells them, brought up to each version in turn.

Answers carry the version that they saw or made, so their order is known and nothing has to be searched.
What no answer tells stays open: a hold whose time has passed may be on the books or not, and an operation
of unknown outcome may have happened at any version after it was begun. Every number therefore has a least
and a most, and only what lies outside is a violation.
"""

import heapq
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from engine import limits
from engine.check.findings import Findings
from engine.check.lives import (
    HELD,
    REPEATED,
    Request,
    Share,
    Stand,
    View,
    new_stand,
    reachable,
    shares_of,
    step,
    view_of,
)
from engine.check.reading import ToldAvailability, ToldMovement, ToldPosition
from engine.check.stock import NOTHING, Position, words
from engine.types import Shortage

SECOND = 1_000_000_000
SEQ_BITS = 56
SEQUENCES = (1 << SEQ_BITS) - 1
MAX_NAMED = 100
"""Promises that a fact names as broken, at the most."""
NOBODY = -1


class Life(Struct):
    """A reservation. `bases` are the stands that it may have had at `version`, its last change that is
    known, and up to the version `ahead`, at which somebody was refused for it.
    """

    id: str
    positions: tuple[Position, ...] = ()
    bases: tuple[Stand, ...] = ()
    version: int = 0
    is_followed: bool = True
    ahead: int = 0
    may_expire: bool = False
    hidden: tuple[tuple[str, Request], ...] = ()
    """What may have happened to it unseen, with the operation ids."""
    shares: tuple[Share, ...] = ()
    deadline: int = 0
    """Before this time of the recorder's clock it cannot have lapsed."""
    expires_ms: int = 0
    told: int = 0
    """The latest version of it that a caller was told."""
    seen: tuple[int, str, dict[str, tuple[int, int, int, int]]] | None = None
    """Of one whose lines may change: the latest version that was told, its state and its units by SKU."""
    touched: int = 0
    """When the last operation that changed it began."""
    last: int = NOBODY


def show(version: int) -> str:
    """`epoch.seq`."""
    return f"{version >> SEQ_BITS}.{version & ((1 << SEQ_BITS) - 1)}"


class Books:
    """One partition. `is_whole`: the history began before anything had happened in it."""

    def __init__(self, partition: int, begin: int, findings: Findings, *, is_whole: bool) -> None:
        self.partition = partition
        self.is_whole = is_whole
        self.counts_numbers = is_whole
        self.findings = findings
        self.lives: dict[str, Life] = {}
        self.lost = set[str]()
        """Reservations that are not known and that something may have happened to."""
        self.positions: dict[str, dict[str, Position]] = {}
        self.version = begin
        self.loose = set[str]()
        """SKUs whose units may be promised at other locations than anybody was told."""
        self.has_floats = False
        """Whether there are holds that others may re-bind, by effects that no answer tells."""
        self.holes = set[int]()
        self._between: dict[int, int] = {}
        """Holes of which nothing tells whether they belong to the epoch before or after them, by sequence."""
        self.unseen = 0
        """Effects that may have happened without an answer that tells their version."""
        self.clock = 0
        self._last_subject = ""
        self._last_operation = NOBODY
        self._due_seconds: list[int] = []
        self._due: dict[int, list[Life]] = {}

    # ---------------------------------------------------------------- time and order

    def reach(self, time: int) -> None:
        """What follows had happened by `time`: whatever is due by then may have lapsed."""
        if time <= self.clock:
            return
        self.clock = time
        while self._due_seconds and self._due_seconds[0] * SECOND <= time:
            for life in self._due.pop(heapq.heappop(self._due_seconds)):
                self._file_deadline(life)

    def _file_deadline(self, life: Life) -> None:
        """Marks a hold that may have lapsed by now; one that cannot have is looked at again when it may."""
        second = life.deadline // SECOND
        if second * SECOND <= self.clock:
            if not life.may_expire and any(units[HELD] for base in life.bases for units in base.units):
                life.may_expire = True
                self.unseen += 1
                self._settle(life)
            return
        waiting = self._due.get(second)
        if waiting is None:
            heapq.heappush(self._due_seconds, second)
            self._due[second] = [life]
        else:
            waiting.append(life)

    def extend(self, life: Life, deadline: int, expires_ms: int, version: int, operation: int) -> None:
        """A hold was given more time, until `deadline` at least."""
        if version < life.ahead:
            return
        if expires_ms < life.expires_ms:
            self.findings.blame(
                "I8",
                life.id,
                f"an extension brought its deadline from {life.expires_ms} forward to {expires_ms}",
                operation,
            )
        life.expires_ms = max(life.expires_ms, expires_ms)
        if deadline > life.deadline:
            life.deadline = deadline
            self._file_deadline(life)
        if deadline // SECOND * SECOND > self.clock and life.may_expire:
            life.may_expire = False
            self._settle(life)

    def claim(self, version: int, subject: str, operation: int) -> None:
        """An effect has a version of its own."""
        if version > self.version:
            if version >> SEQ_BITS == self.version >> SEQ_BITS:
                self.holes.update(range(self.version + 1, version))
            else:
                self._leave_between(version)
            self.version = version
            self._last_subject, self._last_operation = subject, operation
        elif (hole := self._hole(version)) is not None:
            self.holes.remove(hole)
        elif version > 0 and self.is_whole:
            self.findings.blame(
                "I1",
                f"version {show(version)} of partition {self.partition}",
                f"is the version of two effects: of {subject} and of "
                + (self._last_subject if version == self.version else "another"),
                operation,
                self._last_operation if version == self.version else NOBODY,
            )

    def _leave_between(self, version: int) -> None:
        epoch, last = self.version >> SEQ_BITS, self.version & SEQUENCES
        between = {seq: epoch << SEQ_BITS | seq for seq in range(last + 1, version & SEQUENCES)}
        self._between.update(between)
        self.holes.update(between.values())

    def _hole(self, version: int) -> int | None:
        """The hole that an effect of that version fills."""
        hole = version if version in self.holes else self._between.get(version & SEQUENCES)
        return hole if hole in self.holes else None

    # ---------------------------------------------------------------- reservations

    def position(self, sku: str, location: str) -> Position:
        places = self.positions.setdefault(sku, {})
        found = places.get(location)
        if found is None:
            found = places[location] = Position(sku, location)
        return found

    def make(
        self,
        life: Life,
        lines: Sequence[tuple[str, str, int]],
        version: int,
        operation: int,
        *,
        is_late: bool,
    ) -> None:
        """A reserve took effect."""
        self.claim(version, life.id, operation)
        life.last = operation
        if life.bases:
            return
        life.bases = _single(new_stand(quantity for _, _, quantity in lines))
        life.version = life.ahead = version
        self._settle(life)
        self._file_deadline(life)
        for position in life.positions:
            if not is_late:
                self._check_promise(position, version, operation)
            position.last = operation

    def place(self, lines: Sequence[tuple[str, str, int]]) -> tuple[Position, ...]:
        """The positions of a reservation."""
        return tuple([self.position(sku, location) for sku, location, _ in lines])

    def adopt(self, life: Life, lines: Sequence[tuple[str, str, int]]) -> None:
        """A reservation that was made outside of what was recorded: its life is not judged."""
        life.is_followed = False
        self.unseen += 2
        if not life.positions:
            life.positions = self.place(lines)
        if not life.bases and lines:
            life.bases = (new_stand(quantity for _, _, quantity in lines),)
            self._settle(life)

    def lose(self, reservation: str) -> None:
        """Something may have happened to a reservation that cannot be followed."""
        life = self.lives.get(reservation)
        if life is None:
            self.lost.add(reservation)
        else:
            self._lose(life)

    def _lose(self, life: Life) -> None:
        """Gives up following a reservation."""
        life.is_followed = False
        self.unseen += 2
        self._settle(life)

    def _settle(self, life: Life) -> None:
        """Brings the positions in step with what may have become of a reservation."""
        if not life.bases:
            return
        shares = None
        if life.is_followed:
            stands = self.stands(life)
            if stands is None:
                self._lose(life)
                return
            shares = shares_of(stands)
        if shares is None:
            shares = tuple(
                (0, sum(units), 0, sum(units), 0, sum(units), 0, sum(units)) for units in life.bases[0].units
            )
        before = life.shares
        if shares is before:
            return
        for index, position in enumerate(life.positions):
            position.change(before[index] if before else NOTHING, shares[index])
        life.shares = shares

    def stands(self, life: Life) -> tuple[Stand, ...] | None:
        """Where a reservation may be by now."""
        if not life.hidden and not life.may_expire:
            return life.bases
        hidden = [request for _, request in life.hidden]
        return reachable(life.bases, hidden, may_expire=life.may_expire)

    def hide(self, life: Life, key: str, request: Request) -> None:
        """A request of unknown outcome may have changed it, or still will."""
        self.unseen += 1
        if life.is_followed:
            life.hidden = (*life.hidden, (key, request))
            self._settle(life)

    def resolve(
        self, life: Life, request: Request, told: tuple[str, View], version: int, operation: int, key: str
    ) -> None:
        """A verb took effect on a reservation."""
        self.claim(version, life.id, operation)
        before, life.last = life.last, operation
        if key and any(one == key for one, _ in life.hidden):
            life.hidden = tuple(one for one in life.hidden if one[0] != key)
            self._settle(life)
        if not life.is_followed or version <= life.ahead:
            # Learnt late, from a repeat: what came after it is known already.
            return
        self.findings.counts["life cycle steps"] += 1
        stands = self.stands(life) or ()
        after = _after(stands, request, told)
        if not after and not life.may_expire:
            early = reachable(stands, (), may_expire=True) or ()
            if _after(early, request, told):
                self._blame_early(life, operation, before)
                self._lose(life)
                return
        if not after:
            self.findings.blame(
                "I5",
                life.id,
                f"{request.verb} made it {_show_view(told)}; before it was {_show_stands(stands)}",
                operation,
                before,
            )
            self._lose(life)
            return
        life.bases, life.version, life.ahead = after, version, version
        shares = life.shares
        self._settle(life)
        for position, old, new in zip(life.positions, shares, life.shares, strict=True):
            if old[-1] < new[-2]:
                # More is taken than could be before: a lapsed hold was taken anew.
                self._check_promise(position, version, operation)
            position.last = operation

    def observe(self, life: Life, told: tuple[str, View], version: int, operation: int) -> None:
        """A caller was told how a reservation stood at its last change."""
        if not life.is_followed:
            return
        before = life.last
        if version > life.version and (version > self.version or self._hole(version) is not None):
            self.claim(version, life.id, operation)
        if version == life.version == life.ahead:
            stands: tuple[Stand, ...] = life.bases
        elif version > life.ahead:
            stands = self.stands(life) or ()
        else:
            return
        self.findings.counts["reservations read"] += 1
        matching = tuple(stand for stand in stands if view_of(stand) == told)
        if matching:
            life.bases, life.version, life.ahead = matching, version, version
            self._settle(life)
            return
        if not life.may_expire and any(
            view_of(stand) == told for stand in reachable(stands, (), may_expire=True) or ()
        ):
            self._blame_early(life, operation, before)
        else:
            self.findings.blame(
                "I6", life.id, f"reads {_show_view(told)}, but was {_show_stands(stands)}", operation, before
            )
        self._lose(life)

    def repeat(self, life: Life, request: Request, version: int, operation: int) -> None:
        """A verb was told to have been done before, under no operation id that is known to have done it."""
        if life.is_followed and version == life.version == life.ahead:
            self.findings.counts["repeats by state"] += 1
            if not any(step(stand, request) == REPEATED for stand in life.bases):
                self.findings.blame(
                    "I10",
                    life.id,
                    f"{request.verb} is called a repeat, but nobody did it: {_show_stands(life.bases)}",
                    operation,
                    life.last,
                )

    def refuse(self, life: Life, request: Request, word: str, version: int, operation: int) -> None:
        """A verb was refused for how the reservation stood."""
        if not life.is_followed or version < life.ahead:
            return
        self.findings.counts[f"refusals judged: {word}"] += 1
        stands = self.stands(life) or ()
        matching = _refusing(stands, request, word)
        if matching:
            life.ahead = version
            if len(matching) != len(stands):
                life.bases = matching
                self._settle(life)
            return
        if not life.may_expire and _refusing(reachable(stands, (), may_expire=True) or (), request, word):
            self._blame_early(life, operation, life.last)
        else:
            self.findings.blame(
                "I9",
                life.id,
                f"{request.verb} was refused as {word}, but it was {_show_stands(stands)}",
                operation,
                life.last,
            )
        self._lose(life)

    def _blame_early(self, life: Life, operation: int, before: int) -> None:
        self.findings.blame(
            "I8", life.id, "lapsed before its deadline, or was given back by nobody", operation, before
        )

    # ---------------------------------------------------------------- facts

    def move(
        self,
        position: Position,
        quantity: int,
        told: ToldMovement,
        version: int,
        operation: int,
        *,
        is_late: bool,
    ) -> None:
        """A fact was recorded."""
        self.claim(version, position.name, operation)
        position.exists = True
        position.moved += quantity
        before, position.last = position.last, operation
        if is_late or not self._is_judged(position):
            return
        self.findings.counts["facts judged"] += 1
        _, most = position.free
        for name, number, bounds in (
            ("on_hand", told.on_hand, position.on_hand),
            ("available", told.available, position.available),
        ):
            if not bounds[0] <= number <= bounds[1]:
                self.findings.blame(
                    "I4",
                    position.name,
                    f"{name} {number} was told at {show(version)}; the history adds up to {words(bounds)}",
                    operation,
                    before,
                )
        named = sum(broken.quantity for broken in told.uncovered)
        least = max(0, min(-most, position.taken_least - position.fulfilled_most))
        bounds = (0, 0) if quantity > 0 else (least, max(0, -position.free[0]))
        if not bounds[0] <= named <= bounds[1] and len(told.uncovered) < MAX_NAMED:
            self.findings.blame(
                "I3",
                position.name,
                f"promises of {named} units are named as uncovered, where {words(bounds)} are",
                operation,
                before,
            )

    def _is_judged(self, position: Position) -> bool:
        return self.counts_numbers and position.is_judged and position.sku not in self.loose

    def _check_promise(self, position: Position, version: int, operation: int) -> None:
        """No promise may take what is not there."""
        if not self._is_judged(position):
            return
        counts = self.findings.counts
        counts["promises judged"] += 1
        _, most = position.free
        if most == 0:
            counts["promises of the last unit"] += 1
        if most >= 0:
            return
        holders = [
            life.last
            for life in self.lives.values()
            if any(known is position for known in life.positions) and life.last != operation
        ]
        self.findings.blame(
            "I3",
            position.name,
            f"oversold at version {show(version)}: at the least {position.taken_least} units were promised "
            f"or sold of at the most {position.moved + position.moved_most}",
            operation,
            *holders[-5:],
        )

    # ---------------------------------------------------------------- reading

    def compare_availability(
        self, told: ToldAvailability | None, sku: str, asked: Sequence[str], version: int, operation: int
    ) -> None:
        """What was told to be available at a version. None: no location stocks it."""
        if not self.counts_numbers:
            return
        self.findings.counts["availability answers judged"] += 1
        shown = {} if told is None else {place.location: place.available for place in told.locations}
        for location, position in self.positions.get(sku, {}).items():
            if asked and location not in asked:
                continue
            number = shown.pop(location, None)
            if number is None:
                if position.exists and position.is_judged:
                    self.findings.blame(
                        "I4",
                        position.name,
                        f"is not known at version {show(version)}",
                        operation,
                        position.last,
                    )
            elif self._is_judged(position):
                self._compare("available", number, position.available, position, version, operation)
        for location, number in shown.items():
            position = self.position(sku, location)
            if number != 0 and self._is_judged(position):
                self._compare("available", number, position.available, position, version, operation)

    def compare_stock(self, rows: Sequence[ToldPosition], sku: str, version: int, operation: int) -> None:
        """Counters as they were told at a version."""
        for row in rows:
            position = self.position(sku, row.location)
            if row.unsellable or row.safety_stock or row.backorder_limit or row.fenced:
                # No operation of a history sets these, so nothing tells when they changed.
                position.is_judged = False
            if not self._is_judged(position):
                continue
            self.findings.counts["stock answers judged"] += 1
            for name, number, bounds in (
                ("on_hand", row.on_hand, position.on_hand),
                ("held", row.held, (position.held_least, position.held_most)),
                ("allocated", row.allocated, (position.committed_least, position.committed_most)),
            ):
                self._compare(name, number, bounds, position, version, operation)

    def compare_shortages(
        self, short: Sequence[Shortage], version: int, operation: int, invariant: str = "I9"
    ) -> None:
        """A refusal for lack of stock names what was there."""
        self.findings.counts["refusals judged: insufficient_stock"] += 1
        for shortage in short:
            if shortage.location is None:
                # Of all locations of a pool: what each of them had is not told.
                continue
            position = self.position(shortage.sku, shortage.location)
            if not self._is_judged(position):
                continue
            least, most = position.free
            if least >= shortage.requested or shortage.available >= shortage.requested:
                self.findings.blame(
                    invariant,
                    position.name,
                    f"{shortage.requested} were refused at version {show(version)}, where "
                    f"{words((least, most))} were free",
                    operation,
                    position.last,
                )
            else:
                self._compare(
                    "available",
                    shortage.available,
                    position.available,
                    position,
                    version,
                    operation,
                    invariant,
                )

    def _compare(
        self,
        name: str,
        number: int,
        bounds: tuple[int, int],
        position: Position,
        version: int,
        operation: int,
        invariant: str = "I4",
    ) -> None:
        if not bounds[0] <= number <= bounds[1]:
            self.findings.blame(
                invariant,
                position.name,
                f"{name} {number} was told at {show(version)}; the history adds up to {words(bounds)}",
                operation,
                position.last,
            )

    def missing(self, places: Sequence[tuple[str, str]], word: str, version: int, operation: int) -> None:
        """A reserve was refused because something that it names is not there."""
        if not self.is_whole:
            return
        self.findings.counts[f"refusals judged: {word}"] += 1
        if word == "sku_not_found":
            stocked = {
                sku for sku, _ in places if any(p.exists for p in self.positions.get(sku, {}).values())
            }
            is_there = all(sku in stocked for sku, _ in places)
        else:
            is_there = all(self.position(*place).exists for place in places)
        if is_there:
            sku, location = places[0]
            self.findings.blame(
                "I9",
                f"{sku} at {location}",
                f"was refused as {word} at version {show(version)}, but everything it names was there",
                operation,
                self.position(sku, location).last,
            )

    def is_beyond_range(self, position: Position, quantity: int) -> bool:
        """Whether a movement may leave the range that is counted."""
        least, most = position.on_hand
        return max(abs(least + quantity), abs(most + quantity)) > limits.MAX_ON_HAND

    def finish(self) -> None:
        """Effects that nothing in the history explains."""
        counts = self.findings.counts
        counts["effects without an answer"] += len(self.holes)
        is_counted = self.is_whole and self.counts_numbers and not self.has_floats
        if not is_counted or len(self.holes) <= self.unseen:
            return
        first = ", ".join(map(show, sorted(self.holes)[:5]))
        self.findings.blame(
            "I10",
            f"partition {self.partition}",
            f"{len(self.holes)} effects have no answer that tells them, and only {self.unseen} are explained "
            f"by lapsed holds and lost answers; the first are {first}. Was a caller not recorded?",
        )


def _after(stands: Sequence[Stand], request: Request, told: tuple[str, View]) -> tuple[Stand, ...]:
    """The stands that a verb leads to and that look as its answer says."""
    if len(stands) == 1:
        only = step(stands[0], request)
        return _single(only) if isinstance(only, Stand) and view_of(only) == told else ()
    led = [step(stand, request) for stand in stands]
    return tuple(dict.fromkeys(stand for stand in led if isinstance(stand, Stand) and view_of(stand) == told))


def _refusing(stands: Sequence[Stand], request: Request, word: str) -> tuple[Stand, ...]:
    """The stands in which a verb is refused with a word."""
    led = [(stand, step(stand, request)) for stand in stands]
    if word == "insufficient_stock":
        return tuple(stand for stand, after in led if isinstance(after, Stand) and request.retake)
    return tuple(stand for stand, after in led if after == word)


@lru_cache(maxsize=65_536)
def _single(stand: Stand) -> tuple[Stand, ...]:
    """One tuple for all lives that stand alike."""
    return (stand,)


def _show_view(told: tuple[str, View]) -> str:
    state, view = told
    names = ("held", "committed", "fulfilled", "given back")
    lines = [
        " + ".join(f"{units} {name}" for units, name in zip(line, names, strict=True) if units) or "nothing"
        for line in view
    ]
    return f"{state} ({'; '.join(lines)})"


def _show_stands(stands: Sequence[Stand]) -> str:
    return " or ".join(dict.fromkeys(_show_view(view_of(stand)) for stand in stands)) or "unknown"
