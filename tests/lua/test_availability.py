import pytest

from tests.lua.books import NOW, Books, Position, Stock, name

IN_STOCK, LOW_STOCK, OUT_OF_STOCK, BACKORDER = range(4)
SHOE = Stock(
    {"W": Position(10, 3, 2, 1), "S": Position(1, low_stock=1), "X": Position()}, {("W", name(1)): 1}
)


@pytest.mark.parametrize(
    ("position", "available", "status"),
    [
        (Position(10), 10, IN_STOCK),
        (Position(10, 3, 2, 1, 1, 0, 1), 2, IN_STOCK),
        (Position(10, 3, 2, 1, 1, 0, 1, 1), 2, IN_STOCK),
        (Position(10, 3, 2, 1, 1, 0, 1, 2), 2, LOW_STOCK),
        (Position(1, low_stock=5), 1, LOW_STOCK),
        (Position(1), 1, IN_STOCK),
        (Position(0), 0, OUT_OF_STOCK),
        (Position(0, low_stock=5), 0, OUT_OF_STOCK),
        (Position(0, backorder_limit=1), 0, BACKORDER),
        (Position(0, 1, backorder_limit=2), -1, BACKORDER),
        (Position(0, 2, backorder_limit=2), -2, OUT_OF_STOCK),
        (Position(0, 3, backorder_limit=2), -2, OUT_OF_STOCK),
        (Position(-5), 0, OUT_OF_STOCK),
        (Position(10**15), 10**15, IN_STOCK),
        (Position(-(10**15), backorder_limit=10**15 + 10**14), -(10**15), BACKORDER),
    ],
)
def test_what_a_shopper_sees(books: Books, position: Position, available: int, status: int) -> None:
    """The number never falls below what may be back-ordered; the status follows from it."""
    stock = {"shoe": Stock({"W": position})}
    books.seed(seq=5, stock=stock)
    answer = books.one(books.commands.availability("shoe", (), swept=False))
    assert answer == [5, b"W", available, status]
    books.expect(seq=5, stock=stock)


def test_the_asked_places(books: Books) -> None:
    """All that stock it, in the order in which they began to; or those asked, in the order asked."""
    books.seed(stock={"shoe": SHOE})
    ask = books.commands.availability
    w, s, x = [b"W", 4, IN_STOCK], [b"S", 1, LOW_STOCK], [b"X", 0, OUT_OF_STOCK]
    asked = [
        ask("shoe", (), swept=False),
        ask("shoe", ("S", "W"), swept=False),
        ask("shoe", ("Y", "X"), swept=False),
        ask("shoe", ("Y",), swept=False),
    ]
    assert books.batch(*asked[:1], *asked[1:]) == [[1, *w, *s, *x], [1, *s, *w], [1, *x], [1]]
    books.expect(stock={"shoe": SHOE})


def test_a_sku_that_nobody_stocks(books: Books) -> None:
    """Unknown is not the same as unstocked at the asked places; it is told before a sweep is asked for."""
    due = {(NOW, "h", (name(1),))}
    books.seed(stock={"shoe": SHOE}, due=due)
    ask = books.commands.availability
    answers = books.batch(
        ask("hat", (), swept=False), ask("hat", ("W",), swept=False), ask("shoe", ("Y",), swept=True)
    )
    assert answers == [[b"sku_not_found", 1], [b"sku_not_found", 1], [1]]
    books.expect(stock={"shoe": SHOE}, due=due)


@pytest.mark.parametrize(("when", "is_overdue"), [(NOW - 1, True), (NOW, True), (NOW + 1, False)])
def test_lapsed_holds_are_swept_first(books: Books, when: int, is_overdue: bool) -> None:
    """Nobody is shown a number that counts a hold which has lapsed by this millisecond."""
    due = {(when, "h", (name(1),)), (NOW + 5, "h", (name(2),))}
    books.seed(stock={"shoe": SHOE}, due=due)
    ask = books.commands.availability
    answers = books.batch(ask("shoe", ("S",), swept=False), ask("shoe", ("S",), swept=True))
    shown = [1, b"S", 1, LOW_STOCK]
    assert answers == [[b"overdue"] if is_overdue else shown, shown]
    books.expect(stock={"shoe": SHOE}, due=due)


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
def test_a_chain_of_many_stores(books: Books, count: int) -> None:
    """More places than one read may name are read by several."""
    stock = {"shoe": Stock({f"store-{number}": Position(number) for number in range(count)})}
    books.seed(stock=stock)
    answer = books.one(books.commands.availability("shoe", (), swept=False))
    assert answer[1::3] == [b"store-%d" % number for number in range(count)]
    assert answer[2::3] == list(range(count))
    asked = tuple(f"store-{number}" for number in reversed(range(count)))
    answer = books.one(books.commands.availability("shoe", asked, swept=False))
    assert answer[2::3] == list(reversed(range(count)))
