"""Gives back what has lapsed and forgets what is old. Anyone may sweep, several may at once."""

import asyncio

from msgspec import Struct

from engine import limits
from engine.commands import Commands
from engine.records import decode_record, is_reservation
from engine.types import State


class Swept(Struct, frozen=True):
    """What one sweep did."""

    expired: int
    forgotten: int
    now_ms: int
    """When the sweep looked."""
    is_done: bool
    """Whether nothing that was due then is left."""


async def sweep(commands: Commands, *, memories: bool = False, until_ms: int = 0) -> Swept:
    """Gives back the first of the holds that are due, or forgets the first memories that are; due until a
    moment, or by now. Raises `Unavailable` or `Unconfirmed`; both mean that a later sweep finishes the work.
    """
    listed = await commands.overdue(limits.OVERDUE_ENTRIES, memories=memories, until_ms=until_ms)
    work = [_handle(commands, entry, records, listed.now_ms) for entry, *records in listed.answer]
    done = sum(await asyncio.gather(*work))
    return Swept(0 if memories else done, done if memories else 0, listed.now_ms, not listed.answer)


async def sweep_all(commands: Commands) -> Swept:
    """Gives back every hold that is due at the start. What falls due meanwhile is left to the next."""
    swept = await sweep(commands)
    expired, until_ms = swept.expired, swept.now_ms
    while not swept.is_done:
        swept = await sweep(commands, until_ms=until_ms)
        expired += swept.expired
    return Swept(expired, 0, until_ms, is_done=True)


async def forget_all(commands: Commands) -> int:
    """Forgets every memory whose retention has passed; how many there were."""
    forgotten, swept = 0, await sweep(commands, memories=True)
    while not swept.is_done:
        forgotten += swept.forgotten
        swept = await sweep(commands, memories=True)
    return forgotten


async def _handle(commands: Commands, entry: bytes, records: list[bytes], now_ms: int) -> int:
    if entry[:1] == b"p":
        reply = await commands.forget(entry)
        return int(reply.answer)
    holds, positions = [], 1
    for index, raw in enumerate(records):
        if not is_reservation(raw):
            continue
        record = decode_record(raw)
        if record.head.state is State.HELD and record.head.deadline_ms <= now_ms:
            operation = entry[1 + 12 * index : 13 + 12 * index]
            holds.append((operation, record.head.revision, record.plan.skus))
            positions += len(record.plan.positions)
    reply = await commands.expire(entry, holds, positions=positions)
    return reply.answer if isinstance(reply.answer, int) else 0
