"""What is told of a basket's parts, without a server."""

import asyncio
import logging
from collections.abc import Sequence

import pytest

from engine.baskets import Baskets, split_plan
from engine.keys import partition_of
from engine.records import Head, Plan, Undecided, encode_plan
from engine.types import Line, State

P = 4
Row = tuple[int, int, int, int]


def sku_in(partition: int) -> str:
    """A SKU that lies in a partition."""
    return next(sku for sku in map(str, range(999)) if partition_of(sku, P) == partition)


LINES = tuple(Line(sku_in(partition), 5, "W") for partition in (2, 0, 2))
PLAN = Plan(LINES, encode_plan(LINES))


class Partition:
    """Answers what it is told to, and notes what it was asked."""

    def __init__(self, answer: object) -> None:
        self._answer = answer
        self.followed: list[Sequence[Row]] = []
        self.settled: list[tuple[int, int]] = []

    def follow(
        self, _part: bytes, _version: tuple[int, int], plan: bytes, units: Sequence[Row]
    ) -> "asyncio.Future[object]":
        assert plan[2] == len(units)
        self.followed.append(units)
        return self._done(self._answer)

    def settle(self, _basket: bytes, version: tuple[int, int]) -> "asyncio.Future[object]":
        self.settled.append(version)
        return self._done(1)

    @staticmethod
    def _done(answer: object) -> "asyncio.Future[object]":
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        future.set_result((1, 1, 1, answer))
        return future


def head(state: State | Undecided, *progress: Row) -> Head:
    return Head(state, 0, 0, 0, 1, 3, 7, 9, 0, 0, progress)


def test_the_parts_of_a_plan() -> None:
    """In the order in which the plan comes to them; lines of one partition go together."""
    assert [(part.partition, part.indexes) for part in split_plan(PLAN, P)] == [(2, (0, 2)), (0, (1,))]
    assert [(part.partition, part.indexes) for part in split_plan(PLAN, 1)] == [(0, (0, 1, 2))]


@pytest.mark.parametrize(
    ("told", "is_missed"),
    [
        (head(State.COMMITTED), True),
        (head(State.HELD, (5, 0, 0, 0), (0, 1, 4, 0), (5, 0, 0, 0)), True),
        # The part of partition 0 has no open unit: it was told long ago, and has been forgotten since.
        (head(State.HELD, (5, 0, 0, 0), (0, 0, 5, 0), (5, 0, 0, 0)), False),
        (head(State.FULFILLED), False),
        (head(State.RELEASED), False),
        (head(Undecided.ABANDONED), False),
    ],
)
async def test_a_part_that_is_missing(caplog: pytest.LogCaptureFixture, told: Head, is_missed: bool) -> None:
    """It is an error where it should have units, and nowhere else; the step is settled."""
    partitions = [Partition([b"missing"]), Partition(0), Partition(7), Partition(0)]
    baskets = Baskets(partitions, 60)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        await baskets.tell(2, bytes(12), PLAN, told, (0, 3))
    await baskets.close()
    assert [len(partition.followed) for partition in partitions] == [1, 0, 1, 1]
    assert [len(units) for index in (0, 2, 3) for units in partitions[index].followed] == [1, 2, 0]
    assert [partition.settled for partition in partitions] == [[], [], [(3, 9)], []]
    assert ("is missing" in caplog.text) == is_missed
