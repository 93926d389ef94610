"""Units promised of what is inbound: which request raises them, and what makes them fall."""

from collections.abc import Callable

import pytest
from msgspec import msgpack

from engine.sourcing_plan import Group, Rules
from tests.lua.books import (
    COMMITTED,
    FENCED_HERE,
    NOW,
    RELEASE,
    RELEASED,
    RETENTION_MS,
    Books,
    Card,
    Expected,
    Fence,
    Fences,
    Hold,
    Opened,
    Position,
    Request,
    Resolved,
    Settings,
    choose,
    count,
    expire,
    fence_field,
    move,
    name,
    opening,
    pack_plan,
    pack_terms,
    read_card,
    replan,
    resolve,
    save_fence,
    save_policy,
    setting,
    source,
    supply,
)

A, B, C, M = (name(number) for number in (1, 2, 3, 9))
SETTING = setting(rest=msgpack.encode({}))
SETTINGS = Settings(2, locations={"W": SETTING, "S": SETTING}, channels={"web": SETTING})
WAITS = Rules(from_inbound=True)
POSITION = Position(2, 6, inbound=9, preordered=4)
HOLDS = {A: Hold((("shoe", "W", 4),)), B: Hold((("shoe", "W", 2),))}
HERE = fence_field("shoe", "W")


def stored(books: Books) -> Position:
    """The counters of the position in question."""
    return read_card(books.raw("HGET", books.key("stock"), "shoe")).positions["W"]


def order(quantity: int, place: str = "W") -> list[Group]:
    return [Group(quantity, place, (("shoe", 1),))]


def test_real_units_before_those_that_come(books: Books) -> None:
    """All that is stored of a hold that waits for some."""
    books.seed(stock={"shoe": Card({"W": Position(2, inbound=9)})}, settings=SETTINGS)
    made = Hold(
        (("shoe", "W", 6),),
        created=2,
        changed=2,
        created_ms=NOW,
        deadline_ms=NOW + 900_000,
        ttl_ms=900_000,
        fingerprint=b"content1",
        detail=pack_terms() + b"detail",
    )
    seq, _ = books.one(source(A, order(6), WAITS))
    assert seq == 2
    record = books.raw("HGET", books.key("ops"), A)
    assert pack_plan(made.lines) + made.detail in record
    assert (
        books.raw("HGET", books.key("stock"), "shoe")
        == Card({"W": Position(2, 6, inbound=9, preordered=4)}, (A,)).packed
    )
    assert books.one(source(B, order(6), WAITS)) == [b"insufficient_stock", 2, 0, 5, 6]
    assert books.one(source(C, order(1))) == [b"insufficient_stock", 2, 0, 0, 1]


@pytest.mark.parametrize(
    ("position", "most"),
    [
        (Position(2), 2),
        (Position(2, inbound=9), 11),
        (Position(2, 6, inbound=9, preordered=4), 5),
        (Position(2, 6, inbound=4, preordered=4), 0),
        (Position(5, 2, safety_stock=2, inbound=3), 4),
        (Position(1, 4, backorder_limit=5, inbound=3), 5),
        (Position(0, 5, inbound=9), 4),
        (Position(0, 9, inbound=9), 0),
        (Position(0, 12, inbound=9), 0),
        (Position(0, 7, inbound=9, preordered=2), 2),
        (Position(9, unsellable=4, fenced=3, flags=FENCED_HERE, inbound=1), 3),
    ],
)
def test_how_much_may_be_promised(books: Books, position: Position, most: int) -> None:
    """What is free, and what comes and is promised to nobody; units that are missing already come before."""
    fences = {HERE: Fences((Fence("web", position.fenced),))} if position.fenced else {}
    books.seed(stock={"shoe": Card({"W": position}), **fences}, settings=SETTINGS)
    assert books.one(source(A, order(most + 1), WAITS)) == [b"insufficient_stock", 1, 0, most, most + 1]
    assert stored(books) == position
    if most:
        assert books.one(source(A, order(most), WAITS))[0] == 2
        real = max(0, position.on_hand - position.unsellable - position.held + position.preordered
                   - position.safety_stock - position.fenced + position.backorder_limit)  # fmt: skip
        waiting = position.preordered + most - min(most, real)
        assert stored(books) == position._replace(held=position.held + most, preordered=waiting)


@pytest.mark.parametrize(
    ("request_", "after"),
    [
        (lambda: resolve("release", B), Position(2, 4, inbound=9, preordered=2)),
        (lambda: resolve("release", A, choose((0, 3))), Position(2, 3, inbound=9, preordered=1)),
        (lambda: resolve("release", A), Position(2, 2, inbound=9)),
        (lambda: replan(A, Hold((("shoe", "W", 1),))), Position(2, 3, inbound=9, preordered=1)),
        (lambda: replan(A, Hold((("shoe", "S", 4),))), Position(2, 2, inbound=9)),
        (lambda: move(M, 3), Position(5, 6, inbound=9, preordered=1)),
        (lambda: move(M, 7), Position(9, 6, inbound=9)),
        (lambda: move(M, -1), Position(1, 6, inbound=9, preordered=4)),
        (lambda: move(M, 0, moved=1, conditions=("", "damaged")), POSITION._replace(unsellable=1)),
        (lambda: count(M, 5), Position(5, 6, inbound=9, preordered=1)),
        (lambda: count(M, 0), Position(0, 6, inbound=9, preordered=4)),
        (
            lambda: save_policy("shoe", "W", (0, 3, 0)),
            POSITION._replace(backorder_limit=3, preordered=1, flags=2),
        ),
        (lambda: save_policy("shoe", "W", (1, 0, 0)), POSITION._replace(safety_stock=1, flags=2)),
        (lambda: supply(M, Expected(C, 0), 7), POSITION._replace(inbound=2, preordered=2)),
        (lambda: supply(M, Expected(C, 0, kind=2)), POSITION._replace(inbound=2, preordered=2)),
        (lambda: opening(Opened(1)), Position(3, 6, inbound=9, preordered=3)),
        (lambda: opening(Opened(-1, preordered=1)), Position(1, 6, inbound=9, preordered=5)),
    ],
)
def test_what_makes_it_fall(books: Books, request_: Callable[[], Request], after: Position) -> None:
    """Units that come or are given back are for who waits; nothing else changes how many wait."""
    books.seed(
        stock={"shoe": Card({"W": POSITION, "S": Position(9)}, (A, B))},
        operations=HOLDS,
        settings=SETTINGS,
        stocked={"W": 1, "S": 1},
        inbound={("W", "shoe"): [Expected(C, 7), Expected(M, 2)]},
    )
    answer = books.one(request_())
    assert not isinstance(answer, list) or isinstance(answer[0], int), answer
    assert stored(books) == after


def test_all_that_a_release_writes(books: Books) -> None:
    before = HOLDS[B]
    books.seed(stock={"shoe": Card({"W": POSITION}, (A, B))}, operations=HOLDS, settings=SETTINGS)
    after = before._replace(
        state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=2, deadline_ms=NOW + RETENTION_MS
    )
    assert books.one(resolve("release", B)) == after.tail
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(2, 4, inbound=9, preordered=2)}, (A,))},
        operations={A: HOLDS[A], B: after},
        due={(NOW + RETENTION_MS, "p", (B,))},
        settings=SETTINGS,
        log=[(2, [Resolved(RELEASE, B, after, ())])],
    )


def test_an_expiry(books: Books) -> None:
    """By the sweeper: what lapsed is for those who wait."""
    gone = Hold((("shoe", "W", 4),), deadline_ms=NOW - 1)
    books.seed(
        stock={"shoe": Card({"W": POSITION}, (A, B))},
        operations={A: gone, B: HOLDS[B]},
        due={(NOW - 1, "h", (A,))},
        settings=SETTINGS,
    )
    assert books.one(expire(9)) == [1, 0, 0]
    assert stored(books) == Position(2, 2, inbound=9)


def test_an_expiry_on_the_way(books: Books) -> None:
    """Who asks for more than there is has it given back before."""
    gone = Hold((("shoe", "W", 4),), deadline_ms=NOW - 1)
    books.seed(
        stock={"shoe": Card({"W": POSITION}, (A, B))},
        operations={A: gone, B: HOLDS[B]},
        due={(NOW - 1, "h", (A,))},
        settings=SETTINGS,
    )
    assert books.one(source(C, order(6), WAITS))[0] == 3
    assert stored(books) == Position(2, 8, inbound=9, preordered=6)


def test_a_cancelled_promise_and_one_that_is_fulfilled(books: Books) -> None:
    """What is cancelled is for the others; goods that leave were there, or are owed by the next receipt."""
    committed = {one: hold._replace(state=COMMITTED) for one, hold in HOLDS.items()}
    position = Position(2, 0, 6, inbound=9, preordered=4)
    books.seed(stock={"shoe": Card({"W": position}, (A, B))}, operations=committed, settings=SETTINGS)
    books.one(resolve("fulfil", B))
    assert stored(books) == Position(0, 0, 4, inbound=9, preordered=4)
    books.one(resolve("cancel", A, choose((0, 1))))
    assert stored(books) == Position(0, 0, 3, inbound=9, preordered=3)
    books.one(resolve("fulfil", A))
    assert stored(books) == Position(-3, inbound=9, preordered=3)
    books.one(move(M, 3))
    assert stored(books) == Position(inbound=9)


def test_the_last_one_who_waits(books: Books) -> None:
    """One unit comes, and nobody waits any more."""
    books.seed(stock={"shoe": Card({"W": Position(2, 3, inbound=9, preordered=1)})}, settings=SETTINGS)
    books.one(move(M, 1))
    assert stored(books) == Position(3, 3, inbound=9)


def test_units_that_are_there(books: Books) -> None:
    """Who may wait and need not does not."""
    books.seed(stock={"shoe": Card({"W": Position(5, inbound=3)})}, settings=SETTINGS)
    books.one(source(A, order(2), WAITS))
    assert stored(books) == Position(5, 2, inbound=3)


def test_an_undivided_line(books: Books) -> None:
    """It may wait like any other."""
    books.seed(stock={"shoe": Card({"W": Position(2, inbound=9)})}, settings=SETTINGS)
    books.one(source(A, order(5), Rules(from_inbound=True, allow_split=False)))
    assert stored(books) == Position(2, 5, inbound=9, preordered=3)


def test_fences(books: Books) -> None:
    """What remains of a fence is its channel's before what is inbound; lifted, it goes to who waits."""
    position = Position(5, 3, fenced=2, flags=FENCED_HERE, inbound=9)
    books.seed(
        stock={"shoe": Card({"W": position}), HERE: Fences((Fence("web", 2),))},
        settings=SETTINGS,
        fenced={"web": 1},
    )
    books.one(source(A, order(3), WAITS))
    assert stored(books) == position._replace(held=6, preordered=3)
    books.one(save_fence("web", "shoe", "W", 1))
    assert stored(books) == position._replace(held=6, fenced=1, preordered=2)
    books.one(save_fence("web", "shoe", "W"))
    assert stored(books) == Position(5, 6, inbound=9, preordered=1)
