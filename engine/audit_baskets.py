"""The audit of baskets over several partitions."""

from collections import defaultdict

from engine.audit_report import AuditReport, Note
from engine.basket_parts import find_apart
from engine.ids import reservation_id
from engine.topology import Topology


async def compare_baskets(topology: Topology, partitions: int, report: AuditReport) -> None:
    """Adds to a report what is wrong between baskets and their parts, and how many parts are behind. Raises
    `StorageUnavailable`.
    """
    if partitions == 1:
        return
    behind = defaultdict[int, set[bytes]](set)
    async for group in find_apart(topology, partitions):
        for one in group:
            if one.is_due:
                behind[one.partition].add(one.basket)
            else:
                subject = f"part of basket {reservation_id(one.route, one.basket)}"
                report.differ(one.partition, subject, one.stored, f"its basket has {one.given}")
    for partition, baskets in sorted(behind.items()):
        detail = f"{len(baskets)} parts of baskets do not know of the last step yet; sweepers will tell them"
        report.notes.append(Note("parts_behind", partition, detail, is_blocking=False))
