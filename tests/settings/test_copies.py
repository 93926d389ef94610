"""Every partition has the same settings: when saving ends, and when it ended too early."""

import asyncio
import random

from engine import (
    Channel,
    Component,
    Inventory,
    Item,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Outcome,
    Pool,
    connect,
)
from engine.audit import audit
from engine.errors import BincardError, ItemInUse, LocationInUse, Refused
from engine.events import SettingSaved, read_events
from engine.ids import caller_mark
from engine.keys import partition_of
from engine.setting_forms import SettingClass, encode_setting
from tests.servers import Server
from tests.settings.conftest import are_alike, stored_everywhere

STORE = LocationKind.STORE
S1, S2 = Location("s1", STORE), Location("s2", STORE, name="High Street")


async def decide_alone(inventory: Inventory, location: Location, *, gone: bool = False) -> None:
    """What is left of a save whose process ended once partition 0 had decided."""
    packed = b"" if gone else encode_setting(location)
    await inventory.dataset.commands[0].save_setting(SettingClass.LOCATION, location.id, packed)


def sku_outside(partitions: int) -> str:
    """A SKU that does not lie in partition 0."""
    return next(f"sku-{n}" for n in range(99) if partition_of(f"sku-{n}", partitions))


async def test_the_ledger_names_the_caller(inventory: Inventory) -> None:
    """In every partition, of each change; a copy that somebody else makes later names nobody."""
    await inventory.save_location(S1, caller="one")
    await inventory.save_location(S1, caller="two")
    await inventory.delete_location("s1", caller="two")
    await decide_alone(inventory, S2)
    await inventory.setting_store.align()
    one, two, nobody = caller_mark("one"), caller_mark("two"), bytes(3)
    for partition in range(inventory.dataset.partitions):
        found = [item async for item in read_events(inventory.dataset.topology, partition)]
        assert [item.caller for item in found if isinstance(item, SettingSaved)] == [one, two, nobody]


async def test_all_is_everywhere(inventory: Inventory) -> None:
    await inventory.save_location(S1)
    await inventory.save_location(S2)
    await inventory.save_pool(Pool("p", ("s1", "s2")))
    await inventory.save_channel(Channel("c", ("p",)))
    await inventory.save_item(Item("kit", components=(Component("part", 2),)))
    await inventory.delete_channel("c")
    await inventory.save_pool(Pool("p", ("s2",)))
    await inventory.delete_location("s1")
    found = await stored_everywhere(inventory)
    assert await are_alike(inventory)
    assert found[0] == (
        8,
        {
            SettingClass.LOCATION: {"s2": S2},
            SettingClass.POOL: {"p": Pool("p", ("s2",))},
            SettingClass.CHANNEL: {},
            SettingClass.ITEM: {"kit": Item("kit", components=(Component("part", 2),))},
            SettingClass.KEY: {},
        },
    )
    report = await audit(inventory)
    assert report.is_clean, report


async def test_the_next_save_heals(several: Inventory) -> None:
    """Of anything, and also of the same again, which is no change."""
    await decide_alone(several, S1)
    assert not await are_alike(several)
    await several.save_location(S2)
    assert await are_alike(several)
    await decide_alone(several, Location("s1", LocationKind.WAREHOUSE))
    await several.save_location(Location("s1", LocationKind.WAREHOUSE))
    assert await are_alike(several)
    await decide_alone(several, S1, gone=True)
    await several.save_location(S2)
    assert await are_alike(several)
    assert (await stored_everywhere(several))[7] == (await stored_everywhere(several))[0]
    assert [place.id for place in await several.locations()] == ["s2"]
    assert (await audit(several)).is_clean


async def test_any_sweep_heals(several: Inventory) -> None:
    for number in range(3):
        await decide_alone(several, Location(f"s{number}", STORE))
    report = await audit(several)
    assert {note.name for note in report.notes} == {"settings_behind"}
    assert not report.is_clean
    await several.sweep()
    assert await are_alike(several)
    assert (await audit(several)).is_clean


async def test_more_changes_than_are_copied_at_once(several: Inventory) -> None:
    await asyncio.gather(*(decide_alone(several, Location(f"s{number}", STORE)) for number in range(1200)))
    await several.setting_store.align()
    assert await are_alike(several)
    assert (await audit(several)).is_clean


async def test_goods_keep_their_place(several: Inventory) -> None:
    """A location with goods in any partition cannot be deleted; if partition 0 has done so, it is back."""
    sku = sku_outside(8)
    await several.save_location(S2)
    await several.record(Movement("m", MovementKind.RECEIVE, sku, "s2", 5))
    await several.save_item(Item(sku, name="box"))
    before = await stored_everywhere(several)
    for refused, error in (
        (several.delete_location("s2"), LocationInUse),
        (several.delete_item(sku), ItemInUse),
    ):
        try:
            await refused
        except Refused as refusal:
            assert type(refusal) is error  # noqa: PT017 - which one is the point
        else:
            raise AssertionError("nothing was refused")
    assert await stored_everywhere(several) == before
    await decide_alone(several, S2, gone=True)
    await several.dataset.commands[0].save_setting(SettingClass.ITEM, sku, b"")
    await several.sweep()
    assert await are_alike(several)
    assert await several.location("s2") == S2
    assert (await several.item(sku)).name == "box"
    assert (await several.reserve("r", [Line(sku, 5, "s2")])).lines[0].held == 5
    assert (await audit(several)).is_clean


async def test_goods_that_come_while_their_place_goes(several: Inventory) -> None:
    """Whichever comes first: where goods are, their location is, in every partition."""
    skus = [f"sku-{number}" for number in range(24)]
    for turn in range(12):
        place = f"t{turn}"
        await several.save_location(Location(place, STORE))
        moved = [Movement(f"m-{turn}-{sku}", MovementKind.RECEIVE, sku, place, 1) for sku in skus]
        results = await asyncio.gather(
            several.delete_location(place),
            *(several.record(movement) for movement in moved[turn:]),
            return_exceptions=True,
        )
        assert all(not isinstance(result, Exception) or isinstance(result, Refused) for result in results)
        await several.setting_store.align()
        assert await are_alike(several)
        has_goods = any(not isinstance(result, Exception) for result in results[1:])
        known = {location.id for location in await several.locations()}
        assert not has_goods or place in known
        assert isinstance(results[0], LocationInUse) == (place in known)
    report = await audit(several)
    assert report.is_clean, report


async def test_many_save_at_once(server: Server) -> None:
    """Two processes save and delete the same settings: all partitions agree in the end."""
    shops = [await connect(server.url, partitions=8) for _ in range(2)]

    async def act(shop: Inventory, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(25):
            place, pool = f"s{chance.randrange(5)}", f"p{chance.randrange(3)}"
            act = chance.randrange(5)
            try:
                if act < 2:
                    await shop.save_location(Location(place, STORE, name=str(chance.randrange(9))))
                elif act == 2:
                    await shop.save_pool(Pool(pool, (place, f"s{chance.randrange(5)}")))
                elif act == 3:
                    await shop.delete_location(place)
                else:
                    await shop.delete_pool(pool)
            except Refused as refusal:
                assert refusal.outcome in {  # noqa: PT017 - nothing else may be refused
                    Outcome.LOCATION_NOT_FOUND,
                    Outcome.LOCATION_IN_USE,
                    Outcome.POOL_NOT_FOUND,
                }

    await asyncio.gather(*(act(shop, 10 * at + seed) for at, shop in enumerate(shops) for seed in range(6)))
    assert await are_alike(shops[0])
    assert await shops[0].pools() == await shops[1].pools()
    report = await audit(shops[0])
    assert report.is_clean, report
    for shop in shops:
        await shop.close()


async def test_what_a_partition_has_of_its_own_is_found(several: Inventory) -> None:
    """Same number, other settings: the audit tells, though that partition's ledger agrees."""
    await several.save_location(S1)
    commands = several.dataset.commands
    await commands[0].save_setting(SettingClass.LOCATION, "s2", encode_setting(S2))
    for partition in range(1, 8):
        packed = encode_setting(S1 if partition == 3 else S2)
        await commands[partition].save_setting(SettingClass.LOCATION, "s2", packed, at=1, to=2)
    report = await audit(several)
    assert [found.subject for found in report.differences] == ["settings of location s2, against partition 0"]
    assert {found.partition for found in report.differences} == {3}


async def test_a_repeat_is_refused_as_the_first_was(inventory: Inventory) -> None:
    """Refusals leave nothing behind: neither an effect nor a number."""
    await inventory.save_location(S1)
    before = await stored_everywhere(inventory)
    for _ in range(2):
        for refused in (
            inventory.save_pool(Pool("p", ("s1", "s9"))),
            inventory.save_channel(Channel("c", ("p",))),
            inventory.save_item(Item("kit", components=(Component("kit", 1),))),
            inventory.delete_location("s9"),
            inventory.delete_pool("p"),
            inventory.delete_channel("c"),
            inventory.delete_item("kit"),
        ):
            try:
                await refused
            except BincardError:
                continue
            raise AssertionError("nothing was refused")
    assert await stored_everywhere(inventory) == before
