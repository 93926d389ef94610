"""Flash sale: everybody wants one SKU at the same second. `locust -f benchmarks/load/flash_sale.py`."""

from __future__ import annotations

from locust import constant, task

from benchmarks.load.books import prove_at_the_end
from benchmarks.load.customer import Customer, Fate, Opening
from benchmarks.load.stage import STAGES

prove_at_the_end("flash")


class Doors(Opening):
    """A few wait, then the doors open at once, then it is sold out and most keep trying."""

    pattern = ((0.1, 0.1), (1.0, 1.0))


class Hunter(Customer):
    """Refreshes the page and grabs; one in five puts it back."""

    stage = STAGES["flash"]
    wait_time = constant(0)

    @task
    def grab(self) -> None:
        sku, location = self.stage.sku(0), self.stage.location(0)
        self.look(sku)
        fate: Fate = "released" if self.chance.random() < 0.2 else "committed"  # noqa: PLR2004 - one in five
        self.buy([{"sku": sku, "quantity": 1, "location": location}], fate)
