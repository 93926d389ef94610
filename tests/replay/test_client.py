import asyncio
from collections.abc import Callable

import pytest

from api.replay.client import Answer, Caller, Connection, OutcomeUnknownError, Target, segment

REQUEST = b"GET / HTTP/1.1\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that only remembers whether it was cut."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.cut = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Forget what is sent."""

    def is_closing(self) -> bool:
        """Tell whether it was cut."""
        return self.cut

    def close(self) -> None:
        """Cut it."""
        self.cut = True

    def abort(self) -> None:
        """Cut it and say so."""
        self.cut = True
        self._connection.connection_lost(None)


async def hear(*pieces: bytes) -> Answer:
    """Ask once and let the pieces arrive one after the other."""
    connection = Connection(asyncio.get_running_loop())
    connection.connection_made(Wire(connection))
    waiter = connection.ask(REQUEST)
    for piece in pieces:
        connection.data_received(piece)
    assert waiter.done()
    return waiter.result()


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Answer(200, b"hi", False, 0.0)),
        (
            b"HTTP/1.1 201 X\r\nidempotent-replayed: true\r\ncontent-length:2\r\n\r\n{}",
            Answer(201, b"{}", True, 0.0),
        ),
        (
            b"HTTP/1.1 503 X\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n",
            Answer(503, b"", False, 3.0),
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, b"", False, 0.0)),
        (
            b"HTTP/1.1 200 K\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            Answer(200, b"abcde", False, 0.0),
        ),
    ],
)
async def test_answers_are_heard_whole_however_they_are_cut(said: bytes, heard: Answer) -> None:
    """At once, byte by byte, and cut in two anywhere: the same answer."""
    assert await hear(said) == heard
    assert await hear(*(said[at : at + 1] for at in range(len(said)))) == heard
    for cut in range(1, len(said)):
        assert await hear(said[:cut], said[cut:]) == heard


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: some\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_what_is_not_understood_is_an_unknown_outcome(said: bytes) -> None:
    """Never an answer: the connection is cut, and the request has to be repeated."""
    with pytest.raises(OutcomeUnknownError):
        await hear(said)


async def test_an_answer_nobody_asked_for_cuts_the_connection() -> None:
    """A late answer cannot reach the next request."""
    connection = Connection(asyncio.get_running_loop())
    connection.connection_made(Wire(connection))
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert not connection.usable


async def test_an_overdue_answer_is_an_unknown_outcome() -> None:
    """A server that says nothing does not hold a client for ever."""
    done = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    caller = Caller(Target(f"http://127.0.0.1:{port}"), timeout_s=0.05)
    with pytest.raises(OutcomeUnknownError):
        await caller.ask(REQUEST)
    done.set()
    caller.close()
    server.close()
    with pytest.raises(OutcomeUnknownError, match="no connection"):
        await caller.ask(REQUEST)


def test_requests_carry_what_the_interface_asks_for() -> None:
    """Key, idempotency key, lengths, and a prefix of the path."""
    target = Target("http://shop.example:81/base/", key="k-1")
    asked = target.request("POST", "/v1/reservations", b"{}", "op-1").decode()
    assert asked.startswith("POST /base/v1/reservations HTTP/1.1\r\nHost: shop.example:81\r\n")
    for part in (
        "Authorization: Bearer k-1",
        "Idempotency-Key: op-1",
        "Content-Length: 2\r\n\r\n{}",
    ):
        assert part in asked
    assert segment("a/b c{}") == "a%2Fb%20c%7B%7D"


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Target("ftp://x"),
        lambda: Target("localhost:8080"),
        lambda: Target("http://x", key="a\r\nb"),
    ],
)
def test_bad_addresses_and_keys_are_refused(bad: Callable[[], Target]) -> None:
    """No request is built from them."""
    with pytest.raises(ValueError, match=r"address|header"):
        bad()
