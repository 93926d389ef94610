"""Gives back what has lapsed and forgets what is old. Anyone may sweep, several may at once."""

from msgspec import Struct

from engine import limits
from engine.commands import Commands


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
    ask = commands.forget if memories else commands.expire
    _, _, _, (count, more, *repairs) = await ask(limits.SWEEP_IDS)
    return Swept(count, more == 0, repairs == [1])


async def sweep_all(commands: Commands, *, memories: bool = False) -> int:
    """Sweeps until nothing is due; how many holds or memories there were."""
    count, is_done = 0, False
    while not is_done:
        swept = await sweep(commands, memories=memories)
        count, is_done = count + swept.count, swept.is_done
    return count
