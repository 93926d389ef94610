"""Runs a benchmark of the checkout: the wheel has none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from api.settings import SettingsError

CHECKOUT = Path(__file__).resolve().parent.parent.parent
CANONICAL = "canonical"


def bench(benchmark: str, arguments: Sequence[str], checkout: Path = CHECKOUT) -> int:
    """Runs a benchmark by its name; its exit status. Options alone go to the canonical one.

    Raises `SettingsError` where there is no checkout or no such benchmark.
    """
    if benchmark.startswith("-"):
        benchmark, arguments = CANONICAL, [benchmark, *arguments]
    offered = list_benchmarks(checkout)
    if not offered:
        raise SettingsError(
            "bincard bench needs the folder benchmarks/ of a checkout, which the installed package does not "
            "have: clone the repository and install from there (pip install -e '.[load]')"
        )
    name = benchmark.replace("-", "_")
    if name not in offered:
        raise SettingsError(f"there is no benchmark {benchmark}; there are {', '.join(offered)}")
    if any(argument.partition("=")[0] in {"--key", "--api-key"} for argument in arguments):
        raise SettingsError("say the key in BINCARD_API_KEY: everybody can see the arguments of a program")
    before = os.environ.get("PYTHONPATH")
    path = str(checkout) if before is None else os.pathsep.join((str(checkout), before))
    done = subprocess.run(  # noqa: S603 - our own module
        # -P: a folder in the working directory is not taken for ours.
        [sys.executable, "-P", "-m", f"benchmarks.{name}", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    return done.returncode


def list_benchmarks(checkout: Path) -> list[str]:
    """The programs in `benchmarks/`, the canonical one first; empty where there is no such folder."""
    folder = checkout / "benchmarks"
    if not (folder / f"{CANONICAL}.py").is_file():
        return []
    files = {path.stem for path in folder.glob("*.py") if "measure.run(" in path.read_text(encoding="utf-8")}
    packages = {path.parent.name for path in folder.glob("*/__main__.py")}
    packages |= {f"{path.parent.name}.run" for path in folder.glob("*/run.py")}
    return [CANONICAL, *sorted((files | packages) - {CANONICAL})]
