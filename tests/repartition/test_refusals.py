"""What a move refuses, and what it leaves behind when it is cut short."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis import Redis

import engine
from engine import Inventory, Line, Location, LocationKind, Movement, MovementKind, keys
from engine.audit import audit
from engine.errors import DatasetUnfit
from engine.repartition import repartition
from engine.topology.embedded import EmbeddedServer

BINCARD = Path(sys.executable).with_name("bincard")


def contents(client: "Redis[bytes]") -> dict[bytes, object]:
    """Everything stored. What the server packs may change when it is read, so that is not compared."""
    readers = {
        b"hash": client.hgetall,
        b"stream": client.xrange,
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"string": client.get,
    }
    return {key: readers[client.type(key)](key) for key in client.scan_iter()}


async def stock_up(inventory: Inventory, reservations: int) -> None:
    await inventory.save_location(Location("s1", LocationKind.STORE))
    for sku in ("a", "b", "c"):
        await inventory.record(Movement(f"in {sku}", MovementKind.RECEIVE, sku, "s1", 10**6))
    lines = [Line("a", 1, "s1"), Line("b", 2, "s1"), Line("c", 3, "s1")]
    for first in range(0, reservations, 1000):
        numbers = range(first, min(first + 1000, reservations))
        await asyncio.gather(*(inventory.reserve(f"k{n}", lines[: 1 + n % 3]) for n in numbers))


@pytest.fixture
async def source(server: EmbeddedServer) -> AsyncIterator[Inventory]:
    """A data set of eight partitions, in use."""
    opened = await engine.connect(server.url, partitions=8)
    await stock_up(opened, 20)
    yield opened
    await opened.close()


async def test_a_source_in_use(
    source: Inventory, server: EmbeddedServer, other_server: EmbeddedServer, target: "Redis[bytes]"
) -> None:
    """A connection that calls our scripts is one too many, and nothing is written."""
    with pytest.raises(DatasetUnfit, match="is in use, by 1 connections: stop"):
        await repartition(server.url, other_server.url, 3)
    assert not target.keys()
    await source.close()
    assert (await repartition(server.url, other_server.url, 3)).reservations == 20


async def test_a_source_that_is_written_to(
    source: Inventory,
    server: EmbeddedServer,
    control: "Redis[bytes]",
    other_server: EmbeddedServer,
    target: "Redis[bytes]",
) -> None:
    """Somebody who came after we looked is noticed by the sequences; the target stays unusable."""
    await source.close()

    def disturb(line: str) -> None:
        if line.startswith("carried"):
            control.hincrby(keys.meta(3), "seq", 1)

    with pytest.raises(DatasetUnfit, match="somebody wrote to the source meanwhile"):
        await repartition(server.url, other_server.url, 3, tell=disturb)
    with pytest.raises(DatasetUnfit, match="a repartition left that did not end"):
        await engine.connect(other_server.url)
    # Its end is not that of its ledger any more.
    with pytest.raises(DatasetUnfit, match="the target holds what a repartition left"):
        await repartition(server.url, other_server.url, 3)
    target.flushall()
    with pytest.raises(DatasetUnfit, match="the source is not clean: 1 differences"):
        await repartition(server.url, other_server.url, 3)


async def test_a_target_in_use(
    source: Inventory, server: EmbeddedServer, other_server: EmbeddedServer, target: "Redis[bytes]"
) -> None:
    """Neither a data set nor what is left of one is written over, nor is the source itself."""
    await source.close()
    await (await engine.connect(other_server.url)).close()
    before = contents(target)
    with pytest.raises(DatasetUnfit, match="the target holds a data set"):
        await repartition(server.url, other_server.url, 3)
    with pytest.raises(DatasetUnfit, match="the target holds a data set"):
        await repartition(server.url, server.url, 3)
    target.delete(keys.dataset())
    with pytest.raises(DatasetUnfit, match=r"the target holds inv:\{0\}:meta"):
        await repartition(server.url, other_server.url, 3)
    assert contents(target).items() <= before.items()


async def test_a_source_that_is_not_clean(
    source: Inventory,
    server: EmbeddedServer,
    control: "Redis[bytes]",
    other_server: EmbeddedServer,
    target: "Redis[bytes]",
) -> None:
    """Books that do not follow from their ledger are not moved; neither are none."""
    await source.close()
    assert control.hincrby(keys.stocked(keys.partition_of("a", 8)), "s1", 1)
    with pytest.raises(DatasetUnfit, match="the source is not clean: 1 differences"):
        await repartition(server.url, other_server.url, 3)
    control.flushall()
    with pytest.raises(DatasetUnfit, match="the source holds no data set"):
        await repartition(server.url, other_server.url, 3)
    assert not target.keys()


async def begin(url: str) -> None:
    inventory = await engine.connect(url, partitions=8)
    await stock_up(inventory, 1500)
    await inventory.close()


async def is_clean(url: str) -> bool:
    inventory = await engine.connect(url)
    try:
        return (await audit(inventory)).is_clean
    finally:
        await inventory.close()


def test_killed_on_the_way(
    server: EmbeddedServer,
    control: "Redis[bytes]",
    other_server: EmbeddedServer,
    target: "Redis[bytes]",
    runner: asyncio.Runner,
) -> None:
    """What was begun is unusable and says so; the source is untouched; on an emptied server it works."""
    runner.run(begin(server.url))
    before = contents(control)
    command = [BINCARD, "repartition", "--from", server.url, "--to", other_server.url, "--partitions", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as moving:
        assert moving.stdout is not None
        for line in moving.stdout:
            if line.startswith("wrote"):
                moving.send_signal(signal.SIGKILL)
        assert moving.wait() == -signal.SIGKILL
    assert target.xlen(keys.log(0))
    assert contents(control) == before
    with pytest.raises(DatasetUnfit, match="a repartition left that did not end: empty the server"):
        runner.run(is_clean(other_server.url))
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("bincard: the target holds what a repartition left")
    target.flushall()
    last = subprocess.run(command, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert "moved from 8 to 3 partitions: 3 positions, 1,500 reservations, 3 answers" in last.stdout
    assert contents(control) == before
    assert runner.run(is_clean(other_server.url))


def test_data_directories(tmp_path: Path, server: EmbeddedServer, runner: asyncio.Runner) -> None:
    """A directory stands for the server on it, which runs for the duration."""
    runner.run(begin(server.url))

    def move(*places: str) -> "subprocess.CompletedProcess[str]":
        command = [BINCARD, "repartition", "--from", places[0], "--to", places[1], "--partitions", "1"]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert move(server.url, "there").returncode == 0
    back = move("there", "elsewhere")
    assert back.returncode == 0, back.stderr
    assert "moved from 1 to 1 partitions: 3 positions, 1,500 reservations" in back.stdout
    nowhere = move("nowhere", "new")
    assert nowhere.returncode == 2
    assert "there are no books in nowhere" in nowhere.stderr
    untold = subprocess.run(
        [BINCARD, "repartition"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert untold.returncode == 2
    assert "say which data set goes where" in untold.stderr
