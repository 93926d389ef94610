#!/usr/bin/env python3
"""Change the Lua in small wrong ways and see whether a test notices; run by hand, not by CI.

`python scripts/mutate_lua.py reserve lib/batch` mutates these files, no names all of them. Each mutant is a
copy of the code with one place changed: a comparison flipped, a constant shifted, a call dropped, a
condition negated. `--tests` adds tests to those of tests/lua; a verb's own tests run first. Mutants
that no test can tell from the original stand in tests/lua/equivalent_mutants.toml, each with its reason.
Exit status 1 when others survive.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, NamedTuple

from _bootstrap import ROOT, environment, venv_program

if TYPE_CHECKING:
    from collections.abc import Iterator

LUA = Path("engine") / "lua"
EQUIVALENT = ROOT / "tests" / "lua" / "equivalent_mutants.toml"
COPIED = ("engine", "scripts", "tests", "pyproject.toml")
# The tests that know an include best; a verb's own are named after it.
TESTS_OF = {
    "lib/claims": "claims",
    "lib/hold": "hold_part",
    "lib/lapse": "expire",
    "lib/parts": "follow",
    "lib/places": "movement",
    "lib/resolve": "resolutions",
    "lib/steps": "basket_steps",
}
# A mutant may loop for ever; the server then never answers.
TIMEOUT_SECONDS = 30
FLIPPED = {
    "==": ("~=",),
    "~=": ("==",),
    "<": ("<=", ">="),
    "<=": ("<", ">"),
    ">": (">=", "<="),
    ">=": (">", "<"),
}
COMPARISON = re.compile(r"(?<![~=<>'])(==|~=|<=|>=|<|>)(?![=<>'])")
NUMBER = re.compile(r"(?<![\w.'\]])\d+(?:e\d+)?(?![\w.'])")
LOGIC = re.compile(r"\b(and|or)\b")
CONDITION = re.compile(r"\b(if|elseif|while)\b (.+) \b(then|do)$")
NEGATION = re.compile(r"\bnot ")
STEP = re.compile(r"(?<=[\w\])]) ([+-]) (?=[\w(#])")
CALL = re.compile(r"^\s*(?:redis\.call|[a-z_]+)\(.*\)$")
ASSIGNMENT = re.compile(r"^\s*[\w.\[\]# +]+(?:, [\w.\[\]# +]+)* = .+$")


class Mutant(NamedTuple):
    """A file of the Lua with one line changed."""

    file: str
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        """How the list of equivalent mutants names it: by text, so that moved lines keep their names."""
        return f"{self.file}: {self.before.strip()} => {self.after.strip()}"


def main() -> int:
    """Run the mutants and tell of each that survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("files", nargs="*", help="verbs, or lib/<name>; all where none is named")
    parser.add_argument("--tests", nargs="*", default=[], help="more tests than those of tests/lua")
    parser.add_argument("--server", default="valkey", help="the server to test on")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1)))
    parser.add_argument("--sample", type=int, help="run only so many, evenly picked")
    parser.add_argument("--list", action="store_true", help="print the mutants and run none")
    options = parser.parse_args()
    names = options.files or sorted(
        path.relative_to(ROOT / LUA).with_suffix("").as_posix() for path in (ROOT / LUA).rglob("*.lua")
    )
    equivalent = read_equivalent()
    mutants = [mutant for name in names for mutant in mutants_of(name)]
    told = [mutant for mutant in mutants if mutant.name in equivalent]
    mutants = [mutant for mutant in mutants if mutant.name not in equivalent]
    if options.list:
        for mutant in mutants:
            print(f"{mutant.file}:{mutant.line}\n  - {mutant.before.strip()}\n  + {mutant.after.strip()}")
        print(f"{len(mutants)} mutants, and {len(told)} equivalent ones")
        return 0
    if options.sample:
        mutants = mutants[:: max(1, len(mutants) // options.sample)]
    survivors = run_all(mutants, options.tests, options.server, options.jobs)
    for mutant in survivors:
        print(
            f"SURVIVED {mutant.file}:{mutant.line}\n  - {mutant.before.strip()}\n  + {mutant.after.strip()}"
        )
    print(f"{len(mutants) - len(survivors)} killed, {len(survivors)} survived, {len(told)} equivalent")
    return 1 if survivors else 0


def read_equivalent() -> set[str]:
    """The names of the mutants that nothing can kill; each must have a reason."""
    if not EQUIVALENT.exists():
        return set()
    rows = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")).get("mutant", [])
    for row in rows:
        if not str(row.get("reason", "")).strip():
            sys.exit(f"{EQUIVALENT.name}: no reason for {row.get('name')!r}")
    return {str(row["name"]) for row in rows}


def mutants_of(name: str) -> Iterator[Mutant]:
    """Every mutant of a file, each once."""
    lines = (ROOT / LUA / f"{name}.lua").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        code, _, _ = line.partition("--")
        code = code.rstrip()
        if not code or code.lstrip().startswith(("local function", "function", "return function")):
            continue
        for changed in dict.fromkeys(changes_of(code)):
            if changed != code:
                yield Mutant(name, number, code, changed)


def changes_of(code: str) -> Iterator[str]:
    """A line of code, wrong in one place."""
    texts = [found.span() for found in re.finditer(r"'[^']*'", code)]

    def outside(found: re.Match[str]) -> bool:
        return not any(start <= found.start() < end for start, end in texts)

    def swap(found: re.Match[str], text: str, group: int = 0) -> str:
        return code[: found.start(group)] + text + code[found.end(group) :]

    for found in filter(outside, COMPARISON.finditer(code)):
        yield from (swap(found, f"{other}") for other in FLIPPED[found[0]])
    for found in filter(outside, NUMBER.finditer(code)):
        yield swap(found, "(" + found[0] + " + 1)" if "for " not in code else f"{int(float(found[0])) + 1}")
    for found in filter(outside, LOGIC.finditer(code)):
        yield swap(found, "or" if found[0] == "and" else "and")
    for found in filter(outside, NEGATION.finditer(code)):
        yield swap(found, "")
    for found in filter(outside, STEP.finditer(code)):
        yield swap(found, "-" if found[1] == "+" else "+", 1)
    condition = CONDITION.search(code)
    if condition is not None:
        yield swap(condition, f"not ({condition[2]})", 2)
        if condition[1] != "while":
            yield swap(condition, "false", 2)
    yield from drops(code)


def drops(code: str) -> Iterator[str]:
    """A statement left out, and the larger taken for the smaller."""
    is_assignment = ASSIGNMENT.match(code) and not code.lstrip().startswith("local ") and "{" not in code
    if CALL.match(code) or is_assignment:
        yield " " * (len(code) - len(code.lstrip())) + "do end"
    if "math_max" in code or "math_min" in code:
        other = {"math_max": "math_min", "math_min": "math_max"}
        yield re.sub(r"math_max|math_min", lambda found: other[found[0]], code)


def run_all(mutants: list[Mutant], tests: list[str], server: str, jobs: int) -> list[Mutant]:
    """Those that survive; each job has a copy of the code of its own."""
    survivors: list[Mutant] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bincard-mutants-") as folder:
        copies: Queue[Path] = Queue()
        for job in range(jobs):
            copies.put(copy_code(Path(folder) / str(job)))
        first = copies.get()
        if not passes(first, None, tests, server):
            sys.exit("the tests fail without any mutant; nothing can be learnt")
        copies.put(first)

        def run(mutant: Mutant) -> tuple[Mutant, bool]:
            copy = copies.get()
            try:
                return mutant, passes(copy, mutant, tests, server)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(jobs) as pool:
            for count, (mutant, survived) in enumerate(pool.map(run, mutants), 1):
                if survived:
                    survivors.append(mutant)
                if count % 25 == 0 or survived:
                    word = "survived" if survived else "killed"
                    seconds = time.monotonic() - began
                    print(f"{count}/{len(mutants)} {seconds:.0f} s {word}: {mutant.name}", flush=True)
    return survivors


def copy_code(folder: Path) -> Path:
    """A copy of what the tests need."""
    folder.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def passes(copy: Path, mutant: Mutant | None, tests: list[str], server: str) -> bool:
    """Whether the tests notice nothing."""
    target = original = None
    if mutant is not None:
        target = copy / LUA / f"{mutant.file}.lua"
        original = target.read_text(encoding="utf-8")
        lines = original.splitlines(keepends=True)
        lines[mutant.line - 1] = mutant.after + "\n"
        target.write_text("".join(lines), encoding="utf-8")
    selection = [*own_tests(mutant), "tests/lua", *tests]
    # The fewer plugins, the sooner a mutant is dead.
    plugins = ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    program = str(venv_program("python"))
    command = [program, "-m", "pytest", "-x", "-q", *plugins, "--server", server, *selection]
    variables = {**environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    running = subprocess.Popen(
        command,
        cwd=copy,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = running.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        # With its server, which may be in an endless script.
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        return False
    finally:
        if target is not None and original is not None:
            target.write_text(original, encoding="utf-8")
    if mutant is None and running.returncode != 0:
        print(output.decode(errors="replace"))
    return running.returncode == 0


def own_tests(mutant: Mutant | None) -> list[str]:
    """The tests that know a file best come first."""
    if mutant is None:
        return []
    path = f"tests/lua/test_{TESTS_OF.get(mutant.file, mutant.file)}.py"
    return [path] if (ROOT / path).exists() else []


if __name__ == "__main__":
    sys.exit(main())
