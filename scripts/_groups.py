"""Groups of servers on this machine: a cluster, or a primary and its replica under Sentinels.

Each group has free ports, a temporary directory and processes of its own; stopping it leaves nothing
behind, and neither does a starter that was killed: the servers then get SIGKILL too (on Linux).
`scripts/dev.py` starts groups for a person, tests start them as fixtures.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from _resp import Client, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor
    from types import TracebackType

HOST = "127.0.0.1"
SERVICE = "bincard"
SLOTS = 16_384
PORTS = range(20_000, 32_000)
"""Below those that outgoing connections are given: a client that tries a dead server's port over and over
may otherwise be connected to itself."""
START_SECONDS = 20.0
ATTEMPTS = 3
POLL_SECONDS = 0.02
NODE_TIMEOUT_MS = 1000
DOWN_AFTER_MS = 600
FAILOVER_TIMEOUT_MS = 3000

# Becomes the server, after asking the kernel to end it with its starter (1: PR_SET_PDEATHSIG, 9: SIGKILL).
_LAUNCHER = (
    "import ctypes, os, sys; "
    "libc = ctypes.CDLL(None); "
    "hasattr(libc, 'prctl') and libc.prctl(1, 9, 0, 0, 0); "
    "os.getppid() == int(sys.argv[1]) or os._exit(86); "
    "os.execv(sys.argv[2], sys.argv[2:])"
)


Entry = tuple[()] | tuple[str, str]
"""User and password, or nothing where the servers are open."""

_G = TypeVar("_G", bound="Group")


class GroupError(Exception):
    """A group did not come up; the text has what a server last said."""


class Node:
    """One server process, started again as often as one likes."""

    def __init__(
        self,
        program: Path,
        directory: Path,
        port: int,
        settings: Mapping[str, str],
        *,
        starter: Executor,
        entry: Entry = (),
        is_sentinel: bool = False,
    ) -> None:
        self.port = port
        self._entry = entry
        self._starter = starter
        self._directory = directory
        self._is_sentinel = is_sentinel
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir()
        lines = [] if is_sentinel else ['save ""', "appendonly no", "repl-diskless-sync-delay 0"]
        lines += [f"{name} {value}" for name, value in settings.items()]
        # Last, so that a file that the settings include cannot have the say.
        lines += [f"port {port}", f"bind {HOST}", 'dir "."']
        # A file of its own: Sentinel and the cluster write into it.
        (directory / "server.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "start() comes first"
        return self._process.pid

    def start(self) -> None:
        """Starts the server; it may take a moment until it answers."""
        command = [str(self._program), "server.conf", *(["--sentinel"] if self._is_sentinel else [])]
        with (self._directory / "log").open("ab") as log:
            self._process = self._starter.submit(
                subprocess.Popen,
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ).result()

    def client(self) -> Client:
        """A connection of one's own. Raises `ServerError`."""
        client = Client(HOST, self.port)
        if self._entry:
            client.call("AUTH", *self._entry)
        return client

    def call(self, *words: str | bytes | int) -> Any:  # noqa: ANN401 - a reply is whatever the server says
        """One command, and its reply. Raises `ServerError`."""
        with self.client() as client:
            return client.call(*words)

    def info(self) -> dict[str, str]:
        """The server's INFO. Raises `ServerError`."""
        lines = _text(self.call("INFO")).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def answers(self) -> bool:
        """Whether the server is up. Raises `GroupError` where it has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise GroupError(f"the server of port {self.port} ended:\n{self.log_tail()}")
        try:
            return bool(self.call("PING"))
        except ServerError:
            return False

    def kill(self) -> None:
        """Ends the process with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stops the process where it stands; `resume` lets it go on."""
        assert self._process is not None, "start() comes first"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None, "start() comes first"
        self._process.send_signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The last the server said."""
        return "\n".join((self._directory / "log").read_text(errors="replace").splitlines()[-10:])


class Group:
    """Servers that belong together. Build one with `start_cluster` or `start_sentinels`."""

    def __init__(self, directory: Path, entry: Entry = ()) -> None:
        self.directory = directory
        self._entry = entry
        self.nodes: list[Node] = []
        self.url = ""
        # The kernel's signal follows the thread that started a process, so that thread stays.
        self._starter = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends every process and removes the directory."""
        for node in self.nodes:
            node.kill()
        self._starter.shutdown()
        shutil.rmtree(self.directory, ignore_errors=True)

    def add(
        self, program: Path, port: int, settings: Mapping[str, str], *, is_sentinel: bool = False
    ) -> Node:
        """A further server, started."""
        node = Node(
            program,
            self.directory / str(port),
            port,
            settings,
            starter=self._starter,
            entry=() if is_sentinel else self._entry,
            is_sentinel=is_sentinel,
        )
        self.nodes.append(node)
        node.start()
        return node

    def node_at(self, port: int) -> Node:
        """The server that listens on a port."""
        return next(node for node in self.nodes if node.port == port)


class ClusterGroup(Group):
    """A cluster. `primaries` are those that were primaries at the start."""

    program: Path
    settings: Mapping[str, str]

    @property
    def primaries(self) -> list[Node]:
        return self.nodes[:3]

    def owner(self, slot: int) -> Node:
        """The primary that has a slot, as any node that answers says."""
        for node in self.nodes:
            with contextlib.suppress(ServerError):
                for first, last, primary, *_ in node.call("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return self.node_at(primary[1])
        raise GroupError(f"no node serves slot {slot}")

    def add_node(self) -> Node:
        """A further primary, without slots."""
        port, bus = free_ports(2)
        node = self.add(self.program, port, {**self.settings, **_cluster_settings(bus)})
        wait_until(node.answers, "the new node answers")
        first = next(other for other in self.nodes if other is not node and other.answers())
        node.call("CLUSTER", "MEET", HOST, first.port, _bus_port(first))
        wait_until(lambda: _knows(node, len(self.nodes)) and _is_ok(node), "the new node has joined")
        wait_until(
            lambda: all(_knows(other, len(self.nodes)) for other in self.nodes if other.answers()),
            "all nodes know the new one",
        )
        return node

    def move_slot(self, slot: int, target: Node, *, pause_seconds: float = 0.0) -> int:
        """Moves a slot key by key, as every server since Redis 3 can; returns how many keys moved.

        `pause_seconds` passes after each key, so that a test sees the slot half moved.
        """
        source = self.owner(slot)
        source_id, target_id = _id_of(source), _id_of(target)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        moved = 0
        with source.client() as client:
            while keys := client.call("CLUSTER", "GETKEYSINSLOT", slot, 10):
                for key in keys:
                    entry = ("AUTH2", *self._entry) if self._entry else ()
                    client.call("MIGRATE", HOST, target.port, "", 0, 5000, *entry, "KEYS", key)
                    moved += 1
                    time.sleep(pause_seconds)
        for node in (target, source, *self.nodes):
            with contextlib.suppress(ServerError):  # replicas refuse, the dead do not answer
                node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)
        return moved

    def move_slot_at_once(self, slot: int, target: Node) -> None:
        """Moves a slot as Valkey 9 can: all keys in one go. Raises `ServerError` on other servers."""
        source = self.owner(slot)
        source.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", _id_of(target))
        wait_until(lambda: self.owner(slot) is target, f"slot {slot} is at its new owner")

    def wait_until_whole(self) -> None:
        """Until every slot is served and every node that runs agrees."""
        wait_until(
            lambda: all(_is_ok(node) for node in self.nodes if node.answers()),
            "the cluster is whole",
        )


class SentinelGroup(Group):
    """A primary, its replicas, three Sentinels."""

    size = 2
    """How many servers there are besides the Sentinels."""

    @property
    def servers(self) -> list[Node]:
        return self.nodes[: self.size]

    @property
    def sentinels(self) -> list[Node]:
        return self.nodes[self.size :]

    def primary(self) -> Node:
        """The server that the Sentinels name now."""
        for sentinel in self.sentinels:
            with contextlib.suppress(ServerError):
                found = sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
                return self.node_at(int(found[1]))
        raise GroupError("no Sentinel answers")

    def promote_replica(self) -> None:
        """Has the Sentinels make the replica the primary, though nothing is broken."""
        self.sentinels[0].call("SENTINEL", "FAILOVER", SERVICE)

    def bring_back(self, node: Node) -> None:
        """Starts a server that was killed, as a replica."""
        node.start()
        wait_until(node.answers, f"port {node.port} answers")
        self.demote(node)

    def demote(self, node: Node) -> None:
        """Makes an old primary a replica. The Sentinels see to that themselves, in about 10 s."""
        node.call("REPLICAOF", HOST, self.primary().port)

    def wait_until_replicated(self) -> None:
        """Until the replica has all that the primary has, and every Sentinel knows of it."""

        def is_so() -> bool:
            try:
                return has_replica(self.primary()) and all(
                    f",slaves={self.size - 1}," in sentinel.info().get("master0", "")
                    for sentinel in self.sentinels
                )
            except ServerError:
                return False

        wait_until(is_so, "the replica has what the primary has")


def start_cluster(
    program: Path,
    *,
    primaries: int = 3,
    replicas: int = 1,
    settings: Mapping[str, str] | None = None,
    entry: Entry = (),
) -> ClusterGroup:
    """A cluster with `replicas` for each primary, whole when this returns (about 3 s). Raises `GroupError`.

    `settings` go to every server; `entry` is the user and password with which this module may do all.
    """
    return _attempt(
        lambda directory: _start_cluster(program, directory, (primaries, replicas), settings or {}, entry)
    )


def start_sentinels(
    program: Path,
    *,
    replicas: int = 1,
    settings: Mapping[str, str] | None = None,
    sentinel_settings: Mapping[str, str] | None = None,
    entry: Entry = (),
) -> SentinelGroup:
    """A primary, its `replicas` and three Sentinels, ready to promote (about 1 s). Raises `GroupError`.

    `settings` go to the primary and the replica; `entry` is as for `start_cluster`.
    """
    return _attempt(
        lambda directory: _start_sentinels(
            program, directory, replicas, settings or {}, sentinel_settings or {}, entry
        )
    )


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment."""
    with contextlib.ExitStack() as held:
        found: list[int] = []
        while len(found) < count:
            port = random.choice(PORTS)  # noqa: S311 - spreads, hides nothing
            try:
                held.enter_context(socket.create_server((HOST, port)))
            except OSError:
                continue
            found.append(port)
        return found


def has_replica(node: Node) -> bool:
    """Whether a replica has confirmed all that a primary has. Raises `ServerError`."""
    told = node.info()
    replica = dict(part.split("=", 1) for part in told.get("slave0", "").split(",") if "=" in part)
    return replica.get("state") == "online" and replica.get("offset") == told["master_repl_offset"]


def wait_until(is_so: Callable[[], bool], what: str, *, seconds: float = START_SECONDS) -> None:
    """Looks again and again. Raises `GroupError` when it has taken too long."""
    ends = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > ends:
            raise GroupError(f"after {seconds:.0f} s it is still not so that {what}")
        time.sleep(POLL_SECONDS)


def _attempt(start: Callable[[Path], _G]) -> _G:
    """Somebody else may take a port between our choice and the start: then others are chosen."""
    for attempt in range(ATTEMPTS):
        directory = Path(tempfile.mkdtemp(prefix="bincard-group-"))
        try:
            return start(directory)
        except GroupError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _start_cluster(
    program: Path, directory: Path, size: tuple[int, int], settings: Mapping[str, str], entry: Entry
) -> ClusterGroup:
    group = ClusterGroup(directory, entry)
    group.program, group.settings = program, settings
    try:
        primaries, replicas = size
        count = primaries * (1 + replicas)
        ports = free_ports(2 * count)
        for index in range(count):
            group.add(program, ports[index], {**settings, **_cluster_settings(ports[count + index])})
        nodes = group.nodes
        for index, node in enumerate(nodes):
            wait_until(node.answers, f"port {node.port} answers")
            node.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for index, node in enumerate(nodes[:primaries]):
            first, last = SLOTS * index // primaries, SLOTS * (index + 1) // primaries - 1
            node.call("CLUSTER", "ADDSLOTSRANGE", first, last)
        # Everybody meets everybody: gossip alone takes seconds.
        for one, other in combinations(nodes, 2):
            one.call("CLUSTER", "MEET", HOST, other.port, _bus_port(other))
        wait_until(lambda: all(_knows(node, count) for node in nodes), "all nodes know one another")
        for index, node in enumerate(nodes[primaries:]):
            node.call("CLUSTER", "REPLICATE", _id_of(nodes[index % primaries]))
        wait_until(
            lambda: all(map(_follows, nodes[primaries:])),
            "all replicas follow",
        )
        wait_until(
            lambda: all(_replicas_of(node) == count - primaries for node in nodes), "all know the replicas"
        )
        group.wait_until_whole()
    except BaseException:
        group.stop()
        raise
    group.url = "redis+cluster://" + ",".join(node.address for node in group.primaries)
    return group


def _start_sentinels(
    program: Path,
    directory: Path,
    replicas: int,
    settings: Mapping[str, str],
    sentinel_settings: Mapping[str, str],
    entry: Entry,
) -> SentinelGroup:
    group = SentinelGroup(directory, entry)
    try:
        ports = free_ports(4 + replicas)
        group.size = 1 + replicas
        primary = group.add(program, ports[0], settings)
        for port in ports[1 : group.size]:
            group.add(program, port, {**settings, "replicaof": f"{HOST} {primary.port}"})
        wait_until(primary.answers, "the primary answers")
        for replica in group.servers[1:]:
            wait_until(replica.answers, "the replica answers")
            wait_until(partial(_follows, replica), "the replica follows")
        names = {port: random.randbytes(20).hex() for port in ports[group.size :]}  # noqa: S311 - a name, no secret
        for port, name in names.items():
            # Who the others are is told, not left to gossip, which takes seconds.
            lines = {
                f"sentinel known-sentinel {SERVICE} {HOST} {other}": names[other]
                for other in names
                if other != port
            }
            group.add(
                program,
                port,
                {
                    "sentinel myid": name,
                    f"sentinel monitor {SERVICE} {HOST} {primary.port}": "2",
                    f"sentinel down-after-milliseconds {SERVICE}": str(DOWN_AFTER_MS),
                    f"sentinel failover-timeout {SERVICE}": str(FAILOVER_TIMEOUT_MS),
                    **lines,
                    **sentinel_settings,
                },
                is_sentinel=True,
            )
        for sentinel in group.sentinels:
            wait_until(sentinel.answers, f"the Sentinel of port {sentinel.port} answers")
        group.wait_until_replicated()
    except BaseException:
        group.stop()
        raise
    group.url = f"redis+sentinel://{','.join(node.address for node in group.sentinels)}/{SERVICE}"
    return group


def _cluster_settings(bus_port: int) -> dict[str, str]:
    return {
        "cluster-enabled": "yes",
        "cluster-port": str(bus_port),
        "cluster-node-timeout": str(NODE_TIMEOUT_MS),
        "cluster-replica-validity-factor": "0",
    }


def _follows(node: Node) -> bool:
    return node.info().get("master_link_status") == "up"


def _bus_port(node: Node) -> int:
    return int(node.call("CONFIG", "GET", "cluster-port")[1])


def _id_of(node: Node) -> str:
    return _text(node.call("CLUSTER", "MYID"))


def _knows(node: Node, count: int) -> bool:
    """Whether a node knows so many nodes, itself counted, and has shaken hands with all."""
    lines = _node_lines(node)
    return len(lines) >= count and not any("handshake" in line for line in lines)


def _replicas_of(node: Node) -> int:
    return sum("slave" in line for line in _node_lines(node))


def _node_lines(node: Node) -> list[str]:
    return _text(node.call("CLUSTER", "NODES")).splitlines()


def _is_ok(node: Node) -> bool:
    return "cluster_state:ok" in _text(node.call("CLUSTER", "INFO"))


def _text(reply: object) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
