import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.records import (
    Detail,
    PlannedPosition,
    build_reservation,
    decode_head,
    decode_plan,
    decode_record,
    encode_detail,
    encode_plan,
    first_head,
    is_reservation,
)
from engine.types import ReservationLine, State

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
places = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
units = st.integers(0, 2**40 - 1)
STATES = list(State)


@st.composite
def plans(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[PlannedPosition, ...]]:
    skus = tuple(draw(st.lists(names, min_size=1, max_size=8, unique=True)))
    position = st.builds(PlannedPosition, st.integers(0, len(skus) - 1), units, places)
    return skus, tuple(draw(st.lists(position, min_size=1, max_size=12)))


@given(plans(), st.binary(max_size=9), st.binary(max_size=9))
def test_a_plan(
    plan: tuple[tuple[str, ...], tuple[PlannedPosition, ...]], before: bytes, after: bytes
) -> None:
    """A plan is found again amid other bytes, and tells where it ends."""
    skus, positions = plan
    packed = encode_plan(skus, positions)
    found, end = decode_plan(before + packed + after, len(before))
    assert (found.skus, found.positions, found.packed) == (skus, positions, packed)
    assert end == len(before + packed)
    assert int.from_bytes(packed[:2], "little") == len(packed) - 2


def test_a_plan_of_known_bytes() -> None:
    """The layout that lib/record.lua reads."""
    packed = encode_plan(("a", "ü"), (PlannedPosition(1, 258, "W"), PlannedPosition(0, 2**40 - 1, "S1")))
    assert packed == (
        b"\x1a\0" + b"\2\2" + b"\1\2\1\0\0\0\1W" + b"\0\xff\xff\xff\xff\xff\2S1" + b"\1\0a" + b"\2\0\xc3\xbc"
    )


@st.composite
def heads(draw: st.DrawFn) -> tuple[bytes, tuple[object, ...]]:
    """A record's head as Lua packs it, and the fields that it has."""
    byte, epoch, seq, moment = (
        st.integers(0, 255),
        st.integers(0, 65_535),
        st.integers(0, 2**56 - 1),
        st.integers(0, 2**48 - 1),
    )
    state, end, close = draw(st.integers(1, 6)), draw(byte), draw(byte)
    rows = tuple(draw(st.lists(st.tuples(units, units, units, units), max_size=5)))
    revision, created_epoch, changed_epoch = draw(epoch), draw(epoch), draw(epoch)
    created, changed, created_ms, deadline_ms = draw(seq), draw(seq), draw(moment), draw(moment)
    mark = draw(st.binary(min_size=8, max_size=8))
    packed = struct.pack("<BBBBHBHH", 1, state, end, close, revision, len(rows), created_epoch, changed_epoch)
    packed += created.to_bytes(7, "little") + changed.to_bytes(7, "little")
    packed += created_ms.to_bytes(6, "little") + deadline_ms.to_bytes(6, "little") + mark
    packed += b"".join(number.to_bytes(5, "little") for row in rows for number in row)
    fields = (STATES[state - 1], end, close, revision, created_epoch, changed_epoch)
    return packed, (*fields, created, changed, created_ms, deadline_ms, mark, rows)


@given(heads(), plans())
def test_a_record(
    head: tuple[bytes, tuple[object, ...]], plan: tuple[tuple[str, ...], tuple[PlannedPosition, ...]]
) -> None:
    """Every field of a record that Lua wrote is read as it was written."""
    packed, fields = head
    detail = Detail(900, "me", None, "web", {"gift": True, "n": 1}, ((0, 1),))
    raw = packed + encode_plan(*plan) + encode_detail(detail)
    record = decode_record(raw)
    assert tuple(getattr(record.head, field) for field in record.head.__struct_fields__) == fields
    assert (record.plan.skus, record.plan.positions) == plan
    assert record.detail.metadata == detail.metadata
    assert decode_head(raw) == (record.head, len(packed))
    first = first_head(record.head, record.detail)
    assert (first.state, first.changed_seq, first.progress) == (State.HELD, record.head.created_seq, ())
    assert first.deadline_ms == record.head.created_ms + 900_000


def test_kinds() -> None:
    """Only the first byte tells a reservation; an absent record is none."""
    assert is_reservation(b"\1any")
    assert not is_reservation(b"\2any")
    assert not is_reservation(b"")


def head_of(state: State, *rows: tuple[int, int, int, int]) -> bytes:
    number = STATES.index(state) + 1
    packed = struct.pack("<BBBBHBHH", 1, number, 0, 0, 0, len(rows), 2, 3)
    packed += (4).to_bytes(7, "little") + (5).to_bytes(7, "little") + bytes(12) + bytes(8)
    return packed + b"".join(units.to_bytes(5, "little") for row in rows for units in row)


@pytest.mark.parametrize(
    ("state", "columns"),
    [
        (State.HELD, (5, 0, 0, 0)),
        (State.COMMITTED, (0, 5, 0, 0)),
        (State.FULFILLED, (0, 0, 5, 0)),
        (State.RELEASED, (0, 0, 0, 5)),
        (State.EXPIRED, (0, 0, 0, 5)),
        (State.CANCELLED, (0, 0, 0, 5)),
    ],
)
def test_lines_without_progress(state: State, columns: tuple[int, int, int, int]) -> None:
    """Where nothing else is noted, all units are in the reservation's own state."""
    plan = encode_plan(("shoe",), (PlannedPosition(0, 5, "W"),))
    detail = Detail(900, None, None, None, {})
    record = decode_record(head_of(state) + plan + encode_detail(detail))
    found = build_reservation("r_1", record.head, record.plan, record.detail)
    assert found.lines == [ReservationLine("shoe", "W", 5, *columns)]
    assert found.version == "3.5"
    assert (found.expires_ms is None) == (state is not State.HELD)


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=6),
    st.tuples(*[st.integers(0, 40)] * 4),
)
def test_lines_that_share_a_position(quantities: list[int], row: tuple[int, int, int, int]) -> None:
    """The units of the lines add up to those of their position, and those of a line to its quantity."""
    total = sum(quantities)
    left = total
    rows = []
    for wanted in row:
        rows.append(min(left, wanted))
        left -= rows[-1]
    held, committed, fulfilled, _ = rows
    plan = encode_plan(("shoe",), (PlannedPosition(0, total, "W"),))
    detail = Detail(900, None, None, None, {}, tuple((0, quantity) for quantity in quantities))
    head = head_of(State.HELD, (rows[0], rows[1], rows[2], rows[3]))
    record = decode_record(head + plan + encode_detail(detail))
    lines = build_reservation("r_1", record.head, record.plan, record.detail).lines
    assert [line.quantity for line in lines] == quantities
    assert sum(line.held for line in lines) == held
    assert sum(line.committed for line in lines) == committed
    assert sum(line.fulfilled for line in lines) == fulfilled
    for line in lines:
        assert line.held + line.committed + line.fulfilled + line.released == line.quantity
        assert min(line.held, line.committed, line.fulfilled, line.released) >= 0
