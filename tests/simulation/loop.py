"""An event loop whose time is a number, and processes that may die between any two steps of theirs.

Nothing here waits: when nothing is ready the time jumps to the next timer. What runs next follows from
what ran before, so a schedule is decided by its seed alone.
"""

from __future__ import annotations

import asyncio
import heapq
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

MOST_STEPS = 2_000_000
"""A schedule of more steps than this goes round in a circle."""


SHORTEST_SECONDS = 1e-9


class Process:
    """A process: all that it starts, and all that is called back on its behalf, ends with it at once.

    Nothing is cancelled and nothing is cleaned up, as in a power cut.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.steps = 0
        self.dies_at: int | None = None
        """The step that it will not take."""
        self.fault: BaseException | None = None
        """What none of its coroutines caught."""
        self.on_death: Callable[[], None] = lambda: None
        self.context = copy_context()
        self.context.run(_process.set, self)

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Runs a coroutine in this process, which ends where it fails."""
        task = asyncio.get_running_loop().create_task(work, context=self.context)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[Any]) -> None:
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            self.fault = fault
            self.die()

    def die(self) -> None:
        """Never takes another step."""
        if not self.is_dead:
            self.is_dead = True
            self.on_death()

    def may_step(self) -> bool:
        """Counts a step; False where it is not taken."""
        if self.is_dead:
            return False
        self.steps += 1
        if self.dies_at is not None and self.steps >= self.dies_at:
            self.die()
        return not self.is_dead


_process: ContextVar[Process | None] = ContextVar("process", default=None)
NOBODY = Context()
"""Where the network and the servers run: nobody's death ends them."""


class Loop(asyncio.BaseEventLoop):
    """Runs one schedule, then ends."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self.faults: list[str] = []
        """What went wrong where nobody listened."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._owners: dict[int, Process | None] = {}
        """Whose step it was that began an asynchronous generator."""
        self.set_task_factory(self._make_task)
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while not ready:
            if not scheduled:
                raise RuntimeError("everything waits, and nothing will happen")
            timer = heapq.heappop(scheduled)
            timer._scheduled = False
            if not timer._cancelled:
                # A clock that stood still would let who waits for the last bit of a float wait for ever.
                self.now = max(self.now + SHORTEST_SECONDS, timer._when)
                ready.append(timer)
        for _ in range(len(ready)):
            handle = ready.popleft()
            process = handle._context.get(_process)
            if not handle._cancelled and (process is None or process.may_step()):
                handle._run()
                self.steps += 1
        if self.steps > MOST_STEPS:
            raise RuntimeError("the schedule does not come to an end")

    def _asyncgen_firstiter_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._owners[id(generator)] = _process.get()

    def _asyncgen_finalizer_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Ends a generator that was dropped in the middle, unless whoever dropped it is dead."""
        process = self._owners.pop(id(generator), None)
        if process is not None and not process.is_dead and not self.is_closed():
            self.call_soon(self.create_task, generator.aclose(), context=process.context)

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(work, loop=loop, context=context)
        self._tasks.append(task)
        return task

    def _note(self, _: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
        # An answer that nobody waited for: the one who asked is dead.
        if "never retrieved" not in told["message"]:
            self.faults.append(f"{told['message']}: {told.get('exception')!r}")

    def end(self) -> None:
        """Lets go of what is left, without a word from the tasks of the dead."""
        self._owners.clear()
        for task in self._tasks:
            task._log_destroy_pending = False
            if not task.done():
                # What the dead would still do on their way out goes nowhere.
                with suppress(Exception):
                    task.get_coro().close()
        self._ready.clear()
        self._scheduled.clear()
        self.set_exception_handler(lambda *_: None)
        self.close()


def current_process() -> Process:
    """The process whose step this is."""
    process = _process.get()
    assert process is not None, "this runs in no process"
    return process
