"""Movements of any age, conditions, and what leaves with reservations: what is stored."""

import pytest

from tests.lua.books import (
    COMMIT,
    COMMITTED,
    FULFIL,
    FULFILLED,
    NOW,
    RETENTION_MS,
    Books,
    Card,
    CountKept,
    Fact,
    Hold,
    Move,
    Moved,
    Position,
    Resolved,
    choose,
    committing,
    move,
    name,
    pack_units,
    resolve,
)

M, N, A = name(1), name(2), name(11)
MARK = b"content1"
PLACES = {"W": b"settings"}
LATER = NOW + RETENTION_MS
COUNTED = NOW - 10_000
KEPT = {("shoe", "W"): CountKept(COUNTED, name(5), 20).packed}


@pytest.mark.parametrize(
    ("occurred_ms", "taken_ms", "is_counted"),
    [
        (1, 1, True),
        (COUNTED - 1, COUNTED - 1, True),
        (COUNTED, COUNTED, True),
        (COUNTED + 1, COUNTED + 1, False),
        (NOW - 1, NOW - 1, False),
        (NOW, NOW, False),
        (NOW + 1, NOW, False),
        (0, NOW, False),
    ],
)
def test_a_movement_and_the_newest_count(
    books: Books, occurred_ms: int, taken_ms: int, is_counted: bool
) -> None:
    """What happened up to the count is recorded and changes nothing; the future is now."""
    books.seed(stock={"shoe": Card({"W": Position(20)})}, locations=PLACES, counts=KEPT)
    on_hand = 20 if is_counted else 16
    fact = Fact(MARK, 2, on_hand, on_hand, effect=on_hand - 20, ignored=int(is_counted))
    assert books.one(move(M, -4, occurred_ms=occurred_ms)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(on_hand)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, -4, "W", "shoe", occurred_ms=taken_ms)])],
        locations=PLACES,
        counts=KEPT,
    )


@pytest.mark.parametrize("occurred_ms", [0, NOW, NOW + 3, NOW + 9])
def test_what_happens_now_is_after_every_count(books: Books, occurred_ms: int) -> None:
    """Also where the clock of the server that took the count was ahead of ours."""
    kept = {("shoe", "W"): CountKept(NOW + 5, name(5), 20).packed}
    books.seed(stock={"shoe": Card({"W": Position(20)})}, locations=PLACES, counts=kept)
    fact = Fact(MARK, 2, 16, 16, effect=-4)
    assert books.one(move(M, -4, occurred_ms=occurred_ms)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(16)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, -4, "W", "shoe", occurred_ms=NOW + 6)])],
        locations=PLACES,
        counts=kept,
    )


@pytest.mark.parametrize("age_ms", [RETENTION_MS - 1, RETENTION_MS, 10 * RETENTION_MS])
@pytest.mark.parametrize("what", ["same", "another id", "another moment", "another place", "another SKU"])
def test_a_movement_whose_id_is_forgotten(books: Books, age_ms: int, what: str) -> None:
    """The history tells it from others. One whose id cannot be forgotten yet is not looked for there."""
    occurred_ms = NOW - age_ms
    same = Move("shoe", "W", occurred_ms, M, 5)
    other = {
        "same": same,
        "another id": same._replace(id=N),
        "another moment": same._replace(occurred_ms=occurred_ms + 1),
        "another place": same._replace(location="WW"),
        "another SKU": same._replace(sku="shoes"),
    }[what]
    stock = {"shoe": Card({"W": Position(20, 3)})}
    books.seed(stock=stock, locations=PLACES, moves=[other.packed()])
    again = move(M, 5, occurred_ms=occurred_ms)
    if what == "same" and age_ms >= RETENTION_MS:
        replayed = [b"replayed", Fact(MARK, 1, 20, 17).result]
        assert books.batch(again, again) == [replayed, replayed]
        books.expect(stock=stock, locations=PLACES, moves=[other.packed()])
    else:
        fact = Fact(MARK, 2, 25, 22, effect=5)
        assert books.batch(again, again) == [fact.result, [b"replayed", fact.result]]
        assert len(books.read()["inv:{0}:moves"]) == 2


def test_the_history_is_looked_at_once_for_a_moment(books: Books) -> None:
    """Several of one moment, of which some are known."""
    occurred_ms = NOW - RETENTION_MS
    members = [Move("shoe", "W", occurred_ms, name(at), 1).packed() for at in (1, 3)]
    books.seed(stock={"shoe": Card({"W": Position(2)})}, locations=PLACES, moves=members)
    answers = books.batch(*(move(name(at), 1, occurred_ms=occurred_ms) for at in range(1, 5)))
    assert [type(answer) for answer in answers] == [list, bytes, list, bytes]


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("before", "quantity", "moved", "names", "after", "unsellable"),
    [
        ({}, 3, 3, ("", "damaged"), {"damaged": 3}, 3),
        ({"damaged": 2}, 3, 3, ("", "damaged"), {"damaged": 5}, 5),
        ({"damaged": 2}, -2, -2, ("", "damaged"), {}, 0),
        ({"damaged": 2}, 0, 2, ("damaged", "display"), {"display": 2}, 2),
        ({"damaged": 2}, 0, 1, ("damaged", "display"), {"damaged": 1, "display": 1}, 2),
        ({"damaged": 2}, 0, 2, ("damaged", ""), {}, 0),
        ({"damaged": 2}, 0, 5, ("damaged", ""), {"damaged": -3}, 0),
        ({"damaged": -3}, 0, 5, ("", "damaged"), {"damaged": 2}, 2),
        ({"damaged": -3, "lost": 4}, 0, 3, ("", "damaged"), {"lost": 4}, 4),
        ({"damaged": -3, "lost": 4}, 0, 1, ("lost", "damaged"), {"damaged": -2, "lost": 3}, 3),
        ({}, 0, 5, ("damaged", "lost"), {"damaged": -5, "lost": 5}, 5),
    ],
)
def test_units_change_their_condition(
    books: Books,
    before: dict[str, int],
    quantity: int,
    moved: int,
    names: tuple[str, str],
    after: dict[str, int],
    unsellable: int,
) -> None:
    """Units are kept by condition, whatever the order in which facts arrive; the counter is what is above
    zero.
    """
    shown = sum(max(0, units) for units in before.values())
    kept = {("shoe", "W"): pack_units(**before)} if before else {}
    books.seed(stock={"shoe": Card({"W": Position(9, 0, 0, shown)})}, locations=PLACES, conditions=kept)
    on_hand = 9 + quantity
    fact = Fact(MARK, 2, on_hand, max(0, on_hand - unsellable), effect=quantity)
    assert books.one(move(M, quantity, moved=moved, conditions=names)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(on_hand, 0, 0, unsellable)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, quantity, "W", "shoe", moved=moved, conditions=names)])],
        locations=PLACES,
        conditions={("shoe", "W"): pack_units(**after)} if after else {},
    )


def test_conditions_of_one_call_see_each_other(books: Books) -> None:
    """The position is new, too."""
    books.seed(locations=PLACES)
    facts = {M: Fact(MARK, 2, 5, 3, effect=5), N: Fact(MARK, 3, 5, 4)}
    events = [
        Moved(M, facts[M], 5, "W", "shoe", moved=2, conditions=("", "damaged")),
        Moved(N, facts[N], 0, "W", "shoe", moved=1, conditions=("damaged", "")),
    ]
    asked = [
        move(event.id, event.quantity, moved=event.moved, conditions=event.conditions) for event in events
    ]
    assert books.batch(*asked) == [fact.result for fact in facts.values()]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5, 0, 0, 1)})},
        operations=facts,
        due={(LATER, "p", (M, N))},
        log=[(3, events)],
        locations=PLACES,
        stocked={"W": 1},
        conditions={("shoe", "W"): pack_units(damaged=1)},
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_range_of_a_condition(books: Books, sign: int) -> None:
    """Up to 10^15 either way."""
    kept = {("shoe", "W"): pack_units(damaged=sign * (10**15 - 1))}
    stock = {"shoe": Card({"W": Position(9, 0, 0, 10**15 - 1 if sign > 0 else 0)})}
    books.seed(stock=stock, locations=PLACES, conditions=kept)
    wide = move(M, 0, moved=2 * sign, conditions=("", "damaged"))
    assert books.one(wide) == [b"quantity_out_of_range", 1, 9]
    books.expect(stock=stock, locations=PLACES, conditions=kept)
    assert isinstance(books.one(move(M, 0, moved=sign, conditions=("", "damaged"))), bytes)


@pytest.mark.parametrize(
    ("quantity", "moved", "names", "uncovered"),
    [
        (0, 2, ("", "damaged"), 2),
        (2, 2, ("", "damaged"), 0),
        (1, 2, ("", "damaged"), 1),
        (-1, -1, ("", "lost"), 1),
        (0, 3, ("lost", "damaged"), 3),
        (0, 1, ("lost", ""), 0),
    ],
)
def test_a_condition_that_breaks_promises(
    books: Books, quantity: int, moved: int, names: tuple[str, str], uncovered: int
) -> None:
    """Where more became unsellable than came."""
    hold = Hold((("shoe", "W", 5),))
    books.seed(stock={"shoe": Card({"W": Position(5, 5)}, (A,))}, operations={A: hold}, locations=PLACES)
    found = books.one(move(M, quantity, moved=moved, conditions=names))
    broken = ((A, uncovered),) if uncovered else ()
    assert found == Fact(MARK, 2, 5 + quantity, 0, broken, effect=quantity).result


def test_a_late_return_of_damaged_goods(books: Books) -> None:
    """A count has it in, but does not say in what condition it is."""
    hold = Hold((("shoe", "W", 20),))
    books.seed(
        stock={"shoe": Card({"W": Position(20, 20)}, (A,))},
        operations={A: hold},
        locations=PLACES,
        counts=KEPT,
    )
    fact = Fact(MARK, 2, 20, 0, ((A, 1),), ignored=1)
    assert books.one(move(M, 1, moved=1, conditions=("", "damaged"), occurred_ms=COUNTED)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(20, 20, 0, 1)}, (A,))},
        operations={A: hold, M: fact},
        due={(LATER, "p", (M,))},
        log=[
            (
                2,
                [Moved(M, fact, 1, "W", "shoe", occurred_ms=COUNTED, moved=1, conditions=("", "damaged"))],
            )
        ],
        locations=PLACES,
        counts=KEPT,
        conditions={("shoe", "W"): pack_units(damaged=1)},
    )


# ---------------------------------------------------------------- what leaves with reservations

LINES = (("shoe", "W", 5), ("hat", "W", 2))


@pytest.mark.parametrize("verb", ["commit", "fulfil"])
@pytest.mark.parametrize("part", [False, True])
def test_goods_that_leave_stand_in_the_history(books: Books, verb: str, part: bool) -> None:
    """Whole or in parts; what is only promised for good does not."""
    at_once = verb == "commit"
    hold = Hold(LINES) if at_once else Hold(LINES, COMMITTED, COMMIT)
    claims = (A,)
    held, allocated = ((5, 0), (0, 5))[not at_once], ((2, 0), (0, 2))[not at_once]
    books.seed(
        stock={
            "shoe": Card({"W": Position(20, *held)}, claims),
            "hat": Card({"W": Position(20, *allocated)}, claims),
        },
        operations={A: hold},
    )
    chosen = choose((0, 3)) if part else choose()
    own = bytes((1, 1, 0)) + chosen if at_once else chosen
    books.one(resolve(verb, A, own))
    expected = [Move("shoe", "W", NOW, A, -3 if part else -5)]
    expected += [] if part else [Move("hat", "W", NOW, A, -2)]
    assert books.read()["inv:{0}:moves"] == sorted((each.packed(2), 0) for each in expected)


def test_a_commit_that_keeps_the_goods_leaves_no_trace(books: Books) -> None:
    """No history where nothing moved."""
    books.seed(
        stock={"shoe": Card({"W": Position(20, 5)}, (A,)), "hat": Card({"W": Position(20, 2)}, (A,))},
        operations={A: Hold(LINES)},
    )
    books.one(resolve("commit", A, committing()))
    assert "inv:{0}:moves" not in books.read()


def test_many_lines_leave_at_once(books: Books) -> None:
    """More than one command takes, of one call."""
    skus = [f"sku {number:03}" for number in range(200)]
    holds = {
        name(100 + number): Hold(tuple((sku, "W", 1) for sku in skus), COMMITTED, COMMIT)
        for number in range(11)
    }
    stock = {sku: Card({"W": Position(50, 0, 11)}, tuple(holds)) for sku in skus}
    books.seed(stock=stock, operations=holds)
    books.batch(*(resolve("fulfil", each) for each in holds))
    assert len(books.read()["inv:{0}:moves"]) == 200 * 11


def test_resolved_events_are_known_here() -> None:
    """The books of these tests derive a history from events: what they take for leaving is what it is."""
    whole = Resolved(FULFIL, A, Hold(LINES, FULFILLED, COMMIT, FULFIL))
    assert [each.units for each in whole.moves_at(NOW)] == [-5, -2]
