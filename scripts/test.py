#!/usr/bin/env python3
"""Everything CI runs, in one command; needs Python 3.11 with pip.

Installs the test extras into `.venv`, checks the code (one line each), then runs the tests: first
those that assert on speed, alone, then all others at the same time; what pytest says comes last.
Arguments go to pytest, and then pytest alone runs: `python3 scripts/test.py tests/unit -k reserve`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from _bootstrap import ROOT, MissingError, ensure_venv, environment, quietly, say, venv_program

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTRAS = ("test", "data", "load")
# Program → Debian package and Homebrew formula that bring it.
TOOLS = {
    "redis-server": ("redis-server", "redis"),
    "luacheck": ("lua-check", "luacheck"),
    "openssl": ("openssl", "openssl"),
    "wrk": ("wrk", "wrk"),
    "postgres": ("postgresql", "postgresql"),
    "prometheus": ("prometheus", "prometheus"),
}
if sys.platform.startswith("linux"):  # the fault campaign plays on Linux alone
    TOOLS |= {"strace": ("strace", "strace"), "cc": ("gcc", "gcc")}
# Debian keeps the server's programs off PATH.
POSTGRES = Path("/usr/lib/postgresql")
NO_SERVICES = Path("/usr/sbin/policy-rc.d")


def main(arguments: list[str]) -> int:
    """Install, check, test; returns the exit status."""
    try:
        ensure_venv(EXTRAS)
        ensure_tools()
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    if arguments:
        return pytest(arguments)
    failed = [name for name, command in checks() if not passes(name, command)]
    if failed:
        print(f"\nfailed: {', '.join(failed)}; no test was run", file=sys.stderr)
        return 1
    # What asserts on speed runs with nothing beside it.
    status = pytest(["-m", "load"])
    return pytest(["-n", "auto", "--dist", "loadfile", "-m", "not load"]) or status


def checks() -> Iterator[tuple[str, list[str]]]:
    """Name and command of every static check, cheap ones first."""
    ruff = str(venv_program("ruff"))
    yield "ruff check", [ruff, "check", "--quiet", "--output-format=concise"]
    yield "ruff format", [ruff, "format", "--check", "--quiet"]
    yield "import rules", [str(venv_program("lint-imports"))]
    yield "mypy", [str(venv_program("mypy")), "--no-error-summary"]
    yield "luacheck", [str(venv_program("python")), "scripts/lint_lua.py"]


def passes(name: str, command: list[str]) -> bool:
    """Run one check; its output shows only when it fails."""
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    passed = done.returncode == 0
    say(f"{name:<14} {'ok' if passed else 'FAILED':<6} {time.monotonic() - began:5.1f} s")
    if not passed:
        say(done.stdout.rstrip())
    return passed


def pytest(arguments: list[str]) -> int:
    """Run the tests; pytest writes its own summary."""
    sys.stdout.flush()
    command = [str(venv_program("python")), "-m", "pytest", *arguments]
    try:
        return subprocess.run(command, cwd=ROOT, env=environment(), check=False).returncode
    except KeyboardInterrupt:
        return 130


def ensure_tools() -> None:
    """Have the programs that pip cannot bring: as root on Debian, install them.

    Raises:
        MissingError: one is missing and cannot be installed from here.
    """
    missing = [name for name in TOOLS if not is_there(name)]
    if not missing:
        return
    packages = [TOOLS[name][0] for name in missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        formulas = [TOOLS[name][1] for name in missing]
        raise MissingError(
            f"The checks need {' and '.join(missing)}, which pip cannot install.\n"
            f"Debian, Ubuntu: sudo apt-get install {' '.join(packages)}\n"
            f"macOS:          brew install {' '.join(formulas)}"
        )
    say(f"installing {' '.join(packages)} with apt-get (once)")
    install = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=120"]
    fault = f"apt-get could not install {' '.join(packages)}; its last words:"
    with no_started_services():
        quietly([*install, "-qq", "update"], fault="apt-get update failed; its last words:")
        quietly([*install, "-qq", "-y", "--no-install-recommends", "install", *packages], fault=fault)


def is_there(name: str) -> bool:
    """Whether a program can be started."""
    return shutil.which(name) is not None or any(POSTGRES.glob(f"*/bin/{name}"))


@contextlib.contextmanager
def no_started_services() -> Iterator[None]:
    """While inside, a package may not start the service it brings: the tests start their own."""
    if NO_SERVICES.exists():
        yield
        return
    NO_SERVICES.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    NO_SERVICES.chmod(0o755)
    try:
        yield
    finally:
        NO_SERVICES.unlink()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
