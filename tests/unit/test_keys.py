import re

from hypothesis import given
from hypothesis import strategies as st

from engine import keys

partitions = st.integers(0, 16_383)
skus = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64) | st.text(
    "{}:/%\n *?[]\\.~-_a\0", min_size=1, max_size=12
)
locations = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


def crc16(text: bytes) -> int:
    """The checksum that a cluster places keys by."""
    total = 0
    for byte in text:
        total ^= byte << 8
        for _ in range(8):
            total = (total << 1) ^ (0x1021 if total & 0x8000 else 0)
            total &= 0xFFFF
    return total


def slot_of(key: str) -> int:
    """The slot of a key: by its hash tag where it has one that is not empty."""
    raw = key.encode()
    start = raw.find(b"{")
    end = raw.find(b"}", start + 1)
    return crc16(raw[start + 1 : end] if start >= 0 and end > start + 1 else raw) % 16_384


def all_keys(partition: int, sku: str, location: str) -> list[str]:
    return [
        keys.meta(partition),
        keys.operations(partition),
        keys.due(partition),
        keys.log(partition),
        keys.stock(partition, sku),
        keys.locations(partition),
        keys.stocked(partition, location),
    ]


def test_the_checksum_of_these_tests() -> None:
    """The known answer of the cluster's specification."""
    assert crc16(b"123456789") == 0x31C3


def test_exact_keys() -> None:
    """A stored data set outlives releases: no key changes by accident."""
    assert keys.dataset() == "inv:{0}:dataset"
    assert all_keys(12, "a b/ü{1}:%\n", "store.1") == [
        "inv:{12}:meta",
        "inv:{12}:ops",
        "inv:{12}:due",
        "inv:{12}:log",
        "inv:{12}:sku:a%20b%2F%C3%BC%7B1%7D%3A%25%0A",
        "inv:{12}:locations",
        "inv:{12}:at:store.1",
    ]
    assert keys.stock_pattern(12) == "inv:{12}:sku:*"


@given(partitions, skus, locations)
def test_a_partition_is_one_slot(partition: int, sku: str, location: str) -> None:
    """Whatever a SKU is called, all keys of a partition lie in one slot, that of its number."""
    slots = {slot_of(key) for key in all_keys(partition, sku, location)}
    assert slots == {crc16(str(partition).encode()) % 16_384}


@given(partitions, partitions, skus, skus, locations, locations)
def test_no_two_things_share_a_key(
    one: int, other: int, sku: str, another: str, location: str, elsewhere: str
) -> None:
    """Keys are equal only for equal partition, kind and name."""
    first, second = all_keys(one, sku, location), all_keys(other, another, elsewhere)
    assert len(set(first)) == len(first)
    for at, key in enumerate(first):
        assert keys.dataset() != key
        for where, foreign in enumerate(second):
            same = at == where and one == other
            if at == 4:
                same = same and sku == another
            if at == 6:
                same = same and location == elsewhere
            assert (key == foreign) == same


@given(partitions, skus)
def test_the_sku_of_a_key(partition: int, sku: str) -> None:
    """`sku_of` is the inverse of `stock`, and a key has no character that a glob or a log reads."""
    key = keys.stock(partition, sku)
    assert keys.sku_of(key) == sku
    assert re.fullmatch(r"[A-Za-z0-9._~%:{}-]+", key)


@given(skus, st.integers(1, 16_384))
def test_the_partition_of_a_sku(sku: str, count: int) -> None:
    """Always one of those there are."""
    assert 0 <= keys.partition_of(sku, count) < count
    assert keys.partition_of(sku, 1) == 0


def test_the_partition_of_a_sku_never_changes() -> None:
    """Known answers, and a spread that no partition is left out of."""
    assert [keys.partition_of(sku, 64) for sku in ("shoe", "hat", "ü", "4006381333931")] == [9, 9, 21, 42]
    counts = [0] * 64
    for number in range(64_000):
        counts[keys.partition_of(f"sku-{number}", 64)] += 1
    assert min(counts) > 800
    assert max(counts) < 1200
