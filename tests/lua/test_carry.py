import pytest

from tests.lua.books import (
    CANCELLED,
    COMMIT,
    COMMITTED,
    EXPIRED,
    FULFILLED,
    HELD,
    NOW,
    RELEASED,
    Books,
    Card,
    Carried,
    Fact,
    Hold,
    Memory,
    Position,
    carry,
    name,
)

A, B, C, D = (name(number) for number in range(1, 5))
SHOE = (("shoe", "W", 5),)
BOTH = (("shoe", "W", 5), ("hat", "W", 2), ("shoe", "S", 1))


def cards(shoe: Position, claims: tuple[bytes, ...] = ()) -> dict[str, Card]:
    return {"shoe": Card({"W": shoe}, claims)}


@pytest.mark.parametrize(
    ("state", "counted", "due"),
    [
        (HELD, Position(9, 5), {(NOW + 60_000, "h", (A,))}),
        (COMMITTED, Position(9, 0, 5), set()),
        (FULFILLED, Position(9), {(NOW + 60_000, "p", (A,))}),
        (RELEASED, Position(9), {(NOW + 60_000, "p", (A,))}),
        (EXPIRED, Position(9), {(NOW + 60_000, "p", (A,))}),
        (CANCELLED, Position(9), {(NOW + 60_000, "p", (A,))}),
    ],
)
def test_a_reservation(
    books: Books, state: int, counted: Position, due: set[tuple[int, str, tuple[bytes, ...]]]
) -> None:
    """It is filed as it was; open units are counted and claimed, its deadline is in the index."""
    hold = Hold(SHOE, state, COMMIT, COMMIT, 3, created=70, changed=99, epoch=4, changed_epoch=5)
    books.seed(stock=cards(Position(9)))
    assert books.one(carry(Carried(A, hold))) == 2
    claims = (A,) if state in {HELD, COMMITTED} else ()
    books.expect(
        seq=2,
        stock=cards(counted, claims),
        operations={A: hold},
        due=due,
        log=[(2, [Carried(A, hold)])],
    )


def test_a_reservation_in_parts(books: Books) -> None:
    """Each position by its own units: one with none open has no claim, and blocks are those of here."""
    progress = ((1, 2, 1, 0), (0, 0, 1, 1), (0, 1, 0, 0))
    hold = Hold(BOTH, HELD, progress=progress, blocks=(7, 8, 9))
    hats = Card({"W": Position(3)})
    stock = {"shoe": Card({"W": Position(9), "S": Position(1)}, block=2, first=2), "hat": hats}
    books.seed(stock=stock)
    assert books.one(carry(Carried(A, hold))) == 2
    filed = hold._replace(blocks=(2, 0, 2))
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(9, 1, 2), "S": Position(1, 0, 1)}, (A,), block=2, first=2),
            "hat": hats,
        },
        operations={A: filed},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Carried(A, filed)])],
    )


def test_answers_to_operations(books: Books) -> None:
    """They are remembered until the moment that is told, whatever was done."""
    told, fact = Memory(COMMIT, b"12345678", A, Hold(SHOE).tail), Fact(b"12345678", 1, 2, 3)
    carried = [Carried(B, told, NOW + 7), Carried(C, fact, NOW + 7), Carried(D, fact, NOW - 7)]
    books.seed()
    assert books.batch(*map(carry, carried)) == [2, 3, 4]
    books.expect(
        seq=4,
        operations={B: told, C: fact, D: fact},
        due={(NOW + 7, "p", (B, C)), (NOW - 7, "p", (D,))},
        log=[(4, carried)],
    )


def test_refusals(books: Books) -> None:
    """What is filed already, and positions that are not there; the others of the call are carried."""
    hold, gone = Hold(SHOE), Hold((("shoe", "W", 1), ("shoe", "S", 1), ("hat", "W", 1)))
    books.seed(stock=cards(Position(9)), operations={C: hold})
    asked = [Carried(A, hold), Carried(A, hold), Carried(B, gone), Carried(C, hold)]
    assert books.batch(*map(carry, asked)) == [2, [b"repeated"], [b"not_stocked", 2, 1, 2], [b"repeated"]]
    books.expect(
        seq=2,
        stock=cards(Position(9, 5), (A,)),
        operations={A: hold, C: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Carried(A, hold)])],
    )
