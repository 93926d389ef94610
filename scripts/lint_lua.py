#!/usr/bin/env python3
"""Run luacheck over the Lua as the server gets it: each verb together with its includes.

A verb alone would be full of unknown names, an include alone full of unused ones. Here each verb is
checked with what its header includes and nothing else, so that a missing include is found; what an
include defines must be used by some verb. Findings name the line of the source file.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from _bootstrap import ROOT

LUA = ROOT / "engine" / "lua"
# luacheck's numbers for what is defined or set and not used: fine in an include that others use.
UNUSED = re.compile(r"W(2\d\d|3\d\d)")
FINDING = re.compile(r"[^:]*?([^/:]+\.lua):(\d+):(\d+)(?:-\d+)?: \(([EW]\d+)\) (.*)")
# A local that has the name of an upvalue: fine where it is that upvalue, taken closer to be faster.
SHADOWING = re.compile(r"shadowing upvalue '(\w+)'")


class Place(NamedTuple):
    """A line of a source file."""

    file: Path
    line: int


def main() -> int:
    """Print the findings; returns 1 when there are some."""
    verbs = sorted(LUA.glob("*.lua"))
    if not verbs:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        sources = {}
        for verb in verbs:
            text, places = assemble(verb)
            (Path(folder) / verb.name).write_text(text, encoding="utf-8")
            sources[verb.name] = places
        options = ["--formatter", "plain", "--codes", "--ranges", "--config", f"{ROOT}/.luacheckrc"]
        done = subprocess.run(
            ["luacheck", *options, folder],  # noqa: S607 - wherever the machine keeps it
            capture_output=True,
            text=True,
            check=False,
        )
    findings = translate(done.stdout, sources)
    for finding in findings:
        print(finding)
    if done.returncode > 1 and not findings:
        print(done.stdout + done.stderr)
        return 1
    return 1 if findings else 0


def assemble(verb: Path) -> tuple[str, list[Place]]:
    """The text of a verb after its includes, and where each line comes from."""
    includes = []
    for line in verb.read_text(encoding="utf-8").splitlines():
        if declared := re.match(r"--\s*@include\s+(.+)", line):
            includes += [LUA / "lib" / f"{word}.lua" for word in declared[1].split()]
    lines: list[str] = []
    places: list[Place] = []
    for file in [*includes, verb]:
        if file.exists():  # tests/test_tidy.py names an include that does not
            own = file.read_text(encoding="utf-8").splitlines()
            lines += own
            places += [Place(file, number) for number in range(1, len(own) + 1)]
    lines.append(f"return {verb.stem}")
    places.append(Place(verb, 1))
    return "\n".join(lines) + "\n", places


def translate(output: str, sources: dict[str, list[Place]]) -> list[str]:
    """Findings at their source lines, each once; unused only where no verb uses the name."""
    seen_in: defaultdict[tuple[Place, str, str, str], set[str]] = defaultdict(set)
    for line in output.splitlines():
        if found := FINDING.match(line):
            name, number, column, code, message = found.groups()
            # The message of a shadowed name gives a line of the assembled text: of no use here.
            message = re.sub(r" (on|at) line \d+( column \d+)?", "", message)
            seen_in[sources[name][int(number) - 1], column, code, message].add(name)
    kept = []
    for (place, column, code, message), verbs in sorted(seen_in.items()):
        users = {name for name, places in sources.items() if place.file in {p.file for p in places}}
        if UNUSED.fullmatch(code) and verbs != users:
            continue
        if (name := SHADOWING.match(message)) and is_taken_closer(place, name[1]):
            continue
        source = place.file.relative_to(ROOT)
        kept.append(f"{source}:{place.line}:{column}: ({code}) {message} [{', '.join(sorted(verbs))}]")
    return kept


def is_taken_closer(place: Place, name: str) -> bool:
    """Whether a local, which may stand on the second line of its statement, is set to its own name."""
    lines = place.file.read_text(encoding="utf-8").splitlines()
    code = " ".join(lines[max(0, place.line - 2) : place.line + 3])
    copies = re.finditer(r"\blocal ([\w, ]+)=([^=]*)", code)
    return any(all(re.search(rf"\b{name}\b", side) for side in copy.groups()) for copy in copies)


if __name__ == "__main__":
    sys.exit(main())
