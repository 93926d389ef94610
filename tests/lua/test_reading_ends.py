"""What the server itself saw: in no execution does a read follow a write, and keys are used as declared."""

import re
import socket
from pathlib import Path

import hiredis
import pytest

import engine
from tests.lua.books import (
    COMMIT,
    COMMITTED,
    NOW,
    Books,
    Bound,
    Card,
    Hold,
    Memory,
    Move,
    Paper,
    Position,
    Request,
    basket,
    move,
    name,
    part,
    reserve,
    resolve,
    setting,
)
from tests.lua.test_errors import SHOE, VERBS

A = name(1)
MAKERS = {
    *("source", "save_document", "supply", "reserve", "movement", "record_count", "opening"),
    *("open_basket", "hold_part", "offer", "bind"),
}
"""Verbs whose id is new."""
WRITES = {"HSET", "HDEL", "ZADD", "ZREM", "XADD", "HINCRBY"}


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
    operations: dict[bytes, Hold | Memory | Bound] = {} if verb in MAKERS else {A: hold}
    if verb == "forget":
        operations = {A: Memory(2, bytes(8), A, b"tail")}
    elif verb in {"decide", "repair", "settle"}:
        operations = {A: basket(SHOE.lines)}
    elif verb == "follow":
        operations = {A: part(SHOE.lines)}
    elif verb == "unbind":
        operations = {A: Bound()}
    filed = {"forget": "p", "expire": "h", "repair": "r", "settle": "r", "follow": "r"}
    books.seed(
        stock={"shoe": Card({"S": Position(1), "W": Position(20, 5, 5)}, (name(9),), 1, 0, {0: (A,)})},
        operations=operations,
        due={(NOW, filed[verb], (A,))} if verb in filed else set(),
        locations={"W": setting(rest=b"\x80")},
        moves=[Move("shoe", "W", 1, A, 1).packed()],
        documents={A: Paper(1, b"one")} if verb == "forget_document" else None,
        ended={A: 1} if verb == "forget_document" else None,
    )
    books.raw("HSET", books.key("channels"), "web", setting(rest=b"\x80"))
    if verb == "inherit":
        books.raw(
            "HSET", books.key("defaults"), b"4\nshoe", b"".join(n.to_bytes(7, "little") for n in (1, 2, 3))
        )
    if verb == "take_over":
        books.raw("HDEL", books.key("meta"), "run")
        books.epoch = 2


@pytest.mark.parametrize("verb", VERBS)
def test_no_read_follows_a_write(books: Books, lua_server: Path, verb: str) -> None:
    """Every command of a verb that has an effect, in the order in which the server ran them."""
    seed(books, verb)
    before = books.read()
    monitor = Monitor(lua_server)
    books.one(VERBS[verb])
    books.raw("ECHO", "the end")
    ran = monitor.until("the end")
    monitor.close()
    header = books.scripts.verbs[verb]
    assert (books.read() != before) == ("no-writes" not in header.flags), "the state has an effect"
    is_write = [words[0].upper() in WRITES for words in ran]
    assert ran
    assert is_write == sorted(is_write)
    declared = declared_keys(verb)
    for words, writes in zip(ran, is_write, strict=True):
        if words[:2] in (["GET", "test:clock"], ["INFO", "server"]):
            continue
        use = declared[words[1]]
        assert ("w" if writes else "r") in use, f"{words[0]} of a key declared as {use}"


def declared_keys(verb: str) -> dict[str, str]:
    """Each key of the partition that a header declares, with its use."""
    source = (Path(engine.__file__).parent / "lua" / f"{verb}.lua").read_text(encoding="utf-8")
    found = re.findall(r"^--@key \S+ (\S+) \w+ (\w+)", source, re.MULTILINE)
    return {pattern.replace("{p}", "{0}"): use for pattern, use in found}


def commands_of(books: Books, lua_server: Path, *requests: Request) -> list[str]:
    """What one call runs, without the clock of the tests."""
    monitor = Monitor(lua_server)
    books.batch(*requests)
    books.raw("ECHO", "the end")
    ran = monitor.until("the end")
    monitor.close()
    return sorted(words[0].upper() for words in ran if words[:2] != ["GET", "test:clock"])


def test_one_call_reads_and_writes_once(books: Books, lua_server: Path) -> None:
    """All requests of a call share one look at the sequence, at the ids, at the cards, and one write of each
    key, whatever SKUs they name.
    """
    books.seed(stock={sku: Card({"W": Position(20)}) for sku in ("shoe", "hat", "sock")})
    wanted = ["HMGET", "HMGET", "HMGET", "HSET", "HSET", "HSET", "XADD", "ZADD"]
    baskets = [
        Hold((("shoe", "W", 1), ("hat", "W", 1))),
        Hold((("sock", "W", 1),)),
        Hold((("shoe", "W", 1), ("sock", "W", 1))),
    ]
    asked = [reserve(name(number), each) for number, each in enumerate(baskets)]
    assert commands_of(books, lua_server, *asked) == wanted
    steps = [resolve("release", name(number)) for number in range(3)]
    assert commands_of(books, lua_server, *steps) == wanted


def test_a_block_is_read_once(books: Books, lua_server: Path) -> None:
    """Claims of one block that end in one call, and a gap that two of them leave behind."""
    names = [name(number) for number in range(4)]
    books.seed(
        stock={
            "shoe": Card({"W": Position(20, 20)}, (), 3, 0, {0: (name(0), name(1)), 2: (name(2), name(3))})
        },
        operations={each: SHOE._replace(blocks=(at // 2 * 2,)) for at, each in enumerate(names)},
    )
    # Block 1, which does not exist, is looked for when block 0 is empty.
    wanted = [
        "HDEL",
        "HGET",
        "HGET",
        "HGET",
        "HMGET",
        "HMGET",
        "HMGET",
        "HSET",
        "HSET",
        "HSET",
        "XADD",
        "ZADD",
    ]
    assert commands_of(books, lua_server, *(resolve("release", each) for each in names)) == wanted


def test_what_has_lapsed_is_listed_once_a_call(books: Books, lua_server: Path) -> None:
    """However many requests of the call are short."""
    lapsing = Hold((("shoe", "W", 5),), deadline_ms=NOW)
    books.seed(
        stock={"shoe": Card({"W": Position(5, 5)}, (A,))}, operations={A: lapsing}, due={(NOW, "h", (A,))}
    )
    short = Hold((("shoe", "W", 6),))
    ran = commands_of(books, lua_server, *(reserve(name(number), short) for number in range(2, 6)))
    assert ran.count("ZRANGE") == 2, "is there one, and which are there"
    assert ran.count("ZREM") == 1


def test_a_refused_call_writes_nothing(books: Books, lua_server: Path) -> None:
    """Neither sequence nor ledger nor anything else is touched."""
    books.seed(stock={"shoe": Card({"W": Position(1)})})
    assert commands_of(books, lua_server, reserve(A, SHOE)) == ["HMGET", "HMGET", "HMGET", "ZRANGE"]
    assert commands_of(books, lua_server, move(A, 1, "X")) == ["HEXISTS", *["HMGET"] * 5]
