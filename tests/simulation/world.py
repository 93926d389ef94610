"""One schedule's shop: servers, processes that come and go, shoppers, and everything that goes wrong.

All chances are drawn from one `random.Random`, so a schedule is decided by its seed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from traceback import format_exception
from typing import TYPE_CHECKING, Any

import engine.dataset
import engine.history
import engine.reservations
from engine import BincardError, Inventory, Refused, Unavailable, Unconfirmed
from engine.dataset import open_dataset
from engine.errors import InvalidRequest
from engine.history import Begin, RecordedInventory, encode_begin
from engine.link import Link
from engine.pace import Watch
from tests.simulation.faults import FAULTS, HARMFUL, HARMLESS
from tests.simulation.loop import Loop, Process, current_process
from tests.simulation.machines import Links, Machines, SimulatedTopology
from tests.simulation.workload import Operation, Shop, choose_skus, next_operation, openings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.script import Library
    from tests.simulation.machines import Machine

RETENTION_SECONDS = 7200
DUPLICATES = 0.25
"""How many requests are sent twice from the start, the second time by whichever process."""
MOST_TRIES = 40
USUAL_LIFE_STEPS = 150
"""After about so many steps a process dies, where processes die."""


@dataclass(frozen=True)
class Setting:
    """What a schedule is like."""

    partitions: int
    machines: int
    processes: int
    shoppers: int
    operations: int
    faults: tuple[str, ...]
    crosses: bool
    """Whether baskets may lie in several partitions."""
    pause_seconds: float
    """How long nothing goes wrong, at the most."""

    @classmethod
    def draw(cls, random: Random) -> Setting:
        """A setting by chance: few faults or many, in few partitions or many."""
        faults = [fault for fault in HARMLESS if random.random() < 0.6]
        faults += [fault for fault in HARMFUL if random.random() < 0.08]
        partitions = random.choice((1, 2, 2, 8))
        return cls(
            partitions=partitions,
            machines=min(2, partitions),
            processes=random.choice((1, 2, 3)),
            shoppers=random.choice((1, 2, 4)),
            operations=random.choice((4, 8)),
            faults=tuple(faults),
            crosses=partitions > 1,
            pause_seconds=random.choice((0.3, 1.0, 3.0)),
        )

    @property
    def loses(self) -> bool:
        """Whether acknowledged work may be lost."""
        return "fail over" in self.faults

    @property
    def parts_baskets(self) -> bool:
        """Whether a partition may forget what others were told of its baskets."""
        return self.loses and self.crosses

    @property
    def tells_all(self) -> bool:
        """Whether the checker of histories can judge: it knows no losses."""
        return not self.loses

    @property
    def turns_clocks(self) -> bool:
        return "turn the clock" in self.faults


class Lines:
    """The history of a schedule, in memory."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.is_open = True

    def append(self, line: bytes) -> None:
        # What the dead let go of at the end of a schedule tells nothing.
        if self.is_open:
            self.lines.append(line)

    def close(self) -> None:
        """Others still write."""


class World:
    """Everything of one schedule. `run` runs it."""

    def __init__(
        self, seed: int, scripts: Library, *, setting: Setting | None, machine: type[Machine]
    ) -> None:
        self.seed, self.scripts = seed, scripts
        self.random = Random(seed)
        drawn = Setting.draw(self.random)
        self.setting = setting or drawn
        self.loop = Loop()
        self.machines = Machines(self.loop, self.random, self.setting.machines, machine)
        self.secret = self.random.randbytes(32)
        partitions = self.setting.partitions
        self.shop = Shop(self.random, partitions, self.setting.crosses, choose_skus(self.random))
        self.outcomes: Counter[str] = Counter()
        self.history = Lines()
        self.unknown: dict[Operation, None] = {}
        """What was asked and has no answer yet: repeated by whoever lives, and at the end by all means."""
        self.findings: list[str] = []
        self.is_calm = False
        self._numbers = count()
        self._living: dict[Process, Inventory] = {}
        self._graves: list[Inventory] = []

    # ---------------------------------------------------------------- processes

    async def open(self) -> Inventory:
        """The engine as the process that asks has it."""
        while True:
            try:
                dataset = await open_dataset(
                    "simulated",
                    partitions=self.setting.partitions,
                    retention_seconds=RETENTION_SECONDS,
                    scripts=self.scripts,
                    is_watched=True,
                )
            except Unavailable:
                await asyncio.sleep(0.05)
                continue
            inventory = RecordedInventory(dataset, self.history)
            inventory.numbers = self._numbers
            return inventory

    def begin_history(self, inventory: Inventory) -> None:
        """Before anything is stored."""
        begin = Begin(
            history=engine.history.FORMAT,
            process="1-1",
            clock="one",
            dataset=inventory.dataset.ids.of_movement("", "").hex(),
            partitions=self.setting.partitions,
            retention_seconds=RETENTION_SECONDS,
            begins=["1.0"] * self.setting.partitions,
            time=0,
        )
        self.history.append(encode_begin(begin))

    async def keep_running(self, name: str) -> None:
        """A place where one process runs after another, until all is calm."""
        left = [self.setting.operations] * self.setting.shoppers
        while True:
            process = Process(name)
            if "crash" in self.setting.faults and not self.is_calm and self.random.random() < 0.7:
                process.dies_at = 1 + int(self.random.expovariate(1 / USUAL_LIFE_STEPS))
            ended: asyncio.Future[None] = self.loop.create_future()
            process.on_death = lambda ended=ended: ended.done() or ended.set_result(None)
            process.start(self._live(left, ended))
            await ended
            inventory = self._living.pop(process, None)
            if process.fault is not None:
                self.findings.append("".join(format_exception(process.fault)))
            if not process.is_dead:
                return
            self.outcomes["crash"] += 1
            if inventory is not None:
                self._graves.append(inventory)
            for machine in self.machines.all:
                for connection in machine.connections:
                    if connection.process is process and self.random.random() < 0.5:
                        connection.cut(loses_requests=True)
            await asyncio.sleep(self.random.uniform(0, 2 * self.setting.pause_seconds))

    async def _live(self, left: list[int], ended: asyncio.Future[None]) -> None:
        """The life of a process: it opens the engine and lets its shoppers shop."""
        inventory = await self.open()
        process = current_process()
        self._living[process] = inventory
        sweeper = process.start(self._keep_sweeping(inventory))
        await asyncio.gather(*(self._shop(inventory, left, index) for index in range(len(left))))
        sweeper.cancel()
        await inventory.close()
        if not ended.done():
            ended.set_result(None)

    async def _keep_sweeping(self, inventory: Inventory) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(0.2, 3.0))
            try:
                self.outcomes["expired"] += await inventory.sweep()
            except (Unavailable, Unconfirmed) as error:
                self.outcomes[f"sweep: {error.outcome}"] += 1

    # ---------------------------------------------------------------- shoppers

    async def _shop(self, inventory: Inventory, left: list[int], index: int) -> None:
        random = self.random
        while left[index] > 0:
            left[index] -= 1
            if random.random() < 0.6:
                await asyncio.sleep(random.expovariate(2))
            if self.unknown and random.random() < 0.4:
                operation = random.choice(list(self.unknown))
            else:
                operation = next_operation(self.shop)
            if random.random() < DUPLICATES:
                process = random.choice(list(self._living))
                process.start(self._send(self._living[process], operation))
            await self._send(inventory, operation)

    async def _send(self, inventory: Inventory, operation: Operation, *, tries: int = 3) -> None:
        """Sends an operation, and again while nobody knows what became of it; then leaves it to others."""
        if operation.changes:
            self.unknown[operation] = None
        for _ in range(tries):
            operation.open += 1
            try:
                answer = await operation.send(inventory)
            except Unconfirmed:
                self.outcomes["unconfirmed"] += 1
                continue
            except Unavailable as error:
                self.outcomes[error.outcome] += 1
                operation.open -= 1
                await asyncio.sleep(self.random.uniform(0.01, 0.3))
            except (Refused, InvalidRequest) as error:
                self.outcomes[getattr(error, "outcome", "invalid_request")] += 1
                operation.open -= 1
                # An earlier sending may arrive yet, and be decided otherwise.
                if operation.open == 0 or self.is_calm:
                    self.unknown.pop(operation, None)
                return
            else:
                operation.open -= 1
                self._count(operation, answer)
                return

    def _count(self, operation: Operation, answer: Any) -> None:  # noqa: ANN401 - of any verb
        is_many = operation.name.endswith("_many")
        answers = answer if is_many else [answer]
        for one in answers:
            if isinstance(one, BincardError):
                self.outcomes[getattr(one, "outcome", "invalid_request")] += 1
            else:
                self.outcomes["replayed" if getattr(one, "replayed", False) else operation.name] += 1
        if any(isinstance(one, Unavailable | Unconfirmed) for one in answers):
            operation.open += is_many
        elif operation.open == 0 or self.is_calm or not is_many:
            self.unknown.pop(operation, None)

    async def send_by_all_means(self, inventory: Inventory, operations: list[Operation]) -> None:
        """Nothing goes wrong any more, so each of them gets an answer."""
        for operation in operations:
            self.unknown[operation] = None
            await self._send(inventory, operation, tries=MOST_TRIES)
            if operation in self.unknown:
                self.findings.append(f"{operation.name} gets no answer, though nothing is wrong any more")

    # ---------------------------------------------------------------- faults

    async def make_trouble(self) -> None:
        """One fault after another, until all is calm."""
        while self.setting.faults:
            await asyncio.sleep(self.random.uniform(0, self.setting.pause_seconds))
            if self.is_calm:
                return
            fault = self.random.choice(self.setting.faults)
            machine = self.random.choice(self.machines.all)
            if fault in FAULTS:
                self.outcomes[fault] += 1
                await FAULTS[fault](self.random, machine)

    async def run(self, end: Any) -> None:  # noqa: ANN401 - a coroutine function
        """The whole schedule; `end` judges the shop once all is calm."""
        opener = Process("opener")
        await opener.start(self._open_shop())
        trouble = self.loop.create_task(self.make_trouble())
        await asyncio.gather(*(self.keep_running(f"p{n}") for n in range(self.setting.processes)))
        self.is_calm = True
        await trouble
        # All that stalled arrives, and everyone connects again.
        await asyncio.sleep(30)
        await Process("judge").start(end(self))

    async def _open_shop(self) -> None:
        inventory = await self.open()
        self.begin_history(inventory)
        await self.send_by_all_means(inventory, openings(self.shop))
        await inventory.close()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the engine knows the machines of this world, its time and its secrets, and no others."""

        def open_topology(_: str) -> SimulatedTopology:
            return SimulatedTopology(self.machines, current_process(), self.secret)

        def new_link(topology: SimulatedTopology, *rest: Any, **named: Any) -> Links:  # noqa: ANN401 - as `Link`
            return Links(self.machines, [Link(view, *rest, **named) for view in topology.views()])

        replaced = [
            (engine.dataset, "open_topology", open_topology),
            (engine.dataset, "new_link", new_link),
            (engine.dataset, "Watch", lambda: Watch(self.loop.time)),
            (engine.reservations, "monotonic", self.loop.time),
            (engine.history, "read_clock", lambda: int(self.loop.now * 1e9)),
        ]
        originals = [(module, name, getattr(module, name)) for module, name, _ in replaced]
        for module, name, ours in replaced:
            setattr(module, name, ours)
        try:
            yield
        finally:
            for module, name, theirs in originals:
                setattr(module, name, theirs)
