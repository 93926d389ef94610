"""The servers that tests run on: one, a primary under Sentinels, or a cluster, each started once."""

import shutil
from pathlib import Path
from typing import Protocol

import pytest
from redis import Redis
from redis.cluster import RedisCluster

from engine.topology.embedded import EmbeddedServer
from engine.topology.embedded_binary import ServerBinary, find_server_binary, inspect_server_binary
from tests.topology.groups import SERVICE, ClusterGroup, SentinelGroup, start_cluster, start_sentinels

SERVERS = ("valkey", "redis7")
TOPOLOGIES = ("standalone", "sentinel", "cluster")
PATIENCE_MS = 60_000
"""How long a silent primary is waited for: on a busy machine none of these tests wants a promotion."""

Control = Redis | RedisCluster


class Server(Protocol):
    """Whatever the topology, the engine is told a URL."""

    @property
    def url(self) -> str: ...


class Servers:
    """Starts servers by name and topology, and keeps them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: dict[tuple[str, str], EmbeddedServer | SentinelGroup | ClusterGroup] = {}

    def start(self, name: str, topology: str) -> Server:
        """A running server; what others left on it is still there."""
        wanted = name, topology
        if wanted not in self._started:
            self._started[wanted] = self._start(find_program(name).path, "-".join(wanted), topology)
        return self._started[wanted]

    def _start(
        self, program: Path, folder: str, topology: str
    ) -> EmbeddedServer | SentinelGroup | ClusterGroup:
        if topology == "sentinel":
            watched = start_sentinels(program)
            for sentinel in watched.sentinels:
                sentinel.call("SENTINEL", "SET", SERVICE, "down-after-milliseconds", PATIENCE_MS)
            return watched
        if topology == "cluster":
            cluster = start_cluster(program)
            for node in cluster.nodes:
                node.call("CONFIG", "SET", "cluster-node-timeout", PATIENCE_MS)
            return cluster
        return EmbeddedServer.start(self._folder / folder, durability="none", binary=program)

    def stop(self) -> None:
        """Ends them all."""
        for server in self._started.values():
            if isinstance(server, EmbeddedServer):
                server.stop(timeout_seconds=0)
            else:
                server.stop()


def open_control(server: Server) -> Control:
    """A plain client of a server; a cluster's finds the node of each key, and empties all primaries."""
    if isinstance(server, ClusterGroup):
        return RedisCluster("127.0.0.1", server.primaries[0].port)
    if isinstance(server, SentinelGroup):
        return Redis(port=server.primary().port)
    return Redis.from_url(server.url)


def node_of(control: Control, key: str) -> Redis:
    """A client of the one server that has a key."""
    if isinstance(control, Redis):
        return control
    return control.get_redis_connection(control.get_node_from_key(key))


def find_program(name: str) -> ServerBinary:
    """The program of a server. Fails the test run where it is missing: a skipped server proves nothing."""
    if name == "valkey":
        return find_server_binary({"PATH": ""})
    path = shutil.which("redis-server")
    if path is None:
        pytest.fail("these tests need redis-server 7.0 on PATH (Debian: apt-get install redis-server)")
    program = inspect_server_binary(Path(path))
    if program.family != "redis":
        pytest.fail(f"{path} is {program.family} {program.version}; these tests need a Redis")
    return program
