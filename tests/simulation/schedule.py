"""Runs schedules and judges what they leave behind."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import format_exception
from typing import TYPE_CHECKING

from engine.audit import audit
from engine.check import check
from engine.errors import ReservationNotFound, SkuNotFound
from engine.script import library
from engine.types import State
from tests.simulation.faults import MOST_OFFSET_SECONDS
from tests.simulation.machines import Machine
from tests.simulation.workload import LONGEST_TTL_SECONDS
from tests.simulation.world import RETENTION_SECONDS, Setting, World

if TYPE_CHECKING:
    from engine import Inventory
    from engine.script import Library

BY_CLOCK = frozenset(("I3", "I4", "I8", "I9", "I10"))
"""Invariants of a history that need one clock: which holds have lapsed is reckoned by the caller's."""
KEPT_FINDINGS = 20
HEALING_SECONDS = 30
PART = "part of basket "
"""How the audit calls a part that does not agree with its basket."""


@dataclass(frozen=True)
class Result:
    """What a schedule showed. `digest` is of all that was asked, answered and stored."""

    seed: int
    setting: Setting
    findings: list[str]
    outcomes: Counter[str] = field(repr=False)
    digest: str = ""

    def explain(self) -> str:
        """What to tell a person about a schedule that failed."""
        return "\n".join([f"seed {self.seed}: {self.setting}", *self.findings[:KEPT_FINDINGS]])


def run_schedule(
    seed: int,
    scripts: Library | None = None,
    *,
    setting: Setting | None = None,
    machine: type[Machine] = Machine,
) -> Result:
    """Runs the schedule of a seed and judges it. `setting` takes the place of the one that the seed draws,
    `scripts` that of this release's, `machine` that of the simulated server.
    """
    world = World(seed, scripts or library(), setting=setting, machine=machine)
    told, logging.raiseExceptions = logging.root.manager.disable, False
    logging.disable(logging.CRITICAL)
    asyncio.set_event_loop(world.loop)
    try:
        with world.installed():
            try:
                world.loop.run_until_complete(world.run(judge))
            except Exception as error:  # noqa: BLE001 - whatever it is, the seed must be told
                world.findings.append("".join(format_exception(error)))
            world.history.is_open = False
            world.loop.end()
    finally:
        logging.disable(told)
        asyncio.set_event_loop(None)
    world.findings += world.loop.faults
    lines = b"".join(world.history.lines)
    if lines and world.setting.tells_all:
        world.findings += judge_history(lines, turns_clocks=world.setting.turns_clocks)
    dump = repr([sorted(machine.store.dump().items()) for machine in world.machines.all])
    digest = blake2b(lines + dump.encode(), digest_size=16).hexdigest()
    return Result(seed, world.setting, world.findings, world.outcomes, digest)


async def judge(world: World) -> None:
    """Repeats what is unknown, then compares everything with everything, also once all holds have lapsed."""
    inventory = await world.open()
    await world.send_by_all_means(inventory, list(world.unknown))
    await inventory.sweep()
    # What a coordinator left half done is healed within so long; where a clock went back while nobody had a
    # watch on it, once it has come by again.
    away_seconds = 2 * MOST_OFFSET_SECONDS if world.setting.turns_clocks else 0
    await asyncio.sleep(HEALING_SECONDS + away_seconds)
    await inventory.sweep()
    await compare_promises(world, inventory, "at the end")
    await asyncio.sleep(2 * LONGEST_TTL_SECONDS)
    await inventory.sweep()
    await compare_promises(world, inventory, "once all holds have lapsed")
    for reservation in world.shop.reservations:
        try:
            found = await inventory.reservation(reservation)
        except ReservationNotFound:
            continue
        if found.state is State.HELD:
            world.findings.append(f"{reservation} is held for ever")
    report = await audit(inventory, retention_seconds=RETENTION_SECONDS)
    if not report.is_clean:
        found = (*report.differences, *report.violations, *report.notes)
        world.findings += [
            str(one) for one in found if not (world.setting.parts_baskets and PART in str(one))
        ]
    await inventory.close()


async def compare_promises(world: World, inventory: Inventory, when: str) -> None:
    """What positions have promised is what reservations were promised: all told by the public face."""
    if world.setting.parts_baskets:
        return
    promised: Counter[tuple[str, str, str]] = Counter()
    for reservation in world.shop.reservations:
        try:
            found = await inventory.reservation(reservation)
        except ReservationNotFound:
            if not (world.setting.loses or world.setting.turns_clocks):
                world.findings.append(f"{reservation} is lost {when}")
            continue
        for line in found.lines:
            promised[line.sku, line.location, "held"] += line.held
            promised[line.sku, line.location, "allocated"] += line.committed
    for sku in world.shop.skus:
        try:
            positions = await inventory.stock(sku)
        except SkuNotFound:
            positions = []
        for position in positions:
            for name, units in (("held", position.held), ("allocated", position.allocated)):
                expected = promised[sku, position.location, name]
                if units != expected:
                    world.findings.append(
                        f"{sku} at {position.location}, {name}: {units} {when}; reservations have {expected}"
                    )


@cache
def _folder() -> TemporaryDirectory[str]:
    """One for all histories of this process; it goes with it."""
    return TemporaryDirectory()


def judge_history(lines: bytes, *, turns_clocks: bool = False) -> list[str]:
    """What `engine.check` finds in the history of all processes."""
    path = Path(_folder().name) / "history.jsonl"
    path.write_bytes(lines)
    report = check([path])
    return [
        str(violation)
        for violation in report.violations
        if not (turns_clocks and violation.invariant in BY_CLOCK)
    ]
