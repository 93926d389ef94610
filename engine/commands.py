"""The scripts of one partition as typed calls: arguments in the form that Lua reads, answers as Python.

One method for each file of `lua/`, and the only place that knows the order of its keys and arguments.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from engine import keys
from engine.cluster_link import HotLink
from engine.ids import NO_OPERATION, OPERATION_ID_SIZE
from engine.lane import Answer, Script, bulk
from engine.script import Library

READ, RESERVE, RELEASE, COMMIT = 3, 2, 1, 0
Resolution = Literal["commit", "release", "extend", "fulfil", "cancel"]


class Reply(Struct, frozen=True, gc=False):
    """What a script answered: when, in which epoch, and the answer itself."""

    now_ms: int
    epoch: int
    answer: Answer

    @property
    def word(self) -> str | None:
        """The word of the answer, or None where the script answers success without one."""
        answer = self.answer
        if type(answer) is list and answer and type(answer[0]) is bytes:
            return str(answer[0], "ascii")
        return None


class Resolve(Struct, frozen=True, gc=False):
    """What every verb on an existing reservation names: the reservation, the version of its lines that
    the caller has seen, its SKUs, and the operation (or `NO_OPERATION`) with its fingerprint.
    """

    id: bytes
    revision: int
    skus: Sequence[str]
    operation: bytes = NO_OPERATION
    fingerprint: bytes = bytes(8)
    positions: int = 1


class Commands:
    """The verbs of one partition."""

    def __init__(self, link: HotLink, library: Library, partition: int, *, retention_ms: int) -> None:
        self._link = link
        self.partition = partition
        effects = (
            keys.meta(partition),
            keys.operations(partition),
            keys.due(partition),
            keys.log(partition),
        )
        reads = (keys.meta(partition), keys.due(partition))

        def script(verb: str, fixed: Sequence[str], priority: int, arguments: Sequence[str] = ()) -> Script:
            return Script(library.function(verb), fixed, arguments, priority=priority)

        retention = (str(retention_ms),)
        self._reserve = script("reserve", effects, RESERVE)
        self._resolve: dict[str, Script] = {
            "commit": script("commit", effects, COMMIT, retention),
            "fulfil": script("fulfil", effects, COMMIT, retention),
            "release": script("release", effects, RELEASE, retention),
            "cancel": script("cancel", effects, RELEASE, retention),
            "extend": script("extend", effects, RELEASE, retention),
        }
        self._expire = script("expire", effects, RELEASE, retention)
        self._overdue = script("overdue", effects[:3], RELEASE)
        self._forget = script("forget", effects[:3], READ)
        self._find = script("find", effects[:2], COMMIT)
        self._movement = script("movement", (*effects, keys.locations(partition)), COMMIT, retention)
        self._save_location = script(
            "save_location", (effects[0], keys.locations(partition), effects[3]), COMMIT
        )
        self._availability = script("availability", reads, READ)
        self._stock = script("stock", reads, READ)
        self._stock_key = lru_cache(maxsize=65_536)(self._encode_stock_key)

    def _encode_stock_key(self, sku: str) -> bytes:
        return bulk(keys.stock(self.partition, sku).encode())

    async def reserve(
        self,
        operation: bytes,
        fingerprint: bytes,
        ttl_ms: int,
        body: bytes,
        skus: Sequence[str],
        *,
        swept: bool,
        positions: int,
    ) -> Reply:
        """`lua/reserve.lua`. `body` is a packed plan, then a packed detail."""
        argument = b"".join(
            (operation, fingerprint, ttl_ms.to_bytes(6, "little"), b"\1" if swept else b"\0", body)
        )
        stock = [self._stock_key(sku) for sku in skus]
        return Reply(*await self._link.submit(self._reserve, stock, bulk(argument), positions))

    async def resolve(self, verb: Resolution, request: Resolve, own: bytes) -> Reply:
        """`lua/commit.lua`, `release`, `extend`, `fulfil`, `cancel`; `own` is what the verb itself takes."""
        argument = b"".join(
            (
                request.id,
                request.revision.to_bytes(2, "little"),
                bytes((len(request.skus),)),
                request.operation,
                request.fingerprint,
                own,
            )
        )
        stock = [self._stock_key(sku) for sku in request.skus]
        return Reply(*await self._link.submit(self._resolve[verb], stock, bulk(argument), request.positions))

    async def overdue(self, entries: int, *, memories: bool = False, until_ms: int = 0) -> Reply:
        """`lua/overdue.lua`: `[[entry, record, …], …]`."""
        asked = entries.to_bytes(2, "little") + bytes((memories,)) + until_ms.to_bytes(6, "little")
        return Reply(*await self._link.submit(self._overdue, (), bulk(asked)))

    async def expire(
        self, entry: bytes, holds: Sequence[tuple[bytes, int, Sequence[str]]], *, positions: int
    ) -> Reply:
        """`lua/expire.lua` for one entry of the deadline index: id, revision and SKUs of each hold."""
        items = [
            operation + revision.to_bytes(2, "little") + bytes((len(skus),))
            for operation, revision, skus in holds
        ]
        argument = b"".join((len(holds).to_bytes(2, "little"), *items, entry))
        stock = [self._stock_key(sku) for _, _, skus in holds for sku in skus]
        return Reply(*await self._link.submit(self._expire, stock, bulk(argument), positions))

    async def forget(self, entry: bytes) -> Reply:
        """`lua/forget.lua` for one entry of the deadline index."""
        return Reply(
            *await self._link.submit(self._forget, (), bulk(entry), max(1, len(entry) // OPERATION_ID_SIZE))
        )

    async def find(self, operation: bytes) -> Reply:
        """`lua/find.lua`: `[seq, record]`."""
        return Reply(*await self._link.submit(self._find, (), bulk(operation)))

    async def movement(
        self, operation: bytes, fingerprint: bytes, quantity: int, location: str, sku: str, detail: bytes
    ) -> Reply:
        """`lua/movement.lua`; `detail` is what only Python reads."""
        place, name = location.encode(), sku.encode()
        argument = b"".join(
            (
                operation,
                fingerprint,
                quantity.to_bytes(7, "little", signed=True),
                bytes((len(place),)),
                place,
                len(name).to_bytes(2, "little"),
                name,
                detail,
            )
        )
        touched = (self._stock_key(sku), bulk(keys.stocked(self.partition, location).encode()))
        return Reply(*await self._link.submit(self._movement, touched, bulk(argument), 2))

    async def save_location(self, location: str, settings: bytes) -> Reply:
        """`lua/save_location.lua`; empty settings delete."""
        place = location.encode()
        stocked = bulk(keys.stocked(self.partition, location).encode())
        argument = bulk(bytes((len(place),)) + place + settings)
        return Reply(*await self._link.submit(self._save_location, (stocked,), argument))

    def availability(
        self, sku: str, locations: Sequence[str], *, swept: bool
    ) -> "asyncio.Future[tuple[int, int, Answer]]":
        """`lua/availability.lua`: `[seq, location, available, status, …]`. The fields of a `Reply`, so
        that many can be asked before the first is awaited.
        """
        argument = _encode_places(locations, swept=swept)
        return self._link.submit(self._availability, (self._stock_key(sku),), argument, len(locations) or 4)

    async def stock(self, sku: str, locations: Sequence[str], *, swept: bool) -> Reply:
        """`lua/stock.lua`: `[seq, location, ten counters, …]`."""
        argument = _encode_places(locations, swept=swept)
        return Reply(
            *await self._link.submit(self._stock, (self._stock_key(sku),), argument, len(locations) or 4)
        )


def _encode_places(locations: Sequence[str], *, swept: bool) -> bytes:
    places = [bytes((len(place),)) + place for place in map(str.encode, locations)]
    return bulk(b"".join((b"\1" if swept else b"\0", *places)))
