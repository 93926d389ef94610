import pytest

from tests.lua.books import NOW, Books, Card, Divided, Position, cards, fields_of, name, page_of

A, B = name(1), name(2)
SHOE = Card(
    {"W": Position(10, 3, 2, 1), "S": Position(1), "X": Position()},
    (A, B),
    block=3,
    first=1,
    blocks={2: (name(3),), 1: (name(4), name(5))},
)


def test_a_card_as_it_stands(books: Books) -> None:
    """Each SKU's card in the order asked, empty where there is none; nothing changes."""
    stock = {"shoe": SHOE, "hat": Card({"W": Position(1)}), "s": Card({})}
    books.seed(seq=8, stock=stock)
    asked = [cards("hat"), cards("shoe"), cards("sock"), cards("hat"), cards("s")]
    hat = stock["hat"].packed
    assert books.batch(*asked) == [hat, SHOE.packed, b"", hat, stock["s"].packed]
    books.expect(seq=8, stock=stock)


@pytest.mark.parametrize(
    "position",
    [
        Position(2**31 - 1, 2**31 - 1, 2**31 - 1, -(2**31)),
        Position(2**31),
        Position(-(2**31) - 1, low_stock=1),
        Position(1, 2, 3, 4, 5, 6, 7, 8),
    ],
)
def test_every_form(books: Books, position: Position) -> None:
    """A card is told as it is stored, whatever its form."""
    stock = {"shoe": Card({"W": position}, (A,))}
    books.seed(stock=stock)
    assert books.one(cards("shoe")) == stock["shoe"].packed
    books.expect(stock=stock)


def test_a_divided_sku(books: Books) -> None:
    """The number of its pages, then the cards that there are in the order of the pages."""
    places = [f"store-{number}" for number in range(9)]
    pages = {page_of(place): Card({place: Position(at)}, (name(at),)) for at, place in enumerate(places)}
    assert len(pages) == 9
    pages[0] = Card({"first": Position(1)})
    pages[63] = Card({"last": Position(1)}, block=1, blocks={0: (A,)})
    stock = {"shoe": Divided(pages), "shoes": SHOE}
    books.seed(stock=stock)
    wanted = [64, *(pages[page].packed for page in sorted(pages))]
    assert books.batch(cards("shoe"), cards("shoes"), cards("shoe", swept=True)) == [
        wanted,
        SHOE.packed,
        wanted,
    ]
    books.expect(stock=stock)


@pytest.mark.parametrize(("when", "is_overdue"), [(NOW - 1, True), (NOW, True), (NOW + 1, False)])
def test_lapsed_holds_are_swept_first(books: Books, when: int, is_overdue: bool) -> None:
    """Nobody is shown a number that counts a hold which has lapsed by this millisecond."""
    due = {(when, "h", (A,)), (NOW + 5, "h", (B,)), (NOW - 9, "p", (B,))}
    books.seed(stock={"shoe": SHOE}, due=due)
    asked = [cards("shoe"), cards("shoe", swept=True), cards("sock", swept=True)]
    assert books.batch(*asked) == [[b"overdue"] if is_overdue else SHOE.packed, SHOE.packed, b""]
    books.expect(stock={"shoe": SHOE}, due=due)


@pytest.mark.parametrize("sku", ["{1}", "a:b", "100%", "靴", " ", "shoe=", "\N{GRINNING FACE}" * 64])
def test_odd_names(books: Books, sku: str) -> None:
    """A name of any printable text has a card of its own."""
    stock = {"shoe": SHOE, sku: Card({"W": Position(5)})}
    books.seed(stock=stock)
    assert books.batch(cards(sku), cards("shoe")) == [stock[sku].packed, SHOE.packed]
    assert set(fields_of(sku, stock[sku])) == {sku.encode()}
    books.expect(stock=stock)
