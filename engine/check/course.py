"""The order of the answers of each partition, and what became of operation ids.

An answer is judged when every operation that was under way has told its version, or can only have a later
one. So what is kept is the open part of the history, the reservations and the operation ids, and no more.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from msgspec import Struct

from engine.check import wider
from engine.check.books import Books
from engine.check.effects import SECOND, SEQ_BITS, SEQUENCES, show
from engine.check.findings import Findings
from engine.check.reading import Arguments
from engine.check.requests import Doubt, number_of
from engine.check.stock import Life
from engine.events import parse_version
from engine.history import Begin

EFFECT, SEEN = 0, 1


class Memory(Struct, gc=False):
    """What is known of an operation id."""

    sent: int
    """Its first request, member for member."""
    content: int = 0
    """The request that had the effect, as far as it is compared; 0 while that is not known."""
    is_learnt: bool = False
    """Whether the effect is known from a repeat alone."""
    attempts: int = 0
    is_mixed: bool = False
    """Whether it came with more than one content."""
    begun: int = 0
    """When it was first sent, or first sent with effect."""
    version: int = 0
    """Of its effect; 0 while none is known."""
    told: int = 0
    """When that was told."""
    answer: int = 0
    operation: int = -1
    doubts: "tuple[tuple[int, Doubt], ...]" = ()
    """What the books hold open because the outcome is unknown, for each content that was sent."""


class Operation(Struct):
    """An operation that is under way."""

    number: int
    name: str
    arguments: Arguments
    begun: int
    partitions: tuple[int, ...]
    floors: tuple[int, ...]
    """The latest version of each that anybody had been told when it began."""
    key: str = ""
    memory: Memory | None = None
    content: int = 0
    life: Life | None = None
    life_told: int = 0
    is_over: bool = False
    crosses: bool = False
    """Whether it asks for a basket over several partitions."""


class Partition:
    """The order of one partition's answers."""

    def __init__(self, books: Books, begin: int) -> None:
        self.books = books
        self.told = self.acknowledged = begin
        self.epoch = begin >> SEQ_BITS
        self.is_judged = True
        self.under_way = deque[tuple[Operation, int]]()
        self.waiting: list[tuple[int, int, int, int, Callable[[], None]]] = []


class Course:
    """What all judging stands on; each part of the judge is a class on top of it."""

    def __init__(self, begins: Sequence[Begin]) -> None:
        self.findings = Findings()
        self.counts = self.findings.counts
        self.notes: dict[str, None] = {}
        first = min(begins, key=lambda begin: begin.time)
        self._partitions = first.partitions
        self._retention = min(begin.retention_seconds for begin in begins) * SECOND // 2
        self._orders = []
        late = 0
        for partition, text in enumerate(first.begins):
            begin = number_of(text)
            is_whole = parse_version(text).seq == 0
            late += not is_whole
            self._orders.append(Partition(Books(partition, begin, self.findings, is_whole=is_whole), begin))
        if late:
            self.notes[
                f"{late} of {first.partitions} partitions were in use before the recording began: what they "
                "held then is not known, so their quantities are not judged"
            ] = None
        self._locations = dict[str, int]()
        self._deleted = set[str]()
        self._kits = wider.Kits()
        self._buffered = set[str]()
        """Channels that leave units to others."""
        self._serial = count()
        self.operations = self.unknown = self._now = 0

    # ---------------------------------------------------------------- order

    def _tell(
        self,
        operation: Operation,
        partition: int,
        version: int,
        rank: int,
        time: int,
        judge: Callable[[], None] | None,
        *,
        is_ordered: bool = True,
    ) -> None:
        """An answer tells a version. It is judged in its turn; None has nothing more to judge."""
        order = self._orders[partition]
        floor = 0
        for known, least in zip(operation.partitions, operation.floors, strict=True):
            if known == partition:
                floor = least
        if version >> SEQ_BITS > order.epoch:
            self._change_epoch(order, version, operation, rank)
        if is_ordered and order.is_judged:
            self.counts["answers in order"] += 1
            if version < floor or (rank == EFFECT and version == floor):
                self.findings.blame(
                    "I11",
                    f"partition {partition}",
                    f"version {show(version)} was told to one that began after {show(floor)} was told",
                    operation.number,
                )
        order.told = max(order.told, version)
        if rank == EFFECT:
            order.acknowledged = max(order.acknowledged, version)
        if order.is_judged and judge is not None:
            heapq.heappush(order.waiting, (version, rank, next(self._serial), time, judge))

    def _change_epoch(self, order: Partition, version: int, operation: Operation, rank: int) -> None:
        order.epoch = version >> SEQ_BITS
        # Who reads first after a restart sees what was told last; an effect goes on from there.
        seq = (version & SEQUENCES) - (rank == EFFECT)
        if seq >= order.told & SEQUENCES:
            return
        if seq >= order.acknowledged & SEQUENCES:
            # Somebody read what nobody had been promised: it was not everywhere yet, and is undone.
            self.counts["versions read and undone"] += 1
            return
        self.findings.blame(
            "I7",
            f"partition {order.books.partition}",
            f"version {show(version)} follows {show(order.acknowledged)}: what was acknowledged is undone",
            operation.number,
        )
        order.is_judged = order.books.is_whole = False

    def _is_remembered(self, since: int, until: int) -> bool:
        """Whether what had its effect then must still be remembered; clocks may be an hour apart."""
        return until - since < self._retention

    def _take_first(self, operation: Operation, version: int, answer: int, *, replayed: bool) -> bool:
        """Whether an answer tells an effect that is not known yet. Blames one that comes twice."""
        memory = operation.memory
        assert memory is not None
        is_known = memory.version > 0 and self._is_remembered(memory.begun, operation.begun)
        if replayed:
            self.counts["replays judged"] += is_known
            if is_known and (version, answer) != (memory.version, memory.answer):
                self.findings.blame(
                    "I2",
                    f"operation id {id_of(operation)}",
                    "a repeat got another answer than the first",
                    operation.number,
                    memory.operation,
                )
            elif is_known and memory.content not in {0, operation.content}:
                self.findings.blame(
                    "I2",
                    f"operation id {id_of(operation)}",
                    "a request with other content was answered as a repeat",
                    operation.number,
                    memory.operation,
                )
            elif not memory.version and memory.attempts == 1 and self._is_whole(operation):
                self.findings.blame(
                    "I10",
                    f"operation id {id_of(operation)}",
                    "its first sending was answered as a repeat",
                    operation.number,
                )
            if memory.version > 0:
                return False
        elif is_known and memory.is_learnt and (version, answer) == (memory.version, memory.answer):
            # A repeat overtook the first answer.
            memory.is_learnt, memory.content = False, operation.content
            return False
        elif is_known:
            self.findings.blame(
                "I2",
                f"operation id {id_of(operation)}",
                f"took effect twice, at versions {show(memory.version)} and {show(version)}",
                operation.number,
                memory.operation,
            )
        self.counts["effects under an operation id"] += 1
        if memory.version:
            memory.begun = operation.begun
        memory.version, memory.answer, memory.operation = version, answer, operation.number
        memory.told = self._now
        memory.content, memory.is_learnt = 0 if replayed else operation.content, replayed
        return True

    def _is_whole(self, operation: Operation) -> bool:
        return all(self._orders[partition].books.is_whole for partition in operation.partitions)


def settle_doubt(memory: Memory) -> None:
    for _, doubt in memory.doubts:
        doubt.close()
    memory.doubts = ()


def id_of(operation: Operation) -> str:
    return operation.key.partition(" ")[2].replace("\0", "", 1)
