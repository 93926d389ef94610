"""Counts, and holds whose places the engine chooses: their quantities are judged, soundly."""

from pathlib import Path

import pytest

from engine.check import check
from engine.check.reading import find_files
from engine.topology.embedded import EmbeddedServer
from tests.check.walker import open_walked, walk

JUDGED = (
    "counts judged",
    "facts before a count",
    "facts judged",
    "chosen places judged",
    "promises judged by SKU",
    "sums over locations judged",
    "stock answers judged",
    "life cycle steps",
)


@pytest.mark.parametrize("loses", [False, True], ids=["told", "lost"])
async def test_a_legal_walk(server: EmbeddedServer, tmp_path: Path, *, loses: bool) -> None:
    """Counts of now and of before, late facts, shared pools, lost answers."""
    inventory = await open_walked(server.url, tmp_path / "shop.jsonl")
    await walk(inventory, 1, 60, loses=loses)
    await inventory.close()
    report = check(find_files(tmp_path / "shop.jsonl"))
    assert report.violations == []
    assert not [name for name in JUDGED if not report.counts.get(name)]
    assert bool(report.unknown) == loses
