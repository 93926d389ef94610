"""Checkout: carts of one to five lines; nine in ten are paid, others given up or left standing.

`locust -f benchmarks/load/checkout.py`.
"""

from __future__ import annotations

from locust import constant, task

from benchmarks.load.books import prove_at_the_end
from benchmarks.load.customer import Customer, Opening
from benchmarks.load.stage import STAGES

prove_at_the_end("checkout")


class Paying(Opening):
    """A steady plateau."""


class Payer(Customer):
    """Looks at what is in the cart, holds it, and mostly pays."""

    stage = STAGES["checkout"]
    wait_time = constant(0)

    @task(90)
    def pay(self) -> None:
        basket = self.a_basket(self.a_location(), 5)
        self.look(str(basket[0]["sku"]))
        self.buy(basket, "committed")

    @task(7)
    def give_up(self) -> None:
        self.buy(self.a_basket(self.a_location(), 5), "released")

    @task(3)
    def walk_away(self) -> None:
        self.buy(self.a_basket(self.a_location(), 5), "abandoned")
