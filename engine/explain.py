"""Why a number is what it is: the sum behind each position's availability, and who holds its units."""

from collections.abc import Mapping, Sequence
from typing import cast

from msgspec import Struct, structs

from engine import keys
from engine.errors import NotStocked, SkuNotFound
from engine.events import Reserved, Resolved, parse_version, read_events
from engine.ids import OPERATION_ID_SIZE, reservation_id
from engine.inventory import Inventory
from engine.ledger import Counters, decode_counters
from engine.lifecycle import COMMITTED, HELD, positions_of, units_of
from engine.records import Head, Record, decode_record, is_reservation, reference_at
from engine.types import State


class Holder(Struct, frozen=True, gc=False):
    """A reservation with open units at a position. `promised_seq` orders the promises."""

    reservation: str
    state: State
    held: int
    allocated: int
    owner: str | None
    reference: str | None
    expires_ms: int | None
    promised_seq: int


class Explanation(Struct, frozen=True):
    """A position's availability as a sum: `available` is on_hand less all the others, but not below
    `-backorder_limit`. `holders` come newest promise first. All of one moment, `version`.
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


async def explain(inventory: Inventory, sku: str, location: str | None = None) -> list[Explanation]:
    """Explains a SKU's positions, or the one at a location. What has lapsed is given back first.

    Raises `SkuNotFound`, `NotStocked`, `InvalidRequest`, `StorageUnavailable`. Cost: all open claims on
    the SKU, read twice.
    """
    await inventory.stock(sku, locations=() if location is None else (location,))
    partition = keys.partition_of(sku, inventory.dataset.partitions)
    version, fields, records = await _read_books(inventory, partition, sku)
    places = {name: counters for name, counters in _positions(fields) if location in {None, name}}
    if not fields:
        raise SkuNotFound(f"SKU {sku}: no location stocks it", version=version)
    if location is not None and not places:
        raise NotStocked(f"{sku} at {location}", version=version)
    return [
        Explanation(
            sku,
            name,
            counters.available,
            counters.on_hand,
            counters.held,
            counters.allocated,
            counters.unsellable,
            counters.safety_stock,
            counters.fenced,
            counters.backorder_limit,
            version,
            _list_holders(partition, sku, name, counters.holders, records),
        )
        for name, counters in sorted(places.items())
    ]


async def holders(inventory: Inventory, sku: str, location: str) -> tuple[Holder, ...]:
    """Who holds units of a position, newest promise first. Raises as `explain` does."""
    (explanation,) = await explain(inventory, sku, location)
    return explanation.holders


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
            parts += [f"until {holder.expires_ms} ms"] if holder.expires_ms is not None else []
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
        (explanation.fenced, "fenced for others"),
    )
    free = explanation.on_hand - sum(units for units, _ in terms)
    text = f"{_number(free)} = {_number(explanation.on_hand)} on hand"
    text += "".join(f" − {units} {name}" for units, name in terms if units)
    if explanation.available == free:
        return text
    return f"{_number(explanation.available)}, the backorder limit, as {text}"


def _number(number: int) -> str:
    return f"{number}".replace("-", "−")


def _positions(fields: Mapping[bytes, bytes]) -> list[tuple[str, Counters]]:
    """The positions of a SKU's hash, each with its holders."""
    found = {name: decode_counters(raw) for name, raw in fields.items() if name and b"\n" not in name}
    for name, order in fields.items():
        place, _, holder = name.partition(b"\n")
        if len(holder) == OPERATION_ID_SIZE and place in found:
            found[place].holders[holder] = int(order)
    return [(name.decode(), counters) for name, counters in found.items()]


async def _read_books(
    inventory: Inventory, partition: int, sku: str
) -> tuple[str, dict[bytes, bytes], dict[bytes, Record]]:
    """A SKU's hash and the records of all who hold units of it, as of one moment.

    Who holds units is known only once the hash is read. Those who came between the two readings are read
    last, and get the head that the ledger gave them by the second reading.
    """
    before, fields, _ = await _read_once(inventory, partition, sku, ())
    version, fields, records = await _read_once(inventory, partition, sku, _claimants(fields))
    newcomers = [claimant for claimant in _claimants(fields) if claimant not in records]
    if newcomers:
        heads: dict[bytes, Head] = {}
        since, until = parse_version(before), parse_version(version)
        async for event in read_events(inventory.dataset.topology, partition, after=since, until=until):
            if isinstance(event, Reserved):
                heads[event.id] = event.read_record().head
            elif isinstance(event, Resolved):
                heads[event.id] = event.read_head()
        _, _, late = await _read_once(inventory, partition, sku, newcomers)
        for claimant, record in late.items():
            records[claimant] = structs.replace(record, head=heads.get(claimant, record.head))
    return version, fields, records


def _claimants(fields: Mapping[bytes, bytes]) -> list[bytes]:
    return sorted({holder for _, _, holder in (name.partition(b"\n") for name in fields) if holder})


async def _read_once(
    inventory: Inventory, partition: int, sku: str, asked: Sequence[bytes]
) -> tuple[str, dict[bytes, bytes], dict[bytes, Record]]:
    requests: list[tuple[str | bytes | int, ...]] = [
        ("HMGET", keys.meta(partition), "epoch", "seq"),
        ("HGETALL", keys.stock(partition, sku)),
    ]
    if asked:
        requests.append(("HMGET", keys.operations(partition), *asked))
    head, fields, *replies = await inventory.dataset.topology.read_at_once(*requests)
    raw = cast("list[bytes | None]", replies[0]) if replies else []
    records = {
        operation: decode_record(record)
        for operation, record in zip(asked, raw, strict=True)
        if record is not None and is_reservation(record)
    }
    epoch, seq = (number.decode() if number else "0" for number in cast("list[bytes | None]", head))
    return f"{epoch}.{seq}", cast("dict[bytes, bytes]", fields), records


def _list_holders(
    partition: int, sku: str, location: str, orders: Mapping[bytes, int], records: Mapping[bytes, Record]
) -> tuple[Holder, ...]:
    listed = []
    for operation, order in sorted(orders.items(), key=lambda holder: -holder[1]):
        record = records.get(operation)
        if record is None:
            continue
        head, plan, detail = record.head, record.plan.packed, record.detail
        for (name, place, _), units in zip(positions_of(plan), units_of(head, plan), strict=True):
            if (name, place) == (sku, location):
                listed.append(
                    Holder(
                        reservation_id(partition, operation),
                        head.state,
                        units[HELD],
                        units[COMMITTED],
                        detail.owner,
                        reference_at(detail, head.revision),
                        head.deadline_ms if head.state is State.HELD else None,
                        order,
                    )
                )
    return tuple(listed)
