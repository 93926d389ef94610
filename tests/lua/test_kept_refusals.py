"""Refusals that are kept: told again at little cost while nothing has changed, and never a moment longer."""

import re

import pytest

from engine.setting_forms import encode_setting
from engine.sourcing_plan import Group, Rules, Strategy
from engine.types import Capability, Channel, Pool
from tests.lua.books import (
    FENCED_HERE,
    Books,
    Card,
    Divided,
    Fence,
    Fences,
    Position,
    Request,
    Stock,
    choose,
    fence_field,
    move,
    name,
    page_of,
    places_of_pages,
    resolve,
    save_fence,
    source,
)
from tests.lua.choosing import (
    ALL,
    floating,
    floats,
    holding,
    line,
    lines_of,
    place,
    settings,
    shoes,
)

A, B, C, N = (name(number) for number in (1, 2, 3, 9))
WEB = Rules(channel="web")
NONE = [b"insufficient_stock", 1, 0, 0, 1]


@pytest.mark.parametrize("is_divided", [False, True])
def test_a_refusal_that_is_told_again(books: Books, is_divided: bool) -> None:
    """Of less, of as much and of more; until anything of the SKU has changed, or the settings have."""
    cards = {page_of(at): Card({at: Position(1, 1)}) for at in "SV"}
    empty: Stock = {"shoe": Divided(cards)} if is_divided else shoes(S=Position(1, 1), V=Position(1, 1))
    of = settings(pools={"south": "S"})
    books.seed(stock=empty, settings=of)
    rules = (ALL, Rules(pool="all", strategy=Strategy.FEWEST_SPLITS), Rules(pool="south"))
    for sets in (2, 2, 3, 1, 2, 1):
        asked = [source(A, [line(sets)], rule) for rule in rules]
        assert books.batch(*asked) == [[b"insufficient_stock", 1, 0, 0, sets]] * 3
    assert isinstance(books.one(move(B, 1, "V")), bytes)
    assert lines_of(books.one(source(A, [line(1)], Rules(pool="south")))) == [
        b"insufficient_stock",
        2,
        0,
        0,
        1,
    ]
    assert lines_of(books.one(source(A, [line(1)], ALL))) == [("shoe", "V", 1)]


def test_a_kept_refusal_and_other_requests(books: Books) -> None:
    """It says nothing of other capabilities, lines that may be parts, kits, places or what is inbound."""
    of = settings(place("S", capabilities=(Capability.PICKUP,)), place("V", capabilities=(Capability.SHIP,)))
    stock = {**shoes(S=Position(0, inbound=3), V=2), "hat": Card({"V": Position(5)})}
    books.seed(stock=stock, settings=of)
    none = [b"insufficient_stock", 1, 0, 0, 1]
    pickup = Rules(pool="all", capability="pickup")
    assert books.batch(*[source(A, [line(1)], pickup)] * 2) == [none] * 2
    wide = Group(1, None, (("shoe", 3),))
    asked = [
        source(A, [wide], ALL),
        source(A, [line(1), line(1, sku="hat")], pickup),
        source(A, [line(1, "S")]),
    ]
    short = [b"insufficient_stock", 1]
    assert books.batch(*asked) == [none, [*short, 0, 0, 1, 1, 0, 1], none]
    waits = Rules(pool="all", capability="pickup", from_inbound=True)
    ship = Rules(pool="all", capability="ship")
    answers = books.batch(
        source(A, [line(1)], waits), source(B, [line(1)], ship), source(C, [line(1)], pickup)
    )
    assert [lines_of(answer)[0] for answer in answers] == [
        ("shoe", "S", 1), ("shoe", "V", 1), b"insufficient_stock"
    ]  # fmt: skip


def test_a_kit_that_is_refused(books: Books) -> None:
    """Says nothing of its first component alone."""
    books.seed(stock={**shoes(S=1), "hat": Card({"S": Position(0)})}, settings=settings())
    kit = Group(1, None, (("shoe", 1), ("hat", 1)))
    assert books.one(source(A, [kit], ALL)) == NONE
    assert lines_of(books.one(source(A, [line(1)], ALL))) == [("shoe", "S", 1)]


def test_a_place_that_is_refused(books: Books) -> None:
    """Says nothing of another, or of any place."""
    books.seed(stock=shoes(S=0, V=1, W=1), settings=settings())
    assert books.one(source(A, [line(1, "S")])) == NONE
    assert lines_of(books.one(source(A, [line(1, "V")]))) == [("shoe", "V", 1)]
    assert lines_of(books.one(source(B, [line(1)], Rules(everywhere=True)))) == [("shoe", "W", 1)]


def test_less_than_was_refused(books: Books) -> None:
    """May be made free where more could not."""
    card = Card({"S": floating(2, 2), "V": Position(1)}, (A,))
    holding(books, {"shoe": card}, {A: floats("S", 2)}, settings(pools={"s": "S"}))
    south = Rules(pool="s")
    assert books.one(source(N, [line(2)], south)) == [b"insufficient_stock", 1, 0, 0, 2]
    assert lines_of(books.one(source(N, [line(1)], south))) == [("shoe", "S", 1)]


def test_what_a_call_has_changed_itself(books: Books) -> None:
    """Is not what is stored: once it is given back, the card is as it was, and what was refused is there."""
    books.seed(stock=shoes(S=1), settings=settings())
    asked = [source(A, [line(1)], ALL), source(B, [line(1)], ALL)]
    taken, refused = books.batch(*asked)
    assert (lines_of(taken), refused) == ([("shoe", "S", 1)], [b"insufficient_stock", 2, 0, 0, 1])
    books.one(resolve("release", A, choose()))
    assert lines_of(books.one(source(B, [line(1)], ALL))) == [("shoe", "S", 1)]


def test_every_page_counts(books: Books) -> None:
    """Of a divided SKU, the first and the last as well."""
    found = places_of_pages()
    of = settings(*map(place, found.values()))
    of.pools["pages"] = encode_setting(Pool("pages", tuple(found.values())))
    rules = Rules(pool="pages")
    empty: Stock = {"shoe": Divided({page: Card({at: Position(0)}) for page, at in found.items()})}
    for page in (0, 1, 62, 63):
        books.seed(stock=empty, settings=of)
        assert books.batch(*[source(A, [line(1)], rules)] * 2) == [NONE] * 2
        assert isinstance(books.one(move(B, 1, found[page])), bytes)
        assert lines_of(books.one(source(A, [line(1)], rules))) == [("shoe", found[page], 1)]


def test_a_fence_that_opens(books: Books) -> None:
    """It stands apart from the card, which is as it was."""
    stock: Stock = {
        "shoe": Card({"W": Position(9, 3, flags=FENCED_HERE)}),
        fence_field("shoe", "W"): Fences((Fence("web", 0, 3),)),
    }
    books.seed(stock=stock, settings=settings(channels=[Channel("web", ("all",))]))
    assert books.batch(*[source(A, [line(1)], WEB)] * 2) == [NONE] * 2
    before = books.raw("HGET", books.key("stock"), "shoe")
    assert books.one(save_fence("web", "shoe", "W", 3, spill=1)) == [2, 0, 3]
    assert books.raw("HGET", books.key("stock"), "shoe") == before
    assert lines_of(books.one(source(A, [line(1)], WEB))) == [("shoe", "W", 1)]


def micros(books: Books, request: Request) -> int:
    """How long the server works on a request."""
    counted = re.compile(rb"cmdstat_fcall:calls=\d+,usec=(\d+)")

    def spent() -> int:
        return int(counted.findall(books.raw("INFO", "commandstats"))[0])

    before = spent()
    books.one(request)
    return spent() - before


def test_what_is_told_again_costs_little(books: Books) -> None:
    """Of very many places not one is looked at; whatever else was asked for before."""
    many = [f"L{number}" for number in range(500)]
    of = settings(*map(place, many), channels=[Channel("web", ("all",))])
    of.pools["many"] = encode_setting(Pool("many", tuple(many)))
    stock: Stock = {
        "shoe": Card({at: Position(0) for at in many}),
        "hat": Card({"W": Position(9, 3, flags=FENCED_HERE)}),
        fence_field("hat", "W"): Fences((Fence("web", 0, 3),)),
    }
    books.seed(stock=stock, settings=of)
    books.one(source(A, [line(1, sku="hat")], WEB))
    rules, times = Rules(pool="many"), []
    for units in range(1, 7):
        request = source(A, [Group(2, None, (("shoe", units),))], rules)
        times.append([micros(books, request) for _ in range(4)])
    anew, again = min(first for first, *_ in times[1:]), min(min(more) for _, *more in times)
    assert again * 3 < anew, times
