"""Why an embedded server could not be had.

EmbeddedServerError
├── ServerBinaryError          no suitable valkey-server or redis-server
├── DataDirectoryError         the directory or its socket cannot be used
│   └── DataDirectoryLockedError   another process or server is using it
├── AppendOnlyFileError        the append-only files are damaged, not merely torn
└── ServerStartError           the server exited, or did not become ready in time
"""

from __future__ import annotations


class EmbeddedServerError(Exception):
    """Base of everything `EmbeddedServer` raises on purpose; the text says what to do."""


class ServerBinaryError(EmbeddedServerError):
    """No server binary of a sufficient version; the text lists every place looked at."""


class DataDirectoryError(EmbeddedServerError):
    """The data directory cannot be used."""


class DataDirectoryLockedError(DataDirectoryError):
    """Another process owns the data directory, or a server still runs on it."""


class AppendOnlyFileError(EmbeddedServerError):
    """The append-only files are damaged in a way that no crash of ours explains."""


class ServerStartError(EmbeddedServerError):
    """The server process exited while starting or did not answer in time."""
