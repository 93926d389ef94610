"""Sourcing, verbs that give a reservation other lines, and settings that withhold units."""

import msgspec
from msgspec import Struct

from engine.check import reading, wider
from engine.check.course import EFFECT, SEEN, Operation, settle_doubt
from engine.check.reading import Entry, ToldReservation
from engine.check.requests import answer_of, deadline_of, number_of, pool_lines, sum_told
from engine.check.reserving import Reservations
from engine.check.stock import Life
from engine.ids import parse_reservation_id
from engine.keys import partition_of
from engine.types import Channel, Item, Location


class _SavedItem(Struct):
    item: Item


class _SavedLocation(Struct):
    location: Location


class _SavedChannel(Struct):
    channel: Channel


class Changes(Reservations):
    """Judges what the other verbs do to reservations, and notes what no answer tells the whole of."""

    def _begin_saving(self, name: str, entry: Entry) -> None:
        """An item may be a kit; defaults of policies withhold units at who knows how many positions."""
        try:
            if name == "save_item":
                item = msgspec.json.decode(entry.arguments, type=_SavedItem).item
                self._kits.note(item.sku, item.components)
                if item.components:
                    for order in self._orders:
                        order.books.loose |= order.books.floating & self._kits.members([item.sku])
                is_plain_setting = item.tracked and item.policy is None
            elif name == "save_channel":
                channel = msgspec.json.decode(entry.arguments, type=_SavedChannel).channel
                is_plain_setting = True
                if channel.buffer is not None:
                    self._buffered.add(channel.id)
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
        """The lines of a reservation may become others."""
        arguments = operation.arguments
        if operation.name == "mark_ready":
            skus = set[str]()
        else:
            skus = {line.sku for line in arguments.lines or ()} | {move.sku for move in arguments.moves or ()}
        for sku in skus:
            wider.loosen(self._orders[partition_of(sku, self._partitions)].books, None, (sku,))
        for partition in operation.partitions:
            books = self._orders[partition].books
            books.unseen += 1
            wider.loosen(books, operation.life, ())
            if operation.life is None:
                books.lose(arguments.reservation)

    def _begin_sourced(self, operation: Operation) -> None:
        """Units may lie, and be moved to, wherever their SKU has a location. Of what kits are made the
        history does not tell at every moment; units of inbound goods are promised before they are there.
        """
        arguments = operation.arguments
        asked = {line.sku for line in arguments.wanted or ()}
        skus = self._kits.members(asked)
        is_loose = skus != asked or (arguments.rules is not None and arguments.rules.from_inbound)
        for sku in skus:
            books = self._orders[partition_of(sku, self._partitions)].books
            (books.loose if is_loose else books.floating).add(sku)
        for partition in operation.partitions:
            books = self._orders[partition].books
            books.has_floats = True
            books.unseen += 1

    def _begin_policy(self, operation: Operation) -> None:
        """A policy withholds units from a moment that no answer tells."""
        arguments = operation.arguments
        named = arguments.policy
        sku, location = (arguments.sku, arguments.location) if named is None else (named.sku, named.location)
        books = self._orders[partition_of(sku, self._partitions)].books
        books.position(sku, location).is_judged = False
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
        lines = pool_lines((line.sku, line.quantity) for line in told.lines)
        life = books.lives.get(told.id)
        if life is None:
            is_followed = not operation.crosses and told.id not in books.lost
            life = books.lives[told.id] = Life(told.id, is_followed=is_followed, floats=True)
            life.positions = books.place(lines)
        life.deadline = max(life.deadline, deadline_of(memory.begun, operation.arguments.ttl_seconds))
        life.expires_ms = told.expires_ms or 0
        life.told = max(life.told, version)
        life.touched = max(life.touched, operation.begun)
        settle_doubt(memory)
        chosen = [] if operation.crosses or told.replayed else sum_told(told)
        is_late, made = version <= books.version, life

        def judge() -> None:
            if not is_late:
                books.check_places(chosen, version, operation.number)
            books.make(made, lines, version, operation.number, is_late=is_late)
            if not told.replayed:
                self._trace(made, told, version, operation)

        self._tell(operation, partition, version, EFFECT, entry.time, judge, is_ordered=not told.replayed)

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
