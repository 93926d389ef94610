"""One pass over merged histories: ids, the order of answers, and for each partition its books.

An answer is judged when every operation that was under way has told its version, or can only have a later
one. So what is kept is the open part of the history, the reservations and the operation ids, and no more.
"""

import gc
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from time import monotonic

import msgspec
from msgspec import Struct

from engine.check import reading, wider
from engine.check.books import SECOND, SEQ_BITS, SEQUENCES, Books, Life, show
from engine.check.findings import Findings, Violation, reference
from engine.check.lives import RESOLVING, View
from engine.check.reading import Arguments, Entry, Read, ToldReservation
from engine.check.requests import (
    Doubt,
    answer_of,
    content_of,
    deadline_of,
    is_plain,
    location_of,
    number_of,
    places_of,
    quantity_of,
    request_of,
    sum_lines,
    sum_told,
    view_told,
)
from engine.check.wider import CHANGING, COUNTING, POLICIES
from engine.events import parse_version
from engine.history import Begin
from engine.ids import parse_reservation_id
from engine.keys import partition_of
from engine.outcomes import Outcome
from engine.types import Item, Location

READING = frozenset(
    {
        *("reservation", "availability", "availability_of", "nearby", "stock"),
        *("location", "locations", "pool", "pools", "channel", "channels", "item", "items"),
        *("policy", "policies", "fence", "fences", "plan", "availability_by", "alternatives"),
        *("conditions", "counts_wanted", "history", "pickups"),
        *("availability_to", "can_reserve", "has_kits", "promises", "uncovered"),
    }
)
SETTINGS = {
    **{f"save_{word}": 1 for word in ("location", "pool", "channel", "item")},
    **{f"delete_{word}": 3 for word in ("location", "pool", "channel", "item")},
    "save_document": 1,
    "set_supply": 1,
}
"""Operations on settings, documents and supplies, and how many effects one may have in each partition."""
MAKING = frozenset({"reserve", "source"})
FACTS = COUNTING | {"record"}
WITH_IDS = RESOLVING | CHANGING | MAKING | FACTS
KNOWN = READING | SETTINGS.keys() | POLICIES | WITH_IDS | {"sweep"}
STATE_WORDS = frozenset(
    {
        Outcome.RESERVATION_EXPIRED,
        Outcome.NOT_COMMITTED,
        Outcome.ALREADY_COMMITTED,
        Outcome.ALREADY_RELEASED,
        Outcome.ALREADY_FULFILLED,
        Outcome.ALREADY_CANCELLED,
        Outcome.EXCEEDS_OPEN_QUANTITY,
    }
)
NOT_TAKEN = frozenset(
    {
        "invalid_request",
        Outcome.OVERLOADED,
        Outcome.MEMORY_FULL,
        Outcome.REPLICAS_UNAVAILABLE,
        Outcome.STORAGE_UNAVAILABLE,
    }
)
EFFECT, SEEN = 0, 1


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


class _Partition:
    """The order of one partition's answers."""

    def __init__(self, books: Books, begin: int) -> None:
        self.books = books
        self.told = self.acknowledged = begin
        self.epoch = begin >> SEQ_BITS
        self.is_judged = True
        self.under_way = deque[tuple[Operation, int]]()
        self.waiting: list[tuple[int, int, int, int, Callable[[], None]]] = []


class _SavedItem(Struct):
    item: Item


class _SavedLocation(Struct):
    location: Location


class Judge:
    """Takes the lines of histories in the order of time; `finish` says what was found."""

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
            self._orders.append(_Partition(Books(partition, begin, self.findings, is_whole=is_whole), begin))
        if late:
            self.notes[
                f"{late} of {first.partitions} partitions were in use before the recording began: what they "
                "held then is not known, so their quantities are not judged"
            ] = None
        self._memories: dict[str, Memory] = {}
        self._under_way: dict[int, Operation] = {}
        self._locations = dict[str, int]()
        self._deleted = set[str]()
        self._kits = wider.Kits()
        self._serial = count()
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
        if name in CHANGING or name == "source":
            self._begin_loose(operation)
        if name in COUNTING | POLICIES:
            self._begin_unjudged(operation)
        movement = arguments.movement
        if movement is not None and not is_plain(movement):
            for partition in partitions:
                self._orders[partition].books.position(movement.sku, movement.location).is_judged = False
        self._remember(operation, entry)
        self._under_way[number] = operation
        for partition, floor in zip(partitions, floors, strict=True):
            self._orders[partition].under_way.append((operation, floor))

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
        elif name in {"save_item", "save_location"}:
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

    def _bring_forward(self, order: _Partition) -> None:
        """Judges what can have nothing before it any more."""
        under_way, waiting = order.under_way, order.waiting
        while under_way and under_way[0][0].is_over:
            under_way.popleft()
        while waiting and (not under_way or waiting[0][0] <= under_way[0][1]):
            _, _, _, time, judge = heapq.heappop(waiting)
            order.books.reach(time)
            judge()

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

    def _change_epoch(self, order: _Partition, version: int, operation: Operation, rank: int) -> None:
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

    # ---------------------------------------------------------------- reserve

    def _take_reserved(self, operation: Operation, entry: Entry) -> None:
        told = reading.read_reservation(entry.answer)
        arguments, memory = operation.arguments, operation.memory
        routed = parse_reservation_id(told.id)
        if memory is None or routed is None or arguments.lines is None:
            return
        partition = routed[0] % self._partitions
        self._check_own(operation, told)
        version = number_of(told.version)
        books = self._orders[partition].books
        if not self._take_first(operation, version, answer_of(told), replayed=told.replayed):
            self._tell(operation, partition, version, SEEN, entry.time, None, is_ordered=False)
            return
        self._check_made(operation, told)
        life = books.lives.get(told.id)
        if life is None:
            life = books.lives[told.id] = Life(told.id, is_followed=told.id not in books.lost)
        life.deadline = max(life.deadline, deadline_of(memory.begun, arguments.ttl_seconds))
        life.expires_ms = told.expires_ms or 0
        life.told = max(life.told, version)
        life.touched = max(life.touched, operation.begun)
        lines = sum_lines(arguments.lines)
        if not life.positions:
            life.positions = books.place(lines)
        is_late = version <= books.version
        _settle_doubt(memory)
        self._tell(
            operation,
            partition,
            version,
            EFFECT,
            entry.time,
            lambda: books.make(life, lines, version, operation.number, is_late=is_late),
            is_ordered=not told.replayed,
        )

    def _check_made(self, operation: Operation, told: ToldReservation) -> None:
        """What was just made is held, for as long as was asked."""
        ttl_seconds = operation.arguments.ttl_seconds
        if told.expires_ms != told.created_ms + ttl_seconds * 1000 or told.state != "held":
            self.findings.blame(
                "I6",
                told.id,
                f"was made {told.state} at {told.created_ms} until {told.expires_ms}, for {ttl_seconds} s",
                operation.number,
            )

    def _check_own(self, operation: Operation, told: ToldReservation) -> None:
        """An answer belongs to the request that it was given to."""
        arguments, self_told = operation.arguments, True
        if operation.name == "reserve":
            asked = [(line.sku, line.location, line.quantity) for line in arguments.lines or ()]
            self_told = asked == [(line.sku, line.location, line.quantity) for line in told.lines] and (
                arguments.owner,
                arguments.channel,
            ) == (told.owner, told.channel)
        elif operation.name == "source":
            self_told = wider.is_as_asked(self._kits, arguments, told) and arguments.owner == told.owner
        elif told.id != arguments.reservation:
            self_told = False
        for line in told.lines:
            if line.held + line.committed + line.fulfilled + line.released != line.quantity or (
                min(line.held, line.committed, line.fulfilled, line.released) < 0
            ):
                self.findings.blame(
                    "I5", told.id, f"the parts of {line} are not its quantity", operation.number
                )
        self.counts["answers of their own request"] += 1
        if not self_told:
            self.findings.blame(
                "I14", told.id, f"answers a {operation.name} that asked for something else", operation.number
            )

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
                    f"operation id {_id_of(operation)}",
                    "a repeat got another answer than the first",
                    operation.number,
                    memory.operation,
                )
            elif is_known and memory.content not in {0, operation.content}:
                self.findings.blame(
                    "I2",
                    f"operation id {_id_of(operation)}",
                    "a request with other content was answered as a repeat",
                    operation.number,
                    memory.operation,
                )
            elif not memory.version and memory.attempts == 1 and self._is_whole(operation):
                self.findings.blame(
                    "I10",
                    f"operation id {_id_of(operation)}",
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
                f"operation id {_id_of(operation)}",
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

    # ---------------------------------------------------------------- verbs on a reservation

    def _life(self, operation: Operation, told: ToldReservation, partition: int) -> Life:
        books = self._orders[partition].books
        life = books.lives.get(told.id)
        if life is None:
            life = books.lives[told.id] = Life(told.id)
            books.adopt(life, sum_told(told))
        operation.life = life
        return life

    def _take_resolved(self, operation: Operation, entry: Entry) -> None:
        told = reading.read_reservation(entry.answer)
        if not operation.partitions:
            return
        (partition,) = operation.partitions
        arguments, memory = operation.arguments, operation.memory
        self._check_own(operation, told)
        life, version = self._life(operation, told, partition), number_of(told.version)
        books = self._orders[partition].books
        lines = sum_told(told)
        request = request_of(operation.name, arguments, [(sku, location) for sku, location, _ in lines])
        view = view_told(told)
        if request is None and not life.is_followed:
            # Its units may have gone elsewhere since.
            request = request_of(operation.name, Arguments(), ())
        if request is None:
            self.findings.blame("I14", told.id, "was told of other lines than it has", operation.number)
            return
        life.told = max(life.told, version)
        if (
            told.replayed
            and memory is not None
            and memory.version
            # One that began earlier may have found the reservation as it asked, before the id was used.
            and (memory.told <= operation.begun or arguments.lines is not None)
        ):
            self._take_first(operation, version, answer_of(told), replayed=True)
            self._tell(operation, partition, version, SEEN, entry.time, None, is_ordered=False)
            return
        if told.replayed and (memory is None or arguments.lines is None):
            # The reservation is as asked already; perhaps by an earlier sending, perhaps by another request.
            is_first = memory is None or memory.attempts == 1
            self._tell_standing(operation, life, told, view, version, entry)
            if is_first:
                self._tell(
                    operation, partition, version, SEEN, entry.time,
                    lambda: books.repeat(life, request, version, operation.number), is_ordered=False,
                )  # fmt: skip
            return
        if memory is not None and not self._take_first(
            operation, version, answer_of(told), replayed=told.replayed
        ):
            # A repeat overtook this answer and told the effect.
            self._tell(operation, partition, version, SEEN, entry.time, None, is_ordered=False)
            return
        life.touched = max(life.touched, operation.begun)
        key = operation.key

        def judge() -> None:
            books.resolve(life, request, view, version, operation.number, key)
            if not told.replayed:
                self._trace(life, told, version, operation)
            if request.verb == "extend":
                deadline = deadline_of(operation.begun, arguments.ttl_seconds)
                books.extend(life, deadline, told.expires_ms or 0, version, operation.number)

        self._tell(operation, partition, version, EFFECT, entry.time, judge, is_ordered=not told.replayed)

    def _take_read(self, operation: Operation, entry: Entry) -> None:
        told = reading.read_reservation(entry.answer)
        if not operation.partitions:
            return
        self._check_own(operation, told)
        life, version = self._life(operation, told, operation.partitions[0]), number_of(told.version)
        life.told = max(life.told, version)
        self._tell_standing(operation, life, told, view_told(told), version, entry)

    def _tell_standing(
        self,
        operation: Operation,
        life: Life,
        told: ToldReservation,
        view: tuple[str, View],
        version: int,
        entry: Entry,
    ) -> None:
        """A caller was told how a reservation stands. It may have changed long ago, but not since."""
        (partition,) = operation.partitions
        books = self._orders[partition].books
        may_be_old = operation.memory is not None and operation.memory.attempts > 1
        if version < operation.life_told and not may_be_old and self._orders[partition].is_judged:
            self.findings.blame(
                "I11",
                told.id,
                f"was told as of {show(version)}, after {show(operation.life_told)} of it had been told",
                operation.number,
                life.last,
            )
        self._tell(
            operation, partition, version, SEEN, entry.time,
            lambda: self._observe(books, life, told, view, version, operation), is_ordered=False,
        )  # fmt: skip

    def _observe(
        self,
        books: Books,
        life: Life,
        told: ToldReservation,
        view: tuple[str, View],
        version: int,
        operation: Operation,
    ) -> None:
        books.observe(life, view, version, operation.number)
        if not told.replayed:
            self._trace(life, told, version, operation)

    # ---------------------------------------------------------------- wider verbs

    def _begin_saving(self, name: str, entry: Entry) -> None:
        """An item may be a kit; defaults of policies withhold units at who knows how many positions."""
        try:
            if name == "save_item":
                item = msgspec.json.decode(entry.arguments, type=_SavedItem).item
                self._kits.note(item.sku, item.components)
                is_plain_setting = item.tracked and item.policy is None
            else:
                location = msgspec.json.decode(entry.arguments, type=_SavedLocation).location
                is_plain_setting = location.policy is None
        except msgspec.DecodeError:
            return
        if not is_plain_setting:
            self.notes["settings have policies: quantities are not judged"] = None
            for order in self._orders:
                order.books.counts_numbers = False

    def _begin_loose(self, operation: Operation) -> None:
        arguments = operation.arguments
        if operation.name == "mark_ready":
            skus = set[str]()
        else:
            skus = {line.sku for line in arguments.lines or ()} | {move.sku for move in arguments.moves or ()}
            skus |= self._kits.members(line.sku for line in arguments.wanted or ())
        for sku in skus:
            wider.loosen(self._orders[partition_of(sku, self._partitions)].books, None, (sku,))
        for partition in operation.partitions:
            books = self._orders[partition].books
            books.has_floats |= operation.name == "source"
            books.unseen += 1
            if operation.name != "source":
                wider.loosen(books, operation.life, ())
                if operation.life is None:
                    books.lose(arguments.reservation)

    def _begin_unjudged(self, operation: Operation) -> None:
        """A count reaches back in time; a policy withholds units from a moment that no answer tells."""
        arguments = operation.arguments
        named = arguments.count or arguments.policy
        sku, location = (arguments.sku, arguments.location) if named is None else (named.sku, named.location)
        books = self._orders[partition_of(sku, self._partitions)].books
        books.position(sku, location).is_judged = False
        if operation.name in POLICIES:
            books.unseen += 1

    def _take_sourced(self, operation: Operation, entry: Entry) -> None:
        told = reading.read_reservation(entry.answer)
        memory = operation.memory
        routed = parse_reservation_id(told.id)
        if memory is None or routed is None:
            return
        partition, version = routed[0] % self._partitions, number_of(told.version)
        self._check_own(operation, told)
        self._check_made(operation, told)
        books = self._orders[partition].books
        if not self._take_first(operation, version, wider.answer_of(told), replayed=told.replayed):
            self._tell(operation, partition, version, SEEN, entry.time, None, is_ordered=False)
            return
        life = books.lives.get(told.id)
        if life is None:
            life = books.lives[told.id] = Life(told.id, is_followed=False)
        life.told = max(life.told, version)
        life.touched = max(life.touched, operation.begun)
        self._claim(operation, partition, version, told, life, entry)

    def _take_changed(self, operation: Operation, entry: Entry) -> None:
        told, memory = reading.read_reservation(entry.answer), operation.memory
        if not operation.partitions:
            return
        (partition,), version = operation.partitions, number_of(told.version)
        self._check_own(operation, told)
        life = self._life(operation, told, partition)
        life.told = max(life.told, version)
        # What is ready stays ready, whoever said so first.
        stands = told.replayed and (memory is None or operation.name == "mark_ready")
        if stands or (
            memory is not None
            and not self._take_first(operation, version, answer_of(told), replayed=told.replayed)
        ):
            self._tell(operation, partition, version, SEEN, entry.time, None, is_ordered=False)
            return
        life.touched = max(life.touched, operation.begun)
        self._claim(operation, partition, version, told, life, entry)

    def _claim(
        self,
        operation: Operation,
        partition: int,
        version: int,
        told: ToldReservation,
        life: Life,
        entry: Entry,
    ) -> None:
        books = self._orders[partition].books

        def judge() -> None:
            books.claim(version, told.id, operation.number)
            if not told.replayed:
                self._trace(life, told, version, operation)

        self._tell(operation, partition, version, EFFECT, entry.time, judge, is_ordered=not told.replayed)

    def _trace(self, life: Life, told: ToldReservation, version: int, operation: Operation) -> None:
        if not life.is_followed:
            wider.trace(self.findings, life, told, version, operation.number)

    def _take_counted(self, operation: Operation, entry: Entry) -> None:
        told, memory = reading.read_movement(entry.answer), operation.memory
        if not operation.partitions:
            return
        (partition,), version = operation.partitions, number_of(told.version)
        answer = hash((told.on_hand, told.available, told.version, told.uncovered, told.effect))
        books = self._orders[partition].books
        if memory is not None and not self._take_first(operation, version, answer, replayed=told.replayed):
            self._tell(operation, partition, version, SEEN, entry.time, None, is_ordered=False)
            return
        self._tell(
            operation, partition, version, EFFECT, entry.time,
            lambda: books.claim(version, f"a count at version {show(version)}", operation.number),
            is_ordered=not told.replayed,
        )  # fmt: skip

    # ---------------------------------------------------------------- facts and readings

    def _take_recorded(self, operation: Operation, entry: Entry) -> None:
        told, memory = reading.read_movement(entry.answer), operation.memory
        movement = operation.arguments.movement
        if memory is None or movement is None:
            return
        (partition,) = operation.partitions
        books, version = self._orders[partition].books, number_of(told.version)
        answer = hash((told.on_hand, told.available, told.version, told.uncovered))
        if not self._take_first(operation, version, answer, replayed=told.replayed):
            self._tell(operation, partition, version, SEEN, entry.time, None, is_ordered=False)
            return
        _settle_doubt(memory)
        quantity = quantity_of(movement)
        position = books.position(movement.sku, movement.location)
        if told.ignored is not None:
            # A count has it in, which this history may not know.
            quantity, position.is_judged = told.effect, False
        is_late = version <= books.version
        self._tell(
            operation, partition, version, EFFECT, entry.time,
            lambda: books.move(position, quantity, told, version, operation.number, is_late=is_late),
            is_ordered=not told.replayed,
        )  # fmt: skip

    def _take_availability(self, operation: Operation, entry: Entry) -> None:
        # To an owner its own holds are free: that is no word on the books as they are.
        if operation.arguments.owner is None:
            self._tell_availability(operation, reading.read_availability(entry.answer), entry)

    def _take_availabilities(self, operation: Operation, entry: Entry) -> None:
        for told in reading.read_availabilities(entry.answer):
            if told is not None:
                self._tell_availability(operation, told, entry)

    def _tell_availability(self, operation: Operation, told: reading.ToldAvailability, entry: Entry) -> None:
        partition = partition_of(told.sku, self._partitions)
        books, version, asked = (
            self._orders[partition].books,
            number_of(told.version),
            operation.arguments.locations,
        )
        total = sum(max(0, place.available) for place in told.locations)
        if total != told.available:
            self.findings.blame(
                "I4", told.sku, f"{told.available} in all, but {total} by location", operation.number
            )
        self._tell(
            operation, partition, version, SEEN, entry.time,
            lambda: books.compare_availability(told, told.sku, asked, version, operation.number),
        )  # fmt: skip

    def _take_stock(self, operation: Operation, entry: Entry) -> None:
        rows = reading.read_positions(entry.answer)
        if not rows or not operation.partitions:
            return
        (partition,) = operation.partitions
        books, version, sku = (
            self._orders[partition].books,
            number_of(rows[0].version),
            operation.arguments.sku,
        )
        self._tell(
            operation, partition, version, SEEN, entry.time,
            lambda: books.compare_stock(rows, sku, version, operation.number),
        )  # fmt: skip

    # ---------------------------------------------------------------- refused and unknown

    def _take_refused(self, operation: Operation, entry: Entry) -> None:
        word, arguments, number = entry.word, operation.arguments, operation.number
        if word == Outcome.IDEMPOTENCY_MISMATCH:
            memory = operation.memory
            self.counts[f"refusals judged: {word}"] += 1
            if memory and not memory.is_mixed and self._is_whole(operation):
                self.findings.blame(
                    "I9",
                    f"operation id {_id_of(operation)}",
                    "was refused as used with other content, but it never was",
                    number,
                    memory.operation,
                )
            return
        if word == Outcome.RESERVATION_NOT_FOUND:
            self._judge_loss(operation, entry.time)
            return
        if word == Outcome.LOCATION_NOT_FOUND and operation.name == "record":
            self._judge_location(operation)
            return
        if entry.version is None or len(operation.partitions) != 1 or operation.crosses:
            return
        (partition,) = operation.partitions
        books, version, life = self._orders[partition].books, number_of(entry.version), operation.life
        judge: Callable[[], None] | None = None
        if operation.name in RESOLVING and word in STATE_WORDS | {Outcome.INSUFFICIENT_STOCK}:
            if life is not None:
                judge = lambda: self._refuse(books, life, operation, word, version)  # noqa: E731 - a later step
        elif word == Outcome.INSUFFICIENT_STOCK:
            short = reading.read_shortages(entry.answer)
            judge = lambda: books.compare_shortages(short, version, number)  # noqa: E731 - a later step
        elif operation.name == "reserve" and arguments.lines:
            places = [(line.sku, line.location) for line in arguments.lines]
            judge = lambda: books.missing(places, word, version, number)  # noqa: E731 - a later step
        elif operation.name == "availability" and word == Outcome.SKU_NOT_FOUND:
            asked = arguments.locations
            sku = arguments.sku
            judge = lambda: books.compare_availability(None, sku, asked, version, number)  # noqa: E731 - same
        self._tell(operation, partition, version, SEEN, entry.time, judge)

    def _refuse(self, books: Books, life: Life, operation: Operation, word: str, version: int) -> None:
        if life.positions:
            request = request_of(operation.name, operation.arguments, places_of(life))
            if request is not None:
                if len({partition_of(sku, self._partitions) for sku, _ in places_of(life)}) > 1:
                    # Nobody may take such a basket anew once it has lapsed.
                    request = request._replace(retake=False)
                books.refuse(life, request, word, version, operation.number)

    def _judge_loss(self, operation: Operation, time: int) -> None:
        life = operation.life
        if life is None or not operation.life_told or not self._orders[operation.partitions[0]].is_judged:
            return
        self.counts["refusals judged: reservation_not_found"] += 1
        if self._is_remembered(life.touched, time) and life.touched:
            self.findings.blame(
                "I7", life.id, "was acknowledged, and is not found any more", operation.number, life.last
            )

    def _judge_location(self, operation: Operation) -> None:
        movement = operation.arguments.movement
        assert movement is not None
        known = self._locations.get(movement.location)
        self.counts["refusals judged: location_not_found"] += 1
        if known is not None and known < operation.begun and movement.location not in self._deleted:
            self.findings.blame(
                "I9", f"location {movement.location}", "was saved, and is not found", operation.number
            )

    def _doubt(self, operation: Operation) -> None:
        """The outcome is unknown: it may have happened, or may still happen."""
        self.unknown += 1
        memory, arguments, name = operation.memory, operation.arguments, operation.name
        if name in SETTINGS or len(operation.partitions) != 1 or (memory is not None and memory.version):
            return
        order = self._orders[operation.partitions[0]]
        books = order.books
        if name in RESOLVING:
            life = books.lives.get(arguments.reservation)
            request = None if life is None else request_of(name, arguments, places_of(life))
            if life is not None and request is not None:
                books.hide(life, operation.key, request)
            else:
                books.unseen += 1
                books.lose(arguments.reservation)
        elif name == "source" or name in CHANGING | COUNTING:
            books.unseen += 2
        elif memory is not None and name in {"reserve", "record"}:
            books.unseen += 2
            if all(content != operation.content for content, _ in memory.doubts):
                memory.doubts = (*memory.doubts, (operation.content, Doubt(books, arguments)))


def _settle_doubt(memory: Memory) -> None:
    for _, doubt in memory.doubts:
        doubt.close()
    memory.doubts = ()


def _id_of(operation: Operation) -> str:
    return operation.key.partition(" ")[2].replace("\0", "", 1)


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
