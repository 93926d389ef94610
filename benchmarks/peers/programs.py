"""Rows that a program of the peer's own drives: `redis-benchmark` and `pgbench`, both in C."""

from __future__ import annotations

import asyncio
import csv
import io
import shutil
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from benchmarks.peers.cluster import Cluster
from benchmarks.peers.postgres import open_postgres
from benchmarks.peers.workload import PROBE_UNITS, UNITS, Measured, Workload

BARE = Path(__file__).with_name("bare.lua")
CYCLE = Path(__file__).with_name("cycle.pgbench")
PROBE_CALLS = 1000
CALIBRATION_CALLS = 20_000


class ProgramFailedError(Exception):
    """A program that measures is missing or failed."""


async def _run(*command: str | Path) -> str:
    program = shutil.which(command[0])
    if program is None:
        raise ProgramFailedError(f"{command[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        program, *command[1:], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    if process.returncode:
        raise ProgramFailedError(f"{command[0]}: {errors.decode(errors='replace').strip()[-500:]}")
    return output.decode()


async def measure_bare(
    url: str, workload: Workload, *, callers: int, pipeline: int, seconds: float
) -> Measured:
    """The bare script by `redis-benchmark`, for about so many seconds."""
    socket = url.removeprefix("unix://").partition("?")[0]
    async with Redis.from_url(url, decode_responses=True) as client:
        await client.flushall()
        script = await client.script_load(BARE.read_text(encoding="utf-8"))
        keys = [f"stock:{number:012d}" for number in range(workload.skus)]
        await client.mset(dict.fromkeys(keys, UNITS))
        key = "stock:__rand_int__" if workload.skus > 1 else keys[0]
        drawn = ("-r", str(workload.skus)) if workload.skus > 1 else ()

        async def calls(count: int, key: str) -> dict[str, str]:
            said = await _run(
                "redis-benchmark", "-s", socket, "-c", str(callers), "-P", str(pipeline), *drawn,
                "-n", str(count), "--csv", "EVALSHA", str(script), "1", key, "1",
            )  # fmt: skip
            return list(csv.DictReader(io.StringIO(said)))[-1]

        rate = float((await calls(CALIBRATION_CALLS, key))["rps"])
        count = max(CALIBRATION_CALLS, int(rate * seconds))
        row = await calls(count, key)
        left = [int(str(units)) for units in await client.mget(keys)]
        await client.set("stock:probe", PROBE_UNITS)
        await calls(PROBE_CALLS, "stock:probe")
        probe = int(str(await client.get("stock:probe")))
    findings = []
    taken = workload.skus * UNITS - sum(left)
    if taken < count + CALIBRATION_CALLS or min(left) < 0:
        findings.append(f"{count + CALIBRATION_CALLS} units were asked, {taken} are gone")
    if probe != 0:
        findings.append(f"{PROBE_CALLS} callers for {PROBE_UNITS} units left {probe}")
    return Measured(
        operations_per_second=float(row["rps"]),
        p50_ms=float(row["p50_latency_ms"]),
        p99_ms=float(row["p99_latency_ms"]),
        client_cpu_share=None,
        operations=count,
        refused=0,
        findings=tuple(findings),
    )


async def measure_pgbench(
    cluster: Cluster, workload: Workload, *, callers: int, warm_up: float, seconds: float
) -> Measured:
    """The functions driven by PostgreSQL's own client; its operations are two for each cycle."""
    async with open_postgres(cluster, "function", 1) as peer:
        await peer.prepare(dict.fromkeys(workload.all_skus(), UNITS))
    said = await _run(
        cluster.programs / "pgbench",
        *("-h", cluster.socket_dir, "-U", cluster.user, "-n", "-M", "prepared"),
        *("-c", str(callers), "-j", "2", "-T", str(max(1, round(warm_up + seconds)))),
        *("-D", f"skus={workload.skus}", "-D", "turn=0", "-f", CYCLE, "postgres"),
    )
    words = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in said.splitlines()}
    cycles = int(words["number of transactions actually processed"].partition("/")[0])
    rate = next(float(line.split()[2]) for line in said.splitlines() if line.startswith("tps ="))
    return Measured(
        operations_per_second=2 * rate,
        p50_ms=None,
        p99_ms=None,
        client_cpu_share=None,
        operations=2 * cycles,
        refused=0,
        findings=tuple(await _check_pgbench(cluster, cycles)),
    )


async def _check_pgbench(cluster: Cluster, cycles: int) -> list[str]:
    raw = await asyncpg.connect(host=str(cluster.socket_dir), user=cluster.user, database="postgres")
    try:
        recorded, open_holds = await raw.fetchrow(
            "SELECT count(*), count(*) FILTER (WHERE state = 0) FROM reservation"
        )
        wrong = await raw.fetchval(
            "SELECT count(*) FROM stock LEFT JOIN "
            "(SELECT sku, count(*) AS committed FROM reservation WHERE state = 1 GROUP BY sku) AS told "
            "USING (sku) WHERE held <> 0 OR allocated <> coalesce(committed, 0) OR allocated > on_hand"
        )
    finally:
        await raw.close()
    findings = []
    if recorded != cycles or open_holds:
        findings.append(f"{cycles} cycles, {recorded} reservations, {open_holds} of them still held")
    if wrong:
        findings.append(f"{wrong} SKUs whose counters are not the sum of their reservations")
    return findings
