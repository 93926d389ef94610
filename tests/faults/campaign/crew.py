"""The processes that play rounds, and their end: whatever ends the campaign leaves nothing running."""

import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from types import FrameType

from tests.faults.campaign.rounds import Plan, Verdict, play
from tests.faults.campaign.served import command_of, descendants, lives, stat_of

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LOOK_SECONDS = 0.5
Batch = tuple[str, list[Plan]]
"""A server, and rounds that share what is started of it."""

_told: "SimpleQueue[tuple[str, Verdict]]"
"""Of one of the crew: where it tells of each round."""


def _join(told: "SimpleQueue[tuple[str, Verdict]]") -> None:
    global _told  # noqa: PLW0603 - a process of the pool has nothing else to keep it in
    _told = told
    # The campaign ends its crew; a Ctrl-C reaches everybody.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _play(server: str, plans: Sequence[Plan], program: Path, tier: str | None) -> None:
    for verdict in play(plans, program, tier):
        _told.put((server, verdict))


def play_all(
    batches: Iterator[Batch], programs: dict[str, Path], tier: str | None, *, jobs: int, ends: float
) -> Iterator[tuple[str, Verdict] | None]:
    """Plays batches until there are none, or that moment has come. Gives each verdict as it falls, and None
    now and then. Whoever stops listening, or is asked to end (SIGTERM), ends everything.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, _end)
    folder = tempfile.mkdtemp(prefix="bincard-faults-")
    os.environ["TMPDIR"] = folder
    context = multiprocessing.get_context("spawn")
    told: SimpleQueue[tuple[str, Verdict]] = context.SimpleQueue()
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_join, initargs=(told,))
    try:
        running: set[Future[None]] = set()
        following = next(batches, None)
        while running or following is not None:
            while following is not None and len(running) < jobs:
                server, chosen = following
                running.add(pool.submit(_play, server, chosen, programs[server], tier))
                following = next(batches, None) if time.monotonic() < ends else None
            done, running = wait(running, LOOK_SECONDS, FIRST_COMPLETED)
            while not told.empty():
                yield told.get()
            for one in done:
                one.result()
            _bury()
            yield None
        pool.shutdown()
    finally:
        _kill_family()
        pool.shutdown(wait=False, cancel_futures=True)
        shutil.rmtree(folder, ignore_errors=True)


def _end(number: int, _: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def _children() -> list[int]:
    own = str(os.getpid())
    return [pid for pid in descendants(os.getpid()) if stat_of(pid)[1:2] == [own]]


def _bury() -> None:
    """Orphans of the crew are ours: somebody must take note of their end."""
    crew = {process.pid for process in multiprocessing.active_children()}
    for pid in _children():
        if pid not in crew and not lives(pid):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _kill_family() -> None:
    """Everything below us but what ends with us. Who loses its parent becomes our child, so none escapes."""
    while family := [
        pid
        for pid in descendants(os.getpid())
        if lives(pid) and not any("resource_tracker" in word for word in command_of(pid))
    ]:
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
