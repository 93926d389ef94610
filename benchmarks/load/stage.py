"""The stock of each scenario, and the one path over HTTP that set-up and proof take."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote, urlsplit

SEED = 8451
TTL_SECONDS = 900
MOVEMENTS_A_REQUEST = 1000
OK, NOT_FOUND, MULTI_STATUS, BAD_REQUEST = 200, 404, 207, 400


@dataclass(frozen=True, slots=True)
class Stage:
    """So many SKUs in so many locations, so many units of each."""

    name: str
    locations: int
    skus: int
    units: int

    def location(self, number: int) -> str:
        return f"{self.name}-{number}"

    def sku(self, number: int) -> str:
        return f"{self.name.upper()}-{number}"

    def positions(self) -> Iterator[tuple[str, str]]:
        """SKU and location of all."""
        for sku in range(self.skus):
            for location in range(self.locations):
                yield self.sku(sku), self.location(location)


STAGES = {
    stage.name: stage
    for stage in (
        Stage("browse", locations=3, skus=2000, units=1000),
        Stage("checkout", locations=1, skus=1000, units=10_000),
        Stage("flash", locations=1, skus=1, units=5000),
        Stage("replenish", locations=10, skus=100, units=20),
        Stage("network", locations=1000, skus=50, units=20),
    )
}


class ServerRefusedError(Exception):
    """The server would not do what set-up or proof needs."""


class Desk:
    """A plain connection for what is not load; use as a context manager."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.netloc, timeout=30)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and body of one request."""
        sent = None if body is None else json.dumps(body)
        headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
        self._connection.request(method, path, sent, headers)
        answer = self._connection.getresponse()
        read = answer.read()
        return answer.status, json.loads(read) if read else None

    def open_location(self, location: str) -> None:
        """Makes a store. Raises `ServerRefusedError`."""
        status, said = self.ask("PUT", f"/v1/locations/{quote(location, safe='')}", {"kind": "store"})
        if status >= BAD_REQUEST:
            raise ServerRefusedError(f"location {location}: {status} {said}")

    def receive(self, movements: Sequence[dict[str, object]]) -> None:
        """Puts receipts on the books. Raises `ServerRefusedError`."""
        status, said = self.ask("POST", "/v1/stock/movements", {"movements": list(movements)})
        if status != MULTI_STATUS:
            raise ServerRefusedError(f"movements: {status} {said}")
        refused = [result for result in said["results"] if result["status"] >= BAD_REQUEST]
        if refused:
            raise ServerRefusedError(f"movements: {refused[0]}")

    def positions(self, sku: str) -> dict[str, dict[str, int]]:
        """The counters of a SKU by location; none where nobody stocks it. Raises `ServerRefusedError`."""
        status, said = self.ask("GET", f"/v1/stock/{quote(sku, safe='')}")
        if status == NOT_FOUND:
            return {}
        if status != OK:
            raise ServerRefusedError(f"books of {sku}: {status} {said}")
        return {position["location"]: position for position in said["positions"]}
