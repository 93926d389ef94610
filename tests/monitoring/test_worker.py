"""`bincard worker` without any API: Prometheus sees what it does, and that it is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine import Line, Location, LocationKind, Movement, MovementKind
from engine.topology.embedded import EmbeddedServer
from tests.cli.served import Start
from tests.monitoring.causes import stopped
from tests.monitoring.live import Prometheus, scraping


@pytest.fixture
def stock_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """Somebody reserved, for a second, and went away."""
    with EmbeddedServer.start(tmp_path_factory.mktemp("stock"), durability="none") as server:
        asyncio.run(_reserve(server.url))
        yield server


async def _reserve(url: str) -> None:
    inventory = await engine.connect(url)
    await inventory.save_location(Location("s1", LocationKind.STORE))
    await inventory.record(Movement("m1", MovementKind.RECEIVE, "mug", "s1", 5))
    await inventory.reserve("r1", [Line("mug", 2, "s1")], ttl_seconds=1)
    await inventory.close()


def test_a_worker_alone_is_scraped(stock_server: EmbeddedServer, start: Start, tmp_path: Path) -> None:
    """It gives the hold back and says so; what it says of the store and the shop is there, too."""
    worker = start("worker", "--redis-url", stock_server.url, "--metrics-port", "0")
    port = worker.await_metrics()
    with scraping(tmp_path, {"shop": [port]}, "bincard-worker") as prometheus:
        prometheus.await_query('bincard_operations_total{verb="expire", outcome="expired"} == 1', "a lapse")
        prometheus.await_query("bincard_sweep_lag_seconds == 0", "the sweeper")
        prometheus.await_query("bincard_repair_lag_seconds == 0", "repairs")
        prometheus.await_query('bincard_on_hand_units{location="s1"} == 5', "a stocktake")
        prometheus.await_query('bincard_connection_up{worker="background"} == 1', "its connection")
        assert prometheus.firing() == set()
        with stopped(stock_server.pid):
            prometheus.await_query("bincard_scrape_store_up == 0", "a store that hangs")
        _await_end(prometheus, worker.process.pid)


def _await_end(prometheus: Prometheus, pid: int) -> None:
    """Nobody answers any more, and somebody is told."""
    begun = time.monotonic()
    with stopped(pid):
        prometheus.await_firing("BincardTargetDown", since=begun)
    prometheus.await_silence("BincardTargetDown")
