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
    is_done: bool
    """Whether nothing that was due when the sweep looked is left."""


async def sweep(commands: Commands) -> Swept:
    """Handles at the most `limits.OVERDUE_ENTRIES` entries of a partition's deadline index.

    Raises `Unavailable` or `Unconfirmed`; both mean that a later sweep finishes the work.
    """
    listed = await commands.overdue(limits.OVERDUE_ENTRIES)
    work = [_handle(commands, entry, records, listed.now_ms) for entry, *records in listed.answer]
    done = await asyncio.gather(*work)
    return Swept(
        sum(count for kind, count in done if kind == "h"),
        sum(count for kind, count in done if kind == "p"),
        len(done) < limits.OVERDUE_ENTRIES,
    )


async def sweep_all(commands: Commands) -> Swept:
    """Sweeps until nothing is left that was due at the start."""
    expired = forgotten = 0
    while True:
        swept = await sweep(commands)
        expired += swept.expired
        forgotten += swept.forgotten
        if swept.is_done:
            return Swept(expired, forgotten, is_done=True)


async def _handle(commands: Commands, entry: bytes, records: list[bytes], now_ms: int) -> tuple[str, int]:
    if entry[:1] == b"p":
        reply = await commands.forget(entry)
        return "p", reply.answer
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
    return "h", reply.answer if isinstance(reply.answer, int) else 0
