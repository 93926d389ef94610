import pytest

from tests.lua.books import NOW, Books, Hold, name

A, B, C, D = (name(number) for number in range(1, 5))
HOLD = Hold((("shoe", "W", 5),))
DUE = {
    (NOW - 8, "h", (A, B)),
    (NOW, "h", (C,)),
    (NOW + 1, "h", (D,)),
    (NOW - 9, "p", (A,)),
    (NOW, "p", (B, C)),
}
HOLDS = [[b"h" + A + B, HOLD.packed, b""], [b"h" + C, b""]]
MEMORIES = [[b"p" + A], [b"p" + B + C]]


@pytest.mark.parametrize("limit", range(4))
def test_the_oldest_first_up_to_the_limit(books: Books, limit: int) -> None:
    """What is due by this millisecond, records with holds only, memories only when asked, nothing changed."""
    books.seed(operations={A: HOLD, D: HOLD}, due=DUE)
    assert books.one(books.commands.overdue(limit)) == HOLDS[:limit]
    assert books.one(books.commands.overdue(limit, memories=True)) == MEMORIES[:limit]
    books.expect(operations={A: HOLD, D: HOLD}, due=DUE)


def test_due_until_a_moment(books: Books) -> None:
    """A sweep that goes on does not meet what fell due since it began, nor what is yet to come."""
    books.seed(operations={A: HOLD}, due=DUE)
    assert books.one(books.commands.overdue(8, until_ms=NOW - 1)) == HOLDS[:1]
    assert books.one(books.commands.overdue(8, until_ms=NOW + 5)) == HOLDS
    assert books.one(books.commands.overdue(8, memories=True, until_ms=NOW - 1)) == MEMORIES[:1]


def test_nothing_is_due(books: Books) -> None:
    """An empty index is an empty list; each request of a call has its own limit."""
    books.seed(seq=4)
    assert books.one(books.commands.overdue(8)) == []
    books.expect(seq=4)
    books.seed(operations={A: HOLD}, due=DUE)
    assert books.batch(books.commands.overdue(1), books.commands.overdue(2)) == [HOLDS[:1], HOLDS]
    books.expect(operations={A: HOLD}, due=DUE)


def test_many_entries(books: Books) -> None:
    """A limit above a byte is read whole; an entry may name more ids than one answer has room for."""
    due = {(NOW - 1000 + number, "h", (name(number),)) for number in range(300)}
    crowd = tuple(name(number) for number in range(1000, 1600))
    books.seed(due=due | {(NOW, "h", crowd)})
    listed = books.one(books.commands.overdue(301))
    assert listed == [[b"h" + name(number), b""] for number in range(300)]
    books.seed(due={(NOW, "h", crowd)})
    assert books.one(books.commands.overdue(301)) == [[b"h" + b"".join(crowd), *[b""] * 600]]
    books.expect(due={(NOW, "h", crowd)})
