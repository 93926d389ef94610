"""Fences: what is stored and told, what is refused, and what a fence withholds from everybody else."""

import pytest

from tests.lua.books import (
    FENCED_HERE,
    Books,
    Card,
    Fence,
    Fences,
    FenceSaved,
    Hold,
    Position,
    Settings,
    fence_field,
    name,
    reserve,
    save_fence,
)

SETTINGS = Settings(3, locations={"W": b"one", "S": b"two"}, channels={"web": b"", "app": b"", "pos": b""})
HERE = fence_field("shoe", "W")


def seed(books: Books, position: Position, *fences: Fence) -> None:
    """One position with its fences."""
    if fences:
        fenced = sum(fence.remaining for fence in fences)
        position = position._replace(fenced=fenced, flags=position.flags + FENCED_HERE)
    books.seed(
        stock={"shoe": Card({"W": position}), **({HERE: Fences(fences)} if fences else {})},
        settings=SETTINGS,
        fenced={fence.channel: 1 for fence in fences},
    )


def test_the_event_names_the_caller(books: Books) -> None:
    """Who makes a fence and who deletes it; who makes what is there already, leaves nothing."""
    seed(books, Position(9))
    asked = [
        save_fence("web", "shoe", "W", 4, caller=b"one"),
        save_fence("web", "shoe", "W", 4, caller=b"two"),
        save_fence("web", "shoe", "W", caller=b"two"),
    ]
    assert books.batch(*asked) == [[2, 4, 0], [b"unchanged", 2, 4, 0], [3, 0, 0]]
    told = [FenceSaved("web", "shoe", "W", 4, caller=b"one"), FenceSaved("web", "shoe", "W", caller=b"two")]
    books.expect(seq=3, stock={"shoe": Card({"W": Position(9)}, form=2)}, settings=SETTINGS, log=[(3, told)])


def test_made_changed_and_deleted(books: Books) -> None:
    """The counter is the sum of what remains, the flag stays until the last fence goes."""
    seed(books, Position(9))
    asked = [("web", 4, 0), ("web", 4, 0), ("app", 3, 1), ("web", 2, 0), ("app", 3, 0)]
    answers = books.batch(*(save_fence(channel, "shoe", "W", *rest) for channel, *rest in asked))
    assert answers == [[2, 4, 0], [b"unchanged", 2, 4, 0], [3, 3, 0], [4, 2, 0], [5, 3, 0]]
    done = [asked[at] for at in (0, 2, 3, 4)]
    log = [(5, [FenceSaved(channel, "shoe", "W", *rest) for channel, *rest in done])]
    books.expect(
        seq=5,
        stock={
            "shoe": Card({"W": Position(9, fenced=5, flags=FENCED_HERE)}),
            HERE: Fences((Fence("web", 2), Fence("app", 3))),
        },
        settings=SETTINGS,
        fenced={"web": 1, "app": 1},
        log=log,
    )
    assert books.one(save_fence("web", "shoe", "W")) == [6, 0, 0]
    log.append((6, [FenceSaved("web", "shoe", "W")]))
    books.expect(
        seq=6,
        stock={
            "shoe": Card({"W": Position(9, fenced=3, flags=FENCED_HERE)}),
            HERE: Fences((Fence("app", 3),)),
        },
        settings=SETTINGS,
        fenced={"app": 1},
        log=log,
    )
    assert books.batch(save_fence("app", "shoe", "W"), save_fence("app", "shoe", "W")) == [
        [7, 0, 0],
        [b"fence_not_found", 7],
    ]
    log.append((7, [FenceSaved("app", "shoe", "W")]))
    books.expect(
        seq=7,
        stock={"shoe": Card({"W": Position(9)}, form=2)},
        settings=SETTINGS,
        log=log,
    )


def test_made_and_deleted_in_one_call(books: Books) -> None:
    """Nothing is left of it but the events."""
    seed(books, Position(9))
    assert books.batch(save_fence("web", "shoe", "W", 4), save_fence("web", "shoe", "W")) == [
        [2, 4, 0],
        [3, 0, 0],
    ]
    events = [FenceSaved("web", "shoe", "W", 4), FenceSaved("web", "shoe", "W")]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(9)}, form=2)},
        settings=SETTINGS,
        log=[(3, events)],
    )


def test_one_channel_at_many_positions(books: Books) -> None:
    """The channel's count grows and shrinks with its fences."""
    books.seed(
        stock={
            "shoe": Card({"W": Position(9), "S": Position(9)}),
            "hat": Card({"W": Position(1, low_stock=2)}),
        },
        settings=SETTINGS,
        fenced={"web": 2, "app": 1},
    )
    asked = [("shoe", "W"), ("shoe", "S"), ("hat", "W")]
    assert books.batch(*(save_fence("web", *each, 5) for each in asked)) == [[2, 5, 0], [3, 5, 0], [4, 5, 0]]
    position = Position(9, fenced=5, flags=FENCED_HERE)
    log = [(4, [FenceSaved("web", *each, 5) for each in asked])]
    books.expect(
        seq=4,
        stock={
            "shoe": Card({"W": position, "S": position}),
            "hat": Card({"W": Position(1, low_stock=2, fenced=5, flags=FENCED_HERE)}),
            **{fence_field(*each): Fences((Fence("web", 5),)) for each in asked},
        },
        settings=SETTINGS,
        fenced={"web": 5, "app": 1},
        log=log,
    )
    assert books.one(save_fence("web", "shoe", "S")) == [5, 0, 0]
    books.expect(
        seq=5,
        stock={
            "shoe": Card({"W": position, "S": Position(9)}),
            "hat": Card({"W": Position(1, low_stock=2, fenced=5, flags=FENCED_HERE)}),
            **{fence_field(*each): Fences((Fence("web", 5),)) for each in asked if each != ("shoe", "S")},
        },
        settings=SETTINGS,
        fenced={"web": 4, "app": 1},
        log=[*log, (5, [FenceSaved("web", "shoe", "S")])],
    )


@pytest.mark.parametrize(("quantity", "remaining"), [(8, 3), (5, 0), (4, 0), (0, 0)])
def test_units_in_use_stay_in_use(books: Books, quantity: int, remaining: int) -> None:
    """A new quantity leaves what is over those; with units in use a fence cannot go."""
    other = Fence("app", 2)
    seed(books, Position(20, 5), Fence("web", 1, 5), other)
    assert books.one(save_fence("web", "shoe", "W", quantity)) == [2, remaining, 5]
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(20, 5, fenced=remaining + 2, flags=FENCED_HERE)}),
            HERE: Fences((Fence("web", remaining, 5), other)),
        },
        settings=SETTINGS,
        fenced={"web": 1, "app": 1},
        log=[(2, [FenceSaved("web", "shoe", "W", quantity)])],
    )
    assert books.one(save_fence("web", "shoe", "W")) == [b"fence_in_use", 2]


def test_a_single_unit_in_use(books: Books) -> None:
    """Keeps its fence as well."""
    seed(books, Position(20, 1), Fence("web", 1, 1))
    assert books.one(save_fence("web", "shoe", "W")) == [b"fence_in_use", 1]


def test_spill_is_a_change(books: Books) -> None:
    """The same quantity with another rule is one."""
    seed(books, Position(20, 5), Fence("web", 1, 5))
    asked = [save_fence("web", "shoe", "W", 6, 1), save_fence("web", "shoe", "W", 6, 1)]
    assert books.batch(*asked) == [[2, 1, 5], [b"unchanged", 2, 1, 5]]


def test_one_that_is_carried(books: Books) -> None:
    """It comes with what is in use; told again, nothing happens."""
    seed(books, Position(20))
    carried = save_fence("web", "shoe", "W", 6, 1, 4)
    assert books.batch(carried, carried) == [[2, 2, 4], [b"unchanged", 2, 2, 4]]
    assert books.one(save_fence("web", "shoe", "W", 6, 1, 3)) == [3, 3, 3]
    books.expect(
        seq=3,
        stock={
            "shoe": Card({"W": Position(20, fenced=3, flags=FENCED_HERE)}),
            HERE: Fences((Fence("web", 3, 3, 1),)),
        },
        settings=SETTINGS,
        fenced={"web": 1},
        log=[
            (2, [FenceSaved("web", "shoe", "W", 6, 1, 4)]),
            (3, [FenceSaved("web", "shoe", "W", 6, 1, 3)]),
        ],
    )


def test_refusals(books: Books) -> None:
    """In their order: no location, no channel, no position, no fence; nothing is written."""
    seed(books, Position(9), Fence("app", 1))
    asked = [
        ("fax", "shoe", "X", 1),
        ("fax", "shoe", "S", 1),
        ("web", "shoe", "S", 1),
        ("web", "hat", "W", 1),
    ]
    answers = books.batch(*(save_fence(*each) for each in asked))
    assert answers == [
        [b"location_not_found", 1],
        [b"channel_not_found", 1],
        [b"not_stocked", 1],
        [b"not_stocked", 1],
    ]
    gone = [("web", "shoe", "W"), ("app", "shoe", "S"), ("app", "hat", "X")]
    assert books.batch(*(save_fence(*each) for each in gone)) == [[b"fence_not_found", 1]] * 3
    books.expect(
        stock={
            "shoe": Card({"W": Position(9, fenced=1, flags=FENCED_HERE)}),
            HERE: Fences((Fence("app", 1),)),
        },
        settings=SETTINGS,
        fenced={"app": 1},
    )


def test_what_a_fence_withholds(books: Books) -> None:
    """Everybody else has what no fence keeps; one of more than there is leaves nothing."""
    seed(books, Position(9))
    books.one(save_fence("web", "shoe", "W", 4))
    assert books.one(reserve(name(1), Hold((("shoe", "W", 6),)))) == [b"insufficient_stock", 2, 0, 5, 6]
    books.one(save_fence("app", "shoe", "W", 2**33))
    assert books.one(reserve(name(1), Hold((("shoe", "W", 1),)))) == [b"insufficient_stock", 3, 0, 0, 1]
