"""Carts whose places the engine chooses: the part of `Inventory` that gives them other lines."""

from collections import Counter
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from engine import rearranging
from engine.changes import Changes
from engine.errors import InsufficientStock, InvalidRequest, Refused
from engine.ids import part_id
from engine.sourcing import MOST_TRIES, Sourcing
from engine.sourcing_plan import (
    PlannedLine,
    Rules,
    Strategy,
    Wanted,
    check_rules,
    check_wanted,
    encode_request,
    group_of,
    short,
    short_lines,
)
from engine.types import Line, Reservation, Shortage, State


class Carts(Sourcing, Changes):
    """The part of `Inventory` that chooses places for what a cart gets."""

    async def source_lines(
        self,
        reservation: str,
        lines: Sequence[Wanted],
        *,
        rules: Rules,
        op_id: str | None = None,
        caller: str = "",
    ) -> Reservation:
        """A hold gets other lines in one step, as by `replace_lines`. Of a line without a location stays
        where it is what the hold has of the SKU; for what is missing places are chosen as by `source`, by
        the reservation's own channel where `rules` name none. A kit's places are all chosen anew.

        Raises as `replace_lines` and `source` do. Cost: that of a plan and of `replace_lines`, and once more
        whenever somebody was faster.
        """
        check_wanted(lines)
        settings = await self.settings.current()
        asked = b"source" + encode_request([group_of(line, settings) for line in lines], rules)
        tries = 0
        while True:
            held = await self.reservation(reservation)
            if held.state is not State.HELD:
                # It is over, or sold: what is refused then, or was done before, its record tells.
                return await self._change(
                    "replace",
                    reservation,
                    op_id,
                    caller,
                    asked,
                    lambda record, _: rearranging.replaced(record, record.plan.positions),
                )
            try:
                chosen = await self._choose_anew(held, lines, rules)
            except (Refused, InvalidRequest) as refusal:
                return await self._known_or(refusal, reservation, op_id, caller, asked)
            try:
                return await self.replace_lines(reservation, chosen, op_id=op_id, caller=caller, asked=asked)
            except InsufficientStock:
                tries += 1
                if tries == MOST_TRIES:
                    raise

    async def _known_or(
        self,
        refusal: Refused | InvalidRequest,
        reservation: str,
        op_id: str | None,
        caller: str,
        asked: bytes,
    ) -> Reservation:
        """What the same request was answered before. Raises the refusal where there was none."""

        def refuse(*_: object) -> None:
            raise refusal

        return await self._change("replace", reservation, op_id, caller, asked, refuse)

    async def _choose_anew(self, held: Reservation, lines: Sequence[Wanted], rules: Rules) -> list[Line]:
        """Places for all lines. Raises as `source` does."""
        by = rules if rules.channel or rules.pool else replace(rules, channel=held.channel)
        check_rules(lines, by)
        parts = _parts(held, lines, by, (await self.settings.current()).kits)
        route, operation = self._routed(held.id)
        own = (operation, part_id(operation, route))
        plan = await self._plan(replace(await self._read_order([part for _, part in parts], by), own=own))
        if not plan.can_reserve:
            raise short(_short_of(lines, plan.lines, [index for index, _ in parts]), plan.version)
        chosen = Counter[tuple[str, str]]()
        for line in plan.lines:
            chosen.update({(line.sku, one.location): one.taken for one in line.candidates if one.taken})
        return [Line(sku, quantity, location) for (sku, location), quantity in chosen.items()]


def _parts(
    held: Reservation, lines: Sequence[Wanted], rules: Rules, kits: Collection[str]
) -> list[tuple[int, Wanted]]:
    """The lines with what stays where it is apart from what is missing, and of which line each part is."""
    free = {(one.sku, one.location): one.held for one in held.lines}
    for line in lines:
        if line.location is not None and (line.sku, line.location) in free:
            free[line.sku, line.location] -= line.quantity
    # Where one place must have all, what is there already may be at the wrong one.
    may_stay = rules.allow_split and rules.strategy is not Strategy.SINGLE_LOCATION
    parts = list[tuple[int, Wanted]]()
    for index, line in enumerate(lines):
        missing = line.quantity
        if line.location is None and line.sku not in kits and may_stay:
            for (sku, location), units in free.items():
                stays = min(units, missing) if sku == line.sku else 0
                if stays > 0:
                    parts.append((index, Wanted(sku, stays, location)))
                    free[sku, location] -= stays
                    missing -= stays
        if missing:
            parts.append((index, replace(line, quantity=missing)))
    return parts


def _short_of(
    lines: Sequence[Wanted], planned: Sequence[PlannedLine], origins: Sequence[int]
) -> list[Shortage]:
    """Every line that does not fit, and what there is for it."""
    found, unmet = dict[int, tuple[int, int]](), dict[int, tuple[int, int]]()
    for index, line in enumerate(lines):
        parts = [part for part, origin in zip(planned, origins, strict=True) if origin == index]
        # To who asks, what it holds itself is free: what stays is room as well.
        rooms = {one.location: one.room for part in parts for one in part.candidates}
        told = sum(rooms.values()), line.quantity
        if told[0] < line.quantity:
            found[index] = told
        if any(part.taken < part.quantity for part in parts):
            unmet[index] = told
    # Where each would fit by itself, they take it from one another, or no one place has all.
    return short_lines(found or unmet, [(line.sku, line.location, line.quantity) for line in lines])
