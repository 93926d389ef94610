"""Policies and fences in the model, and in the shop that is compared with it."""

from dataclasses import replace

from engine import Channel, Policy, Pool
from engine.errors import Refused
from tests.driver import LOCATIONS, Shop
from tests.model import Model, Place, Position

CHANNEL = "web"
FENCED_HERE = (0, 1, 0, 0)
"""What a position's further counters are where a fence is and nothing else."""
OWN = 2
"""The flag of a policy that a caller wrote."""
Numbers = tuple[int, int, int]


async def open_channel(shop: Shop) -> None:
    """Makes a channel: each partition gets the settings of its pool and its own."""
    await shop.inventory.save_pool(Pool("all", tuple(LOCATIONS)))
    await shop.inventory.save_channel(Channel(CHANNEL, ("all",)))
    for partition in range(shop.partitions):
        shop.model.sequences[partition] = shop.model.sequence(partition) + 2


async def change_policy(shop: Shop, place: Place, numbers: Numbers | None) -> str:
    """Writes a policy (safety stock, backorder limit, low stock), or deletes it, on both sides."""
    wanted, told = decide_policy(shop.model, place, numbers), "saved"
    try:
        if numbers is None:
            await shop.inventory.delete_policy(*place)
        else:
            await shop.inventory.save_policy(Policy(*place, *numbers))
    except Refused as refused:
        told = str(refused.outcome)
    assert told == wanted
    return wanted


async def change_fence(shop: Shop, place: Place, quantity: int | None) -> str:
    """Writes the fence of the one channel, or deletes it, on both sides. Nobody sells through it here."""
    wanted, told = decide_fence(shop.model, place, quantity), "saved"
    try:
        if quantity is None:
            await shop.inventory.delete_fence(CHANNEL, *place)
        else:
            fence = await shop.inventory.save_fence(CHANNEL, *place, quantity)
            assert (fence.quantity, fence.remaining, fence.used) == (quantity, quantity, 0)
    except Refused as refused:
        told = str(refused.outcome)
    assert told == wanted
    return wanted


def decide_policy(model: Model, place: Place, numbers: Numbers | None) -> str:
    """What becomes of a policy. It makes its position; without it there is nothing to inherit here."""
    position = model.positions.get(place)
    now = position.policy if position else None
    flags = now.further[1] if now else 0
    before = (now.safety_stock, now.backorder_limit, now.low_stock) if now and flags & OWN else None
    if numbers is None and before is None:
        return "policy_not_found"
    if position is None:
        if place[1] not in model.locations:
            return "location_not_found"
        position = model.positions[place] = Position()
    elif numbers == before:
        return "saved"
    safety, backorder, low = numbers or (0, 0, 0)
    inbound, _, *rest = position.policy.further
    position.policy = replace(
        position.policy,
        safety_stock=safety,
        backorder_limit=backorder,
        low_stock=low,
        further=(inbound, flags & ~OWN | (0 if numbers is None else OWN), *rest),
    )
    _count(model, place)
    return "saved"


def decide_fence(model: Model, place: Place, quantity: int | None) -> str:
    """What becomes of the fence of the only channel there is."""
    position = model.positions.get(place)
    exists = position is not None and bool(position.policy.further[1] & FENCED_HERE[1])
    if quantity is None and not exists:
        return "fence_not_found"
    if position is None:
        return "not_stocked" if place[1] in model.locations else "location_not_found"
    if not exists or quantity != position.policy.fenced:
        inbound, flags, *rest = position.policy.further
        own = flags & ~FENCED_HERE[1]
        further = (inbound, own if quantity is None else own | FENCED_HERE[1], *rest)
        position.policy = replace(position.policy, fenced=quantity or 0, further=further)
        _count(model, place)
    return "saved"


def _count(model: Model, place: Place) -> None:
    partition = model.partition(place[0])
    model.sequences[partition] = model.sequence(partition) + 1
