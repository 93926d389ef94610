import pytest

from tests.lua.books import (
    ABANDON,
    ABANDONED,
    ABANDONED_MS,
    CANCELLED,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    FULFILLED,
    HELD,
    NOW,
    RELEASED,
    RETENTION_MS,
    Books,
    Bound,
    Card,
    Divided,
    Fact,
    Fence,
    Hold,
    Moved,
    Operation,
    Position,
    Reserved,
    Resolved,
    basket,
    committing,
    extending,
    hold_part,
    move,
    name,
    pack_terms,
    pack_version,
    page_of,
    part,
    part_name,
    repair,
    resolve,
)

A, B, C = (name(number) for number in range(1, 4))
PA, PB = part_name(A), part_name(B)
SEEK_MS = 30_000
SHOE = (("shoe", "W", 5),)
TWO = (("hat", "S", 2), ("shoe", "W", 5))


def ask(lines: tuple[tuple[str, str, int], ...], follows: tuple[int, int] = (1, 5)) -> Hold:
    """A part as its caller asks for it: its time is that after which somebody must ask the home."""
    return part(lines, follows)._replace(ttl_ms=SEEK_MS)


def held(seq: int, hold: Hold, epoch: int = 1) -> Hold:
    """A part that this call held."""
    return hold._replace(
        created=seq,
        changed=seq,
        created_ms=NOW,
        deadline_ms=NOW + SEEK_MS,
        epoch=epoch,
        changed_epoch=epoch,
    )


def test_lines_are_held(books: Books) -> None:
    """All lines of the partition, claimed under the part's own id; a sweeper will ask for it in 30 s, and
    it has no deadline of its own. Its route is that of the basket, which begins with another SKU.
    """
    books.seed(
        seq=6,
        epoch=3,
        stock={
            "shoe": Card({"W": Position(10, 2)}, (B,), 7),
            "hat": Card({"W": Position(3), "S": Position(2)}),
        },
    )
    asked = ask(TWO, (2, 5))._replace(of="coat")
    assert books.one(hold_part(PA, asked)) == 7
    after = held(7, asked, epoch=3)._replace(blocks=(0, 7))
    books.expect(
        seq=7,
        epoch=3,
        stock={
            "shoe": Card({"W": Position(10, 7)}, (B, PA), 7),
            "hat": Card({"W": Position(3), "S": Position(2, 2)}, (PA,)),
        },
        operations={PA: after},
        due={(NOW + SEEK_MS, "r", (PA,))},
        log=[(7, [Reserved(PA, after)])],
    )


def test_requests_of_one_call(books: Books) -> None:
    """Each sees what those before it hold: a repeat, a part that no longer fits, one that still does."""
    books.seed(stock={"shoe": Card({"W": Position(9)})})
    less = ask((("shoe", "W", 4),))
    answers = books.batch(
        hold_part(PA, ask(SHOE)), hold_part(PA, ask(SHOE)), hold_part(PB, ask(SHOE)), hold_part(PB, less)
    )
    assert answers == [2, [b"repeated"], [b"insufficient_stock", 2, 0, 4, 5], 3]
    one, two = held(2, ask(SHOE)), held(3, less)
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(9, 9)}, (PA, PB))},
        operations={PA: one, PB: two},
        due={(NOW + SEEK_MS, "r", (PA,)), (NOW + SEEK_MS, "r", (PB,))},
        log=[(3, [Reserved(PA, one), Reserved(PB, two)])],
    )


def test_two_positions_of_one_card(books: Books) -> None:
    """They share one claim."""
    lines = (("shoe", "W", 5), ("shoe", "S", 1))
    books.seed(stock={"shoe": Card({"W": Position(9), "S": Position(1)}, (B,), 1)})
    assert books.one(hold_part(PA, ask(lines))) == 2
    after = held(2, ask(lines))._replace(blocks=(1, 1))
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(9, 5), "S": Position(1, 1)}, (B, PA), 1)},
        operations={PA: after},
        due={(NOW + SEEK_MS, "r", (PA,))},
        log=[(2, [Reserved(PA, after)])],
    )


def test_a_divided_sku(books: Books) -> None:
    """Each page has the claim of what lies there."""
    w, s = page_of("W"), page_of("S")
    assert w != s
    lines = (("shoe", "W", 5), ("shoe", "S", 1))
    books.seed(stock={"shoe": Divided({w: Card({"W": Position(9)}), s: Card({"S": Position(1)}, (B,))})})
    assert books.one(hold_part(PA, ask(lines))) == 2
    after = held(2, ask(lines))
    books.expect(
        seq=2,
        stock={
            "shoe": Divided({w: Card({"W": Position(9, 5)}, (PA,)), s: Card({"S": Position(1, 1)}, (B, PA))})
        },
        operations={PA: after},
        due={(NOW + SEEK_MS, "r", (PA,))},
        log=[(2, [Reserved(PA, after)])],
    )


@pytest.mark.parametrize(
    ("follows", "state", "word"),
    [
        # Held or committed: the same attempt has done it, an older one must be told first.
        ((1, 5), HELD, [b"repeated"]),
        ((1, 5), COMMITTED, [b"repeated"]),
        ((1, 4), HELD, [b"stale", pack_version((1, 4))]),
        ((1, 4), COMMITTED, [b"stale", pack_version((1, 4))]),
        ((0, 5), HELD, [b"stale", pack_version((0, 5))]),
        ((0, 9), HELD, [b"stale", pack_version((0, 9))]),
        # Whatever it is, it knows more.
        ((1, 6), HELD, [b"superseded"]),
        ((2, 5), HELD, [b"superseded"]),
        ((2, 1), HELD, [b"superseded"]),
        ((1, 6), RELEASED, [b"superseded"]),
        ((1, 6), FULFILLED, [b"superseded"]),
        ((2, 4), EXPIRED, [b"superseded"]),
    ],
)
def test_a_part_that_is_there(books: Books, follows: tuple[int, int], state: int, word: list[bytes]) -> None:
    """Which attempt it is of decides, and whether it has units; nothing changes."""
    before = part(SHOE, follows, state)
    stock = {"shoe": Card({"W": Position(10, 5)}, (PA,))}
    books.seed(stock=stock, operations={PA: before})
    assert books.one(hold_part(PA, ask(SHOE))) == word
    books.expect(stock=stock, operations={PA: before})


@pytest.mark.parametrize("follows", [(1, 5), (1, 4), (0, 9)])
@pytest.mark.parametrize("state", [FULFILLED, RELEASED, EXPIRED, CANCELLED])
def test_a_part_that_is_over(books: Books, follows: tuple[int, int], state: int) -> None:
    """What an earlier attempt left without units is in nobody's way; the lines may be others."""
    before = part((("sock", "W", 1), ("hat", "S", 7)), follows, state)._replace(deadline_ms=NOW + 9)
    books.seed(
        stock={"shoe": Card({"W": Position(10)})}, operations={PA: before}, due={(NOW + 9, "p", (PA,))}
    )
    assert books.one(hold_part(PA, ask(SHOE))) == 2
    after = held(2, ask(SHOE))
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(10, 5)}, (PA,))},
        operations={PA: after},
        due={(NOW + 9, "p", (PA,)), (NOW + SEEK_MS, "r", (PA,))},
        log=[(2, [Reserved(PA, after)])],
    )


@pytest.mark.parametrize(
    "before", [Hold(SHOE), basket(SHOE), Fact(b"12345678", 1, 1, 1), Bound(), Hold(SHOE, RELEASED)]
)
def test_an_id_of_something_else(books: Books, before: Operation) -> None:
    """What is no part is left alone."""
    stock = {"shoe": Card({"W": Position(10)})}
    books.seed(stock=stock, operations={PA: before})
    assert books.one(hold_part(PA, ask(SHOE))) == [b"superseded"]
    books.expect(stock=stock, operations={PA: before})


def test_refusals_name_every_line(books: Books) -> None:
    """All or nothing, and the indexes are those of the part."""
    stock = {"shoe": Card({"W": Position(4)}), "hat": Card({"S": Position(1)})}
    books.seed(stock=stock)
    unknown = (("shoe", "W", 1), ("sock", "W", 1), ("hat", "W", 1), ("coat", "S", 1))
    assert books.batch(
        hold_part(PA, ask(TWO)),
        hold_part(PA, ask((("shoe", "W", 4), ("hat", "W", 1)))),
        hold_part(PA, ask(unknown)),
    ) == [
        [b"insufficient_stock", 1, 0, 1, 2, 1, 4, 5],
        [b"not_stocked", 1, 1],
        [b"sku_not_found", 1, 1, 3],
    ]
    books.expect(stock=stock)


def test_room_that_has_lapsed(books: Books) -> None:
    """A part that is short gives back what has lapsed first. Baskets that lapse on the way give back
    nothing by themselves: a pending one is abandoned, a held one lapses; a sweeper is to tell their parts.
    """
    late = Hold(SHOE, deadline_ms=NOW)
    pending = basket(SHOE)._replace(deadline_ms=NOW)
    taken = basket(SHOE, HELD)._replace(deadline_ms=NOW)
    names = (C, A, B)
    books.seed(
        stock={"shoe": Card({"W": Position(9, 5)}, (C,))},
        operations={C: late, A: pending, B: taken},
        due={(NOW, "h", names)},
    )
    later = NOW + RETENTION_MS
    one = late._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=2, deadline_ms=later)
    two = pending._replace(
        state=ABANDONED, held_end=0, closed_by=ABANDON, changed=3, deadline_ms=NOW + ABANDONED_MS
    )
    three = taken._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=4, deadline_ms=later)
    after = held(5, ask(SHOE))
    assert books.batch(hold_part(PA, ask(SHOE)), hold_part(PB, ask(SHOE))) == [
        5,
        [b"insufficient_stock", 5, 0, 4, 5],
    ]
    books.expect(
        seq=5,
        stock={"shoe": Card({"W": Position(9, 5)}, (PA,))},
        operations={C: one, A: two, B: three, PA: after},
        due={
            (NOW + ABANDONED_MS, "p", (A,)),
            (later, "p", (C, B)),
            (NOW, "r", (A,)),
            (NOW, "r", (B,)),
            (NOW + SEEK_MS, "r", (PA,)),
        },
        log=[
            (
                5,
                [
                    Resolved(EXPIRE, C, one),
                    Resolved(ABANDON, A, two, ((-5, 0, 0),)),
                    Resolved(EXPIRE, B, three, ((-5, 0, 0),)),
                    Reserved(PA, after),
                ],
            )
        ],
    )


def test_more_has_lapsed_than_one_call_gives_back(books: Books) -> None:
    """Then it is not said that there is too little: the caller repeats."""
    late = Hold((("hat", "W", 1),), deadline_ms=NOW - 9)
    names = tuple(name(number) for number in range(10, 523))
    blocks = {at: names[at * 16 : at * 16 + 16] for at in range(32)}
    books.seed(
        stock={
            "hat": Card({"W": Position(513, 513)}, names[512:], 32, blocks=blocks),
            "shoe": Card({"W": Position(5, 1)}, (C,)),
        },
        operations={each: late._replace(blocks=(at // 16,)) for at, each in enumerate(names)}
        | {C: Hold((("shoe", "W", 1),), deadline_ms=NOW - 1)},
        due={(NOW - 9, "h", names[:512]), (NOW - 8, "h", names[512:]), (NOW - 1, "h", (C,))},
    )
    assert books.one(hold_part(PA, ask(SHOE))) == [b"overdue"]
    assert books.one(hold_part(PA, ask(SHOE))) == 516
    assert books.read()["inv:{0}:stock"][b"shoe"] == Card({"W": Position(5, 5)}, (PA,)).packed


STEPS = {
    "commit": resolve("commit", PA, committing()),
    "release": resolve("release", PA),
    "extend": resolve("extend", PA, extending(5)),
    "fulfil": resolve("fulfil", PA),
    "cancel": resolve("cancel", PA),
}


@pytest.mark.parametrize("verb", STEPS)
@pytest.mark.parametrize("state", [HELD, COMMITTED])
def test_no_step_works_on_a_part(books: Books, verb: str, state: int) -> None:
    """Its id is not one that a caller can have: only its basket decides."""
    before = part(SHOE, (1, 5), state)
    stock = {"shoe": Card({"W": Position(10, 5 * (state == HELD), 5 * (state == COMMITTED))}, (PA,))}
    books.seed(stock=stock, operations={PA: before})
    assert books.one(STEPS[verb]) == [b"reservation_not_found", 1]
    books.expect(stock=stock, operations={PA: before})


@pytest.mark.parametrize("state", [HELD, COMMITTED])
def test_a_fact_that_breaks_its_promise(books: Books, state: int) -> None:
    """The answer names the basket, whose id the caller knows, under the basket's route; units that are not
    open are not promised.
    """
    progress = (2, 0, 0, 3) if state == HELD else (0, 2, 3, 0)
    before = part(TWO, (1, 5), state)._replace(of="coat", progress=((0, 0, 0, 2), progress))
    other, over = Hold((("shoe", "W", 2),)), part(SHOE, (1, 5), RELEASED)
    counters = Position(9, 2 + progress[0], progress[1])
    own = part_name(A, "coat")
    stock = {"shoe": Card({"W": counters}, (B, own, PB))}
    operations: dict[bytes, Operation] = {own: before, B: other, PB: over}
    books.seed(stock=stock, operations=operations, locations={"W": b"settings"})
    fact = Fact(b"content1", 2, 1, 0, ((A, 2), (B, 1)), {A: "coat"}, effect=-8)
    assert books.one(move(C, -8)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": counters._replace(on_hand=1)}, (B, own, PB))},
        operations=operations | {C: fact},
        due={(NOW + RETENTION_MS, "p", (C,))},
        log=[(2, [Moved(C, fact, -8, "W", "shoe")])],
        locations={"W": b"settings"},
    )


def test_repair_lists_it(books: Books) -> None:
    """Once its time has come, and not a millisecond earlier."""
    books.seed(stock={"shoe": Card({"W": Position(10)})})
    assert books.one(hold_part(PA, ask(SHOE))) == 2
    books.turn_clock(NOW + SEEK_MS - 1)
    assert books.one(repair(8)) == []
    books.turn_clock(NOW + SEEK_MS)
    assert books.one(repair(8)) == [PA, held(2, ask(SHOE)).packed(PA)]


@pytest.mark.parametrize(("units", "answer"), [(6, 2), (7, [b"insufficient_stock", 1, 0, 6, 7])])
def test_a_channel_with_a_fence(books: Books, units: int, answer: object) -> None:
    """It takes of its fence first and then of what is for all: others have a fence, too."""
    fences = (Fence("app", 2, 0), Fence("web", 3, 1, 1))
    place = Position(10, 2, fenced=5, flags=1)
    books.seed(stock={"shoe": Card({"W": place}, (B,))})
    books.raw("HSET", "inv:{0}:stock", "\nW=shoe", b"".join(fence.packed for fence in fences))
    asked = ask((("shoe", "W", units),))
    asked = asked._replace(detail=asked.detail + pack_terms("web", ()))
    assert books.one(hold_part(PA, asked)) == answer
    found = books.read()
    if units == 7:
        assert "inv:{0}:ops" not in found
        return
    assert found["inv:{0}:ops"] == {PA: held(2, asked).packed(PA)}
    assert found["inv:{0}:stock"][b"\nW=shoe"] == Fence("app", 2, 0).packed + Fence("web", 0, 4, 1).packed
    taken = Card({"W": place._replace(held=8, fenced=2)}, (B, PA))
    assert found["inv:{0}:stock"][b"shoe"] == taken.packed


def test_a_channel_for_which_what_has_lapsed_makes_room(books: Books) -> None:
    """Also in the second of two positions."""
    lapsed = Hold((("shoe", "W", 5),), deadline_ms=NOW)
    books.seed(
        stock={"hat": Card({"S": Position(2)}), "shoe": Card({"W": Position(6, 5)}, (B,))},
        operations={B: lapsed},
        due={(NOW, "h", (B,))},
    )
    asked = ask(TWO)
    asked = asked._replace(detail=asked.detail + pack_terms("web", ()))
    assert books.one(hold_part(PA, asked)) == 3
    gone = lapsed._replace(
        state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=2, deadline_ms=NOW + RETENTION_MS
    )
    after = held(3, asked)
    books.expect(
        seq=3,
        stock={"hat": Card({"S": Position(2, 2)}, (PA,)), "shoe": Card({"W": Position(6, 5)}, (PA,))},
        operations={PA: after, B: gone},
        due={(NOW + SEEK_MS, "r", (PA,)), (NOW + RETENTION_MS, "p", (B,))},
        log=[(3, [Resolved(EXPIRE, B, gone), Reserved(PA, after)])],
    )


@pytest.mark.parametrize(
    ("place", "units", "answer", "preordered"),
    [
        # Two are there, three come, of which somebody waits for one.
        (Position(4, 2, inbound=3, preordered=1), 5, 2, 3),
        (Position(4, 2, inbound=3, preordered=1), 3, 2, 1),
        (Position(4, 2, inbound=3, preordered=1), 6, [b"insufficient_stock", 1, 0, 5, 6], None),
        # What is missing comes first; what others have fenced is not there.
        (Position(1, 2, inbound=3), 2, 2, 2),
        (Position(1, 2, inbound=3), 3, [b"insufficient_stock", 1, 0, 2, 3], None),
        (Position(4, 2, safety_stock=2, inbound=3), 3, 2, 3),
        # Nothing comes.
        (Position(4, 2), 3, [b"insufficient_stock", 1, 0, 2, 3], None),
        (Position(4, 2), 2, 2, 0),
    ],
)
def test_what_is_inbound(
    books: Books, place: Position, units: int, answer: object, preordered: int | None
) -> None:
    """It may be promised where a byte behind the request says so, behind what is there."""
    books.seed(stock={"shoe": Card({"W": place}, (B,))})
    asked = ask((("shoe", "W", units),))
    request = hold_part(PA, asked)
    assert books.one(request._replace(packed=request.packed + b"\1")) == answer
    if preordered is None:
        books.expect(stock={"shoe": Card({"W": place}, (B,))})
        return
    after = held(2, asked)
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": place._replace(held=2 + units, preordered=preordered)}, (B, PA))},
        operations={PA: after},
        due={(NOW + SEEK_MS, "r", (PA,))},
        log=[(2, [Reserved(PA, after)])],
    )


@pytest.mark.parametrize(
    ("place", "fence", "units", "answer", "after"),
    [
        # What the channel leaves to others is there: none of what is inbound would be its own.
        (Position(10, 2, fenced=3, inbound=4), (3, 0), 4, [b"insufficient_stock", 1, 0, 3, 4], None),
        (Position(6, 2, fenced=3, inbound=4), (3, 0), 4, [b"insufficient_stock", 1, 0, 3, 4], None),
        # Nothing is left to others; or all is the channel's.
        (Position(5, 2, fenced=3, inbound=4), (3, 0), 7, 2, (4, 0, 3)),
        (Position(5, 2, fenced=3, inbound=4), (3, 0), 3, 2, (0, 0, 3)),
        (Position(10, 2, fenced=3, inbound=4), (3, 1), 12, 2, (4, 0, 3)),
        (Position(10, 2, fenced=3, inbound=4), (3, 1), 8, 2, (0, 0, 3)),
    ],
)
def test_what_is_inbound_for_a_channel_with_a_fence(
    books: Books,
    place: Position,
    fence: tuple[int, int],
    units: int,
    answer: object,
    after: tuple[int, int, int] | None,
) -> None:
    """Its fence, what it may take beside it, and then what is inbound."""
    place = place._replace(flags=1)
    books.seed(stock={"shoe": Card({"W": place}, (B,))})
    books.raw("HSET", "inv:{0}:stock", "\nW=shoe", Fence("web", fence[0], 0, fence[1]).packed)
    asked = ask((("shoe", "W", units),))
    asked = asked._replace(detail=asked.detail + pack_terms("web", ()))
    request = hold_part(PA, asked)
    assert books.one(request._replace(packed=request.packed + b"\1")) == answer
    found = books.read()["inv:{0}:stock"]
    if after is None:
        assert found[b"shoe"] == Card({"W": place}, (B,)).packed
        return
    preordered, fenced, used = after
    taken = place._replace(held=place.held + units, fenced=fenced, preordered=preordered)
    assert found[b"shoe"] == Card({"W": taken}, (B, PA)).packed
    assert found[b"\nW=shoe"] == Fence("web", fenced, used, fence[1]).packed


@pytest.mark.parametrize(
    ("place", "units", "answer", "preordered"),
    [
        (Position(4, 2, backorder_limit=3, inbound=3), 8, 2, 3),
        (Position(4, 2, backorder_limit=3, inbound=3), 9, [b"insufficient_stock", 1, 0, 5, 9], None),
        (Position(4, 2, safety_stock=1), 1, 2, 0),
        (Position(4, 2, safety_stock=1), 2, [b"insufficient_stock", 1, 0, 1, 2], None),
    ],
)
def test_what_is_inbound_behind_what_may_be_missing(
    books: Books, place: Position, units: int, answer: object, preordered: int | None
) -> None:
    """Backorders come first; where nothing is inbound, there is no more."""
    books.seed(stock={"shoe": Card({"W": place}, (B,))})
    request = hold_part(PA, ask((("shoe", "W", units),)))
    assert books.one(request._replace(packed=request.packed + b"\1")) == answer
    expected = Card({"W": place}, (B,))
    if preordered is not None:
        expected = Card({"W": place._replace(held=2 + units, preordered=preordered)}, (B, PA))
    assert books.read()["inv:{0}:stock"][b"shoe"] == expected.packed


def test_a_channel_is_promised_nothing_inbound_unless_it_asks(books: Books) -> None:
    """The byte behind the request is missing: there is what is there."""
    place = Position(4, 2, inbound=3)
    books.seed(stock={"shoe": Card({"W": place}, (B,))})
    asked = ask((("shoe", "W", 3),))
    asked = asked._replace(detail=asked.detail + pack_terms("web", ()))
    assert books.one(hold_part(PA, asked)) == [b"insufficient_stock", 1, 0, 2, 3]
    books.expect(stock={"shoe": Card({"W": place}, (B,))})


def test_a_fence_where_there_is_less_than_should_be_kept(books: Books) -> None:
    """What the channel takes of it is there, and waits for nothing."""
    place = Position(5, 2, safety_stock=1, fenced=3, flags=1)
    books.seed(stock={"shoe": Card({"W": place}, (B,))})
    books.raw("HSET", "inv:{0}:stock", "\nW=shoe", Fence("web", 3).packed)
    asked = ask((("shoe", "W", 2),))
    asked = asked._replace(detail=asked.detail + pack_terms("web", ()))
    assert books.one(hold_part(PA, asked)) == 2
    found = books.read()["inv:{0}:stock"]
    assert found[b"shoe"] == Card({"W": place._replace(held=4, fenced=1)}, (B, PA)).packed
    assert found[b"\nW=shoe"] == Fence("web", 1, 2).packed
