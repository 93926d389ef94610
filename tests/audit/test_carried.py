"""The replay judges what another data set left by the same promises as everything else."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from engine import Inventory, Line
from engine.events import Carried, Event, Moved, Reserved, decode_page, read_events
from engine.ledger import Replay
from tests.audit.conftest import SKUS

Change = Callable[[Carried], Carried]
STATE_AT, REVISION_AT = -3, -6


def put(record: bytes, at: int, part: bytes) -> bytes:
    end = at + len(part)
    return record[:at] + part + (record[end:] if end else b"")


async def carried_story(inventory: Inventory) -> list[Event]:
    """Goods that came, then a reservation as if it were carried."""
    await inventory.reserve("k", [Line(SKUS[0], 3, "s1"), Line(SKUS[1], 2, "s2")])
    events = [item async for item in read_events(inventory.dataset.topology, 0) if isinstance(item, Event)]
    last = events.pop()
    assert isinstance(last, Reserved)
    head = (last.partition, last.epoch, last.seq, last.at_ms)
    events.append(Carried(*head, last.id, last.route, 0, last.record))
    return events


def replay(events: list[Event]) -> Replay:
    replayed = Replay(0)
    for event in events:
        replayed.apply(event)
    return replayed


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        (lambda event: event, None),
        (lambda event: replace(event, record=put(event.record, STATE_AT, b"\2")), None),
        (lambda event: replace(event, record=put(event.record, STATE_AT, b"\7")), "I5"),
        (lambda event: replace(event, record=put(event.record, -4, b"\2")), "I5"),
        (lambda event: replace(event, record=put(event.record, -39, b"\1")), "I5"),
        (lambda event: replace(event, record=put(event.record, 33, b"\xff")), "I3"),
        (lambda event: replace(event, record=event.record[:50]), "I5"),
        (lambda event: replace(event, route=event.route ^ 1), "I5"),
    ],
    ids=["as it was", "committed", "pending", "progress", "block", "oversold", "cut short", "route"],
)
async def test_a_reservation(inventory: Inventory, change: Change, invariant: str | None) -> None:
    """Its units count, and what does not fit is blamed once."""
    *before, carried = await carried_story(inventory)
    assert isinstance(carried, Carried)
    replayed = replay([*before, change(carried)])
    found = [violation.invariant for violation in replayed.violations]
    assert found == ([] if invariant is None else [invariant]), replayed.violations
    if not invariant:
        counters = replayed.stock[SKUS[0]]["s1"]
        assert counters.held + counters.allocated == 3
        again = replay([*before, carried, replace(carried, seq=carried.seq + 1)])
        assert "I2" in {violation.invariant for violation in again.violations}


async def test_an_answer(inventory: Inventory) -> None:
    """It is remembered until the moment that is told, and no longer."""
    events = [item async for item in read_events(inventory.dataset.topology, 0) if isinstance(item, Moved)]
    first = events[0]
    record = b"\3" + bytes(8) + first.result
    until_ms = first.at_ms + 1000
    carried = Carried(0, 1, 1, first.at_ms, first.id, 0, until_ms, record)
    replayed = replay([carried])
    assert not replayed.violations
    assert replayed.remembered_until_ms(first.id) == until_ms
    for at_ms, blamed in ((until_ms - 1, 1), (until_ms, 0)):
        later = replay([carried, replace(carried, seq=2, at_ms=at_ms, until_ms=at_ms + 5)])
        assert [violation.invariant for violation in later.violations] == ["I2"] * blamed


def test_an_event_that_carries_nothing() -> None:
    """An event cut short is damage."""
    body = bytes(20)
    packed = bytes(6) + b"\1\0" + b"\x0f" + len(body).to_bytes(3, "little") + body
    (damage,), _ = decode_page(0, Carried(0, 1, 0, 0, b"", 0, 0, b"").version, [("1-1", packed)])
    assert "carries nothing" in getattr(damage, "reason", "")
