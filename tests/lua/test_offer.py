"""What a basket may get in one partition is held beside what it has, until its home has decided."""

import pytest

from tests.lua.books import (
    COMMITTED,
    EXPIRE,
    EXPIRED,
    FULFILLED,
    HELD,
    NOW,
    OFFERED,
    RELEASED,
    RETENTION_MS,
    Books,
    Bound,
    Card,
    Fact,
    Fence,
    Hold,
    Operation,
    Position,
    Replanned,
    Reserved,
    Resolved,
    basket,
    name,
    offer,
    pack_terms,
    pack_version,
    part,
    part_name,
)

A, B, C = (name(number) for number in range(1, 4))
PA, PB = part_name(A), part_name(B)
SEEK_MS = 30_000
LOOK = {(NOW + SEEK_MS, "r", (PA,))}
SHOE = (("shoe", "W", 5),)
TWO = (("hat", "S", 2), ("shoe", "W", 5))
BEFORE = part(TWO)
STOCK = {"hat": Card({"S": Position(9, 2)}, (PA,)), "shoe": Card({"W": Position(10, 5)}, (PA, B), 3)}
Lines = tuple[tuple[str, str, int], ...]


def ask(lines: Lines, version: tuple[int, int] = (1, 8)) -> Hold:
    """An offer as its caller makes it, at a version of the basket."""
    return part(lines)._replace(ttl_ms=SEEK_MS, detail=pack_version(version) + OFFERED)


def offered(lines: Lines, version: tuple[int, int] = (1, 8), before: Hold = BEFORE) -> Hold:
    """A part that this call, the first since the seed, offered more."""
    return before._replace(
        lines=lines,
        first_lines=before.first_lines or before.lines,
        first_detail=before.first_detail or before.detail,
        detail=pack_version(version) + OFFERED,
        revision=before.revision + 1,
        changed=2,
    )


def test_more_of_what_it_has_and_something_new(books: Books) -> None:
    """What it has counts for it; the claim of what it has stays in its place. A sweeper will ask the home."""
    books.seed(
        stock={**STOCK, "coat": Card({"W": Position(3)})}, operations={PA: BEFORE._replace(blocks=(0, 3))}
    )
    lines = (("hat", "S", 2), ("shoe", "W", 9), ("coat", "W", 3))
    assert books.one(offer(PA, ask(lines), (2, 0), (5, 0), (0, 0))) == 2
    after = offered(lines)._replace(blocks=(0, 3, 0))
    books.expect(
        seq=2,
        stock={
            "hat": STOCK["hat"],
            "shoe": Card({"W": Position(10, 9)}, (PA, B), 3),
            "coat": Card({"W": Position(3, 3)}, (PA,)),
        },
        operations={PA: after},
        due=LOOK,
        log=[(2, [Replanned(PA, after)])],
    )


def test_committed_units_stay_so(books: Books) -> None:
    """What comes to them is held, at a place where something was and left as well."""
    before = BEFORE._replace(state=COMMITTED, progress=((0, 0, 2, 0), (0, 4, 1, 0)))
    stock = {"hat": Card({"S": Position(9)}), "shoe": Card({"W": Position(10, 0, 4)}, (PA,))}
    books.seed(stock=stock, operations={PA: before})
    lines = (("shoe", "W", 4), ("hat", "S", 3))
    assert books.one(offer(PA, ask(lines), (0, 4), (0, 0))) == 2
    after = offered((("hat", "S", 5), ("shoe", "W", 5)), before=before)._replace(
        state=HELD, progress=((3, 0, 2, 0), (0, 4, 1, 0))
    )
    books.expect(
        seq=2,
        stock={"hat": Card({"S": Position(9, 3)}, (PA,)), "shoe": stock["shoe"]},
        operations={PA: after},
        due=LOOK,
        log=[(2, [Replanned(PA, after)])],
    )


def test_nothing_more(books: Books) -> None:
    """The basket may have no line here any more: that the part hears of it is seen to."""
    books.seed(stock=STOCK, operations={PA: BEFORE})
    assert books.one(offer(PA, ask(TWO), (2, 0), (5, 0))) == 2
    after = offered(TWO)
    books.expect(seq=2, stock=STOCK, operations={PA: after}, due=LOOK, log=[(2, [Replanned(PA, after)])])


@pytest.mark.parametrize("before", [None, part(SHOE, (1, 5), RELEASED), part(TWO, (1, 8), FULFILLED)])
def test_a_part_that_begins(books: Books, before: Hold | None) -> None:
    """Where there is none, or what there was is over. It has no deadline of its own."""
    stock = {"hat": Card({"S": Position(9)}), "shoe": Card({"W": Position(10)}, (B,), 3)}
    books.seed(seq=6, epoch=2, stock=stock, operations={} if before is None else {PA: before})
    asked = ask(TWO, (1, 8))
    assert books.one(offer(PA, asked, (0, 0), (0, 0))) == 7
    after = asked._replace(
        created=7,
        changed=7,
        created_ms=NOW,
        deadline_ms=NOW + SEEK_MS,
        epoch=2,
        changed_epoch=2,
        blocks=(0, 3),
    )
    books.expect(
        seq=7,
        epoch=2,
        stock={"hat": Card({"S": Position(9, 2)}, (PA,)), "shoe": Card({"W": Position(10, 5)}, (B, PA), 3)},
        operations={PA: after},
        due=LOOK,
        log=[(7, [Reserved(PA, after)])],
    )


@pytest.mark.parametrize(
    ("before", "had", "word"),
    [
        # It was told of a later step, or an earlier life of the id had other versions.
        (part(TWO, (1, 9)), ((2, 0), (5, 0), (0, 0)), b"superseded"),
        (part(TWO, (2, 1)), ((2, 0), (5, 0), (0, 0)), b"superseded"),
        (Fact(b"12345678", 1, 1, 1), ((2, 0), (5, 0), (0, 0)), b"superseded"),
        (Bound(), ((2, 0), (5, 0), (0, 0)), b"superseded"),
        (basket(TWO, HELD), ((2, 0), (5, 0), (0, 0)), b"superseded"),
        # It has not heard of a step: units were given back, committed, or have left; or it has no such part.
        (BEFORE, ((2, 0), (4, 0), (0, 0)), b"behind"),
        (BEFORE, ((2, 0), (0, 5), (0, 0)), b"behind"),
        (BEFORE, ((0, 0), (5, 0), (0, 0)), b"behind"),
        (BEFORE, ((2, 0), (5, 0), (1, 0)), b"behind"),
        (None, ((0, 0), (5, 0), (0, 0)), b"behind"),
        (part(TWO, (1, 5), RELEASED), ((0, 0), (5, 0), (0, 0)), b"behind"),
        # What was offered at an earlier version is void.
        (offered(TWO, (1, 7)), ((2, 0), (5, 0), (0, 0)), b"behind"),
        # At the same version: the same, less, or of another line.
        (
            offered((("hat", "S", 2), ("shoe", "W", 6), ("coat", "W", 1))),
            ((2, 0), (5, 0), (0, 0)),
            b"repeated",
        ),
        (offered(TWO), ((2, 0), (5, 0), (0, 0)), b"taken"),
        (offered((*TWO, ("coat", "W", 1))), ((2, 0), (5, 0), (0, 0)), b"taken"),
        (
            offered((("hat", "S", 2), ("shoe", "W", 6), ("coat", "W", 1), ("sock", "W", 1))),
            ((2, 0), (5, 0), (0, 0)),
            b"taken",
        ),
    ],
)
def test_what_stands_in_its_way(
    books: Books, before: Operation | None, had: tuple[tuple[int, int], ...], word: bytes
) -> None:
    """Nothing is changed, and who must ask the home when stays as it is."""
    operations = {} if before is None else {PA: before}
    stock = {**STOCK, "coat": Card({"W": Position(3)})}
    books.seed(stock=stock, operations=operations)
    lines = (("hat", "S", 2), ("shoe", "W", 6), ("coat", "W", 1))
    assert books.one(offer(PA, ask(lines), *had)) == [word]
    books.expect(stock=stock, operations=operations)


@pytest.mark.parametrize(
    ("lines", "had", "answer"),
    [
        # Short of shoes and of coats; what it has is among what is available.
        (
            (("coat", "W", 4), ("hat", "S", 3), ("shoe", "W", 11)),
            ((0, 0), (2, 0), (5, 0)),
            [b"insufficient_stock", 1, 2, 10, 11, 0, 3, 4],
        ),
        (
            (("coat", "N", 4), ("hat", "S", 2), ("shoe", "W", 5)),
            ((0, 0), (2, 0), (5, 0)),
            [b"not_stocked", 1, 0],
        ),
        (
            (("hat", "S", 2), ("shoe", "W", 11), ("coat", "N", 1), ("belt", "W", 1)),
            ((2, 0), (5, 0), (0, 0), (0, 0)),
            [b"sku_not_found", 1, 3],
        ),
    ],
)
def test_what_is_refused(
    books: Books, lines: Lines, had: tuple[tuple[int, int], ...], answer: list[object]
) -> None:
    """Named by its index in the request, in the order of the part."""
    stock = {**STOCK, "coat": Card({"W": Position(3)})}
    books.seed(stock=stock, operations={PA: BEFORE})
    assert books.one(offer(PA, ask(lines), *had)) == answer
    books.expect(stock=stock, operations={PA: BEFORE})


def test_a_part_that_cannot_begin(books: Books) -> None:
    stock = {"hat": Card({"S": Position(1)}), "shoe": Card({"W": Position(10)})}
    books.seed(stock=stock)
    assert books.one(offer(PA, ask(TWO), (0, 0), (0, 0))) == [b"insufficient_stock", 1, 0, 1, 2]
    books.expect(stock=stock)


def test_what_has_lapsed_makes_room(books: Books) -> None:
    """Also of the same card."""
    lapsed = Hold((("shoe", "W", 5),), deadline_ms=NOW)
    books.seed(
        stock={"hat": STOCK["hat"], "shoe": Card({"W": Position(10, 10)}, (B, PA))},
        operations={PA: BEFORE, B: lapsed},
        due={(NOW, "h", (B,))},
    )
    lines = (("hat", "S", 2), ("shoe", "W", 9))
    assert books.one(offer(PA, ask(lines), (2, 0), (5, 0))) == 3
    gone = lapsed._replace(
        state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=2, deadline_ms=NOW + RETENTION_MS
    )
    after = offered(lines)._replace(changed=3)
    books.expect(
        seq=3,
        stock={"hat": STOCK["hat"], "shoe": Card({"W": Position(10, 9)}, (PA,))},
        operations={PA: after, B: gone},
        due=LOOK | {(NOW + RETENTION_MS, "p", (B,))},
        log=[(3, [Resolved(EXPIRE, B, gone), Replanned(PA, after)])],
    )


def test_requests_of_one_call(books: Books) -> None:
    """Each sees what those before it hold: a repeat, another one of that version, one of another basket."""
    books.seed(stock=STOCK, operations={PA: BEFORE})
    lines, others = (("hat", "S", 2), ("shoe", "W", 8)), (("hat", "S", 3), ("shoe", "W", 5))
    answers = books.batch(
        offer(PA, ask(lines), (2, 0), (5, 0)),
        offer(PA, ask(lines), (2, 0), (5, 0)),
        offer(PA, ask(others), (2, 0), (5, 0)),
        offer(PB, ask((("shoe", "W", 3),)), (0, 0)),
        offer(PB, ask((("shoe", "W", 2),)), (0, 0)),
    )
    assert answers == [2, [b"repeated"], [b"taken"], [b"insufficient_stock", 2, 0, 2, 3], 3]


def test_terms_of_a_part(books: Books) -> None:
    """Its channel takes of its fence first, and has no more than that where it does not spill."""
    terms = pack_terms("web", ())
    before = part(SHOE)._replace(detail=pack_version((1, 5)) + terms)
    fence = Fence("web", 3, 5)
    place = Position(20, 5, fenced=3, flags=1)
    books.seed(stock={"shoe": Card({"W": place}, (PA,))}, operations={PA: before})
    books.raw("HSET", "inv:{0}:stock", "\nW=shoe", fence.packed)
    nine, eight = (("shoe", "W", 9),), (("shoe", "W", 8),)
    assert books.one(offer(PA, ask(nine), (5, 0))) == [b"insufficient_stock", 1, 0, 8, 9]
    assert books.one(offer(PA, ask(eight), (5, 0))) == 2
    after = offered(eight, before=before)._replace(detail=pack_version((1, 8)) + terms + OFFERED)
    found = books.read()
    assert found["inv:{0}:ops"] == {PA: after.packed(PA)}
    assert found["inv:{0}:stock"][b"\nW=shoe"] == Fence("web", 0, 8).packed
