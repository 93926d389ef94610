import pytest

from tests.lua.books import EXTEND, NOW, Books, Hold, Position, Resolved, Stock, name

A, B = name(1), name(2)
STOCK = {"shoe": Stock({"W": Position(10, 5)}, {("W", A): 1})}
ZERO = ((0, 0, 0),)


@pytest.mark.parametrize(
    ("ttl_ms", "deadline_ms"),
    [(60_001, NOW + 60_001), (60_000, NOW + 60_000), (1, NOW + 60_000), (2_592_000_000, NOW + 2_592_000_000)],
)
def test_a_deadline_never_moves_back(books: Books, ttl_ms: int, deadline_ms: int) -> None:
    """The later of the old and the asked deadline holds; the index has one entry for it."""
    before = Hold((("shoe", "W", 5),))
    books.seed(stock=STOCK, operations={A: before}, due={(NOW + 60_000, "h", (A,))})
    after = before._replace(changed=2, deadline_ms=deadline_ms)
    assert books.one(books.resolve("extend", A, before, ttl_ms.to_bytes(6, "little"))) == after.head
    books.expect(
        seq=2,
        stock=STOCK,
        operations={A: after},
        due={(deadline_ms, "h", (A,))},
        log=[(2, [Resolved(EXTEND, A, after, ZERO)])],
    )


def test_a_shared_entry_stays_for_the_others(books: Books) -> None:
    """A hold whose entry names others gets an entry of its own; the old one is left to them."""
    before = Hold((("shoe", "W", 5),))
    books.seed(stock=STOCK, operations={A: before}, due={(NOW + 60_000, "h", (A, B))})
    after = before._replace(changed=2, deadline_ms=NOW + 90_000)
    assert books.one(books.resolve("extend", A, before, (90_000).to_bytes(6, "little"))) == after.head
    books.expect(
        seq=2,
        stock=STOCK,
        operations={A: after},
        due={(NOW + 60_000, "h", (A, B)), (NOW + 90_000, "h", (A,))},
        log=[(2, [Resolved(EXTEND, A, after, ZERO)])],
    )


def test_a_hold_that_is_late_but_on_the_books(books: Books) -> None:
    """State decides: a hold past its deadline that nobody swept is extended from now on."""
    before = Hold((("shoe", "W", 5),), progress=((3, 2, 0, 0),), deadline_ms=NOW - 1)
    books.seed(stock=STOCK, operations={A: before}, due={(NOW - 1, "h", (A,))})
    after = before._replace(changed=2, deadline_ms=NOW + 10)
    assert books.one(books.resolve("extend", A, before, (10).to_bytes(6, "little"))) == after.head
    books.expect(
        seq=2,
        stock=STOCK,
        operations={A: after},
        due={(NOW + 10, "h", (A,))},
        log=[(2, [Resolved(EXTEND, A, after, ZERO)])],
    )
