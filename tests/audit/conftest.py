"""A data set on the server's own clock, and shoppers who do everything that can be done."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from time import time

import pytest

import engine
from engine import (
    BincardError,
    Count,
    Inventory,
    Line,
    Location,
    LocationKind,
    Movement,
    MovementKind,
    Reservation,
)
from engine.topology.embedded import EmbeddedServer
from engine.types import Move

PLACES = ("s1", "s2")
SKUS = tuple(f"sku {number}/é{{:}}" for number in range(12))
VERBS = (
    "commit",
    "commit_some",
    "sell",
    "release",
    "release_some",
    "extend",
    "fulfil",
    "cancel",
    "cancel_some",
    "count",
    "retake",
    "record",
    "move",
    "replace",
    "ready",
    "short",
)


@pytest.fixture
async def inventory(server: EmbeddedServer) -> AsyncIterator[Inventory]:
    """Two locations and twelve SKUs in one partition."""
    opened = await engine.connect(server.url)
    await stock_up(opened)
    yield opened
    await opened.close()


async def stock_up(inventory: Inventory, units: int = 60) -> None:
    """Gives every SKU some stock in both places."""
    for place in PLACES:
        await inventory.save_location(Location(place, LocationKind.STORE))
        await asyncio.gather(
            *(
                inventory.record(Movement(f"in-{sku}-{place}", MovementKind.RECEIVE, sku, place, units))
                for sku in SKUS
            )
        )


class Shopper:
    """Does random things, sends a quarter of them twice, and takes refusals as they come."""

    def __init__(self, inventory: Inventory, seed: int, skus: Sequence[str] = SKUS) -> None:
        self.inventory = inventory
        self.seed = seed
        self.skus = skus
        self.random = random.Random(seed)
        self.made: list[Reservation] = []
        self.step = 0

    async def act(self) -> None:
        """One thing, done once or twice."""
        self.step += 1
        twice = self.random.random() < 0.25
        if not self.made or self.random.random() < 0.45:
            await self._reserve(twice=twice)
            return
        verb, reservation = self.random.choice(VERBS), self.random.choice(self.made[-30:])
        quantity = self.random.randint(1, 9)
        movement = self._movement(quantity)
        for _ in range(2 if twice else 1):
            with suppress(BincardError):
                await self._resolve(verb, reservation, movement)

    async def _reserve(self, *, twice: bool) -> None:
        pick = self.random
        lines = [
            Line(pick.choice(self.skus), pick.randint(1, 3), pick.choice(PLACES))
            for _ in range(pick.choice((1, 1, 2, 4)))
        ]
        ttl_seconds, key = pick.choice((1, 1, 60)), f"{self.seed}-{self.step}"
        for _ in range(2 if twice else 1):
            try:
                made = await self.inventory.reserve(
                    key, lines, ttl_seconds=ttl_seconds, owner=f"owner-{self.seed}", reference=f"order-{key}"
                )
            except BincardError:
                return
        self.made.append(made)

    def _movement(self, quantity: int) -> Movement:
        pick = self.random
        kind = pick.choice((*MovementKind,))
        signed = -quantity if kind is MovementKind.ADJUST and pick.random() < 0.5 else quantity
        return Movement(
            f"{self.seed}-{self.step}",
            kind,
            pick.choice(self.skus),
            pick.choice(PLACES),
            signed,
            occurred_ms=pick.choice((None, None, int(time() * 1000) - pick.randrange(5000))),
            condition="damaged" if pick.random() < 0.1 else None,
            to_condition="display" if kind is MovementKind.CONDITION else None,
        )

    async def _count(self, movement: Movement) -> None:
        sku, location, units = movement.sku, movement.location, abs(movement.quantity)
        if movement.occurred_ms is None:
            await self.inventory.set_on_hand(sku, location, units, expected=None)
        else:
            await self.inventory.count(Count(movement.id, sku, location, units, movement.occurred_ms))

    async def _resolve(  # noqa: C901, PLR0912 - one branch a verb
        self, verb: str, reservation: Reservation, movement: Movement
    ) -> None:
        inventory, name, key = self.inventory, reservation.id, f"step-{self.seed}-{self.step}"
        some = [Line(reservation.lines[0].sku, 1, reservation.lines[0].location)]
        if verb == "commit":
            await inventory.commit(name)
        elif verb == "commit_some":
            await inventory.commit(name, lines=some, remainder="keep", op_id=key)
        elif verb == "sell":
            await inventory.commit(name, fulfil=True)
        elif verb == "release":
            await inventory.release(name)
        elif verb == "release_some":
            await inventory.release(name, lines=some, op_id=key)
        elif verb == "extend":
            await inventory.extend(name, 2)
        elif verb == "fulfil":
            await inventory.fulfil(name)
        elif verb == "cancel":
            await inventory.cancel(name)
        elif verb == "cancel_some":
            await inventory.cancel(name, lines=some, op_id=key)
        elif verb == "retake":
            await inventory.commit(name, if_expired="retake")
        elif verb in {"move", "replace", "ready", "short"}:
            await self._change(verb, reservation, some, movement.quantity)
        elif verb == "count":
            await self._count(movement)
        else:
            await inventory.record(movement)

    async def _change(self, verb: str, reservation: Reservation, some: Sequence[Line], quantity: int) -> None:
        inventory, name, key = self.inventory, reservation.id, f"step-{self.seed}-{self.step}"
        if verb == "move":
            line = reservation.lines[0]
            target = next(place for place in PLACES if place != line.location)
            moved = abs(quantity) % line.quantity + 1
            await inventory.move(name, [Move(line.sku, line.location, target, moved)], op_id=key)
        elif verb == "replace":
            first = self.step % len(self.skus)
            skus = (self.skus[first], self.skus[first - 1], reservation.lines[0].sku)
            lines = [Line(sku, abs(quantity), PLACES[at % 2]) for at, sku in enumerate(skus)]
            await inventory.replace_lines(name, lines, op_id=key)
        elif verb == "ready":
            await inventory.mark_ready(name)
        else:
            await inventory.report_short(name, some, op_id=key)


async def shop_at_random(inventory: Inventory, *, shoppers: int, steps: int, seed: int = 1) -> None:
    """Many shoppers at once, each with a seed of its own."""

    async def shop(number: int) -> None:
        shopper = Shopper(inventory, seed * 1000 + number)
        for _ in range(steps):
            await shopper.act()

    await asyncio.gather(*(shop(number) for number in range(shoppers)))
