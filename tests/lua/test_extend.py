import pytest

from tests.lua.books import EXTEND, NOW, Books, Card, Hold, Position, Resolved, extending, name, resolve

A, B = name(1), name(2)
STOCK = {"shoe": Card({"W": Position(10, 5)}, (A,))}


@pytest.mark.parametrize(
    ("ttl_ms", "deadline_ms"),
    [(60_001, NOW + 60_001), (60_000, NOW + 60_000), (1, NOW + 60_000), (2_592_000_000, NOW + 2_592_000_000)],
)
def test_a_deadline_never_moves_back(books: Books, ttl_ms: int, deadline_ms: int) -> None:
    """The later of the old and the asked deadline holds; the index has one entry for it."""
    before = Hold((("shoe", "W", 5),))
    books.seed(stock=STOCK, operations={A: before}, due={(NOW + 60_000, "h", (A,))})
    after = before._replace(changed=2, deadline_ms=deadline_ms)
    assert books.one(resolve("extend", A, extending(ttl_ms))) == after.tail
    books.expect(
        seq=2,
        stock=STOCK,
        operations={A: after},
        due={(deadline_ms, "h", (A,))},
        log=[(2, [Resolved(EXTEND, A, after)])],
    )


def test_a_shared_entry_stays_for_the_others(books: Books) -> None:
    """A hold whose entry names others gets an entry of its own; the old one is left to them."""
    before = Hold((("shoe", "W", 5),))
    books.seed(stock=STOCK, operations={A: before}, due={(NOW + 60_000, "h", (A, B))})
    after = before._replace(changed=2, deadline_ms=NOW + 90_000)
    assert books.one(resolve("extend", A, extending(90_000))) == after.tail
    books.expect(
        seq=2,
        stock=STOCK,
        operations={A: after},
        due={(NOW + 60_000, "h", (A, B)), (NOW + 90_000, "h", (A,))},
        log=[(2, [Resolved(EXTEND, A, after)])],
    )


@pytest.mark.parametrize("known", [0, 1])
def test_a_hold_that_is_late_but_on_the_books(books: Books, known: int) -> None:
    """State decides: a hold past its deadline that nobody swept is extended from now on, in parts too."""
    lines = (("shoe", "W", 5), ("shoe", "S", 2))
    before = Hold(lines, progress=((3, 2, 0, 0), (0, 0, 1, 1)), deadline_ms=NOW - 1, blocks=(4, 5))
    books.seed(
        stock={"shoe": Card({"W": Position(10, 3, 2), "S": Position(1)}, (A,))},
        operations={A: before},
        due={(NOW - 1, "h", (A,))},
    )
    after = before._replace(changed=2, deadline_ms=NOW + 10)
    answer = books.one(resolve("extend", A, extending(10), known=known))
    assert answer == (after.tail if known == 0 else [2, after.packed(A)])
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(10, 3, 2), "S": Position(1)}, (A,))},
        operations={A: after},
        due={(NOW + 10, "h", (A,))},
        log=[(2, [Resolved(EXTEND, A, after)])],
    )
