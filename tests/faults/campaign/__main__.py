"""The long campaign: `python3 scripts/campaign.py`, which see. Rounds in several processes, and a table."""

import argparse
import json
import multiprocessing
import platform
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.topology.embedded_binary import ServerBinary, find_server_binary, inspect_server_binary
from tests.faults.campaign.faults import FAULTS
from tests.faults.campaign.rounds import LONG, SHORT, STAKES, Plan, Verdict, choose, play
from tests.faults.campaign.sites import TIERS

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "operating" / "faults.md"
MARKS = ("<!-- campaign: begin -->", "<!-- campaign: end -->")
BATCH = 20
"""Rounds that share groups of servers; starting these takes seconds."""

KEPT_FAILURES = 100
SERVERS = ("valkey", "redis")
COLUMNS = ("rounds", "operations", *STAKES, "losses seen", "vacuous", "violations")


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
        self._arguments, self._programs = arguments, programs
        self._began, self._commit = time.monotonic(), commit()
        self.rows: dict[str, dict[str, dict[str, int]]] = {server: {} for server in programs}
        self.totals = dict.fromkeys(COLUMNS, 0)
        self.failures: list[dict[str, Any]] = []

    def add(self, server: str, verdict: Verdict) -> None:
        """Counts a round, and tells of one that failed."""
        found = {
            "rounds": int(verdict.counts),
            "operations": verdict.operations,
            **verdict.stakes,
            "losses seen": int(verdict.losses > 0),
            "vacuous": int(bool(verdict.vacuous)),
            "violations": len(verdict.violations),
        }
        rows = [self.rows[server].setdefault(name, dict.fromkeys(COLUMNS, 0)) for name in verdict.faults]
        for row in (self.totals, *rows):
            for name, count in found.items():
                row[name] += count
        if not verdict.counts:
            say(f"  {server}: {verdict}")
            if len(self.failures) < KEPT_FAILURES:
                self.failures.append({"server": server, **msgspec.to_builtins(verdict)})

    def progress(self) -> str:
        minutes = (time.monotonic() - self._began) / 60
        told = ", ".join(f"{self.totals[name]:,} {name}" for name in COLUMNS)
        return f"{minutes:5.1f} min: {told}"

    def report(self) -> dict[str, Any]:
        """Everything, as data."""
        arguments = self._arguments
        return {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seconds": round(time.monotonic() - self._began),
            "python": platform.python_version(),
            "commit": self._commit,
            "servers": {name: f"{one.family} {one.version}" for name, one in self._programs.items()},
            "first_seed": arguments.seed,
            "size": "short" if arguments.short else "long",
            "tier": arguments.tier or "of each fault",
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
        f"{report['seconds'] // 60} minutes, {totals['rounds'] + totals['vacuous']:,} seeds "
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


def plans(arguments: argparse.Namespace) -> Iterator[tuple[str, list[Plan]]]:
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
    table, left = Table(arguments, programs), plans(arguments)
    ends = time.monotonic() + arguments.minutes * 60
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        running: dict[Future[list[Verdict]], str] = {}
        is_over = False
        while running or not is_over:
            while len(running) < arguments.jobs and not is_over:
                following = next(left, None)
                is_over = following is None or time.monotonic() > ends
                if following is not None and not is_over:
                    server, chosen = following
                    running[pool.submit(play, chosen, programs[server].path, arguments.tier)] = server
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                server = running.pop(done)
                for verdict in done.result():
                    table.add(server, verdict)
                say(table.progress())
                if arguments.json:
                    told = json.dumps(table.report(), indent=2)
                    arguments.json.write_text(told + "\n", encoding="utf-8")
    return table.report()


def read_arguments(words: Sequence[str]) -> argparse.Namespace:
    """What the person asked for."""
    parser = argparse.ArgumentParser(
        prog="campaign.py", description="Faults under load, judged round by round."
    )
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no batch begins after that")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the first round")
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"some of {', '.join(FAULTS)}")
    parser.add_argument("--server", default=",".join(SERVERS), help=f"some of {', '.join(SERVERS)}")
    parser.add_argument("--tier", choices=TIERS, help="of groups of servers, in place of none")
    parser.add_argument("--jobs", type=int, default=2, help="processes that play rounds")
    parser.add_argument("--short", action="store_true", help="fewer operations in each round")
    parser.add_argument("--json", type=Path, help="writes the table as data, batch by batch")
    parser.add_argument("--write", action="store_true", help="puts the table into docs/operating/faults.md")
    found = parser.parse_args(words)
    for name, known in (("faults", FAULTS), ("server", SERVERS)):
        chosen = getattr(found, name).split(",")
        setattr(found, name, chosen)
        if unknown := [one for one in chosen if one not in known]:
            parser.error(f"--{name}: {', '.join(unknown)} is none of {', '.join(known)}")
    return found


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
