"""The commands that look into the stored books: audit, explain, doctor. Each returns the exit status."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from api.replay.run import run_loop
from api.settings import BooksSettings, DoctorSettings
from api.storage import opened
from engine import Inventory, connect
from engine.audit import audit as audit_books
from engine.audit_report import AuditReport
from engine.doctor import Finding, examine, is_ready
from engine.errors import NotStocked, SkuNotFound
from engine.explain import Explanation, render_explanations
from engine.explain import explain as explain_sku
from engine.sourcing_plan import units_of_line

Result = TypeVar("Result")


def audit(settings: BooksSettings) -> int:
    """Compares the books with the replay of their ledger; 0 only if they are equal."""
    report = look(settings, audit_books)
    if settings.json:
        write_json({"is_clean": report.is_clean, **msgspec.structs.asdict(report)})
    else:
        write(render_audit(report))
    return 0 if report.is_clean else 1


def explain(settings: BooksSettings, sku: str, location: str | None) -> int:
    """Shows the sum behind the availability of a SKU, and who holds its units; of a kit for each part."""
    units, found = look(settings, lambda inventory: _explain_all(inventory, sku, location))
    if settings.json:
        write_json(found)
        return 0
    if units:
        write(f"{sku} is a kit of {', '.join(f'{count} × {part}' for part, count in units)}")
    stocked = {one.sku for one in found}
    for part, _ in units:
        if part not in stocked:
            write(
                f"{part}: {'no location stocks it' if location is None else f'{location} does not stock it'}"
            )
    if found:
        write(render_explanations(found))
    return 0


async def _explain_all(
    inventory: Inventory, sku: str, location: str | None
) -> tuple[Sequence[tuple[str, int]], list[Explanation]]:
    """A kit's components with how many it has of each, and the explanations of all that are stocked."""
    settings = await inventory.settings.current()
    if sku not in settings.kits:
        return (), await explain_sku(inventory, sku, location)
    found, units = list[Explanation](), units_of_line(sku, 1, settings, "SKU")
    for part, _ in units:
        with suppress(SkuNotFound, NotStocked):
            found += await explain_sku(inventory, part, location)
    return units, found


def doctor(settings: DoctorSettings) -> int:
    """Compares the server with what the durability tier needs; 0 unless something forbids to serve."""
    tier = settings.durability
    replicas = settings.replicas if tier == "replicated" else 0
    findings = look(settings, lambda inventory: examine(inventory.dataset, tier), replicas)
    if settings.json:
        write_json({"is_ready": is_ready(findings), "findings": findings})
    else:
        write(render_findings(findings, tier))
    return 0 if is_ready(findings) else 1


def render_audit(report: AuditReport) -> str:
    """The report as text: what was found, a line each, then what was compared, then the verdict."""
    lines = [
        f"difference in partition {difference.partition}: {difference.subject}: "
        f"stored {difference.stored}, by the ledger {difference.replayed}"
        for difference in report.differences
    ]
    lines += [
        f"violation {violation.invariant} in partition {violation.partition}, event {violation.seq}: "
        f"{violation.subject}: {violation.detail}"
        for violation in report.violations
    ]
    lines += [f"note {note.name} in partition {note.partition}: {note.detail}" for note in report.notes]
    lines.append(
        f"compared: {report.partitions:,} partitions, {report.positions:,} positions, "
        f"{report.reservations:,} reservations, {report.operations:,} other operations with "
        f"{report.events:,} events, in {report.elapsed_seconds:.1f} s"
    )
    if report.is_clean:
        lines.append("clean: every count equals the replay of the ledger")
    else:
        lines.append(
            f"NOT CLEAN: differences {report.difference_count:,}, violations {report.violation_count:,}, "
            f"parts that could not be compared {sum(note.is_blocking for note in report.notes)}"
        )
    return "\n".join(lines)


def render_findings(findings: Sequence[Finding], tier: str) -> str:
    """The findings as text, a line each, with the remedy below what needs one; then the verdict."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.severity:<8} {finding.name}: {finding.found}")
        if finding.remedy:
            lines.append(f"{'':<8} expected {finding.expected}; {finding.remedy}")
    verdict = "holds" if is_ready(findings) else "DOES NOT HOLD"
    return "\n".join([*lines, f"durability {tier} {verdict}"])


def look(settings: BooksSettings, ask: Callable[[Inventory], Awaitable[Result]], replicas: int = 0) -> Result:
    """What is asked of the stored books that the settings name."""

    async def go(url: str) -> Result:
        inventory = await connect(url, create=False, replicas=replicas)
        try:
            return await ask(inventory)
        finally:
            await inventory.close()

    with opened(settings) as url:
        return run_loop(go(url))


def write(text: str) -> None:
    """To the standard output."""
    sys.stdout.write(text + "\n")


def write_json(content: object) -> None:
    """The same, as data."""
    write(msgspec.json.format(msgspec.json.encode(content), indent=2).decode())
