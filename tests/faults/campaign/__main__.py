"""The long campaign: `python3 scripts/campaign.py`, which see. Rounds in several processes, and a table."""

import argparse
import json
import platform
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.topology.embedded_binary import ServerBinary, find_server_binary, inspect_server_binary
from tests.faults.campaign.crew import Batch, play_all
from tests.faults.campaign.faults import FAULTS
from tests.faults.campaign.rounds import LONG, SHORT, STAKES, Verdict, choose
from tests.faults.campaign.sites import TIERS

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "operating" / "faults.md"
MARKS = ("<!-- campaign: begin -->", "<!-- campaign: end -->")
SAVED_EACH_SECONDS = 30.0
BATCH = 20
"""Rounds that share groups of servers; starting these takes seconds."""

KEPT_FAILURES = 100
SERVERS = ("valkey", "redis")
COLUMNS = ("rounds", "operations", *STAKES, "baskets", "losses seen", "vacuous", "violations")


def program_of(server: str) -> ServerBinary:
    """The program of a server. Ends the campaign where there is none."""
    if server == "valkey":
        return find_server_binary({"PATH": ""})
    path = shutil.which("redis-server")
    if path is None:
        sys.exit("redis-server is not on PATH (Debian: apt-get install redis-server)")
    return inspect_server_binary(Path(path))


class Table:
    """What the rounds showed, by server and fault. A round with two faults counts for both."""

    def __init__(self, arguments: argparse.Namespace, programs: dict[str, ServerBinary]) -> None:
        self._arguments = arguments
        self._began, self._commit = time.monotonic(), commit()
        self.rows: dict[str, dict[str, dict[str, int]]] = {server: {} for server in programs}
        self.totals = dict.fromkeys(COLUMNS, 0)
        self.failures: list[dict[str, Any]] = []
        self.seeds = self._seconds = 0
        self._first_seed = self.next_seed = arguments.seed
        self._versions = {name: f"{one.family} {one.version}" for name, one in programs.items()}
        if arguments.earlier is not None:
            self._go_on(arguments.earlier)

    def _go_on(self, earlier: Mapping[str, Any]) -> None:
        """Takes what an earlier part of the campaign showed."""
        self.totals, self.failures, self.seeds = earlier["totals"], earlier["failures"], earlier["seeds"]
        self.rows = {**self.rows, **earlier["faults"]}
        self._seconds, self._first_seed = earlier["seconds"], earlier["first_seed"]
        self._versions = {**earlier["servers"], **self._versions}
        commits = dict.fromkeys((*earlier["commit"].split(", "), self._commit))
        self._commit = ", ".join(commits)

    @property
    def seconds(self) -> int:
        """How long it took, earlier parts included."""
        return round(self._seconds + time.monotonic() - self._began)

    def note(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Notes which seeds were given away, so that a later part begins behind them."""
        for server, chosen in batches:
            self.next_seed = chosen[-1].seed + 1
            yield server, chosen

    def add(self, server: str, verdict: Verdict) -> None:
        """Counts a round, and tells of one that failed."""
        found = {
            "rounds": int(verdict.counts),
            "operations": verdict.operations,
            **verdict.stakes,
            "baskets": verdict.evidence.get("baskets", 0),
            "losses seen": int(verdict.losses > 0),
            "vacuous": int(bool(verdict.vacuous)),
            "violations": len(verdict.violations),
        }
        self.seeds += 1
        rows = [self.rows[server].setdefault(name, dict.fromkeys(COLUMNS, 0)) for name in verdict.faults]
        for row in (self.totals, *rows):
            for name, count in found.items():
                row[name] += count
        if not verdict.counts:
            say(f"  {server}: {verdict}")
            if len(self.failures) < KEPT_FAILURES:
                self.failures.append({"server": server, **msgspec.to_builtins(verdict)})

    def progress(self) -> str:
        told = ", ".join(f"{self.totals[name]:,} {name}" for name in COLUMNS)
        return f"{self.seconds / 60:5.1f} min: {told}"

    def report(self) -> dict[str, Any]:
        """Everything, as data."""
        arguments = self._arguments
        return {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seconds": self.seconds,
            "python": platform.python_version(),
            "commit": self._commit,
            "servers": self._versions,
            "first_seed": self._first_seed,
            "next_seed": self.next_seed,
            "seeds": self.seeds,
            "size": size_of(arguments),
            "tier": tier_of(arguments),
            "totals": self.totals,
            "faults": {server: dict(sorted(rows.items())) for server, rows in self.rows.items()},
            "failures": self.failures,
        }


def commit() -> str:
    with suppress(OSError):
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()
    return ""


def markdown(report: dict[str, Any]) -> str:
    """The table of the page."""
    totals, servers = report["totals"], ", ".join(report["servers"].values())
    head = (
        f"{report['date']}, {servers}, Python {report['python']}, commit {report['commit']}, "
        f"{report['seconds'] // 60} minutes, {report['seeds']:,} seeds "
        f"from {report['first_seed']}: "
        f"**{totals['rounds']:,} rounds, {totals['operations']:,} operations checked, "
        f"{totals['violations']} violations**."
    )
    lines = [
        head,
        "",
        "| server | fault | " + " | ".join(COLUMNS) + " |",
        "| --- | --- |" + " ---: |" * len(COLUMNS),
    ]
    for server, rows in report["faults"].items():
        for fault, row in rows.items():
            cells = " | ".join(f"{row[name]:,}" for name in COLUMNS)
            lines.append(f"| {server} | {fault} | {cells} |")
    return "\n".join(lines)


def write_page(report: dict[str, Any]) -> None:
    """Puts the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(MARKS[0])
    tail = rest.split(MARKS[1])[1]
    PAGE.write_text(f"{head}{MARKS[0]}\n{markdown(report)}\n{MARKS[1]}{tail}", encoding="utf-8")


def plans(arguments: argparse.Namespace) -> Iterator[Batch]:
    """Batches of rounds, the servers by turns."""
    size = SHORT if arguments.short else LONG
    batch = max(1, min(BATCH, arguments.rounds // (arguments.jobs * len(arguments.server))))
    seeds = range(arguments.seed, arguments.seed + arguments.rounds)
    for number, at in enumerate(range(0, len(seeds), batch)):
        chosen = [choose(seed, arguments.faults, size) for seed in seeds[at : at + batch]]
        yield arguments.server[number % len(arguments.server)], chosen


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All rounds, or those that fit into the minutes."""
    programs = {server: program_of(server) for server in arguments.server}
    table = Table(arguments, programs)
    paths = {name: program.path for name, program in programs.items()}
    ends = time.monotonic() + arguments.minutes * 60
    saved = time.monotonic()
    verdicts = play_all(table.note(plans(arguments)), paths, arguments.tier, jobs=arguments.jobs, ends=ends)
    try:
        with closing(verdicts):
            for told in verdicts:
                if told is not None:
                    table.add(*told)
                if time.monotonic() - saved > SAVED_EACH_SECONDS:
                    saved = time.monotonic()
                    save(table, arguments.json)
    finally:
        save(table, arguments.json)
    return table.report()


def save(table: Table, path: Path | None) -> None:
    """Tells how it goes; puts the table where an interrupted campaign leaves it whole."""
    say(table.progress())
    if path is not None:
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(table.report(), indent=2) + "\n", encoding="utf-8")
        new.replace(path)


def read_arguments(words: Sequence[str]) -> argparse.Namespace:
    """What the person asked for."""
    parser = argparse.ArgumentParser(
        prog="campaign.py", description="Faults under load, judged round by round."
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no batch begins after that")
    parser.add_argument("--seed", type=int, help="of the first round")
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"some of {', '.join(FAULTS)}")
    parser.add_argument("--server", default=",".join(SERVERS), help=f"some of {', '.join(SERVERS)}")
    parser.add_argument("--tier", choices=TIERS, help="of groups of servers, in place of none")
    parser.add_argument("--jobs", type=int, default=2, help="processes that play rounds")
    parser.add_argument("--short", action="store_true", help="fewer operations in each round")
    parser.add_argument("--json", type=Path, help="writes the table as data, twice a minute")
    parser.add_argument(
        "--continue", type=Path, dest="earlier", help="a file of --json: goes on behind its seeds, and in it"
    )
    parser.add_argument("--write", action="store_true", help="puts the table into docs/operating/faults.md")
    found = parser.parse_args(words)
    for name, known in (("faults", FAULTS), ("server", SERVERS)):
        chosen = getattr(found, name).split(",")
        setattr(found, name, chosen)
        if unknown := [one for one in chosen if one not in known]:
            parser.error(f"--{name}: {', '.join(unknown)} is none of {', '.join(known)}")
    if found.earlier is not None:
        found.json = found.json or found.earlier
        found.earlier = json.loads(found.earlier.read_text(encoding="utf-8"))
        if (found.earlier["size"], found.earlier["tier"]) != (size_of(found), tier_of(found)):
            parser.error("--continue: that campaign had another size or tier")
    if found.seed is None:
        found.seed = found.earlier["next_seed"] if found.earlier else secrets.randbelow(10**6)
    return found


def size_of(arguments: argparse.Namespace) -> str:
    return "short" if arguments.short else "long"


def tier_of(arguments: argparse.Namespace) -> str:
    return arguments.tier or "of each fault"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(words: Sequence[str]) -> int:
    """The campaign; 1 where a round failed."""
    arguments = read_arguments(words)
    say(f"from seed {arguments.seed}; a round again: --rounds 1 --seed SEED, same faults and server")
    report = run(arguments)
    if arguments.write:
        write_page(report)
    say(markdown(report))
    return int(bool(report["totals"]["violations"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
