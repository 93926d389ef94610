from tests.lua.books import (
    CANCEL,
    COMMIT,
    COMMITTED,
    FULFIL,
    FULFILLED,
    NOW,
    RETENTION_MS,
    Books,
    Hold,
    Position,
    Resolved,
    Stock,
    choose,
    name,
)

A = name(1)
LATER = NOW + RETENTION_MS
LINES = (("shoe", "W", 5), ("hat", "S", 2))
STOCK = {
    "shoe": Stock({"W": Position(10, 0, 5)}, {("W", A): 1}),
    "hat": Stock({"S": Position(2, 0, 2)}, {("S", A): 1}),
}


def test_a_part_then_what_is_left_of_a_shipped_order(books: Books) -> None:
    """Cancelled units go back to stock, on_hand stays; an order of which something left is fulfilled."""
    before = Hold(LINES, COMMITTED, COMMIT, progress=((0, 4, 1, 0), (0, 2, 0, 0)))
    stock = STOCK | {"shoe": Stock({"W": Position(9, 0, 4)}, {("W", A): 1})}
    books.seed(stock=stock, operations={A: before})
    one = before._replace(changed=2, progress=((0, 1, 1, 3), (0, 2, 0, 0)))
    two = before._replace(
        state=FULFILLED,
        closed_by=CANCEL,
        changed=3,
        deadline_ms=LATER,
        progress=((0, 0, 1, 4), (0, 0, 0, 2)),
    )
    asked = (choose((0, 3)), choose((0, 2), (1, 2)), choose(), choose())
    answers = books.batch(*(books.resolve("cancel", A, before, each) for each in asked))
    assert answers == [one.head, [b"exceeds_open_quantity", 2, 0, 1], two.head, [b"repeated", two.head]]
    books.expect(
        seq=3,
        stock={"shoe": Stock({"W": Position(9)}), "hat": Stock({"S": Position(2)})},
        operations={A: two},
        due={(LATER, "p", (A,))},
        log=[
            (
                3,
                [
                    Resolved(CANCEL, A, one, ((0, -3, 0), (0, 0, 0))),
                    Resolved(CANCEL, A, two, ((0, -1, 0), (0, -2, 0))),
                ],
            )
        ],
    )


def test_what_is_held_stays(books: Books) -> None:
    """Cancelling the committed part of a hold leaves the rest held, and no second time."""
    before = Hold(LINES, progress=((2, 3, 0, 0), (2, 0, 0, 0)))
    stock = STOCK | {"shoe": Stock({"W": Position(10, 2, 3)}, {("W", A): 1})}
    books.seed(stock=stock, operations={A: before})
    after = before._replace(changed=2, closed_by=0, progress=((2, 0, 0, 3), (2, 0, 0, 0)))
    asked = [books.resolve("cancel", A, before) for _ in range(2)]
    assert books.batch(*asked) == [after.head, [b"not_committed", 2]]
    books.expect(
        seq=2,
        stock=stock | {"shoe": Stock({"W": Position(10, 2)}, {("W", A): 1})},
        operations={A: after},
        log=[(2, [Resolved(CANCEL, A, after, ((0, -3, 0), (0, 0, 0)))])],
    )


def test_an_order_that_left_in_part_and_then_whole(books: Books) -> None:
    """The rest of an order with a cancelled part leaves: the goods decide its state."""
    before = Hold(LINES, COMMITTED, COMMIT, progress=((0, 0, 0, 5), (0, 2, 0, 0)))
    stock = {"shoe": Stock({"W": Position(10)}), "hat": STOCK["hat"]}
    books.seed(stock=stock, operations={A: before})
    after = before._replace(
        state=FULFILLED,
        closed_by=FULFIL,
        changed=2,
        deadline_ms=LATER,
        progress=((0, 0, 0, 5), (0, 0, 2, 0)),
    )
    assert books.one(books.resolve("fulfil", A, before)) == after.head
    assert books.one(books.resolve("cancel", A, before)) == [b"already_fulfilled", 2]
    books.expect(
        seq=2,
        stock=stock | {"hat": Stock({"S": Position(0)})},
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Resolved(FULFIL, A, after, ((0, 0, 0), (0, -2, -2)))])],
    )
