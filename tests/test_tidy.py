"""House rules a machine can check. Each failure says what to write instead."""

from __future__ import annotations

import ast
import os
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
LUA = ROOT / "engine" / "lua"
OURS = ("engine", "api", "scripts", "tests", "benchmarks", "deploy", "docs", ".ci")
NOT_OURS = {"__pycache__", "vendor", "node_modules", "results"}
PROSE_OR_CODE = {".py", ".lua", ".md", ".toml", ".yml", ".yaml", ".json", ".sh", ".js", ".css"}
PROSE_OR_CODE |= {".html", ".cfg", ".service", ".conf", ""}

KIND_OF_CHANGE = {"added", "changed", "deprecated", "removed", "fixed", "security"}
SECTIONS = ("Status", "Context", "Decision", "Consequences")


def files(*folders: str, suffix: str | None = None) -> list[Path]:
    """Our files below these folders, generated and vendored ones left out."""
    found = []
    for folder in folders:
        for here, inner, names in os.walk(ROOT / folder):
            inner[:] = sorted(name for name in inner if name not in NOT_OURS)
            found += [Path(here) / name for name in sorted(names)]
    return [path for path in found if suffix is None or path.suffix == suffix]


def everything() -> list[Path]:
    """Every text file of ours, those in the root included."""
    top = [path for path in ROOT.iterdir() if path.is_file() and path.name not in {".git", ".venv.lock"}]
    return [path for path in [*top, *files(*OURS)] if path.suffix in PROSE_OR_CODE]


def name_of(path: Path) -> str:
    """How a failure names a file."""
    return path.relative_to(ROOT).as_posix()


def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each absolute import, wherever it stands."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module


def written_strings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every string in the code, pieces of f-strings included, no docstrings."""
    module = tree(path)
    docstrings = set()
    for node in ast.walk(module):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            docstrings |= {id(line.value) for line in body if isinstance(line, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in docstrings:
                yield node.lineno, node.value
        elif isinstance(node, ast.JoinedStr):
            pieces = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
            yield node.lineno, "".join(map(str, pieces))


def without_comments(lua: str) -> str:
    """Lua with its comments cut away, line numbers kept; no script of ours has `--` in a string."""
    return re.sub(r"--\[\[.*?\]\]|--[^\n]*", lambda cut: "\n" * cut[0].count("\n"), lua, flags=re.DOTALL)


def refuse(faults: list[str], instead: str) -> None:
    """Fail with every place and the replacement."""
    if faults:
        pytest.fail(f"{instead}\n  " + "\n  ".join(faults), pytrace=False)


def importers(folder: str, packages: set[str], allowed: Callable[[str], bool]) -> list[str]:
    """Places below `folder` that import one of `packages` without being allowed to."""
    return [
        f"{name_of(path)}:{line} imports {module}"
        for path in files(folder, suffix=".py")
        for line, module in imports(path)
        if module.split(".")[0] in packages and not allowed(name_of(path))
    ]


def test_only_topology_imports_the_redis_client() -> None:
    """The client library can be replaced in one folder."""

    def is_topology(name: str) -> bool:
        return name.startswith("engine/topology/") or name == "engine/topology.py"

    def may_parse(name: str) -> bool:
        return is_topology(name) or name == "engine/lane.py"

    faults = importers("engine", {"redis"}, is_topology)
    faults += importers("engine", {"hiredis"}, may_parse)
    faults += importers("api", {"redis", "hiredis"}, lambda _name: False)
    refuse(faults, "Ask engine.topology for a connection instead of importing the client:")


def test_the_engine_knows_no_http() -> None:
    """The engine can be used without a web framework installed."""
    web = {"fastapi", "starlette", "uvicorn", "httptools", "typer", "api"}
    faults = importers("engine", web, lambda _name: False)
    faults += [
        f"{name_of(path)}:{line} names a path of the API"
        for path in files("engine", suffix=".py")
        for line, text in written_strings(path)
        if "/v1/" in text
    ]
    refuse(faults, "Return a value or raise from engine.errors; api/ turns it into HTTP:")


WALL_CLOCK = {
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
    "time.ctime",
    "time.strftime",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
}


def test_the_engine_reads_no_wall_clock() -> None:
    """The store owns time: no clock of a host decides anything."""
    faults = []
    for path in files("engine", suffix=".py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute):
                dotted = ast.unparse(node)
                if any(dotted == clock or dotted.endswith(f".{clock}") for clock in WALL_CLOCK):
                    faults.append(f"{name_of(path)}:{node.lineno} {dotted}")
            elif isinstance(node, ast.ImportFrom) and node.module in {"time", "datetime"}:
                faults += [
                    f"{name_of(path)}:{node.lineno} from {node.module} import {alias.name}"
                    for alias in node.names
                    if f"{node.module}.{alias.name}" in WALL_CLOCK
                ]
    for path in files("engine/lua", suffix=".lua"):
        code = without_comments(path.read_text(encoding="utf-8"))
        faults += [f"{name_of(path)} os.{found}" for found in re.findall(r"\bos\.(time|clock|date)\b", code)]
    refuse(
        faults,
        "Let the script read TIME and pass intervals; measure with time.monotonic():",
    )


def test_one_lua_file_reads_the_time() -> None:
    """Tests can swap the clock, because one include holds it."""
    readers = [
        name_of(path)
        for path in files("engine/lua", suffix=".lua")
        if re.search(r"['\"]TIME['\"]", without_comments(path.read_text(encoding="utf-8")))
    ]
    if len(readers) > 1:
        refuse(readers, "Include the clock instead of calling TIME again:")


def test_only_keys_py_spells_a_key() -> None:
    """The whole schema of the store is one file, and no script joins a key."""
    spelling = re.compile(r"^inv:|inv:\{")
    spelled_in = {
        name_of(path): line
        for path in files("engine", "api", "scripts", suffix=".py")
        for line, text in written_strings(path)
        if spelling.search(text)
    }
    keys = "engine/keys.py"
    assert not (ROOT / keys).exists() or spelled_in.pop(keys, None), f"{keys} spells no key"
    faults = [f"{name}:{line}" for name, line in spelled_in.items()]
    faults += [
        name_of(path)
        for path in files("engine/lua", suffix=".lua")
        if re.search(r"\binv:", without_comments(path.read_text(encoding="utf-8")))
    ]
    refuse(faults, "Build the key in engine/keys.py; scripts get theirs in KEYS:")


def test_lua_lives_in_lua_files() -> None:
    """Scripts are linted, reviewed and hashed as files, not as Python strings."""
    faults = [
        f"{name_of(path)}:{line}"
        for path in files("engine", "api", suffix=".py")
        for line, text in written_strings(path)
        if re.search(r"\bredis\.p?call\(", text)
    ]
    refuse(faults, "Move the Lua into a file below engine/lua/:")


def test_every_include_exists_and_is_used() -> None:
    """A header names real includes, and no include is left over."""
    available = {path.stem: path for path in files("engine/lua/lib", suffix=".lua")}
    asked: dict[str, str] = {}
    for path in files("engine/lua", suffix=".lua"):
        for line in path.read_text(encoding="utf-8").splitlines():
            declared = re.match(r"--\s*@include\s+(.+)", line)
            for word in re.split(r"[\s,]+", declared[1].strip()) if declared else []:
                asked[Path(word).stem] = name_of(path)
    refuse(
        [f"{by} includes {word}" for word, by in asked.items() if word not in available],
        "Write engine/lua/lib/<name>.lua, or drop the include:",
    )
    refuse(
        [name_of(path) for word, path in available.items() if word not in asked],
        "Include it from a script's header, or delete it:",
    )


def test_no_file_tells_of_a_machine() -> None:
    """Nothing in the repository depends on where somebody keeps a checkout."""
    words = ("root/", "Users/", "home/(?!bincard)")
    place = re.compile("(?<![\\w./])/(" + "|".join(words) + ")")
    faults = [
        f"{name_of(path)}:{number} {found[0]}"
        for path in everything()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := place.search(line)) and path != Path(__file__)
    ]
    refuse(faults, "Name paths relative to the checkout, or take them from an option:")


def test_no_work_is_left_in_comments() -> None:
    """What is left to do is an issue; a comment would be forgotten."""
    left = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    faults = [
        f"{name_of(path)}:{number}"
        for path in everything()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if left.search(line)
    ]
    refuse(faults, "Do it now, or open an issue and delete the note:")


def test_silenced_rules_say_why() -> None:
    """Each exception to a lint rule carries its reason on the line."""
    bare = re.compile(r"#\s*noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?\s*$")
    untold = re.compile(r"#\s*type:\s*ignore(\[[^\]]*\])?\s*$")
    faults = [
        f"{name_of(path)}:{number}"
        for path in files("engine", "api", "scripts", "benchmarks", suffix=".py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if bare.search(line) or untold.search(line)
    ]
    refuse(faults, "Write `# noqa: X123 - why` or `# type: ignore[code]  # why`:")


def order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then the rest: the order that ruff sorts `__all__` in."""
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1 if name[:1].isupper() else 2), name


def public_names(module: ast.Module) -> list[str] | None:
    """The literal `__all__` of a module."""
    for node in module.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == "__all__":
            value = getattr(node, "value", None)
            assert value is not None
            return [str(word) for word in ast.literal_eval(value)]
    return None


def test_public_names_are_sorted() -> None:
    """`__all__` is the pinned public face: sorted, and each name once."""
    faults = []
    for path in files("engine", "api", suffix=".py"):
        names = public_names(tree(path)) or []
        faults += [
            f"{name_of(path)}: {later!r} after {earlier!r}"
            for earlier, later in pairwise(names)
            if order(earlier) >= order(later)
        ]
    refuse(faults, "Sort __all__: CONSTANTS, Classes, functions (ruff check --fix does it):")


def test_scripts_need_only_the_standard_library() -> None:
    """scripts/ run in a fresh clone, before anything is installed."""
    own = {path.stem for path in files("scripts", suffix=".py")}
    assert own
    faults = [
        f"{name_of(path)}:{line} imports {module}"
        for path in files("scripts", suffix=".py")
        for line, module in imports(path)
        if module.split(".")[0] not in sys.stdlib_module_names | own
    ]
    refuse(faults, "Use the standard library, or start a program of .venv:")


def test_decisions_are_complete_and_numbered() -> None:
    """The decision log has no gap, and each page says what a reader needs."""
    pages = [path for path in files("docs/decisions", suffix=".md") if path.name[0].isdigit()]
    faults = [
        f"{path.name}: expected {expected:04d}-<title>.md"
        for expected, path in enumerate(pages, 1)
        if not re.fullmatch(rf"{expected:04d}-[a-z0-9-]+\.md", path.name)
    ]
    for path in pages:
        text = path.read_text(encoding="utf-8")
        faults += [
            f"{path.name}: no {section}"
            for section in SECTIONS
            if not re.search(rf"^(#+\s*|\W*){section}\b", text, flags=re.MULTILINE)
        ]
    refuse(faults, f"Number decisions from 0001 without gaps; give each {', '.join(SECTIONS)}:")


def test_change_notes_have_a_kind() -> None:
    """A release can sort the notes by kind."""
    notes = [path for path in files("docs/changes", suffix=".md") if path.name != "README.md"]
    faults = [
        path.name
        for path in notes
        if not re.fullmatch(rf"[a-z0-9-]+\.({'|'.join(KIND_OF_CHANGE)})\.md", path.name)
        or not path.read_text(encoding="utf-8").strip()
    ]
    refuse(faults, "Name a note docs/changes/<slug>.<kind>.md and write a sentence into it:")


def test_metrics_are_documented() -> None:
    """Who runs Bincard finds each metric explained."""
    pages = [path for path in files("docs", suffix=".md") if path.stem == "metrics"]
    assert pages, "docs have no metrics page: run python -m api.metrics_page"
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    sources = [
        ROOT / "engine" / "metrics.py",
        ROOT / "api" / "metrics.py",
        ROOT / "api" / "exposition.py",
        ROOT / "api" / "metric_families.py",
    ]
    faults = [
        f"{name_of(path)}:{line} {word}"
        for path in sources
        if path.exists()
        for line, word in written_strings(path)
        if re.fullmatch(r"bincard_[a-z0-9_]+", word) and word not in text
    ]
    refuse(faults, f"Describe it in {name_of(pages[0])}:")
