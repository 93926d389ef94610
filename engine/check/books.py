"""The books of one partition as its history tells them, brought up to each version in turn.

Answers carry the version that they saw or made, so their order is known and nothing has to be searched.
What no answer tells stays open: a hold whose time has passed may be on the books or not, and an operation
of unknown outcome may have happened at any version after it was begun. Every number therefore has a least
and a most, and only what lies outside is a violation.
"""

import heapq
from collections.abc import Sequence
from functools import lru_cache

from engine.check.counters import Counters
from engine.check.effects import SECOND
from engine.check.findings import Findings
from engine.check.lives import (
    HELD,
    REPEATED,
    Request,
    Stand,
    View,
    new_stand,
    reachable,
    shares_of,
    step,
    view_of,
)
from engine.check.stock import FLOATING, NOTHING, Life, Position


class Books(Counters):
    """One partition: the lives of its reservations, on its counters."""

    def __init__(self, partition: int, begin: int, findings: Findings, *, is_whole: bool) -> None:
        super().__init__(partition, begin, findings, is_whole=is_whole)
        self.lost = set[str]()
        """Reservations that are not known and that something may have happened to."""
        self.clock = 0
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

    # ---------------------------------------------------------------- reservations

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
            # Where units may be moved to by others they are counted by SKU.
            lines = [
                (sku, FLOATING if sku in self.floating else location, quantity)
                for sku, location, quantity in lines
            ]
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
        is_unclaimed = version > self.version or self._hole(version) is not None
        if version > life.version and is_unclaimed and not life.floats:
            self.claim(version, life.id, operation)
            self.observed[version] = life.id
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
