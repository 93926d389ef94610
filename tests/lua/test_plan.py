"""What a plan tells of every place, and that it changes nothing."""

from typing import NamedTuple

import pytest

from engine.sourcing_plan import Group, Rules, Strategy
from engine.types import Capability, Channel
from tests.lua.books import (
    COMMITTED,
    FENCED_HERE,
    NOW,
    Answer,
    Books,
    Card,
    Fact,
    Fence,
    Fences,
    Hold,
    Position,
    Request,
    Stock,
    fence_field,
    name,
    pack_terms,
    plan,
)
from tests.lua.choosing import ALL, line, place, settings, shoes

A, B, C = (name(number) for number in (1, 2, 3))
CHOSEN, NOT_NEEDED, OUT_OF_STOCK, TOO_LITTLE, INACTIVE, INCAPABLE = range(1, 7)
NOWHERE = 2**40 - 1


class Told(NamedTuple):
    """What a plan says of a place."""

    location: str
    reason: int
    sets: int
    taken: int
    free: int
    backorder_limit: int = 0
    low_stock: int = 0
    expected: int = 0
    metres: int = NOWHERE


def told(packed: bytes) -> list[Told]:
    """All places of a group."""
    found, at = [], 0
    while at < len(packed):
        size = packed[at]
        numbers, start = [], at + size + 2
        for width, signed in ((6, False), (5, False), *[(7, True)] * 4, (5, False)):
            numbers.append(int.from_bytes(packed[start : start + width], "little", signed=signed))
            start += width
        found.append(Told(packed[at + 2 : at + size].decode(), packed[at + size + 1], *numbers))
        at = start
    return found


def planned(books: Books, *groups: Group, rules: Rules = ALL) -> tuple[Answer, ...]:
    """The answer, taken apart; nothing is written."""
    before = books.read()
    answer = books.one(plan(groups, rules))
    assert books.read() == before
    if isinstance(answer[0], bytes):
        return tuple(answer)
    return (*answer[:2], *map(told, answer[2:]))


def test_why_a_place_gives_what_it_gives(books: Books) -> None:
    """In the order of the strategy, then those that cannot be chosen."""
    where = settings(
        place("S", priority=1),
        place("V", active=False, capabilities=(Capability.PICKUP,)),
        place("W", priority=2, capabilities=(Capability.SHIP, Capability.PICKUP)),
        place("X", priority=4, capabilities=(Capability.PICKUP,)),
        place("Y", priority=3, capabilities=(Capability.PICKUP,)),
        place("Z", priority=5, capabilities=(Capability.PICKUP,)),
        pools={"all": "SVWXYZ"},
    )
    stock = shoes(
        S=9,
        V=Position(8, backorder_limit=3),
        W=Position(5, 1, safety_stock=1, low_stock=2, inbound=9, preordered=0),
        Y=Position(0, 3, low_stock=1, inbound=4, preordered=3),
        X=Position(2, backorder_limit=2),
        Z=4,
    )
    books.seed(stock=stock, settings=where)
    rules = Rules(pool="all", capability="pickup")
    rest = [
        Told("S", INCAPABLE, 0, 0, 9),
        Told("V", INACTIVE, 0, 0, 8, 3),
    ]
    assert planned(books, line(5), rules=rules) == (
        1,
        1,
        [
            Told("W", CHOSEN, 3, 3, 3, 0, 2, 9),
            Told("Y", OUT_OF_STOCK, 0, 0, 0, 0, 1, 1),
            Told("X", CHOSEN, 4, 2, 2, 2),
            Told("Z", NOT_NEEDED, 4, 0, 4),
            *rest,
        ],
    )
    undivided = Rules(pool="all", capability="pickup", allow_split=False)
    assert planned(books, line(5), rules=undivided) == (
        1,
        0,
        [
            Told("W", TOO_LITTLE, 3, 0, 3, 0, 2, 9),
            Told("Y", OUT_OF_STOCK, 0, 0, 0, 0, 1, 1),
            Told("X", TOO_LITTLE, 4, 0, 2, 2),
            Told("Z", TOO_LITTLE, 4, 0, 4),
            *rest,
        ],
    )


def test_several_groups(books: Books) -> None:
    """Each is told as things stand before anything is taken; a part is told where a part will do."""
    books.seed(stock={**shoes(S=3, W=2), "hat": Card({"W": Position(7)})}, settings=settings())
    kit = Group(2, None, (("shoe", 1), ("hat", 2)))
    assert planned(books, line(4), kit) == (
        1,
        0,
        [Told("S", TOO_LITTLE, 3, 0, 3), Told("W", TOO_LITTLE, 2, 0, 2)],
        [Told("W", TOO_LITTLE, 2, 0, 2)],
    )
    assert planned(books, line(4), kit, rules=Rules(pool="all", allow_partial=True)) == (
        1,
        1,
        [Told("S", CHOSEN, 3, 3, 3), Told("W", CHOSEN, 2, 1, 2)],
        [Told("W", CHOSEN, 2, 1, 2)],
    )
    assert planned(books, line(1), line(9, sku="hat"))[2] == [
        Told("S", TOO_LITTLE, 3, 0, 3),
        Told("W", TOO_LITTLE, 2, 0, 2),
    ]
    assert planned(books, line(1, "W"), line(9, sku="tie")) == (b"sku_not_found", 1, 1)
    assert planned(books, line(1), rules=Rules(pool="none")) == (b"pool_not_found", 1)


def test_a_kit_and_places_that_cannot_be_chosen(books: Books) -> None:
    """They are told for a kit as well, and how far a place is that is named."""
    of = settings(place("S", active=False, lat=0.0, lon=0.1), place("V", lat=0.0, lon=0.2))
    units = {at: Position(2) for at in "SV"}
    books.seed(stock={"shoe": Card(units), "hat": Card(units)}, settings=of)
    kit = Group(1, None, (("shoe", 1), ("hat", 2)))
    near = Rules(pool="all", near=(0.0, 0.0))
    assert planned(books, kit, line(1, "V"), rules=near) == (
        1,
        1,
        [Told("V", CHOSEN, 1, 1, 2, metres=22238), Told("S", INACTIVE, 0, 0, 2, metres=11119)],
        [Told("V", CHOSEN, 2, 1, 2, metres=22238)],
    )


def test_very_many_sets(books: Books) -> None:
    """As many as the answer has room for."""
    books.seed(stock=shoes(W=Position(5, backorder_limit=2**53 - 100)), settings=settings())
    assert planned(books, line(1)) == (1, 1, [Told("W", CHOSEN, 10**12, 1, 5, 2**53 - 100)])


def test_few_places(books: Books) -> None:
    """Of places that give as much, by priority, however far they are."""
    where = settings(
        place("S", priority=2, lat=0.0, lon=0.1),
        place("W", priority=1, lat=0.0, lon=50.0),
        place("V", priority=3),
    )
    rules = Rules(pool="all", strategy=Strategy.FEWEST_SPLITS, near=(0.0, 0.0))
    books.seed(stock=shoes(S=3, V=3, W=3), settings=where)
    _, fits, found = planned(books, line(2), rules=rules)
    assert (fits, [(one.location, one.taken) for one in found]) == (1, [("W", 2), ("S", 0), ("V", 0)])
    assert found[1].metres == 11119


def test_holds_that_lapsed(books: Books) -> None:
    """Nothing is told while they count; who has swept is told all the same."""
    books.seed(stock=shoes(S=3), settings=settings(), due={(NOW - 1, "h", (A,))})
    asked = [plan([line(1)], ALL), plan([line(1)], ALL, swept=True), plan([line(1)], ALL)]
    overdue, (_, fits, packed), again = books.batch(*asked)
    assert (overdue, fits, told(packed), again) == (
        [b"overdue"], 1, [Told("S", CHOSEN, 3, 1, 3)], [b"overdue"]
    )  # fmt: skip


def own(groups: list[Group], rules: Rules, *names: bytes) -> Request:
    """A plan for whom some reservations are: what they hold counts as free."""
    return plan(groups, rules, own=names)


def test_as_if_holds_were_given_back(books: Books) -> None:
    """Held units of reservations that are named, of the SKUs that are asked for; to their fences as well."""
    holds: dict[bytes, Hold | Fact] = {
        A: Hold((("hat", "W", 1), ("shoe", "W", 2), ("shoe", "V", 1)), detail=pack_terms("web") + b"detail"),
        B: Hold((("shoe", "V", 2),), COMMITTED),
        C: Fact(b"content1", 1, 1, 1),
    }
    stock: Stock = {
        "shoe": Card(
            {
                "V": Position(4, 1, 2),
                "W": Position(3, 2, fenced=1, flags=FENCED_HERE),
            },
            (A, B),
        ),
        "hat": Card({"W": Position(1, 1)}, (A,)),
        fence_field("shoe", "W"): Fences((Fence("web", 1, 2),)),
    }
    books.seed(stock=stock, operations=holds, settings=settings(channels=[Channel("web", ("all",))]))
    before = books.read()
    web = Rules(channel="web")
    asked = [
        own([line(1)], web),
        own([line(4)], web, name(7), C, A, B),
        own([line(2)], ALL, A),
        own([line(1)], web),
    ]
    first, second, third, last = ([fits, told(packed)] for _, fits, packed in books.batch(*asked))
    assert first == last == [1, [Told("V", CHOSEN, 1, 1, 1), Told("W", NOT_NEEDED, 1, 0, 1)]]
    assert second == [1, [Told("V", CHOSEN, 2, 2, 2), Told("W", CHOSEN, 3, 2, 3)]]
    assert third == [1, [Told("V", CHOSEN, 2, 2, 2), Told("W", OUT_OF_STOCK, 0, 0, 0)]]
    assert books.read() == before


def test_a_fence_that_covers_a_part(books: Books) -> None:
    """Only so much of a hold goes back to it; the rest is for all."""
    stock: Stock = {
        "shoe": Card({"W": Position(5, 3, fenced=1, flags=FENCED_HERE)}, (A,)),
        fence_field("shoe", "W"): Fences((Fence("web", 0, 1), Fence("app", 1))),
    }
    web = [Channel("web", ("all",)), Channel("app", ("all",))]
    hold = Hold((("shoe", "W", 3),), detail=pack_terms("web") + b"detail")
    books.seed(stock=stock, operations={A: hold}, settings=settings(channels=web))
    asked = [own([line(1)], Rules(channel=one), A) for one in ("web", "app")]
    asked.append(own([line(1)], ALL, A))
    rooms = [told(packed)[0].sets for _, _, packed in books.batch(*asked)]
    assert rooms == [1, 1, 3]


@pytest.mark.parametrize("named", [True, False])
def test_own_holds_do_not_make_way(books: Books, named: bool) -> None:
    """What counts as free does not move; the holds of others do."""
    hold = Hold((("shoe", "S", 2),), detail=pack_terms("", ("all",)) + b"detail")
    stock: Stock = {"shoe": Card({"S": Position(2, 2, floating=2), "W": Position(1)}, (A,))}
    books.seed(stock=stock, operations={A: hold}, settings=settings())
    before = books.read()
    mine = [A] if named else []
    asked = [own([line(quantity, "S")], Rules(), *mine) for quantity in (1, 2, 3)]
    (_, fits, packed), *more = books.batch(*asked)
    assert (fits, [answer[1] for answer in more]) == (1, [1, 0] if named else [0, 0])
    assert told(packed) == [Told("S", CHOSEN, 2 if named else 0, 1, 2 if named else 0)]
    assert books.read() == before
