"""Connections that are hostile, broken or odd, on the protocol that the product serves with."""

import asyncio
from typing import Any, cast

import pytest

from api.admission import Admission
from api.hot import Answer, Handler, Request
from api.limits import DEFAULT
from api.protocol import HotCycle
from tests.api.service import (
    Service,
    expect_problem,
    fresh_key,
    raw_request,
    read_answer,
    send_raw,
)

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"


def _reserve(sku: str, location: str, more: bytes = b"", key: str | None = None) -> bytes:
    body = {"lines": [{"sku": sku, "quantity": 1, "location": location}]}
    raw = raw_request("POST", "/v1/reservations", body, Idempotency_Key=key or fresh_key())
    return raw.replace(b"Host: shop\r\n", b"Host: shop\r\n" + more, 1)


# -------------------------------------------------------------------- offers of another protocol


@pytest.mark.parametrize("split", [False, True])
async def test_an_offer_of_another_protocol_is_ignored(hot_service: Service, split: bool) -> None:
    """The request keeps its body, wherever the packets end, and the next one is read too."""
    sku, location = hot_service.stocked()
    raw = _reserve(sku, location, UPGRADE) + raw_request("GET", "/healthz")
    head, _, rest = raw.partition(b"\r\n\r\n")
    parts = [head + b"\r\n\r\n", rest] if split else [raw]
    answers = await send_raw(hot_service.port, *parts, answers=2)
    assert [answer.status for answer in answers] == [201, 200]
    assert hot_service.position(sku, location)["held"] == 1


@pytest.mark.parametrize("path", ["/v1/reservations", "/v1/stock/movements"])
async def test_a_body_is_never_a_request(hot_service: Service, path: str) -> None:
    """Else whoever writes a body writes requests that nobody in front of us has seen."""
    location = hot_service.open_location()
    inner = f"DELETE /v1/locations/{location} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {fresh_key()}\r\n".encode()
    head += UPGRADE + b"Content-Length: %d\r\n\r\n" % len(inner)
    (answer,) = await send_raw(hot_service.port, head, inner)
    expect_problem(answer, 400, "malformed_json")
    assert hot_service.ask("GET", f"/v1/locations/{location}").status == 200


async def test_an_offer_of_another_protocol_keeps_the_close(hot_service: Service) -> None:
    raw = raw_request("GET", "/v1/availability/none", Connection="close, upgrade", Upgrade="websocket")
    reader, writer = await asyncio.open_connection("127.0.0.1", hot_service.port)
    writer.write(raw)
    assert (await read_answer(reader)).headers["connection"] == "close"
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_connect_is_refused(hot_service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hot_service.port)
    writer.write(b"CONNECT shop:443 HTTP/1.1\r\nHost: shop:443\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(5):
        whole = await reader.read()
    assert whole.startswith(b"HTTP/1.1 4")
    assert whole.count(b"HTTP/1.1 ") == 1
    writer.close()


# -------------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize("before", [0, 2])
async def test_garbage_behind_a_request_is_not_its_answer(hot_service: Service, before: int) -> None:
    """What took effect is answered so, and is the last of the connection."""
    sku, location = hot_service.stocked()
    first = raw_request("GET", "/healthz") * before
    reader, writer = await asyncio.open_connection("127.0.0.1", hot_service.port)
    writer.write(first + _reserve(sku, location) + b"\x00garbage\r\n\r\n")
    assert [(await read_answer(reader)).status for _ in range(before + 1)] == [200] * before + [201]
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_garbage_behind_a_cold_request(hot_service: Service) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hot_service.port)
    writer.write(raw_request("GET", "/v1/locations") + b"\x00garbage\r\n\r\n")
    assert (await read_answer(reader)).status == 200
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("path", ["/v1/reservations", "/v1/stock/movements"])
@pytest.mark.parametrize("before", [b"", raw_request("GET", "/v1/stock/none/none")])
async def test_a_broken_body_is_refused(hot_service: Service, path: str, before: bytes) -> None:
    """In its turn, with a problem document; nothing of it runs."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nTransfer-Encoding: chunked\r\n\r\n"
    for parts in ((before + head.encode() + b"zz\r\n",), (before + head.encode(), b"zz\r\n")):
        answers = await send_raw(hot_service.port, *parts, answers=2 if before else 1)
        document = expect_problem(answers[-1], 400, "malformed_request", instance=path)
        assert document["request_id"] == "mine"
        assert answers[-1].headers["connection"] == "close"


async def test_no_http_is_a_problem_document(hot_service: Service) -> None:
    (answer,) = await send_raw(hot_service.port, b"nonsense\r\n\r\n")
    expect_problem(answer, 400, "malformed_request")
    assert answer.headers["connection"] == "close"


# -------------------------------------------------------------------- many requests, slow readers


async def test_a_long_pipeline_does_not_deepen_the_stack(hot_service: Service) -> None:
    count = 1010  # more than Python has frames, no more than may wait
    raw = raw_request("GET", "/v1/availability/none") + b"POST /v1/reservations HTTP/1.1\r\n\r\n" * count
    answers = await send_raw(hot_service.port, raw, answers=count + 1)
    assert [answer.status for answer in answers] == [404] + [400] * count


async def test_who_reads_late_gets_everything(hot_service: Service) -> None:
    sku, _ = hot_service.stocked()
    one = raw_request("POST", "/v1/availability/query", {"skus": [sku] * 1000, "detail": True})
    reader, writer = await asyncio.open_connection("127.0.0.1", hot_service.port)
    sending = asyncio.create_task(_send(writer, one * 50))
    await asyncio.sleep(0.2)
    for _ in range(50):
        assert len((await read_answer(reader)).json()["items"]) == 1000
    await sending
    writer.close()


async def _send(writer: asyncio.StreamWriter, raw: bytes) -> None:
    writer.write(raw)
    await writer.drain()


class _StandIn:
    """As much of a protocol and its application as one hot cycle touches."""

    def __init__(self, *, write_paused: bool = False) -> None:
        self.application = self.front = self.metrics = self.transport = self.flow = self
        self.admission, self.limits = Admission(), DEFAULT
        self.loop = asyncio.get_running_loop()
        self.write_paused = write_paused
        self.may_write = asyncio.Event()
        self.answered: list[bytes] = []
        self.completed = asyncio.Event()

    async def answer(self, request: Request, route: str, handlers: dict[str, Handler]) -> Answer:
        await asyncio.sleep(0)
        return 200, b"{}", []

    async def drain(self) -> None:
        await self.may_write.wait()

    def encode_answer(self, *_: object) -> bytes:
        return b"answer"

    def write(self, raw: bytes) -> None:
        self.answered.append(raw)

    def observe(self, *_: object) -> None:
        pass

    def close(self) -> None:
        self.answered.append(b"closed")

    def on_response_complete(self) -> None:
        self.completed.set()


def _cycle(protocol: _StandIn) -> HotCycle:
    return HotCycle(cast("Any", protocol), Request("GET", "/", b"", {}), "/", {}, keep_alive=True)


async def test_a_handler_may_yield_its_turn() -> None:
    """`asyncio.sleep(0)` waits for nothing: no future comes out of the coroutine."""
    protocol = _StandIn()
    _cycle(protocol).start()
    async with asyncio.timeout(5):
        await protocol.completed.wait()
    assert protocol.answered == [b"answer"]


async def test_the_next_request_waits_for_room_to_write() -> None:
    protocol = _StandIn(write_paused=True)
    cycle = _cycle(protocol)
    cycle.start()
    await asyncio.sleep(0.02)
    assert protocol.answered == [b"answer"]
    assert not cycle.response_complete
    assert not protocol.completed.is_set()
    protocol.may_write.set()
    async with asyncio.timeout(5):
        await protocol.completed.wait()
    assert cycle.response_complete


# -------------------------------------------------------------------- headers that come twice


async def test_two_accept_lines(service: Service) -> None:
    lines = b"Accept: application/json\r\nAccept: text/html\r\n"
    for path in ("/v1/availability/none", "/v1/stock/none"):
        raw = raw_request("GET", path).replace(b"Host: shop\r\n", b"Host: shop\r\n" + lines)
        (answer,) = await send_raw(service.port, raw)
        assert answer.status == 404


async def test_two_keys_are_none(service: Service) -> None:
    sku, location = service.stocked()
    raw = _reserve(sku, location, b"Idempotency-Key: other\r\n")
    (answer,) = await send_raw(service.port, raw)
    expect_problem(answer, 400, "idempotency_key_invalid")
    assert service.position(sku, location)["held"] == 0
