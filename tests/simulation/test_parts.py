"""The parts of the simulation by themselves: time, death and the network."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Any

import pytest

from tests.simulation.loop import Loop, Process
from tests.simulation.machines import Machine
from tests.simulation.store import Store

SET = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n%d\r\n"
GET = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"


class Client(asyncio.Protocol):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def data_received(self, data: bytes) -> None:
        self.told.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")


@pytest.fixture
def loop() -> Iterator[Loop]:
    opened = Loop()
    yield opened
    opened.end()


@pytest.fixture
def machine(loop: Loop) -> Machine:
    return Machine(loop, Random(3), 0)


Play = Callable[[Coroutine[Any, Any, Any]], None]


@pytest.fixture
def play(loop: Loop) -> Play:
    return loop.run_until_complete


def test_time_costs_nothing(loop: Loop, play: Play) -> None:
    """Timers go off in the order of their moments, at their moments, and the hours between are skipped."""
    seen: list[tuple[str, float]] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((name, loop.time()))

    async def scene() -> None:
        await asyncio.gather(wait("late", 7200.5), wait("soon", 0.25))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        seen.append(("end", loop.time()))

    play(scene())
    assert seen == [("soon", 0.25), ("late", 7200.5), ("end", 7205.5)]


def test_a_schedule_that_waits_for_nothing_ends(play: Play) -> None:
    """A hang is found at once."""
    with pytest.raises(RuntimeError, match="nothing will happen"):
        play(asyncio.Event().wait())


@pytest.mark.parametrize("step", range(1, 9))
def test_the_dead_take_no_further_step(play: Play, step: int) -> None:
    """A process may end between any two steps; nothing of it is cleaned up, and others go on."""
    seen: list[int] = []

    async def live() -> None:
        try:
            for number in range(20):
                seen.append(number)
                await asyncio.sleep(0)
        finally:
            seen.append(-1)

    async def scene() -> None:
        process, other = Process("dies"), Process("lives")
        process.dies_at = step
        process.start(live())
        await other.start(asyncio.sleep(60))
        assert process.is_dead
        assert seen == list(range(step - 1))

    play(scene())


def test_what_the_dead_sent_arrives(machine: Machine, play: Play) -> None:
    """The answer goes nowhere, but the effect is there."""

    async def scene() -> None:
        process, client = Process("dies"), Client()
        machine.connect(process, client).write(SET % 5)
        process.die()
        await asyncio.sleep(1)
        assert machine.ask("GET", "k") == b"5"
        assert client.told == []

    play(scene())


@pytest.mark.parametrize("seed", range(20))
def test_a_connection_keeps_its_order_through_stalls(loop: Loop, play: Play, seed: int) -> None:
    """Whatever stalls when: requests arrive, and answers return, as they were sent."""
    random = Random(seed)
    machine = Machine(loop, random, 0)

    async def scene() -> None:
        client = Client()
        connection = machine.connect(Process("one"), client)
        for number in range(10):
            connection.write(SET % number + GET)
            if random.random() < 0.4:
                connection.stall(random.uniform(0, 0.01))
            await asyncio.sleep(random.uniform(0, 0.002))
        await asyncio.sleep(1)
        told = b"".join(part for part in client.told if isinstance(part, bytes))
        assert told == b"".join(b"+OK\r\n$1\r\n%d\r\n" % number for number in range(10))

    play(scene())


@pytest.mark.parametrize("loses_requests", [True, False])
def test_a_cut_connection(machine: Machine, play: Play, loses_requests: bool) -> None:
    """The answer is lost; the request may be."""

    async def scene() -> None:
        client = Client()
        connection = machine.connect(Process("one"), client)
        connection.write(SET % 5)
        connection.cut(loses_requests=loses_requests)
        await asyncio.sleep(1)
        assert client.told == ["lost"]
        assert machine.ask("GET", "k") == (None if loses_requests else b"5")

    play(scene())


def test_a_replica_has_what_was_copied(machine: Machine, play: Play) -> None:
    """What came after the copy is lost, and nobody answers until the replica does."""

    async def scene() -> None:
        client = Client()
        machine.ask("SET", "k", "old")
        machine.connect(Process("one"), client)
        machine.copy_to_replica()
        machine.ask("SET", "k", "new")
        machine.fail_over(2.0)
        await asyncio.sleep(1)
        assert not machine.is_up
        assert client.told == ["lost"]
        await asyncio.sleep(2)
        assert machine.is_up
        assert machine.ask("GET", "k") == b"old"

    play(scene())


def test_a_store_refuses_as_a_server_does() -> None:
    """What a cluster, a full memory and a flag of a function forbid."""
    store = Store()
    library = """#!lua name=test
local function write(keys, args) return redis.call('HSET', args[1], 'f', 1) end
local function forget() return undefined_name end
local function set() new_global = 1 end
redis.register_function{ function_name = 'write', callback = write, flags = {} }
redis.register_function{ function_name = 'read', callback = write, flags = { 'no-writes' } }
redis.register_function{ function_name = 'forget', callback = forget, flags = {} }
redis.register_function{ function_name = 'set', callback = set, flags = {} }
"""
    for function in ("write", "read"):
        with pytest.raises(Exception, match="Function not found"):
            store.ask(0, "FCALL", function, 1, "a:{1}", "a:{1}")
    store.load_library(library)
    assert store.ask(0, "FCALL", "write", 1, "a:{1}", "a:{1}") == 1
    with pytest.raises(Exception, match="non local key"):
        store.ask(0, "FCALL", "write", 1, "a:{1}", "a:{2}")
    with pytest.raises(Exception, match="not allowed from read-only"):
        store.ask(0, "FCALL", "read", 1, "a:{1}", "a:{1}")
    for function, fault in (("forget", "nonexistent global"), ("set", "readonly table")):
        with pytest.raises(Exception, match=fault):
            store.ask(0, "FCALL", function, 1, "a:{1}")
    store.set_full(is_full=True)
    with pytest.raises(Exception, match="OOM"):
        store.ask(0, "FCALL", "write", 1, "a:{1}", "a:{1}")
