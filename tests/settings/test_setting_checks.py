"""What settings may say. The rest is in tests/api/test_bad_requests.py, which comes by the same way."""

import pytest

from engine import (
    Buffer,
    Channel,
    Component,
    InvalidRequest,
    Item,
    Location,
    LocationKind,
    PolicyDefaults,
    Pool,
)
from engine.setting_checks import checked
from engine.setting_forms import Setting

STORE = LocationKind.STORE


@pytest.mark.parametrize(
    ("gtin", "kept"),
    [
        ("40170725", "00000040170725"),
        ("614141007349", "00614141007349"),
        ("4006381333931", "04006381333931"),
        ("10614141007346", "10614141007346"),
        ("00000000", "00000000000000"),
    ],
)
def test_gtins_have_14_digits(gtin: str, kept: str) -> None:
    """Of two forms of the same one is kept."""
    assert checked(Item("A", gtins=(gtin, kept))).gtins == (kept,)


@pytest.mark.parametrize("gtin", ["40170726", "614141007348", "4006381333932", "10614141007347"])
def test_a_wrong_check_digit(gtin: str) -> None:
    with pytest.raises(InvalidRequest, match="check digit") as refused:
        checked(Item("A", gtins=(gtin,)))
    assert refused.value.field == "/gtins/0"


@pytest.mark.parametrize(
    "gtin", ["", "4006381", "400638133", "4006381333", "40063813339", "4006381333931 ", "½" * 8]
)
def test_no_gtin(gtin: str) -> None:
    with pytest.raises(InvalidRequest, match="8, 12, 13 or 14"):
        checked(Item("A", gtins=(gtin,)))


@pytest.mark.parametrize(
    ("setting", "field"),
    [
        (Location("a b", STORE), "/id"),
        (Location("s", STORE, lat=float("nan"), lon=0.0), "/lat"),
        (Location("s", STORE, lat=0.0, lon=181.0), "/lon"),
        (Location("s", STORE, lat=0.0), "/lon"),
        (Location("s", STORE, time_zone="../etc/passwd"), "/time_zone"),
        (Location("s", STORE, gln="4000001000006"), "/gln"),
        (Location("s", STORE, policy=PolicyDefaults(low_stock=-1)), "/policy/low_stock"),
        (Pool("p", ()), "/locations"),
        (Pool("p/", ("s",)), "/id"),
        (Channel("c", ("p", "")), "/pools/1"),
        (Channel("c", ("p",), Buffer()), "/buffer"),
        (Channel("c", ("p",), Buffer(1, 1)), "/buffer"),
        (Channel("c", ("p",), Buffer(percent=101)), "/buffer/percent"),
        (Item(""), "/sku"),
        (Item("A\n"), "/sku"),
        (Item("A", components=(Component("B", 0),)), "/components/0/quantity"),
        (Item("A", components=(Component("B", 1), Component("A", 1))), "/components/1/sku"),
        (Item("A", components=(Component("B", 1), Component("B", 2))), "/components/1/sku"),
        (Item("A", policy=PolicyDefaults(safety_stock=10**9 + 1)), "/policy/safety_stock"),
    ],
)
def test_what_breaks_a_rule(setting: Setting, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked(setting)
    assert refused.value.field == field


def test_what_is_said_twice_is_kept_once() -> None:
    assert checked(Pool("p", ("a", "b", "a"))).locations == ("a", "b")
    assert checked(Channel("c", ("q", "p", "q"), Buffer(0))).pools == ("q", "p")


def test_time_zones_and_edges() -> None:
    place = Location("s", STORE, lat=-90.0, lon=180.0, time_zone="Europe/Berlin", gln="4000001000005")
    assert checked(place) == place
