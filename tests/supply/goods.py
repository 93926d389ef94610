"""What tests of supply ask again and again."""

from engine import Inventory, Movement, MovementKind


async def make_stock(shop: Inventory, location: str, **units: int) -> None:
    """Receives units of SKUs at a location."""
    for sku, quantity in units.items():
        await shop.record(Movement(f"{location}-{sku}", MovementKind.RECEIVE, sku, location, quantity))


async def stand(shop: Inventory, sku: str) -> dict[str, tuple[int, int]]:
    """On hand and inbound units of each position of a SKU."""
    return {found.location: (found.on_hand, found.inbound) for found in await shop.stock(sku)}


async def on_hand(shop: Inventory, sku: str) -> int:
    """Units of a SKU that are anywhere."""
    return sum(found.on_hand + found.inbound for found in await shop.stock(sku))
