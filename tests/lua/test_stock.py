import pytest

from tests.lua.books import NOW, Books, Position, Stock, name

WIDE = Position(10**15, 1, 2, 3, 4, 5, 6, 7)
SHOE = Stock({"W": Position(10, 3, 2, 1), "S": WIDE}, {("W", name(1)): 1})
W = [b"W", 10, 3, 2, 1, 0, 0, 0, 0, 4]
S = [b"S", *WIDE, 10**15 - 16]


def test_every_counter(books: Books) -> None:
    """All eight counters as they stand and what follows from them; nothing changes."""
    books.seed(seq=8, stock={"shoe": SHOE})
    ask = books.commands.stock
    asked = [ask("shoe", places, swept=False) for places in ((), ("S", "W"), ("Y", "S"), ("Y",))]
    assert books.batch(*asked) == [[8, *W, *S], [8, *S, *W], [8, *S], [8]]
    books.expect(seq=8, stock={"shoe": SHOE})


@pytest.mark.parametrize(
    "position",
    [
        Position(2**31 - 1, 2**31 - 1, 2**31 - 1, -(2**31)),
        Position(2**31),
        Position(0, 2**31),
        Position(0, 0, 2**31),
        Position(-(2**31) - 1),
        Position(0, 0, 0, 2**31),
        Position(1, safety_stock=2**31 - 1),
        Position(1, safety_stock=2**31),
        Position(1, backorder_limit=2**31),
        Position(1, fenced=2**31),
        Position(1, low_stock=2**31),
        Position(-(2**31) - 1, low_stock=1),
        Position(1, safety_stock=1),
        Position(1, backorder_limit=1),
        Position(1, fenced=1),
        Position(1, low_stock=1),
        Position(1, 2, 3, 4, 5, 6, 7, 8),
    ],
)
def test_every_width(books: Books, position: Position) -> None:
    """Four or eight counters in four or seven bytes are read as they were meant."""
    books.seed(stock={"shoe": Stock({"W": position})})
    answer = books.one(books.commands.stock("shoe", (), swept=False))
    free = position[0] - sum(position[1:5]) - position.fenced
    assert answer == [1, b"W", *position, max(free, -position.backorder_limit)]


def test_words(books: Books) -> None:
    """An unknown SKU is told at once; lapsed holds are swept first, unless that was just done."""
    due = {(NOW, "h", (name(1),))}
    books.seed(stock={"shoe": SHOE}, due=due)
    ask = books.commands.stock
    answers = books.batch(
        ask("hat", (), swept=False),
        ask("hat", ("W",), swept=True),
        ask("shoe", ("W",), swept=False),
        ask("shoe", ("W",), swept=True),
    )
    assert answers == [[b"sku_not_found", 1], [b"sku_not_found", 1], [b"overdue"], [1, *W]]
    books.expect(stock={"shoe": SHOE}, due=due)
    books.seed(stock={"shoe": SHOE}, due={(NOW + 1, "h", (name(1),))})
    assert books.one(ask("shoe", ("W",), swept=False)) == [1, *W]
    books.seed(stock={"shoe": SHOE})
    assert books.one(ask("shoe", ("W",), swept=False)) == [1, *W]
