"""Gives back what has lapsed and forgets what is old. Anyone may sweep, several may at once."""

import asyncio
from logging import getLogger

from msgspec import Struct

from engine import limits
from engine.commands import Commands
from engine.pace import Watch

log = getLogger("bincard.clock")

PROBATION_PAUSE_SECONDS = 0.02


class Swept(Struct, frozen=True):
    """What one call of a sweep did: how many holds it gave back, or memories it forgot."""

    count: int
    is_done: bool
    """Whether nothing that was due is left."""
    has_repairs: bool = False
    """Whether a basket over several partitions has to be repaired."""


async def sweep(commands: Commands, *, memories: bool = False) -> Swept:
    """Gives back the first of the holds that are due, or forgets the first memories that are. Raises
    `Unavailable` or `Unconfirmed`; both mean that a later sweep finishes the work.
    """
    if memories:
        _, _, _, (count, more) = await commands.forget(limits.SWEEP_IDS)
        return Swept(count, more == 0)
    watch = commands.watch
    if watch is not None and watch.skew is None:
        watch.skew = (await commands.pace(0))[3][0]
    sent_at = 0.0 if watch is None else watch.read()
    now_ms, _, _, (count, more, repairs, *behind) = await commands.expire(limits.SWEEP_IDS)
    # Where another sweep has forgotten the skew meanwhile, the answer is no beginning for its watch.
    if watch is not None and watch.skew is not None:
        # A clock that went back shows in the answer alone: engine time goes on all the same.
        step = watch.compare(now_ms, sent_at) or -sum(behind)
        if step:
            await _set_right(commands, watch, step, (now_ms, sent_at))
    if watch is not None and more and not watch.is_trusted:
        # What is due by the clock alone waits for a watch; so do we, and ask not too often.
        await asyncio.sleep(PROBATION_PAUSE_SECONDS)
    return Swept(count, more == 0, repairs == 1)


async def _set_right(commands: Commands, watch: Watch, step: int, seen: tuple[int, float]) -> None:
    """The server's clock made a step: engine time shall not. `seen` is the answer that showed it."""
    known = watch.skew
    assert known is not None
    least = watch.horizon()
    sent_at = watch.read()
    now_ms, _, _, (skew, is_ours) = await commands.pace(known, ahead=max(step, 0), least=least)
    if is_ours:
        log.warning("the server's clock made a step of %+d ms; engine time does not", skew - known)
        watch.skew = skew
        if step < 0:
            watch.follow(now_ms, sent_at)
    elif skew != watch.skew:
        watch.forget()
    elif step < 0 and least:
        # The clock came back by itself, and engine time had stood still: it shall go on from there, or holds
        # of these moments are short. To a watch that goes on from there the next answer is a step ahead.
        watch.follow(*seen)


async def sweep_all(commands: Commands, *, memories: bool = False) -> int:
    """Sweeps until nothing is due; how many holds or memories there were."""
    count, is_done = 0, False
    while not is_done:
        swept = await sweep(commands, memories=memories)
        count, is_done = count + swept.count, swept.is_done
    return count


async def trim_some(commands: Commands) -> int:
    """Forgets the old history of the next positions; the time. Raises as `sweep` does."""
    now_ms, _, _, (_, last) = await commands.trim(commands.trimmed)
    commands.trimmed = last
    return now_ms
