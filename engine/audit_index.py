"""Compares the index of reservations with the records that it should lead to.

Nothing has to stand still. The index may be behind the ledger, so a record is held against it only when its
last change is not behind the cursor, read at the same moment. Entries that lead to nothing are no fault:
whoever meets one strikes it out.
"""

from collections.abc import Mapping
from typing import cast

from engine import keys
from engine.audit_report import AuditReport
from engine.events import parse_version
from engine.ids import reservation_id
from engine.index import entries_in, read_record
from engine.records import is_reservation
from engine.topology import Topology

GROUP_RECORDS = 200


async def compare_index(topology: Topology, partition: int, report: AuditReport) -> None:
    """Adds to a report which reservations a partition's index does not lead to. Raises
    `StorageUnavailable`.
    """
    waiting: dict[bytes, bytes] = {}
    async for operation, raw in topology.scan_hash(keys.operations(partition)):
        if is_reservation(raw):
            waiting[operation] = raw
        if len(waiting) >= GROUP_RECORDS:
            await _compare_group(topology, partition, waiting, report)
            waiting = {}
    if waiting:
        await _compare_group(topology, partition, waiting, report)


async def _compare_group(
    topology: Topology, partition: int, group: Mapping[bytes, bytes], report: AuditReport
) -> None:
    asked = [entry for operation, raw in group.items() for entry in entries_in(operation, raw)]
    cursor, records, *scores = await topology.read_at_once(
        ("HGET", keys.found(partition), "cursor"),
        ("HMGET", keys.operations(partition), *group),
        *(("ZSCORE", keys.find(partition), entry) for entry in asked),
    )
    try:
        reached = parse_version((cast("bytes | None", cursor) or b"").decode())
    except ValueError:
        return
    filed = {entry for entry, score in zip(asked, scores, strict=True) if score is not None}
    for (operation, raw), now in zip(group.items(), cast("list[bytes | None]", records), strict=True):
        if raw != now:
            continue
        record = read_record(raw)
        if record is None:
            continue
        head = record.head
        if (head.changed_epoch, head.changed_seq) > (reached.epoch, reached.seq):
            continue
        missing = [entry for entry in entries_in(operation, raw) if entry not in filed]
        if missing:
            subject = f"index, reservation {reservation_id(record.route, operation)}"
            kinds = ", ".join(sorted({_KINDS[entry[:1]] for entry in missing}))
            report.differ(partition, subject, "no entry", f"an entry by {kinds}")


_KINDS = {b"a": "time", b"o": "owner", b"r": "reference", b"s": "SKU", b"l": "location"}
