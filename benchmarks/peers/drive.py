"""Drives a peer: as many callers as asked, each with one call under way; then the oversell check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import islice

from benchmarks.peers.workload import (
    PROBE_SKU,
    PROBE_UNITS,
    UNITS,
    Counters,
    Measured,
    Peer,
    Tally,
    Workload,
    percentile_ms,
)

SAMPLE = 200
PROBE_CALLERS = 64
PROBE_ATTEMPTS = 2 * PROBE_CALLERS


class Timer:
    """When the timed part begins and ends; what ends outside of it is done but not counted."""

    def __init__(self, warm_up: float, seconds: float) -> None:
        now = time.perf_counter_ns()
        self.begins_ns = now + int(warm_up * 1e9)
        self.ends_ns = self.begins_ns + int(seconds * 1e9)
        self.seconds = seconds

    def count(self, tally: Tally, began_ns: int, operations: int) -> int:
        """Counts a call that is over; gives the moment."""
        now = time.perf_counter_ns()
        if self.begins_ns <= now < self.ends_ns:
            tally.operations += operations
            tally.latencies_ns.append(now - began_ns)
        return now


async def measure(
    peer: Peer, workload: Workload, *, callers: int, batch: int, warm_up: float, seconds: float
) -> Measured:
    """One run of a peer, ended by its oversell check."""
    stock = dict.fromkeys(workload.all_skus(), UNITS)
    await peer.prepare({**stock, PROBE_SKU: PROBE_UNITS})
    tally, timer = Tally(), Timer(warm_up, seconds)
    cpu_began, began = time.process_time(), time.perf_counter()
    run = _one_by_one if batch == 1 else _in_batches
    await asyncio.gather(*(run(peer, workload, number, batch, timer, tally) for number in range(callers)))
    cpu = (time.process_time() - cpu_began) / (time.perf_counter() - began)
    findings = await check(peer, tally, stock, batched=batch > 1)
    tally.latencies_ns.sort()
    return Measured(
        operations_per_second=tally.operations / seconds,
        p50_ms=percentile_ms(tally.latencies_ns, 0.5),
        p99_ms=percentile_ms(tally.latencies_ns, 0.99),
        client_cpu_share=round(cpu, 3),
        operations=tally.operations,
        refused=tally.refused,
        findings=tuple(findings),
    )


async def _one_by_one(
    peer: Peer, workload: Workload, caller: int, _batch: int, timer: Timer, tally: Tally
) -> None:
    for turn, (sku, commit) in enumerate(workload.draws(caller)):
        began = time.perf_counter_ns()
        if began >= timer.ends_ns:
            return
        reservation = await peer.reserve(f"{caller}-{turn}", sku)
        began = timer.count(tally, began, 1)
        if reservation is None:
            tally.refused += 1
            continue
        await peer.resolve(reservation, commit=commit)
        timer.count(tally, began, 1)
        _book(tally, reservation, sku, commit=commit)


async def _in_batches(
    peer: Peer, workload: Workload, caller: int, batch: int, timer: Timer, tally: Tally
) -> None:
    draws, turn = workload.draws(caller), 0
    while (began := time.perf_counter_ns()) < timer.ends_ns:
        chosen = list(islice(draws, batch))
        wanted = [(f"{caller}-{turn}-{place}", sku) for place, (sku, _) in enumerate(chosen)]
        turn += 1
        answers = await peer.reserve_many(wanted)
        began = timer.count(tally, began, batch)
        held = [
            (reservation, sku, commit)
            for reservation, (sku, commit) in zip(answers, chosen, strict=True)
            if reservation is not None
        ]
        tally.refused += batch - len(held)
        await peer.resolve_many([(reservation, commit) for reservation, _, commit in held])
        timer.count(tally, began, len(held))
        for reservation, sku, commit in held:
            _book(tally, reservation, sku, commit=commit)


def _book(tally: Tally, reservation: str, sku: str, *, commit: bool) -> None:
    if commit:
        tally.committed[sku] = tally.committed.get(sku, 0) + 1
    if len(tally.sample) < SAMPLE:
        tally.sample[reservation] = "committed" if commit else "released"


# ---------------------------------------------------------------- the oversell check


async def check(peer: Peer, tally: Tally, stock: dict[str, int], *, batched: bool) -> list[str]:
    """What the peer's books say against what its callers were told; empty where both agree."""
    return [
        *_compare(await peer.books(list(stock)), tally, stock),
        *await _compare_states(peer, tally),
        *await _probe(peer, batched=batched),
    ]


def _compare(books: dict[str, Counters], tally: Tally, stock: dict[str, int]) -> Iterator[str]:
    for sku, units in stock.items():
        expected = Counters(units, 0, tally.committed.get(sku, 0))
        found = books.get(sku)
        if found != expected:
            yield f"{sku}: the books say {found}, the answers add up to {expected}"


async def _compare_states(peer: Peer, tally: Tally) -> list[str]:
    found = await peer.states(list(tally.sample))
    return [
        f"{reservation}: recorded as {state}, its caller was told {told}"
        for (reservation, told), state in zip(tally.sample.items(), found, strict=True)
        if state != told
    ]


async def _probe(peer: Peer, *, batched: bool) -> list[str]:
    """More want the last units than there are: each unit goes once, and a repeat takes nothing."""
    attempts = [(f"probe-{number}", PROBE_SKU) for number in range(PROBE_ATTEMPTS)]
    answers = await _ask(peer, attempts, batched=batched)
    won = [operation for operation, answer in zip(attempts, answers, strict=True) if answer is not None]
    findings = []
    if len(won) != PROBE_UNITS:
        findings.append(f"{len(won)} of {PROBE_ATTEMPTS} callers were promised {PROBE_UNITS} units")
    repeated = await _ask(peer, won, batched=batched)
    if any(answer is None for answer in repeated):
        findings.append("a repeated operation was refused although its first answer was a promise")
    books = (await peer.books([PROBE_SKU]))[PROBE_SKU]
    if books != Counters(PROBE_UNITS, PROBE_UNITS, 0):
        findings.append(f"after {PROBE_UNITS} promises and their repeats the books say {books}")
    return findings


async def _ask(peer: Peer, wanted: list[tuple[str, str]], *, batched: bool) -> list[str | None]:
    if batched:
        half = len(wanted) // 2
        parts = await asyncio.gather(*(peer.reserve_many(part) for part in (wanted[:half], wanted[half:])))
        return [answer for part in parts for answer in part]
    gate = asyncio.Semaphore(PROBE_CALLERS)

    async def one(operation: str, sku: str) -> str | None:
        async with gate:
            return await peer.reserve(operation, sku)

    return list(await asyncio.gather(*(one(operation, sku) for operation, sku in wanted)))
