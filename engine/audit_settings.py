"""Compares the settings of every partition with those of partition 0, which decides on them: see `audit`."""

import asyncio
from collections.abc import Mapping
from typing import cast

from engine import keys
from engine.audit_report import AuditReport, Note
from engine.setting_forms import FORMS
from engine.topology import Topology

LOOKS, LOOK_SECONDS = 20, 0.05
"""A copy is under way for a moment; one that does not come was never made."""

_Found = tuple[int, list[Mapping[bytes, bytes]]]


async def compare_settings(topology: Topology, partitions: int, report: AuditReport) -> None:
    """Tells of partitions whose settings are others, or older, than those of partition 0."""
    for partition in range(1, partitions):
        looks = LOOKS
        while True:
            (number, decided), (copied, stored) = await _read(topology, 0), await _read(topology, partition)
            if number == copied or not looks:
                break
            looks -= 1
            await asyncio.sleep(LOOK_SECONDS)
        if number != copied:
            _tell_behind(report, partition, number, copied)
            continue
        for form, ours, theirs in zip(FORMS.values(), stored, decided, strict=True):
            for name in sorted(ours.keys() | theirs.keys()):
                if ours.get(name) != theirs.get(name):
                    subject = f"settings of {form.word} {name.decode()}, against partition 0"
                    report.differ(partition, subject, ours.get(name, b""), theirs.get(name, b""))


def _tell_behind(report: AuditReport, partition: int, number: int, copied: int) -> None:
    detail = (
        f"its settings are those of number {copied}, partition 0 has number {number}: whoever saved them was "
        "gone before they were everywhere; any worker brings them forward"
    )
    report.notes.append(Note("settings_behind", partition, detail, is_blocking=True))


async def _read(topology: Topology, partition: int) -> _Found:
    """The number of a partition's settings, and the settings."""
    number, *stored = await topology.read_at_once(
        ("HGET", keys.meta(partition), "settings"),
        *(("HGETALL", form.key(partition)) for form in FORMS.values()),
    )
    return int(cast("bytes | None", number) or 0), cast("list[Mapping[bytes, bytes]]", stored)
