import pytest

from tests.lua.books import (
    ABANDONED,
    COMMITTED,
    HELD,
    NOW,
    PENDING,
    RELEASED,
    REPAIR_MS,
    Books,
    Bound,
    Fact,
    Hold,
    Memory,
    Operation,
    basket,
    name,
    part,
    part_name,
    repair,
)

A, B, C = (name(number) for number in range(1, 4))
LINES = (("shoe", "W", 5),)
AGAIN = NOW + REPAIR_MS
MINUTE_MS = 60_000


@pytest.mark.parametrize(
    "record", [basket(LINES, state) for state in (HELD, COMMITTED, RELEASED, PENDING, ABANDONED)]
)
def test_what_is_due(books: Books, record: Hold) -> None:
    """Baskets and parts, the oldest first, each with its record; they are looked at again in five seconds,
    unless somebody settles them. Neither holds nor memories are listed, nor what is not due.
    """
    operations = {A: record, part_name(B): part(LINES), C: record}
    others = {(NOW - 1, "h", (A,)), (NOW - 1, "p", (A,)), (NOW + 1, "r", (C,))}
    books.seed(
        seq=6,
        epoch=3,
        operations=operations,
        due={(NOW, "r", (A,)), (NOW - 9, "r", (part_name(B),))} | others,
    )
    found = [part_name(B), part(LINES).packed(part_name(B)), A, record.packed(A)]
    assert books.batch(repair(8), repair(8)) == [found, []]
    again: set[tuple[int, str, tuple[bytes, ...]]] = {(AGAIN, "r", (A,)), (AGAIN, "r", (part_name(B),))}
    books.expect(seq=6, epoch=3, operations=operations, due=again | others)
    assert books.one(repair(8)) == []


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 2), (3, 3), (65_535, 3)])
def test_no_more_than_asked(books: Books, limit: int, count: int) -> None:
    """The next call goes on with the others."""
    operations = dict.fromkeys((A, B, C), basket(LINES, COMMITTED))
    books.seed(operations=operations, due={(NOW - 9 + at, "r", (each,)) for at, each in enumerate((A, B, C))})
    found = books.one(repair(limit))
    assert found[::2] == [A, B, C][:count]
    left = books.one(repair(8))
    assert left[::2] == [A, B, C][count:]
    books.expect(operations=operations, due={(AGAIN, "r", (each,)) for each in (A, B, C)})


def test_what_was_filed_while_the_clock_was_ahead(books: Books) -> None:
    """Nobody files a repair for a minute ahead: what is found there is not waited for until the clock has
    come so far once more.
    """
    operations = dict.fromkeys((A, B, C), basket(LINES, COMMITTED))
    near = (NOW + MINUTE_MS, "r", (A,))
    books.seed(
        operations=operations, due={near, (NOW + MINUTE_MS + 1, "r", (B,)), (NOW + 61 * MINUTE_MS, "r", (C,))}
    )
    assert books.one(repair(8))[::2] == [B, C]
    books.expect(operations=operations, due={near, (AGAIN, "r", (B,)), (AGAIN, "r", (C,))})
    assert books.one(repair(8)) == []


@pytest.mark.parametrize(("limit", "found"), [(1, [A]), (2, [A, B]), (3, [A, B, C])])
def test_both_are_no_more_than_asked(books: Books, limit: int, found: list[bytes]) -> None:
    books.seed(
        operations=dict.fromkeys((A, B, C), basket(LINES, COMMITTED)),
        due={(NOW, "r", (A,)), (NOW + 2 * MINUTE_MS, "r", (B,)), (NOW + 3 * MINUTE_MS, "r", (C,))},
    )
    assert books.one(repair(limit))[::2] == found
    assert books.one(repair(8))[::2] == [each for each in (A, B, C) if each not in found]


@pytest.mark.parametrize(
    "record",
    [
        None,
        Hold(LINES),
        Memory(2, b"12345678", B, Hold(LINES).tail),
        Fact(b"12345678", 1, 1, 1),
        Bound(),
    ],
)
def test_what_needs_no_repair(books: Books, record: Operation | None) -> None:
    """A basket that is forgotten, or whose id was used for something else since it was abandoned: the
    entry goes, and the others are listed.
    """
    other = basket(LINES, COMMITTED)
    operations: dict[bytes, Operation] = {B: other} if record is None else {A: record, B: other}
    books.seed(operations=operations, due={(NOW - 1, "r", (A,)), (NOW, "r", (B,))})
    assert books.one(repair(8)) == [B, other.packed(B)]
    books.expect(operations=operations, due={(AGAIN, "r", (B,))})


def test_very_many(books: Books) -> None:
    """More than one command takes."""
    names = [name(number) for number in range(1100)]
    record = basket(LINES, COMMITTED)
    books.seed(operations=dict.fromkeys(names[:50], record), due={(NOW, "r", (each,)) for each in names})
    found = books.one(repair(65_535))
    assert found[::2] == names[:50]
    books.expect(
        operations=dict.fromkeys(names[:50], record), due={(AGAIN, "r", (each,)) for each in names[:50]}
    )
