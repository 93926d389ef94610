"""What baskets and their parts leave in the ledger, packed by the tests' own hands."""

import pytest

from engine.events import (
    Abandoned,
    BasketOpened,
    Damage,
    Decided,
    Event,
    Followed,
    PartHeld,
    Resolved,
    Version,
    decode_entry,
    decode_page,
)
from engine.ids import reservation_id
from engine.records import KIND_BASKET, KIND_PART, NO_DETAIL, Detail, Undecided, encode_detail
from engine.types import Line, State
from tests.lua import books
from tests.lua.books import ABANDON, ABANDONED, COMMITTED, DECIDE, FOLLOW, NOW, Hold, name, part_name

DETAIL = Detail(900, "me", "order 7", None, {"gift": True})
LINES = (("shoe", "W", 5), ("hat", "S", 2))
POSITIONS = (Line("shoe", 5, "W"), Line("hat", 2, "S"))
OPENED = books.basket(LINES)._replace(detail=encode_detail(DETAIL))
HELD = OPENED._replace(state=books.HELD)
OVER = OPENED._replace(state=ABANDONED, closed_by=ABANDON)
PART = books.part(LINES, (3, 9))._replace(of="coat")
GONE = books.part(LINES, (3, 11), COMMITTED)._replace(of="coat", progress=((0, 5, 0, 0), (0, 0, 2, 0)))
DELTAS = ((-5, 5, 0), (-2, 0, -2))
BACK = ((-5, 0, 0), (-2, 0, 0))
A = name(1)
FOLLOWED = books.Resolved(FOLLOW, part_name(A, "coat"), GONE, DELTAS, rest=GONE.detail).packed


def route(sku: str) -> int:
    return int.from_bytes(books.route_of(sku), "little")


def entry(*events: tuple[int, bytes]) -> bytes:
    """An entry of the ledger."""
    packed = b"".join(bytes((kind,)) + len(body).to_bytes(3, "little") + body for kind, body in events)
    return NOW.to_bytes(6, "little") + len(events).to_bytes(2, "little") + packed


def decode(*events: tuple[int, bytes]) -> list[Event]:
    return decode_entry(6, Version(2, 40), entry(*events))


@pytest.mark.parametrize(
    ("kind", "hold", "own"), [(BasketOpened, OPENED, A), (PartHeld, PART, part_name(A, "coat"))]
)
def test_what_begins(kind: type[BasketOpened | PartHeld], hold: Hold, own: bytes) -> None:
    """The event is the record. Both say which reservation they are of, as callers know it."""
    (event,) = decode(books.Reserved(own, hold).packed)
    assert type(event) is kind
    assert isinstance(event, BasketOpened | PartHeld)
    assert (event.partition, event.version, event.at_ms) == (6, Version(2, 40), NOW)
    assert event.id == own
    assert event.record == hold.packed(own)
    sku = "coat" if kind is PartHeld else "shoe"
    assert event.reservation == reservation_id(route(sku), A)
    record = event.read_record()
    assert record.plan.positions == POSITIONS
    assert record.route == route(sku)


def test_records_of_what_begins() -> None:
    """A basket has the caller's part and follows nobody; a part the other way round."""
    opened, held = decode(books.Reserved(A, OPENED).packed, books.Reserved(part_name(A, "coat"), PART).packed)
    assert isinstance(opened, BasketOpened)
    assert isinstance(held, PartHeld)
    basket, own = opened.read_record(), held.read_record()
    assert (basket.kind, basket.follows, encode_detail(basket.detail)) == (KIND_BASKET, None, OPENED.detail)
    assert basket.head.state is Undecided.PENDING
    assert (own.kind, own.follows, own.detail) == (KIND_PART, (3, 9), NO_DETAIL)
    assert own.head.state is State.HELD


@pytest.mark.parametrize(
    ("packed", "kind", "state", "deltas"),
    [
        (books.Resolved(DECIDE, A, HELD).packed, Decided, State.HELD, [(0, 0, 0), (0, 0, 0)]),
        (books.Resolved(ABANDON, A, OVER, BACK).packed, Abandoned, Undecided.ABANDONED, list(BACK)),
        (books.Resolved(ABANDON, A, OVER).packed, Abandoned, Undecided.ABANDONED, list(BACK)),
        (FOLLOWED, Followed, State.COMMITTED, list(DELTAS)),
    ],
)
def test_what_became_of_it(
    packed: tuple[int, bytes], kind: type[Resolved], state: State, deltas: list[tuple[int, int, int]]
) -> None:
    """Decided, abandoned, followed: the state after it, what moved, and whose it is."""
    (event,) = decode(packed)
    assert type(event) is kind
    assert isinstance(event, Resolved)
    assert event.read_head().state is state
    assert event.read_deltas() == deltas
    assert event.read_plan().positions == POSITIONS
    is_part = kind is Followed
    assert event.reservation == reservation_id(route("coat" if is_part else "shoe"), A)
    assert event.id == (part_name(A, "coat") if is_part else A)
    assert event.operation == bytes(12)
    assert event.detail == (GONE.detail if is_part else b"")


def test_how_far_it_followed() -> None:
    """Epoch and sequence of the basket's step, which are not those of the event."""
    (event,) = decode(FOLLOWED)
    assert isinstance(event, Followed)
    assert event.read_version() == (3, 11)
    assert event.version == Version(2, 40)


@pytest.mark.parametrize("cut", range(1, 60))
def test_an_event_that_is_cut_short(cut: int) -> None:
    """Every byte must be accounted for."""
    kind, body = FOLLOWED
    with pytest.raises((ValueError, IndexError)):
        decode((kind, body[:-cut]))


@pytest.mark.parametrize("more", [b"\0", bytes(9)])
def test_an_event_with_more(more: bytes) -> None:
    """A part follows one version."""
    kind, body = FOLLOWED
    with pytest.raises(ValueError, match="does not say what was followed"):
        decode((kind, body + more))


@pytest.mark.parametrize("kind", [0, 99])
def test_a_kind_that_nobody_knows(kind: int) -> None:
    """Of a release that is newer than this one."""
    with pytest.raises(ValueError, match=f"unknown kind {kind}"):
        decode((kind, FOLLOWED[1]))


def test_damage_between_sound_entries() -> None:
    """The reader tells of it and goes on behind it."""
    kind, body = FOLLOWED
    page = [
        ("2-1", entry(books.Reserved(A, OPENED).packed)),
        ("2-2", entry((kind, body[:-1]))),
        ("2-3", entry(books.Resolved(DECIDE, A, HELD).packed)),
    ]
    items, after = decode_page(6, Version(2, 0), page)
    assert [type(item) for item in items] == [BasketOpened, Damage, Decided]
    assert isinstance(items[1], Damage)
    assert items[1].version == Version(2, 2)
    assert after == Version(2, 3)
