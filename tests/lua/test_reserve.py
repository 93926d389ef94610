import pytest

from tests.lua.books import (
    HELD,
    NOW,
    RELEASED,
    Books,
    Fact,
    Hold,
    Memory,
    Position,
    Reserved,
    Stock,
    name,
)

A, B, C = name(1), name(2), name(3)
FRESH = {"created": 2, "changed": 2, "created_ms": NOW}


def test_a_basket_is_held(books: Books) -> None:
    """Counters, holders, record, deadline, event and sequence of one reserve over two SKUs."""
    books.seed(
        stock={
            "shoe": Stock({"W": Position(10), "S": Position(4, 1, 1)}, {("S", C): 1}),
            "hat": Stock({"W": Position(3)}),
        },
    )
    hold = Hold((("shoe", "W", 6), ("shoe", "S", 2), ("hat", "W", 3)), **FRESH)
    assert books.one(books.reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock={
            "shoe": Stock(
                {"W": Position(10, 6), "S": Position(4, 3, 1)}, {("W", A): 2, ("S", A): 2, ("S", C): 1}
            ),
            "hat": Stock({"W": Position(3, 3)}, {("W", A): 2}),
        },
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


def test_one_call_writes_one_entry(books: Books) -> None:
    """Requests of a call see those before them; seqs are contiguous; equal deadlines share an entry."""
    books.seed(seq=7, epoch=3, stock={"shoe": Stock({"W": Position(5)})})
    first = Hold((("shoe", "W", 3),), created=8, changed=8, created_ms=NOW, epoch=3, changed_epoch=3)
    third = first._replace(lines=(("shoe", "W", 2),), created=9, changed=9)
    later = third._replace(lines=(("shoe", "W", 1),))
    answers = books.batch(
        books.reserve(A, first),
        books.reserve(B, Hold((("shoe", "W", 3),))),
        books.reserve(C, third),
        books.reserve(name(4), later),
    )
    assert answers == [
        8,
        [b"insufficient_stock", 8, 0, 2, 3],
        9,
        [b"insufficient_stock", 9, 0, 0, 1],
    ]
    books.expect(
        seq=9,
        epoch=3,
        stock={"shoe": Stock({"W": Position(5, 5)}, {("W", A): 8, ("W", C): 9})},
        operations={A: first, C: third},
        due={(NOW + 60_000, "h", (A, C))},
        log=[(9, [Reserved(A, first), Reserved(C, third)])],
    )


def test_deadlines_of_one_call_apart(books: Books) -> None:
    """Holds of different length are filed under their own moments; the shortest is a millisecond."""
    books.seed(stock={"shoe": Stock({"W": Position(5)})})
    one = Hold((("shoe", "W", 1),), **FRESH, deadline_ms=NOW + 1)  # type: ignore[arg-type]
    two = one._replace(created=3, changed=3, deadline_ms=NOW + 2_592_000_000)
    assert books.batch(books.reserve(A, one, ttl_ms=1), books.reserve(B, two, ttl_ms=2_592_000_000)) == [2, 3]
    books.expect(
        seq=3,
        stock={"shoe": Stock({"W": Position(5, 2)}, {("W", A): 2, ("W", B): 3})},
        operations={A: one, B: two},
        due={(NOW + 1, "h", (A,)), (NOW + 2_592_000_000, "h", (B,))},
        log=[(3, [Reserved(A, one), Reserved(B, two)])],
    )


def test_the_same_id_twice(books: Books) -> None:
    """In one call and later: equal content is replayed, other content mismatches; one effect."""
    books.seed(stock={"shoe": Stock({"W": Position(5)})})
    hold = Hold((("shoe", "W", 3),), **FRESH)
    other = hold._replace(lines=(("shoe", "W", 1),), fingerprint=b"another0")
    request = [books.reserve(A, each) for each in (hold, hold, other)]
    assert books.batch(*request) == [2, [b"replayed", hold.packed], [b"idempotency_mismatch"]]
    again = [books.reserve(A, each) for each in (other, hold)]
    assert books.batch(*again) == [[b"idempotency_mismatch"], [b"replayed", hold.packed]]
    books.expect(
        seq=2,
        stock={"shoe": Stock({"W": Position(5, 3)}, {("W", A): 2})},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


@pytest.mark.parametrize("changed", range(8))
def test_every_byte_of_the_fingerprint_counts(books: Books, changed: int) -> None:
    """Content that differs in any byte of its fingerprint is other content."""
    hold = Hold((("shoe", "W", 3),))
    books.seed(operations={A: hold})
    mark = bytearray(hold.fingerprint)
    mark[changed] ^= 1
    assert books.one(books.reserve(A, hold, fingerprint=bytes(mark))) == [b"idempotency_mismatch"]
    books.expect(operations={A: hold})


def test_a_replay_is_answered_in_every_state(books: Books) -> None:
    """The record is the memory of its reserve: also when it is over, out of stock, or refused by name."""
    hold = Hold((("gone", "W", 3),), state=RELEASED, progress=((0, 0, 0, 3),))
    books.seed(operations={A: hold})
    assert books.one(books.reserve(A, hold)) == [b"replayed", hold.packed]
    books.expect(operations={A: hold})


@pytest.mark.parametrize(
    "record",
    [
        Memory(2, b"madeby00", B, Hold((("shoe", "W", 1),)).head),
        Fact(b"madeby00", 1, 1, 1),
        Fact(b"x" * 8, 1, 1, 1, ((b"madeby00" * 3, 5),)),
    ],
)
def test_an_id_of_another_kind_mismatches(books: Books, record: Memory | Fact) -> None:
    """An id that was used for something else than a reserve is never a replay of one."""
    stock = {"shoe": Stock({"W": Position(5)})}
    books.seed(stock=stock, operations={A: record})
    assert books.one(books.reserve(A, Hold((("shoe", "W", 1),)))) == [b"idempotency_mismatch"]
    books.expect(stock=stock, operations={A: record})


def test_an_equal_fingerprint_at_the_place_of_a_records_is_no_replay(books: Books) -> None:
    """Only a reservation's record can answer a reserve, whatever its bytes look like."""
    fact = Fact(b"madeby00", 1, 1, 1, ((b"\0" * 12, 1), (b"madeby00" + bytes(4), 1)))
    packed = fact.packed
    at = packed.index(b"madeby00", 10)
    books.seed(operations={A: fact})
    mark = packed[37:45]
    assert at != 37
    assert books.one(books.reserve(A, Hold((("shoe", "W", 1),)), fingerprint=mark)) == [
        b"idempotency_mismatch"
    ]
    books.expect(operations={A: fact})


def test_refusals_in_order(books: Books) -> None:
    """Unknown SKU before unstocked place before shortage; each names all of its own positions."""
    stock = {"shoe": Stock({"W": Position(5), "S": Position(1)}), "hat": Stock({"W": Position(0)})}
    books.seed(stock=stock)
    short = ("shoe", "S", 2)
    missing = ("hat", "S", 1)
    unknown = ("{ghost}", "W", 1)
    rows = [
        (((unknown, missing, short, ("ghost", "S", 1))), [b"sku_not_found", 1, 0, 3]),
        ((("shoe", "W", 5), short, missing, ("hat", "X", 1)), [b"not_stocked", 1, 2, 3]),
        ((("shoe", "W", 5), short, ("hat", "W", 1)), [b"insufficient_stock", 1, 1, 1, 2, 2, 0, 1]),
    ]
    for lines, answer in rows:
        assert books.one(books.reserve(A, Hold(lines))) == answer
    asked = [books.reserve(name(9 + number), Hold(lines)) for number, (lines, _) in enumerate(rows)]
    assert books.batch(*asked) == [answer for _, answer in rows]
    books.expect(stock=stock)


@pytest.mark.parametrize(
    ("position", "fits", "shown"),
    [
        (Position(10, 3, 2, 1), 4, 4),
        (Position(10, 3, 2, 1, 1, 0, 1), 2, 2),
        (Position(10, 3, 2, 1, 1, 5, 1), 7, 2),
        (Position(0, 0, 0, 0, 0, 5), 5, 0),
        (Position(0, 3, 0, 0, 0, 5), 2, -3),
        (Position(-4, 0, 0, 0, 0, 5), 1, -4),
        (Position(-9, 0, 0, 0, 0, 5), 0, -5),
        (Position(2, 5), 0, 0),
        (Position(10, 0, 0, 0, 0, 0, 0, 9), 10, 10),
        (Position(10**15), 10**9, None),
        (Position(-(10**15)), 0, 0),
    ],
)
def test_what_fits(books: Books, position: Position, fits: int, shown: int | None) -> None:
    """Every counter has its part in what can be promised; one unit more is refused, none less."""
    seed = {"shoe": Stock({"W": position})}
    books.seed(stock=seed)
    if shown is not None:
        over = Hold((("shoe", "W", fits + 1),))
        assert books.one(books.reserve(A, over)) == [b"insufficient_stock", 1, 0, shown, fits + 1]
        books.expect(stock=seed)
    if fits:
        hold = Hold((("shoe", "W", fits),), **FRESH)
        assert books.one(books.reserve(A, hold)) == 2
        after = position._replace(held=position.held + fits)
        books.expect(
            seq=2,
            stock={"shoe": Stock({"W": after}, {("W", A): 2})},
            operations={A: hold},
            due={(NOW + 60_000, "h", (A,))},
            log=[(2, [Reserved(A, hold)])],
        )


@pytest.mark.parametrize("backorder", [0, 10**6])
@pytest.mark.parametrize("held", [2**31 - 2, 2**31 - 1])
def test_a_position_that_outgrows_four_bytes(books: Books, held: int, backorder: int) -> None:
    """Counters up to 2^31 - 1 take four bytes each, larger ones seven, with and without a policy."""
    position = Position(2**31 - 1, held, backorder_limit=backorder)
    wide = Position(2**32, held, backorder_limit=backorder)
    for before in (position, wide):
        if before is position and before.on_hand + backorder <= held:
            continue
        books.seed(stock={"shoe": Stock({"W": before})})
        hold = Hold((("shoe", "W", 1),), **FRESH)
        assert books.one(books.reserve(A, hold)) == 2
        books.expect(
            seq=2,
            stock={"shoe": Stock({"W": before._replace(held=held + 1)}, {("W", A): 2})},
            operations={A: hold},
            due={(NOW + 60_000, "h", (A,))},
            log=[(2, [Reserved(A, hold)])],
        )


@pytest.mark.parametrize(
    ("due", "swept", "answer"),
    [
        ({(NOW, "h", (B,))}, False, [b"overdue"]),
        ({(NOW - 5, "p", (B,))}, False, [b"insufficient_stock", 1, 0, 5, 6]),
        ({(NOW + 1, "h", (B,))}, False, [b"insufficient_stock", 1, 0, 5, 6]),
        (set(), False, [b"insufficient_stock", 1, 0, 5, 6]),
        ({(NOW, "h", (B,))}, True, [b"insufficient_stock", 1, 0, 5, 6]),
    ],
)
def test_a_refusal_waits_for_a_sweep(
    books: Books, due: set[tuple[int, str, tuple[bytes, ...]]], swept: bool, answer: list[object]
) -> None:
    """A shortage is told only once nothing that has lapsed is counted; what else is wrong, at once."""
    stock = {"shoe": Stock({"W": Position(5)})}
    books.seed(stock=stock, due=due)
    asked = [
        books.reserve(A, Hold((("shoe", "W", 6),)), swept=swept),
        books.reserve(C, Hold((("hat", "W", 6), ("shoe", "W", 6)))),
        books.reserve(C, Hold((("shoe", "X", 6), ("shoe", "W", 6)))),
    ]
    refusals = [[b"sku_not_found", 1, 0], [b"not_stocked", 1, 0]]
    assert books.batch(*asked) == [answer, *refusals]
    books.expect(stock=stock, due=due)


def test_what_fits_needs_no_sweep(books: Books) -> None:
    """Lapsed holds delay nobody whose request fits beside them."""
    due = {(NOW - 1, "h", (B,))}
    books.seed(stock={"shoe": Stock({"W": Position(5)})}, due=due)
    hold = Hold((("shoe", "W", 5),), **FRESH)
    assert books.one(books.reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock={"shoe": Stock({"W": Position(5, 5)}, {("W", A): 2})},
        operations={A: hold},
        due=due | {(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


def test_the_largest_basket(books: Books) -> None:
    """200 lines of a thousand million units each, over 200 SKUs, in one call."""
    lines = tuple((f"sku-{number}", f"place.{number % 7}", 10**9) for number in range(200))
    books.seed(stock={sku: Stock({place: Position(10**15)}) for sku, place, _ in lines})
    hold = Hold(lines, **FRESH)
    assert books.one(books.reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock={sku: Stock({place: Position(10**15, 10**9)}, {(place, A): 2}) for sku, place, _ in lines},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


@pytest.mark.parametrize(
    "sku", ["{1}", "a:b", "a/b", "100%", "a\nb", "été", "靴", "W\n" + "x" * 12, "*", "..", " ", "😀" * 64]
)
def test_odd_names(books: Books, sku: str) -> None:
    """A name of any text holds its own stock and no other's."""
    stock = {"shoe": Stock({"W": Position(5)}), "a": Stock({"b": Position(1)})}
    books.seed(stock=stock | {sku: Stock({"W": Position(1)})})
    hold = Hold(((sku, "W", 1),), state=HELD, **FRESH)
    assert books.one(books.reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock=stock | {sku: Stock({"W": Position(1, 1)}, {("W", A): 2})},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


def test_a_server_without_a_data_set(books: Books) -> None:
    """Nothing is written where there is no data set, and the answer begins with its own code."""
    books.raw("DEL", "inv:{0}:meta")
    with pytest.raises(Exception, match=r"^NODATASET "):
        books.one(books.reserve(A, Hold((("shoe", "W", 1),))))
    assert books.read() == {}
