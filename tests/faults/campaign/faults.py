"""The faults, by name. Each strikes a site under load, heals it, and tells what shows that it bit."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.faults.campaign.proxy import Proxy
from tests.faults.campaign.shoppers import Crowd, wait_for

Evidence = Mapping[str, int]
"""What shows that a fault bit, in numbers. A zero says that it did not."""


BITES_WITHIN_SECONDS = 5.0


@dataclass
class Scene:
    """What a fault may touch. `site` is of the kind that the fault names."""

    site: Any
    crowd: Crowd
    chance: Random
    proxy: Proxy | None

    async def pause(self, least: float, most: float) -> None:
        """Lets traffic go on for a random while."""
        await asyncio.sleep(self.chance.uniform(least, most))
        self.crowd.look()

    def relay(self) -> Proxy:
        """The relay of a fault that is proxied."""
        assert self.proxy is not None
        return self.proxy

    async def until_bitten(self, bites: Callable[[], int]) -> int:
        """Waits until a fault shows, on a busy machine too; how much of it does."""
        await wait_for(lambda: bites() > 0, BITES_WITHIN_SECONDS)
        self.crowd.look()
        return bites()


Strike = Callable[[Scene], Awaitable[Evidence]]


@dataclass(frozen=True)
class Fault:
    """A way to be struck."""

    name: str
    strike: Strike
    site: str
    tier: str
    is_proxied: bool
    """The engine's connections go through a relay."""

    has_clock: bool
    """The server's clock can be set."""

    may_lose: frozenset[str]
    """The tiers in which acknowledged work may be undone. Then the history must show it."""

    must_lose: bool
    """It surely is undone: a history that shows nothing is blind."""

    excused: frozenset[str]
    """Invariants that this release does not promise under this fault."""

    goes_alone: bool
    """No second fault in the same round."""


FAULTS: dict[str, Fault] = {}


def fault(
    site: str = "single",
    *,
    tier: str = "",
    is_proxied: bool = False,
    has_clock: bool = False,
    may_lose: frozenset[str] = frozenset(),
    must_lose: bool = False,
    excused: frozenset[str] = frozenset(),
) -> Callable[[Strike], Strike]:
    """Makes a function a fault of the same name."""

    def register(strike: Strike) -> Strike:
        name = strike.__name__
        goes_alone = site != "single" or has_clock or bool(may_lose) or must_lose
        usual = "local" if site in {"single", "served"} else "none"
        FAULTS[name] = Fault(
            name=name,
            strike=strike,
            site=site,
            tier=tier or usual,
            is_proxied=is_proxied,
            has_clock=has_clock,
            may_lose=may_lose,
            must_lose=must_lose,
            excused=excused,
            goes_alone=goes_alone,
        )
        return strike

    return register
