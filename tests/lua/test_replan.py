"""Other lines for a reservation: what is stored before and after."""

import pytest

from tests.lua.books import (
    BASKET,
    CANCEL,
    CANCELLED,
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    FENCED_HERE,
    HELD,
    NOW,
    RELEASE,
    RELEASED,
    REPAIR_MS,
    REPLAN,
    RETENTION_MS,
    Books,
    Card,
    Fence,
    Fences,
    Hold,
    Memory,
    Position,
    Replanned,
    Resolved,
    basket,
    choose,
    fence_field,
    name,
    pack_terms,
    place_of,
    replan,
    resolve,
)

A, B, X, OPERATION = name(1), name(2), name(3), name(9)
LATER = NOW + RETENTION_MS
BEFORE = Hold((("shoe", "W", 5), ("hat", "S", 2)))
HAT = Card({"S": Position(2, 2)}, (A,))
FIRST = {"first_detail": b"detail", "first_lines": BEFORE.lines}
AFTER = BEFORE._replace(revision=1, changed=2, detail=b"another", **FIRST)  # type: ignore[arg-type]


def shoe(west: Position, south: Position, *claims: bytes, **numbers: object) -> Card:
    """The shoes of two locations."""
    return Card({"W": west, "S": south}, claims, **numbers)  # type: ignore[arg-type]


def test_units_in_another_place(books: Books) -> None:
    """Two of five shoes are held elsewhere: the counters move, the claim of the card stays where it is."""
    books.seed(stock={"shoe": shoe(Position(9, 5), Position(2), X, A), "hat": HAT}, operations={A: BEFORE})
    after = AFTER._replace(lines=(("shoe", "W", 3), ("shoe", "S", 2), ("hat", "S", 2)), blocks=(0, 0, 0))
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={"shoe": shoe(Position(9, 3), Position(2, 2), X, A), "hat": HAT},
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )


def test_another_sku(books: Books) -> None:
    """The card on which nothing is open any more loses the claim, the new one gets it as its newest."""
    stock = {
        "shoe": shoe(Position(9, 5), Position(2), A, X),
        "hat": HAT,
        "coat": Card({"W": Position(4, 1)}, (X,), block=7),
    }
    books.seed(stock=stock, operations={A: BEFORE})
    after = AFTER._replace(lines=(("hat", "S", 2), ("coat", "W", 3)), blocks=(0, 7))
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={
            "shoe": shoe(Position(9), Position(2), X),
            "hat": HAT,
            "coat": Card({"W": Position(4, 4)}, (X, A), block=7),
        },
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )


def test_committed_and_fulfilled_units(books: Books) -> None:
    """Units keep their state in the other place; what has left stays where it left, without a claim."""
    before = BEFORE._replace(
        state=COMMITTED, held_end=COMMIT, progress=((0, 3, 2, 0), (0, 2, 0, 0)), blocks=(4, 5)
    )
    stock = {
        "shoe": Card({"W": Position(7, 0, 3)}, (X,), block=9, first=4, blocks={4: (A,)}),
        "hat": Card({"S": Position(2, 0, 2), "N": Position(1)}, (A,), block=5, first=5),
    }
    books.seed(stock=stock, operations={A: before})
    after = AFTER._replace(
        lines=(("shoe", "W", 2), ("hat", "S", 1), ("hat", "N", 1)),
        state=COMMITTED,
        held_end=COMMIT,
        progress=((0, 0, 2, 0), (0, 1, 0, 0), (0, 1, 0, 0)),
        blocks=(4, 5, 5),
    )
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(7)}, (X,), block=9, first=9),
            "hat": Card({"S": Position(2, 0, 1), "N": Position(1, 0, 1)}, (A,), block=5, first=5),
        },
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )


def test_nothing_is_left(books: Books) -> None:
    """Where the last committed units are given back the reservation is cancelled, and forgotten in time."""
    before = BEFORE._replace(state=COMMITTED, held_end=COMMIT)
    stock = {"shoe": Card({"W": Position(9, 0, 5)}, (A,)), "hat": Card({"S": Position(2, 0, 2)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = AFTER._replace(state=CANCELLED, held_end=COMMIT, closed_by=CANCEL, deadline_ms=LATER)
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(9)}), "hat": Card({"S": Position(2)})},
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Replanned(A, after)])],
    )


def test_what_was_not_found(books: Books) -> None:
    """The positions that lose committed units are to be counted, since now; no others."""
    before = BEFORE._replace(state=COMMITTED, held_end=COMMIT)
    stock = {"shoe": Card({"W": Position(9, 0, 5)}, (A,)), "hat": Card({"S": Position(2, 0, 2)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = AFTER._replace(state=COMMITTED, held_end=COMMIT, progress=((0, 5, 0, 0), (0, 1, 0, 1)))
    assert books.one(replan(A, after, is_short=True)) == after.tail
    books.expect(
        seq=2,
        stock={**stock, "hat": Card({"S": Position(2, 0, 1)}, (A,))},
        operations={A: after},
        to_count={("hat", "S"): NOW},
        log=[(2, [Replanned(A, after)])],
    )


def test_what_was_not_found_of_the_first_line(books: Books) -> None:
    """Each line is looked at."""
    before = BEFORE._replace(state=COMMITTED, held_end=COMMIT)
    stock = {"shoe": Card({"W": Position(9, 0, 5)}, (A,)), "hat": Card({"S": Position(2, 0, 2)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = AFTER._replace(state=COMMITTED, held_end=COMMIT, progress=((0, 4, 0, 1), (0, 1, 0, 1)))
    assert books.one(replan(A, after, is_short=True)) == after.tail
    assert books.read()[books.key("wanted")] == {
        place_of(place) + sku: NOW.to_bytes(6, "little") for sku, place in ((b"shoe", "W"), (b"hat", "S"))
    }


def test_units_come_back_to_a_card_that_they_left(books: Books) -> None:
    """All that was there is fulfilled: the claim went with it, and comes anew."""
    before = BEFORE._replace(state=COMMITTED, held_end=COMMIT, progress=((0, 0, 5, 0), (0, 2, 0, 0)))
    stock = {"shoe": shoe(Position(9), Position(2), X), "hat": Card({"S": Position(2, 0, 2)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = AFTER._replace(
        lines=(("shoe", "W", 5), ("hat", "S", 1), ("shoe", "S", 1)),
        state=COMMITTED,
        held_end=COMMIT,
        progress=((0, 0, 5, 0), (0, 1, 0, 0), (0, 1, 0, 0)),
        blocks=(0, 0, 0),
    )
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={
            "shoe": shoe(Position(9), Position(2, 0, 1), X, A),
            "hat": Card({"S": Position(2, 0, 1)}, (A,)),
        },
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )


def test_very_much_has_lapsed(books: Books) -> None:
    """More than one call gives back: who is short is told to repeat, who names what is not there is not."""
    names = tuple(name(1000 + number) for number in range(514))
    one = Hold((("coat", "W", 1),), deadline_ms=NOW - 1)
    holds = {each: one._replace(blocks=(at // 16,)) for at, each in enumerate(names)}
    blocks = {at: names[at * 16 : at * 16 + 16] for at in range(32)}
    coat = Card({"W": Position(514, 514)}, names[512:], block=32, blocks=blocks)
    books.seed(
        stock={"shoe": Card({"W": Position(5, 5)}, (A,)), "hat": HAT, "coat": coat},
        operations={A: BEFORE, **holds},
        due={(NOW - 2, "h", names[:500]), (NOW - 1, "h", names[500:512]), (NOW, "h", names[512:])},
    )
    gone = AFTER._replace(lines=(("shoe", "N", 1), ("hat", "S", 2)))
    more = AFTER._replace(lines=(("shoe", "W", 6), ("hat", "S", 2)))
    assert books.batch(replan(A, more), replan(A, gone)) == [[b"overdue"], [b"not_stocked", 513, 0]]


def test_only_the_part_of_the_caller(books: Books) -> None:
    """The same lines with another detail: nothing is counted, the revision tells of it."""
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    assert books.one(replan(A, AFTER)) == AFTER.tail
    books.expect(seq=2, stock=stock, operations={A: AFTER}, log=[(2, [Replanned(A, AFTER)])])


def test_what_does_not_fit(books: Books) -> None:
    """Nothing changes; each short line is told with all that it shall have, and what there is for it."""
    stock = {"shoe": shoe(Position(9, 8), Position(2, 2), A), "hat": Card({"S": Position(5, 4)}, (A,))}
    books.seed(stock=stock, operations={A: BEFORE})
    after = AFTER._replace(lines=(("hat", "S", 4), ("shoe", "S", 1), ("shoe", "W", 6)))
    assert books.one(replan(A, after)) == [b"insufficient_stock", 1, 0, 3, 4, 1, 0, 1]
    books.expect(stock=stock, operations={A: BEFORE})


@pytest.mark.parametrize(
    ("position", "asked", "available"),
    [
        (Position(9, 8, backorder_limit=2), 9, 6),
        (Position(0, 8, backorder_limit=2), 6, 3),
        (Position(9, 8), 7, 6),
    ],
)
def test_what_does_not_fit_on_back_order(
    books: Books, position: Position, asked: int, available: int
) -> None:
    """What is told leaves out units that may be ordered back, as everywhere, and never is less than that."""
    stock = {"shoe": Card({"W": position}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    after = AFTER._replace(lines=(("shoe", "W", asked), ("hat", "S", 2)))
    assert books.one(replan(A, after)) == [b"insufficient_stock", 1, 0, available, asked]
    books.expect(stock=stock, operations={A: BEFORE})


def test_a_line_that_is_missing_already(books: Books) -> None:
    """It may stay as it is while another one changes."""
    stock = {"shoe": shoe(Position(0, 5), Position(2), A), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    after = AFTER._replace(lines=(("shoe", "W", 5), ("hat", "S", 1)))
    assert books.one(replan(A, after)) == after.tail


def test_committed_units_need_room_as_well(books: Books) -> None:
    """In the place to which they go."""
    before = BEFORE._replace(state=COMMITTED, held_end=COMMIT)
    stock = {"shoe": shoe(Position(9, 0, 5), Position(2), A), "hat": Card({"S": Position(2, 0, 2)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = AFTER._replace(
        lines=(("shoe", "W", 2), ("shoe", "S", 3), ("hat", "S", 2)), state=COMMITTED, held_end=COMMIT
    )
    assert books.one(replan(A, after)) == [b"insufficient_stock", 1, 1, 2, 3]
    books.expect(stock=stock, operations={A: before})


def test_units_of_a_fence(books: Books) -> None:
    """What its channel may take a reservation may move to; a plain one may not."""
    fence = Fence("web", 3)
    for terms, word in ((pack_terms("web"), bytes), (pack_terms("app"), list), (b"", list)):
        before = Hold((("shoe", "W", 5),), detail=terms + b"detail")
        south = Position(3, fenced=3, flags=FENCED_HERE)
        books.seed(
            stock={
                "shoe": shoe(Position(9, 5), south, A),
                fence_field("shoe", "S"): Fences((fence,)),
            },
            operations={A: before},
        )
        after = before._replace(lines=(("shoe", "W", 2), ("shoe", "S", 3)), revision=1, changed=2)
        assert isinstance(books.one(replan(A, after)), word)
        left = Fence("web", 0, 3) if word is bytes else fence
        assert books.read()[books.key("stock")][fence_field("shoe", "S").encode()] == left.packed


def test_lines_that_float_from_now_on(books: Books) -> None:
    """And one that no longer does; a plain card gets room for what floats."""
    before = BEFORE._replace(detail=pack_terms("", ("p",), (0,)) + b"detail")
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": Card({"S": Position(2, 2, floating=2)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    after = before._replace(
        revision=1,
        changed=2,
        detail=pack_terms("", ("p",), (1,)) + b"detail",
        first_lines=before.lines,
        first_detail=before.detail,
    )
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(9, 5, floating=5)}, (A,)),
            "hat": Card({"S": Position(2, 2)}, (A,), form=2),
        },
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )


def test_what_nobody_stocks(books: Books) -> None:
    """A position that is not there is named; one of a SKU that is nowhere first of all."""
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    lines = (("hat", "S", 9), ("shoe", "S", 1))
    assert books.one(replan(A, AFTER._replace(lines=lines))) == [b"not_stocked", 1, 1]
    unknown = AFTER._replace(lines=(*lines, ("coat", "S", 1)))
    assert books.one(replan(A, unknown)) == [b"sku_not_found", 1, 2]
    books.expect(stock=stock, operations={A: BEFORE})


def test_what_has_lapsed_makes_room(books: Books) -> None:
    """Before a refusal, what has lapsed is given back."""
    lapsed = Hold((("shoe", "S", 2),), deadline_ms=NOW)
    stock = {"shoe": shoe(Position(9, 5), Position(2, 2), A, B), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE, B: lapsed}, due={(NOW, "h", (B,))})
    after = AFTER._replace(lines=(("shoe", "W", 3), ("shoe", "S", 2), ("hat", "S", 2)), changed=3)
    assert books.one(replan(A, after)) == after.tail
    gone = lapsed._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=2, deadline_ms=LATER)
    books.expect(
        seq=3,
        stock={"shoe": shoe(Position(9, 3), Position(2, 2), A), "hat": HAT},
        operations={A: after, B: gone},
        due={(LATER, "p", (B,))},
        log=[(3, [Resolved(EXPIRE, B, gone), Replanned(A, after)])],
    )


def test_it_has_lapsed_itself(books: Books) -> None:
    """Making room gives the reservation's own units back: then it is over."""
    before = BEFORE._replace(deadline_ms=NOW)
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: before}, due={(NOW, "h", (A,))})
    assert books.one(replan(A, AFTER._replace(lines=(("hat", "S", 3),)))) == [b"reservation_expired", 2]


@pytest.mark.parametrize("version", [(1, 2), (2, 1), (0, 0)])
def test_another_version(books: Books, version: tuple[int, int]) -> None:
    """Who worked from another state of the record is told to read it again."""
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    assert books.one(replan(A, AFTER, version=version)) == [b"stale"]
    books.expect(stock=stock, operations={A: BEFORE})


@pytest.mark.parametrize(
    ("state", "ends", "word"),
    [
        (EXPIRED, (EXPIRE, EXPIRE), b"reservation_expired"),
        (RELEASED, (RELEASE, RELEASE), b"already_released"),
        (CANCELLED, (COMMIT, CANCEL), b"already_cancelled"),
    ],
)
def test_what_is_over(books: Books, state: int, ends: tuple[int, int], word: bytes) -> None:
    """A reservation without open units stays as it is."""
    before = BEFORE._replace(state=state, held_end=ends[0], closed_by=ends[1])
    books.seed(operations={A: before})
    assert books.one(replan(A, AFTER)) == [word, 1]
    sought = basket((("shoe", "W", 1),))
    assert books.one(replan(B, AFTER)) == [b"reservation_not_found", 1]
    books.expect(operations={A: before})
    books.seed(operations={A: sought})
    assert books.one(replan(A, AFTER)) == [b"reservation_not_found", 1]


def test_a_repeat(books: Books) -> None:
    """The answer is remembered with the lines as they were, whatever they are by now."""
    stock = {"shoe": Card({"W": Position(9, 5)}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    first = AFTER._replace(lines=(("shoe", "W", 4), ("hat", "S", 2)))
    second = first._replace(lines=(("hat", "S", 1),), revision=2, changed=3, detail=b"third")
    marked = {"operation": OPERATION, "fingerprint": b"content1"}
    assert books.one(replan(A, first, **marked)) == first.tail  # type: ignore[arg-type]
    assert books.one(replan(A, second, version=(1, 2))) == second.tail
    answer = first.plan + first.detail + first.tail
    again = books.one(replan(A, second, **marked))  # type: ignore[arg-type]
    assert again == [b"replayed", answer, second.packed(A)]
    other = books.one(replan(A, second, operation=OPERATION, fingerprint=b"content2"))
    assert other == [b"idempotency_mismatch"]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(9)}), "hat": Card({"S": Position(2, 1)}, (A,))},
        operations={A: second, OPERATION: Memory(REPLAN, b"content1", A, answer)},
        due={(NOW + 60_000 + RETENTION_MS, "p", (OPERATION,))},
        log=[(2, [Replanned(A, first, OPERATION)]), (3, [Replanned(A, second)])],
    )


def test_two_in_one_call(books: Books) -> None:
    """Each sees what the one before it did."""
    stock = {"shoe": shoe(Position(9, 5), Position(2, 1), A, B)}
    mine, other = Hold((("shoe", "W", 5),)), Hold((("shoe", "S", 1),))
    books.seed(stock=stock, operations={A: mine, B: other})
    moved = AFTER._replace(lines=(("shoe", "W", 1),), changed=3, first_lines=mine.lines)
    given = AFTER._replace(lines=(("shoe", "W", 1),), first_lines=other.lines)
    asked = replan(A, moved._replace(lines=(("shoe", "S", 2),))), replan(B, given), replan(A, moved)
    assert books.batch(*asked) == [[b"insufficient_stock", 1, 0, 1, 2], given.tail, moved.tail]
    books.expect(
        seq=3,
        stock={"shoe": shoe(Position(9, 2), Position(2), A, B)},
        operations={A: moved, B: given},
        log=[(3, [Replanned(B, given), Replanned(A, moved)])],
    )


def test_a_later_step(books: Books) -> None:
    """What follows works on the new lines, and its answer is remembered with them."""
    after = AFTER._replace(lines=(("hat", "S", 2),))
    books.seed(stock={"hat": HAT}, operations={A: after}, seq=2)
    done = after._replace(changed=3, progress=((1, 0, 0, 1),))
    part = resolve("release", A, choose((0, 1)), known=1, operation=OPERATION, fingerprint=b"content1")
    assert books.one(part) == done.tail
    answer = Memory(RELEASE, b"content1", A, done.plan + done.detail + done.tail)
    books.expect(
        seq=3,
        stock={"hat": Card({"S": Position(2, 1)}, (A,))},
        operations={A: done, OPERATION: answer},
        due={(NOW + 60_000 + RETENTION_MS, "p", (OPERATION,))},
        log=[(3, [Resolved(RELEASE, A, done, ((-1, 0, 0),), OPERATION)])],
    )


def test_a_basket(books: Books) -> None:
    """Of one over several partitions the home alone decides that units are given back; the parts are told."""
    before = BEFORE._replace(state=COMMITTED, held_end=COMMIT, kind=BASKET)
    books.seed(operations={A: before})
    after = before._replace(
        revision=1,
        changed=2,
        detail=b"another",
        first_detail=b"detail",
        progress=((0, 4, 0, 1), (0, 2, 0, 0)),
    )
    coat = after._replace(lines=(*BEFORE.lines, ("coat", "W", 1)), progress=())
    more = after._replace(lines=(("shoe", "W", 6), ("hat", "S", 2)), progress=())
    # Whoever took it for a reservation of one partition reads again.
    assert [books.one(replan(A, other)) for other in (coat, more)] == [[b"stale"], [b"stale"]]
    assert books.one(replan(A, after)) == after.tail
    books.expect(
        seq=2,
        operations={A: after},
        due={(NOW + REPAIR_MS, "r", (A,))},
        log=[(2, [Replanned(A, after)])],
    )


@pytest.mark.parametrize("is_short", [False, True])
def test_a_basket_whose_parts_have_what_it_gets(books: Books, is_short: bool) -> None:
    """Also of what no card of this partition knows. A sweeper tells the parts, if nobody else does."""
    before = BEFORE._replace(kind=BASKET)
    books.seed(operations={A: before})
    after = before._replace(
        lines=(("coat", "W", 7), ("hat", "S", 1)),
        first_lines=before.lines,
        revision=1,
        changed=2,
        detail=b"another",
        first_detail=b"detail",
    )
    assert books.one(replan(A, after, is_short=is_short, is_offered=True)) == after.tail
    books.expect(
        seq=2,
        operations={A: after},
        due={(NOW + REPAIR_MS, "r", (A,))},
        log=[(2, [Replanned(A, after)])],
    )


def test_a_place_with_a_policy(books: Books) -> None:
    """What safety stock and fences withhold cannot be taken."""
    north = Position(5, safety_stock=2, fenced=1)
    stock = {"shoe": Card({"W": Position(9, 5), "N": north}, (A,)), "hat": HAT}
    books.seed(stock=stock, operations={A: BEFORE})
    after = AFTER._replace(lines=(("shoe", "N", 3), ("hat", "S", 2)))
    assert books.one(replan(A, after)) == [b"insufficient_stock", 1, 0, 2, 3]
    after = AFTER._replace(lines=(("shoe", "N", 2), ("hat", "S", 2)))
    assert books.one(replan(A, after)) == after.tail
    assert after.state == HELD
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(9), "N": north._replace(held=2)}, (A,)), "hat": HAT},
        operations={A: after},
        log=[(2, [Replanned(A, after)])],
    )
