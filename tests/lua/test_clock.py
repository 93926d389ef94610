"""Engine time never goes back: what the scripts make of a clock that does, before any watch knows of it."""

from collections.abc import Iterator
from copy import copy

import pytest

from engine.script import Library, assemble, read_sources
from tests.lua.books import (
    CALLS,
    CLOCK_KEY,
    NOW,
    Answer,
    Books,
    Card,
    Hold,
    Position,
    Request,
    expire,
    extending,
    name,
    pace,
    reserve,
    resolve,
    take_over,
)

A = name(1)
HOUR = 3_600_000
SHOE = Hold((("shoe", "W", 5),))
TIME = "redis.call('TIME')"


def real_clock(release: str = "") -> Library:
    """That of a release, but the server's time is what a test says."""
    includes, verbs = read_sources()
    assert includes["clock"].count(TIME) == 1
    told = "(function(ms) return { math_floor(ms / 1000), ms % 1000 * 1000 } end)"
    told += f"(tonumber((redis.call('GET', '{CLOCK_KEY}'):match('%d+'))))"
    clock = includes["clock"].replace(TIME, told) + release
    return assemble({**includes, "clock": clock}, verbs)


@pytest.fixture
def two(books: Books) -> Iterator[tuple[Books, Books]]:
    """Two partitions of a server whose clock a test sets."""
    library = real_clock()
    books.raw("FLUSHALL")
    books.raw("FUNCTION", "LOAD", "REPLACE", library.text)
    books.turn_clock(NOW)
    both = copy(books), copy(books)
    for partition, one in enumerate(both):
        one.partition, one.scripts = partition, library
        one.raw("HSET", one.key("meta"), "epoch", "1", "seq", "1", "run", one.run)
        assert now(one) == NOW
    yield both
    books.raw("FUNCTION", "LOAD", "REPLACE", books.scripts.text)


@pytest.fixture
def one(two: tuple[Books, Books]) -> Books:
    """One of them."""
    return two[0]


def now(books: Books) -> int:
    """Engine time."""
    found = books.raw("FCALL", books.scripts.function("find"), 2, books.key("meta"), books.key("ops"), A)
    return int(found[0])


def at(books: Books, clock: int) -> int:
    """Engine time, when the clock says so."""
    books.turn_clock(clock)
    return now(books)


def skew(books: Books) -> int:
    return int(books.raw("HGET", books.key("meta"), "skew") or 0)


def ask(books: Books, *requests: Request) -> list[list[int]]:
    function = books.scripts.function("pace")
    packed = [request.packed for request in requests]
    return list(books.raw("FCALL", function, 1, books.key("meta"), *packed)[3:])


def take(books: Books, about: int) -> None:
    """Somebody takes the books over who knows the time."""
    function = books.scripts.function("take_over")
    books.raw("FCALL", function, 1, books.key("meta"), take_over(0, about).packed)


def call(books: Books, request: Request) -> Answer:
    """The answer of one request, at whatever time."""
    names, fixed = CALLS[request.verb]
    function = books.scripts.function(request.verb)
    return books.raw("FCALL", function, len(names), *map(books.key, names), *fixed, request.packed)[3]


def swept(books: Books) -> Answer:
    """What a sweep says."""
    return call(books, expire(8))


def test_it_goes_on_though_the_clock_went_back(one: Books) -> None:
    """At once, with the first call that sees it, not only when a sweeper has told of it."""
    assert at(one, NOW - HOUR) == NOW
    assert at(one, NOW - HOUR + 50) == NOW + 50
    assert at(one, NOW - HOUR + 9000) == NOW + 9000
    assert skew(one) == 0


def test_a_clock_that_returns_takes_nothing_from_holds(one: Books) -> None:
    """What passed between the calls before and after each step is lost: what was held in between lasts
    longer by as much, and time is never ahead of the true one.
    """
    assert at(one, NOW - HOUR + 40) == NOW
    assert at(one, NOW - HOUR + 140) == NOW + 100
    assert at(one, NOW + 150) == NOW + 100
    assert at(one, NOW + 1150) == NOW + 1100
    assert at(one, NOW - HOUR + 1160) == NOW + 1100
    assert at(one, NOW - HOUR + 2160) == NOW + 2100
    assert at(one, NOW + 2170) == NOW + 2100


def test_a_return_after_a_long_silence_loses_a_moment(one: Books) -> None:
    """More than 0.2 s is no gap between two sweeps."""
    assert at(one, NOW - HOUR) == NOW
    assert at(one, NOW + 200) == NOW
    assert at(one, NOW + 201) == NOW + 1
    assert at(one, NOW - HOUR) == NOW + 1
    assert at(one, NOW + 5001) == NOW + 4801


@pytest.mark.parametrize(("back", "gone"), [(20, 0), (21, 10), (250, 10)])
def test_a_small_step_is_stood_still_for(one: Books, back: int, gone: int) -> None:
    assert at(one, NOW - back) == NOW
    assert at(one, NOW - back + 10) == NOW + gone


def test_a_clock_returns_to_about_where_it_was(one: Books) -> None:
    """Nobody sets a clock to the millisecond. What is nearer to where it was is taken for a return."""
    assert at(one, NOW - HOUR) == NOW
    assert at(one, NOW - 5000) == NOW
    assert at(one, NOW - 4990) == NOW + 10
    assert at(one, NOW) == NOW + 10
    assert at(one, NOW - HOUR) == NOW + 10
    assert at(one, NOW + 5) == NOW + 10
    assert at(one, NOW + 13) == NOW + 13


def test_a_return_loses_no_more_than_was_silent(one: Books) -> None:
    assert at(one, NOW - HOUR) == NOW
    assert at(one, NOW + 190) == NOW
    assert at(one, NOW + 195) == NOW + 5


@pytest.mark.parametrize(
    ("clock", "time"),
    [
        (NOW - HOUR // 2, NOW + HOUR // 2),  # the half of the way: no return, so a step ahead
        (NOW - HOUR // 2 + 1, NOW),
        (NOW - 1, NOW),
        (NOW + 7, NOW),
        (NOW + 300, NOW + 100),
    ],
)
def test_half_of_the_way_decides(one: Books, clock: int, time: int) -> None:
    assert at(one, NOW - HOUR) == NOW
    assert at(one, clock) == time


def test_two_steps_back(one: Books) -> None:
    """The clock goes on going back, and returns by one step."""
    assert at(one, NOW - HOUR) == NOW
    assert at(one, NOW - HOUR + 10) == NOW + 10
    assert at(one, NOW - 3 * HOUR) == NOW + 10
    assert at(one, NOW - 3 * HOUR + 5) == NOW + 15
    assert at(one, NOW + 20) == NOW + 15
    assert at(one, NOW + 25) == NOW + 20


def test_each_partition_goes_on_by_itself(two: tuple[Books, Books]) -> None:
    """Setting one right says nothing of another: its watch may not have noticed yet."""
    first, second = two
    assert [at(first, NOW - HOUR), now(first)] == [NOW, NOW]
    assert at(first, NOW - HOUR + 50) == NOW + 50
    assert now(second) == NOW
    assert ask(first, pace(0, least=NOW + 300)) == [[-HOUR, 1]]
    assert [at(one, NOW - HOUR + 60) for one in two] == [NOW + 60, NOW + 10]
    assert (skew(first), skew(second)) == (-HOUR, 0)
    assert ask(second, pace(0, least=NOW + 300)) == [[-HOUR + 50, 1]]
    assert [at(one, NOW - HOUR + 67) for one in two] == [NOW + 67, NOW + 17]


def test_one_partition_alone_sees_a_step(two: tuple[Books, Books]) -> None:
    """To the other, nothing happened: the clock was away while nobody asked there."""
    first, second = two
    assert at(second, NOW - HOUR) == NOW
    assert at(second, NOW - HOUR + 70) == NOW + 70
    assert at(first, NOW + 80) == NOW + 80
    assert now(second) == NOW + 70


@pytest.mark.parametrize("is_extended", [False, True])
def test_a_hold_of_these_moments_has_its_time(one: Books, is_extended: bool) -> None:
    """Made, or extended, while the clock was back, and looked for when it has returned."""
    one.seed(stock={"shoe": Card({"W": Position(5)})})
    ttl_ms = 60_000
    if is_extended:
        call(one, reserve(A, SHOE._replace(ttl_ms=1000)))
    assert at(one, NOW - HOUR + 10) == NOW
    one.turn_clock(NOW - HOUR + 940)
    if is_extended:
        assert call(one, resolve("extend", A, extending(ttl_ms)))
    else:
        assert isinstance(call(one, reserve(A, SHOE)), int)
    assert at(one, NOW + 945) == NOW + 930
    one.turn_clock(NOW + 939 + ttl_ms)
    assert swept(one) == [0, 0, 0]
    one.turn_clock(NOW + 945 + ttl_ms)
    assert swept(one) == [1, 0, 0]


@pytest.mark.parametrize(("back", "told"), [(200, []), (201, [201]), (HOUR, [HOUR])])
def test_a_sweep_tells_what_no_skew_says(one: Books, back: int, told: list[int]) -> None:
    """Until the skew says it, which outlives the process: then no longer."""
    assert swept(one) == [0, 0, 0]
    one.turn_clock(NOW - back)
    assert swept(one) == [0, 0, 0, *told]
    one.turn_clock(NOW - back + 9)
    assert swept(one) == [0, 0, 0, *told]
    assert ask(one, pace(0, least=NOW + 9)) == [[-sum(told), len(told)]]
    assert swept(one) == [0, 0, 0]
    assert now(one) == NOW + 9


def test_who_cannot_vouch_moves_nothing(one: Books) -> None:
    """A watch of less than a second asks, and learns that it may not set the skew."""
    one.turn_clock(NOW - HOUR)
    assert ask(one, pace(0)) == [[0, 0]]
    assert now(one) == NOW
    assert ask(one, pace(0, least=1)) == [[-HOUR, 1]]
    assert now(one) == NOW


def test_a_return_that_was_seen_is_a_step_ahead(one: Books) -> None:
    """Once the skew says that the clock is back, watches set its return right."""
    one.turn_clock(NOW - HOUR)
    assert ask(one, pace(0, least=NOW + 300)) == [[-HOUR, 1]]
    assert ask(one, pace(-HOUR, least=NOW + 100)) == [[-HOUR, 0]]
    assert at(one, NOW + 10) == NOW + HOUR + 10
    assert ask(one, pace(-HOUR, ahead=HOUR, least=NOW + 5)) == [[0, 1]]
    assert at(one, NOW + 20) == NOW + 20


def test_a_step_ahead_that_is_set_right_is_forgotten(one: Books) -> None:
    """Engine time was ahead for a moment; it goes back to where it must be, and goes on."""
    assert at(one, NOW + HOUR) == NOW + HOUR
    function, told = one.scripts.function("pace"), pace(0, ahead=HOUR).packed
    assert one.raw("FCALL", function, 1, one.key("meta"), told) == [NOW, 1, 1, [HOUR, 1]]
    assert at(one, NOW + HOUR + 7) == NOW + 7


def test_a_step_ahead_that_has_returned_is_set_right_once(one: Books) -> None:
    """Between two sweeps. Engine time went on from there, and two watches tell of it: the first sets it
    right, the second would set it back by an hour.
    """
    assert at(one, NOW + HOUR) == NOW + HOUR
    assert at(one, NOW + 10) == NOW + HOUR
    assert at(one, NOW + 20) == NOW + HOUR + 10
    assert ask(one, pace(0, ahead=HOUR, least=NOW + 5)) == [[10, 1]]
    assert now(one) == NOW + 10
    assert ask(one, pace(10, ahead=HOUR, least=NOW + 5)) == [[10, 0]]
    assert at(one, NOW + 30) == NOW + 20


@pytest.mark.parametrize(("least", "is_set"), [(NOW + 200, 1), (NOW + 201, 0), (0, 1)])
def test_who_is_ahead_says_how_far_it_may_go_back(one: Books, least: int, is_set: int) -> None:
    one.turn_clock(NOW + HOUR)
    assert ask(one, pace(0, ahead=HOUR, least=least)) == [[HOUR * is_set, is_set]]


def test_another_release_beside_this_one(one: Books) -> None:
    """It has a memory of its own; what one of them told of a step, the other sees by the skew."""
    other = copy(one)
    other.scripts = real_clock("-- the other")
    one.raw("FUNCTION", "LOAD", "REPLACE", other.scripts.text)
    assert [at(books, NOW + 5) for books in (one, other)] == [NOW + 5, NOW + 5]
    assert [at(books, NOW - HOUR + 10) for books in (one, other)] == [NOW + 5, NOW + 5]
    assert ask(one, pace(0, least=NOW + 8)) == [[-HOUR + 5, 1]]
    assert [at(books, NOW - HOUR + 30) for books in (one, other)] == [NOW + 25, NOW + 5]
    assert [at(books, NOW - HOUR + 40) for books in (one, other)] == [NOW + 35, NOW + 15]
    one.raw("FUNCTION", "DELETE", other.scripts.name)


def test_a_step_ahead_that_another_release_has_set_right(one: Books) -> None:
    """Who tells of it, too, sets the memory of this one right: but not where the clock is behind by now."""
    other = copy(one)
    other.scripts = real_clock("-- the other")
    one.raw("FUNCTION", "LOAD", "REPLACE", other.scripts.text)
    told = pace(0, ahead=HOUR, least=NOW + 205)
    assert [at(books, NOW + HOUR + 5) for books in (one, other)] == [NOW + HOUR + 5] * 2
    assert ask(one, pace(0, ahead=HOUR, least=NOW + 5)) == [[HOUR, 1]]
    assert now(other) == NOW + HOUR + 5
    one.turn_clock(NOW + HOUR + 4)
    assert ask(other, told) == [[HOUR, 0]]
    one.turn_clock(NOW + HOUR + 5)
    assert ask(other, pace(0, ahead=HOUR)) == [[HOUR, 0]]
    assert now(other) == NOW + HOUR + 5
    assert ask(other, told, told) == [[HOUR, 0], [HOUR, 0]]
    assert at(other, NOW + HOUR + 7) == NOW + 7
    assert at(other, NOW + 2 * HOUR) == NOW + HOUR
    one.turn_clock(NOW + HOUR + 9)
    assert ask(other, pace(0, ahead=HOUR, least=1)) == [[HOUR, 0]]
    assert now(other) == NOW + 9
    one.raw("FUNCTION", "DELETE", other.scripts.name)


def test_books_that_come_back_begin_anew(one: Books) -> None:
    """A primary that was another's replica meanwhile: what it remembers of its clock is of that time."""
    assert at(one, NOW + HOUR) == NOW + HOUR
    one.turn_clock(NOW)
    assert swept(one) == [0, 0, 0, HOUR]
    take(one, NOW + 3)
    assert at(one, NOW + 2) == NOW + HOUR + 2, "they are its own"
    one.raw("HSET", one.key("meta"), "run", "another")
    take(one, NOW + 3)
    assert now(one) == NOW + 2
    assert swept(one) == [0, 0, 0]
    assert at(one, NOW - 30) == NOW + 2
    one.raw("HSET", one.key("meta"), "run", "another")
    one.turn_clock(NOW + HOUR)
    take(one, NOW + 10)
    assert (skew(one), now(one)) == (HOUR - 10, NOW + 10)
