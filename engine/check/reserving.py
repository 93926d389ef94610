"""What callers are told of reservations: how they were made, what became of them, how they stand."""

from engine.check import reading, wider
from engine.check.books import Books
from engine.check.course import EFFECT, SEEN, Course, Operation, settle_doubt
from engine.check.effects import show
from engine.check.lives import View
from engine.check.reading import Arguments, Entry, ToldReservation
from engine.check.requests import (
    answer_of,
    deadline_of,
    number_of,
    pool_asked,
    pool_told,
    request_of,
    sum_lines,
    sum_told,
    view_told,
)
from engine.check.stock import Life
from engine.ids import parse_reservation_id


class Reservations(Course):
    """Judges reserves, and the verbs on a reservation that keep its lines."""

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
        settle_doubt(memory)
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
        seen = pool_told(told) if life.floats else told
        asked = pool_asked(arguments) if life.floats else arguments
        request = request_of(operation.name, asked, [place[:2] for place in sum_told(seen)])
        view = view_told(seen)
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
        if life.floats:
            view = view_told(pool_told(told))
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

    def _trace(self, life: Life, told: ToldReservation, version: int, operation: Operation) -> None:
        if not life.is_followed:
            wider.trace(self.findings, life, told, version, operation.number)
