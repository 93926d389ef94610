"""Binds a child process to the supervisor that started it: it never outlives it.

On Linux the kernel kills the child when the supervisor is gone, even by `kill -9`; elsewhere a thread
watches the child's standard input, a pipe whose other end ends with the supervisor.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Mapping

PARENT_VARIABLE = "BINCARD_PARENT_PID"
EXIT_ORPHANED = 86
PR_SET_PDEATHSIG = 1


def bind_to_parent(environment: Mapping[str, str] = os.environ) -> None:
    """Dies with the process that the environment names as the parent; without one it does nothing."""
    parent = environment.get(PARENT_VARIABLE, "")
    if not parent:
        return
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch_input, name="bincard-lifeline", daemon=True).start()
    # The kernel tells nothing of a parent that was gone before it was asked.
    if os.getppid() != int(parent):
        os._exit(EXIT_ORPHANED)


def _watch_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(EXIT_ORPHANED)
