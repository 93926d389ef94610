"""A live Prometheus that scrapes each second, with the committed rules made quick."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.topology.groups import free_ports

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus"
WINDOWS = {"5m": "5s", "15m": "8s", "30m": "8s", "1h": "10s", "6h": "12s"}
"""What the windows of the rules become: long enough for two scrapes, short enough to wait for."""
PATIENCE_SECONDS = 40.0
ROOM_BYTES = 256 * 1024 * 1024
"""The memory of a machine, for the one alert about that: more than an idle server takes."""
MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
SMALL = {
    "BincardBookkeeperBehind": ("> 1e6", "> 2000"),
    "BincardIndexBehind": ("> 1e6", "> 2000"),
    "BincardStocktakeOld": ("> 14400", "> 8"),
    "BincardRepairsStuck": ("> 30", "> 3"),
    "BincardForkMemoryShort": ("> 0.9 *", f"> {ROOM_BYTES / MACHINE_BYTES:.9f} *"),
}
"""Limits that take hours or the whole machine to reach, and what stands for them. They are in
`deploy/prometheus/tests` as they are.
"""


def program(name: str) -> str:
    """`prometheus` or `promtool`. Fails where it is missing: a skipped check proves nothing."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(f"these tests need {name} on PATH (Debian: apt-get install prometheus)")
    return found


def quick(rules: str) -> str:
    """Rules with short windows and small limits, and alerts that wait for a second instead of minutes."""
    rules = re.sub(r"\[(\w+)\]", lambda found: f"[{WINDOWS[found[1]]}]", rules)
    for alert, (limit, small) in SMALL.items():
        rules = re.sub(rf"(alert: {alert}\n +expr: .+){re.escape(limit)}", rf"\g<1>{small}", rules)
    return re.sub(r"^( +for:) \w+$", r"\1 1s", rules, flags=re.MULTILINE)


class Prometheus:
    """The server, and what it can be asked."""

    def __init__(self, url: str) -> None:
        self.url = url

    def _get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - a JSON document
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def ask(self, query: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The value of each series by its labels, without those of the target."""
        found = {}
        for series in self._get("query", query=query)["result"]:
            labels = {
                name: value
                for name, value in series["metric"].items()
                if name not in {"__name__", "instance", "job", "dataset"}
            }
            found[tuple(sorted(labels.items()))] = float(series["value"][1])
        return found

    def number(self, query: str) -> float | None:
        """The value of the one series there is."""
        found = list(self.ask(query).values())
        assert len(found) < 2, f"{query} gives {len(found)} series"
        return found[0] if found else None

    def firing(self) -> set[str]:
        """The alerts that fire."""
        return {
            alert["labels"]["alertname"]
            for alert in self._get("alerts")["alerts"]
            if alert["state"] == "firing"
        }

    def fired(self, since: float) -> set[str]:
        """The alerts that fired at some time since a moment of the monotonic clock."""
        seconds = max(1, int(time.monotonic() - since))
        found = self.ask(f'max_over_time(ALERTS{{alertstate="firing"}}[{seconds}s])')
        return {dict(labels)["alertname"] for labels in found}

    def await_firing(self, *names: str, since: float) -> None:
        """Waits until each of these has fired since a moment."""
        end = time.monotonic() + PATIENCE_SECONDS
        while missing := set(names) - self.fired(since):
            assert time.monotonic() < end, f"silent: {sorted(missing)}"
            time.sleep(0.25)

    def await_silence(self, *names: str) -> None:
        """Waits until none of these fires."""
        end = time.monotonic() + PATIENCE_SECONDS
        while firing := self.firing() & set(names):
            assert time.monotonic() < end, f"still firing: {sorted(firing)}"
            time.sleep(0.25)

    def await_query(self, query: str, what: str) -> None:
        """Waits until a query gives something."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.ask(query):
            assert time.monotonic() < end, f"nothing came of {what}: {query}"
            time.sleep(0.25)


@contextmanager
def scraping(
    directory: Path, targets: Mapping[str, Sequence[int]], job: str = "bincard"
) -> Iterator[Prometheus]:
    """A Prometheus on a directory; the targets' ports by the data set that they serve."""
    assert f"job_name: {job}\n" in (RULES / "prometheus.yml").read_text(encoding="utf-8")
    for name in ("rules.yml", "alerts.yml"):
        (directory / name).write_text(quick((RULES / name).read_text(encoding="utf-8")), encoding="utf-8")
    (directory / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {
                    "scrape_interval": "1s",
                    "scrape_timeout": "1s",
                    "evaluation_interval": "1s",
                },
                "rule_files": ["rules.yml", "alerts.yml"],
                "scrape_configs": [
                    {
                        "job_name": job,
                        "static_configs": [
                            {
                                "targets": [f"127.0.0.1:{port}" for port in ports],
                                "labels": {"dataset": dataset},
                            }
                            for dataset, ports in targets.items()
                        ],
                    }
                ],
            }
        ),
        encoding="utf-8",
    )
    (port,) = free_ports(1)
    with (directory / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _await_ready(f"http://127.0.0.1:{port}/-/ready", process)
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        assert process.poll() is None, "prometheus ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            assert time.monotonic() < end, "prometheus does not become ready"
            time.sleep(0.1)
