"""Writes books into an empty data set, through the scripts of the engine.

What is stored there is therefore as it always is: cards, claims, blocks, deadlines, and a ledger from which
all of it follows. Positions are opened, and everything with an id is carried.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from engine import moves
from engine.commands import Answered
from engine.dataset import Dataset
from engine.document_kinds import decode_document
from engine.errors import DatasetUnfit
from engine.ids import fingerprint
from engine.keys import partition_of
from engine.repartition.books import Books, Tell, open_units
from engine.repartition.comparing import SUPPLIES_FROM
from engine.repartition.layout import Layout

AT_ONCE = 4096
"""Requests that wait for the server at a time."""
ROWS_AT_ONCE = 100
"""Lines of a history that one call carries."""
_Call = Callable[[], Answered]


async def write_books(target: Dataset, books: Books, layout: Layout, tell: Tell) -> int:
    """Writes all that the layout names. Returns how many events that took. Raises `DatasetUnfit` where the
    server does not take something, `Unavailable`, `Unconfirmed`.
    """
    await _send(_settings(target, books))
    await _send(_documents(target, books))
    promised = open_units(books)
    opening = {place: max(units, promised.get(place, 0)) for place, units in books.on_hand.items()}
    await _send(_opening(target, place, units) for place, units in opening.items())
    tell(f"wrote {len(books.settings):,} settings and {len(opening):,} positions")
    rules = [*_policies(target, books), *_fences(target, books)]
    await _send(rules)
    tell(f"wrote {len(rules):,} policies and fences")
    await _send(
        partial(commands.carry, one.operation, one.until_ms, one.route, one.record, one.positions)
        for commands, filed in zip(target.commands, layout.filed, strict=True)
        for one in filed
    )
    await _send(_supplies(target, books))
    carried = sum(map(len, layout.filed))
    tell(f"carried {carried:,} reservations, parts and answers")
    # Last, what facts took away that was promised, and what they left.
    rest = list(_rest(target, books, opening))
    await _send(rest)
    await _send(
        partial(target.commands[bond.keeper].bind, bond.operation, bond.mark, bond.until_ms - books.now_ms)
        for bond in layout.bonds
    )
    return len(books.settings) * layout.partitions + len(opening) + len(rules) + carried + len(rest)


def _settings(target: Dataset, books: Books) -> Iterator[_Call]:
    """As they were decided in the end: what is named comes before what names it."""
    for number, (kind, name, packed) in enumerate(books.in_order(), 1):
        for partition, commands in enumerate(target.commands):
            at, to = (number - 1, number) if partition else (0, 0)
            yield partial(commands.save_setting, kind, name, packed, at=at, to=to)


def _policies(target: Dataset, books: Books) -> Iterator[_Call]:
    for (sku, location), numbers in books.policies.items():
        commands = target.commands[partition_of(sku, target.partitions)]
        yield partial(commands.save_policy, sku, location, numbers)
    for sku, location in books.inheriting:
        yield partial(target.commands[partition_of(sku, target.partitions)].inherit, sku, location)


def _fences(target: Dataset, books: Books) -> Iterator[_Call]:
    """With what is used of each: the reservations that are carried change no fence."""
    for (sku, location), fences in books.fences.items():
        commands = target.commands[partition_of(sku, target.partitions)]
        for fence in fences:
            yield partial(
                commands.save_fence,
                fence.channel,
                sku,
                location,
                fence.quantity,
                spills=fence.spill,
                used=fence.used,
            )


def _documents(target: Dataset, books: Books) -> Iterator[_Call]:
    for (route, own), (is_pending, content) in books.documents.items():
        document = decode_document(content)
        yield partial(
            target.commands[route % target.partitions].save_document,
            own,
            content,
            version=0,
            is_pending=is_pending,
            is_over=document.is_over,
            added=document.entries(own),
        )


def _supplies(target: Dataset, books: Books) -> Iterator[_Call]:
    for (sku, location), found in books.supplies.items():
        commands = target.commands[partition_of(sku, target.partitions)]
        for number, supply in enumerate(found, SUPPLIES_FROM):
            operation = target.ids.of_opening(books.epoch, sku, location, number)
            mark = fingerprint(b"%d" % number)
            yield partial(commands.supply, operation, mark, supply, location, sku, received=0)


def _rest(target: Dataset, books: Books, opening: Mapping[tuple[str, str], int]) -> Iterator[_Call]:
    """What facts left of each position: units, the newest count, conditions, history."""
    for place, units in books.on_hand.items():
        change, rows = units - opening[place], books.history.get(place, [])
        count, conditions = books.counts.get(place, b""), books.conditions.get(place, b"")
        preordered = books.preordered.get(place, 0)
        if change or preordered or count or conditions or rows:
            first_rows = rows[:ROWS_AT_ONCE]
            yield _opening(target, place, change, count, conditions, first_rows, preordered=preordered)
        for first in range(ROWS_AT_ONCE, len(rows), ROWS_AT_ONCE):
            yield _opening(target, place, 0, rows=rows[first : first + ROWS_AT_ONCE])


def _opening(
    target: Dataset,
    place: tuple[str, str],
    units: int,
    count: bytes = b"",
    conditions: bytes = b"",
    rows: Sequence[moves.Row] = (),
    *,
    preordered: int = 0,
) -> _Call:
    commands = target.commands[partition_of(place[0], target.partitions)]
    packed = moves.encode_opening(*place, units, count, conditions, rows, preordered=preordered)
    return partial(commands.opening, packed)


async def _send(calls: Iterable[_Call]) -> None:
    """Makes calls, many at a time and in their order for each partition. Raises where one is refused."""
    waiting = iter(calls)
    while some := list(islice(waiting, AT_ONCE)):
        for _, _, _, answer in await asyncio.gather(*[call() for call in some]):
            if type(answer) is list and type(answer[0]) is bytes:
                raise DatasetUnfit(f"the server does not take what the other one holds: {answer!r}")
