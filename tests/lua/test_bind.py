import pytest

from tests.lua.books import (
    ABANDONED,
    HELD,
    NOW,
    RETENTION_MS,
    Books,
    Bound,
    Fact,
    Hold,
    Memory,
    Operation,
    basket,
    bind,
    forget,
    name,
)

A, B = name(1), name(2)
LATER = NOW + RETENTION_MS
SHOE = (("shoe", "W", 5),)


def test_ids_are_bound(books: Books) -> None:
    """An id is bound to its content until a moment, and filed to be forgotten then. It is no event."""
    books.seed(seq=7, epoch=3)
    assert books.batch(bind(A), bind(B, b"content2", 5)) == [1, 1]
    books.expect(
        seq=7,
        epoch=3,
        operations={A: Bound(), B: Bound(b"content2", 1, NOW + 5)},
        due={(LATER, "p", (A,)), (NOW + 5, "p", (B,))},
    )


def test_it_counts_who_asks(books: Books) -> None:
    """In one call and again: each is counted; other content is refused and counts for nothing."""
    books.seed()
    assert books.batch(bind(A), bind(A), bind(A, b"content2")) == [1, 2, [b"idempotency_mismatch"]]
    assert books.one(bind(A)) == 3
    assert books.one(bind(A, b"content2")) == [b"idempotency_mismatch"]
    books.expect(operations={A: Bound(count=3)}, due={(LATER, "p", (A,)), (LATER, "p", (A, A))})


@pytest.mark.parametrize(("count", "asked"), [(253, 254), (254, 255), (255, 255)])
def test_how_far_it_counts(books: Books, count: int, asked: int) -> None:
    """No further than a byte has room for."""
    books.seed(operations={A: Bound(count=count)})
    assert books.one(bind(A)) == asked
    books.expect(operations={A: Bound(count=asked)}, due={(LATER, "p", (A,))})


@pytest.mark.parametrize(("keep_ms", "until"), [(5, NOW + 9), (9, NOW + 9), (10, NOW + 10)])
def test_it_is_kept_for_whoever_needs_it_longest(books: Books, keep_ms: int, until: int) -> None:
    """A bond that is asked for again ends later, never earlier, and is not forgotten at the first moment."""
    books.seed(operations={A: Bound(until_ms=NOW + 9)}, due={(NOW + 9, "p", (A, B))})
    assert books.one(bind(A, keep_ms=keep_ms)) == 2
    after = Bound(count=2, until_ms=until)
    books.expect(operations={A: after}, due={(NOW + 9, "p", (A, B)), (until, "p", (A,))})
    books.turn_clock(NOW + 9)
    assert books.one(forget(8)) == [int(until == NOW + 9), 0]
    if until == NOW + 9:
        books.expect()
    else:
        books.expect(operations={A: after}, due={(until, "p", (A,))})


@pytest.mark.parametrize(
    ("until", "mark", "answer"),
    [
        (NOW, b"content2", 1),
        (NOW, b"content1", 1),
        (NOW - 1, b"content2", 1),
        (NOW + 1, b"content1", 10),
        (NOW + 1, b"content2", [b"idempotency_mismatch"]),
    ],
)
def test_a_bond_that_is_over(books: Books, until: int, mark: bytes, answer: int | list[bytes]) -> None:
    """From its moment on the id is free, though nobody has forgotten it yet."""
    before = Bound(count=9, until_ms=until)
    books.seed(operations={A: before}, due={(until, "p", (A,))})
    assert books.one(bind(A, mark)) == answer
    if isinstance(answer, int):
        books.expect(operations={A: Bound(mark, answer)}, due={(LATER, "p", (A,))})
    else:
        books.expect(operations={A: before}, due={(until, "p", (A,))})


@pytest.mark.parametrize(
    "before",
    [
        Hold(SHOE, HELD, fingerprint=b"content1"),
        Memory(2, b"content1", B, Hold(SHOE).tail),
        Fact(b"content1", 0, 0, 0),
        # What stands where a bond has its content and its moment says that it is the same, and over, or not.
        Fact(b"\1content", 0x31, 0, 0),
        Fact(b"\1content", 2**40 - 0x100 + 0x31, 0, 0, epoch=0xFFFF),
    ],
)
def test_an_id_with_an_effect_here(books: Books, before: Operation) -> None:
    """What was done in this partition under the id was never bound: it is other content."""
    books.seed(operations={A: before})
    assert books.one(bind(A)) == [b"idempotency_mismatch"]
    books.expect(operations={A: before})


def test_an_abandoned_basket_leaves_its_id_free(books: Books) -> None:
    """Nothing came of it, whatever its content was."""
    books.seed(operations={A: basket(SHOE, ABANDONED)})
    assert books.one(bind(A)) == 1
    books.expect(operations={A: Bound()}, due={(Bound().until_ms, "p", (A,))})


def test_very_many_in_one_call(books: Books) -> None:
    """More ids than one command takes."""
    names = [name(number) for number in range(2100)]
    books.seed(operations=dict.fromkeys(names[:1050], Bound()))
    assert books.batch(*(bind(each) for each in names)) == [2] * 1050 + [1] * 1050
    books.expect(
        operations={each: Bound(count=2 if at < 1050 else 1) for at, each in enumerate(names)},
        due={(LATER, "p", tuple(names))},
    )
