"""Where the processes of one `bincard serve` meet: a directory that only our user can enter."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RUN_DIRECTORY_VARIABLE = "BINCARD_RUN_DIR"
PREFIX = "bincard-run-"
_UNFINISHED_PREFIX = "bincard-new-"
_LOCK_NAME = "lock"
_SHORT = "/tmp"  # noqa: S108 - mkdtemp makes a private directory in it
_LONGEST_PARENT_BYTES = 60
"""The path of a socket has at the most 103 bytes on macOS and 107 on Linux."""


@contextmanager
def run_directory() -> Iterator[Path]:
    """A directory that is removed at the end. Whoever is killed leaves one behind: the next start removes
    it, knowing it by the lock that nobody holds.
    """
    parent = Path(tempfile.gettempdir())
    if len(os.fsencode(parent)) > _LONGEST_PARENT_BYTES:
        parent = Path(_SHORT)
    _remove_abandoned(parent)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED_PREFIX, dir=parent))
    lock = os.open(unfinished / _LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Only now may others find it: they take one without a lock for abandoned.
        directory = unfinished.rename(parent / unfinished.name.replace(_UNFINISHED_PREFIX, PREFIX))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    finally:
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for directory in parent.glob(f"{PREFIX}*"):
        # Another user's cannot be opened, and one that is in use cannot be locked.
        with suppress(OSError):
            lock = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(lock)
