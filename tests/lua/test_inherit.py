"""Defaults of items and locations: what positions get of them, at first and when defaults change."""

import pytest
from msgspec import structs

from engine import Component, Item, Location
from engine.cards import UNLIMITED
from engine.setting_forms import Setting, encode_setting
from engine.types import LocationKind, PolicyDefaults
from tests.lua.books import (
    ITEM,
    LOCATION,
    Books,
    Card,
    PolicySaved,
    Position,
    Saved,
    Settings,
    count,
    end_inheriting,
    fields_of,
    inherit,
    move,
    name,
    pack_defaults,
    save_policy,
    save_setting,
)

PLACES = {"W": b"one", "S": b"two"}
OF_ITEM, OF_PLACE = pack_defaults(None, 7, None), pack_defaults(3, 1, 2)
DEFAULTS = Settings(
    2,
    locations=PLACES,
    defaults={(ITEM, "shoe"): OF_ITEM, (LOCATION, "W"): OF_PLACE},
    inheriting=[(1, ITEM, "shoe"), (2, LOCATION, "W")],
)
WAREHOUSE = Location("W", LocationKind.WAREHOUSE, policy=PolicyDefaults(3, 1, 2))


@pytest.mark.parametrize(
    ("setting", "packed"),
    [
        (WAREHOUSE, OF_PLACE),
        (structs.replace(WAREHOUSE, policy=PolicyDefaults(safety_stock=0)), pack_defaults(0, None, None)),
        (structs.replace(WAREHOUSE, policy=PolicyDefaults(low_stock=4)), pack_defaults(None, None, 4)),
        (structs.replace(WAREHOUSE, policy=PolicyDefaults()), None),
        (structs.replace(WAREHOUSE, policy=None), None),
        (Item("shoe", policy=PolicyDefaults(backorder_limit=7)), OF_ITEM),
        (Item("shoe", policy=PolicyDefaults(1, 7, 2), tracked=False), pack_defaults(1, UNLIMITED, 2)),
        (Item("shoe", tracked=False), pack_defaults(None, UNLIMITED, None)),
        (Item("shoe"), None),
    ],
)
def test_defaults_are_read_of_settings(books: Books, setting: Setting, packed: bytes | None) -> None:
    """Items and locations say some numbers, or none; what is not tracked never runs out."""
    books.seed()
    kind, own = (ITEM, "shoe") if isinstance(setting, Item) else (LOCATION, "W")
    stored = encode_setting(setting)
    assert books.one(save_setting(own, stored, kind=kind)) == [2, 1]
    books.expect(
        seq=2,
        log=[(2, [Saved(own, stored, 1, kind=kind)])],
        settings=Settings(
            1,
            locations={own: stored} if kind == LOCATION else {},
            items={own: stored} if kind == ITEM else {},
            changes={(kind, own): 1},
            defaults={} if packed is None else {(kind, own): packed},
            inheriting=() if packed is None else [(1, kind, own)],
        ),
    )


def test_the_defaults_of_a_kit(books: Books) -> None:
    """Behind its components."""
    books.seed()
    parts = (Component("hat", 1), Component("a long name", 2))
    kit = Item("shoe", components=parts, policy=PolicyDefaults(backorder_limit=7))
    assert books.one(save_setting("shoe", encode_setting(kit), kind=ITEM)) == [2, 1]
    assert books.read()[books.key("defaults")] == {b"%d\nshoe" % ITEM: OF_ITEM}


def test_only_other_defaults_are_news(books: Books) -> None:
    """A setting that says the same of positions leaves them alone; one that says nothing does not."""
    books.seed()
    calm = structs.replace(WAREHOUSE, policy=None)
    said = [WAREHOUSE, structs.replace(WAREHOUSE, active=False), calm, WAREHOUSE]
    books.batch(*(save_setting("W", encode_setting(setting)) for setting in said))
    assert books.read()[books.key("inheriting")] == [(b"%d\n1\nW" % number, number) for number in (1, 3, 4)]
    books.one(save_setting("W", b""))
    assert books.key("defaults") not in books.read()


@pytest.mark.parametrize("verb", ["movement", "count"])
def test_a_position_begins_with_its_defaults(books: Books, verb: str) -> None:
    """The first fact tells both; the item speaks before the location; elsewhere there are none."""
    books.seed(settings=DEFAULTS)
    places = [("W", "shoe"), ("S", "shoe"), ("S", "hat")]
    moves = [move(name(number), 5, *place) for number, place in enumerate(places, 1)]
    counts = [count(name(number), 5, 0, *place) for number, place in enumerate(places, 1)]
    answers = books.batch(*(moves if verb == "movement" else counts))
    assert all(isinstance(answer, bytes) for answer in answers)
    wanted = {
        "W": Position(5, safety_stock=3, backorder_limit=7, low_stock=2),
        "S": Position(5, backorder_limit=7),
    }
    assert books.read()[books.key("stock")] == {
        **fields_of("shoe", Card(wanted)),
        **fields_of("hat", Card({"S": Position(5)})),
    }


def test_positions_follow(books: Books) -> None:
    """Those without a policy of their own; a second look changes nothing; who is done strikes out."""
    stock = {
        "shoe": Card({"W": Position(5), "S": Position(4, backorder_limit=1, flags=2)}),
        "hat": Card({"W": Position(1, safety_stock=9), "S": Position(1)}),
    }
    books.seed(stock=stock, settings=DEFAULTS)
    asked = [
        inherit(*place) for place in [("shoe", "W"), ("shoe", "S"), ("hat", "W"), ("hat", "S"), ("x", "S")]
    ]
    none = [b"unchanged", 3]
    assert books.batch(*asked) == [2, [b"unchanged", 2], 3, none, none]
    assert books.batch(*asked, end_inheriting(1, ITEM, "shoe")) == [none] * 6
    books.expect(
        seq=3,
        stock={
            "shoe": Card(
                {
                    "W": Position(5, safety_stock=3, backorder_limit=7, low_stock=2),
                    "S": Position(4, backorder_limit=1, flags=2),
                }
            ),
            "hat": Card(
                {"W": Position(1, 0, safety_stock=3, backorder_limit=1, low_stock=2), "S": Position(1)}
            ),
        },
        settings=DEFAULTS._replace(inheriting=[(2, LOCATION, "W")]),
        log=[
            (
                3,
                [
                    PolicySaved("shoe", "W", (3, 7, 2), is_own=False),
                    PolicySaved("hat", "W", (3, 1, 2), is_own=False),
                ],
            )
        ],
    )


def test_a_deleted_policy_brings_the_defaults_back(books: Books) -> None:
    """One of zeros is a policy all the same; inherited numbers cannot be deleted."""
    books.seed(stock={"shoe": Card({"W": Position(5)})}, settings=DEFAULTS)
    zeros, none = save_policy("shoe", "W", (0, 0, 0)), save_policy("shoe", "W", None)
    answers = [books.one(request) for request in (zeros, inherit("shoe", "W"), none, none)]
    assert answers == [2, [b"unchanged", 2], 3, [b"policy_not_found", 3]]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5, safety_stock=3, backorder_limit=7, low_stock=2)})},
        settings=DEFAULTS,
        log=[
            (2, [PolicySaved("shoe", "W", (0, 0, 0))]),
            (3, [PolicySaved("shoe", "W", (3, 7, 2), is_own=False)]),
        ],
    )
