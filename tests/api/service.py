"""A running API worker, and the client that the tests ask it with."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

from api.lifeline import PARENT_VARIABLE
from api.problems import PROBLEMS
from engine import connect

PROGRAM = Path(__file__).with_name("serve.py")
START_SECONDS = 20.0
FILED_SECONDS = 120.0
_NUMBERS = count(1)


class Answer(NamedTuple):
    """An answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - a JSON document
        return json.loads(self.body)


class Service:
    """A worker on a port of its own."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        self.url = f"http://127.0.0.1:{port}"
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request. Bytes go as they are, everything else as JSON."""
        sent = dict(headers or {})
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None and not any(name.lower() == "content-type" for name in sent):
            sent["Content-Type"] = "application/json"
        try:
            return self._send(method, path, raw, sent)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # An idle connection may be closed by the server between two tests.
            self._connection.close()
            return self._send(method, path, raw, sent)

    def _send(self, method: str, path: str, raw: bytes | None, headers: dict[str, str]) -> Answer:
        self._connection.request(method, path, raw, headers)
        response = self._connection.getresponse()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    # ---------------------------------------------------------------- the shop

    def open_location(self, name: str | None = None) -> str:
        """A location that no other test has."""
        name = name or f"loc-{uuid4().hex[:12]}"
        answer = self.ask("PUT", f"/v1/locations/{name}", {"kind": "store"})
        assert answer.status in {200, 201}, answer
        return name

    def receive(self, sku: str, location: str, quantity: int) -> None:
        """Puts goods on a shelf."""
        movement = {"id": fresh_key(), "kind": "receive", "sku": sku, "location": location}
        answer = self.ask("POST", "/v1/stock/movements", {"movements": [{**movement, "quantity": quantity}]})
        assert answer.json()["results"][0]["status"] == 200, answer

    def stocked(self, quantity: int = 10, sku: str | None = None) -> tuple[str, str]:
        """A SKU with so many units at a location, both new."""
        sku, location = sku or f"sku-{uuid4().hex[:12]}", self.open_location()
        self.receive(sku, location, quantity)
        return sku, location

    def reserve(
        self,
        lines: Sequence[tuple[str, str, int]],
        key: str | None = None,
        **more: Any,  # noqa: ANN401 - fields of a JSON document
    ) -> Answer:
        """Reserves lines of (SKU, location, quantity)."""
        body = {
            "lines": [{"sku": sku, "location": place, "quantity": units} for sku, place, units in lines],
            **more,
        }
        return self.ask("POST", "/v1/reservations", body, {"Idempotency-Key": key or fresh_key()})

    def await_lists(self) -> None:
        """Waits until the reservations of earlier tests are filed: no background worker does it here, and
        who asks first for a list of thousands may be told to ask again.
        """
        end = time.monotonic() + FILED_SECONDS
        while (answer := self.ask("GET", "/v1/reservations?limit=1")).status != 200:
            assert (answer.status, answer.json()["code"]) == (503, "overloaded"), answer
            assert time.monotonic() < end, answer

    def held(self, quantity: int = 2) -> str:
        """A reservation that holds something."""
        sku, location = self.stocked()
        answer = self.reserve([(sku, location, quantity)])
        assert answer.status == 201, answer
        return str(answer.json()["id"])

    def position(self, sku: str, location: str) -> dict[str, Any]:
        """The counters of a position."""
        answer = self.ask("GET", f"/v1/stock/{quote(sku, safe='')}/{location}")
        assert answer.status == 200, answer
        counters: dict[str, Any] = answer.json()
        return counters


def fresh_key() -> str:
    """An idempotency key that nobody has used."""
    return f"key-{os.getpid()}-{uuid4().hex[:8]}-{next(_NUMBERS)}"


@contextmanager
def running(
    protocol: str, redis_url: str, worker: int = 0, variables: Mapping[str, str] | None = None
) -> Iterator[Service]:
    """Runs a worker on a data set of the server, made now if there is none, until the block ends."""
    make_dataset(redis_url)
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        environment = {
            **os.environ,
            "BINCARD_REDIS_URL": redis_url,
            "BINCARD_LISTEN_FD": str(listener.fileno()),
            PARENT_VARIABLE: str(os.getpid()),
            **(variables or {}),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.api.serve", protocol, str(worker)],
            cwd=Path(__file__).parents[2],
            env=environment,
            pass_fds=[listener.fileno()],
        )
        port = listener.getsockname()[1]
    service = Service(port, process.pid)
    try:
        _await_ready(service, process)
        yield service
    finally:
        service.close()
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def make_dataset(redis_url: str, partitions: int | None = None) -> None:
    """What the supervisor does before it starts workers."""

    async def make() -> None:
        await (await connect(redis_url, partitions=partitions)).close()

    # A thread of its own: tests that run in a loop start workers too.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make()).result()


def _await_ready(service: Service, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, "the worker ended"
        try:
            answer = service.ask("GET", "/readyz")
        except OSError:
            answer = None
        if answer is not None and answer.status == 200:
            return
        assert time.monotonic() < end, f"the worker does not become ready: {answer}"
        time.sleep(0.02)


def expect_problem(
    answer: Answer, status: int, code: str, *, instance: str | None = None, pointer: str | None = None
) -> dict[str, Any]:
    """Checks every member of a problem document, and returns it."""
    assert answer.headers["content-type"] == "application/problem+json", answer
    document: dict[str, Any] = answer.json()
    assert (answer.status, document["code"]) == (status, code), document
    assert document["status"] == status
    assert document["type"] == f"/problems/{code}"
    assert document["title"] == PROBLEMS[code].title
    assert document["retryable"] == PROBLEMS[code].retryable
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["detail"]
    assert document["instance"].startswith("/")
    if instance is not None:
        assert document["instance"] == instance
    if pointer is not None:
        assert [error["pointer"] for error in document["errors"]] == [pointer], document
        assert all(error["detail"] for error in document["errors"])
    return document


async def send_raw(port: int, *parts: bytes, answers: int = 1) -> list[Answer]:
    """Sends bytes on a connection of their own, part by part, and reads so many answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            # The next part must come in a read of its own.
            await asyncio.sleep(0.002)
        return [await read_answer(reader) for _ in range(answers)]
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Reads one answer with its body."""
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(": ")
            if name:
                headers[name.lower()] = value
        status = int(head[0].split(" ")[1])
        body = await reader.readexactly(int(headers.get("content-length", "0"))) if status != 304 else b""
    return Answer(status, headers, body)


def raw_request(method: str, path: str, body: object = None, padding: bytes = b"", **headers: str) -> bytes:
    """A request as it goes over the wire; `_` in header names stands for `-`. Padding follows the body."""
    raw = b"" if body is None else json.dumps(body).encode() + padding
    lines = [f"{method} {path} HTTP/1.1", "Host: shop"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(raw)}"]
    return "\r\n".join([*lines, "", ""]).encode() + raw
