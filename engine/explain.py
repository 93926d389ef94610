"""Why a number is what it is: the sum behind each position's availability, and who holds its units."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import cast

from msgspec import Struct, structs

from engine import keys
from engine.cards import (
    FLAG_FENCED,
    FLAGS_AT,
    PAGES,
    PLAIN_COUNTERS,
    UNLIMITED,
    Card,
    block_field,
    decode_card,
    decode_fences,
    fence_field,
    is_divider,
    page_field,
    page_of,
    read_availability,
    read_positions,
    split_claims,
    without_holds,
)
from engine.errors import NotStocked, SkuNotFound
from engine.events import Replanned, Reserved, Resolved, Spread, parse_version, read_events
from engine.holders import Holder, hold_of, read_baskets
from engine.inventory import Inventory
from engine.records import WITH_UNITS, Head, Record, decode_record
from engine.types import Buffer, Channel, Fence, LocationAvailability, Status

BLOCKS_AHEAD = 8
"""Blocks of claims that are read before there are any: a card may fill some while we ask."""


class Explanation(Struct, frozen=True):
    """A position's availability as a sum: `available` is on_hand less what is taken off and with what is
    added again, but not below `-backorder_limit`. `holders` come oldest promise first. All of one moment,
    `version`.
    """

    sku: str
    location: str
    available: int
    on_hand: int
    held: int
    allocated: int
    unsellable: int
    safety_stock: int
    fenced: int
    backorder_limit: int
    version: str
    holders: tuple[Holder, ...]
    own_held: int = 0
    """Of `held` what the owner who asks holds: it is not taken off."""
    status: Status = Status.OUT_OF_STOCK
    fences: tuple[Fence, ...] = ()
    """Whose units `fenced` are."""
    preordered: int = 0
    """Of the promises so many are for units that are still expected."""


async def explain(
    inventory: Inventory, sku: str, location: str | None = None, *, owner: str | None = None
) -> list[Explanation]:
    """Explains a SKU's positions, or the one at a location. What has lapsed is given back first, and what an
    `owner` holds counts as free.

    Raises `SkuNotFound`, `NotStocked`, `InvalidRequest`, `StorageUnavailable`. Cost: all open claims on
    the SKU's cards, read twice.
    """
    await inventory.stock(sku, locations=() if location is None else (location,))
    partition = keys.partition_of(sku, inventory.dataset.partitions)
    version, stored, records = await _read_books(inventory, partition, sku, location)
    baskets = await read_baskets(inventory, records)
    if sku not in stored:
        raise SkuNotFound(f"SKU {sku}: no location stocks it", version=version)
    found = []
    for field in _card_fields(stored, sku, location):
        if field not in stored:
            continue
        claimants = _claimants(stored, field)
        for position in read_positions(stored[field], version):
            if location in {None, position.location}:
                listed = _list_holders(sku, position.location, claimants, records, baskets)
                own = sum(holder.held for holder in listed if owner is not None and holder.owner == owner)
                at_fence = fence_field(sku, position.location)
                free = _without(stored[field], position.location, own)
                found.append(
                    Explanation(
                        sku,
                        position.location,
                        free.available,
                        position.on_hand,
                        position.held,
                        position.allocated,
                        position.unsellable,
                        position.safety_stock,
                        position.fenced,
                        position.backorder_limit,
                        version,
                        listed,
                        own,
                        free.status,
                        tuple(decode_fences(sku, position.location, stored.get(at_fence, b""))),
                        position.preordered - min(own, position.preordered),
                    )
                )
    if location is not None and not found:
        raise NotStocked(f"{sku} at {location}", version=version)
    return sorted(found, key=lambda explanation: explanation.location)


def _without(card: bytes, location: str, held: int) -> LocationAvailability:
    """What a location can promise to one who holds so many units there."""
    places = read_availability(without_holds(card, {location: held}) if held else card)
    return next(place for place in places if place.location == location)


def _time_of(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")


def render_explanations(explanations: Sequence[Explanation]) -> str:
    """The explanations as text: a sum for each position, its holders below it."""
    blocks = []
    for explanation in explanations:
        lines = [f"{explanation.sku} at {explanation.location}: {render_sum(explanation)}"]
        for holder in explanation.holders:
            parts = [f"  {holder.reservation} {holder.state}"]
            parts += [f"{holder.held} held"] if holder.held else []
            parts += [f"{holder.allocated} allocated"] if holder.allocated else []
            parts += [f"owner {holder.owner}"] if holder.owner is not None else []
            parts += [f"reference {holder.reference}"] if holder.reference is not None else []
            parts += [f"until {_time_of(holder.expires_ms)}"] if holder.expires_ms is not None else []
            lines.append(", ".join(parts))
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def render_sum(explanation: Explanation) -> str:
    """`3 = 12 on hand − 4 held − 3 allocated − 2 safety stock`; what is zero is left out."""
    terms = (
        (explanation.held, "held"),
        (explanation.allocated, "allocated"),
        (explanation.unsellable, "unsellable"),
        (explanation.safety_stock, "safety stock"),
        *((fence.remaining, f"fenced for {fence.channel}") for fence in explanation.fences),
        (explanation.fenced - sum(fence.remaining for fence in explanation.fences), "fenced for others"),
    )
    free = explanation.on_hand - sum(units for units, _ in terms)
    free += explanation.own_held + explanation.preordered
    text = f"{_number(free)} = {_number(explanation.on_hand)} on hand"
    text += "".join(f" − {units} {name}" for units, name in terms if units)
    text += f" + {explanation.own_held} of its own" if explanation.own_held else ""
    text += f" + {explanation.preordered} of what is expected" if explanation.preordered else ""
    if explanation.backorder_limit >= UNLIMITED:
        return f"never runs out, for it is not tracked: {text}"
    if explanation.available == free:
        return text
    return f"{_number(explanation.available)}, the backorder limit, as {text}"


def render_share(explanation: Explanation, channel: Channel, available: int) -> str:
    """`7 for web: 8 = 12 on hand − 4 held, less a buffer of 1`; or what its fence has, and what beside it."""
    fence = next((one for one in explanation.fences if one.channel == channel.id), None)
    buffer = channel.buffer or Buffer()
    sellable = max(0, explanation.on_hand - explanation.unsellable)
    left = (buffer.units or 0) + -(-sellable * (buffer.percent or 0) // 100)
    common = render_sum(explanation) + (f", less a buffer of {left}" if left else "")
    head = f"{_number(available)} for {channel.id}: "
    if fence is None:
        return head + common
    of_fence = f"{fence.remaining} in its fence"
    if explanation.own_held:
        of_fence += ", and what its own give back to it"
    return f"{head}{of_fence}; beside it {common}" if fence.spill else head + of_fence


def _number(number: int) -> str:
    return f"{number}".replace("-", "−")


def _card_fields(stored: Mapping[str, bytes], sku: str, location: str | None) -> list[str]:
    """The fields that may have cards of a SKU, or that of a location."""
    if sku not in stored or not is_divider(stored[sku]):
        return [sku]
    pages = range(PAGES) if location is None else (page_of(location),)
    return [page_field(sku, page) for page in pages]


def _cards(stored: Mapping[str, bytes], sku: str, location: str | None) -> Iterator[tuple[str, Card]]:
    for field in _card_fields(stored, sku, location):
        if field in stored:
            yield field, decode_card(stored[field])


def _fenced_places(card: Card, location: str | None) -> Iterator[str]:
    """The locations of a card, or the one that is asked for, where there are fences."""
    for index, place in enumerate(card.locations):
        policy = card.counters[index * card.stride + PLAIN_COUNTERS : (index + 1) * card.stride]
        if location in {None, place} and policy and policy[FLAGS_AT] & FLAG_FENCED:
            yield place


def _claimants(stored: Mapping[str, bytes], field: str) -> list[bytes]:
    """Who has claims on a card, oldest promise first."""
    card = decode_card(stored[field])
    packed = [stored.get(block_field(field, block), b"") for block in range(card.first, card.block)]
    return split_claims(b"".join((*packed, card.claims)))


async def _read_books(
    inventory: Inventory, partition: int, sku: str, location: str | None
) -> tuple[str, Mapping[str, bytes], dict[bytes, Record]]:
    """A SKU's cards with the blocks of their claims, and the records of all who hold units, as of one moment.

    Which fields there are, and who holds units, is known only once the cards are read; so they are read until
    a reading that knew it was followed by another. Those who came between the two are read last, and get
    the head that the ledger gave them by the second reading.
    """
    asked, claimants, before = [sku], list[bytes](), ""
    while True:
        version, stored, records = await _read_once(inventory, partition, asked, claimants)
        needed, likely = [sku, *_card_fields(stored, sku, location)], list[str]()
        claimants = []
        for field, card in _cards(stored, sku, location):
            needed += [fence_field(sku, place) for place in _fenced_places(card, location)]
            needed += [block_field(field, block) for block in range(card.first, card.block)]
            likely += [block_field(field, card.block + ahead) for ahead in range(BLOCKS_AHEAD)]
            claimants += _claimants(stored, field)
        newcomers = [claimant for claimant in claimants if claimant not in records]
        is_complete = set(asked).issuperset(needed)
        if is_complete and (before or not newcomers):
            break
        before = version if is_complete else ""
        asked = [*dict.fromkeys((*needed, *likely))]
    if newcomers:
        heads, changed = dict[bytes, Head](), dict[bytes, Record]()
        since, until = parse_version(before), parse_version(version)
        async for event in read_events(inventory.dataset.topology, partition, after=since, until=until):
            if isinstance(event, Reserved):
                heads[event.id] = event.read_record().head
            elif isinstance(event, Resolved):
                heads[event.id] = event.read_head()
            elif isinstance(event, Replanned):
                changed[event.id] = record = event.read_record()
                heads[event.id] = record.head
            elif isinstance(event, Spread):
                changed[event.part] = record = decode_record(event.part_record)
                heads[event.part] = record.head
        _, _, late = await _read_once(inventory, partition, asked, newcomers)
        for claimant, record in late.items():
            known = changed.get(claimant, record)
            records[claimant] = structs.replace(known, head=heads.get(claimant, known.head))
    return version, stored, records


async def _read_once(
    inventory: Inventory, partition: int, fields: Sequence[str], asked: Sequence[bytes]
) -> tuple[str, dict[str, bytes], dict[bytes, Record]]:
    requests: list[tuple[str | bytes | int, ...]] = [
        ("HMGET", keys.meta(partition), "epoch", "seq"),
        ("HMGET", keys.stock(partition), *fields),
    ]
    if asked:
        requests.append(("HMGET", keys.operations(partition), *asked))
    head, cards, *replies = await inventory.dataset.topology.read_at_once(*requests)
    raw = cast("list[bytes | None]", replies[0]) if replies else []
    records = {
        operation: decode_record(record)
        for operation, record in zip(asked, raw, strict=True)
        if record is not None and record[0] in WITH_UNITS
    }
    stored = {
        field: card
        for field, card in zip(fields, cast("list[bytes | None]", cards), strict=True)
        if card is not None
    }
    epoch, seq = (number.decode() if number else "0" for number in cast("list[bytes | None]", head))
    return f"{epoch}.{seq}", stored, records


def _list_holders(
    sku: str,
    location: str,
    claimants: Sequence[bytes],
    records: Mapping[bytes, Record],
    baskets: Mapping[bytes, Record],
) -> tuple[Holder, ...]:
    found = (
        hold_of(sku, location, claimant, records[claimant], baskets.get(claimant))
        for claimant in claimants
        if claimant in records
    )
    return tuple(holder for holder in found if holder is not None)
