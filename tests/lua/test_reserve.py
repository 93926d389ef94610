import pytest

from tests.lua.books import (
    COMMITTED,
    EXPIRE,
    EXPIRED,
    HELD,
    NOW,
    PENDING,
    RELEASED,
    RETENTION_MS,
    Books,
    Card,
    Fact,
    Hold,
    Memory,
    Position,
    Reserved,
    Resolved,
    ScriptError,
    basket,
    name,
    reserve,
)

A, B, C = name(1), name(2), name(3)
FRESH = {"created": 2, "changed": 2, "created_ms": NOW}


def test_a_basket_is_held(books: Books) -> None:
    """Counters, holders, record, deadline, event and sequence of one reserve over two SKUs."""
    books.seed(
        stock={
            "shoe": Card({"W": Position(10), "S": Position(4, 1, 1)}, (C,)),
            "hat": Card({"W": Position(3)}),
        },
    )
    hold = Hold((("shoe", "W", 6), ("shoe", "S", 2), ("hat", "W", 3)), **FRESH)
    assert books.one(reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock={
            "shoe": Card({"W": Position(10, 6), "S": Position(4, 3, 1)}, (C, A)),
            "hat": Card({"W": Position(3, 3)}, (A,)),
        },
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


def test_one_call_writes_one_entry(books: Books) -> None:
    """Requests of a call see those before them; seqs are contiguous; equal deadlines share an entry."""
    books.seed(seq=7, epoch=3, stock={"shoe": Card({"W": Position(5)})})
    first = Hold((("shoe", "W", 3),), created=8, changed=8, created_ms=NOW, epoch=3, changed_epoch=3)
    third = first._replace(lines=(("shoe", "W", 2),), created=9, changed=9)
    later = third._replace(lines=(("shoe", "W", 1),))
    answers = books.batch(
        reserve(A, first),
        reserve(B, Hold((("shoe", "W", 3),))),
        reserve(C, third),
        reserve(name(4), later),
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
        stock={"shoe": Card({"W": Position(5, 5)}, (A, C))},
        operations={A: first, C: third},
        due={(NOW + 60_000, "h", (A, C))},
        log=[(9, [Reserved(A, first), Reserved(C, third)])],
    )


def test_deadlines_of_one_call_apart(books: Books) -> None:
    """Holds of different length are filed under their own moments; the shortest is a millisecond."""
    books.seed(stock={"shoe": Card({"W": Position(5)})})
    one = Hold((("shoe", "W", 1),), **FRESH, deadline_ms=NOW + 1, ttl_ms=1)  # type: ignore[arg-type]
    two = one._replace(created=3, changed=3, deadline_ms=NOW + 2_592_000_000, ttl_ms=2_592_000_000)
    assert books.batch(reserve(A, one), reserve(B, two)) == [2, 3]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5, 2)}, (A, B))},
        operations={A: one, B: two},
        due={(NOW + 1, "h", (A,)), (NOW + 2_592_000_000, "h", (B,))},
        log=[(3, [Reserved(A, one), Reserved(B, two)])],
    )


def test_the_same_id_twice(books: Books) -> None:
    """In one call and later: equal content is replayed, other content mismatches; one effect."""
    books.seed(stock={"shoe": Card({"W": Position(5)})})
    hold = Hold((("shoe", "W", 3),), **FRESH)
    other = hold._replace(lines=(("shoe", "W", 1),), fingerprint=b"another0")
    request = [reserve(A, each) for each in (hold, hold, other)]
    assert books.batch(*request) == [2, [b"replayed", hold.packed(A)], [b"idempotency_mismatch"]]
    again = [reserve(A, each) for each in (other, hold)]
    assert books.batch(*again) == [[b"idempotency_mismatch"], [b"replayed", hold.packed(A)]]
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(5, 3)}, (A,))},
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
    assert books.one(reserve(A, hold._replace(fingerprint=bytes(mark)))) == [b"idempotency_mismatch"]
    books.expect(operations={A: hold})


def test_a_replay_is_answered_in_every_state(books: Books) -> None:
    """The record is the memory of its reserve: also when it is over, out of stock, or refused by name."""
    hold = Hold((("gone", "W", 3),), state=RELEASED, progress=((0, 0, 0, 3),))
    books.seed(operations={A: hold})
    assert books.one(reserve(A, hold)) == [b"replayed", hold.packed(A)]
    books.expect(operations={A: hold})


@pytest.mark.parametrize(
    "record",
    [
        Memory(2, b"madeby00", B, Hold((("shoe", "W", 1),)).tail),
        Fact(b"madeby00", 1, 1, 1),
        Fact(b"x" * 8, 1, 1, 1, ((b"madeby00" * 3, 5),)),
    ],
)
def test_an_id_of_another_kind_mismatches(books: Books, record: Memory | Fact) -> None:
    """An id that was used for something else than a reserve is never a replay of one."""
    stock = {"shoe": Card({"W": Position(5)})}
    books.seed(stock=stock, operations={A: record})
    assert books.one(reserve(A, Hold((("shoe", "W", 1),)))) == [b"idempotency_mismatch"]
    books.expect(stock=stock, operations={A: record})


def test_an_equal_fingerprint_at_the_place_of_a_records_is_no_replay(books: Books) -> None:
    """Only a reservation's record can answer a reserve, whatever its bytes look like."""
    fact = Fact(b"content1", 1, 1, 1, ((b"madeby00" * 2, 5),))
    mark = fact.packed()[16:24]
    books.seed(operations={A: fact})
    asked = Hold((("shoe", "W", 1),), fingerprint=mark)
    assert asked.request(A)[16:24] == mark
    assert books.one(reserve(A, asked)) == [b"idempotency_mismatch"]
    books.expect(operations={A: fact})


def test_refusals_in_order(books: Books) -> None:
    """Unknown SKU before unstocked place before shortage; each names all of its own positions."""
    stock = {"shoe": Card({"W": Position(5), "S": Position(1)}), "hat": Card({"W": Position(0)})}
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
        assert books.one(reserve(A, Hold(lines))) == answer
    asked = [reserve(name(9 + number), Hold(lines)) for number, (lines, _) in enumerate(rows)]
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
    seed = {"shoe": Card({"W": position})}
    books.seed(stock=seed)
    if shown is not None:
        over = Hold((("shoe", "W", fits + 1),))
        assert books.one(reserve(A, over)) == [b"insufficient_stock", 1, 0, shown, fits + 1]
        books.expect(stock=seed)
    if fits:
        hold = Hold((("shoe", "W", fits),), **FRESH)
        assert books.one(reserve(A, hold)) == 2
        after = position._replace(held=position.held + fits)
        books.expect(
            seq=2,
            stock={"shoe": Card({"W": after}, (A,))},
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
        books.seed(stock={"shoe": Card({"W": before})})
        hold = Hold((("shoe", "W", 1),), **FRESH)
        assert books.one(reserve(A, hold)) == 2
        books.expect(
            seq=2,
            stock={"shoe": Card({"W": before._replace(held=held + 1)}, (A,))},
            operations={A: hold},
            due={(NOW + 60_000, "h", (A,))},
            log=[(2, [Reserved(A, hold)])],
        )


@pytest.mark.parametrize("backorder", [0, 2**31 - 1])
@pytest.mark.parametrize("place", ["W", "S", "X"])
def test_one_wide_counter_widens_the_card(books: Books, place: str, backorder: int) -> None:
    """All places of a card have counters of one size; claims and the numbers of blocks stay."""
    policy = Position(0, 0, 0, 0, 5, backorder, 6, 7) if backorder else Position()
    positions = {
        "W": policy._replace(on_hand=-1, held=2, allocated=3, unsellable=4),
        "S": Position(2**31 - 1, -(2**31), 0, 2**31 - 1),
        "X": Position(),
        place: Position(2**31 - 1, 2**31 - 2, -2, backorder_limit=backorder),
    }
    seed = Card(positions, (B, C), block=9, first=2, blocks={2: (name(7),)}, form=2 if backorder else 0)
    if not backorder:
        positions[place] = positions[place]._replace(allocated=-2, unsellable=0)
    elif place == "W":
        positions["S"] = Position(0, 0, 0, 0, 1)
    books.seed(stock={"shoe": seed})
    hold = Hold((("shoe", place, 2),), **FRESH, blocks=(9,))
    assert books.one(reserve(A, hold)) == 2
    after = positions | {place: positions[place]._replace(held=2**31)}
    books.expect(
        seq=2,
        stock={"shoe": Card(after, (B, C, A), 9, 2, seed.blocks, 3 if backorder else 1)},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


@pytest.mark.parametrize("form", [1, 2, 3])
def test_a_card_keeps_its_form(books: Books, form: int) -> None:
    """Counters that would fit a smaller form are kept in the one that the card has."""
    seed = Card({"S": Position(1), "W": Position(9, 1, 2, 3)}, form=form)
    books.seed(stock={"shoe": seed})
    hold = Hold((("shoe", "W", 3),), **FRESH)
    assert books.one(reserve(A, hold)) == 2
    after = {"S": Position(1), "W": Position(9, 4, 2, 3)}
    books.expect(
        seq=2,
        stock={"shoe": seed._replace(positions=after, claims=(A,))},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


@pytest.mark.parametrize("count", [1, 2, 11, 32])
def test_every_place_of_a_card(books: Books, count: int) -> None:
    """Each location finds its own counters, whatever the bytes of its index, its name or the counters are."""
    names = ["b", "a", "ab", "aba", "ba", "W", "a.b", "-", "0", "00", "9" * 64]
    names += [f"store-{number}" for number in range(count)]
    odd = int.from_bytes(b"\nc=", "little")
    positions = {location: Position(10 + at + odd + at, odd, at) for at, location in enumerate(names[:count])}
    for at, location in enumerate(positions):
        hold = Hold((("shoe", location, 10 + at),), **FRESH)
        over = hold._replace(lines=(("shoe", location, 11 + at),))
        books.seed(stock={"shoe": Card(positions)})
        short = [b"insufficient_stock", 1, 0, 10 + at, 11 + at]
        assert books.batch(reserve(B, over), reserve(A, hold)) == [short, 2]
        changed = positions[location]._replace(held=odd + 10 + at)
        books.expect(
            seq=2,
            stock={"shoe": Card(positions | {location: changed}, (A,))},
            operations={A: hold},
            due={(NOW + 60_000, "h", (A,))},
            log=[(2, [Reserved(A, hold)])],
        )
    books.seed(stock={"shoe": Card(positions)})
    for location in ("store", "", "=", "b\n", "c"):
        assert books.one(reserve(A, Hold((("shoe", location, 1),)))) == [b"not_stocked", 1, 0]
    books.expect(stock={"shoe": Card(positions)})


LATER = NOW + RETENTION_MS
LAPSING = Hold((("shoe", "W", 5),), deadline_ms=NOW)


def lapse(hold: Hold, seq: int) -> Hold:
    """A hold after it was given back."""
    return hold._replace(state=EXPIRED, held_end=EXPIRE, closed_by=EXPIRE, changed=seq, deadline_ms=LATER)


@pytest.mark.parametrize(
    "due", [set(), {(NOW - 5, "p", (B,))}, {(NOW + 1, "h", (B,))}, {(NOW + 1, "h", (B,)), (NOW, "p", (B,))}]
)
def test_a_shortage_where_nothing_has_lapsed(
    books: Books, due: set[tuple[int, str, tuple[bytes, ...]]]
) -> None:
    """What is held until the next millisecond is held."""
    hold = LAPSING._replace(deadline_ms=NOW + 1)
    stock = {"shoe": Card({"W": Position(5, 5)}, (B,))}
    books.seed(stock=stock, operations={B: hold}, due=due)
    assert books.one(reserve(A, Hold((("shoe", "W", 1),)))) == [b"insufficient_stock", 1, 0, 0, 1]
    books.expect(stock=stock, operations={B: hold}, due=due)


def test_what_has_lapsed_is_given_back_first(books: Books) -> None:
    """A request that is short gets what others let lapse, in the same call: their events come before its
    own, their records, claims and deadlines are as after an expire.
    """
    other = Hold((("hat", "W", 2), ("shoe", "W", 1)), deadline_ms=NOW - 7)
    books.seed(
        stock={
            "shoe": Card({"W": Position(7, 7)}, (B, C, name(4))),
            "hat": Card({"W": Position(2, 2)}, (C,)),
        },
        operations={B: LAPSING, C: other},
        due={(NOW - 7, "h", (C,)), (NOW, "h", (B,)), (NOW + 1, "h", (name(4),)), (NOW, "p", (name(5),))},
    )
    c, b = lapse(other, 2), lapse(LAPSING, 3)
    hold = Hold((("shoe", "W", 6), ("hat", "W", 1)), created=4, changed=4, created_ms=NOW)
    assert books.one(reserve(A, hold)) == 4
    books.expect(
        seq=4,
        stock={
            "shoe": Card({"W": Position(7, 7)}, (name(4), A)),
            "hat": Card({"W": Position(2, 1)}, (A,)),
        },
        operations={A: hold, B: b, C: c},
        due={
            (LATER, "p", (C, B)),
            (NOW + 1, "h", (name(4),)),
            (NOW, "p", (name(5),)),
            (NOW + 60_000, "h", (A,)),
        },
        log=[(4, [Resolved(EXPIRE, C, c), Resolved(EXPIRE, B, b), Reserved(A, hold)])],
    )


def test_what_lapses_in_part_is_given_back_too(books: Books) -> None:
    """Of a hold that was committed in part only what is still held comes back."""
    before = Hold((("shoe", "W", 5),), deadline_ms=NOW, progress=((2, 3, 0, 0),))
    books.seed(
        stock={"shoe": Card({"W": Position(5, 2, 3)}, (B,))}, operations={B: before}, due={(NOW, "h", (B,))}
    )
    after = before._replace(state=COMMITTED, held_end=EXPIRE, changed=2, progress=((0, 3, 0, 0),))
    hold = Hold((("shoe", "W", 2),), created=3, changed=3, created_ms=NOW)
    assert books.one(reserve(A, hold)) == 3
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5, 2, 3)}, (B, A))},
        operations={A: hold, B: after},
        due={(NOW + 60_000, "h", (A,))},
        log=[(3, [Resolved(EXPIRE, B, after, ((-2, 0, 0),)), Reserved(A, hold)])],
    )


def test_a_shortage_after_what_has_lapsed_is_given_back(books: Books) -> None:
    """Refused with what there is now; what was given back stays given back. It happens once a call, and not
    for a request that is refused for another reason.
    """
    books.seed(
        stock={"shoe": Card({"W": Position(5, 5)}, (B,))}, operations={B: LAPSING}, due={(NOW, "h", (B,))}
    )
    lines = [
        (("hat", "W", 6), ("shoe", "W", 6)),
        (("shoe", "X", 6), ("shoe", "W", 6)),
        (("shoe", "W", 6),),
        (("shoe", "W", 5),),
        (("shoe", "W", 1),),
    ]
    after = lapse(LAPSING, 2)
    hold = Hold((("shoe", "W", 5),), created=3, changed=3, created_ms=NOW)
    answers = books.batch(*(reserve(name(20 + at), Hold(each)) for at, each in enumerate(lines)))
    assert answers == [
        [b"sku_not_found", 1, 0],
        [b"not_stocked", 1, 0],
        [b"insufficient_stock", 2, 0, 5, 6],
        3,
        [b"insufficient_stock", 3, 0, 0, 1],
    ]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5, 5)}, (name(23),))},
        operations={B: after, name(23): hold},
        due={(LATER, "p", (B,)), (NOW + 60_000, "h", (name(23),))},
        log=[(3, [Resolved(EXPIRE, B, after), Reserved(name(23), hold)])],
    )


def test_a_replay_of_what_lapsed_in_this_call(books: Books) -> None:
    """A repeat of the reserve of a hold that an earlier request gave back sees its record as it is now."""
    books.seed(
        stock={"shoe": Card({"W": Position(5, 5)}, (B,))}, operations={B: LAPSING}, due={(NOW, "h", (B,))}
    )
    after = lapse(LAPSING, 2)
    hold = Hold((("shoe", "W", 2),), created=3, changed=3, created_ms=NOW)
    answers = books.batch(reserve(B, LAPSING), reserve(A, hold), reserve(B, LAPSING), reserve(A, hold))
    assert answers == [
        [b"replayed", LAPSING.packed(B)],
        3,
        [b"replayed", after.packed(B)],
        [b"replayed", hold.packed(A)],
    ]
    books.expect(
        seq=3,
        stock={"shoe": Card({"W": Position(5, 2)}, (A,))},
        operations={A: hold, B: after},
        due={(LATER, "p", (B,)), (NOW + 60_000, "h", (A,))},
        log=[(3, [Resolved(EXPIRE, B, after), Reserved(A, hold)])],
    )


def test_other_refusals_give_nothing_back(books: Books) -> None:
    """An unknown SKU or place is told at once, whatever has lapsed."""
    stock = {"shoe": Card({"W": Position(5, 5)}, (B,))}
    books.seed(stock=stock, operations={B: LAPSING}, due={(NOW, "h", (B,))})
    asked = [Hold((("hat", "W", 6), ("shoe", "W", 6))), Hold((("shoe", "X", 6), ("shoe", "W", 6)))]
    answers = [[b"sku_not_found", 1, 0], [b"not_stocked", 1, 0]]
    assert books.batch(*(reserve(A, each) for each in asked)) == answers
    books.expect(stock=stock, operations={B: LAPSING}, due={(NOW, "h", (B,))})


def test_only_the_entry_of_what_did_not_lapse(books: Books) -> None:
    """An entry whose holds were extended or are gone goes; the request is refused."""
    hold = LAPSING._replace(deadline_ms=NOW + 1)
    stock = {"shoe": Card({"W": Position(5, 5)}, (B,))}
    books.seed(stock=stock, operations={B: hold}, due={(NOW, "h", (B, C)), (NOW + 1, "h", (B,))})
    assert books.one(reserve(A, Hold((("shoe", "W", 1),)))) == [b"insufficient_stock", 1, 0, 0, 1]
    books.expect(stock=stock, operations={B: hold}, due={(NOW + 1, "h", (B,))})


def test_more_has_lapsed_than_one_call_gives_back(books: Books) -> None:
    """512 at a time: who is short meanwhile is told to repeat, and gets it then."""
    names = tuple(name(1000 + number) for number in range(514))
    one = Hold((("shoe", "W", 1),), deadline_ms=NOW - 1)
    holds = {each: one._replace(blocks=(at // 16,)) for at, each in enumerate(names)}
    blocks = {at: names[at * 16 : at * 16 + 16] for at in range(32)}
    positions = {"W": Position(514, 514), "S": Position(9)}
    books.seed(
        stock={"shoe": Card(positions, names[512:], block=32, blocks=blocks)},
        operations=holds,
        due={(NOW - 2, "h", names[:500]), (NOW - 1, "h", names[500:512]), (NOW, "h", names[512:])},
    )
    short, fitting = Hold((("shoe", "W", 514),)), Hold((("shoe", "S", 1),), created_ms=NOW, blocks=(32,))
    answers = books.batch(reserve(A, short), reserve(B, fitting), reserve(C, short))
    assert answers == [[b"overdue"], 514, [b"overdue"]]
    done = {each: lapse(holds[each], 2 + at) for at, each in enumerate(names[:512])}
    fitting = fitting._replace(created=514, changed=514)
    first = (514, [*(Resolved(EXPIRE, each, hold) for each, hold in done.items()), Reserved(B, fitting)])
    books.expect(
        seq=514,
        stock={
            "shoe": Card({"W": Position(514, 2), "S": Position(9, 1)}, (*names[512:], B), block=32, first=32)
        },
        operations=holds | done | {B: fitting},
        due={(LATER, "p", names[:512]), (NOW, "h", names[512:]), (NOW + 60_000, "h", (B,))},
        log=[first],
    )
    last = {each: lapse(holds[each], 515 + at) for at, each in enumerate(names[512:])}
    held = short._replace(created=517, changed=517, created_ms=NOW, blocks=(32,))
    assert books.one(reserve(A, short)) == 517
    books.expect(
        seq=517,
        stock={"shoe": Card({"W": Position(514, 514), "S": Position(9, 1)}, (B, A), block=32, first=32)},
        operations=holds | done | last | {B: fitting, A: held},
        due={
            (LATER, "p", names[:512]),
            (LATER, "p", names[512:]),
            (NOW + 60_000, "h", (B,)),
            (NOW + 60_000, "h", (A,)),
        },
        log=[
            first,
            (517, [*(Resolved(EXPIRE, each, hold) for each, hold in last.items()), Reserved(A, held)]),
        ],
    )


def test_what_fits_needs_no_sweep(books: Books) -> None:
    """Lapsed holds delay nobody whose request fits beside them."""
    due = {(NOW - 1, "h", (B,))}
    books.seed(stock={"shoe": Card({"W": Position(5)})}, due=due)
    hold = Hold((("shoe", "W", 5),), **FRESH)
    assert books.one(reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(5, 5)}, (A,))},
        operations={A: hold},
        due=due | {(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


def test_nothing_of_a_call_reaches_the_next(books: Books) -> None:
    """After a call with cards of every kind, one with few plain ones in another order."""
    kinds = {
        "narrow": Card({"W": Position(90), "S": Position(90)}, (C,)),
        "wide": Card({"W": Position(90), "S": Position(2**40)}, (C,)),
        "policy": Card({"W": Position(90, backorder_limit=9), "S": Position(90)}, (C,)),
        "full": Card({"W": Position(90), "S": Position(90)}, tuple(name(100 + at) for at in range(16))),
    }
    seed = {f"{kind}-{at}": card for at in range(15) for kind, card in kinds.items()}
    books.seed(stock=seed)
    lines = tuple((sku, place, 1) for sku in seed for place in ("S", "W"))
    assert books.batch(reserve(A, Hold(lines)), reserve(B, Hold(lines[::-1]))) == [2, 3]
    stock = {
        sku: Card({"W": Position(5), "S": Position(6)}) for sku in ("policy-0", "wide-0", "hat", "full-1")
    }
    books.seed(stock=stock)
    asked = (("full-1", "S", 6), ("hat", "W", 5), ("hat", "S", 2), ("wide-0", "W", 1))
    short = Hold((("policy-0", "W", 6),))
    hold = Hold(asked, **FRESH)
    assert books.batch(reserve(B, short), reserve(A, hold)) == [[b"insufficient_stock", 1, 0, 5, 6], 2]
    stock |= {
        "full-1": Card({"W": Position(5), "S": Position(6, 6)}, (A,)),
        "hat": Card({"W": Position(5, 5), "S": Position(6, 2)}, (A,)),
        "wide-0": Card({"W": Position(5, 1), "S": Position(6)}, (A,)),
    }
    books.expect(
        seq=2,
        stock=stock,
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


def test_the_largest_basket(books: Books) -> None:
    """200 lines of a thousand million units each, over 200 SKUs, in one call."""
    lines = tuple((f"sku-{number}", f"place.{number % 7}", 10**9) for number in range(200))
    books.seed(stock={sku: Card({place: Position(10**15)}) for sku, place, _ in lines})
    hold = Hold(lines, **FRESH)
    assert books.one(reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock={sku: Card({place: Position(10**15, 10**9)}, (A,)) for sku, place, _ in lines},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


@pytest.mark.parametrize(
    "sku",
    ["{1}", "a:b", "a/b", "100%", "été", "靴", "=", "W=", "*", "..", " ", "shoe=", "😀" * 64],
)
def test_odd_names(books: Books, sku: str) -> None:
    """A name of any text holds its own stock and no other's."""
    stock = {"shoe": Card({"W": Position(5)}), "a": Card({"b": Position(1)})}
    books.seed(stock=stock | {sku: Card({"W": Position(1)})})
    hold = Hold(((sku, "W", 1),), state=HELD, **FRESH)
    assert books.one(reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock=stock | {sku: Card({"W": Position(1, 1)}, (A,))},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


def test_a_server_without_a_data_set(books: Books) -> None:
    """Nothing is written where there is no data set, and the answer begins with its own code."""
    books.raw("DEL", "inv:{0}:meta")
    with pytest.raises(ScriptError, match=r"^NODATASET "):
        books.one(reserve(A, Hold((("shoe", "W", 1),))))
    assert books.read() == {}


@pytest.mark.parametrize(
    ("state", "is_same"), [(HELD, True), (COMMITTED, True), (RELEASED, True), (PENDING, False)]
)
def test_a_basket_that_lies_apart(books: Books, state: int, is_same: bool) -> None:
    """One whose lines lie in this partition by now is repeated here; one whose parts are sought is not."""
    hold = Hold((("shoe", "W", 1),))
    home = basket(hold.lines, state)
    books.seed(operations={A: home})
    answer = books.one(reserve(A, hold))
    assert answer == ([b"replayed", home.packed(A)] if is_same else [b"idempotency_mismatch"])


def test_units_that_could_make_way(books: Books) -> None:
    """Where a position is short and some of its units float, the caller is told to have places chosen."""
    stock = {
        "shoe": Card({"W": Position(2, 1, floating=1), "S": Position(2, 2)}, (B,)),
        "hat": Card({"W": Position(1, 1, floating=1)}, (C,)),
    }
    books.seed(stock=stock)
    asked = [
        (("shoe", "W", 2),),
        (("hat", "W", 1),),
        (("shoe", "W", 1), ("shoe", "S", 1)),
        (("shoe", "W", 2), ("shoe", "S", 1)),
        (("shoe", "W", 2), ("coat", "W", 1)),
    ]
    floating = [b"floating"]
    assert books.batch(*(reserve(A, Hold(lines)) for lines in asked)) == [
        floating,
        floating,
        [b"insufficient_stock", 1, 1, 0, 1],
        floating,
        [b"sku_not_found", 1, 1],
    ]
    books.expect(stock=stock)


def test_the_last_units_of_a_full_card(books: Books) -> None:
    """Also where somebody before was short: the claim goes to the next block."""
    names = tuple(name(100 + number) for number in range(40))
    holds = {each: Hold((("shoe", "W", 1),)) for each in names}
    for count in range(1, 40):
        books.seed(
            stock={
                "shoe": Card({"W": Position(count + 1, count)}, names[:count]),
                "hat": Card({"W": Position(1)}),
            },
            operations={each: holds[each] for each in names[:count]},
        )
        asked = reserve(A, Hold((("hat", "W", 2),))), reserve(B, Hold((("shoe", "W", 1),)))
        assert books.batch(*asked) == [[b"insufficient_stock", 1, 0, 1, 2], 2]


@pytest.mark.parametrize("low_stock", [0, 1])
def test_a_card_of_very_many_places(books: Books, low_stock: int) -> None:
    """Behind the first 256 as well, for the first line of a SKU and for others."""
    positions = {f"L{number}": Position(number + 1, low_stock=low_stock) for number in range(600)}
    books.seed(stock={"shoe": Card(positions)})
    lines = (("shoe", "L599", 600), ("shoe", "L299", 300), ("shoe", "L9", 10))
    hold = Hold(lines, **FRESH)
    more = Hold((("shoe", "L599", 1),))
    assert books.batch(reserve(A, hold), reserve(B, more)) == [2, [b"insufficient_stock", 2, 0, 0, 1]]
    held = {f"L{number}": positions[f"L{number}"]._replace(held=number + 1) for number in (599, 299, 9)}
    books.expect(
        seq=2,
        stock={"shoe": Card({**positions, **held}, (A,))},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


def test_a_plain_reserve_beside_those_who_wait(books: Books) -> None:
    """Units that are promised of inbound goods take nothing of what is there."""
    position = Position(9, 7, inbound=9, preordered=2)
    books.seed(stock={"shoe": Card({"W": position, "S": position})})
    lines = (("shoe", "W", 4), ("shoe", "S", 4))
    assert books.one(reserve(A, Hold((("shoe", "W", 5),)))) == [b"insufficient_stock", 1, 0, 4, 5]
    assert books.one(reserve(A, Hold(lines))) == 2
    assert books.one(reserve(B, Hold((("shoe", "S", 1),)))) == [b"insufficient_stock", 2, 0, 0, 1]
