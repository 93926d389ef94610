"""Holds whose places are chosen: which units of which place, who makes way, and all that is stored of it."""

from collections.abc import Sequence

import pytest

from engine.setting_forms import encode_setting
from engine.sourcing_plan import Group, Rules
from engine.types import Channel, Location, LocationKind, Pool
from tests.lua.books import (
    BASKET,
    COMMITTED,
    HELD,
    NOW,
    PART,
    PENDING,
    RESERVE,
    Books,
    Card,
    Hold,
    Position,
    Replanned,
    Reserved,
    Settings,
    name,
    pack_terms,
    source,
)

A, B, C, D = (name(number) for number in (1, 2, 3, 4))
TTL_MS = 900_000
LATER = NOW + TTL_MS


def locations(*names: str) -> dict[str, bytes]:
    return {one: encode_setting(Location(one, LocationKind.STORE)) for one in names}


def pools(**members: str) -> dict[str, bytes]:
    """Pools by their name: locations of one letter."""
    return {one: encode_setting(Pool(one, tuple(places))) for one, places in members.items()}


SETTINGS = Settings(
    7,
    locations=locations("S", "V", "W"),
    pools=pools(all="SVW", west="VW", east="SV"),
    channels={"web": encode_setting(Channel("web", ("west", "east")))},
)


def line(sku: str, quantity: int, place: str | None = None) -> Group:
    return Group(quantity, place, ((sku, 1),))


def made(lines: Sequence[tuple[str, str, int]], terms: bytes, seq: int = 2, **more: object) -> Hold:
    """A hold as `source` writes it."""
    return Hold(
        tuple(lines), created=seq, changed=seq, created_ms=NOW, deadline_ms=LATER, ttl_ms=TTL_MS,
        fingerprint=b"content1", detail=terms + b"detail", **more,  # type: ignore[arg-type] - fields of a hold
    )  # fmt: skip


def test_all_that_is_stored(books: Books) -> None:
    """Lines with a place are bound, the others float in the pools; one claim for each card."""
    books.seed(
        stock={"shoe": Card({"S": Position(2), "W": Position(9)}), "hat": Card({"V": Position(4, 1)})},
        settings=SETTINGS,
    )
    groups = [line("shoe", 3), line("hat", 2, "V"), line("hat", 1, "V")]
    hold = made([("shoe", "S", 2), ("shoe", "W", 1), ("hat", "V", 3)], pack_terms("", ("all",), (2,)))
    assert books.one(source(A, groups, Rules(pool="all"))) == [2, hold.packed(A)]
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"S": Position(2, 2, floating=2), "W": Position(9, 1, floating=1)}, (A,)),
            "hat": Card({"V": Position(4, 4)}, (A,)),
        },
        operations={A: hold},
        due={(LATER, "h", (A,))},
        settings=SETTINGS,
        log=[(2, [Reserved(A, hold)])],
    )


@pytest.mark.parametrize(
    ("mark", "kind", "state", "is_same"),
    [
        (b"content1", RESERVE, HELD, True),
        (b"dontent1", RESERVE, HELD, False),
        (b"content2", RESERVE, HELD, False),
        (b"content1", PART, HELD, False),
        # It got lines elsewhere since then. One whose parts are sought is another request's.
        (b"content1", BASKET, COMMITTED, True),
        (b"content2", BASKET, HELD, False),
        (b"content1", BASKET, PENDING, False),
    ],
)
def test_the_same_again(books: Books, mark: bytes, kind: int, state: int, is_same: bool) -> None:
    """What is remembered is answered, whatever there is by now; other content or another kind mismatches."""
    hold = Hold((("shoe", "W", 1),), state, fingerprint=mark, kind=kind)
    books.seed(operations={A: hold}, settings=SETTINGS)
    answer = books.one(source(A, [line("shoe", 1)], Rules(pool="all")))
    assert answer == ([b"replayed", hold.packed(A)] if is_same else [b"idempotency_mismatch"])


def test_units_that_float_make_way(books: Books) -> None:
    """They move to where their pools have room, and their reservations have other lines."""
    floats = pack_terms("", ("all",))
    first = Hold((("shoe", "S", 2), ("hat", "S", 1)), detail=floats + b"detail")
    hat = Card({"S": Position(1, 1, floating=1)}, (A,))
    books.seed(
        stock={
            "shoe": Card({"S": Position(2, 2, floating=2), "V": Position(1), "W": Position(3)}, (A,)),
            "hat": hat,
        },
        operations={A: first},
        settings=SETTINGS,
    )
    moved = first._replace(
        lines=(("shoe", "S", 1), ("hat", "S", 1), ("shoe", "V", 1)),
        revision=1,
        changed=2,
        first_lines=first.lines,
    )
    second = made([("shoe", "S", 1)], pack_terms(), 3)
    assert books.one(source(B, [line("shoe", 1, "S")])) == [3, second.packed(B)]
    books.expect(
        seq=3,
        stock={
            "shoe": Card(
                {"S": Position(2, 2, floating=1), "V": Position(1, 1, floating=1), "W": Position(3)}, (A, B)
            ),
            "hat": hat,
        },
        operations={A: moved, B: second},
        due={(LATER, "h", (B,))},
        settings=SETTINGS,
        log=[(3, [Replanned(A, moved), Reserved(B, second)])],
    )
    # The first other place is full of what floats: that moves on.
    on_the_way = moved._replace(
        lines=(("shoe", "S", 1), ("hat", "S", 1), ("shoe", "W", 1)), revision=2, changed=4
    )
    again = moved._replace(lines=(("hat", "S", 1), ("shoe", "W", 1), ("shoe", "V", 1)), revision=3, changed=5)
    third = made([("shoe", "S", 1)], pack_terms(), 6)
    assert books.one(source(C, [line("shoe", 1, "S")])) == [6, third.packed(C)]
    books.expect(
        seq=6,
        stock={
            "shoe": Card(
                {"S": Position(2, 2), "V": Position(1, 1, floating=1), "W": Position(3, 1, floating=1)},
                (A, B, C),
            ),
            "hat": hat,
        },
        operations={A: again, B: second, C: third},
        due={(LATER, "h", (B,)), (LATER, "h", (C,))},
        settings=SETTINGS,
        log=[
            (3, [Replanned(A, moved), Reserved(B, second)]),
            (6, [Replanned(A, on_the_way), Replanned(A, again), Reserved(C, third)]),
        ],
    )
    last = again._replace(lines=(("hat", "S", 1), ("shoe", "W", 2)), revision=4, changed=7)
    fourth = made([("shoe", "V", 1)], pack_terms(), 8)
    assert books.one(source(D, [line("shoe", 1, "V")])) == [8, fourth.packed(D)]
    assert books.read()[books.key("ops")][A] == last.packed(A)
