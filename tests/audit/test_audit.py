import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from redis import Redis

import engine
from engine import Inventory, Line, Movement, MovementKind, keys
from engine.audit import AuditReport, audit
from engine.events import Committed, Event, Reserved, Version, read_events
from engine.ids import NO_OPERATION, parse_reservation_id
from engine.topology.embedded import EmbeddedServer
from tests.audit.conftest import PLACES, SKUS, Shopper, shop_at_random, stock_up

LOG = keys.log(0)
Entries = list[tuple[bytes, bytes]]


def faults(report: AuditReport) -> str:
    return "\n".join(map(str, [*report.differences, *report.violations, *report.notes]))


async def kinds(inventory: Inventory, partitions: int = 1) -> Counter[str]:
    """How many events of each kind the ledger holds."""
    counted: Counter[str] = Counter()
    for partition in range(partitions):
        async for event in read_events(inventory.dataset.topology, partition):
            assert isinstance(event, Event)
            counted[type(event).__name__] += 1
    return counted


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_shoppers_do_the_books_are_the_ledger(inventory: Inventory, seed: int) -> None:
    """A round counts only if every verb left its mark."""
    await shop_at_random(inventory, shoppers=16, steps=60, seed=seed)
    await asyncio.sleep(1.1)
    await inventory.sweep()
    await shop_at_random(inventory, shoppers=16, steps=30, seed=seed + 100)
    report = await audit(inventory)
    assert report.is_clean, faults(report)
    assert report.positions == len(SKUS) * len(PLACES)
    counted = await kinds(inventory)
    assert report.events == counted.total()
    assert set(counted) == {
        "Cancelled",
        "Committed",
        "Expired",
        "Extended",
        "Fulfilled",
        "LocationSaved",
        "Moved",
        "Released",
        "Reserved",
    }


async def test_an_audit_needs_nobody_to_stand_still(inventory: Inventory) -> None:
    """Audits while shoppers shop: each is clean, and saw more than the one before."""
    stop = asyncio.Event()

    async def shop(number: int) -> None:
        shopper = Shopper(inventory, number, [*SKUS, f"new-{number}"])
        for place in PLACES:
            arrival = Movement(f"n-{number}-{place}", MovementKind.RECEIVE, f"new-{number}", place, 50)
            await inventory.record(arrival)
        while not stop.is_set():
            await shopper.act()

    shoppers = [asyncio.create_task(shop(number)) for number in range(12)]
    seen = [0]
    try:
        for _ in range(8):
            report = await audit(inventory)
            assert report.is_clean, faults(report)
            seen.append(report.events)
    finally:
        stop.set()
        await asyncio.gather(*shoppers)
    assert seen == sorted(set(seen))


async def test_every_partition_is_audited(server: EmbeddedServer) -> None:
    inventory = await engine.connect(server.url, partitions=7)
    await stock_up(inventory)
    await shop_at_random(inventory, shoppers=8, steps=40)
    report = await audit(inventory.dataset)
    assert report.is_clean, faults(report)
    assert report.events == (await kinds(inventory, 7)).total()
    await inventory.close()


async def test_what_retention_forgets_is_not_missed(server: EmbeddedServer) -> None:
    inventory = await engine.connect(server.url, retention_seconds=1)
    await stock_up(inventory)
    await shop_at_random(inventory, shoppers=8, steps=40)
    await asyncio.sleep(2.1)
    await inventory.sweep()
    await asyncio.sleep(1.1)
    await inventory.sweep()
    report = await audit(inventory, retention_seconds=1)
    assert report.is_clean, faults(report)
    reused = Movement(f"in-{SKUS[0]}-s1", MovementKind.RECEIVE, SKUS[0], "s1", 1)
    assert not (await inventory.record(reused)).replayed
    report = await audit(inventory, retention_seconds=1)
    assert report.is_clean, faults(report)
    await inventory.close()


@dataclass(frozen=True)
class Scene:
    """What a corruption may lay hands on: a held and a finished reservation of SKUS[0] at s1."""

    control: "Redis[bytes]"
    held: bytes
    finished: bytes

    @property
    def stock(self) -> str:
        return keys.stock(0, SKUS[0])

    def rewrite_ledger(
        self, change: Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]]
    ) -> None:
        entries = [(entry, fields[b"e"]) for entry, fields in self.control.xrange(LOG)]
        self.control.delete(LOG)
        for entry, packed in change(entries):
            self.control.xadd(LOG, {"e": packed}, id=entry)


def overwrite(scene: Scene, key: str, field: bytes | str, at: int, byte: bytes) -> None:
    raw = scene.control.hget(key, field)
    assert raw is not None
    assert raw[at : at + 1] != byte
    scene.control.hset(key, field, raw[:at] + byte + raw[at + 1 :])


def alter_event(scene: Scene, at: int, byte: bytes) -> None:
    """Changes a byte of the reserve event of the held reservation."""

    def change(entries: Entries) -> Entries:
        altered = []
        for entry, packed in entries:
            start, event = packed.find(b"\1" + scene.held + b"\1\1"), bytearray(packed)
            if start >= 0:
                assert event[start + at] != byte[0]
                event[start + at] = byte[0]
            altered.append((entry, bytes(event)))
        assert altered != entries
        return altered

    scene.rewrite_ledger(change)


def drop_due(scene: Scene, operation: bytes) -> None:
    for entry in scene.control.zrange(keys.due(0), 0, -1):
        if operation in entry:
            scene.control.zrem(keys.due(0), entry)


CORRUPTIONS: dict[str, tuple[Callable[[Scene], object], str]] = {
    "on_hand off by one": (lambda s: overwrite(s, s.stock, "s1", 0, b"\x3d"), "on_hand"),
    "held off by one": (lambda s: overwrite(s, s.stock, "s1", 4, b"\x07"), "held"),
    "allocated off by one": (lambda s: overwrite(s, s.stock, "s1", 8, b"\x01"), "allocated"),
    "unsellable from nowhere": (lambda s: overwrite(s, s.stock, "s1", 12, b"\x01"), "unsellable"),
    "no position": (lambda s: s.control.hset(s.stock, "s1", b"torn"), "no position"),
    "position lost": (lambda s: s.control.hdel(s.stock, "s2"), "nothing"),
    "position planted": (lambda s: s.control.hset(s.stock, "s9", bytes(16)), "s9"),
    "SKU planted": (lambda s: s.control.hset(keys.stock(0, "x"), "s1", bytes(16)), "x, field"),
    "SKU lost": (lambda s: s.control.delete(s.stock), "nothing"),
    "directory lost": (lambda s: s.control.hdel(s.stock, ""), "locations of"),
    "holder lost": (lambda s: s.control.hdel(s.stock, b"s1\n" + s.held), "holder"),
    "holder planted": (lambda s: s.control.hset(s.stock, b"s1\n" + bytes(12), "3"), "holder"),
    "holder out of order": (lambda s: s.control.hset(s.stock, b"s1\n" + s.held, "1"), "holder"),
    "record's state": (lambda s: overwrite(s, keys.operations(0), s.held, 1, b"\2"), "state"),
    "record's deadline": (lambda s: overwrite(s, keys.operations(0), s.held, 31, b"\xfe"), "deadline_ms"),
    "record's lines": (lambda s: overwrite(s, keys.operations(0), s.held, 50, b"\x09"), "lines"),
    "record's owner": (lambda s: overwrite(s, keys.operations(0), s.held, -2, b"\xc2"), "owner"),
    "record lost": (lambda s: s.control.hdel(keys.operations(0), s.held), "nothing"),
    "memory lost": (lambda s: s.control.hdel(keys.operations(0), s.finished), "nothing"),
    "record planted": (
        lambda s: s.control.hset(keys.operations(0), bytes(12), b"\3" + bytes(29)),
        "operation",
    ),
    "hold without deadline": (lambda s: drop_due(s, s.held), "no entry in the index"),
    "memory without end": (lambda s: drop_due(s, s.finished), "no entry in the index"),
    "SKU not listed": (lambda s: s.control.srem(keys.stocked(0, "s1"), SKUS[0]), "SKUs of location"),
    "SKU listed wrongly": (lambda s: s.control.sadd(keys.stocked(0, "s1"), "x"), "SKUs of location"),
    "location lost": (lambda s: s.control.hdel(keys.locations(0), "s2"), "settings of location"),
    "location changed": (lambda s: s.control.hset(keys.locations(0), "s2", b"\x80"), "settings of location"),
    "sequence bumped": (lambda s: s.control.hincrby(keys.meta(0), "seq", 1), "ledger ends at"),
    "sequence set back": (lambda s: s.control.hincrby(keys.meta(0), "seq", -1), "ledger ends at"),
    "first entry lost": (lambda s: s.rewrite_ledger(lambda entries: entries[1:]), "ledger_incomplete"),
    "entry lost": (lambda s: s.rewrite_ledger(lambda entries: [*entries[:-3], *entries[-2:]]), "missing"),
    "last entry lost": (lambda s: s.rewrite_ledger(lambda entries: entries[:-1]), "ledger ends at"),
    "ledger lost": (lambda s: s.control.delete(LOG), "ledger ends at"),
    "entry torn": (
        lambda s: s.rewrite_ledger(lambda entries: [*entries[:-1], (entries[-1][0], entries[-1][1][:-3])]),
        "cut short",
    ),
    "event's deadline": (lambda s: alter_event(s, 13 + 31, b"\xfe"), "was made as"),
    "event's quantity": (lambda s: alter_event(s, 13 + 50, b"\x09"), "held"),
    "event's state": (lambda s: alter_event(s, 13 + 1, b"\x02"), "was made as"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
async def test_every_corruption_is_found(inventory: Inventory, control: "Redis[bytes]", name: str) -> None:
    """Each changes one thing in sound books; the audit says what."""
    held = await inventory.reserve("held", [Line(SKUS[0], 6, "s1")], owner="me", ttl_seconds=600)
    finished = await inventory.reserve("finished", [Line(SKUS[0], 2, "s1")], ttl_seconds=600)
    await inventory.release(finished.id)
    await inventory.record(Movement("last", MovementKind.RECEIVE, SKUS[1], "s1", 1))
    assert (await audit(inventory)).is_clean
    ids = [parse_reservation_id(made.id, 1) for made in (held, finished)]
    assert ids[0] is not None
    assert ids[1] is not None
    corrupt, expected = CORRUPTIONS[name]
    corrupt(Scene(control, ids[0][1], ids[1][1]))
    report = await audit(inventory)
    assert not report.is_clean
    assert expected in faults(report)


async def test_a_reader_goes_on_from_anywhere(inventory: Inventory) -> None:
    """Also from the middle of an entry: nothing twice, nothing left out."""
    await shop_at_random(inventory, shoppers=20, steps=10)
    topology = inventory.dataset.topology
    all_events = [event async for event in read_events(topology, 0)]
    versions = [event.version for event in all_events if isinstance(event, Event)]
    assert versions == [Version(1, seq) for seq in range(1, len(all_events) + 1)]
    for after in range(0, len(all_events), 7):
        rest = [event async for event in read_events(topology, 0, after=Version(min(after, 1), after))]
        assert rest == all_events[after:]


async def test_events_say_what_happened(inventory: Inventory) -> None:
    """What a consumer decodes of a commit is what the caller was told."""
    held = await inventory.reserve("a", [Line(SKUS[0], 5, "s1"), Line(SKUS[1], 2, "s2")], owner="me")
    told = await inventory.commit(held.id, lines=[Line(SKUS[0], 3, "s1")], op_id="c")
    *_, reserved, committed = [event async for event in read_events(inventory.dataset.topology, 0)]
    assert isinstance(reserved, Reserved)
    assert reserved.read_record().detail.owner == "me"
    assert isinstance(committed, Committed)
    assert committed.reservation == held.id
    assert committed.operation != NO_OPERATION
    assert committed.read_deltas() == [(-5, 3, 0), (-2, 0, 0)]
    assert str(committed.version) == told.version
    assert committed.read_plan().skus == (SKUS[0], SKUS[1])
    assert committed.read_head().progress == ((0, 3, 0, 2), (0, 0, 0, 2))
