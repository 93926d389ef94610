from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import redis

from api.http_worker import DRAIN_SECONDS
from api.supervisor import IMPATIENCE_SECONDS
from tests.cli.served import Served, Start, until

pytestmark = pytest.mark.faults

LOCATION = {"kind": "warehouse", "name": "One"}


def refuses(served: Served) -> bool:
    """Whether nobody listens any more."""
    try:
        served.connect().close()
    except OSError:
        return True
    return False


def test_a_request_under_way_is_answered_before_the_end(serve: Start) -> None:
    """SIGTERM closes the door, finishes what is inside, and leaves with 0."""
    served = serve("--workers", "2")
    assert "authentication is off" in served.errors
    assert len(served.processes("api.http_worker")) == 2
    body = json.dumps(LOCATION).encode()
    with served.connect() as connection:
        connection.sendall(
            b"PUT /v1/locations/w1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # The application reads the body.
        served.process.send_signal(signal.SIGTERM)
        until(lambda: refuses(served))
        assert served.process.poll() is None
        connection.sendall(body)
        answer = connection.recv(10_000)
    assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")), answer
    assert served.process.wait(30) == 0
    served.wait_until_gone()
    assert served.process.stdout is not None
    assert served.process.stdout.read() == ""  # One line was all.


def test_nothing_outlives_the_supervisor_and_the_data_does(serve: Start) -> None:
    """After kill -9 of the supervisor everything ends; the next start has what was acknowledged."""
    served = serve()
    assert served.ask("PUT", "/v1/locations/w1", LOCATION)[0] in {200, 201}
    assert len(served.processes()) == 4  # Supervisor, API, background, server.
    served.process.kill()
    served.wait_until_gone()
    again = serve("--port", str(served.port))
    assert again.port == served.port
    status, content = again.ask("GET", "/v1/locations/w1")
    assert (status, json.loads(content)["name"]) == (200, "One")
    assert again.stop() == 0


def test_a_crashed_worker_is_replaced(serve: Start) -> None:
    """Connections wait in the shared socket until the next worker takes them."""
    served = serve()
    for module in ("api.http_worker", "api.worker"):
        (crashed,) = served.processes(module)
        os.kill(crashed, signal.SIGKILL)
        until(lambda module=module, crashed=crashed: served.processes(module) - {crashed})
    assert served.ask("GET", "/healthz")[0] == 200
    until(served.is_ready)
    assert "api-0 (process" in served.errors
    assert "was ended by SIGKILL; it starts again" in served.errors


def test_a_crashed_server_is_started_again(serve: Start) -> None:
    """The workers find it by themselves, without being restarted."""
    served = serve()
    assert served.ask("PUT", "/v1/locations/w1", LOCATION)[0] in {200, 201}
    workers = served.processes("api.")
    os.kill(served.running_server()["server_pid"], signal.SIGKILL)
    until(lambda: "the embedded server runs again" in served.errors)
    until(served.is_ready)
    assert served.ask("GET", "/v1/locations/w1")[0] == 200
    assert served.processes("api.") == workers
    assert served.stop() == 0


def test_a_crashed_server_comes_back_elsewhere(serve: Start) -> None:
    """A path too long for a socket gets another short one at each start: workers are told by a restart."""
    served = serve("--data-dir", f"{'d' * 120}/data")
    assert served.ask("PUT", "/v1/locations/w1", LOCATION)[0] in {200, 201}
    before = served.running_server(f"{'d' * 120}/data")
    os.kill(before["server_pid"], signal.SIGKILL)
    until(lambda: served.processes("api.") and "the embedded server runs again" in served.errors)
    until(lambda: served.is_ready() and served.ask("GET", "/v1/locations/w1")[0] == 200)
    assert served.running_server(f"{'d' * 120}/data")["url"] != before["url"]
    assert served.stop() == 0


def test_the_port_is_taken(start: Start) -> None:
    """One line says so and what to do, and nothing was started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = start("serve", "--port", str(port))
        assert served.process.wait(30) == 1
    assert served.errors.splitlines()[-1] == (
        f"bincard: port {port} on 127.0.0.1 is taken: stop the program that uses it, or choose another "
        "with --port"
    )


def test_the_data_directory_is_in_use(serve: Start, start: Start) -> None:
    """A second server on the same data is refused; the first does not notice."""
    served = serve()
    second = start("serve", "--port", "0")
    assert second.process.wait(30) == 1
    assert f"is in use by process {served.process.pid}" in second.errors.splitlines()[-1]
    assert "Traceback" not in second.errors
    assert served.is_ready()


def test_a_server_of_another_that_is_away(start: Start) -> None:
    """A URL that leads nowhere ends the start with one line."""
    served = start("serve", "--port", "0", "--redis-url", "redis://127.0.0.1:1")
    assert served.process.wait(30) == 1
    assert served.errors.splitlines()[-1].startswith("bincard: the server cannot be reached")


def test_background_workers_alone(serve: Start, start: Start) -> None:
    """`bincard worker` joins the server of the data directory and ends on SIGTERM with 0."""
    served = serve()
    until(lambda: hot_connections(served) == 1)  # Nobody asks the API: it is the sweeper's.
    joined = start("worker", "--metrics-port", "0")
    until(lambda: hot_connections(served) == 2)
    assert joined.stop() == 0
    assert joined.errors == ""


def hot_connections(served: Served) -> int:
    """How many engines call scripts on the server."""
    with redis.Redis.from_url(served.running_server()["url"]) as connection:
        return len([client for client in connection.client_list() if client["cmd"].startswith("fcall")])


def test_ctrl_c_reaches_everything_once(serve: Start) -> None:
    """A terminal sends SIGINT to the whole group; only the supervisor is in it, and drains."""
    served = serve()
    os.killpg(served.process.pid, signal.SIGINT)
    assert served.process.wait(30) == 0
    assert "it starts again" not in served.errors


def test_a_stop_during_the_start(start: Start, tmp_path: Path) -> None:
    """SIGTERM while the server starts leaves nothing behind."""
    served = start("serve", "--port", "0")
    until((tmp_path / "data" / "owner.lock").exists)
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(30) == 0
    served.wait_until_gone()


def test_one_line_for_each_refusal(start: Start) -> None:
    """What cannot be served is refused in words, before anything is started."""
    for arguments, words in (
        (("--host", "0.0.0.0"), "--host 0.0.0.0: with --auth off"),
        (("--durability", "replicated"), "the embedded server has no replicas"),
        (("--redis-url", "http://h"), "http:// is no scheme of a server"),
        (("--redis-url", "redis://h", "--data-dir", "d"), "exclude each other"),
    ):
        served = start("serve", "--port", "0", *arguments)
        assert served.process.wait(30) in {1, 2}
        assert words in served.errors.splitlines()[-1]
        assert "Traceback" not in served.errors


def test_two_signals_end_at_once(serve: Start) -> None:
    """Who asks again does not want to wait for a slow client."""
    served = serve()
    with served.connect() as connection:
        connection.sendall(
            b"PUT /v1/locations/w1 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        served.process.send_signal(signal.SIGTERM)
        # From then on it is for a second that a second signal is taken for a part of the first.
        until(lambda: "the requests under way are finished" in served.errors)
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(IMPATIENCE_SECONDS + 0.2)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(DRAIN_SECONDS / 2) == 1
    served.wait_until_gone()
