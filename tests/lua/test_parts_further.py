"""Parts of baskets in rarer states: what is offered to them, what they follow, and how they begin."""

import pytest

from engine.records import decode_record
from tests.lua.books import (
    COMMIT,
    COMMITTED,
    FULFILLED,
    HELD,
    NOW,
    OFFERED,
    RELEASED,
    Books,
    Card,
    Hold,
    Position,
    Request,
    follow,
    hold_part,
    name,
    offer,
    pack_terms,
    pack_version,
    part,
    part_name,
    read_card,
    spread,
)
from tests.lua.test_claim_reads import reads
from tests.lua.test_offer import ask, offered

A, B, C = (name(number) for number in range(1, 4))
PA = part_name(A)
ONE, SHOE, TWO = (("shoe", "W", 1),), (("shoe", "W", 5),), (("hat", "S", 2), ("shoe", "W", 5))
WEB = pack_terms("web", ())
ANYWHERE = pack_terms("", ("p",)) + b"detail"


def card(books: Books, sku: str) -> Card:
    return read_card(books.raw("HGET", books.key("stock"), sku))


def record(books: Books, of: bytes) -> bytes:
    return bytes(books.raw("HGET", books.key("ops"), of))


# ---------------------------------------------------------------- spread


def test_a_committed_unit_alone(books: Books) -> None:
    """Its claim is renamed, in the oldest of several blocks as well."""
    sold = Hold(ONE, COMMITTED, held_end=COMMIT)
    books.seed(
        stock={"shoe": Card({"W": Position(9, 0, 1)}, (C,), 2, 0, {0: (A,), 1: (B,)})}, operations={A: sold}
    )
    assert books.one(spread(A, PA)) == 2
    assert books.raw("HGET", books.key("stock"), "shoe\n\n0") == PA


def test_a_part_that_is_committed(books: Books) -> None:
    """It is of an earlier life as well as one that is held."""
    books.seed(
        stock={"shoe": Card({"W": Position(9, 1)}, (A,))},
        operations={A: Hold(ONE), PA: part(SHOE, (1, 1), COMMITTED)},
    )
    assert books.one(spread(A, PA)) == [b"behind"]


def test_every_line_that_floats_is_bound(books: Books) -> None:
    """Also the second of a card; one that has nothing held any more does not float."""
    lines = (("shoe", "W", 5), ("shoe", "S", 1), ("hat", "S", 2))
    before = Hold(lines, detail=ANYWHERE, progress=((5, 0, 0, 0), (1, 0, 0, 0), (0, 2, 0, 0)))
    shoe = Card({"W": Position(9, 5, floating=5), "S": Position(3, 1, floating=1)}, (A,))
    books.seed(stock={"shoe": shoe, "hat": Card({"S": Position(2, 0, 2)}, (A,))}, operations={A: before})
    assert books.one(spread(A, PA)) == 2
    assert card(books, "shoe").positions == {"W": Position(9, 5), "S": Position(3, 1)}
    assert card(books, "hat").positions == {"S": Position(2, 0, 2)}


def test_claims_are_looked_for_once(books: Books) -> None:
    """Of each card on which something is open."""
    lines = (("shoe", "W", 5), ("shoe", "S", 1), ("hat", "S", 2))
    before = Hold(lines, progress=((5, 0, 0, 0), (1, 0, 0, 0), (0, 0, 2, 0)), blocks=(2, 2, 0))
    shoe = Card({"W": Position(9, 5), "S": Position(3, 1)}, (A,), 2, 0, {0: (B,), 1: (C,)})
    hat = Card({"S": Position(2)}, (C,), 1, 0, {0: (B,)})
    books.seed(stock={"shoe": shoe, "hat": hat}, operations={A: before})
    assert reads(books, spread(A, PA)) == 1, "the sequence, for the test"
    assert card(books, "shoe").claims == (PA,)


# ---------------------------------------------------------------- offer


def test_a_line_of_which_nothing_is_open(books: Books) -> None:
    """Stays as it is, and is no matter of the offer."""
    before = part(TWO)._replace(progress=((0, 0, 0, 2), (5, 0, 0, 0)))
    stock = {"hat": Card({"S": Position(9)}), "shoe": Card({"W": Position(10, 5)}, (PA,))}
    books.seed(stock=stock, operations={PA: before})
    asked = offer(PA, ask((("shoe", "W", 6),)), (5, 0))
    assert books.batch(asked, asked) == [2, [b"repeated"]]
    after = offered((("hat", "S", 2), ("shoe", "W", 6)), before=before)
    assert record(books, PA) == after._replace(progress=((0, 0, 0, 2), (6, 0, 0, 0))).packed(PA)
    assert card(books, "hat").positions == {"S": Position(9)}


def test_more_than_one_unit(books: Books) -> None:
    """Of which the part has one."""
    books.seed(stock={"shoe": Card({"W": Position(10, 1)}, (PA,))}, operations={PA: part(ONE)})
    assert books.one(offer(PA, ask((("shoe", "W", 2),)), (1, 0))) == 2


@pytest.mark.parametrize("state", [HELD, COMMITTED])
def test_the_same_offer_of_a_channel(books: Books, state: int) -> None:
    """It is known again, whatever the state is of what the part had before."""
    units = (5, 0) if state == HELD else (0, 5)
    before = part(SHOE, (1, 8), state)._replace(detail=pack_version((1, 8)) + WEB + OFFERED)
    books.seed(stock={"shoe": Card({"W": Position(10, *units)}, (PA,))}, operations={PA: before})
    again = ask(SHOE)._replace(detail=pack_version((1, 8)) + WEB + OFFERED)
    assert books.one(offer(PA, again, units)) == [b"repeated"]


def test_each_place_that_is_missing(books: Books) -> None:
    """Is named as the offer has it."""
    stock = {"hat": Card({"S": Position(2, 2)}, (PA,)), "shoe": Card({"W": Position(5, 5)}, (PA,))}
    books.seed(stock=stock, operations={PA: part(TWO)})
    lines = (("shoe", "N", 1), ("hat", "N", 1), *TWO)
    asked = offer(PA, ask(lines), (0, 0), (0, 0), (2, 0), (5, 0))
    assert books.one(asked) == [b"not_stocked", 1, 0, 1]


@pytest.mark.parametrize(
    "request_",
    [
        offer(PA, ask(SHOE), (0, 0)),
        hold_part(PA, part(SHOE)._replace(detail=pack_version((1, 5)) + WEB)),
    ],
    ids=["offer", "hold_part"],
)
def test_very_much_has_lapsed(books: Books, request_: Request) -> None:
    """More than one call gives back: who is short is told to repeat."""
    names = tuple(name(1000 + number) for number in range(514))
    late = Hold((("coat", "W", 1),), deadline_ms=NOW - 1)
    blocks = {at: names[at * 16 : at * 16 + 16] for at in range(32)}
    books.seed(
        stock={
            "shoe": Card({"W": Position(4)}),
            "coat": Card({"W": Position(514, 514)}, names[512:], 32, blocks=blocks),
        },
        operations={each: late._replace(blocks=(at // 16,)) for at, each in enumerate(names)},
        due={(NOW - 2, "h", names[:500]), (NOW - 1, "h", names[500:512]), (NOW, "h", names[512:])},
    )
    assert books.one(request_) == [b"overdue"]
    assert books.one(request_) == [b"insufficient_stock", 515, 0, 4, 5]


# ---------------------------------------------------------------- follow


def seed_part(books: Books, before: Hold, hat: Position, shoe: Position) -> None:
    coat = Card({"W": Position(3)})
    cards = {"hat": Card({"S": hat}, (PA,)), "shoe": Card({"W": shoe}, (PA,)), "coat": coat}
    books.seed(stock=cards, operations={PA: before})


@pytest.mark.parametrize("units", [(0, 5, 0, 0), (1, 0, 0, 0)])
def test_one_line_is_left(books: Books, units: tuple[int, int, int, int]) -> None:
    """All of it committed, or one unit of it held."""
    seed_part(books, part(TWO), Position(2, 2), Position(10, 5))
    assert books.one(follow(PA, (1, 8), (("shoe", "W", 5),), units)) == 2
    assert card(books, "shoe").positions == {"W": Position(10, *units[:2])}
    assert card(books, "hat").positions == {"S": Position(2)}


def test_what_had_left_of_the_first_line(books: Books) -> None:
    """Does not leave once more when the lines are put in another order."""
    before = part(TWO)._replace(progress=((0, 0, 2, 0), (5, 0, 0, 0)))
    seed_part(books, before, Position(7), Position(10, 5))
    assert books.one(follow(PA, (1, 8), (TWO[1], TWO[0]), (5, 0, 0, 0), (0, 0, 2, 0))) == 2
    assert card(books, "hat").positions == {"S": Position(7)}


def test_a_line_that_the_part_never_had(books: Books) -> None:
    """It may have lost the offer: others may have these units by now."""
    seed_part(books, part(TWO), Position(2, 2), Position(10, 5))
    lines, units = (*TWO, ("coat", "W", 1)), ((2, 0, 0, 0), (5, 0, 0, 0), (1, 0, 0, 0))
    assert books.one(follow(PA, (1, 8), lines, *units)) == 2
    assert card(books, "coat").positions == {"W": Position(3)}
    assert card(books, "coat").claims == ()
    units_by_line = ((2, 0, 0, 0), (5, 0, 0, 0), (0, 0, 0, 1))
    found = part(lines)._replace(first_lines=TWO, first_detail=pack_version((1, 5)), progress=units_by_line)
    after = found._replace(changed=2, revision=1, detail=pack_version((1, 8)))
    assert record(books, PA) == after.packed(PA)


def test_more_of_a_line_than_the_part_has(books: Books) -> None:
    """Among other lines: it keeps what it has, and what was committed stays so."""
    seed_part(
        books, part(TWO)._replace(progress=((2, 0, 0, 0), (1, 2, 0, 2))), Position(2, 2), Position(10, 1, 2)
    )
    assert books.one(follow(PA, (1, 8), (("shoe", "W", 9),), (7, 2, 0, 0))) == 2
    assert card(books, "shoe").positions == {"W": Position(10, 1, 2)}
    assert card(books, "hat").positions == {"S": Position(2)}


def units_of(books: Books) -> list[tuple[int, int, int, int]]:
    """What the part has of each line."""
    found = decode_record(record(books, PA))
    return [*found.head.progress]


@pytest.mark.parametrize(
    ("shoe", "told", "has"),
    [((0, 0, 0, 5), (0, 2, 0, 1), (0, 0, 0, 3)), ((0, 1, 1, 3), (0, 2, 1, 0), (0, 1, 1, 1))],
)
def test_what_was_given_back_of_a_longer_line(
    books: Books,
    shoe: tuple[int, int, int, int],
    told: tuple[int, int, int, int],
    has: tuple[int, int, int, int],
) -> None:
    """The basket lost that the line was longer. No more counts as given back than the line has."""
    before = part(TWO)._replace(progress=((2, 0, 0, 0), shoe))
    seed_part(books, before, Position(2, 2), Position(10, 0, shoe[1]))
    lines = (("hat", "S", 2), ("shoe", "W", 3))
    assert books.one(follow(PA, (1, 8), lines, (1, 0, 0, 1), told)) == 2
    assert units_of(books) == [(1, 0, 0, 1), has]
    assert card(books, "shoe").positions == {"W": Position(10, 0, has[1])}


def test_what_was_given_back_beside_what_moves(books: Books) -> None:
    """The basket lost that units of one line were given back; it tells of the other."""
    before = part(TWO)._replace(progress=((2, 0, 0, 0), (0, 3, 0, 2)))
    seed_part(books, before, Position(2, 2), Position(10, 0, 3))
    assert books.one(follow(PA, (1, 8), TWO, (0, 2, 0, 0), (0, 3, 0, 0))) == 2
    assert units_of(books) == [(0, 2, 0, 0), (0, 3, 0, 2)]


@pytest.mark.parametrize("state", [RELEASED, FULFILLED])
def test_a_part_that_is_over_gets_no_lines(books: Books, state: int) -> None:
    before = part(TWO, (1, 5), state)
    seed_part(books, before, Position(2), Position(10))
    assert books.one(follow(PA, (1, 8), SHOE, (5, 0, 0, 0))) == [b"repeated"]
    assert record(books, PA) == before.packed(PA)
    assert card(books, "shoe").positions == {"W": Position(10)}


# ---------------------------------------------------------------- hold_part


def test_a_part_of_a_channel_begins_once(books: Books) -> None:
    """A repeat holds nothing more."""
    asked = hold_part(PA, part(SHOE)._replace(detail=pack_version((1, 5)) + WEB))
    books.seed(stock={"shoe": Card({"W": Position(20)})})
    assert books.batch(asked, asked) == [2, [b"repeated"]]
    assert books.one(asked) == [b"repeated"]
    shoe = card(books, "shoe")
    assert (shoe.positions, shoe.claims) == ({"W": Position(20, 5)}, (PA,))
