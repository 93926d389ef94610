"""The oversell proof of a load run: what the clients were told against what the server has counted.

Every process keeps a tally per position; workers send theirs to the master with each report. Before the
load the master reads the books, after it again, and any difference makes the run fail.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from benchmarks.load.stage import STAGES, Desk, ServerRefusedError, Stage

log = logging.getLogger("bincard.load")

RECEIVED, FULFILLED, COMMITTED, ABANDONED, LOWERED = range(5)
FIELDS = 5
LISTED = 10
NOTHING: Mapping[str, int] = {"on_hand": 0, "held": 0, "allocated": 0}


@dataclass(slots=True)
class Tally:
    """Units by position, as the answers had it. `begun` calls of which `ended` have a known outcome."""

    units: dict[str, list[int]] = field(default_factory=dict)
    begun: int = 0
    ended: int = 0

    def add(self, sku: str, location: str, what: int, quantity: int) -> None:
        self.units.setdefault(f"{sku}\n{location}", [0] * FIELDS)[what] += quantity

    def take(self) -> dict[str, Any]:
        """Gives everything away, to be sent to the master."""
        given = {"units": self.units, "begun": self.begun, "ended": self.ended}
        self.units, self.begun, self.ended = {}, 0, 0
        return given

    def merge(self, given: Mapping[str, Any]) -> None:
        """Takes what another process gave away."""
        self.begun += given["begun"]
        self.ended += given["ended"]
        for position, units in given["units"].items():
            mine = self.units.setdefault(position, [0] * FIELDS)
            for what, quantity in enumerate(units):
                mine[what] += quantity


Books = dict[str, dict[str, dict[str, int]]]
TALLY = Tally()
"""Of this process: Locust gives a user class no other place to share."""


def read_books(desk: Desk, stage: Stage) -> Books:
    """The counters of all positions of a scenario. Raises `ServerRefusedError`."""
    return {stage.sku(number): desk.positions(stage.sku(number)) for number in range(stage.skus)}


def differences(stage: Stage, before: Books, after: Books, tally: Tally) -> Iterator[str]:
    """Every place where answers and books, or the books and themselves, contradict; none: proved."""
    if tally.begun == 0:
        yield "no client wrote anything: there is nothing to prove"
    if tally.begun != tally.ended:
        yield f"{tally.begun - tally.ended} writes have an unknown outcome"
    known = {f"{sku}\n{location}" for sku, location in stage.positions()}
    yield from (f"a client wrote to {name!r}, which is not on stage" for name in tally.units.keys() - known)
    for sku, location in stage.positions():
        old = before.get(sku, {}).get(location, NOTHING)
        new = after.get(sku, {}).get(location, NOTHING)
        units = tally.units.get(f"{sku}\n{location}", [0] * FIELDS)
        yield from _differences_of(f"{sku} at {location}", old, new, units)


def _differences_of(
    name: str, old: Mapping[str, int], new: Mapping[str, int], units: list[int]
) -> Iterator[str]:
    on_hand = old["on_hand"] + units[RECEIVED] - units[LOWERED] - units[FULFILLED]
    allocated = old["allocated"] + units[COMMITTED]
    if (new["on_hand"], new["allocated"]) != (on_hand, allocated):
        yield (
            f"{name}: on_hand {new['on_hand']}, by the answers {on_hand}; "
            f"allocated {new['allocated']}, by the answers {allocated}"
        )
    if new["held"] > old["held"] + units[ABANDONED]:
        yield f"{name}: {new['held']} held, {old['held']} before and {units[ABANDONED]} left in carts"
    promised = units[FULFILLED] + units[COMMITTED] + units[ABANDONED]
    there = old["on_hand"] - old["allocated"] + units[RECEIVED]
    if promised > there:
        yield f"{name}: OVERSOLD, {promised} promised of {there}"
    # A count that found less than is promised is a fact: then the sum may be below zero.
    if not units[LOWERED] and new["on_hand"] < new["held"] + new["allocated"]:
        yield f"{name}: OVERSOLD by its own books: {dict(new)}"


def prove_at_the_end(stage_name: str) -> None:
    """Registers the proof for a Locust file. Call it once, at its top level."""
    stage = STAGES[stage_name]
    before: Books = {}

    @events.test_start.add_listener
    def read_first(environment: Environment, **_: object) -> None:
        if isinstance(environment.runner, WorkerRunner):
            return
        with _desk(environment) as desk:
            before.update(read_books(desk, stage))
        missing = stage.skus * stage.locations - sum(map(len, before.values()))
        if missing:
            log.error("%s positions have no stock; run prepare.py first", missing)

    @events.report_to_master.add_listener
    def send(data: dict[str, Any], **_: object) -> None:
        data["tally"] = TALLY.take()

    @events.worker_report.add_listener
    def receive(data: dict[str, Any], **_: object) -> None:
        if "tally" in data:
            TALLY.merge(data["tally"])

    @events.quitting.add_listener
    def prove(environment: Environment, **_: object) -> None:
        if isinstance(environment.runner, WorkerRunner):
            return
        try:
            with _desk(environment) as desk:
                found = list(differences(stage, before, read_books(desk, stage), TALLY))
        except (ServerRefusedError, OSError) as fault:
            found = [f"the books could not be read: {fault}"]
        for finding in found[:LISTED]:
            log.error("NOT PROVED: %s", finding)
        if found:
            log.error("%s findings: this run does not count", len(found))
            environment.process_exit_code = 1
        else:
            log.info("no oversell: %s writes, books equal answers at every position", TALLY.ended)


def options_of(environment: Environment) -> Namespace:
    """What the command line said."""
    options: Namespace | None = environment.parsed_options
    assert options is not None
    return options


def _desk(environment: Environment) -> Desk:
    options = options_of(environment)
    return Desk(environment.host or options.host, options.key)
