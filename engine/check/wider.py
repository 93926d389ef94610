"""The verbs whose quantities no answer tells whole: changed lines, kits, policies and fences; and `source`.

A policy withholds units, and a reservation gets other lines, from a moment that no answer tells. So the
numbers of the SKUs and positions that they touch are not judged; that ids take effect once, answers belong to
their requests, versions go forward, and what has left or is over stays so, is.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from engine.check.books import Books
from engine.check.effects import NOBODY, show
from engine.check.reading import Arguments, ToldReservation
from engine.check.stock import Life
from engine.types import Component

if TYPE_CHECKING:
    from engine.check.findings import Findings

CHANGING = frozenset({"move", "replace_lines", "mark_ready", "report_short"})
"""Verbs that give a reservation other lines, or other words about them."""

COUNTING = frozenset({"count", "set_on_hand"})
POLICIES = frozenset({"save_policy", "delete_policy", "save_fence", "delete_fence"})
OVER = frozenset({"released", "fulfilled", "cancelled"})
_DEPTH = 16
"""Kits in kits that are looked into at the most: what lies deeper would be a circle."""

Sums = dict[str, tuple[int, int, int, int]]
"""Held, committed, fulfilled and given back units by SKU: wherever they lie, these add up."""


class Kits:
    """The items that are kits, by what was asked to be saved."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Component]] = {}

    def note(self, sku: str, components: Sequence[Component]) -> None:
        self._parts.setdefault(sku, []).extend(components)

    def members(self, skus: Iterable[str]) -> set[str]:
        """SKUs and all that they have ever been made of."""
        found, left = set[str](), list(skus)
        while left:
            sku = left.pop()
            if sku not in found:
                found.add(sku)
                left += [part.sku for part in self._parts.get(sku, ())]
        return found

    def expand(self, wanted: Iterable[tuple[str, int]], depth: int = _DEPTH) -> dict[str, int]:
        """Units by SKU, those of kits by their components."""
        sums: dict[str, int] = {}
        for sku, quantity in wanted:
            parts = self._parts.get(sku, ())
            inner = [(part.sku, part.quantity * quantity) for part in parts]
            units = self.expand(inner, depth - 1) if inner and depth else {sku: quantity}
            for member, count in units.items():
                sums[member] = sums.get(member, 0) + count
        return sums


def is_as_asked(kits: Kits, arguments: Arguments, told: ToldReservation) -> bool:
    """Whether a sourced reservation holds what was asked for, wherever; of a partial one no more."""
    wanted = [(line.sku, line.quantity) for line in arguments.wanted or ()]
    held: dict[str, int] = {}
    for line in told.lines:
        held[line.sku] = held.get(line.sku, 0) + line.quantity
    plain: dict[str, int] = {}
    for sku, quantity in wanted:
        plain[sku] = plain.get(sku, 0) + quantity
    made = plain, kits.expand(wanted)
    if arguments.rules is not None and arguments.rules.allow_partial:
        return any(all(held[sku] <= units.get(sku, 0) for sku in held) for units in made)
    return held in made


def sums_of(told: ToldReservation) -> Sums:
    sums: Sums = {}
    for line in told.lines:
        held, committed, fulfilled, back = sums.get(line.sku, (0, 0, 0, 0))
        sums[line.sku] = (
            held + line.held,
            committed + line.committed,
            fulfilled + line.fulfilled,
            back + line.released,
        )
    return sums


def answer_of(told: ToldReservation) -> int:
    """What a repeat of `source` must tell again: all but where the units lie, which others may change."""
    return hash(
        (
            told.id,
            told.state,
            told.created_ms,
            told.expires_ms,
            told.owner,
            told.reference,
            told.channel,
            told.version,
            tuple(sorted(sums_of(told).items())),
        )
    )


def loosen(books: Books, life: Life | None, skus: Iterable[str]) -> None:
    """A reservation's lines may change from now on, and with them where units of these SKUs lie."""
    books.loose.update(skus)
    if life is not None:
        books.loose.update(position.sku for position in life.positions)
        if life.is_followed:
            books.lose(life.id)


def trace(findings: "Findings", life: Life, told: ToldReservation, version: int, operation: int) -> None:
    """Of a reservation whose lines may change: what has left stays away, and what is over is over."""
    seen, sums = life.seen, sums_of(told)
    if seen is not None:
        at, state, before = seen
        if version < at:
            return
        findings.counts["changed reservations read"] += 1
        fault = ""
        if version == at and (state, before) != (told.state, sums):
            fault = f"reads {told.state} {sums} at {show(version)}, where it read {state} {before}"
        elif state in OVER and (state, before) != (told.state, sums):
            fault = f"was over as {state} {before}, and is {told.state} {sums} at {show(version)}"
        elif any(sums.get(sku, (0, 0, 0, 0))[2] < units[2] for sku, units in before.items()):
            fault = f"units that had left came back at {show(version)}: {before} became {sums}"
        if fault:
            findings.blame("I6", life.id, fault, operation, NOBODY if life.last == operation else life.last)
    life.seen = version, told.state, sums
    life.last = operation
