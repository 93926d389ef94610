"""`scripts/dev.py` as a person uses it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import engine
from tests.topology.groups import wait_until
from tests.topology.traffic import prove_books, stock_up

ROOT = Path(__file__).resolve().parents[2]
# The tests' own environment stands in for `.venv`.
RUN = """
import sys
import dev
dev.ensure_venv = lambda: None
dev.venv_program = lambda name: sys.executable
sys.exit(dev.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("group", "end"), [("cluster", signal.SIGINT), ("sentinel", signal.SIGKILL)])
def test_it_starts_prints_and_leaves_nothing_behind(group: str, end: signal.Signals, tmp_path: Path) -> None:
    """The printed URL works. Ctrl-C leaves nothing; a kill leaves a temporary directory, but no process."""
    command = subprocess.Popen(
        [sys.executable, "-c", RUN, group],
        cwd=ROOT / "scripts",
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    lines: list[str] = []
    while not (lines and lines[-1].startswith("Ctrl-C")):
        lines.append(command.stdout.readline())
        assert lines[-1], lines
    pids = [int(word) for word in lines[1].partition("process ids ")[2].partition(";")[0].split(", ")]
    asyncio.run(use(next(line.strip() for line in lines if line.startswith("  redis+"))))
    command.send_signal(end)
    assert command.wait(timeout=20) == (0 if end is signal.SIGINT else -end)
    command.stdout.close()
    wait_until(lambda: not any(is_running(pid) for pid in pids), "all have ended")
    if end is signal.SIGINT:
        assert not list(tmp_path.iterdir())


async def use(url: str) -> None:
    """A data set is made and filled."""
    inventory = await engine.connect(url)
    await stock_up(inventory, "test")
    await prove_books(inventory)
    await inventory.close()


def is_running(pid: int) -> bool:
    """Whether there is such a process; one that nobody has buried yet does not count."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return False
