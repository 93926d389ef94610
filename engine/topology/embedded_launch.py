"""Runs in the child: binds its life to the parent's, then becomes the server.

Started by path with `python -I -S`, so it imports the standard library only. A program of its own
rather than a `preexec_fn`: that would run Python between fork and exec of a process with threads.

Arguments: the parent's pid, the read end of a pipe that ends with the parent (or `-` to use the
kernel's parent-death signal), the descriptor of the lock, the server program. The server reads its
settings from the standard input.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final, NoReturn

PR_SET_PDEATHSIG: Final = 1
EXIT_ORPHANED: Final = 86


def main(arguments: list[str]) -> NoReturn:
    """Never returns: becomes the server, or exits because the parent is already gone."""
    parent_pid, pipe, lock_fd, program = arguments
    os.umask(0o077)
    # The parent may have blocked signals; a server that cannot hear SIGTERM would outlive it.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if pipe == "-":
        _ask_for_death_signal()
    else:
        _fork_watcher(int(pipe), int(lock_fd))
    # The signal is not sent for a parent that died before it was asked for.
    if os.getppid() != int(parent_pid):
        os._exit(EXIT_ORPHANED)
    os.execv(program, [program, "-"])  # noqa: S606 - the very purpose, and no shell


def _ask_for_death_signal() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")


def _fork_watcher(pipe: int, lock_fd: int) -> None:
    """Leave a watcher behind, a child of the server-to-be, that ends it when the pipe ends."""
    server_pid = os.getpid()
    if os.fork() != 0:
        os.close(pipe)
        return
    os.close(lock_fd)
    while os.read(pipe, 1):
        pass
    # The watcher gets a new parent when the server is gone, so the pid cannot be a stranger's.
    if os.getppid() == server_pid:
        os.kill(server_pid, signal.SIGTERM)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
