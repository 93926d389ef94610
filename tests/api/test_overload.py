"""A worker that has more to do than it can: who is refused, how soon, and what comes after.

The stock server is stopped, so that whatever is let in stays under way: nothing depends on how fast the
machine is. A few requests with long bodies, which count by their size, fill the worker.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from api.admission import FIRST, operations_of
from api.limits import Limits
from engine.topology.embedded import EmbeddedServer
from tests.api.service import Answer, Service, expect_problem, fresh_key, raw_request, read_answer, running

MANY = 200
PADDING = b" " * 300_000
FILLING = 1 + FIRST // operations_of(len(PADDING))
LONG_SECONDS = 90.0
"""Longer than anything here takes on a slow machine."""
NOT_GIVEN_UP = (
    f"engine.limits.CALL_TIMEOUT_SECONDS={LONG_SECONDS} engine.settings.FRESH_SECONDS={LONG_SECONDS}"
)
"""Constants of a worker whose requests wait so long for a server that is stopped, and need not ask it for
settings meanwhile.
"""
UNHURRIED = (
    f"engine.limits.STALL_SECONDS={LONG_SECONDS} api.admission.LATE_SECONDS={LONG_SECONDS} "
    "api.admission.BUSY=inf"
)
"""And of one for which its server does not count as gone, that refuses late rather than not at all, and for
which a processor that others take is no reason to refuse less.
"""
SOON_SECONDS = 20.0
"""Far from what is promised, and far from that."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server that a test may stop."""
    with EmbeddedServer.start(tmp_path / "server", durability="none") as found:
        yield found
        os.kill(found.pid, signal.SIGCONT)


@pytest.fixture
def overloaded(server: EmbeddedServer) -> Iterator[Service]:
    """A worker on that server, which has patience with it."""
    variables = {"BINCARD_TEST_CONSTANTS": f"{NOT_GIVEN_UP} {UNHURRIED}"}
    with running("hot", server.url, variables=variables) as service:
        yield service
        os.kill(server.pid, signal.SIGCONT)


@pytest.fixture
def impatient(server: EmbeddedServer) -> Iterator[Service]:
    """A worker that notices as soon as any that its server is stopped, and does not give it up."""
    with running("hot", server.url, variables={"BINCARD_TEST_CONSTANTS": NOT_GIVEN_UP}) as service:
        yield service
        os.kill(server.pid, signal.SIGCONT)


class Caller:
    """A connection with one request under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self.answer: asyncio.Task[Answer] | None = None
        self.seconds = 0.0

    def ask(self, *parts: bytes) -> None:
        self.answer = asyncio.get_running_loop().create_task(self._ask(parts))

    async def _ask(self, parts: Sequence[bytes]) -> Answer:
        begun = time.perf_counter()
        for part in parts:
            self.writer.write(part)
            await asyncio.sleep(0)
        answer = await read_answer(self._reader)
        self.seconds = time.perf_counter() - begun
        return answer

    def has_answer(self) -> bool:
        return self.answer is not None and self.answer.done()

    async def take(self) -> Answer:
        assert self.answer is not None
        return await self.answer


@asynccontextmanager
async def callers(service: Service, count: int) -> AsyncIterator[list[Caller]]:
    """So many connections."""
    opened = [Caller(*await asyncio.open_connection("127.0.0.1", service.port)) for _ in range(count)]
    try:
        yield opened
    finally:
        for one in opened:
            if one.answer is not None:
                one.answer.cancel()
            one.writer.close()


def reserve(sku: str, location: str, padding: bytes = b"") -> bytes:
    body = {"lines": [{"sku": sku, "quantity": 1, "location": location}]}
    return raw_request("POST", "/v1/reservations", body, padding, Idempotency_Key=fresh_key())


async def refused(asked: Sequence[Caller], count: int) -> list[Caller]:
    """The callers that have an answer, once there are at least so many."""
    async with asyncio.timeout(SOON_SECONDS):
        while len(found := [one for one in asked if one.has_answer()]) < count:  # noqa: ASYNC110 - of many tasks
            await asyncio.sleep(0.002)
    return found


def under_way(service: Service) -> int:
    text = service.ask("GET", "/metrics").body.decode()
    (line,) = (one for one in text.splitlines() if one.startswith("bincard_operations_under_way{"))
    return int(line.split()[-1])


@asynccontextmanager
async def filled(service: Service, server: EmbeddedServer) -> AsyncIterator[list[Caller]]:
    """A worker that has no room for reserves: its server stands still. Yields those who fill it."""
    sku, location = service.stocked(FILLING)
    async with callers(service, FILLING) as filling:
        os.kill(server.pid, signal.SIGSTOP)
        for one in filling:
            one.ask(reserve(sku, location, PADDING))
        async with asyncio.timeout(SOON_SECONDS):
            while under_way(service) <= FIRST:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.002)
        yield filling


async def test_the_rest_is_refused_at_once(overloaded: Service, server: EmbeddedServer) -> None:
    """What the server does not get to is refused with Retry-After, has no effect, and is asked again with
    success as soon as the server goes on: nobody has to do anything for it.
    """
    sku, location = overloaded.stocked(10 * MANY)
    async with callers(overloaded, MANY) as asked, filled(overloaded, server) as filling:
        for one in asked:
            one.ask(reserve(sku, location))
        for one in await refused(asked, MANY):
            answer = await one.take()
            expect_problem(answer, 503, "overloaded")
            assert answer.headers["retry-after"] == "1"
            assert one.seconds < SOON_SECONDS
        os.kill(server.pid, signal.SIGCONT)
        assert {(await one.take()).status for one in filling} == {201}
        for one in asked:
            one.ask(reserve(sku, location))
        assert {(await one.take()).status for one in asked} == {201}
    assert overloaded.position(sku, location)["held"] == MANY
    assert overloaded.ask("GET", "/readyz").status == 200


async def test_commits_are_let_in_where_reserves_and_reads_are_not(
    overloaded: Service, server: EmbeddedServer
) -> None:
    """Reads and reserves find no room; commits and releases still do."""
    sku, location = overloaded.stocked(10 * MANY)
    held = [overloaded.reserve([(sku, location, 1)]).json()["id"] for _ in range(20)]
    paths = [
        f"/v1/reservations/{one}/{verb}" for one, verb in zip(held, ("commit", "release") * 10, strict=True)
    ]
    async with (
        callers(overloaded, 20) as late,
        callers(overloaded, 20) as more,
        callers(overloaded, 20) as readers,
        filled(overloaded, server),
    ):
        for one, path in zip(late, paths, strict=True):
            one.ask(raw_request("POST", path, {}))
        for one in more:
            one.ask(reserve(sku, location))
        for one in readers:
            one.ask(raw_request("GET", f"/v1/availability/{sku}"))
        await refused(more, 20)
        await refused(readers, 20)
        for one in (*more, *readers):
            expect_problem(await one.take(), 503, "overloaded")
        os.kill(server.pid, signal.SIGCONT)
        answers = [await one.take() for one in late]
    assert {answer.status for answer in answers} == {200}
    text = overloaded.ask("GET", "/metrics").body.decode()
    shed = {
        line.split('"')[1]: int(line.split()[-1])
        for line in text.splitlines()
        if line.startswith("bincard_requests_shed_total{")
    }
    assert shed == {"commit": 0, "release": 0, "reserve": 20, "read": 20}


async def test_a_stopped_server_is_told_and_comes_back(impatient: Service, server: EmbeddedServer) -> None:
    """After half a second without an answer new requests are refused at once, and `/readyz` says why."""
    sku, location = impatient.stocked()
    async with callers(impatient, 1) as (first,):
        os.kill(server.pid, signal.SIGSTOP)
        first.ask(reserve(sku, location))
        async with asyncio.timeout(SOON_SECONDS):
            while impatient.ask("GET", "/readyz").status == 200:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.01)
        begun = time.perf_counter()
        for _ in range(20):
            expect_problem(impatient.reserve([(sku, location, 1)]), 503, "storage_unavailable")
        assert time.perf_counter() - begun < SOON_SECONDS
        assert "stopped to answer" in impatient.ask("GET", "/readyz").body.decode()
        assert "bincard_server_stalls_total 1" in impatient.ask("GET", "/metrics").body.decode()
        os.kill(server.pid, signal.SIGCONT)
        assert (await first.take()).status == 201
    async with asyncio.timeout(SOON_SECONDS):
        while impatient.ask("GET", "/readyz").status != 200:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.01)
    assert impatient.reserve([(sku, location, 1)]).status == 201


async def test_requests_in_pieces_wait_and_are_refused_too(
    overloaded: Service, server: EmbeddedServer
) -> None:
    """Whole or in pieces, one or several on a connection, to be closed or not: each gets its refusal, and the
    connection goes on as it should.
    """
    sku, location = overloaded.stocked()
    read = raw_request("GET", f"/v1/availability/{sku}")
    async with callers(overloaded, 4) as odd, filled(overloaded, server):
        whole = reserve(sku, location)
        odd[0].ask(whole[:-5], whole[-5:])
        odd[1].ask(read + read)
        odd[2].ask(raw_request("GET", f"/v1/availability/{sku}", Connection="close"))
        odd[3].ask(raw_request("GET", f"/v1/availability/{sku}", X_Request_ID='my "own"'))
        answers = [await one.take() for one in odd]
        assert [answer.status for answer in answers] == [503] * 4
        assert answers[2].headers["connection"] == "close"
        assert answers[3].json()["request_id"] == 'my "own"'
        os.kill(server.pid, signal.SIGCONT)
        odd[0].ask(read)
        odd[3].ask(read)
        while (await odd[0].take()).status != 200:
            odd[0].ask(read)
        assert (await odd[3].take()).status in {200, 503}


async def test_who_goes_away_while_waiting_asks_for_nothing(
    overloaded: Service, server: EmbeddedServer
) -> None:
    """A request that was not read when its caller left is never sent."""
    sku, location = overloaded.stocked(100)
    async with callers(overloaded, 50) as gone, filled(overloaded, server) as filling:
        for one in gone:
            one.writer.write(reserve(sku, location))
            one.writer.close()
        await asyncio.gather(*(one.writer.wait_closed() for one in gone))
        # Behind them: once this has its answer, they were noticed too.
        assert overloaded.ask("GET", "/healthz").status == 200
        os.kill(server.pid, signal.SIGCONT)
        assert {(await one.take()).status for one in filling} == {201}
    assert overloaded.position(sku, location)["held"] == 0


async def test_one_connection_too_many(server: EmbeddedServer) -> None:
    """It gets the same refusal, whatever it asks, and is closed; the others go on."""
    limit = Limits(max_connections=3).as_variables()
    with running("hot", server.url, variables=limit) as service:
        sku, _ = service.stocked()
        read = raw_request("GET", f"/v1/availability/{sku}")
        async with callers(service, 2) as welcome:
            for one in welcome:
                one.ask(read)
                assert (await one.take()).status == 200
            async with callers(service, 1) as (over,):
                over.ask(read)
                answer = await over.take()
                expect_problem(answer, 503, "overloaded")
                assert answer.headers["retry-after"] == "1"
                assert answer.headers["connection"] == "close"
            welcome[0].ask(read)
            assert (await welcome[0].take()).status == 200
