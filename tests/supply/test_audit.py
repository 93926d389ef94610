"""The audit and the replay know documents and what they bring, whatever is stored of them."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from engine import Inventory, keys
from engine.audit import audit
from engine.events import DocumentSaved, Event, Supplied, read_events
from engine.ledger import Replay
from engine.types import Goods
from tests.driver import START_MS, Shop
from tests.supply.goods import make_stock

Change = Callable[[Any], object]


async def trade(shop: Inventory) -> None:
    """An inbound order of which some came, a transfer on its way, and one that came."""
    await make_stock(shop, "s1", mug=10)
    order = await shop.expect("i1", sku="mug", location="s2", quantity=7, expected_ms=START_MS + 5)
    await shop.receive_inbound("i2", order.id, 3)
    for number in range(2):
        sent = await shop.create_transfer(
            f"t{number}", source="s1", target="s7", lines=[Goods("mug", 2), Goods("tea", 1)]
        )
        await shop.ship_transfer(sent.id, op_id=f"ship {number}")
    await shop.receive_transfer(sent.id)


def flip(control: Any, key: str, at: int) -> None:  # noqa: ANN401 - a client of either kind
    """Changes a bit of the first field of a hash."""
    field, raw = min(control.hgetall(key).items())
    altered = bytearray(raw)
    altered[at] ^= 1
    control.hset(key, field, bytes(altered))


def lose(control: Any, key: str) -> None:  # noqa: ANN401 - a client of either kind
    control.hdel(key, min(control.hgetall(key)))


def lose_open(control: Any) -> None:  # noqa: ANN401 - a client of either kind
    """Loses the inbound order, of which some is still to come."""
    (own,) = (own for own, raw in control.hgetall(keys.documents(0)).items() if b"inbound" in raw)
    control.hdel(keys.documents(0), own)


def first_entry(control: Any) -> bytes:  # noqa: ANN401 - a client of either kind
    return bytes(control.zrange(keys.listed(0), 0, 0)[0])


def other(control: Any) -> bytes:  # noqa: ANN401 - a client of either kind
    """An entry of a document by a state in which it is not."""
    entry = next(entry for entry in control.zrange(keys.listed(0), 0, -1) if b"shipped" in entry)
    return bytes(entry.replace(b"shipped", b"expired"))


OUTBOX = 2**52
CORRUPTIONS: dict[str, tuple[Change, str]] = {
    "supply's source": (lambda control: flip(control, keys.inbound(0), 0), "inbound"),
    "supply's units": (lambda control: flip(control, keys.inbound(0), 12), "inbound"),
    "supply's time": (lambda control: flip(control, keys.inbound(0), 18), "inbound"),
    "supply's kind": (lambda control: flip(control, keys.inbound(0), 24), "inbound"),
    "supply lost": (lambda control: lose(control, keys.inbound(0)), "inbound"),
    "supply planted": (lambda control: control.hset(keys.inbound(0), b"\ns1=hat", bytes(25)), "inbound"),
    "document's version": (lambda control: flip(control, keys.documents(0), 0), "document"),
    "document's flag": (lambda control: flip(control, keys.documents(0), 4), "document"),
    "document's content": (lambda control: flip(control, keys.documents(0), -1), "document"),
    "document lost": (lose_open, "document"),
    "entry lost": (lambda control: control.zrem(keys.listed(0), first_entry(control)), "index of documents"),
    "entry planted": (
        lambda control: control.zadd(keys.listed(0), {other(control): 0}),
        "index of documents",
    ),
    "no entry": (lambda control: control.zadd(keys.listed(0), {b"t\xff": 0}), "index of documents"),
    "end lost": (lambda control: control.delete(keys.ended(0)), "end of document"),
    "end planted": (lambda control: control.zadd(keys.ended(0), {bytes(12): 5}), "end of document"),
    "end moved": (
        lambda control: control.zadd(keys.ended(0), {control.zrange(keys.ended(0), 0, 0)[0]: 5}),
        "end of document",
    ),
    "document planted": (lambda control: control.hset(keys.documents(0), bytes(12), bytes(9)), "document"),
    "outbox planted": (
        lambda control: control.zadd(keys.due(0), {b"d" + min(control.hgetall(keys.documents(0))): OUTBOX}),
        "outbox of document",
    ),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
async def test_every_corruption_is_found(shop: Shop, name: str) -> None:
    """Each changes one thing in sound books; the audit says what."""
    await trade(shop.inventory)
    assert (await audit(shop.inventory)).is_clean
    corrupt, expected = CORRUPTIONS[name]
    corrupt(shop.control)
    report = await audit(shop.inventory)
    assert [one.subject for one in report.differences if one.subject.startswith(expected)]


async def test_what_ended_is_there_until_its_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is gone is missed until its time has come, and then only where something leads to it."""
    await trade(shop.inventory)
    (ended,) = shop.control.zrange(keys.ended(0), 0, -1)
    shop.control.hdel(keys.documents(0), ended)
    found = {one.subject for one in (await audit(shop.inventory)).differences}
    assert found == {f"end of document {ended.hex()}", f"index of documents, document {ended.hex()}"}
    monkeypatch.setattr("engine.limits.DOCUMENT_SECONDS", 100 * 365 * 86_400)
    assert {one.subject for one in (await audit(shop.inventory)).differences} == {f"document {ended.hex()}"}


def change(kind: type[Event], nth: int = 0, **fields: object) -> Callable[[list[Event]], list[Event]]:
    """Changes the n-th event of a kind."""

    def changed(events: list[Event]) -> list[Event]:
        index = [at for at, event in enumerate(events) if isinstance(event, kind)][nth]
        return [*events[:index], msgspec.structs.replace(events[index], **fields), *events[index + 1 :]]

    return changed


VIOLATIONS: dict[str, tuple[Callable[[list[Event]], list[Event]], str, str]] = {
    "other units": (change(Supplied, received=3, result=bytes(21)), "I4", "the answer says"),
    "no such place": (change(Supplied, location="s9"), "I4", "did not exist"),
    "a version left out": (change(DocumentSaved, number=2), "I5", "is version"),
    "a step too soon": (change(DocumentSaved, 1, is_pending=True), "I5", "before the effects"),
    "an operation twice": (change(DocumentSaved, 2, operation=b"x" * 12), "I2", "took effect before"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_the_replay_judges(shop: Shop, name: str) -> None:
    """An event that breaks a promise is blamed."""
    await trade(shop.inventory)
    found = [item async for item in read_events(shop.inventory.dataset.topology, 0)]
    events = [item for item in found if isinstance(item, Event)]
    assert not replay(events).violations
    alter, invariant, words = VIOLATIONS[name]
    events = alter(events)
    if invariant == "I2":
        events = change(DocumentSaved, 4, operation=b"x" * 12)(events)
    blamed = replay(events).violations
    assert [one for one in blamed if one.invariant == invariant and words in one.detail], blamed


def replay(events: Sequence[Event]) -> Replay:
    replayed = Replay(0)
    for event in events:
        replayed.apply(event)
    return replayed
