"""What callers send is in no log, no metric and nobody else's answer."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from redis import Redis

from api.logs import SafeFormatter, escaped
from engine import keys
from tests.cli.served import Served, Start, until
from tests.cli.test_keys import EVERYTHING, make

CANARY = "canary7f3a"
SECRET_HEADERS = {
    "Authorization": f"Bearer {CANARY}-authorization",
    "Cookie": f"session={CANARY}-cookie",
    "User-Agent": f"{CANARY}-agent",
    "Referer": f"http://{CANARY}-referer/",
    "X-Unknown": f"{CANARY}-unknown",
    "Traceparent": f"00-{CANARY}",
}


def _send(served: Served, method: str, path: str, body: object = None, **headers: str) -> str:
    """The whole answer, head and body; nothing where there is none."""
    raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    sent = {**SECRET_HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        connection.request(method, path, raw, {"Content-Type": "application/json", **sent})
        answer = connection.getresponse()
        return str(answer.getheaders()) + answer.read().decode()
    except (http.client.HTTPException, OSError):
        return ""
    finally:
        connection.close()


def _send_raw(served: Served, raw: bytes) -> str:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        try:
            while part := connection.recv(65_536):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts).decode("latin-1")


def _told(place: str) -> str:
    return f"{CANARY}-{place}"


def _ask_everything(served: Served, sku: str, location: str) -> list[tuple[str, set[str]]]:
    """Canaries through every input: the answers, and which of them each may repeat."""
    lines = [{"sku": sku, "quantity": 1, "location": location}]
    fields = {"owner": _told("owner"), "reference": _told("reference"), "metadata": {"k": _told("metadata")}}
    key, nothing = _told("key"), set[str]()
    movement = {"id": _told("id"), "kind": "receive", "sku": sku, "location": location, "quantity": 1}
    reserve = {"lines": lines, **fields}
    own = {"owner", "reference", "metadata"}
    held, short = "/v1/reservations", {**reserve, "lines": [{**lines[0], "quantity": 10**6}]}
    moves, told = (
        "/v1/stock/movements",
        {**movement, "reason": _told("reason"), "reference": _told("reference")},
    )
    place, cut = f"/v1/locations/{location}", b"POST /v1/reservations HTTP/1.1\r\nContent-Length: 100\r\n\r\n"
    return [
        (_send(served, "POST", held, reserve, Idempotency_Key=key), own),
        (_send(served, "POST", held, {**reserve, "ttl_seconds": 0}, Idempotency_Key=key), nothing),
        (_send(served, "POST", held, {**reserve, "lines": []}, Idempotency_Key=key + " x"), nothing),
        (_send(served, "POST", held, {**reserve, "owner": "x"}, Idempotency_Key=key), nothing),
        (_send(served, "POST", held, f'{{"{CANARY}-json'.encode(), Idempotency_Key=key), nothing),
        (_send(served, "POST", held, short, Idempotency_Key=key + "2"), nothing),
        (_send(served, "POST", "/v1/reservations/batch",
               {"operations": [{"op": "reserve", "key": key + "3", "body": reserve}]}), own),
        (_send(served, "GET", f"/v1/reservations?owner={_told('owner')}"), own),
        (_send(served, "GET", f"/v1/reservations?limit={_told('limit')}"), nothing),
        (_send(served, "GET", f"/v1/availability/{sku}?location={_told('place')}"), {"place"}),
        (_send(served, "POST", moves, {"movements": [told]}), nothing),
        (_send(served, "POST", moves, {"movements": [{**movement, "sku": 7}]}), nothing),
        (_send(served, "PUT", place, {"kind": "store", "name": _told("name")}), {"name"}),
        (_send(served, "PUT", place, {"kind": 7, "name": _told("name")}), nothing),
        (_send(served, "GET", "/nothing?x=" + _told("query")), nothing),
        (_send(served, "GET", "/problems/" + _told("path")), {"path"}),
        (_send_raw(served, f"{CANARY}-garbage\r\n\r\n".encode()), nothing),
        (_send_raw(served, f"GET / HTTP/1.1\r\n{CANARY}: {'x' * 40_000}\r\n\r\n".encode()), nothing),
        (_send_raw(served, f"GET / HTTP/1.1\r\n{CANARY}-half: ".encode()), nothing),
        (_send_raw(served, cut + CANARY.encode()), nothing),
    ]  # fmt: skip


def test_canaries(serve: Start) -> None:
    """Also while the stock server is gone, when most is logged."""
    served = serve("--data-dir", "data")
    assert served.ask("PUT", "/v1/locations/s7", {"kind": "store"})[0] == 201
    movement = {"id": "m", "kind": "receive", "sku": "A-1", "location": "s7", "quantity": 100}
    assert served.ask("POST", "/v1/stock/movements", {"movements": [movement]})[0] == 207
    asked = _ask_everything(served, "A-1", "s7")
    assert sum(f"{CANARY}-owner" in answer for answer, _ in asked) >= 3, "the canaries do not arrive"
    os.kill(served.running_server()["server_pid"], signal.SIGKILL)
    asked += _ask_everything(served, "A-1", "s7")
    until(lambda: served.ask("GET", "/readyz")[0] == 200, "the server is back")
    asked += _ask_everything(served, "A-1", "s7")
    for answer, allowed in asked:
        rest = answer
        for place in allowed:
            rest = rest.replace(_told(place), "")
        assert CANARY not in rest, answer
    for path in ("/metrics", "/readyz", "/healthz", "/openapi.json"):
        assert CANARY not in served.ask("GET", path)[1].decode()
    served.stop()
    assert "bincard" in served.errors
    assert CANARY not in served.errors


def test_canaries_in_an_internal_error(serve: Start) -> None:
    """What was sent, and what is stored, when that is damaged and nobody foresaw it: on both lanes."""
    served = serve("--data-dir", "data")
    assert served.ask("PUT", "/v1/locations/s7", {"kind": "store"})[0] == 201
    movement = {"id": "m", "kind": "receive", "sku": "A-1", "location": "s7", "quantity": 100}
    assert served.ask("POST", "/v1/stock/movements", {"movements": [movement]})[0] == 207
    reserve = {"lines": [{"sku": "A-1", "quantity": 1, "location": "s7"}], "owner": _told("owner")}
    told = {"Idempotency-Key": _told("key"), **SECRET_HEADERS}
    held = json.loads(served.ask("POST", "/v1/reservations", reserve, headers=told)[1])["id"]
    with Redis.from_url(served.running_server()["url"]) as store:
        for name, raw in store.hgetall(keys.operations(0)).items():
            store.hset(keys.operations(0), name, raw[:30] + CANARY.encode())
        store.hset(keys.stock(0), "A-1", CANARY.encode() * 5)
    answers = [
        served.ask(method, path, body, headers={**told, "Idempotency-Key": f"{_told('key')}-{number}"})
        for number, (method, path, body) in enumerate(
            [
                ("GET", f"/v1/stock/A-1?x={_told('query')}", None),
                ("GET", "/v1/stock/A-1", None),
                ("GET", "/v1/stock/A-1/s7/holders", None),
                ("GET", "/v1/availability/A-1", None),
                ("GET", f"/v1/reservations/{held}", None),
                ("GET", f"/v1/reservations?owner={_told('owner')}", None),
                ("POST", "/v1/reservations", reserve),
                ("POST", f"/v1/reservations/{held}/commit", {}),
                ("POST", "/v1/stock/movements", {"movements": [{**movement, "id": _told("id")}]}),
            ]
        )
    ]
    assert [status for status, _ in answers].count(500) >= 4
    assert served.ask("GET", "/metrics")[0] == 200
    for text in (*(body for _, body in answers), served.ask("GET", "/metrics")[1]):
        assert CANARY not in text.decode()
    served.stop()
    assert served.errors.count(" failed\n") >= 4, "an internal error is logged"
    assert CANARY not in served.errors


FILES = {
    "stock": "sku,location,quantity\nA-1,s7,5\nA-1,s7,{cell}\nA-2,nowhere,1\n",
    "locations": "id,kind\ns8,store\ns9,{cell}\n",
    "pools": "id,locations\np1,s7\np2,{cell}\n",
    "channels": "id,pools\nc1,p1\nc2,{cell}\n",
    "items": "sku,name\nA-1,mug\nA-3,cup,{cell}\n",
}


def test_canaries_in_files_that_are_loaded(serve: Start, start: Start, tmp_path: Path) -> None:
    """Neither the names of files nor what stands in bad lines is in the server's log, metrics, history or
    store; and what proves who loads is told to nobody, by neither side.
    """
    served = serve("--data-dir", "data", "--auth", "keys")
    secret = make(tmp_path, *EVERYTHING)
    bearer = {"Authorization": f"Bearer {secret}"}
    until(lambda: served.ask("GET", "/v1/locations", headers=bearer)[0] == 200, "the key is known")
    assert served.ask("PUT", "/v1/locations/s7", {"kind": "store"}, headers=bearer)[0] == 201
    url, loading = f"http://127.0.0.1:{served.port}", []
    for kind, text in FILES.items():
        path = tmp_path / f"{_told('file')}-{kind}.csv"
        path.write_text(text.format(cell=_told("cell")))
        proof = {"BINCARD_API_KEY": secret}
        loading.append(start("load", kind, str(path), "--url", url, environment=proof))
    wrong = {"BINCARD_API_KEY": f"{secret[:-8]}{CANARY[:8]}"}
    loading.append(start("load", "stock", str(path), "--format", "csv", "--url", url, environment=wrong))
    for loaded in loading:
        output, _ = loaded.process.communicate(timeout=60)
        assert loaded.process.returncode == 1, "a line is bad, or the key"
        assert secret[13:40] not in output + loaded.errors
    history = served.ask("GET", "/v1/stock/A-1/s7/movements", headers=bearer)[1]
    assert b'"receive"' in history, "the good line was loaded"
    told = history + served.ask("GET", "/metrics", headers=bearer)[1]
    served.stop()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    for place in (told, kept, served.errors.encode()):
        assert CANARY.encode() not in place
        assert secret[13:].encode() not in place


def _line(formatter: logging.Formatter, text: str, error: Exception | None = None) -> str:
    info = None if error is None else (type(error), error, error.__traceback__)
    return formatter.format(logging.LogRecord("bincard", logging.ERROR, __file__, 1, "%s", (text,), info))


def test_an_exception_is_logged_without_its_text() -> None:
    try:
        try:
            int(_told("inner"))
        except ValueError as error:
            raise LookupError(_told("outer")) from error
    except LookupError as error:
        found = _line(SafeFormatter("test"), "failed", error)
        told = _line(SafeFormatter("test", tells_texts=True), "failed", error)
    assert CANARY not in found
    assert "builtins.ValueError" in found
    assert "builtins.LookupError" in found
    assert found.count(f'File "{__file__}"') == 2
    assert f"LookupError: {_told('outer')}" in told


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "\x1b[2J", "\u202e", "\x00", "\u2028", "\ud800"])
def test_a_log_line_stays_a_line(text: str) -> None:
    line = _line(SafeFormatter("test"), text)
    assert line.isprintable()
    assert text not in line
    assert escaped("Größe 4 µs") == "Größe 4 µs"
    assert sys.stderr is not None
