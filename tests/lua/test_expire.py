import pytest

from tests.lua.books import (
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    EXTEND,
    FULFILLED,
    NOW,
    RETENTION_MS,
    Books,
    Card,
    Fact,
    Hold,
    Memory,
    Position,
    Resolved,
    expire,
    extending,
    name,
    resolve,
)

A, B, C, D, E = (name(number) for number in range(1, 6))
LATER = NOW + RETENTION_MS
SHOE = (("shoe", "W", 5),)
DUE = Hold(SHOE, deadline_ms=NOW)


def lapse(hold: Hold, seq: int) -> Hold:
    """A hold after it was given back."""
    return hold._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=seq, deadline_ms=LATER)


def test_the_holds_of_an_entry(books: Books) -> None:
    """Each lapsed hold is given back once, with an event of its own; the entry goes, oblivion is filed."""
    two = Hold((("hat", "S", 2), ("shoe", "W", 1), ("hat", "W", 3)), deadline_ms=NOW)
    books.seed(
        stock={
            "shoe": Card({"W": Position(10, 7)}, (A, B, C)),
            "hat": Card({"S": Position(2, 2), "W": Position(3, 3)}, (B,)),
        },
        operations={A: DUE, B: two, C: DUE},
        due={(NOW, "h", (A, B)), (NOW + 1, "h", (C,)), (NOW - 1, "p", (D,))},
    )
    assert books.one(expire(8)) == [2, 0, 0]
    one_after, two_after = lapse(DUE, 2), lapse(two, 3)
    books.expect(
        seq=3,
        stock={
            "shoe": Card({"W": Position(10, 1)}, (C,)),
            "hat": Card({"S": Position(2), "W": Position(3)}),
        },
        operations={A: one_after, B: two_after, C: DUE},
        due={(LATER, "p", (A, B)), (NOW + 1, "h", (C,)), (NOW - 1, "p", (D,))},
        log=[(3, [Resolved(EXPIRE, A, one_after), Resolved(EXPIRE, B, two_after)])],
    )


def test_what_is_no_lapsed_hold_is_passed_over(books: Books) -> None:
    """Extended by a millisecond, committed, gone, or no reservation at all: kept, and not counted."""
    stock = {"shoe": Card({"W": Position(20, 5, 5)}, (A, B))}
    operations = {
        A: DUE._replace(deadline_ms=NOW + 1),
        B: DUE._replace(state=COMMITTED, held_end=COMMIT),
        C: Fact(b"12345678", 1, 1, 1),
        D: Memory(COMMIT, b"12345678", A, DUE.tail),
    }
    books.seed(stock=stock, operations=operations, due={(NOW, "h", (A, B, C, D, E)), (NOW + 1, "h", (A,))})
    assert books.one(expire(8)) == [0, 0, 0]
    books.expect(stock=stock, operations=operations, due={(NOW + 1, "h", (A,))})


def test_a_lapsed_hold_between_others(books: Books) -> None:
    """A hold after one that is not lapsed, or gone, finds its own SKUs, in its entry and the next."""
    other = Hold((("sock", "W", 1), ("coat", "W", 1)), deadline_ms=NOW + 9)
    hat = Hold((("hat", "S", 2),), deadline_ms=NOW)
    books.seed(
        stock={"shoe": Card({"W": Position(5, 5)}, (A,)), "hat": Card({"S": Position(2, 2)}, (C,))},
        operations={A: DUE, B: other, C: hat},
        due={(NOW - 2, "h", (B, A)), (NOW - 1, "h", (D,)), (NOW, "h", (C,))},
    )
    assert books.one(expire(8)) == [2, 0, 0]
    one, two = lapse(DUE, 2), lapse(hat, 3)
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5)}), "hat": Card({"S": Position(2)})},
        operations={A: one, B: other, C: two},
        due={(LATER, "p", (A, C))},
        log=[(3, [Resolved(EXPIRE, A, one), Resolved(EXPIRE, C, two)])],
    )


def test_only_what_is_held_lapses(books: Books) -> None:
    """Committed units of a part-committed hold stay; units given back before are not given twice."""
    before = Hold((("shoe", "W", 5), ("hat", "S", 2)), progress=((2, 3, 0, 0), (1, 0, 0, 1)), deadline_ms=1)
    books.seed(
        stock={
            "shoe": Card({"W": Position(10, 2, 3)}, (A,)),
            "hat": Card({"S": Position(2, 1)}, (A,)),
        },
        operations={A: before},
        due={(1, "h", (A,))},
    )
    assert books.one(expire(8)) == [1, 0, 0]
    after = before._replace(
        state=COMMITTED, held_end=EXPIRE, changed=2, progress=((0, 3, 0, 0), (0, 0, 0, 1))
    )
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(10, 0, 3)}, (A,)),
            "hat": Card({"S": Position(2)}),
        },
        operations={A: after},
        log=[(2, [Resolved(EXPIRE, A, after, ((-2, 0, 0), (-1, 0, 0)))])],
    )


@pytest.mark.parametrize(
    ("row", "state", "counters"),
    [
        ((2, 3, 0, 0), COMMITTED, Position(10, 0, 3)),
        ((2, 0, 3, 0), FULFILLED, Position(10)),
        ((2, 0, 0, 3), EXPIRED, Position(10)),
    ],
)
def test_what_is_left_of_one_position(
    books: Books, row: tuple[int, int, int, int], state: int, counters: Position
) -> None:
    """Units that lapsed are in no column: the others decide the state, and are noted beside it."""
    before = Hold(SHOE, progress=(row,), deadline_ms=NOW)
    books.seed(
        stock={"shoe": Card({"W": counters._replace(held=2)}, (A,))},
        operations={A: before},
        due={(NOW, "h", (A,))},
    )
    assert books.one(expire(8)) == [1, 0, 0]
    after = before._replace(state=state, held_end=EXPIRE, changed=2, progress=((0, *row[1:]),))
    if state != COMMITTED:
        after = after._replace(closed_by=EXPIRE, deadline_ms=LATER)
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": counters}, (A,) if state == COMMITTED else ())},
        operations={A: after},
        due=set() if state == COMMITTED else {(LATER, "p", (A,))},
        log=[(2, [Resolved(EXPIRE, A, after, ((-2, 0, 0),))])],
    )


def test_two_sweepers(books: Books) -> None:
    """In one call and again later: one effect."""
    books.seed(stock={"shoe": Card({"W": Position(5, 5)}, (A,))}, operations={A: DUE}, due={(NOW, "h", (A,))})
    assert books.batch(expire(8), expire(8)) == [[1, 0, 0], [0, 0, 0]]
    assert books.one(expire(8)) == [0, 0, 0]
    after = lapse(DUE, 2)
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(5)})},
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Resolved(EXPIRE, A, after)])],
    )


def test_an_entry_that_names_a_hold_twice(books: Books) -> None:
    """Two extends of one hold in one call file it twice under one moment; it lapses once."""
    before = Hold(SHOE, deadline_ms=NOW - 1)
    books.seed(stock={"shoe": Card({"W": Position(5, 5)}, (A,))}, operations={A: before})
    books.batch(*(resolve("extend", A, extending(10)) for _ in range(2)))
    one, two = (before._replace(changed=seq, deadline_ms=NOW + 10) for seq in (2, 3))
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5, 5)}, (A,))},
        operations={A: two},
        due={(NOW + 10, "h", (A, A))},
        log=[(3, [Resolved(EXTEND, A, one), Resolved(EXTEND, A, two)])],
    )
    books.turn_clock(NOW + 10)
    assert books.one(expire(8)) == [1, 0, 0]
    after = lapse(before, 4)._replace(deadline_ms=LATER + 10)
    found = books.read()
    assert found["inv:{0}:ops"] == {A: after.packed(A)}
    assert found["inv:{0}:stock"] == {b"shoe": Card({"W": Position(5)}).packed}


def test_a_hold_that_is_extended_past_its_entry(books: Books) -> None:
    """It keeps its new place in the index, and lapses there."""
    before = Hold(SHOE, deadline_ms=NOW - 1)
    stock = {"shoe": Card({"W": Position(5, 5)}, (A,))}
    books.seed(stock=stock, operations={A: before}, due={(NOW - 1, "h", (A, B))})
    after = before._replace(changed=2, deadline_ms=NOW + 10)
    assert books.one(resolve("extend", A, extending(10))) == after.tail
    assert books.one(expire(8)) == [0, 0, 0]
    books.expect(
        seq=2,
        stock=stock,
        operations={A: after},
        due={(NOW + 10, "h", (A,))},
        log=[(2, [Resolved(EXTEND, A, after)])],
    )


@pytest.mark.parametrize(("limit", "count", "more"), [(1, 2, 1), (2, 2, 1), (3, 3, 0), (300, 3, 0)])
def test_the_oldest_first_up_to_the_limit(books: Books, limit: int, count: int, more: int) -> None:
    """About as many as asked: what fell due together is given back together; what is left is told."""
    hold = DUE._replace(lines=(("shoe", "W", 1),))
    entries = [(NOW - 9, "h", (A, B)), (NOW, "h", (C,)), (NOW + 1, "h", (D,))]
    names = (A, B, C, D)
    books.seed(
        stock={"shoe": Card({"W": Position(9, 4)}, names)},
        operations=dict.fromkeys(names, hold),
        due=set(entries),
    )
    assert books.batch(expire(limit), expire(limit)) == [[count, more, 0], [0, more, 0]]
    done = {each: lapse(hold, 2 + at) for at, each in enumerate(names[:count])}
    books.expect(
        seq=1 + count,
        stock={"shoe": Card({"W": Position(9, 4 - count)}, names[count:])},
        operations=dict.fromkeys(names, hold) | done,
        due={entry for entry in entries if entry[2][0] not in done} | {(LATER, "p", names[:count])},
        log=[(1 + count, [Resolved(EXPIRE, each, after) for each, after in done.items()])],
    )


def test_very_many_entries(books: Books) -> None:
    """A call looks at so many entries; it says that there are more, and the next goes on."""
    hold = DUE._replace(lines=(("shoe", "W", 1),), deadline_ms=NOW - 1)
    names = tuple(name(number) for number in range(300))
    blocks = {at: names[at * 16 : at * 16 + 16] for at in range(18)}
    books.seed(
        stock={"shoe": Card({"W": Position(300, 300)}, names[288:], block=18, blocks=blocks)},
        operations={each: hold._replace(blocks=(at // 16,)) for at, each in enumerate(names)},
        due={(NOW - 1, "h", (each,)) for each in names},
    )
    left = 300
    while left:
        count, more, _ = books.one(expire(65_535))
        left -= count
        assert count
        assert bool(more) == bool(left)
    found = books.read()
    assert found["inv:{0}:stock"] == {b"shoe": Card({"W": Position(300)}, block=18, first=18).packed}
    assert found["inv:{0}:meta"][b"seq"] == b"301"
    assert all(each[:1] == b"p" for each, _ in found["inv:{0}:due"])


def test_more_cards_than_one_command_takes(books: Books) -> None:
    """Six holds of 200 lines each: every one of 1200 cards is read and written once."""
    names = [name(number) for number in range(6)]
    holds = {
        each: Hold(tuple((f"sku-{at}-{line}", "W", 1 + at) for line in range(200)), deadline_ms=NOW)
        for at, each in enumerate(names)
    }
    rows = [(each, sku, quantity) for each, hold in holds.items() for sku, _, quantity in hold.lines]
    books.seed(
        stock={sku: Card({"W": Position(9, quantity)}, (each,)) for each, sku, quantity in rows},
        operations=holds,
        due={(NOW, "h", tuple(names))},
    )
    assert books.one(expire(8)) == [6, 0, 0]
    done = {each: lapse(hold, 2 + at) for at, (each, hold) in enumerate(holds.items())}
    books.expect(
        seq=7,
        stock={sku: Card({"W": Position(9)}) for _, sku, _ in rows},
        operations=done,
        due={(LATER, "p", tuple(names))},
        log=[(7, [Resolved(EXPIRE, each, hold) for each, hold in done.items()])],
    )


def test_no_more_than_so_many_lines_at_once(books: Books) -> None:
    """As many as there are in 2048 lines, and the one that crosses them; then it says that there are more."""
    sizes = [255] * 8 + [7, 1, 1]
    holds = {
        name(100 + at): DUE._replace(lines=tuple((f"s{sku}", "W", 1) for sku in range(size)))
        for at, size in enumerate(sizes)
    }
    claims = [tuple(each for each, hold in holds.items() if len(hold.lines) > sku) for sku in range(255)]
    books.seed(
        stock={f"s{sku}": Card({"W": Position(20, len(ids))}, ids) for sku, ids in enumerate(claims)},
        operations=holds,
        due={(NOW - 50 + at, "h", (each,)) for at, each in enumerate(holds)},
    )
    assert [books.one(expire(100)) for _ in range(2)] == [[10, 1, 0], [1, 0, 0]]
