"""The counters of one partition: what facts say of them, what is told of them, what may be promised."""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from engine.check.effects import SEQ_BITS, Effects, show
from engine.check.findings import Findings
from engine.check.reading import ToldAvailability, ToldMovement, ToldPosition
from engine.check.stock import FLOATING, Life, Position, add_up, widen, words
from engine.types import Shortage

MAX_NAMED = 100
"""Promises that a fact names as broken, at the most."""


class Counters(Effects):
    """The positions of one partition."""

    def __init__(self, partition: int, begin: int, findings: Findings, *, is_whole: bool) -> None:
        super().__init__(partition, begin, findings, is_whole=is_whole)
        self.lives: dict[str, Life] = {}
        self.positions: dict[str, dict[str, Position]] = {}
        self.floating = set[str]()
        """SKUs of which some units lie where the engine chose, and may choose anew."""
        self.overdrawn: dict[str, int] = {}
        """By SKU: how many units its positions may lack because facts took them away."""
        self._epoch = begin >> SEQ_BITS
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
        effect: int,
        told: ToldMovement,
        version: int,
        operation: int,
        *,
        flow: int,
        is_late: bool,
    ) -> None:
        """A fact changed on_hand by `effect`. `flow` is how many units moved, also where a count had them in:
        of a count itself none.
        """
        self.claim(version, position.name, operation)
        position.exists = True
        position.came += max(0, flow)
        position.went += max(0, -flow)
        before, position.last = position.last, operation
        if is_late or version <= position.pinned:
            self._move_late(position, effect, version)
            return
        least, most = self._seen(position).on_hand
        is_known = self._is_judged(position)
        position.moved += effect
        named = sum(broken.quantity for broken in told.uncovered)
        if effect < 0:
            # Promises, and units that had left before a count found fewer.
            lacking = named + max(0, -told.on_hand) if len(told.uncovered) < MAX_NAMED else -effect
            self.overdrawn[position.sku] = self.overdrawn.get(position.sku, 0) + min(-effect, lacking)
        if is_known:
            # Bounds of before it: where a count of unknown outcome was made, effects do not add up.
            self._compare(
                "on_hand", told.on_hand, (least + effect, most + effect), position, version, operation,
                last=before,
            )  # fmt: skip
        if position.counts or position.is_adrift:
            self.pin(position, told.on_hand, version, or_else_adrift=not flow)
        if not self._is_judged(position):
            return
        self.findings.counts["facts judged"] += 1
        seen = self._seen(position)
        _, most = seen.free
        self._compare("available", told.available, seen.available, position, version, operation, last=before)
        least = max(0, min(-most, seen.taken_least - seen.fulfilled_most))
        bounds = (0, 0) if effect >= 0 else (least, max(0, -seen.free[0]))
        if not bounds[0] <= named <= bounds[1] and len(told.uncovered) < MAX_NAMED:
            self.findings.blame(
                "I3",
                position.name,
                f"promises of {named} units are named as uncovered, where {words(bounds)} are",
                operation,
                before,
            )

    def _move_late(self, position: Position, effect: int, version: int) -> None:
        """A fact is learnt of after what followed it."""
        self.overdrawn[position.sku] = self.overdrawn.get(position.sku, 0) + max(0, -effect)
        if version > position.pinned:
            position.moved += effect
            # Its effect is that on what it found, which a count may have made another.
            position.is_adrift |= bool(position.counts)

    def count(
        self,
        position: Position,
        quantity: int,
        told: ToldMovement,
        version: int,
        operation: int,
        *,
        is_set: bool,
        is_late: bool,
    ) -> None:
        """A count was recorded, or an absolute set."""
        if self.counts_numbers and position.is_judged:
            self._check_count(position, quantity, told, version, operation, is_set=is_set)
        self.move(position, told.effect, told, version, operation, flow=0, is_late=is_late)

    def _check_count(
        self,
        position: Position,
        quantity: int,
        told: ToldMovement,
        version: int,
        operation: int,
        *,
        is_set: bool,
    ) -> None:
        """A set leaves what was asked for; a count what was counted, and what moved since its moment."""
        self.findings.counts["counts judged"] += 1
        seen = self._seen(position)
        if is_set:
            least = most = quantity
        else:
            least = quantity - seen.went + seen.moved_least - seen.fulfilled_most
            most = quantity + seen.came + seen.moved_most
        is_right = told.effect == 0 if told.ignored is not None else least <= told.on_hand <= most
        if not is_right or (is_set and told.ignored is not None):
            self.findings.blame(
                "I4",
                position.name,
                f"a count of {quantity} at version {show(version)} led to {told.on_hand} on hand, by "
                f"{told.effect}, where {words((least, most))} may be",
                operation,
                position.last,
            )

    def pin(self, position: Position, on_hand: int, version: int, *, or_else_adrift: bool = False) -> None:
        """Somebody was told what was on hand, whatever had led to it. Where nobody knows how much has left
        with reservations, that tells nothing of what moved.
        """
        seen = self._seen(position)
        if seen.fulfilled_least == seen.fulfilled_most:
            position.moved = on_hand + seen.fulfilled_most
            position.pinned, position.is_adrift = version, False
        else:
            position.is_adrift |= or_else_adrift

    def turn(self, version: int) -> None:
        """What follows is of that version or a later one. What was seen in an earlier epoch, and acknowledged
        to nobody, may have been undone.
        """
        epoch = version >> SEQ_BITS
        if epoch > self._epoch:
            self._epoch = epoch
            for places in self.positions.values():
                for position in places.values():
                    position.is_adrift |= position.pinned > 0

    def _is_judged(self, position: Position) -> bool:
        return self._is_followed(position) and not position.is_adrift

    def _is_followed(self, position: Position) -> bool:
        """Whether what reservations have of it is known, at least."""
        return self.counts_numbers and position.is_judged and position.sku not in self.loose

    def _seen(self, position: Position) -> Position:
        """A position, and what of all that floats may lie there."""
        if position.sku not in self.floating:
            return position
        return widen(position, self.position(position.sku, FLOATING))

    def _total(self, sku: str) -> Position | None:
        """All positions of a SKU, of which some units float; None where that says nothing."""
        if sku not in self.floating:
            return None
        places = self.positions.get(sku, {}).values()
        return add_up(sku, places) if all(self._is_judged(position) for position in places) else None

    def check_places(self, lines: Iterable[tuple[str, str, int]], version: int, operation: int) -> None:
        """What was just held where the engine chose to lies where that much can be."""
        for sku, location, quantity in lines:
            position = self.position(sku, location)
            if self._is_judged(position):
                self.findings.counts["chosen places judged"] += 1
                least, most = self._seen(position).free
                if most < quantity:
                    self.findings.blame(
                        "I3",
                        position.name,
                        f"{quantity} were put there at version {show(version)}, where "
                        f"{words((least, most))} were free",
                        operation,
                        position.last,
                    )

    def _check_sum(self, sku: str, version: int, operation: int) -> None:
        """No promise may take what is at none of the locations."""
        total = self._total(sku)
        if total is None:
            return
        self.findings.counts["promises judged by SKU"] += 1
        lacking = self._lacking(sku, total)
        if total.free[1] + lacking < 0:
            self.findings.blame(
                "I3",
                total.name,
                f"oversold at version {show(version)}: at the least {total.taken_least} units were promised "
                f"or sold of at the most {total.all_moved[1]}, of which facts took {lacking} away",
                operation,
                total.last,
            )

    def _lacking(self, sku: str, total: Position) -> int:
        """How many units may be missing at some locations, and not at others."""
        unknown = sum(-position.moved_least for position in self.positions[sku].values())
        if any(position.counts for position in self.positions[sku].values()):
            unknown += total.taken_most
        return self.overdrawn.get(sku, 0) + unknown

    def _check_promise(self, position: Position, version: int, operation: int) -> None:
        """No promise may take what is not there."""
        if position.sku in self.floating:
            self._check_sum(position.sku, version, operation)
        if not self._is_judged(position) or position.location == FLOATING:
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
            f"or sold of at the most {position.all_moved[1]}",
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
                seen = self._seen(position)
                self._compare("available", number, seen.available, position, version, operation)
        for location, number in shown.items():
            position = self.position(sku, location)
            if number != 0 and self._is_judged(position):
                seen = self._seen(position)
                self._compare("available", number, seen.available, position, version, operation)
        total = None if asked else self._total(sku)
        if total is not None and told is not None:
            self.findings.counts["sums over locations judged"] += 1
            least, most = total.free
            bounds = max(0, least), max(0, most) + self._lacking(sku, total)
            self._compare("available", told.available, bounds, total, version, operation)

    def compare_stock(
        self, rows: Sequence[ToldPosition], sku: str, version: int, operation: int, *, is_whole: bool
    ) -> None:
        """Counters as they were told at a version; `is_whole`: of all locations."""
        for row in rows:
            position = self.position(sku, row.location)
            if row.unsellable or row.safety_stock or row.backorder_limit or row.fenced:
                # No operation of a history sets these, so nothing tells when they changed.
                position.is_judged = False
            if not self._is_followed(position):
                continue
            self.findings.counts["stock answers judged"] += 1
            self._compare_counters(row, self._seen(position), version, operation)
            if position.counts or position.is_adrift:
                self.pin(position, row.on_hand, version)
        total = self._total(sku) if is_whole else None
        if total is not None:
            self.findings.counts["sums over locations judged"] += 1
            row = replace(
                rows[0],
                on_hand=sum(row.on_hand for row in rows),
                held=sum(row.held for row in rows),
                allocated=sum(row.allocated for row in rows),
            )
            self._compare_counters(row, total, version, operation)

    def _compare_counters(self, row: ToldPosition, seen: Position, version: int, operation: int) -> None:
        for name, number, bounds in (
            ("on_hand", row.on_hand, seen.on_hand),
            ("held", row.held, (seen.held_least, seen.held_most)),
            ("allocated", row.allocated, (seen.committed_least, seen.committed_most)),
        ):
            if name != "on_hand" or not seen.is_adrift:
                self._compare(name, number, bounds, seen, version, operation)

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
            seen = self._seen(position)
            least, most = seen.free
            if least >= shortage.requested or shortage.available >= shortage.requested:
                self.findings.blame(
                    invariant,
                    position.name,
                    f"{shortage.requested} were refused at version {show(version)}, where "
                    f"{words((least, most))} were free",
                    operation,
                    position.last,
                )
            elif seen is position:
                self._compare(
                    "available",
                    shortage.available,
                    seen.available,
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
        last: int | None = None,
    ) -> None:
        if not bounds[0] <= number <= bounds[1]:
            self.findings.blame(
                invariant,
                position.name,
                f"{name} {number} was told at {show(version)}; the history adds up to {words(bounds)}",
                operation,
                position.last if last is None else last,
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
