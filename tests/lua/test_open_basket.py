import pytest

from tests.lua.books import (
    ABANDON,
    ABANDONED,
    BASKET,
    EXPIRE,
    EXPIRED,
    HELD,
    NOW,
    PENDING_MS,
    RELEASED,
    Books,
    Bound,
    Card,
    Fact,
    Hold,
    Memory,
    Operation,
    Position,
    Reserved,
    basket,
    forget,
    name,
    open_basket,
    reserve,
)

A, B = name(1), name(2)
LINES = (("shoe", "W", 5), ("hat", "S", 2))
ASKED = basket(LINES)
DUE = {(NOW + PENDING_MS, "h", (A,))}


def opened(seq: int, hold: Hold = ASKED) -> Hold:
    """A basket that this call began."""
    return hold._replace(created=seq, changed=seq, created_ms=NOW, deadline_ms=NOW + PENDING_MS)


def test_a_basket_begins(books: Books) -> None:
    """It has the plan of all lines and no claims, moves no counters, and says by its sequence which
    attempt it is. It is pending for ten seconds, whatever its own time to live.
    """
    stock = {"shoe": Card({"W": Position(10)})}
    books.seed(seq=6, epoch=3, stock=stock)
    assert books.one(open_basket(A, ASKED._replace(ttl_ms=900_000))) == 7
    after = opened(7)._replace(epoch=3, changed_epoch=3, ttl_ms=900_000)
    books.expect(seq=7, epoch=3, stock=stock, operations={A: after}, due=DUE, log=[(7, [Reserved(A, after)])])


def test_requests_of_one_call(books: Books) -> None:
    """Each sees those before it: a repeat joins the attempt, other content is told apart, others have a
    sequence of their own.
    """
    books.seed()
    other = basket((("sock", "W", 1), ("coat", "W", 1), ("hat", "W", 1)))
    answers = books.batch(
        open_basket(A, ASKED),
        open_basket(A, ASKED),
        open_basket(A, ASKED._replace(fingerprint=b"another0")),
        open_basket(B, other),
    )
    one, two = opened(2), opened(3, other)
    assert answers == [2, [b"pending", one.packed(A)], [b"idempotency_mismatch"], 3]
    books.expect(
        seq=3,
        operations={A: one, B: two},
        due={(NOW + PENDING_MS, "h", (A, B))},
        log=[(3, [Reserved(A, one), Reserved(B, two)])],
    )


@pytest.mark.parametrize(
    ("state", "word"), [(HELD, b"replayed"), (RELEASED, b"replayed"), (EXPIRED, b"replayed"), (7, b"pending")]
)
def test_a_repeat_changes_nothing(books: Books, state: int, word: bytes) -> None:
    """A record that was made before is the answer; whoever seeks its parts may be helped."""
    before = basket(LINES, state)
    books.seed(operations={A: before})
    assert books.one(open_basket(A, ASKED)) == [word, before.packed(A)]
    books.expect(operations={A: before})


@pytest.mark.parametrize(
    "before",
    [
        ASKED._replace(fingerprint=b"another0"),
        basket(LINES, HELD)._replace(fingerprint=b"madeby01"),
        Hold(LINES, ABANDONED),
        Memory(EXPIRE, ASKED.fingerprint, B, Hold(LINES).tail),
        Fact(ASKED.fingerprint, 1, 1, 1),
        Bound(ASKED.fingerprint),
    ],
)
def test_an_id_of_something_else(books: Books, before: Operation) -> None:
    """Other content, what cannot be, a step, a fact, an id bound to content elsewhere."""
    books.seed(operations={A: before})
    assert books.one(open_basket(A, ASKED)) == [b"idempotency_mismatch"]
    books.expect(operations={A: before})


def test_what_lies_in_one_partition_by_now(books: Books) -> None:
    """A basket that got other lines, and then another number of partitions, is answered as it is."""
    before = Hold((("sock", "W", 1),), revision=1)
    books.seed(operations={A: before})
    assert books.one(open_basket(A, ASKED)) == [b"replayed", before.packed(A)]
    books.expect(operations={A: before})


def test_after_an_abandoned_one(books: Books) -> None:
    """Nothing was held under the id, so it begins anew, with other content as well. It is not forgotten at
    the moment at which the abandoned one would have been.
    """
    before = basket(LINES, ABANDONED)._replace(held_end=ABANDON, closed_by=ABANDON, deadline_ms=NOW)
    again = basket((("sock", "W", 1), ("coat", "W", 3)))._replace(
        fingerprint=b"another0", detail=b"longer detail"
    )
    books.seed(operations={A: before}, due={(NOW, "p", (A,))})
    assert books.one(open_basket(A, again)) == 2
    after = opened(2, again)
    books.expect(seq=2, operations={A: after}, due=DUE | {(NOW, "p", (A,))}, log=[(2, [Reserved(A, after)])])
    books.turn_clock(NOW + PENDING_MS)
    assert books.one(forget(8)) == [0, 0]
    assert books.read()["inv:{0}:ops"] == {A: after.packed(A)}


def test_an_earlier_deadline_of_its_id_is_moved(books: Books) -> None:
    """The index has an id by itself once."""
    before = basket(LINES, ABANDONED)
    books.seed(operations={A: before}, due={(NOW - 9, "h", (A,))})
    assert books.one(open_basket(A, ASKED)) == 2
    books.expect(seq=2, operations={A: opened(2)}, due=DUE, log=[(2, [Reserved(A, opened(2))])])


def test_a_reserve_under_its_id(books: Books) -> None:
    """Where the basket was abandoned the id is free for a reservation of one partition; else it is taken."""
    shoe = Hold((("shoe", "W", 5),))
    stock = {"shoe": Card({"W": Position(10)})}
    over = basket(LINES, ABANDONED)._replace(deadline_ms=NOW + 9, fingerprint=b"of both0")
    due = {(NOW + 9, "p", (A,))}
    for state in (7, HELD, RELEASED):
        taken = over._replace(state=state)
        books.seed(stock=stock, operations={A: taken}, due=due)
        assert books.one(reserve(A, shoe)) == [b"idempotency_mismatch"]
        books.expect(stock=stock, operations={A: taken}, due=due)
    books.seed(stock=stock, operations={A: over, B: over}, due=due)
    asked = (reserve(A, shoe), reserve(B, shoe._replace(lines=(("shoe", "W", 6),))), reserve(A, shoe))
    made = shoe._replace(created=2, changed=2, created_ms=NOW)
    assert books.batch(*asked) == [
        2,
        [b"insufficient_stock", 2, 0, 5, 6],
        [b"replayed", made.packed(A)],
    ]
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(10, 5)}, (A,))},
        operations={A: made, B: over},
        due=due | {(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, made)])],
    )
    assert made.kind != BASKET
