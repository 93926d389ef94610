"""Compares documents, and what leads to them, with what the ledger adds up to.

A document that ended long ago may be gone, and then all that led to it is gone as well.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from engine import keys
from engine.audit_facts import PartitionAudit
from engine.document_lists import ORDER_SIZE, own_id, spot_of

GROUP = 200
_NOT_THERE = "nothing"


class _Found(NamedTuple):
    """What is stored of a document."""

    raw: bytes | None
    due: float | None
    ended: float | None
    listed: Sequence[float | None]


async def compare_documents(audit: PartitionAudit) -> None:
    """Compares all of a partition."""
    books = audit.replay.expected
    known = list(books.documents)
    seen = set(known)
    strangers = [own async for own, _ in audit.topology.scan_hash(keys.documents(audit.partition))]
    strangers += [own async for own, _ in audit.topology.scan_sorted(keys.ended(audit.partition))]
    waiting = deque(_groups([*known, *dict.fromkeys(own for own in strangers if own not in seen)]))
    while waiting:
        moved = await _compare_group(audit, waiting.popleft())
        if moved:
            waiting.append(moved)
    doubted = [
        entry
        async for entry, _ in audit.topology.scan_sorted(keys.listed(audit.partition))
        if not _is_right(audit, entry)
    ]
    for group in _groups(doubted):
        scores = await audit.read(*(("ZSCORE", keys.listed(audit.partition), entry) for entry in group))
        for entry, score in zip(group, scores, strict=True):
            if score is not None and not _is_right(audit, entry):
                audit.differ(f"index of documents {entry!r}", "an entry", _NOT_THERE)


async def _compare_group(audit: PartitionAudit, group: Sequence[bytes]) -> list[bytes]:
    """Compares some documents; those that took a step while we asked."""
    books, partition = audit.replay.expected, audit.partition
    asked = {own: books.documents.get(own) for own in group}
    entries = {own: books.document(own).entries(own) if raw else [] for own, raw in asked.items()}
    found, *scores = await audit.read(
        ("HMGET", keys.documents(partition), *group),
        *(
            request
            for own in group
            for request in (
                ("ZSCORE", keys.due(partition), b"d" + own),
                ("ZSCORE", keys.ended(partition), own),
                *(("ZSCORE", keys.listed(partition), entry) for entry in entries[own]),
            )
        ),
    )
    moved, rest = [], iter(cast("list[float | None]", scores))
    for own, raw in zip(group, cast("list[bytes | None]", found), strict=True):
        due, ended = next(rest), next(rest)
        stored = _Found(raw, due, ended, [next(rest) for _ in entries[own]])
        if books.documents.get(own) != asked[own]:
            moved.append(own)
        else:
            _compare_one(audit, own, stored)
    return moved


def _compare_one(audit: PartitionAudit, own: bytes, stored: _Found) -> None:
    books, subject = audit.replay.expected, f"document {own.hex()}"
    wanted = books.documents.get(own)
    if stored.raw is None and (wanted is None or books.may_be_forgotten(own, audit.now_ms)):
        wanted = None
    if stored.raw != wanted:
        audit.differ(subject, _show(stored.raw), _show(wanted))
    is_pending = wanted is not None and wanted[4] == 1
    if (stored.due is not None) != is_pending:
        told = _NOT_THERE if stored.due is None else "an entry in the index"
        audit.differ(f"outbox of {subject}", told, "what its last step left to do")
    ended_ms = books.saved_ms[own] if wanted is not None and books.has_ended(own) else None
    if stored.ended != ended_ms:
        audit.differ(f"end of {subject}", stored.ended, ended_ms)
    missing = sum((score is not None) != (wanted is not None) for score in stored.listed)
    if missing:
        led, nothing = "entries that lead to it", "fewer"
        told, replayed = (nothing, led) if wanted is not None else (led, _NOT_THERE)
        audit.differ(f"index of documents, {subject}", told, replayed)


def _is_right(audit: PartitionAudit, entry: bytes) -> bool:
    """Whether an entry leads to a document that is to be found by it."""
    try:
        own = own_id(spot_of(entry[-ORDER_SIZE:]))
    except ValueError:
        return False
    books = audit.replay.expected
    return own in books.documents and entry in books.document(own).entries(own)


def _groups(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for at in range(0, len(items), GROUP):
        yield items[at : at + GROUP]


def _show(packed: bytes | None) -> str:
    if packed is None:
        return _NOT_THERE
    return f"{packed[:24]!r}{'…' if len(packed) > 24 else ''}"  # noqa: PLR2004 - bytes that are shown
