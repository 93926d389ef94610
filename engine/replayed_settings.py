"""What settings the books should show, worked out from the ledger: see `ledger`."""

from collections.abc import Sequence
from typing import cast

from engine.cards import UNLIMITED
from engine.events import SettingSaved
from engine.setting_forms import FORMS, SettingClass, decode_names, decode_setting, field_of
from engine.types import Item, Location, PolicyDefaults

_ABSENT = 2**53 - 1
"""A number that a setting does not name: see `lua/lib/defaults.lua`."""


class ReplayedSettings:
    """One partition's settings, event by event."""

    def __init__(self, partition: int) -> None:
        self.number = 0
        """Of the last change."""
        self.stored: dict[SettingClass, dict[str, bytes]] = {kind: {} for kind in FORMS}
        self.changed: dict[str, int] = {}
        """Class and id → the number of the last change."""
        self._users: dict[str, dict[str, None]] = {}
        self._decides = partition == 0

    def users(self) -> dict[str, bytes]:
        """Class and id → who names it, as it is stored."""
        return {
            field: b"".join(b"%b\n" % user.encode() for user in users)
            for field, users in self._users.items()
            if users
        }

    def defaults(self) -> dict[str, bytes]:
        """Class and id → what the setting says of positions without a policy, as it is stored."""
        found = {}
        for kind in (SettingClass.LOCATION, SettingClass.ITEM):
            for name in self.stored[kind]:
                numbers = self._defaults_of(kind, name)
                if any(number is not None for number in numbers):
                    packed = (_ABSENT if number is None else number for number in numbers)
                    found[field_of(kind, name)] = b"".join(number.to_bytes(7, "little") for number in packed)
        return found

    def default_policy(self, sku: str, location: str) -> tuple[int, ...]:
        """Safety stock, backorder limit and low-stock band of a position without a policy of its own."""
        item = self._defaults_of(SettingClass.ITEM, sku)
        place = self._defaults_of(SettingClass.LOCATION, location)
        return tuple(
            next((number for number in both if number is not None), 0)
            for both in zip(item, place, strict=True)
        )

    def _defaults_of(self, kind: SettingClass, name: str) -> tuple[int | None, int | None, int | None]:
        packed = self.stored[kind].get(name)
        setting = None if packed is None else cast("Item | Location", decode_setting(kind, packed))
        policy = (setting.policy if setting else None) or PolicyDefaults()
        is_counted = not isinstance(setting, Item) or setting.tracked
        limit = policy.backorder_limit if is_counted else UNLIMITED
        return policy.safety_stock, limit, policy.low_stock

    def apply(self, event: SettingSaved, *, has_goods: bool) -> list[str]:
        """Takes a change. Returns what is wrong about it; `has_goods`: positions of it exist here."""
        faults = self._find_faults(event, has_goods=has_goods)
        kind, name = event.kind, event.id
        self._change_users(kind, name, self._names(kind, name), event.read_names())
        self.number = self.changed[field_of(kind, name)] = event.number
        if event.settings:
            self.stored[kind][name] = event.settings
        else:
            self.stored[kind].pop(name, None)
        return faults

    def _find_faults(self, event: SettingSaved, *, has_goods: bool) -> list[str]:
        kind, name, decides = event.kind, event.id, self._decides
        faults = []
        if event.number <= self.number or (decides and event.number != self.number + 1):
            faults.append(f"has the number {event.number} after {self.number}")
        if not event.settings:
            if has_goods or (decides and self._users.get(field_of(kind, name))):
                faults.append("was deleted while in use")
            if decides and name not in self.stored[kind]:
                faults.append("was deleted and was not there")
        elif decides and kind in {SettingClass.POOL, SettingClass.CHANNEL}:
            known = self.stored[SettingClass.LOCATION if kind is SettingClass.POOL else SettingClass.POOL]
            unknown = [named for named in event.read_names() if named not in known]
            faults += [f"names {named}, which is not there" for named in unknown]
        return faults

    def _change_users(
        self, kind: SettingClass, name: str, before: Sequence[str], after: Sequence[str]
    ) -> None:
        named = FORMS[kind].names
        if named is None:
            return
        for gone in set(before) - set(after):
            self._users[field_of(named, gone)].pop(name, None)
        for new in after:
            self._users.setdefault(field_of(named, new), {}).setdefault(name)

    def _names(self, kind: SettingClass, name: str) -> list[str]:
        packed = self.stored[kind].get(name)
        return [] if packed is None else decode_names(packed)[0]
