"""Which places a request takes its units from: rooms, orders, strategies."""

from math import asin, cos, radians, sin, sqrt

import pytest

from engine.setting_forms import encode_setting
from engine.sourcing_plan import Group, Rules, Strategy
from engine.types import Buffer, Capability, Channel, Pool
from tests.lua.books import (
    FENCED_HERE,
    Books,
    Card,
    Divided,
    Fence,
    Fences,
    Position,
    Settings,
    Stock,
    fence_field,
    name,
    places_of_pages,
    plan,
    source,
)
from tests.lua.choosing import ALL, line, lines_of, place, read_positions, settings, shoes, taken

A, B, C = (name(number) for number in (1, 2, 3))
HERE = fence_field("shoe", "W")


# ---------------------------------------------------------------- room


@pytest.mark.parametrize(
    ("position", "fences", "buffer", "room"),
    [
        (Position(10), (), None, 10),
        (Position(10), (), Buffer(units=3), 7),
        (Position(10, 8), (), Buffer(units=3), 0),
        (Position(10), (), Buffer(percent=25), 7),
        (Position(8), (), Buffer(percent=25), 6),
        (Position(100), (), Buffer(percent=1), 99),
        (Position(10_000), (), Buffer(percent=50), 5000),
        (Position(10, 2, unsellable=3), (), Buffer(percent=50), 1),
        (Position(0, unsellable=2, backorder_limit=5), (), Buffer(percent=50), 3),
        (Position(3, 2, backorder_limit=5), (), Buffer(units=1), 5),
        # A fence of its own, with and without what is for all.
        (Position(10, 5, fenced=2), (Fence("web", 2),), None, 2),
        (Position(10, 5, fenced=2), (Fence("web", 2),), Buffer(units=1), 2),
        (Position(10, 5, fenced=2), (Fence("web", 2, spill=1),), None, 5),
        (Position(10, 5, fenced=2), (Fence("web", 2, spill=1),), Buffer(units=1), 4),
        (Position(10, 5, fenced=2), (Fence("web", 2, spill=1),), Buffer(units=4), 2),
        (Position(10, 5, fenced=5), (Fence("app", 3), Fence("web", 2)), None, 2),
        # Of another channel, and of both more than there is.
        (Position(10, 5, fenced=2), (Fence("app", 2),), None, 3),
        (Position(10, 9, fenced=4), (Fence("web", 3), Fence("app", 1)), None, 1),
        (Position(10, 9, fenced=4), (Fence("web", 3, spill=1), Fence("app", 1)), None, 1),
        (Position(10, 6, fenced=5), (Fence("web", 2), Fence("app", 3)), None, 2),
        (Position(10, 8, fenced=2, backorder_limit=3), (Fence("web", 2),), Buffer(units=9), 2),
        (Position(10, 12, fenced=3, backorder_limit=4), (Fence("web", 3),), None, 2),
    ],
)
def test_how_much_a_channel_may_take(
    books: Books, position: Position, fences: tuple[Fence, ...], buffer: Buffer | None, room: int
) -> None:
    """All of its room and not one more; a refusal leaves no trace, also within a call."""
    position = position._replace(flags=FENCED_HERE if fences else 0)
    web = Channel("web", ("all",), buffer)
    stock: Stock = {"shoe": Card({"W": position}), **({HERE: Fences(fences)} if fences else {})}
    books.seed(stock=stock, settings=settings(channels=[web, Channel("app", ("all",))]))
    rules = Rules(channel="web")
    refusal = [b"insufficient_stock", 1, 0, room, room + 1]
    asked = [source(A, [line(room + 1)], rules), source(B, [line(room + 1)], rules)]
    if not room:
        assert books.batch(*asked) == [refusal, refusal]
        return
    *refused, answer = books.batch(*asked, source(C, [line(room)], rules))
    assert refused == [refusal, refusal]
    assert lines_of(answer) == [("shoe", "W", room)]


@pytest.mark.parametrize(
    ("position", "fences", "buffer", "room"),
    [
        (Position(10, 9, inbound=9), (), None, 10),
        (Position(10, 9, inbound=9), (), Buffer(units=1), 0),
        (Position(10, 8, inbound=9), (), Buffer(units=1), 1),
        (Position(10, 10, inbound=9), (), Buffer(units=1), 9),
        (Position(10, 5, fenced=2, inbound=9), (Fence("web", 2),), None, 2),
        (Position(10, 5, fenced=2, inbound=9), (Fence("web", 2, spill=1),), None, 14),
        (Position(10, 5, fenced=2, inbound=9), (Fence("web", 2, spill=1),), Buffer(units=1), 4),
        (Position(10, 8, fenced=2, inbound=9), (Fence("web", 2),), None, 11),
    ],
)
def test_how_much_of_what_is_inbound(
    books: Books, position: Position, fences: tuple[Fence, ...], buffer: Buffer | None, room: int
) -> None:
    """None while units are there that the channel leaves to others."""
    position = position._replace(flags=FENCED_HERE if fences else 0)
    stock: Stock = {"shoe": Card({"W": position}), **({HERE: Fences(fences)} if fences else {})}
    rules, of = Rules(channel="web", from_inbound=True), settings(channels=[Channel("web", ("all",), buffer)])
    assert taken(books, stock, rules, line(room + 1), of=of) == [b"insufficient_stock", 1, 0, room, room + 1]
    if room:
        assert taken(books, stock, rules, line(room), of=of) == [("shoe", "W", room)]


def test_sets_of_several_members(books: Books) -> None:
    """As many as every member allows; they are bound to their place, and counted in units."""
    stock: Stock = {
        "shoe": Card({"S": Position(9), "V": Position(7), "W": Position(2)}),
        "hat": Card({"S": Position(2), "V": Position(5, 1)}),
    }
    kit = (("hat", 1), ("shoe", 3))
    assert taken(books, stock, ALL, Group(3, None, kit)) == [
        ("hat", "S", 2), ("shoe", "S", 6), ("hat", "V", 1), ("shoe", "V", 3)
    ]  # fmt: skip
    assert taken(books, stock, ALL, Group(5, None, kit)) == [b"insufficient_stock", 1, 0, 4, 5]
    assert taken(books, stock, ALL, Group(2, None, (("shoe", 2),))) == [("shoe", "S", 4)]
    assert all(not position.floating for position in read_positions(books).values())
    taken(books, stock, ALL, Group(1, None, (("hat", 1), ("shoe", 1))))
    assert all(not position.floating for position in read_positions(books).values())


# ---------------------------------------------------------------- order


def test_orders(books: Books) -> None:
    """By priority, by stock, by distance; then by how many pools share a place, then by its name. For
    whom nothing is near, by the same but the distance.
    """
    places = (place("S", priority=2), place("V", priority=1, lat=10.0, lon=0.0), place("W", priority=2))
    one = settings(*places, pools={"more": "S", "most": "SV"})
    stock = shoes(S=3, V=2, W=3)

    def first(strategy: Strategy, of: Settings = one) -> list[str]:
        near = [Rules(pool="all", strategy=strategy, near=where) for where in ((0.0, 0.0), None)]
        found, anywhere = (taken(books, stock, rules, line(8), of=of) for rules in near)
        if strategy is not Strategy.NEAREST:
            assert anywhere == found
        return [where for _, where, _ in found]

    assert first(Strategy.PRIORITY) == ["V", "W", "S"]
    assert first(Strategy.MOST_STOCK) == ["W", "S", "V"]
    assert first(Strategy.NEAREST) == ["V", "W", "S"]
    plain = settings(*places)
    assert first(Strategy.PRIORITY, plain) == ["V", "S", "W"]
    assert first(Strategy.MOST_STOCK, plain) == ["S", "W", "V"]
    assert first(Strategy.NEAREST, plain) == ["V", "S", "W"]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ((0.0, 0.0), (0.0, 90.0)),
        ((0.0, 0.0), (60.0, 0.0)),
        ((50.1, 8.6), (52.5, 13.4)),
        ((-33.9, 151.2), (40.7, -74.0)),
        ((89.0, 10.0), (89.0, -170.0)),
        ((0.0, 0.0), (0.0, 180.0)),
        ((12.3, 4.5), (12.3, 4.5)),
    ],
)
def test_distances(books: Books, here: tuple[float, float], there: tuple[float, float]) -> None:
    """Great circles, in metres; a location without coordinates is at none, and comes last."""
    stock = shoes(S=1, V=1, W=1)
    books.seed(stock=stock, settings=settings(place("W", lat=there[0], lon=there[1]), place("V", lat=1.0)))
    rules = Rules(pool="all", strategy=Strategy.NEAREST, near=here)
    seq, fits, packed = books.one(plan([line(3)], rules))
    (lat, lon), (to_lat, to_lon) = map(radians, here), map(radians, there)
    a = sin((to_lat - lat) / 2) ** 2 + cos(lat) * cos(to_lat) * sin((to_lon - lon) / 2) ** 2
    rows = [packed[at : at + 49] for at in range(0, len(packed), 49)]
    assert (seq, fits, [row[2:3] for row in rows]) == (1, 1, [b"W", b"S", b"V"])
    told = [int.from_bytes(row[-5:], "little") for row in rows]
    assert told[1:] == [2**40 - 1] * 2
    assert abs(told[0] - 2 * 6_371_000 * asin(min(1, sqrt(a)))) <= 1


def test_who_does_not_say_where(books: Books) -> None:
    """Without a place to be near to, all are as far."""
    books.seed(stock=shoes(S=1), settings=settings(place("S", lat=1.0, lon=1.0)))
    *_, packed = books.one(plan([line(1)], ALL))
    assert packed[-5:] == (2**40 - 1).to_bytes(5, "little")
    nearest = Rules(pool="all", strategy=Strategy.NEAREST)
    of = settings(place("S", priority=2), place("V", priority=1))
    assert taken(books, shoes(V=1, S=1), nearest, line(1), of=of) == [("shoe", "S", 1)]


def test_places_that_cannot_be_chosen(books: Books) -> None:
    """Inactive, or without what is asked for; a request that names its place has it all the same."""
    pickup = Rules(pool="all", capability="pickup")
    able = (Capability.SHIP, Capability.PICKUP)
    one = settings(place("S", active=False, capabilities=able), place("W", capabilities=able))
    stock = shoes(S=5, V=5, W=5, X=5)
    assert taken(books, stock, pickup, line(3), of=one) == [("shoe", "W", 3)]
    assert taken(books, stock, pickup, line(6), of=one) == [b"insufficient_stock", 1, 0, 5, 6]
    assert taken(books, stock, pickup, line(2, "S"), line(1, "X"), of=one) == [
        ("shoe", "S", 2), ("shoe", "X", 1)
    ]  # fmt: skip
    assert taken(books, stock, Rules(pool="all", capability="returns"), line(1), of=one)[2:] == [
        0, 0, 1
    ]  # fmt: skip


def test_lines_share_a_fence(books: Books) -> None:
    """Each takes of it as much as it asks for."""
    stock: Stock = {
        "shoe": Card({"W": Position(9, fenced=5, flags=FENCED_HERE)}),
        HERE: Fences((Fence("web", 5),)),
    }
    of, web = settings(channels=[Channel("web", ("all",))]), Rules(channel="web")
    assert taken(books, stock, web, line(1, "W"), line(4, "W"), of=of) == [("shoe", "W", 5)]
    assert taken(books, stock, web, line(2, "W"), line(4, "W"), of=of)[2:] == [1, 5, 4]


def test_every_place_of_a_divided_sku(books: Books) -> None:
    """On any of its cards; for who asks for everywhere and for who asks for a pool."""
    found = places_of_pages()
    pages = {page: Card({at: Position(2)}) for page, at in found.items()}
    of = settings(*map(place, found.values()))
    of.pools["pages"] = encode_setting(Pool("pages", tuple(found.values())))
    for rules in (Rules(everywhere=True), Rules(pool="pages")):
        books.seed(stock={"shoe": Divided(pages)}, settings=of)
        lines = lines_of(books.one(source(A, [line(128)], rules)))
        assert sorted(lines) == sorted(("shoe", at, 2) for at in found.values())


def test_a_place_of_no_pool(books: Books) -> None:
    """Of places that are as good, the one that nobody else needs."""
    of = settings(pools={"all": "SV"})
    assert taken(books, shoes(S=3, V=3, W=3), Rules(everywhere=True), line(3), of=of) == [("shoe", "W", 3)]


# ---------------------------------------------------------------- strategies


@pytest.mark.parametrize(
    ("strategy", "groups", "found"),
    [
        (Strategy.SINGLE_LOCATION, [line(2), line(2, sku="hat")], [("shoe", "V", 2), ("hat", "V", 2)]),
        (Strategy.SINGLE_LOCATION, [line(6)], [b"insufficient_stock", 1, 0, 12, 6]),
        (Strategy.SINGLE_LOCATION, [line(5), line(3, "S")], [("shoe", "S", 3), ("shoe", "W", 5)]),
        (Strategy.SINGLE_LOCATION, [line(3, "S"), line(1, "V", "hat")], [("shoe", "S", 3), ("hat", "V", 1)]),
        (Strategy.SINGLE_LOCATION, [line(1)], [("shoe", "S", 1)]),
        (Strategy.FEWEST_SPLITS, [line(8)], [("shoe", "W", 5), ("shoe", "S", 3)]),
        (Strategy.FEWEST_SPLITS, [line(4), line(4, sku="hat")], [("shoe", "V", 4), ("hat", "V", 4)]),
        (
            Strategy.FEWEST_SPLITS,
            [line(7), line(4, sku="hat")],
            [("shoe", "V", 4), ("hat", "V", 4), ("shoe", "S", 3)],
        ),
        (Strategy.FEWEST_SPLITS, [line(3), line(3)], [("shoe", "W", 5), ("shoe", "S", 1)]),
        (Strategy.FEWEST_SPLITS, [line(13)], [b"insufficient_stock", 1, 0, 12, 13]),
        (Strategy.PRIORITY, [line(4), line(9)], [b"insufficient_stock", 1, 1, 12, 9]),
        (Strategy.PRIORITY, [line(13), line(6, sku="hat")], [b"insufficient_stock", 1, 0, 12, 13, 1, 5, 6]),
    ],
)
def test_strategies(books: Books, strategy: Strategy, groups: list[Group], found: object) -> None:
    """One place for all, or the one that gives most, again and again; all or nothing."""
    stock = {**shoes(S=3, V=4, W=5), "hat": Card({"S": Position(1), "V": Position(4)})}
    rules = Rules(pool="all", strategy=strategy)
    assert taken(books, stock, rules, *groups) == found


@pytest.mark.parametrize("order", [1, -1])
def test_one_place_where_lines_have_others(books: Books, order: int) -> None:
    """The places of every line are looked at, in whatever order the lines come."""
    stock = {**shoes(S=0, V=0), "hat": Card({"V": Position(1), "W": Position(2)})}
    rules = Rules(pool="all", strategy=Strategy.SINGLE_LOCATION, allow_partial=True)
    lines = [line(1), line(2, sku="hat")][::order]
    assert taken(books, stock, rules, *lines) == [("hat", "W", 2)]


def test_one_place_for_a_kit_and_more(books: Books) -> None:
    """Where the candidates of groups differ, each is looked for at its own."""
    stock = {**shoes(S=3, V=4), "hat": Card({"V": Position(2), "W": Position(2)})}
    kit = Group(2, None, (("hat", 1), ("shoe", 1)))
    for strategy in (Strategy.SINGLE_LOCATION, Strategy.FEWEST_SPLITS):
        rules = Rules(pool="all", strategy=strategy, near=(0.0, 0.0))
        assert taken(books, stock, rules, line(2), kit) == [("shoe", "V", 4), ("hat", "V", 2)]
    rules = Rules(pool="all", strategy=Strategy.SINGLE_LOCATION)
    assert taken(books, stock, rules, line(3), kit) == [b"insufficient_stock", 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("rules", "groups", "found"),
    [
        (Rules(pool="all", allow_split=False), [line(4)], [("shoe", "V", 4)]),
        (
            Rules(pool="all", allow_split=False, strategy=Strategy.SINGLE_LOCATION),
            [line(4)],
            [("shoe", "V", 4)],
        ),
        (Rules(pool="all", allow_split=False), [line(6)], [b"insufficient_stock", 1, 0, 12, 6]),
        (
            Rules(pool="all", allow_split=False, strategy=Strategy.FEWEST_SPLITS),
            [line(5), line(4, sku="hat")],
            [("shoe", "W", 5), ("hat", "V", 4)],
        ),
        (
            Rules(pool="all", allow_partial=True),
            [line(20), line(1, sku="hat")],
            [("shoe", "S", 3), ("shoe", "V", 4), ("shoe", "W", 5), ("hat", "S", 1)],
        ),
        (
            Rules(pool="all", allow_partial=True, strategy=Strategy.SINGLE_LOCATION),
            [line(4), line(9, sku="hat")],
            [("shoe", "V", 4), ("hat", "V", 4)],
        ),
        (
            Rules(pool="all", allow_split=False, allow_partial=True),
            [line(20), line(1, sku="hat")],
            [("hat", "S", 1)],
        ),
        (Rules(pool="all", allow_partial=True), [line(1, sku="tie")], [b"insufficient_stock", 1, 0, 0, 1]),
        (Rules(allow_partial=True), [line(20, "S")], [("shoe", "S", 3)]),
        (Rules(everywhere=True, allow_split=False), [line(5)], [("shoe", "W", 5)]),
        (Rules(allow_partial=True), [line(4, "S"), line(9, "V")], [("shoe", "S", 3), ("shoe", "V", 4)]),
    ],
)
def test_parts_and_splits(books: Books, rules: Rules, groups: list[Group], found: object) -> None:
    """A line undivided, or less than was asked."""
    stock = {
        **shoes(S=3, V=4, W=5),
        "hat": Card({"S": Position(1), "V": Position(4)}),
        "tie": Card({"S": Position(0)}),
    }
    assert taken(books, stock, rules, *groups) == found


@pytest.mark.parametrize(
    ("strategy", "quantity", "found"),
    [
        (Strategy.SINGLE_LOCATION, 4, [("shoe", "S", 4)]),
        (Strategy.SINGLE_LOCATION, 3, [("shoe", "V", 3)]),
        (Strategy.PRIORITY, 6, [("shoe", "S", 3), ("shoe", "V", 3)]),
        (Strategy.FEWEST_SPLITS, 6, [("shoe", "S", 3), ("shoe", "V", 3)]),
        (Strategy.SINGLE_LOCATION, 6, [b"insufficient_stock", 1, 0, 8, 6]),
    ],
)
def test_strategies_and_what_is_inbound(
    books: Books, strategy: Strategy, quantity: int, found: object
) -> None:
    """Only what is there does not suffice for is taken of it; one location for all is sought again."""
    stock = shoes(S=Position(1, inbound=4), V=3)
    rules = Rules(pool="all", strategy=strategy, from_inbound=True)
    assert taken(books, stock, rules, line(quantity)) == found


def test_what_is_not_there(books: Books) -> None:
    """Pool, channel, SKU, position: each named once; a channel that is gone does where places are named."""
    stock = {**shoes(W=3), "hat": Card({"W": Position(1)})}
    one = settings(channels=[Channel("web", ("none", "all"))])
    kit = Group(1, None, (("a", 1), ("b", 1)))
    for rules, groups, found in [
        (Rules(pool="none"), [line(1, "W")], [b"pool_not_found", 1]),
        (Rules(channel="none"), [line(1)], [b"channel_not_found", 1]),
        (Rules(channel="none", everywhere=True), [line(1)], [b"channel_not_found", 1]),
        (Rules(), [line(1, "W"), line(1)], [b"channel_not_found", 1]),
        (Rules(from_inbound=True, allow_split=False), [line(1)], [b"channel_not_found", 1]),
        (Rules(channel="none"), [line(1, "W")], [("shoe", "W", 1)]),
        (Rules(everywhere=True), [line(1)], [("shoe", "W", 1)]),
        (Rules(channel="web"), [line(1)], [("shoe", "W", 1)]),
        (ALL, [line(1), kit, line(1, "W"), line(1, sku="c")], [b"sku_not_found", 1, 1, 3]),
        (Rules(), [line(1, "S"), line(1, "W"), line(1, "V", "hat")], [b"not_stocked", 1, 0, 2]),
        (ALL, [line(1, "S"), line(1, sku="c")], [b"sku_not_found", 1, 1]),
    ]:
        assert taken(books, stock, rules, *groups, of=one) == found


def test_settings_are_read_anew(books: Books) -> None:
    """When they have another number, or another process has the books; not before."""
    stock = shoes(S=3, W=3)
    one, other = settings(), settings(place("S", active=False))
    assert taken(books, stock, ALL, line(1), of=one) == [("shoe", "S", 1)]
    same = other._replace(number=one.number)
    assert taken(books, stock, ALL, line(1), of=same) == [("shoe", "S", 1)]
    assert taken(books, stock, ALL, line(1), of=other) == [("shoe", "W", 1)]
    books.seed(stock=stock, settings=one._replace(number=other.number), epoch=2)
    assert lines_of(books.one(source(A, [line(1)], ALL))) == [("shoe", "S", 1)]


def test_all_pools_of_a_channel(books: Books) -> None:
    """Each place of each of them, once; those that are gone have none."""
    of = settings(pools={"west": "VX", "e": "WX"}, channels=[Channel("web", ("west", "gone", "e"))])
    stock, web = shoes(S=5, V=1, W=1, X=1), Rules(channel="web")
    assert taken(books, stock, web, line(4), of=of) == [b"insufficient_stock", 1, 0, 3, 4]
    assert taken(books, stock, web, line(3), of=of) == [("shoe", "V", 1), ("shoe", "W", 1), ("shoe", "X", 1)]
