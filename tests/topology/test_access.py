"""Who may enter, and how: users with few rights, TLS, sockets."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pytest

import engine
from engine import Line, Location, LocationKind
from engine.doctor import Severity, examine
from engine.errors import StorageUnavailable
from engine.explain import explain
from engine.holders import holder_page
from engine.script import read_sources
from engine.topology import Standalone
from engine.workers import Indexer, Sweeper
from tests.servers import find_program
from tests.topology.conftest import ADMIN, DEPLOY, US, deployed_settings
from tests.topology.groups import Group, Node, free_ports, wait_until
from tests.topology.traffic import PLACE, SKUS, prove_books, stock_up

FORBIDDEN = (
    ("EVAL", "return 1", "0"),
    ("CONFIG", "SET", "appendonly", "no"),
    ("FLUSHALL",),
    ("KEYS", "*"),
    ("SET", "inv:{0}:x", "1"),
    ("DEL", "inv:{0}:meta"),
    ("FUNCTION", "FLUSH"),
    ("HGET", "other", "x"),
    ("SHUTDOWN",),
)

NOT_IN_SCRIPTS = (
    "fcall function|load multi exec wait ping hello auth select client|setname role config|get acl|getuser",
    "exists hlen hscan hsetnx scan xlen xrange xrevrange zrangebyscore zmscore zscan asking cluster|nodes",
)


@pytest.fixture
def server(server_name: str, tmp_path: Path) -> Iterator[Node]:
    """One server with the settings and users of deploy/, on a port and a socket."""
    with start(server_name, tmp_path, {"unixsocket": f'"{tmp_path}/s"'}) as node:
        yield node


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[Node]:
    """A Redis with TLS: the Valkey inside the wheel is built without."""
    make_certificate(tmp_path, "ca", signer=None)
    make_certificate(tmp_path, "server", signer="ca")
    settings = {
        "tls-port": str(free_ports(1)[0]),
        "tls-cert-file": f'"{tmp_path}/server.pem"',
        "tls-key-file": f'"{tmp_path}/server.key"',
        "tls-ca-cert-file": f'"{tmp_path}/ca.pem"',
    }
    with start("redis7", tmp_path, settings) as node:
        yield node


@contextmanager
def start(server_name: str, folder: Path, settings: Mapping[str, str]) -> Iterator[Node]:
    """A server of its own, for as long as the block lasts."""
    (folder / "group").mkdir()
    with Group(folder / "group", entry=ADMIN) as group:
        deployed = deployed_settings(server_name, folder)
        node = group.add(find_program(server_name).path, free_ports(1)[0], {**deployed, **settings})
        wait_until(node.answers, "it answers")
        yield node


def make_certificate(folder: Path, name: str, signer: str | None) -> None:
    """A key and a certificate for 127.0.0.1, signed by another or by itself."""
    assert shutil.which("openssl"), "these tests need openssl on PATH (Debian: apt-get install openssl)"
    signed = ["-CA", f"{signer}.pem", "-CAkey", f"{signer}.key"] if signer else []
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2"),
            *("-addext", "subjectAltName=IP:127.0.0.1", *signed),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def test_the_engines_user_may_call_what_the_scripts_do_and_little_else() -> None:
    """A command that a script begins to call, or calls no more, is found without a server."""
    called = {
        name.lower()
        for verb in chain(*map(dict.values, read_sources()))
        for name in re.findall(r"redis\.call\('(\w+)'", verb)
    }
    lines = (DEPLOY / "users.acl").read_text(encoding="utf-8").splitlines()
    (ours,) = (line for line in lines if line.startswith("user bincard "))
    rights = {word[1:] for word in ours.split() if word.startswith("+")}
    assert rights == called | set(" ".join(NOT_IN_SCRIPTS).split())


async def test_the_engines_user_has_the_rights_it_needs_and_no_others(server: Node) -> None:
    """Everything the product does to a server, as the user of deploy/users.acl, durability `local`."""
    inventory = await engine.connect(f"redis://{US}{server.address}", partitions=2)
    try:
        await stock_up(inventory, "test")
        await inventory.reserve("short", [Line(SKUS[0], 1, PLACE)], ttl_seconds=1)
        held = await inventory.reserve("long", [Line(SKUS[0], 2, PLACE)])
        await inventory.commit(held.id, op_id="c")
        await asyncio.sleep(1.1)
        await Sweeper(inventory).tick()
        await Indexer(inventory).tick()
        assert (await inventory.stock(SKUS[0]))[0].held == 0
        await inventory.save_location(Location("gone", LocationKind.STORE))
        await inventory.delete_location("gone")
        await explain(inventory, SKUS[0])
        assert len((await inventory.reservations()).items) == 2
        await holder_page(inventory, SKUS[0], PLACE, limit=1)
        await inventory.availability(SKUS[0], owner="cart")
        await prove_books(inventory)
        findings = await examine(inventory.dataset, "local")
        assert {finding.severity for finding in findings} == {Severity.OK}, findings
        denied = server.call("ACL", "LOG")
        assert {entry[entry.index(b"object") + 1] for entry in denied} <= {b"client|setinfo"}
        for words in FORBIDDEN:
            with pytest.raises(StorageUnavailable, match=r"permission|NOPERM"):
                await inventory.dataset.topology.ask(*words)
    finally:
        await inventory.close()


async def test_a_wrong_password_is_told(server: Node) -> None:
    with pytest.raises(StorageUnavailable, match=r"invalid username-password|WRONGPASS"):
        await engine.connect(f"redis://bincard:wrong@{server.address}")


async def test_a_socket_with_user_and_database(server: Node, tmp_path: Path) -> None:
    """Another database is another data set."""
    inventory = await engine.connect(f"unix://{US.removesuffix('@')}@{tmp_path}/s?db=3")
    await stock_up(inventory, "test")
    await inventory.close()
    assert b"db3" in server.call("INFO", "keyspace")
    assert b"db0" not in server.call("INFO", "keyspace")


async def test_tls_is_verified(tls_server: Node, tmp_path: Path) -> None:
    """With the authority's certificate and one of ours it works, hot and cold; else nothing is sent."""
    port = int(tls_server.call("CONFIG", "GET", "tls-port")[1])
    plain = f"rediss://{US}127.0.0.1:{port}/"
    trusting = f"{plain}?ssl_ca_certs={tmp_path}/ca.pem"
    full = f"{trusting}&ssl_certfile={tmp_path}/server.pem&ssl_keyfile={tmp_path}/server.key"
    inventory = await engine.connect(full)
    await stock_up(inventory, "test")
    await prove_books(inventory)
    await inventory.close()
    for lacking in (plain, trusting):
        topology = Standalone(lacking)
        with pytest.raises(StorageUnavailable):
            await topology.read_hash("inv:{0}:dataset")
        await topology.close()
