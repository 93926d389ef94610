"""The demo stock: a few stores and a warehouse, goods and demand from real baskets.

Small and quick on purpose. Loading it again changes nothing: a SKU that is already on the books is
left alone, however old its movements are.
"""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import NamedTuple, TypedDict
from urllib.parse import unquote

import msgspec

from api.replay.baskets import Baskets, BasketsUnavailableError, complete_journey, product_names
from api.replay.client import Target, segment
from api.replay.generator import generate
from api.replay.run import run_loop
from api.replay.shop import Shopper, Tally, Verb
from api.replay.stock import LOADERS, StockRefusedError, read_positions, receive, spread
from api.replay.wire import Movement, problem

STORES = 4
SKUS = 200
WAREHOUSE = "w1"
WAREHOUSE_FACTOR = 5
GENERATED_BASKETS = 3_000
SEED = 8451
PATIENCE_S = 5.0
TIMEOUT_S = 10.0

PLACES = ((39.10, -84.51), (39.16, -84.46), (39.05, -84.66), (39.23, -84.38))
"""Invented coordinates for the stores: the baskets do not say where their stores are."""


KIT = "DEMO-SET"
Settings = dict[str, dict[str, object]]
"""Settings by their path, or items by their SKU."""
CHANNELS: Settings = {
    "channels/web": {"pools": ["online"], "buffer": {"units": 1}},
    "channels/app": {"pools": ["online"]},
    "channels/pos": {"pools": ["stores"]},
    "channels/marketplace": {"pools": ["online"], "buffer": {"percent": 10}},
}


class DemoStock(TypedDict):
    """A position worth asking for first, and the units of it that are available now."""

    sku: str
    location: str
    available: int


class Shelf(NamedTuple):
    """Units of one SKU that a location of the demo gets."""

    sku: str
    location: str
    units: int


def load_demo(url: str, key: str | None = None) -> DemoStock:
    """Load the demo and name a position with stock.

    Raises:
        ServerGoneError: the server does not answer.
        StockRefusedError: the server does not take locations or stock.
    """
    return run_loop(_load(Target(url, key)))


async def _load(target: Target) -> DemoStock:
    shelves, names = _shelves()
    shoppers = [Shopper(target, Tally(), patience_s=PATIENCE_S, timeout_s=TIMEOUT_S) for _ in range(LOADERS)]
    try:
        places = _locations(shelves)
        for settings in (places, _pools(places), CHANNELS):
            await spread(shoppers, settings.items(), _open)
        known: set[str] = set()

        async def look(shopper: Shopper, sku: str) -> None:
            if await read_positions(shopper, sku):
                known.add(sku)

        skus = list(dict.fromkeys(shelf.sku for shelf in shelves))
        await spread(shoppers, skus, look)
        fresh = [shelf for shelf in shelves if shelf.sku not in known]
        items: dict[str, dict[str, object]] = {sku: {"name": names[sku]} for sku in skus if sku in names}
        await _describe(shoppers, items | _kit(skus))
        movements = (
            Movement(f"demo-{at.sku}-{at.location}", "receive", at.sku, at.location, at.units) for at in fresh
        )
        await receive(shoppers, movements, lambda _: None)
        return await _show_piece(shoppers[0], skus)
    finally:
        for shopper in shoppers:
            shopper.close()


def _shelves() -> tuple[list[Shelf], dict[str, str]]:
    """Choose the busiest stores and the most wanted SKUs there; units are what was sold."""
    try:
        baskets = complete_journey()
        names_of = product_names
    except BasketsUnavailableError:
        baskets = generate(count=GENERATED_BASKETS, seed=SEED)
        names_of = _generated_names
    stores = [store for store, _ in Counter(baskets.stores).most_common(STORES)]
    sold = _sold(baskets, stores)
    wanted = Counter[int]()
    for (_, sku), units in sold.items():
        wanted[sku] += units
    shelves = []
    for sku, units in wanted.most_common(SKUS):
        name = baskets.skus[sku]
        shelves.append(Shelf(name, WAREHOUSE, units * WAREHOUSE_FACTOR))
        shelves += [
            Shelf(name, baskets.locations[store], sold[store, sku]) for store in stores if sold[store, sku]
        ]
    return shelves, names_of([baskets.skus[sku] for sku, _ in wanted.most_common(SKUS)])


def _sold(baskets: Baskets, stores: list[int]) -> Counter[tuple[int, int]]:
    """Sum the units per store and SKU over a tenth of the baskets, which is plenty for a demo."""
    sold = Counter[tuple[int, int]]()
    chosen = set(stores)
    for basket in range(0, len(baskets), 10 if len(baskets) > GENERATED_BASKETS else 1):
        store = baskets.stores[basket]
        if store in chosen:
            for line in baskets.lines(basket):
                sold[store, baskets.line_skus[line]] += baskets.line_quantities[line]
    return sold


def _generated_names(skus: list[str]) -> dict[str, str]:
    return {sku: f"Sample item {sku}" for sku in skus}


def _locations(shelves: list[Shelf]) -> Settings:
    """Describe the warehouse and the stores."""
    stores = sorted({shelf.location for shelf in shelves} - {WAREHOUSE})
    places: Settings = {
        f"locations/{WAREHOUSE}": {"kind": "warehouse", "name": "Central warehouse", "capabilities": ["ship"]}
    }
    for store, (lat, lon) in zip(stores, PLACES, strict=False):
        places[f"locations/{segment(store)}"] = {
            "kind": "store",
            "name": f"Store {store}",
            "lat": lat,
            "lon": lon,
            "priority": 1,
            "capabilities": ["pickup", "ship"],
        }
    return places


def _pools(places: Settings) -> Settings:
    """One pool of everything, one of the stores, one for each of two regions; they overlap."""
    everywhere = [unquote(path.partition("/")[2]) for path in places]
    stores = [place for place in everywhere if place != WAREHOUSE]
    half = len(stores) // 2
    pools = {"online": everywhere, "stores": stores, "north": stores[:half], "south": stores[half:]}
    return {f"pools/{pool}": {"locations": members} for pool, members in pools.items() if members}


def _kit(skus: list[str]) -> Settings:
    """A kit of the two most wanted SKUs."""
    components = [{"sku": sku, "quantity": quantity} for sku, quantity in zip(skus, (1, 2), strict=False)]
    return {KIT: {"name": "Demo set", "components": components}}


async def _open(shopper: Shopper, setting: tuple[str, dict[str, object]]) -> None:
    """Create a location, pool or channel that the server does not know."""
    path = f"/v1/{setting[0]}"
    if (await shopper.read(path)).status == HTTPStatus.OK:
        return
    request = shopper.target.request("PUT", path, msgspec.json.encode(setting[1]))
    answer = (await shopper.tell(Verb.RECEIVE, request)).answers[0]
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise StockRefusedError(f"{setting[0]}: {problem(answer.body)}")


async def _describe(shoppers: list[Shopper], items: Settings) -> None:
    """Name the items, on servers that keep items."""
    offered = True

    async def one(shopper: Shopper, item: tuple[str, dict[str, object]]) -> None:
        nonlocal offered
        if offered:
            body = msgspec.json.encode(item[1])
            request = shopper.target.request("PUT", f"/v1/items/{segment(item[0])}", body)
            answer = (await shopper.tell(Verb.RECEIVE, request)).answers[0]
            offered = answer.status < HTTPStatus.BAD_REQUEST

    await spread(shoppers, items.items(), one)


async def _show_piece(shopper: Shopper, skus: list[str]) -> DemoStock:
    """Find a position with units available: the most wanted SKU first, a store before others."""
    for sku in skus:
        books = await read_positions(shopper, sku)
        for location in sorted(books):
            if books[location].available > 0:
                return DemoStock(sku=sku, location=location, available=books[location].available)
    raise StockRefusedError("nothing of the demo is available any more")
