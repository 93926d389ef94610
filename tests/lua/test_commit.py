import pytest

from tests.lua.books import (
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    FULFILLED,
    HELD,
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

A, B = name(1), name(2)
LATER = NOW + RETENTION_MS
LINES = (("shoe", "W", 5), ("hat", "S", 2))
BEFORE = Hold(LINES)
LAPSED = Hold(LINES, EXPIRED, EXPIRE, EXPIRE, deadline_ms=NOW + 5)
STOCK = {
    "shoe": Stock({"W": Position(10, 6), "S": Position(1)}, {("W", A): 1, ("W", B): 1}),
    "hat": Stock({"S": Position(2, 2)}, {("S", A): 1}),
}


def own(*chosen: tuple[int, int], fulfil: int = 0, keep: int = 0, retake: int = 0, swept: int = 0) -> bytes:
    """What commit takes of its own."""
    return bytes((fulfil, keep, retake, swept)) + choose(*chosen)


def test_with_fulfil_the_goods_leave(books: Books) -> None:
    """on_hand falls at once, nothing stays open, the record is kept for the retention time."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    after = BEFORE._replace(state=FULFILLED, held_end=COMMIT, closed_by=COMMIT, changed=2, deadline_ms=LATER)
    assert books.one(books.resolve("commit", A, BEFORE, own(fulfil=1))) == after.head
    books.expect(
        seq=2,
        stock={
            "shoe": Stock({"W": Position(5, 1), "S": Position(1)}, {("W", B): 1}),
            "hat": Stock({"S": Position(0)}),
        },
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Resolved(COMMIT, A, after, ((-5, 0, -5), (-2, 0, -2)))])],
    )


@pytest.mark.parametrize("fulfil", [0, 1])
def test_a_part_and_the_rest_goes_back(books: Books, fulfil: int) -> None:
    """Three of five shoes, no hats: what is not chosen is released, and its claim struck."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    rows = ((0, 0, 3, 2), (0, 0, 0, 2)) if fulfil else ((0, 3, 0, 2), (0, 0, 0, 2))
    after = BEFORE._replace(held_end=COMMIT, changed=2, progress=rows)
    if fulfil:
        after = after._replace(state=FULFILLED, closed_by=COMMIT, deadline_ms=LATER)
    else:
        after = after._replace(state=COMMITTED)
    assert books.one(books.resolve("commit", A, BEFORE, own((0, 3), fulfil=fulfil))) == after.head
    holders = {("W", B): 1} if fulfil else {("W", A): 1, ("W", B): 1}
    counters = Position(7, 1) if fulfil else Position(10, 1, 3)
    delta = (-5, 0, -3) if fulfil else (-5, 3, 0)
    books.expect(
        seq=2,
        stock={
            "shoe": Stock({"W": counters, "S": Position(1)}, holders),
            "hat": Stock({"S": Position(2)}),
        },
        operations={A: after},
        due={(LATER, "p", (A,))} if fulfil else set(),
        log=[(2, [Resolved(COMMIT, A, after, (delta, (-2, 0, 0)))])],
    )


@pytest.mark.parametrize("fulfil", [0, 1])
def test_a_part_and_the_rest_is_kept(books: Books, fulfil: int) -> None:
    """What is not chosen stays held, with its deadline; a position that gave nothing has no change."""
    books.seed(stock=STOCK, operations={A: BEFORE}, due={(NOW + 60_000, "h", (A,))})
    rows = ((2, 0, 3, 0), (2, 0, 0, 0)) if fulfil else ((2, 3, 0, 0), (2, 0, 0, 0))
    after = BEFORE._replace(state=HELD, changed=2, progress=rows)
    assert books.one(books.resolve("commit", A, BEFORE, own((0, 3), fulfil=fulfil, keep=1))) == after.head
    counters = Position(7, 3) if fulfil else Position(10, 3, 3)
    delta = (-3, 0, -3) if fulfil else (-3, 3, 0)
    books.expect(
        seq=2,
        stock=STOCK | {"shoe": Stock({"W": counters, "S": Position(1)}, STOCK["shoe"].holders)},
        operations={A: after},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Resolved(COMMIT, A, after, (delta, (0, 0, 0)))])],
    )


def test_step_by_step_in_one_call(books: Books) -> None:
    """Two kept parts and the rest in one call end as one commit would, with three events."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    one = BEFORE._replace(changed=2, progress=((4, 1, 0, 0), (2, 0, 0, 0)))
    two = BEFORE._replace(changed=3, progress=((4, 1, 0, 0), (0, 2, 0, 0)))
    three = BEFORE._replace(state=COMMITTED, held_end=COMMIT, changed=4)
    asked = (own((0, 1), keep=1), own((1, 2), keep=1), own())
    answers = books.batch(*(books.resolve("commit", A, BEFORE, each) for each in asked))
    assert answers == [one.head, two.head, three.head]
    books.expect(
        seq=4,
        stock={
            "shoe": Stock({"W": Position(10, 1, 5), "S": Position(1)}, STOCK["shoe"].holders),
            "hat": Stock({"S": Position(2, 0, 2)}, {("S", A): 1}),
        },
        operations={A: three},
        log=[
            (
                4,
                [
                    Resolved(COMMIT, A, one, ((-1, 1, 0), (0, 0, 0))),
                    Resolved(COMMIT, A, two, ((0, 0, 0), (-2, 2, 0))),
                    Resolved(COMMIT, A, three, ((-4, 4, 0), (0, 0, 0))),
                ],
            )
        ],
    )


def test_more_than_is_held(books: Books) -> None:
    """Every position that is asked for too much is named with what is open; equal is not too much."""
    before = Hold(LINES, progress=((2, 3, 0, 0), (0, 0, 2, 0)))
    books.seed(stock=STOCK, operations={A: before})
    answer = books.one(books.resolve("commit", A, before, own((0, 3), (1, 1))))
    assert answer == [b"exceeds_open_quantity", 1, 0, 2, 1, 0]
    assert books.one(books.resolve("commit", A, before, own((0, 2), (1, 1)))) == [
        b"exceeds_open_quantity",
        1,
        1,
        0,
    ]
    books.expect(stock=STOCK, operations={A: before})


def test_a_late_commit_of_a_hold_on_the_books(books: Books) -> None:
    """State decides, not the clock: a hold whose deadline has passed but that nobody swept is good."""
    books.seed(stock=STOCK, operations={A: BEFORE}, now_ms=NOW + 10**6, due={(NOW + 60_000, "h", (A,))})
    after = BEFORE._replace(state=COMMITTED, held_end=COMMIT, changed=2)
    assert books.one(books.resolve("commit", A, BEFORE, own())) == after.head
    books.expect(
        seq=2,
        stock={
            "shoe": Stock({"W": Position(10, 1, 5), "S": Position(1)}, STOCK["shoe"].holders),
            "hat": Stock({"S": Position(2, 0, 2)}, {("S", A): 1}),
        },
        operations={A: after},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Resolved(COMMIT, A, after, ((-5, 5, 0), (-2, 2, 0)))])],
    )


LEFT = {
    "shoe": Stock({"W": Position(10, 5)}, {("W", B): 1}),
    "hat": Stock({"S": Position(2)}),
}


@pytest.mark.parametrize("fulfil", [0, 1])
@pytest.mark.parametrize("swept", [0, 1])
def test_a_retake(books: Books, fulfil: int, swept: int) -> None:
    """A lapsed reservation is committed where its stock is still there; its claims are the newest."""
    books.seed(seq=6, stock=LEFT, operations={A: LAPSED}, due={(NOW, "h", (B,))})
    after = LAPSED._replace(state=COMMITTED, held_end=COMMIT, changed=7)
    if fulfil:
        after = after._replace(state=FULFILLED, closed_by=COMMIT, deadline_ms=LATER)
    request = own(fulfil=fulfil, retake=1, swept=swept)
    assert books.one(books.resolve("commit", A, LAPSED, request)) == after.head
    if fulfil:
        stock = {"shoe": Stock({"W": Position(5, 5)}, {("W", B): 1}), "hat": Stock({"S": Position(0)})}
        deltas = ((0, 0, -5), (0, 0, -2))
    else:
        stock = {
            "shoe": Stock({"W": Position(10, 5, 5)}, {("W", A): 7, ("W", B): 1}),
            "hat": Stock({"S": Position(2, 0, 2)}, {("S", A): 7}),
        }
        deltas = ((0, 5, 0), (0, 2, 0))
    after_due = {(NOW, "h", (B,))} | ({(LATER, "p", (A,))} if fulfil else set())
    books.expect(
        seq=7,
        stock=stock,
        operations={A: after},
        due=after_due,
        log=[(7, [Resolved(COMMIT, A, after, deltas)])],
    )


def test_a_retake_of_a_part(books: Books) -> None:
    """What was not chosen stays lapsed; what had been released cannot be taken again."""
    before = LAPSED._replace(progress=((0, 0, 0, 1), (0, 0, 0, 0)))
    books.seed(stock=LEFT, operations={A: before})
    assert books.one(books.resolve("commit", A, before, own((0, 5), retake=1))) == [
        b"exceeds_open_quantity",
        1,
        0,
        4,
    ]
    after = before._replace(
        state=COMMITTED, held_end=COMMIT, changed=2, progress=((0, 4, 0, 1), (0, 0, 0, 0))
    )
    assert books.one(books.resolve("commit", A, before, own((0, 4), retake=1))) == after.head
    books.expect(
        seq=2,
        stock=LEFT | {"shoe": Stock({"W": Position(10, 5, 4)}, {("W", A): 2, ("W", B): 1})},
        operations={A: after},
        log=[(2, [Resolved(COMMIT, A, after, ((0, 4, 0), (0, 0, 0)))])],
    )


@pytest.mark.parametrize(
    ("due", "swept", "answer"),
    [
        (set(), 0, [b"insufficient_stock", 1, 0, 4, 5, 1, 0, 2]),
        ({(NOW, "h", (B,))}, 0, [b"overdue"]),
        ({(NOW + 1, "h", (B,))}, 0, [b"insufficient_stock", 1, 0, 4, 5, 1, 0, 2]),
        ({(NOW, "h", (B,))}, 1, [b"insufficient_stock", 1, 0, 4, 5, 1, 0, 2]),
    ],
)
def test_a_retake_of_what_is_gone(
    books: Books, due: set[tuple[int, str, tuple[bytes, ...]]], swept: int, answer: list[object]
) -> None:
    """Nothing is taken where one position is short, and lapsed holds are swept first."""
    stock = {"shoe": Stock({"W": Position(10, 6)}), "hat": Stock({"S": Position(1, 2, backorder_limit=1)})}
    stock["hat"] = Stock({"S": Position(1, 1, backorder_limit=1)})
    books.seed(stock=stock, operations={A: LAPSED}, due=due)
    assert books.one(books.resolve("commit", A, LAPSED, own(retake=1, swept=swept))) == answer
    books.expect(stock=stock, operations={A: LAPSED}, due=due)


def test_a_retake_may_use_the_backorder_limit(books: Books) -> None:
    """As a reserve may; a reservation of one call sees what the one before it took."""
    line = (("shoe", "W", 5),)
    before = Hold(line, EXPIRED, EXPIRE, EXPIRE)
    books.seed(
        stock={"shoe": Stock({"W": Position(4, backorder_limit=2)})}, operations={A: before, B: before}
    )
    after = before._replace(state=COMMITTED, held_end=COMMIT, changed=2)
    asked = [books.resolve("commit", each, before, own(retake=1)) for each in (A, B)]
    assert books.batch(*asked) == [after.head, [b"insufficient_stock", 2, 0, -1, 5]]
    books.expect(
        seq=2,
        stock={"shoe": Stock({"W": Position(4, 0, 5, backorder_limit=2)}, {("W", A): 2})},
        operations={A: after, B: before},
        log=[(2, [Resolved(COMMIT, A, after, ((0, 5, 0),))])],
    )


@pytest.mark.parametrize(("before", "retake"), [(BEFORE, 0), (LAPSED, 1)])
@pytest.mark.parametrize("revision", [0, 65_535])
def test_another_detail(books: Books, before: Hold, retake: int, revision: int) -> None:
    """A commit may replace what only the caller reads: in the record, the event, and by the revision."""
    before = before._replace(revision=revision, detail=b"old")
    held = 0 if retake else 5
    books.seed(
        stock={
            "shoe": Stock({"W": Position(10, held)}, {("W", A): 1}),
            "hat": Stock({"S": Position(2, 0 if retake else 2)}, {("S", A): 1}),
        },
        operations={A: before},
    )
    after = before._replace(
        state=COMMITTED, held_end=COMMIT, changed=2, revision=(revision + 1) % 65_536, detail=b"newer"
    )
    request = own((0, 5), (1, 2), retake=retake) + b"newer"
    asked = [books.resolve("commit", A, before, request, revision=revision) for _ in range(2)]
    assert books.batch(*asked) == [after.head, [b"stale"]]
    order = 2 if retake else 1
    deltas = ((-held, 5, 0), (0 if retake else -2, 2, 0))
    books.expect(
        seq=2,
        stock={
            "shoe": Stock({"W": Position(10, 0, 5)}, {("W", A): order}),
            "hat": Stock({"S": Position(2, 0, 2)}, {("S", A): order}),
        },
        operations={A: after},
        log=[(2, [Resolved(COMMIT, A, after, deltas, rest=b"newer")])],
    )


def test_a_refused_commit_changes_no_detail(books: Books) -> None:
    """Nothing of a refused request stays, whatever it brought along."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    assert books.one(books.resolve("commit", A, BEFORE, own((0, 6)) + b"newer")) == [
        b"exceeds_open_quantity",
        1,
        0,
        5,
    ]
    books.expect(stock=STOCK, operations={A: BEFORE})
