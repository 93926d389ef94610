"""What settings may say. Whatever is wrong is an `InvalidRequest` that points to it."""

from collections.abc import Sequence
from functools import cache
from re import compile as compile_pattern
from typing import TypeVar, cast
from zoneinfo import available_timezones

from msgspec.structs import replace

from engine import limits, planner
from engine.errors import InvalidRequest
from engine.setting_forms import Setting, SettingClass, class_of, id_of
from engine.types import ApiKey, Buffer, Capability, Channel, Component, Item, Location, PolicyDefaults, Pool

GTIN_LENGTHS = (8, 12, 13, 14)
_GLN = compile_pattern(r"[0-9]{13}")
_GTIN = compile_pattern(r"[0-9]{8,14}")
_Saved = TypeVar("_Saved", bound=Setting)


def check_id(kind: SettingClass, name: str, field: str) -> None:
    """Raises `InvalidRequest` unless the text can name a setting of that class."""
    if kind is SettingClass.ITEM:
        planner.check_sku(name, field)
    elif not planner.LOCATION_PATTERN.fullmatch(name):
        raise InvalidRequest(field, "an id has 1 to 64 of A-Z a-z 0-9 . _ -")


def checked(setting: _Saved) -> _Saved:
    """A setting as it is kept: what may be written in several ways, in one. Raises `InvalidRequest`."""
    kind = class_of(setting)
    check_id(kind, id_of(setting), "/sku" if kind is SettingClass.ITEM else "/id")
    match setting:
        case Location():
            kept: Setting = _checked_location(setting)
        case Pool():
            kept = replace(setting, locations=_checked_ids(setting.locations, "/locations"))
        case Channel():
            _check_buffer(setting.buffer)
            kept = replace(setting, pools=_checked_ids(setting.pools, "/pools"))
        case ApiKey():
            kept = setting
        case _:
            kept = _checked_item(setting)
    return cast("_Saved", kept)


def _checked_location(location: Location) -> Location:
    if (location.lat is None) != (location.lon is None):
        raise InvalidRequest("/lat" if location.lat is None else "/lon", "give both lat and lon, or none")
    _check_range(location.lat, 90, "/lat")
    _check_range(location.lon, 180, "/lon")
    if not -limits.MAX_PRIORITY <= location.priority <= limits.MAX_PRIORITY:
        raise InvalidRequest("/priority", f"from -{limits.MAX_PRIORITY} to {limits.MAX_PRIORITY}")
    for index, capability in enumerate(location.capabilities):
        if capability not in set(Capability):
            raise InvalidRequest(f"/capabilities/{index}", f"one of {', '.join(Capability)}")
    if location.time_zone is not None and location.time_zone not in _time_zones():
        raise InvalidRequest("/time_zone", "the name of a time zone, as Europe/Berlin")
    if location.gln is not None:
        if not _GLN.fullmatch(location.gln):
            raise InvalidRequest("/gln", "a GLN has 13 digits")
        _check_digit(location.gln, "/gln")
    _check_policy(location.policy)
    return replace(location, capabilities=tuple(dict.fromkeys(location.capabilities)))


def _checked_item(item: Item) -> Item:
    if len(item.gtins) > limits.MAX_GTINS:
        raise InvalidRequest("/gtins", f"at the most {limits.MAX_GTINS}")
    gtins = [_checked_gtin(gtin, f"/gtins/{index}") for index, gtin in enumerate(item.gtins)]
    _check_components(item.sku, item.components)
    _check_policy(item.policy)
    return replace(item, gtins=tuple(dict.fromkeys(gtins)))


def _check_components(sku: str, components: Sequence[Component]) -> None:
    if len(components) > limits.MAX_COMPONENTS:
        raise InvalidRequest("/components", f"at the most {limits.MAX_COMPONENTS}")
    seen = set[str]()
    for index, component in enumerate(components):
        field = f"/components/{index}"
        planner.check_sku(component.sku, f"{field}/sku")
        planner.check_quantity(component.quantity, f"{field}/quantity")
        if component.sku == sku:
            raise InvalidRequest(f"{field}/sku", "a kit cannot contain itself")
        if component.sku in seen:
            raise InvalidRequest(f"{field}/sku", "name each component once")
        seen.add(component.sku)


def _checked_ids(names: Sequence[str], field: str) -> tuple[str, ...]:
    if not 1 <= len(names) <= limits.MAX_NAMES:
        raise InvalidRequest(field, f"from 1 to {limits.MAX_NAMES}")
    for index, name in enumerate(names):
        check_id(SettingClass.LOCATION, name, f"{field}/{index}")
    return tuple(dict.fromkeys(names))


def _check_buffer(buffer: Buffer | None) -> None:
    if buffer is None:
        return
    if (buffer.units is None) == (buffer.percent is None):
        raise InvalidRequest("/buffer", "either units or percent")
    if buffer.units is not None and not 0 <= buffer.units <= limits.MAX_QUANTITY:
        raise InvalidRequest("/buffer/units", f"from 0 to {limits.MAX_QUANTITY}")
    if buffer.percent is not None and not 0 <= buffer.percent <= limits.MAX_PERCENT:
        raise InvalidRequest("/buffer/percent", f"from 0 to {limits.MAX_PERCENT}")


def _check_policy(policy: PolicyDefaults | None) -> None:
    for name in PolicyDefaults.__struct_fields__ if policy else ():
        number = getattr(policy, name)
        if number is not None and not 0 <= number <= limits.MAX_QUANTITY:
            raise InvalidRequest(f"/policy/{name}", f"from 0 to {limits.MAX_QUANTITY}")


def _check_range(number: float | None, most: int, field: str) -> None:
    if number is not None and not -most <= number <= most:
        raise InvalidRequest(field, f"from -{most} to {most}")


def _checked_gtin(gtin: str, field: str) -> str:
    """A GTIN-8, -12, -13 or -14 with the 14 digits that all of them have."""
    if len(gtin) not in GTIN_LENGTHS or not _GTIN.fullmatch(gtin):
        raise InvalidRequest(field, "a GTIN has 8, 12, 13 or 14 digits")
    _check_digit(gtin, field)
    return gtin.zfill(14)


def _check_digit(digits: str, field: str) -> None:
    """GS1: from the right, digits count thrice and once in turn, and the last one makes the sum end in 0."""
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(reversed(digits)))
    if total % 10:
        raise InvalidRequest(field, f"the check digit is not that of {digits[:-1]}")


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())
