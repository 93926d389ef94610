"""Policies of positions: what is stored and told, and what is refused."""

from tests.lua.books import Books, Card, PolicySaved, Position, move, name, reserve, save_policy
from tests.lua.books import Hold as Record

UNLIMITED = 10**15
OWN = 2
"""The flag of a policy that a caller wrote."""
PLACES = {"W": b"one", "S": b"two"}


def test_written_changed_and_deleted(books: Books) -> None:
    """The first policy of a card gives all its places room for one; equal numbers are no effect."""
    books.seed(
        stock={"shoe": Card({"S": Position(5), "W": Position(7, 1)})}, locations=PLACES, stocked={"W": 1}
    )
    asked = [(1, 2, 3), (1, 2, 3), (4, 2, 3)]
    answers = books.batch(*(save_policy("shoe", "W", numbers) for numbers in asked))
    assert answers == [2, [b"unchanged", 2], 3]
    stock = {"S": Position(5), "W": Position(7, 1, safety_stock=4, backorder_limit=2, low_stock=3, flags=OWN)}
    log = [(3, [PolicySaved("shoe", "W", (1, 2, 3)), PolicySaved("shoe", "W", (4, 2, 3))])]
    books.expect(seq=3, stock={"shoe": Card(stock)}, locations=PLACES, stocked={"W": 1}, log=log)
    assert books.batch(save_policy("shoe", "W", None), save_policy("shoe", "W", None)) == [
        4,
        [b"policy_not_found", 4],
    ]
    books.expect(
        seq=4,
        stock={"shoe": Card({"S": Position(5), "W": Position(7, 1)}, form=2)},
        locations=PLACES,
        stocked={"W": 1},
        log=[*log, (4, [PolicySaved("shoe", "W")])],
    )


def test_the_event_names_the_caller(books: Books) -> None:
    """Who writes a policy and who deletes it; who writes what is there already, leaves nothing."""
    books.seed(stock={"shoe": Card({"W": Position(5)})}, locations=PLACES)
    asked = [
        save_policy("shoe", "W", (1, 2, 3), caller=b"one"),
        save_policy("shoe", "W", (1, 2, 3), caller=b"two"),
        save_policy("shoe", "W", None, caller=b"two"),
    ]
    assert books.batch(*asked) == [2, [b"unchanged", 2], 3]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5)}, form=2)},
        locations=PLACES,
        log=[
            (3, [PolicySaved("shoe", "W", (1, 2, 3), caller=b"one"), PolicySaved("shoe", "W", caller=b"two")])
        ],
    )


def test_each_number_is_a_change(books: Books) -> None:
    """One number alone, from nothing and back: each is seen as a policy."""
    books.seed(stock={"shoe": Card({"W": Position(5)})}, locations=PLACES)
    for numbers in [(1, 0, 0), (0, 1, 0), (0, 0, 1)]:
        told = int(books.one(save_policy("shoe", "W", numbers)))
        assert books.one(save_policy("shoe", "W", numbers)) == [b"unchanged", told]
        assert books.one(save_policy("shoe", "W", None)) == told + 1
    assert books.one(save_policy("shoe", "W", (0, 0, 0))) == 8
    assert books.one(save_policy("shoe", "W", (0, 0, 0))) == [b"unchanged", 8]


def test_a_position_is_made(books: Books) -> None:
    """On a new card, on one that has others, and by a policy of nothing; a location counts them."""
    books.seed(stock={"shoe": Card({"W": Position(5, 2)})}, locations=PLACES, stocked={"W": 4})
    asked = [
        ("shoe", "S", (1, 0, 0)),
        ("sock", "W", (0, UNLIMITED, 0)),
        ("sock", "S", (0, 0, 0)),
        ("hat", "S", (0,) * 3),
    ]
    assert books.batch(*(save_policy(*each) for each in asked)) == [2, 3, 4, 5]
    books.expect(
        seq=5,
        stock={
            "shoe": Card({"W": Position(5, 2), "S": Position(safety_stock=1, flags=OWN)}),
            "sock": Card({"W": Position(backorder_limit=UNLIMITED, flags=OWN), "S": Position(flags=OWN)}),
            "hat": Card({"S": Position(flags=OWN)}),
        },
        locations=PLACES,
        stocked={"W": 5, "S": 3},
        log=[(5, [PolicySaved(sku, location, numbers) for sku, location, numbers in asked])],
    )


def test_refusals(books: Books) -> None:
    """A location must exist, and a policy that is deleted; nothing is written."""
    books.seed(stock={"shoe": Card({"W": Position(5)})}, locations=PLACES)
    asked = [
        ("shoe", "X", (1, 0, 0)),
        ("shoe", "X", None),
        ("shoe", "S", None),
        ("shoe", "W", None),
        ("hat", "W", None),
    ]
    answers = books.batch(*(save_policy(*each) for each in asked))
    none = [b"policy_not_found", 1]
    assert answers == [[b"location_not_found", 1], none, none, none, none]
    books.expect(stock={"shoe": Card({"W": Position(5)})}, locations=PLACES)


def test_wide_counters(books: Books) -> None:
    """Numbers beyond 4 bytes widen the card, which keeps what else it has."""
    wide = 2**31
    books.seed(stock={"shoe": Card({"W": Position(5), "S": Position(1)})}, locations=PLACES)
    for numbers in [(wide, 0, 0), (0, wide, 0)]:
        books.seed(stock={"shoe": Card({"W": Position(5), "S": Position(1)})}, locations=PLACES)
        assert books.one(save_policy("shoe", "S", numbers)) == 2
        safety, limit, _ = numbers
        position = Position(1, safety_stock=safety, backorder_limit=limit, flags=OWN)
        books.expect(
            seq=2,
            stock={"shoe": Card({"W": Position(5), "S": position})},
            locations=PLACES,
            log=[(2, [PolicySaved("shoe", "S", numbers)])],
        )


def test_many_places_divide_the_card(books: Books) -> None:
    """The policies stay with their places when a card is divided, and when a page gets one more."""
    locations = {f"L{number}": b"one" for number in range(40)}
    books.seed(locations=locations)
    asked = [save_policy("shoe", location, (number + 1, 0, 0)) for number, location in enumerate(locations)]
    assert books.batch(*asked[:33]) == list(range(2, 35))
    assert books.batch(*asked[33:]) == list(range(35, 42))
    again = books.batch(*asked)
    assert again == [[b"unchanged", 41]] * 40


def test_what_a_policy_withholds(books: Books) -> None:
    """Reserves in later calls see safety stock and backorder limit; what is untracked never runs out."""
    books.seed(stock={"shoe": Card({"W": Position(5)})}, locations=PLACES)
    books.one(save_policy("shoe", "W", (2, 0, 0)))
    line = Record((("shoe", "W", 4),))
    assert books.one(reserve(name(1), line)) == [b"insufficient_stock", 2, 0, 3, 4]
    books.one(save_policy("shoe", "W", (2, 1, 0)))
    assert books.one(reserve(name(2), line)) == 4
    books.one(save_policy("shoe", "W", (0, UNLIMITED, 0)))
    assert books.one(reserve(name(3), Record((("shoe", "W", 10**9),)))) == 6
    assert isinstance(books.one(move(name(4), -5)), bytes)
