"""A server in this process: Lua 5.1 with `server.lua`, holding as many stores as are made."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hiredis
from lupa.lua51 import LuaRuntime

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_RUN = f"{1:040x}"

_HERE = Path(__file__).parent


@cache
def _runtime() -> Any:  # noqa: ANN401 - Lua's tables have no types
    """One Lua state: stores share nothing in it but the code of `server.lua`."""
    lua = LuaRuntime(encoding=None, unpack_returned_tuples=True)
    # The dots of a chunk are its arguments.
    load = lua.eval("function(text, name, ...) return assert(loadstring(text, name))(...) end")

    def part(name: str, *arguments: Any) -> Any:  # noqa: ANN401 - Lua's tables have no types
        return load((_HERE / name).read_bytes(), f"@{name}".encode(), *arguments)

    return part("server.lua", part("struct.lua"), part("commands.lua"))


class Store:
    """What one server holds. Everything takes the server's time with it, in microseconds."""

    def __init__(self, *, checks_slots: bool = True, run_id: str = FIRST_RUN) -> None:
        """With `checks_slots`, a script sees no keys but those of its partition, as on a cluster."""
        self._server = _runtime()
        self._store = self._server[b"new_store"](checks_slots, run_id.encode())
        self._execute = self._server[b"execute"]
        self._library = ""
        self._starts = 1
        self.calls = 0

    def execute(self, now_us: int, words: Sequence[bytes]) -> bytes:
        """Runs a command and returns the reply as it goes over the wire."""
        self.calls += 1
        return self._execute(self._store, now_us, *words)

    def ask(self, now_us: int, *words: str | bytes | int) -> Any:  # noqa: ANN401 - a reply is anything
        """Runs a command and returns its reply. Raises `hiredis.ReplyError`."""
        reader = hiredis.Reader()
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        reader.feed(self.execute(now_us, encoded))
        reply = reader.gets()
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def load_library(self, text: str) -> None:
        """As `FUNCTION LOAD REPLACE` does; the code is compiled once for all stores. What is there already
        is not loaded again: that takes longer than hundreds of calls.
        """
        if self._library != text:
            self.ask(0, "FUNCTION", "LOAD", "REPLACE", text)
            self._library = text

    def flush_functions(self) -> None:
        """The server forgets its functions."""
        self._library = ""
        self._server[b"flush_functions"](self._store)

    def restart(self) -> None:
        """Another process of the server goes on with what is stored; its `run_id` is another one."""
        self._starts += 1
        self._server[b"restart"](self._store, b"%040x" % self._starts, self._library.encode())

    def set_full(self, *, is_full: bool) -> None:
        """Whether functions that need memory are refused."""
        self._server[b"set_full"](self._store, is_full)

    def copy(self) -> object:
        """What the store holds now, for `put`."""
        return self._server[b"copy_keys"](self._store)

    def put(self, copied: object) -> None:
        """The store holds what it held when it was copied."""
        self._server[b"put_keys"](self._store, copied)

    def dump(self) -> dict[bytes, object]:
        """All that is stored; see `read_key`."""
        found: dict[bytes, object] = {}
        for key in self.ask(0, "KEYS", "*"):
            found[key] = read_key(lambda *words: self.ask(0, *words), key)
        return found


def read_key(ask: Any, key: bytes) -> object:  # noqa: ANN401 - the commands of whoever is asked
    """What a key holds, the same of a real server and of a simulated one. `ask` takes the words."""
    kind = ask("TYPE", key)
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind == "hash":
        pairs = ask("HGETALL", key)
        return dict(zip(pairs[::2], pairs[1::2], strict=True))
    if kind == "zset":
        return ask("ZRANGE", key, 0, -1, "WITHSCORES")
    if kind == "stream":
        return ask("XRANGE", key, "-", "+")
    assert kind == "string", f"{key!r} is a {kind}"
    return ask("GET", key)
