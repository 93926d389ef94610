"""The counters of one partition: what facts say of them, what is told of them, what may be promised."""

from collections.abc import Sequence

from engine import limits
from engine.check.effects import Effects, show
from engine.check.findings import Findings
from engine.check.reading import ToldAvailability, ToldMovement, ToldPosition
from engine.check.stock import Life, Position, words
from engine.types import Shortage

MAX_NAMED = 100
"""Promises that a fact names as broken, at the most."""


class Counters(Effects):
    """The positions of one partition."""

    def __init__(self, partition: int, begin: int, findings: Findings, *, is_whole: bool) -> None:
        super().__init__(partition, begin, findings, is_whole=is_whole)
        self.lives: dict[str, Life] = {}
        self.positions: dict[str, dict[str, Position]] = {}
        self.loose = set[str]()
        """SKUs whose units may be promised at other locations than anybody was told."""

    def position(self, sku: str, location: str) -> Position:
        places = self.positions.setdefault(sku, {})
        found = places.get(location)
        if found is None:
            found = places[location] = Position(sku, location)
        return found

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
