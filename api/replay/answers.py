"""What the clients were told, basket by basket, and every contradiction in it.

Nothing here asks the server: a replay judges each answer in the moment it comes, and keeps in
columns what the proof needs afterwards.
"""

from __future__ import annotations

from array import array
from enum import IntEnum
from http import HTTPStatus

import msgspec

from api.replay.baskets import Chosen
from api.replay.client import Answer
from api.replay.report import LISTED_FINDINGS, Finding
from api.replay.shop import Told, Verb
from api.replay.wire import Line, Reservation, ReservedLine, State, problem

FOR_EVER_NS = 2**62


class Fate(IntEnum):
    """Where a basket stands according to the answers."""

    UNSENT = 0
    UNRESOLVED = 1
    REFUSED = 2
    HELD = 3
    COMMITTED = 4
    FULFILLED = 5
    RELEASED = 6


AFTER_THE_RUN = {
    Fate.HELD: State.EXPIRED,
    Fate.COMMITTED: State.COMMITTED,
    Fate.FULFILLED: State.FULFILLED,
    Fate.RELEASED: State.RELEASED,
}
"""What a reservation must say once every hold that was left behind has expired."""

_FATE_OF = {
    State.COMMITTED: Fate.COMMITTED,
    State.FULFILLED: Fate.FULFILLED,
    State.RELEASED: Fate.RELEASED,
}


class Findings:
    """Contradictions: all are counted, the first ones are kept to be shown."""

    def __init__(self) -> None:
        self.total = 0
        self.listed: list[Finding] = []

    def add(self, rule: str, where: str, detail: str) -> None:
        """Note a contradiction."""
        self.total += 1
        if len(self.listed) < LISTED_FINDINGS:
            self.listed.append(Finding(rule, where, detail))


class Answers:
    """The columns: fate, reservation id, and the time in which the stock was surely claimed.

    From `told_ns` to `freed_ns` (monotonic clock of the client) the units of a basket are surely
    claimed: from the moment it was told so, to the moment it asked for the release, or to the
    earliest end of a hold that it abandoned.
    """

    def __init__(self, chosen: Chosen) -> None:
        self.chosen = chosen
        self.fates = bytearray(chosen.count)
        self.ids: list[str] = [""] * chosen.count
        self.told_ns: array[int] = array("q", bytes(8 * chosen.count))
        self.freed_ns: array[int] = array("q", bytes(8 * chosen.count))
        self.extended = 0
        self.last_expiry_ns = 0
        self.findings = Findings()
        self._decode = msgspec.json.Decoder(Reservation).decode

    def reserved(self, number: int, told: Told, lines: list[Line], *, told_ns: int) -> str | None:
        """Judge the answers to a reservation; give its id, or None if the basket was refused."""
        where = self.chosen.reference(number)
        accepted = [a for a in told.answers if a.status == HTTPStatus.CREATED]
        for answer in told.answers:
            if answer.status == HTTPStatus.CONFLICT:
                self._judge_refusal(where, answer, lines)
            elif answer.status != HTTPStatus.CREATED:
                self._unexpected(where, Verb.RESERVE, answer)
                self.fates[number] = Fate.UNRESOLVED
        if not accepted:
            if self.fates[number] == Fate.UNSENT:
                self.fates[number] = Fate.REFUSED
            return None
        reservation = self._read(where, accepted[0])
        if reservation is None:
            self.fates[number] = Fate.UNRESOLVED
            return None
        self._judge_pair(where, Verb.RESERVE, told)
        fresh = sum(not answer.replayed for answer in accepted)
        if fresh != 1 and not (fresh == 0 and told.hesitated):
            self.findings.add(
                "one effect per key", where, f"{fresh} of {len(accepted)} answers were not replays"
            )
        if _units(reservation.lines) != _units(lines):
            self.findings.add("all or nothing", where, "the reservation holds other units than asked")
        self.fates[number] = Fate.HELD
        self.ids[number] = reservation.id
        self.told_ns[number] = told_ns
        self.freed_ns[number] = FOR_EVER_NS
        return reservation.id

    def abandoned(self, number: int, *, asked_ns: int, ttl_s: int) -> None:
        """Note that nobody will touch this hold again."""
        lasts_ns = ttl_s * 1_000_000_000
        self.freed_ns[number] = asked_ns + lasts_ns
        self.last_expiry_ns = max(self.last_expiry_ns, self.told_ns[number] + lasts_ns)

    def stepped(self, number: int, verb: Verb, told: Told, state: State) -> bool:
        """Judge the answers to a commit, release, extension or fulfilment that must succeed."""
        where = self.chosen.reference(number)
        for answer in told.answers:
            if answer.status != HTTPStatus.OK:
                self._unexpected(where, verb, answer)
                self.fates[number] = Fate.UNRESOLVED
                return False
        self._judge_pair(where, verb, told)
        reservation = self._read(where, told.answers[0])
        if reservation is None or (reservation.state, reservation.id) != (state, self.ids[number]):
            said = "nothing readable" if reservation is None else reservation.state
            self.findings.add("life cycle", where, f"{verb} answered {said}, expected {state}")
            self.fates[number] = Fate.UNRESOLVED
            return False
        if state in _FATE_OF:
            self.fates[number] = _FATE_OF[state]
        self.extended += verb is Verb.EXTEND
        return True

    def releasing(self, number: int, *, asked_ns: int) -> None:
        """Note that a release is about to be asked for: from now on the units may be free."""
        self.freed_ns[number] = asked_ns

    def unresolved(self, number: int) -> None:
        """Note that the outcome of this basket could not be learned."""
        self.fates[number] = Fate.UNRESOLVED

    def acknowledged(self) -> list[int]:
        """List the baskets for which a reservation was acknowledged."""
        return [number for number, known in enumerate(self.ids) if known]

    def judge_ids(self) -> None:
        """Look for a reservation that two keys were given."""
        seen: set[str] = set()
        for number, known in enumerate(self.ids):
            if known and known in seen:
                where = self.chosen.reference(number)
                self.findings.add("one reservation per key", where, f"{known} belongs to another")
            seen.add(known)

    def count(self, fate: Fate) -> int:
        """Count the baskets with this fate."""
        return self.fates.count(fate)

    def _judge_pair(self, where: str, verb: Verb, told: Told) -> None:
        """A duplicate must get the first status and body, unless the first one was a refusal."""
        good = [answer for answer in told.answers if answer.status < HTTPStatus.BAD_REQUEST]
        if any((a.status, a.body) != (good[0].status, good[0].body) for a in good):
            self.findings.add("same answer to a duplicate", where, f"{verb}: the answers differ")
        if told.in_order and told.answers[0] in good and len(good) < len(told.answers):
            self.findings.add("same answer to a duplicate", where, f"{verb}: accepted, then refused")

    def _judge_refusal(self, where: str, answer: Answer, lines: list[Line]) -> None:
        """A refusal must name real shortages of this basket."""
        refusal = problem(answer.body)
        if refusal.code != "insufficient_stock" or not refusal.shortages:
            self._unexpected(where, Verb.RESERVE, answer)
            return
        asked = _units(lines)
        for short in refusal.shortages:
            of_basket = asked.get((short.sku, short.location), 0)
            if not (0 <= short.available < short.requested <= of_basket):
                self.findings.add(
                    "true refusals",
                    f"{where} {short.sku} at {short.location}",
                    f"asked {of_basket}, requested {short.requested}, "
                    f"available {short.available}: no shortage",
                )

    def _read(self, where: str, answer: Answer) -> Reservation | None:
        try:
            return self._decode(answer.body)
        except msgspec.DecodeError as unreadable:
            self.findings.add("readable answers", where, str(unreadable))
            return None

    def _unexpected(self, where: str, verb: Verb, answer: Answer) -> None:
        said = problem(answer.body)
        self.findings.add("expected answers", where, f"{verb}: {answer.status} {said.code} {said.detail}")


def _units(lines: list[Line] | list[ReservedLine]) -> dict[tuple[str, str], int]:
    """Sum the units per SKU and location."""
    units: dict[tuple[str, str], int] = {}
    for line in lines:
        position = (line.sku, line.location)
        units[position] = units.get(position, 0) + line.quantity
    return units
