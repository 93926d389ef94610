"""Old history is forgotten, some positions a call; positions begin as another data set left them."""

from tests.lua.books import (
    HISTORY_MS,
    NOW,
    Books,
    Card,
    CountKept,
    Move,
    Opened,
    Position,
    name,
    opening,
    pack_units,
    place_of,
    trim,
)

A, B, C, D = name(11), name(12), name(13), name(14)
OLDEST = NOW - HISTORY_MS
PLACES = {"W": b"settings", "S": b"settings"}


def moves(sku: str, location: str, *ages_ms: int) -> list[bytes]:
    """Movements of one position."""
    return [Move(sku, location, OLDEST - age_ms, name(at), 5).packed() for at, age_ms in enumerate(ages_ms)]


def test_what_is_old_goes(books: Books) -> None:
    """To the millisecond, of every position, and nothing else changes."""
    old = [*moves("shoe", "S", 5, 1), *moves("shoe", "W", 9)]
    kept = [*moves("hat", "W", 0, -7), *moves("shoe", "S", 0), *moves("shoe2", "W", -1)]
    books.seed(stock={"shoe": Card({"W": Position(5)})}, moves=[*old, *kept])
    assert books.batch(trim(100, 100)) == [[3, b""]]
    books.expect(stock={"shoe": Card({"W": Position(5)})}, moves=kept)
    assert books.batch(trim(100, 100)) == [[0, b""]]


def test_some_positions_a_call(books: Books) -> None:
    """Each call tells where the next one begins; a position with more than fits is gone on with."""
    names = [f"sku {number}" for number in range(5)]
    old = {sku: moves(sku, "W", 3, 2, 1) for sku in names}
    books.seed(moves=[member for members in old.values() for member in members])
    first, second, third = (sku.encode() + place_of("W") for sku in names[:3])
    assert books.one(trim(2, 100)) == [6, second]
    books.expect(moves=[member for sku in names[2:] for member in old[sku]])
    assert books.one(trim(2, 2, second)) == [2, third]
    books.expect(moves=[old[names[2]][2], *old[names[3]], *old[names[4]]])
    assert books.one(trim(1, 100, first)) == [1, third]
    assert books.one(trim(9, 100, third)) == [6, b""]
    books.expect()


def test_very_much_is_old(books: Books) -> None:
    """More than one command deletes."""
    books.seed(moves=moves("shoe", "W", *range(1, 1004)))
    assert books.one(trim(1, 2000)) == [1003, b"shoe" + place_of("W")]
    books.expect()


def test_several_requests_of_one_call(books: Books) -> None:
    """Each has its own answer."""
    books.seed(moves=[*moves("hat", "W", 2, 1), *moves("shoe", "W", 2, 1)])
    hat, shoe = b"hat" + place_of("W"), b"shoe" + place_of("W")
    assert books.batch(trim(1, 9), trim(1, 9, hat), trim(1, 9, shoe)) == [[2, hat], [2, shoe], [0, b""]]
    books.expect()


def test_each_request_of_a_call_has_its_own_limit(books: Books) -> None:
    """What others of the call forget does not count."""
    old = {sku: moves(sku, "W", 3, 2, 1) for sku in ("hat", "shoe", "tie")}
    books.seed(moves=[member for members in old.values() for member in members])
    hat, tie = b"hat" + place_of("W"), b"tie" + place_of("W")
    assert books.batch(trim(1, 2), trim(9, 4, hat)) == [[2, hat], [4, tie]]
    books.expect(moves=[old["hat"][2], *old["tie"][1:]])


def test_nothing_to_forget(books: Books) -> None:
    """A partition without a history."""
    books.seed()
    assert books.one(trim(9, 9)) == [0, b""]
    books.expect()


def test_a_position_begins(books: Books) -> None:
    """With counters, count, conditions and history; then with more of the same, and less on hand."""
    books.seed(locations=PLACES)
    units = pack_units(damaged=2, lost=-3, display=4)
    kept = CountKept(NOW - 50, C, 9).packed
    first = Opened(20, rows=((NOW - 9, A, 5), (NOW - 9, B, -4)))
    more = Opened(-7, count=kept, conditions=units, rows=((NOW - 90, D, 10**12),))
    other = Opened(10**12, "S")
    assert books.batch(*map(opening, (first, more, other))) == [2, 3, 4]
    books.expect(
        seq=4,
        stock={"shoe": Card({"W": Position(13, unsellable=6), "S": Position(10**12)})},
        log=[(4, [first, more, other])],
        locations=PLACES,
        stocked={"W": 1, "S": 1},
        counts={("shoe", "W"): kept},
        conditions={("shoe", "W"): units},
    )
