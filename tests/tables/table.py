"""A small language for scenario tables, spoken by the model and by a server.

Steps, with `;` between them:

    receive m1 A@s7=5          sale m2 A@s7=1        adjust m3 A@s7=-2
    reserve k1 A@s7=2 B@s7=1 ttl=60
    commit k1                  commit k1 A@s7=1 keep fulfil retake reference=R key=c1
    release k1 · fulfil k1 · cancel k1        with lines and key= as above
    extend k1 ttl=60
    wait 61                    seconds pass, nobody sweeps
    sweep                      what has lapsed is given back
    policy A@s7 safety_stock=2 backorder_limit=1

Answers, as they stand in the column `told`:

    held A@s7=2/0/0/0          state, then held/committed/fulfilled/back of each position; `again` at the
                               end marks an answer given before; `until 60` tells when the hold lapses
    on_hand=3 available=1 uncovered k2=1 k1=1
    insufficient_stock 0:A@s7 wants 2 has 1
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from tests.driver import START_MS, Shop, skus_in
from tests.model import Answer, Booked, Call, Model, Place, Policy, Refusal, Told, Verb

_FLAGS = frozenset({"keep", "fulfil", "retake"})


@dataclass(frozen=True)
class Row:
    """A scenario: what came before, what is asked, the answer, and the counters afterwards."""

    name: str
    when: str
    told: str
    given: str = ""
    stock: str = "A@s7=10"
    after: str = ""
    """on_hand/held/allocated of each position named."""


class Names:
    """Turns the one-letter SKUs of a table into SKUs of one partition, and back."""

    def __init__(self, partitions: int) -> None:
        self._skus = dict(zip("ABCX", skus_in(partitions - 1, partitions), strict=False))
        self._letters = {sku: letter for letter, sku in self._skus.items()}

    def place(self, text: str) -> Place:
        letter, _, location = text.partition("@")
        return self._skus[letter], location

    def show(self, sku: object, location: object) -> str:
        return f"{self._letters[str(sku)]}@{location}"

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(self._letters)

    def call(self, text: str) -> Call:
        """A step that is a request."""
        verb, name, *words = text.split()
        lines, options = [], dict[str, str]()
        for word in words:
            key, _, value = word.partition("=")
            if "@" in key:
                sku, location = self.place(key)
                lines.append((sku, int(value), location))
            else:
                options[key] = value
        is_new = verb in {"receive", "sale", "adjust", "reserve"}
        unknown = options.keys() - {*_FLAGS, "ttl", "key", "reference"}
        assert not unknown, f"the table says {unknown}"
        return Call(
            cast("Verb", verb),
            name if is_new else options.get("key"),
            tuple(lines) or None,
            "" if is_new else name,
            ttl_seconds=int(options.get("ttl", 900)),
            keep="keep" in options,
            fulfil="fulfil" in options,
            retake="retake" in options,
            reference=options.get("reference"),
        )

    def tell(self, answer: Answer) -> str:
        """An answer as the column `told` has it."""
        if isinstance(answer, Refusal):
            return " ".join((answer.word, *(self._tell_named(named) for named in answer.named)))
        if isinstance(answer, Booked):
            words = [f"on_hand={answer.on_hand} available={answer.available}"]
            words += ["uncovered"] * bool(answer.uncovered)
            words += [f"{name}={units}" for name, units in answer.uncovered]
        else:
            words = [answer.state]
            words += [
                f"{self.show(*place)}={units.held}/{units.committed}/{units.fulfilled}/{units.back}"
                for place, units in answer.units.items()
            ]
            if answer.expires_ms is not None:
                words.append(f"until {(answer.expires_ms - START_MS) // 1000}")
        return " ".join((*words, *["again"] * answer.replayed))

    def _tell_named(self, named: Sequence[object]) -> str:
        if len(named) == 5:
            line, sku, location, wants, has = named
            return f"{line}:{self.show(sku, location)} wants {wants} has {has}"
        sku, location, wants, has = named
        return f"{self.show(sku, location)} wants {wants} has {has}"

    def counters(self, positions: dict[Place, tuple[int, int, int]], wanted: str) -> str:
        """The counters of the positions that the column `after` names."""
        told = []
        for word in wanted.split():
            place = word.partition("=")[0]
            on_hand, held, allocated = positions[self.place(place)]
            told.append(f"{place}={on_hand}/{held}/{allocated}")
        return " ".join(told)


def steps_of(row: Row) -> list[str]:
    """Everything that comes before the request."""
    stock = [f"receive stock{number} {word}" for number, word in enumerate(row.stock.split())]
    return [*stock, *filter(None, map(str.strip, row.given.split(";")))]


def play_on_model(row: Row, model: Model, names: Names) -> tuple[str, str]:
    """The answer and the counters of the model."""
    for step in steps_of(row):
        word, *rest = step.split()
        if word == "wait":
            model.now_ms += round(float(rest[0]) * 1000)
        elif word == "sweep":
            model.sweep([model.partition(names.all[0])])
        elif word == "policy":
            model.positions[names.place(rest[0])].policy = read_policy(rest[1:])
        else:
            model.apply(names.call(step))
    told = names.tell(model.apply(names.call(row.when)))
    found = {place: (it.on_hand, it.held, it.allocated) for place, it in model.positions.items()}
    return told, names.counters(found, row.after)


async def play_on_server(row: Row, shop: Shop, names: Names) -> tuple[str, str]:
    """The answer and the counters of the engine."""
    now_ms = START_MS
    for step in steps_of(row):
        word, *rest = step.split()
        if word == "wait":
            now_ms += round(float(rest[0]) * 1000)
            shop.set_clock(now_ms)
        elif word == "sweep":
            await shop.inventory.sweep()
        elif word == "policy":
            place = names.place(rest[0])
            shop.model.positions[place] = shop.read_books((place[0],)).positions[place]
            shop.set_policy(place, read_policy(rest[1:]))
        else:
            await shop.send(names.call(step))
    told = names.tell(await shop.send(names.call(row.when)))
    books = shop.read_books(names.all).positions
    found = {place: (it.on_hand, it.held, it.allocated) for place, it in books.items()}
    return told, names.counters(found, row.after)


def read_policy(words: Sequence[str]) -> Policy:
    """`safety_stock=2 …`."""
    return Policy(**{name: int(units) for name, units in (word.split("=") for word in words)})


__all__ = ["Names", "Row", "Told", "play_on_model", "play_on_server"]
