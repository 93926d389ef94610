import statistics
from array import array
from collections import Counter

import pytest

from api.replay.baskets import MAX_LINES, Baskets, Chosen, complete_journey, product_names
from api.replay.generator import generate
from api.replay.plan import Custom, Planner
from api.replay.shop import Twice
from api.replay.stock import supply


def baskets(*sizes: int) -> Baskets:
    """Baskets of the given sizes at one store; each line wants one unit of the next of ten SKUs."""
    total = sum(sizes)
    starts = array("i", [sum(sizes[:count]) for count in range(len(sizes) + 1)])
    return Baskets(
        origin="test",
        locations=["s1"],
        skus=[f"A-{number}" for number in range(10)],
        stores=array("i", [0] * len(sizes)),
        opened_ms=array("q", range(1000, 1000 + 10 * len(sizes), 10)),
        starts=starts,
        line_skus=array("i", [line % 10 for line in range(total)]),
        line_quantities=array("i", [1] * total),
    )


def test_generator_meets_the_published_statistics() -> None:
    """Mean and median basket, head of the SKUs, Zipf slope, top store, distinct seeds."""
    made = generate(count=20_000, seed=1)
    sizes = [len(made.lines(basket)) for basket in range(len(made))]
    assert statistics.mean(sizes) == pytest.approx(9.4, rel=0.05)
    assert statistics.median(sizes) == 5
    lines = sum(sizes)
    ranked = [count for _, count in Counter(made.line_skus).most_common()]
    assert ranked[0] / lines == pytest.approx(0.012, rel=0.05)
    assert sum(ranked[:10]) / lines == pytest.approx(0.05, rel=0.05)
    by_rank = Counter(made.line_skus)
    near = sum(by_rank[rank] for rank in range(90, 110))
    far = sum(by_rank[rank] for rank in range(900, 1100)) / 10
    assert near / far == pytest.approx(10**0.65, rel=0.10)
    top_store = max(Counter(made.stores).values())
    assert top_store / len(made) == pytest.approx(0.028, rel=0.10)
    assert list(made.opened_ms) == sorted(made.opened_ms)
    assert min(made.line_quantities) >= 1


def test_generator_is_deterministic() -> None:
    """One seed, one set of baskets; another seed, another one."""
    assert generate(count=50, seed=3) == generate(count=50, seed=3)
    assert generate(count=50, seed=3) != generate(count=50, seed=4)


def test_rounds_repeat_the_source_under_other_names() -> None:
    """Beyond the end of the source its baskets come again, later, and their demand adds up."""
    chosen = Chosen(baskets(2, 1), 5)
    assert [chosen.reference(number) for number in range(5)] == [
        "basket-0",
        "basket-1",
        "basket-0-round-1",
        "basket-1-round-1",
        "basket-0-round-2",
    ]
    assert chosen.demand() == {0: 3, 1: 3, 2: 2}
    moments = [chosen.opened_ms(number) for number in range(5)]
    assert moments == sorted(set(moments))


def test_lines_beyond_the_limit_are_dropped() -> None:
    """A reservation takes 200 lines; a basket of 205 sends 200 and wants stock for 200."""
    source = baskets(205)
    assert len(source.lines(0)) == MAX_LINES
    assert sum(Chosen(source, 1).demand().values()) == MAX_LINES


def test_supply_is_the_scarce_demand_rounded_up() -> None:
    """Each position gets its demand times the scarcity; a position never starts empty."""
    chosen = Chosen(baskets(10), 20)
    assert set(supply(chosen, 0.9).received.values()) == {18}
    assert set(supply(chosen, 0.01).received.values()) == {1}


def test_plans_follow_from_seed_and_number_alone() -> None:
    """The mix has its shares, a fifth of the requests goes twice, and the order does not matter."""
    numbers = range(20_000)
    plans = [Planner(1).plan(number) for number in (5, 4, 3)]
    planner = Planner(1)
    drawn = [planner.plan(number) for number in numbers]
    assert plans == [drawn[5], drawn[4], drawn[3]]
    customs = Counter(plan.custom for plan in drawn)
    shares = {Custom.POS: 0.55, Custom.WEB: 0.30, Custom.ABANDONED: 0.10, Custom.RELEASED: 0.05}
    for custom, share in shares.items():
        assert customs[custom] / len(numbers) == pytest.approx(share, rel=0.1)
    twice = sum(plan.reserve_twice is not Twice.NO for plan in drawn)
    assert twice / len(numbers) == pytest.approx(0.2, rel=0.1)
    assert {plan.ttl_s for plan in drawn if plan.custom is Custom.ABANDONED} == {1, 2, 3}


def test_real_baskets_come_without_what_nobody_stocks() -> None:
    """Fuel, coupons and zero quantities are gone; one moment per basket, in time order."""
    real = complete_journey()
    assert (len(real), len(real.line_skus)) == (140_926, 1_442_827)
    assert (len(real.skus), len(real.locations)) == (68_123, 433)
    assert list(real.opened_ms) == sorted(real.opened_ms)
    assert 1 <= min(real.line_quantities) <= max(real.line_quantities) < 1000
    assert real.starts[-1] == len(real.line_skus) == len(real.line_quantities)
    assert real.locations[0].startswith("s")
    assert product_names(real.skus[:100])
