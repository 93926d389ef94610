from tests.lua.books import Books, Saved, save_location


def test_made_changed_and_deleted(books: Books) -> None:
    """Each effect is stored and told; equal settings are no effect."""
    books.seed(locations={"S": b"old"})
    asked = [("W", b"one"), ("S", b"old"), ("S", b"new")]
    assert books.batch(*(save_location(*each) for each in asked)) == [2, [b"unchanged", 2], 3]
    books.expect(
        seq=3, locations={"W": b"one", "S": b"new"}, log=[(3, [Saved("W", b"one"), Saved("S", b"new")])]
    )
    assert books.one(save_location("W", b"")) == 4
    books.expect(
        seq=4,
        locations={"S": b"new"},
        log=[(3, [Saved("W", b"one"), Saved("S", b"new")]), (4, [Saved("W", b"")])],
    )


def test_refusals(books: Books) -> None:
    """What is not there cannot be deleted, nor a place that stocks something; settings may change."""
    locations, stocked = {"W": b"one", "S": b"two", "T": b"three"}, {"W": 1, "T": 300, "X": 1}
    books.seed(locations=locations, stocked=stocked)
    asked = [("X", b""), ("W", b""), ("T", b""), ("W", b"one")]
    answers = books.batch(*(save_location(*each) for each in asked))
    in_use = [b"location_in_use", 1]
    assert answers == [[b"location_not_found", 1], in_use, in_use, [b"unchanged", 1]]
    books.expect(locations=locations, stocked=stocked)
    assert books.batch(*(save_location(*each) for each in [("W", b"1"), ("S", b"")])) == [2, 3]
    books.expect(
        seq=3,
        locations={"W": b"1", "T": b"three"},
        stocked=stocked,
        log=[(3, [Saved("W", b"1"), Saved("S", b"")])],
    )


def test_one_place_many_times_in_one_call(books: Books) -> None:
    """Made, made again, deleted, deleted again: each request sees those before it."""
    asked = [("W", b"one"), ("W", b"one"), ("W", b""), ("W", b"")]
    answers = books.batch(*(save_location(*each) for each in asked))
    assert answers == [2, [b"unchanged", 2], 3, [b"location_not_found", 3]]
    books.expect(seq=3, log=[(3, [Saved("W", b"one"), Saved("W", b"")])])
