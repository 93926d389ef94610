import pytest

from tests.lua.books import (
    ABANDON,
    ABANDONED,
    ABANDONED_MS,
    COMMITTED,
    DECIDE,
    EXPIRED,
    FULFILLED,
    HELD,
    NOW,
    RELEASED,
    REPAIR_MS,
    Books,
    Bound,
    Card,
    Fact,
    Hold,
    Memory,
    Operation,
    Position,
    Resolved,
    basket,
    decide,
    find,
    forget,
    name,
    part,
    settle,
)

A, B = name(1), name(2)
LINES = (("shoe", "W", 5), ("hat", "S", 2))
OPENED = basket(LINES)._replace(
    created=4, changed=4, created_ms=NOW - 50, deadline_ms=NOW + 9_950, ttl_ms=7_000
)
SOUGHT = {(NOW + 9_950, "h", (A,))}
BACK = ((-5, 0, 0), (-2, 0, 0))


def kept(seq: int, before: Hold = OPENED, epoch: int = 1) -> Hold:
    """A basket that this call made a reservation."""
    return before._replace(
        state=HELD,
        created=seq,
        changed=seq,
        epoch=epoch,
        changed_epoch=epoch,
        created_ms=NOW,
        deadline_ms=NOW + before.ttl_ms,
    )


def dropped(seq: int, before: Hold = OPENED, epoch: int = 1) -> Hold:
    """A basket that this call abandoned."""
    return before._replace(
        state=ABANDONED,
        closed_by=ABANDON,
        changed=seq,
        changed_epoch=epoch,
        deadline_ms=NOW + ABANDONED_MS,
    )


def test_it_is_held(books: Books) -> None:
    """From this moment on, for its own time to live, and as if it had been made now. No counters move: its
    parts have the units. There is nothing to tell them.
    """
    stock = {"shoe": Card({"W": Position(10, 5)}, (A,))}
    opened = OPENED._replace(epoch=3, changed_epoch=3)
    books.seed(seq=6, epoch=3, stock=stock, operations={A: opened}, due=SOUGHT)
    after = kept(7, opened, epoch=3)
    assert books.one(decide(A, (3, 4))) == [7, after.packed(A)]
    books.expect(
        seq=7,
        epoch=3,
        stock=stock,
        operations={A: after},
        due={(NOW + 7_000, "h", (A,))},
        log=[(7, [Resolved(DECIDE, A, after)])],
    )


def test_an_attempt_ends_with_its_epoch(books: Books) -> None:
    """What another process has of the books now may lack the part that was held here: seek anew."""
    books.seed(seq=6, epoch=3, operations={A: OPENED}, due=SOUGHT)
    after = dropped(7, epoch=3)
    assert books.one(decide(A, (1, 4))) == [b"superseded"]
    books.expect(
        seq=7,
        epoch=3,
        operations={A: after},
        due=SOUGHT | {(NOW + ABANDONED_MS, "p", (A,)), (NOW + REPAIR_MS, "r", (A,))},
        log=[(7, [Resolved(ABANDON, A, after, BACK)])],
    )
    assert books.one(decide(A, (1, 4))) == [b"superseded"]


def test_it_is_abandoned(books: Books) -> None:
    """It is remembered for a minute, and a sweeper tells its parts, unless somebody does so within five
    seconds. It was never held, so no verb ended that.
    """
    books.seed(seq=6, epoch=3, operations={A: OPENED}, due=SOUGHT)
    after = dropped(7, epoch=3)
    assert books.one(decide(A, (1, 4), hold=False)) == [7, after.packed(A)]
    books.expect(
        seq=7,
        epoch=3,
        operations={A: after},
        due=SOUGHT | {(NOW + ABANDONED_MS, "p", (A,)), (NOW + REPAIR_MS, "r", (A,))},
        log=[(7, [Resolved(ABANDON, A, after, BACK)])],
    )
    assert books.one(settle(A, (3, 7))) == 1
    books.turn_clock(NOW + ABANDONED_MS - 1)
    assert books.one(forget(8)) == [0, 0]
    books.turn_clock(NOW + ABANDONED_MS)
    assert books.one(settle(A, (3, 7))) == 1
    assert books.one(forget(8)) == [1, 0]
    assert books.one(find(A)) == [7, b""]


def test_the_first_decision_stands(books: Books) -> None:
    """Requests of one call see each other: who comes later is told what was decided, or that nothing came."""
    books.seed(operations={A: OPENED, B: OPENED})
    one, two = kept(2), dropped(3)
    answers = books.batch(
        decide(A, (1, 4)),
        decide(A, (1, 4)),
        decide(A, (1, 4), hold=False),
        decide(B, (1, 4), hold=False),
        decide(B, (1, 4), hold=False),
        decide(B, (1, 4)),
    )
    told = [b"replayed", one.packed(A)]
    assert answers == [[2, one.packed(A)], told, told, [3, two.packed(B)], [b"superseded"], [b"superseded"]]
    books.expect(
        seq=3,
        operations={A: one, B: two},
        due={
            (NOW + 7_000, "h", (A,)),
            (NOW + ABANDONED_MS, "p", (B,)),
            (NOW + REPAIR_MS, "r", (B,)),
        },
        log=[(3, [Resolved(DECIDE, A, one), Resolved(ABANDON, B, two, BACK)])],
    )


def test_a_decision_may_be_late(books: Books) -> None:
    """As long as no sweeper gave it up, the parts have their units: nothing is decided by a clock."""
    before = OPENED._replace(deadline_ms=NOW - 5)
    books.seed(operations={A: before})
    after = kept(2, before)
    assert books.one(decide(A, (1, 4))) == [2, after.packed(A)]


@pytest.mark.parametrize("opened", [(1, 3), (1, 5), (0, 4), (2, 4), (2, 1)])
@pytest.mark.parametrize("hold", [True, False])
def test_another_attempt(
    books: Books,
    opened: tuple[int, int],
    hold: bool,
) -> None:
    """An attempt that is over decides nothing about the one that is under way."""
    books.seed(operations={A: OPENED}, due=SOUGHT)
    assert books.one(decide(A, opened, hold=hold)) == [b"superseded"]
    books.expect(operations={A: OPENED}, due=SOUGHT)


@pytest.mark.parametrize("state", [HELD, COMMITTED, FULFILLED, RELEASED, EXPIRED])
@pytest.mark.parametrize("hold", [True, False])
def test_what_was_decided_long_ago(
    books: Books,
    state: int,
    hold: bool,
) -> None:
    """Whoever of the callers was faster, and whatever happened since."""
    before = OPENED._replace(state=state, created=9)
    books.seed(operations={A: before})
    assert books.one(decide(A, (1, 4), hold=hold)) == [b"replayed", before.packed(A)]
    books.expect(operations={A: before})


@pytest.mark.parametrize(
    "before",
    [
        None,
        OPENED._replace(state=ABANDONED),
        Hold(LINES, created=4),
        part(LINES)._replace(created=4),
        Memory(2, b"12345678", B, OPENED.tail),
        Fact(b"12345678", 1, 1, 1),
        Bound(),
    ],
)
@pytest.mark.parametrize("hold", [True, False])
def test_nothing_to_decide(
    books: Books,
    before: Operation | None,
    hold: bool,
) -> None:
    """It is forgotten or abandoned, or its id was used for something else since."""
    operations = {} if before is None else {A: before}
    books.seed(operations=operations)
    assert books.one(decide(A, (1, 4), hold=hold)) == [b"superseded"]
    books.expect(operations=operations)


def test_the_revision_that_nobody_has(books: Books) -> None:
    """The answer is the whole record."""
    before = OPENED._replace(revision=65_534)
    books.seed(operations={A: before})
    assert books.one(decide(A, (1, 4))) == [2, kept(2, before).packed(A)]
