"""Bincard through its engine: one process, one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import engine
from benchmarks.peers.workload import LOCATION, TTL_SECONDS, Counters
from engine import (
    Inventory,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Reservation,
    ReserveRequest,
)
from engine.errors import InsufficientStock


class Bincard:
    """The public face of the engine, nothing else."""

    batched = True

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory

    async def prepare(self, stock: Mapping[str, int]) -> None:
        inventory = self._inventory
        await inventory.save_location(Location(LOCATION, LocationKind.WAREHOUSE))
        facts = [
            Movement(f"receive-{sku}", MovementKind.RECEIVE, sku, LOCATION, units)
            for sku, units in stock.items()
        ]
        await asyncio.gather(*(inventory.record(fact) for fact in facts))

    async def reserve(self, operation: str, sku: str) -> str | None:
        try:
            held = await self._inventory.reserve(
                operation, (Line(sku, 1, LOCATION),), ttl_seconds=TTL_SECONDS
            )
        except InsufficientStock:
            return None
        return held.id

    async def resolve(self, reservation: str, *, commit: bool) -> None:
        if commit:
            await self._inventory.commit(reservation)
        else:
            await self._inventory.release(reservation)

    async def reserve_many(self, wanted: Sequence[tuple[str, str]]) -> list[str | None]:
        requests = [
            ReserveRequest(operation, (Line(sku, 1, LOCATION),), TTL_SECONDS) for operation, sku in wanted
        ]
        return [_id_of(answer) for answer in await self._inventory.reserve_many(requests)]

    async def resolve_many(self, resolved: Sequence[tuple[str, bool]]) -> None:
        committed = self._inventory.commit_many([name for name, commit in resolved if commit])
        released = self._inventory.release_many([name for name, commit in resolved if not commit])
        for answers in await asyncio.gather(committed, released):
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer

    async def books(self, skus: Sequence[str]) -> dict[str, Counters]:
        found = await asyncio.gather(*(self._inventory.stock(sku) for sku in skus))
        return {
            sku: Counters(position.on_hand, position.held, position.allocated)
            for sku, (position,) in zip(skus, found, strict=True)
        }

    async def states(self, reservations: Sequence[str]) -> list[str]:
        found = await asyncio.gather(*(self._inventory.reservation(name) for name in reservations))
        return [reservation.state.value for reservation in found]


def _id_of(answer: Reservation | Exception) -> str | None:
    if isinstance(answer, InsufficientStock):
        return None
    if isinstance(answer, Exception):
        raise answer
    return answer.id


@asynccontextmanager
async def open_bincard(url: str) -> AsyncIterator[Bincard]:
    """A data set of one partition on an empty server."""
    inventory = await engine.connect(url, partitions=1)
    try:
        yield Bincard(inventory)
    finally:
        await inventory.close()
