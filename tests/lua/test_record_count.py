"""Counts and sets: what is stored, and how on_hand follows from them and from what the history has."""

import pytest

from tests.lua.books import (
    HISTORY_MS,
    NOW,
    RETENTION_MS,
    Books,
    Card,
    Counted,
    CountKept,
    Fact,
    Hold,
    Memory,
    Move,
    Moved,
    Position,
    count,
    move,
    name,
)

M, N, A, B = name(1), name(2), name(11), name(12)
OLD, MIDDLE, YOUNG = name(21), name(22), name(23)
MARK = b"content1"
PLACES = {"W": b"settings"}
LATER = NOW + RETENTION_MS
SET = b"\xff" * 12
EARLIER = NOW - 10_000
HISTORY = (
    Move("shoe", "W", EARLIER - 1, OLD, 100),
    Move("shoe", "W", EARLIER, MIDDLE, -30),
    Move("shoe", "W", EARLIER + 1, YOUNG, -4),
    Move("shoe", "W", NOW, name(24), 2),
    # Of others, with names that begin or end alike.
    Move("shoe", "W2", NOW, name(25), 1000),
    Move("shoe", "VW", NOW, name(26), 1000),
    Move("shoe2", "W", NOW, name(27), 1000),
    Move("a shoe", "W", NOW, name(28), 1000),
)
MOVES = [each.packed() for each in HISTORY]
STOCK = {"shoe": Card({"W": Position(68, 3)}, (A,))}
HOLD = Hold((("shoe", "W", 3),))


def seed(books: Books, **state: object) -> None:
    """A position with a history, of which three units are held."""
    wanted: dict[str, object] = {"stock": STOCK, "operations": {A: HOLD}, "locations": PLACES, "moves": MOVES}
    books.seed(**{**wanted, **state})  # type: ignore[arg-type] - a state is what it is given


def test_the_first_count_of_a_sku(books: Books) -> None:
    """Makes the position: card, count of the place, memory, count, history, event."""
    books.seed(locations=PLACES)
    fact = Fact(MARK, 2, 5, 5, effect=5)
    assert books.one(count(M, 5, EARLIER)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(5)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Counted(M, fact, 5, EARLIER)])],
        locations=PLACES,
        stocked={"W": 1},
        counts={("shoe", "W"): CountKept(EARLIER, M, 5).packed},
    )


@pytest.mark.parametrize(
    ("counted_ms", "taken_ms", "later"),
    [
        (EARLIER - 2, EARLIER - 2, 68),
        (EARLIER - 1, EARLIER - 1, -32),
        (EARLIER, EARLIER, -2),
        (EARLIER + 1, EARLIER + 1, 2),
        (NOW - 1, NOW - 1, 2),
        (NOW, NOW - 1, 2),
        (NOW + 5000, NOW - 1, 2),
    ],
)
def test_what_happened_after_a_count_stands_on_top_of_it(
    books: Books, counted_ms: int, taken_ms: int, later: int
) -> None:
    """Not what happened at its moment or before, and nothing of other positions; the future is just now."""
    seed(books)
    on_hand = 50 + later
    fact = Fact(MARK, 2, on_hand, on_hand - 3, effect=on_hand - 68)
    assert books.one(count(M, 50, counted_ms)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(on_hand, 3)}, (A,))},
        operations={A: HOLD, M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Counted(M, fact, 50, taken_ms)])],
        locations=PLACES,
        moves=MOVES,
        counts={("shoe", "W"): CountKept(taken_ms, M, 50).packed},
    )


@pytest.mark.parametrize(
    ("counted_ms", "is_done"), [(EARLIER - 2, False), (EARLIER - 1, True), (EARLIER, True), (NOW, True)]
)
def test_a_count_that_was_wanted(books: Books, counted_ms: int, is_done: bool) -> None:
    """It is wanted no longer, unless that was so only after its moment. Of now is a millisecond ago."""
    to_count = {("shoe", "W"): EARLIER, ("shoe", "W2"): EARLIER}
    seed(books, to_count=to_count)
    later = 68 if counted_ms < EARLIER - 1 else -32 if counted_ms < EARLIER else -2 if counted_ms < NOW else 2
    taken_ms = min(counted_ms, NOW - 1)
    fact = Fact(MARK, 2, 50 + later, 47 + later, effect=later - 18)
    assert books.one(count(M, 50, counted_ms)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(50 + later, 3)}, (A,))},
        operations={A: HOLD, M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Counted(M, fact, 50, taken_ms)])],
        locations=PLACES,
        moves=MOVES,
        counts={("shoe", "W"): CountKept(taken_ms, M, 50).packed},
        to_count={("shoe", "W2"): EARLIER} if is_done else to_count,
    )


def test_a_count_that_changes_nothing_stays_wanted(books: Books) -> None:
    """A newer one stands: whoever wanted it came later still."""
    kept = CountKept(EARLIER + 5, B, 60).packed
    seed(books, counts={("shoe", "W"): kept}, to_count={("shoe", "W"): EARLIER})
    fact = Fact(MARK, 2, 68, 65, ignored=1)
    assert books.one(count(M, 50, EARLIER)) == fact.result
    books.expect(
        seq=2,
        stock=STOCK,
        operations={A: HOLD, M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Counted(M, fact, 50, EARLIER)])],
        locations=PLACES,
        moves=MOVES,
        counts={("shoe", "W"): kept},
        to_count={("shoe", "W"): EARLIER},
    )


def test_a_long_history_is_summed_in_pages(books: Books) -> None:
    """2,500 movements after a count."""
    long = [Move("shoe", "W", EARLIER + at, name(100 + at), at % 7).packed() for at in range(2500)]
    books.seed(stock=STOCK, locations=PLACES, moves=long)
    total = 10 + sum(at % 7 for at in range(1, 2500))
    fact = Fact(MARK, 2, total, total - 3, effect=total - 68)
    assert books.one(count(M, 10, EARLIER)) == fact.result


@pytest.mark.parametrize(
    ("counted_ms", "rank", "is_newer"),
    [
        (EARLIER - 1, M, False),
        (EARLIER, name(0), False),
        (EARLIER, name(5), False),
        (EARLIER, name(6), True),
        (EARLIER, b"op0000010000", True),
        (EARLIER, b"pa0000000000", True),
        (EARLIER, b"\xff" + b"\0" * 11, True),
        (EARLIER + 1, name(0), True),
    ],
)
def test_the_newest_count_counts(books: Books, counted_ms: int, rank: bytes, is_newer: bool) -> None:
    """By its moment, then by its id; an older one is recorded and changes nothing."""
    kept = {("shoe", "W"): CountKept(EARLIER, name(5), 7).packed}
    seed(books, counts=kept, operations={A: HOLD})
    if rank == name(5):
        rank = name(5)
    answer = books.one(count(rank, 50, counted_ms))
    later = -2 if counted_ms == EARLIER else 2
    on_hand = 50 + later if is_newer else 68
    fact = Fact(MARK, 2, on_hand, on_hand - 3, effect=on_hand - 68, ignored=0 if is_newer else 1)
    assert answer == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(on_hand, 3)}, (A,))},
        operations={A: HOLD, rank: fact},
        due={(LATER, "p", (rank,))},
        log=[(2, [Counted(rank, fact, 50, counted_ms)])],
        locations=PLACES,
        moves=MOVES,
        counts={("shoe", "W"): CountKept(counted_ms, rank, 50).packed} if is_newer else kept,
    )


@pytest.mark.parametrize(("age_ms", "ignored"), [(HISTORY_MS, 0), (HISTORY_MS + 1, 2)])
def test_a_count_that_is_older_than_the_history(books: Books, age_ms: int, ignored: int) -> None:
    """Nobody knows what happened since: it is recorded, and changes nothing."""
    seed(books)
    on_hand = 68 if ignored else 118
    fact = Fact(MARK, 2, on_hand, on_hand - 3, effect=on_hand - 68, ignored=ignored)
    assert books.one(count(M, 50, NOW - age_ms)) == fact.result
    kept = {} if ignored else {("shoe", "W"): CountKept(NOW - age_ms, M, 50).packed}
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(on_hand, 3)}, (A,))},
        operations={A: HOLD, M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Counted(M, fact, 50, NOW - age_ms)])],
        locations=PLACES,
        moves=MOVES,
        counts=kept,
    )


def test_counts_of_one_call_see_each_other(books: Books) -> None:
    """An older one behind a newer one, the same one again, one with other content."""
    seed(books)
    first = Fact(MARK, 2, 52, 49, effect=-16)
    late = Fact(MARK, 3, 52, 49, ignored=1)
    asked = [
        count(M, 50, EARLIER + 1),
        count(N, 9, EARLIER),
        count(M, 50, EARLIER + 1),
        count(M, 51, EARLIER + 1, fingerprint=b"content2"),
    ]
    replayed, mismatch = [b"replayed", first.result], [b"idempotency_mismatch"]
    assert books.batch(*asked) == [first.result, late.result, replayed, mismatch]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(52, 3)}, (A,))},
        operations={A: HOLD, M: first, N: late},
        due={(LATER, "p", (M, N))},
        log=[(3, [Counted(M, first, 50, EARLIER + 1), Counted(N, late, 9, EARLIER)])],
        locations=PLACES,
        moves=MOVES,
        counts={("shoe", "W"): CountKept(EARLIER + 1, M, 50).packed},
    )


def test_very_many_counts_of_one_call(books: Books) -> None:
    """More positions than one command reads: none is missed."""
    skus = [f"s{number}" for number in range(1003)]
    kept = {(sku, "W"): CountKept(EARLIER, B, 1).packed for sku in skus}
    books.seed(locations=PLACES, counts=kept)
    answers = books.batch(
        *(count(name(number), 5, EARLIER - 1, sku=sku) for number, sku in enumerate(skus, 100))
    )
    assert answers == [Fact(MARK, at, 0, 0, ignored=1).result for at in range(2, 1005)]


def test_many_counts_of_one_call_on_one_position(books: Books) -> None:
    """Each sees what came after it, in moments of their own and in shared ones; sets, too."""
    seed(books)
    moments = (EARLIER - 2, EARLIER - 1, EARLIER - 1, EARLIER, EARLIER + 1, NOW - 1)
    later = (68, -32, -32, -2, 2, 2)
    asked = [count(name(at), 10 * at, moment) for at, moment in enumerate(moments)]
    found = books.batch(*asked, count(name(90), 7), count(name(91), 9))
    shown = [int.from_bytes(answer[7:14], "little", signed=True) for answer in found]
    assert shown == [*(10 * at + units for at, units in enumerate(later)), 7, 9]


def test_a_count_below_what_is_promised(books: Books) -> None:
    """Names whose units are missing."""
    seed(books, operations={A: HOLD})
    fact = Fact(MARK, 2, 1, 0, ((A, 2),), effect=-67)
    assert books.one(count(M, 3, EARLIER)) == fact.result
    again = Fact(MARK, 3, 2, 0, effect=1)
    assert books.one(count(N, 4, EARLIER + 1, fingerprint=MARK)) == Fact(MARK, 3, 6, 3, effect=5).result, (
        again
    )


@pytest.mark.parametrize("age_ms", [RETENTION_MS - 1, RETENTION_MS])
def test_a_count_whose_id_is_forgotten(books: Books, age_ms: int) -> None:
    """The history has it: answered as things stand. One that may not be forgotten yet is not looked for."""
    counted_ms = NOW - age_ms
    members = [*MOVES, Move("shoe", "W", counted_ms, M, 0).packed()]
    seed(books, moves=members, counts={("shoe", "W"): CountKept(counted_ms, M, 5).packed})
    answer = books.one(count(M, 50, counted_ms))
    if age_ms < RETENTION_MS:
        assert answer == Fact(MARK, 2, 68, 65, ignored=1).result
        return
    assert answer == [b"replayed", Fact(MARK, 1, 68, 65).result]
    books.expect(
        stock=STOCK,
        operations={A: HOLD},
        locations=PLACES,
        moves=members,
        counts={("shoe", "W"): CountKept(counted_ms, M, 5).packed},
    )


# ---------------------------------------------------------------- sets


@pytest.mark.parametrize(
    ("before", "set_ms"),
    [(None, NOW - 1), (EARLIER, NOW - 1), (NOW - 1, NOW - 1), (NOW + 7, NOW + 7)],
)
def test_a_set_is_what_is_on_hand_now(books: Books, before: int | None, set_ms: int) -> None:
    """Exactly, also in the millisecond of a movement or of another set; whoever comes later stands on it."""
    kept = {} if before is None else {("shoe", "W"): CountKept(before, SET, 7).packed}
    seed(books, counts=kept)
    fact = Fact(MARK, 2, 50, 47, effect=-18)
    assert books.one(count(M, 50)) == fact.result
    later = 2 if set_ms < NOW else 0
    after = {
        "operations": {A: HOLD, M: fact},
        "locations": PLACES,
        "counts": {("shoe", "W"): CountKept(set_ms, SET, 50 - later).packed},
    }
    first = Counted(M, fact, 50, set_ms, is_set=True)
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(50, 3)}, (A,))},
        due={(LATER, "p", (M,))},
        log=[(2, [first])],
        moves=MOVES,
        **after,  # type: ignore[arg-type] - as above
    )
    sold = Fact(MARK, 3, 49, 46, effect=-1)
    assert books.one(move(N, -1)) == sold.result
    moved = Moved(N, sold, -1, "W", "shoe", occurred_ms=max(NOW, set_ms + 1))
    after["operations"] = {A: HOLD, M: fact, N: sold}
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(49, 3)}, (A,))},
        due={(LATER, "p", (M,)), (LATER, "p", (N,))},
        log=[(2, [first]), (3, [moved])],
        moves=MOVES,
        **after,  # type: ignore[arg-type] - as above
    )


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (Position(68, 3), b"68,3,0,0"),
        (Position(10**15, 3, 2, 1), b"1000000000000000,3,2,1"),
        (Position(-4, 0, 2, 1), b"-4,0,2,1"),
        (Position(5, 1, 2, 3, 4, 5, 6, 7), b"5,1,2,3,4,5,6,7,0,0,0,0"),
    ],
)
def test_a_set_compares_all_counters(books: Books, position: Position, expected: bytes) -> None:
    """With any other it has no effect."""
    seed(books, stock={"shoe": Card({"W": position})}, operations={})
    mismatch = [b"version_mismatch", 1]
    for other in (b"-", expected[:-1], expected + b"0", b"1" + expected, expected[:-1] + b"9"):
        assert books.one(count(M, 50, expected=other)) == mismatch
    books.expect(stock={"shoe": Card({"W": position})}, locations=PLACES, moves=MOVES)
    assert isinstance(books.one(count(M, 50, expected=expected)), bytes)


def test_refusals_in_order(books: Books) -> None:
    """Replay before unknown place before the state before the range; a set of nothing makes a position."""
    prior = Fact(MARK, 1, 5, 5)
    seed(books, operations={A: HOLD, B: Memory(2, MARK, A, b"tail"), M: prior})
    missing, mismatch = [b"location_not_found", 1], [b"idempotency_mismatch"]
    asked = [
        count(M, 5, 1, "X"),
        count(B, 5, 1, "X"),
        count(A, 5, 1, "X"),
        count(N, 5, 1, "X"),
        count(N, 10**15 + 1, 0, "X", expected=b"1"),
        count(N, 10**15 + 1, 0, "W", expected=b"1"),
        count(N, 1, 0, "W", "hat", expected=b"0,0,0,0"),
        count(N, 10**15 + 1),
        count(N, 10**15 - 1, EARLIER + 1),
    ]
    state, wide = [b"version_mismatch", 1], [b"quantity_out_of_range", 1, 68]
    assert books.batch(*asked) == [
        [b"replayed", prior.result], mismatch, mismatch, missing, missing, state, state, wide, wide
    ]  # fmt: skip
    books.expect(
        stock=STOCK,
        operations={A: HOLD, B: Memory(2, MARK, A, b"tail"), M: prior},
        locations=PLACES,
        moves=MOVES,
    )
    assert isinstance(books.one(count(N, 10**15 - 2, EARLIER + 1)), bytes)


def test_a_count_can_leave_less_than_nothing(books: Books) -> None:
    """What went after it was more than was counted; the range holds below zero, too."""
    members = [Move("shoe", "W", NOW, N, -(10**15)).packed()]
    books.seed(stock={"shoe": Card({"W": Position(0)})}, locations=PLACES, moves=members)
    assert books.one(count(M, 0, EARLIER)) == Fact(MARK, 2, -(10**15), 0, effect=-(10**15)).result
    members = [*members, Move("shoe", "W", NOW, name(3), -1).packed()]
    books.seed(stock={"shoe": Card({"W": Position(0)})}, locations=PLACES, moves=members)
    assert books.one(count(M, 0, EARLIER)) == [b"quantity_out_of_range", 1, 0]
