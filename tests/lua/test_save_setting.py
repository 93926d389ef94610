"""Settings: partition 0 decides, the others copy. `setting("a")` is a setting that names `a`."""

from itertools import pairwise

import pytest

from tests.lua.books import (
    CHANNEL,
    ITEM,
    KEY,
    LOCATION,
    POOL,
    Books,
    Card,
    Position,
    Request,
    Saved,
    Settings,
    save_setting,
    setting,
)

PLAIN = setting()
SHOPS = Settings(
    4,
    locations={"W": PLAIN, "S": PLAIN},
    pools={"online": setting("W", "S")},
    channels={"web": setting("online")},
    named={(LOCATION, "W"): ("online",), (LOCATION, "S"): ("online",), (POOL, "online"): ("web",)},
    changes={(LOCATION, "W"): 1, (LOCATION, "S"): 2, (POOL, "online"): 3, (CHANNEL, "web"): 4},
)


def test_made_changed_and_deleted(books: Books) -> None:
    """Each effect is stored, told and numbered; equal settings are no effect."""
    books.seed()
    asked = [("W", PLAIN), ("W", PLAIN), ("W", setting(rest=b"new")), ("S", PLAIN)]
    answers = books.batch(*(save_setting(*each) for each in asked))
    assert answers == [[2, 1], [b"unchanged", 2, 1], [3, 2], [4, 3]]
    told = [Saved("W", PLAIN, 1), Saved("W", setting(rest=b"new"), 2), Saved("S", PLAIN, 3)]
    books.expect(
        seq=4,
        log=[(4, told)],
        settings=Settings(
            3,
            locations={"W": setting(rest=b"new"), "S": PLAIN},
            changes={(LOCATION, "W"): 2, (LOCATION, "S"): 3},
        ),
    )
    assert books.one(save_setting("W", b"")) == [5, 4]
    books.expect(
        seq=5,
        log=[(4, told), (5, [Saved("W", b"", 4)])],
        settings=Settings(4, locations={"S": PLAIN}, changes={(LOCATION, "W"): 4, (LOCATION, "S"): 3}),
    )


def test_the_event_names_the_caller(books: Books) -> None:
    """Of a decision and of its copy; who decides what is so already, leaves nothing."""
    books.seed()
    asked = [
        save_setting("W", PLAIN, caller=b"one"),
        save_setting("W", PLAIN, caller=b"two"),
        save_setting("S", PLAIN, at=1, to=2, caller=b"two"),
        save_setting("W", b"", caller=b"\0\1\0"),
    ]
    assert books.batch(*asked) == [[2, 1], [b"unchanged", 2, 1], [3, 2], [4, 3]]
    told = [
        Saved("W", PLAIN, 1, caller=b"one"),
        Saved("S", PLAIN, 2, caller=b"two"),
        Saved("W", b"", 3, caller=b"\0\1\0"),
    ]
    changes = {(LOCATION, "W"): 3, (LOCATION, "S"): 2}
    books.expect(seq=4, log=[(4, told)], settings=Settings(3, locations={"S": PLAIN}, changes=changes))


def test_a_key(books: Books) -> None:
    """A class like the others, which names nothing."""
    books.seed()
    asked = [save_setting("k", one, KEY) for one in (PLAIN, b"", b"")]
    assert books.batch(*asked) == [[2, 1], [3, 2], [b"key_not_found", 3, 0]]
    assert books.one(save_setting("k", PLAIN, KEY)) == [4, 3]
    told = [Saved("k", PLAIN, 1, KEY), Saved("k", b"", 2, KEY)]
    books.expect(
        seq=4,
        log=[(3, told), (4, [Saved("k", PLAIN, 3, KEY)])],
        settings=Settings(3, keys={"k": PLAIN}, changes={(KEY, "k"): 3}),
    )


def test_unless_something_has_changed(books: Books) -> None:
    """A decision may ask for a number that the settings still have."""
    books.seed(seq=4, settings=SHOPS)
    other = setting(rest=b"other")
    asked = [save_setting("W", other, at=at) for at in (1, 3, 5, 4, 4)]
    stale = b"stale"
    assert books.batch(*asked) == [[stale, 4, 4]] * 3 + [[5, 5], [stale, 5, 5]]
    books.expect(
        seq=5,
        log=[(5, [Saved("W", other, 5)])],
        settings=SHOPS._replace(
            number=5, locations={"W": other, "S": PLAIN}, changes={**SHOPS.changes, (LOCATION, "W"): 5}
        ),
    )


def test_one_place_many_times_in_one_call(books: Books) -> None:
    """Made, made again, deleted, deleted again: each request sees those before it."""
    books.seed()
    asked = [("W", PLAIN), ("W", PLAIN), ("W", b""), ("W", b"")]
    answers = books.batch(*(save_setting(*each) for each in asked))
    assert answers == [[2, 1], [b"unchanged", 2, 1], [3, 2], [b"location_not_found", 3, 0]]
    books.expect(
        seq=3,
        log=[(3, [Saved("W", PLAIN, 1), Saved("W", b"", 2)])],
        settings=Settings(2, changes={(LOCATION, "W"): 2}),
    )


def test_what_names_what(books: Books) -> None:
    """A pool names locations, a channel pools: in the same call, and who names something is kept in order."""
    books.seed(settings=SHOPS)
    answers = books.batch(
        save_setting("T", PLAIN),
        save_setting("stores", setting("T", "S"), POOL),
        save_setting("pos", setting("stores", "online"), CHANNEL),
        save_setting("online", setting("T", "W"), POOL),
        save_setting("web", setting("online", rest=b"buffer"), CHANNEL),
    )
    assert answers == [[2, 5], [3, 6], [4, 7], [5, 8], [6, 9]]
    books.expect(
        seq=6,
        log=[
            (
                6,
                [
                    Saved("T", PLAIN, 5),
                    Saved("stores", setting("T", "S"), 6, POOL),
                    Saved("pos", setting("stores", "online"), 7, CHANNEL),
                    Saved("online", setting("T", "W"), 8, POOL),
                    Saved("web", setting("online", rest=b"buffer"), 9, CHANNEL),
                ],
            )
        ],
        settings=Settings(
            9,
            locations={"W": PLAIN, "S": PLAIN, "T": PLAIN},
            pools={"online": setting("T", "W"), "stores": setting("T", "S")},
            channels={"web": setting("online", rest=b"buffer"), "pos": setting("stores", "online")},
            named={
                (LOCATION, "W"): ("online",),
                (LOCATION, "S"): ("stores",),
                (LOCATION, "T"): ("stores", "online"),
                (POOL, "online"): ("web", "pos"),
                (POOL, "stores"): ("pos",),
            },
            changes={
                (LOCATION, "W"): 1,
                (LOCATION, "S"): 2,
                (LOCATION, "T"): 5,
                (POOL, "stores"): 6,
                (CHANNEL, "pos"): 7,
                (POOL, "online"): 8,
                (CHANNEL, "web"): 9,
            },
        ),
    )


def test_deleted_from_the_top(books: Books) -> None:
    """What nothing names any more can be deleted, and nothing is left of who named it."""
    books.seed(settings=SHOPS)
    asked = [("web", CHANNEL), ("online", POOL), ("S", LOCATION)]
    assert books.batch(*(save_setting(name, b"", kind) for name, kind in asked)) == [[2, 5], [3, 6], [4, 7]]
    books.expect(
        seq=4,
        log=[(4, [Saved(name, b"", 5 + at, kind) for at, (name, kind) in enumerate(asked)])],
        settings=Settings(
            7,
            locations={"W": PLAIN},
            changes={(LOCATION, "W"): 1, (CHANNEL, "web"): 5, (POOL, "online"): 6, (LOCATION, "S"): 7},
        ),
    )


REFUSED = {
    "a location that there is not": (save_setting("X", b""), [b"location_not_found", 1, 0]),
    "a pool that there is not": (save_setting("X", b"", POOL), [b"pool_not_found", 1, 0]),
    "a channel that there is not": (save_setting("X", b"", CHANNEL), [b"channel_not_found", 1, 0]),
    "an item that there is not": (save_setting("X", b"", ITEM), [b"item_not_found", 1, 0]),
    "a location that a pool names": (save_setting("W", b""), [b"location_in_use", 1]),
    "a location with positions": (save_setting("T", b""), [b"location_in_use", 1]),
    "a pool that a channel names": (save_setting("online", b"", POOL), [b"pool_in_use", 1]),
    "a channel with fences": (save_setting("web", b"", CHANNEL), [b"channel_in_use", 1]),
    "an item with positions": (save_setting("shoe", b"", ITEM), [b"item_in_use", 1]),
    "an item in a kit": (save_setting("lace", b"", ITEM), [b"item_in_use", 1]),
    "a pool of an unknown location": (
        save_setting("p", setting("W", "X", "Y"), POOL),
        [b"location_not_found", 1, 2],
    ),
    "a channel of an unknown pool": (save_setting("c", setting("X"), CHANNEL), [b"pool_not_found", 1, 1]),
    "a kit in itself": (save_setting("lace", setting("lace"), ITEM), [b"kit_in_itself", 1]),
    "a kit in itself through another": (
        save_setting("lace", setting("sock", "kit"), ITEM),
        [b"kit_in_itself", 1],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(books: Books, case: str) -> None:
    """Nothing is changed by what is refused, nor by a refusal behind an effect."""
    request, answer = REFUSED[case]
    before = SHOPS._replace(
        locations={**SHOPS.locations, "T": PLAIN},
        items={"shoe": PLAIN, "lace": PLAIN, "kit": setting("shoe", "lace")},
        named={**SHOPS.named, (ITEM, "shoe"): ("kit",), (ITEM, "lace"): ("kit",)},
    )
    before = before._replace(number=8, items={**before.items, "free": PLAIN})
    stock = {"shoe": Card({"T": Position(3)})}
    if case == "an item with positions":
        before = before._replace(items={"shoe": PLAIN, "lace": PLAIN}, named=SHOPS.named)
    books.seed(stock=stock, stocked={"T": 1}, fenced={"web": 2}, settings=before)
    assert books.one(request) == answer
    books.expect(stock=stock, stocked={"T": 1}, fenced={"web": 2}, settings=before)
    word, _, *rest = answer
    answers = books.batch(save_setting("Z", PLAIN), request)
    assert answers == [[2, 9], [word, 2, *rest]]
    books.expect(
        seq=2,
        stock=stock,
        stocked={"T": 1},
        fenced={"web": 2},
        log=[(2, [Saved("Z", PLAIN, 9)])],
        settings=before._replace(
            number=9,
            locations={**before.locations, "Z": PLAIN},
            changes={**before.changes, (LOCATION, "Z"): 9},
        ),
    )


def chain(*names: str) -> Settings:
    """Kits of kits: each of the names has the next one as its component."""
    kits = list(pairwise(names))
    return Settings(
        len(kits),
        items={kit: setting(part) for kit, part in kits},
        named={(ITEM, part): (kit,) for kit, part in kits},
        changes={(ITEM, kit): at for at, (kit, _) in enumerate(kits, 1)},
    )


@pytest.mark.parametrize(
    ("kits", "kit", "parts", "answer"),
    [
        # Three levels of components below `a` may get one more: above, below, or between.
        ("abcd", "x", "a", [2, 4]),
        ("abcd", "d", "x", [2, 4]),
        ("abcd", "c", "xd", [2, 4]),
        ("abcd", "a", "zb", [2, 4]),
        # Four are the most.
        ("abcde", "x", "a", [b"kit_too_deep", 1]),
        ("abcde", "e", "x", [b"kit_too_deep", 1]),
        ("abcde", "x", "b", [2, 5]),
        ("abcde", "d", "ex", [2, 5]),
        # A kit of kits that meets both.
        ("abcde", "e", "a", [b"kit_in_itself", 1]),
        ("abcde", "e", "d", [b"kit_in_itself", 1]),
        # What goes round beyond the levels that are looked at is too deep.
        ("abcdefgh", "h", "a", [b"kit_too_deep", 1]),
        # Of two parts the deeper one counts.
        ("abcd", "x", "da", [2, 4]),
        ("abcde", "x", "ea", [b"kit_too_deep", 1]),
    ],
)
def test_kits_of_kits(books: Books, kits: str, kit: str, parts: str, answer: list[object]) -> None:
    books.seed(settings=chain(*kits))
    assert books.one(save_setting(kit, setting(*parts), ITEM)) == answer


def test_kits_that_join_two_chains(books: Books) -> None:
    """Levels above and below are counted together, also those that the same call made."""
    books.seed()
    answers = books.batch(
        *(save_setting(kit, setting(part), ITEM) for kit, part in ["ab", "bc", "xy", "yz", "cx", "cy"])
    )
    assert answers[-2:] == [[b"kit_too_deep", 5], [6, 5]]


def test_copies_follow_their_numbers(books: Books) -> None:
    """A copy counts where it follows; one that comes early is told so, one that comes late is not needed."""
    books.seed(settings=SHOPS)
    copies: list[Request] = [
        save_setting("T", PLAIN, at=5, to=6),
        save_setting("S", setting(rest=b"new"), at=4, to=5),
        save_setting("T", PLAIN, at=5, to=7),
        save_setting("S", setting(rest=b"new"), at=4, to=5),
        save_setting("gone", b"", POOL, at=7, to=9),
        save_setting("T", setting(rest=b"old"), at=6, to=7),
    ]
    assert books.batch(*copies) == [
        [b"stale", 1, 4],
        [2, 5],
        [3, 7],
        [b"unchanged", 3, 7],
        [4, 9],
        [b"unchanged", 4, 9],
    ]
    books.expect(
        seq=4,
        log=[
            (
                4,
                [
                    Saved("S", setting(rest=b"new"), 5),
                    Saved("T", PLAIN, 7),
                    Saved("gone", b"", 9, POOL),
                ],
            )
        ],
        settings=SHOPS._replace(
            number=9,
            locations={"W": PLAIN, "S": setting(rest=b"new"), "T": PLAIN},
            changes={**SHOPS.changes, (LOCATION, "S"): 5, (LOCATION, "T"): 7, (POOL, "gone"): 9},
        ),
    )


def test_copies_ask_for_goods_alone(books: Books) -> None:
    """Who decided knows what names what; here only goods are in the way of a deletion."""
    stock = {"shoe": Card({"W": Position(3)})}
    settings = Settings(2, locations={"W": PLAIN, "S": PLAIN}, items={"shoe": PLAIN, "lace": PLAIN})
    settings = settings._replace(named={(LOCATION, "S"): ("p",), (ITEM, "lace"): ("kit",)})
    books.seed(stock=stock, stocked={"W": 1}, fenced={"pos": 1}, settings=settings)
    assert books.batch(
        save_setting("W", b"", at=2, to=3),
        save_setting("shoe", b"", ITEM, at=2, to=3),
        save_setting("pos", b"", CHANNEL, at=2, to=3),
        save_setting("S", b"", at=2, to=3),
        save_setting("lace", b"", ITEM, at=3, to=4),
        save_setting("web", setting("unknown"), CHANNEL, at=4, to=5),
    ) == [[b"location_in_use", 1], [b"item_in_use", 1], [b"channel_in_use", 1], [2, 3], [3, 4], [4, 5]]


def test_one_of_several_no_longer_names(books: Books) -> None:
    """The first, one in the middle, the last: the others keep their order."""
    pools = {name: setting("W") for name in ("ab", "b", "c", "d")}
    settings = Settings(5, locations={"W": PLAIN, "S": PLAIN}, pools=pools)
    books.seed(settings=settings._replace(named={(LOCATION, "W"): tuple(pools)}))
    for name, left in (("b", b"ab\nc\nd\n"), ("d", b"ab\nc\n"), ("ab", b"c\n")):
        books.one(save_setting(name, setting("S"), POOL))
        assert books.raw("HGET", "inv:{0}:named", "1\nW") == left


def test_the_first_copy_and_the_last_one_again(books: Books) -> None:
    books.seed()
    first = save_setting("W", PLAIN, at=0, to=1)
    assert books.batch(first, first) == [[2, 1], [b"unchanged", 2, 1]]


def test_the_first_copy(books: Books) -> None:
    """It follows from nothing, and is not judged anew."""
    books.seed()
    assert books.one(save_setting("online", setting("W"), POOL, at=0, to=1)) == [2, 1]
