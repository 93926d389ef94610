"""The command that judges recorded histories. It returns the exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from api.settings import CheckSettings
from engine.check import Report, UnreadableHistoryError, Violation, check
from engine.check.reading import find_files, show_lines

SHOWN_VIOLATIONS = 20
LONGEST_LINE = 400
UNUSABLE_STATUS = 2

INVARIANTS = {
    "I1": "every version is that of one effect",
    "I2": "an operation id takes effect once, and a repeat gets the first answer",
    "I3": "nothing is promised twice, and broken promises are named",
    "I4": "counts add up",
    "I5": "a reservation's units go their way once",
    "I6": "what is read is what was written",
    "I7": "nothing acknowledged is lost",
    "I8": "a hold lasts until its deadline",
    "I9": "a refusal is justified",
    "I10": "nothing happens that nobody asked for",
    "I11": "what was told before an operation began is behind it",
    "I14": "an answer belongs to its request",
}
"""The invariants that a history can show broken, by their short names."""


def check_histories(files: Sequence[Path], settings: CheckSettings) -> int:
    """Judges histories; 0 where nothing is wrong, 1 where a promise was broken, 2 where there is nothing to
    judge.
    """
    try:
        paths = list(dict.fromkeys(path for file in files for path in find_files(file)))
        report = check(paths)
        shown = {} if report.is_clean else _find_lines(paths, report)
    except UnreadableHistoryError as fault:
        sys.stderr.write(f"bincard: {fault}\n")
        return UNUSABLE_STATUS
    if settings.json:
        content = {
            "is_clean": report.is_clean,
            **msgspec.structs.asdict(report),
            "violations": [_as_json(violation, shown) for violation in report.violations],
        }
        text = msgspec.json.format(msgspec.json.encode(content), indent=2).decode()
    else:
        text = render_check(report, shown)
    sys.stdout.write(text + "\n")
    if not report.operations:
        return UNUSABLE_STATUS
    return 0 if report.is_clean else 1


Shown = dict[tuple[int, int], list[str]]


def _find_lines(paths: Sequence[Path], report: Report) -> Shown:
    wanted = [one for violation in report.violations[:SHOWN_VIOLATIONS] for one in violation.operations]
    return show_lines(paths, wanted)


def _as_json(violation: Violation, shown: Shown) -> dict[str, object]:
    return {
        "invariant": violation.invariant,
        "subject": violation.subject,
        "detail": violation.detail,
        "operations": [line for one in violation.operations for line in shown.get(one, [])],
    }


def render_check(report: Report, shown: Shown) -> str:
    """The report as text: violations with the operations that show them, what was looked at, the verdict."""
    lines = []
    for violation in report.violations[:SHOWN_VIOLATIONS]:
        lines.append(
            f"violation {violation.invariant} ({INVARIANTS[violation.invariant]}): "
            f"{violation.subject}: {violation.detail}"
        )
        for operation in violation.operations:
            lines += [f"    {_cut(line)}" for line in shown.get(operation, [])]
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"{count:>12,}  {name}" for name, count in report.counts.items() if count]
    rate = report.operations / max(report.elapsed_seconds, 1e-9)
    lines.append(
        f"checked: {report.operations:,} operations of {len(report.processes)} processes, "
        f"{report.unknown:,} of unknown outcome, in {report.elapsed_seconds:.1f} s ({rate:,.0f} a second)"
    )
    if not report.operations:
        lines.append("NOTHING TO CHECK: no operation was recorded")
    elif report.is_clean:
        lines.append("clean: no answer breaks a promise")
    else:
        lines.append(f"NOT CLEAN: violations {report.violation_count:,}")
    return "\n".join(lines)


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else line[: LONGEST_LINE - 1] + "…"
