"""What Prometheus sees of a shop under load is what the books say."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from api.metric_families import FAMILIES
from tests.cli.served import Served, until
from tests.monitoring.live import RULES, Prometheus, quick, scraping
from tests.monitoring.shop import CHANNELS, LAPSES, PLACES, SKUS, UNITS, Client, Shoppers, serving

BOARDS = sorted((RULES.parent / "grafana" / "dashboards").glob("*.json"))
ONLY_WITH_REPLICAS = {"bincard_replica_wait_seconds"}
NO_LIMIT_IS_SET = {"bincard:memory_used:ratio"}
"""Rules that have nothing to tell of an embedded server: test_alerts sets its limit."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A shop that opened and that nobody has shopped at."""
    with serving(tmp_path_factory.mktemp("shop")) as running:
        client = Client(running.port)
        client.open_shop()
        yield running
        client.close()


@pytest.fixture(scope="module")
def prometheus(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has scraped a shop that was busy for some seconds, and still is."""
    with scraping(tmp_path_factory.mktemp("prometheus"), {"shop": [served.port]}) as running:
        yield running


@pytest.fixture
def busy(served: Served, prometheus: Prometheus) -> Iterator[Prometheus]:
    """While somebody shops."""
    with Shoppers(served.port):
        prometheus.await_query("bincard:conversion:ratio_rate1h > 0 < 1", "commits")
        prometheus.await_query('bincard_hold_units_total{result="expired"} > 0', "holds that lapse")
        yield prometheus


def queries() -> Iterator[tuple[str, str]]:
    """Where a query stands, and the query as a dashboard sends it."""
    for path in BOARDS:
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", "5s").replace("$dataset", "shop")
                yield f"{path.stem}, {panel['title']}, {target['refId']}", query
    rules = quick((RULES / "rules.yml").read_text(encoding="utf-8"))
    for name in re.findall(r"record: (\S+)", rules):
        yield f"rule {name}", name


def test_every_panel_and_rule_has_data(busy: Prometheus) -> None:
    """A query that is empty is a typing error, or asks for what nobody tells."""
    asked = [one for one in queries() if one[1] not in NO_LIMIT_IS_SET]
    assert len(asked) > 80
    until(lambda: not [where for where, query in asked if not busy.ask(query)], str(_empty(busy, asked)))


def _empty(prometheus: Prometheus, asked: list[tuple[str, str]]) -> list[str]:
    return [where for where, query in asked if not prometheus.ask(query)]


def test_every_metric_is_told(busy: Prometheus) -> None:
    """What the page of metrics names, Prometheus has."""
    known = {name for name, family in FAMILIES.items() if family.kind != "histogram"}
    known |= {f"{name}_bucket" for name, family in FAMILIES.items() if family.kind == "histogram"}
    wanted = known - {f"{name}_bucket" for name in ONLY_WITH_REPLICAS}
    until(lambda: all(busy.ask(name) for name in wanted), f"data of {[n for n in wanted if not busy.ask(n)]}")


def test_the_gauges_agree_with_the_books(served: Served, prometheus: Prometheus) -> None:
    """Once nothing changes: units by location are those of GET /v1/stock, holds and units by channel and
    result those that the shoppers' own reservations show; and the audit is clean.
    """
    with Shoppers(served.port):
        prometheus.await_query('bincard_hold_units_total{result="committed"} > 20', "commits")
        prometheus.await_query('bincard_hold_units_total{result="expired"} > 5', "holds that lapse")
    client = Client(served.port)
    until(
        lambda: client.ask("GET", f"/v1/reservations?owner={LAPSES}&state=held")[1]["items"] == [],
        "short holds lapsed",
    )
    holds, held, allocated = Counter[Any](), Counter[Any](), Counter[Any]()
    for one in _open_reservations(client):
        where = one["channel"] or "none", one["location"]
        holds[where] += one["held"] > 0
        held[where] += one["held"]
        allocated[where] += one["allocated"]
    assert sum(holds.values()) > 5
    assert len({channel for channel, _ in held}) == len(CHANNELS)
    until(lambda: _by_place(prometheus, "bincard_open_holds") == +holds, f"open holds are {holds}")
    until(lambda: _by_place(prometheus, "bincard_held_units") == +held, f"held units are {held}")
    until(lambda: _by_place(prometheus, "bincard_allocated_units") == +allocated, "allocated units")
    on_hand = Counter[str]()
    stock_held = 0
    for sku in SKUS:
        for position in client.ask("GET", f"/v1/stock/{sku}")[1]["positions"]:
            on_hand[position["location"]] += position["on_hand"]
            stock_held += position["held"]
    assert stock_held == held.total()
    until(
        lambda: (
            {
                dict(labels)["location"]: value
                for labels, value in prometheus.ask("bincard_on_hand_units").items()
            }
            == on_hand
        ),
        f"on hand is {on_hand}",
    )
    assert on_hand.total() < UNITS * len(SKUS) * len(PLACES), "something was fulfilled"
    # The bookkeeper, who counts these, may be behind the stocktake, which told the others.
    until(
        lambda: _left(prometheus) == (held.total(), allocated.total()),
        f"of the counters, {held.total()} held and {allocated.total()} allocated are left",
    )
    for name in ("bincard_oversold_units_total", "bincard_drifted_units", "bincard_uncompared_cards"):
        assert prometheus.number(name) == 0
    client.close()


def _left(prometheus: Prometheus) -> tuple[float, float]:
    """Units that are held and allocated, by what has become of all there were."""
    units = {
        dict(labels)["result"]: value for labels, value in prometheus.ask("bincard_hold_units_total").items()
    }
    return (
        units["held"] - units["committed"] - units["released"] - units["expired"],
        units["committed"] - units["fulfilled"] - units["cancelled"],
    )


def _open_reservations(client: Client) -> Iterator[dict[str, Any]]:
    """What is held or committed, as the list of reservations tells it."""
    for state in ("held", "committed"):
        cursor = ""
        while cursor is not None:
            _, page = client.ask("GET", f"/v1/reservations?state={state}&limit=100{cursor}")
            for one in page["items"]:
                line = one["lines"][0]
                yield {
                    "channel": one["channel"],
                    "location": line["location"],
                    "held": line["held"],
                    "allocated": line["committed"],
                }
            cursor = f"&cursor={page['next_cursor']}" if page.get("next_cursor") else None


def _by_place(prometheus: Prometheus, name: str) -> dict[tuple[str, str], int]:
    return {
        (dict(labels)["channel"], dict(labels)["location"]): int(value)
        for labels, value in prometheus.ask(f"{name} > 0").items()
    }
