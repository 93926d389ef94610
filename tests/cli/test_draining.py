"""SIGTERM with clients at every stage of a request."""

from __future__ import annotations

import json
import signal
import socket
import threading

import pytest

from tests.cli.served import Served, Start, until

pytestmark = pytest.mark.faults

ASK_READY = b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n"
ASK_STOCK = b"GET /v1/availability/none HTTP/1.1\r\nHost: h\r\n\r\n"
BODY = b'{"kind":"warehouse"}'
PUT_LOCATION = (
    b"PUT /v1/locations/w1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
    b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
)
KEEP_ALIVE, LAST = False, True


def answer(connection: socket.socket) -> tuple[int, bool, bytes]:
    """Status, whether the answer is the last of its connection, and body."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        assert part, f"the connection ended after {received!r}"
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return int(head.split(b" ")[1]), b"connection: close" in lines, body


def test_everyone_inside_is_answered_and_sent_away(serve: Start) -> None:
    """A new connection is told that the server drains; whoever is idle, in the middle of a head or of a body
    gets an answer that closes the connection; nobody's connection is cut.
    """
    served = serve()
    idle_hot, idle_cold, in_head, in_body = (served.connect() for _ in range(4))
    for connection, request, status in ((idle_hot, ASK_STOCK, 404), (idle_cold, ASK_READY, 200)):
        connection.sendall(request)
        assert answer(connection)[:2] == (status, KEEP_ALIVE)
    in_head.sendall(ASK_STOCK[:20])
    in_body.sendall(PUT_LOCATION)
    assert in_body.recv(1000).startswith(b"HTTP/1.1 100 ")

    served.process.send_signal(signal.SIGTERM)
    told = wait_until_draining(served)
    assert (told["status"], told["reasons"]) == ("draining", ["this server is about to stop"])
    idle_hot.sendall(ASK_STOCK)
    assert answer(idle_hot)[:2] == (404, LAST)
    idle_cold.sendall(ASK_READY)
    assert answer(idle_cold)[:2] == (503, LAST)

    until(lambda: refuses(served))
    assert served.process.poll() is None
    in_head.sendall(ASK_STOCK[20:])
    assert answer(in_head)[:2] == (404, LAST)
    in_body.sendall(BODY)
    assert answer(in_body)[:2] == (201, LAST)
    for connection in (idle_hot, idle_cold, in_head, in_body):
        assert connection.recv(1) == b""
        connection.close()
    assert served.process.wait(10) == 0


def test_nothing_sent_on_an_open_connection_is_dropped(serve: Start) -> None:
    """Clients that never pause see answers until one of them is the last; no request goes unanswered."""
    served = serve("--workers", "2")
    unanswered: list[str] = []
    answered = [0] * 8

    def customer(number: int) -> None:
        with served.connect() as connection:
            while True:
                connection.sendall(ASK_STOCK)
                try:
                    _, is_last, _ = answer(connection)
                except (OSError, AssertionError) as cut:
                    unanswered.append(repr(cut))
                    return
                answered[number] += 1
                if is_last:
                    return

    customers = [threading.Thread(target=customer, args=(number,)) for number in range(len(answered))]
    for one in customers:
        one.start()
    until(lambda: unanswered or min(answered) > 1, "everybody got several answers")
    assert served.stop() == 0
    for one in customers:
        one.join(10)
    assert not unanswered


def wait_until_draining(served: Served) -> dict[str, object]:
    """What a new connection is told, once it is no longer that all is well."""
    while True:
        with served.connect() as connection:
            connection.sendall(ASK_READY)
            status, is_last, body = answer(connection)
        if status == 503:
            assert is_last
            told: dict[str, object] = json.loads(body)
            return told


def refuses(served: Served) -> bool:
    """Whether nobody listens any more."""
    try:
        served.connect().close()
    except OSError:
        return True
    return False
