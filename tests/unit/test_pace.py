"""A watch beside engine time: what it takes for a step, and what it vouches for."""

import pytest

from engine.pace import Watch

START = 1_700_000_000_000


class Hand:
    """A clock that a test turns, in seconds."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(hand: Hand, watch: Watch, now_ms: int, *, took: float = 0.002) -> int:
    """An engine time comes as the answer to a question that took so long."""
    sent_at = watch.read()
    hand.now += took
    return watch.compare(now_ms, sent_at)


def test_a_watch_knows_nothing_at_first() -> None:
    assert Watch().horizon() == 0
    assert Watch().skew is None


def test_it_goes_on_by_itself() -> None:
    """What it vouches for has come: it counts from when the answer was here."""
    hand = Hand()
    watch = Watch(hand)
    assert told(hand, watch, START) == 0
    assert watch.horizon() == 0, "it is on probation"
    hand.now += 0.999
    assert watch.horizon() == 0
    hand.now += 1.501
    assert watch.horizon() == START + 2500


@pytest.mark.parametrize(
    ("more_ms", "took", "step"),
    [
        (1000, 0.002, 0),
        (1190, 0.002, 0),  # drift
        (850, 0.002, 0),
        (3_601_000, 0.002, 3_600_000),
        (-3_599_000, 0.002, -3_600_000),
        (6000, 5.1, 0),  # an answer that took long may be of any moment on the way
        (1000, 5.1, 0),
        (9000, 5.0, 2996),  # but not of a later one
    ],
)
def test_a_step_is_what_no_delay_explains(more_ms: int, took: float, step: int) -> None:
    hand = Hand()
    watch = Watch(hand)
    told(hand, watch, START)
    hand.now += 1
    found = told(hand, watch, START + more_ms, took=took)
    assert abs(found - step) <= 10
    assert (found == 0) == (step == 0)


def test_it_stays_with_its_own_until_the_skew_is_set() -> None:
    hand = Hand()
    watch = Watch(hand)
    told(hand, watch, START)
    hand.now += 1
    assert told(hand, watch, START + 3_601_000) > 0
    assert abs(watch.horizon() - START - 1002) <= 1
    assert told(hand, watch, START + 1004) == 0


def test_small_differences_are_followed() -> None:
    """A clock that drifts is no clock that stepped, however long it drifts."""
    hand = Hand()
    watch = Watch(hand)
    now_ms = float(START)
    for _ in range(1000):
        assert told(hand, watch, round(now_ms)) == 0
        hand.now += 10
        now_ms += 10_002 * 1.0005


def test_what_somebody_else_set_is_believed() -> None:
    hand = Hand()
    watch = Watch(hand)
    watch.skew = 5
    told(hand, watch, START)
    watch.forget()
    assert (watch.horizon(), watch.skew) == (0, None)
    assert told(hand, watch, START + 10**9) == 0
