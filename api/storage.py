"""Finds the server that holds the books, for commands that look into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from api.settings import SettingsError, StorageSettings
from engine.topology.embedded import EmbeddedServer, find_running


def running_url(settings: StorageSettings) -> str:
    """The URL that was given, or that of the server that runs on the data directory.

    Raises `SettingsError` where none runs.
    """
    found = settings.redis_url or find_running(settings.data_dir.resolve())
    if found is None:
        raise SettingsError(
            f"no server runs on the data directory {settings.data_dir}: name a server with --redis-url, "
            "another directory with --data-dir, or start `bincard serve`"
        )
    return found


@contextmanager
def opened(settings: StorageSettings) -> Iterator[str]:
    """The URL of the server; where none runs on the data directory, one does for the duration.

    Raises `SettingsError`, `EmbeddedServerError`.
    """
    found = settings.redis_url or find_running(settings.data_dir.resolve())
    if found is not None:
        yield found
        return
    if not (settings.data_dir / "appendonlydir").is_dir():
        raise SettingsError(
            f"there are no books in {settings.data_dir}: name their directory with --data-dir, or a server "
            "with --redis-url"
        )
    with EmbeddedServer.start(settings.data_dir) as server:
        yield server.url
