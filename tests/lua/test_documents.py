from tests.lua.books import (
    KEEP_MS,
    NOW,
    RETENTION_MS,
    Books,
    Hold,
    Noted,
    Paper,
    Request,
    Stepped,
    expire,
    find_document,
    forget_document,
    name,
    outbox,
    repair,
    save_document,
)

A, B, C, D = (name(number) for number in range(1, 5))
M, N = (name(number) for number in range(11, 13))
MARK = b"content1"
LATER, SOON = NOW + RETENTION_MS, NOW + 5000


def test_steps_of_a_document(books: Books) -> None:
    """Made with effects to follow, done with, stepped without any: document, index, memory, event."""
    assert books.one(save_document(A, 0, b"one", is_pending=True, operation=M)) == 2
    first = Stepped(A, Paper(1, b"one", is_pending=True), M)
    books.expect(
        seq=2,
        operations={M: Noted(MARK, b"one")},
        due={(LATER, "p", (M,)), (SOON, "d", (A,))},
        log=[(2, [first])],
        documents={A: Paper(1, b"one", is_pending=True)},
    )
    assert books.batch(save_document(A, 1, b"two"), save_document(A, 2, b"three")) == [3, 4]
    second, third = Stepped(A, Paper(2, b"two")), Stepped(A, Paper(3, b"three"))
    books.expect(
        seq=4,
        operations={M: Noted(MARK, b"one")},
        due={(LATER, "p", (M,))},
        log=[(2, [first]), (4, [second, third])],
        documents={A: Paper(3, b"three")},
    )


def test_another_version_is_stored(books: Books) -> None:
    """Whoever did not see the last version changes nothing, in one call and between calls."""
    books.seed(documents={A: Paper(7, b"seven")})
    asked = [save_document(A, version, b"x") for version in (0, 6, 8)]
    assert books.batch(*asked, save_document(B, 1, b"x")) == [[b"stale"]] * 4
    books.expect(documents={A: Paper(7, b"seven")})
    twice = [save_document(A, 7, b"mine", is_pending=True), save_document(A, 7, b"yours")]
    assert books.batch(*twice) == [2, [b"stale"]]
    paper = Paper(8, b"mine", is_pending=True)
    books.expect(seq=2, due={(SOON, "d", (A,))}, log=[(2, [Stepped(A, paper)])], documents={A: paper})


def test_the_same_step_again(books: Books) -> None:
    """It is told what it stored, whatever came after; other content, or an id of another kind, mismatches."""
    hold = Hold((("shoe", "W", 1),))
    books.seed(operations={N: hold})
    step = save_document(A, 0, b"one", operation=M)
    other = save_document(B, 0, b"one", operation=M, fingerprint=b"content2")
    mismatch = [b"idempotency_mismatch"]
    answers = books.batch(step, step, other, save_document(C, 0, b"x", operation=N))
    assert answers == [2, [b"replayed", b"one"], mismatch, mismatch]
    assert books.one(step) == [b"replayed", b"one"]
    assert books.one(save_document(A, 1, b"two")) == 3
    assert books.one(step) == [b"replayed", b"one"]
    books.expect(
        seq=3,
        operations={M: Noted(MARK, b"one"), N: hold},
        due={(LATER, "p", (M,))},
        log=[(2, [Stepped(A, Paper(1, b"one"), M)]), (3, [Stepped(A, Paper(2, b"two"))])],
        documents={A: Paper(2, b"two")},
    )


def test_finding(books: Books) -> None:
    """A document with what an operation stored; nothing where there is none."""
    paper, noted = Paper(7, b"seven", is_pending=True), Noted(MARK, b"one")
    books.seed(seq=9, operations={M: noted}, documents={A: paper})
    asked = [find_document(A, M), find_document(A), find_document(B, M), find_document(B, N)]
    found = [
        [9, paper.packed, noted.packed()],
        [9, paper.packed, b""],
        [9, b"", noted.packed()],
        [9, b"", b""],
    ]
    assert books.batch(*asked) == found


def test_outboxes(books: Books) -> None:
    """Those whose time has come, the oldest first; holds, memories and repairs are none."""
    others = {(NOW - 9, "h", (M,)), (NOW - 9, "p", (M,)), (NOW - 9, "r", (M,))}
    books.seed(due={*others, (NOW, "d", (A,)), (NOW - 1, "d", (B,)), (NOW + 1, "d", (C,))})
    assert books.batch(outbox(9), outbox(1), outbox(9, 1), outbox(9, 2)) == [[B, A], [B], [A], []]
    books.turn_clock(NOW + 1)
    assert books.one(outbox(9)) == [B, A, C]


def test_outboxes_of_a_clock_that_was_ahead(books: Books) -> None:
    """What stands further ahead than anybody files it is due as well, and is no repair."""
    books.seed(due={(NOW, "d", (A,)), (NOW + 60_000, "d", (B,)), (NOW + 60_001, "d", (C,))})
    assert books.batch(outbox(9), outbox(1), outbox(1, 1), outbox(9, 2)) == [[A, C], [A], [C], []]
    assert books.one(repair(9)) == []
    books.expect(due={(NOW, "d", (A,)), (NOW + 60_000, "d", (B,)), (NOW + 60_001, "d", (C,))})


def test_what_leads_to_a_document(books: Books) -> None:
    """Entries come and go with its steps, in one call and between calls; what is refused changes none."""
    first = save_document(A, 0, b"one", added=[b"every", b"draft"])
    assert books.one(first) == 2
    books.expect(
        seq=2, log=[(2, [Stepped(A, Paper(1, b"one"))])], documents={A: Paper(1, b"one")},
        listed=[b"every", b"draft"],
    )  # fmt: skip
    steps = [
        first,
        save_document(A, 1, b"two", added=[b"every", b"sent"], gone=[b"draft"]),
        save_document(B, 0, b"x", added=[b"draft", b"other"]),
        save_document(A, 2, b"three", added=[b"every", b"came"], gone=[b"sent"]),
        save_document(A, 2, b"four", added=[b"late"], gone=[b"every"]),
    ]
    assert books.batch(*steps) == [[b"stale"], 3, 4, 5, [b"stale"]]
    stepped = [Stepped(A, Paper(2, b"two")), Stepped(B, Paper(1, b"x")), Stepped(A, Paper(3, b"three"))]
    books.expect(
        seq=5,
        log=[(2, [Stepped(A, Paper(1, b"one"))]), (5, stepped)],
        documents={A: Paper(3, b"three"), B: Paper(1, b"x")},
        listed=[b"every", b"came", b"draft", b"other"],
    )


def test_since_when_a_document_is_over(books: Books) -> None:
    """Not while effects are to follow; from then on anew with each step, and no more once it goes on."""
    assert books.one(save_document(A, 0, b"one", is_over=True, is_pending=True)) == 2
    paper = Paper(1, b"one", is_pending=True)
    log = [(2, [Stepped(A, paper)])]
    books.expect(seq=2, due={(SOON, "d", (A,))}, log=log, documents={A: paper})
    for version, content in ((1, b"two"), (2, b"three")):
        books.seed(documents={A: Paper(version, b"x")}, ended={A: NOW - 9, B: NOW - 7})
        assert books.one(save_document(A, version, content, is_over=True)) == 2
        paper = Paper(version + 1, content)
        books.expect(seq=2, log=[(2, [Stepped(A, paper)])], documents={A: paper}, ended={A: NOW, B: NOW - 7})
    for is_pending in (False, True):
        books.seed(documents={A: Paper(1, b"x")}, ended={A: NOW - 9, B: NOW - 7})
        books.one(save_document(A, 1, b"two", is_over=is_pending, is_pending=is_pending))
        paper = Paper(2, b"two", is_pending=is_pending)
        due = {(SOON, "d", (A,))} if is_pending else None
        books.expect(seq=2, due=due, log=[(2, [Stepped(A, paper)])], documents={A: paper}, ended={B: NOW - 7})


def test_forgetting_what_ended_long_ago(books: Books) -> None:
    """With all that leads to it; not a moment early, nor another version, nor what is not over."""
    papers = {one: Paper(3, b"x") for one in (A, B, C)}
    ended = {A: NOW - KEEP_MS, B: NOW - KEEP_MS + 1, D: NOW - KEEP_MS}
    listed = [one + kind for one in (A, B, C) for kind in (b"every", b"state")]
    books.seed(documents=papers, ended=ended, listed=listed)
    asked = [forget_document(one, 3, [one + b"every", one + b"state"]) for one in (B, C, D)]
    assert books.batch(forget_document(A, 2, listed), forget_document(A, 4, listed), *asked) == [0] * 5
    books.expect(documents=papers, ended=ended, listed=listed)
    assert books.batch(forget_document(A, 3, listed[:2]), *asked) == [1, 0, 0, 0]
    del papers[A], ended[A]
    books.expect(documents=papers, ended=ended, listed=listed[2:])
    books.turn_clock(NOW + 1)
    assert books.batch(*asked, forget_document(A, 3, listed[2:])) == [1, 0, 0, 0]
    del papers[B], ended[B]
    books.expect(documents=papers, ended=ended, listed=listed[4:])


def test_forgetting_many(books: Books) -> None:
    """All of a call."""
    many = [name(number) for number in range(100, 228)]
    books.seed(documents=dict.fromkeys(many, Paper(1, b"x")), ended=dict.fromkeys(many, 1), listed=many)
    assert books.batch(*(forget_document(one, 1, [one]) for one in many)) == [1] * 128
    books.expect()


def test_nothing_is_forgotten_by_a_clock_that_nobody_vouches_for(books: Books) -> None:
    """As with memories: a clock that jumps ahead ends nothing."""
    # What sweepers vouch for outlives a test, but not a library.
    books.raw("FUNCTION", "LOAD", "REPLACE", books.scripts.text)
    books.seed(documents={A: Paper(3, b"x")}, ended={A: NOW - 5})
    books.turn_clock(NOW + KEEP_MS)
    for until_ms, gone in ((NOW, 0), (NOW + KEEP_MS - 6, 0), (NOW + KEEP_MS - 5, 1)):
        books.one(Request("expire", expire(8).packed + until_ms.to_bytes(6, "little")))
        assert books.one(forget_document(A, 3)) == gone
    books.expect()
