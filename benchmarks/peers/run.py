"""The same work for Bincard and its peers, alternating in one session.

`python -m benchmarks.peers.run` prints a table and writes a result file. Every run of every row ends
with an oversell check of that row's own books; a session in which one fails writes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.measure import BenchmarkError, Result, finish, make_result, parser_of
from benchmarks.measure import run as run_benchmark
from benchmarks.peers.cluster import SETTINGS, Cluster, PostgresMissingError, private_cluster
from benchmarks.peers.postgres import create_schema
from benchmarks.peers.programs import ProgramFailedError
from benchmarks.peers.rows import ROWS, Durability, Row, Session
from benchmarks.peers.table import Measurements, peer_wins, ratios, raw, table
from benchmarks.peers.workload import HOT, UNIFORM, Workload
from engine.topology.embedded_binary import ServerBinary, find_server_binary, inspect_server_binary

WORKLOADS = (UNIFORM, HOT)
QUICK_SECONDS = 0.3
DOES_NOT_SHOW = (
    "A closed model: each caller waits for its answer, so nothing is said about latency at a given rate. "
    "Callers, clients and servers share the cores of one machine, over Unix sockets: no network, no "
    "replicas. Python clients with asyncio, but for redis-benchmark and pgbench. One line a reservation, "
    "small data, seconds of load: no vacuum, no check-pointing, no rewriting of the log worth naming."
)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, write. Raises `BenchmarkError` where the session does not count."""
    options = parser().parse_args(arguments)
    if options.quick:
        options.pairs, options.seconds, options.warm_up = 1, QUICK_SECONDS, 0.1
    rows = [row for row in ROWS if not options.only or any(word in row.name for word in options.only)]
    workloads = [workload for workload in WORKLOADS if options.workload in {"all", workload.name}]
    server = find_server(options.server)
    directory = Path(tempfile.mkdtemp(prefix="bincard-peers-", dir=options.directory))
    try:
        with open_cluster(rows, directory, options.durability) as (cluster, missing):
            session = Session(
                directory, server.path, options.durability, cluster, options.warm_up, options.seconds
            )
            if cluster is None:
                rows = [row for row in rows if not row.needs_postgres]
            measured = measure_all(rows, session, workloads, options.pairs)
            postgres = cluster.version if cluster is not None else missing or "not asked for"
    except ProgramFailedError as fault:
        raise BenchmarkError(str(fault)) from fault
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    report(measured, server, postgres, options)


def report(
    measured: Sequence[Measurements], server: ServerBinary, postgres: str, options: argparse.Namespace
) -> None:
    """Print the table and who wins, and write the result file."""
    if not measured:
        raise BenchmarkError("no row has such a name, or none can be measured here")
    print("\n".join(table(measured)))
    wins = peer_wins(measured)
    print("Where another is ahead of Bincard:\n" + ("\n".join(f"- {win}" for win in wins) or "- nowhere"))
    print(f"PostgreSQL: {postgres}\n")
    result: Result = make_result(
        "peers" if options.durability == "local" else f"peers_{options.durability}",
        [*(one.figure() for one in measured), *ratios(measured)],
        [one.proof() for one in measured],
        server=f"{server.family} {server.version}",
        workload={
            "turn": "reserve 1 unit for 900 s, then 90 % commit, 10 % release",
            "callers": 64,
            "durability": options.durability,
            "seconds": options.seconds,
            "warm_up_seconds": options.warm_up,
            "repetitions": options.pairs,
            "postgresql": postgres,
            "postgresql_settings": ", ".join(f"{name}={value}" for name, value in SETTINGS.items()),
        },
        does_not_show=DOES_NOT_SHOW,
        raw={"runs": raw(measured), "peer_wins": wins, "table": table(measured)},
    )
    finish(result, options)


def measure_all(
    rows: Sequence[Row], session: Session, workloads: Sequence[Workload], repetitions: int
) -> list[Measurements]:
    """Every row once, then every row again, each time beginning with another one."""
    everything = []
    with new_runner() as runner:
        if session.cluster is not None:
            runner.run(create_schema(session.cluster))
        for workload in workloads:
            of_workload = [Measurements(row, workload) for row in rows]
            for repetition in range(repetitions):
                shift = repetition * len(rows) // repetitions
                for one in (*of_workload[shift:], *of_workload[:shift]):
                    one.runs.append(runner.run(one.row.measure(session, workload)))
                    _tell(one, repetition + 1, repetitions)
            everything += of_workload
    return everything


def _tell(one: Measurements, number: int, repetitions: int) -> None:
    last = one.runs[-1]
    print(
        f"{time.strftime('%H:%M:%S')} {one.workload.name} {number}/{repetitions} {one.row.name:<46} "
        f"{last.operations_per_second:>9,.0f}/s {'; '.join(last.findings[:2]) or 'ok'}",
        file=sys.stderr,
        flush=True,
    )


@contextmanager
def open_cluster(
    rows: Sequence[Row], directory: Path, durability: Durability
) -> Iterator[tuple[Cluster | None, str | None]]:
    """PostgreSQL where a row wants it; where it is missing, None and why, said plainly."""
    if not any(row.needs_postgres for row in rows):
        yield None, None
        return
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(private_cluster(directory, durability))
        except PostgresMissingError as missing:
            print(f"PostgreSQL is NOT MEASURED: {missing}", file=sys.stderr)
            yield None, f"not measured: {missing}"
            return
        yield opened, None


def new_runner() -> asyncio.Runner:
    """The event loop that all rows share: uvloop where it is installed, as `bincard serve` has it."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def find_server(name: str | None) -> ServerBinary:
    """The server under Bincard and the Redis patterns alike: by default the one of the package."""
    if name in {None, "valkey"}:
        return find_server_binary({"PATH": ""})
    found = shutil.which("redis-server" if name == "redis" else str(name))
    if found is None:
        raise BenchmarkError(f"there is no server program {name}")
    return inspect_server_binary(Path(found))


def parser() -> argparse.ArgumentParser:
    """The options; their defaults make the committed result."""
    options = parser_of("peers", "The same work for Bincard and its peers, alternating in one session.")
    options.add_argument("--seconds", type=float, default=4.0, help="the timed part of a run (%(default)s)")
    options.add_argument("--warm-up", type=float, default=1.0, help="before it (%(default)s)")
    options.add_argument("--durability", choices=("none", "local"), default="local")
    options.add_argument("--workload", choices=("all", "uniform", "hot"), default="all")
    options.add_argument("--only", action="append", metavar="WORD", help="rows whose name has this word")
    options.add_argument("--directory", type=Path, help="where the servers write; must be a real disk")
    return options


if __name__ == "__main__":
    sys.exit(run_benchmark(main))
