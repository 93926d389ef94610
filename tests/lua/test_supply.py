from itertools import permutations

import pytest

from tests.lua.books import (
    NOW,
    RETENTION_MS,
    Books,
    Card,
    Divided,
    Expected,
    Fact,
    Hold,
    Position,
    Supplied,
    name,
    page_of,
    place_of,
    places_of_pages,
    supplies,
    supply,
)

M, N, P, Q, R = (name(number) for number in range(1, 6))
ONE, TWO, SIX = (name(number) for number in (31, 32, 33))
MARK = b"content1"
PLACES = {"W": b"settings", "S": b"settings"}
LATER = NOW + RETENTION_MS


def heard(mark: bytes, seq: int, inbound: int, available: int) -> Fact:
    """What is kept of a supply, and what it answered."""
    return Fact(mark, seq, inbound, available, is_supply=True)


def test_the_first_that_is_expected(books: Books) -> None:
    """The position is made, its card gets the counters of a policy, and the source is filed."""
    books.seed(locations=PLACES)
    fact, expected = heard(MARK, 2, 5, 0), Expected(ONE, 5, NOW + 9, kind=2)
    assert books.one(supply(M, expected)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(inbound=5)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Supplied(M, fact, expected)])],
        locations=PLACES,
        stocked={"W": 1},
        inbound={("W", "shoe"): [expected]},
    )


def test_many_sources_of_one_call(books: Books) -> None:
    """They stand by their time, then by their id; one that is set anew is moved; one with nothing goes."""
    books.seed(locations=PLACES, stock={"shoe": Card({"W": Position(3, 1)})}, stocked={"W": 7})
    late, soon = Expected(ONE, 5, NOW + 9), Expected(TWO, 2, NOW + 1)
    same, moved, gone = Expected(SIX, 4, NOW + 9), Expected(TWO, 3, NOW + 9), Expected(ONE, 0, NOW)
    asked = [late, soon, same, moved, gone]
    answers = books.batch(*(supply(one, each) for one, each in zip((M, N, P, Q, R), asked, strict=True)))
    numbers = [(2, 5), (3, 7), (4, 11), (5, 12), (6, 7)]
    facts = {
        one: heard(MARK, seq, units, 2) for one, (seq, units) in zip((M, N, P, Q, R), numbers, strict=True)
    }
    assert answers == [fact.result for fact in facts.values()]
    books.expect(
        seq=6,
        stock={"shoe": Card({"W": Position(3, 1, inbound=7)})},
        operations=facts,
        due={(LATER, "p", tuple(facts))},
        log=[(6, [Supplied(one, facts[one], each) for one, each in zip(facts, asked, strict=True)])],
        locations=PLACES,
        stocked={"W": 7},
        inbound={("W", "shoe"): [moved, same]},
    )


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_order_of_sources(books: Books, order: tuple[int, ...]) -> None:
    """The earliest first, of the same moment the smaller id, however they came."""
    sources = [Expected(TWO, 1, NOW + 1), Expected(ONE, 2, NOW + 5), Expected(TWO[:-1] + b"9", 3, NOW + 5)]
    sources.append(Expected(SIX, 4, NOW + 9))
    books.seed(locations=PLACES)
    for number, index in enumerate(order, 1):
        books.one(supply(name(number), sources[index]))
    field = books.raw("HGET", books.key("inbound"), b"\nW=shoe")
    assert field == b"".join(one.packed for one in sources)


def test_the_last_source_goes(books: Books) -> None:
    """Nothing is left in the inbound hash; the place of another SKU is another field."""
    other = Expected(TWO, 1)
    books.seed(
        locations=PLACES,
        stock={"shoe": Card({"W": Position(1, inbound=5)}), "hat": Card({"W": Position(inbound=1)})},
        stocked={"W": 2},
        inbound={("W", "shoe"): [Expected(ONE, 5)], ("W", "hat"): [other]},
    )
    fact, gone = heard(MARK, 2, 0, 1), Expected(ONE, 0)
    assert books.one(supply(M, gone, 5)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(1)}, form=2), "hat": Card({"W": Position(inbound=1)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Supplied(M, fact, gone, 5)])],
        locations=PLACES,
        stocked={"W": 2},
        inbound={("W", "hat"): [other]},
    )


@pytest.mark.parametrize(
    ("left", "received", "preordered"),
    [(10, 0, 6), (6, 0, 6), (5, 0, 5), (0, 0, 0), (6, 4, 6), (3, 7, 3), (1, 3, 1), (4, 6, 4), (5, 1, 5)],
)
def test_what_will_not_come_is_not_promised(books: Books, left: int, received: int, preordered: int) -> None:
    """No more are promised than will come. What came is given to those who wait by the movement behind it."""
    before = Position(2, 6, inbound=10, preordered=6)
    books.seed(
        locations=PLACES,
        stock={"shoe": Card({"W": before})},
        stocked={"W": 1},
        inbound={("W", "shoe"): [Expected(ONE, 10)]},
    )
    expected = Expected(ONE, left)
    fact = heard(MARK, 2, left, max(0, 2 - 6 + preordered))
    assert books.one(supply(M, expected, received)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": before._replace(inbound=left, preordered=preordered)}, form=2)},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Supplied(M, fact, expected, received)])],
        locations=PLACES,
        stocked={"W": 1},
        inbound={("W", "shoe"): [expected]} if left else None,
    )


def test_the_same_again(books: Books) -> None:
    """In one call and later it is set once; other content, or an id of another kind, mismatches."""
    hold = Hold((("shoe", "W", 1),))
    books.seed(locations=PLACES, operations={N: hold})
    expected = Expected(ONE, 5)
    fact, mismatch = heard(MARK, 2, 5, 0), [b"idempotency_mismatch"]
    other = supply(M, Expected(ONE, 6), fingerprint=b"content2")
    asked = [supply(M, expected), supply(M, expected), other, supply(N, expected)]
    assert books.batch(*asked) == [fact.result, [b"replayed", fact.result], mismatch, mismatch]
    assert books.batch(*asked[1:]) == [[b"replayed", fact.result], mismatch, mismatch]
    assert books.one(asked[0]) == [b"replayed", fact.result]
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(inbound=5)})},
        operations={M: fact, N: hold},
        due={(LATER, "p", (M,))},
        log=[(2, [Supplied(M, fact, expected)])],
        locations=PLACES,
        stocked={"W": 1},
        inbound={("W", "shoe"): [expected]},
    )


def test_refusals(books: Books) -> None:
    """An unknown place, and more than is counted; nothing is left of them."""
    full = [Expected(name(40 + number), 250_000_000_000_000 - 5 * (number == 3)) for number in range(4)]
    stock = {"shoe": Card({"W": Position(1, inbound=10**15 - 5)})}
    inbound = {("W", "shoe"): full}
    books.seed(locations=PLACES, stock=stock, stocked={"W": 1}, inbound=inbound)
    asked = [supply(M, Expected(ONE, 1), location="X"), supply(N, Expected(ONE, 6))]
    assert books.batch(*asked) == [[b"location_not_found", 1], [b"quantity_out_of_range", 1, 10**15 - 5]]
    books.expect(stock=stock, locations=PLACES, stocked={"W": 1}, inbound=inbound)
    fact = heard(MARK, 2, 10**15, 1)
    assert books.one(supply(N, Expected(ONE, 5))) == fact.result
    less = supply(P, Expected(name(40), 249_999_999_999_999))
    assert books.one(less) == heard(MARK, 3, 10**15 - 1, 1).result


def test_places_of_one_card(books: Books) -> None:
    """A new place of a card, and one that others have their counters beside."""
    books.seed(locations=PLACES, stock={"shoe": Card({"W": Position(3)})}, stocked={"W": 1})
    one, two = Expected(ONE, 5), Expected(ONE, 6)
    facts = {M: heard(MARK, 2, 5, 0), N: heard(MARK, 3, 6, 3)}
    asked = [supply(M, one, location="S"), supply(N, two)]
    assert books.batch(*asked) == [fact.result for fact in facts.values()]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(3, inbound=6), "S": Position(inbound=5)})},
        operations=facts,
        due={(LATER, "p", (M, N))},
        log=[(3, [Supplied(M, facts[M], one, location="S"), Supplied(N, facts[N], two)])],
        locations=PLACES,
        stocked={"W": 1, "S": 1},
        inbound={("S", "shoe"): [one], ("W", "shoe"): [two]},
    )


def test_reading(books: Books) -> None:
    """Cards and what is expected, of a whole SKU, a divided one and one that nobody knows."""
    shoe = Card({"W": Position(3, inbound=5), "S": Position(1), "T": Position(inbound=2)})
    pages = {page_of("W"): Card({"W": Position(2)}), page_of("S"): Card({"S": Position(inbound=7)})}
    expected = [Expected(ONE, 2), Expected(TWO, 3)]
    books.seed(
        stock={"shoe": shoe, "hat": Divided(pages)},
        inbound={("W", "shoe"): expected, ("T", "shoe"): expected[:1], ("S", "hat"): expected[1:]},
    )
    whole = [[shoe.packed], [b"\nW=", b"".join(one.packed for one in expected), b"\nT=", expected[0].packed]]
    divided = [[pages[page].packed for page in sorted(pages)], [b"\nS=", expected[1].packed]]
    asked = [supplies("shoe"), supplies("none"), supplies("hat")]
    assert books.batch(*asked) == [whole, [[], []], divided]


def test_reading_a_sku_of_very_many_places(books: Books) -> None:
    """Each of its cards, and what is expected on each."""
    found = places_of_pages()
    pages = {page: Card({at: Position(page, inbound=1)}) for page, at in found.items()}
    expected = {(at, "hat"): [Expected(ONE, 1)] for at in found.values()}
    books.seed(stock={"hat": Divided(pages)}, inbound=expected)
    cards, told = books.one(supplies("hat"))
    assert cards == [pages[page].packed for page in sorted(pages)]
    wanted = [(place_of(found[page]), Expected(ONE, 1).packed) for page in sorted(pages)]
    assert list(zip(told[::2], told[1::2], strict=True)) == wanted


def test_reading_while_holds_have_lapsed(books: Books) -> None:
    """They are to be given back first; what is not known has none."""
    shoe = Card({"W": Position(3)})
    books.seed(stock={"shoe": shoe}, due={(NOW, "h", (M,))})
    asked = [supplies("shoe"), supplies("none"), supplies("shoe", swept=True)]
    assert books.batch(*asked) == [[b"overdue"], [[], []], [[shoe.packed], []]]
