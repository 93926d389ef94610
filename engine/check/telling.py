"""What callers are told of the stock: by facts, by counts and by reading."""

from engine.check import reading
from engine.check.course import EFFECT, SEEN, Course, Operation, settle_doubt
from engine.check.effects import show
from engine.check.reading import Entry
from engine.check.requests import number_of, quantity_of
from engine.keys import partition_of


class Facts(Course):
    """Judges facts, counts and readings."""

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
