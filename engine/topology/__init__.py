"""Where the server is: embedded, one, sentinel or cluster. The only importer of its client."""

from engine.topology.cluster import Cluster
from engine.topology.sentinel import Sentinel
from engine.topology.standalone import Standalone
from engine.topology.url import parse_server_url

__all__ = ["Cluster", "Sentinel", "Standalone", "Topology", "open_topology"]

Topology = Standalone | Sentinel | Cluster
"""All of them answer the same questions; only what keeps the hot connections tells them apart."""


def open_topology(url: str) -> Topology:
    """The topology that a URL names; see `engine.topology.url`. Raises `ValueError` for one that we cannot
    read. Connects to nothing yet.
    """
    parsed = parse_server_url(url)
    if parsed.kind == "sentinel":
        return Sentinel(parsed)
    if parsed.kind == "cluster":
        return Cluster(parsed)
    return Standalone(url)
