"""What a server's URL says: where the servers are, as whom to enter, and how a connection is secured.

| URL | servers |
| --- | --- |
| `redis://[user:pass@]host[:port][/db]` | one, over TCP |
| `unix://[user:pass@]/path[?db=n]` | one, over a socket of this host |
| `redis+sentinel://[user:pass@]host:port[,host:port…]/service[/db]` | the primary that Sentinels name |
| `redis+cluster://[user:pass@]host:port[,host:port…]` | a cluster; any of its nodes will do |

`rediss` in place of `redis` asks for TLS. User and password are those of the servers with the data;
`sentinel_username` and `sentinel_password` those of the Sentinels. Text is percent-encoded as in any URL.
"""

import ssl
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from msgspec import Struct

Kind = Literal["standalone", "sentinel", "cluster"]

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
HIGHEST_PORT = 65535
SCHEMES: Mapping[str, tuple[Kind, bool]] = {
    "redis": ("standalone", False),
    "rediss": ("standalone", True),
    "unix": ("standalone", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs")
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
MOST_SENTINEL_PARTS = 2
"""Service and database."""


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Tls(Struct, frozen=True):
    """How a connection is secured. Paths are of PEM files."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    check_hostname: bool = True
    is_verified: bool = True

    def context(self) -> ssl.SSLContext:
        """For connections of our own. Raises `ValueError` where a file cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca_certs)
            if self.certfile:
                context.load_cert_chain(self.certfile, self.keyfile)
        except OSError as error:
            raise ValueError(f"a certificate of the server's URL cannot be used: {error}") from error
        context.check_hostname = self.check_hostname and self.is_verified
        if not self.is_verified:
            context.verify_mode = ssl.CERT_NONE
        return context


class Access(Struct, frozen=True):
    """How to enter a server."""

    user: str | None = None
    password: str | None = None
    database: int = 0
    tls: Tls | None = None

    def greeting(self) -> Sequence[Sequence[bytes]]:
        """The commands that a new connection starts with."""
        commands: list[list[bytes]] = []
        if self.password is not None:
            commands.append([b"AUTH", (self.user or "default").encode(), self.password.encode()])
        if self.database:
            commands.append([b"SELECT", str(self.database).encode()])
        return commands

    def client_options(self) -> dict[str, object]:
        """The same in the words of the Redis client's connections."""
        options: dict[str, object] = {"username": self.user, "password": self.password, "db": self.database}
        if self.tls is not None:
            options |= {
                "ssl_ca_certs": self.tls.ca_certs,
                "ssl_certfile": self.tls.certfile,
                "ssl_keyfile": self.tls.keyfile,
                "ssl_check_hostname": self.tls.check_hostname and self.tls.is_verified,
                "ssl_cert_reqs": "required" if self.tls.is_verified else "none",
            }
        return options


class ServerUrl(Struct, frozen=True):
    """A URL, taken apart. `path` is set for a socket, `service` for Sentinels."""

    kind: Kind
    addresses: tuple[Address, ...]
    access: Access
    path: str | None = None
    service: str = ""
    sentinel_access: Access = Access()


def parse_server_url(url: str) -> ServerUrl:
    """Takes a URL apart. Raises `ValueError`, whose text names the part and the remedy, never the URL:
    it may hold a password.
    """
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ValueError(f"{scheme[:20]}:// is no scheme of a server: use one of {known}")
    kind, is_secure = SCHEMES[scheme]
    parts = urlsplit(url)
    options = _read_options(parts, kind, is_secure=is_secure)
    tls = _read_tls(options) if is_secure else None
    user, password = _read_credentials(parts)
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    if scheme == "unix":
        if not segments:
            raise ValueError("unix:// needs the path of a socket: unix:///run/valkey/valkey.sock")
        access = Access(user, password, _read_database(options.get("db", "")))
        return ServerUrl(kind, (), access, path=unquote(parts.path))
    service = ""
    if kind == "sentinel":
        if not 1 <= len(segments) <= MOST_SENTINEL_PARTS:
            raise ValueError(f"{scheme}:// needs the service's name: {scheme}://host:port,host:port/service")
        service = segments.pop(0)
    if len(segments) > 1:
        raise ValueError(f"{scheme}://host:port/db has one number after the address at the most")
    database = _read_database(options.get("db") or "".join(segments))
    if kind == "cluster" and database:
        raise ValueError("a cluster has database 0 only: leave the number out of the URL")
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if kind == "standalone" and len(hosts) > 1:
        raise ValueError(
            f"{scheme}:// takes one address: use redis+cluster:// or redis+sentinel:// for several"
        )
    port = DEFAULT_SENTINEL_PORT if kind == "sentinel" else DEFAULT_PORT
    return ServerUrl(
        kind,
        tuple(read_address(host, port) for host in hosts),
        Access(user, password, database, tls),
        service=service,
        sentinel_access=Access(options.get("sentinel_username"), options.get("sentinel_password"), 0, tls),
    )


def read_address(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """The address that `host`, `host:port` or `[v6]:port` names. Raises `ValueError`."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) <= HIGHEST_PORT):
        raise ValueError(f"{port[:20]!r} is no port: a number from 1 to {HIGHEST_PORT}")
    return Address(unquote(host) or "localhost", int(port or default_port))


def _read_options(parts: SplitResult, kind: Kind, *, is_secure: bool) -> dict[str, str]:
    known = (
        "db",
        *(TLS_OPTIONS if is_secure else ()),
        *(SENTINEL_OPTIONS if kind == "sentinel" else ()),
    )
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name in TLS_OPTIONS and not is_secure:
            raise ValueError(f"{name} is for TLS: write rediss in place of redis at the front of the URL")
        if name not in known:
            raise ValueError(f"{name[:40]!r} is no option of such a URL; there are {', '.join(known)}")
    return options


def _read_tls(options: Mapping[str, str]) -> Tls:
    requirement = options.get("ssl_cert_reqs", "required")
    if requirement not in {"required", "none"}:
        raise ValueError("ssl_cert_reqs is required or none")
    if options.get("ssl_keyfile") and not options.get("ssl_certfile"):
        raise ValueError("ssl_keyfile needs its certificate: add ssl_certfile")
    return Tls(
        options.get("ssl_ca_certs"),
        options.get("ssl_certfile"),
        options.get("ssl_keyfile"),
        options.get("ssl_check_hostname", "true").lower() not in {"false", "no", "0"},
        requirement == "required",
    )


def _read_credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    entry, at, _ = parts.netloc.rpartition("@")
    user, colon, password = entry.partition(":")
    return (unquote(user) or None) if at else None, unquote(password) if colon else None


def _read_database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text[:20]!r} is no database: a number such as 0")
    return int(text)
