"""Browse: a hundred reads to one basket. `locust -f benchmarks/load/browse.py`."""

from __future__ import annotations

from locust import constant, task

from benchmarks.load.books import prove_at_the_end
from benchmarks.load.customer import Customer, Opening
from benchmarks.load.stage import STAGES

prove_at_the_end("browse")


class Browsing(Opening):
    """A day: slow in the morning, full at noon, an evening."""

    pattern = ((0.2, 0.3), (0.5, 1.0), (0.7, 0.6), (0.9, 1.0), (1.0, 0.2))


class Browser(Customer):
    """Looks at products and lists, and seldom buys."""

    stage = STAGES["browse"]
    wait_time = constant(0)

    @task(90)
    def look_at_one(self) -> None:
        self.look(self.a_sku())

    @task(10)
    def look_at_a_list(self) -> None:
        self.look_around(24)

    @task(1)
    def buy_one(self) -> None:
        self.buy(self.a_basket(self.a_location(), 1), "committed")
