"""One pass over merged histories: takes their lines in the order of time, and has each answer judged.

How an answer waits for its turn, and the ids, are in `course`; what is judged of it is in `reserving`,
`changing`, `telling` and `refusing`, and each partition's books in `books`.
"""

import gc
import heapq
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import msgspec
from msgspec import Struct

from engine.check import reading
from engine.check.changing import Changes
from engine.check.course import Memory, Operation, Partition
from engine.check.findings import Violation, reference
from engine.check.lives import RESOLVING
from engine.check.reading import Arguments, Entry, Read
from engine.check.refusing import Refusals
from engine.check.requests import content_of, is_plain, location_of
from engine.check.telling import Facts
from engine.check.verbs import FACTS, KNOWN, MAKING, NOT_TAKEN, SETTINGS, WITH_IDS
from engine.check.wider import CHANGING, COUNTING, POLICIES
from engine.history import Begin
from engine.ids import parse_reservation_id
from engine.keys import partition_of


class Report(Struct, frozen=True):
    """What was found. `counts` tells how much of what was looked at."""

    violations: Sequence[Violation]
    violation_count: int
    counts: dict[str, int]
    notes: Sequence[str]
    operations: int
    unknown: int
    processes: Sequence[str]
    elapsed_seconds: float

    @property
    def is_clean(self) -> bool:
        return self.violation_count == 0


class Judge(Changes, Facts, Refusals):
    """Takes the lines of histories in the order of time; `finish` says what was found."""

    def __init__(self, begins: Sequence[Begin]) -> None:
        super().__init__(begins)
        self._memories: dict[str, Memory] = {}
        self._under_way: dict[int, Operation] = {}
        self.operations = self.unknown = self._now = 0
        self._answers: dict[str, Callable[[Operation, Entry], None]] = {
            "reserve": self._take_reserved,
            "source": self._take_sourced,
            "record": self._take_recorded,
            **dict.fromkeys(COUNTING, self._take_counted),
            **dict.fromkeys(CHANGING, self._take_changed),
            "reservation": self._take_read,
            "availability": self._take_availability,
            "availability_of": self._take_availabilities,
            "stock": self._take_stock,
            **dict.fromkeys(RESOLVING, self._take_resolved),
        }

    # ---------------------------------------------------------------- lines

    def take(self, read: Read) -> None:
        """The next line."""
        entry, self._now = read.entry, read.time
        if entry is None:
            # The process is no more: nobody will learn what became of what it had under way.
            for number in [n for n in self._under_way if n >> 40 == read.file]:
                self._end(self._under_way.pop(number), self._doubt)
        elif entry.operation:
            self._begin(reference(read.file, entry.number), entry)
        else:
            operation = self._under_way.pop(reference(read.file, entry.number), None)
            if operation is not None:
                self._complete(operation, entry)

    def finish(self) -> None:
        """No line is left."""
        for order in self._orders:
            order.books.finish()
            self.counts["reservations"] += len(order.books.lives)
            self.counts["positions"] += sum(
                place.exists for places in order.books.positions.values() for place in places.values()
            )
        self.counts["operation ids"] = len(self._memories)

    def _begin(self, number: int, entry: Entry) -> None:
        self.operations += 1
        name = entry.operation
        self.counts[f"operations: {name}"] += 1
        if name in SETTINGS or name not in KNOWN:
            self._begin_other(name, entry)
        try:
            arguments = (
                reading.read_sourced(entry.arguments)
                if name == "source"
                else reading.read_arguments(entry.arguments)
            )
        except msgspec.DecodeError:
            arguments = Arguments()
        partitions = self._find_partitions(name, arguments)
        floors = tuple([self._orders[partition].told for partition in partitions])
        operation = Operation(number, name, arguments, entry.time, partitions, floors)
        if name in RESOLVING | CHANGING or name == "reservation":
            for partition in partitions:
                operation.life = self._orders[partition].books.lives.get(arguments.reservation)
            if operation.life is not None:
                operation.life_told = operation.life.told
        if name in MAKING | CHANGING and self._partitions > 1:
            self._begin_basket(operation)
        self._begin_wider(operation)
        self._remember(operation, entry)
        self._under_way[number] = operation
        for partition, floor in zip(partitions, floors, strict=True):
            self._orders[partition].under_way.append((operation, floor))

    def _begin_wider(self, operation: Operation) -> None:
        """From when an operation begins on, it may have happened."""
        name, movement = operation.name, operation.arguments.movement
        if name in CHANGING:
            self._begin_loose(operation)
        elif name == "source":
            self._begin_sourced(operation)
        elif name in POLICIES:
            self._begin_policy(operation)
        elif name in COUNTING:
            self._begin_count(operation)
        elif movement is not None and not is_plain(movement):
            for partition in operation.partitions:
                self._orders[partition].books.position(movement.sku, movement.location).is_judged = False

    def _begin_other(self, name: str, entry: Entry) -> None:
        if name not in SETTINGS:
            self.notes[f"{name} is not known to this release: quantities are not judged"] = None
            for order in self._orders:
                order.books.counts_numbers = order.books.is_whole = False
            return
        for order in self._orders:
            order.books.unseen += SETTINGS[name]
        if name == "delete_location":
            self._deleted.add(location_of(entry.arguments))
        elif name in {"save_item", "save_location", "save_channel"}:
            self._begin_saving(name, entry)

    def _begin_basket(self, operation: Operation) -> None:
        """The parts of a basket follow its home by versions that no answer tells."""
        arguments = operation.arguments
        skus = {line.sku for line in arguments.lines or ()}
        if operation.name != "reserve":
            skus.update(line.sku for line in arguments.wanted or ())
            skus.update(move.sku for move in arguments.moves or ())
            skus = self._kits.members(skus)
        touched = {partition_of(sku, self._partitions) for sku in skus}
        if operation.name in CHANGING:
            touched.update(operation.partitions)
        operation.crosses = len(touched) > 1
        for partition in touched if operation.crosses else ():
            self._orders[partition].books.counts_numbers = False
        if operation.crosses:
            self.counts["baskets over several partitions"] += 1
            self.notes["baskets lie in several partitions: quantities in those are not judged"] = None

    def _find_partitions(self, name: str, arguments: Arguments) -> tuple[int, ...]:
        if name in RESOLVING | CHANGING or name == "reservation":
            routed = parse_reservation_id(arguments.reservation)
            return () if routed is None else (routed[0] % self._partitions,)
        if name == "reserve" and arguments.lines:
            skus = [arguments.lines[0].sku]
        elif name == "record" and arguments.movement is not None:
            skus = [arguments.movement.sku]
        elif name == "source" and arguments.wanted:
            first = arguments.wanted[0]
            skus = [next(iter(self._kits.expand([(first.sku, 1)])))]
        elif arguments.count is not None:
            skus = [arguments.count.sku]
        elif arguments.policy is not None:
            skus = [arguments.policy.sku]
        else:
            skus = [arguments.sku] if arguments.sku else arguments.skus
        if self._partitions == 1:
            return (0,) if skus else ()
        return tuple({partition_of(sku, self._partitions) for sku in skus})

    def _remember(self, operation: Operation, entry: Entry) -> None:
        arguments, name = operation.arguments, operation.name
        fact = arguments.movement if name == "record" else arguments.count
        own = arguments.op_id if fact is None else fact.id
        if own is None or not operation.partitions or name not in WITH_IDS:
            return
        kind = "m" if name in FACTS else "r"
        operation.key = f"{kind} {arguments.caller}\0{own}"
        sent = hash((name, bytes(entry.arguments)))
        operation.content = content_of(name, arguments)
        memory = self._memories.get(operation.key)
        if memory is None:
            memory = self._memories[operation.key] = Memory(sent, begun=operation.begun)
        elif memory.sent != sent:
            memory.is_mixed = True
        memory.attempts += 1
        operation.memory = memory

    def _complete(self, operation: Operation, entry: Entry) -> None:
        name, word = operation.name, entry.word
        self.counts[f"outcomes: {word or entry.outcome}"] += 1
        if entry.outcome == "unknown":
            self._end(operation, self._doubt)
        elif entry.outcome == "ok":
            taken = self._answers.get(name)
            if taken is not None:
                self._end(operation, lambda it: taken(it, entry))
            else:
                if name == "save_location":
                    self._locations.setdefault(location_of(entry.answer), entry.time)
                self._end(operation, _nothing)
        elif word in NOT_TAKEN:
            self._end(operation, _nothing)
        else:
            self._end(operation, lambda it: self._take_refused(it, entry))

    def _end(self, operation: Operation, judge: Callable[[Operation], None]) -> None:
        judge(operation)
        operation.is_over = True
        for partition in operation.partitions:
            self._bring_forward(self._orders[partition])

    def _bring_forward(self, order: Partition) -> None:
        """Judges what can have nothing before it any more."""
        under_way, waiting = order.under_way, order.waiting
        while under_way and under_way[0][0].is_over:
            under_way.popleft()
        while waiting and (not under_way or waiting[0][0] <= under_way[0][1]):
            version, _, _, time, judge = heapq.heappop(waiting)
            order.books.turn(version)
            order.books.reach(time)
            judge()


def _nothing(_: Operation) -> None:
    """Says nothing that could be judged."""


def check(paths: Sequence[Path]) -> Report:
    """Judges the histories of all who changed a data set. Raises `UnreadableHistoryError`."""
    started = monotonic()
    begins = reading.read_begins(paths)
    judge = Judge(begins)
    # Nothing here is in a circle, and looking for one among millions of records takes most of the time.
    is_collecting = gc.isenabled()
    gc.disable()
    try:
        for read in reading.read_lines(paths):
            judge.take(read)
        judge.finish()
    finally:
        if is_collecting:
            gc.enable()
    return Report(
        violations=judge.findings.violations,
        violation_count=judge.findings.violation_count,
        counts=dict(sorted(judge.counts.items())),
        notes=list(judge.notes),
        operations=judge.operations,
        unknown=judge.unknown,
        processes=[begin.process for begin in begins],
        elapsed_seconds=monotonic() - started,
    )
