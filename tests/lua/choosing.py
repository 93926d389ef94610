"""What the tests of chosen places have in common: settings, requests, and what was taken."""

import itertools
from collections.abc import Sequence

from engine.setting_forms import encode_setting
from engine.sourcing_plan import Group, Rules
from engine.types import Channel, Location, LocationKind, Pool
from tests.lua.books import (
    Answer,
    Books,
    Card,
    Hold,
    Position,
    Settings,
    Stock,
    find,
    name,
    pack_terms,
    read_card,
    source,
)

A, N = name(1), name(9)
ALL = Rules(pool="all")
NUMBERS = itertools.count(1000)


def place(location: str, **told: object) -> Location:
    return Location(location, LocationKind.STORE, **told)  # type: ignore[arg-type] - fields of a location


def settings(
    *places: Location, pools: dict[str, str] | None = None, channels: Sequence[Channel] = ()
) -> Settings:
    """Locations, by default four of them; pools by their names, of locations of one letter. Each time under
    another number, by which the scripts know what they have read.
    """
    found = {one.id: one for one in (*map(place, "SVWX"), *places)}
    members = {"all": "SVW", **(pools or {})}
    return Settings(
        next(NUMBERS),
        locations={one: encode_setting(setting) for one, setting in found.items()},
        pools={one: encode_setting(Pool(one, tuple(ids))) for one, ids in members.items()},
        channels={one.id: encode_setting(one) for one in channels},
    )


def line(quantity: int, where: str | None = None, sku: str = "shoe") -> Group:
    return Group(quantity, where, ((sku, 1),))


def lines_of(answer: Answer) -> list[tuple[str, str, int]] | Answer:
    """What was taken: SKU, location, units; a refusal as it is."""
    if isinstance(answer[0], bytes):
        return answer
    plan, at, found = answer[1][32:], 1, []
    for _ in range(plan[0]):
        units, size = int.from_bytes(plan[at : at + 5], "little"), plan[at + 5]
        where = plan[at + 7 : at + 5 + size].decode()
        at += 6 + size
        size = int.from_bytes(plan[at : at + 2], "little")
        found.append((plan[at + 2 : at + 2 + size].decode(), where, units))
        at += 2 + size
    return found


def taken(books: Books, stock: Stock, rules: Rules, *groups: Group, of: Settings | None = None) -> Answer:
    """What a request gets of such a stock."""
    books.seed(stock=stock, settings=of or settings())
    return lines_of(books.one(source(A, groups, rules)))


def shoes(**units: int | Position) -> Stock:
    """A card of shoes by location."""
    return {"shoe": Card({at: n if isinstance(n, Position) else Position(n) for at, n in units.items()})}


def read_positions(books: Books) -> dict[str, Position]:
    """The counters of the shoes by location."""
    return dict(read_card(books.raw("HGET", books.key("stock"), "shoe")).positions)


def holding(books: Books, stock: Stock, holds: dict[bytes, Hold], of: Settings | None = None) -> None:
    """Seeds stock and who holds of it. A call at another sequence drops what scripts have counted before."""
    books.seed(seq=77)
    books.one(find(A))
    books.seed(stock=stock, settings=of or settings(), operations=holds)


def floats(
    where: str, units: int, *, pools: str = "all", channel: str = "", bound: tuple[int, ...] = ()
) -> Hold:
    """Shoes that float."""
    detail = pack_terms(channel, (pools,), bound) + b"detail"
    return Hold((("shoe", where, units),), detail=detail)


def floating(on_hand: int, units: int, **more: int) -> Position:
    """Where all that is held floats."""
    return Position(on_hand, units, floating=units, **more)


def moved(books: Books, quantity: int, where: str = "S", **rules: object) -> tuple[Answer, dict[str, int]]:
    """Asks for units of a place; where units are held then."""
    answer = books.one(source(N, [line(quantity, where)], Rules(**rules)))  # type: ignore[arg-type]
    held = {at: position.held for at, position in read_positions(books).items()}
    return lines_of(answer), held
