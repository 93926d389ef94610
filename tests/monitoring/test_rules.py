"""Rules, alerts, dashboards and runbooks fit one another, and what is exported."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from api.metric_families import FAMILIES
from tests.monitoring.live import ROOT, RULES, SMALL, program, quick

BOARDS = RULES.parent / "grafana" / "dashboards"
ALERTS = (RULES / "alerts.yml").read_text(encoding="utf-8")
RECORDED = (RULES / "rules.yml").read_text(encoding="utf-8")
FOREIGN = {"up"}
"""Metrics that Prometheus itself makes."""


def promtool(*arguments: str, directory: Path = RULES) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_configuration_and_rules() -> None:
    promtool("check", "config", "prometheus.yml")
    promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yml", "alerts.yml")


def test_alerts_fire_on_series_that_are_written_down() -> None:
    """Limits that no test can reach in seconds, and the burn rates with their windows as they are."""
    files = sorted((RULES / "tests").glob("*.yml"))
    promtool("test", "rules", *(str(path) for path in files))
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    tested = set(re.findall(r"alertname: (\w+)", text))
    assert tested >= SMALL.keys()


def test_each_limit_is_made_small() -> None:
    """What `test_alerts` causes is what the rule asks for, but for the number."""
    assert all(limit in ALERTS for limit, _ in SMALL.values())
    assert all(small in quick(ALERTS) for _, small in SMALL.values())


def test_each_alert_has_its_runbook() -> None:
    """And each section of the page an alert; a section says what it means, where to look, what helps."""
    alerts = re.findall(r"- alert: (\w+)", ALERTS)
    links = re.findall(r"runbook: (\S+)#(\w+)", ALERTS)
    assert links == [("docs/operating/runbooks.md", name.lower()) for name in alerts]
    page = (ROOT / links[0][0]).read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == alerts
    for name, text in sections.items():
        assert re.findall(r"^\*\*(.+?):\*\*", text, re.MULTILINE) == ["Means", "First look", "Cure"], name
        for link in re.findall(r"\]\(#(\w+)\)", text):
            assert link in {other.lower() for other in alerts}, f"{name} leads to {link}"
        for link in re.findall(r"\]\(([^#)]+)\)", text):
            assert (ROOT / "docs" / "operating" / link).exists(), f"{name} leads to {link}"


def test_each_alert_says_how_bad_it_is() -> None:
    alerts = ALERTS.count("- alert: ")
    assert len(re.findall(r"severity: (?:page|ticket)$", ALERTS, re.MULTILINE)) == alerts
    assert len(re.findall(r"^ +summary: .+\.$", ALERTS, re.MULTILINE)) == alerts


def test_what_is_asked_for_is_told() -> None:
    """Each name in a query is a metric of ours or a recorded one."""
    told = FOREIGN | set(re.findall(r"record: (\S+)", RECORDED))
    for name, family in FAMILIES.items():
        told |= {name}
        if family.kind == "histogram":
            told |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    queries = [*re.findall(r"expr: (.+)", RECORDED), *re.findall(r"expr: (.+)", ALERTS), RECORDED]
    queries += [
        target["expr"]
        for path in BOARDS.glob("*.json")
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
        for target in panel["targets"]
    ]
    asked = {name for query in queries for name in re.findall(r"\bbincard[_:][a-zA-Z0-9_:]+", query)}
    assert asked
    assert asked <= told, asked - told


def test_every_panel_asks_for_the_chosen_data_set() -> None:
    """Two shops on one Prometheus are not mixed up."""
    for path in BOARDS.glob("*.json"):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                names = re.findall(
                    r"\bbincard[_:][a-zA-Z0-9_:]+(\{[^}]*dataset=\"\$dataset\"[^}]*\})?", target["expr"]
                )
                assert names, (path.name, panel["title"])
                assert all(names), (path.name, panel["title"])


def test_dashboards_are_up_to_date(tmp_path: Path) -> None:
    """The JSON is what the script makes of its panels; no two panels lie on one another."""
    made = subprocess.run(
        [sys.executable, "-c", _PRINT], cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    boards = json.loads(made.stdout)
    assert {path.stem for path in BOARDS.iterdir()} == set(boards)
    for name, text in boards.items():
        assert (BOARDS / f"{name}.json").read_text(encoding="utf-8") == text, "run: scripts/dashboards.py"
        squares = [
            (x, y)
            for panel in json.loads(text)["panels"]
            for place in (panel["gridPos"],)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(squares) == len(set(squares)), name
        assert max(x for x, _ in squares) < 24


_PRINT = "import json, dashboards as d; print(json.dumps({name: d.board(name) for name in d.BOARDS}))"
