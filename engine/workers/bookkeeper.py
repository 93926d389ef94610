"""Follows the ledger and adds up what became of holds; rings where one left less than there was."""

import asyncio
from collections.abc import Mapping
from logging import getLogger
from time import monotonic
from typing import cast

from engine import keys
from engine.cards import is_divider, page_field, page_of, read_shortfalls
from engine.events import Event, Reserved, Resolved, Version, parse_version, read_events
from engine.figures import LedgerCounts
from engine.inventory import Inventory
from engine.tally import Hold, Tally

log = getLogger("bincard.books")

TICK_SECONDS = 0.25
REST_FOR_WORK = 39
"""Rests so many times as long as it worked: a fortieth of a processor at the most."""
LONGEST_REST_SECONDS = 2.0
"""Part of the work is to wait for a server that may be slow."""
PAGE_ENTRIES = 50
CHECKED_POSITIONS = 100
"""Of those that were held last, with each page."""
JUDGED_EVENTS = 20_000
"""Who is further behind judges nobody: where a position is short, all that came since is read."""


class Bookkeeper:
    """Adds up the ledgers of all partitions from where they end when it begins."""

    name = "bookkeeper"

    def __init__(self, inventory: Inventory) -> None:
        self._topology = inventory.dataset.topology
        self._read: list[Version | None] = [None] * inventory.dataset.partitions
        self._behind = [0] * inventory.dataset.partitions
        self._tally = Tally()
        self._oversold = self._rollbacks = self._gaps = self._damaged = 0

    def counts(self) -> LedgerCounts:
        """The sums so far."""
        tally = self._tally
        return LedgerCounts(
            dict(tally.holds),
            dict(tally.units),
            tally.events,
            tally.facts,
            tally.uncovered_promises,
            tally.uncovered_units,
            self._oversold,
            self._rollbacks,
            self._gaps,
            self._damaged,
            sum(self._behind),
        )

    async def tick(self) -> float:
        """Reads a page of each partition's ledger. Raises `StorageUnavailable`; the others go on."""
        begun = monotonic()
        results = await asyncio.gather(*map(self._step, range(len(self._read))), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        rest = min(REST_FOR_WORK * (monotonic() - begun), LONGEST_REST_SECONDS)
        return rest if any(results) else max(rest, TICK_SECONDS)

    async def _step(self, partition: int) -> bool:
        """Whether there is more."""
        read = self._read[partition]
        if read is None:
            self._read[partition] = await self._end_of(partition)
            return True
        page = await self._topology.read_stream(keys.log(partition), read.entry_id, PAGE_ENTRIES)
        if not page:
            await self._look_back(partition, read)
            return False
        held: list[Hold] = []
        for entry, packed in page:
            self._add(partition, parse_version(entry), packed, held)
        has_more = len(page) == PAGE_ENTRIES
        behind = (await self._end_of(partition)).seq - parse_version(page[-1][0]).seq if has_more else 0
        self._behind[partition] = behind
        if held and behind <= JUDGED_EVENTS:
            await self._check(partition, read, {(sku, place): units for sku, place, units in held})
        return has_more

    def _add(self, partition: int, last: Version, packed: bytes, held: list[Hold]) -> None:
        read = self._read[partition]
        assert read is not None, "it has begun"
        self._read[partition] = last
        try:
            events = self._tally.add(packed, held)
        except (ValueError, IndexError) as fault:
            self._damaged += 1
            log.error("partition %d: the entry that ends with %s is damaged: %s", partition, last, fault)  # noqa: TRY400 - its text tells all
            return
        if last.seq - events > read.seq:
            self._gaps += 1
            log.error("partition %d: events are missing between %s and %s", partition, read, last)
        elif last.seq - events < read.seq:
            self._rollbacks += 1
            log.error("partition %d: the ledger goes on from before %s with %s", partition, read, last)

    async def _end_of(self, partition: int) -> Version:
        (head,) = await self._topology.read_at_once(("HMGET", keys.meta(partition), "epoch", "seq"))
        return Version(*(int(number or 0) for number in cast("list[bytes | None]", head)))

    async def _look_back(self, partition: int, read: Version) -> None:
        """A ledger that ends before what was read was rolled back."""
        self._behind[partition] = 0
        (last,) = await self._topology.read_at_once(("XREVRANGE", keys.log(partition), "+", "-", "COUNT", 1))
        entries = cast("list[tuple[bytes, object]]", last)
        if entries and (end := parse_version(entries[0][0].decode())).seq < read.seq:
            self._read[partition] = end
            self._rollbacks += 1
            log.error("partition %d: the ledger was rolled back from %s to %s", partition, read, end)

    # ---------------------------------------------------------------- oversold

    async def _check(self, partition: int, since: Version, held: Mapping[tuple[str, str], int]) -> None:
        """Positions that were held just now must have what they promised, unless a fact came after it."""
        asked = list(held)[-CHECKED_POSITIONS:]
        fields = [field for sku, place in asked for field in (sku, page_field(sku, page_of(place)))]
        head, found = await self._topology.read_at_once(
            ("HMGET", keys.meta(partition), "epoch", "seq"), ("HMGET", keys.stock(partition), *fields)
        )
        cards = cast("list[bytes | None]", found)
        short: dict[tuple[str, str], int] = {}
        for (sku, place), own, page in zip(asked, cards[::2], cards[1::2], strict=True):
            card = page if own is None or is_divider(own) else own
            if card is not None and (missing := read_shortfalls(card).get(place, 0)):
                short[sku, place] = missing
        if short:
            epoch, seq = (int(number or 0) for number in cast("list[bytes | None]", head))
            await self._judge(partition, since, Version(epoch, seq), short)

    async def _judge(
        self, partition: int, since: Version, until: Version, short: Mapping[tuple[str, str], int]
    ) -> None:
        guilty: dict[tuple[str, str], int] = {}
        async for item in read_events(self._topology, partition, after=since, until=until):
            if not isinstance(item, Event):
                # A fact may be missing.
                guilty = {}
            elif isinstance(item, Reserved):
                guilty |= {
                    (line.sku, line.location): line.quantity
                    for line in item.read_record().plan.positions
                    if (line.sku, line.location) in short
                }
            elif not isinstance(item, Resolved):
                # A fact or a setting may leave less, and says so itself.
                sku = getattr(item, "sku", None)
                guilty = {where: units for where, units in guilty.items() if sku not in {None, where[0]}}
        for (sku, place), units in guilty.items():
            self._oversold += min(units, short[sku, place])
            log.error(
                "oversold: %d more of %s at %s are promised than there are", short[sku, place], sku, place
            )
