"""Engine time, and a watch of our own beside it.

Engine time is the server's clock less a skew that is kept with the books. Whoever sweeps compares it with a
clock that cannot be set. So a step of the server's clock is noticed, holds lapse only as far as a watch
vouches, and the skew is set so that engine time goes on as if nothing had happened. See `lua/pace.lua`.
"""

from collections.abc import Callable
from time import monotonic

STEP_MS = 200
"""Less is let pass."""
DRIFT = 1000
"""Clocks drift apart by less than one part of so many."""

PROBATION_MS = 1000
"""How long a watch goes before it vouches: what it was set by may be a step that others are setting right."""


class Watch:
    """What one process knows of the engine time of one partition."""

    __slots__ = ("_begun_at", "_clock", "_least", "_looked_at", "_most", "skew")

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._least = self._most = self._begun_at = 0.0
        self._looked_at: float | None = None
        self.skew: int | None = None
        """The skew when we last asked; None where we must ask."""

    def read(self) -> float:
        """Our own clock, in milliseconds."""
        return self._clock() * 1000

    @property
    def is_trusted(self) -> bool:
        """Whether it has gone for long enough."""
        return self._looked_at is not None and self.read() >= self._begun_at + PROBATION_MS

    def horizon(self) -> int:
        """An engine time that has come by our own clock; 0 where we cannot tell yet."""
        return int(self.read() + self._least) if self.is_trusted else 0

    def compare(self, now_ms: int, sent_at: float) -> int:
        """Takes an engine time that answered a question of `sent_at`. How far it is ahead of what it must
        be, at the least; below 0 how far behind; 0 where all is well.
        """
        came_at = self.read()
        least, most = now_ms - came_at, now_ms - sent_at
        if self._looked_at is None:
            self.follow(now_ms, sent_at)
            self._begun_at = self.read()
            return 0
        drift = (came_at - self._looked_at) / DRIFT
        if least > self._most + drift + STEP_MS:
            return int(least - self._most)
        if most < self._least - drift - STEP_MS:
            return int(most - self._least)
        # What both looks allow. Where that is nothing, the first stays: small steps add up to one seen.
        least, most = max(least, self._least - drift), min(most, self._most + drift)
        if least <= most:
            self._least, self._most, self._looked_at = least, most, came_at
        return 0

    def follow(self, now_ms: int, sent_at: float) -> None:
        """Engine time goes on from here."""
        came_at = self.read()
        self._least, self._most, self._looked_at = now_ms - came_at, now_ms - sent_at, came_at

    def forget(self) -> None:
        """Somebody else set the skew, so their time is the right one: ours begins anew."""
        self._looked_at = self.skew = None
