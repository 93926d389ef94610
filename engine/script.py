"""Assembles the Lua files into one function library, and names it by its content.

Each verb's file declares its includes. What all verbs include stands once, before them; what only some
do stands in the block of each: Lua allows 200 names at a time. A call builds no closures. The library's
name carries the hash of its text: an old and a new release run side by side on one server, each calling
its own functions.
"""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from re import MULTILINE
from re import compile as compile_pattern

from msgspec import Struct

_HEADER = compile_pattern(r"^--@(\w+)(?: (.*))?$", MULTILINE)
_VERSION_LENGTH = 12
_ANY_DATASET = "local RUN = { dataset = ''"


class ScriptHeader(Struct, frozen=True):
    """What a Lua file says of itself before its first line of code."""

    verb: str
    flags: tuple[str, ...]
    includes: tuple[str, ...]
    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    answers: tuple[str, ...]
    events: tuple[str, ...]


class Library(Struct, frozen=True):
    """The assembled library: load `text`, then call `prefix + verb`."""

    name: str
    text: str
    verbs: Mapping[str, ScriptHeader]

    def function(self, verb: str) -> str:
        """The name under which the server knows a verb of this release."""
        return f"{self.name}_{verb}"

    def for_dataset(self, mark: str) -> "Library":
        """The same for the data set of that mark: these functions write into no other."""
        name = f"{self.name}_{mark}"
        ours = f"local RUN = {{ dataset = '{mark}'"
        return Library(name, self.text.replace(self.name, name).replace(_ANY_DATASET, ours), self.verbs)


def read_header(source: str) -> ScriptHeader:
    """The header of a verb's file. Raises `ValueError` where it lacks a verb."""
    found: dict[str, list[str]] = {}
    for word, rest in _HEADER.findall(source):
        found.setdefault(word, []).append(rest)
    if len(found.get("verb", ())) != 1:
        raise ValueError("a verb's file has one line --@verb NAME")

    def first_words(word: str) -> tuple[str, ...]:
        return tuple(line.split()[0] for line in found.get(word, ()))

    def words(word: str) -> tuple[str, ...]:
        return tuple(name for line in found.get(word, ()) for name in line.split())

    return ScriptHeader(
        found["verb"][0],
        words("flags"),
        words("include"),
        first_words("key"),
        first_words("arg"),
        first_words("answer"),
        first_words("event"),
    )


def read_sources() -> tuple[dict[str, str], dict[str, str]]:
    """The text of every include and of every verb's file, by name."""
    root = files("engine") / "lua"
    includes = {
        path.name.removesuffix(".lua"): path.read_text()
        for path in sorted((root / "lib").iterdir(), key=lambda path: path.name)
        if path.name.endswith(".lua")
    }
    verbs = {
        path.name.removesuffix(".lua"): path.read_text()
        for path in sorted(root.iterdir(), key=lambda path: path.name)
        if path.name.endswith(".lua")
    }
    return includes, verbs


def assemble(includes: Mapping[str, str], verbs: Mapping[str, str]) -> Library:
    """One library of all verbs. Raises `ValueError` for a header that does not fit its file."""
    headers, order = {}, dict[str, None]()
    for name, source in verbs.items():
        header = read_header(source)
        if header.verb != name:
            raise ValueError(f"{name}.lua declares the verb {header.verb}")
        for include in header.includes:
            if include not in includes:
                raise ValueError(f"{name}.lua includes {include}, which is no file of lua/lib")
            order[include] = None
        headers[name] = header
    shared = [includes[name] for name in order if all(name in header.includes for header in headers.values())]
    own = {
        name: "\n".join(
            [
                *(includes[include] for include in header.includes if includes[include] not in shared),
                verbs[name],
            ]
        )
        for name, header in headers.items()
    }
    version = sha256("\n".join([*shared, *own.values()]).encode()).hexdigest()[:_VERSION_LENGTH]
    library = f"bincard_{version}"
    blocks = [_register(library, header, own[name]) for name, header in headers.items()]
    return Library(library, "\n".join([f"#!lua name={library}", *shared, *blocks]), headers)


def _register(library: str, header: ScriptHeader, source: str) -> str:
    """A verb in a block of its own, so that its names end with it."""
    flags = ", ".join(repr(flag) for flag in header.flags)
    name = f"{library}_{header.verb}"
    registration = (
        f"redis.register_function{{ function_name = '{name}', "
        f"callback = {header.verb}, flags = {{ {flags} }} }}"
    )
    return f"do\n{source}\n{registration}\nend\n"


@cache
def library() -> Library:
    """The library of this release."""
    return assemble(*read_sources())
