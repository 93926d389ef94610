"""Ways by which units make way for others: all that there are, none for nothing, and what a refusal costs."""

import pytest

from engine.sourcing_plan import Group, Rules
from engine.types import Channel
from tests.lua.books import (
    Books,
    Card,
    Carried,
    Hold,
    Position,
    ScriptError,
    Stock,
    carry,
    choose,
    name,
    pack_terms,
    part_name,
    plan,
    replan,
    resolve,
    source,
    spread,
)
from tests.lua.choosing import (
    ALL,
    floating,
    floats,
    holding,
    line,
    lines_of,
    moved,
    place,
    read_positions,
    settings,
)

A, B, C, M, N = (name(number) for number in (1, 2, 3, 8, 9))


def test_two_skus_of_one_basket(books: Books) -> None:
    """What moved of one says nothing of the other, at the same places and of the same pools."""
    stock = {
        "shoe": Card({"S": floating(1, 1), "V": Position(1)}, (A,)),
        "hat": Card({"S": floating(1, 1), "V": Position(1)}, (B,)),
    }
    hat = Hold((("hat", "S", 1),), detail=pack_terms("", ("all",)) + b"detail")
    holding(books, stock, {A: floats("S", 1), B: hat})
    asked = [line(1, "S"), line(1, "S", "hat")]
    assert lines_of(books.one(source(N, asked))) == [("shoe", "S", 1), ("hat", "S", 1)]


def test_nobody_makes_way_for_who_cannot_come(books: Books) -> None:
    """The one who should go from S is bound at V already. W is made free for it, and not V as well."""
    of = settings(pools={"svw": "SVW", "vwx": "VWX"})
    first = Hold((("shoe", "S", 1), ("shoe", "V", 1)), detail=pack_terms("", ("svw",), (1,)) + b"detail")
    holds = {A: first, B: floats("V", 1, pools="vwx"), C: floats("W", 1, pools="vwx")}
    positions = {"S": floating(1, 1), "V": Position(2, 2, floating=1), "W": floating(1, 1), "X": Position(1)}
    holding(books, {"shoe": Card(positions, (A, B, C))}, holds, of)
    assert moved(books, 1) == ([("shoe", "S", 1)], {"S": 1, "V": 2, "W": 1, "X": 1})
    assert lines_of([0, books.read()[books.key("ops")][A]]) == [("shoe", "V", 1), ("shoe", "W", 1)]


def test_another_sku_that_is_bound_there(books: Books) -> None:
    """Stands in no one's way."""
    both = Hold((("hat", "V", 1), ("shoe", "S", 1)), detail=pack_terms("", ("all",), (0,)) + b"detail")
    stock = {
        "shoe": Card({"S": floating(1, 1), "V": Position(1)}, (A,)),
        "hat": Card({"V": Position(1, 1)}, (A,)),
    }
    holding(books, stock, {A: both})
    assert moved(books, 1) == ([("shoe", "S", 1)], {"S": 1, "V": 1})


def test_a_hold_that_was_counted_while_it_was_made(books: Books) -> None:
    """Its own bound line counts from the beginning: it goes where it may, and nothing moves for nothing."""
    card = Card({"S": Position(2, 1, floating=1), "V": Position(2), "W": Position(1)}, (A,))
    holding(books, {"shoe": card}, {A: floats("S", 1)})
    assert books.one(source(M, [line(9, "S")]))[0] == b"insufficient_stock"
    assert lines_of(books.one(source(B, [line(1, "V"), line(1)], ALL))) == [
        ("shoe", "V", 1),
        ("shoe", "S", 1),
    ]
    assert moved(books, 2) == ([("shoe", "S", 2)], {"S": 2, "V": 2, "W": 1})


@pytest.mark.parametrize("is_divisible", [True, False])
def test_one_behind_the_other_by_the_same_place(books: Books, is_divisible: bool) -> None:
    """Each group makes the place free anew."""
    of = settings(pools={"sv": "SV", "vx": "VX"}, channels=[Channel("web", ("sv",))])
    holds = {
        A: floats("S", 1, pools="sv"),
        B: floats("S", 1, pools="sv", channel="web"),
        C: floats("V", 2, pools="vx"),
    }
    card = Card({"S": floating(2, 2), "V": floating(2, 2), "X": Position(2)}, (A, B, C))
    holding(books, {"shoe": card}, holds, of)
    assert moved(books, 2, allow_split=is_divisible) == ([("shoe", "S", 2)], {"S": 2, "V": 2, "X": 2})


def test_no_group_moves_more_than_is_missing(books: Books) -> None:
    """The second only what the first left."""
    of = settings(pools={"sv": "SV", "sw": "SW"})
    holds = {A: floats("S", 1, pools="sv"), B: floats("S", 3, pools="sw")}
    card = Card({"S": floating(4, 4), "V": Position(1), "W": Position(3)}, (A, B))
    holding(books, {"shoe": card}, holds, of)
    assert moved(books, 2) == ([("shoe", "S", 2)], {"S": 4, "V": 1, "W": 1})


def test_nobody_makes_way_for_a_group_that_is_gone(books: Books) -> None:
    """All of it has found room, so the next place is left alone."""
    of = settings(pools={"svw": "SVW", "sx": "SX", "wx": "WX"})
    holds = {
        A: floats("S", 1, pools="svw"),
        B: floats("S", 1, pools="sx"),
        C: floats("W", 1, pools="wx"),
    }
    card = Card({"S": floating(2, 2), "V": Position(1), "W": floating(1, 1), "X": Position(9)}, (A, B, C))
    holding(books, {"shoe": card}, holds, of)
    assert moved(books, 2) == ([("shoe", "S", 2)], {"S": 2, "V": 1, "W": 1, "X": 1})
    assert books.read()[books.key("ops")][C] == holds[C].packed(C)


def test_a_group_that_has_moved_on_is_asked_elsewhere(books: Books) -> None:
    """Of the place that pool V has lost, after its units at V found no use."""
    of = settings(pools={"sv": "SV", "sw": "SW", "vx": "VX"})
    holds = {
        A: floats("S", 2, pools="sv"),
        B: floats("S", 1, pools="sw"),
        C: Hold((("shoe", "V", 1), ("shoe", "W", 1)), detail=pack_terms("", ("vx",)) + b"detail"),
    }
    positions = {"S": floating(3, 3), "V": floating(1, 1), "W": floating(1, 1), "X": Position(2)}
    holding(books, {"shoe": Card(positions, (A, B, C))}, holds, of)
    assert moved(books, 2) == ([("shoe", "S", 2)], {"S": 3, "V": 1, "W": 1, "X": 2})


def test_room_for_less_than_a_set(books: Books) -> None:
    """At the first place there is too little for a pair, and at the second what would fit in there."""
    card = Card({"S": Position(1), "V": Position(2, 1, floating=1)}, (A,))
    holding(books, {"shoe": card}, {A: floats("V", 1)})
    pair = Group(1, None, (("shoe", 2),))
    assert lines_of(books.one(source(N, [pair], ALL))) == [("shoe", "V", 2)]
    assert read_positions(books)["S"].held == 1


@pytest.mark.parametrize("floated", [True, False])
def test_what_floats_from_now_on_is_counted(books: Books, floated: bool) -> None:
    """And what no longer does: a change of its lines says so, and the counts of before hear of it."""
    of = settings(pools={"s": "S"})
    bound, free = floats("S", 2, bound=(0,)), floats("S", 2)
    held = Position(3, 3, floating=3 if floated else 1)
    holding(
        books,
        {"shoe": Card({"S": held, "V": Position(5)}, (A, B))},
        {A: free if floated else bound, B: floats("S", 1, pools="s")},
        of,
    )
    assert books.one(source(M, [line(9, "S")]))[0] == b"insufficient_stock"
    after = (bound if floated else free)._replace(lines=(("shoe", "S", 1),), revision=1)
    assert books.one(replan(A, after))
    assert read_positions(books)["S"] == Position(3, 2, floating=1 if floated else 2)
    before = books.calls("hmget")
    answer = books.one(source(N, [line(2, "S")]))
    if floated:
        assert answer[0] == b"insufficient_stock"
        assert books.calls("hmget") == before + 3, "no hold is read"
    else:
        assert lines_of(answer) == [("shoe", "S", 2)]


def test_what_is_set_aside_makes_no_way(books: Books) -> None:
    """A plan for what a reservation shall have instead: its units are free, and nobody moves for them."""
    of = settings(pools={"sv": "SV", "vx": "VX"}, channels=[Channel("web", ("sv",))])
    holds = {
        A: floats("S", 1, pools="sv"),
        B: floats("S", 1, pools="sv", channel="web"),
        C: floats("V", 1, pools="vx"),
    }
    positions = {"S": floating(2, 2), "V": floating(1, 1), "X": Position(1)}
    holding(books, {"shoe": Card(positions, (A, B, C))}, holds, of)
    for own, fits in (((), 0), ((A,), 1), ((B,), 1), ((C,), 0), ((A, B), 1)):
        assert books.one(plan([line(2, "S")], own=own))[1] == fits
    split = Rules(pool="sv", allow_split=False)
    assert books.one(plan([line(2)], split, own=(A,)))[1] == 1


def test_who_has_nothing_left_at_a_place(books: Books) -> None:
    """Is passed over, though its line is still there and other units of it are on the card."""
    lines = (("shoe", "S", 1), ("shoe", "V", 1))
    newer = Hold(lines, progress=((0, 0, 0, 1), (1, 0, 0, 0)), detail=floats("S", 1).detail)
    card = Card({"S": floating(1, 1), "W": Position(1), "V": floating(1, 1)}, (B, A))
    holding(books, {"shoe": card}, {A: newer, B: floats("S", 1)})
    assert moved(books, 1) == ([("shoe", "S", 1)], {"S": 1, "V": 1, "W": 1})
    assert books.read()[books.key("ops")][A] == newer.packed(A)


def test_all_of_a_group_at_once(books: Books) -> None:
    """Where its next place has room for it only in two others: it moves once, not twice."""
    of = settings(pools={"sv": "SV", "vwx": "VWX"})
    holds = {A: floats("S", 2, pools="sv"), C: floats("V", 2, pools="vwx")}
    positions = {"S": floating(2, 2), "V": floating(2, 2), "W": Position(1), "X": Position(1)}
    holding(books, {"shoe": Card(positions, (A, C))}, holds, of)
    assert moved(books, 2) == ([("shoe", "S", 2)], {"S": 2, "V": 2, "W": 1, "X": 1})
    first = holds[A]
    first = first._replace(first_lines=first.lines, first_detail=first.detail)
    once = first._replace(lines=(("shoe", "V", 2),), revision=1, changed=4)
    assert books.read()[books.key("ops")][A] == once.packed(A)


def stuck(books: Books) -> None:
    """One at S that cannot move; it has been counted."""
    card = Card({"S": Position(2, 1, floating=1), "V": Position(1), "W": Position(1)}, (A,))
    last = (place("V", priority=900), place("W", priority=900))
    holding(books, {"shoe": card}, {A: floats("S", 1, pools="s")}, settings(*last, pools={"s": "S"}))
    assert books.one(source(M, [line(9, "S")]))[0] == b"insufficient_stock"


def test_a_hold_that_came_and_went(books: Books) -> None:
    """Is counted no more, so that nobody looks for it."""
    stuck(books)
    assert lines_of(books.one(source(B, [line(1)], ALL))) == [("shoe", "S", 1)]
    assert books.one(resolve("release", B, choose()))
    before = books.calls("hmget")
    assert books.one(source(N, [line(2, "S")])) == [b"insufficient_stock", 3, 0, 1, 2]
    assert books.calls("hmget") == before + 3, "no hold is read"


def test_a_hold_that_is_spread_is_counted_no_more(books: Books) -> None:
    """Its units stay where they are from then on, so nobody looks for them."""
    stuck(books)
    assert lines_of(books.one(source(B, [line(1)], ALL))) == [("shoe", "S", 1)]
    assert books.one(spread(B, part_name(B), version=(1, 2))) == 3
    before = books.calls("hmget")
    assert books.one(source(N, [line(2, "S")])) == [b"insufficient_stock", 3, 0, 0, 2]
    assert books.calls("hmget") == before + 3, "no hold is read"


def test_a_call_that_fails_counts_nothing(books: Books) -> None:
    """What it would have moved is where it was."""
    stuck(books)
    assert lines_of(books.one(source(B, [line(1)], ALL))) == [("shoe", "S", 1)]
    books.raw("XADD", books.key("log"), "9-9", "e", "another")
    with pytest.raises(ScriptError, match="ID specified in XADD"):
        books.one(resolve("release", B, choose()))
    books.raw("XTRIM", books.key("log"), "MAXLEN", 0)
    books.raw("XSETID", books.key("log"), "1-1")
    assert moved(books, 1) == ([("shoe", "S", 1)], {"S": 2, "V": 1, "W": 0})


def test_what_another_data_set_held_is_counted(books: Books) -> None:
    """From the moment at which it came."""
    stuck(books)
    assert books.one(carry(Carried(B, floats("S", 1)))) == 2
    assert moved(books, 1) == ([("shoe", "S", 1)], {"S": 2, "V": 1, "W": 0})


def sold_out(*, is_floating: bool) -> Stock:
    """Nothing is free anywhere."""
    made = floating(2, 2) if is_floating else Position(2, 2, flags=2)
    return {"shoe": Card({"S": made, "V": Position(2, 2)}, (A, B))}


def test_where_nothing_is_free_no_hold_is_read(books: Books) -> None:
    """A refusal costs what it costs where nothing floats."""
    reads = []
    for is_floating in (True, False):
        first = floats("S", 2, bound=() if is_floating else (0,))
        holding(books, sold_out(is_floating=is_floating), {A: first, B: Hold((("shoe", "V", 2),))})
        before = books.calls("hmget")
        assert books.one(source(N, [line(1, "S")])) == [b"insufficient_stock", 1, 0, 0, 1]
        reads.append(books.calls("hmget") - before)
    assert reads == [3, 3]


def test_of_very_many_holds_the_newest_are_read(books: Books) -> None:
    """Once they are counted, who makes way is found with one look at the last of them."""
    names = tuple(name(100 + number) for number in range(1100))
    blocks = {at: names[at * 16 : at * 16 + 16] for at in range(69)}
    card = Card({"S": floating(1100, 1100), "V": Position(9)}, (), block=69, blocks=blocks)
    holding(
        books,
        {"shoe": card},
        {each: floats("S", 1)._replace(blocks=(at // 16,)) for at, each in enumerate(names)},
    )
    assert books.one(source(M, [line(10, "S")]))[0] == b"insufficient_stock"
    before = books.calls("hmget")
    assert moved(books, 5)[0] == [("shoe", "S", 5)]
    reads = books.calls("hmget") - before
    before = books.calls("hmget")
    assert moved(books, 1)[0][0] == b"replayed"
    assert reads - (books.calls("hmget") - before) == 2, "who claims, and what the last of them have"
