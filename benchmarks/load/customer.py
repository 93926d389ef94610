"""What every client of the shop can do, and how many of them come when."""

from __future__ import annotations

import random
import secrets
from argparse import ArgumentParser
from typing import Any, Literal
from urllib.parse import quote

import gevent
from locust import FastHttpUser, LoadTestShape, events
from locust.env import Environment

from benchmarks.load.books import (
    ABANDONED,
    COMMITTED,
    FULFILLED,
    LOWERED,
    RECEIVED,
    TALLY,
    options_of,
)
from benchmarks.load.stage import SEED, TTL_SECONDS, Stage

ATTEMPTS = 5
PAUSE_SECONDS = 0.2
DRAIN_SECONDS = 8
"""At the end nobody is in the shop: time for every process to report what its clients were told."""

SERVER_ERROR, CREATED, OK, MULTI_STATUS, CONFLICT = 500, 201, 200, 207, 409
Line = dict[str, str | int]
Fate = Literal["committed", "fulfilled", "released", "abandoned"]


@events.init_command_line_parser.add_listener
def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--clients", type=int, default=64, help="clients at the peak")
    parser.add_argument("--seconds", type=int, default=60, help="how long the shop is open")
    parser.add_argument("--key", default=None, help="an API key", env_var="BINCARD_API_KEY", is_secret=True)


@events.init.add_listener
def _let_them_finish(environment: Environment, **_: object) -> None:
    """A client that leaves ends what it is doing: a write that is cut off has no known outcome."""
    environment.stop_timeout = 60


class Customer(FastHttpUser):
    """A client with a random source of its own; every write is repeated until its outcome is known."""

    abstract = True
    stage: Stage
    network_timeout = 10.0
    connection_timeout = 10.0

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.name = secrets.token_hex(6)
        self.chance = random.Random(f"{SEED}-{self.name}")
        self._turn = 0
        key = options_of(environment).key
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def a_sku(self) -> str:
        return self.stage.sku(int(self.chance.random() * self.stage.skus))

    def a_location(self) -> str:
        return self.stage.location(int(self.chance.random() * self.stage.locations))

    def a_basket(self, location: str, most_lines: int) -> list[Line]:
        """Different SKUs of one location, one or two of each."""
        count = min(self.chance.randint(1, most_lines), self.stage.skus)
        skus = {self.a_sku() for _ in range(count)}
        return [
            {"sku": sku, "quantity": self.chance.choice((1, 1, 1, 2)), "location": location} for sku in skus
        ]

    def look(self, sku: str) -> None:
        """Reads an availability."""
        self.client.get(
            f"/v1/availability/{quote(sku, safe='')}", name="GET availability", headers=self._headers
        )

    def look_around(self, count: int) -> None:
        """Reads the availability of a page of SKUs."""
        skus = [self.a_sku() for _ in range(count)]
        self.client.post(
            "/v1/availability/query",
            json={"skus": skus},
            name=f"POST availability of {count}",
            headers=self._headers,
        )

    def buy(self, lines: list[Line], fate: Fate) -> bool:
        """Reserves, and lets the reservation end as told; False where the stock did not suffice."""
        body = {"lines": lines, "ttl_seconds": TTL_SECONDS}
        status, said = self._write("/v1/reservations", body, "POST reservations", (CREATED, CONFLICT))
        if status != CREATED:
            return False
        path = f"/v1/reservations/{said['id']}"
        # Until it is said otherwise its units are promised: a failure in between stays visible.
        if fate == "released":
            status, _ = self._write(f"{path}/release", None, "POST release", (OK,))
        elif fate != "abandoned":
            fulfil = {"fulfil": True} if fate == "fulfilled" else None
            status, _ = self._write(f"{path}/commit", fulfil, "POST commit", (OK,))
        what = {"committed": COMMITTED, "fulfilled": FULFILLED, "abandoned": ABANDONED}.get(fate)
        if what is not None:
            for line in lines:
                TALLY.add(str(line["sku"]), str(line["location"]), what, int(line["quantity"]))
        return True

    def record(self, kind: str, sku: str, location: str, quantity: int) -> None:
        """Records a fact: a receipt, or the difference that a count found."""
        self._turn += 1
        movement = {
            "id": f"{self.name}-{self._turn}",
            "kind": kind,
            "sku": sku,
            "location": location,
            "quantity": quantity,
        }
        body = {"movements": [movement]}
        self._write("/v1/stock/movements", body, f"POST movements ({kind})", (MULTI_STATUS,))
        what = RECEIVED if quantity > 0 else LOWERED
        TALLY.add(sku, location, what, abs(quantity))

    def _write(self, path: str, body: object, name: str, expected: tuple[int, ...]) -> tuple[int, Any]:
        """Sends until the outcome is known, always with the same key. Another outcome fails the run."""
        self._turn += 1
        headers = self._headers | {"Idempotency-Key": f"{self.name}-{self._turn}"}
        TALLY.begun += 1
        for _ in range(ATTEMPTS):
            with self.client.post(path, json=body, name=name, headers=headers, catch_response=True) as answer:
                status = answer.status_code
                if status in expected:
                    answer.success()
                    TALLY.ended += 1
                    return status, answer.json()
                answer.failure(f"{status}: {(answer.text or '')[:200]}")
                if status and status < SERVER_ERROR:
                    break
            gevent.sleep(PAUSE_SECONDS)
        return 0, None


class Opening(LoadTestShape):
    """Clients come until the peak, stay, and go: `pattern` has shares of the time and of the peak."""

    abstract = True
    pattern: tuple[tuple[float, float], ...] = ((0.1, 0.25), (0.2, 0.5), (0.9, 1.0), (1.0, 0.25))

    def tick(self) -> tuple[int, float] | None:
        """How many clients now; after closing time nobody, then the end."""
        assert self.runner is not None
        options = options_of(self.runner.environment)
        peak, seconds, now = options.clients, options.seconds, self.get_run_time()
        for until, share in self.pattern:
            if now < until * seconds:
                return max(1, round(share * peak)), max(10.0, peak)
        if now < seconds + DRAIN_SECONDS:
            return 0, max(10.0, peak)
        return None
