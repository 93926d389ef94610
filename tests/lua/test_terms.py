"""Steps of reservations that a channel made, or whose places a pool chose: what fences and floats do."""

from typing import NamedTuple

import pytest

from tests.lua.books import (
    CANCEL,
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    FENCED_HERE,
    NOW,
    RELEASE,
    UNKNOWN,
    Books,
    Card,
    Carried,
    Fence,
    Fences,
    Hold,
    Position,
    carry,
    choose,
    committing,
    expire,
    extending,
    fence_field,
    follow,
    name,
    pack_terms,
    pack_version,
    part,
    read_card,
    resolve,
)

OTHER = Fence("app", 2, 1)
WEB = pack_terms("web")
HERE = fence_field("shoe", "W")


class Case(NamedTuple):
    """Units of the fence before a step; the step's verb and what is its own; then on_hand, held, allocated,
    remaining and used after it.
    """

    fence: tuple[int, int]
    verb: str
    own: bytes
    after: tuple[int, int, int, int, int]
    state: str = "held"


ALL, TWO = choose(), choose((0, 2))
CASES = [
    # Five units are held, of which the fence has so many.
    Case((1, 5), "release", ALL, (20, 0, 0, 6, 0)),
    Case((1, 5), "release", TWO, (20, 3, 0, 3, 3)),
    Case((0, 3), "release", ALL, (20, 0, 0, 3, 0)),
    Case((0, 3), "release", TWO, (20, 3, 0, 2, 1)),
    Case((4, 0), "release", ALL, (20, 0, 0, 4, 0)),
    Case((1, 5), "extend", extending(90_000), (20, 5, 0, 1, 5)),
    Case((1, 5), "commit", committing(), (20, 0, 5, 1, 5)),
    Case((1, 5), "commit", committing((0, 2)), (20, 0, 2, 4, 2)),
    Case((1, 5), "commit", committing((0, 2), keep=1), (20, 3, 2, 1, 5)),
    Case((1, 5), "commit", committing(fulfil=1), (15, 0, 0, 1, 0)),
    Case((1, 5), "commit", committing((0, 2), fulfil=1), (18, 0, 0, 4, 0)),
    Case((0, 3), "commit", committing((0, 2), fulfil=1), (18, 0, 0, 1, 0)),
    Case((0, 1), "commit", committing((0, 2), fulfil=1), (18, 0, 0, 0, 0)),
    Case((1, 5), "commit", committing((0, 2), fulfil=1, keep=1), (18, 3, 0, 1, 3)),
    Case((1, 5), "fulfil", ALL, (15, 0, 0, 1, 0), "committed"),
    Case((1, 5), "fulfil", TWO, (18, 0, 3, 1, 3), "committed"),
    Case((0, 3), "fulfil", TWO, (18, 0, 3, 0, 1), "committed"),
    Case((0, 1), "fulfil", TWO, (18, 0, 3, 0, 0), "committed"),
    Case((1, 5), "cancel", ALL, (20, 0, 0, 6, 0), "committed"),
    Case((0, 3), "cancel", TWO, (20, 0, 3, 2, 1), "committed"),
    # Taken anew: of the fence as far as it goes.
    Case((5, 0), "commit", committing(retake=1), (20, 0, 5, 0, 5), "expired"),
    Case((3, 1), "commit", committing(retake=1), (20, 0, 5, 0, 4), "expired"),
    Case((5, 0), "commit", committing((0, 2), retake=1), (20, 0, 2, 3, 2), "expired"),
    Case((3, 1), "commit", committing(retake=1, fulfil=1), (15, 0, 0, 0, 1), "expired"),
    Case((7, 1), "commit", committing(retake=1, fulfil=1), (15, 0, 0, 2, 1), "expired"),
]
STATES = {
    "held": Hold((("shoe", "W", 5),), detail=WEB + b"detail"),
    "committed": Hold((("shoe", "W", 5),), COMMITTED, COMMIT, detail=WEB + b"detail", deadline_ms=NOW),
    "expired": Hold((("shoe", "W", 5),), EXPIRED, EXPIRE, EXPIRE, detail=WEB + b"detail"),
}


def seed(books: Books, hold: Hold, position: Position, *fences: Fence, spill: int = 1) -> None:
    """One reservation at a position with fences."""
    claims = () if hold.state == EXPIRED else (name(1),)
    position = position._replace(
        fenced=sum(fence.remaining for fence in fences), flags=FENCED_HERE if fences else 0
    )
    stock: dict[str, Card | Fences] = {"shoe": Card({"W": position}, claims)}
    if fences:
        stock[HERE] = Fences(fences)
    books.seed(
        stock=stock, operations={name(1): hold}, due={(hold.deadline_ms, "h", (name(1),))}, fenced={"web": 1}
    )


def stored(books: Books, location: str = "W") -> tuple[Position, bytes]:
    """The position and its fences, packed."""
    fields = books.read()[books.key("stock")]
    return read_card(fields[b"shoe"]).positions[location], fields.get(
        fence_field("shoe", location).encode(), b""
    )


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case.state}-{case.verb}-{case.own.hex()}-{case.fence}"
)
def test_a_step(books: Books, case: Case) -> None:
    """What comes back fills the fence first, what leaves is the fence's first, and no other fence changes."""
    held = 5 if case.state == "held" else 0
    allocated = 5 if case.state == "committed" else 0
    fence = Fence("web", *case.fence, 1)
    seed(books, STATES[case.state], Position(20, held, allocated), OTHER, fence)
    answer = books.one(resolve(case.verb, name(1), case.own, operation=name(2)))
    assert isinstance(answer, bytes) or isinstance(answer[0], int)
    on_hand, held, allocated, remaining, used = case.after
    wanted = Position(on_hand, held, allocated, fenced=remaining + 2, flags=FENCED_HERE)
    fences = OTHER.packed + Fence("web", remaining, used, 1).packed
    assert stored(books) == (wanted, fences)


@pytest.mark.parametrize("progress", [(), ((3, 2, 0, 0),)])
def test_lapsing(books: Books, progress: tuple[tuple[int, int, int, int], ...]) -> None:
    """Whole and in parts: what lapsed fills the fence."""
    hold = STATES["held"]._replace(progress=progress, deadline_ms=NOW)
    held, allocated, *_ = progress[0] if progress else (5, 0)
    seed(books, hold, Position(20, held, allocated), OTHER, Fence("web", 1, 4))
    assert books.one(expire(10)) == [1, 0, 0]
    left = 4 - min(held, 4)
    wanted = Position(20, 0, allocated, fenced=2 + 1 + min(held, 4), flags=FENCED_HERE)
    assert stored(books) == (wanted, OTHER.packed + Fence("web", 1 + min(held, 4), left).packed)


@pytest.mark.parametrize(
    ("spill", "position", "fence", "wanted"),
    [
        (0, Position(20), (4, 0), [b"insufficient_stock", 1, 0, 4, 5]),
        (1, Position(20), (4, 0), None),
        (1, Position(6), (4, 0), [b"insufficient_stock", 1, 0, 4, 5]),
        (1, Position(7), (4, 0), None),
        (0, Position(4), (9, 0), [b"insufficient_stock", 1, 0, 4, 5]),
        (0, Position(5), (9, 0), None),
        (1, Position(3, safety_stock=2), (9, 0), [b"insufficient_stock", 1, 0, 1, 5]),
        (1, Position(3, safety_stock=2, backorder_limit=4), (9, 0), None),
        (1, Position(0, backorder_limit=4), (9, 0), [b"insufficient_stock", 1, 0, 0, 5]),
    ],
)
def test_what_a_channel_may_take_anew(
    books: Books, spill: int, position: Position, fence: tuple[int, int], wanted: list[object] | None
) -> None:
    """Its fence, and what is for all where the fence spills; never more than there is."""
    seed(books, STATES["expired"], position, OTHER, Fence("web", *fence, spill))
    answer = books.one(resolve("commit", name(1), committing(retake=1)))
    assert answer == wanted if wanted else isinstance(answer, bytes)


def test_without_a_fence(books: Books) -> None:
    """A channel that has none there takes what is for all, and other channels' fences stay."""
    seed(books, STATES["expired"], Position(7), OTHER)
    assert isinstance(books.one(resolve("commit", name(1), committing(retake=1))), bytes)
    wanted = Position(7, 0, 5, fenced=2, flags=FENCED_HERE)
    assert stored(books) == (wanted, OTHER.packed)
    seed(books, STATES["expired"], Position(6), OTHER)
    answer = books.one(resolve("commit", name(1), committing(retake=1)))
    assert answer == [b"insufficient_stock", 1, 0, 4, 5]


@pytest.mark.parametrize(
    ("terms", "verb", "own", "floating"),
    [
        (pack_terms(pools=("p",)), "release", ALL, 0),
        (pack_terms(pools=("p",)), "release", TWO, 3),
        (pack_terms(pools=("p", "q")), "commit", committing(), 0),
        (pack_terms("web", ("p",)), "commit", committing((0, 2), keep=1), 3),
        (pack_terms("web", ("p",)), "commit", committing(fulfil=1), 0),
        (pack_terms("web", ("p",), (1,)), "release", ALL, 0),
        (pack_terms("web", ("p",), (0,)), "release", ALL, 5),
        (pack_terms("web"), "release", ALL, 5),
        (b"", "release", ALL, 5),
    ],
)
def test_floating_units(books: Books, terms: bytes, verb: str, own: bytes, floating: int) -> None:
    """Held units of a place that a pool chose float; those that a caller named and promised ones do not."""
    hold = Hold((("shoe", "W", 5),), detail=terms + b"detail")
    seed(books, hold, Position(20, 5, floating=5))
    books.one(resolve(verb, name(1), own, operation=name(2)))
    assert stored(books)[0].floating == floating


def test_two_positions(books: Books) -> None:
    """Each has its own fences; the one that is bound does not float."""
    hold = Hold((("shoe", "W", 5), ("shoe", "S", 4)), detail=pack_terms("web", ("p",), (1,)) + b"detail")
    fence, position = Fence("web", 0, 3), Position(20, 5, floating=5, flags=FENCED_HERE)
    books.seed(
        stock={
            "shoe": Card({"W": position, "S": position._replace(held=4, floating=7)}, (name(1),)),
            HERE: Fences((fence,)),
            fence_field("shoe", "S"): Fences((fence,)),
        },
        operations={name(1): hold},
    )
    books.one(resolve("release", name(1), choose((1, 4)), operation=name(2)))
    assert stored(books) == (position, fence.packed)
    wanted = Position(20, 0, floating=7, fenced=3, flags=FENCED_HERE)
    assert stored(books, "S") == (wanted, Fence("web", 3, 0).packed)
    books.one(resolve("release", name(1), ALL, known=UNKNOWN, operation=name(3)))
    assert stored(books) == (Position(20, fenced=3, flags=FENCED_HERE), Fence("web", 3, 0).packed)


def test_a_part_follows_its_basket(books: Books) -> None:
    """The terms of a part stand behind its version, and stay there."""
    hold = part((("shoe", "W", 5),))._replace(detail=pack_version((1, 5)) + pack_terms("web", ("p",)))
    seed(books, hold, Position(20, 5, floating=5), OTHER, Fence("web", 0, 5))
    assert books.one(follow(name(1), (1, 6), hold.lines, (0, 2, 1, 2))) == 2
    wanted = Position(19, 0, 2, fenced=4, flags=FENCED_HERE)
    assert stored(books) == (wanted, OTHER.packed + Fence("web", 2, 2).packed)
    record = books.read()[books.key("ops")][name(1)]
    assert pack_version((1, 6)) + pack_terms("web", ("p",)) in record


def test_a_new_reference_keeps_the_terms(books: Books) -> None:
    """Where a commit replaces the caller's part, the terms before it stay."""
    seed(books, STATES["held"], Position(20, 5), OTHER, Fence("web", 1, 5))
    books.one(resolve("commit", name(1), committing(rest=b"another"), operation=name(2)))
    assert WEB + b"another" in books.read()[books.key("ops")][name(1)]
    books.one(resolve("cancel", name(1), ALL, known=UNKNOWN, operation=name(3)))
    assert stored(books)[1] == OTHER.packed + Fence("web", 6, 0).packed


@pytest.mark.parametrize(("terms", "floating"), [(pack_terms("web", ("p",)), 4), (WEB, 0), (b"", 0)])
def test_what_is_carried(books: Books, terms: bytes, floating: int) -> None:
    """Its held units float here, too; fences were told apart from it."""
    hold = Hold((("shoe", "W", 5),), detail=terms + b"detail", progress=((4, 1, 0, 0),))
    fence = Fence("web", 3, 5)
    books.seed(
        stock={
            "shoe": Card({"W": Position(20, 1, fenced=3, flags=FENCED_HERE)}, (name(7),)),
            HERE: Fences((fence,)),
        }
    )
    assert books.one(carry(Carried(name(1), hold))) == 2
    assert stored(books) == (
        Position(20, 5, 1, fenced=3, flags=FENCED_HERE, floating=floating),
        fence.packed,
    )


@pytest.mark.parametrize("held", [5, 1, 0])
def test_what_is_carried_to_a_plain_card(books: Books, held: int) -> None:
    """A card gets room for floating units, if there are some."""
    progress = ((held, 5 - held, 0, 0),)
    hold = Hold((("shoe", "W", 5),), detail=pack_terms(pools=("p",)) + b"detail", progress=progress)
    books.seed(stock={"shoe": Card({"S": Position(1), "W": Position(20)})})
    assert books.one(carry(Carried(name(1), hold))) == 2
    card = Card({"S": Position(1), "W": Position(20, held, 5 - held, floating=held)}, (name(1),))
    assert books.raw("HGET", books.key("stock"), "shoe") == card.packed


@pytest.mark.parametrize(("verb", "closed_by"), [("release", RELEASE), ("cancel", CANCEL)])
def test_a_repeat_changes_nothing(books: Books, verb: str, closed_by: int) -> None:
    """The same step again finds the fence full."""
    hold = STATES["held" if closed_by == RELEASE else "committed"]
    held = 5 if closed_by == RELEASE else 0
    seed(books, hold, Position(20, held, 5 - held), Fence("web", 1, 5))
    for _ in range(2):
        books.one(resolve(verb, name(1), ALL, operation=name(2)))
        assert stored(books)[1] == Fence("web", 6, 0).packed
