"""Brings positions to the defaults of their items and locations, once these have changed.

A position that is made has the defaults of its partition from the start (`lua/lib/defaults.lua`). Where they
change, the script that saves the setting leaves a member in `inheriting`; it stays until all positions
were looked at, however often that begins anew. To look at a position twice does nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

from engine import keys
from engine.cards import is_divider, read_counters
from engine.commands import Commands
from engine.dataset import Dataset
from engine.keys import partition_of
from engine.setting_forms import SettingClass, split_field

AT_ONCE = 500
"""Positions that wait for the server at a time."""
SMALL_STOCK = 2000
"""Where a partition has no more SKUs, who saves a location waits until all its positions follow."""


class DefaultsKeeper:
    """Finds the positions that follow a setting."""

    def __init__(self, dataset: Dataset) -> None:
        self._topology = dataset.topology
        self._commands = dataset.commands
        self._partitions = dataset.partitions

    async def catch_up(self) -> None:
        """Brings all positions to all changes. Costs a read of each partition, and one of all its stock where
        a location changed. Raises `Unavailable`, `Unconfirmed`.
        """
        await asyncio.gather(*map(self._catch_up_in, self._commands))

    async def follow_item(self, sku: str) -> None:
        """Brings the positions of an item to its defaults. Raises as `catch_up`."""
        commands = self._commands[partition_of(sku, self._partitions)]
        await _inherit(commands, [(sku, location) for location in await _locations_of(commands, sku)])

    async def follow_location(self) -> None:
        """Does the same for locations, where that does not take long; else a worker does."""
        for commands in self._commands:
            reading = self._topology.read_at_once(("HLEN", keys.stock(commands.partition)))
            (size,) = await asyncio.get_running_loop().create_task(reading)
            if cast("int", size) <= SMALL_STOCK:
                await asyncio.get_running_loop().create_task(self._catch_up_in(commands))

    async def _catch_up_in(self, commands: Commands) -> None:
        (found,) = await self._topology.read_at_once(("ZRANGE", keys.inheriting(commands.partition), 0, -1))
        members = cast("list[bytes]", found)
        changed = [split_field(member.partition(b"\n")[2]) for member in members]
        places = {name for kind, name in changed if kind is SettingClass.LOCATION}
        for kind, sku in changed:
            if kind is SettingClass.ITEM and partition_of(sku, self._partitions) == commands.partition:
                await self.follow_item(sku)
        if places:
            waiting = list[tuple[str, str]]()
            async for position in self._positions_at(commands, places):
                waiting.append(position)
                if len(waiting) == AT_ONCE:
                    await _inherit(commands, waiting)
                    waiting = []
            await _inherit(commands, waiting)
        await asyncio.gather(*(commands.end_inheriting(member) for member in members))

    async def _positions_at(self, commands: Commands, places: set[str]) -> AsyncIterator[tuple[str, str]]:
        async for field, raw in self._topology.scan_hash(keys.stock(commands.partition)):
            # No fences, blocks and pages: a SKU that is divided, perhaps just now, is read as a whole.
            if b"\n" not in field:
                sku = field.decode()
                found = await _locations_of(commands, sku) if is_divider(raw) else read_counters(raw)[0]
                for location in places.intersection(found):
                    yield sku, location


async def _locations_of(commands: Commands, sku: str) -> list[str]:
    _, _, _, answer = await commands.cards(sku, swept=True)
    cards = answer[1:] if type(answer) is list else [answer]
    return [location for card in cards if card for location in read_counters(card)[0]]


async def _inherit(commands: Commands, positions: list[tuple[str, str]]) -> None:
    await asyncio.gather(*(commands.inherit(sku, location) for sku, location in positions))
