"""What makes alerts fire: processes that stop or starve, hands on the books, a disk without room."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from engine import keys
from engine.cards import read_counters
from engine.topology.embedded import EmbeddedServer
from tests.cli.served import Served, until
from tests.faults.campaign.machine import Clock, limit_file_size
from tests.monitoring.shop import PLACES, SKUS, Client
from tests.servers import find_program


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that do not run meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def starved(pid: int, *, first_stop: float, stop: float, run: float) -> Iterator[None]:
    """A process that stands still for a while, and then gets a share of the time."""
    over = threading.Event()

    def starve() -> None:
        seconds = first_stop
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait(seconds)
            os.kill(pid, signal.SIGCONT)
            over.wait(run)
            seconds = stop

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def process_of(served: Served, module: str) -> list[int]:
    return sorted(served.processes(module))


def server_pid(served: Served) -> int:
    return int(served.running_server()["server_pid"])


def change_counter(store: Redis, sku: str, counter: int, by: int) -> None:
    """A hand on the books: on_hand is counter 0, held 1."""
    card = bytearray(store.hget(keys.stock(0), sku))
    before = read_counters(bytes(card))[1][counter]
    at = 11 + int.from_bytes(card[3:5], "little") + 4 * counter
    card[at : at + 4] = (before + by).to_bytes(4, "little", signed=True)
    assert read_counters(bytes(card))[1][counter] == before + by
    store.hset(keys.stock(0), sku, bytes(card))


@contextmanager
def repeating(action: Callable[[], object], *, pause_seconds: float = 0.05) -> Iterator[None]:
    """Somebody does something again and again."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(pause_seconds):
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                action()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Machine:
    """A stock server whose disk can be full and whose clock can be set; it syncs its log each second."""

    def __init__(self, directory: Path) -> None:
        self.clock = Clock(directory, find_program("valkey").path)
        self._data = directory / "stock"
        self.server = EmbeddedServer.start(self._data, durability="none", binary=self.clock.program)
        self.store = Redis.from_url(self.server.url)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """No log of it may grow."""
        logs = (self._data / "appendonlydir").glob("*.incr.aof")
        limit_file_size(self.server.pid, max(log.stat().st_size for log in logs))
        try:
            yield
        finally:
            limit_file_size(self.server.pid, -1)

    @contextmanager
    def large(self, size_bytes: int) -> Iterator[None]:
        """Its process takes so much of the machine's memory."""
        self.store.setrange("ballast", size_bytes, "x")
        try:
            yield
        finally:
            until(self.is_log_good, "it takes writes")
            self.store.delete("ballast")
            until(lambda: self._resident_after_purge() < size_bytes, "the memory is the machine's again")

    def _resident_after_purge(self) -> int:
        self.store.memory_purge()
        return int(self.store.info("memory")["used_memory_rss"])

    def is_log_good(self) -> bool:
        """Whether its last write to the log worked."""
        return self.store.info("persistence")["aof_last_write_status"] == "ok"

    def skew_ms(self, partition: int) -> int:
        """By how much the clock is ahead of engine time."""
        return int(self.store.hget(keys.meta(partition), "skew") or 0)

    def has_repairs(self) -> bool:
        """Whether somebody has to go on with a basket in a few seconds."""
        soon_ms = 1000 * (self.store.time()[0] + 6)
        return any(
            self.store.zcount(keys.due(one), 2**51, 2**51 + soon_ms - self.skew_ms(one))
            for one in range(PARTITIONS)
        )

    def stop(self) -> None:
        self.store.close()
        self.server.stop()


PARTITIONS = 2


@contextmanager
def buying_baskets(port: int) -> Iterator[None]:
    """Several reserve two SKUs of different partitions, and let go of them."""
    parted = [[sku for sku in SKUS if keys.partition_of(sku, PARTITIONS) == one] for one in range(PARTITIONS)]

    def buyer(number: int) -> Callable[[], None]:
        client = over.enter_context(contextlib.closing(Client(port)))
        lines = [{"sku": skus[number], "location": PLACES[0], "quantity": 1} for skus in parted]

        def buy() -> None:
            status, held = client.ask("POST", "/v1/reservations", {"lines": lines})
            if status == 201:
                client.ask("POST", f"/v1/reservations/{held['id']}/release", {})

        return buy

    with contextlib.ExitStack() as over:
        for number in range(4):
            over.enter_context(repeating(buyer(number), pause_seconds=0.0))
        yield


def receive_much(client: Client, movements: int) -> None:
    """Goods arrive of SKUs by the thousands."""
    stock = [
        {
            "id": uuid.uuid4().hex,
            "kind": "receive",
            "sku": f"B-{n % 5000}",
            "location": PLACES[1],
            "quantity": 1,
        }
        for n in range(movements)
    ]
    status, answer = client.ask("POST", "/v1/stock/movements", {"movements": stock})
    assert status == 207, answer
