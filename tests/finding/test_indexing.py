"""Who makes the index: several at once, some of them cut off, on servers that take no writes."""

import asyncio

import pytest

from engine import Inventory, Line, Movement, MovementKind, Reservation, keys
from engine.audit import audit
from engine.errors import MemoryFull, Overloaded
from engine.index import CALL_ENTRIES, Filing
from engine.types import Location, LocationKind
from engine.workers import Indexer
from tests.driver import RETENTION_SECONDS, Shop
from tests.servers import node_of

MANY = 900


@pytest.fixture
async def stocked(shop: Shop) -> Shop:
    for sku in ("mug", "cup"):
        await shop.inventory.record(Movement(sku, MovementKind.RECEIVE, sku, "s1", 10**6))
    return shop


async def reserve_many(inventory: Inventory, count: int = MANY, name: str = "k") -> list[Reservation]:
    """Reservations in the order in which they were made; a batch is an entry of the ledger."""
    lines = [Line("mug", 1, "s1"), Line("cup", 1, "s1")]
    return list(
        await asyncio.gather(
            *(inventory.reserve(f"{name}{number}", lines, owner=f"o{number % 7}") for number in range(count))
        )
    )


async def list_all(inventory: Inventory) -> list[str]:
    """The ids of all reservations, the newest first."""
    found, cursor = list[str](), None
    while True:
        page = await inventory.reservations(limit=400, cursor=cursor)
        found += [one.id for one in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


def cursor_of(shop: Shop) -> str:
    stored = shop.control.hget(keys.found(0), "cursor")
    assert isinstance(stored, bytes)
    return stored.decode()


def entries_of(shop: Shop) -> int:
    return int(shop.control.zcard(keys.find(0)))  # type: ignore[arg-type] - the client also knows promises of one


async def test_plain_requests_leave_the_index_alone(stocked: Shop) -> None:
    """Holding and committing touch none of its keys: they are there once somebody asks."""
    (made, *_) = await reserve_many(stocked.inventory, 3)
    await stocked.inventory.commit(made.id)
    assert not stocked.control.exists(keys.find(0), keys.found(0))
    await stocked.inventory.reservations()
    assert stocked.control.exists(keys.find(0), keys.found(0)) == 2


async def test_several_at_once_leave_nothing_out(stocked: Shop) -> None:
    """Three processes file while a fourth reserves: each list has what was answered before it was asked."""
    others = [await stocked.another_inventory() for _ in range(3)]
    made: list[str] = []
    is_open = True

    async def file(inventory: Inventory) -> int:
        asked = 0
        while is_open:
            known = set(made)
            assert known <= set(await list_all(inventory))
            asked += 1
        return asked

    filing = [asyncio.create_task(file(inventory)) for inventory in others]
    for number in range(40):
        made += [one.id for one in await reserve_many(stocked.inventory, 20, f"{number}-")]
    is_open = False
    assert min(await asyncio.gather(*filing)) > 1
    assert len(await list_all(stocked.inventory)) == len(made) == len(set(made))
    assert not (await audit(stocked.inventory)).differences
    assert cursor_of(stocked) == f"1-{stocked.control.hget(keys.meta(0), 'seq').decode()}"  # type: ignore[union-attr] - no promise
    for inventory in others:
        await inventory.close()


async def test_one_run_serves_all_who_ask_at_once(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty lists at once begin two ways through the ledger: whoever comes during one waits for the next."""
    await reserve_many(stocked.inventory, 10)
    begun: list[Filing] = []
    original = Filing.__init__

    def count(self: Filing, *rest: object, **more: object) -> None:
        begun.append(self)
        original(self, *rest, **more)  # type: ignore[arg-type] - passed on as they came

    monkeypatch.setattr(Filing, "__init__", count)
    found = await asyncio.gather(*(list_all(stocked.inventory) for _ in range(50)))
    assert {len(each) for each in found} == {10}
    assert len(begun) <= 2


@pytest.mark.parametrize("lost", [False, True], ids=["behind", "lost"])
async def test_cut_off_after_any_step(stocked: Shop, lost: bool) -> None:
    """Whoever files may die after each of its calls: the next goes on, and nothing is missing or undone."""
    inventory = stocked.inventory
    made = [one.id for one in await reserve_many(inventory)]
    await list_all(inventory)
    if lost:
        stocked.control.delete(keys.found(0), keys.find(0))
    else:
        for number in range(300):
            made += [one.id for one in await reserve_many(inventory, 1, f"later {number}-")]
    steps = 0
    while True:
        filing = inventory.index.filing(0)
        left = True
        for _ in range(steps + 1):
            left = left and await filing.step()
        steps += 1
        if not left:
            break
        assert steps < 200
    assert steps > 3, "it was over before it could be cut off"
    assert sorted(await list_all(inventory)) == sorted(made)
    assert not (await audit(inventory)).differences


async def test_a_call_that_never_arrived(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is cancelled while it files leaves a cursor that lies behind, never ahead."""
    inventory = stocked.inventory
    await list_all(inventory)
    made = await reserve_many(inventory)
    for turns in range(1, 40, 3):
        asking = asyncio.create_task(inventory.index.filing(0).step())
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        report = await audit(inventory)
        assert not report.differences
    assert len(await list_all(inventory)) == len(made)


async def test_no_call_files_too_much(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call has so few entries that nobody waits long behind it, and each cursor moves forward."""
    sizes: list[int] = []
    commands = stocked.inventory.dataset.commands[0]
    original = commands.index

    def measure(prior: bytes, cursor: bytes, added: list[bytes], gone: list[bytes] = []) -> object:  # noqa: B006 - not changed
        sizes.append(len(added))
        return original(prior, cursor, added, gone)

    monkeypatch.setattr(commands, "index", measure)
    await reserve_many(stocked.inventory)
    await list_all(stocked.inventory)
    assert sum(sizes) == entries_of(stocked) == MANY * 5
    assert max(sizes) <= CALL_ENTRIES


async def test_a_worker_files_ahead_of_those_who_ask(stocked: Shop) -> None:
    """Tick by tick; and it strikes out what was forgotten, though nobody meets it."""
    inventory = stocked.inventory
    other = await stocked.another_inventory()
    worker = Indexer(other)
    made = await reserve_many(inventory, 60)
    for _ in range(20):
        await worker.tick()
    await other.close()
    assert entries_of(stocked) == 5 * 60
    for one in made[:50]:
        await inventory.release(one.id)
    stocked.wait(RETENTION_SECONDS + 1)
    await inventory.sweep()
    fresh = await reserve_many(inventory, 2, "fresh ")
    worker = Indexer(inventory)
    for _ in range(20):
        await worker.tick()
    assert entries_of(stocked) == 5 * len(await list_all(inventory))
    assert [one.id for one in reversed(fresh)] == (await list_all(inventory))[:2]


async def test_a_server_without_memory_still_answers_lists(stocked: Shop) -> None:
    """What it takes no entries of, whoever asks keeps to itself, and nothing is lost for later."""
    inventory = stocked.inventory
    await list_all(inventory)
    made = [one.id for one in await reserve_many(inventory, 30)]
    cursor = cursor_of(stocked)
    full = node_of(stocked.control, keys.meta(0))
    full.config_set("maxmemory", 1)
    try:
        with pytest.raises(MemoryFull):
            await inventory.reserve("no", [Line("mug", 1, "s1")])
        assert await list_all(inventory) == made[::-1]
        page = await inventory.reservations(owner="o3", limit=2)
        assert [one.id for one in page.items] == [made[24], made[17]]
        assert cursor_of(stocked) == cursor
    finally:
        full.config_set("maxmemory", 0)
    assert await list_all(inventory) == made[::-1]
    assert cursor_of(stocked) != cursor


async def test_who_waits_too_long_is_told(stocked: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that takes long to make answers `overloaded`, is made all the same, and then answers."""
    made = await reserve_many(stocked.inventory, 50)
    monkeypatch.setattr("engine.limits.CALL_TIMEOUT_SECONDS", 0.05)
    original = Filing.step
    waits = [0.2]

    async def slow(self: Filing) -> bool:
        if waits:
            await asyncio.sleep(waits.pop())
        return await original(self)

    monkeypatch.setattr(Filing, "step", slow)
    with pytest.raises(Overloaded):
        await stocked.inventory.reservations()
    monkeypatch.setattr("engine.limits.CALL_TIMEOUT_SECONDS", 5.0)
    assert len(await list_all(stocked.inventory)) == len(made)


@pytest.mark.parametrize("kind", [b"a", b"o", b"s", b"l"])
async def test_an_entry_that_is_missing_is_found_by_the_audit(stocked: Shop, kind: bytes) -> None:
    """And only where the cursor says that it was filed."""
    (one, _) = await reserve_many(stocked.inventory, 2)
    assert not (await audit(stocked.inventory)).differences
    await list_all(stocked.inventory)
    assert not (await audit(stocked.inventory)).differences
    entries = stocked.control.zrange(keys.find(0), 0, -1)
    assert isinstance(entries, list)
    operation = stocked.inventory.dataset.ids.of_request("", "k0")
    stocked.control.zrem(
        keys.find(0), *(entry for entry in entries if entry[:1] == kind and entry.endswith(operation))
    )
    report = await audit(stocked.inventory)
    assert [difference.subject for difference in report.differences] == [f"index, reservation {one.id}"]
    assert not report.is_clean


async def test_a_new_location_is_no_reservation(stocked: Shop) -> None:
    """Events of other kinds move the cursor and file nothing."""
    await list_all(stocked.inventory)
    before = cursor_of(stocked)
    await stocked.inventory.save_location(Location("s9", LocationKind.STORE))
    assert await list_all(stocked.inventory) == []
    assert cursor_of(stocked) != before
    assert entries_of(stocked) == 0
