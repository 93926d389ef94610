"""Drives the engine on a real server in the words of the model, with the clock in the test's hand."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from struct import calcsize, pack, unpack, unpack_from
from typing import cast

from redis.cluster import RedisCluster

from engine import (
    Count,
    Inventory,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    MovementResult,
    Refused,
    Reservation,
    keys,
)
from engine.dataset import open_dataset
from engine.errors import (
    ExceedsOpenQuantity,
    InsufficientStock,
    InvalidRequest,
    ReservationNotFound,
    SkuNotFound,
)
from engine.ids import keeper_of, parse_reservation_id, part_id, reservation_id
from engine.script import Library, assemble, read_sources
from engine.types import Move
from tests.model import (
    NOTHING_FURTHER,
    Answer,
    Booked,
    Call,
    Lines,
    Place,
    Policy,
    Position,
    Refusal,
    Told,
    Units,
    Verb,
)
from tests.model_changes import ChangingModel
from tests.model_facts import FACTS
from tests.servers import Control

CLOCK_KEY = "test:clock:"
"""And a partition's hash tag: a script of a cluster reads keys of its own slot alone."""
START_MS = 1_700_000_000_000
RETENTION_SECONDS = 7200
LOCATIONS = ("s1", "s2", "s7")

_CLOCK = f"""
local function read_clock()
  local _, _, tag = string_find(key_of.meta, '({{%d+}})')
  return tonumber(redis.call('GET', '{CLOCK_KEY}' .. tag))
end
"""
_HEAD = "<BHH3s3s"
_FORMATS = ("<4i", "<28s", "<12i", "<84s")
_NUMBER_SIZE, _CLAIM_SIZE = 7, 12


@cache
def scripts_with_our_clock() -> Library:
    """The scripts of this release, but the time is what `turn_clock` says."""
    includes, verbs = read_sources()
    return assemble({**includes, "clock": _CLOCK}, verbs)


def clock_keys(partitions: int) -> list[str]:
    """The clock of each partition."""
    return [f"{CLOCK_KEY}{{{partition}}}" for partition in range(partitions)]


def turn_clock(control: Control, partitions: int, now_ms: int) -> None:
    """Turns the clocks of all partitions, on one server at once."""
    clocks = dict.fromkeys(clock_keys(partitions), now_ms)
    if isinstance(control, RedisCluster):
        control.mset_nonatomic(clocks)
    else:
        control.mset(clocks)


def skus_in(partition: int, partitions: int) -> Iterator[str]:
    """Names of SKUs that belong to a partition."""
    names = (f"sku-{number}" for number in count(1))
    return (name for name in names if keys.partition_of(name, partitions) == partition)


@dataclass(frozen=True)
class Books:
    """Everything that the server has stored, in the model's words; read without the engine."""

    positions: Mapping[Place, Position]
    claims: Mapping[str, Sequence[bytes]]
    """Who has open claims on a SKU, by operation id, oldest promise first."""
    sequences: Mapping[int, int]


class Shop:
    """A fresh data set on a server, and the model of it. Build it with `open_shop`."""

    def __init__(self, url: str, control: Control, partitions: int, inventory: Inventory) -> None:
        self.url = url
        self.control = control
        self.partitions = partitions
        self.inventory = inventory
        self.names: dict[str, str] = {}
        self.model = ChangingModel(
            set(LOCATIONS),
            RETENTION_SECONDS * 1000,
            lambda sku: keys.partition_of(sku, partitions),
            START_MS,
            self._keeper_of,
            sequences=dict.fromkeys(range(partitions), len(LOCATIONS)),
            rank=lambda key: inventory.dataset.ids.of_movement("", key),
        )

    def _keeper_of(self, of_movement: bool, key: str) -> int:
        ids = self.inventory.dataset.ids
        operation = ids.of_movement("", key) if of_movement else ids.of_request("", key)
        return keeper_of(operation, self.partitions)

    async def another_inventory(self, url: str = "") -> Inventory:
        """One more user of the same data set, with connections of its own."""
        return await _open_inventory(url or self.url, self.partitions)

    def set_clock(self, now_ms: int) -> None:
        """Turns the server's clock and the model's."""
        turn_clock(self.control, self.partitions, now_ms)
        self.model.now_ms = now_ms

    def wait(self, seconds: float) -> None:
        """Lets time pass for the server and the model."""
        self.set_clock(self.model.now_ms + round(seconds * 1000))

    def id_of(self, name: str, sku: str | None = None) -> str:
        """The public id of the reservation that was made under this key, `sku` first, or never was."""
        if sku is None and name in self.names:
            return self.names[name]
        operation = self.inventory.dataset.ids.of_request("", name)
        made = reservation_id(keys.route_of(sku) if sku else 0, operation)
        if sku is not None:
            self.names[name] = made
        return made

    async def send(self, call: Call, inventory: Inventory | None = None) -> Answer:
        """Sends a request to the engine; the answer in the model's words."""
        inventory = inventory or self.inventory
        try:
            return await self._send(call, inventory)
        except Refused as refused:
            return tell_refusal(refused)
        except InvalidRequest:
            return Refusal("invalid_request")
        finally:
            # Where the parts of a basket follow slowly, its caller is answered before.
            await inventory.baskets.close()

    async def _send(self, call: Call, inventory: Inventory) -> Answer:
        lines = None if call.lines is None else [Line(*line) for line in call.lines]
        if call.verb in FACTS:
            return self._tell_movement(await send_fact(call, inventory))
        if call.verb == "reserve":
            assert lines
            assert call.key is not None
            held = await inventory.reserve(
                call.key, lines, ttl_seconds=call.ttl_seconds, reference=call.reference
            )
            assert held.id == self.id_of(call.key, lines[0].sku)
            return tell_reservation(held)
        target = self.id_of(call.reservation)
        if call.verb == "commit":
            told = await inventory.commit(
                target,
                lines=lines,
                remainder="keep" if call.keep else "release",
                fulfil=call.fulfil,
                if_expired="retake" if call.retake else "fail",
                reference=call.reference,
                op_id=call.key,
            )
        elif call.verb == "move":
            assert lines
            moves = [Move(line.sku, line.location, call.target, line.quantity) for line in lines]
            told = await inventory.move(target, moves, op_id=call.key or "unknown")
        elif call.verb == "replace":
            assert lines
            told = await inventory.replace_lines(target, lines, op_id=call.key)
        elif call.verb == "extend":
            told = await inventory.extend(target, call.ttl_seconds, op_id=call.key)
        else:
            verb = {"release": inventory.release, "fulfil": inventory.fulfil, "cancel": inventory.cancel}
            told = await verb[call.verb](target, lines=lines, op_id=call.key)
        assert told.id == target
        return tell_reservation(told)

    def _tell_movement(self, result: MovementResult) -> Booked:
        names = {public: name for name, public in self.names.items()}
        uncovered = tuple((names[broken.reservation], broken.quantity) for broken in result.uncovered)
        version = sequence_of(result.version)
        ignored = None if result.ignored is None else result.ignored.value
        return Booked(
            result.on_hand, result.available, version, uncovered, result.replayed, result.effect, ignored
        )

    async def compare_reservation(self, name: str) -> None:
        """A reservation reads as the model has it."""
        expected = self.model.reservations.get(name)
        try:
            found = tell_reservation(await self.inventory.reservation(self.id_of(name)))
        except ReservationNotFound:
            assert expected is None, f"{name} is lost"
            return
        assert expected is not None, f"{name} should be forgotten"
        assert found.version in expected.versions, name
        assert found == replace(expected.told(), version=found.version), name

    async def compare_availability(self, sku: str) -> None:
        """Availability reads as the model has it, and sums what is above zero."""
        expected = self.model.available(sku)
        try:
            read = await self.inventory.availability(sku)
        except SkuNotFound:
            assert isinstance(expected, Refusal), sku
            return
        places = {place.location: (place.available, place.status.value) for place in read.locations}
        assert places == expected
        assert read.available == sum(max(0, units) for units, _ in places.values())
        assert sequence_of(read.version) == self.model.sequence(self.model.partition(sku))

    def compare_books(self, skus: tuple[str, ...]) -> None:
        """What is stored for these SKUs is what the model has."""
        found = self.read_books(skus)
        expected = {place: position for place, position in self.model.positions.items() if place[0] in skus}
        assert found.positions == expected
        assert found.claims == {sku: self._expect_claims(sku) for sku in found.claims}
        assert found.sequences == {p: self.model.sequence(p) for p in found.sequences}

    def _expect_claims(self, sku: str) -> list[bytes]:
        promised = {
            name: share.promised_at
            for name, reservation in self.model.reservations.items()
            for place in reservation.shares
            if place[0] == sku and (share := reservation.promised(place)) and share.held + share.committed
        }
        return [self._claimant(name) for name in sorted(promised, key=lambda name: promised[name])]

    def _claimant(self, name: str) -> bytes:
        """Who has the claims of a reservation: itself, or its parts."""
        operation, reservation = (
            self.inventory.dataset.ids.of_request("", name),
            self.model.reservations[name],
        )
        if reservation.parts is None:
            return operation
        routed = parse_reservation_id(self.id_of(name))
        assert routed
        return part_id(operation, routed[0])

    def read_books(self, skus: tuple[str, ...]) -> Books:
        """Reads the stored counters, as `lua/lib/card.lua` packs them, and gives nothing back."""
        touched = sorted({keys.partition_of(sku, self.partitions) for sku in skus})
        # Of a cluster each partition is read at its own moment.
        pipeline = self.control.pipeline(transaction=not isinstance(self.control, RedisCluster))
        for partition in touched:
            pipeline.hgetall(keys.stock(partition))
        for partition in touched:
            pipeline.hget(keys.meta(partition), "seq")
        replies = pipeline.execute()
        stored = {field: raw for fields in replies[: len(touched)] for field, raw in fields.items()}
        positions: dict[Place, Position] = {}
        claims = {}
        for sku in skus:
            raw = stored.get(sku.encode())
            if raw is not None:
                card = decode_card(raw)
                positions |= {(sku, place): position for place, position in card.positions.items()}
                blocks = [
                    stored.get(b"%b\n\n%d" % (sku.encode(), block), b"")
                    for block in range(card.first, card.block)
                ]
                ids = b"".join((*blocks, card.claims))
                claims[sku] = [ids[at : at + _CLAIM_SIZE] for at in range(0, len(ids), _CLAIM_SIZE)]
        sequences = dict(zip(touched, map(int, replies[len(touched) :]), strict=True))
        return Books(positions, claims, sequences)

    def compare_ledgers(self) -> None:
        """Every partition's ledger has each sequence number once, and none is missing."""
        for partition in range(self.partitions):
            last = 0
            for entry, fields in self.control.xrange(keys.log(partition)):
                epoch, sequence = map(int, entry.split(b"-"))
                _, events = unpack("<6sH", fields[b"e"][:8])
                last += events
                assert (epoch, sequence) == (1, last)
            assert last == self.model.sequence(partition)

    def set_policy(self, place: Place, policy: Policy) -> None:
        """Gives a position the settings that no verb writes yet."""
        position = self.model.positions[place]
        position.policy = policy
        stock, sku = keys.stock(keys.partition_of(place[0], self.partitions)), place[0]
        raw = self.control.hget(stock, sku)
        assert raw is not None
        card = decode_card(raw)
        card.positions[place[1]] = position
        self.control.hset(stock, sku, encode_card(card))


async def open_shop(url: str, control: Control, partitions: int) -> Shop:
    """Empties the server and opens a data set with `LOCATIONS` on it."""
    control.flushall()
    turn_clock(control, partitions, START_MS)
    inventory = await _open_inventory(url, partitions)
    for location in LOCATIONS:
        await inventory.save_location(Location(location, LocationKind.STORE))
    return Shop(url, control, partitions, inventory)


async def _open_inventory(url: str, partitions: int) -> Inventory:
    return Inventory(
        await open_dataset(
            url,
            partitions=partitions,
            retention_seconds=RETENTION_SECONDS,
            scripts=scripts_with_our_clock(),
        )
    )


async def send_together(shop: Shop, calls: list[Call]) -> list[Answer]:
    """Sends requests at once, in this order, so that they reach the server as one batch."""
    return list(await asyncio.gather(*(shop.send(call) for call in calls)))


async def send_fact(call: Call, inventory: Inventory) -> MovementResult:
    """Tells a fact."""
    assert call.lines
    assert call.key is not None
    ((sku, quantity, location),) = call.lines
    if call.verb == "count":
        assert call.occurred_ms is not None
        return await inventory.count(Count(call.key, sku, location, quantity, call.occurred_ms))
    if call.verb == "set":
        return await inventory.set_on_hand(sku, location, quantity, expected=None, op_id=call.key)
    return await inventory.record(
        Movement(
            call.key,
            MovementKind(call.verb),
            sku,
            location,
            quantity,
            occurred_ms=call.occurred_ms,
            condition=call.condition or None,
            to_condition=call.to_condition or None,
        )
    )


def sequence_of(version: str) -> int:
    """The sequence number of a version, which here is always of the first epoch."""
    epoch, sequence = version.split(".")
    assert epoch == "1"
    return int(sequence)


def tell_reservation(told: Reservation) -> Told:
    """A reservation in the model's words, its lines summed per position."""
    units: dict[Place, Units] = {}
    for line in told.lines:
        assert line.quantity == line.held + line.committed + line.fulfilled + line.released
        before = units.get((line.sku, line.location), Units(0))
        units[line.sku, line.location] = Units(
            before.quantity + line.quantity,
            before.held + line.held,
            before.committed + line.committed,
            before.fulfilled + line.fulfilled,
            before.back + line.released,
        )
    return Told(
        told.state.value, told.expires_ms, sequence_of(told.version), units, told.reference, told.replayed
    )


def tell_refusal(refused: Refused) -> Refusal:
    """A refusal in the model's words."""
    named: tuple[tuple[object, ...], ...] = ()
    if isinstance(refused, InsufficientStock):
        named = tuple(
            (short.line, short.sku, short.location, short.requested, short.available)
            for short in refused.shortages
        )
    elif isinstance(refused, ExceedsOpenQuantity):
        named = tuple((much.sku, much.location, much.requested, much.open) for much in refused.excess)
    # Where there is no reservation, no books were looked at in the cached and in the uncached case alike.
    version = None if isinstance(refused, ReservationNotFound) else refused.version
    return Refusal(refused.outcome.value, None if version is None else sequence_of(version), named)


@dataclass
class Card:
    """A stored card."""

    first: int
    block: int
    positions: dict[str, Position]
    claims: bytes


def decode_card(packed: bytes) -> Card:
    """A stored card: a head, the names of its places, four or eight counters of each, claims."""
    form, places, size, first, block = unpack_from(_HEAD, packed)
    at = calcsize(_HEAD)
    names, at = packed[at : at + size], at + size
    positions: dict[str, Position] = {}
    for index in range(places):
        end = names.index(b"=")
        assert (names[:1], names[end + 1 : end + 3]) == (b"\n", pack("<H", index))
        numbers = list(unpack_from(_FORMATS[form], packed, at))
        if form % 2:
            wide = numbers[0]
            numbers = [
                int.from_bytes(wide[cut : cut + _NUMBER_SIZE], "little", signed=True)
                for cut in range(0, len(wide), _NUMBER_SIZE)
            ]
        on_hand, held, allocated, unsellable, *settings = numbers
        policy = Policy(unsellable, *(settings[:4] or (0, 0, 0, 0)), tuple(settings[4:]) or NOTHING_FURTHER)
        positions[names[1:end].decode()] = Position(on_hand, held, allocated, policy)
        names, at = names[end + 3 :], at + calcsize(_FORMATS[form])
    return Card(int.from_bytes(first, "little"), int.from_bytes(block, "little"), positions, packed[at:])


def encode_card(card: Card) -> bytes:
    """A card with the settings of every position."""
    names = b"".join(
        b"\n%b=%b" % (place.encode(), pack("<H", index)) for index, place in enumerate(card.positions)
    )
    counters = b"".join(
        pack(
            _FORMATS[2],
            position.on_hand,
            position.held,
            position.allocated,
            position.policy.unsellable,
            position.policy.safety_stock,
            position.policy.backorder_limit,
            position.policy.fenced,
            position.policy.low_stock,
            *position.policy.further,
        )
        for position in card.positions.values()
    )
    first, block = card.first.to_bytes(3, "little"), card.block.to_bytes(3, "little")
    return pack(_HEAD, 2, len(card.positions), len(names), first, block) + names + counters + card.claims


def fact(verb: str, key: str, sku: str, quantity: int, location: str) -> Call:
    """A movement as a call."""
    assert verb in FACTS
    return Call(cast("Verb", verb), key, ((sku, quantity, location),))


def reserve(key: str, *lines: tuple[str, int, str], ttl_seconds: int = 900) -> Call:
    """A reserve as a call."""
    chosen: Lines = lines
    return Call("reserve", key, chosen, ttl_seconds=ttl_seconds)
