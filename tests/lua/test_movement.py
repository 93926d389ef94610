from collections.abc import Awaitable

import pytest

from engine.commands import Reply
from tests.lua.books import (
    COMMITTED,
    NOW,
    RELEASED,
    RETENTION_MS,
    Books,
    Fact,
    Hold,
    Memory,
    Moved,
    Position,
    Stock,
    name,
)

M, N, Q, P = (name(number) for number in range(1, 5))
A, B, C, D = (name(number) for number in range(11, 15))
MARK = b"content1"
PLACES = {"W": b"settings", "S": b"settings"}
LATER = NOW + RETENTION_MS


def move(
    books: Books, each: bytes, quantity: int, location: str = "W", sku: str = "shoe", mark: bytes = MARK
) -> Awaitable[Reply]:
    return books.commands.movement(each, mark, quantity, location, sku, b"rest")


def test_the_first_goods_of_a_sku(books: Books) -> None:
    """Position, list of places, list of SKUs of the place, memory, event: all of a first receipt."""
    books.seed(locations=PLACES)
    fact = Fact(MARK, 2, 5, 5)
    assert books.one(move(books, M, 5)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Stock({"W": Position(5)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, 5, "W", "shoe")])],
        locations=PLACES,
        at={"W": {"shoe"}},
    )


def test_many_facts_of_one_call(books: Books) -> None:
    """Each sees those before it; new places of a SKU are listed in the order in which they came."""
    books.seed(locations=PLACES, stock={"shoe": Stock({"W": Position(1)})}, at={"W": {"shoe"}})
    answers = books.batch(
        move(books, M, 4),
        move(books, N, -7, "S"),
        move(books, Q, 2, "S"),
        move(books, P, 1, "S", "hat"),
        move(books, A, 1, "W", "hat"),
        move(books, B, 1, "X", "hat"),
        move(books, C, -1, "X", "shoe"),
    )
    facts = {
        M: Fact(MARK, 2, 5, 5),
        N: Fact(MARK, 3, -7, 0),
        Q: Fact(MARK, 4, -5, 0),
        P: Fact(MARK, 5, 1, 1),
        A: Fact(MARK, 6, 1, 1),
    }
    refused = [b"location_not_found", 6]
    assert answers == [*(fact.result for fact in facts.values()), refused, refused]
    books.expect(
        seq=6,
        stock={
            "shoe": Stock({"W": Position(5), "S": Position(-5)}),
            "hat": Stock({"S": Position(1), "W": Position(1)}),
        },
        operations=facts,
        due={(LATER, "p", tuple(facts))},
        log=[
            (
                6,
                [
                    Moved(M, facts[M], 4, "W", "shoe"),
                    Moved(N, facts[N], -7, "S", "shoe"),
                    Moved(Q, facts[Q], 2, "S", "shoe"),
                    Moved(P, facts[P], 1, "S", "hat"),
                    Moved(A, facts[A], 1, "W", "hat"),
                ],
            )
        ],
        locations=PLACES,
        at={"W": {"shoe", "hat"}, "S": {"shoe", "hat"}},
    )


def test_the_same_fact_again(books: Books) -> None:
    """In one call and later: applied once; other content, or another kind of id, mismatches."""
    hold, memory = Hold((("shoe", "W", 1),)), Memory(2, MARK, A, b"head")
    books.seed(locations=PLACES, operations={A: hold, B: memory})
    fact = Fact(MARK, 2, 5, 5)
    mismatch = [b"idempotency_mismatch"]
    asked = [move(books, M, 5), move(books, M, 5), move(books, M, 6, mark=b"content2")]
    assert books.batch(*asked) == [fact.result, [b"replayed", fact.result], mismatch]
    for changed in range(8):
        other = bytearray(MARK)
        other[changed] ^= 0x80
        assert books.one(move(books, M, 5, "gone", mark=bytes(other))) == mismatch
    later = [move(books, M, 5, "gone"), move(books, A, 5, mark=hold.packed[1:9]), move(books, B, 5)]
    assert books.batch(*later) == [[b"replayed", fact.result], mismatch, mismatch]
    assert books.one(move(books, B, 5, mark=memory.packed[1:9])) == mismatch
    books.expect(
        seq=2,
        stock={"shoe": Stock({"W": Position(5)})},
        operations={A: hold, B: memory, M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, 5, "W", "shoe")])],
        locations=PLACES,
        at={"W": {"shoe"}},
    )


@pytest.mark.parametrize(
    ("before", "quantity", "on_hand"),
    [
        (10**15 - 10**9, 10**9, 10**15),
        (10**15 - 10**9 + 1, 10**9, None),
        (10**15, 1, None),
        (-(10**15) + 10**9, -(10**9), -(10**15)),
        (-(10**15) + 10**9 - 1, -(10**9), None),
        (-(10**15), -1, None),
        (10**15, -1, 10**15 - 1),
        (2**31 - 1, 1, 2**31),
        (2**31, -1, 2**31 - 1),
        (-(2**31), -1, -(2**31) - 1),
        (-(2**31) - 1, 1, -(2**31)),
        (-5, -5, -10),
        (-5, 5, 0),
    ],
)
@pytest.mark.parametrize("policy", [Position(), Position(safety_stock=3, low_stock=2)])
def test_the_range_of_on_hand(
    books: Books, before: int, quantity: int, on_hand: int | None, policy: Position
) -> None:
    """Up to 10^15 either way, exactly; stored in four bytes as long as every counter fits."""
    position = policy._replace(on_hand=before)
    seed = {"shoe": Stock({"W": position})}
    books.seed(locations=PLACES, stock=seed, at={"W": {"shoe"}})
    answer = books.one(move(books, M, quantity))
    if on_hand is None:
        assert answer == [b"quantity_out_of_range", 1, before]
        books.expect(stock=seed, locations=PLACES, at={"W": {"shoe"}})
        return
    fact = Fact(MARK, 2, on_hand, max(0, on_hand - policy.safety_stock))
    assert answer == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Stock({"W": position._replace(on_hand=on_hand)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, quantity, "W", "shoe")])],
        locations=PLACES,
        at={"W": {"shoe"}},
    )


def test_refusals_in_order(books: Books) -> None:
    """Replay before unknown place before the range; a place that was refused is not made."""
    full = {"shoe": Stock({"X": Position(10**15)})}
    books.seed(locations=PLACES, stock=full)
    assert books.batch(move(books, M, 1, "X"), move(books, N, 1, "X")) == [[b"location_not_found", 1]] * 2
    books.expect(locations=PLACES, stock=full)


HOLDS = {
    A: Hold((("hat", "W", 9), ("shoe", "S", 9), ("shoe", "W", 2))),
    B: Hold((("shoe", "W", 3),), progress=((1, 1, 0, 1),)),
    C: Hold((("shoe", "W", 4),), COMMITTED),
}
CLAIMED = Stock(
    {"W": Position(8, 3, 5), "S": Position(9, 9)},
    {("W", A): 30, ("W", B): 100, ("W", C): 5, ("W", D): 200, ("S", A): 30},
)


@pytest.mark.parametrize(
    ("quantity", "uncovered"),
    [
        (1, ()),
        (-1, ((B, 1),)),
        (-2, ((B, 2),)),
        (-3, ((B, 2), (A, 1))),
        (-4, ((B, 2), (A, 2))),
        (-5, ((B, 2), (A, 2), (C, 1))),
        (-8, ((B, 2), (A, 2), (C, 4))),
        (-9, ((B, 2), (A, 2), (C, 4))),
    ],
)
def test_the_promises_that_a_fact_breaks(
    books: Books, quantity: int, uncovered: tuple[tuple[bytes, int], ...]
) -> None:
    """Newest promise first, each by what it still claims at this very position, up to what is short."""
    books.seed(seq=9, locations=PLACES, stock={"shoe": CLAIMED}, operations=HOLDS, at={"W": {"shoe"}})
    fact = Fact(MARK, 10, 8 + quantity, max(0, quantity), uncovered)
    assert books.one(move(books, M, quantity)) == fact.result
    positions = dict(CLAIMED.positions) | {"W": Position(8 + quantity, 3, 5)}
    books.expect(
        seq=10,
        locations=PLACES,
        stock={"shoe": CLAIMED._replace(positions=positions)},
        operations=HOLDS | {M: fact},
        due={(LATER, "p", (M,))},
        log=[(10, [Moved(M, fact, quantity, "W", "shoe")])],
        at={"W": {"shoe"}},
    )


@pytest.mark.parametrize(
    ("position", "quantity", "short"),
    [
        (Position(10, 4), -6, 0),
        (Position(10, 4), -7, 1),
        (Position(10, 4, unsellable=2), -5, 1),
        (Position(10, 4, backorder_limit=3), -9, 0),
        (Position(10, 4, backorder_limit=3), -10, 1),
        (Position(10, 4, safety_stock=5, fenced=5), -6, 0),
        (Position(1, 4), 1, 0),
        (Position(2, 0, 4), -1, 3),
    ],
)
def test_when_a_fact_breaks_a_promise(books: Books, position: Position, quantity: int, short: int) -> None:
    """Only units that are promised and not there: what is withheld from sale covers promises as well."""
    hold = Hold((("shoe", "W", 4),))
    holders = {("W", A): 1, ("Wide", A): 3}
    books.seed(locations=PLACES, stock={"shoe": Stock({"W": position}, holders)}, operations={A: hold})
    free = position.on_hand + quantity - position.held - position.allocated - position.unsellable
    available = max(free - position.safety_stock - position.fenced, -position.backorder_limit)
    fact = Fact(MARK, 2, position.on_hand + quantity, available, ((A, short),) if short else ())
    assert books.one(move(books, M, quantity)) == fact.result
    books.expect(
        seq=2,
        locations=PLACES,
        stock={"shoe": Stock({"W": position._replace(on_hand=position.on_hand + quantity)}, holders)},
        operations={A: hold, M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, quantity, "W", "shoe")])],
    )


def test_claims_that_lead_nowhere(books: Books) -> None:
    """A holder that is gone, or has nothing open, or has other lines, is passed over."""
    holds = {
        A: Hold((("shoe", "W", 4),), RELEASED),
        B: Hold((("shoe", "S", 4), ("hat", "W", 4))),
        C: Hold((("shoe", "W", 1),)),
    }
    holders = {("W", A): 9, ("W", B): 8, ("W", D): 7, ("W", C): 1}
    books.seed(locations=PLACES, stock={"shoe": Stock({"W": Position(1, 1)}, holders)}, operations=holds)
    fact = Fact(MARK, 2, 0, 0, ((C, 1),))
    assert books.one(move(books, M, -1)) == fact.result
    books.expect(
        seq=2,
        locations=PLACES,
        stock={"shoe": Stock({"W": Position(0, 1)}, holders)},
        operations=holds | {M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, -1, "W", "shoe")])],
    )


def test_a_fact_that_breaks_very_many_promises(books: Books) -> None:
    """The hundred newest are named, by each fact of a call; their claims are read once."""
    count = 3700
    holds = {name(100 + number): Hold((("shoe", "W", 1),)) for number in range(count)}
    stock = Stock({"W": Position(count, count)}, {("W", each): order for order, each in enumerate(holds, 1)})
    books.seed(locations=PLACES, stock={"shoe": stock}, operations=holds)
    results = books.batch(move(books, M, -count), move(books, N, -1))
    newest = list(reversed(holds))[:100]
    for result in results:
        assert [result[at : at + 12] for at in range(21, len(result), 18)] == newest
    ((_, _, [(_, body), _]),) = books.read()["inv:{0}:log"]
    size = int.from_bytes(body[12:16], "little")
    assert body[16 : 16 + size] == results[0]


@pytest.mark.parametrize("sku", ["{1}", "a:b", "100%", "a\nb", "靴", "W\n" + "x" * 12, "😀" * 64])
def test_odd_names(books: Books, sku: str) -> None:
    """A name of any text gets stock of its own and stands unchanged in the list of its place."""
    books.seed(locations=PLACES)
    fact = Fact(MARK, 2, 5, 5)
    assert books.one(move(books, M, 5, sku=sku)) == fact.result
    books.expect(
        seq=2,
        stock={sku: Stock({"W": Position(5)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, 5, "W", sku)])],
        locations=PLACES,
        at={"W": {sku}},
    )
