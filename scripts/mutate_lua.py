#!/usr/bin/env python3
"""Change the Lua in small wrong ways and see whether a test notices; run by hand, not by CI.

`python scripts/mutate_lua.py reserve lib/batch` mutates these files, no names all of them. Each mutant is a
copy of the code with one place changed: a comparison flipped, a constant shifted, a call dropped, a
condition negated. The tests that know a file best run first, then those of tests/lua that call it, then what
`TESTS_OF` names and `--tests` adds. Mutants that no test can tell from the original stand in
tests/lua/equivalent_mutants.toml, each with its reason, below the results of the last run over all files;
`--listed` looks whether a test notices one of those. Exit status 1 when others survive, or one is noticed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, NamedTuple, Self

from _bootstrap import ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LUA = Path("engine") / "lua"
ASKS, TELLS = "BINCARD_MUTANT_ASKS", "BINCARD_MUTANT_TELLS"
EQUIVALENT = ROOT / "tests" / "lua" / "equivalent_mutants.toml"
COPIED = ("engine", "scripts", "tests", "pyproject.toml")
# The tests that know a file best, besides the one that is named after it; those of tests/lua stand first.
_SETTINGS = ("settings/test_view.py", "settings/test_defaults.py", "settings/test_copies.py", "settings")
_SUPPLY = ("supply/test_inbound.py", "supply/test_transfers.py", "supply")
_SOURCING = (
    "lua/test_choosing.py",
    "lua/test_source.py",
    "lua/test_ways.py",
    "lua/test_making_way.py",
    "lua/test_kept_refusals.py",
    "lua/test_preorders.py",
    "sourcing/test_strategies.py",
    "sourcing/test_preorders.py",
    "sourcing",
)
_FACTS = ("lua/test_late_facts.py", "lua/test_movement.py", "lua/test_record_count.py")
TESTS_OF = {
    "find_document": ("lua/test_documents.py", *_SUPPLY),
    "forget_document": ("lua/test_documents.py", *_SUPPLY),
    "index": ("finding",),
    "inherit": _SETTINGS,
    "lib/card": ("lua/test_card_forms.py", "lua/test_reserve.py"),
    "lib/claims": ("lua/test_claims.py",),
    "lib/clock": ("lua/test_clock.py", "lua/test_pace.py"),
    "lib/defaults": (
        "lua/test_save_policy.py",
        "lua/test_inherit.py",
        "lua/test_save_setting.py",
        *_SETTINGS,
    ),
    "lib/entries": ("lua/test_documents.py", "lua/test_index.py", "finding", *_SUPPLY),
    "lib/facts": (*_FACTS, "lua/test_trim_and_opening.py", "stateful/test_order_of_facts.py"),
    "lib/hold": ("lua/test_hold_part.py",),
    "lib/lapse": ("lua/test_expire.py",),
    "lib/parts": ("lua/test_follow.py",),
    "lib/places": ("lua/test_movement.py",),
    "lib/replan": ("lua/test_replan.py", "changes", *_SOURCING),
    "lib/resolve": ("lua/test_resolutions.py",),
    "lib/floating": _SOURCING,
    "lib/rooms": _SOURCING,
    "lib/sourcing": _SOURCING,
    "lib/steps": ("lua/test_basket_steps.py", "lua/test_claim_reads.py"),
    "lib/terms": ("lua/test_terms.py", "lua/test_save_fence.py", *_SOURCING, "changes"),
    "movement": (*_FACTS, "stateful/test_order_of_facts.py"),
    "opening": ("lua/test_trim_and_opening.py", "repartition/test_repartition.py"),
    "outbox": ("lua/test_documents.py", *_SUPPLY),
    "plan": _SOURCING,
    "record_count": (*_FACTS, "stateful/test_order_of_facts.py"),
    "replan": ("changes",),
    "save_document": ("lua/test_documents.py", *_SUPPLY),
    "save_fence": _SOURCING,
    "save_policy": _SETTINGS,
    "save_setting": _SETTINGS,
    "source": (*_SOURCING, "changes"),
    "supplies": ("lua/test_supply.py", *_SUPPLY),
    "supply": _SUPPLY,
    "trim": ("lua/test_trim_and_opening.py", "repartition/test_repartition.py"),
}
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
    nth: int = 1
    """Which of the lines of its file that read alike."""

    @property
    def name(self) -> str:
        """How the list of equivalent mutants names it: by text, so that moved lines keep their names."""
        which = f" ({self.nth})" if self.nth > 1 else ""
        return f"{self.file}: {self.before.strip()} => {self.after.strip()}{which}"


def main() -> int:
    """Run the mutants and tell of each that survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("files", nargs="*", help="verbs, or lib/<name>; all where none is named")
    parser.add_argument("--tests", nargs="*", default=[], help="more tests than those of tests/lua")
    parser.add_argument("--server", default="valkey", help="the server to test on")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1)))
    parser.add_argument("--sample", type=int, help="run only so many, evenly picked")
    parser.add_argument("--quick", action="store_true", help="no other tests than those of tests/lua")
    parser.add_argument("--only", type=Path, help="run only those whose names are lines of this file")
    parser.add_argument("--list", action="store_true", help="print the mutants and run none")
    parser.add_argument("--listed", action="store_true", help="run those listed as equivalent, and no others")
    options = parser.parse_args()
    names = options.files or sorted(
        path.relative_to(ROOT / LUA).with_suffix("").as_posix() for path in (ROOT / LUA).rglob("*.lua")
    )
    equivalent = read_equivalent()
    mutants = [mutant for name in names for mutant in mutants_of(name)]
    unknown = {name for name in equivalent if name.partition(": ")[0] in names}
    unknown -= {mutant.name for mutant in mutants}
    if unknown:
        sys.exit("\n".join([f"{EQUIVALENT.name} names what is no mutant any more:", *sorted(unknown)]))
    told = [mutant for mutant in mutants if mutant.name in equivalent]
    mutants = [mutant for mutant in mutants if mutant.name not in equivalent]
    if options.list:
        for mutant in mutants:
            print(f"{mutant.file}:{mutant.line}\n  - {mutant.before.strip()}\n  + {mutant.after.strip()}")
        print(f"{len(mutants)} mutants, and {len(told)} equivalent ones")
        return 0
    if options.only:
        chosen = set(options.only.read_text(encoding="utf-8").splitlines())
        mutants = [mutant for mutant in mutants if mutant.name in chosen]
    if options.sample:
        mutants = mutants[:: max(1, len(mutants) // options.sample)]
    tests = {
        name: [
            path
            for path in tests_of(name, options.tests)
            if not options.quick or path.startswith("tests/lua")
        ]
        for name in names
    }
    if options.listed:
        return check_listed(told, run_all(told, tests, options.server, options.jobs))
    survivors = run_all(mutants, tests, options.server, options.jobs)
    for mutant in survivors:
        print(
            f"SURVIVED {mutant.file}:{mutant.line}\n  - {mutant.before.strip()}\n  + {mutant.after.strip()}"
        )
    for name in names:
        counts = [sum(one.file == name for one in each) for each in (mutants, survivors, told)]
        print(f"{name}: {counts[0] - counts[1]} killed, {counts[1]} survived, {counts[2]} equivalent")
    print(f"{len(mutants) - len(survivors)} killed, {len(survivors)} survived, {len(told)} equivalent")
    return 1 if survivors else 0


def check_listed(listed: list[Mutant], survivors: list[Mutant]) -> int:
    """Tell of each mutant that is listed as equivalent, and that a test notices all the same."""
    noticed = [mutant for mutant in listed if mutant not in survivors]
    for mutant in noticed:
        print(f"NOTICED {mutant.name}")
    print(f"{len(survivors)} equivalent, {len(noticed)} are noticed")
    return 1 if noticed else 0


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
    seen = Counter[str]()
    for number, line in enumerate(lines, 1):
        code, _, _ = line.partition("--")
        code = code.rstrip()
        seen[code.strip()] += 1
        if not code or code.lstrip().startswith(("local function", "function", "return function")):
            continue
        for changed in dict.fromkeys(changes_of(code)):
            if changed != code:
                yield Mutant(name, number, code, changed, seen[code.strip()])


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


def run_all(mutants: list[Mutant], tests: Mapping[str, list[str]], server: str, jobs: int) -> list[Mutant]:
    """Those that survive the tests of their files; each job has a copy and a test process."""
    survivors: list[Mutant] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bincard-mutants-") as folder, ExitStack() as open_processes:
        processes: Queue[TestProcess] = Queue()
        paths = dict.fromkeys(path for mutant in mutants for path in tests[mutant.file])
        for job in range(jobs):
            copy = copy_code(Path(folder) / str(job))
            processes.put(open_processes.enter_context(TestProcess(copy, [*paths], server)))

        def run(mutant: Mutant) -> tuple[Mutant, str | None]:
            process = processes.get()
            try:
                return mutant, process.killer_of(mutant, tests[mutant.file])
            finally:
                processes.put(process)

        with ThreadPoolExecutor(jobs) as pool:
            for count, (mutant, killer) in enumerate(pool.map(run, mutants), 1):
                if killer is None:
                    survivors.append(mutant)
                if count % 25 == 0 or killer is None:
                    seconds = time.monotonic() - began
                    print(
                        f"{count}/{len(mutants)} {seconds:.0f} s {killer or 'SURVIVED'}: {mutant.name}",
                        flush=True,
                    )
    return survivors


def copy_code(folder: Path) -> Path:
    """A copy of what the tests need."""
    folder.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / "tmp").mkdir()
    return folder


class TestProcess:
    """Tests that are collected, and wait for mutants; see tests/lua/mutant_loop.py."""

    def __init__(self, copy: Path, paths: list[str], server: str) -> None:
        self._copy = copy
        asks, self._asking = os.pipe()
        self._told, tells = os.pipe()
        plugins = ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-q", *plugins, "-p", "tests.lua.mutant_loop"]
        self._process = subprocess.Popen(
            [*command, "--server", server, *paths],
            cwd=copy,
            env={
                **environment(),
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "TMPDIR": str(copy / "tmp"),
                ASKS: str(asks),
                TELLS: str(tells),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(asks, tells),
        )
        os.close(asks)
        os.close(tells)
        self._questions = os.fdopen(self._asking, "w")
        self._answers = os.fdopen(self._told)

    def __enter__(self) -> Self:
        failed = self._ask({"path": None, "line": 0, "after": "", "file": "", "tests": []})
        if failed is not None:
            sys.exit(f"{failed} fails without any mutant; nothing can be learnt")
        return self

    def __exit__(self, *_: object) -> None:
        self._questions.close()
        self._process.wait()

    def killer_of(self, mutant: Mutant, tests: list[str]) -> str | None:
        """The test that notices a mutant."""
        path = self._copy / LUA / f"{mutant.file}.lua"
        question = {"path": str(path), "line": mutant.line, "after": mutant.after}
        return self._ask({**question, "file": mutant.file, "tests": tests})

    def _ask(self, question: dict[str, object]) -> str | None:
        print(json.dumps(question), file=self._questions, flush=True)
        answer = self._answers.readline()
        if not answer:
            sys.exit("the test process ended")
        killer: str | None = json.loads(answer)
        return killer


def tests_of(file: str, more: list[str]) -> list[str]:
    """The tests that know a file best come first."""
    own = f"tests/lua/test_{file}.py"
    near = [f"tests/{path}" for path in TESTS_OF.get(file, ())]
    lua = [path for path in near if path.startswith("tests/lua")]
    wider = [path for path in near if not path.startswith("tests/lua")]
    return [*([own] if (ROOT / own).exists() else []), *lua, "tests/lua", *wider, *more]


if __name__ == "__main__":
    sys.exit(main())
