"""A crowd of clients that use every verb at once, on hot positions; then every proof there is."""

from pathlib import Path

import pytest

from benchmarks.crowd import run
from benchmarks.crowd_client import Task
from tests.servers import Server

CLIENTS, SECONDS, PROCESSES = 50, 3.0, 2


@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [1, 4], ids=["P=1", "P=4"])
async def test_all_verbs_at_once(server: Server, tmp_path: Path, number: int) -> None:
    """Audit 0, the checker clean, all goods add up, nothing promised that is not there."""
    task = Task(server.url, 0, number, CLIENTS // PROCESSES, SECONDS, seed=7)
    outcome = await run(server.url, tmp_path, task, PROCESSES)
    assert not outcome.faults, outcome.faults[:10]
    done = {verb for verb, told in outcome.told.verbs.items() if told.get("done")}
    for verb in ("reserve", "source by channel", "source by pool", "move", "count late", "save_fence"):
        assert verb in done
    for count in ("replays judged", "life cycle steps", "changed reservations read"):
        assert outcome.counts[f"checker: {count}"], outcome.counts
