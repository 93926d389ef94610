import pytest

from tests.lua.books import (
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
    unbind,
)

A, B = name(1), name(2)
LATER = NOW + RETENTION_MS
SHOE = (("shoe", "W", 5),)


@pytest.mark.parametrize(("count", "left"), [(1, 0), (2, 1), (3, 2), (254, 253), (255, 255)])
def test_one_takes_one_back(books: Books, count: int, left: int) -> None:
    """The last frees the id. Where more asked than can be counted, nobody knows who is the last."""
    books.seed(epoch=2, operations={A: Bound(count=count)}, due={(LATER, "p", (A,))})
    assert books.one(unbind(A)) == left
    books.expect(epoch=2, operations={A: Bound(count=left)} if left else {}, due={(LATER, "p", (A,))})


def test_all_in_one_call(books: Books) -> None:
    """Each sees those before it; what is free is not taken back again, and others keep theirs."""
    books.seed(operations={A: Bound(count=2), B: Bound(b"content2", 3)})
    asked = [unbind(A), unbind(B, b"content2"), unbind(A), unbind(A)]
    assert books.batch(*asked) == [1, 2, 0, 0]
    books.expect(operations={B: Bound(b"content2", 2)})


def test_a_free_id_is_bound_anew(books: Books) -> None:
    """To other content, too; and it is kept for its own time, not for that of the first."""
    books.seed(operations={A: Bound(until_ms=NOW + 5)}, due={(NOW + 5, "p", (A,))})
    assert books.one(unbind(A)) == 0
    books.expect(due={(NOW + 5, "p", (A,))})
    assert books.one(bind(A, b"content2")) == 1
    after = Bound(b"content2")
    books.expect(operations={A: after}, due={(LATER, "p", (A,))})
    books.turn_clock(NOW + 5)
    assert books.one(forget(8)) == [0, 0]
    books.expect(operations={A: after}, due={(LATER, "p", (A,))})


@pytest.mark.parametrize(
    "before",
    [
        None,
        Bound(b"content2"),
        Hold(SHOE, fingerprint=b"content1"),
        basket(SHOE)._replace(fingerprint=b"content1"),
        Memory(2, b"content1", B, Hold(SHOE).tail),
        # Its content stands where that of a bond does.
        Memory(1, b"content1", B, Hold(SHOE).tail),
    ],
)
def test_what_is_not_bound_so(books: Books, before: Operation | None) -> None:
    """Nothing, other content, or an effect: kept as it is."""
    operations = {} if before is None else {A: before}
    books.seed(operations=operations)
    assert books.one(unbind(A)) == 0
    books.expect(operations=operations)


def test_a_fact_under_the_id(books: Books) -> None:
    """Its first byte tells that it is no bond."""
    operations = {A: Fact(b"\1content", 0x31, 0, 0)}
    books.seed(operations=operations)
    assert books.one(unbind(A)) == 0
    books.expect(operations=operations)
