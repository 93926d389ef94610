"""Restored, replaced and restarted data is noticed before the first write, and consumers see it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis import Redis

import engine
from engine import Inventory, Line, Location, LocationKind, Movement, MovementKind, keys
from engine.audit import audit
from engine.errors import StorageUnavailable, Unavailable, Unconfirmed
from engine.events import Gap, GapKind, LedgerReader, parse_version
from engine.topology.embedded import EmbeddedServer
from tests.servers import find_program

PLACE, SKU = "s1", "mug"


class Shop:
    """A server that can be ended and begun again under an engine that stays."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder = folder
        self._program = program
        self.server = self._start()
        self.inventory: Inventory

    def _start(self) -> EmbeddedServer:
        return EmbeddedServer.start(self.folder, durability="local", binary=self._program)

    def restart(self, *, files: Path | None = None) -> None:
        """Kills the server and starts it again, with other files where they are given."""
        self.server.stop(timeout_seconds=0)
        if files is not None:
            shutil.rmtree(self.folder / "appendonlydir")
            if files.exists():
                shutil.copytree(files, self.folder / "appendonlydir")
        self.server = self._start()

    def copy_files(self, target: Path) -> Path:
        """A backup of the books as they are at this moment."""
        return Path(shutil.copytree(self.folder / "appendonlydir", target))

    async def insist(self, name: str, inventory: Inventory | None = None) -> engine.Reservation:
        """Reserves, as often as it takes to reach the server."""
        while True:
            try:
                return await (inventory or self.inventory).reserve(name, [Line(SKU, 1, PLACE)])
            except Unconfirmed:
                continue
            except Unavailable as error:
                if "NODATASET" in error.detail or "OTHERDATA" in error.detail:
                    raise
                await _pause()


async def _pause() -> None:
    await asyncio.sleep(0.02)


@pytest.fixture
def started(server_name: str, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "data", find_program(server_name).path)
    yield shop
    shop.server.stop(timeout_seconds=0)


@pytest.fixture
async def shop(started: Shop) -> AsyncIterator[Shop]:
    started.inventory = await engine.connect(started.server.url)
    await started.inventory.save_location(Location(PLACE, LocationKind.STORE))
    await started.inventory.record(Movement("in", MovementKind.RECEIVE, SKU, PLACE, 1000))
    yield started
    await started.inventory.close()


def reader_of(shop: Shop, version: str) -> LedgerReader:
    return LedgerReader(shop.inventory.dataset.topology, 0, after=parse_version(version))


async def test_an_old_backup_is_noticed(shop: Shop, tmp_path: Path) -> None:
    """The next write has a new epoch, and a consumer that had read on is told that it was rolled back."""
    await shop.insist("kept")
    old = shop.copy_files(tmp_path / "backup")
    last = [await shop.insist(f"lost {number}") for number in range(5)][-1]
    reader = reader_of(shop, last.version)
    shop.restart(files=old)
    first = await shop.insist("after")
    before, after = parse_version(last.version), parse_version(first.version)
    assert after.epoch > before.epoch
    assert after.seq == before.seq - 4
    (gap, *_) = await reader.read()
    assert isinstance(gap, Gap)
    assert (gap.kind, gap.after, gap.found) == (GapKind.ROLLED_BACK, before, after)
    assert (await audit(shop.inventory)).is_clean


async def test_the_same_backup_twice_makes_two_histories(shop: Shop, tmp_path: Path) -> None:
    """A number that a lost history had is not given again, though the backup knows nothing of it."""
    old = shop.copy_files(tmp_path / "backup")
    epochs = []
    for number in range(3):
        shop.restart(files=old)
        epochs.append(parse_version((await shop.insist(f"history {number}")).version).epoch)
    assert epochs == sorted(set(epochs))


async def test_a_restart_that_loses_nothing_is_no_gap(shop: Shop) -> None:
    """The epoch changes, for nobody can know; the sequence goes on, so that a consumer does."""
    last = await shop.insist("before")
    reader = reader_of(shop, last.version)
    shop.restart()
    first = await shop.insist("after")
    assert parse_version(first.version).seq == parse_version(last.version).seq + 1
    assert parse_version(first.version).epoch > parse_version(last.version).epoch
    items = await reader.read()
    assert len(items) == 1
    assert not isinstance(items[0], Gap)
    assert (await shop.inventory.reserve("before", [Line(SKU, 1, PLACE)])).replayed
    assert (await audit(shop.inventory)).is_clean


async def test_reads_go_on_where_books_cannot_be_taken_over(shop: Shop) -> None:
    """A server that refuses writes after a restart still answers."""
    shop.restart()
    with Redis.from_url(shop.server.url) as client:
        client.config_set("min-replicas-to-write", 1)
        found = None
        while found is None:
            try:
                found = await shop.inventory.availability(SKU)
            except (Unavailable, Unconfirmed):
                await _pause()
        assert found.available == 1000
        with pytest.raises(Unavailable, match="NOREPLICAS"):
            await shop.inventory.reserve("no", [Line(SKU, 1, PLACE)])
        client.config_set("min-replicas-to-write", 0)
    await shop.insist("yes")


async def test_a_server_that_comes_back_empty_takes_nothing(shop: Shop, tmp_path: Path) -> None:
    shop.restart(files=tmp_path / "nothing")
    with pytest.raises(StorageUnavailable, match="NODATASET"):
        await shop.insist("lost")
    with Redis.from_url(shop.server.url) as client:
        assert not client.exists(keys.meta(0), keys.log(0))


@pytest.mark.parametrize("way", ["in place", "after a restart"])
async def test_a_new_data_set_takes_nothing_from_an_engine_of_the_old(
    shop: Shop, tmp_path: Path, way: str
) -> None:
    """Ids of one data set mean nothing in another: whoever has the old one open must start again."""
    if way == "in place":
        with Redis.from_url(shop.server.url) as client:
            client.flushall()
    else:
        shop.restart(files=tmp_path / "nothing")
    other = await engine.connect(shop.server.url)
    await other.save_location(Location(PLACE, LocationKind.STORE))
    await other.record(Movement("in", MovementKind.RECEIVE, SKU, PLACE, 5))
    with pytest.raises(StorageUnavailable, match="OTHERDATA this is not the data set"):
        await shop.insist("old")
    held = await other.reserve("new", [Line(SKU, 1, PLACE)])
    assert held.version == "1.3"
    assert (await audit(other)).is_clean
    await other.close()
