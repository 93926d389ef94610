"""The usual verbs on a basket over several partitions: decided by its units alone."""

import pytest

from tests.lua.books import (
    ABANDON,
    ABANDONED,
    ABANDONED_MS,
    CANCEL,
    CANCELLED,
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    EXTEND,
    FULFIL,
    FULFILLED,
    HELD,
    NOW,
    PENDING,
    RELEASE,
    RELEASED,
    REPAIR_MS,
    RETENTION_MS,
    UNKNOWN,
    Books,
    Bound,
    Card,
    Hold,
    Memory,
    Operation,
    Position,
    Reserved,
    Resolved,
    basket,
    choose,
    committing,
    expire,
    extending,
    forget,
    name,
    part,
    part_name,
    reserve,
    resolve,
    settle,
)

A, B, C, OPERATION = name(1), name(2), name(3), name(9)
LATER = NOW + RETENTION_MS
LINES = (("shoe", "W", 5), ("hat", "S", 2))
TAKEN = basket(LINES, HELD)
SOLD = TAKEN._replace(state=COMMITTED, held_end=COMMIT)
STOCK = {"shoe": Card({"W": Position(10, 5)}, (part_name(A),))}
"""What a step on the basket never touches, though its part lies here."""
REPAIR = (NOW + REPAIR_MS, "r", (A,))
OBLIVION = (LATER, "p", (A,))
STEPS = {
    "commit": (COMMIT, committing()),
    "release": (RELEASE, choose()),
    "extend": (EXTEND, extending(90_000)),
    "fulfil": (FULFIL, choose()),
    "cancel": (CANCEL, choose()),
}


@pytest.mark.parametrize(
    ("verb", "own", "before", "after", "deltas"),
    [
        (
            "commit",
            committing(),
            TAKEN,
            TAKEN._replace(state=COMMITTED, held_end=COMMIT),
            ((-5, 5, 0), (-2, 2, 0)),
        ),
        (
            "commit",
            committing(fulfil=1),
            TAKEN,
            TAKEN._replace(state=FULFILLED, held_end=COMMIT, closed_by=COMMIT),
            ((-5, 0, -5), (-2, 0, -2)),
        ),
        (
            "commit",
            committing((0, 3), keep=1),
            TAKEN,
            TAKEN._replace(progress=((2, 3, 0, 0), (2, 0, 0, 0))),
            ((-3, 3, 0), (0, 0, 0)),
        ),
        (
            "commit",
            committing((1, 1)),
            TAKEN,
            TAKEN._replace(state=COMMITTED, held_end=COMMIT, progress=((0, 0, 0, 5), (0, 1, 0, 1))),
            ((-5, 0, 0), (-2, 1, 0)),
        ),
        (
            "release",
            choose(),
            TAKEN,
            TAKEN._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE),
            ((-5, 0, 0), (-2, 0, 0)),
        ),
        (
            "release",
            choose((1, 2)),
            TAKEN,
            TAKEN._replace(progress=((5, 0, 0, 0), (0, 0, 0, 2))),
            ((0, 0, 0), (-2, 0, 0)),
        ),
        (
            "fulfil",
            choose(),
            SOLD,
            SOLD._replace(state=FULFILLED, closed_by=FULFIL),
            ((0, -5, -5), (0, -2, -2)),
        ),
        (
            "fulfil",
            choose((0, 4)),
            SOLD,
            SOLD._replace(progress=((0, 1, 4, 0), (0, 2, 0, 0))),
            ((0, -4, -4), (0, 0, 0)),
        ),
        (
            "cancel",
            choose(),
            SOLD,
            SOLD._replace(state=CANCELLED, closed_by=CANCEL),
            ((0, -5, 0), (0, -2, 0)),
        ),
        (
            "cancel",
            choose((0, 5), (1, 1)),
            SOLD,
            SOLD._replace(progress=((0, 0, 0, 5), (0, 1, 0, 1))),
            ((0, -5, 0), (0, -1, 0)),
        ),
    ],
)
@pytest.mark.parametrize("operation", [bytes(12), OPERATION])
def test_a_step(
    books: Books,
    verb: str,
    own: bytes,
    before: Hold,
    after: Hold,
    deltas: tuple[tuple[int, int, int], ...],
    operation: bytes,
) -> None:
    """Its units go as those of any reservation, here on paper alone: cards and claims are its parts'
    business. Somebody is to tell them, or a sweeper does in five seconds. A repeat is answered as then.
    """
    number = STEPS[verb][0]
    books.seed(seq=6, epoch=3, stock=STOCK, operations={A: before})
    after = after._replace(changed=7, changed_epoch=3)
    due = {REPAIR}
    operations: dict[bytes, Operation] = {}
    if after.state > COMMITTED:
        after = after._replace(deadline_ms=LATER)
        due |= {OBLIVION}
    if operation == OPERATION:
        operations[OPERATION] = Memory(number, b"content1", A, after.tail)
        end = max(NOW, after.deadline_ms) if after.state == HELD else NOW
        due |= {(end + RETENTION_MS, "p", (OPERATION,))}
    if (LATER, "p", (OPERATION,)) in due and OBLIVION in due:
        due = due - {OBLIVION, (LATER, "p", (OPERATION,))} | {(LATER, "p", (A, OPERATION))}
    operations[A] = after
    asked = resolve(verb, A, own, operation=operation)
    assert books.one(asked) == after.tail
    log = [(7, [Resolved(number, A, after, deltas, operation=operation)])]
    books.expect(seq=7, epoch=3, stock=STOCK, operations=operations, due=due, log=log)
    if operation == OPERATION:
        assert books.one(asked) == [b"replayed", after.tail]
        books.expect(seq=7, epoch=3, stock=STOCK, operations=operations, due=due, log=log)


def test_who_does_not_know_the_record(books: Books) -> None:
    """Is given it, its blocks of zeros included."""
    books.seed(operations={A: TAKEN})
    after = TAKEN._replace(state=COMMITTED, held_end=COMMIT, changed=2)
    assert books.one(resolve("commit", A, committing(), known=UNKNOWN)) == [2, after.packed(A)]
    assert books.one(resolve("commit", A, committing(), known=UNKNOWN)) == [
        b"repeated",
        after.tail,
        after.packed(A),
    ]


def test_another_reference(books: Books) -> None:
    """What only the caller reads is replaced, between plan and blocks."""
    books.seed(operations={A: TAKEN})
    after = TAKEN._replace(
        state=COMMITTED,
        held_end=COMMIT,
        changed=2,
        revision=1,
        detail=b"another detail",
        first_detail=TAKEN.detail,
    )
    assert books.one(resolve("commit", A, committing(rest=b"another detail"))) == after.tail
    books.expect(
        seq=2,
        operations={A: after},
        due={REPAIR},
        log=[(2, [Resolved(COMMIT, A, after, ((-5, 5, 0), (-2, 2, 0)), rest=b"another detail")])],
    )


def test_an_extension_tells_nobody(books: Books) -> None:
    """It moves no units."""
    books.seed(stock=STOCK, operations={A: TAKEN})
    after = TAKEN._replace(changed=2, deadline_ms=NOW + 90_000)
    assert books.one(resolve("extend", A, extending(90_000))) == after.tail
    books.expect(
        seq=2,
        stock=STOCK,
        operations={A: after},
        due={(NOW + 90_000, "h", (A,))},
        log=[(2, [Resolved(EXTEND, A, after)])],
    )


def test_steps_of_one_call(books: Books) -> None:
    """Each sees those before it, beside a reservation of this partition; one repair is filed."""
    own = Hold((("shoe", "W", 1),))
    books.seed(stock={"shoe": Card({"W": Position(10, 6)}, (part_name(A), B))}, operations={A: TAKEN, B: own})
    one = TAKEN._replace(changed=2, progress=((5, 0, 0, 0), (0, 0, 0, 2)))
    two = own._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=3, deadline_ms=LATER)
    three = TAKEN._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=4, deadline_ms=LATER)
    assert books.batch(
        resolve("release", A, choose((1, 2))),
        resolve("release", B),
        resolve("release", A),
        resolve("release", A),
        resolve("release", A, choose((0, 1))),
    ) == [one.tail, two.tail, three.tail, [b"repeated", three.tail], [b"already_released", 4]]
    books.expect(
        seq=4,
        stock={"shoe": Card({"W": Position(10, 5)}, (part_name(A),))},
        operations={A: three, B: two},
        due={REPAIR, (LATER, "p", (B, A))},
        log=[
            (
                4,
                [
                    Resolved(RELEASE, A, one, ((0, 0, 0), (-2, 0, 0))),
                    Resolved(RELEASE, B, two),
                    Resolved(RELEASE, A, three, ((-5, 0, 0), (0, 0, 0))),
                ],
            )
        ],
    )


@pytest.mark.parametrize(
    ("verb", "own", "before", "word"),
    [
        ("commit", committing((0, 6)), TAKEN, [b"exceeds_open_quantity", 1, 0, 5]),
        ("release", choose((1, 3)), TAKEN, [b"exceeds_open_quantity", 1, 1, 2]),
        ("release", choose((2, 1)), TAKEN, [b"stale"]),
        ("release", choose((0, 1)), TAKEN._replace(revision=3), [b"stale"]),
        ("fulfil", choose(), TAKEN, [b"not_committed", 1]),
        ("cancel", choose(), TAKEN, [b"not_committed", 1]),
        ("release", choose(), SOLD, [b"already_committed", 1]),
        ("commit", committing(), TAKEN._replace(state=RELEASED, held_end=RELEASE), [b"already_released", 1]),
        ("extend", extending(5), TAKEN._replace(state=CANCELLED), [b"already_cancelled", 1]),
        ("commit", committing(), TAKEN._replace(state=EXPIRED, held_end=EXPIRE), [b"reservation_expired", 1]),
    ],
)
def test_a_refusal(books: Books, verb: str, own: bytes, before: Hold, word: list[bytes | int]) -> None:
    """As for any reservation."""
    books.seed(stock=STOCK, operations={A: before})
    assert books.one(resolve(verb, A, own)) == word
    books.expect(stock=STOCK, operations={A: before})


def test_it_cannot_be_retaken(books: Books) -> None:
    """What lapsed is gone, though all of it is still there: only its partitions know that."""
    before = TAKEN._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE)
    stock = {"shoe": Card({"W": Position(10)}), "hat": Card({"S": Position(2)})}
    books.seed(stock=stock, operations={A: before})
    assert books.one(resolve("commit", A, committing(retake=1))) == [b"reservation_expired", 1]
    books.expect(stock=stock, operations={A: before})


@pytest.mark.parametrize("state", [PENDING, ABANDONED])
@pytest.mark.parametrize("verb", STEPS)
@pytest.mark.parametrize("operation", [bytes(12), OPERATION])
def test_what_was_never_held(books: Books, state: int, verb: str, operation: bytes) -> None:
    """No caller has been told of it: there is no such reservation."""
    before = basket(LINES, state)
    books.seed(stock=STOCK, operations={A: before})
    asked = resolve(verb, A, STEPS[verb][1], operation=operation)
    assert books.one(asked) == [b"reservation_not_found", 1]
    books.expect(stock=STOCK, operations={A: before})


def test_an_operation_id_that_is_taken(books: Books) -> None:
    """By a basket, or bound to the content of something elsewhere."""
    operations: dict[bytes, Operation] = {A: TAKEN, B: TAKEN, C: Bound()}
    books.seed(operations=operations)
    for other in (B, C):
        asked = resolve("commit", A, committing(), operation=other, fingerprint=b"content1")
        assert books.one(asked) == [b"idempotency_mismatch"]
    books.expect(operations=operations)


# -------------------------------------------------------------------- lapsing

DUE = TAKEN._replace(deadline_ms=NOW)
SOUGHT = basket(LINES)._replace(deadline_ms=NOW)
BACK = ((-5, 0, 0), (-2, 0, 0))


def lapsed(seq: int, before: Hold = DUE) -> Hold:
    """A held basket after it was given back."""
    return before._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=seq, deadline_ms=LATER)


def dropped(seq: int, before: Hold = SOUGHT) -> Hold:
    """A pending basket after it was given up."""
    return before._replace(state=ABANDONED, closed_by=ABANDON, changed=seq, deadline_ms=NOW + ABANDONED_MS)


def test_baskets_lapse(books: Books) -> None:
    """A held one lapses, a pending one is abandoned and does not count; nobody but a sweeper knows, so
    there is something to repair at once. Holds of this partition between them find their own cards.
    """
    own = Hold((("shoe", "W", 1),), deadline_ms=NOW)
    books.seed(
        seq=6,
        epoch=3,
        stock={"shoe": Card({"W": Position(10, 6)}, (part_name(A), C))},
        operations={A: DUE, B: SOUGHT, C: own},
        due={(NOW, "h", (A, B)), (NOW, "h", (C,))},
    )
    one, two = (hold._replace(changed_epoch=3) for hold in (lapsed(7), dropped(8)))
    three = own._replace(
        state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=9, changed_epoch=3, deadline_ms=LATER
    )
    assert books.batch(expire(8), expire(8)) == [[2, 0, 1], [0, 0, 0]]
    books.expect(
        seq=9,
        epoch=3,
        stock={"shoe": Card({"W": Position(10, 5)}, (part_name(A),))},
        operations={A: one, B: two, C: three},
        due={
            (NOW, "r", (A,)),
            (NOW, "r", (B,)),
            (LATER, "p", (A, C)),
            (NOW + ABANDONED_MS, "p", (B,)),
        },
        log=[
            (9, [Resolved(EXPIRE, A, one, BACK), Resolved(ABANDON, B, two, BACK), Resolved(EXPIRE, C, three)])
        ],
    )


def test_an_abandoned_basket_is_not_counted(books: Books) -> None:
    """Nothing came back here; but a sweeper has to tell its parts."""
    books.seed(operations={B: SOUGHT}, due={(NOW, "h", (B,))})
    assert books.one(expire(8)) == [0, 0, 1]
    books.expect(
        seq=2,
        operations={B: dropped(2)},
        due={(NOW, "r", (B,)), (NOW + ABANDONED_MS, "p", (B,))},
        log=[(2, [Resolved(ABANDON, B, dropped(2), BACK)])],
    )


def test_only_what_is_held_lapses(books: Books) -> None:
    """Committed units of a basket stay committed."""
    before = DUE._replace(progress=((2, 3, 0, 0), (0, 0, 0, 2)))
    books.seed(operations={A: before}, due={(NOW, "h", (A,))})
    after = before._replace(
        state=COMMITTED, held_end=EXPIRE, changed=2, progress=((0, 3, 0, 0), (0, 0, 0, 2))
    )
    assert books.one(expire(8)) == [1, 0, 1]
    books.expect(
        seq=2,
        operations={A: after},
        due={(NOW, "r", (A,))},
        log=[(2, [Resolved(EXPIRE, A, after, ((-2, 0, 0), (0, 0, 0)))])],
    )


def test_what_is_not_due_is_passed_over(books: Books) -> None:
    """Extended, sought anew, decided, over, or a part, which has no deadline of its own."""
    operations = {
        A: DUE._replace(deadline_ms=NOW + 1),
        B: SOUGHT._replace(deadline_ms=NOW + 1),
        C: DUE._replace(state=COMMITTED),
        name(4): DUE._replace(state=ABANDONED),
        name(5): part((("shoe", "W", 5),))._replace(deadline_ms=NOW),
    }
    books.seed(stock=STOCK, operations=operations, due={(NOW, "h", tuple(operations))})
    assert books.one(expire(8)) == [0, 0, 0]
    books.expect(stock=STOCK, operations=operations)


@pytest.mark.parametrize(
    ("when", "told"), [(NOW - 1, 1), (NOW, 1), (NOW + 1, 0), (NOW + 60_000, 0), (NOW + 60_001, 1)]
)
def test_expire_tells_of_repairs(books: Books, when: int, told: int) -> None:
    """Whether any is due, or was filed while the clock was ahead: whoever sweeps need not ask in vain. What
    others filed lies before and behind.
    """
    others = {(NOW + 1, "h", (A,)), (NOW + 1, "p", (A,))}
    books.seed(operations={A: TAKEN}, due={(when, "r", (A,))} | others)
    assert books.one(expire(8)) == [0, 0, told]
    books.expect(operations={A: TAKEN}, due={(when, "r", (A,))} | others)


def test_memories_are_no_repairs(books: Books) -> None:
    """Not even the last that there could be."""
    books.seed(due={(NOW, "p", (A,)), (2**50 - 1, "p", (B,))})
    assert books.one(expire(8)) == [0, 0, 0]


def test_very_long_baskets(books: Books) -> None:
    """A call gives back so many lines and no more; those of baskets count."""
    hold = basket(tuple((f"sku-{line}", "W", 1) for line in range(200)), HELD)._replace(deadline_ms=NOW)
    names = [name(number) for number in range(12)]
    books.seed(
        operations=dict.fromkeys(names, hold),
        due={(NOW - 20 + at, "h", (each,)) for at, each in enumerate(names)},
    )
    assert books.one(expire(50)) == [11, 1, 1]
    assert books.one(expire(50)) == [1, 0, 1]


def test_a_reserve_makes_room(books: Books) -> None:
    """Baskets that are due go with the holds; they make no room here, and a reserve is refused after all."""
    shoe = Hold((("shoe", "W", 6),))
    books.seed(
        stock={"shoe": Card({"W": Position(10, 5)}, (part_name(A),))},
        operations={A: DUE, B: SOUGHT},
        due={(NOW, "h", (B, A))},
    )
    one, two = dropped(2), lapsed(3)
    assert books.batch(reserve(C, shoe), reserve(C, shoe)) == [[b"insufficient_stock", 3, 0, 5, 6]] * 2
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(10, 5)}, (part_name(A),))},
        operations={A: two, B: one},
        due={(NOW, "r", (A,)), (NOW, "r", (B,)), (LATER, "p", (A,)), (NOW + ABANDONED_MS, "p", (B,))},
        log=[(3, [Resolved(ABANDON, B, one, BACK), Resolved(EXPIRE, A, two, BACK)])],
    )


def test_a_reserve_that_finds_room(books: Books) -> None:
    """What the baskets' parts hold is theirs until they are told; the holds beside them make room."""
    own = Hold((("shoe", "W", 5),), deadline_ms=NOW)
    books.seed(
        stock={"shoe": Card({"W": Position(10, 10)}, (part_name(A), C))},
        operations={B: SOUGHT, C: own},
        due={(NOW, "h", (B, C))},
    )
    made = Hold((("shoe", "W", 5),), created=4, changed=4, created_ms=NOW)
    over = own._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=3, deadline_ms=LATER)
    one = dropped(2)
    assert books.one(reserve(name(4), made)) == 4
    books.expect(
        seq=4,
        stock={"shoe": Card({"W": Position(10, 10)}, (part_name(A), name(4)))},
        operations={B: one, C: over, name(4): made},
        due={
            (NOW, "r", (B,)),
            (NOW + ABANDONED_MS, "p", (B,)),
            (LATER, "p", (C,)),
            (made.deadline_ms, "h", (name(4),)),
        },
        log=[(4, [Resolved(ABANDON, B, one, BACK), Resolved(EXPIRE, C, over), Reserved(name(4), made)])],
    )


# -------------------------------------------------------------------- oblivion


@pytest.mark.parametrize(
    ("before", "is_gone"),
    [
        (basket(LINES, ABANDONED), True),
        (basket(LINES, RELEASED), True),
        (basket(LINES, PENDING), False),
        (basket(LINES, HELD), False),
        (basket(LINES, COMMITTED), False),
        (part(LINES, state=RELEASED), True),
        (part(LINES, state=FULFILLED), True),
        (part(LINES, state=HELD), False),
        (part(LINES, state=COMMITTED), False),
    ],
)
@pytest.mark.parametrize("later", [0, 1])
def test_what_is_over_is_forgotten(books: Books, before: Hold, is_gone: bool, later: int) -> None:
    """When its own time has come, and not what began anew under its id."""
    before = before._replace(deadline_ms=NOW + later)
    books.seed(operations={A: before}, due={(NOW, "p", (A,))})
    gone = is_gone and not later
    assert books.one(forget(8)) == [int(gone), 0]
    books.expect(operations={} if gone else {A: before})


@pytest.mark.parametrize("state", [FULFILLED, RELEASED, ABANDONED])
def test_a_basket_whose_parts_were_not_told(books: Books, state: int) -> None:
    """It is kept until they were, however long that takes: a part that found it gone would give its units
    back, whatever became of them. Another one's repair is no reason.
    """
    before = basket(LINES, state)._replace(deadline_ms=NOW)
    repair = (NOW + 3, "r", (A,))
    books.seed(operations={A: before, B: before}, due={(NOW, "p", (A, B)), repair, (NOW, "r", (C,))})
    assert books.one(forget(8)) == [1, 0]
    again = NOW + REPAIR_MS
    books.expect(operations={A: before}, due={(again, "p", (A,)), repair, (NOW, "r", (C,))})
    books.turn_clock(again - 1)
    assert books.one(forget(8)) == [0, 0]
    books.turn_clock(again)
    assert books.one(forget(8)) == [0, 0]
    books.expect(operations={A: before}, due={(again + REPAIR_MS, "p", (A,)), repair, (NOW, "r", (C,))})
    books.turn_clock(again + REPAIR_MS)
    assert books.one(settle(A, (1, 1))) == 1
    assert books.one(forget(8)) == [1, 0]
    books.expect(due={(NOW, "r", (C,))})


def test_a_part_that_is_over_waits_for_nobody(books: Books) -> None:
    """It was told; what is over in one partition alone has nobody to tell."""
    operations = {
        A: part(LINES, state=RELEASED)._replace(deadline_ms=NOW),
        B: Hold(LINES, RELEASED, deadline_ms=NOW),
    }
    repairs = {(NOW, "r", (A,)), (NOW, "r", (B,))}
    books.seed(operations=operations, due={(NOW, "p", (A, B))} | repairs)
    assert books.one(forget(8)) == [2, 0]
    books.expect(due=repairs)


@pytest.mark.parametrize(
    ("until", "is_gone"), [(NOW - 1, True), (NOW, True), (NOW + 1, False), (NOW + 99, False)]
)
def test_bound_ids_are_forgotten(books: Books, until: int, is_gone: bool) -> None:
    """One that was asked for again has a later entry, and is kept for it."""
    books.seed(operations={A: Bound(until_ms=until)}, due={(NOW, "p", (A,)), (NOW + 99, "p", (A, A))})
    assert books.one(forget(8)) == [int(is_gone), 0]
    books.expect(operations={} if is_gone else {A: Bound(until_ms=until)}, due={(NOW + 99, "p", (A, A))})


@pytest.mark.parametrize(
    ("state", "deadline_ms", "until"),
    [
        (HELD, NOW + 9, NOW + 9),
        (HELD, NOW, NOW + 1),
        (PENDING, NOW + 9, None),
        (COMMITTED, NOW + 9, None),
        (RELEASED, NOW + 9, None),
    ],
)
def test_a_step_on_a_basket_that_is_held(
    books: Books, state: int, deadline_ms: int, until: int | None
) -> None:
    """While a hold lasts, a repeat of a step on it must not count again."""
    before = basket(LINES, state)._replace(deadline_ms=deadline_ms)
    memory = Memory(EXTEND, b"content1", A, before.tail)
    books.seed(operations={A: before, OPERATION: memory}, due={(NOW, "p", (OPERATION,))})
    assert books.one(forget(8)) == [int(until is None), 0]
    if until is None:
        books.expect(operations={A: before})
    else:
        books.expect(operations={A: before, OPERATION: memory}, due={(until, "p", (OPERATION,))})
