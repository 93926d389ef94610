"""The settings of locations, pools, channels and items, which every partition keeps."""

from typing import cast

from engine.dataset import Dataset
from engine.defaults import DefaultsKeeper
from engine.errors import REFUSAL_ERRORS
from engine.setting_forms import FORMS, Setting, SettingClass
from engine.setting_store import SettingStore
from engine.settings import SettingsView
from engine.types import Channel, Item, Location, Pool


class Places:
    """The part of `Inventory` that knows settings. The ledger names who changed one: `caller`."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.metrics = dataset.metrics
        self.settings = SettingsView(dataset.topology)
        """What this process knows of all settings; see `SettingsView.current`."""
        self.setting_store = SettingStore(dataset, self.settings)
        self.defaults = DefaultsKeeper(dataset)
        """Brings positions to changed defaults."""
        self._partitions = dataset.partitions

    # ---------------------------------------------------------------- locations

    async def save_location(self, location: Location, *, caller: str = "") -> Location:
        """Creates or replaces a location's settings. Positions without a policy of their own follow its
        defaults: at once where the stock is small, else soon. Raises `InvalidRequest`.
        """
        saved = await self.setting_store.save(location, caller)
        await self.defaults.follow_location()
        return saved

    async def delete_location(self, location: str, *, caller: str = "") -> None:
        """Raises `LocationNotFound`, and `LocationInUse` while positions exist there or a pool names it."""
        await self.setting_store.delete(SettingClass.LOCATION, location, caller)

    async def location(self, location: str) -> Location:
        """The settings of a location. Raises `LocationNotFound`."""
        return cast("Location", await self._find_setting(SettingClass.LOCATION, location))

    async def locations(self) -> list[Location]:
        """All locations, by id."""
        return [cast("Location", found) for found in await self._list_settings(SettingClass.LOCATION)]

    # ---------------------------------------------------------------- pools

    async def save_pool(self, pool: Pool, *, caller: str = "") -> Pool:
        """Creates or replaces a pool. Raises `InvalidRequest`, `LocationNotFound`."""
        return await self.setting_store.save(pool, caller)

    async def delete_pool(self, pool: str, *, caller: str = "") -> None:
        """Raises `PoolNotFound`, and `PoolInUse` while a channel sells from it."""
        await self.setting_store.delete(SettingClass.POOL, pool, caller)

    async def pool(self, pool: str) -> Pool:
        """A pool. Raises `PoolNotFound`."""
        return cast("Pool", await self._find_setting(SettingClass.POOL, pool))

    async def pools(self) -> list[Pool]:
        """All pools, by id."""
        return [cast("Pool", found) for found in await self._list_settings(SettingClass.POOL)]

    # ---------------------------------------------------------------- channels

    async def save_channel(self, channel: Channel, *, caller: str = "") -> Channel:
        """Creates or replaces a channel. Raises `InvalidRequest`, `PoolNotFound`."""
        return await self.setting_store.save(channel, caller)

    async def delete_channel(self, channel: str, *, caller: str = "") -> None:
        """Raises `ChannelNotFound`, and `ChannelInUse` while it has fences."""
        await self.setting_store.delete(SettingClass.CHANNEL, channel, caller)

    async def channel(self, channel: str) -> Channel:
        """A channel. Raises `ChannelNotFound`."""
        return cast("Channel", await self._find_setting(SettingClass.CHANNEL, channel))

    async def channels(self) -> list[Channel]:
        """All channels, by id."""
        return [cast("Channel", found) for found in await self._list_settings(SettingClass.CHANNEL)]

    # ---------------------------------------------------------------- items

    async def save_item(self, item: Item, *, caller: str = "") -> Item:
        """Creates or replaces an item's settings; GTINs get 14 digits. Positions without a policy of their
        own follow its defaults. Raises `InvalidRequest`, also for a kit that would contain itself, or be
        nested too deeply.
        """
        saved = await self.setting_store.save(item, caller)
        await self.defaults.follow_item(saved.sku)
        return saved

    async def delete_item(self, sku: str, *, caller: str = "") -> None:
        """Raises `ItemNotFound`, and `ItemInUse` while positions of it exist or a kit has it."""
        await self.setting_store.delete(SettingClass.ITEM, sku, caller)

    async def item(self, sku: str) -> Item:
        """The settings of an item. Raises `ItemNotFound`."""
        return cast("Item", await self._find_setting(SettingClass.ITEM, sku))

    async def items(self) -> list[Item]:
        """All items that have settings, by SKU."""
        return [cast("Item", found) for found in await self._list_settings(SettingClass.ITEM)]

    # ---------------------------------------------------------------- reading

    async def _find_setting(self, kind: SettingClass, name: str) -> Setting:
        found = (await self.settings.latest()).stored[kind].get(name)
        if found is None:
            raise REFUSAL_ERRORS[FORMS[kind].not_found](f"there is no {FORMS[kind].word} {name}")
        return found

    async def _list_settings(self, kind: SettingClass) -> list[Setting]:
        settings = await self.settings.latest()
        return [settings.stored[kind][name] for name in settings.ids(kind)]
