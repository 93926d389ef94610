from itertools import permutations

import pytest

from tests.lua.books import Books, Filed, Hold, index, name

A, B, C = b"a-entry", b"b\0entry", b"\xff" * 200


def test_entries_are_filed_and_the_cursor_moves(books: Books) -> None:
    """It is no event, and touches nothing else."""
    operations = {name(1): Hold((("shoe", "W", 5),))}
    books.seed(seq=7, operations=operations)
    assert books.one(index(b"", b"1-7", [A, B])) == 2
    books.expect(seq=7, operations=operations, filed=Filed(b"1-7", frozenset((A, B))))


def test_what_is_gone_is_struck_out(books: Books) -> None:
    """Also what was never there; the rest stays."""
    books.seed(filed=Filed(b"1-7", frozenset((A, B))))
    assert books.one(index(b"1-7", b"1-7", (), [A, C])) == 2
    books.expect(filed=Filed(b"1-7", frozenset((B,))))


@pytest.mark.parametrize("prior", [b"", b"1-6", b"1-70", b"2-7"])
def test_who_goes_on_from_another_point_changes_nothing(books: Books, prior: bytes) -> None:
    """Neither entries nor cursor; it is told where the index is."""
    before = Filed(b"1-7", frozenset((A,)))
    books.seed(filed=before)
    assert books.one(index(prior, b"1-9", [B], [A])) == [b"overtaken", b"1-7"]
    books.expect(filed=before)


def test_who_expects_a_cursor_where_there_is_none(books: Books) -> None:
    books.seed()
    assert books.one(index(b"1-7", b"1-9", [B])) == [b"overtaken", b""]
    books.expect()


def test_a_cursor_that_is_taken_back(books: Books) -> None:
    """From then on who went on from it is overtaken."""
    books.seed(filed=Filed(b"1-7", frozenset((A,))))
    answers = books.batch(index(b"1-7", b""), index(b"1-7", b"1-8", [B]), index(b"", b"", [C]))
    assert answers == [0, [b"overtaken", b""], 1]
    books.expect(filed=Filed(b"", frozenset((A, C))))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_one_call_many_readers(books: Books, order: tuple[int, ...]) -> None:
    """Each sees what those before it did; the later of two about one entry counts."""
    steps = [index(b"1-1", b"1-2", [A, B]), index(b"1-2", b"1-3", [C], [A]), index(b"1-3", b"1-4", [A], [C])]
    books.seed(filed=Filed(b"1-1"))
    at, entries = 1, set[bytes]()
    answers = books.batch(*(steps[number] for number in order))
    changes = [({A, B}, set[bytes]()), ({C}, {A}), ({A}, {C})]
    for number, answer in zip(order, answers, strict=True):
        if number + 1 == at:
            added, gone = changes[number]
            entries, at = (entries - gone) | added, at + 1
            assert answer == len(added) + len(gone)
        else:
            assert answer == [b"overtaken", b"1-%d" % at]
    books.expect(filed=Filed(b"1-%d" % at, frozenset(entries)))


def test_very_many_entries(books: Books) -> None:
    """More than one command takes."""
    entries = [b"%05d" % number for number in range(5001)]
    books.seed()
    assert books.one(index(b"", b"1-1", entries)) == 5001
    books.expect(filed=Filed(b"1-1", frozenset(entries)))
    assert books.one(index(b"1-1", b"1-1", (), entries)) == 5001
    books.expect(filed=Filed(b"1-1"))
