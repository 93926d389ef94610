"""Brings baskets and their parts together again where a fail-over or an old copy lost steps of one side."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from logging import getLogger
from time import monotonic
from typing import cast

from msgspec import Struct

from engine import keys, limits
from engine.basket_parts import Apart, find_apart
from engine.baskets import NOTHING, share_out
from engine.commands import Replan
from engine.errors import InvalidRequest, Refused, Unavailable, Unconfirmed
from engine.ids import part_id, reservation_id
from engine.inventory import Inventory
from engine.keys import partition_of
from engine.lifecycle import COMMITTED, FULFILLED, HELD, OPEN_STATES, RELEASED, units_by_place
from engine.lifecycle import Line as Units
from engine.records import (
    KIND_BASKET,
    KIND_PART,
    Record,
    Undecided,
    decode_record,
    encode_detail,
    encode_terms,
)
from engine.types import Line

log = getLogger("bincard.baskets")

TICK_SECONDS = 1.0
REST_FOR_WORK = 19
"""Rests so many times as long as it worked, a twentieth of a processor, as long as that is no long rest."""
LONGEST_REST_SECONDS = 2.0
"""Part of the work is to wait for a server that may be slow, and baskets are not to stay apart for long."""
AGAIN_SECONDS = limits.SEEK_MS / 1000 + 2
"""After a walk comes another: what sweepers were to see to they have seen to by then."""
_NO_UNITS: Units = (0, 0, 0, 0)
_Place = tuple[str, str]
"""SKU and location."""


class Reconciler:
    """Compares all baskets with their parts when it begins, and whenever a partition has a new epoch: twice,
    for what a sweeper was to see to may be apart once it has.

    What parts know of steps that the home has lost, the home takes over. Then the parts are told, as of a
    version that no lost step has. What a part has lost may be somebody else's by now, so it is not held
    again: the basket gives it up. Several may reconcile at once.
    """

    name = "reconciler"

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._topology = inventory.dataset.topology
        self._commands = inventory.dataset.commands
        self._epochs: Sequence[int] = ()
        """Those that the last whole walk began with."""
        self._again_at: float | None = None
        """When the second walk in them begins."""
        self._walk: AsyncIterator[list[Apart]] | None = None
        self._walk_epochs: Sequence[int] = ()

    async def tick(self) -> float:
        """Looks for new epochs, or compares some baskets. Raises `Unavailable`, `Unconfirmed`; the walk then
        begins anew.
        """
        begun = monotonic()
        if self._walk is None:
            epochs = await self._read_epochs()
            is_second = self._again_at is not None and monotonic() >= self._again_at
            if epochs == self._epochs and not is_second:
                return max(TICK_SECONDS, min(REST_FOR_WORK * (monotonic() - begun), LONGEST_REST_SECONDS))
            self._walk, self._walk_epochs = find_apart(self._topology, len(self._commands)), epochs
        walk, self._walk = self._walk, None
        async for group in walk:
            for apart in group:
                if not apart.is_due:
                    await self._try_to_mend(apart)
            self._walk = walk
            return min(REST_FOR_WORK * (monotonic() - begun), LONGEST_REST_SECONDS)
        is_first = self._walk_epochs != self._epochs
        self._epochs, self._again_at = self._walk_epochs, monotonic() + AGAIN_SECONDS if is_first else None
        return TICK_SECONDS

    async def _read_epochs(self) -> Sequence[int]:
        if len(self._commands) == 1:
            return ()
        found = []
        for partition in range(len(self._commands)):
            (epoch,) = await self._topology.read_at_once(("HGET", keys.meta(partition), "epoch"))
            found.append(int(cast("bytes | None", epoch) or 0))
        return found

    # ---------------------------------------------------------------- one basket

    async def _try_to_mend(self, apart: Apart) -> None:
        """One that cannot be read does not keep the others waiting: the audit names it."""
        try:
            await self._mend(apart)
        except (Unavailable, Unconfirmed):
            raise
        except Exception:
            log.exception("basket %s stays apart", reservation_id(apart.route, apart.basket))

    async def _mend(self, apart: Apart) -> None:
        home = self._commands[apart.route % len(self._commands)]
        # Before its basket is: one that somebody begins meanwhile is another attempt, and safe from us.
        part = await self._read_part(apart, apart.partition)
        _, epoch, seq, (_, raw) = await home.find(apart.basket)
        if part is not None and part.follows is not None and part.follows > (epoch, seq):
            # Who answers is not the home any more: a part follows nothing that is still to come.
            return
        if not raw or raw[0] != KIND_BASKET:
            if part is not None:
                await self._free_stray(apart, part)
            return
        basket = decode_record(raw)
        if basket.head.state is Undecided.PENDING:
            # Whoever decides tells the parts.
            return
        if basket.head.state not in OPEN_STATES:
            await self._tell(apart, basket, (epoch, seq))
            return
        await self._level(apart, basket)

    async def _level(self, apart: Apart, basket: Record) -> None:
        """A basket gives up what its parts have not, and takes the steps that they have made; then they are
        told.
        """
        parts, ahead = await self._read_parts(apart, basket)
        kept, steps, lost = list[Units](), _Steps([], [], []), 0
        for place, own in units_by_place(basket.head, basket.plan.packed).items():
            known = parts.get(place, _NO_UNITS)
            left = max(known[FULFILLED] - own[FULFILLED], 0) if place in ahead else 0
            committed = min(own[COMMITTED], known[HELD] + known[COMMITTED] + left)
            held = min(own[HELD], known[HELD] + known[COMMITTED] + left - committed)
            gone = own[HELD] + own[COMMITTED] - held - committed
            kept.append((held, committed, own[FULFILLED], own[RELEASED] + gone))
            lost += gone
            if place in ahead:
                steps.add(place, held, committed, known[COMMITTED], left)
        name = reservation_id(apart.route, apart.basket)
        if not await self._renew(apart, basket, kept):
            return
        if lost:
            log.warning("basket %s gives up %d units, which a fail-over or an old copy has lost", name, lost)
        if await self._take(name, steps):
            log.warning("basket %s takes steps that its home had lost and its parts had not", name)
        _, _, _, (_, raw) = await self._commands[apart.route % len(self._commands)].find(apart.basket)
        basket = decode_record(raw)
        await self._tell(apart, basket, (basket.head.changed_epoch, basket.head.changed_seq))

    async def _take(self, name: str, steps: "_Steps") -> bool:
        """Whether there were any. A hold that has lapsed by now is not sold."""
        inventory = self._inventory
        with suppress(Refused, InvalidRequest):
            if steps.fulfilled:
                await inventory.fulfil(name, lines=steps.fulfilled)
        with suppress(Refused, InvalidRequest):
            if steps.sold:
                await inventory.commit(name, lines=steps.sold, remainder="keep", fulfil=True)
        with suppress(Refused, InvalidRequest):
            if steps.committed:
                await inventory.commit(name, lines=steps.committed, remainder="keep")
        return bool(steps.fulfilled or steps.sold or steps.committed)

    async def _free_stray(self, apart: Apart, part: Record) -> None:
        """A part whose basket is not there gives its units back."""
        epoch, seq = part.follows or (0, 0)
        name = part_id(apart.basket, apart.route)
        await self._commands[apart.partition].follow(name, (epoch, seq + 1), *NOTHING)
        basket = reservation_id(apart.route, apart.basket)
        log.warning("basket %s was lost: its part gives back what it had: %s", basket, apart.stored)

    async def _tell(self, apart: Apart, basket: Record, version: tuple[int, int]) -> None:
        name = part_id(apart.basket, apart.route)
        shares = {apart.partition: NOTHING} | share_out(basket.head, basket.plan, len(self._commands))
        for partition, share in shares.items():
            await self._commands[partition].follow(name, version, *share)
        await self._commands[apart.route % len(self._commands)].settle(apart.basket, version)

    async def _read_part(self, apart: Apart, partition: int) -> Record | None:
        _, _, _, (_, raw) = await self._commands[partition].find(part_id(apart.basket, apart.route))
        return decode_record(raw) if raw and raw[0] == KIND_PART else None

    async def _read_parts(self, apart: Apart, basket: Record) -> tuple[dict[_Place, Units], set[_Place]]:
        """What the parts have, by place; and the places of those that know of its last step or of later
        ones.
        """
        version = basket.head.changed_epoch, basket.head.changed_seq
        found, ahead = dict[_Place, Units](), set[_Place]()
        for partition in {partition_of(line.sku, len(self._commands)) for line in basket.plan.positions}:
            part = await self._read_part(apart, partition)
            if part is not None:
                units = units_by_place(part.head, part.plan.packed)
                found |= units
                if part.follows is not None and part.follows >= version:
                    ahead |= units.keys()
        return found, ahead

    async def _renew(self, apart: Apart, basket: Record, units: Sequence[Units]) -> bool:
        """Gives a basket such units and a new version, after which what parts know of lost steps counts no
        more. Not where somebody else's step came first: what is wrong then, another walk finds.
        """
        home = self._commands[apart.route % len(self._commands)]
        version = basket.head.changed_epoch, basket.head.changed_seq
        rest = encode_terms(basket.terms) + encode_detail(basket.detail)
        _, _, _, answer = await home.replan(Replan(apart.basket, version, basket.plan.packed, units, rest))
        return not isinstance(answer, list)


class _Steps(Struct, frozen=True):
    """Lines that a basket commits, sells, or, where they were committed, fulfils."""

    committed: list[Line]
    sold: list[Line]
    fulfilled: list[Line]

    def add(self, place: _Place, held: int, committed: int, to_commit: int, to_leave: int) -> None:
        """A place with so many units, of which as many shall be committed, and as many leave."""
        fulfilled = min(to_leave, committed)
        sold = min(to_leave - fulfilled, held)
        more = min(max(to_commit - committed + fulfilled, 0), held - sold)
        for lines, units in ((self.fulfilled, fulfilled), (self.sold, sold), (self.committed, more)):
            if units:
                lines.append(Line(place[0], units, place[1]))
