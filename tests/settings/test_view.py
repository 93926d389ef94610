"""What a process knows of settings: a snapshot, a second old at the most, that costs nothing to look at."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import engine
from engine import Channel, Inventory, Item, Location, LocationKind, PolicyDefaults, Pool
from engine import settings as settings_module
from engine.setting_forms import SettingClass
from engine.settings import FEW_CHANGES, Settings, SettingsView
from tests.servers import Control, Server

STORE = LocationKind.STORE


@pytest.fixture
async def one(server: Server) -> AsyncIterator[Inventory]:
    opened = await engine.connect(server.url)
    yield opened
    await opened.close()


@pytest.fixture
async def other(server: Server, one: Inventory) -> AsyncIterator[Inventory]:
    """Another process."""
    opened = await engine.connect(server.url)
    yield opened
    await opened.close()


def step(view: SettingsView) -> Settings:
    """The snapshot, where it is answered without waiting."""
    with pytest.raises(StopIteration) as stopped:
        view.current().send(None)
    found = stopped.value.value
    assert isinstance(found, Settings)
    return found


async def test_nobody_waits_for_what_is_fresh(one: Inventory, other: Inventory) -> None:
    assert one.settings.peek() is None
    first = await one.settings.current()
    await other.save_location(Location("s1", STORE))
    assert step(one.settings) is first is one.settings.peek()
    one.settings.expire()
    assert one.settings.peek() is None
    second = await one.settings.current()
    assert (second.number, list(second.locations)) == (1, ["s1"])
    assert not first.locations
    assert step(one.settings) is second


async def test_a_second_later_it_is_looked_at_again(
    one: Inventory, other: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "FRESH_SECONDS", 0.05)
    first = await one.settings.current()
    await asyncio.sleep(0.06)
    assert await one.settings.current() is first
    await other.save_location(Location("s1", STORE))
    await asyncio.sleep(0.06)
    assert list((await one.settings.current()).locations) == ["s1"]


async def test_own_writes_are_seen_at_once(one: Inventory) -> None:
    await one.settings.current()
    await one.save_location(Location("s1", STORE))
    assert list((await one.settings.current()).locations) == ["s1"]
    await one.delete_location("s1")
    assert not (await one.settings.current()).locations


async def test_the_latest_has_all_that_was_answered(one: Inventory, other: Inventory) -> None:
    """Changed, made anew and deleted, little and very much at a time."""
    for name in ("a", "b", "c"):
        await other.save_item(Item(name))
    known = await one.settings.latest()
    await asyncio.gather(
        *(other.save_item(Item(name, name="x")) for name in ("a", "d")), other.delete_item("b")
    )
    latest = await one.settings.latest()
    assert {sku: item.name for sku, item in latest.items.items()} == {"a": "x", "c": None, "d": "x"}
    assert sorted(known.items) == ["a", "b", "c"]
    assert latest.ids(SettingClass.ITEM) == ["a", "c", "d"]
    await asyncio.gather(*(other.save_item(Item(f"n{number}")) for number in range(FEW_CHANGES + 1)))
    many = await one.settings.latest()
    assert len(many.items) == FEW_CHANGES + 4
    assert many.number == latest.number + FEW_CHANGES + 1


async def test_books_that_were_rolled_back(one: Inventory, control: Control) -> None:
    """In another epoch the same number says nothing: everything is read."""
    await one.save_location(Location("s1", STORE))
    await one.settings.latest()
    control.hset("inv:{0}:meta", "epoch", 7)
    control.delete("inv:{0}:locations")
    assert not (await one.settings.latest()).locations


async def test_many_ask_and_one_reads(one: Inventory, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0
    topology = one.dataset.topology
    read = topology.read_at_once

    async def count(*requests: object) -> list[object]:
        nonlocal reads
        reads += 1
        return await read(*requests)  # type: ignore[arg-type] - passed on

    monkeypatch.setattr(topology, "read_at_once", count)
    found = await asyncio.gather(*(one.settings.current() for _ in range(50)))
    assert all(each is found[0] for each in found)
    assert reads == 2


async def test_locations_in_order(one: Inventory) -> None:
    """Of a pool and of a channel: by priority, then as they are named; each once."""
    for name, priority in (("a", 2), ("b", 0), ("c", 1), ("d", 0)):
        await one.save_location(Location(name, STORE, priority=priority))
    await one.save_pool(Pool("p", ("a", "d", "b")))
    await one.save_pool(Pool("q", ("c", "b")))
    await one.save_channel(Channel("web", ("p", "q")))
    await one.save_channel(Channel("pos", ("q",)))
    settings = await one.settings.latest()
    assert settings.locations_of_pool("p") == ("d", "b", "a")
    assert settings.locations_of_channel("web") == ("d", "b", "c", "a")
    assert settings.locations_of_channel("pos") == ("b", "c")
    assert [settings.sharing(name) for name in ("a", "b", "c", "d", "x")] == [1, 2, 1, 1, 0]


@pytest.mark.parametrize(
    ("item", "location", "policy"),
    [
        (None, None, (0, 0, 0)),
        ((1, 2, 3), None, (1, 2, 3)),
        (None, (4, 5, 6), (4, 5, 6)),
        ((1, None, 3), (4, 5, None), (1, 5, 3)),
        ((0, None, None), (4, 5, 6), (0, 5, 6)),
    ],
)
async def test_defaults_of_policies(
    one: Inventory,
    item: tuple[int | None, ...] | None,
    location: tuple[int | None, ...] | None,
    policy: tuple[int, ...],
) -> None:
    """What the item says goes before what the location says, each number by itself; 0 says something."""
    await one.save_item(Item("A", policy=PolicyDefaults(*item) if item else None))
    await one.save_location(Location("s1", STORE, policy=PolicyDefaults(*location) if location else None))
    settings = await one.settings.latest()
    assert settings.default_policy("A", "s1") == PolicyDefaults(*policy)
    assert settings.default_policy("unknown", "unknown") == PolicyDefaults(0, 0, 0)
