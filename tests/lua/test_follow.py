import pytest

from tests.lua.books import (
    CANCEL,
    CANCELLED,
    COMMITTED,
    EXPIRED,
    FOLLOW,
    FULFILLED,
    HELD,
    NOW,
    OFFERED,
    RELEASED,
    RETENTION_MS,
    Books,
    Bound,
    Card,
    Divided,
    Fact,
    Hold,
    Operation,
    Position,
    Replanned,
    Resolved,
    basket,
    follow,
    name,
    pack_version,
    page_of,
    part,
    part_name,
)

A, B, C = (name(number) for number in range(1, 4))
PA, PB = part_name(A), part_name(B)
LATER = NOW + RETENTION_MS
SHOE = (("shoe", "W", 5),)
TWO = (("hat", "S", 2), ("shoe", "W", 5))
LOOK = NOW + 30_000
BEFORE = part(TWO)._replace(deadline_ms=LOOK)
STOCK = {"hat": Card({"S": Position(2, 2)}, (PA,)), "shoe": Card({"W": Position(10, 5)}, (B, PA))}
SEEN = {(LOOK, "r", (PA,))}


def followed(
    version: tuple[int, int], state: int, *progress: tuple[int, int, int, int], before: Hold = BEFORE
) -> Hold:
    """A part that this call, the first since the seed, brought to a version of its basket."""
    after = before._replace(state=state, changed=2, detail=pack_version(version), progress=progress)
    if state > HELD:
        after = after._replace(held_end=FOLLOW)
    if state > COMMITTED:
        after = after._replace(closed_by=FOLLOW, deadline_ms=LATER)
    return after


@pytest.mark.parametrize(
    ("units", "state", "progress", "hat", "shoe", "deltas"),
    [
        # Committed as a whole, then what else may have become of it by the time it is told.
        (
            ((0, 2, 0, 0), (0, 5, 0, 0)),
            COMMITTED,
            (),
            Position(2, 0, 2),
            Position(10, 0, 5),
            ((-2, 2, 0), (-5, 5, 0)),
        ),
        (((0, 0, 2, 0), (0, 0, 5, 0)), FULFILLED, (), Position(), Position(5), ((-2, 0, -2), (-5, 0, -5))),
        (((0, 0, 0, 2), (0, 0, 0, 5)), RELEASED, (), Position(2), Position(10), ((-2, 0, 0), (-5, 0, 0))),
        # It lapsed, or it never was: units in no column.
        (
            ((0, 0, 0, 0), (0, 0, 0, 0)),
            RELEASED,
            ((0, 0, 0, 0), (0, 0, 0, 0)),
            Position(2),
            Position(10),
            ((-2, 0, 0), (-5, 0, 0)),
        ),
        # Partly this, partly that; of the hat nothing moves in the last but one, of the shoe in the last.
        (
            ((1, 1, 0, 0), (1, 1, 2, 1)),
            HELD,
            ((1, 1, 0, 0), (1, 1, 2, 1)),
            Position(2, 1, 1),
            Position(8, 1, 1),
            ((-1, 1, 0), (-4, 1, -2)),
        ),
        (
            ((0, 0, 1, 1), (0, 1, 0, 4)),
            COMMITTED,
            ((0, 0, 1, 1), (0, 1, 0, 4)),
            Position(1),
            Position(10, 0, 1),
            ((-2, 0, -1), (-5, 1, 0)),
        ),
        (
            ((2, 0, 0, 0), (0, 0, 0, 5)),
            HELD,
            ((2, 0, 0, 0), (0, 0, 0, 5)),
            Position(2, 2),
            Position(10),
            ((0, 0, 0), (-5, 0, 0)),
        ),
        (
            ((0, 0, 2, 0), (5, 0, 0, 0)),
            HELD,
            ((0, 0, 2, 0), (5, 0, 0, 0)),
            Position(),
            Position(10, 5),
            ((-2, 0, -2), (0, 0, 0)),
        ),
    ],
)
def test_where_its_basket_is(
    books: Books,
    units: tuple[tuple[int, int, int, int], ...],
    state: int,
    progress: tuple[tuple[int, int, int, int], ...],
    hat: Position,
    shoe: Position,
    deltas: tuple[tuple[int, int, int], ...],
) -> None:
    """Counters move by the difference; a card without an open unit loses the claim; the part knows how far
    it has followed. Somebody has told it: no sweeper needs to ask for it any more. What is over is filed.
    """
    books.seed(stock=STOCK, operations={PA: BEFORE}, due=SEEN | {(LOOK, "r", (PB,))})
    after = followed((1, 9), state, *progress)
    assert books.one(follow(PA, (1, 9), TWO, *units)) == 2
    books.expect(
        seq=2,
        stock={
            "hat": Card({"S": hat}, (PA,) if hat.held + hat.allocated else ()),
            "shoe": Card({"W": shoe}, (B, PA) if shoe.held + shoe.allocated else (B,)),
        },
        operations={PA: after},
        due={(LOOK, "r", (PB,))} | ({(LATER, "p", (PA,))} if state > COMMITTED else set()),
        log=[(2, [Resolved(FOLLOW, PA, after, deltas, rest=pack_version((1, 9)))])],
    )


def test_step_after_step(books: Books) -> None:
    """Held, committed, sent, and what is left cancelled; in an epoch of its own, of which the basket's
    versions know nothing.
    """
    before = part(SHOE, (2, 5))._replace(of="coat", blocks=(7,))
    books.seed(
        seq=6, epoch=3, stock={"shoe": Card({"W": Position(10, 5)}, (PA,), 7)}, operations={PA: before}
    )
    rows = ((0, 5, 0, 0), (0, 2, 3, 0), (0, 0, 3, 2))
    answers = books.batch(*(follow(PA, (2, 9 + at), SHOE, row) for at, row in enumerate(rows)))
    assert answers == [7, 8, 9]
    one = before._replace(
        state=COMMITTED, held_end=FOLLOW, changed=7, changed_epoch=3, detail=pack_version((2, 9))
    )
    two = one._replace(changed=8, detail=pack_version((2, 10)), progress=rows[1:2])
    three = two._replace(
        state=FULFILLED,
        closed_by=FOLLOW,
        changed=9,
        detail=pack_version((2, 11)),
        progress=rows[2:],
        deadline_ms=LATER,
    )
    deltas = ((-5, 5, 0),), ((0, -3, -3),), ((0, -2, 0),)
    books.expect(
        seq=9,
        epoch=3,
        stock={"shoe": Card({"W": Position(7)}, (), 7)},
        operations={PA: three},
        due={(LATER, "p", (PA,))},
        log=[
            (
                9,
                [
                    Resolved(FOLLOW, PA, hold, each, rest=hold.detail)
                    for hold, each in zip((one, two, three), deltas, strict=True)
                ],
            )
        ],
    )


@pytest.mark.parametrize(
    ("had", "told", "has"),
    [
        # Given back, and told as held or committed.
        ((0, 1, 0, 4), (2, 1, 0, 2), (0, 1, 0, 4)),
        ((2, 0, 0, 3), (0, 4, 0, 1), (0, 2, 0, 3)),
        ((2, 0, 0, 3), (3, 1, 1, 0), (1, 0, 1, 3)),
        # Committed, and told as held.
        ((0, 4, 0, 1), (4, 0, 0, 1), (0, 4, 0, 1)),
        ((1, 3, 0, 1), (3, 1, 0, 1), (1, 3, 0, 1)),
        # Gone, and told as open; the rest follows.
        ((0, 1, 2, 2), (3, 0, 0, 2), (0, 1, 2, 2)),
        ((0, 1, 2, 2), (0, 1, 1, 3), (0, 0, 2, 3)),
        ((1, 1, 2, 1), (0, 0, 0, 5), (0, 0, 2, 3)),
        # Given back, and told as gone.
        ((1, 1, 0, 3), (0, 0, 5, 0), (0, 0, 2, 3)),
        # What lapsed is in no column.
        ((1, 1, 0, 0), (0, 3, 0, 0), (0, 2, 0, 1)),
        ((0, 1, 1, 0), (0, 2, 1, 0), (0, 1, 1, 1)),
        ((0, 1, 1, 3), (0, 0, 0, 0), (0, 0, 1, 3)),
    ],
)
def test_what_does_not_come_back(
    books: Books,
    had: tuple[int, int, int, int],
    told: tuple[int, int, int, int],
    has: tuple[int, int, int, int],
) -> None:
    """A basket that lost its newest steps tells of earlier ones. Units that the part gave up others may have.
    The part notes that it was told, though nothing may move, and is as it was.
    """
    before = part(SHOE)._replace(progress=(had,), state=HELD if had[0] else COMMITTED)
    if not had[0]:
        before = before._replace(held_end=FOLLOW)
    books.seed(stock={"shoe": Card({"W": Position(10, had[0], had[1])}, (PA,))}, operations={PA: before})
    assert books.one(follow(PA, (2, 3), SHOE, told)) == 2
    moved = [now - was for was, now in zip(had, has, strict=True)]
    is_open = has[0] + has[1] > 0
    stock = {"shoe": Card({"W": Position(10 - moved[2], has[0], has[1])}, (PA,) if is_open else ())}
    state = HELD if has[0] else COMMITTED if has[1] else FULFILLED if has[2] else RELEASED
    after = followed((2, 3), state, has, before=before)
    books.expect(
        seq=2,
        stock=stock,
        operations={PA: after},
        due=set() if is_open else {(LATER, "p", (PA,))},
        log=[(2, [Resolved(FOLLOW, PA, after, ((moved[0], moved[1], -moved[2]),), rest=after.detail)])],
    )


@pytest.mark.parametrize("version", [(1, 5), (1, 4), (0, 5), (0, 9)])
def test_it_has_followed_as_far(books: Books, version: tuple[int, int]) -> None:
    """An older version, late, and the same again change nothing; nor does a sweeper forget to look."""
    books.seed(stock=STOCK, operations={PA: BEFORE}, due=SEEN)
    assert books.one(follow(PA, version, TWO, (0, 0, 0, 2), (0, 0, 0, 5))) == [b"repeated"]
    books.expect(stock=STOCK, operations={PA: BEFORE}, due=SEEN)


@pytest.mark.parametrize("version", [(1, 6), (2, 5), (2, 1)])
def test_a_later_version(books: Books, version: tuple[int, int]) -> None:
    """By one step, or of another epoch."""
    books.seed(stock=STOCK, operations={PA: BEFORE}, due=SEEN)
    assert books.one(follow(PA, version, TWO, (0, 2, 0, 0), (0, 5, 0, 0))) == 2
    after = followed(version, COMMITTED)
    assert books.read()["inv:{0}:ops"] == {PA: after.packed(PA)}


def test_no_units_to_move(books: Books) -> None:
    """The step was one of other parts: no event, but somebody has told it."""
    books.seed(stock=STOCK, operations={PA: BEFORE}, due=SEEN)
    assert books.one(follow(PA, (1, 9), TWO, (2, 0, 0, 0), (5, 0, 0, 0))) == [b"repeated"]
    books.expect(stock=STOCK, operations={PA: BEFORE})


@pytest.mark.parametrize("state", [FULFILLED, RELEASED, EXPIRED, CANCELLED])
@pytest.mark.parametrize("units", [(0, 0, 0, 0), (5, 0, 0, 0), (0, 5, 0, 0), (0, 0, 5, 0)])
def test_a_part_that_is_over(books: Books, state: int, units: tuple[int, int, int, int]) -> None:
    """What it gave back does not come back, whatever it is told."""
    before = part(SHOE, (1, 5), state)
    stock = {"shoe": Card({"W": Position(10)})}
    books.seed(stock=stock, operations={PA: before}, due=SEEN)
    assert books.one(follow(PA, (1, 9), SHOE, units)) == [b"repeated"]
    books.expect(stock=stock, operations={PA: before})


@pytest.mark.parametrize("before", [None, Hold(TWO), basket(TWO, HELD), Fact(b"12345678", 1, 1, 1), Bound()])
def test_no_such_part(books: Books, before: Operation | None) -> None:
    """It was refused, or has been forgotten; its id is never that of anything else."""
    operations = {} if before is None else {PA: before}
    books.seed(stock=STOCK, operations=operations, due=SEEN)
    assert books.one(follow(PA, (1, 9), TWO, (0, 2, 0, 0), (0, 5, 0, 0))) == [b"missing"]
    books.expect(stock=STOCK, operations=operations, due=SEEN)


def test_no_line_is_left(books: Books) -> None:
    """The basket has nothing here any more: what is open is given back, what has left has left."""
    before = BEFORE._replace(progress=((1, 0, 1, 0), (0, 4, 0, 0)))
    stock = {"hat": Card({"S": Position(1, 1)}, (PA,)), "shoe": Card({"W": Position(9, 0, 4)}, (PA,))}
    books.seed(stock=stock, operations={PA: before}, due=SEEN)
    assert books.one(follow(PA, (1, 9))) == 2
    after = followed((1, 9), FULFILLED, (0, 0, 1, 1), (0, 0, 0, 4), before=before)
    books.expect(
        seq=2,
        stock={"hat": Card({"S": Position(1)}), "shoe": Card({"W": Position(9)})},
        operations={PA: after},
        due={(LATER, "p", (PA,))},
        log=[(2, [Resolved(FOLLOW, PA, after, ((-1, 0, 0), (0, -4, 0)), rest=after.detail)])],
    )


def test_lines_that_never_were_its_own(books: Books) -> None:
    """Of an attempt that came to nothing, for lines that nobody stocks: its own are given back."""
    books.seed(stock=STOCK, operations={PA: BEFORE}, due=SEEN)
    assert books.one(follow(PA, (1, 9), (("coat", "W", 1),), (0, 0, 0, 1))) == 2
    after = followed((1, 9), RELEASED, before=BEFORE)
    books.expect(
        seq=2,
        stock={"hat": Card({"S": Position(2)}), "shoe": Card({"W": Position(10)}, (B,))},
        operations={PA: after},
        due={(LATER, "p", (PA,))},
        log=[(2, [Resolved(FOLLOW, PA, after, ((-2, 0, 0), (-5, 0, 0)), rest=after.detail)])],
    )


def replanned(after: Hold, lines: tuple[tuple[str, str, int], ...]) -> Hold:
    """A part with other lines than at its beginning."""
    return after._replace(lines=lines, first_lines=TWO, first_detail=pack_version((1, 5)), revision=1)


def test_other_lines(books: Books) -> None:
    """It was offered the coat, and has it from now on; no hat any more, and fewer shoes. Its claims on what
    it keeps stay where they are.
    """
    offered = replanned(BEFORE, (*TWO, ("coat", "W", 3)))._replace(
        detail=pack_version((1, 8)) + OFFERED, blocks=(0, 4, 0)
    )
    stock = {
        **STOCK,
        "shoe": Card({"W": Position(10, 5)}, (PA,), 4),
        "coat": Card({"W": Position(3, 3)}, (PA,)),
    }
    books.seed(stock=stock, operations={PA: offered}, due=SEEN)
    lines = (("coat", "W", 3), ("shoe", "W", 4))
    assert books.one(follow(PA, (1, 9), lines, (3, 0, 0, 0), (4, 0, 0, 0))) == 2
    after = replanned(offered, lines)._replace(
        changed=2, revision=2, detail=pack_version((1, 9)), blocks=(0, 4)
    )
    books.expect(
        seq=2,
        stock={
            "hat": Card({"S": Position(2)}),
            "shoe": Card({"W": Position(10, 4)}, (PA,), 4),
            "coat": Card({"W": Position(3, 3)}, (PA,)),
        },
        operations={PA: after},
        log=[(2, [Replanned(PA, after)])],
    )


def test_what_has_left_of_other_lines(books: Books) -> None:
    """It missed several steps: other lines, a commit, and goods that left. Those leave in a step more."""
    offered = replanned(BEFORE, (*TWO, ("coat", "W", 3)))._replace(
        detail=pack_version((1, 8)) + OFFERED, progress=((2, 0, 0, 0), (2, 0, 3, 0), (3, 0, 0, 0))
    )
    stock = {**STOCK, "shoe": Card({"W": Position(7, 2)}, (PA,)), "coat": Card({"W": Position(3, 3)}, (PA,))}
    books.seed(stock=stock, operations={PA: offered}, due=SEEN)
    lines = (("shoe", "W", 5), ("coat", "W", 2))
    assert books.one(follow(PA, (1, 12), lines, (0, 1, 4, 0), (0, 0, 2, 0))) == 3
    first = replanned(offered, lines)._replace(
        changed=2,
        revision=2,
        state=COMMITTED,
        held_end=CANCEL,
        detail=pack_version((1, 12)),
        progress=((0, 2, 3, 0), (0, 2, 0, 0)),
    )
    after = first._replace(changed=3, progress=((0, 1, 4, 0), (0, 0, 2, 0)))
    books.expect(
        seq=3,
        stock={
            "hat": Card({"S": Position(2)}),
            "shoe": Card({"W": Position(6, 0, 1)}, (PA,)),
            "coat": Card({"W": Position(1)}),
        },
        operations={PA: after},
        log=[
            (
                3,
                [
                    Replanned(PA, first),
                    Resolved(FOLLOW, PA, after, ((0, -1, -1), (0, -2, -2)), rest=after.detail),
                ],
            )
        ],
    )


@pytest.mark.parametrize("lines", [TWO, ()])
def test_what_was_offered_is_given_back(books: Books, lines: tuple[tuple[str, str, int], ...]) -> None:
    """The change was given up, or the basket is over."""
    offered = replanned(BEFORE, (("hat", "S", 2), ("shoe", "W", 9)))._replace(
        detail=pack_version((1, 8)) + OFFERED
    )
    books.seed(
        stock={"hat": STOCK["hat"], "shoe": Card({"W": Position(10, 9)}, (B, PA))},
        operations={PA: offered},
        due=SEEN,
    )
    units = [(2, 0, 0, 0), (5, 0, 0, 0)] if lines else []
    assert books.one(follow(PA, (1, 9), lines, *units)) == 2
    after = replanned(offered, lines or offered.lines)._replace(
        changed=2, revision=2, detail=pack_version((1, 9))
    )
    if not lines:
        after = after._replace(state=CANCELLED, held_end=CANCEL, closed_by=CANCEL, deadline_ms=LATER)
    claims = (PA,) if lines else ()
    books.expect(
        seq=2,
        stock={
            "hat": Card({"S": Position(2, 2 if lines else 0)}, claims),
            "shoe": Card({"W": Position(10, 5 if lines else 0)}, (B, *claims)),
        },
        operations={PA: after},
        due=set() if lines else {(LATER, "p", (PA,))},
        log=[(2, [Replanned(PA, after)])],
    )


def test_requests_of_one_call(books: Books) -> None:
    """Each part finds its own lines, behind one that is not there, and sees what those before it did."""
    one, two = part(TWO)._replace(deadline_ms=LOOK), part(SHOE)._replace(deadline_ms=LOOK)
    books.seed(
        stock={"hat": Card({"S": Position(2, 2)}, (PA,)), "shoe": Card({"W": Position(10, 10)}, (PA, PB))},
        operations={PA: one, PB: two},
        due={(LOOK, "r", (PA,)), (LOOK, "r", (PB,))},
    )
    assert books.batch(
        follow(C, (1, 9), SHOE, (0, 0, 0, 0)),
        follow(PB, (1, 9), SHOE, (0, 0, 0, 5)),
        follow(PA, (1, 9), TWO, (0, 2, 0, 0), (0, 5, 0, 0)),
        follow(PB, (1, 9), SHOE, (0, 0, 0, 5)),
        follow(PA, (1, 8), TWO, (2, 0, 0, 0), (5, 0, 0, 0)),
    ) == [[b"missing"], 2, 3, [b"repeated"], [b"repeated"]]
    over = followed((1, 9), RELEASED, before=two)
    taken = followed((1, 9), COMMITTED, before=one)._replace(changed=3)
    books.expect(
        seq=3,
        stock={
            "hat": Card({"S": Position(2, 0, 2)}, (PA,)),
            "shoe": Card({"W": Position(10, 0, 5)}, (PA,)),
        },
        operations={PA: taken, PB: over},
        due={(LATER, "p", (PB,))},
        log=[
            (
                3,
                [
                    Resolved(FOLLOW, PB, over, ((-5, 0, 0),), rest=over.detail),
                    Resolved(FOLLOW, PA, taken, ((-2, 2, 0), (-5, 5, 0)), rest=taken.detail),
                ],
            )
        ],
    )


SHARED = (("shoe", "W", 5), ("hat", "W", 1), ("shoe", "S", 2))


@pytest.mark.parametrize(
    ("w", "s", "is_open"),
    [
        ((0, 0, 5, 0), (0, 0, 2, 0), False),
        ((0, 0, 0, 5), (0, 1, 1, 0), True),
        ((0, 5, 0, 0), (0, 0, 0, 2), True),
        ((5, 0, 0, 0), (0, 0, 2, 0), True),
        ((0, 0, 5, 0), (2, 0, 0, 0), True),
    ],
)
@pytest.mark.parametrize("block", [0, 1])
def test_two_positions_of_one_card(
    books: Books,
    w: tuple[int, int, int, int],
    s: tuple[int, int, int, int],
    is_open: bool,
    block: int,
) -> None:
    """They share one claim, which ends once, with the last open unit on the card; it may be in a block."""
    before = part(SHARED)._replace(blocks=(block, 0, block))
    claims = (B, PA, C)
    blocks = {0: claims} if block == 0 else {}
    books.seed(
        stock={
            "shoe": Card({"W": Position(9, 5), "S": Position(9, 2)}, () if blocks else claims, 1, 0, blocks),
            "hat": Card({"W": Position(1, 1)}, (PA,)),
        },
        operations={PA: before},
    )
    hat = (1, 0, 0, 0)
    assert books.one(follow(PA, (1, 9), SHARED, w, hat, s)) == 2
    after = followed((1, 9), HELD, w, hat, s, before=before)
    left = claims if is_open else (B, C)
    books.expect(
        seq=2,
        stock={
            "shoe": Card(
                {"W": Position(9 - w[2], w[0], w[1]), "S": Position(9 - s[2], s[0], s[1])},
                () if blocks else left,
                1,
                0,
                {0: left} if blocks else {},
            ),
            "hat": Card({"W": Position(1, 1)}, (PA,)),
        },
        operations={PA: after},
        log=[
            (
                2,
                [
                    Resolved(
                        FOLLOW,
                        PA,
                        after,
                        ((w[0] - 5, w[1], -w[2]), (0, 0, 0), (s[0] - 2, s[1], -s[2])),
                        rest=after.detail,
                    )
                ],
            )
        ],
    )


def test_a_divided_sku(books: Books) -> None:
    """Each page loses the claim with its own last unit."""
    w, s = page_of("W"), page_of("S")
    before = part((("shoe", "W", 5), ("shoe", "S", 2)))
    books.seed(
        stock={
            "shoe": Divided({w: Card({"W": Position(9, 5)}, (PA,)), s: Card({"S": Position(2, 2)}, (PA, B))})
        },
        operations={PA: before},
    )
    units = (0, 4, 1, 0), (0, 0, 2, 0)
    assert books.one(follow(PA, (1, 9), before.lines, *units)) == 2
    after = followed((1, 9), COMMITTED, *units, before=before)
    deltas = ((-5, 4, -1), (-2, 0, -2))
    books.expect(
        seq=2,
        stock={"shoe": Divided({w: Card({"W": Position(8, 0, 4)}, (PA,)), s: Card({"S": Position()}, (B,))})},
        operations={PA: after},
        log=[(2, [Resolved(FOLLOW, PA, after, deltas, rest=after.detail)])],
    )


def test_more_parts_than_one_command_takes(books: Books) -> None:
    """With 200 lines each, and an entry of the index of its own."""
    names = [part_name(name(number)) for number in range(6)]
    holds = {
        each: part(tuple((f"sku-{at}-{line}", "W", 2) for line in range(200)))
        for at, each in enumerate(names)
    }
    books.seed(
        stock={
            sku: Card({"W": Position(9, 2)}, (each,))
            for each, hold in holds.items()
            for sku, _, _ in hold.lines
        },
        operations=holds,
        due={(LOOK, "r", (each,)) for each in names},
    )
    assert books.batch(
        *(follow(each, (1, 9), holds[each].lines, *[(0, 0, 2, 0)] * 200) for each in names)
    ) == [*range(2, 8)]
    found = books.read()
    assert set(found["inv:{0}:stock"].values()) == {Card({"W": Position(7)}).packed}
    assert found["inv:{0}:due"] == [(b"p" + b"".join(names), LATER + 2**50)]
