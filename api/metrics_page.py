"""Prints `docs/reference/metrics.md`, from the metrics as they are declared."""

import sys

from api.exposition import CONTENT_TYPE, FAMILIES, Family

_INTRODUCTION = f"""\
# Metrics

`GET /metrics` answers as `{CONTENT_TYPE}`. Whichever API worker is asked, its answer holds the sum over all
processes of the same `bincard serve`, background workers included; those that do not answer within a
moment are left out. Counts begin at zero with each process, so read them with `rate()` or `increase()`.

A `route` is a template such as `/v1/stock/{{sku}}`, never a path with somebody's SKU in it; what no route
takes is `unmatched`. A `verb` and its `outcome` are the words of the engine. The `worker` is the number of an
API worker, or `background`.

This page is generated; `.venv/bin/python -m api.metrics_page > docs/reference/metrics.md` writes it anew.
"""


def page() -> str:
    """The page."""
    return "\n".join([_INTRODUCTION, *(_section(name, family) for name, family in FAMILIES.items())])


def _section(name: str, family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
    lines = [f"## `{name}`", "", family.meaning, "", f"- type: {family.kind}", f"- labels: {labels}"]
    if family.bounds:
        lines.append("- bounds: " + ", ".join(f"{bound:g}" for bound in family.bounds))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(page())
