import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from redis import Redis

import engine
from engine import Inventory, Line, Location, LocationKind, Movement, MovementKind, keys, moves
from engine.audit import audit
from engine.audit_report import AuditReport
from engine.cards import DIVIDER
from engine.events import Committed, Event, Reserved, Version, read_events
from engine.explain import explain
from engine.ids import NO_OPERATION, parse_reservation_id
from engine.topology.embedded import EmbeddedServer
from tests.audit.conftest import PLACES, SKUS, Shopper, shop_at_random, stock_up

LOG, STOCK = keys.log(0), keys.stock(0)
NAME = moves.position_name(SKUS[0], "s1")
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
        "Counted",
        "Moved",
        "Released",
        "Replanned",
        "Reserved",
        "SettingSaved",
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


WIDE = tuple(f"w{number}" for number in range(40))


async def fill_cards(inventory: Inventory) -> None:
    """50 reservations of one SKU at two of 40 locations: blocks of claims, then a card that is divided."""
    await asyncio.gather(*(inventory.save_location(Location(place, LocationKind.STORE)) for place in WIDE))
    for number, place in enumerate(WIDE[:32]):
        await inventory.record(Movement(f"wide-{place}", MovementKind.RECEIVE, "wide", place, 9))
        for again in range(number % 2 + 1):
            lines = [Line("wide", 1, place), Line("wide", 1, WIDE[number // 2])]
            made = await inventory.reserve(f"{number}-{again}", lines, ttl_seconds=60)
            if number % 5 == 0:
                await inventory.release(made.id)


async def test_blocks_and_pages_are_audited(inventory: Inventory, control: "Redis[bytes]") -> None:
    """A card with more claims than it holds, then with more locations: every step is clean."""
    await fill_cards(inventory)
    blocks = [field for field in control.hkeys(STOCK) if b"\n\n" in field]
    assert blocks
    report = await audit(inventory)
    assert report.is_clean, faults(report)
    explained = await explain(inventory, "wide")
    told = [holder.reservation for holder in explained[0].holders]
    assert len(explained) == 32
    for place in WIDE[32:]:
        await inventory.record(Movement(f"wide-{place}", MovementKind.RECEIVE, "wide", place, 9))
    assert control.hget(STOCK, "wide") == DIVIDER
    report = await audit(inventory)
    assert report.is_clean, faults(report)
    assert [holder.reservation for holder in (await explain(inventory, "wide"))[0].holders] == told
    assert len(await explain(inventory, "wide")) == 40
    (alone,) = await explain(inventory, "wide", explained[0].location)
    assert [holder.reservation for holder in alone.holders] == told
    for reservation in told:
        await inventory.commit(reservation)
    sold = await inventory.record(Movement("sold", MovementKind.SALE, "wide", explained[0].location, 9))
    assert [broken.reservation for broken in sold.uncovered] == told[::-1][: len(sold.uncovered)]
    assert sold.uncovered
    for reservation in told:
        await inventory.cancel(reservation)
    await shop_at_random(inventory, shoppers=4, steps=20)
    report = await audit(inventory)
    assert report.is_clean, faults(report)


WIDE_CORRUPTIONS: dict[str, Callable[["Redis[bytes]", str, bytes], object]] = {
    "block lost": lambda c, name, raw: c.hdel(STOCK, name),
    "block shortened": lambda c, name, raw: c.hset(STOCK, name, raw[12:]),
    "block torn": lambda c, name, raw: c.hset(STOCK, name, raw[:-1]),
    "block out of order": lambda c, name, raw: c.hset(STOCK, name, raw[12:] + raw[:12]),
    "block planted": lambda c, name, raw: c.hset(STOCK, f"{name}0", raw),
    "card torn": lambda c, name, raw: c.hset(STOCK, name.split("\n\n")[0], raw),
    "card lost": lambda c, name, raw: c.hdel(STOCK, name.split("\n\n")[0]),
}


@pytest.mark.parametrize("is_divided", [False, True])
@pytest.mark.parametrize("name", WIDE_CORRUPTIONS)
async def test_every_corruption_of_many_claims_is_found(
    inventory: Inventory, control: "Redis[bytes]", name: str, is_divided: bool
) -> None:
    """As below, for a SKU with blocks of claims and one with pages."""
    await fill_cards(inventory)
    if is_divided:
        for place in WIDE[32:]:
            await inventory.record(Movement(f"wide-{place}", MovementKind.RECEIVE, "wide", place, 9))
    for number in range(40):
        await inventory.reserve(f"more-{number}", [Line("wide", 1, WIDE[number % 8])], ttl_seconds=60)
        await inventory.record(Movement(f"more-{number}", MovementKind.RECEIVE, "wide", WIDE[number % 8], 1))
        await inventory.reserve(f"most-{number}", [Line("wide", 1, WIDE[0])], ttl_seconds=60)
        await inventory.record(Movement(f"most-{number}", MovementKind.RECEIVE, "wide", WIDE[0], 1))
    assert (await audit(inventory)).is_clean
    block = max(field for field in control.hkeys(STOCK) if b"\n\n" in field)
    raw = control.hget(STOCK, block)
    assert raw is not None
    WIDE_CORRUPTIONS[name](control, block.decode(), raw)
    report = await audit(inventory)
    assert report.difference_count, faults(report)
    if is_divided:
        control.hset(STOCK, "wide", b"\xff\x41\0")
        assert "a divided SKU" in faults(await audit(inventory))


@dataclass(frozen=True)
class Scene:
    """What a corruption may lay hands on: a held and a finished reservation of SKUS[0] at s1."""

    control: "Redis[bytes]"
    held: bytes
    finished: bytes

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
    altered = bytearray(raw)
    assert altered[at] != byte[0]
    altered[at] = byte[0]
    scene.control.hset(key, field, bytes(altered))


def flip(scene: Scene, key: str, field: bytes, at: int) -> None:
    raw = scene.control.hget(key, field)
    assert raw is not None
    overwrite(scene, key, field, at, bytes((raw[at] ^ 1,)))


def spoil_card(scene: Scene, at: int, byte: bytes) -> None:
    """Changes a byte of the card of SKUS[0]; its counters begin at 23, its claims are the last 12 bytes."""
    overwrite(scene, STOCK, SKUS[0], at, byte)


def spoil_record(scene: Scene, at: int, byte: bytes) -> None:
    overwrite(scene, keys.operations(0), scene.held, at, byte)


def change_card(scene: Scene, change: Callable[[bytes], bytes]) -> None:
    """Rewrites the card of SKUS[0]."""
    raw = scene.control.hget(STOCK, SKUS[0])
    assert raw is not None
    scene.control.hset(STOCK, SKUS[0], change(raw))


def second_place_gone(raw: bytes) -> bytes:
    """The card without its location s2."""
    return b"\0\1\0\6\0" + raw[5:11] + b"\ns1=\0\0" + raw[23:39] + raw[-12:]


def place_planted(raw: bytes) -> bytes:
    """The card with a location that nothing ever came to."""
    return b"\0\3\0\x12\0" + raw[5:23] + b"\ns9=\2\0" + raw[23:55] + bytes(16) + raw[55:]


def alter_event(scene: Scene, at: int, byte: bytes) -> None:
    """Changes a byte of the reserve event of the held reservation, which is its record."""

    def change(entries: Entries) -> Entries:
        altered = []
        for entry, packed in entries:
            start, event = packed.find(scene.held) - 4, bytearray(packed)
            if start >= 0 and packed[start] == 1:
                end = start + 4 + int.from_bytes(packed[start + 1 : start + 4], "little")
                place = (start if at >= 0 else end) + at
                assert event[place] != byte[0]
                event[place] = byte[0]
            altered.append((entry, bytes(event)))
        assert altered != entries
        return altered

    scene.rewrite_ledger(change)


def drop_due(scene: Scene, operation: bytes) -> None:
    for entry in scene.control.zrange(keys.due(0), 0, -1):
        if operation in entry:
            scene.control.zrem(keys.due(0), entry)


CORRUPTIONS: dict[str, tuple[Callable[[Scene], object], str]] = {
    "on_hand off by one": (lambda s: spoil_card(s, 23, b"\x3d"), "on_hand"),
    "held off by one": (lambda s: spoil_card(s, 27, b"\x07"), "held"),
    "allocated off by one": (lambda s: spoil_card(s, 31, b"\x01"), "allocated"),
    "unsellable from nowhere": (lambda s: spoil_card(s, 35, b"\x01"), "unsellable"),
    "another form": (lambda s: spoil_card(s, 0, b"\x02"), "no card"),
    "no card": (lambda s: s.control.hset(STOCK, SKUS[0], "torn"), "no card"),
    "a divider": (lambda s: s.control.hset(STOCK, SKUS[0], b"\xff\x40\0"), "no card"),
    "an empty card": (lambda s: s.control.hset(STOCK, SKUS[0], ""), "no card"),
    "names torn": (lambda s: spoil_card(s, 11, b"x"), "names"),
    "position lost": (lambda s: change_card(s, second_place_gone), "locations of"),
    "position planted": (lambda s: change_card(s, place_planted), "s9"),
    "place renamed": (lambda s: spoil_card(s, 13, b"9"), "s9"),
    "SKU planted": (lambda s: s.control.hset(STOCK, "x", bytes(11)), "field b'x'"),
    "SKU lost": (lambda s: s.control.hdel(STOCK, SKUS[0]), "nothing"),
    "page planted": (lambda s: s.control.hset(STOCK, f"{SKUS[0]}\n1", bytes(11)), "stock, field"),
    "block planted": (lambda s: s.control.hset(STOCK, f"{SKUS[0]}\n\n0", bytes(12)), "holder"),
    "far block planted": (lambda s: s.control.hset(STOCK, f"{SKUS[0]}\n\n99", bytes(12)), "stock, field"),
    "first block": (lambda s: spoil_card(s, 5, b"\1"), "blocks of"),
    "block": (lambda s: spoil_card(s, 8, b"\1"), "blocks of"),
    "holder lost": (lambda s: change_card(s, lambda raw: raw[:-12]), "holder"),
    "holder planted": (lambda s: change_card(s, lambda raw: raw + bytes(12)), "holder"),
    "holder twice": (lambda s: change_card(s, lambda raw: raw + raw[-12:]), "holder"),
    "holder another": (lambda s: change_card(s, lambda raw: raw[:-12] + s.finished), "holder"),
    "record's size": (lambda s: spoil_record(s, 1, b"\xff"), "form"),
    "record's id": (lambda s: spoil_record(s, 4, bytes((s.held[0] ^ 1,))), "form"),
    "record's fingerprint": (lambda s: flip(s, keys.operations(0), s.held, 16), "fingerprint"),
    "record's time to live": (lambda s: spoil_record(s, 24, b"\x01"), "time to live"),
    "record's lines": (lambda s: spoil_record(s, 33, b"\x09"), "lines"),
    "record's owner": (lambda s: spoil_record(s, -36 - 3 - 2, b"\xc2"), "owner"),
    "record's block": (lambda s: spoil_record(s, -36 - 3, b"\x01"), "blocks of its claims"),
    "record's deadline": (lambda s: flip(s, keys.operations(0), s.held, -22), "deadline_ms"),
    "record's revision": (lambda s: spoil_record(s, -6, b"\x01"), "revision"),
    "record's state": (lambda s: spoil_record(s, -3, b"\2"), "state"),
    "record lost": (lambda s: s.control.hdel(keys.operations(0), s.held), "nothing"),
    "memory lost": (lambda s: s.control.hdel(keys.operations(0), s.finished), "nothing"),
    "record planted": (
        lambda s: s.control.hset(keys.operations(0), bytes(12), b"\3" + bytes(29)),
        "operation",
    ),
    "hold without deadline": (lambda s: drop_due(s, s.held), "no entry in the index"),
    "memory without end": (lambda s: drop_due(s, s.finished), "no entry in the index"),
    "positions miscounted": (lambda s: s.control.hincrby(keys.stocked(0), "s1", 1), "positions of location"),
    "positions uncounted": (lambda s: s.control.hdel(keys.stocked(0), "s1"), "positions of location"),
    "count planted": (lambda s: s.control.hset(keys.stocked(0), "s9", 0), "positions of location"),
    "location lost": (lambda s: s.control.hdel(keys.locations(0), "s2"), "settings of location"),
    "location changed": (lambda s: s.control.hset(keys.locations(0), "s2", b"\x80"), "settings of location"),
    "pool planted": (lambda s: s.control.hset(keys.pools(0), "p", b"\0\0"), "settings of pool"),
    "item planted": (lambda s: s.control.hset(keys.items(0), "p", b"\0\0"), "settings of item"),
    "user planted": (lambda s: s.control.hset(keys.named(0), "1\ns1", b"p\n"), "who names"),
    "change lost": (lambda s: s.control.zrem(keys.changes(0), "1\ns2"), "last change of"),
    "change moved": (lambda s: s.control.zadd(keys.changes(0), {"1\ns2": 9}), "last change of"),
    "settings miscounted": (lambda s: s.control.hincrby(keys.meta(0), "settings", 1), "number of settings"),
    "newest count planted": (lambda s: s.control.hset(keys.counts(0), NAME, bytes(25)), "newest count"),
    "conditions planted": (lambda s: s.control.hset(keys.conditions(0), NAME, bytes(9)), "conditions"),
    "history planted": (lambda s: s.control.zadd(keys.moves(0), {NAME + bytes(34): 0}), "history"),
    "history lost": (lambda s: s.control.zpopmin(keys.moves(0)), "history"),
    "history out of order": (
        lambda s: s.control.zincrby(keys.moves(0), 1, s.control.zrange(keys.moves(0), 0, 0)[0]),
        "history",
    ),
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
    "event's deadline": (lambda s: alter_event(s, -36 + 14, b"\xfe"), "was made as"),
    "event's quantity": (lambda s: alter_event(s, 33, b"\x09"), "held"),
    "event's state": (lambda s: alter_event(s, -3, b"\x02"), "was made as"),
    "event's time to live": (lambda s: alter_event(s, 24, b"\x01"), "is held for"),
    "event's fingerprint": (lambda s: alter_event(s, 16, b"\x01"), "fingerprint"),
    "event's block": (lambda s: alter_event(s, -39, b"\x01"), "claims do not say"),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
async def test_every_corruption_is_found(inventory: Inventory, control: "Redis[bytes]", name: str) -> None:
    """Each changes one thing in sound books; the audit says what."""
    held = await inventory.reserve("held", [Line(SKUS[0], 6, "s1")], owner="me", ttl_seconds=600)
    finished = await inventory.reserve("finished", [Line(SKUS[0], 2, "s1")], ttl_seconds=600)
    await inventory.release(finished.id)
    await inventory.record(Movement("last", MovementKind.RECEIVE, SKUS[1], "s1", 1))
    assert (await audit(inventory)).is_clean
    ids = [parse_reservation_id(made.id) for made in (held, finished)]
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
    assert [line.sku for line in committed.read_plan().positions] == [SKUS[0], SKUS[1]]
    assert committed.read_head().progress == ((0, 3, 0, 2), (0, 0, 0, 2))
