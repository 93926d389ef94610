"""A thousand stores and the web shop on the same stock. `locust -f benchmarks/load/store_network.py`."""

from __future__ import annotations

from locust import constant, task

from benchmarks.load.books import prove_at_the_end
from benchmarks.load.customer import Customer, Opening
from benchmarks.load.stage import STAGES

prove_at_the_end("network")


class Saturday(Opening):
    """Stores open one region after the other."""

    pattern = ((0.15, 0.2), (0.3, 0.5), (0.8, 1.0), (1.0, 0.4))


class Till(Customer):
    """Sells over the counter of some store."""

    stage = STAGES["network"]
    weight = 6
    wait_time = constant(0)

    @task
    def sell(self) -> None:
        self.buy(self.a_basket(self.a_location(), 4), "fulfilled")


class Web(Customer):
    """Looks where a SKU is on the shelf (all thousand stores) and has it laid aside in one of them."""

    stage = STAGES["network"]
    weight = 3
    wait_time = constant(0)

    @task(2)
    def find(self) -> None:
        self.look(self.a_sku())

    @task(5)
    def collect(self) -> None:
        self.buy(self.a_basket(self.a_location(), 2), "committed")


class Truck(Customer):
    """Brings goods to a store."""

    stage = STAGES["network"]
    weight = 1
    wait_time = constant(0)

    @task
    def unload(self) -> None:
        self.record("receive", self.a_sku(), self.a_location(), self.chance.randint(2, 12))
