"""What was refused, and what nobody was told the outcome of."""

from collections.abc import Callable

from engine.check import reading
from engine.check.books import Books
from engine.check.course import SEEN, Course, Operation, id_of
from engine.check.lives import RESOLVING, Request
from engine.check.reading import Entry
from engine.check.requests import Doubt, number_of, places_of, pool_asked, request_of
from engine.check.stock import Life
from engine.check.verbs import FACTS, MAKING, SETTINGS, STATE_WORDS
from engine.check.wider import CHANGING
from engine.keys import partition_of
from engine.outcomes import Outcome


class Refusals(Course):
    """Judges refusals, and keeps open what is unknown."""

    def _take_refused(self, operation: Operation, entry: Entry) -> None:
        word, arguments, number = entry.word, operation.arguments, operation.number
        if word == Outcome.IDEMPOTENCY_MISMATCH:
            memory = operation.memory
            self.counts[f"refusals judged: {word}"] += 1
            if memory and not memory.is_mixed and self._is_whole(operation):
                self.findings.blame(
                    "I9",
                    f"operation id {id_of(operation)}",
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
        elif word == Outcome.INSUFFICIENT_STOCK and (
            operation.name == "source" or arguments.channel in self._buffered
        ):
            # It may be refused what is there: by its pools, or to leave some to others.
            self.counts["refusals not judged"] += 1
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
            request = _request_on(life, operation)
            if life.floats and word == Outcome.EXCEEDS_OPEN_QUANTITY:
                # By line, and where the lines were nobody may know.
                return
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
            request = None if life is None else _request_on(life, operation)
            if life is not None and request is not None:
                books.hide(life, operation.key, request)
            else:
                books.unseen += 1
                books.lose(arguments.reservation)
        elif name in CHANGING:
            books.unseen += 2
        elif name in MAKING | FACTS:
            books.unseen += 2
            if memory is None:
                Doubt(books, arguments)
            elif all(content != operation.content for content, _ in memory.doubts):
                memory.doubts = (*memory.doubts, (operation.content, Doubt(books, arguments)))


def _request_on(life: Life, operation: Operation) -> Request | None:
    """A verb on a reservation as the rules take it, by SKU where its lines may move."""
    asked = pool_asked(operation.arguments) if life.floats else operation.arguments
    return request_of(operation.name, asked, places_of(life))
