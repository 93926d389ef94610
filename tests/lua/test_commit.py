import pytest

from tests.lua.books import (
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    FULFILLED,
    HELD,
    NOW,
    RETENTION_MS,
    UNKNOWN,
    Books,
    Card,
    Hold,
    Position,
    Resolved,
    committing,
    name,
    resolve,
)

A, B, C = name(1), name(2), name(3)
LATER = NOW + RETENTION_MS
LINES = (("shoe", "W", 5), ("hat", "S", 2))
BEFORE = Hold(LINES)
LAPSED = Hold(LINES, EXPIRED, EXPIRE, EXPIRE, deadline_ms=NOW + 5)
STOCK = {
    "shoe": Card({"W": Position(10, 6), "S": Position(1)}, (A, B)),
    "hat": Card({"S": Position(2, 2)}, (A,)),
}
COMMITTED_STOCK = {
    "shoe": Card({"W": Position(10, 1, 5), "S": Position(1)}, (A, B)),
    "hat": Card({"S": Position(2, 0, 2)}, (A,)),
}


def test_with_fulfil_the_goods_leave(books: Books) -> None:
    """on_hand falls at once, nothing stays open, the record is kept for the retention time."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    after = BEFORE._replace(state=FULFILLED, held_end=COMMIT, closed_by=COMMIT, changed=2, deadline_ms=LATER)
    assert books.one(resolve("commit", A, committing(fulfil=1))) == after.tail
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(5, 1), "S": Position(1)}, (B,)),
            "hat": Card({"S": Position(0)}),
        },
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Resolved(COMMIT, A, after)])],
    )


@pytest.mark.parametrize("fulfil", [0, 1])
def test_a_part_and_the_rest_goes_back(books: Books, fulfil: int) -> None:
    """Three of five shoes, no hats: what is not chosen is released, and its claim struck."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    rows = ((0, 0, 3, 2), (0, 0, 0, 2)) if fulfil else ((0, 3, 0, 2), (0, 0, 0, 2))
    after = BEFORE._replace(held_end=COMMIT, changed=2, progress=rows)
    if fulfil:
        after = after._replace(state=FULFILLED, closed_by=COMMIT, deadline_ms=LATER)
    else:
        after = after._replace(state=COMMITTED)
    assert books.one(resolve("commit", A, committing((0, 3), fulfil=fulfil))) == after.tail
    counters = Position(7, 1) if fulfil else Position(10, 1, 3)
    delta = (-5, 0, -3) if fulfil else (-5, 3, 0)
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": counters, "S": Position(1)}, (B,) if fulfil else (A, B)),
            "hat": Card({"S": Position(2)}),
        },
        operations={A: after},
        due={(LATER, "p", (A,))} if fulfil else set(),
        log=[(2, [Resolved(COMMIT, A, after, (delta, (-2, 0, 0)))])],
    )


@pytest.mark.parametrize("fulfil", [0, 1])
def test_a_part_and_the_rest_is_kept(books: Books, fulfil: int) -> None:
    """What is not chosen stays held, with its deadline; a position that gave nothing has no change."""
    books.seed(stock=STOCK, operations={A: BEFORE}, due={(NOW + 60_000, "h", (A,))})
    rows = ((2, 0, 3, 0), (2, 0, 0, 0)) if fulfil else ((2, 3, 0, 0), (2, 0, 0, 0))
    after = BEFORE._replace(state=HELD, changed=2, progress=rows)
    assert books.one(resolve("commit", A, committing((0, 3), fulfil=fulfil, keep=1))) == after.tail
    counters = Position(7, 3) if fulfil else Position(10, 3, 3)
    delta = (-3, 0, -3) if fulfil else (-3, 3, 0)
    books.expect(
        seq=2,
        stock=STOCK | {"shoe": Card({"W": counters, "S": Position(1)}, (A, B))},
        operations={A: after},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Resolved(COMMIT, A, after, (delta, (0, 0, 0)))])],
    )


def test_step_by_step_in_one_call(books: Books) -> None:
    """Two kept parts and the rest in one call end as one commit would, with three events."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    one = BEFORE._replace(changed=2, progress=((4, 1, 0, 0), (2, 0, 0, 0)))
    two = BEFORE._replace(changed=3, progress=((4, 1, 0, 0), (0, 2, 0, 0)))
    three = BEFORE._replace(state=COMMITTED, held_end=COMMIT, changed=4)
    asked = (committing((0, 1), keep=1), committing((1, 2), keep=1), committing())
    answers = books.batch(*(resolve("commit", A, each) for each in asked))
    assert answers == [one.tail, two.tail, three.tail]
    books.expect(
        seq=4,
        stock=COMMITTED_STOCK,
        operations={A: three},
        log=[
            (
                4,
                [
                    Resolved(COMMIT, A, one, ((-1, 1, 0), (0, 0, 0))),
                    Resolved(COMMIT, A, two, ((0, 0, 0), (-2, 2, 0))),
                    Resolved(COMMIT, A, three, ((-4, 4, 0), (0, 0, 0))),
                ],
            )
        ],
    )


def test_all_by_name(books: Books) -> None:
    """A commit that names all that is held ends as one that names nothing; its event tells each change."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    after = BEFORE._replace(state=COMMITTED, held_end=COMMIT, changed=2)
    assert books.one(resolve("commit", A, committing((1, 2), (0, 5)))) == after.tail
    books.expect(
        seq=2,
        stock=COMMITTED_STOCK,
        operations={A: after},
        log=[(2, [Resolved(COMMIT, A, after, ((-5, 5, 0), (-2, 2, 0)))])],
    )


def test_more_than_is_held(books: Books) -> None:
    """Every position that is asked for too much is named with what is open; equal is not too much."""
    before = Hold(LINES, progress=((2, 3, 0, 0), (0, 0, 2, 0)))
    books.seed(stock=STOCK, operations={A: before})
    asked = [
        resolve("commit", A, committing((0, 3), (1, 1))),
        resolve("commit", A, committing((0, 2), (1, 1))),
    ]
    word = b"exceeds_open_quantity"
    assert [books.one(each) for each in asked] == [[word, 1, 0, 2, 1, 0], [word, 1, 1, 0]]
    assert books.batch(*asked) == [[word, 1, 0, 2, 1, 0], [word, 1, 1, 0]]
    books.expect(stock=STOCK, operations={A: before})


def test_a_late_commit_of_a_hold_on_the_books(books: Books) -> None:
    """State decides, not the clock: a hold whose deadline has passed but that nobody swept is good."""
    books.seed(stock=STOCK, operations={A: BEFORE}, now_ms=NOW + 10**6, due={(NOW + 60_000, "h", (A,))})
    after = BEFORE._replace(state=COMMITTED, held_end=COMMIT, changed=2)
    assert books.one(resolve("commit", A, committing())) == after.tail
    books.expect(
        seq=2,
        stock=COMMITTED_STOCK,
        operations={A: after},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Resolved(COMMIT, A, after)])],
    )


LEFT = {"shoe": Card({"W": Position(10, 5)}, (B,), block=7, first=7), "hat": Card({"S": Position(2)})}


@pytest.mark.parametrize("fulfil", [0, 1])
def test_a_retake(books: Books, fulfil: int) -> None:
    """A lapsed reservation is committed where its stock is still there; its claims are the newest, and
    the record tells where they went. What has lapsed beside it delays nobody.
    """
    before = LAPSED._replace(blocks=(3, 0))
    books.seed(seq=6, stock=LEFT, operations={A: before}, due={(NOW, "h", (B,))})
    after = before._replace(state=COMMITTED, held_end=COMMIT, changed=7, blocks=(7, 0))
    if fulfil:
        after = after._replace(state=FULFILLED, closed_by=COMMIT, deadline_ms=LATER, blocks=(3, 0))
    assert books.one(resolve("commit", A, committing(fulfil=fulfil, retake=1))) == after.tail
    if fulfil:
        stock = {
            "shoe": LEFT["shoe"]._replace(positions={"W": Position(5, 5)}),
            "hat": Card({"S": Position()}),
        }
        deltas = ((0, 0, -5), (0, 0, -2))
    else:
        stock = {
            "shoe": LEFT["shoe"]._replace(positions={"W": Position(10, 5, 5)}, claims=(B, A)),
            "hat": Card({"S": Position(2, 0, 2)}, (A,)),
        }
        deltas = ((0, 5, 0), (0, 2, 0))
    books.expect(
        seq=7,
        stock=stock,
        operations={A: after},
        due={(NOW, "h", (B,))} | ({(LATER, "p", (A,))} if fulfil else set()),
        log=[(7, [Resolved(COMMIT, A, after, deltas)])],
    )


def test_a_retake_of_a_part(books: Books) -> None:
    """What was not chosen stays lapsed; what had been released cannot be taken again."""
    before = LAPSED._replace(progress=((0, 0, 0, 1), (0, 0, 0, 0)))
    books.seed(stock=LEFT, operations={A: before})
    asked = resolve("commit", A, committing((0, 5), retake=1))
    assert books.one(asked) == [b"exceeds_open_quantity", 1, 0, 4]
    after = before._replace(
        state=COMMITTED, held_end=COMMIT, changed=2, progress=((0, 4, 0, 1), (0, 0, 0, 0)), blocks=(7, 0)
    )
    assert books.one(resolve("commit", A, committing((0, 4), retake=1))) == after.tail
    books.expect(
        seq=2,
        stock=LEFT | {"shoe": LEFT["shoe"]._replace(positions={"W": Position(10, 5, 4)}, claims=(B, A))},
        operations={A: after},
        log=[(2, [Resolved(COMMIT, A, after, ((0, 4, 0), (0, 0, 0)))])],
    )


def test_a_retake_at_two_locations_of_one_sku(books: Books) -> None:
    """Two positions on one card: one claim, and both know its block, which is a new one."""
    others = tuple(name(100 + number) for number in range(16))
    before = Hold((("shoe", "W", 5), ("shoe", "S", 1)), EXPIRED, EXPIRE, EXPIRE, blocks=(4, 4))
    positions = {"W": Position(10), "S": Position(1)}
    books.seed(stock={"shoe": Card(positions, others, block=5, first=5)}, operations={A: before})
    after = before._replace(state=COMMITTED, held_end=COMMIT, changed=2, blocks=(6, 6))
    assert books.one(resolve("commit", A, committing(retake=1))) == after.tail
    taken = {"W": Position(10, 0, 5), "S": Position(1, 0, 1)}
    books.expect(
        seq=2,
        stock={"shoe": Card(taken, (A,), block=6, first=5, blocks={5: others})},
        operations={A: after},
        log=[(2, [Resolved(COMMIT, A, after, ((0, 5, 0), (0, 1, 0)))])],
    )


@pytest.mark.parametrize("due", [set(), {(NOW + 1, "h", (B,))}, {(NOW - 1, "p", (B,))}])
def test_a_retake_of_what_is_gone(books: Books, due: set[tuple[int, str, tuple[bytes, ...]]]) -> None:
    """Nothing is taken where one position is short; each that is short is named."""
    stock = {"shoe": Card({"W": Position(10, 6)}), "hat": Card({"S": Position(1, 1, backorder_limit=1)})}
    books.seed(stock=stock, operations={A: LAPSED}, due=due)
    answer = [b"insufficient_stock", 1, 0, 4, 5, 1, 0, 2]
    assert books.one(resolve("commit", A, committing(retake=1))) == answer
    books.expect(stock=stock, operations={A: LAPSED}, due=due)


def test_a_retake_of_a_line_beside_one_that_is_short(books: Books) -> None:
    """Only what is chosen must be there; a single unit, too."""
    stock = {"shoe": Card({"W": Position(10, 10)}), "hat": Card({"S": Position(1, 2)})}
    books.seed(stock=stock, operations={A: LAPSED})
    answers = [books.one(resolve("commit", A, committing((0, count), retake=1))) for count in (1, 2)]
    assert answers == [[b"insufficient_stock", 1, 0, 0, count] for count in (1, 2)]
    books.expect(stock=stock, operations={A: LAPSED})
    books.seed(stock=stock | {"shoe": Card({"W": Position(10, 9)})}, operations={A: LAPSED})
    assert isinstance(books.one(resolve("commit", A, committing((0, 1), retake=1))), bytes)


def test_a_retake_while_very_much_has_lapsed(books: Books) -> None:
    """More than one call gives back: it is to be tried again."""
    names = tuple(name(1000 + number) for number in range(514))
    one = Hold((("shoe", "W", 1),), deadline_ms=NOW - 1)
    holds = {each: one._replace(blocks=(at // 16,)) for at, each in enumerate(names)}
    blocks = {at: names[at * 16 : at * 16 + 16] for at in range(32)}
    shoe = Card({"W": Position(514, 514)}, names[512:], block=32, blocks=blocks)
    books.seed(
        stock={"shoe": shoe, "hat": Card({"S": Position(0)})},
        operations={A: LAPSED, **holds},
        due={(NOW - 2, "h", names[:500]), (NOW - 1, "h", names[500:512]), (NOW, "h", names[512:])},
    )
    assert books.one(resolve("commit", A, committing(retake=1))) == [b"overdue"]


def test_a_retake_of_what_others_let_lapse(books: Books) -> None:
    """What has lapsed is given back before a retake is refused, and then it may have enough; a hold that
    an earlier request of the call committed has not lapsed.
    """
    lapsing, kept = Hold((("shoe", "W", 6),), deadline_ms=NOW), Hold((("sock", "W", 1),), deadline_ms=NOW)
    books.seed(
        stock={
            "shoe": Card({"W": Position(10, 6)}, (B,)),
            "hat": Card({"S": Position(2)}),
            "sock": Card({"W": Position(1, 1)}, (C,)),
        },
        operations={A: LAPSED, B: lapsing, C: kept},
        due={(NOW, "h", (B, C))},
    )
    first = kept._replace(state=COMMITTED, held_end=COMMIT, changed=2)
    back = lapsing._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=3, deadline_ms=LATER)
    after = LAPSED._replace(state=COMMITTED, held_end=COMMIT, changed=4)
    answers = books.batch(resolve("commit", C, committing()), resolve("commit", A, committing(retake=1)))
    assert answers == [first.tail, after.tail]
    books.expect(
        seq=4,
        stock={
            "shoe": Card({"W": Position(10, 0, 5)}, (A,)),
            "hat": Card({"S": Position(2, 0, 2)}, (A,)),
            "sock": Card({"W": Position(1, 0, 1)}, (C,)),
        },
        operations={A: after, B: back, C: first},
        due={(LATER, "p", (B,))},
        log=[
            (
                4,
                [
                    Resolved(COMMIT, C, first),
                    Resolved(EXPIRE, B, back),
                    Resolved(COMMIT, A, after, ((0, 5, 0), (0, 2, 0))),
                ],
            )
        ],
    )


def test_a_retake_may_use_the_backorder_limit(books: Books) -> None:
    """As a reserve may; a reservation of one call sees what the one before it took."""
    line = (("shoe", "W", 5),)
    before = Hold(line, EXPIRED, EXPIRE, EXPIRE)
    books.seed(stock={"shoe": Card({"W": Position(4, backorder_limit=2)})}, operations={A: before, B: before})
    after = before._replace(state=COMMITTED, held_end=COMMIT, changed=2)
    asked = [resolve("commit", each, committing(retake=1)) for each in (A, B)]
    assert books.batch(*asked) == [after.tail, [b"insufficient_stock", 2, 0, -1, 5]]
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(4, 0, 5, backorder_limit=2)}, (A,))},
        operations={A: after, B: before},
        log=[(2, [Resolved(COMMIT, A, after, ((0, 5, 0),))])],
    )


@pytest.mark.parametrize(("before", "retake"), [(BEFORE, 0), (LAPSED, 1)])
@pytest.mark.parametrize("revision", [0, 65_534])
@pytest.mark.parametrize("chosen", [(), ((0, 5), (1, 2))])
def test_another_detail(
    books: Books, before: Hold, retake: int, revision: int, chosen: tuple[tuple[int, int], ...]
) -> None:
    """A commit may replace what only the caller reads: in the record, the event, and by the revision."""
    before = before._replace(revision=revision, detail=b"old", first_detail=b"older", blocks=(0, 2))
    held = 0 if retake else 5
    claims = () if retake else (A,)
    books.seed(
        stock={
            "shoe": Card({"W": Position(10, held)}, claims),
            "hat": Card({"S": Position(2, 0 if retake else 2)}, claims, 2, 2),
        },
        operations={A: before},
    )
    after = before._replace(
        state=COMMITTED, held_end=COMMIT, changed=2, revision=(revision + 1) % 65_535, detail=b"newer"
    )
    request = committing(*chosen, retake=retake, rest=b"newer")
    # Whoever knows the old one is told the new one.
    told = [b"repeated", after.tail, after.packed(A)]
    second = [b"already_committed", 2] if chosen else told
    asked = [resolve("commit", A, request, known=revision) for _ in range(2)]
    assert books.batch(*asked) == [after.tail, second]
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(10, 0, 5)}, (A,)),
            "hat": Card({"S": Position(2, 0, 2)}, (A,), 2, 2),
        },
        operations={A: after},
        log=[
            (
                2,
                [Resolved(COMMIT, A, after, ((-held, 5, 0), (0 if retake else -2, 2, 0)), rest=b"newer")],
            )
        ],
    )
    asked = [resolve("commit", A, committing(), known=each) for each in (revision, after.revision)]
    assert books.batch(*asked) == [told, [b"repeated", after.tail]]


@pytest.mark.parametrize("known", [1, 256, UNKNOWN])
@pytest.mark.parametrize("own", [committing((0, 1)), committing(rest=b"x"), committing((0, 1), retake=1)])
def test_choices_of_who_knows_an_older_detail(books: Books, known: int, own: bytes) -> None:
    """Lines and detail are chosen by what the caller has read: it reads again first."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    assert books.one(resolve("commit", A, own, known=known)) == [b"stale"]
    books.expect(stock=STOCK, operations={A: BEFORE})


def test_a_refused_commit_changes_no_detail(books: Books) -> None:
    """Nothing of a refused request stays, whatever it brought along."""
    books.seed(stock=STOCK, operations={A: BEFORE})
    request = resolve("commit", A, committing((0, 6), rest=b"newer"))
    assert books.one(request) == [b"exceeds_open_quantity", 1, 0, 5]
    books.expect(stock=STOCK, operations={A: BEFORE})
