"""The forms in which settings are stored, and what each class of settings is about.

A stored setting is `names(H) { name(2 + n) }` and then the Struct: the names are what the scripts read of it.
"""

from collections.abc import Callable
from enum import IntEnum

import msgspec
from msgspec import Struct

from engine import keys
from engine.outcomes import Outcome
from engine.types import ApiKey, Channel, Item, Location, Pool

Setting = Location | Pool | Channel | Item | ApiKey


class SettingClass(IntEnum):
    """The classes of settings, numbered as `lua/save_setting.lua` and the ledger have them."""

    LOCATION = 1
    POOL = 2
    CHANNEL = 3
    ITEM = 4
    KEY = 5


class Form(Struct, frozen=True):
    """What sets a class of settings apart. `names` is the class of what its settings name."""

    word: str
    key: Callable[[int], str]
    type: type[Setting]
    not_found: Outcome
    names: SettingClass | None


FORMS: dict[SettingClass, Form] = {
    SettingClass.LOCATION: Form("location", keys.locations, Location, Outcome.LOCATION_NOT_FOUND, None),
    SettingClass.POOL: Form("pool", keys.pools, Pool, Outcome.POOL_NOT_FOUND, SettingClass.LOCATION),
    SettingClass.CHANNEL: Form(
        "channel", keys.channels, Channel, Outcome.CHANNEL_NOT_FOUND, SettingClass.POOL
    ),
    SettingClass.ITEM: Form("item", keys.items, Item, Outcome.ITEM_NOT_FOUND, SettingClass.ITEM),
    SettingClass.KEY: Form("key", keys.api_keys, ApiKey, Outcome.KEY_NOT_FOUND, None),
}
_encode = msgspec.msgpack.Encoder().encode
_decode = {form.type: msgspec.msgpack.Decoder(form.type).decode for form in FORMS.values()}


def class_of(setting: Setting) -> SettingClass:
    """The class of a setting."""
    return next(kind for kind, form in FORMS.items() if isinstance(setting, form.type))


def id_of(setting: Setting) -> str:
    """The id of a setting, which of an item is its SKU."""
    return setting.sku if isinstance(setting, Item) else setting.id


def names_of(setting: Setting) -> tuple[str, ...]:
    """What a setting names: a pool its locations, a channel its pools, a kit its components."""
    match setting:
        case Pool():
            return setting.locations
        case Channel():
            return setting.pools
        case Item():
            return tuple(component.sku for component in setting.components)
        case _:
            return ()


def encode_setting(setting: Setting) -> bytes:
    """A setting as it is stored."""
    names = [name.encode() for name in names_of(setting)]
    parts = [part for name in names for part in (len(name).to_bytes(2, "little"), name)]
    return b"".join((len(names).to_bytes(2, "little"), *parts, _encode(setting)))


def decode_names(packed: bytes) -> tuple[list[str], int]:
    """The names that a stored setting begins with, and where they end."""
    names, cursor = [], 2
    for _ in range(int.from_bytes(packed[:2], "little")):
        end = cursor + 2 + int.from_bytes(packed[cursor : cursor + 2], "little")
        names.append(packed[cursor + 2 : end].decode())
        cursor = end
    return names, cursor


def decode_setting(kind: SettingClass, packed: bytes) -> Setting:
    """A setting from its stored form."""
    return _decode[FORMS[kind].type](memoryview(packed)[decode_names(packed)[1] :])


def field_of(kind: int, name: str) -> str:
    """Class and id as the hash of who names what and the index of changes have them."""
    return f"{kind}\n{name}"


def split_field(field: bytes) -> tuple[SettingClass, str]:
    """Class and id of such a field."""
    kind, _, name = field.decode().partition("\n")
    return SettingClass(int(kind)), name
