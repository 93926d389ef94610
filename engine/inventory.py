"""The engine's public face: one method for each verb.

Each method checks its arguments, plans, makes one script call, and returns or raises. All raise
`Unavailable` (nothing happened) and, where they change something, `Unconfirmed` (send it again with the
same operation id). `caller` scopes operation ids: two callers' equal ids have nothing to do with one
another.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic

from msgspec.structs import replace

from engine import limits, planner
from engine.api_keys import ApiKeys
from engine.cards import read_availability, read_positions, read_rooms
from engine.carts import Carts
from engine.commands import Answered, Commands
from engine.dataset import Dataset
from engine.document_kinds import decode_document
from engine.documents import Document
from engine.errors import LocationNotFound, SkuNotFound, Unavailable, Unconfirmed
from engine.facts import Facts
from engine.keys import partition_of
from engine.outcomes import Outcome
from engine.pickup_queue import PickupQueue
from engine.pickups import Pickups, rank_alternatives
from engine.policies import Policies
from engine.promises import Promises
from engine.sourcing_plan import Rules, units_of_line
from engine.sweep import sweep_all, trim_some
from engine.transfers import Transfers
from engine.types import (
    Alternative,
    Availability,
    Capability,
    LocationAvailability,
    Nearby,
    NearbyLocation,
    Position,
    Status,
)

READ_TOGETHER = 64
"""SKUs whose availability is read at once."""
ALIGN_SECONDS = 5.0
"""How often a sweeper looks for settings that did not reach all partitions."""


class Inventory(Facts, Transfers, Promises, Policies, Carts, Pickups, PickupQueue, ApiKeys):
    """The stock of every location, and the promises on it. Build it with `engine.connect`."""

    def __init__(self, dataset: Dataset) -> None:
        super().__init__(dataset)
        self._sweeps: dict[int, asyncio.Task[object]] = {}
        self._trimmed_at = -limits.TRIM_SECONDS
        self._align_at = 0.0

    async def close(self) -> None:
        """Closes every connection; what is under way becomes unknown."""
        await self.baskets.close()
        await self.index.close()
        await self.dataset.close()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the server at this moment."""
        return self.dataset.link.is_open

    @property
    def requests_stuck(self) -> int:
        """How many requests wait for a server that has stopped to answer."""
        return self.dataset.link.requests_stuck

    # ---------------------------------------------------------------- documents

    @staticmethod
    def decode_document(content: bytes) -> Document:
        return decode_document(content)

    # ---------------------------------------------------------------- reading

    async def availability(
        self, sku: str, *, locations: Sequence[str] = (), owner: str | None = None
    ) -> Availability:
        """What can be promised of a SKU now, at some locations or at all that stock it. To an `owner`, what
        that one holds counts as free.

        Raises `SkuNotFound`, `LocationNotFound`, `InvalidRequest`. Cost: about 1 µs of server time and as
        much of ours, and 0.3 µs a location; for an owner that of a list of its reservations.
        """
        if owner is not None:
            # A task of its own, as for locations.
            task = asyncio.get_running_loop().create_task(self._availability_to(owner, sku, locations))
            return await task
        found = (await self.availability_of((sku,), locations=locations))[0]
        if found is None:
            raise SkuNotFound(f"SKU {sku}: no location stocks it")
        return found

    async def _availability_to(self, owner: str, sku: str, locations: Sequence[str]) -> Availability:
        await self.stock(sku, locations=locations)  # gives back what has lapsed
        version, cards = await self._cards_without(sku, owner)
        places = [place for card in cards for place in read_availability(card)]
        if locations:
            places = await self._choose_places(locations, places)
        return planner.sum_availability(sku, version, places)

    async def can_reserve(
        self, sku: str, quantity: int, *, locations: Sequence[str] = (), owner: str | None = None
    ) -> bool:
        """Whether one of the locations could give so many units, which is more than what is available where
        it may go into back-order, or where units that float can make way. Raises `SkuNotFound`.
        """
        cards: Sequence[bytes]
        if owner is not None:
            _, cards = await self._cards_without(sku, owner)
        else:
            commands = self.dataset.commands[partition_of(sku, self._partitions)]
            _, cards = await self._read_cards(commands, sku, commands.cards(sku, swept=False))
        rooms = [room for card in cards for room in read_rooms(card) if not locations or room[0] in locations]
        if any(room >= quantity for _, room, _ in rooms):
            return True
        movable = [location for location, room, floating in rooms if floating and room + floating >= quantity]
        return await self._fits_at(movable, sku, quantity, Rules())

    async def availability_to(
        self,
        owner: str,
        sku: str,
        *,
        rules: Rules,
        locations: Sequence[str] = (),
        quantity: int | None = None,
    ) -> tuple[Availability, bool | None]:
        """`availability_by` to one who holds units already, which count as free. Raises as that does, and as
        a list of reservations.
        """
        members = units_of_line(sku, 1, await self.settings.current(), "/sku")
        own = [one for member, _ in members for one in await self._own_holds(owner, member)]
        return await self.availability_by(
            sku, rules=rules, locations=locations, quantity=quantity, own=list(dict.fromkeys(own))
        )

    async def availability_of(
        self, skus: Sequence[str], *, locations: Sequence[str] = ()
    ) -> list[Availability | None]:
        """The same for many SKUs at once; None for a SKU that no location stocks. Each answer is true of
        its own moment. Raises `LocationNotFound`, `InvalidRequest`.
        """
        for sku in skus:
            planner.check_sku(sku, "/sku")
        for location in locations:
            planner.check_location(location, "/location")
        found: list[Availability | None] = []
        asked = self._ask_cards(skus[:READ_TOGETHER])
        for end in range(READ_TOGETHER, len(skus) + READ_TOGETHER, READ_TOGETHER):
            # The server works on the next ones while these are read, and others have their turn in between.
            these, asked = asked, self._ask_cards(skus[end : end + READ_TOGETHER])
            for commands, sku, waiting in these:
                version, cards = await self._read_cards(commands, sku, waiting)
                if not cards:
                    found.append(None)
                    continue
                places = read_availability(cards[0])
                for card in cards[1:]:
                    places += read_availability(card)
                if locations:
                    places = await self._choose_places(locations, places)
                found.append(planner.sum_availability(sku, version, places))
        return found

    def _ask_cards(self, skus: Sequence[str]) -> list[tuple[Commands, str, Answered]]:
        """Asks for the cards of SKUs; who keeps them, the SKU, and what will be answered."""
        all_commands, partitions = self.dataset.commands, self._partitions
        keepers = [all_commands[partition_of(sku, partitions)] for sku in skus]
        return [
            (keeper, sku, keeper.cards(sku, swept=False)) for keeper, sku in zip(keepers, skus, strict=True)
        ]

    async def alternatives(self, sku: str, location: str) -> list[Alternative]:
        """Other active locations that have a SKU: the nearest first where coordinates tell, then those that
        have the most.
        """
        (found,) = await self.availability_of((sku,))
        return rank_alternatives(location, found, await self.locations())

    async def nearby(
        self,
        sku: str,
        lat: float,
        lon: float,
        *,
        radius_km: float,
        capability: Capability = Capability.PICKUP,
        quantity: int | None = None,
        channel: str | None = None,
        pool: str | None = None,
        limit: int = 100,
    ) -> Nearby:
        """What active locations near a place can promise of a SKU, to a channel or out of a pool where one is
        named; with a quantity, those that can promise so many. Of a kit it is what they have all parts for.

        Raises `SkuNotFound`, `ChannelNotFound`, `PoolNotFound`, `InvalidRequest`.
        """
        planner.check_place(lat, lon, radius_km)
        if quantity is not None:
            planner.check_quantity(quantity, "?quantity")
        settings = await self.settings.current()
        is_open = channel is None and pool is None
        if is_open and sku not in settings.kits:
            found = await self.availability(sku)
        else:
            found, _ = await self.availability_by(sku, rules=Rules(channel, pool, everywhere=is_open))
        by_id = {place.location: place for place in found.locations}
        places = [
            NearbyLocation(location.id, round(distance, 3), place.available, place.status)
            for distance, location in settings.near(lat, lon, radius_km)
            if location.active
            and capability in location.capabilities
            and (place := by_id.get(location.id)) is not None
            and (quantity is None or place.available >= quantity)
        ]
        return Nearby(sku, found.version, places[:limit])

    async def stock(self, sku: str, *, locations: Sequence[str] = ()) -> list[Position]:
        """The counters of a SKU's positions. Raises `SkuNotFound`, `InvalidRequest`."""
        planner.check_sku(sku, "/sku")
        for location in locations:
            planner.check_location(location, "/location")
        commands = self.dataset.commands[partition_of(sku, self._partitions)]
        found = list[Position]()
        for _ in range(_READINGS):
            version, cards = await self._read_cards(commands, sku, commands.cards(sku, swept=False))
            if not cards:
                raise SkuNotFound(f"SKU {sku}: no location stocks it", version=version)
            found = [position for card in cards for position in read_positions(card, version)]
            found, is_whole = await self._with_conditions(sku, found)
            if is_whole:
                break
        if not locations:
            return found
        by_location = {position.location: position for position in found}
        return [by_location[location] for location in dict.fromkeys(locations) if location in by_location]

    async def _with_conditions(self, sku: str, found: list[Position]) -> tuple[list[Position], bool]:
        """Positions with their conditions; and whether these add up, or have changed since."""
        lying = [position.location for position in found if position.unsellable]
        if not lying:
            return found, True
        named = await self.conditions(sku, lying)
        told = [replace(position, conditions=named.get(position.location, {})) for position in found]
        return told, all(position.unsellable == sum(position.conditions.values()) for position in told)

    async def _read_cards(
        self, commands: Commands, sku: str, waiting: Answered
    ) -> tuple[str, Sequence[bytes]]:
        """The version that was read and the cards of a SKU, of which an unknown one has none."""
        _, epoch, seq, answer = await waiting
        if answer == _OVERDUE:
            await self._sweep_if_possible(commands.partition)
            _, epoch, seq, answer = await commands.cards(sku, swept=True)
        version = f"{epoch}.{seq}"
        if type(answer) is bytes:
            return version, (answer,) if answer else ()
        return version, [card for card in answer[1:] if card]

    async def _choose_places(
        self, asked: Sequence[str], found: Sequence[LocationAvailability]
    ) -> list[LocationAvailability]:
        """The asked places. A location that exists but does not stock the SKU has none of it."""
        by_id, asked = {place.location: place for place in found}, tuple(dict.fromkeys(asked))
        if any(location not in by_id for location in asked):
            existing = (await self.settings.current()).locations
            if any(location not in existing for location in asked):
                existing = (await self.settings.latest()).locations
            for location in asked:
                if location not in existing:
                    raise LocationNotFound(f"there is no location {location}")
        return [
            by_id.get(location) or LocationAvailability(location, 0, Status.OUT_OF_STOCK)
            for location in asked
        ]

    # ---------------------------------------------------------------- sweeping

    async def sweep(self) -> int:
        """Gives back what has lapsed, repairs baskets, forgets what is old; how many holds there were."""
        expired = sum(await asyncio.gather(*(sweep_all(commands) for commands in self.dataset.commands)))
        if self._partitions > 1:
            await asyncio.gather(*(self._repair(partition) for partition in range(self._partitions)))
            await self._align_sometimes()
        # Before anything is forgotten: what an outbox began must be remembered until it is done.
        await self.deliver_documents()
        await asyncio.gather(*(sweep_all(commands, memories=True) for commands in self.dataset.commands))
        await self.trim()
        self.metrics.count("expire", Outcome.EXPIRED, expired)
        await self.defaults.catch_up()
        return expired

    async def trim(self) -> None:
        """Forgets some old history and documents, now and then: see `limits.TRIM_SECONDS`. Comes after old
        memories were forgotten, those of what a document did among them.
        """
        now = asyncio.get_running_loop().time()
        if now - self._trimmed_at >= limits.TRIM_SECONDS:
            self._trimmed_at = now
            await asyncio.gather(*(self._trim_partition(partition) for partition in range(self._partitions)))

    async def _trim_partition(self, partition: int) -> None:
        now_ms = await trim_some(self.dataset.commands[partition])
        await self.forget_documents(partition, now_ms)

    async def _repair(self, partition: int) -> None:
        while await self.baskets.repair(partition):
            pass

    async def _align_sometimes(self) -> None:
        """Settings that somebody saved and did not bring to all partitions."""
        now = monotonic()
        if now >= self._align_at:
            self._align_at = now + ALIGN_SECONDS
            await self.setting_store.align()

    async def _sweep_if_possible(self, partition: int) -> None:
        """For reads: a server that refuses writes still answers, with lapsed holds counted as held."""
        with suppress(Unavailable, Unconfirmed):
            await self._sweep(partition)

    async def _sweep(self, partition: int) -> None:
        """Sweeps a partition for all who ask at once: each waits for a sweep that began after it asked."""
        running = self._sweeps.get(partition)
        if running is not None and not running.done():
            await asyncio.wait([running])
        following = self._sweeps.get(partition)
        if following is None or following is running or following.done():
            following = asyncio.get_running_loop().create_task(sweep_all(self.dataset.commands[partition]))
            # All who asked may have given up when it fails.
            following.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._sweeps[partition] = following
        await asyncio.shield(following)


_OVERDUE = [b"overdue"]
_READINGS = 8
"""How often a position is read whose conditions change meanwhile."""
