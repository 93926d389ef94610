from tests.lua.books import (
    NOW,
    RETENTION_MS,
    Books,
    Hold,
    Noted,
    Paper,
    Stepped,
    find_document,
    name,
    outbox,
    repair,
    save_document,
)

A, B, C = (name(number) for number in range(1, 4))
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
