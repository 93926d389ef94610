from collections.abc import Awaitable, Sequence

import pytest

from engine.commands import Reply
from tests.lua.books import (
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    EXTEND,
    FULFILLED,
    NOW,
    RETENTION_MS,
    Books,
    Fact,
    Hold,
    Position,
    Resolved,
    Stock,
    name,
)

A, B, C, D = (name(number) for number in range(1, 5))
LATER = NOW + RETENTION_MS
SHOE = (("shoe", "W", 5),)
DUE = Hold(SHOE, deadline_ms=NOW)


def expire(
    books: Books, entry: Sequence[bytes], holds: Sequence[tuple[bytes, Hold]], *, revision: int = 0
) -> Awaitable[Reply]:
    """A request to give back the holds of one entry of the index."""
    named = [(each, revision, hold.skus) for each, hold in holds]
    return books.commands.expire(b"h" + b"".join(entry), named, positions=1)


def lapse(hold: Hold, seq: int) -> Hold:
    """A hold after it was given back."""
    return hold._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=seq, deadline_ms=LATER)


def test_the_holds_of_an_entry(books: Books) -> None:
    """Each lapsed hold is given back once, with an event of its own; the entry goes, oblivion is filed."""
    two = Hold((("hat", "S", 2), ("shoe", "W", 1), ("hat", "W", 3)), deadline_ms=NOW)
    books.seed(
        stock={
            "shoe": Stock({"W": Position(10, 7)}, {("W", A): 1, ("W", B): 1, ("W", C): 1}),
            "hat": Stock({"S": Position(2, 2), "W": Position(3, 3)}, {("S", B): 1, ("W", B): 1}),
        },
        operations={A: DUE, B: two},
        due={(NOW, "h", (A, B)), (NOW, "h", (C,))},
    )
    assert books.one(expire(books, (A, B), [(A, DUE), (B, two)])) == 2
    one_after, two_after = lapse(DUE, 2), lapse(two, 3)
    books.expect(
        seq=3,
        stock={
            "shoe": Stock({"W": Position(10, 1)}, {("W", C): 1}),
            "hat": Stock({"S": Position(2), "W": Position(3)}),
        },
        operations={A: one_after, B: two_after},
        due={(LATER, "p", (A, B)), (NOW, "h", (C,))},
        log=[
            (
                3,
                [
                    Resolved(EXPIRE, A, one_after, ((-5, 0, 0),)),
                    Resolved(EXPIRE, B, two_after, ((-2, 0, 0), (-1, 0, 0), (-3, 0, 0))),
                ],
            )
        ],
    )


def test_what_is_no_lapsed_hold_is_passed_over(books: Books) -> None:
    """Extended by a millisecond, committed, gone, or no reservation at all: kept, and not counted."""
    extended = DUE._replace(deadline_ms=NOW + 1)
    committed = DUE._replace(state=COMMITTED, held_end=COMMIT)
    seed = {
        "stock": {"shoe": Stock({"W": Position(20, 5, 5)}, {("W", A): 1, ("W", B): 1})},
        "operations": {A: extended, B: committed, C: Fact(b"12345678", 1, 1, 1)},
    }
    books.seed(**seed, due={(NOW, "h", (A, B, C, D)), (NOW + 1, "h", (A,))})  # type: ignore[arg-type]
    holds = [(A, extended), (B, committed), (C, DUE), (D, DUE)]
    assert books.one(expire(books, (A, B, C, D), holds)) == 0
    books.expect(**seed, due={(NOW + 1, "h", (A,))})  # type: ignore[arg-type]


def test_the_keys_of_what_is_passed_over_are_counted(books: Books) -> None:
    """A hold after one that is not lapsed finds its own SKUs, in this request and the next."""
    other = Hold((("sock", "W", 1), ("coat", "W", 1)), deadline_ms=NOW + 9)
    hat = Hold((("hat", "S", 2),), deadline_ms=NOW)
    books.seed(
        stock={
            "shoe": Stock({"W": Position(5, 5)}, {("W", A): 1}),
            "hat": Stock({"S": Position(2, 2)}, {("S", C): 1}),
        },
        operations={A: DUE, B: other, C: hat},
        due={(NOW, "h", (B, A)), (NOW, "h", (C,)), (NOW, "h", (D,))},
    )
    asked = (
        expire(books, (B, A), [(B, other), (A, DUE)]),
        expire(books, (D,), []),
        expire(books, (C,), [(C, hat)]),
    )
    assert books.batch(*asked) == [1, 0, 1]
    one, two = lapse(DUE, 2), lapse(hat, 3)
    books.expect(
        seq=3,
        stock={"shoe": Stock({"W": Position(5)}), "hat": Stock({"S": Position(2)})},
        operations={A: one, B: other, C: two},
        due={(LATER, "p", (A, C))},
        log=[(3, [Resolved(EXPIRE, A, one, ((-5, 0, 0),)), Resolved(EXPIRE, C, two, ((-2, 0, 0),))])],
    )


def test_a_stale_hold_keeps_its_entry(books: Books) -> None:
    """Where the caller saw older lines, the whole entry waits for the next sweep; others go on."""
    books.seed(
        stock={
            "shoe": Stock({"W": Position(10, 10)}, {("W", A): 1, ("W", B): 1, ("W", C): 1}),
        },
        operations={A: DUE, B: DUE._replace(revision=1), C: DUE},
        due={(NOW, "h", (A, B)), (NOW, "h", (C,))},
    )
    asked = (expire(books, (A, B), [(A, DUE), (B, DUE)]), expire(books, (C,), [(C, DUE)]))
    assert books.batch(*asked) == [[b"stale"], 1]
    after = lapse(DUE, 2)
    books.expect(
        seq=2,
        stock={"shoe": Stock({"W": Position(10, 5)}, {("W", A): 1, ("W", B): 1})},
        operations={A: DUE, B: DUE._replace(revision=1), C: after},
        due={(NOW, "h", (A, B)), (LATER, "p", (C,))},
        log=[(2, [Resolved(EXPIRE, C, after, ((-5, 0, 0),))])],
    )


def test_only_what_is_held_lapses(books: Books) -> None:
    """Committed units of a part-committed hold stay; units given back before are not given twice."""
    before = Hold((("shoe", "W", 5), ("hat", "S", 2)), progress=((2, 3, 0, 0), (1, 0, 0, 1)), deadline_ms=1)
    books.seed(
        stock={
            "shoe": Stock({"W": Position(10, 2, 3)}, {("W", A): 1}),
            "hat": Stock({"S": Position(2, 1)}, {("S", A): 1}),
        },
        operations={A: before},
        due={(1, "h", (A,))},
    )
    assert books.one(expire(books, (A,), [(A, before)])) == 1
    after = before._replace(
        state=COMMITTED, held_end=EXPIRE, changed=2, progress=((0, 3, 0, 0), (0, 0, 0, 1))
    )
    books.expect(
        seq=2,
        stock={
            "shoe": Stock({"W": Position(10, 0, 3)}, {("W", A): 1}),
            "hat": Stock({"S": Position(2)}),
        },
        operations={A: after},
        log=[(2, [Resolved(EXPIRE, A, after, ((-2, 0, 0), (-1, 0, 0)))])],
    )


@pytest.mark.parametrize(
    ("row", "state", "counters"),
    [
        ((2, 3, 0, 0), COMMITTED, Position(10, 0, 3)),
        ((2, 0, 3, 0), FULFILLED, Position(10)),
        ((2, 0, 0, 3), EXPIRED, Position(10)),
    ],
)
def test_what_is_left_of_one_position(
    books: Books, row: tuple[int, int, int, int], state: int, counters: Position
) -> None:
    """Units that lapsed are in no column: the others decide the state, and are noted beside it."""
    before = Hold(SHOE, progress=(row,), deadline_ms=NOW)
    books.seed(
        stock={"shoe": Stock({"W": counters._replace(held=2)}, {("W", A): 1})},
        operations={A: before},
        due={(NOW, "h", (A,))},
    )
    assert books.one(expire(books, (A,), [(A, before)])) == 1
    after = before._replace(state=state, held_end=EXPIRE, changed=2, progress=((0, *row[1:]),))
    if state != COMMITTED:
        after = after._replace(closed_by=EXPIRE, deadline_ms=LATER)
    books.expect(
        seq=2,
        stock={"shoe": Stock({"W": counters}, {("W", A): 1} if state == COMMITTED else {})},
        operations={A: after},
        due=set() if state == COMMITTED else {(LATER, "p", (A,))},
        log=[(2, [Resolved(EXPIRE, A, after, ((-2, 0, 0),))])],
    )


def test_two_sweepers(books: Books) -> None:
    """The same entry in one call and again later: one effect."""
    books.seed(
        stock={"shoe": Stock({"W": Position(5, 5)}, {("W", A): 1})},
        operations={A: DUE},
        due={(NOW, "h", (A,))},
    )
    assert books.batch(*(expire(books, (A,), [(A, DUE)]) for _ in range(2))) == [1, 0]
    assert books.one(expire(books, (A,), [(A, DUE)])) == 0
    after = lapse(DUE, 2)
    books.expect(
        seq=2,
        stock={"shoe": Stock({"W": Position(5)})},
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Resolved(EXPIRE, A, after, ((-5, 0, 0),))])],
    )


def test_an_entry_that_names_a_hold_twice(books: Books) -> None:
    """Two extends of one hold in one call file it twice under one moment; it lapses once."""
    before = Hold(SHOE, deadline_ms=NOW - 1)
    books.seed(stock={"shoe": Stock({"W": Position(5, 5)}, {("W", A): 1})}, operations={A: before})
    ttl = (10).to_bytes(6, "little")
    books.batch(*(books.resolve("extend", A, before, ttl) for _ in range(2)))
    books.turn_clock(NOW + 10)
    ((entry, *records),) = books.one(books.commands.overdue(8))
    named = [(entry[1 + at * 12 : 13 + at * 12], 0, ("shoe",)) for at in range(len(records))]
    assert books.one(books.commands.expire(entry, named, positions=1)) == 1
    after = before._replace(
        state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=4, deadline_ms=NOW + 10 + RETENTION_MS
    )
    found = books.read()
    assert found["inv:{0}:ops"] == {A: after.packed}
    assert found["inv:{0}:sku:shoe"] == {b"": b"\1W", b"W": (5).to_bytes(4, "little") + bytes(12)}


def test_a_hold_that_is_extended_while_it_is_swept(books: Books) -> None:
    """Listed as overdue, then extended, then swept: it keeps its place in the index."""
    before = Hold(SHOE, deadline_ms=NOW - 1)
    stock = {"shoe": Stock({"W": Position(5, 5)}, {("W", A): 1})}
    books.seed(stock=stock, operations={A: before}, due={(NOW - 1, "h", (A,))})
    assert books.one(books.commands.overdue(8)) == [[b"h" + A, before.packed]]
    after = before._replace(changed=2, deadline_ms=NOW + 10)
    assert books.one(books.resolve("extend", A, before, (10).to_bytes(6, "little"))) == after.head
    assert books.one(expire(books, (A,), [(A, before)])) == 0
    books.expect(
        seq=2,
        stock=stock,
        operations={A: after},
        due={(NOW + 10, "h", (A,))},
        log=[(2, [Resolved(EXTEND, A, after, ((0, 0, 0),))])],
    )
