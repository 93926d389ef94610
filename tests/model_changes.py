"""The reference model of reservations that change: units that go elsewhere, other lines."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.model import Call, Model, Place, Refusal, RefusedError, Reservation, Share


class ChangingModel(Model):
    """The model with moves and replaced lines."""

    def _verb(self, call: Call) -> Callable[[Call, Reservation, Mapping[Place, int] | None], None]:
        changing = {"move": self._move_elsewhere, "replace": self._replace_lines}
        return changing[call.verb] if call.verb in changing else super()._verb(call)

    def _move_elsewhere(
        self, call: Call, reservation: Reservation, chosen: Mapping[Place, int] | None
    ) -> None:
        """Committed units go first; a new line stands where the first one that it comes from stood."""
        assert chosen
        assert call.lines
        self._check_open(reservation)
        if not reservation.shares.keys() >= chosen.keys():
            raise RefusedError("invalid_request", None)
        before = {place: share.held + share.committed for place, share in reservation.shares.items()}
        version = self.sequence(reservation.partition)
        excess = [place for place, units in chosen.items() if units > before[place]]
        if excess:
            named = ((*place, chosen[place], before[place]) for place in excess)
            raise RefusedError("exceeds_open_quantity", version, named)
        left = {place: replace(share) for place, share in reservation.shares.items()}
        added: dict[Place, Share] = {}
        for place, units in chosen.items():
            committed = min(units, left[place].committed)
            _add(left[place], committed - units, -committed)
            _add(added.setdefault((place[0], call.target), Share(0)), units - committed, committed)
        for place, share in added.items():
            if place in left:
                _add(left[place], share.held, share.committed)
        shares: dict[Place, Share] = {}
        for place, share in left.items():
            if share.quantity:
                shares[place] = share
            target = (place[0], call.target)
            if place in chosen and target not in left:
                shares.setdefault(target, added[target])
        asked = [(sku, call.target) for sku, _, _ in call.lines]
        self._take(reservation, shares, asked)
        reservation.places = tuple(shares)

    def _replace_lines(
        self, call: Call, reservation: Reservation, chosen: Mapping[Place, int] | None
    ) -> None:
        assert chosen
        assert call.lines
        self._check_open(reservation)
        version = self.sequence(reservation.partition)
        for column in ("committed", "fulfilled"):
            if reservation.total(column):
                raise RefusedError(f"already_{column}", version)
        shares = {place: Share(units, held=units) for place, units in chosen.items()}
        asked = [(sku, location) for sku, _, location in call.lines]
        self._take(reservation, shares, asked)
        reservation.places = tuple(asked)

    def _check_open(self, reservation: Reservation) -> None:
        if reservation.state not in {"held", "committed"}:
            raise self._not_held(reservation)

    def _take(self, reservation: Reservation, shares: dict[Place, Share], asked: list[Place]) -> None:
        """Gives a reservation other shares, if what grows fits; `asked` has the position of each line."""
        homes = {self.partition(sku) for sku, _ in shares}
        if reservation.parts is not None or homes != {reservation.partition}:
            if _plan(reservation.shares) != _plan(shares):
                self._take_apart(reservation, shares, asked)
            for place, share in shares.items():
                share.promised_at = reservation.shares.get(place, share).promised_at
            reservation.shares = shares
            return
        version, old = self.sequence(reservation.partition), reservation.shares
        self._check_room(old, shares, asked, version)
        claimed = {place[0]: share.promised_at for place, share in old.items() if _open(share)}
        for place in {**old, **shares}:
            was, now = old.get(place, Share(0)), shares.get(place, Share(0))
            self.positions[place].held += now.held - was.held
            self.positions[place].allocated += now.committed - was.committed
            now.promised_at = claimed.get(place[0], version + 1)
        reservation.shares = shares

    def _check_room(
        self, old: Mapping[Place, Share], shares: Mapping[Place, Share], asked: list[Place], version: int
    ) -> None:
        """Whether all that is new is stocked, and what grows fits."""
        stocked = {sku for sku, _ in self.positions}
        if any(place not in self.positions for place in shares):
            is_unknown = any(sku not in stocked for sku, _ in shares)
            raise RefusedError("sku_not_found" if is_unknown else "not_stocked", version)
        grown = {place: _open(share) - _open(old.get(place)) for place, share in shares.items()}
        short = {place for place, units in grown.items() if 0 < units > self.positions[place].promisable}
        if short:
            named = (
                (
                    number,
                    *place,
                    _open(shares[place]),
                    self.positions[place].available + _open(old.get(place)),
                )
                for number, place in enumerate(asked)
                if place in short
            )
            raise RefusedError("insufficient_stock", version, named)

    # ---------------------------------------------------------------- over several partitions

    def is_apart(self, call: Call) -> bool:
        """Also a change of lines that several partitions must have a part in."""
        reservation = self.reservations.get(call.reservation)
        if call.verb not in {"move", "replace"} or reservation is None:
            return super().is_apart(call)
        homes = {self.partition(sku) for sku, _, _ in call.lines or ()}
        return reservation.parts is not None or homes != {reservation.partition}

    def _take_apart(self, reservation: Reservation, shares: dict[Place, Share], asked: list[Place]) -> None:
        """Each partition that gets something holds it, each that has no line any more is asked as well, with
        one event each; then the home decides. Where one refuses, the home says that it is over, and who held
        something gives it back.
        """
        home = reservation.partition
        if reservation.parts is None:
            version = self._next(home)
            reservation.versions = range(version, version + 1)
            reservation.parts = {place: replace(share) for place, share in reservation.shares.items()}
        refused, offered = list[Refusal](), dict[int, int]()
        # As it was read: what makes room for one part may be the basket itself, which has lapsed.
        old = {place: replace(share) for place, share in reservation.shares.items()}
        for partition in dict.fromkeys(self.partition(place[0]) for place in {**old, **shares}):
            had, wanted = self._lying_in(partition, old), self._lying_in(partition, shares)
            grows = any(_open(share) > _open(had.get(place)) for place, share in wanted.items())
            if not grows and (wanted or not any(map(_open, had.values()))):
                continue
            self._catch_up(reservation, old, partition)
            refusal = self._refuse_there(partition, had, wanted, asked)
            if refusal is not None:
                refused.append(refusal)
            else:
                offered[partition] = self._next(partition)
        is_over = reservation.state not in {"held", "committed"}
        if refused or is_over:
            over = self._not_held(reservation)
            if not is_over:
                version = self._next(home)
                reservation.versions = range(version, version + 1)
            for partition in offered:
                self._next(partition)
            self._follow_but(reservation, offered)
            if not refused:
                raise over
            words = ("sku_not_found", "not_stocked", "insufficient_stock")
            word = min((refusal.word for refusal in refused), key=words.index)
            chosen = [refusal for refusal in refused if refusal.word == word]
            named = sorted(part for refusal in chosen for part in refusal.named)
            raise RefusedError(word, chosen[0].version, named)
        reservation.offered = offered

    def _refuse_there(
        self, partition: int, had: dict[Place, Share], wanted: dict[Place, Share], asked: list[Place]
    ) -> Refusal | None:
        """Why a partition has no room for its share, once what has lapsed there was given back."""
        for _ in range(2):
            try:
                self._check_room(had, wanted, asked, self.sequence(partition))
            except RefusedError as error:
                refusal = error.refusal
                if refusal.word != "insufficient_stock":
                    return refusal
                self.give_back(partition)
            else:
                return None
        return refusal

    def _lying_in(self, partition: int, shares: Mapping[Place, Share]) -> dict[Place, Share]:
        return {place: share for place, share in shares.items() if self.partition(place[0]) == partition}

    def _catch_up(self, reservation: Reservation, old: Mapping[Place, Share], partition: int) -> None:
        """A part that was not told of the last step, which lapsed some of it, is told before it gets more."""
        assert reservation.parts is not None
        had = self._lying_in(partition, reservation.parts)
        if any(_open(part) != _open(old[place]) for place, part in had.items()):
            self._next(partition)
            for place, part in had.items():
                share = old[place]
                self.positions[place].held += share.held - part.held
                reservation.parts[place] = replace(share)

    def _follow_but(self, reservation: Reservation, offered: Mapping[int, int]) -> None:
        """Parts that held something for the change give all back with one event, others follow as ever."""
        before = dict(self.sequences)
        self._follow(reservation)
        for partition in offered:
            self.sequences[partition] = before[partition]

    def _follow(self, reservation: Reservation) -> None:
        """The parts also have the new lines, with an event each where that is any change for them."""
        if reservation.offered is None:
            super()._follow(reservation)
            return
        assert reservation.parts is not None
        old, shares, offered = reservation.parts, reservation.shares, reservation.offered
        reservation.offered = None
        for partition in dict.fromkeys(self.partition(place[0]) for place in {**old, **shares}):
            had, wanted = self._lying_in(partition, old), self._lying_in(partition, shares)
            if partition in offered or (wanted and _plan(had) != _plan(wanted)):
                self._next(partition)
            claimed = {place[0]: share.promised_at for place, share in had.items() if _open(share)}
            for place in {**had, **wanted}:
                was, now = had.get(place, Share(0)), wanted.get(place, Share(0))
                self.positions[place].held += now.held - was.held
                self.positions[place].allocated += now.committed - was.committed
                now.promised_at = claimed.get(place[0], offered.get(partition, 0))
        reservation.parts = {place: replace(share) for place, share in shares.items()}


def _plan(shares: Mapping[Place, Share]) -> list[tuple[Place, int]]:
    """What a record says of lines."""
    return [(place, share.quantity) for place, share in shares.items()]


def _open(share: Share | None) -> int:
    return 0 if share is None else share.held + share.committed


def _add(share: Share, held: int, committed: int) -> None:
    share.quantity += held + committed
    share.held += held
    share.committed += committed
