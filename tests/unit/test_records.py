import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.records import (
    KIND_BASKET,
    KIND_PART,
    NO_DETAIL,
    Detail,
    Undecided,
    build_reservation,
    decode_plan,
    decode_record,
    decode_tail,
    decode_version,
    encode_detail,
    encode_plan,
    encode_version,
    first_head,
    is_reservation,
    split_record,
    tail_size,
)
from engine.records import (
    STATES as ALL_STATES,
)
from engine.types import Line, ReservationLine, State

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
places = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
units = st.integers(0, 2**40 - 1)
STATES = list(State)


lines = st.lists(st.builds(Line, names, units, places), min_size=1, max_size=12)


@given(lines, st.binary(max_size=9), st.binary(max_size=9))
def test_a_plan(positions: list[Line], before: bytes, after: bytes) -> None:
    """A plan is found again amid other bytes, and tells where it ends."""
    packed = encode_plan(positions)
    found, end = decode_plan(before + packed + after, len(before))
    assert (found.positions, found.packed) == (tuple(positions), packed)
    assert end == len(before + packed)
    assert int.from_bytes(packed[:2], "little") == len(packed) - 2


def test_a_plan_of_known_bytes() -> None:
    """The layout that lib/record.lua reads."""
    packed = encode_plan((Line("ü", 258, "W"), Line("a", 2**40 - 1, "S1")))
    assert packed == (b"\x1b\0\2" + b"\2\1\0\0\0\3\nW=\2\0\xc3\xbc" + b"\xff\xff\xff\xff\xff\4\nS1=\1\0a")


@pytest.mark.parametrize("bad", [b"", b"\1", b"\x0c\0\1\1\0\0\0\0\3\nW=\1\0", b"\2\0\0\0", b"\0\0\1"])
def test_what_is_no_plan(bad: bytes) -> None:
    """Every byte must be accounted for."""
    with pytest.raises((ValueError, IndexError)):
        decode_plan(bad)


@st.composite
def tails(draw: st.DrawFn, count: int) -> tuple[bytes, tuple[object, ...]]:
    """A record's tail as Lua packs it, and the fields that it has."""
    byte, epoch, seq, moment = (
        st.integers(0, 255),
        st.integers(0, 65_535),
        st.integers(0, 2**56 - 1),
        st.integers(0, 2**48 - 1),
    )
    state, end, close = draw(st.integers(1, 6)), draw(byte), draw(byte)
    row = st.tuples(units, units, units, units)
    rows = tuple(draw(st.just([]) | st.lists(row, min_size=count, max_size=count)))
    revision, created_epoch, changed_epoch = draw(epoch), draw(epoch), draw(epoch)
    created, changed, created_ms, deadline_ms = draw(seq), draw(seq), draw(moment), draw(moment)
    packed = b"".join(number.to_bytes(5, "little") for row in rows for number in row)
    packed += created.to_bytes(7, "little") + changed.to_bytes(7, "little")
    packed += deadline_ms.to_bytes(6, "little") + created_ms.to_bytes(6, "little")
    packed += struct.pack("<HHHBBBB", created_epoch, changed_epoch, revision, len(rows), state, end, close)
    fields = (STATES[state - 1], end, close, revision, created_epoch, changed_epoch)
    return packed, (*fields, created, changed, created_ms, deadline_ms, rows)


def record_of(tail: bytes, positions: Sequence[Line], detail: Detail) -> bytes:
    """A record as it is stored."""
    body = (
        bytes(20) + (900_000).to_bytes(4, "little") + b"\7\1" + encode_plan(positions) + encode_detail(detail)
    )
    body += bytes(3 * len(positions)) + tail
    return b"\1" + len(body).to_bytes(3, "little") + body


@given(st.data(), lines)
def test_a_record(data: st.DataObject, positions: list[Line]) -> None:
    """Every field of a record that Lua wrote is read as it was written."""
    tail, fields = data.draw(tails(len(positions)))
    detail = Detail(900, "me", None, "web", {"gift": True, "n": 1}, ((0, 1),))
    raw = record_of(tail, positions, detail)
    record = decode_record(raw)
    assert tuple(getattr(record.head, field) for field in record.head.__struct_fields__) == fields
    assert record.route == 263
    assert record.plan.positions == tuple(positions)
    assert record.detail.metadata == detail.metadata
    assert decode_tail(tail) == record.head
    assert tail_size(raw) == len(tail)
    parts = split_record(raw)
    assert parts.front + parts.plan + parts.detail + parts.blocks + parts.tail == raw
    assert (parts.plan, parts.detail, parts.tail) == (record.plan.packed, encode_detail(detail), tail)
    first = first_head(record.head, record.detail)
    assert (first.state, first.changed_seq, first.progress) == (State.HELD, record.head.created_seq, ())
    assert first.deadline_ms == record.head.created_ms + 900_000
    for short in (raw[:68], raw[:31] + b"\xff" + raw[32:]):
        with pytest.raises((ValueError, IndexError)):
            split_record(short)


def test_kinds() -> None:
    """Only the first byte tells a reservation, in one partition or over several; an absent record is none,
    and no caller knows of a part.
    """
    assert is_reservation(b"\1any")
    assert is_reservation(bytes((KIND_BASKET,)) + b"any")
    assert not is_reservation(bytes((KIND_PART,)) + b"any")
    assert not is_reservation(b"\2any")
    assert not is_reservation(b"\4any")
    assert not is_reservation(b"")


def tail_of(state: State, *rows: tuple[int, int, int, int]) -> bytes:
    packed = b"".join(units.to_bytes(5, "little") for row in rows for units in row)
    packed += (4).to_bytes(7, "little") + (5).to_bytes(7, "little") + bytes(12)
    return packed + struct.pack("<HHHBBBB", 2, 3, 0, len(rows), STATES.index(state) + 1, 0, 0)


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
    detail = Detail(900, None, None, None, {})
    record = decode_record(record_of(tail_of(state), [Line("shoe", 5, "W")], detail))
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
    detail = Detail(900, None, None, None, {}, tuple((0, quantity) for quantity in quantities))
    tail = tail_of(State.HELD, (rows[0], rows[1], rows[2], rows[3]))
    record = decode_record(record_of(tail, [Line("shoe", total, "W")], detail))
    lines = build_reservation("r_1", record.head, record.plan, record.detail).lines
    assert [line.quantity for line in lines] == quantities
    assert sum(line.held for line in lines) == held
    assert sum(line.committed for line in lines) == committed
    assert sum(line.fulfilled for line in lines) == fulfilled
    for line in lines:
        assert line.held + line.committed + line.fulfilled + line.released == line.quantity
        assert min(line.held, line.committed, line.fulfilled, line.released) >= 0


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**56 - 1))
def test_a_version(epoch: int, seq: int) -> None:
    """What a part follows: 9 bytes, which sort by nothing but their numbers."""
    packed = encode_version((epoch, seq))
    assert len(packed) == 9
    assert decode_version(packed) == (epoch, seq)
    assert decode_version(packed + b"more") == (epoch, seq)


def test_a_version_of_known_bytes() -> None:
    """The layout that lib/parts.lua reads."""
    assert encode_version((258, 3)) == b"\2\1\3\0\0\0\0\0\0"


def record_of_kind(kind: int, state: int, rest: bytes) -> bytes:
    """A record with one position, of a state given by its number."""
    body = bytes(20) + (900).to_bytes(4, "little") + b"\7\1" + encode_plan([Line("shoe", 5, "W")]) + rest
    body += bytes(3) + bytes(26) + struct.pack("<HHHBBBB", 1, 1, 0, 0, state, 0, 0)
    return bytes((kind,)) + len(body).to_bytes(3, "little") + body


@pytest.mark.parametrize(("number", "state"), [(7, Undecided.PENDING), (8, Undecided.ABANDONED)])
def test_what_is_not_decided(number: int, state: Undecided) -> None:
    """Baskets alone are in these states, which no caller is shown."""
    detail = Detail(900, "me", None, None, {})
    record = decode_record(record_of_kind(KIND_BASKET, number, encode_detail(detail)))
    assert (record.kind, record.head.state, record.follows) == (KIND_BASKET, state, None)
    assert (record.route, encode_detail(record.detail)) == (263, encode_detail(detail))
    with pytest.raises(AssertionError):
        build_reservation("r_1", record.head, record.plan, record.detail)


def test_every_state_has_its_number() -> None:
    """As lib/record.lua numbers them, from 1 on."""
    for number, state in enumerate(ALL_STATES, 1):
        record = decode_record(record_of_kind(KIND_PART, number, encode_version((1, 2))))
        assert record.head.state is state
    assert [str(state) for state in ALL_STATES] == [
        "held",
        "committed",
        "fulfilled",
        "released",
        "expired",
        "cancelled",
        "pending",
        "abandoned",
    ]
    with pytest.raises(IndexError):
        decode_record(record_of_kind(KIND_PART, 9, encode_version((1, 2))))


def test_a_part() -> None:
    """It says which version of its basket it follows, and nothing that only callers read."""
    record = decode_record(record_of_kind(KIND_PART, 1, encode_version((3, 9))))
    assert (record.kind, record.follows, record.detail) == (KIND_PART, (3, 9), NO_DETAIL)
    assert (record.route, record.plan.positions) == (263, (Line("shoe", 5, "W"),))
