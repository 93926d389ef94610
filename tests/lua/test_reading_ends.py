"""What the server itself saw: in no execution does a read follow a write, and keys are used as declared."""

import re
import socket
from pathlib import Path

import hiredis
import pytest

from engine import keys
from tests.lua.books import COMMIT, COMMITTED, NOW, Books, Hold, Memory, Position, Stock, name
from tests.lua.test_errors import SHOE, VERBS

A = name(1)
WRITES = {"HSET", "HDEL", "ZADD", "ZREM", "XADD", "SADD"}


class Monitor:
    """What a server runs, one line a command."""

    def __init__(self, path: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.settimeout(5)
        self._connection.connect(str(path))
        self._reader = hiredis.Reader()
        self._connection.sendall(b"*1\r\n$7\r\nMONITOR\r\n")
        assert self._next() == "OK"

    def _next(self) -> str:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._connection.recv(1 << 16))
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    def until(self, marker: str) -> list[list[str]]:
        """The commands of scripts, up to one that mentions the marker."""
        found: list[list[str]] = []
        while marker not in (line := self._next()):
            source, _, words = line.partition("] ")
            if source.endswith(" lua"):
                found.append(
                    [
                        word.encode().decode("unicode_escape")
                        for word in re.findall(r'"((?:[^"\\]|\\.)*)"', words)
                    ]
                )
        return found

    def close(self) -> None:
        self._connection.close()


def seed(books: Books, verb: str) -> None:
    """A state in which the request of `VERBS` has an effect."""
    hold = SHOE
    if verb in {"fulfil", "cancel"}:
        hold = Hold(SHOE.lines, COMMITTED, COMMIT)
    if verb == "expire":
        hold = Hold(SHOE.lines, deadline_ms=NOW)
    operations: dict[bytes, Hold | Memory] = {} if verb in {"reserve", "movement"} else {A: hold}
    if verb == "forget":
        operations = {A: Memory(2, bytes(8), A, b"head")}
    books.seed(
        stock={"shoe": Stock({"S": Position(1), "W": Position(20, 5, 5)}, {("W", A): 1})},
        operations=operations,
        due={(NOW, "p" if verb == "forget" else "h", (A,))}
        if verb in {"forget", "expire", "overdue"}
        else set(),
        locations={"W": b"old"},
    )


@pytest.mark.parametrize("verb", VERBS)
def test_no_read_follows_a_write(books: Books, lua_server: Path, verb: str) -> None:
    """Every command of a verb that has an effect, in the order in which the server ran them."""
    seed(books, verb)
    before = books.read()
    monitor = Monitor(lua_server)
    books.one(VERBS[verb](books))
    books.raw("ECHO", "the end")
    ran = monitor.until("the end")
    monitor.close()
    header = books.library.verbs[verb]
    assert (books.read() != before) == ("no-writes" not in header.flags), "the state has an effect"
    is_write = [words[0].upper() in WRITES for words in ran]
    assert ran
    assert is_write == sorted(is_write)
    declared = declared_keys(verb)
    for words, writes in zip(ran, is_write, strict=True):
        if words[:2] == ["GET", "test:clock"]:
            continue
        use = declared[words[1]]
        assert ("w" if writes else "r") in use, f"{words[0]} of a key declared as {use}"


def declared_keys(verb: str) -> dict[str, str]:
    """Each key that these requests use, with the use that the header declares."""
    source = (Path(keys.__file__).parent / "lua" / f"{verb}.lua").read_text(encoding="utf-8")
    found = {}
    for pattern, use in re.findall(r"^--@key \S+ (\S+) \w+ (\w+)", source, re.MULTILINE):
        key = pattern.replace("{p}", "{0}").replace("<sku>", "shoe").replace("<location>", "W")
        found[key] = use
    return found


def test_one_call_reads_the_time_once(books: Books, lua_server: Path) -> None:
    """All requests of a call share one moment, one look at the sequence, one write of each key."""
    books.seed(stock={"shoe": Stock({"W": Position(20)})})
    monitor = Monitor(lua_server)
    books.batch(*(books.reserve(name(number), SHOE) for number in range(4)))
    books.raw("ECHO", "the end")
    ran = [words[0].upper() for words in monitor.until("the end")]
    monitor.close()
    # The clock of the tests is the GET.
    wanted = ["GET", "HGET", "HMGET", "HMGET", "HSET", "HSET", "HSET", "XADD", "ZADD"]
    assert sorted(ran) == wanted
