"""Where a claim stands, and how it is found again: on the card, in a block of it, on the card of a page."""

from collections.abc import Mapping, Sequence

import pytest

from tests.lua.books import (
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    FULFIL,
    NOW,
    RELEASE,
    RELEASED,
    RETENTION_MS,
    Books,
    Card,
    Divided,
    Hold,
    Position,
    Request,
    Reserved,
    Resolved,
    choose,
    committing,
    expire,
    name,
    page_of,
    reserve,
    resolve,
)

A, B, C = name(1), name(2), name(3)
LATER = NOW + RETENTION_MS
OTHERS = tuple(name(100 + number) for number in range(64))
FRESH = Hold((("shoe", "W", 1),), created=2, changed=2, created_ms=NOW)


def on_card(claims: Sequence[bytes], held: int = 5, **numbers: object) -> Card:
    """A card of one location."""
    return Card({"W": Position(100, held)}, tuple(claims), **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 15])
def test_a_claim_that_the_card_has_room_for(books: Books, count: int) -> None:
    """Up to 16 claims stand on the card; the record has the number of its block."""
    books.seed(stock={"shoe": on_card(OTHERS[:count], block=300, first=7)})
    hold = FRESH._replace(blocks=(300,))
    assert books.one(reserve(A, FRESH)) == 2
    books.expect(
        seq=2,
        stock={"shoe": on_card((*OTHERS[:count], A), 6, block=300, first=7)},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


@pytest.mark.parametrize(("block", "first"), [(0, 0), (3, 3), (300, 7), (65_535, 0)])
def test_the_seventeenth_claim(books: Books, block: int, first: int) -> None:
    """The claims of a full card go to their block; the new one stands on the card, in the next block."""
    books.seed(stock={"shoe": on_card(OTHERS[:16], block=block, first=first)})
    hold = FRESH._replace(blocks=(block + 1,))
    assert books.one(reserve(A, FRESH)) == 2
    books.expect(
        seq=2,
        stock={"shoe": on_card((A,), 6, block=block + 1, first=first, blocks={block: OTHERS[:16]})},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


def test_very_many_claims_of_one_call(books: Books) -> None:
    """Forty reserves of one call fill two blocks; each record knows its own."""
    books.seed(stock={"shoe": on_card(OTHERS[:9])})
    names = [name(number) for number in range(40)]
    holds = {
        each: FRESH._replace(created=2 + at, changed=2 + at, blocks=((at + 9) // 16,))
        for at, each in enumerate(names)
    }
    assert books.batch(*(reserve(each, FRESH) for each in names)) == list(range(2, 42))
    claims = (*OTHERS[:9], *names)
    blocks = {at: claims[at * 16 : at * 16 + 16] for at in range(3)}
    books.expect(
        seq=41,
        stock={"shoe": on_card(claims[48:], 45, block=3, blocks=blocks)},
        operations=holds,
        due={(NOW + 60_000, "h", tuple(names))},
        log=[(41, [Reserved(each, hold) for each, hold in holds.items()])],
    )


def test_the_last_block_is_as_long_as_it_must_be(books: Books) -> None:
    """Where no further number is left, the card takes all."""
    last = 2**24 - 1
    books.seed(stock={"shoe": on_card(OTHERS[:16], block=last, first=last)})
    hold = FRESH._replace(blocks=(last,))
    assert books.one(reserve(A, FRESH)) == 2
    books.expect(
        seq=2,
        stock={"shoe": on_card((*OTHERS[:16], A), 6, block=last, first=last)},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


X, Y, Z = OTHERS[:3]
ENDS: Mapping[str, tuple[int, Card, Card]] = {
    # For each case: the block of the record of A, the card before A is over, the card after.
    "alone on the card": (0, on_card((A,)), on_card((), 0)),
    "oldest on the card": (0, on_card((A, X, Y)), on_card((X, Y), 0)),
    "in the middle of the card": (0, on_card((X, A, Y)), on_card((X, Y), 0)),
    "newest on the card": (0, on_card((X, Y, A)), on_card((X, Y), 0)),
    "on a card with blocks": (
        4,
        on_card((X, A), block=4, first=2, blocks={2: (Y,)}),
        on_card((X,), 0, block=4, first=2, blocks={2: (Y,)}),
    ),
    "alone on a card with blocks": (
        4,
        on_card((A,), block=4, first=2, blocks={2: (Y,)}),
        on_card((), 0, block=4, first=2, blocks={2: (Y,)}),
    ),
    "in the oldest block": (
        2,
        on_card((X,), block=4, first=2, blocks={2: (Y, A), 3: (Z,)}),
        on_card((X,), 0, block=4, first=2, blocks={2: (Y,), 3: (Z,)}),
    ),
    "in the newest block": (
        3,
        on_card((), block=4, first=2, blocks={2: (Y,), 3: (Z, A, X)}),
        on_card((), 0, block=4, first=2, blocks={2: (Y,), 3: (Z, X)}),
    ),
    "last of the oldest block": (
        2,
        on_card((X,), block=4, first=2, blocks={2: (A,), 3: (Z,)}),
        on_card((X,), 0, block=4, first=3, blocks={3: (Z,)}),
    ),
    "last of the oldest block, with gaps behind it": (
        2,
        on_card((X,), block=9, first=2, blocks={2: (A,), 6: (Z,), 8: (Y,)}),
        on_card((X,), 0, block=9, first=6, blocks={6: (Z,), 8: (Y,)}),
    ),
    "last of a block in the middle": (
        3,
        on_card((X,), block=9, first=2, blocks={2: (Y,), 3: (A,), 4: (Z,)}),
        on_card((X,), 0, block=9, first=2, blocks={2: (Y,), 4: (Z,)}),
    ),
    "last of the only block": (
        2,
        on_card((X,), block=9, first=2, blocks={2: (A,)}),
        on_card((X,), 0, block=9, first=9),
    ),
    "last of all": (2, on_card((), block=3, first=2, blocks={2: (A,)}), on_card((), 0, block=3, first=3)),
    "by a number that was given out and is on the card": (
        2,
        on_card((X, A), block=4, first=2, blocks={2: (Y,), 3: (Z,)}),
        on_card((X,), 0, block=4, first=2, blocks={2: (Y,), 3: (Z,)}),
    ),
    "by the number of the card and in a block": (
        4,
        on_card((X,), block=4, first=2, blocks={2: (Y, A), 3: (Z,)}),
        on_card((X,), 0, block=4, first=2, blocks={2: (Y,), 3: (Z,)}),
    ),
    "by the number of another block": (
        3,
        on_card((X,), block=4, first=2, blocks={2: (Y, A), 3: (Z,)}),
        on_card((X,), 0, block=4, first=2, blocks={2: (Y,), 3: (Z,)}),
    ),
    "by a number that the card never had": (
        900,
        on_card((X,), block=4, first=2, blocks={2: (A,), 3: (Z,)}),
        on_card((X,), 0, block=4, first=3, blocks={3: (Z,)}),
    ),
    "by a number that is long gone": (
        0,
        on_card((X,), block=4, first=2, blocks={2: (Y, A)}),
        on_card((X,), 0, block=4, first=2, blocks={2: (Y,)}),
    ),
    "by a number that is long gone, and on the card": (
        0,
        on_card((X, A), block=4, first=4),
        on_card((X,), 0, block=4, first=4),
    ),
    "nowhere": (
        2,
        on_card((X,), block=4, first=2, blocks={2: (Y,), 3: (Z,)}),
        on_card((X,), 0, block=4, first=2, blocks={2: (Y,), 3: (Z,)}),
    ),
}


@pytest.mark.parametrize("case", ENDS)
@pytest.mark.parametrize("own", [choose(), choose((0, 5))])
def test_the_end_of_a_claim(books: Books, case: str, own: bytes) -> None:
    """Struck where it stands, whatever the record says; a block without claims is no field any more."""
    block, before, after = ENDS[case]
    hold = Hold((("shoe", "W", 5),), blocks=(block,))
    books.seed(stock={"shoe": before}, operations={A: hold})
    done = hold._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=2, deadline_ms=LATER)
    assert books.one(resolve("release", A, own)) == done.tail
    books.expect(
        seq=2,
        stock={"shoe": after},
        operations={A: done},
        due={(LATER, "p", (A,))},
        log=[(2, [Resolved(RELEASE, A, done, () if own == choose() else ((-5, 0, 0),))])],
    )


@pytest.mark.parametrize("offset", range(1, 12))
@pytest.mark.parametrize("block", [0, 1])
def test_bytes_that_look_like_a_claim(books: Books, offset: int, block: int) -> None:
    """Only whole ids count: one that begins inside another, or in the counters, is passed over."""
    odd = bytes(12)
    others = (b"\1" * offset + bytes(12 - offset), bytes(offset) + b"\1" * (12 - offset))
    all_three, left = (*others, odd), dict.fromkeys((0, 1), (*others, odd)) | {block: others}
    hold = Hold((("shoe", "W", 5),), blocks=(block,))
    before = on_card(all_three, block=1, blocks={0: all_three})
    books.seed(stock={"shoe": before}, operations={odd: hold})
    done = hold._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=2, deadline_ms=LATER)
    assert books.one(resolve("release", odd)) == done.tail
    books.expect(
        seq=2,
        stock={"shoe": on_card(left[1], 0, block=1, blocks={0: left[0]})},
        operations={odd: done},
        due={(LATER, "p", (odd,))},
        log=[(2, [Resolved(RELEASE, odd, done)])],
    )


def test_many_ends_of_one_call(books: Books) -> None:
    """Claims of one card that end together, some in one block: every field is as after one by one."""
    holds = {each: Hold((("shoe", "W", 1),), blocks=(at // 2,)) for at, each in enumerate(OTHERS[:8])}
    blocks = {at: OTHERS[at * 2 : at * 2 + 2] for at in range(3)}
    books.seed(stock={"shoe": on_card(OTHERS[6:8], 8, block=3, blocks=blocks)}, operations=holds)
    ended = [OTHERS[at] for at in (2, 0, 3, 1, 6, 4)]
    done = {
        each: holds[each]._replace(
            state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=seq, deadline_ms=LATER
        )
        for seq, each in enumerate(ended, 2)
    }
    answers = books.batch(*(resolve("release", each) for each in ended))
    assert answers == [hold.tail for hold in done.values()]
    books.expect(
        seq=7,
        stock={"shoe": on_card(OTHERS[7:8], 2, block=3, first=2, blocks={2: OTHERS[5:6]})},
        operations=holds | done,
        due={(LATER, "p", tuple(ended))},
        log=[(7, [Resolved(RELEASE, each, hold) for each, hold in done.items()])],
    )


def test_a_place_that_is_made_free_in_the_same_call(books: Books) -> None:
    """A reserve that gives back what has lapsed puts its claim on the card as it is then."""
    lapsing = Hold((("shoe", "W", 5),), deadline_ms=NOW)
    stock = {"shoe": Card({"W": Position(5, 5)}, (A,), block=2, first=2)}
    books.seed(stock=stock, operations={A: lapsing}, due={(NOW, "h", (A,))})
    back = lapsing._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=2, deadline_ms=LATER)
    hold = FRESH._replace(created=3, changed=3, blocks=(2,))
    assert books.one(reserve(B, FRESH)) == 3
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5, 1)}, (B,), block=2, first=2)},
        operations={A: back, B: hold},
        due={(LATER, "p", (A,)), (NOW + 60_000, "h", (B,))},
        log=[(3, [Resolved(EXPIRE, A, back), Reserved(B, hold)])],
    )


# ---------------------------------------------------------------- one claim a card

TWO = (("shoe", "W", 5), ("hat", "W", 1), ("shoe", "S", 2))


def shoes_and_hats(w: Position, s: Position, claims: tuple[bytes, ...], hats: int = 0) -> dict[str, Card]:
    """Shoes at two locations with two other claims, and a hat."""
    return {
        "shoe": Card({"W": w, "S": s}, claims, block=1, blocks={0: (Z,)}),
        "hat": Card({"W": Position(1, hats)}, (A,) if hats else ()),
    }


def test_two_positions_on_one_card(books: Books) -> None:
    """A reservation claims a card once, whatever number of its positions lie there."""
    books.seed(stock=shoes_and_hats(Position(9), Position(9), (X,)))
    hold = FRESH._replace(lines=TWO, blocks=(1, 0, 1))
    assert books.one(reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock=shoes_and_hats(Position(9, 5), Position(9, 2), (X, A), 1),
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


@pytest.mark.parametrize(
    ("request_", "after", "w", "s", "is_open"),
    [
        (resolve("release", A), Hold(TWO, RELEASED, RELEASE, RELEASE), Position(9), Position(9), False),
        (
            resolve("commit", A, committing()),
            Hold(TWO, COMMITTED, COMMIT, deadline_ms=NOW),
            Position(9, 0, 5),
            Position(9, 0, 2),
            True,
        ),
        (
            resolve("commit", A, committing(fulfil=1)),
            Hold(TWO, 3, COMMIT, COMMIT),
            Position(4),
            Position(7),
            False,
        ),
        (expire(1), Hold(TWO, EXPIRED, EXPIRE, EXPIRE), Position(9), Position(9), False),
    ],
)
def test_all_of_two_positions_on_one_card(
    books: Books, request_: Request, after: Hold, w: Position, s: Position, is_open: bool
) -> None:
    """Where all goes together, the shared claim ends once."""
    before = Hold(TWO, deadline_ms=NOW, blocks=(1, 0, 1))
    stock = shoes_and_hats(Position(9, 5), Position(9, 2), (X, A, Y), 1)
    books.seed(stock=stock, operations={A: before}, due={(NOW, "h", (A,))})
    after = after._replace(changed=2, blocks=before.blocks)
    if not is_open:
        after = after._replace(deadline_ms=LATER)
    verb = {"release": RELEASE, "commit": COMMIT, "expire": EXPIRE}[request_.verb]
    answer = books.one(request_)
    assert answer == ([1, 0, 0] if verb == EXPIRE else after.tail)
    hats = Position(0 if after.state == 3 else 1, 0, 1 if is_open else 0)
    books.expect(
        seq=2,
        stock=shoes_and_hats(w, s, (X, A, Y) if is_open else (X, Y))
        | {"hat": Card({"W": hats}, (A,) if is_open else ())},
        operations={A: after},
        due=(set() if verb == EXPIRE else {(NOW, "h", (A,))}) | (set() if is_open else {(LATER, "p", (A,))}),
        log=[(2, [Resolved(verb, A, after)])],
    )


def test_the_last_open_unit_ends_a_shared_claim(books: Books) -> None:
    """Part by part, by several verbs: the claim stays while anything of the reservation is open there."""
    before = Hold(TWO, blocks=(1, 0, 1))
    stock = shoes_and_hats(Position(9, 5), Position(9, 2), (X, A, Y), 1)
    books.seed(stock=stock, operations={A: before})
    steps = [
        # The request, the record after it, counters at W and at S, the claims, the change.
        (
            resolve("release", A, choose((0, 5), (1, 1))),
            before._replace(changed=2, progress=((0, 0, 0, 5), (0, 0, 0, 1), (2, 0, 0, 0))),
            (Position(9), Position(9, 2), (X, A, Y)),
            Resolved(RELEASE, A, before, ((-5, 0, 0), (-1, 0, 0), (0, 0, 0))),
        ),
        (
            resolve("commit", A, committing((2, 1), keep=1)),
            before._replace(changed=3, progress=((0, 0, 0, 5), (0, 0, 0, 1), (1, 1, 0, 0))),
            (Position(9), Position(9, 1, 1), (X, A, Y)),
            Resolved(COMMIT, A, before, ((0, 0, 0), (0, 0, 0), (-1, 1, 0))),
        ),
        (
            resolve("release", A),
            before._replace(
                state=COMMITTED,
                held_end=RELEASE,
                changed=4,
                progress=((0, 0, 0, 5), (0, 0, 0, 1), (0, 1, 0, 1)),
            ),
            (Position(9), Position(9, 0, 1), (X, A, Y)),
            Resolved(RELEASE, A, before, ((0, 0, 0), (0, 0, 0), (-1, 0, 0))),
        ),
        (
            resolve("fulfil", A),
            before._replace(
                state=3,
                held_end=RELEASE,
                closed_by=FULFIL,
                changed=5,
                deadline_ms=LATER,
                progress=((0, 0, 0, 5), (0, 0, 0, 1), (0, 0, 1, 1)),
            ),
            (Position(9), Position(8), (X, Y)),
            Resolved(FULFIL, A, before, ((0, 0, 0), (0, 0, 0), (0, -1, -1))),
        ),
    ]
    log = []
    for seq, (request, after, shoes, event) in enumerate(steps, 2):
        assert books.one(request) == after.tail
        log.append((seq, [event._replace(hold=after)]))
        books.expect(
            seq=seq,
            stock=shoes_and_hats(*shoes),
            operations={A: after},
            due={(LATER, "p", (A,))} if seq == 5 else set(),
            log=log,
        )


# ---------------------------------------------------------------- pages


def test_a_basket_on_pages(books: Books) -> None:
    """A divided SKU has a claim on each page that a reservation has units on, one where they share it."""
    assert page_of("W") == page_of("b9") != page_of("S")
    pages = {
        page_of("W"): Card({"W": Position(9), "b9": Position(9)}, OTHERS[:16], block=4, first=4),
        page_of("S"): Card({"S": Position(9)}, (X,), block=2, first=2),
    }
    books.seed(stock={"shoe": Divided(pages)})
    lines = (("shoe", "W", 1), ("shoe", "S", 2), ("shoe", "b9", 3))
    hold = FRESH._replace(lines=lines, blocks=(5, 2, 5))
    assert books.one(reserve(A, hold)) == 2
    taken = {
        page_of("W"): Card(
            {"W": Position(9, 1), "b9": Position(9, 3)}, (A,), block=5, first=4, blocks={4: OTHERS[:16]}
        ),
        page_of("S"): Card({"S": Position(9, 2)}, (X, A), block=2, first=2),
    }
    books.expect(
        seq=2,
        stock={"shoe": Divided(taken)},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )
    done = hold._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=3, deadline_ms=LATER)
    assert books.one(resolve("release", A)) == done.tail
    books.expect(
        seq=3,
        stock={
            "shoe": Divided(
                {
                    page_of("W"): pages[page_of("W")]._replace(claims=(), block=5, blocks={4: OTHERS[:16]}),
                    page_of("S"): pages[page_of("S")],
                }
            )
        },
        operations={A: done},
        due={(NOW + 60_000, "h", (A,)), (LATER, "p", (A,))},
        log=[(2, [Reserved(A, hold)]), (3, [Resolved(RELEASE, A, done)])],
    )


def test_refusals_of_a_divided_sku(books: Books) -> None:
    """A page that is not there, or does not have the location, is not stocked; short is short."""
    pages = {page_of("W"): Card({"W": Position(1)})}
    books.seed(stock={"shoe": Divided(pages)})
    lines = (("shoe", "W", 1), ("shoe", "S", 1), ("shoe", "b9", 1))
    assert books.one(reserve(A, FRESH._replace(lines=lines))) == [b"not_stocked", 1, 1, 2]
    short = FRESH._replace(lines=(("shoe", "W", 2),))
    assert books.one(reserve(A, short)) == [b"insufficient_stock", 1, 0, 1, 2]
    books.expect(stock={"shoe": Divided(pages)})


def test_two_positions_of_one_card_behind_another(books: Books) -> None:
    """The shared claim ends with the first of them, though that is not the first line of the plan."""
    lines = (("hat", "W", 1), ("shoe", "W", 5), ("shoe", "S", 2))
    before = Hold(lines)
    books.seed(
        stock={
            "hat": Card({"W": Position(1, 1)}, (A,)),
            "shoe": Card({"W": Position(9, 5), "S": Position(9, 2)}, (X, A)),
        },
        operations={A: before},
    )
    after = before._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=2, deadline_ms=LATER)
    assert books.one(resolve("release", A)) == after.tail
    books.expect(
        seq=2,
        stock={
            "hat": Card({"W": Position(1)}),
            "shoe": Card({"W": Position(9), "S": Position(9)}, (X,)),
        },
        operations={A: after},
        due={(LATER, "p", (A,))},
        log=[(2, [Resolved(RELEASE, A, after)])],
    )
