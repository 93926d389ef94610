from tests.lua.books import (
    CANCEL,
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


def test_a_part_then_what_is_left_of_a_shipped_order(books: Books) -> None:
    """Cancelled units go back to stock, on_hand stays; an order of which something left is fulfilled."""
    before = Hold(LINES, COMMITTED, COMMIT, progress=((0, 4, 1, 0), (0, 2, 0, 0)))
    stock = STOCK | {"shoe": Card({"W": Position(9, 0, 4)}, (A,))}
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
    answers = books.batch(*(resolve("cancel", A, each) for each in asked))
    assert answers == [one.tail, [b"exceeds_open_quantity", 2, 0, 1], two.tail, [b"repeated", two.tail]]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(9)}), "hat": Card({"S": Position(2)})},
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
    stock = STOCK | {"shoe": Card({"W": Position(10, 2, 3)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = before._replace(changed=2, closed_by=0, progress=((2, 0, 0, 3), (2, 0, 0, 0)))
    assert books.batch(*[resolve("cancel", A)] * 2) == [after.tail, [b"not_committed", 2]]
    books.expect(
        seq=2,
        stock=stock | {"shoe": Card({"W": Position(10, 2)}, (A,))},
        operations={A: after},
        log=[(2, [Resolved(CANCEL, A, after, ((0, -3, 0), (0, 0, 0)))])],
    )


def test_an_order_that_left_in_part_and_then_whole(books: Books) -> None:
    """The rest of an order with a cancelled part leaves: the goods decide its state."""
    before = Hold(LINES, COMMITTED, COMMIT, progress=((0, 0, 0, 5), (0, 2, 0, 0)))
    stock = {"shoe": Card({"W": Position(10)}), "hat": STOCK["hat"]}
    books.seed(stock=stock, operations={A: before})
    after = before._replace(
        state=FULFILLED,
        closed_by=FULFIL,
        changed=2,
        deadline_ms=LATER,
        progress=((0, 0, 0, 5), (0, 0, 2, 0)),
    )
    assert books.one(resolve("fulfil", A)) == after.tail
    assert books.one(resolve("cancel", A)) == [b"already_fulfilled", 2]
    books.expect(
        seq=2,
        stock=stock | {"hat": Card({"S": Position(0)})},
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Resolved(FULFIL, A, after, ((0, 0, 0), (0, -2, -2)))])],
    )
