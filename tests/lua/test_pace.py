"""Engine time goes on whatever the server's clock does, once a watch has told of the step."""

import pytest

from tests.lua.books import (
    NOW,
    Books,
    Card,
    Hold,
    Position,
    Request,
    expire,
    name,
    pace,
    reserve,
    take_over,
)

A, B = name(1), name(2)
HOUR = 3_600_000
SHOE = Hold((("shoe", "W", 5),))


def skew(books: Books) -> int | None:
    found = books.raw("HGET", books.key("meta"), "skew")
    return None if found is None else int(found)


def now(books: Books) -> int:
    """Engine time."""
    return int(
        books.raw("FCALL", books.scripts.function("find"), 2, books.key("meta"), books.key("ops"), A)[0]
    )


def ask(books: Books, *requests: Request) -> list[list[int]]:
    function = books.scripts.function("pace")
    packed = [request.packed for request in requests]
    return list(books.raw("FCALL", function, 1, books.key("meta"), *packed)[3:])


def test_a_clock_that_went_ahead(books: Books) -> None:
    books.turn_clock(NOW + HOUR)
    assert ask(books, pace(0, ahead=HOUR)) == [[HOUR, 1]]
    assert (skew(books), now(books)) == (HOUR, NOW)
    assert ask(books, pace(HOUR, ahead=1)) == [[HOUR + 1, 1]]


def test_a_clock_that_went_back(books: Books) -> None:
    """These tests' clock does not stand still as the real one does, so there is nothing to go on from."""
    books.turn_clock(NOW - HOUR)
    assert ask(books, pace(0, least=NOW + 7)) == [[0, 1]]


@pytest.mark.parametrize(("behind", "is_set"), [(0, 0), (199, 0), (200, 0), (201, 1)])
def test_a_small_difference_is_none(books: Books, behind: int, is_set: int) -> None:
    assert ask(books, pace(0, least=NOW + behind)) == [[0, is_set]]


def test_of_several_the_first_counts(books: Books) -> None:
    """In one call or in several: who does not know the skew learns it and sets nothing."""
    books.turn_clock(NOW + HOUR)
    assert ask(books, pace(0, ahead=HOUR), pace(0, ahead=HOUR)) == [[HOUR, 1], [HOUR, 0]]
    assert ask(books, pace(0, ahead=HOUR)) == [[HOUR, 0]]
    assert ask(books, pace(0, least=NOW + HOUR)) == [[HOUR, 0]]
    assert ask(books, pace(0)) == [[HOUR, 0]]
    assert skew(books) == HOUR


def with_horizon(horizon: int) -> Request:
    return Request("expire", expire(8).packed + horizon.to_bytes(6, "little"))


@pytest.fixture
def held(books: Books) -> Books:
    """A hold of all there is, due in a minute. What sweepers vouch for outlives a test, but not a library."""
    books.raw("FUNCTION", "LOAD", "REPLACE", books.scripts.text)
    books.seed(
        stock={"shoe": Card({"W": Position(5, 5)}, (A,))},
        operations={A: SHOE},
        due={(NOW + 60_000, "h", (A,))},
    )
    return books


def test_nothing_lapses_that_no_watch_vouches_for(held: Books) -> None:
    """Neither by the sweep nor to make room; what is due by the clock alone is more to come."""
    held.turn_clock(NOW + HOUR)
    before = held.read()
    assert held.one(with_horizon(NOW + 59_999)) == [0, 1, 0]
    assert held.one(expire(8)) == [0, 1, 0]
    assert held.one(reserve(B, SHOE)) == [b"overdue"]
    assert held.read() == before
    assert held.one(with_horizon(NOW + 60_000)) == [1, 0, 0]
    assert isinstance(held.one(reserve(B, SHOE)), int)


def test_a_watch_that_is_ahead_shortens_nothing(held: Books) -> None:
    held.turn_clock(NOW + 59_999)
    assert held.one(with_horizon(NOW + HOUR)) == [0, 0, 0]
    held.turn_clock(NOW + 60_000)
    assert isinstance(held.one(reserve(B, SHOE)), int)


def test_without_any_watch_the_clock_has_the_last_word(held: Books) -> None:
    held.turn_clock(NOW + 60_000)
    assert isinstance(held.one(reserve(B, SHOE)), int)


def taken(books: Books, about: int) -> None:
    """Somebody takes the books over, and knows about what time it is, or 0."""
    function, packed = books.scripts.function("take_over"), take_over(0, about).packed
    books.raw("FCALL", function, 1, books.key("meta"), packed)


@pytest.mark.parametrize(
    ("before", "clock", "about", "after"),
    [
        (0, NOW, NOW, 0),
        (0, NOW + 2000, NOW, 0),
        (0, NOW - 2000, NOW, 0),
        (0, NOW + 2001, NOW, 2001),
        (0, NOW - 2001, NOW, -2001),
        (0, NOW + HOUR, 0, 0),
        (0, NOW, 1, NOW - 1),
        (HOUR, NOW + HOUR + 1000, NOW, HOUR),
        (HOUR, NOW + HOUR + 2001, NOW, HOUR + 2001),
        (HOUR, NOW, NOW, 0),
    ],
)
def test_another_servers_clock_is_set_right(
    books: Books, before: int, clock: int, about: int, after: int
) -> None:
    """Where whoever takes the books over knows what time it must be."""
    books.raw("HSET", books.key("meta"), "run", "another", "skew", before)
    books.turn_clock(clock)
    taken(books, about)
    assert skew(books) == after
    taken(books, NOW + 9 * HOUR)
    assert skew(books) == after, "they are its own by now"


@pytest.mark.parametrize(
    ("about", "lapses"), [(NOW + 59_999, False), (1, False), (NOW + 60_000, True), (0, True)]
)
def test_who_takes_the_books_over_vouches_for_the_time(held: Books, about: int, lapses: bool) -> None:
    """Up to what it knows: the new clock alone ends no hold. Who knows nothing leaves it to the clock."""
    held.one(with_horizon(NOW + 5))
    held.raw("HSET", held.key("meta"), "run", "another")
    held.turn_clock(NOW + 60_000)
    taken(held, about)
    held.epoch = 2
    held.raw("HSET", held.key("meta"), "skew", 0)
    answer = held.one(reserve(B, SHOE))
    assert answer == [b"overdue"] if not lapses else isinstance(answer, int)
