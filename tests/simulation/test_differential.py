"""The simulated server is as good as its likeness: everything is asked of a real one too, and compared."""

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import hiredis
import pytest

from engine import script
from engine.topology.embedded import EmbeddedServer
from tests.driver import clock_keys, scripts_with_our_clock
from tests.simulation.machines import Machine
from tests.simulation.schedule import run_schedule
from tests.simulation.store import Store, read_key
from tests.simulation.world import Setting

SEEDS = range(100, 108)
COMMANDS = 3000
VALUES = 400
Word = str | bytes | int
LUA = Path(script.__file__).parent / "lua"


class Wire:
    """A real server, asked in words, answering in what the reply's parser makes of it."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = hiredis.Reader()

    def ask(self, *words: Word) -> Any:  # noqa: ANN401 - a reply is anything
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]
        self._socket.sendall(b"*%d\r\n%b" % (len(parts), b"".join(parts)))
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(1 << 16))
        return reply

    def dump(self) -> dict[bytes, object]:
        """All that is stored."""
        return {key: read_key(self.ask, key) for key in self.ask("KEYS", "*")}

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def wire(server: EmbeddedServer) -> Iterator[Wire]:
    """The real server, empty."""
    opened = Wire(server.url.removeprefix("unix://").partition("?")[0])
    yield opened
    opened.ask("SELECT", 0)
    opened.close()


def ask_simulated(store: Store, *words: Word) -> Any:  # noqa: ANN401 - a reply is anything
    """The reply, also where it is an error."""
    try:
        return store.ask(0, *words)
    except hiredis.ReplyError as error:
        return error


def comparable(reply: object) -> object:
    """Of an error its code: the texts of faults name lines and functions."""
    return ("error", str(reply).split(" ")[0]) if isinstance(reply, hiredis.ReplyError) else reply


def twin_of(wire: Wire, compared: list[int], clocks: list[str]) -> type[Machine]:
    """A machine whose every call is made on a real server too; both clocks are set before each.
    Ours takes itself for the start of the server that the real one is.
    """
    run_id = re.search(rb"run_id:(\w+)", wire.ask("INFO", "server"))[1].decode()
    loaded = set[str]()

    class Twin(Machine):
        def new_store(self) -> Store:
            return Store(run_id=run_id)

        def both(self, words: list[bytes]) -> bytes:
            wire.ask("SELECT", self.number)
            now_ms = self.now_us // 1000
            for key in clocks:
                wire.ask("SET", key, now_ms)
                self.store.ask(0, "SET", key, now_ms)
            ours, theirs = self.store.execute(self.now_us, words), wire.ask(*words)
            reader = hiredis.Reader()
            reader.feed(ours)
            if words[0] not in {b"TIME", b"KEYS", b"HGETALL"}:
                assert comparable(reader.gets()) == comparable(theirs), words
            assert self.store.dump() == wire.dump(), words
            compared[0] += 1
            return ours

        def execute(self, words: Any) -> bytes:  # noqa: ANN401 - words as they come
            return self.both(words)

        def ask(self, *words: Word) -> Any:  # noqa: ANN401 - a reply is anything
            self.both([word if isinstance(word, bytes) else str(word).encode() for word in words])
            return super().ask(*words)

        def load_library(self, text: str) -> None:
            super().load_library(text)
            # What functions know outlives a call: they are not loaded again, and both machines' are the same.
            if text not in loaded:
                loaded.add(text)
                wire.ask("FUNCTION", "LOAD", "REPLACE", text)

    return Twin


@pytest.mark.parametrize("seed", SEEDS)
def test_calls_are_answered_and_stored_as_on_a_real_server(wire: Wire, seed: int) -> None:
    """Whole schedules: after each call the reply and every key are the same on both."""
    setting = Setting(
        partitions=(1, 2, 8)[seed % 3],
        machines=1 if seed % 3 == 0 else 2,
        processes=2,
        shoppers=2,
        operations=5,
        faults=("cut", "stall", "crash", "turn the clock"),
        crosses=seed % 2 == 0,
        pause_seconds=1.0,
    )
    compared = [0]
    twin = twin_of(wire, compared, clock_keys(setting.partitions))
    result = run_schedule(seed, scripts_with_our_clock(), setting=setting, machine=twin)
    assert not result.findings, result.explain()
    assert compared[0] > 50


def random_command(random: Random) -> list[Word]:
    """A command that scripts or tests use, with anything in it, on few keys of all types."""
    key = random.choice(("hash-1", "hash-2", "zset-1", "zset-2", "log-1", "log-2", "text"))
    field = random.choice(("a", "b", "", "\0x", "é"))
    score: Word = random.choice((0, 1, 2, 3, -1, 2**50, "1.5", "x"))
    low, high = random.choice(("-inf", "(1", "1", "0")), random.choice(("+inf", "(2", "2", 2**51))
    end = random.randrange(-3, 4)
    entry = random.choice(("1-1", "1-2", "1-3", "2-1", "5-5", "9"))
    made: list[list[Word]] = [
        ["GET", "text"],
        ["SET", "text", field],
        ["HGET", key, field],
        ["HMGET", key, field, "a", "nobody"],
        ["HSET", key, field, score, "c", "1"],
        ["HSETNX", key, field, "first"],
        ["HDEL", key, field, "a"],
        ["HEXISTS", key, field],
        ["HLEN", key],
        ["HINCRBY", key, field, score],
        ["ZADD", key, score, field, random.randrange(3), "b"],
        ["ZREM", key, field, "nobody"],
        ["ZSCORE", key, field],
        ["ZMSCORE", key, field, "b", "nobody"],
        ["ZCARD", key],
        ["ZCOUNT", key, low, high],
        ["ZRANGE", key, end, random.randrange(-3, 4), "WITHSCORES"],
        ["ZRANGE", key, low, high, "BYSCORE", "LIMIT", random.randrange(3), random.randrange(-1, 3)],
        ["ZRANGE", key, low, high, "BYSCORE", "WITHSCORES"],
        ["ZRANGEBYSCORE", key, low, high],
        ["XADD", key, entry, "e", field],
        ["XLEN", key],
        ["XRANGE", key, random.choice(("-", "1-2", "(1-1", "2")), random.choice(("+", "1-2", "2"))],
        ["XREVRANGE", key, "+", random.choice(("-", "1-2")), "COUNT", 2],
        ["EXISTS", key, "nobody"],
        ["DEL", key],
        ["TYPE", key],
        ["PING"],
    ]
    weights = [1 if words[0] == "DEL" else 4 for words in made]
    return random.choices(made, weights)[0]


def test_commands_are_those_of_a_real_server(wire: Wire) -> None:
    """One command after another, right and wrong ones."""
    random, store = Random(7), Store()
    for number in range(COMMANDS):
        words = random_command(random)
        ours, theirs = ask_simulated(store, *words), wire.ask(*words)
        assert comparable(ours) == comparable(theirs), (number, words)
        if number % 20 == 0:
            assert store.dump() == wire.dump(), (number, words)


def formats_of_our_scripts() -> list[str]:
    """Every format in the Lua files, and some at the edges."""
    found = {
        text
        for path in sorted(LUA.rglob("*.lua"))
        for text in re.findall(r"'(<[a-zA-Z0-9]+)'", path.read_text(encoding="utf-8"))
    }
    assert len(found) > 20
    return sorted(found | {"<bhil", "<BHIL", "<i1i2i3i5i8", "<I1I2I3I5I8", "<xBxc2x", "<Bc0xHc0", "<"})


NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**40, 2**47, 2**53 - 1, 10**15)
PACK = """
local made, given = {}, { unpack(ARGV, 2) }
for i = 1, #given do
  made[i] = string.sub(given[i], 1, 1) == '#' and tonumber(string.sub(given[i], 2)) or string.sub(given[i], 2)
end
return struct.pack(ARGV[1], unpack(made))
"""
UNPACK = """
local values = { struct.unpack(ARGV[1], ARGV[2], tonumber(ARGV[3])) }
for i = 1, #values do
  values[i] = type(values[i]) == 'number' and string.format('%.17g', values[i]) or values[i]
end
return values
"""


def values_for(text: str, random: Random) -> list[str | bytes]:
    """Something to pack for each letter of a format, as `PACK` takes it: `#` numbers, `$` texts."""
    values: list[str | bytes] = []
    for letter, size in re.findall(r"([a-zA-Z])(\d*)", text):
        if letter == "c":
            count = int(size or 1) or random.randrange(4)
            if size == "0" and values:
                values[-1] = f"#{count}"
            values.append(b"$" + random.randbytes(count + (size != "0" and random.randrange(2))))
        elif letter != "x":
            number = random.choice(NUMBERS) * random.choice((1, 1, -1))
            values.append(f"#{number}" if random.random() < 0.9 else f"#{number + 0.75}")
    return values


@pytest.fixture
def scripted(wire: Wire) -> Callable[..., tuple[object, object]]:
    """Runs a script with its arguments here and there."""
    store = Store()

    def run(text: str, *arguments: Word) -> tuple[object, object]:
        return ask_simulated(store, "EVAL", text, 0, *arguments), wire.ask("EVAL", text, 0, *arguments)

    return run


def test_numbers_are_packed_as_on_a_real_server(scripted: Callable[..., tuple[object, object]]) -> None:
    """Every format of our scripts, with numbers at the edges, too short texts and offsets beyond the end."""
    random = Random(11)
    for text in formats_of_our_scripts():
        for _ in range(VALUES // 20):
            ours, theirs = scripted(PACK, text, *values_for(text, random))
            assert comparable(ours) == comparable(theirs), text
            raw = theirs if isinstance(theirs, bytes) else b""
            if random.random() < 0.5:
                raw = random.randbytes(random.randrange(60))
            ours, theirs = scripted(UNPACK, text, raw, random.choice((1, 1, 1, 2, 5, 100)))
            assert comparable(ours) == comparable(theirs), (text, raw)
