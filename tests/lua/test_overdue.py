import pytest

from tests.lua.books import NOW, Books, Hold, name

A, B, C, D = (name(number) for number in range(1, 5))
HOLD = Hold((("shoe", "W", 5),))
DUE = {(NOW - 9, "p", (A, B)), (NOW - 8, "h", (A, B)), (NOW, "h", (C,)), (NOW + 1, "h", (D,))}
LISTED = [[b"p" + A + B], [b"h" + A + B, HOLD.packed, b""], [b"h" + C, b""]]


@pytest.mark.parametrize("limit", range(5))
def test_the_oldest_first_up_to_the_limit(books: Books, limit: int) -> None:
    """What is due by this millisecond, records with holds only, nothing changed."""
    books.seed(operations={A: HOLD, D: HOLD}, due=DUE)
    assert books.one(books.commands.overdue(limit)) == LISTED[:limit]
    books.expect(operations={A: HOLD, D: HOLD}, due=DUE)


def test_nothing_is_due(books: Books) -> None:
    """An empty index is an empty list; each request of a call has its own limit."""
    books.seed(seq=4)
    assert books.one(books.commands.overdue(8)) == []
    books.expect(seq=4)
    books.seed(operations={A: HOLD}, due=DUE)
    assert books.batch(books.commands.overdue(1), books.commands.overdue(2)) == [LISTED[:1], LISTED[:2]]
    books.expect(operations={A: HOLD}, due=DUE)


def test_many_entries(books: Books) -> None:
    """A limit above a byte is read whole, and an entry may name many ids."""
    due = {(NOW - 1000 + number, "p", (name(number),)) for number in range(300)}
    crowd = tuple(name(number) for number in range(1000, 1600))
    books.seed(due=due | {(NOW, "h", crowd)})
    listed = books.one(books.commands.overdue(301))
    assert [entry for entry, *_ in listed[:300]] == [b"p" + name(number) for number in range(300)]
    assert listed[300] == [b"h" + b"".join(crowd), *[b""] * 600]
    books.expect(due=due | {(NOW, "h", crowd)})
