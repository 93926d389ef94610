"""Callers who send too much, too slowly, or do not read: each is answered or cut off, and others go on."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from api.limits import MOST_HEADERS, MOST_PIPELINED, MOST_REQUEST_LINE_BYTES, REACHABLE, Limits
from tests.api.service import (
    Answer,
    Service,
    expect_problem,
    fresh_key,
    raw_request,
    read_answer,
    running,
    send_raw,
)
from tests.servers import Server

SHORT = Limits(
    max_body_bytes=64 * 1024,
    max_head_bytes=4096,
    head_seconds=0.6,
    body_seconds=0.6,
    unread_seconds=0.6,
    idle_seconds=1.2,
    min_bytes_per_second=64 * 1024,
    max_arriving_bytes=256 * 1024,
    max_unread_bytes=1024 * 1024,
    max_connections=40,
)
SOON_SECONDS = 15.0
"""Far from the deadlines above, and near enough to tell that there is one."""
GET = raw_request("GET", "/v1/availability/none")
COLD, HOT = "/v1/stock/movements", "/v1/reservations"


@pytest.fixture(scope="module")
def short(stock_server: Server) -> Iterator[Service]:
    """A worker with little patience."""
    with running("hot", stock_server.url, worker=7, variables=SHORT.as_variables()) as service:
        yield service


@pytest.fixture
def thorough(stock_server: Server) -> Iterator[Service]:
    """One to which what arrives is worth much time."""
    limits = replace(SHORT, min_bytes_per_second=8 * 1024)
    with running("hot", stock_server.url, worker=8, variables=limits.as_variables()) as service:
        yield service


@asynccontextmanager
async def connected(service: Service) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side ends it."""
    async with asyncio.timeout(SOON_SECONDS):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


def reached(service: Service, limit: str) -> int:
    """How often the worker says that a limit was reached."""
    text = service.ask("GET", "/metrics").body.decode()
    found = re.search(rf'^bincard_limits_reached_total{{limit="{limit}"}} (\d+)$', text, re.MULTILINE)
    assert found is not None
    return int(found[1])


async def trickle(writer: asyncio.StreamWriter, raw: bytes, seconds: float = 0.05) -> None:
    """Sends a byte at a time."""
    try:
        for at in range(len(raw)):
            writer.write(raw[at : at + 1])
            await writer.drain()
            await asyncio.sleep(seconds)
    except ConnectionError:
        pass


def chunked(path: str) -> bytes:
    """The head of a request with a body in chunks."""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


# -------------------------------------------------------------------- too slow


@pytest.mark.parametrize("before", [b"", GET])
async def test_a_head_that_never_ends(short: Service, before: bytes) -> None:
    counted = reached(short, "head_time")
    async with connected(short) as (reader, writer):
        writer.write(before)
        if before:
            assert (await read_answer(reader)).status == 404
        sending = asyncio.create_task(trickle(writer, b"GET / HTTP/1.1\r\nX: " + b"x" * 1000))
        expect_problem(await read_answer(reader), 408, "request_timeout")
        assert await ended(reader) == b""
        sending.cancel()
    assert reached(short, "head_time") == counted + 1


@pytest.mark.parametrize("path", [HOT, COLD])
async def test_a_body_that_never_ends(short: Service, path: str) -> None:
    counted = reached(short, "body_time")
    async with connected(short) as (reader, writer):
        writer.write(chunked(path))
        sending = asyncio.create_task(trickle(writer, b"1\r\n{\r\n" * 1000))
        answer = await read_answer(reader)
        expect_problem(answer, 408, "request_timeout", instance=path)
        assert answer.headers["connection"] == "close"
        assert await ended(reader) == b""
        sending.cancel()
    assert reached(short, "body_time") == counted + 1


async def test_a_body_that_moves_has_longer(thorough: Service) -> None:
    """Its bytes add to its time: 48 kB at 8 kB a second are six seconds more."""
    body = b" " * 48 * 1024 + b"{}"
    async with connected(thorough) as (reader, writer):
        writer.write(
            b"POST /v1/reservations HTTP/1.1\r\nIdempotency-Key: k\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        half = len(body) - 2
        writer.write(body[:half])
        await asyncio.sleep(SHORT.body_seconds + 0.35)
        writer.write(body[half:])
        expect_problem(await read_answer(reader), 422, "invalid_request")


async def test_silence_is_ended(short: Service) -> None:
    """After a request or before any, with nothing or with line ends, which begin no request."""
    counted = reached(short, "idle")
    for sent in (b"", b"\r\n\r\n", GET):
        began = time.monotonic()
        async with connected(short) as (reader, writer):
            writer.write(sent)
            if sent == GET:
                await read_answer(reader)
            assert await ended(reader) == b""
            assert time.monotonic() - began > SHORT.idle_seconds - 0.3
    assert reached(short, "idle") >= counted + 3


async def test_who_asks_now_and_then_stays_connected(short: Service) -> None:
    async with connected(short) as (reader, writer):
        for _ in range(7):
            writer.write(GET)
            assert (await read_answer(reader)).status == 404
            await asyncio.sleep(SHORT.idle_seconds / 4)


# -------------------------------------------------------------------- too much


async def test_a_head_that_is_too_large(short: Service) -> None:
    """In one piece or in many, of one header or of many, on every route."""
    many = {f"X-{number}": "y" for number in range(MOST_HEADERS + 1)}
    for raw, status, code in (
        (raw_request("GET", "/v1/availability/none", X="y" * 5000), 431, "headers_too_large"),
        (raw_request("GET", "/v1/locations", X="y" * 5000), 431, "headers_too_large"),
        (raw_request("GET", "/v1/availability/none", X="y" * 300_000), 431, "headers_too_large"),
        (raw_request("GET", "/v1/availability/none", **many), 431, "headers_too_large"),
        (raw_request("GET", "/v1/availability/" + "y" * MOST_REQUEST_LINE_BYTES), 414, "uri_too_long"),
    ):
        (answer,) = await send_raw(short.port, raw)
        expect_problem(answer, status, code)
        assert answer.headers["connection"] == "close"
    pieces = [b"GET / HTTP/1.1\r\nX: ", *[b"y" * 1000] * 5]
    (answer,) = await send_raw(short.port, *pieces)
    expect_problem(answer, 431, "headers_too_large")
    assert short.ask("GET", "/v1/locations").status == 200


async def test_what_came_before_a_head_that_is_too_large_is_answered(short: Service) -> None:
    async with connected(short) as (reader, writer):
        writer.write(GET + raw_request("GET", "/", X="y" * 5000))
        assert (await read_answer(reader)).status == 404
        await ended(reader)


@pytest.mark.parametrize("path", [HOT, COLD])
async def test_a_body_without_end(short: Service, path: str) -> None:
    """It is refused as soon as it is too large, and the refusal arrives though more is on its way."""
    async with connected(short) as (reader, writer):
        writer.write(chunked(path))
        part = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
        for _ in range(4):
            writer.write(part)
        expect_problem(await read_answer(reader), 413, "payload_too_large", instance=path)
        await ended(reader)


@pytest.mark.parametrize("path", [HOT, COLD])
async def test_chunks_of_nothing_much(short: Service, path: str) -> None:
    """Extensions of chunks and trailers carry nothing, and have the same end."""
    for rest in (b"1;" + b"x" * 200_000, b"0\r\n" + b"X: y\r\n" * 40_000):
        async with connected(short) as (reader, writer):
            writer.write(chunked(path) + rest)
            answer = await read_answer(reader)
            assert answer.status in {408, 413}, answer
            await ended(reader)


async def test_a_body_that_is_announced_too_large_is_not_asked_for(short: Service) -> None:
    head = b"POST /v1/reservations HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n"
    (answer,) = await send_raw(short.port, head)
    expect_problem(answer, 413, "payload_too_large")


async def test_trailers_are_not_headers(short: Service) -> None:
    goods = b'{"lines":[{"sku":"A","quantity":1,"location":"s7"}]}'
    transfer = b'{"from":"s7","to":"w1","lines":[{"sku":"A","quantity":1}]}'
    for path, raw in ((HOT, goods), ("/v1/transfers", transfer)):
        body = b"%x\r\n%b\r\n0\r\nIdempotency-Key: other\r\n\r\n" % (len(raw), raw)
        (answer,) = await send_raw(short.port, chunked(path) + body)
        expect_problem(answer, 400, "idempotency_key_missing")


async def test_a_refusal_is_not_overtaken(short: Service) -> None:
    """Whoever goes on sending for a moment gets the answer, and no reset."""
    async with connected(short) as (reader, writer):
        writer.write(chunked(HOT) + b"14000\r\n" + b" " * 0x14000)
        for _ in range(3):
            await asyncio.sleep(0.2)
            writer.write(b" " * 1000)
        await asyncio.sleep(0.2)
        expect_problem(await read_answer(reader), 413, "payload_too_large")


async def test_many_bodies_at_once(short: Service) -> None:
    """Ten of them are more than may be on their way together: some are refused, none is lost."""
    part = b"7000\r\n" + b" " * 0x7000 + b"\r\n"
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(send_raw(short.port, chunked(HOT) + part)) for _ in range(20)]
    codes = [task.result()[0].json()["code"] for task in asked]
    assert set(codes) == {"overloaded", "request_timeout"}
    assert reached(short, "arriving_bytes") == codes.count("overloaded")
    (answer,) = await send_raw(short.port, GET)
    assert answer.status == 404


async def test_more_in_a_row_than_may_wait(short: Service) -> None:
    one = b"GET /v1/availability/no-such-sku HTTP/1.1\r\n\r\n"
    async with connected(short) as (reader, writer):
        writer.write(one * (MOST_PIPELINED + 500))
        sending = asyncio.create_task(trickle(writer, one * 1000, 0.0))
        whole = await ended(reader)
        sending.cancel()
    assert MOST_PIPELINED <= whole.count(b"HTTP/1.1 ") <= MOST_PIPELINED + 300


async def test_reads_that_end_within_a_head(short: Service) -> None:
    """What came before a head in the same read is no part of it, nor is the head before it."""
    one = b"GET /v1/availability/no-such-sku HTTP/1.1\r\n\r\n"
    whole = one * 400
    assert len(one) * 100 > SHORT.max_head_bytes
    async with connected(short) as (reader, writer):
        at = 0
        for size in (len(one) * 100 + 20, len(one) * 100 + 7, len(one) * 100 - 20):
            writer.write(whole[at : at + size])
            at += size
            for _ in range(100):
                assert (await read_answer(reader)).status == 404
        writer.write(whole[at:])
        for _ in range(100):
            assert (await read_answer(reader)).status == 404


# -------------------------------------------------------------------- answers that nobody reads


async def test_answers_that_nobody_reads(short: Service) -> None:
    counted = reached(short, "unread_time")
    sku, _ = short.stocked()
    one = raw_request("POST", "/v1/availability/query", {"skus": [sku] * 1000, "detail": True})
    with socket.socket() as unread:
        # What the system keeps for either side is no concern of ours, and should not take long to fill.
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        unread.connect(("127.0.0.1", short.port))
        unread.setblocking(False)
        loop = asyncio.get_running_loop()
        sending = asyncio.create_task(loop.sock_sendall(unread, one * 100))
        end = time.monotonic() + SOON_SECONDS
        while reached(short, "unread_time") == counted:
            assert time.monotonic() < end, "nobody cut it off"
            await asyncio.sleep(0.1)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        async with asyncio.timeout(SOON_SECONDS):
            with suppress(ConnectionError):
                while await loop.sock_recv(unread, 65_536):
                    pass


# -------------------------------------------------------------------- many connections


async def test_idle_connections_make_room(short: Service) -> None:
    """Whoever keeps all places without asking loses some to those who ask."""
    counted = reached(short, "idle_pressed") + reached(short, "connections") + reached(short, "idle")
    crowd = [await asyncio.open_connection("127.0.0.1", short.port) for _ in range(39)]
    end = time.monotonic() + SOON_SECONDS
    while True:
        try:
            (answer,) = await send_raw(short.port, GET)
        except (ConnectionError, asyncio.IncompleteReadError):
            answer = Answer(503, {}, b"")
        if answer.status == 404:
            break
        assert time.monotonic() < end
        await asyncio.sleep(0.1)
    for reader, _ in crowd:
        await ended(reader)
    for _, writer in crowd:
        writer.close()
    after = reached(short, "idle_pressed") + reached(short, "connections") + reached(short, "idle")
    assert after >= counted + 39


async def test_attackers_do_not_slow_others(short: Service) -> None:
    """In small what `benchmarks/hostile.py` does in large: everybody else is answered throughout."""
    stop = asyncio.Event()

    async def attack(raw: bytes) -> None:
        while not stop.is_set():
            async with connected(short) as (reader, writer):
                await trickle(writer, raw)
                await ended(reader)

    attackers = [
        asyncio.create_task(attack(raw))
        for raw in (b"GET /v1", chunked(HOT) + b"5\r\n12", chunked(COLD) + b"5\r\n12", b"\r\n")
        for _ in range(5)
    ]
    async with connected(short) as (reader, writer):
        for _ in range(40):
            writer.write(GET)
            assert (await read_answer(reader)).status == 404
            await asyncio.sleep(0.05)
    stop.set()
    for task in attackers:
        task.cancel()
    await asyncio.gather(*attackers, return_exceptions=True)


def test_every_limit_is_documented() -> None:
    page = Path(__file__).parents[2].joinpath("docs/operating/limits.md").read_text(encoding="utf-8")
    for limit in REACHABLE:
        assert f"`{limit}`" in page, limit
    for option in Limits.__struct_fields__:
        assert f"--{option.replace('_', '-')}" in page, option


async def test_headers_that_guard(service: Service) -> None:
    """Of every answer, hot and cold, good and bad; and none that tells what serves it."""
    location = service.open_location()
    for path in ("/v1/availability/none", f"/v1/locations/{location}", "/nothing", "/docs", "/openapi.json"):
        headers = service.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    page = service.ask("GET", "/problems/overloaded", None, {"Accept": "text/html"})
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert fresh_key()
