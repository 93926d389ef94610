"""Who writes the ledger has taken the books over, in an epoch above all that were ever seen."""

import pytest

from tests.lua.books import (
    LOCATION,
    NOW,
    Books,
    Saved,
    ScriptError,
    Settings,
    reserve,
    save_setting,
    setting,
    take_over,
)
from tests.lua.test_errors import SHOE, VERBS, A

BY_CLOCK = 1_767_225_600_000
"""The first moment of 2026, from which on epochs go with the clock, too."""
FOUR_HOURS = 14_400_000
MARK = "a1b2c3"


def put(books: Books, **fields: str | int) -> None:
    """Writes fields of the partition's version by hand."""
    for field, value in fields.items():
        books.raw("HSET", books.key("meta"), field, value)


def version(books: Books) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = books.read()[books.key("meta")]
    return found


def taken(books: Books, known: int = 0, *, others: tuple[int, ...] = ()) -> int:
    """The epoch that the books are in once they have been taken over."""
    now, epoch, seq, *answers = books.raw(
        "FCALL",
        books.scripts.function("take_over"),
        1,
        books.key("meta"),
        *(take_over(number).packed for number in (known, *others)),
    )
    assert answers == [epoch] * (1 + len(others))
    assert (now, seq) == (int(books.raw("GET", "test:clock").split()[0]), int(version(books)[b"seq"]))
    assert version(books)[b"run"] == books.run
    assert version(books)[b"epoch"] == b"%d" % epoch
    assert len(version(books)) == 3
    return int(epoch)


@pytest.mark.parametrize("verb", ["reserve", "commit", "release", "extend", "fulfil", "cancel", "expire"])
def test_nothing_is_done_with_books_that_another_process_had(books: Books, verb: str) -> None:
    """Refused under a code of its own, nothing written."""
    put(books, run="another")
    before = books.read()
    with pytest.raises(ScriptError, match=r"^NOTBEGUN another process"):
        books.one(VERBS[verb])
    assert books.read() == before


@pytest.mark.parametrize("verb", ["movement", "save_setting", "save_policy", "save_fence"])
def test_nor_facts_and_locations(books: Books, verb: str) -> None:
    books.raw("HDEL", books.key("meta"), "run")
    before = books.read()
    with pytest.raises(ScriptError, match=r"^NOTBEGUN"):
        books.one(VERBS[verb])
    assert books.read() == before


@pytest.mark.parametrize("verb", ["cards", "find", "forget"])
def test_what_makes_no_events_goes_on(books: Books, verb: str) -> None:
    """A server that refuses writes still answers reads after a restart."""
    put(books, run="another")
    books.one(VERBS[verb])
    assert version(books)[b"run"] == b"another"


def test_a_new_data_set_keeps_its_first_epoch(books: Books) -> None:
    books.seed(seq=0)
    books.raw("HDEL", books.key("meta"), "run")
    assert taken(books, 1) == 1
    assert taken(books) == 1
    books.one(save_setting("W", setting()))
    books.expect(
        seq=1,
        settings=Settings(1, locations={"W": setting()}, changes={(LOCATION, "W"): 1}),
        log=[(1, [Saved("W", setting())])],
    )


@pytest.mark.parametrize(
    ("fields", "known", "epoch"),
    [
        ({}, 0, 2),  # as an older release left them
        ({"run": "another"}, 0, 2),
        ({"run": "another"}, 1, 2),
        ({"run": "another"}, 2, 3),  # somebody has seen a later one: an old copy was restored
        ({"run": "another", "epoch": 7}, 2, 8),
        ({"run": "another", "epoch": 7}, 65_534, 65_535),
        ({"run": "another", "seq": 0}, 0, 2),  # restored to its first moment
        ({"seq": 0}, 2, 3),  # new, but somebody has seen another
    ],
)
def test_the_next_epoch_is_above_all_that_were_seen(
    books: Books, fields: dict[str, str | int], known: int, epoch: int
) -> None:
    books.raw("HDEL", books.key("meta"), "run")
    put(books, **fields)
    assert taken(books, known) == epoch
    assert taken(books, known) == epoch, "it is ours now"


def test_of_several_who_ask_together_the_highest_counts(books: Books) -> None:
    put(books, run="another")
    assert taken(books, 3, others=(5, 4)) == 6


@pytest.mark.parametrize(
    ("now_ms", "epoch"),
    [
        (BY_CLOCK + FOUR_HOURS - 1, 2),
        (BY_CLOCK + FOUR_HOURS, 2),
        (BY_CLOCK + 2 * FOUR_HOURS, 3),
        (BY_CLOCK + 999 * FOUR_HOURS, 1000),
        (BY_CLOCK + 60_000 * FOUR_HOURS, 60_001),
        (BY_CLOCK + 70_000 * FOUR_HOURS, 60_001),
    ],
)
def test_epochs_go_with_the_clock(books: Books, now_ms: int, epoch: int) -> None:
    """So that an old copy, restored while nobody ran, does not come by a number twice."""
    put(books, run="another")
    books.turn_clock(now_ms)
    assert taken(books) == epoch


def test_there_is_a_last_epoch(books: Books) -> None:
    """Records have two bytes for it."""
    put(books, run="another", epoch=65_535)
    before = books.read()
    with pytest.raises(ScriptError, match=r"^EPOCHSPENT"):
        books.one(take_over(0))
    assert books.read() == before


def test_another_data_set_is_not_taken_over(books: Books) -> None:
    """The functions of one data set, whose mark they have, write into no other."""
    ours = books.scripts.for_dataset(MARK)
    books.raw("FUNCTION", "LOAD", "REPLACE", ours.text)

    def call(verb: str) -> object:
        names = {"reserve": ("meta", "ops", "due", "log", "stock"), "take_over": ("meta",)}[verb]
        packed = {"reserve": reserve(A, SHOE).packed, "take_over": take_over(0).packed}[verb]
        fixed = (86_400_000,) if verb == "reserve" else ()
        return books.raw("FCALL", ours.function(verb), len(names), *map(books.key, names), *fixed, packed)

    for strange in (
        {},
        {"dataset": "d4e5f6"},
        {"dataset": "d4e5f6", "run": (books.run + b"d4e5f6").decode()},
    ):
        books.seed(now_ms=NOW)
        put(books, **strange)
        before = books.read()
        with pytest.raises(ScriptError, match=r"^NOTBEGUN"):
            call("reserve")
        with pytest.raises(ScriptError, match=r"^OTHERDATA this is not the data set"):
            call("take_over")
        assert books.read() == before
    put(books, dataset=MARK)
    assert call("take_over") == [NOW, 2, 1, 2]
    assert call("reserve") == [NOW, 2, 1, [b"sku_not_found", 1, 0]]
    books.raw("FUNCTION", "DELETE", ours.name)
