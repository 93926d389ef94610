"""Refusals of requests that nobody parsed: the usual document, or None where the parser must look."""

import json

import pytest

from api.problems import as_problem
from api.refusing import UNREAD, refuse_unread
from engine.errors import Overloaded

DEFAULTS = b"date: Sun, 22 Nov 2026 10:00:00 GMT\r\n"
PLAIN = b"POST /v1/reservations HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\n{}"


def refuse(data: bytes) -> bytes | None:
    return refuse_unread(data, DEFAULTS, lambda given: given.get(b"x-request-id", b"id-1").decode())


@pytest.mark.parametrize(
    ("data", "path", "request_id"),
    [
        (PLAIN, "/v1/reservations", "id-1"),
        (PLAIN.replace(b"Host: shop", b"Connection: keep-alive"), "/v1/reservations", "id-1"),
        (PLAIN.replace(b"Host: shop", b"X-Request-ID: Own.7"), "/v1/reservations", "Own.7"),
        (b"GET /v1/availability/A%22?quantity=2 HTTP/1.1\r\n\r\n", "/v1/availability/A%22", "id-1"),
    ],
)
def test_the_document_is_the_usual_one(data: bytes, path: str, request_id: str) -> None:
    """With Retry-After, the caller's own request id, and a length that fits."""
    head, _, body = (refuse(data) or b"").partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 503 Service Unavailable"
    assert DEFAULTS.decode().strip() in lines
    assert {"retry-after: 1", f"x-request-id: {request_id}", f"content-length: {len(body)}"} <= set(lines)
    assert json.loads(body) == as_problem(Overloaded(UNREAD)).document(path, request_id)


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:-1],
        PLAIN + b"G",
        PLAIN + PLAIN,
        PLAIN[:-4],
        b"POST /v1/reserv",
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN.replace(b"Host: shop", b"Connection: close"),
        PLAIN.replace(b"Host: shop", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"Host: shop", b"Expect: 100-continue"),
        PLAIN.replace(b"Host: shop", b"Upgrade: h2c"),
        PLAIN.replace(b"Host: shop", b"Content-Length: 2"),
        PLAIN.replace(b"Host: shop", b"Host: shop\nTransfer-Encoding: chunked"),
        PLAIN.replace(b"Length: 2", b"Length : 2"),
        PLAIN.replace(b"Length: 2", b"Length: +2"),
        PLAIN.replace(b"Length: 2", b"Length: "),
        PLAIN.replace(b"Host: shop", b'X-Request-ID: a"b'),
        PLAIN.replace(b"Host: shop", b"X-Request-ID: a\r\nX-Request-ID: b"),
        b'GET /v1/availability/A"1 HTTP/1.1\r\n\r\n',
        b"GET /v1/availability/A\\1 HTTP/1.1\r\n\r\n",
        b"GET /v1/availability/\xc3\xa4 HTTP/1.1\r\n\r\n",
    ],
)
def test_whatever_is_not_plain_goes_to_the_parser(data: bytes) -> None:
    """Where one request ends and the next begins is never guessed."""
    assert refuse(data) is None
