"""A child process of the supervisor: started, watched, started again when it ends, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from logging import getLogger

from api.lifeline import PARENT_VARIABLE

log = getLogger("bincard.supervisor")

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
SETTLED_SECONDS = 30.0
"""A child that lived so long starts again at once when it ends."""


class Child:
    """A module of ours that runs as a program of its own.

    It gets what it needs in environment variables, which only its own user can read, unlike the
    arguments. Call `start` from the main thread: the kernel ends the child with that thread.
    """

    def __init__(
        self,
        name: str,
        module: str,
        variables: Mapping[str, str],
        *,
        descriptors: Sequence[int] = (),
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`ended` is called whenever the process ended without having been asked to."""
        self.name = name
        self._command = (sys.executable, "-P", "-m", module)
        self._variables = dict(variables)
        self._descriptors = tuple(descriptors)
        self._ended = ended
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts it, and from now on again whenever it ends."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=self.name)

    async def stop(self, patience_seconds: float) -> None:
        """Asks it to end, kills it when it does not, and returns when it is gone."""
        self._stopping.set()
        if self._keeper is None:
            return
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self._keeper}, timeout=patience_seconds)
        if not done:
            log.warning("%s did not end within %g s; it is killed", self.name, patience_seconds)
            self._signal(signal.SIGKILL)
        await self._keeper

    def tell(self, variables: Mapping[str, str]) -> None:
        """Changes the environment and restarts the process with it."""
        self._variables.update(variables)
        self._signal(signal.SIGTERM)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = loop.time()
            try:
                process = await self._spawn()
            except OSError as fault:
                fate = f"cannot be started: {fault}"
            else:
                fate = f"(process {process.pid}) {_fate(await process.wait())}"
            if self._stopping.is_set():
                return
            if loop.time() - began > SETTLED_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            log.warning("%s %s; it starts again in %g s", self.name, fate, pause)
            self._ended()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            # The pipe stays open as long as this process lives, see api.lifeline.
            stdin=asyncio.subprocess.PIPE,
            env={**os.environ, **self._variables, PARENT_VARIABLE: str(os.getpid())},
            pass_fds=self._descriptors,
            # Ctrl-C in a terminal reaches the supervisor alone, which drains.
            start_new_session=True,
        )
        self._process = process
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        return process

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)


def _fate(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
