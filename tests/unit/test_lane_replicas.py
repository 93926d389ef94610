"""Answers that wait for replicas, and books that must be taken over first, against a scripted server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from engine import limits
from engine.errors import MemoryFull, ReplicasUnavailable, StorageUnavailable, Unconfirmed
from engine.lane import MOST_TAKE_OVERS, Home, Lane, Script
from tests.unit.test_lane import FakeServer, ask, outcome, reply

HOME = Home()
HOME.is_watched = True
HOME.take_over = Script("take_over", ("meta",), priority=0, home=HOME)
RESERVE = Script("reserve", ("meta",), priority=2, home=HOME, is_confirmed=True)
COMMIT = Script("commit", ("meta",), priority=0, home=HOME, is_confirmed=True)
READ = Script("read", ("meta",), priority=3, home=HOME)
WAIT = [b"WAIT", b"2", b"%d" % limits.REPLICA_TIMEOUT_MS]


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    HOME.epoch = HOME.now_ms = 0
    server = FakeServer()
    yield server
    await server.stop()


def taking(epoch: int = 0) -> list[bytes]:
    return [b"FCALL", b"take_over", b"1", b"meta", epoch.to_bytes(6, "little") + bytes(6)]


async def settle() -> None:
    """Lets what arrived be taken."""
    await asyncio.sleep(0.05)


async def test_a_turn_ends_with_a_write_and_one_wait(server: FakeServer) -> None:
    """One for all calls of the turn; nothing is answered before the replicas have spoken."""
    lane = await server.start(replicas=2)
    one, other = ask(lane, 1, RESERVE), ask(lane, 2, COMMIT)
    commands = await server.wait_for(4)
    assert [command[1] for command in commands[:2]] == [b"commit", b"reserve"]
    assert commands[2:] == [taking(), WAIT]
    server.say(reply(20) + reply(10) + reply(3))
    await settle()
    assert not one.done()
    assert not other.done()
    server.say(b":2\r\n")
    assert await outcome(one) == (7, 3, 9, 10)
    assert await outcome(other) == (7, 3, 9, 20)
    third = ask(lane, 3, RESERVE)
    await server.wait_for(7)
    assert server.commands[5][4][:6] == b"\3\0\0\0\0\0", "the epoch that was seen goes along"
    assert server.commands[5][4][6:] >= b"\7\0\0\0\0\0", "and the time"
    server.say(reply(30) + reply(3) + b":3\r\n")
    assert await outcome(third) == (7, 3, 9, 30)


async def test_reads_wait_for_nobody(server: FakeServer) -> None:
    lane = await server.start(replicas=2)
    read = ask(lane, 1, READ)
    assert len(await server.wait_for(1)) == 1
    server.answer(5)
    assert await outcome(read) == (7, 3, 9, 5)
    read, write = ask(lane, 2, READ), ask(lane, 3, RESERVE)
    await server.wait_for(5)
    server.say(reply(6) + reply(7))
    server.say(b"")
    await settle()
    assert not write.done()
    server.say(reply(3) + b":2\r\n")
    assert {(await outcome(read))[3], (await outcome(write))[3]} == {6, 7}


@pytest.mark.parametrize("told", [b":1\r\n", b":0\r\n", b"-NOPERM not yours\r\n"])
async def test_too_few_replicas_leave_the_outcome_open(server: FakeServer, told: bytes) -> None:
    """Unknown, also for an answer that was a repeat; and the lane goes on."""
    lane = await server.start(replicas=2)
    write = ask(lane, 1, RESERVE)
    await server.wait_for(3)
    server.say(reply(1) + reply(3) + told)
    assert isinstance(await outcome(write), Unconfirmed)
    again = ask(lane, 1, RESERVE)
    await server.wait_for(6)
    server.say(reply(1) + reply(3) + b":2\r\n")
    assert await outcome(again) == (7, 3, 9, 1)


async def test_a_write_that_failed_confirms_nothing(server: FakeServer) -> None:
    """WAIT would speak of an earlier write then."""
    lane = await server.start(replicas=2)
    write = ask(lane, 1, RESERVE)
    await server.wait_for(3)
    server.say(reply(1) + b"-MOVED 5 h:1\r\n" + b":2\r\n")
    assert isinstance(await outcome(write), Unconfirmed)


async def test_what_the_server_refused_is_told_at_once(server: FakeServer) -> None:
    lane = await server.start(replicas=2)
    one, other = ask(lane, 1, RESERVE), ask(lane, 2, COMMIT)
    await server.wait_for(4)
    server.say(b"-NOREPLICAS too few\r\n-OOM full\r\n")
    assert isinstance(await outcome(other), ReplicasUnavailable)
    assert isinstance(await outcome(one), MemoryFull)
    server.say(b"-NOREPLICAS too few\r\n:0\r\n")
    third = ask(lane, 3, RESERVE)
    await server.wait_for(7)
    server.say(reply(1) + reply(3) + b":2\r\n")
    assert await outcome(third) == (7, 3, 9, 1)


async def test_a_connection_that_breaks_before_the_word_of_the_replicas(server: FakeServer) -> None:
    lane = await server.start(replicas=2)
    write = ask(lane, 1, RESERVE)
    await server.wait_for(3)
    server.say(reply(1) + reply(3))
    await settle()
    server.hang_up()
    assert isinstance(await outcome(write), Unconfirmed)


async def test_turns_follow_one_another_while_replicas_are_waited_for(server: FakeServer) -> None:
    """A turn ends with its WAIT: no third one leaves before."""
    lane = await server.start(replicas=2, turns=2)
    first = ask(lane, 1, RESERVE)
    await server.wait_for(3)
    second = ask(lane, 2, RESERVE)
    await server.wait_for(6)
    third = ask(lane, 3, RESERVE)
    server.say(reply(1) + reply(3))
    await settle()
    assert len(server.commands) == 6
    server.say(b":2\r\n")
    await server.wait_for(9)
    server.say((reply(2) + reply(3) + b":2\r\n") * 2)
    assert [(await outcome(one))[3] for one in (first, second, third)] == [1, 2, 2]


BEGUN_BY_ANOTHER = b"-NOTBEGUN another process had these books last\r\n"


async def taken_over(lane: Lane, server: FakeServer) -> None:
    server.say(BEGUN_BY_ANOTHER)
    await server.wait_for(len(server.commands) + 2)


async def test_books_are_taken_over_and_the_call_goes_again(server: FakeServer) -> None:
    lane = await server.start()
    HOME.epoch = 8
    write = ask(lane, 1, RESERVE)
    await server.wait_for(1)
    await taken_over(lane, server)
    assert server.commands[1:] == [taking(8), server.commands[0]]
    server.say(reply(9) + reply(1))
    assert await outcome(write) == (7, 3, 9, 1)
    assert HOME.epoch == 8, "a lower one is none that was seen"


async def test_books_of_another_data_set_are_left_alone(server: FakeServer) -> None:
    """It is tried, and told by its name; nothing happened."""
    lane = await server.start()
    write = ask(lane, 1, RESERVE)
    await server.wait_for(1)
    for _ in range(MOST_TAKE_OVERS):
        await taken_over(lane, server)
        server.say(b"-OTHERDATA this is not the data set that was opened\r\n")
    server.say(BEGUN_BY_ANOTHER)
    error = await outcome(write)
    assert isinstance(error, StorageUnavailable)
    assert "OTHERDATA this is not the data set" in error.detail
    assert len(server.commands) == 1 + 2 * MOST_TAKE_OVERS
    read = ask(lane, 2, READ)
    await server.wait_for(2 + 2 * MOST_TAKE_OVERS)
    server.answer(4)
    assert await outcome(read) == (7, 3, 9, 4)


async def test_a_partition_that_has_no_way_of_being_taken_over(server: FakeServer) -> None:
    lane = await server.start()
    write = ask(lane, 1)
    await server.wait_for(1)
    server.say(BEGUN_BY_ANOTHER)
    assert isinstance(await outcome(write), StorageUnavailable)


async def test_the_call_that_goes_again_waits_for_replicas(server: FakeServer) -> None:
    lane = await server.start(replicas=2)
    write = ask(lane, 1, RESERVE)
    await server.wait_for(3)
    server.say(BEGUN_BY_ANOTHER + reply(4) + b":2\r\n")
    await server.wait_for(7)
    assert [command[:2] for command in server.commands[3:]] == [
        [b"FCALL", b"take_over"],
        [b"FCALL", b"reserve"],
        [b"FCALL", b"take_over"],
        WAIT[:2],
    ]
    server.say(reply(4) + reply(1) + reply(4))
    await settle()
    assert not write.done()
    server.say(b":2\r\n")
    assert await outcome(write) == (7, 3, 9, 1)


async def test_the_connection_breaks_while_books_are_taken_over(server: FakeServer) -> None:
    lane = await server.start()
    write = ask(lane, 1, RESERVE)
    await server.wait_for(1)
    await taken_over(lane, server)
    server.hang_up()
    assert isinstance(await outcome(write), Unconfirmed)
