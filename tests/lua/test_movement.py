import pytest

from tests.lua.books import (
    COMMITTED,
    NOW,
    RELEASE,
    RELEASED,
    RETENTION_MS,
    Books,
    Card,
    Divided,
    Fact,
    Hold,
    Memory,
    Moved,
    Position,
    Resolved,
    choose,
    move,
    name,
    page_of,
    part,
    part_name,
    read_card,
    resolve,
)

M, N, Q, P = (name(number) for number in range(1, 5))
A, B, C, D = (name(number) for number in range(11, 15))
MARK = b"content1"
PLACES = {"W": b"settings", "S": b"settings"}
LATER = NOW + RETENTION_MS


def test_the_first_goods_of_a_sku(books: Books) -> None:
    """Card, count of the place, memory, event: all of a first receipt."""
    books.seed(locations=PLACES)
    fact = Fact(MARK, 2, 5, 5, effect=5)
    assert books.one(move(M, 5)) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(5)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, 5, "W", "shoe")])],
        locations=PLACES,
        stocked={"W": 1},
    )


def test_many_facts_of_one_call(books: Books) -> None:
    """Each sees those before it; new places of a SKU stand behind the others in the order they came."""
    books.seed(locations=PLACES, stock={"shoe": Card({"W": Position(1)})}, stocked={"W": 40})
    answers = books.batch(
        move(M, 4),
        move(N, -7, "S"),
        move(Q, 2, "S"),
        move(P, 1, "S", "hat"),
        move(A, 1, "W", "hat"),
        move(B, 1, "X", "hat"),
        move(C, -1, "X", "shoe"),
    )
    facts = {
        M: Fact(MARK, 2, 5, 5, effect=4),
        N: Fact(MARK, 3, -7, 0, effect=-7),
        Q: Fact(MARK, 4, -5, 0, effect=2),
        P: Fact(MARK, 5, 1, 1, effect=1),
        A: Fact(MARK, 6, 1, 1, effect=1),
    }
    refused = [b"location_not_found", 6]
    assert answers == [*(fact.result for fact in facts.values()), refused, refused]
    books.expect(
        seq=6,
        stock={
            "shoe": Card({"W": Position(5), "S": Position(-5)}),
            "hat": Card({"S": Position(1), "W": Position(1)}),
        },
        operations=facts,
        due={(LATER, "p", tuple(facts))},
        log=[
            (
                6,
                [
                    Moved(M, facts[M], 4, "W", "shoe"),
                    Moved(N, facts[N], -7, "S", "shoe"),
                    Moved(Q, facts[Q], 2, "S", "shoe"),
                    Moved(P, facts[P], 1, "S", "hat"),
                    Moved(A, facts[A], 1, "W", "hat"),
                ],
            )
        ],
        locations=PLACES,
        stocked={"W": 41, "S": 2},
    )


@pytest.mark.parametrize("form", [0, 1, 2, 3])
def test_a_place_is_added_to_any_card(books: Books, form: int) -> None:
    """The new place has counters of the card's form; the others, claims and blocks stay."""
    before = Card({"W": Position(5, 4, 1)}, (A, B), block=5, first=3, blocks={3: (C,)}, form=form)
    books.seed(locations=PLACES, stock={"shoe": before}, stocked={"W": 1})
    fact = Fact(MARK, 2, 7, 7, effect=7)
    assert books.one(move(M, 7, "S")) == fact.result
    books.expect(
        seq=2,
        stock={"shoe": before._replace(positions={"W": Position(5, 4, 1), "S": Position(7)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, 7, "S", "shoe")])],
        locations=PLACES,
        stocked={"W": 1, "S": 1},
    )


def test_the_same_fact_again(books: Books) -> None:
    """In one call and later: applied once; other content, or another kind of id, mismatches."""
    hold, memory = Hold((("shoe", "W", 1),)), Memory(2, MARK, A, b"tail")
    books.seed(locations=PLACES, operations={A: hold, B: memory})
    fact = Fact(MARK, 2, 5, 5, effect=5)
    mismatch = [b"idempotency_mismatch"]
    asked = [move(M, 5), move(M, 5), move(M, 6, fingerprint=b"content2")]
    assert books.batch(*asked) == [fact.result, [b"replayed", fact.result], mismatch]
    for changed in range(8):
        other = bytearray(MARK)
        other[changed] ^= 0x80
        assert books.one(move(M, 5, "gone", fingerprint=bytes(other))) == mismatch
    later = [move(M, 5, "gone"), move(A, 5, fingerprint=hold.packed(A)[1:9]), move(B, 5)]
    assert books.batch(*later) == [[b"replayed", fact.result], mismatch, mismatch]
    assert books.one(move(B, 5, fingerprint=memory.packed()[1:9])) == mismatch
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(5)})},
        operations={A: hold, B: memory, M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, 5, "W", "shoe")])],
        locations=PLACES,
        stocked={"W": 1},
    )


@pytest.mark.parametrize(
    ("before", "quantity", "on_hand"),
    [
        (10**15 - 10**9, 10**9, 10**15),
        (10**15 - 10**9 + 1, 10**9, None),
        (10**15, 1, None),
        (-(10**15) + 10**9, -(10**9), -(10**15)),
        (-(10**15) + 10**9 - 1, -(10**9), None),
        (-(10**15), -1, None),
        (10**15, -1, 10**15 - 1),
        (2**31 - 1, 1, 2**31),
        (2**31, -1, 2**31 - 1),
        (-(2**31), -1, -(2**31) - 1),
        (-(2**31) - 1, 1, -(2**31)),
        (-5, -5, -10),
        (-5, 5, 0),
    ],
)
@pytest.mark.parametrize("policy", [Position(), Position(safety_stock=3, low_stock=2)])
def test_the_range_of_on_hand(
    books: Books, before: int, quantity: int, on_hand: int | None, policy: Position
) -> None:
    """Up to 10^15 either way, exactly; a card whose counters once needed seven bytes keeps them."""
    position = policy._replace(on_hand=before)
    seed = {"shoe": Card({"W": position})}
    books.seed(locations=PLACES, stock=seed, stocked={"W": 1})
    answer = books.one(move(M, quantity))
    if on_hand is None:
        assert answer == [b"quantity_out_of_range", 1, before]
        books.expect(stock=seed, locations=PLACES, stocked={"W": 1})
        return
    fact = Fact(MARK, 2, on_hand, max(0, on_hand - policy.safety_stock), effect=quantity)
    assert answer == fact.result
    is_wide = not all(-(2**31) <= each < 2**31 for each in (before, on_hand))
    form = (2 if any(policy) else 0) + is_wide
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": position._replace(on_hand=on_hand)}, form=form)},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, quantity, "W", "shoe")])],
        locations=PLACES,
        stocked={"W": 1},
    )


def test_refusals_in_order(books: Books) -> None:
    """Replay before unknown place before the range; a place that was refused is not made."""
    full = {"shoe": Card({"X": Position(10**15)})}
    books.seed(locations=PLACES, stock=full)
    asked = [move(M, 1, "X"), move(N, 1, "X"), move(Q, 1, "Y"), move(P, 1, "X", "hat")]
    assert books.batch(*asked) == [[b"location_not_found", 1]] * 4
    assert books.one(move(M, 10**15 + 1)) == [b"quantity_out_of_range", 1, 0]
    books.expect(locations=PLACES, stock=full)


# ---------------------------------------------------------------- uncovered promises

HOLDS = {
    A: Hold((("hat", "W", 9), ("shoe", "S", 9), ("shoe", "W", 2))),
    B: Hold((("shoe", "W", 3),), progress=((1, 1, 0, 1),)),
    C: Hold((("shoe", "W", 4),), COMMITTED),
    D: Hold((("shoe", "S", 7), ("hat", "W", 1))),
}
CLAIMS = {
    # From the oldest promise to the newest, C A B, as they may stand.
    "on the card": Card({}, (C, A, D, B)),
    "in one block": Card({}, (), 4, 3, {3: (C, A, D, B)}),
    "in two blocks": Card({}, (), 9, 3, {3: (C,), 7: (A, B, D)}),
    "here and there": Card({}, (D, B), 9, 0, {3: (C,), 8: (A,)}),
    "around a place": Card({}, (B,), 9, 0, {0: (C,), 5: (D, A)}),
}


@pytest.mark.parametrize("claims", CLAIMS)
@pytest.mark.parametrize(
    ("quantity", "uncovered"),
    [
        (1, ()),
        (-1, ((B, 1),)),
        (-2, ((B, 2),)),
        (-3, ((B, 2), (A, 1))),
        (-4, ((B, 2), (A, 2))),
        (-5, ((B, 2), (A, 2), (C, 1))),
        (-8, ((B, 2), (A, 2), (C, 4))),
        (-9, ((B, 2), (A, 2), (C, 4))),
    ],
)
def test_the_promises_that_a_fact_breaks(
    books: Books, claims: str, quantity: int, uncovered: tuple[tuple[bytes, int], ...]
) -> None:
    """Newest promise first, each by what it still claims at this very position, up to what is short."""
    before = CLAIMS[claims]._replace(positions={"W": Position(8, 3, 5), "S": Position(16, 16)})
    books.seed(seq=9, locations=PLACES, stock={"shoe": before}, operations=HOLDS, stocked={"W": 1})
    fact = Fact(MARK, 10, 8 + quantity, max(0, quantity), uncovered, {A: "hat"}, effect=quantity)
    assert books.one(move(M, quantity)) == fact.result
    positions = {"W": Position(8 + quantity, 3, 5), "S": Position(16, 16)}
    books.expect(
        seq=10,
        locations=PLACES,
        stock={"shoe": before._replace(positions=positions)},
        operations=HOLDS | {M: fact},
        due={(LATER, "p", (M,))},
        log=[(10, [Moved(M, fact, quantity, "W", "shoe")])],
        stocked={"W": 1},
    )


@pytest.mark.parametrize(
    ("position", "quantity", "short"),
    [
        (Position(10, 4), -6, 0),
        (Position(10, 4), -7, 1),
        (Position(10, 4, unsellable=2), -5, 1),
        (Position(10, 4, backorder_limit=3), -9, 0),
        (Position(10, 4, backorder_limit=3), -10, 1),
        (Position(10, 4, safety_stock=5, fenced=5), -6, 0),
        (Position(1, 4), 1, 0),
        (Position(2, 0, 4), -1, 3),
        (Position(2, 4, inbound=9, preordered=2), -1, 1),
    ],
)
def test_when_a_fact_breaks_a_promise(books: Books, position: Position, quantity: int, short: int) -> None:
    """Only units that are promised and not there: what is withheld from sale covers promises as well, and
    what is promised of inbound goods is not missing.
    """
    hold, other = Hold((("shoe", "W", 4),)), Hold((("shoe", "Wide", 4),))
    wide = Position(4, 4)
    books.seed(
        locations=PLACES,
        stock={"shoe": Card({"Wide": wide, "W": position}, (A, B))},
        operations={A: hold, B: other},
    )
    promised = position.held + position.allocated - position.preordered
    free = position.on_hand + quantity - promised - position.unsellable
    available = max(free - position.safety_stock - position.fenced, -position.backorder_limit)
    fact = Fact(
        MARK, 2, position.on_hand + quantity, available, ((A, short),) if short else (), effect=quantity
    )
    assert books.one(move(M, quantity)) == fact.result
    after = position._replace(on_hand=position.on_hand + quantity)
    books.expect(
        seq=2,
        locations=PLACES,
        stock={"shoe": Card({"Wide": wide, "W": after}, (A, B))},
        operations={A: hold, B: other, M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, quantity, "W", "shoe")])],
    )


def test_a_part_of_a_basket_with_a_high_id(books: Books) -> None:
    """Its basket is named, also where the part's id begins anew behind the highest."""
    home = b"basket123\xff\xff\xff"
    own = part_name(home)
    assert own < home
    books.seed(
        locations=PLACES,
        stock={"shoe": Card({"W": Position(2, 2)}, (own,))},
        operations={own: part((("shoe", "W", 2),))},
    )
    assert books.one(move(M, -1)) == Fact(MARK, 2, 1, 0, ((home, 1),), effect=-1).result


def test_claims_in_very_many_blocks(books: Books) -> None:
    """More than one command reads: none is missed."""
    names = tuple(name(100 + number) for number in range(1003))
    holds = {each: Hold((("shoe", "W", 1),), blocks=(at,)) for at, each in enumerate(names)}
    blocks = {at: (each,) for at, each in enumerate(names)}
    books.seed(
        locations=PLACES,
        stock={"shoe": Card({"W": Position(1003, 1003)}, (), block=1003, blocks=blocks)},
        operations=holds,
    )
    uncovered = tuple((each, 1) for each in reversed(names[-100:]))
    assert books.one(move(M, -1003)) == Fact(MARK, 2, 0, 0, uncovered, effect=-1003).result


@pytest.mark.parametrize(("limit", "shown"), [(10**15, 10**9), (10**15 - 1, 2)])
def test_what_is_shown_of_what_never_runs_out(books: Books, limit: int, shown: int) -> None:
    """As many as fit in one line, whatever is there; a limit that is only high is one."""
    position = Position(5, 4, backorder_limit=limit)
    books.seed(locations=PLACES, stock={"shoe": Card({"W": position}, (D,))})
    assert books.one(move(M, 1)) == Fact(MARK, 2, 6, shown, effect=1).result


def test_claims_that_lead_nowhere(books: Books) -> None:
    """A holder that is gone, or has nothing open, or has other lines, or is none, is passed over."""
    holds: dict[bytes, Hold | Fact] = {
        A: Hold((("shoe", "W", 4),), RELEASED),
        B: Hold((("shoe", "S", 4), ("hat", "W", 4))),
        C: Hold((("shoe", "W", 1),)),
        N: Fact(MARK, 1, 1, 1),
    }
    before = Card({"W": Position(1, 1)}, (C, D, B, N, A))
    books.seed(locations=PLACES, stock={"shoe": before}, operations=holds)
    fact = Fact(MARK, 2, 0, 0, ((C, 1),), effect=-1)
    assert books.one(move(M, -1)) == fact.result
    books.expect(
        seq=2,
        locations=PLACES,
        stock={"shoe": before._replace(positions={"W": Position(0, 1)})},
        operations=holds | {M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, -1, "W", "shoe")])],
    )


def test_a_fact_that_breaks_very_many_promises(books: Books) -> None:
    """The hundred newest are named, by each fact of a call."""
    names = tuple(name(100 + number) for number in range(3700))
    holds = {each: Hold((("shoe", "W", 1),), blocks=(at // 16,)) for at, each in enumerate(names)}
    blocks = {at: names[at * 16 : at * 16 + 16] for at in range(231)}
    before = Card({"W": Position(3700, 3700)}, names[3696:], block=231, blocks=blocks)
    books.seed(locations=PLACES, stock={"shoe": before}, operations=holds)
    results = books.batch(move(M, -3700), move(N, -1))
    uncovered = tuple((each, 1) for each in reversed(names[-100:]))
    facts = {
        M: Fact(MARK, 2, 0, 0, uncovered, effect=-3700),
        N: Fact(MARK, 3, -1, 0, uncovered, effect=-1),
    }
    assert results == [fact.result for fact in facts.values()]
    books.expect(
        seq=3,
        locations=PLACES,
        stock={"shoe": before._replace(positions={"W": Position(-1, 3700)})},
        operations={**holds, **facts},
        due={(LATER, "p", (M, N))},
        log=[(3, [Moved(M, facts[M], -3700, "W", "shoe"), Moved(N, facts[N], -1, "W", "shoe")])],
    )


# ---------------------------------------------------------------- division

STORES = [f"store-{number}" for number in range(40)]
STORE_PLACES = dict.fromkeys(STORES, b"settings")


def pages_of(card: Card, claims: dict[str, tuple[bytes, ...]]) -> Divided:
    """A card's places on their pages, in their order, with the claims that each location has."""
    pages: dict[int, Card] = {}
    for location, position in card.positions.items():
        page = pages.get(page_of(location), Card({}, form=card.form))
        known = (*page.claims, *(each for each in claims.get(location, ()) if each not in page.claims))
        pages[page_of(location)] = page._replace(
            positions={**page.positions, location: position}, claims=known
        )
    return Divided(pages)


def test_the_last_place_of_a_card(books: Books) -> None:
    """32 places stand on one card."""
    before = Card({store: Position(at) for at, store in enumerate(STORES[:31])}, (A,))
    books.seed(locations=STORE_PLACES, stock={"shoe": before})
    fact = Fact(MARK, 2, 5, 5, effect=5)
    assert books.one(move(M, 5, STORES[31])) == fact.result
    books.expect(
        seq=2,
        locations=STORE_PLACES,
        stock={"shoe": before._replace(positions={**before.positions, STORES[31]: Position(5)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, 5, STORES[31], "shoe")])],
        stocked={STORES[31]: 1},
    )


@pytest.mark.parametrize("form", [0, 1, 2, 3])
def test_the_first_place_too_many(books: Books, form: int) -> None:
    """A card of 32 places is divided: each goes to its page with its counters and the claims that have
    open units there, in the order of the promises. Records stay as they are.
    """
    holds = {
        A: Hold((("shoe", "store-1", 1), ("hat", "store-2", 1), ("shoe", "store-3", 1)), blocks=(7, 0, 7)),
        B: Hold((("shoe", "store-1", 1),), COMMITTED, blocks=(9,)),
        C: Hold((("shoe", "store-1", 1), ("shoe", "store-4", 1)), progress=((0, 0, 1, 0), (0, 1, 0, 0))),
        D: Hold((("shoe", "store-3", 1), ("shoe", "store-1", 1)), blocks=(8, 8)),
        N: Hold((("hat", "store-1", 1),)),
        Q: Fact(MARK, 1, 1, 1),
    }
    before = Card(
        {store: Position(at, at % 3, at % 2, at % 5) for at, store in enumerate(STORES[:32])},
        (B, P),
        block=9,
        first=6,
        blocks={6: (C, Q), 7: (A, N), 8: (D,)},
        form=form,
    )
    if form > 1:
        policy = before.positions["store-9"]._replace(backorder_limit=3, low_stock=1)
        before = before._replace(positions={**before.positions, "store-9": policy})
    books.seed(
        locations=STORE_PLACES, stock={"shoe": before, "hat": Card({"W": Position(1)})}, operations=holds
    )
    fact = Fact(MARK, 2, 5, 5, effect=5)
    assert books.one(move(M, 5, "store-32")) == fact.result
    after = before._replace(positions={**before.positions, "store-32": Position(5)})
    claims = {"store-1": (A, D, B), "store-3": (A, D), "store-4": (C,)}
    divided = pages_of(after, claims)
    new = divided.pages[page_of("store-32")]
    if len(new.positions) == 1:
        # A page that was not needed before begins in the smallest form.
        divided = Divided({**divided.pages, page_of("store-32"): new._replace(form=0)})
    books.expect(
        seq=2,
        locations=STORE_PLACES,
        stock={"shoe": divided, "hat": Card({"W": Position(1)})},
        operations={**holds, M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, 5, "store-32", "shoe")])],
        stocked={"store-32": 1},
    )


def test_places_that_share_a_page(books: Books) -> None:
    """Their counters stand side by side, a reservation of both has one claim there; more than 16 claims
    of a page begin at block 0 again, and who ends finds its claim by search.
    """
    twins = [f"{letter}{digit}" for letter in "Ab" for digit in "89"]
    twins = [twin for twin in ("W", "b9", "y0", "A8", "Z1", *twins) if page_of(twin) == page_of("W")]
    assert twins[:3] == ["W", "b9", "y0"]
    names = tuple(name(100 + number) for number in range(40))
    lines = (("shoe", "b9", 1), ("shoe", "W", 1))
    holds = {each: Hold(lines, blocks=(at // 16 + 5,) * 2) for at, each in enumerate(names)}
    positions = {
        "W": Position(50, 40),
        **{store: Position(1) for store in STORES[:29]},
        "b9": Position(50, 40),
    }
    positions["y0"] = Position(7)
    assert len(positions) == 32
    blocks = {5: names[:16], 6: names[16:32]}
    before = Card(positions, names[32:], block=7, first=5, blocks=blocks)
    places = {**STORE_PLACES, "W": b"", "b9": b"", "y0": b""}
    books.seed(locations=places, stock={"shoe": before}, operations=holds)
    fact = Fact(MARK, 2, 5, 5, effect=5)
    assert books.one(move(M, 5, "store-35")) == fact.result
    divided = pages_of(before._replace(positions={**positions, "store-35": Position(5)}), {})
    page = page_of("W")
    shared = divided.pages[page]
    assert list(shared.positions) == ["W", "b9", "y0"]
    shared = shared._replace(claims=names[32:], block=2, blocks={0: names[:16], 1: names[16:32]})
    pages = {**divided.pages, page: shared}
    state = {
        "locations": places,
        "operations": {**holds, M: fact},
        "due": {(LATER, "p", (M,))},
        "stocked": {"store-35": 1},
    }
    log = [(2, [Moved(M, fact, 5, "store-35", "shoe")])]
    books.expect(seq=2, stock={"shoe": Divided(pages)}, log=log, **state)  # type: ignore[arg-type]
    done = {
        each: holds[each]._replace(
            state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=seq, deadline_ms=LATER
        )
        for seq, each in ((3, names[0]), (4, names[20]), (5, names[39]))
    }
    assert books.batch(*(resolve("release", each) for each in done)) == [hold.tail for hold in done.values()]
    part = holds[names[1]]._replace(changed=6, progress=((0, 0, 0, 1), (1, 0, 0, 0)))
    assert books.one(resolve("release", names[1], choose((0, 1)))) == part.tail
    left = {"W": Position(50, 37), "b9": Position(50, 36), "y0": Position(7)}
    shared = Card(left, names[32:39], 2, 0, {0: names[1:16], 1: (*names[16:20], *names[21:32])})
    state["operations"] = {**holds, **done, names[1]: part, M: fact}
    state["due"] = {(LATER, "p", (M,)), (LATER, "p", tuple(done))}
    log += [
        (5, [Resolved(RELEASE, each, hold) for each, hold in done.items()]),  # type: ignore[list-item]
        (6, [Resolved(RELEASE, names[1], part, ((-1, 0, 0), (0, 0, 0)))]),  # type: ignore[list-item]
    ]
    stock = {"shoe": Divided({**pages, page: shared})}
    books.expect(seq=6, stock=stock, log=log, **state)  # type: ignore[arg-type]


def test_a_division_between_other_facts(books: Books) -> None:
    """Facts before and after it in one call find their positions, wide ones too, and the broken promises;
    what they changed on other cards is written.
    """
    hold = Hold((("shoe", "store-0", 4),), blocks=(3,))
    before = Card(
        {store: Position(9, 4 if at == 0 else 0) for at, store in enumerate(STORES[:32])}, (A,), 3, 3
    )
    others = {"hat": Card({"A": Position(1)}), "sock": Card({"A": Position(1), "B": Position(1)})}
    places = {**STORE_PLACES, "A": b"", "B": b""}
    books.seed(locations=places, stock={"shoe": before, **others}, operations={A: hold}, stocked={"A": 3})
    asked = [
        # Fact, quantity, location, SKU, then what it answers: on_hand, available.
        (name(20), 1, "A", "hat", 2, 2),
        (M, -4, "store-0", "shoe", 5, 1),
        (name(21), 2, "B", "sock", 3, 3),
        (N, 10**10, "store-1", "shoe", 10**10 + 9, 10**10 + 9),
        (name(22), 3, "A", "sock", 4, 4),
        (Q, 5, "A", "shoe", 5, 5),
        (P, -2, "store-0", "shoe", 3, 0),
        (B, 1, "store-1", "shoe", 10**10 + 10, 10**10 + 10),
        (name(23), 5, "B", "sock", 8, 8),
        (C, 3, "B", "shoe", 3, 3),
        (D, 3, "store-2", "shoe", 12, 12),
    ]
    facts = {
        each: Fact(MARK, 2 + at, on_hand, available, ((A, 1),) if each == P else (), effect=units)
        for at, (each, units, _, _, on_hand, available) in enumerate(asked)
    }
    answers = books.batch(*(move(*fact[:4]) for fact in asked))
    assert answers == [fact.result for fact in facts.values()]
    positions = {
        **before.positions,
        "store-0": Position(3, 4),
        "store-1": Position(10**10 + 10),
        "store-2": Position(12),
    }
    divided = pages_of(before._replace(positions=positions, form=1), {"store-0": (A,)})
    new = {page_of(store): Card({store: Position(count)}) for store, count in (("A", 5), ("B", 3))}
    assert not set(new) & set(divided.pages)
    books.expect(
        seq=12,
        locations=places,
        stock={
            "shoe": Divided({**divided.pages, **new}),
            "hat": Card({"A": Position(2)}),
            "sock": Card({"A": Position(4), "B": Position(8)}),
        },
        operations={A: hold, **facts},
        due={(LATER, "p", tuple(facts))},
        log=[(12, [Moved(fact[0], facts[fact[0]], *fact[1:4]) for fact in asked])],
        stocked={"A": 4, "B": 1},
    )


def test_facts_of_a_divided_sku(books: Books) -> None:
    """A place that is there, one that is new on a page that is there, one on a page that is not."""
    pages = {page_of("W"): Card({"W": Position(1, 1)}, (A,), 4, 4)}
    places = dict.fromkeys(("W", "b9", "S"), b"settings")
    hold = Hold((("shoe", "W", 1),))
    books.seed(locations=places, stock={"shoe": Divided(pages)}, operations={A: hold})
    facts = {
        M: Fact(MARK, 2, 0, 0, ((A, 1),), effect=-1),
        N: Fact(MARK, 3, 2, 2, effect=2),
        Q: Fact(MARK, 4, 3, 3, effect=3),
        P: Fact(MARK, 5, 7, 7, effect=4),
    }
    asked = [(M, -1, "W"), (N, 2, "b9"), (Q, 3, "S"), (P, 4, "S")]
    answers = books.batch(*(move(each, quantity, place) for each, quantity, place in asked))
    assert answers == [fact.result for fact in facts.values()]
    after = {
        page_of("W"): Card({"W": Position(0, 1), "b9": Position(2)}, (A,), 4, 4),
        page_of("S"): Card({"S": Position(7)}),
    }
    books.expect(
        seq=5,
        locations=places,
        stock={"shoe": Divided(after)},
        operations={A: hold, **facts},
        due={(LATER, "p", tuple(facts))},
        log=[(5, [Moved(each, facts[each], quantity, place, "shoe") for each, quantity, place in asked])],
        stocked={"b9": 1, "S": 1},
    )


def test_a_sku_that_grows_to_very_many_places(books: Books) -> None:
    """Hundreds of locations, in one call and over several: each position is there once, with its units."""
    stores = [f"shop.{number}" for number in range(600)]
    books.seed(locations=dict.fromkeys(stores, b"settings"))
    for first in range(0, 600, 120):
        books.batch(*(move(name(at), at + 1, stores[at]) for at in range(first, first + 120)))
    fields = books.read()["inv:{0}:stock"]
    assert fields.pop(b"shoe") == b"\xff\x40\0"
    found: dict[str, Position] = {}
    for field, packed in fields.items():
        card = read_card(packed)
        assert {page_of(location) for location in card.positions} == {int(field.removeprefix(b"shoe\n"))}
        found |= card.positions
    assert found == {store: Position(at + 1) for at, store in enumerate(stores)}
    stocked = books.read()["inv:{0}:stocked"]
    assert stocked == {store.encode(): b"1" for store in stores}


@pytest.mark.parametrize("sku", ["{1}", "a:b", "100%", "=", "靴", "W=", "shoe=", "😀" * 64])
def test_odd_names(books: Books, sku: str) -> None:
    """A name of any text gets stock of its own."""
    books.seed(locations=PLACES)
    fact = Fact(MARK, 2, 5, 5, effect=5)
    assert books.one(move(M, 5, sku=sku)) == fact.result
    books.expect(
        seq=2,
        stock={sku: Card({"W": Position(5)})},
        operations={M: fact},
        due={(LATER, "p", (M,))},
        log=[(2, [Moved(M, fact, 5, "W", sku)])],
        locations=PLACES,
        stocked={"W": 1},
    )
