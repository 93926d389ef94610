#!/usr/bin/env python3
"""Kill everything under load, again and again, and see whether anything that was acknowledged is lost.

Each round is one `bincard replay` against a `bincard serve` with the embedded server. While baskets
flow, everything that `serve` started gets SIGKILL at once: supervisor, workers, server. Then `bincard
audit` starts the server alone on what was left and compares all counts with the ledger, and `serve`
starts again: two starts after each kill, because a torn tail may come to life at the second. Every
other round is killed a second time in the same traffic. The replay repeats what it got no answer to,
finishes, and proves both sides, every acknowledged reservation read back; then a last audit.

A round in which nothing was at stake proves nothing and fails: each must have seen an outcome that
stayed unknown, a replayed answer, a refusal and an expiry. Exit status 0 means no violation.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _bootstrap import MissingError, ensure_venv, environment, say, venv_program
from _groups import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

READY_SECONDS = 60.0
ROUND_SECONDS = 600.0
POLL_SECONDS = 0.01
SURVIVE_SECONDS = 60
ALL_READ_BACK = 20_000
"""Up to so many acknowledged reservations a replay reads every one back."""
RESERVES = re.compile(
    r'^bincard_http_requests_total\{method="POST",route="/v1/reservations",[^}]*\} (\d+)', re.MULTILINE
)
STAKES = ("unknown_outcomes", "unknown_resolved", "replayed_answers", "refused", "expired")


class ViolationError(Exception):
    """What must never happen; the text says what it was."""


@dataclass
class Kill:
    """One kill: when it came, whom it took, and what the books said afterwards."""

    after_reserves: int
    processes: int
    restart_seconds: float = 0.0
    audit: dict[str, Any] = field(default_factory=dict)


@dataclass
class Round:
    """One replay and its kills."""

    number: int
    kills: list[Kill] = field(default_factory=list)
    replay: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


class Shop:
    """A `bincard serve` on a port and a directory of its own, started again and again."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)  # noqa: S311 - the seed must give the same order again
        # One that the system gives to no outgoing connection while the server is away.
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def bincard(self, *arguments: str) -> list[str]:
        """A command of the product."""
        return [str(venv_program("bincard")), *arguments]

    def start(self) -> float:
        """Serves; the seconds until it was ready."""
        began = time.monotonic()
        port, directory = str(self._port), str(self._folder / "data")
        with (self._folder / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.bincard("serve", "--port", port, "--data-dir", directory, "--workers", "2"),
                cwd=self._folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self._answers("/readyz") is not None or self._has_ended(), READY_SECONDS)
        if self._has_ended():
            raise ViolationError(f"it does not start again:\n{self.last_words()}")
        return time.monotonic() - began

    def kill(self) -> int:
        """SIGKILL to every process at once, in any order; returns how many there were, all gone."""
        assert self._process is not None
        server = json.loads((self._folder / "data" / "server.json").read_text())["server_pid"]
        family = [self._process.pid, *descendants(self._process.pid)]
        if server not in family:
            raise ViolationError(f"the stock server {server} is no child of {self._process.pid}")
        self._chance.shuffle(family)
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # It dies with its parent, which came first.
        self._process.wait()
        wait_until(lambda: not any(lives(pid) for pid in family), READY_SECONDS)
        return len(family)

    def stop(self) -> None:
        """SIGTERM, and the end; after a kill there is nothing to stop."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(READY_SECONDS)

    def audit(self) -> dict[str, Any]:
        """Compares all counts with the ledger, by the server that runs or else by one for the purpose.

        Raises:
            ViolationError: they are not equal.
        """
        directory = str(self._folder / "data")
        done = subprocess.run(
            self.bincard("audit", "--json", "--data-dir", directory),
            cwd=self._folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ViolationError(f"audit exits {done.returncode}: {done.stdout}{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def reserves(self) -> int:
        """How many reservations were asked for since the last start."""
        return sum(map(int, RESERVES.findall(self._answers("/metrics") or "")))

    def last_words(self) -> str:
        """The end of what it wrote."""
        return "\n".join((self._folder / "serve.log").read_text(errors="replace").splitlines()[-20:])

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _answers(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:  # noqa: S310 - it is http
                return bytes(answer.read()).decode()
        except OSError:
            return None


def descendants(ancestor: int) -> Iterator[int]:
    """Every process below one, whatever its session."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and (state := stat_of(int(place.name))):
            children.setdefault(int(state[1]), []).append(int(place.name))
    left = [ancestor]
    while left:
        below = children.get(left.pop(), [])
        yield from below
        left += below


def lives(pid: int) -> bool:
    """Whether a process runs; one that waits for its parent to take note does not."""
    state = stat_of(pid)
    return bool(state and state[0] not in "ZX")


def stat_of(pid: int) -> list[str]:
    """State, parent and the rest of what Linux tells of a process; nothing of one that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(") ")[2].split()


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Look until it is so.

    Raises:
        ViolationError: it did not become so.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise ViolationError(f"still waiting after {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


class Drill:
    """Rounds on one data set, which grows from one to the next."""

    def __init__(self, shop: Shop, folder: Path, arguments: argparse.Namespace) -> None:
        self._shop = shop
        self._folder = folder
        self._arguments = arguments
        self._chance = random.Random(arguments.seed)  # noqa: S311 - the seed must give the same moments again

    def round(self, number: int, kills: int) -> Round:
        """One replay with so many kills in a row; what went wrong is in `violations`."""
        done = Round(number)
        report = self._folder / f"replay-{number}.json"
        client = self._replay(number, report)
        try:
            for _ in range(kills):
                done.kills.append(self._kill_and_restart(client, kills))
            client.wait(ROUND_SECONDS)
            done.audit = self._shop.audit()
            done.replay = json.loads(report.read_text())
            done.violations += judge(done.replay)
        except (ViolationError, OSError, ValueError, subprocess.TimeoutExpired) as fault:
            done.violations.append(str(fault))
        finally:
            client.kill()
            client.wait()
        return done

    def _replay(self, number: int, report: Path) -> subprocess.Popen[bytes]:
        arguments = self._arguments
        options = {
            "url": self._shop.url,
            "baskets": arguments.baskets,
            "clients": arguments.clients,
            "seed": arguments.seed + number,
            "scarcity": arguments.scarcity,
            "source": arguments.source,
            "survive-seconds": SURVIVE_SECONDS,
            "json": report,
        }
        told = [part for name, chosen in options.items() for part in (f"--{name}", str(chosen))]
        with (self._folder / "replay.log").open("ab") as log:
            return subprocess.Popen(
                self._shop.bincard("replay", *told, "--no-progress"),
                cwd=self._folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _kill_and_restart(self, client: subprocess.Popen[bytes], kills: int) -> Kill:
        """Waits for traffic, kills everything, audits what is left, serves again."""
        before = self._shop.reserves()
        share = self._chance.uniform(0.05, 0.6) / kills
        baskets: int = self._arguments.baskets
        wanted = before + max(1, round(share * baskets))

        def is_time() -> bool:
            if client.poll() is not None:
                raise ViolationError("the replay ended before the kill: more baskets would help")
            return self._shop.reserves() >= wanted

        wait_until(is_time, ROUND_SECONDS)
        done = Kill(self._shop.reserves() - before, self._shop.kill())
        done.audit = self._shop.audit()
        done.restart_seconds = self._shop.start()
        return done


def judge(replay: dict[str, Any]) -> list[str]:
    """What contradicts the promises in the report of a replay, or makes it worthless."""
    proof, outcomes = replay["proof"], replay["outcomes"]
    faults = [f"{finding['rule']}: {finding['where']}: {finding['detail']}" for finding in proof["findings"]]
    if replay["stopped"]:
        faults.append(f"the replay stopped: {replay['stopped']}")
    if not (replay["ok"] and proof["answers_agree"] and proof["books_agree"]):
        faults.append("the proof of no oversell does not hold")
    if proof["reservations_checked"] != proof["reservations_acknowledged"]:
        faults.append("not every acknowledged reservation was read back")
    faults += [f"nothing at stake: no {name.replace('_', ' ')}" for name in STAKES if not outcomes[name]]
    return faults


def plan(kills: int) -> Iterator[int]:
    """So many kills as rounds of two in a row and of one, by turns."""
    in_a_row = 2
    while kills > 0:
        yield min(in_a_row, kills)
        kills -= in_a_row
        in_a_row = 3 - in_a_row


def row(done: Round) -> dict[str, object]:
    """A line of the table, by its headings."""
    proof, outcomes = done.replay.get("proof", {}), done.replay.get("outcomes", {})
    return {
        "round": done.number,
        "after reserves": "+".join(str(kill.after_reserves) for kill in done.kills),
        "processes": "+".join(str(kill.processes) for kill in done.kills),
        "restart s": "+".join(f"{kill.restart_seconds:.1f}" for kill in done.kills),
        "acknowledged": proof.get("reservations_acknowledged", "-"),
        "read back": proof.get("reservations_checked", "-"),
        "unknown": outcomes.get("unknown_outcomes", "-"),
        "resolved": outcomes.get("unknown_resolved", "-"),
        "replayed": outcomes.get("replayed_answers", "-"),
        "refused": outcomes.get("refused", "-"),
        "expired": outcomes.get("expired", "-"),
        "ledger events": done.audit.get("events", "-"),
        "violations": len(done.violations),
    }


def print_row(cells: dict[str, object]) -> None:
    """One line, its cells below their headings, which the first one brings."""
    if cells["round"] == 1:
        say("  ".join(cells))
    say("  ".join(str(cell).rjust(len(heading)) for heading, cell in cells.items()))


def run(arguments: argparse.Namespace) -> list[Round]:
    """All rounds, each printed when it is over; ends early when it cannot go on."""
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="bincard-drill-") as name:
        folder = Path(name)
        shop = Shop(folder, arguments.seed)
        drill = Drill(shop, folder, arguments)
        shop.start()
        try:
            for number, kills in enumerate(plan(arguments.kills), 1):
                rounds.append(drill.round(number, kills))
                print_row(row(rounds[-1]))
                for violation in rounds[-1].violations:
                    say(f"  VIOLATION: {violation}")
                if len(rounds[-1].kills) < kills:
                    say(shop.last_words())
                    break
        finally:
            shop.stop()
    return rounds


def read_arguments(words: Sequence[str]) -> argparse.Namespace:
    """What the person asked for."""
    first_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=first_line)
    parser.add_argument("--kills", type=int, default=10, help="how often everything is killed")
    parser.add_argument("--baskets", type=int, default=6000, help=f"per round, up to {ALL_READ_BACK}")
    parser.add_argument("--clients", type=int, default=32, help="at once")
    parser.add_argument("--scarcity", type=float, default=0.6, help="stock per unit of demand")
    parser.add_argument("--source", choices=["auto", "real", "generator"], default="auto")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--json", type=Path, help="writes the same as data")
    found = parser.parse_args(words)
    if found.kills < 1 or not 1 <= found.baskets <= ALL_READ_BACK:
        parser.error(f"--kills is above zero, --baskets from 1 to {ALL_READ_BACK}")
    return found


def main(words: Sequence[str]) -> int:
    """The drill; 1 where anything was violated or worthless."""
    arguments = read_arguments(words)
    try:
        ensure_venv()
    except MissingError as missing:
        print(missing, file=sys.stderr)
        return 1
    rounds = run(arguments)
    kills = sum(len(done.kills) for done in rounds)
    violations = sum(len(done.violations) for done in rounds)
    acknowledged = sum(done.replay.get("proof", {}).get("reservations_checked", 0) for done in rounds)
    say(
        f"{kills} kills, {2 * kills} starts after them, {kills + len(rounds)} audits, {acknowledged} "
        f"acknowledged reservations read back, {violations} violations (seed {arguments.seed})"
    )
    if arguments.json:
        told = [asdict(done) for done in rounds]
        report = {"seed": arguments.seed, "kills": kills, "violations": violations, "rounds": told}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if not violations and kills == arguments.kills else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
