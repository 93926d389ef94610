"""Where the server is: embedded, one, sentinel or cluster. The only importer of its client."""

from engine.topology.standalone import Standalone

__all__ = ["Standalone", "open_topology"]


def open_topology(url: str) -> Standalone:
    """The topology that a URL names. Raises `ValueError` for a scheme that we do not know."""
    scheme = url.partition("://")[0]
    if scheme not in {"redis", "rediss", "unix"}:
        raise ValueError(f"{scheme}:// is no scheme of a server: use redis://, rediss:// or unix://")
    return Standalone(url)
