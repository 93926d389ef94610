"""The listening socket that all API workers share: bound once, by the supervisor."""

from __future__ import annotations

import errno
import socket

from api.settings import SettingsError

BACKLOG = 2048
MOST_UNSENT_BYTES = 128 * 1024
"""What the system takes of an answer ahead of what the line carries. It would take megabytes, so that who
does not read has dozens of answers made before it is noticed.
"""


class PortTakenError(Exception):
    """The address is not free; the text says what to do."""


def bind(host: str, port: int, prefix: str = "") -> socket.socket:
    """Takes the address without listening yet. `prefix` is what the options have before `host` and `port`.
    Raises `PortTakenError`, `SettingsError`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as fault:
        raise SettingsError(f"--{prefix}host {host}: {fault.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MOST_UNSENT_BYTES)
    try:
        listener.bind(address)
    except OSError as fault:
        listener.close()
        raise _refusal(fault, host, port, prefix) from None
    return listener


def listen(listener: socket.socket) -> None:
    """Starts to take connections. Raises `PortTakenError` where another was quicker."""
    try:
        listener.listen(BACKLOG)
    except OSError as fault:
        host, port = listener.getsockname()[:2]
        raise _refusal(fault, host, port) from None


def base_url(listener: socket.socket) -> str:
    """The address as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refusal(fault: OSError, host: str, port: int, prefix: str = "") -> PortTakenError:
    if fault.errno == errno.EADDRINUSE:
        return PortTakenError(
            f"port {port} on {host} is taken: stop the program that uses it, or choose another with "
            f"--{prefix}port"
        )
    return PortTakenError(f"port {port} on {host} cannot be used: {fault.strerror}")
