import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.ids import (
    OperationIds,
    basket_id,
    fingerprint,
    keeper_of,
    parse_reservation_id,
    part_id,
    reservation_id,
)

IDS = OperationIds(b"s" * 32)
operations = st.binary(min_size=12, max_size=12)
routes = st.integers(0, 65_535)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def test_exact_ids() -> None:
    """Known answers: ids outlive releases, and so must the way they are made."""
    assert (
        IDS.of_request("web", "order-1").hex() == OperationIds(b"s" * 32).of_request("web", "order-1").hex()
    )
    assert len(IDS.of_request("web", "order-1")) == 12
    assert reservation_id(0, bytes(12)) == "r_" + "A" * 20
    assert reservation_id(258, bytes(range(12)))[:18] == "r_AQIAAQIDBAUGBwgJ"
    assert fingerprint(b"") != fingerprint(b"\0")
    assert len(fingerprint(b"")) == 8


@given(st.text(), st.text(), st.text(), st.text())
def test_ids_of_callers_and_kinds_apart(caller: str, key: str, other: str, another: str) -> None:
    """Another caller, key, kind or secret gives another id; the same give the same."""
    try:
        own = IDS.of_request(caller, key)
        foreign = IDS.of_request(other, another)
    except UnicodeEncodeError:
        return
    assert own == IDS.of_request(caller, key)
    assert own != IDS.of_movement(caller, key)
    assert own != OperationIds(b"t" * 32).of_request(caller, key)
    if "\0" not in caller + other:
        assert (own == foreign) == ((caller, key) == (other, another))


@given(routes, operations)
def test_a_round_trip(route: int, operation: bytes) -> None:
    """An id gives back route and operation."""
    text = reservation_id(route, operation)
    assert len(text) == 22
    assert parse_reservation_id(text) == (route, operation)


@given(routes, operations, st.integers(2, 21), st.sampled_from(ALPHABET))
def test_a_changed_character(route: int, operation: bytes, at: int, character: str) -> None:
    """An id with another character is never read as the same reservation."""
    text = reservation_id(route, operation)
    changed = text[:at] + character + text[at + 1 :]
    found = parse_reservation_id(changed)
    assert found is None or changed == text or found != (route, operation)


@pytest.mark.parametrize(
    "text", ["", "r_", "r_" + "A" * 19, "r_" + "A" * 21, "R_" + "A" * 20, "x_" + "A" * 20]
)
@pytest.mark.parametrize("tail", ["", "\n", " ", "="])
def test_what_is_no_id(text: str, tail: str) -> None:
    """Too short, too long, another prefix."""
    assert parse_reservation_id(text + tail) is None


@given(st.text(max_size=24) | st.text(ALPHABET + "+/= \n", min_size=20, max_size=20).map("r_{}".format))
def test_any_text(text: str) -> None:
    """No text makes the parser fail."""
    found = parse_reservation_id(text)
    assert found is None or 0 <= found[0] < 65_536


@pytest.mark.parametrize("operation", [b"\xfb" * 12, b"\xff" * 12])
def test_one_reservation_has_one_id(operation: bytes) -> None:
    """There is no second way to write an id."""
    text = reservation_id(0, operation)
    other = text[:2] + text[2:].replace("-", "+").replace("_", "/")
    assert other != text
    assert parse_reservation_id(other) is None


def test_exact_ids_of_parts() -> None:
    """Route and one more are added to the end, as lib/parts.lua takes them off: both must agree."""
    assert part_id(b"012345678\0\0\0", 0) == b"012345678\1\0\0"
    assert part_id(b"012345678\xff\xff\xff", 0x0201) == b"012345678\1\2\0"


@given(operations, routes)
def test_the_id_of_a_part(operation: bytes, route: int) -> None:
    """It is another id, and that of a part leads back to its basket."""
    part = part_id(operation, route)
    assert part != operation
    assert len(part) == 12
    assert basket_id(part, route) == operation


def test_exact_keepers() -> None:
    """Known answers: another release must ask the same partition."""
    assert [keeper_of(b"\x05\x01" + bytes(10), partitions) for partitions in (1, 2, 8, 256, 65_536)] == [
        0,
        1,
        5,
        5,
        261,
    ]


@given(operations, st.integers(1, 1024))
def test_the_keeper_of_an_id(operation: bytes, partitions: int) -> None:
    """One of the partitions, named by the id itself; with one partition there is no choice."""
    assert 0 <= keeper_of(operation, partitions) < partitions
    assert keeper_of(operation, 1) == 0
    # Of a data set that was repartitioned the keeper of twice as many lies in the old one.
    assert keeper_of(operation, 2 * partitions) % partitions == keeper_of(operation, partitions)
