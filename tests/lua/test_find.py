from tests.lua.books import Books, Fact, Hold, find, name


def test_records_as_they_are_stored(books: Books) -> None:
    """Each id's record in order, empty where there is none, with the version that was read."""
    hold, fact = Hold((("shoe", "W", 5),)), Fact(b"12345678", 1, 1, 1)
    operations = {name(1): hold, name(2): fact}
    books.seed(seq=41, operations=operations)
    asked = [find(name(number)) for number in (2, 3, 1, 1)]
    wanted = [[41, fact.packed()], [41, b""], [41, hold.packed(name(1))], [41, hold.packed(name(1))]]
    assert books.batch(*asked) == wanted
    books.expect(seq=41, operations=operations)
