"""Sweeps that share a watch, and clocks that come back by themselves."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from engine.commands import Commands
from engine.pace import PROBATION_MS, Watch
from engine.sweep import sweep

START = 1_700_000_000_000
HOUR = 3_600_000
TICK_MS = 100
Reply = tuple[int, int, int, list[int]]


@dataclass
class Partition:
    """Engine time as the scripts keep it, on a clock that a test sets. An answer may be held back."""

    since_ms: int = 0
    step_ms: int = 0
    skew: int = 0
    last_ms: int = 0
    paces: list[tuple[int, int, int]] = field(default_factory=list)
    returns_before_pace: bool = False
    is_right_before_pace: bool = False
    behind: list[int] = field(default_factory=list)
    slow: list[asyncio.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch = Watch(lambda: self.since_ms / 1000)

    @property
    def now_ms(self) -> int:
        self.last_ms = max(self.last_ms, START + self.since_ms + self.step_ms - self.skew)
        return self.last_ms

    async def expire(self, _limit: int) -> Reply:
        now_ms = self.now_ms
        if self.slow:
            await self.slow.pop().wait()
        return now_ms, 1, 1, [0, 0, 0, *self.behind]

    async def pace(self, skew: int, *, ahead: int = 0, least: int = 0) -> Reply:
        if least and self.returns_before_pace:
            self.step_ms = 0
        if self.is_right_before_pace:
            self.step_ms = self.last_ms = 0
        self.paces.append((skew, ahead, least))
        raw, now_ms = START + self.since_ms + self.step_ms, self.now_ms
        is_due = now_ms - ahead >= least - 200 if ahead else raw - skew < least - 200
        is_set = skew == self.skew and is_due
        if is_set:
            self.skew = skew + ahead if ahead else raw - now_ms
            self.last_ms = raw - self.skew
        return now_ms, 1, 1, [self.skew, int(is_set)]

    async def sweep(self) -> None:
        await sweep(cast("Commands", self))

    async def sweep_for(self, duration_ms: int) -> None:
        for _ in range(0, duration_ms, TICK_MS):
            self.since_ms += TICK_MS
            await self.sweep()


@pytest.fixture
async def partition() -> Partition:
    """One whose watch vouches, as nothing is asked but by its sweeps."""
    found = Partition()
    await found.sweep_for(PROBATION_MS + TICK_MS)
    found.paces.clear()
    return found


async def test_time_goes_on_from_where_it_stood() -> None:
    """Whether the clock is still back when the sweeper tells of it, or has just come back by itself: a hold
    that was made while time stood still is none the shorter.
    """
    for returns in (False, True):
        partition = Partition(returns_before_pace=returns)
        await partition.sweep_for(PROBATION_MS + TICK_MS)
        partition.step_ms, stood_ms = -HOUR, partition.now_ms
        await partition.sweep_for(4 * TICK_MS)
        partition.step_ms = 0
        await partition.sweep_for(3 * TICK_MS)
        gone_ms = partition.now_ms - stood_ms
        assert gone_ms <= 4 * TICK_MS + 3, f"{gone_ms} ms, of 700 in which time stood still for 300"
        paced = len(partition.paces)
        await partition.sweep_for(10 * TICK_MS)
        assert partition.now_ms - stood_ms == gone_ms + 10 * TICK_MS
        assert len(partition.paces) == paced, "nothing is left to be set right"


async def test_a_watch_is_forgotten_while_other_sweeps_wait() -> None:
    """Two sweeps of a partition see a step, and a third that somebody has set it right. The first forgets
    what the watch knew; those answered later neither fail nor make an old answer its beginning.
    """
    partition = Partition()
    await partition.sweep_for(PROBATION_MS + TICK_MS)
    partition.slow = [asyncio.Event() for _ in range(3)]
    answers, sweeps = partition.slow[::-1], []
    partition.step_ms = HOUR
    for number in range(3):
        if number == 2:
            partition.skew, partition.last_ms = HOUR, 0
        sweeps.append(asyncio.ensure_future(partition.sweep()))
        await asyncio.sleep(0)
    for answer, sweeping in zip(answers, sweeps, strict=True):
        answer.set()
        await sweeping
        assert partition.watch.skew is None
    await partition.sweep_for(PROBATION_MS + TICK_MS)
    assert partition.watch.skew == HOUR
    assert partition.watch.horizon() == partition.now_ms == START + partition.since_ms


async def test_what_the_scripts_saw_of_a_clock_is_told(partition: Partition) -> None:
    """Engine time goes on as if nothing had happened: only the answer says that the clock went back."""
    partition.behind = [HOUR]
    await partition.sweep_for(TICK_MS)
    assert partition.paces == [(0, 0, partition.now_ms)]


async def test_who_is_told_that_time_is_right_goes_on_as_before(partition: Partition) -> None:
    """A step ahead that somebody else has set right meanwhile is nothing that a watch would follow."""
    partition.step_ms, partition.is_right_before_pace = HOUR, True
    await partition.sweep_for(TICK_MS)
    assert partition.paces == [(0, HOUR, partition.now_ms)]
    await partition.sweep_for(10 * TICK_MS)
    assert len(partition.paces) == 1
