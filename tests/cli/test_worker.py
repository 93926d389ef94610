"""`bincard worker` tells its metrics: to whom, where, and what is answered to anything else."""

import contextlib
import http.client
import json
import socket
import time
from pathlib import Path

import pytest

from tests.cli.served import PATIENCE_SECONDS, Start, until
from tests.cli.test_keys import EVERYTHING, keys, make


def exchange(port: int, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a head."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(sent)
        answer = http.client.HTTPResponse(connection, method=sent.split(b" ")[0].decode("latin-1"))
        answer.begin()
        return answer.status, dict(answer.getheaders()), answer.read()


def test_the_page(serve: Start, start: Start) -> None:
    """All that background workers count, and nothing of an API; nothing else is there."""
    serve()
    port = start("worker", "--metrics-port", "0").await_metrics()
    head = b"%b HTTP/1.1\r\nHost: x\r\n\r\n"
    until(lambda: b"\nbincard_scrape_store_up 1\n" in exchange(port, head % b"GET /metrics")[2], "figures")
    status, headers, body = exchange(port, head % b"GET /metrics?x=1")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert (headers["cache-control"], headers["connection"]) == ("no-store", "close")
    assert int(headers["content-length"]) == len(body)
    assert b'\nbincard_connection_up{worker="background"} 1\n' in body
    assert b"\nbincard_dataset_info{" not in body
    assert exchange(port, b"HEAD /metrics HTTP/1.0\r\n\r\n")[2] == b""
    for asked, refused, code in [
        (b"GET /v1/locations", 404, "not_found"),
        (b"POST /metrics", 405, "method_not_allowed"),
        (b"nonsense", 400, "malformed_request"),
        (b"GET /metrics HTTP/1.1 \xff", 400, "malformed_request"),
    ]:
        status, headers, body = exchange(port, head % asked)
        assert (status, json.loads(body)["code"]) == (refused, code)
        assert headers["content-type"] == "application/problem+json"


def test_who_asks_in_no_hurry_is_let_go(serve: Start, start: Start) -> None:
    """A head that never ends, one that is too long, and more than there is room for: none is kept, and the
    page is there again.
    """
    serve()
    port = start("worker", "--metrics-port", "0").await_metrics()
    waiting = [socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) for _ in range(40)]
    begun = time.monotonic()
    for connection in waiting:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    waiting[0].sendall(b"x" * 20_000)
    for connection in waiting:
        with connection, contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert time.monotonic() - begun < PATIENCE_SECONDS
    assert exchange(port, b"GET /metrics HTTP/1.1\r\n\r\n")[0] == 200


def test_keys(serve: Start, start: Start, tmp_path: Path) -> None:
    """With --auth keys it asks for what the API asks for."""
    serve("--auth", "keys")
    good, other = make(tmp_path, *EVERYTHING), make(tmp_path, "--scope", "stock:read")
    port = start("worker", "--metrics-port", "0", "--auth", "keys").await_metrics()

    def status(key: str) -> int:
        return exchange(port, f"GET /metrics HTTP/1.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode())[0]

    until(lambda: status(good) == 200, "the keys are known")
    assert [status(other), status(other[:-1]), status("")] == [403, 401, 401]
    assert exchange(port, b"GET /metrics HTTP/1.1\r\n\r\n")[0] == 401
    keys(tmp_path, "revoke", good[4:12])
    until(lambda: status(good) == 401, "the key is of no use")


def test_keys_that_nobody_could_read(start: Start) -> None:
    """A store that is away lets nobody in; without keys it is said that it is away."""
    away = ("--redis-url", "redis://127.0.0.1:1", "--metrics-port", "0")
    asking, open_to_all = start("worker", *away, "--auth", "keys"), start("worker", *away)
    sent = b"GET /metrics HTTP/1.1\r\nAuthorization: Bearer x\r\n\r\n"
    assert exchange(asking.await_metrics(), sent)[0] == 503
    status, _, body = exchange(open_to_all.await_metrics(), sent)
    assert status == 200
    assert b"\nbincard_scrape_store_up 0\n" in body


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--metrics-host", "0.0.0.0"), 2, "--metrics-host 0.0.0.0: with --auth off anyone"),
        (("--metrics-port", "99999"), 2, "--metrics-port is 99999: it must be a whole number from 0"),
        (("--metrics-host", "no.such.host.invalid", "--auth", "keys"), 2, "--metrics-host no.such"),
    ],
)
def test_an_address_that_cannot_be(start: Start, arguments: tuple[str, ...], status: int, words: str) -> None:
    worker = start("worker", "--redis-url", "redis://127.0.0.1:1", *arguments)
    assert worker.process.wait(PATIENCE_SECONDS) == status
    assert words in worker.errors.splitlines()[-1]


def test_a_port_that_is_taken(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = start("worker", "--redis-url", "redis://127.0.0.1:1", "--metrics-port", str(port))
        assert worker.process.wait(PATIENCE_SECONDS) == 1
    assert worker.errors.splitlines()[-1] == (
        f"bincard: port {port} on 127.0.0.1 is taken: stop the program that uses it, or choose another with "
        "--metrics-port"
    )
