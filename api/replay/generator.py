"""Made-up baskets with the statistics of the real ones, for places without the extra `data`.

Calibrated to the published year of the Complete Journey: mean basket 9.4 lines with median 5, the
top SKU 1.2 % and the top ten 5 % of all lines, a Zipf slope of -0.65 behind them, the top store
2.8 % of all baskets. The same seed always gives the same baskets.
"""

from __future__ import annotations

import math
import random
from array import array
from itertools import accumulate

from api.replay.baskets import MAX_LINES, Baskets

SKUS = 68_509
STORES = 457
MEDIAN_LINES = 5.0
MEAN_LINES = 9.4
TOP_SKU_SHARE = 0.012
TOP_TEN_SHARE = 0.05
SKU_SLOPE = 0.65
STORE_SLOPE = 0.534
"""With 457 stores this slope gives the busiest one 2.8 %."""

QUANTITY_SHARES = (
    (1, 0.80),
    (2, 0.147),
    (3, 0.026),
    (4, 0.016),
    (5, 0.005),
    (6, 0.004),
    (10, 0.002),
)
YEAR_START_MS = 1_483_228_800_000
YEAR_MS = 364 * 86_400_000


def generate(*, count: int, seed: int) -> Baskets:
    """Make `count` baskets in time order over one year; `count` is at least 1."""
    if count < 1:
        raise ValueError("a replay needs at least one basket")
    # Not for secrets: the seed must give the same baskets every time.
    chance = random.Random(seed)
    spread = math.sqrt(2 * math.log(MEAN_LINES / MEDIAN_LINES))
    middle = math.log(MEDIAN_LINES)
    sizes = [min(MAX_LINES, max(1, round(chance.lognormvariate(middle, spread)))) for _ in range(count)]
    starts = array("i", accumulate(sizes, initial=0))
    total = starts[-1]
    stores = chance.choices(range(STORES), cum_weights=store_weights(), k=count)
    skus = chance.choices(range(SKUS), cum_weights=sku_weights(), k=total)
    units, shares = zip(*QUANTITY_SHARES, strict=True)
    quantities = chance.choices(units, cum_weights=list(accumulate(shares)), k=total)
    moments = sorted(chance.randrange(YEAR_MS) for _ in range(count))
    return Baskets(
        origin=f"generator calibrated to the 84.51° Complete Journey, seed {seed}",
        locations=[f"s{number}" for number in range(1, STORES + 1)],
        skus=[f"G-{number:05d}" for number in range(1, SKUS + 1)],
        stores=array("i", stores),
        opened_ms=array("q", (YEAR_START_MS + moment for moment in moments)),
        starts=starts,
        line_skus=array("i", skus),
        line_quantities=array("i", quantities),
    )


def sku_weights() -> list[float]:
    """Cumulative shares of the SKUs by rank: a fixed head of ten, a Zipf tail behind it."""
    ranks = [rank**-SKU_SLOPE for rank in range(1, SKUS + 1)]
    second_to_tenth = (TOP_TEN_SHARE - TOP_SKU_SHARE) / sum(ranks[1:10])
    tail = (1 - TOP_TEN_SHARE) / sum(ranks[10:])
    head = [TOP_SKU_SHARE] + [weight * second_to_tenth for weight in ranks[1:10]]
    return list(accumulate(head + [weight * tail for weight in ranks[10:]]))


def store_weights() -> list[float]:
    """Cumulative shares of the stores by rank."""
    return list(accumulate(rank**-STORE_SLOPE for rank in range(1, STORES + 1)))
