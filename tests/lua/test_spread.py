"""A reservation of one partition becomes a basket with one part, and nothing else changes."""

import pytest

from tests.lua.books import (
    BASKET,
    COMMIT,
    COMMITTED,
    HELD,
    NOW,
    PART,
    RELEASED,
    Books,
    Bound,
    Card,
    Hold,
    Operation,
    Position,
    Spread,
    basket,
    name,
    pack_terms,
    pack_version,
    part,
    part_name,
    spread,
)

A, B, C = (name(number) for number in range(1, 4))
PA = part_name(A)
DUE = {(NOW + 60_000, "h", (A,))}
BEFORE = Hold((("shoe", "W", 5), ("hat", "S", 2), ("shoe", "S", 1)), blocks=(0, 4, 0))
STOCK = {
    "shoe": Card({"W": Position(9, 6), "S": Position(3, 1)}, (C,), 1, 0, {0: (B, A, C)}),
    "hat": Card({"S": Position(2, 2)}, (A, B), 4),
}
RENAMED = {
    "shoe": Card({"W": Position(9, 6), "S": Position(3, 1)}, (C,), 1, 0, {0: (B, PA, C)}),
    "hat": Card({"S": Position(2, 2)}, (PA, B), 4),
}


def spread_out(before: Hold, seq: int = 2) -> tuple[Hold, Hold]:
    """The basket and its part."""
    whole = before._replace(kind=BASKET, revision=before.revision + 1, changed=seq, blocks=())
    own = before._replace(
        kind=PART,
        revision=0,
        changed=seq,
        ttl_ms=30_000,
        fingerprint=bytes(8),
        detail=pack_version((1, seq)),
    )
    return whole, own


def test_units_and_claims_stay(books: Books) -> None:
    """Claims have the part's name from now on, each in its old place, in a block as on a card."""
    books.seed(stock=STOCK, operations={A: BEFORE}, due=DUE)
    assert books.one(spread(A, PA)) == 2
    whole, own = spread_out(BEFORE)
    books.expect(
        seq=2,
        stock=RENAMED,
        operations={A: whole, PA: own},
        due=DUE,
        log=[(2, [Spread(A, whole, PA, own)])],
    )


def test_units_in_many_states(books: Books) -> None:
    """A card of which nothing is open has no claim to rename. What was left of an earlier life is over."""
    before = BEFORE._replace(
        state=HELD, held_end=COMMIT, revision=3, progress=((1, 2, 1, 1), (0, 0, 2, 0), (0, 1, 0, 0))
    )
    stock = {
        "shoe": Card({"W": Position(9, 1, 2), "S": Position(3, 0, 1)}, (B, A)),
        "hat": Card({"S": Position(2, 2)}, (B,), 4),
    }
    books.seed(stock=stock, operations={A: before, PA: part(BEFORE.lines, (1, 1), RELEASED)})
    assert books.one(spread(A, PA)) == 2
    whole, own = spread_out(before)
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(9, 1, 2), "S": Position(3, 0, 1)}, (B, PA)),
            "hat": stock["hat"],
        },
        operations={A: whole, PA: own},
        log=[(2, [Spread(A, whole, PA, own)])],
    )


def test_units_that_floated(books: Books) -> None:
    """They are bound from now on; of its terms the part has the channel."""
    terms = pack_terms("web", ("north", "south"), (1,))
    before = Hold((("shoe", "W", 5), ("shoe", "S", 1)), detail=terms + b"detail")
    stock = {"shoe": Card({"W": Position(9, 5, floating=5), "S": Position(3, 1, floating=0)}, (A,))}
    books.seed(stock=stock, operations={A: before})
    assert books.one(spread(A, PA)) == 2
    whole, own = spread_out(before)
    own = own._replace(detail=pack_version((1, 2)) + pack_terms("web", ()))
    bound = Card({"W": Position(9, 5), "S": Position(3, 1)}, (PA,), form=2)
    books.expect(
        seq=2,
        stock={"shoe": bound},
        operations={A: whole, PA: own},
        log=[(2, [Spread(A, whole, PA, own)])],
    )


@pytest.mark.parametrize(
    "before",
    [
        None,
        BEFORE._replace(changed=2),
        BEFORE._replace(changed_epoch=2),
        BEFORE._replace(state=RELEASED),
        basket(BEFORE.lines, COMMITTED),
        part(BEFORE.lines),
        Bound(),
    ],
)
def test_what_the_caller_has_not_read(books: Books, before: Operation | None) -> None:
    """Another version, another state, or nothing of the kind."""
    operations = {} if before is None else {A: before}
    books.seed(seq=2, stock=STOCK, operations=operations, due=DUE)
    assert books.one(spread(A, PA)) == [b"stale"]
    books.expect(seq=2, stock=STOCK, operations=operations, due=DUE)


def test_a_part_of_an_earlier_life(books: Books) -> None:
    """It has units of a basket that was abandoned, of which nobody has told it yet."""
    operations = {A: BEFORE, PA: part((("coat", "W", 1),))}
    books.seed(stock=STOCK, operations=operations, due=DUE)
    assert books.one(spread(A, PA)) == [b"behind"]
    books.expect(stock=STOCK, operations=operations, due=DUE)


def test_requests_of_one_call(books: Books) -> None:
    """A repeat finds a basket."""
    books.seed(stock=STOCK, operations={A: BEFORE}, due=DUE)
    assert books.batch(spread(A, PA), spread(A, PA), spread(B, PA)) == [2, [b"stale"], [b"stale"]]
