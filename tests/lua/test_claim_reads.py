"""What is read to strike a claim out: the block that the record names, once for each card, and no other."""

from tests.lua.books import (
    EXPIRE,
    EXPIRED,
    NOW,
    Books,
    Card,
    Hold,
    Position,
    Request,
    choose,
    committing,
    name,
    resolve,
)

A, B, C, X, Y = (name(number) for number in (1, 2, 3, 7, 8))


def reads(books: Books, request: Request) -> int:
    """How many fields were read one by one."""
    before = books.calls("hget")
    assert books.one(request)
    return books.calls("hget") - before


def test_lines_on_one_card_share_a_claim(books: Books) -> None:
    """It ends once, also behind a line of another card."""
    shoe = Card({"S": Position(5, 2), "W": Position(5, 3)}, (A,), block=2, blocks={0: (X,), 1: (Y,)})
    hat = Card({"W": Position(5, 1)}, (A,), block=2, blocks={0: (X,), 1: (Y,)})
    two = (("shoe", "S", 2), ("shoe", "W", 3))
    for lines in (two, (two[0], ("hat", "W", 1), two[1])):
        hold = Hold(lines, blocks=(2,) * len(lines))
        books.seed(stock={"shoe": shoe, "hat": hat}, operations={A: hold})
        assert reads(books, resolve("release", A, choose())) == 1, "the sequence, for the test"


def test_each_line_names_its_own_block(books: Books) -> None:
    """Of its card."""
    shoe = Card({"W": Position(5, 2)}, (B,), block=2, blocks={0: (X,), 1: (Y, A)})
    hat = Card({"W": Position(5, 1)}, (B,), block=2, blocks={0: (X, A), 1: (Y,)})
    hold = Hold((("shoe", "W", 2), ("hat", "W", 1)), blocks=(1, 0))
    books.seed(stock={"shoe": shoe, "hat": hat}, operations={A: hold})
    assert reads(books, resolve("release", A, choose())) == 3


def test_what_was_given_back_has_no_claim(books: Books) -> None:
    """Taken anew and gone at once: none is looked for."""
    lapsed = Hold((("shoe", "W", 2),), EXPIRED, EXPIRE, EXPIRE, deadline_ms=NOW + 5, blocks=(2,))
    shoe = Card({"W": Position(5)}, (B,), block=2, blocks={0: (X,), 1: (Y,)})
    books.seed(stock={"shoe": shoe}, operations={A: lapsed})
    assert reads(books, resolve("commit", A, committing(fulfil=1, retake=1))) == 1
