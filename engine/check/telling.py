"""What callers are told of the stock: by facts, by counts and by reading."""

from engine.check import reading
from engine.check.course import EFFECT, SEEN, Course, Operation, settle_doubt
from engine.check.reading import Entry, ToldMovement
from engine.check.requests import counted_of, number_of, quantity_of
from engine.check.stock import Position
from engine.keys import partition_of
from engine.types import Movement


class Facts(Course):
    """Judges facts, counts and readings."""

    def _begin_count(self, operation: Operation) -> None:
        counted = counted_of(operation.arguments)
        if counted is not None:
            sku, location, _ = counted
            books = self._orders[partition_of(sku, self._partitions)].books
            books.position(sku, location).is_counted = True

    def _take_counted(self, operation: Operation, entry: Entry) -> None:
        told, memory = reading.read_movement(entry.answer), operation.memory
        if not operation.partitions:
            return
        (partition,), version = operation.partitions, number_of(told.version)
        answer = hash((told.on_hand, told.available, told.version, told.uncovered, told.effect))
        books, counted = self._orders[partition].books, counted_of(operation.arguments)
        is_first = memory is None or self._take_first(operation, version, answer, replayed=told.replayed)
        if not is_first or counted is None:
            self._tell(operation, partition, version, SEEN, entry.time, None, is_ordered=False)
            return
        if memory is not None:
            settle_doubt(memory)
            if told.replayed and not self._is_remembered(memory.begun, operation.begun):
                # It is known by the position's history alone, and its answer tells of no effect.
                books.position(*counted[:2]).is_judged = False
        sku, location, quantity = counted
        position, is_late = books.position(sku, location), version <= books.version
        is_set = operation.name == "set_on_hand"
        self._tell(
            operation, partition, version, EFFECT, entry.time,
            lambda: books.count(
                position, quantity, told, version, operation.number, is_set=is_set, is_late=is_late
            ),
            is_ordered=not told.replayed,
        )  # fmt: skip

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
        settle_doubt(memory)
        quantity = effect = quantity_of(movement)
        position = books.position(movement.sku, movement.location)
        if told.ignored is not None:
            effect = 0
            self._check_ignored(operation, movement, position, told)
        is_late = version <= books.version
        self._tell(
            operation, partition, version, EFFECT, entry.time,
            lambda: books.move(
                position, effect, told, version, operation.number, flow=quantity, is_late=is_late
            ),
            is_ordered=not told.replayed,
        )  # fmt: skip

    def _check_ignored(
        self, operation: Operation, movement: Movement, position: Position, told: ToldMovement
    ) -> None:
        """A count has in what was before it. What is told as of now comes after all of them."""
        self.counts["facts before a count"] += 1
        was_counted = position.is_counted or not self._is_whole(operation)
        if not was_counted or movement.occurred_ms is None or told.effect:
            self.findings.blame(
                "I9",
                position.name,
                f"a fact was left out as {told.ignored}, which no count can have in",
                operation.number,
                position.last,
            )

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
            lambda: books.compare_stock(
                rows, sku, version, operation.number, is_whole=not operation.arguments.locations
            ),
        )  # fmt: skip
