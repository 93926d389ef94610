"""What the scripts do where they cannot do anything right: no part of a request is done."""

from collections.abc import Awaitable, Callable

import pytest

from engine.commands import Reply
from tests.lua.books import NOW, Books, Fact, Hold, Position, ScriptError, Stock, choose, name

A, B = name(1), name(2)
SHOE = Hold((("shoe", "W", 5),))
VERBS: dict[str, Callable[[Books], Awaitable[Reply]]] = {
    "reserve": lambda books: books.reserve(A, SHOE),
    "commit": lambda books: books.resolve("commit", A, SHOE, bytes(4) + choose()),
    "release": lambda books: books.resolve("release", A, SHOE),
    "extend": lambda books: books.resolve("extend", A, SHOE, bytes(6)),
    "fulfil": lambda books: books.resolve("fulfil", A, SHOE),
    "cancel": lambda books: books.resolve("cancel", A, SHOE),
    "expire": lambda books: books.commands.expire(b"h" + A, [(A, 0, ("shoe",))], positions=1),
    "overdue": lambda books: books.commands.overdue(8),
    "forget": lambda books: books.commands.forget(b"p" + A),
    "find": lambda books: books.commands.find(A),
    "movement": lambda books: books.commands.movement(A, b"content1", 1, "W", "shoe", b""),
    "save_location": lambda books: books.commands.save_location("W", b"settings"),
    "availability": lambda books: books.commands.availability("shoe", (), swept=False),
    "stock": lambda books: books.commands.stock("shoe", (), swept=False),
}


def test_every_verb_is_here(books: Books) -> None:
    """A verb that is added is added to these tests."""
    assert set(VERBS) == set(books.library.verbs)


@pytest.mark.parametrize("verb", VERBS)
def test_a_server_without_a_data_set(books: Books, verb: str) -> None:
    """Refused under a code of its own, nothing written: not even where other keys are left over."""
    stock = {"shoe": Stock({"W": Position(10, 5)}, {("W", A): 1})}
    books.seed(stock=stock, operations={A: SHOE}, due={(NOW, "h", (A,))}, locations={"W": b"settings"})
    books.raw("DEL", "inv:{0}:meta")
    before = books.read()
    with pytest.raises(ScriptError, match=r"^NODATASET this server holds no Bincard data set"):
        books.one(VERBS[verb](books))
    assert books.read() == before


BROKEN: dict[str, Callable[[Books], Awaitable[Reply]]] = {
    # Second requests that no caller of ours makes: a choice of a position that there is not, a record
    # or a position that cannot be read, a body that was cut short.
    "choice": lambda books: books.resolve("release", B, SHOE, choose((7, 1))),
    "record": lambda books: books.resolve("release", name(3), SHOE),
    "position": lambda books: books.resolve("release", name(4), Hold((("hat", "W", 5),))),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_script_that_fails_writes_nothing(books: Books, broken: str) -> None:
    """An error while requests are decided takes the whole call with it, those before it included."""
    books.seed(
        stock={"shoe": Stock({"W": Position(10, 10)}, {("W", A): 1, ("W", B): 1})},
        operations={A: SHOE, B: SHOE, name(4): Hold((("hat", "W", 5),))},
    )
    books.raw("HSET", "inv:{0}:sku:hat", "W", "torn")
    books.raw("HSET", "inv:{0}:ops", name(3), b"\1torn")
    before = books.read()
    with pytest.raises(ScriptError):
        books.batch(books.resolve("release", A, SHOE), BROKEN[broken](books))
    assert books.read() == before


@pytest.mark.parametrize(
    ("key", "verb"),
    [("ops", "reserve"), ("sku:shoe", "reserve"), ("ops", "movement"), ("locations", "movement")],
)
def test_a_key_of_another_type(books: Books, key: str, verb: str) -> None:
    """What reading can find out stops the script before it writes."""
    books.seed(stock={"hat": Stock({"W": Position(5)})})
    books.raw("SET", f"inv:{{0}}:{key}", "text")
    with pytest.raises(ScriptError, match="WRONGTYPE"):
        books.one(VERBS[verb](books))
    assert books.raw("EXISTS", "inv:{0}:log", "inv:{0}:due", "inv:{0}:at:W") == 0


@pytest.mark.parametrize("verb", ["reserve", "movement"])
def test_a_ledger_that_is_ahead(books: Books, verb: str) -> None:
    """Where the ledger already has the sequence, the effect is not written beside it."""
    stock = {"shoe": Stock({"W": Position(10)})}
    books.seed(stock=stock, locations={"W": b"settings"})
    books.raw("XADD", "inv:{0}:log", "1-9", "e", bytes(6) + b"\0\0")
    before = books.read()
    with pytest.raises(ScriptError):
        books.one(VERBS[verb](books))
    assert books.read() == before


def test_retried_after_an_error(books: Books) -> None:
    """The library keeps no state between calls: what failed works once the cause is gone."""
    books.seed(locations={"W": b"settings"})
    books.raw("SET", "inv:{0}:ops", "text")
    with pytest.raises(ScriptError):
        books.one(VERBS["movement"](books))
    books.raw("DEL", "inv:{0}:ops")
    assert books.one(VERBS["movement"](books)) == Fact(b"content1", 2, 1, 1).result
