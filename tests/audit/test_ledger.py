"""The replay judges events by the promises, whatever the events say of themselves."""

from collections.abc import Callable, Sequence

import msgspec
import pytest

from engine import Inventory, Line, Movement, MovementKind, moves
from engine.events import (
    Committed,
    Event,
    Expired,
    Extended,
    GapKind,
    Moved,
    Released,
    Reserved,
    Resolved,
    Version,
    decode_page,
    read_events,
)
from engine.ledger import Replay
from tests.audit.conftest import SKUS

Events = list[Event]


def replay(events: Sequence[Event]) -> Replay:
    replayed = Replay(0)
    for event in events:
        replayed.apply(event)
    return replayed


def replaced(raw: bytes, at: int, part: bytes) -> bytes:
    return raw[:at] + part + raw[at + len(part) :]


def find(events: Events, kind: type[Event]) -> int:
    return next(index for index, event in enumerate(events) if isinstance(event, kind))


def change(kind: type[Event], **fields: object) -> Callable[[Events], Events]:
    """Changes the first event of a kind."""

    def changed(events: Events) -> Events:
        index = find(events, kind)
        return [*events[:index], msgspec.structs.replace(events[index], **fields), *events[index + 1 :]]

    return changed


def change_tail(kind: type[Resolved], at: int, part: bytes) -> Callable[[Events], Events]:
    """Changes bytes of the tail of the first event of a kind; its head alone, as no progress is in it."""

    def changed(events: Events) -> Events:
        event = events[find(events, kind)]
        assert isinstance(event, Resolved)
        return change(kind, tail=replaced(event.tail, at, part))(events)

    return changed


def expire_instead(events: Events) -> Events:
    """The release becomes an expiry, long before the deadline."""
    index = find(events, Released)
    event = events[index]
    assert isinstance(event, Released)
    tail = replaced(event.tail, 33, b"\5\7\7")
    return [*events[:index], Expired(**{**msgspec.structs.asdict(event), "tail": tail}), *events[index + 1 :]]


def sell_out_before(events: Events) -> Events:
    """The stock was never there: the arrival brought one unit only."""
    event = events[find(events, Moved)]
    assert isinstance(event, Moved)
    result = replaced(event.result, 7, (b"\1" + bytes(6)) * 3)
    return change(Moved, quantity=1, result=result)(events)


BROKEN: dict[str, tuple[Callable[[Events], Events], str]] = {
    "oversold": (sell_out_before, "I3"),
    "reserved twice": (lambda events: [*events, events[find(events, Reserved)]], "I2"),
    "moved twice": (lambda events: [*events, events[find(events, Moved)]], "I2"),
    "claimed change": (change(Committed, is_whole=False, deltas=bytes(18)), "I4"),
    "claimed on_hand": (change(Moved, quantity=61), "I4"),
    "never made": (lambda events: [event for event in events if not isinstance(event, Reserved)], "I5"),
    "another state": (change_tail(Committed, 33, b"\3"), "I5"),
    "another closer": (change_tail(Committed, 35, b"\4"), "I5"),
    "another version": (change_tail(Committed, 7, b"\x63"), "I5"),
    "unreadable state": (change_tail(Committed, 33, b"\x20"), "I5"),
    "too many lines": (change_tail(Released, 32, b"\2"), "I5"),
    "lapsed early": (expire_instead, "I8"),
    "deadline back": (change_tail(Extended, 14, bytes(6)), "I8"),
    "deadline moved by a commit": (change_tail(Committed, 14, bytes(6)), "I8"),
}


async def tell_story(inventory: Inventory) -> Events:
    """One of each verb on two reservations of SKUS[0] at s1."""
    kept = await inventory.reserve("kept", [Line(SKUS[0], 20, "s1")], ttl_seconds=600)
    await inventory.extend(kept.id, 900)
    await inventory.commit(kept.id)
    gone = await inventory.reserve("gone", [Line(SKUS[0], 30, "s1")], ttl_seconds=600)
    await inventory.release(gone.id)
    return [event async for event in read_events(inventory.dataset.topology, 0) if isinstance(event, Event)]


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_promise_is_seen(inventory: Inventory, name: str) -> None:
    """Each row tells a sound story with one thing wrong."""
    story = await tell_story(inventory)
    first = find(story, Moved)
    # The arrival of SKUS[0] at s1 comes first.
    assert story[first].sku == SKUS[0]  # type: ignore[attr-defined]
    assert replay(story).violations == []
    spoil, invariant = BROKEN[name]
    assert invariant in {violation.invariant for violation in replay(spoil(story)).violations}


async def test_a_fact_may_take_what_is_promised_if_it_says_from_whom(inventory: Inventory) -> None:
    """The promises that it breaks are named, newest first, or that is a violation."""
    old = await inventory.reserve("old", [Line(SKUS[0], 50, "s1")])
    new = await inventory.reserve("new", [Line(SKUS[0], 5, "s1")])
    told = await inventory.record(Movement("sale", MovementKind.SALE, SKUS[0], "s1", 20))
    assert [(one.reservation, one.quantity) for one in told.uncovered] == [(new.id, 5), (old.id, 10)]
    topology = inventory.dataset.topology
    story = [event async for event in read_events(topology, 0) if isinstance(event, Event)]
    assert replay(story).violations == []
    last = story[-1]
    assert isinstance(last, Moved)
    silent = msgspec.structs.replace(last, result=last.result[: moves.RESULT_SIZE])
    assert [violation.invariant for violation in replay([*story[:-1], silent]).violations] == ["I3"]


async def test_a_roll_back_shows(inventory: Inventory) -> None:
    """A newer epoch that goes on from an earlier point is a gap of its own kind; one that goes on from
    the end is none.
    """
    story = await inventory.dataset.topology.read_stream("inv:{0}:log", "0-0", 1)
    packed = story[0][1]
    items, version = decode_page(0, Version(1, 9), [("2-5", packed)])
    assert (items[0].kind, version) == (GapKind.ROLLED_BACK, Version(2, 5))  # type: ignore[union-attr]
    items, _ = decode_page(0, Version(1, 4), [("2-5", packed)])
    assert len(items) == 1
    assert isinstance(items[0], Event)
