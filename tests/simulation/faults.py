"""What goes wrong on the way to a machine and in it. A new fault is a function and a row of `FAULTS`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from tests.simulation.machines import Machine

HARMLESS = ("cut", "stall", "crash", "flush", "fill", "restart")
"""Faults that take nothing away from anyone: all promises are checked. A crash is the process's own."""
HARMFUL = ("fail over", "turn the clock")
"""Faults that tier `none` cannot make unseen: that the books are right is checked all the same."""
MOST_OFFSET_SECONDS = 1800
"""How wrong a turned clock is. All turns together stay below the retention: nothing is forgotten by them."""
STALLS_SECONDS = (0.05, 1.0, 6.0, 12.0)
"""Some are longer than a caller waits: what it sent is decided after it gave up."""


async def cut(random: Random, machine: Machine) -> None:
    """Some connections break, with what is on its way or at the moment of an answer."""
    for connection in list(machine.connections):
        kind = random.random()
        if kind < 0.4:
            connection.cut(loses_requests=random.random() < 0.5)
        elif kind < 0.6:
            connection.cut_with_next_answer()


async def stall(random: Random, machine: Machine) -> None:
    """Some connections carry nothing for a while, then everything."""
    for connection in list(machine.connections):
        if random.random() < 0.5:
            connection.stall(random.choice(STALLS_SECONDS))


async def flush(_: Random, machine: Machine) -> None:
    """The server forgets its functions."""
    machine.store.flush_functions()


async def fill(random: Random, machine: Machine) -> None:
    """The server's memory is full for a while."""
    machine.store.set_full(is_full=True)
    await asyncio.sleep(random.uniform(0, 1))
    machine.store.set_full(is_full=False)


async def restart(random: Random, machine: Machine) -> None:
    """The server ends and starts again; it has everything."""
    machine.restart(random.uniform(0.01, 1))


async def fail_over(random: Random, machine: Machine) -> None:
    """A replica takes over with what it had a moment ago."""
    machine.copy_to_replica()
    await asyncio.sleep(random.choice((0, 0.1, 1)))
    machine.fail_over(random.uniform(0.01, 1))


async def turn_the_clock(random: Random, machine: Machine) -> None:
    """The server's clock is wrong, or right again."""
    seconds = random.choice((-MOST_OFFSET_SECONDS, -5, 0, 5, MOST_OFFSET_SECONDS))
    machine.offset_us = seconds * 1_000_000


FAULTS: dict[str, Callable[[Random, Machine], Awaitable[None]]] = {
    "cut": cut,
    "stall": stall,
    "flush": flush,
    "fill": fill,
    "restart": restart,
    "fail over": fail_over,
    "turn the clock": turn_the_clock,
}
