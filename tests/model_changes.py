"""The reference model of reservations that change: units that go elsewhere, other lines."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.model import Call, Model, Place, RefusedError, Reservation, Share


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
        if reservation.parts is not None:
            raise RefusedError("spans_partitions", version)
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
        is_same = [(place, share.held) for place, share in reservation.shares.items()] == list(chosen.items())
        homes = {self.partition(sku) for sku, _ in chosen}
        if (reservation.parts is not None and not is_same) or (
            reservation.parts is None and homes != {reservation.partition}
        ):
            raise RefusedError("spans_partitions", version)
        asked = [(sku, location) for sku, _, location in call.lines]
        self._take(reservation, shares, asked)
        reservation.places = tuple(asked)

    def _check_open(self, reservation: Reservation) -> None:
        if reservation.state not in {"held", "committed"}:
            raise self._not_held(reservation)

    def _take(self, reservation: Reservation, shares: dict[Place, Share], asked: list[Place]) -> None:
        """Gives a reservation other shares, if what grows fits; `asked` has the position of each line."""
        if reservation.parts is not None:
            return
        version, old = self.sequence(reservation.partition), reservation.shares
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
        claimed = {place[0]: share.promised_at for place, share in old.items() if _open(share)}
        for place in {**old, **shares}:
            was, now = old.get(place, Share(0)), shares.get(place, Share(0))
            self.positions[place].held += now.held - was.held
            self.positions[place].allocated += now.committed - was.committed
            now.promised_at = claimed.get(place[0], version + 1)
        reservation.shares = shares


def _open(share: Share | None) -> int:
    return 0 if share is None else share.held + share.committed


def _add(share: Share, held: int, committed: int) -> None:
    share.quantity += held + committed
    share.held += held
    share.committed += committed
