"""Prints `docs/reference/metrics.md`, from the metrics as they are declared."""

import sys

from api.exposition import CONTENT_TYPE
from api.metric_families import GROUPS, Family, Group
from engine.metrics import MOST_CHANNELS, MOST_LOCATIONS

_INTRODUCTION = f"""\
# Metrics

`GET /metrics` answers as `{CONTENT_TYPE}`. Whoever is asked, it tells of all processes of
the same `bincard serve`, background workers included; what does not answer within half a second
is left out. `bincard worker` tells of itself, on a port of its own. A scrape asks processes, never the
store, so it cannot hang on one that is stopped. Counts begin
at zero with each process: read them with `rate()` or `increase()`.

| label | is |
| --- | --- |
| `route` | a template such as `/v1/stock/{{sku}}`; what no route takes is `unmatched` |
| `verb`, `outcome` | words of the engine |
| `worker` | the number of an API worker, or `background` |
| `server` | the address or socket of a stock server |
| `channel` | the {MOST_CHANNELS} that a process saw first; others are `other`, no channel is `none` |
| `location` | the {MOST_LOCATIONS} that a process saw first; others are `other` |

No label ever has a SKU, an owner or an id in it.
[Dashboards, rules and alerts](../operating/monitoring.md) are ready made.

This page is generated; `.venv/bin/python -m api.metrics_page > docs/reference/metrics.md` writes it anew.
"""


def page() -> str:
    """The page."""
    return "\n".join([_INTRODUCTION, *map(_chapter, GROUPS)])


def _chapter(group: Group) -> str:
    sections = (_section(name, family) for name, family in group.families.items())
    return "\n".join([f"## {group.title}", "", group.meaning, "", *sections])


def _section(name: str, family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
    lines = [f"### `{name}`", "", family.meaning, "", f"- type: {family.kind}", f"- labels: {labels}"]
    if family.bounds:
        lines.append("- bounds: " + ", ".join(f"{bound:g}" for bound in family.bounds))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(page())
