"""The proof of no oversell, from two sides that know nothing of one another.

One side recomputes every position from the answers that the clients got; the other reads the
server's own books. No engine code takes part: whoever trusts neither can repeat both by hand.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from api.replay.answers import AFTER_THE_RUN, Answers, Fate
from api.replay.client import segment
from api.replay.report import Proof
from api.replay.shop import Shopper
from api.replay.stock import Supply, read_positions, spread
from api.replay.wire import Position, Reservation, State

READ_BACK = 20_000
"""Up to this many acknowledged reservations are all read back, above it a seeded sample."""

POLL_S = 0.25
NOTHING = Position(location="", on_hand=0, held=0, allocated=0)


class Sums(NamedTuple):
    """Units by position, recomputed from the answers."""

    claimed: dict[int, int]
    fulfilled: dict[int, int]
    committed: dict[int, int]


class Prover:
    """Compares the answers with themselves and with the books.

    `settle_s` bounds how long the books may take to agree after the last hold has expired.
    """

    def __init__(
        self,
        answers: Answers,
        supply: Supply,
        baseline: dict[int, Position],
        *,
        seed: int,
        settle_s: float,
    ) -> None:
        self.proof = Proof()
        self._answers = answers
        self._supply = supply
        self._baseline = baseline
        self._seed = seed
        self._settle_s = settle_s

    async def prove(self, shoppers: Sequence[Shopper], done: Callable[[int], None]) -> Proof:
        """Prove both sides; findings say where they contradict. Waits for the last expiry first.

        Raises:
            ServerGoneError, StockRefusedError: the books could not be read.
        """
        sums = self._recompute()
        self._judge_answers(sums)
        findings = self._answers.findings
        from_answers = findings.total
        await asyncio.sleep(max(0.0, (self._answers.last_expiry_ns - time.monotonic_ns()) / 1e9))
        patience_ends = time.monotonic() + self._settle_s
        await self._read_back(shoppers, patience_ends, done)
        await self._compare_books(shoppers, sums, patience_ends, done)
        self.proof.answers_agree = from_answers == 0
        self.proof.books_agree = findings.total == from_answers
        return self.finish()

    def finish(self) -> Proof:
        """Put the findings into the proof; what was not proved stays not agreed."""
        findings = self._answers.findings
        self.proof.findings_total = findings.total
        self.proof.findings = findings.listed
        return self.proof

    def _recompute(self) -> Sums:
        """Sum what was claimed, what left and what is still promised, per position."""
        claimed: dict[int, int] = {}
        fulfilled: dict[int, int] = {}
        committed: dict[int, int] = {}
        fates = self._answers.fates
        for number, known in enumerate(self._answers.ids):
            if not known:
                continue
            fate = fates[number]
            for position, units in self._units(number):
                claimed[position] = claimed.get(position, 0) + units
                if fate == Fate.FULFILLED:
                    fulfilled[position] = fulfilled.get(position, 0) + units
                elif fate == Fate.COMMITTED:
                    committed[position] = committed.get(position, 0) + units
        return Sums(claimed, fulfilled, committed)

    def _judge_answers(self, sums: Sums) -> None:
        """At no moment may the units that were surely claimed exceed what there was."""
        proof = self.proof
        self._answers.judge_ids()
        proof.units_received = sum(self._supply.received.values())
        proof.units_fulfilled = sum(sums.fulfilled.values())
        proof.units_allocated = sum(sums.committed.values())
        contended = {at for at, units in sums.claimed.items() if units > self._capacity(at)}
        proof.positions_contended = len(contended)
        moments: dict[int, list[tuple[int, int]]] = {at: [] for at in contended}
        for number in self._answers.acknowledged():
            told, freed = self._answers.told_ns[number], self._answers.freed_ns[number]
            if told >= freed:
                continue
            for position, units in self._units(number):
                if position in contended:
                    moments[position] += ((told, units), (freed, -units))
        for position, changes in moments.items():
            self._sweep(position, changes)
        for number, fate in enumerate(self._answers.fates):
            if fate == Fate.UNRESOLVED:
                where = self._answers.chosen.reference(number)
                self._answers.findings.add("every outcome known", where, "the outcome is unknown")

    def _sweep(self, position: int, changes: list[tuple[int, int]]) -> None:
        """Walk through the moments of one position; what is freed goes before what is claimed."""
        capacity = self._capacity(position)
        claimed = 0
        for _, units in sorted(changes):
            claimed += units
            if claimed > capacity:
                sku, location = self._supply.names(position)
                self._answers.findings.add(
                    "no oversell", f"{sku} at {location}", f"{claimed} claimed of {capacity}"
                )
                return

    def _capacity(self, position: int) -> int:
        before = self._baseline.get(position, NOTHING)
        return before.sellable + self._supply.received.get(position, 0)

    def _units(self, number: int) -> Iterable[tuple[int, int]]:
        chosen = self._answers.chosen
        source = chosen.source
        basket, _ = chosen.place(number)
        row = source.stores[basket] * len(source.skus)
        for line in source.lines(basket):
            yield row + source.line_skus[line], source.line_quantities[line]

    async def _read_back(
        self, shoppers: Sequence[Shopper], patience_ends: float, done: Callable[[int], None]
    ) -> None:
        """Every acknowledged reservation (or a sample) must be there, in its expected state."""
        numbers = self._answers.acknowledged()
        self.proof.reservations_acknowledged = len(numbers)
        if len(numbers) > READ_BACK:
            # Not for secrets: the same seed must choose the same sample.
            numbers = random.Random(self._seed).sample(numbers, READ_BACK)

        async def one(shopper: Shopper, number: int) -> None:
            fate = self._answers.fates[number]
            expected = AFTER_THE_RUN.get(Fate(fate))
            state = await self._state(shopper, number)
            while state != expected and state == State.HELD and time.monotonic() < patience_ends:
                await asyncio.sleep(POLL_S)
                state = await self._state(shopper, number)
            self.proof.reservations_checked += 1
            self.proof.expiries_seen += state == State.EXPIRED
            if expected is not None and state != expected:
                self._answers.findings.add(
                    "nothing acknowledged is lost",
                    f"{self._answers.chosen.reference(number)} {self._answers.ids[number]}",
                    f"expected {expected}, found {state}",
                )
            done(1)

        await spread(shoppers, numbers, one)

    async def _state(self, shopper: Shopper, number: int) -> str:
        answer = await shopper.read(f"/v1/reservations/{segment(self._answers.ids[number])}")
        if answer.status != HTTPStatus.OK:
            return f"status {answer.status}"
        try:
            return msgspec.json.decode(answer.body, type=Reservation).state
        except msgspec.DecodeError as unreadable:
            return str(unreadable)

    async def _compare_books(
        self,
        shoppers: Sequence[Shopper],
        sums: Sums,
        patience_ends: float,
        done: Callable[[int], None],
    ) -> None:
        """The books of every SKU touched must equal the recomputation, position by position."""

        async def one(shopper: Shopper, group: tuple[int, list[int]]) -> None:
            sku, positions = group
            name = self._supply.chosen.source.skus[sku]
            differences = self._differences(await read_positions(shopper, name), positions, sums)
            while differences and time.monotonic() < patience_ends:
                await asyncio.sleep(POLL_S)
                books = await read_positions(shopper, name)
                differences = self._differences(books, positions, sums)
            for position, difference in differences:
                where = self._supply.names(position)[1]
                self._answers.findings.add("books equal answers", f"{name} at {where}", difference)
            self.proof.skus_compared += 1
            self.proof.positions_compared += len(positions)
            done(1)

        await spread(shoppers, self._supply.by_sku().items(), one)

    def _differences(
        self, books: dict[str, Position], positions: list[int], sums: Sums
    ) -> list[tuple[int, str]]:
        """Compare the positions of one SKU: what is there, what is promised, nothing left held."""
        differences: list[tuple[int, str]] = []
        for position in positions:
            before = self._baseline.get(position, NOTHING)
            found = books.get(self._supply.names(position)[1], NOTHING)
            on_hand = before.on_hand + self._supply.received[position] - sums.fulfilled.get(position, 0)
            allocated = before.allocated + sums.committed.get(position, 0)
            if (found.on_hand, found.allocated) != (on_hand, allocated) or (found.held > before.held):
                differences.append(
                    (
                        position,
                        (
                            f"on_hand {found.on_hand}, expected {on_hand}; "
                            f"allocated {found.allocated}, expected {allocated}; "
                            f"held {found.held}, expected {before.held}"
                        ),
                    )
                )
        return differences
