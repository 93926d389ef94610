"""Histories of the real engine: what the recorder writes, the checker can judge."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from time import monotonic

import msgspec
import pytest
from redis import Redis

import engine
from engine import (
    Channel,
    Inventory,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Policy,
    Pool,
    Refused,
    Reservation,
    ReserveRequest,
    Unavailable,
    Unconfirmed,
)
from engine.check import UnreadableHistoryError, check
from engine.check.reading import find_files
from engine.dataset import open_dataset
from engine.errors import InsufficientStock
from engine.history import HistoryFile, open_recorded
from engine.keys import partition_of
from engine.script import assemble, read_sources
from engine.topology.embedded import EmbeddedServer

ROOT = Path(__file__).parents[2]
CALLERS, ROUNDS, PLACES = 64, 12, ("s1", "s2")
PATIENCE_SECONDS = 60.0
"""Until when there must be an answer, however slow a busy machine is to connect again."""


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the recorder is told to write."""
    path = tmp_path / "shop.jsonl"
    monkeypatch.setenv("BINCARD_HISTORY", str(path))
    return path


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def stock_up(inventory: Inventory, skus: list[str], units: int) -> None:
    for place in PLACES:
        await inventory.save_location(Location(place, LocationKind.STORE))
    for sku in skus:
        for place in PLACES:
            await inventory.record(Movement(f"in {sku} {place}", MovementKind.RECEIVE, sku, place, units))


async def first_of(answers: Awaitable[list[Reservation | Exception]]) -> Reservation:
    """The first of what came together, returned or raised."""
    first = (await answers)[0]
    if isinstance(first, Exception):
        raise first
    return first


class Caller:
    """Asks for what others want, too, and sends a quarter of all requests twice."""

    def __init__(self, inventory: Inventory, skus: list[str], name: str) -> None:
        self.inventory, self.skus, self.name, self.random = inventory, skus, name, Random(name)

    async def go(self) -> None:
        for number in range(ROUNDS):
            await self.handle(f"{self.name} {number}")

    async def handle(self, key: str) -> None:
        random, inventory = self.random, self.inventory
        lines = [
            Line(random.choice(self.skus), random.randint(1, 3), random.choice(PLACES))
            for _ in range(random.randint(1, 3))
        ]
        ttl_seconds = random.choice((1, 900))
        same = [ReserveRequest(key, lines, ttl_seconds, self.name)] * 2
        reserve = random.choice(
            (
                lambda: inventory.reserve(key, lines, ttl_seconds=ttl_seconds, owner=self.name),
                lambda: first_of(inventory.reserve_many(same)),
            )
        )
        held = await self.send(reserve)
        for step in range(random.randint(0, 3)) if isinstance(held, Reservation) else ():
            assert isinstance(held, Reservation)
            await self.send(self.choose(held.id, lines, key, random.choice((None, f"{key} {step}"))))
        await self.send(lambda: inventory.availability(lines[0].sku))
        await self.send(lambda: inventory.availability(lines[0].sku, owner=self.name))
        await self.send(lambda: inventory.reservations(owner=self.name, limit=3))
        if random.random() < 0.2:
            kind = random.choice((MovementKind.SALE, MovementKind.RECEIVE))
            await self.send(lambda: inventory.record(Movement(key, kind, lines[0].sku, PLACES[0], 2)))
            await self.send(lambda: inventory.stock(lines[0].sku))
        if random.random() < 0.05:
            await asyncio.sleep(0.4)

    def choose(
        self, reservation: str, lines: list[Line], key: str, own: str | None
    ) -> Callable[[], Awaitable[object]]:
        inventory = self.inventory
        requests: list[Callable[[], Awaitable[object]]] = [
            lambda: inventory.commit(reservation, op_id=own, if_expired="retake"),
            lambda: inventory.commit(reservation, lines=lines[:1], remainder="keep", op_id=key + " part"),
            lambda: inventory.commit(reservation, fulfil=True, op_id=own),
            lambda: inventory.release(reservation, op_id=own),
            lambda: inventory.extend(reservation, 2, op_id=own),
            lambda: inventory.fulfil(reservation, op_id=own),
            lambda: inventory.cancel(reservation, op_id=own),
            lambda: inventory.reservation(reservation),
            lambda: first_of(inventory.commit_many([reservation] * 2)),
            lambda: first_of(inventory.release_many([reservation] * 2)),
        ]
        return self.random.choice(requests)

    async def send(self, request: Callable[[], Awaitable[object]]) -> object:
        sends = 2 if self.random.random() < 0.25 else 1
        answers = await asyncio.gather(*(self.insist(request) for _ in range(sends)))
        return answers[0]

    async def insist(self, request: Callable[[], Awaitable[object]]) -> object:
        ends = monotonic() + PATIENCE_SECONDS
        while monotonic() < ends:
            try:
                return await request()
            except (Unavailable, Unconfirmed):
                if self.random.random() < 0.3:
                    return None
                await asyncio.sleep(0.01)
            except Refused as refused:
                return refused
        raise AssertionError("no answer came")


async def test_sixty_four_callers(server: EmbeddedServer, partitions: int, history: Path) -> None:
    """Two connections, duplicates, contention on every unit, lapsing holds: the engine keeps its promises."""
    inventories = [await engine.connect(server.url, partitions=partitions)]
    inventories.append(await engine.connect(server.url))
    skus = [f"mug-{number}" for number in range(1000)]
    skus = [sku for sku in skus if partition_of(sku, partitions) == 0][:3]
    await stock_up(inventories[0], skus, 2 * CALLERS)
    callers = [Caller(inventories[number % 2], skus, f"caller {number}") for number in range(CALLERS)]
    await inventories[0].record(Movement("last", MovementKind.RECEIVE, "last", PLACES[0], 1))
    last = [Line("last", 1, PLACES[0])]
    answers = await asyncio.gather(
        *(caller.go() for caller in callers),
        *(inventories[n % 2].reserve(f"last {n}", last) for n in range(CALLERS)),
        return_exceptions=True,
    )
    assert Counter(map(type, answers)) == {
        type(None): CALLERS,
        Reservation: 1,
        InsufficientStock: CALLERS - 1,
    }
    for inventory in inventories:
        await inventory.close()
    report = check(find_files(history))
    assert report.violations == []
    counts = Counter(report.counts)
    assert len(report.processes) == 2
    assert report.operations > CALLERS * ROUNDS * 2
    for judged in (
        "promises judged",
        "promises of the last unit",
        "replays judged",
        "refusals judged: insufficient_stock",
        "availability answers judged",
        "stock answers judged",
        "facts judged",
        "life cycle steps",
        "effects without an answer",
    ):
        assert counts[judged], judged


async def test_answers_are_lost(server: EmbeddedServer, control: "Redis[bytes]", history: Path) -> None:
    """Connections are killed under load: what stays unknown covers what happened, and no more."""
    inventory = await engine.connect(server.url)
    await stock_up(inventory, ["mug"], 300)

    async def kill() -> None:
        while True:
            # A busy machine may need longer to connect than to be cut off again: everybody gets so far.
            if inventory.is_connected:
                control.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(0.03)

    killer = asyncio.ensure_future(kill())
    for turn in range(20):
        await asyncio.gather(*(Caller(inventory, ["mug"], f"{turn} {number}").go() for number in range(16)))
        if check(find_files(history)).unknown:
            break
    killer.cancel()
    await inventory.close()
    report = check(find_files(history))
    assert report.violations == []
    assert report.unknown


KILLED = """
import asyncio, os, signal, sys
import engine
async def main():
    inventory = await engine.connect(sys.argv[1])
    asyncio.get_running_loop().call_later(0.3, os.kill, os.getpid(), signal.SIGKILL)
    async def reserve(caller):
        for number in range(100000):
            await inventory.reserve(f"{caller} {number}", [engine.Line("mug", 1, "s1")])
    await asyncio.gather(*map(reserve, range(20)))
asyncio.run(main())
"""


async def test_the_recording_process_is_killed(server: EmbeddedServer, history: Path) -> None:
    """What a killed process had asked for is in its history, so what it did surprises nobody."""
    inventory = await engine.connect(server.url)
    await stock_up(inventory, ["mug"], 1_000_000)
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, server.url],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    await inventory.availability("mug")
    await inventory.stock("mug")
    await inventory.close()
    report = check(find_files(history))
    assert report.violations == []
    assert report.unknown
    assert report.counts["outcomes: ok"] > 100


async def test_nothing_is_recorded_unasked(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the variable it is the plain engine: nothing is wrapped, nothing is written."""
    monkeypatch.delenv("BINCARD_HISTORY", raising=False)
    inventory = await engine.connect(server.url)
    assert type(inventory) is Inventory
    await inventory.close()
    assert names_in(tmp_path) == []


async def test_recorded_answers_are_the_engines(server: EmbeddedServer, history: Path) -> None:
    """A recorded inventory answers and raises as a plain one, and records each operation once."""
    inventory = await engine.connect(server.url)
    assert isinstance(inventory, Inventory)
    await stock_up(inventory, ["mug"], 5)
    held = await inventory.reserve(
        "cart", [Line("mug", 2, "s1")], metadata={"note": b"\xff", "at": float("nan")}
    )
    assert (held.state, held.replayed) == ("held", False)
    with pytest.raises(engine.InvalidRequest):
        await inventory.reserve("cart 2", [])
    with pytest.raises(Refused):
        await inventory.reserve("cart 3", [Line("mug", 9, "s1")])
    assert (await inventory.availability("mug")).available == 8
    task = asyncio.ensure_future(inventory.commit(held.id))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await inventory.close()
    (path,) = find_files(history)
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    names = [line["operation"] for line in lines if "operation" in line]
    assert names == [
        *("save_location", "save_location", "record", "record"),
        *("reserve", "reserve", "reserve", "availability", "commit"),
    ]
    words = Counter(line.get("word") for line in lines if line.get("outcome", "ok") != "ok")
    assert words == {"invalid_request": 1, "insufficient_stock": 1, "CancelledError": 1}
    report = check([path])
    assert (report.violations, report.unknown) == ([], 1)


async def test_requests_sent_together_are_recorded_one_by_one(server: EmbeddedServer, history: Path) -> None:
    """Each as if it had been asked for by itself, with its own answer."""
    inventory = await engine.connect(server.url)
    await stock_up(inventory, ["mug"], 5)
    lines = [Line("mug", 3, "s1")]
    asked = [
        ReserveRequest("a", lines, reference="order"),
        ReserveRequest("b", []),
        ReserveRequest("c", lines),
    ]
    held, *_ = await inventory.reserve_many([*asked, asked[0]], caller="till")
    assert isinstance(held, Reservation)
    again = await inventory.reserve("a", lines, owner=None, reference="order", caller="till")
    assert (again.id, again.replayed) == (held.id, True)
    await inventory.commit_many([held.id, "nobody's"], fulfil=True)
    await inventory.commit(held.id, fulfil=True)
    await inventory.release_many(reservations=[held.id])
    task = asyncio.ensure_future(
        inventory.reserve_many([ReserveRequest("d", lines), ReserveRequest("e", lines)])
    )
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(TypeError):
        await inventory.commit_many()  # type: ignore[call-arg]
    await inventory.close()
    (path,) = find_files(history)
    entries = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()][1:]
    began = [line for line in entries if "operation" in line][4:]
    told = {line["number"]: line.get("word", "ok") for line in entries if "outcome" in line}
    assert [(line["operation"], told[line["number"]]) for line in began] == [
        ("reserve", "ok"),
        ("reserve", "invalid_request"),
        ("reserve", "insufficient_stock"),
        *[("reserve", "ok")] * 2,
        ("commit", "ok"),
        ("commit", "reservation_not_found"),
        ("commit", "ok"),
        ("release", "already_fulfilled"),
        *[("reserve", "CancelledError")] * 2,
    ]
    for alike in ((0, 3, 4), (5, 7)):
        assert len({msgspec.json.encode(began[place]["arguments"]) for place in alike}) == 1
    report = check([path])
    assert (report.violations, report.unknown) == ([], 2)
    assert report.counts["replays judged"] >= 2


def test_a_history_outgrows_its_first_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of any size follow one another without a gap; the end is cut."""
    monkeypatch.setattr("engine.history.CHUNK_BYTES", 1 << 16)
    file = HistoryFile(tmp_path / "shop.jsonl")
    written = [bytes([65 + number % 26]) * (number * 7 % 90_000) + b"\n" for number in range(0, 20_000, 97)]
    for line in written:
        file.append(line)
    file.close()
    file.close()
    assert file.path.read_bytes() == b"".join(written)


def test_a_full_disk_ends_the_history_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checker will not judge half a history."""
    monkeypatch.setattr("engine.history.CHUNK_BYTES", 1 << 16)
    file = HistoryFile(tmp_path / "shop.jsonl")
    file.append(
        b'{"history":1,"process":"1-1","clock":"","dataset":"","partitions":1,"retention_seconds":9,'
        b'"begins":["1.0"],"time":0}\n'
    )

    def is_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", is_full)
    for number in range(5000):
        file.append(b'{"time":%d,"number":1,"operation":"sweep","arguments":{}}\n' % number)
    file.close()
    with pytest.raises(UnreadableHistoryError, match="breaks off"):
        check([file.path])


@pytest.mark.parametrize(
    ("file", "right", "wrong", "invariant"),
    [
        # The general case of a reserve: the usual one has a test of its own, below.
        ("card", "return free >= quantity", "return free >= quantity - 1", "I3"),
        ("card", "return free >= quantity", "return free > quantity", "I9"),
        ("reserve", "remembered[id] or priors[i - 1]", "nil", "I2"),
        ("reserve", "remembered[id] or priors[i - 1]", "priors[i - 1]", "I2"),
        ("commit", "STATE.FULFILLED, -1, 0, -1)", "STATE.FULFILLED, -1, 0, 0)", "I4"),
    ],
)
async def test_a_broken_engine_is_found(
    server: EmbeddedServer, tmp_path: Path, file: str, right: str, wrong: str, invariant: str
) -> None:
    """Scripts with a fault in them, on a real server: the callers' history shows it, most often of the first
    day: who comes when is up to the machine.
    """
    found: set[str] = set()
    for day in range(12):
        path, skus = tmp_path / f"day {day}.jsonl", [f"mug {day}", f"cup {day}"]
        inventory = await open_broken(server, path, file, right, wrong)
        await stock_up(inventory, skus, 30)
        callers = [Caller(inventory, skus, f"caller {day}.{number}") for number in range(16)]
        await asyncio.gather(*(caller.go() for caller in callers))
        await inventory.close()
        found |= {violation.invariant for violation in check(find_files(path)).violations}
        if invariant in found:
            return
    pytest.fail(f"of {invariant} nothing was found, but {found}")


async def test_a_fault_in_what_was_sent_together_is_found(server: EmbeddedServer, tmp_path: Path) -> None:
    """One unit too many, promised within one call."""
    fault = "most >= held and room", "most >= held - 1 and room"
    inventory = await open_broken(server, tmp_path / "shop.jsonl", "reserve", *fault)
    await stock_up(inventory, ["mug"], 30)
    asked = [ReserveRequest(f"cart {number}", [Line("mug", 1, "s1")]) for number in range(40)]
    answers = await inventory.reserve_many(asked)
    assert Counter(map(type, answers)) == {Reservation: 31, InsufficientStock: 9}
    await inventory.close()
    report = check(find_files(tmp_path / "shop.jsonl"))
    assert "I3" in {violation.invariant for violation in report.violations}


async def open_broken(server: EmbeddedServer, path: Path, file: str, right: str, wrong: str) -> Inventory:
    """A recorded inventory whose scripts have one fault."""
    includes, verbs = read_sources()
    sources = includes if file in includes else verbs
    assert sources[file].count(right) == 1
    sources = {**sources, file: sources[file].replace(right, wrong)}
    broken = assemble(sources, verbs) if file in includes else assemble(includes, sources)
    return await open_recorded(await open_dataset(server.url, partitions=1, scripts=broken), str(path))


async def test_policies_and_fences_are_no_fault(server: EmbeddedServer, history: Path) -> None:
    """They change what can be promised, and no answer tells by how much: quantities are then not judged."""
    inventory = await engine.connect(server.url)
    await stock_up(inventory, ["mug"], 9)
    await inventory.save_pool(Pool("all", PLACES))
    await inventory.save_channel(Channel("web", ("all",)))
    await inventory.save_policy(Policy("mug", "s1", 2, 3, 4))
    await inventory.save_fence("web", "mug", "s1", 3)
    await inventory.reserve("cart", [Line("mug", 6, "s1")])
    with pytest.raises(InsufficientStock):
        await inventory.reserve("cart 2", [Line("mug", 2, "s1")])
    assert (await inventory.stock("mug"))[0].fenced == 3
    assert len(await inventory.policies("mug")) == len(await inventory.fences(sku="mug")) == 1
    await inventory.delete_fence("web", "mug", "s1")
    await inventory.delete_policy("mug", "s1")
    await inventory.availability("mug")
    await inventory.close()
    report = await asyncio.to_thread(check, find_files(history))
    assert report.violations == []
