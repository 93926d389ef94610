"""A whole `bincard serve` as the site of a round, and what can befall its processes."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from engine.audit import AuditReport, audit
from engine.dataset import open_dataset
from engine.script import Library
from tests.faults.campaign.faults import Evidence, Scene, fault
from tests.faults.campaign.over_http import RecordedHttp
from tests.topology.groups import free_ports, wait_until

BINCARD = Path(sys.executable).with_name("bincard")
READY_SECONDS = 60.0
ENGINE_HISTORY = "engine.jsonl"
API_WORKER, BACKGROUND = "api.http_worker", "api.worker"


class Served:
    """`bincard serve` with two workers and the embedded server, for one round."""

    partitions = 1

    def __init__(self, program: Path, *, tier: str = "local") -> None:
        self.tier = tier
        self.folder = Path(tempfile.mkdtemp(prefix="bincard-served-"))
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None

    async def begin(self) -> None:
        await asyncio.to_thread(self.start)

    async def open(self, url: str, history: Path, scripts: Library | None) -> RecordedHttp:
        """A caller of the API."""
        assert scripts is None, "what is served are the scripts of this release"
        return RecordedHttp(url, history)

    def histories(self) -> Path:
        """What the processes recorded themselves."""
        return self.folder / ENGINE_HISTORY

    async def audit(self) -> AuditReport:
        """Of the books of the server that runs."""
        dataset = await open_dataset(self._running()["url"], create=False)
        try:
            return await audit(dataset)
        finally:
            await dataset.close()

    def start(self) -> None:
        """Serves, until `GET /readyz` says that it does."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("BINCARD_")}
        kept |= {
            "BINCARD_REDIS_SERVER": str(self._program),
            "BINCARD_HISTORY": str(self.folder / ENGINE_HISTORY),
        }
        port = self.url.rpartition(":")[2]
        options = ("--port", port, "--data-dir", "data", "--workers", "2", "--durability", self.tier)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(BINCARD), "serve", *options],
                cwd=self.folder,
                env=kept,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self._is_ready() or self._has_ended(), "it is ready", seconds=READY_SECONDS)
        if self._has_ended():
            raise AssertionError(f"it does not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> int:
        """SIGKILL to every process; how many there were."""
        assert self._process is not None
        family = [self._process.pid, *self.processes()]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        wait_until(lambda: not any(map(lives, family)), "everything is gone")
        return len(family)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(READY_SECONDS)

    def processes(self, module: str = "") -> list[int]:
        """What it started and that lives: all, or those that run a module."""
        assert self._process is not None
        found = descendants(self._process.pid)
        return [pid for pid in found if not module or module in command_of(pid)]

    def server_pid(self) -> int:
        return int(self._running()["server_pid"])

    def _running(self) -> dict[str, Any]:
        return json.loads((self.folder / "data" / "server.json").read_text())

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    async def end(self) -> None:
        if not self._has_ended():
            await asyncio.to_thread(self.kill)
        shutil.rmtree(self.folder, ignore_errors=True)


def stat_of(pid: int) -> list[str]:
    """State, parent and the rest; nothing of a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(") ")[2].split()


def lives(pid: int) -> bool:
    state = stat_of(pid)
    return bool(state and state[0] not in "ZX")


def command_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:
        return []


def descendants(ancestor: int) -> list[int]:
    """Every process below one, whatever its session."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and (state := stat_of(int(place.name))):
            children.setdefault(int(state[1]), []).append(int(place.name))
    found: list[int] = []
    left = [ancestor]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


@fault("served")
async def workers_killed(scene: Scene) -> Evidence:
    """SIGKILL of API workers under load; others take their place."""
    return await _end_one_by_one(scene, API_WORKER, signal.SIGKILL)


@fault("served")
async def background_killed(scene: Scene) -> Evidence:
    """SIGKILL of the process that gives lapsed holds back."""
    return await _end_one_by_one(scene, BACKGROUND, signal.SIGKILL)


@fault("served")
async def rolling_restart(scene: Scene) -> Evidence:
    """Each process is asked to end and replaced, one after the other, under load."""
    workers = await _end_one_by_one(scene, API_WORKER, signal.SIGTERM)
    background = await _end_one_by_one(scene, BACKGROUND, signal.SIGTERM)
    return {"workers": workers["replaced"], "background": background["replaced"]}


async def _end_one_by_one(scene: Scene, module: str, number: signal.Signals) -> Evidence:
    site, replaced = scene.site, 0
    for pid in site.processes(module):
        before = set(site.processes(module))
        os.kill(pid, number)
        await asyncio.to_thread(
            wait_until,
            lambda pid=pid, before=before: not lives(pid) and set(site.processes(module)) - before,
            f"another {module} takes the place of {pid}",
        )
        replaced += 1
        await scene.pause(0.05, 0.2)
    return {"replaced": replaced}


@fault("served")
async def stock_server_killed(scene: Scene) -> Evidence:
    """SIGKILL of the stock server alone; the supervisor starts it again."""
    pid = scene.site.server_pid()
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        with contextlib.suppress(OSError, ValueError):
            return scene.site.server_pid() != pid
        return False

    await asyncio.to_thread(wait_until, is_back, "the stock server runs again")
    return {"restarted": 1}


@fault("served")
async def everything_killed(scene: Scene) -> Evidence:
    """SIGKILL of supervisor, workers and stock server at once; then it serves again."""
    killed = await asyncio.to_thread(scene.site.kill)
    await asyncio.to_thread(scene.site.start)
    return {"killed": killed}


@fault("served")
async def everything_restarted(scene: Scene) -> Evidence:
    """Asked to end under load, it drains; then it serves again."""
    began = time.monotonic()
    status = await asyncio.to_thread(scene.site.stop)
    assert status == 0, f"it ended with status {status} after {time.monotonic() - began:.1f} s"
    await asyncio.to_thread(scene.site.start)
    return {"restarted": 1}
