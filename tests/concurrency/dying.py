"""An engine process that dies at its n-th request, on the connection of one that lives."""

import asyncio
from collections.abc import Awaitable, Callable
from copy import copy
from enum import StrEnum
from typing import TypeVar, cast

from engine import Inventory
from engine.cluster_link import HotLink
from engine.commands import Commands
from engine.lane import Answer, Script
from tests.driver import RETENTION_SECONDS

_Result = TypeVar("_Result")
Request = tuple[Script, bytes, int]
"""As `Lane.submit` takes it."""


class Death(StrEnum):
    """How it dies at a request."""

    UNSENT = "unsent"
    """Before it is sent."""
    UNANSWERED = "unanswered"
    """After it took effect, before the answer came."""
    LOST = "lost"
    """The request is lost; those that are sent at the same moment take effect."""


class DyingLink:
    """Sends what its owner submits, until the owner dies."""

    def __init__(self, link: HotLink, nth: int, death: Death) -> None:
        self.submit_many = link.submit_many
        self.died = asyncio.Event()
        self.sent: list[asyncio.Future[Answer]] = []
        self.lost: list[Request] = []
        self._link = link
        self._left = nth
        self._death = death

    def submit(self, script: Script, argument: bytes, positions: int = 1) -> "asyncio.Future[Answer]":
        self._left -= 1
        loop = asyncio.get_running_loop()
        if self.died.is_set() or (self._left == 0 and self._death is Death.UNSENT):
            self.died.set()
            return loop.create_future()
        if self._left == 0 and self._death is Death.LOST:
            # Whoever is ready to run now still sends.
            loop.call_soon(self.died.set)
            self.lost.append((script, argument, positions))
            return loop.create_future()
        sent = self._link.submit(script, argument, positions)
        self.sent.append(sent)
        if self._left == 0:
            self.died.set()
            return loop.create_future()
        return sent


async def live_until(
    inventory: Inventory,
    nth: int,
    death: Death,
    act: Callable[[Inventory], Awaitable[_Result]],
    *,
    lost: list[Request] | None = None,
) -> _Result | None:
    """What `act` returns in a process that dies at its n-th request; None where it died. Raises what `act`
    raises. What was sent has taken effect by then, and nothing is sent any more. The request that was lost is
    added to `lost`, for it may be but late.
    """
    dataset = copy(inventory.dataset)
    link = DyingLink(dataset.link, nth, death)
    dataset.link = cast("HotLink", link)
    dataset.commands = tuple(
        Commands(dataset.link, dataset.scripts, partition, retention_ms=RETENTION_SECONDS * 1000)
        for partition in range(dataset.partitions)
    )
    acting = asyncio.ensure_future(act(Inventory(dataset)))
    dying = asyncio.ensure_future(link.died.wait())
    await asyncio.wait([acting, dying], return_when=asyncio.FIRST_COMPLETED)
    has_died = not acting.done()
    acting.cancel()
    dying.cancel()
    await asyncio.gather(acting, dying, return_exceptions=True)
    await asyncio.gather(*link.sent, return_exceptions=True)
    if lost is not None:
        lost += link.lost
    return None if has_died else acting.result()
