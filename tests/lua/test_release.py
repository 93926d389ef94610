from tests.lua.books import (
    COMMITTED,
    EXPIRE,
    EXPIRED,
    HELD,
    NOW,
    RELEASE,
    RELEASED,
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
STOCK = {"shoe": Card({"W": Position(10, 5)}, (A,)), "hat": Card({"S": Position(2, 2)}, (A,))}


def test_a_part(books: Books) -> None:
    """The chosen units go back, the others stay held under the same deadline."""
    before = Hold(LINES)
    books.seed(stock=STOCK, operations={A: before})
    after = before._replace(state=HELD, changed=2, progress=((1, 0, 0, 4), (0, 0, 0, 2)))
    assert books.one(resolve("release", A, choose((1, 2), (0, 4)))) == after.tail
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(10, 1)}, (A,)), "hat": Card({"S": Position(2)})},
        operations={A: after},
        log=[(2, [Resolved(RELEASE, A, after, ((-4, 0, 0), (-2, 0, 0)))])],
    )


def test_part_after_part_in_one_call(books: Books) -> None:
    """Three releases add up: the last unit ends the reservation, and only that files it for oblivion."""
    before = Hold(LINES)
    books.seed(stock=STOCK, operations={A: before})
    one = before._replace(changed=2, progress=((1, 0, 0, 4), (2, 0, 0, 0)))
    two = before._replace(changed=3, progress=((1, 0, 0, 4), (0, 0, 0, 2)))
    three = before._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=4, deadline_ms=LATER)
    asked = (choose((0, 4)), choose((1, 2)), choose((0, 2)), choose())
    answers = books.batch(*(resolve("release", A, each) for each in asked))
    assert answers == [one.tail, two.tail, [b"exceeds_open_quantity", 3, 0, 1], three.tail]
    books.expect(
        seq=4,
        stock={"shoe": Card({"W": Position(10)}), "hat": Card({"S": Position(2)})},
        operations={A: three},
        due={(LATER, "p", (A,))},
        log=[
            (
                4,
                [
                    Resolved(RELEASE, A, one, ((-4, 0, 0), (0, 0, 0))),
                    Resolved(RELEASE, A, two, ((0, 0, 0), (-2, 0, 0))),
                    Resolved(RELEASE, A, three, ((-1, 0, 0), (0, 0, 0))),
                ],
            )
        ],
    )


def test_what_is_committed_stays(books: Books) -> None:
    """Releasing the held rest of a part-committed reservation leaves it committed, with its claim."""
    before = Hold(LINES, progress=((2, 3, 0, 0), (2, 0, 0, 0)))
    books.seed(stock=STOCK | {"shoe": Card({"W": Position(10, 2, 3)}, (A,))}, operations={A: before})
    after = before._replace(
        state=COMMITTED, held_end=RELEASE, changed=2, progress=((0, 3, 0, 2), (0, 0, 0, 2))
    )
    assert books.one(resolve("release", A)) == after.tail
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(10, 0, 3)}, (A,)), "hat": Card({"S": Position(2)})},
        operations={A: after},
        log=[(2, [Resolved(RELEASE, A, after, ((-2, 0, 0), (-2, 0, 0)))])],
    )


def test_more_than_is_held(books: Books) -> None:
    """Each position that is asked for too much is named with what is held there."""
    before = Hold(LINES, progress=((1, 4, 0, 0), (2, 0, 0, 0)))
    books.seed(stock=STOCK, operations={A: before})
    answer = books.one(resolve("release", A, choose((0, 2), (1, 3))))
    assert answer == [b"exceeds_open_quantity", 1, 0, 1, 1, 2]
    books.expect(stock=STOCK, operations={A: before})


def test_a_lapsed_hold_cannot_be_released(books: Books) -> None:
    """Its stock went back once already."""
    before = Hold(LINES, EXPIRED, EXPIRE, EXPIRE)
    books.seed(stock=STOCK, operations={A: before})
    assert books.one(resolve("release", A)) == [b"reservation_expired", 1]
    books.expect(stock=STOCK, operations={A: before})
