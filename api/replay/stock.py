"""Stock for a replay, and the server's own books: both through the public interface."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from api.replay.baskets import Chosen
from api.replay.client import segment
from api.replay.shop import ServerGoneError, Shopper, Verb
from api.replay.wire import Movement, MovementResults, Movements, Position, Stock, problem

MOVEMENTS_PER_REQUEST = 1000
LOADERS = 8
"""More connections than this do not load faster, they only make each request wait longer."""

Piece = TypeVar("Piece")


class StockRefusedError(Exception):
    """The server would not take locations or stock; the message is its own."""


class Supply(NamedTuple):
    """What is received before the baskets come: units by position, position = store and SKU."""

    chosen: Chosen
    received: dict[int, int]

    def names(self, position: int) -> tuple[str, str]:
        """Give (SKU, location) of a position."""
        source = self.chosen.source
        store, sku = divmod(position, len(source.skus))
        return source.skus[sku], source.locations[store]

    def locations(self) -> list[str]:
        """List the locations that take part."""
        width = len(self.chosen.source.skus)
        stores = sorted({position // width for position in self.received})
        return [self.chosen.source.locations[store] for store in stores]

    def by_sku(self) -> dict[int, list[int]]:
        """Group the positions by SKU."""
        width = len(self.chosen.source.skus)
        grouped: dict[int, list[int]] = {}
        for position in self.received:
            grouped.setdefault(position % width, []).append(position)
        return grouped

    def movements(self, run: str) -> Iterator[Movement]:
        """Write the receipts; the ids follow from the run and the position."""
        for position, units in self.received.items():
            sku, location = self.names(position)
            yield Movement(f"{run}-receive-{position}", "receive", sku, location, units)


def supply(chosen: Chosen, scarcity: float) -> Supply:
    """Receive for each position what its baskets want, times the scarcity, rounded up."""
    wanted = chosen.demand()
    return Supply(chosen, {at: math.ceil(units * scarcity) for at, units in wanted.items()})


async def spread(
    shoppers: Sequence[Shopper],
    pieces: Iterable[Piece],
    work: Callable[[Shopper, Piece], Awaitable[None]],
) -> None:
    """Let the shoppers work through the pieces, each taking the next one when it is free.

    Raises:
        ServerGoneError, StockRefusedError: the first one that a shopper met.
    """
    waiting = iter(pieces)

    async def one(shopper: Shopper) -> None:
        for piece in waiting:
            await work(shopper, piece)

    try:
        async with asyncio.TaskGroup() as group:
            for shopper in shoppers:
                group.create_task(one(shopper))
    except* (ServerGoneError, StockRefusedError) as met:
        raise met.exceptions[0] from None


async def open_locations(shoppers: Sequence[Shopper], locations: list[str]) -> bool:
    """Create the stores that the server does not know; tell whether it knew any of them."""
    known: list[str] = []

    async def one(shopper: Shopper, location: str) -> None:
        path = f"/v1/locations/{segment(location)}"
        if (await shopper.read(path)).status == HTTPStatus.OK:
            known.append(location)
            return
        body = msgspec.json.encode({"kind": "store", "name": f"Store {location}"})
        told = await shopper.tell(Verb.RECEIVE, shopper.target.request("PUT", path, body))
        answer = told.answers[0]
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise StockRefusedError(f"location {location}: {problem(answer.body)}")

    await spread(shoppers[:LOADERS], locations, one)
    return bool(known)


async def receive(
    shoppers: Sequence[Shopper], movements: Iterator[Movement], moved: Callable[[int], None]
) -> None:
    """Put movements on the books; `moved` is called with the number of each part done.

    Raises:
        StockRefusedError: a movement was refused.
        ServerGoneError: the server stopped answering.
    """

    async def one(shopper: Shopper, part: list[Movement]) -> None:
        body = msgspec.json.encode(Movements(part))
        request = shopper.target.request("POST", "/v1/stock/movements", body)
        answer = (await shopper.tell(Verb.RECEIVE, request)).answers[0]
        if answer.status != HTTPStatus.MULTI_STATUS:
            raise StockRefusedError(f"movements: {answer.status} {problem(answer.body)}")
        results = msgspec.json.decode(answer.body, type=MovementResults).results
        for result in results:
            if not result.accepted:
                refused = part[result.index]
                raise StockRefusedError(f"{refused.sku} at {refused.location}: {result.remedy}")
        if len(results) != len(part):
            raise StockRefusedError(f"{len(part)} movements sent, {len(results)} answered")
        moved(len(part))

    await spread(shoppers[:LOADERS], _parts(movements), one)


async def read_positions(shopper: Shopper, sku: str) -> dict[str, Position]:
    """Read the books of one SKU, by location; a SKU without any stock has none."""
    answer = await shopper.read(f"/v1/stock/{segment(sku)}")
    if answer.status == HTTPStatus.NOT_FOUND:
        return {}
    if answer.status != HTTPStatus.OK:
        raise StockRefusedError(f"books of {sku}: {answer.status} {problem(answer.body)}")
    stock = msgspec.json.decode(answer.body, type=Stock)
    return {position.location: position for position in stock.positions}


async def read_baseline(
    shoppers: Sequence[Shopper], wanted: Supply, done: Callable[[int], None]
) -> dict[int, Position]:
    """Read what the positions held before the replay; positions without anything are left out."""
    baseline: dict[int, Position] = {}

    async def one(shopper: Shopper, group: tuple[int, list[int]]) -> None:
        sku, positions = group
        books = await read_positions(shopper, wanted.chosen.source.skus[sku])
        for position in positions:
            found = books.get(wanted.names(position)[1])
            if found is not None and (found.on_hand or found.held or found.allocated):
                baseline[position] = found
        done(1)

    await spread(shoppers, wanted.by_sku().items(), one)
    return baseline


def _parts(movements: Iterator[Movement]) -> Iterator[list[Movement]]:
    while part := list(islice(movements, MOVEMENTS_PER_REQUEST)):
        yield part
