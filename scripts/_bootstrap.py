"""Make `.venv` ready with the standard library alone; shared by run.py and test.py.

Works under PEP 668 (nothing is installed outside `.venv`) and without `ensurepip` (the pip of the
calling Python installs into `.venv`). Repeating it costs milliseconds: a stamp in `.venv` holds a
hash of what was installed, and nothing happens until that changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
STAMP_NAME = ".bincard-installed.json"


class MissingError(Exception):
    """Something this machine lacks; the message says what, and how to get it."""


def venv_program(name: str, *, root: Path = ROOT) -> Path:
    """Path of a program inside `.venv`."""
    return root / ".venv" / "bin" / name


def host_python() -> str:
    """The Python behind a possible virtual environment: the one that may have pip."""
    return str(getattr(sys, "_base_executable", None) or sys.executable)


def fingerprint(*, root: Path = ROOT) -> str:
    """Changes whenever what is installed would have to change."""
    digest = hashlib.sha256()
    digest.update((root / "pyproject.toml").read_bytes())
    digest.update(sys.version.encode())
    digest.update(str(root).encode())
    return digest.hexdigest()


def installed_extras(*, root: Path = ROOT) -> frozenset[str] | None:
    """Extras of a finished, still valid installation; None when there is none."""
    stamp = root / ".venv" / STAMP_NAME
    try:
        stored = json.loads(stamp.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if stored.get("fingerprint") != fingerprint(root=root):
        return None
    if not venv_program("bincard", root=root).exists():
        return None
    return frozenset(stored["extras"])


def is_usable(python: Path) -> bool:
    """Whether `.venv` still starts, with the version of the calling Python."""
    try:
        answer = subprocess.run(
            [str(python), "-c", "import sys; print(sys.version)"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout.strip() == sys.version.strip()


def quietly(command: Sequence[str], *, fault: str) -> None:
    """Run a command and show its output only when it fails.

    Raises:
        MissingError: with `fault` and the last lines the command printed.
    """
    done = subprocess.run(
        list(command),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.rstrip().splitlines()[-25:])
        raise MissingError(f"{fault}\n\n{tail}" if tail else fault)


def pip_command(python: Path) -> list[str]:
    """A pip that installs into `.venv`, be it the host's, `.venv`'s own, or `ensurepip`'s.

    Raises:
        MissingError: there is none of the three.
    """
    host = host_python()
    if host == sys.executable:
        host_has_pip = importlib.util.find_spec("pip") is not None
    else:
        host_has_pip = starts([host, "-m", "pip", "--version"])
    if host_has_pip:
        return [host, "-m", "pip", "--python", str(python)]
    own = [str(python), "-m", "pip"]
    if starts([*own, "--version"]) or starts([str(python), "-m", "ensurepip"]):
        return own
    raise MissingError(
        f"{host} has no pip. Install it (on Debian and Ubuntu: apt-get install python3-pip) "
        "and run this again."
    )


def starts(command: Sequence[str]) -> bool:
    """Whether a command can be run and succeeds."""
    try:
        done = subprocess.run(list(command), capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def ensure_venv(extras: Iterable[str] = (), *, root: Path = ROOT) -> Path:
    """Create `.venv` and install Bincard with `extras` unless that is already so.

    Returns the Python of `.venv`. Two callers at once wait for one another.

    Raises:
        MissingError: Python is too old, pip is missing, or the installation failed.
    """
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        raise MissingError(f"Bincard needs Python {wanted} or newer; this is {sys.version}")
    python = venv_program("python", root=root)
    asked = frozenset(extras)
    have = installed_extras(root=root)
    if have is not None and asked <= have:
        return python
    with (root / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        have = installed_extras(root=root)
        if have is not None and asked <= have:
            return python
        wanted_extras = sorted(asked | (have or frozenset()))
        what = f"bincard[{','.join(wanted_extras)}]" if wanted_extras else "bincard"
        say(f"installing {what} into .venv (once; about half a minute)")
        if not is_usable(python):
            quietly(
                [host_python(), "-m", "venv", "--clear", "--without-pip", str(root / ".venv")],
                fault="Python could not create .venv (on Debian and Ubuntu: apt-get install python3-venv).",
            )
        target = f"{root}[{','.join(wanted_extras)}]" if wanted_extras else str(root)
        quietly(
            [
                *pip_command(python),
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
                "--editable",
                target,
            ],
            fault="pip could not install Bincard; its last words:",
        )
        stamp = root / ".venv" / STAMP_NAME
        unfinished = stamp.with_suffix(".tmp")
        unfinished.write_text(
            json.dumps({"fingerprint": fingerprint(root=root), "extras": wanted_extras}),
            encoding="utf-8",
        )
        unfinished.replace(stamp)
    return python


def say(line: str) -> None:
    """One line to the person at the terminal, in order with what programs print."""
    print(line, flush=True)


def environment(*, root: Path = ROOT) -> dict[str, str]:
    """The environment for programs of `.venv`: theirs first on PATH, no other Python's settings."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONHOME"}
    kept["VIRTUAL_ENV"] = str(root / ".venv")
    kept["PATH"] = f"{root / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return kept


def become(module: str, words: Sequence[str], extras: Sequence[str] = ("test",)) -> NoReturn:
    """Installs what is needed and goes on as a module of ours; exit status 1 where that cannot be."""
    try:
        ensure_venv(extras)
    except MissingError as missing:
        sys.exit(str(missing))
    python = str(venv_program("python"))
    os.chdir(ROOT)
    os.execve(python, [python, "-m", module, *words], environment())  # noqa: S606 - no shell
