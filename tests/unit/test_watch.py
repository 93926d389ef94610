"""The clock of a worker's connections."""

import asyncio
from collections.abc import Callable
from typing import Any

from api.limits import DEFAULT
from api.watch import LOOKED_AT_IN_A_TURN, NEVER, TICK_SECONDS, Watch

MANY = 3 * LOOKED_AT_IN_A_TURN + 1


class Seen:
    """A connection that notes in which turn of the loop it was looked at."""

    def __init__(self, turns: list[int]) -> None:
        self.row = NEVER
        self.idle_since = 0.0
        self.transport: Any = None
        self.again = 0.0
        self.looks: list[int] = []
        self._turns = turns

    def look(self, now: float) -> float:
        self.looks.append(len(self._turns))
        again, self.again = self.again, 0.0
        return now + again if again else 0.0


async def _wait_for(watch: Watch, wanted: Callable[[], bool], turns: list[int]) -> None:
    watch.start()
    async with asyncio.timeout(20):
        while not wanted():
            turns.append(0)
            await asyncio.sleep(0)
    watch.stop()


async def test_who_is_late_together_is_looked_at_a_few_in_a_turn() -> None:
    turns: list[int] = []
    watch, all_of_them = Watch(DEFAULT, 1), [Seen(turns) for _ in range(MANY)]
    for one in all_of_them:
        watch.expect(one, watch.now + TICK_SECONDS)
    await _wait_for(watch, lambda: all(bool(one.looks) for one in all_of_them), turns)
    by_turn = [one.looks[0] for one in all_of_them]
    assert all(len(one.looks) == 1 for one in all_of_them)
    assert max(by_turn.count(turn) for turn in by_turn) == LOOKED_AT_IN_A_TURN
    assert len(set(by_turn)) == 4


async def test_who_goes_meanwhile_is_not_looked_at() -> None:
    turns: list[int] = []
    watch, all_of_them = Watch(DEFAULT, 1), [Seen(turns) for _ in range(MANY)]
    for one in all_of_them:
        watch.expect(one, watch.now + TICK_SECONDS)

    def seen() -> int:
        return sum(bool(one.looks) for one in all_of_them)

    await _wait_for(watch, lambda: seen() >= LOOKED_AT_IN_A_TURN, turns)
    gone = [one for one in all_of_them if not one.looks]
    assert gone
    for one in gone:
        watch.forget(one)
    witness = Seen(turns)
    watch.expect(witness, watch.now + 2 * TICK_SECONDS)
    await _wait_for(watch, lambda: bool(witness.looks), turns)
    assert seen() == MANY - len(gone)


async def test_who_wants_to_be_looked_at_again_is() -> None:
    turns: list[int] = []
    watch, one = Watch(DEFAULT, 1), Seen(turns)
    one.again = TICK_SECONDS
    watch.expect(one, watch.now + TICK_SECONDS)
    await _wait_for(watch, lambda: len(one.looks) == 2, turns)
