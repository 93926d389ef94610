"""Writes histories as the recorder would, of a shop that the model keeps: one engine, many callers, and
answers that get lost. Whoever tampers with the model or with an answer writes a history that is not legal.
"""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace

from engine import (
    Availability,
    BincardError,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    MovementResult,
    Position,
    Reservation,
    State,
    Status,
    Unconfirmed,
)
from engine.check import Report, check
from engine.errors import REFUSAL_ERRORS, ExceedsOpenQuantity, InsufficientStock
from engine.history import FORMAT, Begin, encode_answer, encode_begin, encode_call, encode_failure
from engine.ids import reservation_id
from engine.types import Excess, LocationAvailability, ReservationLine, Shortage, Uncovered
from tests.model import Booked, Call, Model, Refusal, Told

START_MS = 1_700_000_000_000
STEP_NS = 1_000_000
RETENTION_SECONDS = 7200
Fate = Literal["told", "lost", "never came", "cut off"]
"""What becomes of a request: its answer is told, its answer is lost, it is lost itself, or its caller is."""

Anything = Any
"""Answers are of many kinds, and tests tamper with them."""

Change = Callable[[Anything], Anything]


class ModelShop(Model):
    """The model, in which each lapsed hold has a version of its own."""

    def give_back(self, partition: int) -> int:
        first, count = self.sequence(partition) + 1, super().give_back(partition)
        mine = [r for r in self.reservations.values() if r.versions == range(first, first + count)]
        for number, reservation in enumerate(mine):
            reservation.versions = range(first + number, first + number + 1)
        return count


class HistoryShop:
    """A shop whose history is written. `do` and its like take one step each; `check` judges them all."""

    def __init__(self, model: Model | None = None, *, begins: str = "1.0", epoch: int = 1) -> None:
        self.model = model or ModelShop(set(), RETENTION_SECONDS * 1000, now_ms=START_MS)
        self.now = 1_000 * STEP_NS
        self.epoch = epoch
        self.lines: list[tuple[int, int, bytes]] = []
        self.made_ms: dict[str, int] = {}
        self._begin = Begin(
            history=FORMAT,
            process="1-1",
            clock="one",
            dataset="one",
            partitions=1,
            retention_seconds=RETENTION_SECONDS,
            begins=[begins],
            time=0,
        )
        self._number = 0

    def wait(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += round(seconds * 1e9)
        self.model.now_ms = START_MS + self.now // 1_000_000

    def open(self, *locations: str) -> None:
        """Saves locations."""
        for location in locations:
            saved = Location(location, LocationKind.STORE)
            self.model.locations.add(location)
            self.model.sequences[0] = self.model.sequence(0) + 1
            self._write("save_location", {"location": saved}, saved)

    def receive(self, sku: str, quantity: int, location: str = "s1") -> Anything:
        """Goods come in."""
        return self.do(Call("receive", f"receive {sku} {location}", ((sku, quantity, location),)))

    def reserve(self, key: str, quantity: int, sku: str = "mug", **more: Anything) -> Anything:
        """One line at s1."""
        ttl_seconds = more.pop("ttl_seconds", 900)
        return self.do(Call("reserve", key, ((sku, quantity, "s1"),), ttl_seconds=ttl_seconds), **more)

    def verb(self, verb: Anything, reservation: str, key: str | None = None, **more: Anything) -> Anything:
        """A verb on a reservation. What `do` does not know goes into the call."""
        known = {name: more.pop(name) for name in ("change", "fate", "before", "after") if name in more}
        return self.do(Call(verb, key, reservation=reservation, **more), **known)

    # ---------------------------------------------------------------- steps

    def do(
        self, call: Call, change: Change | None = None, fate: Fate = "told", before: int = 0, after: int = 0
    ) -> Anything:
        """Sends a request: begun so many steps before it is decided, answered so many steps after."""
        answer = None if fate == "never came" else self._answer(call, self.model.apply(call))
        if change is not None:
            answer = change(answer)
        name = "record" if call.verb in {"receive", "sale", "adjust"} else call.verb
        self._write(name, self._arguments(call), answer, fate, before, after)
        return answer

    def ask_availability(
        self, sku: str = "mug", change: Change | None = None, before: int = 0, after: int = 0
    ) -> Anything:
        """Reads what is available."""
        told = self.model.available(sku)
        if isinstance(told, Refusal):
            answer: object = self._refusal(Call("reserve", None), told)
        else:
            places = [LocationAvailability(name, n, Status(status)) for name, (n, status) in told.items()]
            total = sum(max(0, place.available) for place in places)
            answer = Availability(sku, total, Status.IN_STOCK, self._version(), places)
        answer = change(answer) if change else answer
        self._write("availability", {"sku": sku}, answer, "told", before, after)
        return answer

    def ask_stock(self, sku: str = "mug", change: Change | None = None, after: int = 0) -> Anything:
        """Reads the counters."""
        rows = [
            Position(
                location, p.on_hand, p.held, p.allocated, 0, 0, 0, 0, 0, 0, 0, p.available, self._version()
            )
            for (name, location), p in self.model.positions.items()
            if name == sku
        ]
        answer: object = [change(row) for row in rows] if change else rows
        if not rows:
            answer = REFUSAL_ERRORS["sku_not_found"]("none", version=self._version())
        self._write("stock", {"sku": sku}, answer, "told", 0, after)
        return answer

    def ask_reservation(
        self, name: str, change: Change | None = None, before: int = 0, after: int = 0
    ) -> Anything:
        """Reads a reservation."""
        known = self.model.reservations.get(name)
        told = Refusal("reservation_not_found") if known is None else known.told()
        answer = self._answer(Call("commit", None, reservation=name), told)
        answer = change(answer) if change else answer
        self._write("reservation", {"reservation": id_of(name)}, answer, "told", before, after)
        return answer

    # ---------------------------------------------------------------- what is written

    def check(self, path: Path) -> Report:
        """Judges the history; `path` is a file that may be written."""
        path.write_bytes(self.encode())
        return check([path])

    def encode(self) -> bytes:
        """The history as a file."""
        return b"".join([encode_begin(self._begin), *(line for _, _, line in sorted(self.lines))])

    def _write(
        self,
        name: str,
        arguments: dict[str, object],
        answer: object,
        fate: Fate = "told",
        before: int = 0,
        after: int = 0,
    ) -> None:
        number, self._number = self._number, self._number + 1
        self.now += STEP_NS
        begun, told = self.now - before * STEP_NS, self.now + after * STEP_NS + STEP_NS // 2
        self._put(begun, encode_call(begun, number, name, arguments))
        if fate in {"lost", "never came"}:
            self._put(told, encode_failure(told, number, Unconfirmed("the answer was lost")))
        elif fate == "told" and isinstance(answer, BincardError):
            self._put(told, encode_failure(told, number, answer))
        elif fate == "told":
            self._put(told, encode_answer(told, number, answer))
        self.model.now_ms = START_MS + self.now // 1_000_000

    def _put(self, at: int, line: bytes) -> None:
        self.lines.append((at, len(self.lines), line))

    def _version(self, sequence: int | None = None) -> str:
        return f"{self.epoch}.{self.model.sequence(0) if sequence is None else sequence}"

    def _arguments(self, call: Call) -> dict[str, object]:
        lines = None if call.lines is None else [Line(*line) for line in call.lines]
        match call.verb:
            case "receive" | "sale" | "adjust":
                assert lines
                assert call.key
                (line,) = lines
                kind = MovementKind(call.verb)
                return {"movement": Movement(call.key, kind, line.sku, line.location, line.quantity)}
            case "reserve":
                return {
                    "op_id": call.key,
                    "lines": lines,
                    "ttl_seconds": call.ttl_seconds,
                    "reference": call.reference,
                }
            case "extend":
                return {
                    "op_id": call.key,
                    "reservation": id_of(call.reservation),
                    "ttl_seconds": call.ttl_seconds,
                }
        return {
            "op_id": call.key,
            "reservation": id_of(call.reservation),
            "lines": lines,
            "remainder": "keep" if call.keep else "release",
            "fulfil": call.fulfil,
            "if_expired": "retake" if call.retake else "fail",
            "reference": call.reference,
        }

    def _answer(self, call: Call, told: Told | Booked | Refusal) -> object:
        if isinstance(told, Refusal):
            return self._refusal(call, told)
        version = self._version(told.version)
        if isinstance(told, Booked):
            uncovered = [Uncovered(id_of(name), units) for name, units in told.uncovered]
            return MovementResult(told.on_hand, told.available, version, uncovered, told.replayed)
        name = call.key if call.verb == "reserve" else call.reservation
        assert name
        made_ms = self.made_ms.setdefault(name, self.model.now_ms)
        lines = [
            ReservationLine(*place, u.quantity, u.held, u.committed, u.fulfilled, u.back)
            for place, u in told.units.items()
        ]
        state = State(told.state)
        return Reservation(
            id_of(name), state, made_ms, told.expires_ms, None, told.reference, None, {}, version, lines,
            told.replayed,
        )  # fmt: skip

    def _refusal(self, call: Call, told: Refusal) -> BincardError:
        version = None if told.version is None else self._version(told.version)
        named: Anything = told.named
        if told.word == "insufficient_stock":
            return InsufficientStock("", [Shortage(*one) for one in named], version=version)
        if told.word == "exceeds_open_quantity":
            return ExceedsOpenQuantity("", [Excess(*one) for one in named], version=version)
        assert call is not None
        return REFUSAL_ERRORS[told.word]("", version=version)


def id_of(name: str) -> str:
    """The public id of the reservation that is made under a key."""
    return reservation_id(0, blake2b(name.encode(), digest_size=12).digest())


def with_units(reservation: Reservation, **units: int) -> Reservation:
    """A reservation whose first line has other units."""
    return replace(reservation, lines=[replace(reservation.lines[0], **units), *reservation.lines[1:]])
