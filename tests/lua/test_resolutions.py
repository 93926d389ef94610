"""What commit, release, extend, fulfil and cancel have in common: which reservation, which operation."""

from typing import NamedTuple

import pytest

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
    UNKNOWN,
    Answer,
    Books,
    Card,
    Due,
    Fact,
    Hold,
    Memory,
    Position,
    Resolved,
    Stock,
    choose,
    committing,
    extending,
    name,
    resolve,
)

A, B, OP, OP2, OP3 = (name(number) for number in range(1, 6))
SHOE = (("shoe", "W", 5),)


class Verb(NamedTuple):
    """A verb on a reservation of five units: from where to where it takes all of them."""

    word: str
    number: int
    own: bytes
    before: Hold
    after: Hold


FROM_HELD = Hold(SHOE)
FROM_COMMITTED = Hold(SHOE, COMMITTED, COMMIT)
LATER = NOW + RETENTION_MS
VERBS = [
    Verb(
        "commit",
        COMMIT,
        committing(),
        FROM_HELD,
        FROM_HELD._replace(state=COMMITTED, held_end=COMMIT, changed=2),
    ),
    Verb(
        "release",
        RELEASE,
        choose(),
        FROM_HELD,
        FROM_HELD._replace(state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=2, deadline_ms=LATER),
    ),
    Verb(
        "extend",
        EXTEND,
        extending(90_000),
        FROM_HELD,
        FROM_HELD._replace(changed=2, deadline_ms=NOW + 90_000),
    ),
    Verb(
        "fulfil",
        FULFIL,
        choose(),
        FROM_COMMITTED,
        FROM_COMMITTED._replace(state=FULFILLED, closed_by=FULFIL, changed=2, deadline_ms=LATER),
    ),
    Verb(
        "cancel",
        CANCEL,
        choose(),
        FROM_COMMITTED,
        FROM_COMMITTED._replace(state=CANCELLED, closed_by=CANCEL, changed=2, deadline_ms=LATER),
    ),
]
every_verb = pytest.mark.parametrize("verb", VERBS, ids=[verb.word for verb in VERBS])


def stock_of(hold: Hold) -> Stock:
    """Ten shoes with five open units of A, unless it is over."""
    if hold.state == HELD:
        return {"shoe": Card({"W": Position(10, 5)}, (A,))}
    if hold.state == COMMITTED:
        return {"shoe": Card({"W": Position(10, 0, 5)}, (A,))}
    return {"shoe": Card({"W": Position(5 if hold.state == FULFILLED else 10)})}


def due_of(hold: Hold) -> Due:
    """What an operation without an id leaves in the deadline index."""
    if hold.state == HELD:
        return {(hold.deadline_ms, "h", (A,))}
    return {(LATER, "p", (A,))} if hold.state > COMMITTED else set()


@every_verb
def test_a_step_and_its_memory(books: Books, verb: Verb) -> None:
    """The whole effect of a step that takes all, under an operation id; then its replays."""
    books.seed(stock=stock_of(verb.before), operations={A: verb.before})
    asked = [
        resolve(verb.word, A, verb.own, operation=OP, fingerprint=mark)
        for mark in (b"content1", b"content1", b"content2")
    ]
    tail = verb.after.tail
    assert books.batch(*asked) == [tail, [b"replayed", tail], [b"idempotency_mismatch"]]
    assert books.batch(*asked[1:]) == [[b"replayed", tail], [b"idempotency_mismatch"]]
    # A memory outlives the hold that its operation left.
    kept = verb.after.deadline_ms + RETENTION_MS if verb.after.state == HELD else LATER
    due = {(kept, "p", (A, OP) if verb.after.state > COMMITTED else (OP,))}
    if verb.after.state == HELD:
        due |= {(NOW + 90_000, "h", (A,))}
    books.expect(
        seq=2,
        stock=stock_of(verb.after),
        operations={A: verb.after, OP: Memory(verb.number, b"content1", A, tail)},
        due=due,
        log=[(2, [Resolved(verb.number, A, verb.after, operation=OP)])],
    )


@every_verb
def test_without_an_operation_id_nothing_is_remembered(books: Books, verb: Verb) -> None:
    """The id of zeros is no id: it is not filed, and two requests with it are not each other's repeat."""
    books.seed(stock=stock_of(verb.before), operations={A: verb.before})
    assert books.one(resolve(verb.word, A, verb.own)) == verb.after.tail
    books.expect(
        seq=2,
        stock=stock_of(verb.after),
        operations={A: verb.after},
        due=due_of(verb.after),
        log=[(2, [Resolved(verb.number, A, verb.after)])],
    )


@every_verb
@pytest.mark.parametrize(("revision", "known"), [(0, UNKNOWN), (0, 1), (7, 8), (256, 1), (65_534, UNKNOWN)])
def test_who_does_not_know_the_record_is_told(books: Books, verb: Verb, revision: int, known: int) -> None:
    """The answer is the record as it is now, with the sequence; a replay has the tail of then beside it."""
    before, after = verb.before._replace(revision=revision), verb.after._replace(revision=revision)
    books.seed(stock=stock_of(before), operations={A: before})
    step = resolve(verb.word, A, verb.own, operation=OP, known=known)
    told = after.packed(A)
    answer = (after.plan + after.detail if revision else b"") + after.tail
    assert books.batch(step, step) == [[2, told], [b"replayed", answer, told]]
    assert books.one(resolve(verb.word, A, verb.own, operation=OP, known=revision)) == [b"replayed", answer]
    if verb.word != "extend":
        again = [resolve(verb.word, A, verb.own, known=each) for each in (known, revision)]
        assert books.batch(*again) == [[b"repeated", after.tail, told], [b"repeated", after.tail]]
    kept = after.deadline_ms + RETENTION_MS if after.state == HELD else LATER
    books.expect(
        seq=2,
        stock=stock_of(after),
        operations={A: after, OP: Memory(verb.number, b"content1", A, answer)},
        due={(kept, "p", (A, OP) if after.state > COMMITTED else (OP,))}
        | ({(after.deadline_ms, "h", (A,))} if after.state == HELD else set()),
        log=[(2, [Resolved(verb.number, A, after, operation=OP)])],
    )


@every_verb
def test_who_chose_no_id_is_named_alone(books: Books, verb: Verb) -> None:
    """An operation without a fingerprint stands in the ledger, and nothing is remembered of it."""
    books.seed(stock=stock_of(verb.before), operations={A: verb.before})
    named = b"\0\0who" + bytes(7)
    step = resolve(verb.word, A, verb.own, operation=named, fingerprint=bytes(8))
    assert books.one(step) == verb.after.tail
    deadline = (verb.after.deadline_ms, "h", (A,)) if verb.after.state == HELD else (LATER, "p", (A,))
    books.expect(
        seq=2,
        stock=stock_of(verb.after),
        operations={A: verb.after},
        due=set() if verb.after.state == COMMITTED else {deadline},
        log=[(2, [Resolved(verb.number, A, verb.after, (), named)])],
    )


@every_verb
def test_a_replay_tells_of_then_and_of_now(books: Books, verb: Verb) -> None:
    """The tail is the one that was answered, whatever the reservation has become since."""
    now = Hold(SHOE, CANCELLED, COMMIT, CANCEL, revision=3, detail=b"another", first_detail=b"detail")
    books.seed(operations={A: now, OP: Memory(verb.number, b"content1", A, b"tail of then")})
    asked = [
        resolve(verb.word, A, verb.own, operation=OP, fingerprint=b"content1", known=known)
        for known in (2, 3)
    ]
    assert books.batch(*asked) == [
        [b"replayed", b"tail of then", now.packed(A)],
        [b"replayed", b"tail of then"],
    ]
    books.expect(operations={A: now, OP: Memory(verb.number, b"content1", A, b"tail of then")})


@every_verb
def test_refused_before_the_lines_are_looked_at(books: Books, verb: Verb) -> None:
    """Replay before mismatch before not found; none of them leaves a trace."""
    operations = {
        A: verb.before,
        OP: Memory(verb.number, b"content1", A, b"tail" * 20),
        OP2: Fact(b"content1", 1, 1, 1),
        OP3: Memory(verb.number, b"content1", B, b"tail" * 20),
    }
    books.seed(stock=stock_of(verb.before), operations=operations)

    def ask(about: bytes, operation: bytes, mark: bytes) -> Answer:
        return books.one(resolve(verb.word, about, verb.own, operation=operation, fingerprint=mark))

    assert ask(A, OP, b"content1") == [b"replayed", b"tail" * 20]
    assert ask(A, OP, b"content2") == [b"idempotency_mismatch"]
    assert ask(B, OP, b"content1") == [b"idempotency_mismatch"]
    assert ask(A, OP2, b"content1") == [b"idempotency_mismatch"]
    assert ask(A, A, verb.before.fingerprint) == [b"idempotency_mismatch"]
    assert ask(B, name(9), b"content1") == [b"reservation_not_found", 1]
    assert ask(B, OP3, b"content1") == [b"reservation_not_found", 1]
    assert ask(OP, name(9), b"content1") == [b"reservation_not_found", 1]
    assert ask(OP2, name(9), b"content1") == [b"reservation_not_found", 1]
    books.expect(stock=stock_of(verb.before), operations=operations)


@pytest.mark.parametrize("known", [7, 256, UNKNOWN])
@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if verb.word != "extend"], ids=lambda verb: verb.word
)
def test_lines_are_chosen_by_who_knows_them(books: Books, verb: Verb, known: int) -> None:
    """A choice of positions by who has read an older record is stale, also where it asks for too much."""
    books.seed(stock=stock_of(verb.before), operations={A: verb.before})
    for quantity in (1, 6):
        own = verb.own[:-1] + choose((0, quantity))
        assert books.one(resolve(verb.word, A, own, known=known, operation=OP)) == [b"stale"]
    books.expect(stock=stock_of(verb.before), operations={A: verb.before})


@every_verb
def test_a_memory_of_another_verb_mismatches(books: Books, verb: Verb) -> None:
    """An operation id answers for the verb that it was used with."""
    other = Memory(RESERVE if verb.number == COMMIT else COMMIT, b"content1", A, b"tail")
    books.seed(stock=stock_of(verb.before), operations={A: verb.before, OP: other})
    request = resolve(verb.word, A, verb.own, operation=OP, fingerprint=b"content1")
    assert books.one(request) == [b"idempotency_mismatch"]
    books.expect(stock=stock_of(verb.before), operations={A: verb.before, OP: other})


@every_verb
@pytest.mark.parametrize("epoch", [1, 700])
def test_a_step_keeps_what_is_not_its_own(books: Books, verb: Verb, epoch: int) -> None:
    """Revision, the creation, what was asked for and the detail stay; the change has the present epoch."""
    kept = {
        "revision": 513,
        "created": 2**40,
        "created_ms": 77,
        "detail": b"\0any\xff",
        "first_detail": b"of another size",
        "epoch": 5,
        "ttl_ms": 2_592_000_000,
        "blocks": (0x30201,),
    }
    before, after = verb.before._replace(**kept), verb.after._replace(**kept)  # type: ignore[arg-type]
    before = before._replace(changed=2**40 + 1, changed_epoch=5)
    after = after._replace(changed=2**50 + 1, changed_epoch=epoch)
    books.seed(stock=stock_of(before), operations={A: before}, seq=2**50, epoch=epoch)
    assert books.one(resolve(verb.word, A, verb.own, known=513)) == after.tail
    books.expect(
        seq=2**50 + 1,
        epoch=epoch,
        stock=stock_of(after),
        operations={A: after},
        due=due_of(after),
        log=[(2**50 + 1, [Resolved(verb.number, A, after)])],
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
    # What each verb answers in each state that it cannot work on; ("repeated" has the record's tail).
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
    "commit": committing(),
    "commit and fulfil": committing(fulfil=1),
    "commit a part": committing((0, 1)),
    "retake": committing(retake=1),
    "release": choose(),
    "release a part": choose((0, 1)),
    "extend": extending(1),
    "fulfil": choose(),
    "fulfil a part": choose((0, 1)),
    "cancel": choose(),
    "cancel a part": choose((0, 1)),
}
WORD = {"retake": "commit"}


@pytest.mark.parametrize("request_kind", REFUSED)
def test_what_cannot_be_done_in_a_state(books: Books, request_kind: str) -> None:
    """Every verb in every state that it does not work on: refused by name or repeated, never done."""
    verb = WORD.get(request_kind) or request_kind.split(maxsplit=1)[0]
    for state, word in REFUSED[request_kind].items():
        hold = STATES[state]
        books.seed(seq=9, stock=stock_of(hold), operations={A: hold})
        answer = books.one(resolve(verb, A, OWN[request_kind], operation=OP))
        wanted = [b"repeated", hold.tail] if word == "repeated" else [word.encode(), 9]
        assert answer == wanted, state
        books.expect(seq=9, stock=stock_of(hold), operations={A: hold})


@every_verb
def test_two_in_one_call(books: Books, verb: Verb) -> None:
    """Two requests for one reservation in a call: the second sees what the first did."""
    books.seed(stock=stock_of(verb.before), operations={A: verb.before})
    asked = [resolve(verb.word, A, verb.own, operation=each) for each in (OP, OP2)]
    first, second = books.batch(*asked)
    assert first == verb.after.tail
    if verb.word == "extend":
        third = verb.after._replace(changed=3)
        assert second == third.tail
        books.expect(
            seq=3,
            stock=stock_of(third),
            operations={
                A: third,
                OP: Memory(EXTEND, b"content1", A, first),
                OP2: Memory(EXTEND, b"content1", A, second),
            },
            due={
                (third.deadline_ms, "h", (A, A)),
                (third.deadline_ms + RETENTION_MS, "p", (OP, OP2)),
            },
            log=[(3, [Resolved(EXTEND, A, hold, (), op) for hold, op in ((verb.after, OP), (third, OP2))])],
        )
        return
    assert second == [b"repeated", verb.after.tail]
    due = {(LATER, "p", (A, OP) if verb.after.state > COMMITTED else (OP,))}
    books.expect(
        seq=2,
        stock=stock_of(verb.after),
        operations={A: verb.after, OP: Memory(verb.number, b"content1", A, first)},
        due=due,
        log=[(2, [Resolved(verb.number, A, verb.after, (), OP)])],
    )


def test_each_request_of_a_call_finds_its_own_lines(books: Books) -> None:
    """Requests of several SKUs each, some refused, one of them for a reservation that is not there."""
    holds = {name(number): Hold(((f"s{number}", "W", 2), (f"t{number}", "W", 3))) for number in range(4)}
    stock: dict[str, Card] = {
        sku: Card({"W": Position(9, quantity)}, (each,))
        for each, hold in holds.items()
        for sku, _, quantity in hold.lines
    }
    books.seed(stock=stock, operations={name(0): holds[name(0)], name(3): holds[name(3)]})
    answers = books.batch(*(resolve("release", each) for each in holds))
    done = {
        each: holds[each]._replace(
            state=RELEASED, held_end=RELEASE, closed_by=RELEASE, changed=seq, deadline_ms=LATER
        )
        for each, seq in ((name(0), 2), (name(3), 3))
    }
    missing = [b"reservation_not_found", 2]
    assert answers == [done[name(0)].tail, missing, missing, done[name(3)].tail]
    stock |= {sku: Card({"W": Position(9)}) for sku in ("s0", "t0", "s3", "t3")}
    books.expect(
        seq=3,
        stock=stock,
        operations=done,
        due={(LATER, "p", (name(0), name(3)))},
        log=[(3, [Resolved(RELEASE, each, done[each]) for each in done])],
    )
