"""Health, readiness and metrics, of one worker and of several."""

import socket
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from engine.topology.embedded import EmbeddedServer
from tests.api.service import Service, running
from tests.servers import Server

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(service: Service) -> Samples:
    """Every sample by its name and labels; the parser refuses what Prometheus would."""
    answer = service.ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def requests_of(samples: Samples, route: str) -> float:
    return sum(
        value
        for (name, labels), value in samples.items()
        if name == "bincard_http_requests_total" and dict(labels)["route"] == route
    )


def test_health(service: Service) -> None:
    assert service.ask("GET", "/healthz").json() == {"status": "ok"}


def test_ready(service: Service) -> None:
    answer = service.ask("GET", "/readyz")
    assert answer.status == 200
    assert {**answer.json(), "worker": 0} == {
        "status": "ready",
        "durability": "none",
        "worker": 0,
        "reasons": [],
    }


def test_not_ready_without_a_server(tmp_path: Path) -> None:
    """The reasons say why, and a server that comes back makes the worker ready again."""
    data = tmp_path / "server"
    with (
        EmbeddedServer.start(data, durability="none") as server,
        running("hot", server.url) as service,
    ):
        server.stop()
        while (answer := service.ask("GET", "/readyz")).status == 200:
            pass
        assert answer.status == 503
        assert answer.json()["status"] == "not_ready"
        assert any("no connection" in reason for reason in answer.json()["reasons"])
        assert "retry-after" in answer.headers
        for path in ("/v1/availability/x", "/v1/stock/x", "/v1/locations"):
            refused = service.ask("GET", path)
            assert refused.status == 503
            assert refused.json()["code"] in {"storage_unavailable", "unconfirmed"}
            assert int(refused.headers["retry-after"]) >= 1
        assert service.ask("GET", "/healthz").status == 200
        with EmbeddedServer.start(data, durability="none"):
            end = time.monotonic() + 10
            while service.ask("GET", "/readyz").status != 200:
                assert time.monotonic() < end, service.ask("GET", "/readyz")
                time.sleep(0.05)


def test_metrics_count_requests_and_operations(service: Service) -> None:
    before = scrape(service)
    sku, location = service.stocked(3)
    assert service.reserve([(sku, location, 2)]).status == 201
    assert service.reserve([(sku, location, 2)]).status == 409
    assert service.ask("GET", "/v1/stock/none").status == 404
    after = scrape(service)

    def rise(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after.get(key, 0.0) - before.get(key, 0.0)

    requests = "bincard_http_requests_total"
    assert rise(requests, method="POST", route="/v1/reservations", status="201") == 1
    assert rise(requests, method="POST", route="/v1/reservations", status="409") == 1
    assert rise(requests, method="GET", route="/v1/stock/{sku}", status="404") == 1
    assert rise("bincard_operations_total", verb="reserve", outcome="held") == 1
    assert rise("bincard_operations_total", verb="reserve", outcome="insufficient_stock") == 1
    assert rise("bincard_operations_total", verb="receive", outcome="recorded") == 1
    seconds = "bincard_http_request_duration_seconds"
    assert rise(f"{seconds}_count", method="POST", route="/v1/reservations") == 2
    assert 0 < rise(f"{seconds}_sum", method="POST", route="/v1/reservations") < 5
    assert rise(f"{seconds}_bucket", method="POST", route="/v1/reservations", le="+Inf") == 2
    assert rise("bincard_script_call_requests_count") >= 3
    up = {labels: value for (name, labels), value in after.items() if name == "bincard_connection_up"}
    assert list(up.values()) == [1.0]


def test_histograms_rise_with_their_bounds(service: Service) -> None:
    series: dict[tuple[object, ...], list[tuple[float, float]]] = {}
    for (name, labels), value in scrape(service).items():
        if name.endswith("_bucket"):
            named = dict(labels)
            bound = float(named.pop("le"))
            series.setdefault((name, *named.items()), []).append((bound, value))
    assert series
    for points in series.values():
        counts = [count for _, count in sorted(points)]
        assert counts == sorted(counts)


def test_a_scrape_counts_all_workers(stock_server: Server, tmp_path: Path) -> None:
    """Whichever worker is asked. One that is gone or hangs is left out, and nobody waits for it."""
    variables = {"BINCARD_RUN_DIR": str(tmp_path)}
    with (
        running("hot", stock_server.url, worker=0, variables=variables) as one,
        running("asgi", stock_server.url, worker=1, variables=variables) as other,
        socket.socket(socket.AF_UNIX) as silent,
    ):
        silent.bind(str(tmp_path / "worker-8.sock"))
        silent.listen()
        (tmp_path / "worker-9.sock").touch()
        for number in range(10):
            assert (one, other)[number % 3 == 0].ask("GET", "/v1/availability/none").status == 404
        for asked in (one, other):
            samples = scrape(asked)
            assert requests_of(samples, "/v1/availability/{sku}") == 10
            up = {dict(labels)["worker"] for name, labels in samples if name == "bincard_connection_up"}
            assert up == {"0", "1"}
    assert not (tmp_path / "worker-0.sock").exists()
