"""Nothing is written to a server that may not keep it, or that is not the one it was."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from api.lifeline import PARENT_VARIABLE
from engine.topology.embedded import EmbeddedServer
from tests.api.service import Answer, Service, expect_problem, fresh_key, running

ROOT = Path(__file__).parents[2]
SEEN_SECONDS = 8.0
"""A worker sees a setting after 2 s; a busy machine may take longer."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    """A server whose settings a test may break."""
    with EmbeddedServer.start(tmp_path / "server", durability="none") as found:
        yield found


def _writes(service: Service, sku: str, location: str, held: str) -> list[Answer]:
    line = {"sku": sku, "location": location, "quantity": 1}
    operation = {"op": "reserve", "key": fresh_key(), "body": {"lines": [line]}}
    movement = {"id": fresh_key(), "kind": "receive", **line}
    return [
        service.reserve([(sku, location, 1)]),
        service.ask("POST", f"/v1/reservations/{held}/extend", {"ttl_seconds": 60}),
        service.ask("POST", "/v1/reservations/batch", {"operations": [operation]}),
        service.ask("PUT", f"/v1/locations/{location}", {"kind": "store"}),
        service.ask("POST", "/v1/stock/movements", {"movements": [movement]}),
    ]


@pytest.mark.parametrize("protocol", ["hot", "asgi"])
def test_a_server_set_wrong_is_only_read(server: EmbeddedServer, protocol: str) -> None:
    """One that may forget whatever it likes must promise nothing; mended, it goes on by itself."""
    with running(protocol, server.url) as service, redis.Redis.from_url(server.url) as raw:
        sku, location = service.stocked()
        held = service.reserve([(sku, location, 1)]).json()["id"]
        good = str(raw.config_get("maxmemory-policy")["maxmemory-policy"])
        raw.config_set("maxmemory-policy", "allkeys-lru")
        _await_status(service, 503)
        for answer in _writes(service, sku, location, held):
            document = expect_problem(answer, 503, "storage_unavailable")
            assert "maxmemory-policy" in document["detail"]
            assert int(answer.headers["retry-after"]) >= 1
        paths = [f"/v1/availability/{sku}", f"/v1/reservations/{held}", f"/v1/stock/{sku}", "/v1/locations"]
        for path in [*paths, "/healthz", "/metrics"]:
            assert service.ask("GET", path).status == 200
            assert service.ask("HEAD", path).status == 200
        assert service.ask("POST", "/v1/availability/query", {"skus": [sku]}).status == 200
        raw.config_set("maxmemory-policy", good)
        _await_status(service, 200)
        assert [answer.status for answer in _writes(service, sku, location, held)] == [
            201,
            200,
            207,
            200,
            207,
        ]
        assert service.position(sku, location)["on_hand"] == 11


def _await_status(service: Service, status: int) -> None:
    end = time.monotonic() + SEEN_SECONDS
    while (answer := service.ask("GET", "/readyz")).status != status:
        assert time.monotonic() < end, answer
        time.sleep(0.05)


@pytest.mark.parametrize("module", ["api.http_worker", "api.worker", "api.cli"])
def test_a_worker_makes_no_data_set(server: EmbeddedServer, tmp_path: Path, module: str) -> None:
    """One that starts on an emptied server would give it another secret: one key, two promises."""
    environment = {
        **os.environ,
        "BINCARD_REDIS_URL": server.url,
        "BINCARD_DURABILITY": "none",
        "BINCARD_AUTH": "off",
        "BINCARD_WORKER": "0",
        "BINCARD_RUN_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        PARENT_VARIABLE: str(os.getpid()),
    }
    command = ["-m", module]
    if module == "api.cli":
        command = [
            "-c",
            "from api.cli import main; main()",
            "worker",
            "--metrics-port",
            "0",
            "--redis-url",
            server.url,
        ]
        environment.pop("BINCARD_REDIS_URL")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        environment["BINCARD_LISTEN_FD"] = str(listener.fileno())
        ended = subprocess.run(
            [sys.executable, *command],
            env=environment,
            cwd=tmp_path,
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode in {1, 3}, ended  # uvicorn says 3
    assert ended.stderr.count("the server holds no data set") == 1
    assert "Traceback" not in ended.stderr
    with redis.Redis.from_url(server.url) as raw:
        assert raw.dbsize() == 0
