"""What commit, release, extend, fulfil and cancel have in common: which reservation, which operation."""

from typing import NamedTuple

import pytest

from engine.commands import Resolution
from tests.lua.books import (
    CANCEL,
    CANCELLED,
    COMMIT,
    COMMITTED,
    EXPIRE,
    EXPIRED,
    EXTEND,
    FULFIL,
    FULFILLED,
    HELD,
    NOW,
    RELEASE,
    RELEASED,
    RESERVE,
    RETENTION_MS,
    Books,
    Fact,
    Hold,
    Memory,
    Position,
    Resolved,
    Stock,
    choose,
    name,
)

A, B, OP, OP2 = name(1), name(2), name(3), name(4)
SHOE = (("shoe", "W", 5),)


class Verb(NamedTuple):
    """A verb on a reservation of five units: from where to where it takes all of them."""

    word: Resolution
    number: int
    own: bytes
    before: Hold
    after: Hold
    deltas: tuple[int, int, int]


FROM_HELD = Hold(SHOE)
FROM_COMMITTED = Hold(SHOE, COMMITTED, COMMIT)
LATER = NOW + RETENTION_MS
VERBS = [
    Verb(
        "commit",
        COMMIT,
        bytes(4) + choose(),
        FROM_HELD,
        FROM_HELD._replace(state=COMMITTED, held_end=COMMIT, changed=2),
        (-5, 5, 0),
    ),
    Verb(
        "release",
        RELEASE,
        choose(),
        FROM_HELD,
        FROM_HELD._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=2, deadline_ms=LATER),
        (-5, 0, 0),
    ),
    Verb(
        "extend",
        EXTEND,
        (90_000).to_bytes(6, "little"),
        FROM_HELD,
        FROM_HELD._replace(changed=2, deadline_ms=NOW + 90_000),
        (0, 0, 0),
    ),
    Verb(
        "fulfil",
        FULFIL,
        choose(),
        FROM_COMMITTED,
        FROM_COMMITTED._replace(state=FULFILLED, closed_by=FULFIL, changed=2, deadline_ms=LATER),
        (0, -5, -5),
    ),
    Verb(
        "cancel",
        CANCEL,
        choose(),
        FROM_COMMITTED,
        FROM_COMMITTED._replace(state=CANCELLED, closed_by=CANCEL, changed=2, deadline_ms=LATER),
        (0, -5, 0),
    ),
]
every_verb = pytest.mark.parametrize("verb", VERBS, ids=[verb.word for verb in VERBS])


def stock_of(hold: Hold) -> dict[str, Stock]:
    """Ten shoes with five open units of A, unless it is over."""
    if hold.state == HELD:
        return {"shoe": Stock({"W": Position(10, 5)}, {("W", A): 1})}
    if hold.state == COMMITTED:
        return {"shoe": Stock({"W": Position(10, 0, 5)}, {("W", A): 1})}
    return {"shoe": Stock({"W": Position(5 if hold.state == FULFILLED else 10)})}


@every_verb
def test_a_step_and_its_memory(books: Books, verb: Verb) -> None:
    """The whole effect of a step that takes all, under an operation id; then its replays."""
    books.seed(stock=stock_of(verb.before), operations={A: verb.before})
    asked = [
        books.resolve(verb.word, A, verb.before, verb.own, operation=OP, fingerprint=mark)
        for mark in (b"content1", b"content1", b"content2")
    ]
    head = verb.after.head
    assert books.batch(*asked) == [head, [b"replayed", head], [b"idempotency_mismatch"]]
    again = [
        books.resolve(verb.word, A, verb.before, verb.own, operation=OP, fingerprint=mark)
        for mark in (b"content2", b"content1")
    ]
    assert books.batch(*again) == [[b"idempotency_mismatch"], [b"replayed", head]]
    # A memory outlives the hold that its operation left.
    kept = verb.after.deadline_ms + RETENTION_MS if verb.after.state == HELD else LATER
    due = {(kept, "p", (A, OP) if verb.after.state > COMMITTED else (OP,))}
    if verb.after.state == HELD:
        due |= {(NOW + 90_000, "h", (A,))}
    books.expect(
        seq=2,
        stock=stock_of(verb.after),
        operations={A: verb.after, OP: Memory(verb.number, b"content1", A, head)},
        due=due,
        log=[(2, [Resolved(verb.number, A, verb.after, (verb.deltas,), OP)])],
    )


@every_verb
def test_without_an_operation_id_nothing_is_remembered(books: Books, verb: Verb) -> None:
    """The id of zeros is no id: it is not filed, and two requests with it are not each other's repeat."""
    books.seed(stock=stock_of(verb.before), operations={A: verb.before})
    assert books.one(books.resolve(verb.word, A, verb.before, verb.own)) == verb.after.head
    due = {(LATER, "p", (A,))} if verb.after.state > COMMITTED else set()
    if verb.after.state == HELD:
        due = {(NOW + 90_000, "h", (A,))}
    books.expect(
        seq=2,
        stock=stock_of(verb.after),
        operations={A: verb.after},
        due=due,
        log=[(2, [Resolved(verb.number, A, verb.after, (verb.deltas,))])],
    )


@every_verb
def test_refused_before_the_lines_are_looked_at(books: Books, verb: Verb) -> None:
    """Replay before mismatch before not found before stale; none of them leaves a trace."""
    seed = {
        "stock": stock_of(verb.before),
        "operations": {
            A: verb.before,
            OP: Memory(verb.number, b"content1", A, b"head" * 20),
            OP2: Fact(b"content1", 1, 1, 1),
        },
    }
    books.seed(**seed)  # type: ignore[arg-type]
    held = verb.before

    def ask(about: bytes, operation: bytes, mark: bytes, revision: int) -> list[object]:
        request = books.resolve(
            verb.word, about, held, verb.own, operation=operation, fingerprint=mark, revision=revision
        )
        answer = books.one(request)
        assert isinstance(answer, list)
        return answer

    assert ask(A, OP, b"content1", 7) == [b"replayed", b"head" * 20]
    assert ask(A, OP, b"content2", 7) == [b"idempotency_mismatch"]
    assert ask(B, OP, b"content1", 7) == [b"idempotency_mismatch"]
    assert ask(A, OP2, b"content1", 0) == [b"idempotency_mismatch"]
    assert ask(A, A, held.fingerprint, 0) == [b"idempotency_mismatch"]
    assert ask(B, name(9), b"content1", 7) == [b"reservation_not_found", 1]
    assert ask(OP, name(9), b"content1", 0) == [b"reservation_not_found", 1]
    assert ask(OP2, name(9), b"content1", 0) == [b"reservation_not_found", 1]
    assert ask(A, name(9), b"content1", 7) == [b"stale"]
    assert ask(A, name(9), b"content1", 256) == [b"stale"]
    books.expect(**seed)  # type: ignore[arg-type]


@every_verb
def test_a_memory_of_another_verb_mismatches(books: Books, verb: Verb) -> None:
    """An operation id answers for the verb that it was used with."""
    other = Memory(RESERVE if verb.number == COMMIT else COMMIT, b"content1", A, b"head")
    books.seed(stock=stock_of(verb.before), operations={A: verb.before, OP: other})
    request = books.resolve(verb.word, A, verb.before, verb.own, operation=OP, fingerprint=b"content1")
    assert books.one(request) == [b"idempotency_mismatch"]
    books.expect(stock=stock_of(verb.before), operations={A: verb.before, OP: other})


@every_verb
@pytest.mark.parametrize("epoch", [1, 700])
def test_a_step_keeps_what_is_not_its_own(books: Books, verb: Verb, epoch: int) -> None:
    """Revision, the creation, the fingerprint and the detail stay; the change has the present epoch."""
    kept = {"revision": 513, "created": 2**40, "created_ms": 77, "detail": b"\0any\xff", "epoch": 5}
    before, after = verb.before._replace(**kept), verb.after._replace(**kept)  # type: ignore[arg-type]
    before = before._replace(changed=2**40 + 1, changed_epoch=5)
    after = after._replace(changed=2**50 + 1, changed_epoch=epoch)
    books.seed(stock=stock_of(before), operations={A: before}, seq=2**50, epoch=epoch)
    assert books.one(books.resolve(verb.word, A, before, verb.own, revision=513)) == after.head
    due = {(LATER, "p", (A,))} if after.state > COMMITTED else set()
    if after.state == HELD:
        due = {(NOW + 90_000, "h", (A,))}
    books.expect(
        seq=2**50 + 1,
        epoch=epoch,
        stock=stock_of(after),
        operations={A: after},
        due=due,
        log=[(2**50 + 1, [Resolved(verb.number, A, after, (verb.deltas,))])],
    )


STATES = {
    "held": Hold(SHOE),
    "committed": Hold(SHOE, COMMITTED, COMMIT),
    "committed, some lapsed": Hold(SHOE, COMMITTED, EXPIRE, progress=((0, 2, 0, 0),)),
    "committed, some released": Hold(SHOE, COMMITTED, RELEASE, progress=((0, 2, 0, 3),)),
    "fulfilled at once": Hold(SHOE, FULFILLED, COMMIT, COMMIT),
    "fulfilled": Hold(SHOE, FULFILLED, COMMIT, FULFIL),
    "fulfilled, rest released": Hold(SHOE, FULFILLED, RELEASE, RELEASE, progress=((0, 0, 2, 3),)),
    "fulfilled, rest lapsed": Hold(SHOE, FULFILLED, EXPIRE, EXPIRE, progress=((0, 0, 2, 0),)),
    "fulfilled, rest cancelled": Hold(SHOE, FULFILLED, COMMIT, CANCEL, progress=((0, 0, 2, 3),)),
    "released": Hold(SHOE, RELEASED, RELEASE, RELEASE),
    "expired": Hold(SHOE, EXPIRED, EXPIRE, EXPIRE),
    "cancelled": Hold(SHOE, CANCELLED, COMMIT, CANCEL),
    "cancelled, rest lapsed": Hold(SHOE, CANCELLED, EXPIRE, CANCEL, progress=((0, 0, 0, 2),)),
}
REFUSED: dict[str, dict[str, str]] = {
    # What each verb answers in each state that it cannot work on; ("repeated" has the record's head).
    "commit": {
        "committed": "repeated",
        "committed, some lapsed": "reservation_expired",
        "committed, some released": "already_committed",
        "fulfilled at once": "already_fulfilled",
        "fulfilled": "already_fulfilled",
        "fulfilled, rest released": "already_fulfilled",
        "fulfilled, rest lapsed": "reservation_expired",
        "fulfilled, rest cancelled": "already_fulfilled",
        "released": "already_released",
        "expired": "reservation_expired",
        "cancelled": "already_cancelled",
        "cancelled, rest lapsed": "reservation_expired",
    },
    "commit and fulfil": {
        "committed": "already_committed",
        "committed, some lapsed": "reservation_expired",
        "committed, some released": "already_committed",
        "fulfilled at once": "repeated",
        "fulfilled": "already_fulfilled",
        "fulfilled, rest released": "already_fulfilled",
        "fulfilled, rest lapsed": "reservation_expired",
        "fulfilled, rest cancelled": "already_fulfilled",
        "released": "already_released",
        "expired": "reservation_expired",
        "cancelled": "already_cancelled",
    },
    "commit a part": {
        "committed": "already_committed",
        "fulfilled at once": "already_fulfilled",
        "released": "already_released",
        "expired": "reservation_expired",
    },
    "retake": {
        "committed": "repeated",
        "committed, some lapsed": "reservation_expired",
        "fulfilled": "already_fulfilled",
        "released": "already_released",
        "cancelled": "already_cancelled",
    },
    "release": {
        "committed": "already_committed",
        "committed, some lapsed": "reservation_expired",
        "committed, some released": "repeated",
        "fulfilled at once": "already_fulfilled",
        "fulfilled": "already_fulfilled",
        "fulfilled, rest released": "repeated",
        "fulfilled, rest lapsed": "reservation_expired",
        "fulfilled, rest cancelled": "already_fulfilled",
        "released": "repeated",
        "expired": "reservation_expired",
        "cancelled": "already_cancelled",
        "cancelled, rest lapsed": "reservation_expired",
    },
    "release a part": {
        "committed": "already_committed",
        "committed, some released": "already_committed",
        "released": "already_released",
        "expired": "reservation_expired",
    },
    "extend": {
        "committed": "already_committed",
        "committed, some lapsed": "reservation_expired",
        "committed, some released": "already_committed",
        "fulfilled at once": "already_fulfilled",
        "fulfilled": "already_fulfilled",
        "fulfilled, rest lapsed": "reservation_expired",
        "released": "already_released",
        "expired": "reservation_expired",
        "cancelled": "already_cancelled",
    },
    "fulfil": {
        "held": "not_committed",
        "fulfilled at once": "repeated",
        "fulfilled": "repeated",
        "fulfilled, rest released": "repeated",
        "fulfilled, rest lapsed": "repeated",
        "fulfilled, rest cancelled": "already_fulfilled",
        "released": "already_released",
        "expired": "reservation_expired",
        "cancelled": "already_cancelled",
        "cancelled, rest lapsed": "already_cancelled",
    },
    "fulfil a part": {
        "held": "not_committed",
        "fulfilled": "already_fulfilled",
        "released": "already_released",
        "expired": "reservation_expired",
        "cancelled": "already_cancelled",
    },
    "cancel": {
        "held": "not_committed",
        "fulfilled at once": "already_fulfilled",
        "fulfilled": "already_fulfilled",
        "fulfilled, rest released": "already_fulfilled",
        "fulfilled, rest cancelled": "repeated",
        "released": "already_released",
        "expired": "reservation_expired",
        "cancelled": "repeated",
        "cancelled, rest lapsed": "repeated",
    },
    "cancel a part": {
        "held": "not_committed",
        "fulfilled": "already_fulfilled",
        "released": "already_released",
        "expired": "reservation_expired",
        "cancelled": "already_cancelled",
    },
}
OWN: dict[str, bytes] = {
    "commit": bytes(4) + choose(),
    "commit and fulfil": b"\1\0\0\0" + choose(),
    "commit a part": bytes(4) + choose((0, 1)),
    "retake": b"\0\0\1\0" + choose(),
    "release": choose(),
    "release a part": choose((0, 1)),
    "extend": (1).to_bytes(6, "little"),
    "fulfil": choose(),
    "fulfil a part": choose((0, 1)),
    "cancel": choose(),
    "cancel a part": choose((0, 1)),
}
WORD: dict[str, Resolution] = {"retake": "commit"}


@pytest.mark.parametrize("request_kind", REFUSED)
def test_what_cannot_be_done_in_a_state(books: Books, request_kind: str) -> None:
    """Every verb in every state that it does not work on: refused by name or repeated, never done."""
    verb: Resolution = WORD.get(request_kind) or request_kind.split(maxsplit=1)[0]  # type: ignore[assignment]
    for state, word in REFUSED[request_kind].items():
        hold = STATES[state]
        books.seed(seq=9, operations={A: hold})
        answer = books.one(books.resolve(verb, A, hold, OWN[request_kind], operation=OP))
        wanted = [b"repeated", hold.head] if word == "repeated" else [word.encode(), 9]
        assert answer == wanted, state
        books.expect(seq=9, operations={A: hold})


@every_verb
def test_two_in_one_call(books: Books, verb: Verb) -> None:
    """Two requests for one reservation in a call: the second sees what the first did."""
    books.seed(stock=stock_of(verb.before), operations={A: verb.before})
    asked = [books.resolve(verb.word, A, verb.before, verb.own, operation=each) for each in (OP, OP2)]
    first, second = books.batch(*asked)
    assert first == verb.after.head
    if verb.word == "extend":
        third = verb.after._replace(changed=3)
        assert second == third.head
        log = [
            (
                3,
                [
                    Resolved(EXTEND, A, hold, ((0, 0, 0),), op)
                    for hold, op in ((verb.after, OP), (third, OP2))
                ],
            )
        ]
        found = books.read()
        books.raw("ZREM", "inv:{0}:due", b"h" + A, b"h" + A + A)
        books.expect(
            seq=3,
            stock=stock_of(third),
            operations={
                A: third,
                OP: Memory(EXTEND, bytes(8), A, first),
                OP2: Memory(EXTEND, bytes(8), A, second),
            },
            due={(third.deadline_ms + RETENTION_MS, "p", (OP, OP2))},
            log=log,
        )
        assert b"h" + A in found["inv:{0}:due"][0][0]
        return
    assert second == [b"repeated", verb.after.head]
    # A memory outlives the hold that its operation left.
    kept = verb.after.deadline_ms + RETENTION_MS if verb.after.state == HELD else LATER
    due = {(kept, "p", (A, OP) if verb.after.state > COMMITTED else (OP,))}
    books.expect(
        seq=2,
        stock=stock_of(verb.after),
        operations={A: verb.after, OP: Memory(verb.number, bytes(8), A, first)},
        due=due,
        log=[(2, [Resolved(verb.number, A, verb.after, (verb.deltas,), OP)])],
    )


def test_keys_of_a_call_follow_one_another(books: Books) -> None:
    """Requests of several SKUs each, some refused, find their own keys by counting those before them."""
    holds = {name(number): Hold(((f"s{number}", "W", 2), (f"t{number}", "W", 3))) for number in range(4)}
    stock = {
        sku: Stock({"W": Position(9, quantity)}, {("W", each): 1})
        for each, hold in holds.items()
        for sku, _, quantity in hold.lines
    }
    books.seed(stock=stock, operations={name(0): holds[name(0)], name(3): holds[name(3)]})
    answers = books.batch(*(books.resolve("release", each, hold) for each, hold in holds.items()))
    done = {
        each: holds[each]._replace(
            state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=seq, deadline_ms=LATER
        )
        for each, seq in ((name(0), 2), (name(3), 3))
    }
    missing = [b"reservation_not_found", 2]
    assert answers == [done[name(0)].head, missing, missing, done[name(3)].head]
    for each, number in ((name(0), 0), (name(3), 3)):
        assert each in done
        stock |= {sku: Stock({"W": Position(9)}) for sku in (f"s{number}", f"t{number}")}
    books.expect(
        seq=3,
        stock=stock,
        operations=done,
        due={(LATER, "p", (name(0), name(3)))},
        log=[(3, [Resolved(RELEASE, each, done[each], ((-2, 0, 0), (-3, 0, 0))) for each in done])],
    )
