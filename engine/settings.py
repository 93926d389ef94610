"""The settings as every process keeps them: a snapshot that never changes, replaced by newer ones.

All partitions have the same settings, numbered by the decisions of partition 0 (`lua/save_setting.lua`), so
that one number tells whether a snapshot is what a script sees.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import cached_property
from time import monotonic
from typing import cast

from engine import keys
from engine.cards import UNLIMITED
from engine.errors import StorageUnavailable
from engine.nearby import Grid
from engine.setting_forms import FORMS, Setting, SettingClass, decode_setting, split_field
from engine.topology import Topology
from engine.types import ApiKey, Channel, Item, Location, PolicyDefaults, Pool

FRESH_SECONDS = 1.0
"""How long a snapshot is taken for the newest without asking."""
REFRESH_SECONDS = 1.0
"""How long one waits for a newer one."""
FEW_CHANGES = 1000
"""So many are read one by one; where there are more, everything is read."""
_NO_DEFAULTS = PolicyDefaults()

Stored = Mapping[SettingClass, Mapping[str, Setting]]


class Settings:
    """All settings as of one number. Compute nothing from it that a script could decide otherwise: it may be
    a second old.
    """

    def __init__(self, epoch: int, number: int, stored: Stored) -> None:
        self.epoch = epoch
        self.number = number
        """Of the last decision in it: what the scripts have in `settings` of the partition's meta hash."""
        self.stored = stored
        self.locations = cast("Mapping[str, Location]", stored[SettingClass.LOCATION])
        self.pools = cast("Mapping[str, Pool]", stored[SettingClass.POOL])
        self.channels = cast("Mapping[str, Channel]", stored[SettingClass.CHANNEL])
        self.items = cast("Mapping[str, Item]", stored[SettingClass.ITEM])
        self.api_keys = cast("Mapping[str, ApiKey]", stored[SettingClass.KEY])

    def locations_of_pool(self, pool: str) -> Sequence[str]:
        """The locations of a pool, those of the lowest priority number first, else as the pool names them."""
        return self._pool_locations[pool]

    def locations_of_channel(self, channel: str) -> Sequence[str]:
        """The locations of all pools of a channel, each once, in the order of `locations_of_pool`."""
        return self._channel_locations[channel]

    @cached_property
    def kits(self) -> frozenset[str]:
        """The SKUs that are sold as components."""
        return frozenset(item.sku for item in self.items.values() if item.components)

    def sharing(self, location: str) -> int:
        """How many pools have a location."""
        return self._sharing.get(location, 0)

    def near(self, lat: float, lon: float, radius_km: float) -> Sequence[tuple[float, Location]]:
        """The locations within a radius and how many kilometres each is away, the nearest first."""
        return self._grid.near(lat, lon, radius_km)

    def default_policy(self, sku: str, location: str) -> PolicyDefaults:
        """What holds at a position without a policy of its own: what the item says, else what the location
        says, else 0.
        """
        item, place = self.items.get(sku), self.locations.get(location)
        first = (item.policy if item else None) or _NO_DEFAULTS
        second = (place.policy if place else None) or _NO_DEFAULTS
        limit = first.backorder_limit if item is None or item.tracked else UNLIMITED
        return PolicyDefaults(
            _either(first.safety_stock, second.safety_stock),
            _either(limit, second.backorder_limit),
            _either(first.low_stock, second.low_stock),
        )

    def ids(self, kind: SettingClass) -> Sequence[str]:
        """The ids of a class, in order."""
        found = self._ids.get(kind)
        if found is None:
            found = self._ids[kind] = sorted(self.stored[kind])
        return found

    @cached_property
    def _ids(self) -> dict[SettingClass, list[str]]:
        return {}

    @cached_property
    def _pool_locations(self) -> dict[str, tuple[str, ...]]:
        return {pool.id: self._in_order(pool.locations) for pool in self.pools.values()}

    @cached_property
    def _channel_locations(self) -> dict[str, tuple[str, ...]]:
        pools = self.pools
        return {
            channel.id: self._in_order(
                [place for pool in channel.pools if pool in pools for place in pools[pool].locations]
            )
            for channel in self.channels.values()
        }

    @cached_property
    def _grid(self) -> Grid:
        return Grid(self.locations.values())

    @cached_property
    def _sharing(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for pool in self.pools.values():
            for location in pool.locations:
                counts[location] = counts.get(location, 0) + 1
        return counts

    def _in_order(self, names: Sequence[str]) -> tuple[str, ...]:
        places = self.locations
        known = [name for name in dict.fromkeys(names) if name in places]
        return tuple(sorted(known, key=lambda name: places[name].priority))


class SettingsView:
    """Keeps the newest snapshot that this process has seen."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._known: Settings | None = None
        self._checked = 0.0
        self._refreshing: asyncio.Task[Settings] | None = None

    def peek(self) -> Settings | None:
        """The snapshot where it is fresh: for who cannot wait."""
        return self._known if monotonic() - self._checked < FRESH_SECONDS else None

    def glance(self) -> Settings | None:
        """The newest snapshot that this process has, and no waiting; where it is not fresh another is
        fetched. None until the first has come.
        """
        if monotonic() - self._checked >= FRESH_SECONDS and (
            self._refreshing is None or self._refreshing.done()
        ):
            self._refreshing = self._begin_refresh()
        return self._known

    async def current(self) -> Settings:
        """A snapshot that was the newest within the last second. It waits for nothing while it is fresh.

        Raises `StorageUnavailable`.
        """
        known = self._known
        if known is not None and monotonic() - self._checked < FRESH_SECONDS:
            return known
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._begin_refresh()
        return await asyncio.shield(self._refreshing)

    async def latest(self) -> Settings:
        """A snapshot with all that was answered before this call. Raises `StorageUnavailable`."""
        return await asyncio.shield(self._begin_refresh())

    def expire(self) -> None:
        """Somebody knows that there are newer settings: whoever asks next, asks the server."""
        self._checked = 0.0

    def _begin_refresh(self) -> asyncio.Task[Settings]:
        # A task of its own: the client needs one, and a caller may step us without (`api/protocol.py`).
        task = asyncio.get_running_loop().create_task(self._refresh_in_time())
        # All who asked may have given up when it fails.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return task

    async def _refresh_in_time(self) -> Settings:
        """Who has settings already does not wait for a server that hangs."""
        if self._known is None:
            return await self._refresh()
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                return await self._refresh()
        except TimeoutError as late:
            raise StorageUnavailable("the server does not tell its settings") from late

    async def _refresh(self) -> Settings:
        began, known = monotonic(), self._known
        after = "+inf" if known is None else f"({known.number}"
        head, changed = await self._topology.read_at_once(
            ("HMGET", keys.meta(0), "epoch", "settings"),
            ("ZRANGEBYSCORE", keys.changes(0), after, "+inf"),
        )
        epoch, number = (int(found or 0) for found in cast("list[bytes | None]", head))
        if known is not None and (known.epoch, known.number) == (epoch, number):
            found = known
        elif known is None or known.epoch != epoch or len(cast("list[bytes]", changed)) > FEW_CHANGES:
            found = await read_settings(self._topology)
        else:
            found = await self._read_changes(known, number, cast("list[bytes]", changed))
        newest = self._known
        if newest is None or newest.epoch != found.epoch or newest.number <= found.number:
            self._known, self._checked = found, max(self._checked, began)
        return found

    async def _read_changes(self, known: Settings, number: int, changed: Sequence[bytes]) -> Settings:
        """The snapshot with what changed. What changes meanwhile may be in it already."""
        fields = [split_field(field) for field in changed]
        packed = await self._topology.read_at_once(
            *(("HGET", FORMS[kind].key(0), name) for kind, name in fields)
        )
        stored = {kind: dict(settings) for kind, settings in known.stored.items()}
        for (kind, name), raw in zip(fields, cast("list[bytes | None]", packed), strict=True):
            if raw is None:
                stored[kind].pop(name, None)
            else:
                stored[kind][name] = decode_setting(kind, raw)
        return Settings(known.epoch, number, stored)


async def read_settings(topology: Topology, partition: int = 0) -> Settings:
    """All settings that a partition has. Raises `StorageUnavailable`."""
    head, *hashes = await topology.read_at_once(
        ("HMGET", keys.meta(partition), "epoch", "settings"),
        *(("HGETALL", form.key(partition)) for form in FORMS.values()),
    )
    epoch, number = (int(found or 0) for found in cast("list[bytes | None]", head))
    stored = {
        kind: {name.decode(): decode_setting(kind, raw) for name, raw in found.items()}
        for kind, found in zip(FORMS, cast("list[dict[bytes, bytes]]", hashes), strict=True)
    }
    return Settings(epoch, number, stored)


def _either(first: int | None, second: int | None) -> int:
    return next((number for number in (first, second) if number is not None), 0)
