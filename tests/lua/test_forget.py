import pytest

from tests.lua.books import (
    CANCELLED,
    COMMIT,
    COMMITTED,
    EXPIRED,
    FULFILLED,
    HELD,
    NOW,
    RELEASED,
    Books,
    Fact,
    Hold,
    Memory,
    name,
)

A, B, C, D, E = (name(number) for number in range(1, 6))
SHOE = (("shoe", "W", 5),)


@pytest.mark.parametrize("state", [FULFILLED, RELEASED, EXPIRED, CANCELLED])
def test_what_is_over_is_forgotten(books: Books, state: int) -> None:
    """Finished reservations and operations whose time has come go, with their entry; no event."""
    over = Hold(SHOE, state, deadline_ms=NOW)
    keep = Hold(SHOE, state, deadline_ms=NOW + 1)
    books.seed(
        operations={
            A: over,
            B: Memory(COMMIT, b"12345678", A, over.head),
            C: Fact(b"12345678", 1, 1, 1),
            D: keep,
        },
        due={(NOW, "p", (A, B, C)), (NOW, "p", (D,)), (NOW, "h", (E,))},
    )
    assert books.batch(*(books.commands.forget(b"p" + each) for each in (A + B + C, D))) == [3, 0]
    books.expect(operations={D: keep}, due={(NOW, "h", (E,))})


@pytest.mark.parametrize("state", [HELD, COMMITTED])
def test_what_came_back_to_life_is_kept(books: Books, state: int) -> None:
    """A reservation that was retaken is no longer over: the old entry goes alone."""
    alive = Hold(SHOE, state, deadline_ms=NOW - 1)
    books.seed(operations={A: alive}, due={(NOW - 1, "p", (A,))})
    assert books.one(books.commands.forget(b"p" + A)) == 0
    books.expect(operations={A: alive})


def test_what_is_gone_is_not_counted(books: Books) -> None:
    """Two sweepers may forget the same entry; an entry of nothing is no error."""
    books.seed(operations={A: Fact(b"12345678", 1, 1, 1)}, due={(NOW, "p", (A, B)), (NOW, "p", (C,))})
    assert books.batch(*(books.commands.forget(b"p" + each) for each in (A + B, C))) == [1, 0]
    assert books.one(books.commands.forget(b"p" + A + B)) == 0
    books.expect()


def test_an_id_that_is_used_again_while_it_is_forgotten(books: Books) -> None:
    """A sweeper that comes late with an old entry does not forget what was filed since."""
    fresh = Fact(b"12345678", 1, 1, 1)
    books.seed(operations={A: fresh}, due={(NOW + 5, "p", (A,))})
    assert books.one(books.commands.forget(b"p" + A)) == 0
    books.expect(operations={A: fresh}, due={(NOW + 5, "p", (A,))})


def test_very_many_memories_of_one_call(books: Books) -> None:
    """Two sweeps of eight entries each may meet in one call, each entry with the ids of a whole call."""
    entries = [[name(entry * 512 + number) for number in range(512)] for entry in range(16)]
    fact = Fact(b"12345678", 1, 1, 1)
    books.seed(
        operations={each: fact for entry in entries for each in entry},
        due={(NOW, "p", tuple(entry)) for entry in entries},
    )
    assert books.batch(*(books.commands.forget(b"p" + b"".join(entry)) for entry in entries)) == [512] * 16
    books.expect()
