from hypothesis import given
from hypothesis import strategies as st

from engine import keys

partitions = st.integers(0, 16_383)
skus = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)


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


def all_keys(partition: int) -> list[str]:
    return [
        keys.meta(partition),
        keys.operations(partition),
        keys.due(partition),
        keys.log(partition),
        keys.stock(partition),
        keys.locations(partition),
        keys.stocked(partition),
        keys.pools(partition),
        keys.channels(partition),
        keys.items(partition),
        keys.named(partition),
        keys.changes(partition),
        keys.defaults(partition),
        keys.inheriting(partition),
        keys.find(partition),
        keys.found(partition),
    ]


def test_the_checksum_of_these_tests() -> None:
    """The known answer of the cluster's specification."""
    assert crc16(b"123456789") == 0x31C3


def test_exact_keys() -> None:
    """A stored data set outlives releases: no key changes by accident."""
    assert keys.dataset() == "inv:{0}:dataset"
    assert all_keys(12) == [
        "inv:{12}:meta",
        "inv:{12}:ops",
        "inv:{12}:due",
        "inv:{12}:log",
        "inv:{12}:stock",
        "inv:{12}:locations",
        "inv:{12}:stocked",
        "inv:{12}:pools",
        "inv:{12}:channels",
        "inv:{12}:items",
        "inv:{12}:named",
        "inv:{12}:changes",
        "inv:{12}:defaults",
        "inv:{12}:inheriting",
        "inv:{12}:find",
        "inv:{12}:found",
    ]


@given(partitions)
def test_a_partition_is_one_slot(partition: int) -> None:
    """All keys of a partition lie in one slot, that of its number."""
    assert {slot_of(key) for key in all_keys(partition)} == {crc16(str(partition).encode()) % 16_384}


@given(partitions, partitions)
def test_no_two_things_share_a_key(one: int, other: int) -> None:
    """Keys are equal only for equal partition and kind."""
    first, second = all_keys(one), all_keys(other)
    assert len({keys.dataset(), *first}) == 1 + len(first)
    for at, key in enumerate(first):
        for where, foreign in enumerate(second):
            assert (key == foreign) == (at == where and one == other)


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
