"""What a card is made of: names that counters cannot be taken for, and counters of four bytes or seven."""

import pytest

from tests.lua.books import (
    Books,
    Card,
    Expected,
    Hold,
    Position,
    Request,
    Settings,
    committing,
    move,
    name,
    read_card,
    reserve,
    resolve,
    save_fence,
    save_policy,
    setting,
    supply,
)

A, B = name(1), name(2)
NARROW = 2**31 - 1
"""What four bytes hold."""
PLAIN = setting()
WEB = Settings(7, locations={"W": PLAIN}, channels={"web": setting()})


@pytest.mark.parametrize("policy", [Position(), Position(low_stock=2)])
def test_counters_that_read_like_a_place(books: Books, policy: Position) -> None:
    """They stand right behind the names, and are none."""
    like = policy._replace(on_hand=int.from_bytes(b"\nX=", "little"))
    books.seed(stock={"shoe": Card({"S": like})})
    first, second = (("shoe", "X", 1),), (("shoe", "S", 1), ("shoe", "X", 1))
    assert books.batch(reserve(A, Hold(first)), reserve(B, Hold(second))) == [
        [b"not_stocked", 1, 0], [b"not_stocked", 1, 1]
    ]  # fmt: skip


def grown(counter: str, value: int) -> tuple[Position, Request]:
    """A position of which a request brings a counter to a value."""
    before = Position(5)
    if counter == "allocated":
        return before._replace(held=1, allocated=value - 1), resolve("commit", A, committing())
    if counter == "unsellable":
        return before._replace(unsellable=value - 1), move(B, 0, moved=1, conditions=("", "damaged"))
    return before, {
        "safety_stock": save_policy("shoe", "W", (value, 0, 0)),
        "backorder_limit": save_policy("shoe", "W", (0, value, 0)),
        "fenced": save_fence("web", "shoe", "W", value),
        "inbound": supply(B, Expected(A, value)),
    }[counter]


@pytest.mark.parametrize(
    "counter", ["allocated", "unsellable", "safety_stock", "backorder_limit", "fenced", "inbound"]
)
def test_one_counter_that_outgrows_four_bytes(books: Books, counter: str) -> None:
    """Each alone gives its card seven; at the most that four bytes hold it has four."""
    for value in (NARROW, NARROW + 1):
        before, request = grown(counter, value)
        policy = 2 if counter in Position._fields[4:] else 0
        books.seed(
            stock={"shoe": Card({"W": before}, (A,))},
            operations={A: Hold((("shoe", "W", 1),))},
            stocked={"W": 1},
            settings=WEB,
        )
        answer = books.one(request)
        assert not (isinstance(answer, list) and isinstance(answer[0], bytes)), answer
        packed = books.raw("HGET", books.key("stock"), "shoe")
        assert packed[0] == policy + (value > NARROW)
        assert getattr(read_card(packed).positions["W"], counter) == value
