"""A server that has no memory left takes what gives some back or keeps a promise, and nothing else."""

import pytest

from tests.lua.books import Books, ScriptError
from tests.lua.test_errors import VERBS
from tests.lua.test_reading_ends import seed

TAKEN = {
    # What ends something, and what tells of it.
    "commit",
    "pace",
    "take_over",
    "release",
    "cancel",
    "expire",
    "forget",
    "forget_document",
    "decide",
    "follow",
    "repair",
    "settle",
    "unbind",
    "trim",
    # What only reads.
    "find",
    "cards",
    "plan",
    "supplies",
    "find_document",
    "outbox",
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_server(books: Books, verb: str) -> None:
    """What is refused changes nothing: the baskets and bonds that it would begin are never begun by half."""
    seed(books, verb)
    before = books.read()
    flags = books.scripts.verbs[verb].flags
    assert (verb in TAKEN) == bool({"allow-oom", "no-writes"} & set(flags))
    books.raw("CONFIG", "SET", "maxmemory", 1)
    try:
        if verb in TAKEN:
            books.one(VERBS[verb])
        else:
            with pytest.raises(ScriptError, match=r"^OOM"):
                books.one(VERBS[verb])
    finally:
        books.raw("CONFIG", "SET", "maxmemory", 0)
    assert (books.read() == before) == (verb not in TAKEN or "no-writes" in flags)
