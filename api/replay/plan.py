"""What becomes of a basket: decided by the seed and the basket's number, never by the clock."""

from __future__ import annotations

import random
from enum import IntEnum
from typing import NamedTuple

from api.replay.shop import Twice

POS_SHARE = 0.55
WEB_SHARE = 0.30
ABANDONED_SHARE = 0.10
RELEASED_SHARE = 0.05

DUPLICATE_SHARE = 0.20
WEB_FULFILLED_SHARE = 0.50
WEB_EXTENDED_SHARE = 0.10

TTL_S = 900
SHORTEST_TTL_S, LONGEST_TTL_S = 1, 3
LONGEST_THINK_S = 0.2


class Custom(IntEnum):
    """How a customer behaves."""

    POS = 0
    WEB = 1
    ABANDONED = 2
    RELEASED = 3


class Plan(NamedTuple):
    """The way of one basket; each of its requests has its own word on being sent twice.

    `ttl_s` is the hold's life in seconds, `think_s` the pause before the next step.
    """

    custom: Custom
    ttl_s: int
    think_s: float
    extended: bool
    fulfilled: bool
    reserve_twice: Twice
    extend_twice: Twice
    settle_twice: Twice
    fulfil_twice: Twice


class Planner:
    """Draws plans; equal seeds and numbers give equal plans in any order."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        # Not for secrets: the seed must give the same plans every time.
        self._chance = random.Random()

    def plan(self, number: int) -> Plan:
        """Draw the plan of the basket with this number."""
        chance = self._chance
        chance.seed(self._seed * 1_000_000_007 + number)
        draw = chance.random
        share = draw()
        if share < POS_SHARE:
            custom = Custom.POS
        elif share < POS_SHARE + WEB_SHARE:
            custom = Custom.WEB
        elif share < POS_SHARE + WEB_SHARE + ABANDONED_SHARE:
            custom = Custom.ABANDONED
        else:
            custom = Custom.RELEASED
        ttl_s = TTL_S
        if custom is Custom.ABANDONED:
            ttl_s = chance.randint(SHORTEST_TTL_S, LONGEST_TTL_S)
        return Plan(
            custom=custom,
            ttl_s=ttl_s,
            think_s=draw() * LONGEST_THINK_S,
            extended=custom is Custom.WEB and draw() < WEB_EXTENDED_SHARE,
            fulfilled=custom is Custom.POS or (custom is Custom.WEB and draw() < WEB_FULFILLED_SHARE),
            reserve_twice=_twice(draw()),
            extend_twice=_twice(draw()),
            settle_twice=_twice(draw()),
            fulfil_twice=_twice(draw()),
        )


def _twice(share: float) -> Twice:
    if share < DUPLICATE_SHARE / 2:
        return Twice.AT_ONCE
    return Twice.AFTERWARDS if share < DUPLICATE_SHARE else Twice.NO
