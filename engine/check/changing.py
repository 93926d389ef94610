"""Sourcing, verbs that give a reservation other lines, and settings that withhold units."""

import msgspec
from msgspec import Struct

from engine.check import reading, wider
from engine.check.course import EFFECT, SEEN, Operation
from engine.check.reading import Entry, ToldReservation
from engine.check.requests import answer_of, number_of
from engine.check.reserving import Reservations
from engine.check.stock import Life
from engine.check.wider import POLICIES
from engine.ids import parse_reservation_id
from engine.keys import partition_of
from engine.types import Item, Location


class _SavedItem(Struct):
    item: Item


class _SavedLocation(Struct):
    location: Location


class Changes(Reservations):
    """Judges what the other verbs do to reservations, and notes what no answer tells the whole of."""

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
