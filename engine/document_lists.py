"""Pages of documents, by an index that the script which saves a document keeps.

The index of a partition is a sorted set of entries that all have one score, so that they stand in the order
of their bytes, the newest first:

  kind (1) | what is looked for: size (1), text | created: ms, turned around (6) | public id (22)

An entry tells where its document is; what counts is the document, which a page reads anyway.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import NamedTuple, cast

from engine import keys
from engine.ids import parse_document_id
from engine.topology import Topology

MOST_LOOKED_AT = 5000
"""Documents that one page looks at; a page for which these are not enough ends early."""
AT_ONCE = 200
"""Documents that one command reads at the most."""
LEAST_READ, MOST_READ = 16, 512
"""Entries that one command reads."""
ID_SIZE = 22
ORDER_SIZE = 6 + ID_SIZE
PREFIX_SIZE = 2
"""Of a public id."""
_LAST_MS = 2**48 - 1
_BEHIND_ALL = b"\xff" * (ORDER_SIZE + 1)


class Spot(NamedTuple):
    """A place in a list: behind the document that was made then and has this id."""

    created_ms: int
    id: str

    @property
    def order(self) -> bytes:
        """The end of a document's entries: newer ones are less."""
        turned = min(max(_LAST_MS - self.created_ms, 0), _LAST_MS)
        return turned.to_bytes(6, "big") + self.id.encode()


class Entry(NamedTuple):
    """A document that the index leads to."""

    spot: Spot
    partition: int
    own: bytes
    """Its id as it is filed."""


def spot_of(order: bytes) -> Spot:
    """What an entry ends with."""
    return Spot(_LAST_MS - int.from_bytes(order[:6], "big"), order[6:].decode())


def own_id(spot: Spot) -> bytes | None:
    """The id under which the document of an entry is filed; None where it is no document's."""
    routed = parse_document_id(spot.id[:PREFIX_SIZE], spot.id)
    return None if routed is None else routed[1]


class Walk:
    """A walk through the documents of a prefix in some partitions, the newest first."""

    def __init__(
        self, topology: Topology, partitions: Sequence[int], prefix: bytes, after: Spot | None, limit: int
    ) -> None:
        self._topology = topology
        self._prefix = prefix
        self._read = min(MOST_READ, max(LEAST_READ, 2 * limit // max(1, len(partitions))))
        self._orders: dict[int, deque[bytes]] = {partition: deque() for partition in partitions}
        self._after: dict[int, bytes | None] = dict.fromkeys(partitions, after.order if after else b"")
        """Behind what a partition goes on; None at its end."""
        self._heap: list[tuple[bytes, int]] = []
        self.looked_at = 0
        self.last: Spot | None = after
        """What the walk has come to."""

    async def begin(self) -> None:
        """Reads the first entries."""
        await asyncio.gather(*map(self._read_more, self._orders))
        for partition in self._orders:
            await self._offer(partition)

    @property
    def is_over(self) -> bool:
        """Whether there are no further entries."""
        return not self._heap

    async def take(self, count: int) -> list[tuple[Entry, bytes]]:
        """The next so many documents as they are stored. One that went meanwhile is left out."""
        taken: list[Entry] = []
        while self._heap and len(taken) < count:
            order, partition = heappop(self._heap)
            self.last = spot_of(order)
            own = own_id(self.last)
            if own is not None:
                taken.append(Entry(self.last, partition, own))
            await self._offer(partition)
        self.looked_at += len(taken)
        asked: dict[int, list[Entry]] = {}
        for entry in taken:
            asked.setdefault(entry.partition, []).append(entry)
        stored: dict[Entry, bytes | None] = {}
        for found in await asyncio.gather(*(self._read_documents(*some) for some in asked.items())):
            stored |= found
        return [(entry, raw) for entry in taken if (raw := stored[entry])]

    async def _read_documents(self, partition: int, entries: Sequence[Entry]) -> dict[Entry, bytes | None]:
        (found,) = await self._topology.read_at_once(
            ("HMGET", keys.documents(partition), *(entry.own for entry in entries))
        )
        return dict(zip(entries, cast("list[bytes | None]", found), strict=True))

    async def _read_more(self, partition: int) -> None:
        after = self._after[partition]
        if after is None:
            return
        first, last = b"(" + self._prefix + after, b"[" + self._prefix + _BEHIND_ALL
        (found,) = await self._topology.read_at_once(
            ("ZRANGE", keys.listed(partition), first, last, "BYLEX", "LIMIT", 0, self._read)
        )
        orders = [entry[len(self._prefix) :] for entry in cast("list[bytes]", found)]
        self._orders[partition].extend(orders)
        self._after[partition] = orders[-1] if len(orders) == self._read else None

    async def _offer(self, partition: int) -> None:
        """Puts the next of a partition where the newest of all is taken from."""
        if not self._orders[partition]:
            await self._read_more(partition)
        if self._orders[partition]:
            heappush(self._heap, (self._orders[partition].popleft(), partition))
