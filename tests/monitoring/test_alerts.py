"""Each alert fires when what it is about happens, and is silent again when it is over; the last test waits
for those that no other did.

The rules are the committed ones with short windows and small limits; `deploy/prometheus/tests` has them as
they are.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from redis import Redis

from engine import keys
from tests.cli.served import Served, until
from tests.monitoring.causes import (
    PARTITIONS,
    Machine,
    buying_baskets,
    change_counter,
    process_of,
    receive_much,
    repeating,
    server_pid,
    starved,
    stopped,
)
from tests.monitoring.live import ROOM_BYTES, RULES, Prometheus, scraping
from tests.monitoring.shop import Client, Shoppers, look_into, pause_often, serving
from tests.servers import find_program
from tests.topology.groups import SentinelGroup, start_sentinels

PLACE = "s1"
SEEN: set[str] = set()
"""The alerts that fired so far."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A shop with shoppers in it, who want what is there."""
    with serving(tmp_path_factory.mktemp("shop")) as running:
        client = Client(running.port)
        client.open_shop()
        client.move_all(("receive", sku, PLACE, 10) for sku in ("gap", "drift", "short", "sold", "last"))
        client.close()
        with Shoppers(running.port, threads=2, pause_seconds=0.03, are_greedy=False):
            yield running


@pytest.fixture(scope="module")
def group() -> Iterator[SentinelGroup]:
    """A primary with one replica."""
    settings = {
        "appendonly": "yes",
        "appendfsync": "always",
        "aof-load-truncated": "no",
        "maxmemory-policy": "noeviction",
        "min-replicas-to-write": "1",
        "save": '""',
    }
    with start_sentinels(find_program("valkey").path, settings=settings) as running:
        yield running


@pytest.fixture(scope="module")
def replicated(group: SentinelGroup, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A second shop, whose answers wait for the replica."""
    arguments = ("--redis-url", group.url, "--durability", "replicated", "--replicas", "1")
    with serving(tmp_path_factory.mktemp("replicated"), *arguments) as running:
        yield running


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Where the third shop's stock is kept."""
    running = Machine(tmp_path_factory.mktemp("machine"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def parted(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A third shop, with baskets over two partitions."""
    arguments = ("--redis-url", machine.server.url, "--durability", "none", "--partitions", str(PARTITIONS))
    with serving(tmp_path_factory.mktemp("parted"), *arguments) as running:
        client = Client(running.port)
        client.open_shop()
        client.close()
        yield running


@pytest.fixture(scope="module")
def prometheus(
    served: Served, replicated: Served, parted: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    targets = {"shop": [served.port], "replicated": [replicated.port], "parted": [parted.port]}
    with scraping(tmp_path_factory.mktemp("prometheus"), targets) as running:
        running.await_query('bincard:answer_errors:ratio_rate6h{dataset="shop"} == 0', "requests")
        running.await_query('bincard_positions{dataset="shop"}', "a stocktake")
        yield running


@pytest.fixture
def store(served: Served) -> Iterator[Redis]:
    """A plain client of the first shop's store."""
    with look_into(served) as client:
        yield client


@contextmanager
def expecting(prometheus: Prometheus, *names: str) -> Iterator[Callable[[], None]]:
    """None of these alerts fires before the block, and each has in the end: the function waits for that."""
    prometheus.await_silence(*names)
    # One evaluation of before may still be told as of now.
    since = time.monotonic() + 1.0

    def await_all() -> None:
        prometheus.await_firing(*names, since=since)

    yield await_all
    await_all()
    SEEN.update(names)


def test_nothing_fires_while_all_is_well(prometheus: Prometheus) -> None:
    """An alert that fires in peace is worth nothing."""
    end = time.monotonic() + 6
    while time.monotonic() < end:
        assert prometheus.firing() == set()
        time.sleep(0.5)


def test_the_books(served: Served, store: Redis, prometheus: Prometheus) -> None:
    """Facts that break promises, hands on the store's counters, a lost entry, and units promised that are not
    there; what is mended is silent again.
    """
    client = Client(served.port)
    background = process_of(served, "api.worker")
    with expecting(
        prometheus,
        "BincardPromisesUncovered",
        "BincardBooksDrifted",
        "BincardOversold",
        "BincardLedgerBroken",
    ):
        assert client.reserve("short", PLACE, 10)[0] == 201
        client.move("adjust", "short", PLACE, -4)
        change_counter(store, "drift", 1, 3)
        with stopped(*background):
            assert client.reserve("gap", PLACE, 1)[0] == 201
            end = store.xrevrange(keys.log(0), count=1)[0][0]
            assert client.reserve("sold", PLACE, 6)[0] == 201
            change_counter(store, "sold", 0, -5)
            store.xdel(keys.log(0), end)
    assert "oversold: 1 more of sold at s1" in served.errors
    assert "the books drifted: drift at s1 has 3 held" in served.errors
    client.move("receive", "short", PLACE, 4)
    change_counter(store, "drift", 1, -3)
    change_counter(store, "sold", 0, 5)
    prometheus.await_silence("BincardPromisesUncovered", "BincardBooksDrifted")
    client.close()


def test_demand_that_is_refused(served: Served, prometheus: Prometheus) -> None:
    """Somebody wants what is not there, more than all others together."""
    client = Client(served.port)
    with (
        expecting(prometheus, "BincardDemandRefused") as await_all,
        repeating(lambda: client.reserve("last", PLACE, 5000, channel="web")),
    ):
        await_all()
    client.close()


def test_a_store_that_hangs(served: Served, prometheus: Prometheus) -> None:
    """Requests fail, nobody is ready, there are no figures; and a scrape still answers."""
    names = (
        "BincardStoreDown",
        "BincardStoreStalls",
        "BincardWorkerNotReady",
        "BincardErrorsBurnFast",
        "BincardErrorsBurnSlow",
    )
    client = Client(served.port)
    with (
        expecting(prometheus, *names) as await_all,
        stopped(server_pid(served)),
        repeating(lambda: client.reserve("last", PLACE, 1)),
    ):
        prometheus.await_firing("BincardStoreDown", since=time.monotonic())
        begun = time.monotonic()
        text = served.ask("GET", "/metrics")[1].decode()
        assert time.monotonic() - begun < 1.0
        assert "\nbincard_scrape_store_up 0\n" in text
        assert not re.search("^bincard_(held_units|ledger_entries|server_uptime)", text, re.MULTILINE)
        await_all()
    client.close()
    until(served.is_ready, "the store goes on")


def test_a_slow_store(served: Served, prometheus: Prometheus) -> None:
    """Reserves take longer than 50 ms, though none fails."""
    with expecting(prometheus, "BincardSlowBurnFast", "BincardSlowBurnSlow"):
        pause_often(server_pid(served), 8, stop=0.15, run=0.03)


def test_holds_that_do_not_come_back(served: Served, store: Redis, prometheus: Prometheus) -> None:
    """A store that refuses writes lets holds lapse and nobody gives them back."""
    client = Client(served.port)
    names = "BincardGiveBackLateBurnFast", "BincardGiveBackLateBurnSlow", "BincardSweepStopped"
    with expecting(prometheus, *names) as await_all:
        assert client.reserve("last", PLACE, 1, ttl_seconds=1)[0] == 201
        store.config_set("min-replicas-to-write", 1)
        try:
            await_all()
        finally:
            store.config_set("min-replicas-to-write", 0)
    client.close()


def test_a_store_without_memory(store: Redis, prometheus: Prometheus) -> None:
    """What is used nears the limit."""
    with expecting(prometheus, "BincardMemoryShort", "BincardMemoryFull") as await_all:
        store.config_set("maxmemory", int(store.info("memory")["used_memory"] * 1.03))
        try:
            await_all()
        finally:
            store.config_set("maxmemory", 0)


def test_a_machine_in_trouble(parted: Served, machine: Machine, prometheus: Prometheus) -> None:
    """A stock server grows until a rewrite of its log would find no memory; its clock is set; its disk is
    full, so that the log cannot be written and baskets that were under way are not finished.
    """
    names = "ForkMemoryShort", "LogBroken", "RepairsStuck", "ClockStepped", "ClockDisagrees"
    alerts = [f"Bincard{name}" for name in names]
    with (
        expecting(prometheus, *alerts) as await_all,
        machine.large(ROOM_BYTES),
        buying_baskets(parted.port),
        contextlib.ExitStack() as disk,
    ):
        machine.clock.step(7)
        until(lambda: machine.skew_ms(0) and machine.skew_ms(1), "engine time goes on without the step")
        for _ in range(20):
            disk.enter_context(machine.full_disk())
            until(lambda: not machine.is_log_good(), "the disk is full")
            if machine.has_repairs():
                break
            disk.pop_all().close()
            until(machine.is_log_good, "the disk has room")
        await_all()
        machine.clock.step(0)


def test_background_workers_that_are_starved(parted: Served, prometheus: Prometheus) -> None:
    """They stand still, then get a tenth of the time, while much arrives: counts, index and stocktake are
    late.
    """
    client, names = Client(parted.port), ("BookkeeperBehind", "IndexBehind", "StocktakeOld")
    (background,) = process_of(parted, "api.worker")
    receive_much(client, 5000)
    with (
        expecting(prometheus, *(f"Bincard{name}" for name in names)) as await_all,
        starved(background, first_stop=8.0, stop=0.3, run=0.03),
        repeating(lambda: receive_much(client, 2500)),
    ):
        await_all()
    client.close()


def test_too_much_to_do(served: Served, prometheus: Prometheus) -> None:
    """Batches arrive for which there is no room, while the store takes a moment."""
    line = {"sku": "last", "location": PLACE, "quantity": 1}
    operations = [
        {"op": "reserve", "key": f"k{n}", "body": {"lines": [line], "metadata": {"note": "x" * 2000}}}
        for n in range(256)
    ]
    body = json.dumps({"operations": operations}).encode()

    def crowd() -> None:
        with contextlib.ExitStack() as over:
            over.enter_context(stopped(server_pid(served)))
            for _ in range(24):
                one = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
                over.callback(one.close)
                one.request("POST", "/v1/reservations/batch", body, {"Content-Type": "application/json"})
            time.sleep(0.1)

    with expecting(prometheus, "BincardShedding") as await_all, repeating(crowd):
        await_all()


def test_processes_that_end_or_hang(served: Served, prometheus: Prometheus) -> None:
    """One is killed and started anew; the background workers hang, then all that answer."""
    with expecting(prometheus, "BincardWorkerRestarts") as await_all:
        os.kill(process_of(served, "api.http_worker")[0], signal.SIGKILL)
    with (
        expecting(prometheus, "BincardBackgroundGone") as await_all,
        stopped(*process_of(served, "api.worker")),
    ):
        await_all()
    with (
        expecting(prometheus, "BincardTargetDown") as await_all,
        stopped(*process_of(served, "api.http_worker")),
    ):
        await_all()


def test_a_store_that_is_started_anew(served: Served, prometheus: Prometheus) -> None:
    """The books go on in a new epoch."""
    with expecting(prometheus, "BincardStoreRestarted"):
        os.kill(server_pid(served), signal.SIGKILL)
    until(served.is_ready, "the store is back")


def test_a_replica_that_does_not_confirm(
    replicated: Served, group: SentinelGroup, prometheus: Prometheus
) -> None:
    """Turns are unconfirmed; how long the others waited is told, too."""
    client = Client(replicated.port)
    assert client.ask("PUT", f"/v1/locations/{PLACE}", {"kind": "store"})[0] == 201
    client.move("receive", "last", PLACE, 10)
    prometheus.await_query('bincard_replica_wait_seconds_bucket{dataset="replicated"}', "writes")
    replica = next(node for node in group.servers if node is not group.primary())
    with (
        expecting(prometheus, "BincardReplicasBehind") as await_all,
        stopped(replica.pid),
        repeating(lambda: client.reserve("last", PLACE, 1)),
    ):
        await_all()
    client.close()


def test_all_is_silent_in_the_end(prometheus: Prometheus) -> None:
    """What was caused is over, and no alert is left that nobody has seen."""
    known = set(re.findall(r"alert: (\w+)", (RULES / "alerts.yml").read_text(encoding="utf-8")))
    assert known == SEEN
    prometheus.await_silence(*known)
