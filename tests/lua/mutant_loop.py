"""Runs the tests of one mutant after another, each in a fork of a process that collected them all.

A plugin of pytest for scripts/mutate_lua.py, which sends each mutant as a line of JSON; the answer is the
test that noticed it, or null. Collecting costs seconds and most mutants die in the first test, so each fork
begins with everything imported and no server yet.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.script import Library, read_header, read_sources

if TYPE_CHECKING:
    from collections.abc import Iterator

ASKS, TELLS = "BINCARD_MUTANT_ASKS", "BINCARD_MUTANT_TELLS"
"""Variables that name the two pipes."""
# A mutant may loop for ever; the server then never answers.
SILENT_SECONDS = 30
REMEMBERED_KILLERS = 12
WIDE = re.compile(r"\bP=(?!1\b)")


class Loop:
    """Runs what it is asked to until the pipe ends."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._items = {item.nodeid: item for item in session.items}
        self._verbs_of: dict[str, set[str]] = {}
        self._killers: dict[str, list[str]] = {}
        includes, verbs = read_sources()
        self._touched = {f"lib/{name}": set[str]() for name in includes}
        for name, text in verbs.items():
            self._touched[name] = {name}
            for include in read_header(text).includes:
                self._touched[f"lib/{include}"].add(name)
        self._everything = set(verbs)

    def run(self) -> None:
        """Answer every question: first whether the tests pass without any mutant."""
        asks, tells = (int(os.environ[name]) for name in (ASKS, TELLS))
        with os.fdopen(asks) as questions, os.fdopen(tells, "w") as answers:
            for line in questions:
                print(json.dumps(self._try(**json.loads(line))), file=answers, flush=True)

    def _try(self, path: str | None, line: int, after: str, file: str, tests: list[str]) -> str | None:
        """The test that notices a mutant, or none."""
        if path is None:
            return self._fork(list(self._items))
        original = Path(path).read_text(encoding="utf-8")
        lines = original.splitlines(keepends=True)
        lines[line - 1] = after + "\n"
        Path(path).write_text("".join(lines), encoding="utf-8")
        try:
            killer = self._fork(list(dict.fromkeys(self._chosen(file, tests))))
        finally:
            Path(path).write_text(original, encoding="utf-8")
        known = self._killers.setdefault(file, [])
        if killer in self._items:
            known[:] = [killer, *(one for one in known if one != killer)][:REMEMBERED_KILLERS]
        return killer

    def _chosen(self, file: str, tests: list[str]) -> Iterator[str]:
        """The names of the tests for a file: what lately noticed a mutant of it, then as asked."""
        yield from self._killers.get(file, ())
        touched = self._touched[file]
        for path in tests:
            for name in self._items:
                called = self._verbs_of.get(name)
                calls_it = touched == self._everything or not called or called & touched
                if name.startswith(path) and calls_it:
                    yield name

    def _fork(self, names: list[str]) -> str | None:
        """Run tests in a process of their own until one fails; its name."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.setsid()
            self._run_tests(names, writing)
        os.close(writing)
        killer: str | None = "no answer"
        with os.fdopen(reading) as told:
            text = ""
            while select.select([told], [], [], SILENT_SECONDS)[0]:
                piece = os.read(reading, 65_536)
                if not piece:
                    killer = None
                    break
                text += piece.decode()
                *lines, text = text.split("\n")
                failed = [json.loads(line) for line in lines]
                for one in failed:
                    self._verbs_of.setdefault(one["name"], set(one["verbs"]))
                if failed and failed[-1]["failed"]:
                    killer = str(failed[-1]["name"])
                    break
        # With its servers, one of which may be in an endless script.
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return killer

    def _run_tests(self, names: list[str], writing: int) -> None:
        """In the child: tell of each test; never return."""
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        verbs = set[str]()
        plain = Library.function

        def note(library: Library, verb: str) -> str:
            verbs.add(verb)
            return plain(library, verb)

        setattr(Library, "function", note)  # noqa: B010 - mypy knows that methods are not to be replaced
        items = [self._items[name] for name in names]
        with os.fdopen(writing, "w") as telling:
            for item, following in zip(items, [*items[1:], None], strict=True):
                verbs.clear()
                before = self._session.testsfailed
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                failed = self._session.testsfailed > before
                called = sorted(verbs) if item.nodeid.startswith("tests/lua") else []
                told: dict[str, Any] = {"name": item.nodeid, "failed": failed, "verbs": called}
                print(json.dumps(told), file=telling, flush=True)
                if failed:
                    break
        os._exit(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only data sets of one partition: what others show, these show sooner."""
    items[:] = [item for item in items if not WIDE.search(item.nodeid)]


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Instead of running the tests once."""
    Loop(session).run()
    return True
