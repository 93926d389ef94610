"""Where the processes of one server meet, and what they tell one another there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.run_directory import PREFIX, run_directory
from tests.cli.served import Served, Start, until

WORKERS = 2


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A place for temporary files of this test only, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def total(served: Served, metric: str, **labels: str) -> float:
    """The sum of a metric over all samples that have these labels."""
    text = served.ask("GET", "/metrics")[1].decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    )


def test_a_scrape_counts_every_process(serve: Start, elsewhere: Path) -> None:
    """Whoever is asked tells the requests of all API workers, and the expiries of the background worker."""
    served = serve("--workers", str(WORKERS), environment={"TMPDIR": str(elsewhere)})
    (directory,) = elsewhere.glob(f"{PREFIX}*")
    assert directory.stat().st_mode & 0o777 == 0o700
    until(lambda: total(served, "bincard_connection_up") == WORKERS + 1)
    assert served.ask("PUT", "/v1/locations/w1", {"kind": "warehouse"})[0] == 201
    received = {"id": "m1", "kind": "receive", "sku": "A", "location": "w1", "quantity": 1}
    assert served.ask("POST", "/v1/stock/movements", {"movements": [received]})[0] == 207
    asked = 40
    for _ in range(asked):
        served.ask("GET", "/v1/availability/A")
    for _ in range(5):
        assert total(served, "bincard_http_requests_total", route="/v1/availability/{sku}") == asked
    line = {"sku": "A", "location": "w1", "quantity": 1}
    status, _ = served.ask(
        "POST", "/v1/reservations", {"lines": [line], "ttl_seconds": 1}, headers={"Idempotency-Key": "r1"}
    )
    assert status == 201
    until(lambda: total(served, "bincard_operations_total", verb="expire") == 1, "the expiry is counted", 5)
    assert served.stop() == 0
    assert not list(elsewhere.iterdir())


def test_an_abandoned_directory_is_removed_and_one_in_use_is_not(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed cannot clean up: the next start does."""
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    abandoned = elsewhere / f"{PREFIX}abandoned"
    abandoned.mkdir()
    (abandoned / "lock").touch()
    (abandoned / "worker-0.sock").touch()
    with run_directory() as one, run_directory() as other:
        assert not abandoned.exists()
        assert one != other
        assert one.stat().st_mode & 0o777 == 0o700
        (other / "worker-0.sock").touch()
    assert not list(elsewhere.iterdir())
