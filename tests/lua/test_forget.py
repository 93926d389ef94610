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
    forget,
    name,
)

A, B, C, D, E = (name(number) for number in range(1, 6))
SHOE = (("shoe", "W", 5),)
FACT = Fact(b"12345678", 1, 1, 1)


@pytest.mark.parametrize("state", [FULFILLED, RELEASED, EXPIRED, CANCELLED])
def test_what_is_over_is_forgotten(books: Books, state: int) -> None:
    """Finished reservations and operations whose time has come go, with their entry; no event."""
    over, keep = Hold(SHOE, state, deadline_ms=NOW), Hold(SHOE, state, deadline_ms=NOW + 1)
    books.seed(
        operations={A: over, B: Memory(COMMIT, b"12345678", A, over.tail), C: FACT, D: keep},
        due={(NOW, "p", (A, B, C)), (NOW, "p", (D,)), (NOW + 1, "p", (E,)), (NOW, "h", (E,))},
    )
    assert books.one(forget(8)) == [3, 0]
    books.expect(operations={D: keep}, due={(NOW + 1, "p", (E,)), (NOW, "h", (E,))})


@pytest.mark.parametrize("state", [HELD, COMMITTED])
def test_what_came_back_to_life_is_kept(books: Books, state: int) -> None:
    """A reservation that was retaken is no longer over: the old entry goes alone."""
    alive = Hold(SHOE, state, deadline_ms=NOW - 1)
    books.seed(operations={A: alive}, due={(NOW - 1, "p", (A,))})
    assert books.one(forget(8)) == [0, 0]
    books.expect(operations={A: alive})


def test_what_is_gone_is_not_counted(books: Books) -> None:
    """An id may stand in two entries, or be gone; requests of one call do one work."""
    books.seed(operations={A: FACT}, due={(NOW - 1, "p", (A,)), (NOW, "p", (A, B)), (NOW, "p", (C,))})
    assert books.batch(forget(8), forget(8)) == [[1, 0], [0, 0]]
    assert books.one(forget(8)) == [0, 0]
    books.expect()


def test_an_id_that_is_used_again(books: Books) -> None:
    """What is filed for a later moment is not forgotten at an earlier one."""
    books.seed(operations={A: FACT}, due={(NOW + 5, "p", (A,))})
    assert books.one(forget(8)) == [0, 0]
    books.expect(operations={A: FACT}, due={(NOW + 5, "p", (A,))})


@pytest.mark.parametrize(
    ("limit", "count", "more"), [(1, 2, 1), (2, 2, 1), (3, 3, 1), (4, 5, 0), (5, 5, 0), (300, 5, 0)]
)
def test_the_oldest_first_up_to_the_limit(books: Books, limit: int, count: int, more: int) -> None:
    """About as many as asked: what fell due together goes together; what is left is told."""
    entries = [(NOW - 9, "p", (A, B)), (NOW - 8, "p", (C,)), (NOW - 7, "p", (D, E))]
    books.seed(operations=dict.fromkeys((A, B, C, D, E), FACT), due=set(entries))
    assert books.batch(forget(limit), forget(limit)) == [[count, more], [0, more]]
    left = [entry for entry in entries if entry[2][0] not in (A, B, C, D, E)[:count]]
    books.expect(operations=dict.fromkeys([each for entry in left for each in entry[2]], FACT), due=set(left))


def test_very_many_memories(books: Books) -> None:
    """Entries with the ids of a whole call each, more of them than one command takes."""
    entries = [tuple(name(entry * 512 + number) for number in range(512)) for entry in range(17)]
    books.seed(
        operations={each: FACT for entry in entries for each in entry},
        due={(NOW - 20 + at, "p", entry) for at, entry in enumerate(entries)},
    )
    assert books.one(forget(16 * 512)) == [16 * 512, 1]
    books.expect(operations=dict.fromkeys(entries[-1], FACT), due={(NOW - 4, "p", entries[-1])})
    assert books.one(forget(16 * 512)) == [512, 0]
    books.expect()


def test_very_many_entries(books: Books) -> None:
    """A call looks at so many entries; it says that there are more, and the next goes on."""
    names = [name(number) for number in range(300)]
    books.seed(operations=dict.fromkeys(names, FACT), due={(NOW - 1, "p", (each,)) for each in names})
    left = 300
    while left:
        count, more = books.one(forget(65_535))
        left -= count
        assert count
        assert bool(more) == bool(left)
    books.expect()
