"""What the scripts do where they cannot do anything right: no part of a request is done."""

import pytest

from engine.sourcing_plan import Group
from tests.lua.books import (
    CALLS,
    NOW,
    OFFERED,
    Books,
    Card,
    Carried,
    Expected,
    Fact,
    Hold,
    Opened,
    Position,
    Request,
    Reserved,
    ScriptError,
    bind,
    cards,
    carry,
    committing,
    count,
    decide,
    expire,
    extending,
    find,
    find_document,
    follow,
    forget,
    forget_document,
    hold_part,
    index,
    inherit,
    move,
    name,
    offer,
    open_basket,
    opening,
    outbox,
    pace,
    pack_version,
    part,
    plan,
    repair,
    replan,
    reserve,
    resolve,
    save_document,
    save_fence,
    save_policy,
    save_setting,
    setting,
    settle,
    source,
    spread,
    supplies,
    supply,
    take_over,
    trim,
    unbind,
)

A, B = name(1), name(2)
SHOE = Hold((("shoe", "W", 5),))
VERBS: dict[str, Request] = {
    "reserve": reserve(A, SHOE),
    "commit": resolve("commit", A, committing()),
    "release": resolve("release", A),
    "extend": resolve("extend", A, extending(0)),
    "fulfil": resolve("fulfil", A),
    "cancel": resolve("cancel", A),
    "expire": expire(8),
    "open_basket": open_basket(A, SHOE),
    "hold_part": hold_part(A, part(SHOE.lines)),
    "decide": decide(A),
    "follow": follow(A, (1, 6), SHOE.lines, (0, 5, 0, 0)),
    "offer": offer(A, part(SHOE.lines)._replace(detail=pack_version((1, 5)) + OFFERED), (0, 0)),
    "spread": spread(A, B),
    "repair": repair(8),
    "settle": settle(A, (1, 1)),
    "bind": bind(A),
    "unbind": unbind(A),
    "forget": forget(8),
    "find": find(A),
    "carry": carry(Carried(B, Fact(b"content1", 1, 1, 1))),
    "movement": move(A, 1),
    "record_count": count(A, 1),
    "opening": opening(Opened(5)),
    "trim": trim(8, 8),
    "save_setting": save_setting("W", setting()),
    "save_policy": save_policy("shoe", "W", (1, 0, 0)),
    "inherit": inherit("shoe", "W"),
    "save_fence": save_fence("web", "shoe", "W", 1),
    "supply": supply(B, Expected(A, 1)),
    "supplies": supplies("shoe"),
    "save_document": save_document(A, 0, b"content"),
    "find_document": find_document(A),
    "forget_document": forget_document(A, 1, [b"entry"]),
    "outbox": outbox(8),
    "cards": cards("shoe"),
    "source": source(A, (Group(1, "W", (("shoe", 1),)),)),
    "plan": plan((Group(1, "W", (("shoe", 1),)),)),
    "replan": replan(A, SHOE._replace(lines=(("shoe", "W", 4),))),
    "index": index(b"", b"1-5", [b"o\0entry"]),
    "take_over": take_over(0),
    "pace": pace(0, ahead=5),
}


def test_every_verb_is_here(books: Books) -> None:
    """A verb that is added is added to these tests."""
    assert set(VERBS) == set(CALLS) == set(books.scripts.verbs)
    assert all(request.verb == verb for verb, request in VERBS.items())


@pytest.mark.parametrize("verb", VERBS)
def test_a_server_without_a_data_set(books: Books, verb: str) -> None:
    """Refused under a code of its own, nothing written: not even where other keys are left over."""
    stock = {"shoe": Card({"W": Position(10, 5)}, (A,))}
    books.seed(stock=stock, operations={A: SHOE}, due={(NOW, "h", (A,))}, locations={"W": b"settings"})
    books.raw("DEL", "inv:{0}:meta")
    before = books.read()
    with pytest.raises(ScriptError, match=r"^NODATASET this server holds no Bincard data set"):
        books.one(VERBS[verb])
    assert books.read() == before


BROKEN: dict[str, Request] = {
    # Second requests that no caller of ours makes: a record or a card that cannot be read, a position that
    # its card does not have.
    "record": resolve("release", name(3)),
    "card": resolve("release", name(4)),
    "position": resolve("release", name(5)),
    "sku": resolve("release", name(6)),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_script_that_fails_writes_nothing(books: Books, broken: str) -> None:
    """An error while requests are decided takes the whole call with it, those before it included."""
    books.seed(
        stock={"shoe": Card({"W": Position(10, 10)}, (A, B))},
        operations={
            A: SHOE,
            B: SHOE,
            name(4): Hold((("hat", "W", 5),)),
            name(5): Hold((("shoe", "S", 5),)),
            name(6): Hold((("sock", "W", 5),)),
        },
    )
    books.raw("HSET", "inv:{0}:stock", "hat", b"\0torn")
    books.raw("HSET", "inv:{0}:ops", name(3), b"\1torn")
    before = books.read()
    with pytest.raises(ScriptError):
        books.batch(resolve("release", A), BROKEN[broken])
    assert books.read() == before
    # And nothing of it reaches the next call.
    books.seed(stock={"shoe": Card({"W": Position(1)}), "sock": Card({"S": Position(3)}, (B,))})
    hold = Hold((("sock", "S", 2),), created=2, changed=2, created_ms=NOW)
    assert books.one(reserve(A, hold)) == 2
    books.expect(
        seq=2,
        stock={"shoe": Card({"W": Position(1)}), "sock": Card({"S": Position(3, 2)}, (B, A))},
        operations={A: hold},
        due={(NOW + 60_000, "h", (A,))},
        log=[(2, [Reserved(A, hold)])],
    )


@pytest.mark.parametrize(
    ("key", "verb"),
    [
        ("ops", "reserve"),
        ("stock", "reserve"),
        ("ops", "movement"),
        ("stock", "movement"),
        ("locations", "movement"),
        ("stock", "cards"),
        ("due", "cards"),
        ("due", "expire"),
        ("stocked", "save_setting"),
        ("ops", "open_basket"),
        ("stock", "hold_part"),
        ("stock", "offer"),
        ("ops", "spread"),
        ("due", "repair"),
        ("ops", "bind"),
    ],
)
def test_a_key_of_another_type(books: Books, key: str, verb: str) -> None:
    """What reading can find out stops the script before it writes."""
    books.seed(locations={"W": b"settings"})
    books.raw("DEL", f"inv:{{0}}:{key}")
    books.raw("SET", f"inv:{{0}}:{key}", "text")
    before = books.read()
    with pytest.raises(ScriptError, match="WRONGTYPE"):
        books.one(save_setting("W", b"") if verb == "save_setting" else VERBS[verb])
    assert books.read() == before


@pytest.mark.parametrize("verb", ["reserve", "movement", "open_basket", "hold_part", "offer"])
def test_a_ledger_that_is_ahead(books: Books, verb: str) -> None:
    """Where the ledger already has the sequence, the effect is not written beside it."""
    stock = {"shoe": Card({"W": Position(10)})}
    books.seed(stock=stock, locations={"W": b"settings"})
    books.raw("XADD", "inv:{0}:log", "1-9", "e", bytes(6) + b"\0\0")
    before = books.read()
    with pytest.raises(ScriptError):
        books.one(VERBS[verb])
    assert books.read() == before


def test_retried_after_an_error(books: Books) -> None:
    """The library keeps no state between calls: what failed works once the cause is gone."""
    books.seed(locations={"W": b"settings"})
    books.raw("SET", "inv:{0}:ops", "text")
    with pytest.raises(ScriptError):
        books.one(VERBS["movement"])
    books.raw("DEL", "inv:{0}:ops")
    assert books.one(VERBS["movement"]) == Fact(b"content1", 2, 1, 1, effect=1).result
