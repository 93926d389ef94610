"""Settings that every partition keeps a copy of."""

import msgspec

from engine import keys
from engine.topology import Topology
from engine.types import Location

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Location).decode


def encode_location(location: Location) -> bytes:
    """A location's settings as they are stored."""
    return _encode(location)


async def read_locations(topology: Topology) -> list[Location]:
    """All locations, by id."""
    stored = await topology.read_hash(keys.locations(0))
    return sorted((_decode(packed) for packed in stored.values()), key=lambda location: location.id)
