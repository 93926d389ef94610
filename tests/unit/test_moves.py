"""What may be asked of facts, and the forms in which the scripts keep them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import moves
from engine.errors import InvalidRequest
from engine.ids import reservation_id
from engine.types import Count, Movement, MovementKind

KNOWN = reservation_id(5, b"op0123456789")


@pytest.mark.parametrize(
    ("kind", "quantity", "is_good"),
    [
        (MovementKind.ADJUST, -1, True),
        (MovementKind.ADJUST, -(10**9), True),
        (MovementKind.ADJUST, 10**9, True),
        (MovementKind.ADJUST, 0, False),
        (MovementKind.ADJUST, -(10**9) - 1, False),
        (MovementKind.ADJUST, 10**9 + 1, False),
        (MovementKind.SALE, 1, True),
        (MovementKind.SALE, -1, False),
        (MovementKind.RETURN, 1, True),
        (MovementKind.RETURN, -1, False),
        (MovementKind.RECEIVE, 0, False),
        (MovementKind.RECEIVE, 10**9, True),
        (MovementKind.RECEIVE, 10**9 + 1, False),
    ],
)
def test_quantities_of_movements(kind: MovementKind, quantity: int, is_good: bool) -> None:
    """Only an adjustment has a sign."""
    movement = Movement("m", kind, "shoe", "W", quantity)
    if is_good:
        moves.check_movement(movement)
    else:
        with pytest.raises(InvalidRequest, match=r"^/quantity"):
            moves.check_movement(movement)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ""}, "/id"),
        ({"id": "m" * 256}, "/id"),
        ({"sku": "sh\noe"}, "/sku"),
        ({"location": "W/1"}, "/location"),
        ({"occurred_ms": 0}, "/occurred_at"),
        ({"occurred_ms": -5}, "/occurred_at"),
        ({"condition": ""}, "/condition"),
        ({"condition": "a b"}, "/condition"),
        ({"condition": "d" * 65}, "/condition"),
        ({"condition": "damaged\n"}, "/condition"),
        ({"to_condition": "damaged"}, "/to_condition"),
        ({"reservation": "order-7"}, "/reservation"),
        ({"kind": MovementKind.CONDITION}, "/to_condition"),
        ({"kind": MovementKind.CONDITION, "to_condition": "sellable"}, "/to_condition"),
        ({"kind": MovementKind.CONDITION, "condition": "lost", "to_condition": "lost"}, "/to_condition"),
        ({"kind": MovementKind.CONDITION, "to_condition": "a b"}, "/to_condition"),
        ({"kind": MovementKind.CONDITION, "to_condition": "lost", "quantity": -1}, "/quantity"),
    ],
)
def test_movements_that_cannot_be(changes: dict[str, object], field: str) -> None:
    """Each names its field."""
    fields = {"id": "m", "kind": MovementKind.RETURN, "sku": "shoe", "location": "W", "quantity": 1}
    with pytest.raises(InvalidRequest) as raised:
        moves.check_movement(Movement(**{**fields, **changes}))  # type: ignore[arg-type] - on purpose
    assert raised.value.field == field


@pytest.mark.parametrize(
    "changes",
    [
        {"condition": "damaged", "reservation": KNOWN, "occurred_ms": 1},
        {"condition": "sellable"},
        {"kind": MovementKind.CONDITION, "to_condition": "lost"},
        {"kind": MovementKind.CONDITION, "condition": "sellable", "to_condition": "x" * 64},
        {"kind": MovementKind.CONDITION, "condition": "lost"},
        {"kind": MovementKind.CONDITION, "condition": "lost", "to_condition": "found"},
    ],
)
def test_movements_that_can_be(changes: dict[str, object]) -> None:
    """What is sellable may be left out."""
    fields = {"id": "m", "kind": MovementKind.RETURN, "sku": "shoe", "location": "W", "quantity": 1}
    moves.check_movement(Movement(**{**fields, **changes}))  # type: ignore[arg-type] - as above


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"id": ""}, "/id"),
        ({"sku": ""}, "/sku"),
        ({"location": ""}, "/location"),
        ({"quantity": -1}, "/quantity"),
        ({"quantity": 10**15 + 1}, "/quantity"),
        ({"counted_ms": 0}, "/counted_at"),
    ],
)
def test_counts_that_cannot_be(changes: dict[str, object], field: str) -> None:
    """Nothing may be counted, less may not."""
    fields = {"id": "c", "sku": "shoe", "location": "W", "quantity": 0, "counted_ms": 1}
    moves.check_count(Count(**fields))  # type: ignore[arg-type] - all are there
    with pytest.raises(InvalidRequest) as raised:
        moves.check_count(Count(**{**fields, **changes}))  # type: ignore[arg-type] - on purpose
    assert raised.value.field == field


@given(
    st.tuples(st.integers(0, 2**48 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**50)),
    st.tuples(st.integers(0, 2**48 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**50)),
    st.integers(-(10**15), 10**15),
)
def test_members_stand_in_the_order_of_time(
    one: tuple[int, int, int], other: tuple[int, int, int], units: int
) -> None:
    """Of one position: by when they occurred, then by the version of their events. Each reads as written."""
    members = [
        moves.Member(moves.position_name("shoe", "W"), *time, b"op0123456789", units) for time in (one, other)
    ]
    assert (one < other) == (members[0].packed < members[1].packed)
    assert [moves.decode_member(member.packed) for member in members] == members


def test_a_member_that_is_none() -> None:
    """No position has a name of nothing."""
    with pytest.raises(ValueError, match="no movement"):
        moves.decode_member(bytes(moves.TAIL_SIZE))


@given(st.text(min_size=1), st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_names_of_positions(sku: str, location: str) -> None:
    """A name tells SKU and location apart, whatever a printable SKU is made of."""
    if sku.isprintable():
        assert moves.split_name(moves.position_name(sku, location)) == (sku, location)


def test_conditions_read_as_written() -> None:
    """Those of no units are left out."""
    units = {"damaged": 5, "lost": -(10**15)}
    assert moves.decode_conditions(moves.encode_conditions({**units, "found": 0})) == units
