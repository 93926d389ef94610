"""Deliveries and counts while the same shelves are sold. `locust -f benchmarks/load/replenish.py`.

A count goes in as the difference it found, because that can be proved unit by unit.
"""

from __future__ import annotations

from locust import constant, constant_throughput, task

from benchmarks.load.books import prove_at_the_end
from benchmarks.load.customer import Customer, Opening
from benchmarks.load.stage import STAGES

prove_at_the_end("replenish")


class Rush(Opening):
    """Two rushes with a lull between them."""

    pattern = ((0.4, 1.0), (0.6, 0.3), (1.0, 1.0))


class Buyer(Customer):
    """Buys over the counter: the goods leave at once. Shelves are low, so many are refused."""

    stage = STAGES["replenish"]
    weight = 8
    wait_time = constant(0)

    @task(8)
    def buy_at_the_till(self) -> None:
        self.buy(self.a_basket(self.a_location(), 3), "fulfilled")

    @task(2)
    def order(self) -> None:
        self.buy(self.a_basket(self.a_location(), 3), "committed")


class Clerk(Customer):
    """Puts deliveries on the shelves."""

    stage = STAGES["replenish"]
    weight = 1
    wait_time = constant_throughput(50)

    @task
    def deliver(self) -> None:
        self.record("receive", self.a_sku(), self.a_location(), self.chance.randint(6, 24))


class Counter(Customer):
    """Finds one too many or one too few."""

    stage = STAGES["replenish"]
    weight = 1
    wait_time = constant_throughput(20)

    @task
    def count(self) -> None:
        self.record("adjust", self.a_sku(), self.a_location(), self.chance.choice((-1, 1)))
