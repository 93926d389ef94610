"""A crowd that uses every verb at once on fifty hot positions, then the proof that nothing went wrong.

Clients of several engine processes reserve, source by pool and channel, commit, move, count, write policies
and fences, ship transfers and read, one request in five sent twice. Then the audit compares the books with
the ledger, the checker judges what every caller was told, all goods are added up, and the rest is sold out.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from time import monotonic

# Run as a file, Python looks for modules in benchmarks/ instead of the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import msgspec
from msgspec import Struct, field

from benchmarks import measure, servers
from benchmarks.crowd_client import (
    CHANNELS,
    FIRST_UNITS,
    MOST_BACKORDERS,
    PLACES,
    PLAIN,
    POOLS,
    SKUS,
    Task,
    Told,
    open_shop,
    place_name,
)
from benchmarks.measure import SEED, BenchmarkError, Figure, Labels, Proof
from engine import Inventory, Line, Reservation
from engine.audit import audit
from engine.check import check
from engine.check.reading import find_files
from engine.dataset import open_dataset
from engine.errors import InsufficientStock
from engine.history import open_recorded
from engine.sourcing_plan import Rules, Wanted
from engine.topology.embedded import EmbeddedServer
from engine.types import TransferState
from engine.workers import Sweeper

CLIENTS, SECONDS, PROCESSES = 1000, 60.0, 2
AT_ONCE = 64
SHOWN = 5
SETTLES_SECONDS = 20.0
UNIT = "1"
COUNTED = (
    "answers in order",
    "replays judged",
    "effects under an operation id",
    "life cycle steps",
    "changed reservations read",
    "promises judged",
    "promises of the last unit",
    "stock answers judged",
    "availability answers judged",
    "refusals judged: insufficient_stock",
)
"""What of the checker's counts tells how much was judged."""
DOES_NOT_SHOW = (
    "speed: clients and store share the cores and every answer is recorded; faults of servers and networks, "
    "which the fault campaign strikes."
)


class Outcome(Struct):
    """What one run showed."""

    partitions: int
    seconds: float
    told: Told
    faults: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


async def run(url: str, folder: Path, task: Task, processes: int) -> Outcome:
    """A run on a fresh data set, and its judgement."""
    history = folder / "crowd.jsonl"
    shop = await open_recorded(await open_dataset(url, partitions=task.partitions), str(history))
    try:
        await open_shop(shop)
        begun = monotonic()
        told = add_up(await asyncio.gather(*(_work_apart(history, task, n) for n in range(processes))))
        outcome = Outcome(task.partitions, round(monotonic() - begun, 1), told, list(told.faults))
        await settle(shop)
        await Judge(shop, outcome).judge()
    finally:
        await shop.close()
    report = check(find_files(history))
    outcome.faults += [f"history: {one.invariant} {one.subject}: {one.detail}" for one in report.violations]
    for name in COUNTED:
        outcome.counts[f"checker: {name}"] = report.counts.get(name, 0)
    outcome.counts["checker: operations"] = report.operations
    outcome.counts["checker: of unknown outcome"] = report.unknown
    return outcome


async def _work_apart(history: Path, task: Task, process: int) -> Told:
    """A process of its own."""
    own = msgspec.structs.replace(task, process=process)
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.crowd_client",
        msgspec.json.encode(own).decode(),
        stdout=asyncio.subprocess.PIPE,
        cwd=measure.ROOT,
        env={**os.environ, "BINCARD_HISTORY": str(history)},
    )
    output, _ = await running.communicate()
    if running.returncode:
        raise BenchmarkError(f"a process of the crowd ended with status {running.returncode}")
    return msgspec.json.decode(output, type=Told)


def add_up(parts: Sequence[Told]) -> Told:
    """What all processes were told."""
    whole = Told()
    for part in parts:
        for verb, outcomes in part.verbs.items():
            whole.verbs[verb] = dict(Counter(whole.verbs.get(verb, {})) + Counter(outcomes))
        for name, effect in part.effects.items():
            whole.effects[name] = whole.effects.get(name, 0) + effect
        whole.uncovered |= part.uncovered
        whole.reservations |= part.reservations
        whole.twice += part.twice
        whole.faults += part.faults
    return whole


async def settle(shop: Inventory) -> None:
    """Until documents are driven to their end and baskets are decided, and nothing more changes."""
    ends, sweeper = monotonic() + SETTLES_SECONDS, Sweeper(shop)
    while monotonic() < ends:
        for _ in range(12):
            await sweeper.tick()
        report = await audit(shop)
        if not report.notes:
            return
        await asyncio.sleep(0.2)


class Judge:
    """Adds up what callers were told, and compares it with what is there."""

    def __init__(self, shop: Inventory, outcome: Outcome) -> None:
        self.shop, self.outcome, self._sweeper = shop, outcome, Sweeper(shop)

    async def judge(self) -> None:
        await self._audit("after the crowd")
        await self._insist(self._add_up)
        await self._insist(self._compare_promises)
        await self._sell_out()
        await self._insist(self._compare_promises)
        await self._audit("after the sale of the rest")

    def blame(self, fault: str) -> None:
        self.outcome.faults.append(fault)

    async def _audit(self, when: str) -> None:
        report, ends = await audit(self.shop), monotonic() + SETTLES_SECONDS
        while report.is_clean and report.notes and monotonic() < ends:
            # Parts of baskets follow with the next sweeps; a difference is one at once.
            await self._sweeper.tick()
            report = await audit(self.shop)
        found = [*report.differences[:SHOWN], *report.violations[:SHOWN], *report.notes[:SHOWN]]
        if found or not report.is_clean:
            self.blame(
                f"audit {when}: {report.difference_count} differences, {report.violation_count} violations"
            )
            self.outcome.faults += [f"audit {when}: {one}" for one in found]
        self.outcome.counts["audit: events"] = report.events
        self.outcome.counts["audit: differences and violations"] = (
            self.outcome.counts.get("audit: differences and violations", 0)
            + report.difference_count
            + report.violation_count
        )

    # ---------------------------------------------------------------- conservation

    async def _insist(self, look: Callable[[], Awaitable[list[str]]]) -> None:
        """Looks until nothing is wrong: holds lapse between two readings, and parts of baskets follow."""
        ends = monotonic() + SETTLES_SECONDS
        while faults := await look():
            if monotonic() > ends:
                self.outcome.faults += faults
                return
            await self._sweeper.tick()

    async def _add_up(self) -> list[str]:
        """Every unit that came is on hand, on its way, or has left, as callers were told; or where not."""
        counts = self.outcome.counts
        names = [place_name(sku, place) for sku in (*SKUS, *PLAIN) for place in PLACES]
        on_hand, held, allocated = Counter(dict.fromkeys(names, FIRST_UNITS)), Counter[str](), Counter[str]()
        on_hand.update(self.outcome.told.effects)
        for found in await self._read_reservations():
            for line in found.lines:
                name = place_name(line.sku, line.location)
                on_hand[name] -= line.fulfilled
                held[name] += line.held
                allocated[name] += line.committed
        counts["units in transit"] = await self._add_transfers(on_hand)
        inbounds = await self.shop.inbounds()
        for inbound in inbounds:
            on_hand[place_name(inbound.sku, inbound.location)] += inbound.received
        counts["inbound orders"] = len(inbounds)
        counts["units received of inbound orders"] = sum(inbound.received for inbound in inbounds)
        faults, counts["units on hand"] = [], 0
        for sku in (*SKUS, *PLAIN):
            for row in await self.shop.stock(sku):
                name = place_name(sku, row.location)
                counts["units on hand"] += row.on_hand
                faults += [
                    f"{name}: {stored} {word}, callers were told of {told}"
                    for word, told, stored in (
                        ("on hand", on_hand[name], row.on_hand),
                        ("held", held[name], row.held),
                        ("allocated", allocated[name], row.allocated),
                    )
                    if told != stored
                ]
        return faults

    async def _read_reservations(self) -> list[Reservation]:
        found: list[Reservation] = []
        ids = sorted(self.outcome.told.reservations)
        for at in range(0, len(ids), AT_ONCE):
            found += await asyncio.gather(*map(self.shop.reservation, ids[at : at + AT_ONCE]))
        self.outcome.counts["reservations"] = len(found)
        return found

    async def _add_transfers(self, expected: Counter[str]) -> int:
        """Takes what was shipped from its source, and gives what came to its target; what is between them."""
        between = 0
        transfers = await self.shop.transfers()
        self.outcome.counts["transfers"] = len(transfers)
        for transfer in transfers:
            was_shipped = transfer.state is not TransferState.DRAFT and (
                transfer.state is not TransferState.CANCELLED or any(line.returned for line in transfer.lines)
            )
            for line in transfer.lines:
                left = line.quantity if was_shipped else 0
                expected[place_name(line.sku, transfer.source)] += line.returned - left
                expected[place_name(line.sku, transfer.target)] += line.received
                between += max(0, left - line.received - line.returned)
        return between

    # ---------------------------------------------------------------- promises

    async def _compare_promises(self) -> list[str]:
        """Nothing is promised that is not there, but what facts uncovered; and nobody is shown more."""
        faults = list[str]()
        for sku in (*SKUS, *PLAIN):
            rows = {row.location: row for row in await self.shop.stock(sku)}
            fences = await self.shop.fences(sku=sku)
            for place, row in rows.items():
                promised, there = row.held + row.allocated, row.on_hand - row.unsellable
                name, limit = place_name(sku, place), MOST_BACKORDERS if sku in SKUS else 0
                if promised > there + limit and name not in self.outcome.told.uncovered:
                    faults.append(f"{name}: {promised} promised of {there}, and no fact uncovered one")
                remaining = sum(fence.remaining for fence in fences if fence.location == place)
                if remaining != row.fenced:
                    faults.append(f"{name}: fences have {remaining}, the position has {row.fenced}")
            for channel in CHANNELS if sku in SKUS else ():
                shown, _ = await self.shop.availability_by(sku, rules=Rules(channel=channel))
                for one in shown.locations:
                    row = rows[one.location]
                    own = sum(
                        fence.remaining
                        for fence in fences
                        if (fence.channel, fence.location) == (channel, one.location)
                    )
                    there = row.on_hand + row.backorder_limit - row.held - row.allocated
                    there -= row.unsellable + row.safety_stock
                    # Fences may keep more than there is: then who comes first gets it.
                    if one.available > max(0, min(there, own + max(0, there - row.fenced))):
                        name = place_name(sku, one.location)
                        faults.append(f"{name}: {one.available} shown to {channel} of {there}")
        return faults

    async def _sell_out(self) -> None:
        """Holds one unit after the other, by channels, pools and places, until nobody gets any."""
        chance, held = Random(SEED), 0
        asks = [*(Rules(channel=name) for name in CHANNELS), *(Rules(pool=name) for name in POOLS)]
        for sku in SKUS:
            shown = {
                rules: (await self.shop.availability_by(sku, rules=rules))[0].available for rules in asks
            }
            open_asks: list[Rules | str] = [*asks, *PLACES]
            before = {place.location: place for place in await self.shop.stock(sku)}
            number = 0
            while open_asks:
                ask, number = chance.choice(open_asks), number + 1
                try:
                    if isinstance(ask, Rules):
                        await self.shop.source(f"rest {sku} {number}", [Wanted(sku, 1)], rules=ask)
                    else:
                        await self.shop.reserve(f"rest {sku} {number}", [Line(sku, 1, ask)])
                except InsufficientStock:
                    open_asks.remove(ask)
                else:
                    held += 1
            held += await self._sell_what_came_back(sku)
            after = {place.location: place for place in await self.shop.stock(sku)}
            for place, row in after.items():
                room = row.on_hand + row.backorder_limit - row.unsellable - row.safety_stock
                taken = row.held + row.allocated
                if taken > max(room, before[place].held + before[place].allocated):
                    self.blame(f"{sku} at {place}: {taken} promised after the sale of {room}")
            self.outcome.counts["units shown before the sale of the rest"] = self.outcome.counts.get(
                "units shown before the sale of the rest", 0
            ) + max(shown.values())
        self.outcome.counts["units in the sale of the rest"] = held

    async def _sell_what_came_back(self, sku: str) -> int:
        """Units whose hold lapsed in the meantime are sold, too; what is shown is not refused twice."""
        held = refused = 0
        while (found := await self.shop.availability(sku)).available:
            shown = [place for place in found.locations if place.available > 0]
            try:
                await self.shop.reserve(f"back {sku} {held}", [Line(sku, 1, shown[0].location)])
                held, refused = held + 1, 0
            except InsufficientStock:
                refused += 1
                if refused > 1:
                    self.blame(f"{sku}: sold out, and {shown[0]} is shown")
                    break
        return held


# -------------------------------------------------------------------- the result


def make_result(outcomes: Sequence[Outcome], server: str, labels: Labels) -> measure.Result:
    """Counts by verb and outcome, and what was proved."""
    figures, proofs = [], []
    for outcome in outcomes:
        partitions: Labels = {"partitions": outcome.partitions}
        answers = sum(sum(found.values()) for found in outcome.told.verbs.values())
        for name, value in (
            ("answers", answers),
            ("seconds", outcome.seconds),
            ("sent twice", outcome.told.twice),
        ):
            figures.append(
                Figure(
                    name=f"{name}, P={outcome.partitions}",
                    value=value,
                    unit=UNIT,
                    better="higher",
                    labels=partitions,
                )
            )
        detail = "; ".join(outcome.faults[:SHOWN]) or (
            f"P={outcome.partitions}: audit 0, the checker clean, all goods add up, the rest sold out exactly"
        )
        proofs.append(
            Proof(
                holds=not outcome.faults,
                positions=len(PLACES) * len(SKUS + PLAIN),
                answers=answers,
                detail=detail,
            )
        )
    return measure.make_result(
        "crowd",
        figures,
        proofs,
        server=server,
        workload=labels,
        does_not_show=DOES_NOT_SHOW,
        raw={
            f"P={outcome.partitions}": {
                "verbs": {
                    verb: dict(sorted(told.items())) for verb, told in sorted(outcome.told.verbs.items())
                },
                "counts": outcome.counts,
            }
            for outcome in outcomes
        },
    )


def main(arguments: Sequence[str]) -> None:
    """Lets the crowd in, at one partition and at four, and judges."""
    parser = measure.parser_of("crowd", __doc__ or "")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    options = parser.parse_args(arguments)
    clients, seconds = (50, 3.0) if options.quick else (options.clients, options.seconds)
    program, outcomes = servers.find_program(options.server), []
    for partitions in (1, 4):
        with (
            tempfile.TemporaryDirectory(prefix="bincard-bench-") as directory,
            EmbeddedServer.start(Path(directory), durability="local", binary=program.path) as server,
        ):
            task = Task(server.url, 0, partitions, clients // options.processes, seconds, SEED)
            outcomes.append(asyncio.run(run(server.url, Path(directory), task, options.processes)))
        for fault in outcomes[-1].faults:
            print(f"P={partitions}: {fault}", file=sys.stderr)
    labels: Labels = {
        "clients": clients,
        "seconds": seconds,
        "processes": options.processes,
        "positions": len(PLACES) * len(SKUS + PLAIN),
        "durability": "local",
    }
    measure.finish(make_result(outcomes, f"{program.family} {program.version}", labels), options)


if __name__ == "__main__":
    sys.exit(measure.run(main))
