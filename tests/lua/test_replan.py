"""Other lines for a reservation: what is stored before and after."""

import pytest

from tests.lua.books import (
    BASKET,
    CANCEL,
    CANCELLED,
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    HELD,
    NOW,
    RELEASE,
    RELEASED,
    REPAIR_MS,
    REPLAN,
    RETENTION_MS,
    Books,
    Card,
    Hold,
    Memory,
    Position,
    Replanned,
    Resolved,
    choose,
    name,
    replan,
    resolve,
)

A, B, X, OPERATION = name(1), name(2), name(3), name(9)
LATER = NOW + RETENTION_MS
BEFORE = Hold((("shoe", "W", 5), ("hat", "S", 2)))
HAT = Card({"S": Position(2, 2)}, (A,))
FIRST = {"first_detail": b"detail", "first_lines": BEFORE.lines}
AFTER = BEFORE._replace(revision=1, changed=2, detail=b"another", **FIRST)  # type: ignore[arg-type]


def shoe(west: Position, south: Position, *claims: bytes, **numbers: object) -> Card:
    """The shoes of two locations."""
    return Card({"W": west, "S": south}, claims, **numbers)  # type: ignore[arg-type]


def test_units_in_another_place(books: Books) -> None:
    """Two of five shoes are held elsewhere: the counters move, the claim of the card stays where it is."""
    books.seed(stock={"shoe": shoe(Position(9, 5), Position(2), X, A), "hat": HAT}, operations={A: BEFORE})
    after = AFTER._replace(lines=(("shoe", "W", 3), ("shoe", "S", 2), ("hat", "S", 2)), blocks=(0, 0, 0))
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={"shoe": shoe(Position(9, 3), Position(2, 2), X, A), "hat": HAT},
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )


def test_another_sku(books: Books) -> None:
    """The card on which nothing is open any more loses the claim, the new one gets it as its newest."""
    stock = {
        "shoe": shoe(Position(9, 5), Position(2), A, X),
        "hat": HAT,
        "coat": Card({"W": Position(4, 1)}, (X,), block=7),
    }
    books.seed(stock=stock, operations={A: BEFORE})
    after = AFTER._replace(lines=(("hat", "S", 2), ("coat", "W", 3)), blocks=(0, 7))
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={
            "shoe": shoe(Position(9), Position(2), X),
            "hat": HAT,
            "coat": Card({"W": Position(4, 4)}, (X, A), block=7),
        },
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )


def test_committed_and_fulfilled_units(books: Books) -> None:
    """Units keep their state in the other place; what has left stays where it left, without a claim."""
    before = BEFORE._replace(
        state=COMMITTED, held_end=COMMIT, progress=((0, 3, 2, 0), (0, 2, 0, 0)), blocks=(4, 5)
    )
    stock = {
        "shoe": Card({"W": Position(7, 0, 3)}, (X,), block=9, first=4, blocks={4: (A,)}),
        "hat": Card({"S": Position(2, 0, 2), "N": Position(1)}, (A,), block=5, first=5),
    }
    books.seed(stock=stock, operations={A: before})
    after = AFTER._replace(
        lines=(("shoe", "W", 2), ("hat", "S", 1), ("hat", "N", 1)),
        state=COMMITTED,
        held_end=COMMIT,
        progress=((0, 0, 2, 0), (0, 1, 0, 0), (0, 1, 0, 0)),
        blocks=(4, 5, 5),
    )
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(7)}, (X,), block=9, first=9),
            "hat": Card({"S": Position(2, 0, 1), "N": Position(1, 0, 1)}, (A,), block=5, first=5),
        },
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )


def test_nothing_is_left(books: Books) -> None:
    """Where the last committed units are given back the reservation is cancelled, and forgotten in time."""
    before = BEFORE._replace(state=COMMITTED, held_end=COMMIT)
    stock = {"shoe": Card({"W": Position(9, 0, 5)}, (A,)), "hat": Card({"S": Position(2, 0, 2)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = AFTER._replace(state=CANCELLED, held_end=COMMIT, closed_by=CANCEL, deadline_ms=LATER)
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(9)}), "hat": Card({"S": Position(2)})},
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Replanned(A, after)])],
    )


def test_what_was_not_found(books: Books) -> None:
    """The positions that lose committed units are to be counted, since now; no others."""
    before = BEFORE._replace(state=COMMITTED, held_end=COMMIT)
    stock = {"shoe": Card({"W": Position(9, 0, 5)}, (A,)), "hat": Card({"S": Position(2, 0, 2)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = AFTER._replace(state=COMMITTED, held_end=COMMIT, progress=((0, 5, 0, 0), (0, 1, 0, 1)))
    assert books.one(replan(A, after, is_short=True)) == after.tail
    books.expect(
        seq=2,
        stock={**stock, "hat": Card({"S": Position(2, 0, 1)}, (A,))},
        operations={A: after},
        to_count={("hat", "S"): NOW},
        log=[(2, [Replanned(A, after)])],
    )


def test_only_the_part_of_the_caller(books: Books) -> None:
    """The same lines with another detail: nothing is counted, the revision tells of it."""
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    assert books.one(replan(A, AFTER)) == AFTER.tail
    books.expect(seq=2, stock=stock, operations={A: AFTER}, log=[(2, [Replanned(A, AFTER)])])


def test_what_does_not_fit(books: Books) -> None:
    """Nothing changes; each short line is told with all that it shall have, and what there is for it."""
    stock = {"shoe": shoe(Position(9, 8), Position(2, 2), A), "hat": Card({"S": Position(5, 4)}, (A,))}
    books.seed(stock=stock, operations={A: BEFORE})
    after = AFTER._replace(lines=(("hat", "S", 4), ("shoe", "S", 1), ("shoe", "W", 6)))
    assert books.one(replan(A, after)) == [b"insufficient_stock", 1, 0, 3, 4, 1, 0, 1]
    books.expect(stock=stock, operations={A: BEFORE})


def test_what_nobody_stocks(books: Books) -> None:
    """A position that is not there is named; one of a SKU that is nowhere first of all."""
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    lines = (("hat", "S", 9), ("shoe", "S", 1))
    assert books.one(replan(A, AFTER._replace(lines=lines))) == [b"not_stocked", 1, 1]
    unknown = AFTER._replace(lines=(*lines, ("coat", "S", 1)))
    assert books.one(replan(A, unknown)) == [b"sku_not_found", 1, 2]
    books.expect(stock=stock, operations={A: BEFORE})


def test_what_has_lapsed_makes_room(books: Books) -> None:
    """Before a refusal, what has lapsed is given back."""
    lapsed = Hold((("shoe", "S", 2),), deadline_ms=NOW)
    stock = {"shoe": shoe(Position(9, 5), Position(2, 2), A, B), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE, B: lapsed}, due={(NOW, "h", (B,))})
    after = AFTER._replace(lines=(("shoe", "W", 3), ("shoe", "S", 2), ("hat", "S", 2)), changed=3)
    assert books.one(replan(A, after)) == after.tail
    gone = lapsed._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=2, deadline_ms=LATER)
    books.expect(
        seq=3,
        stock={"shoe": shoe(Position(9, 3), Position(2, 2), A), "hat": HAT},
        operations={A: after, B: gone},
        due={(LATER, "p", (B,))},
        log=[(3, [Resolved(EXPIRE, B, gone), Replanned(A, after)])],
    )


def test_it_has_lapsed_itself(books: Books) -> None:
    """Making room gives the reservation's own units back: then it is over."""
    before = BEFORE._replace(deadline_ms=NOW)
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: before}, due={(NOW, "h", (A,))})
    assert books.one(replan(A, AFTER._replace(lines=(("hat", "S", 3),)))) == [b"reservation_expired", 2]


@pytest.mark.parametrize("version", [(1, 2), (2, 1), (0, 0)])
def test_another_version(books: Books, version: tuple[int, int]) -> None:
    """Who worked from another state of the record is told to read it again."""
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    assert books.one(replan(A, AFTER, version=version)) == [b"stale"]
    books.expect(stock=stock, operations={A: BEFORE})


@pytest.mark.parametrize(
    ("state", "ends", "word"),
    [
        (EXPIRED, (EXPIRE, EXPIRE), b"reservation_expired"),
        (RELEASED, (RELEASE, RELEASE), b"already_released"),
        (CANCELLED, (COMMIT, CANCEL), b"already_cancelled"),
    ],
)
def test_what_is_over(books: Books, state: int, ends: tuple[int, int], word: bytes) -> None:
    """A reservation without open units stays as it is."""
    before = BEFORE._replace(state=state, held_end=ends[0], closed_by=ends[1])
    books.seed(operations={A: before})
    assert books.one(replan(A, AFTER)) == [word, 1]
    assert books.one(replan(B, AFTER)) == [b"reservation_not_found", 1]
    books.expect(operations={A: before})


def test_a_repeat(books: Books) -> None:
    """The answer is remembered with the lines as they were, whatever they are by now."""
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    first = AFTER._replace(lines=(("shoe", "W", 4), ("hat", "S", 2)))
    second = first._replace(lines=(("hat", "S", 1),), revision=2, changed=3, detail=b"third")
    marked = {"operation": OPERATION, "fingerprint": b"content1"}
    assert books.one(replan(A, first, **marked)) == first.tail  # type: ignore[arg-type]
    assert books.one(replan(A, second, version=(1, 2))) == second.tail
    answer = first.plan + first.detail + first.tail
    again = books.one(replan(A, second, **marked))  # type: ignore[arg-type]
    assert again == [b"replayed", answer, second.packed(A)]
    other = books.one(replan(A, second, operation=OPERATION, fingerprint=b"content2"))
    assert other == [b"idempotency_mismatch"]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(9)}), "hat": Card({"S": Position(2, 1)}, (A,))},
        operations={A: second, OPERATION: Memory(REPLAN, b"content1", A, answer)},
        due={(NOW + 60_000 + RETENTION_MS, "p", (OPERATION,))},
        log=[(2, [Replanned(A, first, OPERATION)]), (3, [Replanned(A, second)])],
    )


def test_two_in_one_call(books: Books) -> None:
    """Each sees what the one before it did."""
    stock = {"shoe": shoe(Position(9, 5), Position(2, 1), A, B)}
    mine, other = Hold((("shoe", "W", 5),)), Hold((("shoe", "S", 1),))
    books.seed(stock=stock, operations={A: mine, B: other})
    moved = AFTER._replace(lines=(("shoe", "W", 1),), changed=3, first_lines=mine.lines)
    given = AFTER._replace(lines=(("shoe", "W", 1),), first_lines=other.lines)
    asked = replan(A, moved._replace(lines=(("shoe", "S", 2),))), replan(B, given), replan(A, moved)
    assert books.batch(*asked) == [[b"insufficient_stock", 1, 0, 1, 2], given.tail, moved.tail]
    books.expect(
        seq=3,
        stock={"shoe": shoe(Position(9, 2), Position(2), A, B)},
        operations={A: moved, B: given},
        log=[(3, [Replanned(B, given), Replanned(A, moved)])],
    )


def test_a_later_step(books: Books) -> None:
    """What follows works on the new lines, and its answer is remembered with them."""
    after = AFTER._replace(lines=(("hat", "S", 2),))
    books.seed(stock={"hat": HAT}, operations={A: after}, seq=2)
    done = after._replace(changed=3, progress=((1, 0, 0, 1),))
    part = resolve("release", A, choose((0, 1)), known=1, operation=OPERATION)
    assert books.one(part) == done.tail
    answer = Memory(RELEASE, bytes(8), A, done.plan + done.detail + done.tail)
    books.expect(
        seq=3,
        stock={"hat": Card({"S": Position(2, 1)}, (A,))},
        operations={A: done, OPERATION: answer},
        due={(NOW + 60_000 + RETENTION_MS, "p", (OPERATION,))},
        log=[(3, [Resolved(RELEASE, A, done, ((-1, 0, 0),), OPERATION)])],
    )


def test_a_basket(books: Books) -> None:
    """Of one over several partitions the home alone decides that units are given back; the parts are told."""
    before = BEFORE._replace(state=COMMITTED, held_end=COMMIT, kind=BASKET)
    books.seed(operations={A: before})
    after = before._replace(
        revision=1,
        changed=2,
        detail=b"another",
        first_detail=b"detail",
        progress=((0, 4, 0, 1), (0, 2, 0, 0)),
    )
    assert books.one(replan(A, after._replace(lines=(*BEFORE.lines, ("coat", "W", 1)), progress=()))) == [
        b"spans_partitions",
        1,
    ]
    more = after._replace(lines=(("shoe", "W", 6), ("hat", "S", 2)), progress=())
    assert books.one(replan(A, more)) == [b"spans_partitions", 1]
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        operations={A: after},
        due={(NOW + REPAIR_MS, "r", (A,))},
        log=[(2, [Replanned(A, after)])],
    )


def test_a_place_with_a_policy(books: Books) -> None:
    """What safety stock and fences withhold cannot be taken."""
    north = Position(5, safety_stock=2, fenced=1)
    stock = {"shoe": Card({"W": Position(9, 5), "N": north}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    after = AFTER._replace(lines=(("shoe", "N", 3), ("hat", "S", 2)))
    assert books.one(replan(A, after)) == [b"insufficient_stock", 1, 0, 2, 3]
    after = AFTER._replace(lines=(("shoe", "N", 2), ("hat", "S", 2)))
    assert books.one(replan(A, after)) == after.tail
    assert after.state == HELD
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(9), "N": north._replace(held=2)}, (A,)), "hat": HAT},
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )
