"""Compares histories, counts and conditions with what the ledger adds up to."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, cast

from engine import keys, moves
from engine.ledger import Replay
from engine.ledger_facts import HISTORY_MS
from engine.topology import Topology

GROUP = 500
_NOT_THERE = "nothing"


class PartitionAudit(Protocol):
    """What an audit of a partition offers."""

    partition: int
    topology: Topology
    replay: Replay
    now_ms: int

    async def read(self, *requests: Sequence[str | bytes | int]) -> list[object]:
        """Reads as of one moment, and takes the replay to that moment."""
        ...

    def differ(self, subject: str, stored: object, replayed: object) -> None:
        """Notes a difference."""
        ...


async def compare_facts(audit: PartitionAudit) -> None:
    """Compares all of a partition."""
    books = audit.replay.facts
    await _compare_hash(audit, keys.counts(audit.partition), "newest count", books.counts, books.count_of)
    await _compare_hash(
        audit, keys.conditions(audit.partition), "conditions", books.conditions, books.condition_of
    )
    await _compare_history(audit)


async def _compare_hash(
    audit: PartitionAudit,
    key: str,
    what: str,
    known: Iterable[bytes],
    expected: Callable[[bytes], bytes | None],
) -> None:
    names = dict.fromkeys([name async for name, _ in audit.topology.scan_hash(key)])
    names |= dict.fromkeys(known)
    for group in _groups(names):
        (found,) = await audit.read(("HMGET", key, *group))
        for name, ours in zip(group, cast("list[bytes | None]", found), strict=True):
            if ours != expected(name):
                audit.differ(f"{_show_name(name)}, {what}", _show(ours), _show(expected(name)))


async def _compare_history(audit: PartitionAudit) -> None:
    """What is stored must be in the ledger; what is in the ledger must be stored, unless it is old."""
    key, history = keys.moves(audit.partition), audit.replay.facts.history
    strangers = [
        member
        async for member, score in audit.topology.scan_sorted(key)
        if score or not _is_known(audit, member)
    ]
    for group in _groups(strangers):
        (scores,) = await audit.read(("ZMSCORE", key, *group))
        for member, score in zip(group, cast("list[object]", scores), strict=True):
            if score is not None and (float(str(score)) or not _is_known(audit, member)):
                audit.differ(f"{_show_name(member[: -moves.TAIL_SIZE])}, history", _show(member), _NOT_THERE)
    wanted = (name + packed for name in list(history) for packed in list(history[name]))
    for group in _groups(wanted):
        (scores,) = await audit.read(("ZMSCORE", key, *group))
        for member, score in zip(group, cast("list[object]", scores), strict=True):
            if score is None and moves.decode_member(member).occurred_ms >= audit.now_ms - HISTORY_MS:
                audit.differ(f"{_show_name(member[: -moves.TAIL_SIZE])}, history", _NOT_THERE, _show(member))


def _is_known(audit: PartitionAudit, member: bytes) -> bool:
    return member[-moves.TAIL_SIZE :] in audit.replay.facts.history.get(member[: -moves.TAIL_SIZE], ())


def _show_name(name: bytes) -> str:
    sku, _, place = name.partition(b"\n")
    return f"{sku.decode(errors='replace')} at {place[:-1].decode(errors='replace')}"


def _show(packed: bytes | None) -> str:
    return _NOT_THERE if packed is None else f"{packed!r}"


def _groups(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    waiting = iter(items)
    while group := list(islice(waiting, GROUP)):
        yield group
