"""Just enough of a Redis client to start servers and to look at them, with the standard library alone."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT_SECONDS = 5.0
NOTHING = -1


class ServerError(Exception):
    """The server refused a command, in its own words, or gave no answer."""


class Client:
    """One connection to one server. Text replies are bytes."""

    def __init__(self, host: str, port: int) -> None:
        """Raises `ServerError` where nobody answers."""
        try:
            self._socket = socket.create_connection((host, port), TIMEOUT_SECONDS)
        except OSError as error:
            raise ServerError(f"{host}:{port} does not answer: {error}") from error
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def call(self, *words: str | bytes | int) -> Any:  # noqa: ANN401 - a reply is whatever the server says
        """One command and its reply. Raises `ServerError`."""
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        try:
            self._socket.sendall(
                b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
            )
            return self._read()
        except OSError as error:
            raise ServerError(f"no answer to {words[0]!r}: {error}") from error

    def _read(self) -> Any:  # noqa: ANN401 - as above
        line = self._lines.readline()
        if not line.endswith(b"\r\n"):
            raise ServerError("the server closed the connection")
        kind, text = line[:1], line[1:-2]
        if kind == b"-":
            raise ServerError(text.decode())
        if kind == b"+":
            return text
        if kind == b":":
            return int(text)
        length = int(text)
        if length == NOTHING:
            return None
        if kind == b"$":
            return self._lines.read(length + 2)[:-2]
        if kind == b"*":
            return [self._read() for _ in range(length)]
        raise ServerError(f"an answer that nobody expects: {line[:40]!r}")
