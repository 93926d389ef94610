from tests.lua.books import (
    COMMIT,
    COMMITTED,
    FULFIL,
    FULFILLED,
    NOW,
    RETENTION_MS,
    Books,
    Card,
    Hold,
    Position,
    Resolved,
    choose,
    name,
    resolve,
)

A = name(1)
LATER = NOW + RETENTION_MS
LINES = (("shoe", "W", 5), ("hat", "S", 2))
STOCK = {"shoe": Card({"W": Position(10, 0, 5)}, (A,)), "hat": Card({"S": Position(2, 0, 2)}, (A,))}
BEFORE = Hold(LINES, COMMITTED, COMMIT)


def test_parts_in_one_call(books: Books) -> None:
    """Parcels leave one by one: on_hand falls with each, the last one ends the reservation."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    one = BEFORE._replace(changed=2, progress=((0, 1, 4, 0), (0, 0, 2, 0)))
    two = BEFORE._replace(state=FULFILLED, closed_by=FULFIL, changed=3, deadline_ms=LATER)
    asked = (choose((0, 4), (1, 2)), choose((0, 2), (1, 1)), choose())
    answers = books.batch(*(resolve("fulfil", A, each) for each in asked))
    assert answers == [one.tail, [b"exceeds_open_quantity", 2, 0, 1, 1, 0], two.tail]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5)}), "hat": Card({"S": Position(0)})},
        operations={A: two},
        due={(LATER, "p", (A,))},
        log=[
            (
                3,
                [
                    Resolved(FULFIL, A, one, ((0, -4, -4), (0, -2, -2))),
                    Resolved(FULFIL, A, two, ((0, -1, -1), (0, 0, 0))),
                ],
            )
        ],
    )


def test_what_is_still_held_stays(books: Books) -> None:
    """Of a reservation that is committed in part, the committed units leave; it goes on being held."""
    before = Hold(LINES, progress=((2, 3, 0, 0), (2, 0, 0, 0)))
    stock = STOCK | {"shoe": Card({"W": Position(10, 2, 3)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = before._replace(changed=2, progress=((2, 0, 3, 0), (2, 0, 0, 0)))
    assert books.batch(*[resolve("fulfil", A)] * 2) == [after.tail, [b"not_committed", 2]]
    books.expect(
        seq=2,
        stock=stock | {"shoe": Card({"W": Position(7, 2)}, (A,))},
        operations={A: after},
        log=[(2, [Resolved(FULFIL, A, after, ((0, -3, -3), (0, 0, 0)))])],
    )


def test_goods_that_the_books_do_not_have_leave_too(books: Books) -> None:
    """A fact is never refused: on_hand may fall below zero, and below four bytes."""
    line = (("shoe", "W", 10**9),)
    before = Hold(line, COMMITTED, COMMIT)
    position = Position(-(2**31) + 10**9 - 1, 0, 10**9)
    books.seed(stock={"shoe": Card({"W": position}, (A,))}, operations={A: before})
    after = before._replace(state=FULFILLED, closed_by=FULFIL, changed=2, deadline_ms=LATER)
    assert books.one(resolve("fulfil", A)) == after.tail
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(-(2**31) - 1)})},
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Resolved(FULFIL, A, after)])],
    )
