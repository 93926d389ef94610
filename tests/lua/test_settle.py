import pytest

from tests.lua.books import (
    ABANDONED,
    COMMITTED,
    HELD,
    NOW,
    RELEASED,
    Books,
    Bound,
    Fact,
    Hold,
    Memory,
    Operation,
    basket,
    name,
    part,
    settle,
)

A, B = name(1), name(2)
LINES = (("shoe", "W", 5),)
FILED = {(NOW + 5, "r", (A,)), (NOW + 5, "r", (B,))}


def step(state: int = COMMITTED) -> Hold:
    """A basket on which somebody took a step in epoch 2, at sequence 7."""
    return basket(LINES, state)._replace(created=4, changed=7, changed_epoch=2)


@pytest.mark.parametrize("state", [HELD, COMMITTED, RELEASED, ABANDONED])
def test_the_last_step(books: Books, state: int) -> None:
    """All know of it: there is nothing to repair."""
    books.seed(seq=9, epoch=3, operations={A: step(state), B: step()}, due=FILED)
    assert books.batch(settle(A, (2, 7)), settle(A, (2, 7))) == [1, 1]
    books.expect(seq=9, epoch=3, operations={A: step(state), B: step()}, due={(NOW + 5, "r", (B,))})


@pytest.mark.parametrize("version", [(2, 6), (2, 8), (1, 7), (3, 7), (1, 4)])
def test_another_step(books: Books, version: tuple[int, int]) -> None:
    """Another one followed, of which not all need know."""
    books.seed(seq=9, operations={A: step()}, due=FILED)
    assert books.one(settle(A, version)) == 0
    books.expect(seq=9, operations={A: step()}, due=FILED)


def test_requests_of_one_call(books: Books) -> None:
    """Each has its own answer."""
    books.seed(operations={A: step(), B: step()}, due=FILED)
    assert books.batch(settle(A, (2, 6)), settle(B, (2, 7)), settle(name(3), (2, 7))) == [0, 1, 1]
    books.expect(operations={A: step(), B: step()}, due={(NOW + 5, "r", (A,))})


@pytest.mark.parametrize(
    "before",
    [
        None,
        Hold(LINES),
        Fact(b"12345678", 1, 1, 1),
        Bound(),
        Memory(2, b"12345678", B, Hold(LINES).tail),
        part(LINES),
    ],
)
def test_no_basket_any_more(books: Books, before: Operation | None) -> None:
    """It was forgotten, or its id was used anew: whatever the version, nothing is left to repair."""
    operations = {} if before is None else {A: before}
    books.seed(operations=operations, due=FILED)
    assert books.one(settle(A, (2, 7))) == 1
    books.expect(operations=operations, due={(NOW + 5, "r", (B,))})
