"""A `bincard serve` with two workers, and shoppers who keep it busy."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from redis import Redis

from tests.cli.served import BINCARD, MARK, Served, until

CHANNELS: tuple[str | None, ...] = ("web", "app", None)
PLACES = ("s1", "s2", "s3", "s4")
SKUS = tuple(f"A-{number}" for number in range(30))
UNITS = 400
LAPSES = "lapses"
"""Who owns holds that nobody will commit."""


@contextmanager
def serving(directory: Path, *arguments: str) -> Iterator[Served]:
    """Serves until the block ends, on the directory's `data` unless told otherwise."""
    mark = uuid.uuid4().hex
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BINCARD_")}
    errors = directory / "errors.log"
    with errors.open("w") as written:
        process = subprocess.Popen(
            [str(BINCARD), "serve", "--port", "0", "--workers", "2", *arguments],
            cwd=directory,
            env={**clean, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=written,
            text=True,
            process_group=0,
        )
    served = Served(process, mark, errors)
    try:
        served.wait_until_ready()
        until(lambda: b'connection_up{worker="background"} 1' in served.ask("GET", "/metrics")[1])
        yield served
    finally:
        for pid in served.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        served.stop()
        assert process.stdout is not None
        process.stdout.close()


def look_into(served: Served) -> Redis:
    """A plain client of its stock server."""
    return Redis.from_url(served.running_server()["url"])


class Client:
    """One connection to the API."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(self, method: str, path: str, body: object = None, key: str | None = None) -> tuple[int, Any]:
        """Status and document of an answer."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or uuid.uuid4().hex}
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._connection.getresponse()
            raw = response.read()
        except (http.client.HTTPException, OSError):
            self._connection.close()
            raise
        return response.status, json.loads(raw) if raw else None

    def move(self, kind: str, sku: str, location: str, quantity: int) -> None:
        """A movement of stock."""
        self.move_all([(kind, sku, location, quantity)])

    def move_all(self, moved: Iterable[tuple[str, str, str, int]]) -> None:
        """Kind, SKU, location and quantity of each."""
        names = ("kind", "sku", "location", "quantity")
        movements = [{"id": uuid.uuid4().hex, **dict(zip(names, one, strict=True))} for one in moved]
        status, answer = self.ask("POST", "/v1/stock/movements", {"movements": movements})
        assert status == 207, answer
        assert {result["status"] for result in answer["results"]} == {200}, answer

    def open_shop(self) -> None:
        """Locations, channels, and stock of every SKU everywhere."""
        for place in PLACES:
            assert self.ask("PUT", f"/v1/locations/{place}", {"kind": "store"})[0] == 201
        assert self.ask("PUT", "/v1/pools/all", {"locations": PLACES})[0] == 201
        for channel in CHANNELS:
            if channel is not None:
                assert self.ask("PUT", f"/v1/channels/{channel}", {"pools": ["all"]})[0] == 201
        self.move_all(("receive", sku, place, UNITS) for sku in SKUS for place in PLACES)

    def reserve(
        self, sku: str, location: str, quantity: int, *, channel: str | None = None, ttl_seconds: int = 900
    ) -> tuple[int, Any]:
        """A hold of one line."""
        body: dict[str, object] = {
            "lines": [{"sku": sku, "location": location, "quantity": quantity}],
            "ttl_seconds": ttl_seconds,
        }
        if channel is not None:
            body["channel"] = channel
        if ttl_seconds == 1:
            body["owner"] = LAPSES
        return self.ask("POST", "/v1/reservations", body)

    def close(self) -> None:
        self._connection.close()


class Shoppers:
    """Threads that reserve, commit, release, let lapse and ask for what is not there, until told to stop."""

    def __init__(
        self, port: int, *, threads: int = 3, pause_seconds: float = 0.01, are_greedy: bool = True
    ) -> None:
        """Greedy ones ask for what is not there, too."""
        self._port = port
        self._pause = pause_seconds
        self._greed = 0.1 if are_greedy else 0.0
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._shop, args=(random.Random(seed),)) for seed in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _shop(self, chance: random.Random) -> None:
        with contextlib.closing(Client(self._port)) as client:
            while not self._stopping.wait(self._pause):
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    self._buy(client, chance)

    def _buy(self, client: Client, chance: random.Random) -> None:
        sku, place, channel = chance.choice(SKUS), chance.choice(PLACES), chance.choice(CHANNELS)
        lapses = chance.random() < 0.2
        units = UNITS * 10 if chance.random() < self._greed else chance.randint(1, 3)
        status, held = client.reserve(sku, place, units, channel=channel, ttl_seconds=1 if lapses else 900)
        if status != 201 or lapses:
            return
        fate = chance.random()
        if fate < 0.5:
            client.ask("POST", f"/v1/reservations/{held['id']}/commit", {})
            if fate < 0.4:
                client.ask("POST", f"/v1/reservations/{held['id']}/fulfil", {})
        elif fate < 0.8:
            client.ask("POST", f"/v1/reservations/{held['id']}/release", {})
        client.ask("GET", f"/v1/availability/{sku}")


def pause_often(pid: int, seconds: float, *, stop: float, run: float) -> None:
    """Stops and runs a process by turns."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(stop)
        os.kill(pid, signal.SIGCONT)
        time.sleep(run)
