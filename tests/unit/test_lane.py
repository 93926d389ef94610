"""The lane against a server that says exactly what a test tells it to, when it is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import hiredis
import pytest

from engine import limits
from engine.errors import (
    BincardError,
    MemoryFull,
    Overloaded,
    ReplicasUnavailable,
    StorageUnavailable,
    Unconfirmed,
)
from engine.lane import Answer, Lane, Script, bulk
from engine.metrics import LaneMetrics

RESERVE = Script("reserve", ("meta",), priority=2)
COMMIT = Script("commit", ("meta",), ("5",), priority=0)
RELEASE = Script("release", ("meta",), priority=1)
READ = Script("read", ("meta",), priority=3)


class FakeServer:
    """A server that reads commands and answers when a test says so."""

    def __init__(self) -> None:
        self.commands: list[list[bytes]] = []
        self.loads = 0
        self.load_error: Exception | None = None
        self.metrics = LaneMetrics()
        self._parser = hiredis.Reader()
        self._arrived = asyncio.Event()

    async def start(
        self, *, greeting: Sequence[Sequence[bytes]] = (), turns: int = 2, replicas: int = 0
    ) -> Lane:
        """A lane that is connected to this server."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._connected = asyncio.Event()
        host, port = self._server.sockets[0].getsockname()
        lane = Lane(
            greeting=greeting,
            load_library=self._load,
            metrics=self.metrics,
            turns_under_way=turns,
            replicas=replicas,
        )
        await asyncio.get_running_loop().create_connection(lambda: lane, host, port)
        await self._connected.wait()
        self._lane = lane
        return lane

    async def _load(self) -> None:
        self.loads += 1
        if self.load_error is not None:
            raise self.load_error

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._connected.set()
        while chunk := await reader.read(1 << 16):
            self._parser.feed(chunk)
            while (command := self._parser.gets()) is not False:
                self.commands.append(command)
            self._arrived.set()
        writer.close()

    async def wait_for(self, count: int) -> list[list[bytes]]:
        """The commands that came so far, once there are so many."""
        async with asyncio.timeout(5):
            while len(self.commands) < count:
                self._arrived.clear()
                await self._arrived.wait()
        await asyncio.sleep(0)
        assert len(self.commands) == count
        return self.commands

    def say(self, text: bytes) -> None:
        self.writer.write(text)

    def answer(self, *numbers: int) -> None:
        """The reply of a call: at moment 7, in epoch 3, up to sequence 9, one number for each request."""
        self.say(reply(*numbers))

    def hang_up(self) -> None:
        self.writer.transport.abort()

    async def stop(self) -> None:
        self._lane.close()
        async with asyncio.timeout(5):
            await self._lane.closed
        self.writer.close()
        self._server.close()
        await asyncio.sleep(0)


def reply(*numbers: int) -> bytes:
    """A call's reply as it goes over the wire."""
    words = [b":%d\r\n" % number for number in (7, 3, 9, *numbers)]
    return b"*%d\r\n" % len(words) + b"".join(words)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    server = FakeServer()
    yield server
    await server.stop()


class Clock:
    """Moves the time of the running loop on at once: limits may be long, and no slow machine reaches them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        real = loop.time
        self._ahead = 0.0
        monkeypatch.setattr(loop, "time", lambda: real() + self._ahead)

    async def pass_by(self, seconds: float) -> None:
        """Lets time pass, and runs what was due in it."""
        self._ahead += seconds
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clock]:
    """The time of the test's loop, to move it on."""
    with monkeypatch.context() as patched:
        yield Clock(patched)


def ask(lane: Lane, number: int, script: Script = RESERVE, positions: int = 1) -> "asyncio.Future[Answer]":
    return lane.submit(script, bulk(b"argument%d" % number), positions)


async def outcome(future: "asyncio.Future[Answer]") -> BincardError | Answer:
    """What became of a request: its answer or its error."""
    async with asyncio.timeout(5):
        try:
            return await future
        except BincardError as error:
            return error


async def test_what_waits_together_leaves_together(server: FakeServer) -> None:
    """Requests of one turn and verb are one call: keys, fixed arguments, theirs."""
    lane = await server.start()
    futures = [ask(lane, number, COMMIT) for number in range(3)]
    (command,) = await server.wait_for(1)
    assert command == [
        *(b"FCALL", b"commit", b"1", b"meta"),
        *(b"5", b"argument0", b"argument1", b"argument2"),
    ]
    server.answer(10, 11, 12)
    assert [await outcome(future) for future in futures] == [(7, 3, 9, 10), (7, 3, 9, 11), (7, 3, 9, 12)]
    assert (server.metrics.calls, server.metrics.requests) == (1, 3)


async def test_commits_leave_first(server: FakeServer) -> None:
    """Of what waits in one turn: commit, release, reserve, read; answers still find their requests."""
    lane = await server.start()
    scripts = (READ, RESERVE, RELEASE, COMMIT)
    futures = [ask(lane, number, script) for number, script in enumerate(scripts)]
    commands = await server.wait_for(4)
    assert [command[1] for command in commands] == [b"commit", b"release", b"reserve", b"read"]
    for number in (3, 2, 1, 0):
        server.answer(number)
    assert [await outcome(future) for future in futures] == [(7, 3, 9, number) for number in range(4)]


async def test_requests_gather_while_turns_are_under_way(server: FakeServer) -> None:
    """Two turns at the most are under way; what comes meanwhile is one call of the next."""
    lane = await server.start(turns=2)
    first = ask(lane, 1)
    await server.wait_for(1)
    second = ask(lane, 2)
    await server.wait_for(2)
    later = [ask(lane, number) for number in (3, 4, 5)]
    await asyncio.sleep(0.02)
    await server.wait_for(2)
    server.answer(1)
    assert await outcome(first) == (7, 3, 9, 1)
    commands = await server.wait_for(3)
    assert commands[2][4:] == [b"argument3", b"argument4", b"argument5"]
    server.answer(2)
    server.answer(3, 4, 5)
    assert await outcome(second) == (7, 3, 9, 2)
    assert [await outcome(future) for future in later] == [(7, 3, 9, number) for number in (3, 4, 5)]


async def test_a_call_has_at_the_most_so_many_requests(server: FakeServer) -> None:
    """One request more than a call may carry goes into a second call of the same turn, in order."""
    lane = await server.start()
    count = limits.CALL_REQUESTS + 1
    futures = [ask(lane, number) for number in range(count)]
    first, second = await server.wait_for(2)
    assert len(first) == 4 + count - 1
    assert second[4:] == [b"argument%d" % (count - 1)]
    server.answer(*range(count - 1))
    server.answer(count - 1)
    assert [await outcome(future) for future in futures] == [(7, 3, 9, number) for number in range(count)]


@pytest.mark.parametrize(
    ("positions", "calls"),
    [((512,), [1]), ((513,), [1]), ((511, 1), [2]), ((512, 1), [1, 1]), ((200, 200, 112, 1, 511), [3, 2])],
)
async def test_a_call_touches_at_the_most_so_many_positions(
    server: FakeServer, positions: tuple[int, ...], calls: list[int]
) -> None:
    """A call stays short for the server; a request that is larger by itself goes alone."""
    assert limits.CALL_POSITIONS == 512
    lane = await server.start()
    futures = [ask(lane, number, positions=count) for number, count in enumerate(positions)]
    commands = await server.wait_for(len(calls))
    assert [len(command) - 4 for command in commands] == calls
    for count in calls:
        server.answer(*[1] * count)
    assert [await outcome(future) for future in futures] == [(7, 3, 9, 1)] * len(positions)


async def test_too_many_wait(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a request is refused at once, unsent; an answer makes room."""
    monkeypatch.setattr(limits, "QUEUE_REQUESTS", 3)
    lane = await server.start()
    futures = [ask(lane, number) for number in range(3)]
    assert isinstance(await outcome(ask(lane, 3)), Overloaded)
    await server.wait_for(1)
    assert isinstance(await outcome(ask(lane, 4)), Overloaded)
    server.answer(0, 1, 2)
    await asyncio.gather(*futures)
    again = ask(lane, 5)
    await server.wait_for(2)
    server.answer(5)
    assert await outcome(again) == (7, 3, 9, 5)


async def test_answers_that_come_together_are_taken_call_by_call(server: FakeServer) -> None:
    """A server answers together what it got together. What the callers of the first call ask next is on its
    way before those of the second wake: else server and callers would work in turns for ever.
    """
    lane = await server.start(turns=2)
    calls_at_waking: list[int] = []

    async def caller(number: int) -> None:
        await ask(lane, number)
        calls_at_waking.append(server.metrics.calls)
        await ask(lane, number + 10)

    first = asyncio.ensure_future(caller(1))
    await server.wait_for(1)
    second = asyncio.ensure_future(caller(2))
    await server.wait_for(2)
    server.say(reply(1) + reply(2))
    await server.wait_for(4)
    assert calls_at_waking == [2, 3]
    server.say(reply(11) + reply(12))
    await asyncio.gather(first, second)


async def test_many_at_once_fill_the_calls(server: FakeServer) -> None:
    """Requests sent together join what waits, spread over as many calls as they need, and each future has
    the answers of its own, in order.
    """
    lane = await server.start()
    lone, count = ask(lane, 0), limits.CALL_REQUESTS + 9
    sent = lane.submit_many(RESERVE, [(bulk(b"argument%d" % number), 1) for number in range(1, count)])
    later = ask(lane, count)
    first, second = await server.wait_for(2)
    assert first[4:] + second[4:] == [b"argument%d" % number for number in range(count + 1)]
    assert [many for many, _ in sent] == [limits.CALL_REQUESTS - 1, 9]
    server.answer(*range(limits.CALL_REQUESTS))
    server.answer(*range(limits.CALL_REQUESTS, count + 1))
    found = [await outcome(future) for _, future in sent]
    assert [number for answer in found for number in answer[3]] == list(range(1, count))
    assert [await outcome(lone), await outcome(later)] == [(7, 3, 9, 0), (7, 3, 9, count)]
    assert (server.metrics.calls, server.metrics.requests) == (2, count + 1)


async def test_many_at_once_keep_to_the_positions_of_a_call(server: FakeServer) -> None:
    """A request that is larger than a call goes alone; nothing waits behind it for ever."""
    lane = await server.start()
    sizes = (200, 313, 600, 1, 511, 1)
    sent = lane.submit_many(RESERVE, [(bulk(b"%d" % size), size) for size in sizes])
    commands = await server.wait_for(5)
    assert [command[4:] for command in commands] == [[b"200"], [b"313"], [b"600"], [b"1", b"511"], [b"1"]]
    assert [many for many, _ in sent] == [1, 1, 1, 2, 1]


async def test_many_at_once_are_refused_together(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not all of them may wait, none is sent."""
    monkeypatch.setattr(limits, "QUEUE_REQUESTS", 3)
    lane = await server.start()
    requests = [(bulk(b"%d" % number), 1) for number in range(4)]
    ((many, future),) = lane.submit_many(RESERVE, requests)
    assert many == 4
    assert isinstance(await outcome(future), Overloaded)
    ((many, future),) = lane.submit_many(RESERVE, requests[:3])
    await server.wait_for(1)
    server.answer(1, 2, 3)
    assert await outcome(future) == (7, 3, 9, [1, 2, 3])


async def test_many_at_once_lose_their_connection(server: FakeServer) -> None:
    """What was sent is unknown; what comes after is refused."""
    lane = await server.start()
    ((_, future),) = lane.submit_many(RESERVE, [(bulk(b"%d" % number), 1) for number in range(3)])
    await server.wait_for(1)
    server.hang_up()
    assert isinstance(await outcome(future), Unconfirmed)
    ((many, refused),) = lane.submit_many(RESERVE, [(bulk(b"1"), 1)] * 2)
    assert many == 2
    assert isinstance(await outcome(refused), StorageUnavailable)


async def test_a_lost_connection(server: FakeServer) -> None:
    """Written requests are unknown, unwritten ones had no effect; nothing is sent twice."""
    lane = await server.start(turns=1)
    answered = ask(lane, 0)
    await server.wait_for(1)
    server.answer(0)
    assert await outcome(answered) == (7, 3, 9, 0)
    written = [ask(lane, number) for number in (1, 2)]
    await server.wait_for(2)
    waiting = [ask(lane, number) for number in (3, 4)] + [ask(lane, 5, COMMIT)]
    server.hang_up()
    assert [type(await outcome(future)) for future in written] == [Unconfirmed] * 2
    assert [type(await outcome(future)) for future in waiting] == [StorageUnavailable] * 3
    await lane.closed
    assert not lane.is_open
    assert isinstance(await outcome(ask(lane, 6)), StorageUnavailable)
    assert len(server.commands) == 2


async def test_a_connection_that_is_lost_between_two_replies(server: FakeServer) -> None:
    """Of two that came together one was taken; the other belongs to a request that is unknown by now."""
    lane, faults = await server.start(turns=1), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    first, second = ask(lane, 1), ask(lane, 2, COMMIT)
    await server.wait_for(2)
    lane.data_received(reply(1) + reply(2))
    lane.connection_lost(None)
    # The commit left first, and its answer came first.
    assert isinstance(await outcome(first), Unconfirmed)
    assert await outcome(second) == (7, 3, 9, 1)
    await asyncio.sleep(0)
    assert faults == []


async def test_a_server_that_turns_us_away(server: FakeServer) -> None:
    """What it says unasked ends the connection, and nothing else."""
    lane, faults = await server.start(), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    server.say(b"-ERR max number of clients reached\r\n")
    async with asyncio.timeout(5):
        await lane.closed
    assert faults == []


async def test_a_connection_that_is_lost_in_the_middle_of_a_reply(server: FakeServer) -> None:
    """Half a reply is no reply: every request of the call is unknown."""
    lane = await server.start()
    futures = [ask(lane, number) for number in range(2)]
    await server.wait_for(1)
    server.say(reply(1, 2)[:-4])
    await asyncio.sleep(0.01)
    server.hang_up()
    assert [type(await outcome(future)) for future in futures] == [Unconfirmed] * 2


@pytest.mark.parametrize("step", [1, 2, 3, 7, 16])
async def test_replies_in_pieces(server: FakeServer, step: int) -> None:
    """Wherever the network cuts, each request gets its own answer."""
    lane = await server.start()
    futures = [ask(lane, number, script) for number, script in enumerate((COMMIT, RELEASE, RESERVE))]
    await server.wait_for(3)
    text = reply(0) + b"-OOM command not allowed\r\n" + reply(2)
    for at in range(0, len(text), step):
        lane.data_received(text[at : at + step])
    first, second, third = [await outcome(future) for future in futures]
    assert (first, third) == ((7, 3, 9, 0), (7, 3, 9, 2))
    assert isinstance(second, MemoryFull)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", MemoryFull),
        ("NOREPLICAS Not enough good replicas to write.", ReplicasUnavailable),
        ("MISCONF Redis is configured to save", StorageUnavailable),
        ("LOADING Redis is loading the dataset in memory", StorageUnavailable),
        ("READONLY You can't write against a read only replica.", StorageUnavailable),
        ("MASTERDOWN Link with MASTER is down", StorageUnavailable),
        ("CLUSTERDOWN Hash slot not served", StorageUnavailable),
        ("BUSY Redis is busy running a script", StorageUnavailable),
        ("NODATASET this server holds no Bincard data set", StorageUnavailable),
        ("NOAUTH Authentication required.", StorageUnavailable),
        ("NOPERM this user has no permissions", StorageUnavailable),
        ("ERR user_function:12: attempt to compare nil", Unconfirmed),
        ("WRONGTYPE Operation against a key", Unconfirmed),
        ("OOMPH unknown", Unconfirmed),
    ],
)
async def test_errors_of_the_server(server: FakeServer, text: str, error: type[BincardError]) -> None:
    """A refused call had no effect; an error that we do not know may have had one. The next call works."""
    lane = await server.start()
    futures = [ask(lane, number) for number in range(2)]
    await server.wait_for(1)
    server.say(b"-" + text.encode() + b"\r\n")
    assert [type(await outcome(future)) for future in futures] == [error] * 2
    again = ask(lane, 2)
    await server.wait_for(2)
    server.answer(2)
    assert await outcome(again) == (7, 3, 9, 2)
    assert server.loads == 0


async def test_a_server_that_lost_the_library(server: FakeServer) -> None:
    """It ran nothing: the library is loaded and the call is sent once more, unchanged."""
    lane = await server.start(turns=1)
    future = ask(lane, 1)
    await server.wait_for(1)
    server.say(b"-ERR Function not found\r\n")
    commands = await server.wait_for(2)
    assert commands[0] == commands[1]
    assert server.loads == 1
    server.answer(9)
    assert await outcome(future) == (7, 3, 9, 9)
    following = ask(lane, 2)
    await server.wait_for(3)
    server.answer(2)
    assert await outcome(following) == (7, 3, 9, 2)


async def test_others_go_on_while_the_library_is_loaded(server: FakeServer) -> None:
    """A call that is sent again does not shift the answers of those behind it."""
    lane = await server.start()
    first, second = ask(lane, 1, COMMIT), ask(lane, 2, RESERVE)
    await server.wait_for(2)
    server.say(b"-ERR Function not found\r\n" + reply(22))
    assert await outcome(second) == (7, 3, 9, 22)
    commands = await server.wait_for(3)
    assert commands[2] == commands[0]
    server.answer(11)
    assert await outcome(first) == (7, 3, 9, 11)


async def test_the_library_is_loaded_once_for_a_call(server: FakeServer) -> None:
    """A server that still does not know the function gets the call no third time."""
    lane = await server.start()
    future = ask(lane, 1)
    await server.wait_for(1)
    server.say(b"-ERR Function not found\r\n")
    await server.wait_for(2)
    server.say(b"-ERR Function not found\r\n")
    assert isinstance(await outcome(future), (Unconfirmed, StorageUnavailable))
    await asyncio.sleep(0.01)
    assert (len(server.commands), server.loads) == (2, 1)


async def test_a_library_that_cannot_be_loaded(server: FakeServer) -> None:
    """No effect, and said so; the connection stays."""
    server.load_error = RuntimeError("no memory for it")
    lane = await server.start()
    future = ask(lane, 1)
    await server.wait_for(1)
    server.say(b"-ERR Function not found\r\n")
    assert isinstance(await outcome(future), StorageUnavailable)
    assert len(server.commands) == 1
    assert lane.is_open


async def test_an_answer_that_does_not_come(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time limit the connection is given up and what was written is unknown."""
    monkeypatch.setattr(limits, "CALL_TIMEOUT_SECONDS", 0.05)
    lane = await server.start(turns=1)
    written = ask(lane, 1)
    await server.wait_for(1)
    waiting = ask(lane, 2)
    assert isinstance(await outcome(written), Unconfirmed)
    assert isinstance(await outcome(waiting), StorageUnavailable)
    assert not lane.is_open


async def take_turns(server: FakeServer, lane: Lane, clock: Clock, seconds: float) -> None:
    """Asks before the request before has its answer, again and again; an answer comes every so often."""
    waiting = ask(lane, 0)
    await server.wait_for(1)
    for number in range(1, 20):
        following = ask(lane, number)
        await server.wait_for(number + 1)
        await clock.pass_by(seconds)
        server.answer(number - 1)
        assert await outcome(waiting) == (7, 3, 9, number - 1)
        waiting = following


async def test_the_time_limit_is_for_each_answer(
    server: FakeServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lane that was idle, or that gets answers one after the other, is not given up."""
    monkeypatch.setattr(limits, "STALL_SECONDS", 100.0)
    monkeypatch.setattr(limits, "CALL_TIMEOUT_SECONDS", 100.0)
    lane = await server.start()
    await clock.pass_by(1000)
    await take_turns(server, lane, clock, 60)
    assert lane.is_open


async def test_a_caller_that_gave_up(server: FakeServer) -> None:
    """A cancelled request's answer reaches nobody, least of all another request."""
    lane = await server.start()
    futures = [ask(lane, number) for number in range(3)]
    futures[1].cancel()
    await server.wait_for(1)
    server.answer(10, 11, 12)
    assert await outcome(futures[0]) == (7, 3, 9, 10)
    assert await outcome(futures[2]) == (7, 3, 9, 12)
    gone = ask(lane, 4)
    await server.wait_for(2)
    gone.cancel()
    server.say(b"-OOM full\r\n")
    after = ask(lane, 5)
    await server.wait_for(3)
    server.answer(5)
    assert await outcome(after) == (7, 3, 9, 5)


async def test_the_greeting_comes_first(server: FakeServer) -> None:
    """Its replies are nobody's answers."""
    lane = await server.start(greeting=((b"AUTH", b"user", b"secret"), (b"SELECT", b"2")))
    future = ask(lane, 1)
    commands = await server.wait_for(3)
    assert commands[:2] == [[b"AUTH", b"user", b"secret"], [b"SELECT", b"2"]]
    server.say(b"+OK\r\n+OK\r\n" + reply(1))
    assert await outcome(future) == (7, 3, 9, 1)


async def test_a_refused_greeting(server: FakeServer) -> None:
    """A lane that may not come in closes; what was asked of it is not answered with success."""
    lane = await server.start(greeting=((b"AUTH", b"user", b"wrong"),))
    future = ask(lane, 1)
    await server.wait_for(2)
    server.say(b"-WRONGPASS invalid username-password pair\r\n-NOAUTH Authentication required.\r\n")
    assert isinstance(await outcome(future), (Unconfirmed, StorageUnavailable))
    await lane.closed


@pytest.mark.parametrize("text", [reply(1), b"*-1\r\n", b"+OK\r\n", b":1\r\n"])
async def test_a_reply_that_is_too_short(server: FakeServer, text: bytes) -> None:
    """Every request of the call is unknown, and none waits for ever."""
    lane = await server.start()
    futures = [ask(lane, number) for number in range(2)]
    await server.wait_for(1)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    server.say(text)
    async with asyncio.timeout(limits.CALL_TIMEOUT_SECONDS - 1):
        found = [await outcome(future) for future in futures]
    assert isinstance(found[-1], Unconfirmed)


async def test_many_requests_and_their_answers(server: FakeServer) -> None:
    """A thousand requests of four verbs, answered by what they asked: none gets another's answer."""
    lane = await server.start()
    scripts = (READ, RESERVE, RELEASE, COMMIT)

    async def caller(number: int) -> bool:
        await asyncio.sleep(number % 7 / 1000)
        answer = await ask(lane, number, scripts[number % 4])
        return bool(answer == (7, 3, 9, number))

    async def serve() -> None:
        seen = 0
        while True:
            await asyncio.sleep(0.001)
            for command in server.commands[seen:]:
                numbers = [int(word[8:]) for word in command if word.startswith(b"argument")]
                server.answer(*numbers)
                seen += 1

    serving = asyncio.get_running_loop().create_task(serve())
    async with asyncio.timeout(10):
        assert all(await asyncio.gather(*(caller(number) for number in range(1000))))
    serving.cancel()
    assert server.metrics.requests == 1000
    assert server.metrics.calls < 400


async def test_a_server_that_stops_to_answer(
    server: FakeServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes then is refused at once and is never sent; the first answer opens the lane again."""
    monkeypatch.setattr(limits, "STALL_SECONDS", 60.0)
    monkeypatch.setattr(limits, "CALL_TIMEOUT_SECONDS", 600.0)
    lane = await server.start()
    first = ask(lane, 1)
    await server.wait_for(1)
    await clock.pass_by(30)
    assert lane.requests_stuck == 0
    await clock.pass_by(31)
    assert lane.is_open
    assert lane.requests_stuck == 1
    assert isinstance(await outcome(ask(lane, 2)), StorageUnavailable)
    ((count, refused),) = lane.submit_many(RESERVE, [(bulk(b"a"), 1), (bulk(b"b"), 1)])
    assert count == 2
    assert isinstance(await outcome(refused), StorageUnavailable)
    server.answer(10)
    assert await outcome(first) == (7, 3, 9, 10)
    assert lane.requests_stuck == 0
    again = ask(lane, 3)
    assert len(await server.wait_for(2)) == 2
    server.answer(30)
    assert await outcome(again) == (7, 3, 9, 30)
    assert server.metrics.stalls == 1


async def test_answers_in_time_are_no_stall(
    server: FakeServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long requests keep coming, as long as their answers do."""
    monkeypatch.setattr(limits, "STALL_SECONDS", 60.0)
    monkeypatch.setattr(limits, "CALL_TIMEOUT_SECONDS", 600.0)
    await take_turns(server, await server.start(), clock, 25)
    assert server.metrics.stalls == 0


async def test_the_greeting_is_waited_for(server: FakeServer) -> None:
    """A connection is no sign of life; an answer is."""
    lane = await server.start(greeting=((b"PING",),))
    await server.wait_for(1)
    assert not lane.greeted.done()
    server.say(b"+PONG\r\n")
    async with asyncio.timeout(5):
        await lane.greeted
    assert lane.is_open
