"""Units that float make way for others: which, where to and how far; and what stays where it is."""

import pytest

from engine.sourcing_plan import Group, Rules, Strategy
from engine.types import Buffer, Channel
from tests.lua.books import (
    COMMITTED,
    FENCED_HERE,
    Books,
    Card,
    Fence,
    Fences,
    Hold,
    Position,
    Stock,
    fence_field,
    name,
    pack_terms,
    source,
)
from tests.lua.choosing import (
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


def test_the_newest_makes_way_first(books: Books) -> None:
    """And only as far as needed, to places in their order."""
    card = Card({"S": floating(4, 4), "V": Position(1), "W": Position(9)}, (A, B))
    holding(books, {"shoe": card}, {A: floats("S", 2), B: floats("S", 2)})
    assert moved(books, 3) == ([("shoe", "S", 3)], {"S": 4, "V": 1, "W": 2})
    records = books.read()[books.key("ops")]
    assert lines_of([2, records[B]]) == [("shoe", "V", 1), ("shoe", "W", 1)]
    assert lines_of([2, records[A]]) == [("shoe", "S", 1), ("shoe", "W", 1)]


@pytest.mark.parametrize(
    ("hold", "stock", "of"),
    [
        ("committed", {}, {}),
        ("bound", {}, {}),
        ("of a pool that is gone", {}, {}),
        ("waits", {"S": Position(2, 3, floating=3, inbound=9, preordered=1)}, {}),
        ("all", {}, {"places": (place("V", active=False), place("W", active=False))}),
        ("all", {"V": Position(0), "W": Position(3, 3)}, {}),
        ("here", {}, {"pools": {"here": "SX"}}),
        ("web", {}, {"channels": [Channel("web", ("all",), Buffer(units=3))]}),
    ],
)
def test_what_stays(books: Books, hold: str, stock: dict[str, Position], of: dict[str, object]) -> None:
    """Units that are bound, committed, or have nowhere to go: refused, and all is as it was."""
    before = {
        "committed": floats("S", 2)._replace(state=COMMITTED),
        "bound": floats("S", 2, bound=(0,)),
        "of a pool that is gone": floats("S", 2, pools="gone"),
        "web": floats("S", 2, channel="web"),
        "here": floats("S", 2, pools="here"),
    }.get(hold, floats("S", 2))
    at = {"S": floating(2, 2), "V": Position(3), "W": Position(3), **stock}
    if hold == "committed":
        at["S"] = Position(2, 0, 2, floating=1)
    told = settings(*of.get("places", ()), pools=of.get("pools"), channels=of.get("channels", ()))  # type: ignore[arg-type, misc] - as given
    holding(books, {"shoe": Card(at, (A,))}, {A: before}, told)
    state = books.read()
    assert (
        books.batch(source(M, [line(1, "S")]), source(N, [line(1, "S")]))
        == [[b"insufficient_stock", 1, 0, 0, 1]] * 2
    )
    assert books.read() == state


def test_a_path_over_several_places(books: Books) -> None:
    """One makes way for the next, each within its own pool; what a refused request moved is back."""
    of = settings(pools={"sv": "SV", "vw": "VW", "wx": "WX"})
    card = Card({"S": floating(1, 1), "V": floating(1, 1), "W": floating(1, 1), "X": Position(1)}, (A, B, C))
    holds = {
        A: floats("S", 1, pools="sv"),
        B: floats("V", 1, pools="vw"),
        C: floats("W", 1, pools="wx"),
    }
    holding(books, {"shoe": card}, holds, of)
    state = books.read()
    assert books.one(source(M, [line(2, "S")])) == [b"insufficient_stock", 1, 0, 0, 2]
    assert books.read() == state
    two = [line(1, "S"), line(2, "S")]
    assert books.one(source(M, two)) == [b"insufficient_stock", 1, 1, 0, 2]
    assert books.read() == state
    assert moved(books, 1) == ([("shoe", "S", 1)], {"S": 1, "V": 1, "W": 1, "X": 1})
    records = books.read()[books.key("ops")]
    assert [lines_of([0, records[one]]) for one in (A, B, C)] == [
        [("shoe", "V", 1)], [("shoe", "W", 1)], [("shoe", "X", 1)]
    ]  # fmt: skip


def test_units_that_moved_may_move_on(books: Books) -> None:
    """Within one request: the next line wants the place that the first one filled."""
    card = Card({"S": floating(1, 1), "V": Position(1), "W": Position(1)}, (A,))
    holding(books, {"shoe": card}, {A: floats("S", 1)})
    assert lines_of(books.one(source(N, [line(1, "S"), line(1, "V")]))) == [
        ("shoe", "S", 1), ("shoe", "V", 1)
    ]  # fmt: skip
    assert lines_of([0, books.read()[books.key("ops")][A]]) == [("shoe", "W", 1)]


def test_no_more_moves_on_than_came(books: Books) -> None:
    """Units of a plain hold stay where they are."""
    card = Card({"S": floating(1, 1), "V": Position(2, 1), "W": Position(2)}, (B, A))
    holds = {A: floats("S", 1), B: Hold((("shoe", "V", 1),))}
    holding(books, {"shoe": card}, holds)
    state = books.read()
    assert books.one(source(N, [line(1, "S"), line(2, "V")])) == [b"insufficient_stock", 1, 1, 1, 2]
    assert books.read() == state


def test_only_what_is_needed_moves_on(books: Books) -> None:
    """A place with some room makes as much of it as is missing; the first place may be the one to go to."""
    of = settings(pools={"sv": "SV", "vx": "VX"})
    card = Card({"V": floating(3, 2), "S": floating(2, 2), "X": Position(5)}, (A, B))
    holding(books, {"shoe": card}, {A: floats("V", 2, pools="vx"), B: floats("S", 2, pools="sv")}, of)
    assert moved(books, 2) == ([("shoe", "S", 2)], {"V": 3, "S": 2, "X": 1})


def test_those_that_came_move_with_those_that_were_there(books: Books) -> None:
    """A later line of the request needs the place of both."""
    card = Card({"S": floating(1, 1), "V": floating(2, 1), "W": Position(2)}, (C, A))
    holding(books, {"shoe": card}, {A: floats("S", 1), C: floats("V", 1)})
    assert lines_of(books.one(source(N, [line(1, "S"), line(2, "V")]))) == [
        ("shoe", "S", 1), ("shoe", "V", 2)
    ]  # fmt: skip
    assert read_positions(books)["W"].held == 2


def test_groups_make_way_in_the_order_of_their_names(books: Books) -> None:
    """The same holds whatever has been counted before: channel and pools, whichever hold is newer."""
    of = settings(pools={"sv": "SV"})
    card = Card({"S": floating(2, 2), "V": Position(2)}, (A, B))
    holding(books, {"shoe": card}, {A: floats("S", 1), B: floats("S", 1, pools="sv")}, of)
    assert moved(books, 1)[0] == [("shoe", "S", 1)]
    records = books.read()[books.key("ops")]
    assert [lines_of([0, records[one]])[0][1] for one in (A, B)] == ["V", "S"]


def test_very_many_holds_make_way(books: Books) -> None:
    """Each of them, and what is counted of them stays true from call to call."""
    names = tuple(name(100 + number) for number in range(300))
    blocks = {at: names[at * 15 : at * 15 + 15] for at in range(20)}
    card = Card({"S": floating(300, 300), "V": Position(300), "W": Position(10)}, (), block=20, blocks=blocks)
    holding(
        books,
        {"shoe": card},
        {each: floats("S", 1)._replace(blocks=(at // 15,)) for at, each in enumerate(names)},
    )
    assert books.one(source(M, [line(311, "S")]))[0] == b"insufficient_stock"
    assert moved(books, 290) == ([("shoe", "S", 290)], {"S": 300, "V": 290, "W": 0})
    answers = books.batch(*(source(name(90 + one), [line(5, "S")]) for one in range(3)))
    assert [lines_of(answer)[0] for answer in answers] == [
        ("shoe", "S", 5), ("shoe", "S", 5), b"insufficient_stock"
    ]  # fmt: skip
    assert lines_of(books.one(source(C, [line(290, "V")])))[:1] == [b"insufficient_stock"]
    assert lines_of(books.one(source(C, [line(10, "V")]))) == [("shoe", "V", 10)]
    held = {at: position.held for at, position in read_positions(books).items()}
    assert held == {"S": 300, "V": 300, "W": 10}


def test_all_of_very_many_holds_make_way(books: Books) -> None:
    """At once: none of them is passed over."""
    names = tuple(name(100 + number) for number in range(300))
    blocks = {at: names[at * 15 : at * 15 + 15] for at in range(20)}
    card = Card({"S": floating(300, 300), "V": Position(300)}, (), block=20, blocks=blocks)
    holds = {each: floats("S", 1)._replace(blocks=(at // 15,)) for at, each in enumerate(names)}
    holding(books, {"shoe": card}, holds)
    assert moved(books, 300) == ([("shoe", "S", 300)], {"S": 300, "V": 300})


def test_others_on_the_same_card(books: Books) -> None:
    """Plain holds, and those that float there with another SKU, are no help."""
    holds = {
        A: floats("S", 1),
        B: Hold((("shoe", "S", 1),)),
        C: Hold((("hat", "S", 1), ("shoe", "X", 1)), detail=pack_terms("", ("all",)) + b"detail"),
    }
    card = Card({"S": Position(2, 2, floating=1), "W": Position(1), "X": floating(1, 1)}, (A, B, C))
    hat = Card({"S": floating(1, 1), "W": Position(1)}, (C,))
    holding(books, {"shoe": card, "hat": hat}, holds)
    assert moved(books, 1) == ([("shoe", "S", 1)], {"S": 2, "W": 1, "X": 1})
    records = books.read()[books.key("ops")]
    assert lines_of([0, records[A]]) == [("shoe", "W", 1)]
    assert [records[one] for one in (B, C)] == [holds[one].packed(one) for one in (B, C)]


def test_units_make_way_where_every_place_has_some(books: Books) -> None:
    """None is full, and still some must move, if the line may not be divided."""
    card = Card({"S": floating(5, 3), "V": Position(3)}, (A,))
    holding(books, {"shoe": card}, {A: floats("S", 3)})
    assert moved(books, 4, allow_split=False) == ([("shoe", "S", 4)], {"S": 5, "V": 2})


@pytest.mark.parametrize(
    "free", [Position(1), Position(0, backorder_limit=1), Position(-1, backorder_limit=2)]
)
def test_where_there_is_room(books: Books, free: Position) -> None:
    """In the first place, or behind it on the card; of what may be ordered back as well."""
    for card in (Card({"V": free, "S": floating(1, 1)}, (A,)), Card({"S": floating(1, 1), "V": free}, (A,))):
        holding(books, {"shoe": card}, {A: floats("S", 1)})
        assert moved(books, 1) == ([("shoe", "S", 1)], {"V": 1, "S": 1})


@pytest.mark.parametrize("quantity", [2, 3])
def test_few_places_for_which_others_make_way(books: Books, quantity: int) -> None:
    """Where what is free does not suffice, the places are taken in their order."""
    of = settings(pools={"s": "S", "sv": "SV"})
    card = Card({"S": Position(4, 3, floating=3), "V": Position(3)}, (A,))
    holding(books, {"shoe": card}, {A: floats("S", 3, pools="sv")}, of)
    rules = Rules(pool="s", strategy=Strategy.FEWEST_SPLITS)
    assert lines_of(books.one(source(N, [line(quantity)], rules))) == [("shoe", "S", quantity)]
    assert read_positions(books)["V"].held == quantity - 1


def test_nobody_makes_way_for_a_kit(books: Books) -> None:
    """Its members come from one place, as they are."""
    stock: Stock = {
        "shoe": Card({"S": floating(1, 1), "V": Position(1)}, (A,)),
        "hat": Card({"S": Position(1)}),
    }
    holding(books, stock, {A: floats("S", 1)})
    kit = Group(1, "S", (("shoe", 1), ("hat", 1)))
    assert books.one(source(N, [kit])) == [b"insufficient_stock", 1, 0, 0, 1]


def test_room_that_is_made_again_and_again(books: Books) -> None:
    """Each time one unit: behind each other they all go by the same place."""
    of = settings(pools={"sv": "SV", "vx": "VX"})
    card = Card({"S": floating(2, 2), "V": floating(2, 2), "X": Position(2)}, (A, B, C, M))
    holds = {A: floats("S", 1, pools="sv"), B: floats("S", 1, pools="sv")}
    holds |= {C: floats("V", 1, pools="vx"), M: floats("V", 1, pools="vx")}
    holding(books, {"shoe": card}, holds, of)
    assert moved(books, 2) == ([("shoe", "S", 2)], {"S": 2, "V": 2, "X": 2})


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_one_reservation_at_several_places(books: Books, bound: int) -> None:
    """Its bound line is not joined by units that float and stays bound; a line that floats is joined."""
    lines = [("shoe", "S", 2), ("shoe", "W", 1)]
    lines.insert(bound, ("shoe", "V", 1))
    both = Hold(tuple(lines), detail=pack_terms("", ("all",), (bound,)) + b"detail")
    card = Card({"S": floating(2, 2), "V": Position(9, 1), "W": floating(4, 1)}, (A,))
    holding(books, {"shoe": card}, {A: both})
    assert moved(books, 2) == ([("shoe", "S", 2)], {"S": 2, "V": 1, "W": 3})
    left = [("shoe", "W", 3)]
    left.insert(bound // 2, ("shoe", "V", 1))
    record = books.read()[books.key("ops")][A]
    assert lines_of([0, record]) == left
    assert pack_terms("", ("all",), (bound // 2,)) + b"detail" in record


def test_a_line_that_may_not_be_divided(books: Books) -> None:
    """Room is made at one place for all of it, or it is refused; one that may takes what comes free."""
    card = Card({"S": floating(3, 3), "V": floating(2, 2), "W": Position(1)}, (A, B))
    holds = {A: floats("S", 3), B: floats("V", 2)}
    holding(books, {"shoe": card}, holds)
    rules = Rules(pool="all", allow_split=False)
    assert books.one(source(N, [line(2)], rules)) == [b"insufficient_stock", 1, 0, 1, 2]
    more = Card({**card.positions, "W": Position(2)}, (A, B))
    holding(books, {"shoe": more}, holds)
    assert lines_of(books.one(source(N, [line(2)], rules))) == [("shoe", "W", 2)]
    most = Card({"S": floating(3, 3), "V": Position(1), "W": Position(1)}, (A,))
    holding(books, {"shoe": most}, {A: holds[A]})
    assert lines_of(books.one(source(N, [line(2)], rules))) == [("shoe", "S", 2)]


def test_fences_move_along(books: Books) -> None:
    """Units that make way leave the fence of their channel here and use the one there."""
    web = settings(channels=[Channel("web", ("all",))])
    stock: Stock = {
        "shoe": Card(
            {
                "S": floating(2, 2, flags=FENCED_HERE),
                "V": Position(5, fenced=5, flags=FENCED_HERE),
            },
            (A,),
        ),
        fence_field("shoe", "S"): Fences((Fence("web", 0, 2),)),
        fence_field("shoe", "V"): Fences((Fence("web", 1), Fence("app", 4))),
    }
    holding(books, stock, {A: floats("S", 2, channel="web")}, web)
    refused = source(M, [line(2, "S")], Rules(channel="web"))
    assert books.one(refused)[0] == b"insufficient_stock"
    answer, held = moved(books, 1, channel="web")
    assert (answer, held) == ([("shoe", "S", 1)], {"S": 2, "V": 1})
    found = books.read()[books.key("stock")]
    assert found[fence_field("shoe", "S").encode()] == Fence("web", 0, 2).packed
    assert found[fence_field("shoe", "V").encode()] == Fence("web", 0, 1).packed + Fence("app", 4).packed
