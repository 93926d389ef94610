"""The stored form of what is expected at a position: see `lua/supply.lua`."""

from collections.abc import Sequence

from engine.types import Supply, SupplyKind

SUPPLY_SIZE = 25
CHANGE_SIZE = 31
"""Of a supply in an event: it tells what came as well."""
_KINDS = tuple(SupplyKind)
_SOURCE_SIZE, _UNITS_SIZE = 12, 6


def encode_supply(supply: Supply, *, received: int) -> bytes:
    """A supply as a script takes it; `received` came with this step."""
    numbers = supply.quantity, received, supply.expected_ms
    packed = b"".join([number.to_bytes(_UNITS_SIZE, "little") for number in numbers])
    return supply.source + packed + bytes((_KINDS.index(supply.kind) + 1,))


def decode_change(packed: bytes) -> tuple[Supply, int]:
    """What `encode_supply` packed. Raises `ValueError`."""
    quantity, received, expected_ms = _read_numbers(packed, 3)
    return Supply(packed[:_SOURCE_SIZE], quantity, expected_ms, _kind_of(packed[CHANGE_SIZE - 1])), received


def pack_supplies(supplies: Sequence[Supply]) -> bytes:
    """The supplies of a position as they are stored, the earliest first."""
    return b"".join(
        supply.source
        + supply.quantity.to_bytes(_UNITS_SIZE, "little")
        + supply.expected_ms.to_bytes(_UNITS_SIZE, "little")
        + bytes((_KINDS.index(supply.kind) + 1,))
        for supply in sorted(supplies, key=lambda supply: (supply.expected_ms, supply.source))
    )


def unpack_supplies(packed: bytes) -> list[Supply]:
    """The supplies of a position, the earliest first. Raises `ValueError`."""
    if len(packed) % SUPPLY_SIZE:
        raise ValueError(f"{len(packed)} bytes are no supplies")
    found = []
    for at in range(0, len(packed), SUPPLY_SIZE):
        own = packed[at : at + SUPPLY_SIZE]
        quantity, expected_ms = _read_numbers(own, 2)
        found.append(Supply(own[:_SOURCE_SIZE], quantity, expected_ms, _kind_of(own[-1])))
    return found


def _read_numbers(packed: bytes, count: int) -> list[int]:
    starts = range(_SOURCE_SIZE, _SOURCE_SIZE + count * _UNITS_SIZE, _UNITS_SIZE)
    return [int.from_bytes(packed[at : at + _UNITS_SIZE], "little") for at in starts]


def _kind_of(code: int) -> SupplyKind:
    if not 1 <= code <= len(_KINDS):
        raise ValueError(f"{code} is no kind of supply")
    return _KINDS[code - 1]
