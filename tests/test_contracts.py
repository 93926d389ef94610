"""Header, body and Python of every script say the same: what engine/lua/README.md promises, checked."""

import asyncio
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine import keys
from engine.commands import Commands, Replan
from engine.errors import REFUSAL_ERRORS
from engine.lane import Script, bulk
from engine.outcomes import OF_DOCUMENTS, REFUSALS, Outcome
from engine.script import assemble, library, read_sources
from engine.types import Supply, SupplyKind

LUA = Path(__file__).resolve().parent.parent / "engine" / "lua"
INCLUDES, VERBS = read_sources()
every_verb = pytest.mark.parametrize("verb", VERBS)
# What every verb includes stands in the library once; the rest in the block of each verb that includes it.
SHARED = set.intersection(*(set(header.includes) for header in library().verbs.values()))
MOST_NAMES = 200
"""How many local names Lua allows at one place."""

READS = {"HEXISTS", "HGET", "HGETALL", "HMGET", "INFO", "TIME", "ZRANGE", "ZSCORE"}
WRITES = {"HDEL", "HINCRBY", "HSET", "XADD", "ZADD", "ZREM"}
FLAGS = {"allow-oom", "no-writes"}
P = 7
KEYS = {
    # A header's word for a key: its pattern, made by the function that spells it.
    "meta": keys.meta(P),
    "operations": keys.operations(P),
    "due": keys.due(P),
    "log": keys.log(P),
    "locations": keys.locations(P),
    "pools": keys.pools(P),
    "channels": keys.channels(P),
    "items": keys.items(P),
    "api_keys": keys.api_keys(P),
    "named": keys.named(P),
    "changes": keys.changes(P),
    "stock": keys.stock(P),
    "stocked": keys.stocked(P),
    "wanted": keys.wanted(P),
    "moves": keys.moves(P),
    "counts": keys.counts(P),
    "conditions": keys.conditions(P),
    "fenced": keys.fenced(P),
    "find": keys.find(P),
    "found": keys.found(P),
    "inbound": keys.inbound(P),
    "documents": keys.documents(P),
    "listed": keys.listed(P),
    "ended": keys.ended(P),
    "defaults": keys.defaults(P),
    "inheriting": keys.inheriting(P),
}
TYPES = {
    "meta": "hash",
    "operations": "hash",
    "due": "zset",
    "log": "stream",
    "locations": "hash",
    "pools": "hash",
    "channels": "hash",
    "items": "hash",
    "api_keys": "hash",
    "named": "hash",
    "changes": "zset",
    "stock": "hash",
    "stocked": "hash",
    "defaults": "hash",
    "inheriting": "zset",
    "wanted": "hash",
    "moves": "zset",
    "counts": "hash",
    "conditions": "hash",
    "fenced": "hash",
    "find": "zset",
    "found": "hash",
    "inbound": "hash",
    "documents": "hash",
    "listed": "zset",
    "ended": "zset",
}
FUNCTION = re.compile(r"^(?:local )?function ([\w.]+)\(.*?^end$", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"redis\.call\('(\w+)'")
NOT_ANSWERED = {
    # Words that a verb's functions could answer and that it never does, with the reason.
    "source": {"reservation_not_found": "a hold that lapses is there"},
    "plan": {"insufficient_stock": "that is what the candidates tell"},
    "commit": {"not_committed": "a held reservation can be committed"},
    "release": {"not_committed": "a held reservation can be released"},
    "extend": {
        "not_committed": "a held reservation can be extended",
        "repeated": "none of its own",
        "exceeds_open_quantity": "none of its own",
    },
    "replan": {
        "not_committed": "a held reservation can have other lines",
        "already_committed": "and so can a committed one",
    },
    "fulfil": {"already_committed": "a committed reservation can be fulfilled"},
    "cancel": {"already_committed": "a committed reservation can be cancelled"},
    "expire": {"reservation_not_found": "what is gone is passed over before its lines are read"},
    "reserve": {"reservation_not_found": "what has lapsed and is gone is passed over, too"},
    "hold_part": {"reservation_not_found": "what has lapsed and is gone is passed over, too"},
    "offer": {"reservation_not_found": "what has lapsed and is gone is passed over, too"},
    "follow": {"reservation_not_found": "a part that is not there is missing"},
}


def without_comments(source: str) -> str:
    """The code alone, and `--@writes`."""
    return re.sub(r"--(?!@writes$)[^\n]*$", "", source, flags=re.MULTILINE)


def functions_of(source: str) -> dict[str, str]:
    """The text of each function at the top of a file; one that stands in a table is named with it."""
    return {found[1]: found[0] for found in FUNCTION.finditer(without_comments(source))}


def names_of(source: str) -> set[str]:
    """What a file defines at its top."""
    code = FUNCTION.sub("", without_comments(source))
    found = {
        name for line in re.findall(r"^local ([\w, ]+)", code, re.MULTILINE) for name in line.split(", ")
    }
    return {name.strip() for name in found} | {name for name in functions_of(source) if "." not in name}


def words_in(code: str) -> set[str]:
    """Every name that code mentions, strings and fields left out."""
    bare = re.sub(r"'[^'\n]*'", "''", code)
    in_tables = re.findall(r"(?<![\w.])([A-Z]+\.[a-z]\w*)", bare)
    return {*re.findall(r"(?<![\w.])([A-Za-z_]\w*)", bare), *in_tables} - {"redis"}


def functions_for(verb: str) -> dict[str, str]:
    """All functions that a verb's file sees."""
    found: dict[str, str] = {}
    for include in library().verbs[verb].includes:
        found |= functions_of(INCLUDES[include])
    return found | functions_of(VERBS[verb])


def reach(code: str, functions: dict[str, str]) -> set[str]:
    """The functions that code mentions, and those that they mention."""
    reached: set[str] = set()
    open_words = words_in(code)
    while fresh := (open_words & functions.keys()) - reached:
        reached |= fresh
        open_words = {word for name in fresh for word in words_in(functions[name])}
    return reached


def commands_of(code: str, functions: dict[str, str]) -> set[str]:
    """The server's commands that code runs, directly or through functions."""
    texts = [code, *(functions[name] for name in reach(code, functions))]
    return {command for text in texts for command in CALL.findall(text)}


def halves(verb: str) -> tuple[str, str]:
    """A verb's own function before and after `--@writes`."""
    before, after = functions_of(VERBS[verb])[verb].split("--@writes")
    return before.partition("\n")[2], after


def lines_of(verb: str, word: str) -> list[str]:
    """The lines of a header that begin with a word."""
    return re.findall(rf"^--@{word} (.*)$", VERBS[verb], re.MULTILINE)


@every_verb
def test_reading_ends_before_writing_begins(verb: str) -> None:
    """One `--@writes` in the verb's own function; reads only above it, writes only below, calls followed."""
    assert VERBS[verb].count("--@writes") == 1
    functions = functions_for(verb)
    before, after = halves(verb)
    assert not commands_of(before, functions) - READS, "Move what writes below --@writes:"
    assert not commands_of(after, functions) - WRITES, "Move what reads above --@writes:"


@pytest.mark.parametrize("source", [*VERBS, *(f"lib/{name}" for name in INCLUDES)])
def test_commands_are_named_where_they_are_called(source: str) -> None:
    """`redis.call('NAME', …)`, so that the check above sees every command; errors are never caught."""
    text = without_comments((LUA / f"{source}.lua").read_text(encoding="utf-8"))
    assert "pcall" not in text
    assert text.count("redis.") == len(CALL.findall(text))
    assert set(CALL.findall(text)) <= READS | WRITES


@pytest.mark.parametrize("include", INCLUDES)
def test_an_include_has_functions_only(include: str) -> None:
    """No KEYS, no ARGV, no header of its own, nothing that runs while the library loads."""
    text = without_comments(INCLUDES[include])
    assert not re.search(r"\b(KEYS|ARGV)\b", text)
    assert "--@" not in INCLUDES[include]
    assert not CALL.search(FUNCTION.sub("", text))


@every_verb
def test_includes_are_needed_and_complete(verb: str) -> None:
    """A header lists every file whose names the verb, or one of those files, mentions; and beside them only
    what all verbs list.
    """
    defined = {include: names_of(source) for include, source in INCLUDES.items()}
    needed: set[str] = set()
    texts = [VERBS[verb]]
    while texts:
        words = words_in(without_comments(texts.pop()))
        fresh = {include for include, names in defined.items() if names & words} - needed
        needed |= fresh
        texts += [INCLUDES[include] for include in sorted(fresh)]
    listed = set(library().verbs[verb].includes)
    assert needed <= listed, "Add the include that defines it:"
    assert listed - SHARED <= needed, "Drop the include that it does not need:"


@every_verb
def test_a_verb_sees_every_name_once(verb: str) -> None:
    """Its names and those of its includes are all different, and not more than Lua takes."""
    sources = [VERBS[verb], *(INCLUDES[include] for include in library().verbs[verb].includes)]
    seen = [name for source in sources for name in names_of(source)]
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) <= MOST_NAMES


def test_every_include_is_listed() -> None:
    """No file of lib/ is left over."""
    assert set(INCLUDES) == {include for header in library().verbs.values() for include in header.includes}


@every_verb
def test_an_include_stands_after_what_it_uses(verb: str) -> None:
    """Lua sees the names above only: the order of a header's list puts every file after its needs, and what
    is shared before what is not.
    """
    order = library().verbs[verb].includes
    assert set(order[: len(SHARED)]) == SHARED
    everything = {name for source in INCLUDES.values() for name in names_of(source)}
    seen: set[str] = set()
    for include in order:
        seen |= names_of(INCLUDES[include])
        assert not (words_in(without_comments(INCLUDES[include])) & everything) - seen, include


@every_verb
def test_flags(verb: str) -> None:
    """Known flags only; `no-writes` on exactly the verbs that write nothing."""
    header = library().verbs[verb]
    assert set(header.flags) <= FLAGS
    writes = commands_of(halves(verb)[1], functions_for(verb)) & WRITES
    assert ("no-writes" in header.flags) == (not writes)
    if "no-writes" in header.flags:
        assert {line.split()[3].rstrip(":") for line in lines_of(verb, "key")} == {"r"}


@every_verb
def test_keys_are_spelled_as_keys_py_makes_them(verb: str) -> None:
    """Name, full pattern, type and use of each key. No request brings a key of its own."""
    lines = lines_of(verb, "key")
    assert lines
    for line in lines:
        name, pattern, kind, use = re.split(r" +", line.split(":  ")[0])[:4]
        assert pattern == KEYS[name].replace(f"{{{P}}}", "{p}")
        assert kind == TYPES[name]
        assert use.rstrip(":") in {"r", "w", "rw"}


class Recorder:
    """Takes the calls that typed commands make, and answers nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[Script, bytes]] = []

    def submit(self, script: Script, argument: bytes, positions: int = 1) -> "asyncio.Future[Any]":
        assert positions >= 1
        self.calls.append((script, argument))
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result((1, 1, 1, 1))
        return future

    def submit_many(
        self, script: Script, requests: Sequence[tuple[bytes, int]]
    ) -> "list[tuple[int, asyncio.Future[Any]]]":
        return [(1, self.submit(script, argument, positions)) for argument, positions in requests]


def unpack(bulks: bytes) -> list[str]:
    """Strings as they were before they were made ready for the wire."""
    found = []
    while bulks:
        size, _, rest = bulks.partition(b"\r\n")
        end = int(size[1:])
        assert rest[end : end + 2] == b"\r\n"
        found.append(rest[:end].decode("latin-1"))
        bulks = rest[end + 2 :]
    return found


async def call_all() -> dict[str, Script]:
    """One call of every typed command."""
    recorder = Recorder()
    commands = Commands(recorder, library(), P, retention_ms=5)  # type: ignore[arg-type]
    reserve = commands.encode_reserve(bytes(12), bytes(8), b"", 1)
    await commands.reserve(reserve, 1)
    await commands.reserve_many([(reserve, 1)])[0][1]
    for verb in ("commit", "release", "extend", "fulfil", "cancel"):
        await commands.resolve(verb, bytes(12), b"")
        await commands.resolve_many(verb, [(bytes(12), 0, 1)], b"")[0][1]
    await commands.replan(Replan(bytes(12), (1, 2), bytes(3), [], b""))
    await commands.open_basket(reserve, 1)
    await commands.hold_part(reserve, 1)
    await commands.decide(bytes(12), (1, 2), hold=True)
    await commands.follow(bytes(12), (1, 2), bytes(3), [(1, 0, 0, 0)])
    await commands.offer(reserve, 1)
    await commands.spread(bytes(12), bytes(12), (1, 2), 1)
    await commands.repair(1)
    await commands.settle(bytes(12), (1, 2))
    await commands.bind(bytes(12), bytes(8), 1)
    await commands.unbind(bytes(12), bytes(8))
    await commands.expire(1)
    await commands.forget(1)
    await commands.find(bytes(12))
    await commands.index(b"", b"1-1", [b"a"], [b"b"])
    await commands.carry(bytes(12), 0, 0, b"", 1)
    await commands.movement(bulk(b""))
    await commands.record_count(bulk(b""))
    await commands.opening(b"")
    await commands.trim(b"")
    await commands.save_setting(1, "L", b"")
    await commands.save_policy("a", "L", (1, 2, 3))
    await commands.inherit("a", "L")
    await commands.save_fence("web", "a", "L", 1, spills=True, used=0)
    await commands.source(b"", 1)
    await commands.plan(b"", 1, swept=False)
    await commands.cards("a", swept=False)
    expected = Supply(bytes(12), 1, 0, SupplyKind.PURCHASE)
    await commands.supply(bytes(12), bytes(8), expected, "L", "a", received=0)
    await commands.supplies("a", swept=False)
    await commands.save_document(bytes(12), b"content", version=0, is_pending=False, is_over=False)
    await commands.forget_document(bytes(12), 1, [b"entry"])
    await commands.find_document(bytes(12), bytes(12))
    await commands.outbox(1, 0)
    await commands.take_over()
    await commands.pace(0)
    assert all(len(unpack(argument)) == 1 for _, argument in recorder.calls)
    return {
        unpack(script.prefix)[1].removeprefix(f"{library().name}_"): script for script, _ in recorder.calls
    }


@every_verb
async def test_commands_pass_the_keys_of_the_header(verb: str) -> None:
    """Keys in the header's order, then the fixed arguments."""
    script = (await call_all())[verb]
    call, _, count, *words = unpack(script.prefix)
    wanted = [KEYS[line.split()[0]] for line in lines_of(verb, "key")]
    assert (call, words[: int(count)]) == ("FCALL", wanted)
    assert script.parts == len(words) + 3
    arguments = [line.split()[0] for line in lines_of(verb, "arg")]
    assert arguments[-1].endswith("...")
    assert len(words) - int(count) == len(arguments) - 1


async def test_every_verb_has_a_typed_command() -> None:
    """No script without its method, no method without its script."""
    assert set(await call_all()) == set(VERBS) == set(library().verbs)


@every_verb
def test_answers_are_outcomes(verb: str) -> None:
    """Every word of a header is a word of `Outcome`; a refusal has its exception."""
    answers = library().verbs[verb].answers
    assert len(set(answers)) == len(answers)
    for word in answers:
        assert word in set(Outcome), "Add it to engine/outcomes.py:"
        assert word not in REFUSALS or word in REFUSAL_ERRORS, "Add its exception to engine/errors.py:"


@every_verb
def test_refusals_stand_in_the_order_of_precedence(verb: str) -> None:
    """Of two refusals the one that `Outcome` lists first comes first in the header, too."""
    order = [word for word in Outcome if word in REFUSALS]
    listed = [order.index(Outcome(word)) for word in library().verbs[verb].answers if word in REFUSALS]
    assert listed == sorted(listed)


@every_verb
def test_the_body_answers_what_the_header_lists(verb: str) -> None:
    """No word is answered that the header does not list, and none is listed that no code answers."""
    functions = functions_for(verb)
    reached = reach(without_comments(VERBS[verb]), functions)
    texts = [functions[name] for name in reached]
    answered = {word for text in texts for word in re.findall(r"(?:\{ |answer_tail\()'([a-z_]+)'", text)}
    if "refuse_by_state" in reached:
        answered |= set(re.findall(r"\] = '(\w+)'", INCLUDES["resolve"]))
    listed = {line.split()[0] for line in lines_of(verb, "answer") if line.split()[1].startswith("[word")}
    assert listed <= answered
    assert answered - listed <= set(NOT_ANSWERED.get(verb, {})), "Add it to the header:"
    is_success = [not line.split()[1].startswith("[word") for line in lines_of(verb, "answer")]
    assert any(is_success)
    assert is_success == sorted(is_success), "success comes last"


def test_every_refusal_has_one_exception() -> None:
    """`REFUSAL_ERRORS` is complete, in the order of precedence, and each exception knows its word."""
    assert list(REFUSAL_ERRORS) == [word for word in Outcome if word in REFUSALS]
    assert all(error.outcome == word for word, error in REFUSAL_ERRORS.items())


def test_every_refusal_is_answered_by_a_script() -> None:
    """No word is left over in `Outcome` that nothing answers."""
    answered = {word for header in library().verbs.values() for word in header.answers}
    lane = {"overloaded", "memory_full", "replicas_unavailable", "storage_unavailable", "unconfirmed"}
    assert set(Outcome) == answered | lane | OF_DOCUMENTS
    assert not answered & OF_DOCUMENTS


@every_verb
def test_events_are_told_in_the_header(verb: str) -> None:
    """A verb that appends to the ledger says what, under a kind that lib/record.lua numbers."""
    functions = functions_for(verb)
    reached = reach(VERBS[verb], functions) - {"add_event", "write_batch"}
    appends = any("add_event(" in functions[name] or "events[" in functions[name] for name in reached)
    events = library().verbs[verb].events
    assert bool(events) == appends
    for event in events:
        assert event in numbers_of_kinds()
        kinds = (LUA / "README.md").read_text(encoding="utf-8")
        assert re.search(rf"^\| \d+ \| `{event}` \|", kinds, re.MULTILINE), (
            "Describe it in engine/lua/README.md:"
        )


def numbers_of_kinds() -> dict[str, int]:
    """The kinds of events as lib/record.lua numbers them. A reserve's event is its record."""
    (table,) = re.findall(r"^local VERB = \{(.*?)\}$", INCLUDES["record"], re.MULTILINE | re.DOTALL)
    numbers = {word.lower(): int(number) for word, number in re.findall(r"(\w+) = (\d+)", table)}
    kinds = dict(
        re.findall(
            r"(\w+) = (\d+)", re.findall(r"^local KIND = \{(.*?)\}", INCLUDES["record"], re.MULTILINE)[0]
        )
    )
    assert numbers.pop("none") == 0
    assert "reserve" not in numbers
    begun = {"reserve": "RESERVATION", "basket": "BASKET", "part": "PART"}
    return {event: int(kinds[kind]) for event, kind in begun.items()} | numbers


def test_kinds_of_events_are_numbered_once() -> None:
    """The numbers of lib/record.lua and of the table in engine/lua/README.md are the same."""
    numbers = numbers_of_kinds()
    table = re.findall(
        r"^\| (\d+) \| `(\w+)` \|", (LUA / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert numbers == {word: int(number) for number, word in table}
    assert set(numbers) == {event for header in library().verbs.values() for event in header.events}
    assert len(set(numbers.values())) == len(numbers)


def test_a_bad_header_is_refused() -> None:
    """A file that declares another verb, none, two, or an include that there is not."""
    good = VERBS["find"]
    for bad, reason in (
        (good.replace("--@verb find", "--@verb seek"), "declares the verb seek"),
        (good.replace("--@verb find\n", ""), "one line --@verb"),
        (good.replace("--@verb find", "--@verb find\n--@verb find"), "one line --@verb"),
        (good.replace("--@include builtins", "--@include ghost"), "ghost"),
    ):
        with pytest.raises(ValueError, match=reason):
            assemble(INCLUDES, {"find": bad})


def test_the_name_follows_from_the_text() -> None:
    """Equal text, equal name; any change of an include or a verb gives another, so releases can differ."""
    assert assemble(INCLUDES, VERBS) == library()
    names = {library().name}
    for include in INCLUDES:
        names.add(assemble({**INCLUDES, include: INCLUDES[include] + "-- changed\n"}, VERBS).name)
    for verb in VERBS:
        names.add(assemble(INCLUDES, {**VERBS, verb: VERBS[verb] + "-- changed\n"}).name)
    assert len(names) == 1 + len(INCLUDES) + len(VERBS)


def test_a_change_of_flags_gives_another_name() -> None:
    """Flags are part of a header, and so of the text that is named."""
    changed = VERBS["fulfil"].replace("--@flags\n", "--@flags allow-oom\n")
    assert changed != VERBS["fulfil"]
    assert assemble(INCLUDES, {**VERBS, "fulfil": changed}).name != library().name


def test_the_text_of_a_library() -> None:
    """The header line of the server, what all share once and first, each verb registered in a block of its
    own with the includes that only some have.
    """
    text, name = library().text, library().name
    assert text.startswith(f"#!lua name={name}\n")
    places = [text.index(source) for source in VERBS.values()]
    for include in SHARED:
        assert text.count(INCLUDES[include]) == 1
        assert text.index(INCLUDES[include]) < min(places)
    for include in INCLUDES.keys() - SHARED:
        users = [header for header in library().verbs.values() if include in header.includes]
        assert text.count(INCLUDES[include]) == len(users)
    for before, after in pairwise(places):
        assert before < after
    for verb, header in library().verbs.items():
        flags = ", ".join(repr(flag) for flag in header.flags)
        line = f"function_name = '{name}_{verb}', callback = {verb}, flags = {{ {flags} }}"
        own = [INCLUDES[include] for include in header.includes if include not in SHARED]
        block = text[: text.index(line)].rpartition("\ndo\n")[2]
        found = [block.index(source) for source in (*own, VERBS[verb])]
        assert found == sorted(found)
        assert text.count(line) == 1
        assert library().function(verb) == f"{name}_{verb}"
