"""What shoppers ask. A new verb is a function that makes an operation, and a row of `OPERATIONS`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine import Inventory, Line, Location, LocationKind, Movement, MovementKind, ReserveRequest
from engine.ids import parse_reservation_id
from engine.keys import partition_of
from engine.types import Move

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from engine import Reservation

LOCATIONS = ("s1", "s2")
STOCK = 6
"""Units of each position at the start: few, so that shoppers fight for the last one."""
LONGEST_TTL_SECONDS = 20


@dataclass(eq=False)
class Operation:
    """Something a shopper wants. It may be sent as often as one likes, by whom one likes."""

    name: str
    send: Callable[[Inventory], Awaitable[Any]]
    changes: bool = True
    open: int = 0
    """How many of its sendings may still have their effect: no answer told what became of them."""


@dataclass
class Shop:
    """What all shoppers of a schedule know."""

    random: Random
    partitions: int
    crosses: bool
    """Whether a basket may lie in several partitions."""
    skus: list[str]
    reservations: dict[str, None] = field(default_factory=dict)
    """Every reservation that anyone was told of."""
    keys: list[str] = field(default_factory=list)

    def new_key(self, kind: str) -> str:
        """An id that nobody has used; now and then one that somebody has."""
        if self.keys and self.random.random() < 0.03:
            return self.random.choice(self.keys)
        key = f"{kind}-{len(self.keys)}"
        self.keys.append(key)
        return key

    def op_id(self) -> str | None:
        """An operation id, or none."""
        return self.new_key("op") if self.random.random() < 0.5 else None

    def some_reservation(self) -> str | None:
        """Mostly one of the latest."""
        known = list(self.reservations)[-8:] if self.random.random() < 0.8 else list(self.reservations)
        return self.random.choice(known) if known else None

    def lines(self, most: int = 3, home: int | None = None) -> list[Line]:
        """A basket: all of one partition (that of its `home`, if it has one) or, where baskets cross,
        anything from anywhere.
        """
        random, skus = self.random, self.skus
        if not self.crosses or random.random() < 0.3:
            if home is None:
                home = partition_of(random.choice(skus), self.partitions)
            skus = [sku for sku in skus if partition_of(sku, self.partitions) == home]
        return [
            Line(random.choice(skus), random.choice((1, 1, 1, 2, 3)), random.choice(LOCATIONS))
            for _ in range(random.choice(range(1, most + 1)))
        ]

    def note(self, answer: Reservation | Exception) -> None:
        """Remembers a reservation that an answer tells of."""
        if not isinstance(answer, Exception):
            self.reservations[answer.id] = None


def choose_skus(random: Random) -> list[str]:
    """Some SKUs, of whichever partitions."""
    return random.sample([f"sku-{number}" for number in range(40)], random.choice((2, 4, 8)))


def openings(shop: Shop) -> list[Operation]:
    """What makes the shop ready: its places, and goods in them."""
    places = [_saving(Location(location, LocationKind.STORE)) for location in LOCATIONS]
    goods = [
        _recording(Movement(f"opening {sku} {location}", MovementKind.RECEIVE, sku, location, STOCK))
        for sku in shop.skus
        for location in LOCATIONS
    ]
    return places + goods


def _saving(location: Location) -> Operation:
    return Operation("save_location", lambda inventory: inventory.save_location(location))


def _recording(movement: Movement) -> Operation:
    return Operation(movement.kind.value, lambda inventory: inventory.record(movement))


# ---------------------------------------------------------------- operations


def reserve(shop: Shop) -> Operation:
    key, lines = shop.new_key("cart"), shop.lines()
    ttl_seconds = shop.random.choice((1, 2, 5, LONGEST_TTL_SECONDS))

    async def send(inventory: Inventory) -> Reservation:
        held = await inventory.reserve(key, lines, ttl_seconds=ttl_seconds)
        shop.note(held)
        return held

    return Operation("reserve", send)


def reserve_many(shop: Shop) -> Operation:
    asked = [ReserveRequest(shop.new_key("cart"), shop.lines(2), ttl_seconds=3) for _ in range(3)]

    async def send(inventory: Inventory) -> list[Reservation | Exception]:
        answers = await inventory.reserve_many(asked)
        for answer in answers:
            shop.note(answer)
        return answers

    return Operation("reserve_many", send)


def _of_reservation(shop: Shop, name: str, send: Callable[[Inventory, str], Any]) -> Operation | None:
    reservation = shop.some_reservation()
    return None if reservation is None else Operation(name, lambda inventory: send(inventory, reservation))


def commit(shop: Shop) -> Operation | None:
    random, op_id = shop.random, shop.op_id()
    fulfil, keep, retake = random.random() < 0.2, random.random() < 0.3, random.random() < 0.3
    lines = shop.lines(1) if random.random() < 0.2 else None
    return _of_reservation(
        shop,
        "commit",
        lambda inventory, reservation: inventory.commit(
            reservation,
            lines=lines,
            remainder="keep" if keep else "release",
            fulfil=fulfil,
            if_expired="retake" if retake else "fail",
            op_id=op_id,
        ),
    )


def commit_many(shop: Shop) -> Operation | None:
    chosen = shop.random.sample(list(shop.reservations), min(3, len(shop.reservations)))
    return Operation("commit_many", lambda inventory: inventory.commit_many(chosen)) if chosen else None


def release(shop: Shop) -> Operation | None:
    op_id, lines = shop.op_id(), shop.lines(1) if shop.random.random() < 0.2 else None
    return _of_reservation(
        shop, "release", lambda inventory, one: inventory.release(one, lines=lines, op_id=op_id)
    )


def extend(shop: Shop) -> Operation | None:
    op_id, seconds = shop.op_id(), shop.random.choice((1, 5, LONGEST_TTL_SECONDS))
    return _of_reservation(shop, "extend", lambda inventory, one: inventory.extend(one, seconds, op_id=op_id))


def fulfil(shop: Shop) -> Operation | None:
    op_id, lines = shop.op_id(), shop.lines(1) if shop.random.random() < 0.2 else None
    return _of_reservation(
        shop, "fulfil", lambda inventory, one: inventory.fulfil(one, lines=lines, op_id=op_id)
    )


def cancel(shop: Shop) -> Operation | None:
    op_id, lines = shop.op_id(), shop.lines(1) if shop.random.random() < 0.2 else None
    return _of_reservation(
        shop, "cancel", lambda inventory, one: inventory.cancel(one, lines=lines, op_id=op_id)
    )


def replace_lines(shop: Shop) -> Operation | None:
    reservation, op_id = shop.some_reservation(), shop.op_id()
    routed = parse_reservation_id(reservation) if reservation else None
    if reservation is None or routed is None:
        return None
    lines = shop.lines(home=routed[0] % shop.partitions)
    return Operation(
        "replace_lines", lambda inventory: inventory.replace_lines(reservation, lines, op_id=op_id)
    )


def move_units(shop: Shop) -> Operation | None:
    key, lines = shop.new_key("move"), shop.lines(2)
    moves = [
        Move(line.sku, line.location, next(place for place in LOCATIONS if place != line.location), 1)
        for line in lines
    ]
    return _of_reservation(shop, "move_units", lambda inventory, one: inventory.move(one, moves, op_id=key))


def move(shop: Shop) -> Operation:
    random = shop.random
    kind = random.choice(list(MovementKind))
    quantity = random.choice((-2, -1, 1, 2)) if kind is MovementKind.ADJUST else random.choice((1, 2))
    sku, location = random.choice(shop.skus), random.choice(LOCATIONS)
    return _recording(Movement(shop.new_key("fact"), kind, sku, location, quantity))


def ask_availability(shop: Shop) -> Operation:
    sku = shop.random.choice(shop.skus)
    return Operation("availability", lambda inventory: inventory.availability(sku), changes=False)


def ask_stock(shop: Shop) -> Operation:
    sku = shop.random.choice(shop.skus)
    return Operation("stock", lambda inventory: inventory.stock(sku), changes=False)


def ask_reservation(shop: Shop) -> Operation | None:
    asked = _of_reservation(shop, "reservation", lambda inventory, one: inventory.reservation(one))
    if asked is not None:
        asked.changes = False
    return asked


OPERATIONS: dict[Callable[[Shop], Operation | None], int] = {
    reserve: 10,
    reserve_many: 1,
    commit: 5,
    commit_many: 1,
    release: 2,
    extend: 2,
    fulfil: 2,
    cancel: 2,
    replace_lines: 4,
    move_units: 2,
    move: 2,
    ask_availability: 2,
    ask_stock: 1,
    ask_reservation: 1,
}
"""What shoppers may ask, and how often compared with the rest."""
_MAKERS, _WEIGHTS = list(OPERATIONS), list(OPERATIONS.values())


def next_operation(shop: Shop) -> Operation:
    """What a shopper wants now."""
    while True:
        (make,) = shop.random.choices(_MAKERS, _WEIGHTS)
        made = make(shop)
        if made is not None:
            return made
