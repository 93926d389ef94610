"""What callers and networks do to HTTP: split packets, pipelines, half bodies, odd connections."""

import asyncio
import json
import random

import pytest

from tests.api.service import (
    Service,
    expect_problem,
    fresh_key,
    raw_request,
    read_answer,
    send_raw,
)


def _reserve(sku: str, location: str, key: str | None = None) -> bytes:
    body = {"lines": [{"sku": sku, "quantity": 1, "location": location}]}
    return raw_request("POST", "/v1/reservations", body, Idempotency_Key=key or fresh_key())


async def test_pipelined_requests_are_answered_in_their_order(service: Service) -> None:
    """Hot and cold, good and bad, with bodies and without, in one packet."""
    sku, location = service.stocked(100)
    requests = [
        (_reserve(sku, location), 201),
        (raw_request("GET", f"/v1/availability/{sku}"), 200),
        (raw_request("GET", "/healthz"), 200),
        (raw_request("POST", "/v1/reservations", {}), 400),
        (raw_request("GET", f"/v1/stock/{sku}"), 200),
        (raw_request("POST", "/v1/availability/query", {"skus": [sku]}), 200),
        (raw_request("PUT", f"/v1/locations/{location}", {"kind": "store"}), 200),
        (raw_request("GET", "/nope"), 404),
        (_reserve(sku, location), 201),
    ]
    order = random.Random(8451)
    for _ in range(5):
        order.shuffle(requests)
        numbered = [
            raw.replace(b"Host: shop\r\n", b"Host: shop\r\nX-Request-Id: n%d\r\n" % number, 1)
            for number, (raw, _) in enumerate(requests)
        ]
        answers = await send_raw(service.port, b"".join(numbered), answers=len(requests))
        assert [answer.status for answer in answers] == [status for _, status in requests]
        ids = [answer.headers["x-request-id"] for answer in answers]
        assert ids == [f"n{number}" for number in range(len(requests))]


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_a_request_in_small_pieces(service: Service, size: int) -> None:
    sku, location = service.stocked()
    raw = _reserve(sku, location)
    parts = [raw[at : at + size] for at in range(0, len(raw), size)]
    (answer,) = await send_raw(service.port, *parts)
    assert answer.status == 201


async def test_pipelined_requests_in_pieces(service: Service) -> None:
    sku, location = service.stocked(100)
    raw = b"".join([_reserve(sku, location), raw_request("GET", "/healthz")] * 10)
    parts = [raw[at : at + 53] for at in range(0, len(raw), 53)]
    answers = await send_raw(service.port, *parts, answers=20)
    assert [answer.status for answer in answers] == [201, 200] * 10


async def test_a_chunked_body(service: Service) -> None:
    sku, location = service.stocked()
    body = json.dumps({"lines": [{"sku": sku, "quantity": 1, "location": location}]}).encode()
    head = (
        "POST /v1/reservations HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
        f"Idempotency-Key: {fresh_key()}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:9], body[9:])) + b"0\r\n\r\n"
    (answer,) = await send_raw(service.port, head.encode(), chunks)
    assert answer.status == 201


@pytest.mark.parametrize("path", ["/v1/reservations/{id}/commit", "/v1/stock/movements"])
@pytest.mark.parametrize("sent", [b"", b"{", b'{"remainder": "release"}'])
async def test_half_a_body_has_no_effect(service: Service, path: str, sent: bytes) -> None:
    """A caller dies while it sends the lines of a partial commit: that must not become a whole one."""
    sku, location = service.stocked()
    held = service.reserve([(sku, location, 2)]).json()["id"]
    head = (
        f"POST {path.format(id=held)} HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
        "Content-Length: 500\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(head.encode() + sent)
    await writer.drain()
    await asyncio.sleep(0.05)  # nothing tells that a request was not taken: it gets the time to be
    writer.close()
    await asyncio.sleep(0.05)
    assert service.ask("GET", f"/v1/reservations/{held}").json()["state"] == "held"


async def test_a_caller_that_does_not_wait_for_the_answer(service: Service) -> None:
    """What was sent whole takes effect, and the worker serves on."""
    sku, location = service.stocked(50)
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(_reserve(sku, location))
        await writer.drain()
        writer.close()
    async with asyncio.timeout(5):
        while service.position(sku, location)["held"] != 20:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.01)


async def test_expect_continue(service: Service) -> None:
    sku, location = service.stocked()
    raw = _reserve(sku, location).replace(b"Host: shop\r\n", b"Host: shop\r\nExpect: 100-continue\r\n")
    head, _, body = raw.partition(b"\r\n\r\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(head + b"\r\n\r\n")
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await read_answer(reader)).status == 201
    writer.close()


@pytest.mark.parametrize("path", ["/v1/availability/{sku}", "/healthz"])
async def test_connection_close_is_honoured(service: Service, path: str) -> None:
    sku, _ = service.stocked()
    raw = raw_request("GET", path.format(sku=sku), Connection="close")
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(raw)
    answer = await read_answer(reader)
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_http_1_0_ends_with_its_answer(service: Service) -> None:
    sku, _ = service.stocked()
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(f"GET /v1/availability/{sku} HTTP/1.0\r\n\r\n".encode())
    async with asyncio.timeout(5):
        whole = await reader.read()
    assert whole.split(b"\r\n", 1)[0].endswith(b"200 OK")
    assert json.loads(whole.partition(b"\r\n\r\n")[2])["sku"] == sku
    writer.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/reservations HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/reservations HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/availability/a b HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_what_is_no_http(service: Service, raw: bytes) -> None:
    """Refused with 400 and a closed connection; never taken for a request, never a crash."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(raw)
    async with asyncio.timeout(5):
        whole = await reader.read()
    assert whole.startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert service.ask("GET", "/healthz").status == 200


async def test_a_request_id_is_echoed_or_made(service: Service) -> None:
    for path in ("/v1/availability/none", "/v1/stock/none", "/healthz", "/nope"):
        given = service.ask("GET", path, None, {"X-Request-Id": "trace-81/7"})
        assert given.headers["x-request-id"] == "trace-81/7"
        made = {service.ask("GET", path).headers["x-request-id"] for _ in range(3)}
        assert len(made) == 3
        for bad in ("x" * 129, "k\u00e9y", ""):
            answer = service.ask("GET", path, None, {"X-Request-Id": bad})
            assert answer.headers["x-request-id"] not in {bad, ""}
    document = service.ask("GET", "/v1/stock/none", None, {"X-Request-Id": "mine"})
    assert expect_problem(document, 404, "sku_not_found")["request_id"] == "mine"


async def test_head_answers_like_get_without_a_body(service: Service) -> None:
    sku, location = service.stocked()
    held = service.reserve([(sku, location, 1)]).json()["id"]
    paths = [
        f"/v1/availability/{sku}",
        f"/v1/reservations/{held}",
        f"/v1/stock/{sku}",
        "/v1/locations",
        "/readyz",
    ]
    for path in [*paths, "/openapi.json", "/docs"]:
        get, head = service.ask("GET", path), service.ask("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
