import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import cards
from engine.types import LocationAvailability, Status

places = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
narrow = st.integers(-(2**31), 2**31 - 1)
wide = st.integers(-(10**15), 10**15)
claims = st.lists(st.binary(min_size=12, max_size=12), max_size=16)


def card_of(
    locations: Sequence[str],
    counters: Sequence[int],
    *,
    first: int = 0,
    block: int = 0,
    ids: Sequence[bytes] = (),
    is_wide: bool = False,
) -> bytes:
    """A card as Lua writes it."""
    names = b"".join(
        b"\n%b=%b" % (name.encode(), index.to_bytes(2, "little")) for index, name in enumerate(locations)
    )
    form = (2 if len(counters) == 12 * len(locations) else 0) + is_wide
    head = struct.pack("<BHH", form, len(locations), len(names))
    head += first.to_bytes(3, "little") + block.to_bytes(3, "little")
    size = 7 if is_wide else 4
    packed = b"".join(number.to_bytes(size, "little", signed=True) for number in counters)
    return head + names + packed + b"".join(ids)


@given(
    st.data(), st.lists(places, min_size=1, max_size=32, unique=True), st.booleans(), st.sampled_from([4, 12])
)
def test_a_card(data: st.DataObject, locations: list[str], is_wide: bool, stride: int) -> None:
    """Every part of a card, in each of its four forms, is read as it was written."""
    count = stride * len(locations)
    number = wide if is_wide else narrow
    counters = data.draw(st.lists(number, min_size=count, max_size=count))
    ids = data.draw(claims)
    raw = card_of(locations, counters, first=70_000, block=2**24 - 1, ids=ids, is_wide=is_wide)
    found = cards.decode_card(raw)
    assert (found.locations, found.counters, found.stride) == (tuple(locations), tuple(counters), stride)
    assert (found.first, found.block, cards.split_claims(found.claims)) == (70_000, 2**24 - 1, ids)
    assert cards.read_counters(raw) == (found.locations, found.counters, stride)
    shown = cards.read_availability(raw)
    booked = cards.read_positions(raw, "1.2")
    assert [(one.location, one.available) for one in shown] == [
        (one.location, one.available) for one in booked
    ]
    assert [one.on_hand for one in booked] == list(counters[::stride])


def test_a_card_of_known_bytes() -> None:
    """The layout that lib/card.lua writes; index and counters may be bytes that stand for other things."""
    raw = (
        b"\0\x0b\0" + (11 * 6).to_bytes(2, "little") + b"\0\0\0\1\0\0"
        + b"".join(b"\ns%b=%b\0" % (bytes((97 + at,)), bytes((at,))) for at in range(11))
        + struct.pack("<44i", *range(44)) + b"0123456789ab"
    )  # fmt: skip
    found = cards.decode_card(raw)
    assert found.locations[10] == "sk"
    assert found.counters == tuple(range(44))
    assert (found.first, found.block, found.claims) == (0, 1, b"0123456789ab")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 10,
        cards.DIVIDER,
        b"\4" + bytes(10),
        card_of(["a"], [0, 0, 0, 0])[:-1],
        card_of(["a"], [0, 0, 0, 0]) + b"claim",
        b"\0\2" + card_of(["a"], [0, 0, 0, 0])[2:] + bytes(16),
        card_of(["a"], [0, 0, 0, 0]).replace(b"\na=", b"xa="),
        card_of(["a"], [0, 0, 0, 0]).replace(b"\na=\0", b"\na=\1"),
        card_of(["a"], [0, 0, 0, 0]).replace(b"\na=", b"\naa"),
    ],
)
def test_what_is_no_card(raw: bytes) -> None:
    """Whatever is torn is told apart from a card."""
    with pytest.raises(ValueError, match=r"card|not found|substring"):
        cards.decode_card(raw)


@pytest.mark.parametrize(
    ("counters", "available", "status"),
    [
        ((5, 1, 1, 1), 2, Status.IN_STOCK),
        ((3, 1, 1, 1), 0, Status.OUT_OF_STOCK),
        ((1, 1, 1, 1), 0, Status.OUT_OF_STOCK),
        ((9, 1, 1, 1, 2, 0, 1, 0), 3, Status.IN_STOCK),
        ((9, 1, 1, 1, 2, 0, 1, 2), 3, Status.IN_STOCK),
        ((9, 1, 1, 1, 2, 0, 1, 3), 3, Status.LOW_STOCK),
        ((6, 1, 1, 1, 2, 0, 1, 3), 0, Status.OUT_OF_STOCK),
        ((0, 1, 0, 0, 0, 2, 0, 0), -1, Status.BACKORDER),
        ((0, 2, 0, 0, 0, 2, 0, 0), -2, Status.OUT_OF_STOCK),
        ((0, 3, 0, 0, 0, 2, 0, 0), -2, Status.OUT_OF_STOCK),
        ((0, 0, 0, 0, 0, 2, 0, 0), 0, Status.BACKORDER),
    ],
)
def test_availability(counters: tuple[int, ...], available: int, status: Status) -> None:
    """What is promised, and how it looks to a shopper."""
    raw = card_of(["W"], counters if len(counters) == 4 else (*counters, 0, 0, 0, 0))
    assert cards.read_availability(raw) == [LocationAvailability("W", available, status)]
    (position,) = cards.read_positions(raw, "3.4")
    assert (position.available, position.version) == (available, "3.4")
    numbers = (*counters, 0, 0, 0, 0)[:8]
    names = [*position.__struct_fields__[1:9]]
    assert tuple(getattr(position, name) for name in names) == numbers


def test_pages_never_change() -> None:
    """A stored data set outlives releases: known answers, and every page is used."""
    assert [cards.page_of(name) for name in ("W", "s1", "store.1", "Z" * 64)] == [23, 30, 36, 0]
    assert {cards.page_of(f"store-{number}") for number in range(2000)} == set(range(cards.PAGES))


def test_fields() -> None:
    """No field of one SKU is a field of another: a SKU has no line feed."""
    assert cards.page_field("shoe", 7) == "shoe\n7"
    assert cards.block_field("shoe", 0) == "shoe\n\n0"
    assert cards.block_field(cards.page_field("shoe", 63), 12) == "shoe\n63\n\n12"
    assert cards.place_of("s1") == b"\ns1="
    assert cards.is_divider(b"\xff\x40\0")
    assert not cards.is_divider(card_of(["a"], [0] * 4))
