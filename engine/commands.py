"""The scripts of one partition as typed calls: arguments in the form that Lua reads, answers as Python.

One method for each file of `lua/`, and the only place that knows the order of its keys and arguments.
Each returns a future of the fields of a `Reply`, so that many can be asked before the first is awaited.
"""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from engine import keys, limits
from engine.cards import place_of
from engine.cluster_link import HotLink
from engine.ids import FINGERPRINT_SIZE, NO_FINGERPRINT, NO_OPERATION, OPERATION_ID_SIZE, mark_for
from engine.lane import Answer, Home, Script, bulk, encode_known
from engine.pace import Watch
from engine.records import (
    BLOCK_SIZE,
    HEAD_SIZE,
    KIND_RESERVATION,
    NO_POSITIONS,
    UNKNOWN_REVISION,
    encode_version,
)
from engine.script import Library
from engine.supplies import encode_supply
from engine.types import Supply

READ, RESERVE, RELEASE, COMMIT = 3, 2, 1, 0
UNCONFIRMED = frozenset(
    {
        *("cards", "expire", "find", "forget", "index", "outbox", "pace", "repair", "settle", "supplies"),
        *("trim", "unbind", "forget_document"),
    }
)
"""Verbs whose answers wait for no replica: they read, or do what any sweep would do again."""
Resolution = Literal["commit", "release", "extend", "fulfil", "cancel"]
Answered = asyncio.Future[tuple[int, int, int, Answer]]
AnsweredMany = list[tuple[int, asyncio.Future[tuple[int, int, int, list[Answer]]]]]
"""Futures for requests that were sent together, each for the next so many of them."""


class Reply(Struct, frozen=True, gc=False):
    """What a script answered: when, in which epoch, up to which sequence, and the answer itself."""

    now_ms: int
    epoch: int
    seq: int
    answer: Answer

    @property
    def word(self) -> str | None:
        """The word of the answer, or None where the script answers success without one."""
        answer = self.answer
        if type(answer) is list and answer and type(answer[0]) is bytes:
            return str(answer[0], "ascii")
        return None


class Replan(Struct, frozen=True, gc=False):
    """Other lines for a reservation. `version` is that of the record that they were worked out from; `rest`
    is terms and detail as the record has them from then on.
    """

    reservation: bytes
    version: tuple[int, int]
    plan: bytes
    units: Sequence[tuple[int, int, int, int]]
    rest: bytes
    operation: bytes = NO_OPERATION
    fingerprint: bytes = NO_FINGERPRINT
    is_short: bool = False
    """Whether the positions that lose committed units are to be counted."""
    is_basket: bool = False
    """Whether it lies in several partitions."""
    is_offered: bool = False
    """Of a basket over partitions: whether its parts hold what it gets."""


class Commands:
    """The verbs of one partition."""

    def __init__(  # noqa: PLR0915 - a line a verb
        self,
        link: HotLink,
        library: Library,
        partition: int,
        *,
        retention_ms: int,
        watch: Watch | None = None,
    ) -> None:
        self._submit, self._submit_many = link.submit, link.submit_many
        self.partition = partition
        self.watch = watch
        """What our own clock says of engine time; None where the server's clock has the last word."""
        meta, operations, due = keys.meta(partition), keys.operations(partition), keys.due(partition)
        log, stock = keys.log(partition), keys.stock(partition)
        locations, stocked = keys.locations(partition), keys.stocked(partition)
        moves, history = keys.moves(partition), str(limits.HISTORY_SECONDS * 1000)
        settings = (
            locations,
            keys.pools(partition),
            keys.channels(partition),
            keys.items(partition),
            keys.api_keys(partition),
        )
        named, changes = keys.named(partition), keys.changes(partition)
        defaults, inheriting = keys.defaults(partition), keys.inheriting(partition)
        inbound, documents = keys.inbound(partition), keys.documents(partition)
        listed, ended = keys.listed(partition), keys.ended(partition)
        keep_ms = max(limits.DOCUMENT_SECONDS * 1000, retention_ms)
        effects, retention = (meta, operations, due, log, stock), (str(retention_ms),)
        leaving, facts = (*effects, moves), (*effects, locations, stocked, moves, keys.counts(partition))

        self.trimmed = b""
        """The position up to which old history was forgotten."""
        self._home = Home()
        self._home.is_watched = watch is not None

        def script(verb: str, fixed: Sequence[str], priority: int, arguments: Sequence[str] = ()) -> Script:
            return Script(
                library.function(verb),
                fixed,
                arguments,
                priority=priority,
                home=self._home,
                is_confirmed=verb not in UNCONFIRMED,
                verb=verb,
            )

        self._reserve = script("reserve", effects, RESERVE, retention)
        self._resolve: dict[str, Script] = {
            "commit": script("commit", leaving, COMMIT, retention),
            "fulfil": script("fulfil", leaving, COMMIT, retention),
            "release": script("release", effects, RELEASE, retention),
            "cancel": script("cancel", effects, RELEASE, retention),
            "extend": script("extend", effects, RELEASE, retention),
        }
        self._replan = script("replan", (*effects, keys.wanted(partition)), RESERVE, retention)
        self._open_basket = script("open_basket", effects, RESERVE, (str(limits.PENDING_MS),))
        self._hold_part = script("hold_part", effects, RESERVE, retention)
        self._offer = script("offer", effects, RESERVE, retention)
        self._spread = script("spread", effects, RESERVE)
        self._decide = script("decide", effects, COMMIT)
        self._follow = script("follow", leaving, COMMIT, retention)
        self._repair = script("repair", (meta, operations, due), RELEASE)
        self._settle = script("settle", (meta, operations, due), READ)
        self._bind = script("bind", (meta, operations, due), RESERVE)
        self._unbind = script("unbind", (meta, operations), RESERVE)
        self._carry = script("carry", effects, COMMIT)
        self._expire = script("expire", effects, RELEASE, retention)
        self._forget = script("forget", (meta, operations, due), READ)
        self._find = script("find", (meta, operations), COMMIT)
        self._movement = script("movement", (*facts, keys.conditions(partition), defaults), COMMIT, retention)
        self._record_count = script(
            "record_count", (*facts, keys.wanted(partition), defaults), COMMIT, (*retention, history)
        )
        self._opening = script("opening", (*facts, keys.conditions(partition)), COMMIT)
        self._trim = script("trim", (meta, moves), READ, (history,))
        self._index = script("index", (meta, keys.find(partition), keys.found(partition)), READ)
        self._save_setting = script(
            "save_setting",
            (
                meta,
                log,
                stock,
                stocked,
                named,
                changes,
                *settings,
                keys.fenced(partition),
                defaults,
                inheriting,
            ),
            COMMIT,
        )
        self._save_policy = script(
            "save_policy", (meta, operations, log, stock, locations, stocked, defaults), COMMIT
        )
        self._inherit = script("inherit", (meta, log, stock, defaults, inheriting), READ)
        self._save_fence = script(
            "save_fence",
            (meta, log, stock, locations, keys.channels(partition), keys.fenced(partition)),
            COMMIT,
        )
        self._cards = script("cards", (meta, due, stock), READ)
        self._source = script("source", (*effects, *settings[:3]), RESERVE, retention)
        self._plan = script("plan", (meta, operations, due, stock, *settings[:3]), READ)
        self._supply = script("supply", (*effects, locations, stocked, inbound, defaults), COMMIT, retention)
        self._supplies = script("supplies", (meta, due, stock, inbound), READ)
        self._save_document = script(
            "save_document", (meta, operations, due, log, documents, listed, ended), COMMIT, retention
        )
        self._forget_document = script(
            "forget_document", (meta, documents, listed, ended), READ, (str(keep_ms),)
        )
        self._find_document = script("find_document", (meta, operations, documents), COMMIT)
        self._outbox = script("outbox", (meta, due), READ)
        self._pace = script("pace", (meta,), COMMIT)
        self._take_over = self._home.take_over = script("take_over", (meta,), COMMIT)

    def encode_reserve(
        self,
        operation: bytes,
        fingerprint: bytes,
        body: bytes,
        positions: int,
        *,
        kind: int = KIND_RESERVATION,
        behind: bytes = b"",
    ) -> bytes:
        """The argument of `reserve`, `open_basket`, `hold_part` and `offer`. `body` is the time to live, the
        route, a packed plan and what only the caller reads; `behind` it stands what is not for the record.

        The request is the record, but for its end: the blocks of its positions and its head.
        """
        size = _IDS_SIZE + len(body) + BLOCK_SIZE * positions + HEAD_SIZE
        front = bytes((kind,)), size.to_bytes(3, "little"), operation, fingerprint, body, behind
        return bulk(b"".join(front))

    def reserve(self, argument: bytes, positions: int) -> Answered:
        """`lua/reserve.lua`."""
        return self._submit(self._reserve, argument, positions)

    def reserve_many(self, requests: Sequence[tuple[bytes, int]]) -> AnsweredMany:
        """The same for many: their arguments and positions."""
        return self._submit_many(self._reserve, requests)

    def resolve(
        self,
        verb: Resolution,
        reservation: bytes,
        own: bytes,
        *,
        known: int = UNKNOWN_REVISION,
        operation: bytes = NO_OPERATION,
        fingerprint: bytes = NO_FINGERPRINT,
        positions: int = 1,
    ) -> Answered:
        """`lua/commit.lua`, `release`, `extend`, `fulfil`, `cancel`. `known` is the revision of the record
        that the caller has seen; `own` is what the verb itself takes.
        """
        argument = b"".join((reservation, operation, fingerprint, known.to_bytes(2, "little"), own))
        return self._submit(self._resolve[verb], bulk(argument), positions)

    def resolve_many(
        self, verb: Resolution, requests: Sequence[tuple[bytes, int, int]], own: bytes
    ) -> AnsweredMany:
        """The same for many without operation ids: reservations, known revisions and positions."""
        return self._submit_many(
            self._resolve[verb],
            [
                (bulk(b"".join((reservation, _NO_IDS, known.to_bytes(2, "little"), own))), positions)
                for reservation, known, positions in requests
            ],
        )

    def replan(self, asked: Replan) -> Answered:
        """`lua/replan.lua`."""
        units = b"".join([number.to_bytes(5, "little") for row in asked.units for number in row])
        argument = b"".join(
            (
                asked.reservation,
                asked.operation,
                asked.fingerprint,
                encode_version(asked.version),
                bytes((asked.is_short + 2 * asked.is_offered,)),
                asked.plan,
                units,
                asked.rest,
            )
        )
        return self._submit(self._replan, bulk(argument), 2 * len(asked.units) + 1)

    def open_basket(self, argument: bytes, positions: int) -> Answered:
        """`lua/open_basket.lua`."""
        return self._submit(self._open_basket, argument, positions)

    def hold_part(self, argument: bytes, positions: int) -> Answered:
        """`lua/hold_part.lua`."""
        return self._submit(self._hold_part, argument, positions)

    def decide(self, basket: bytes, opened: tuple[int, int], *, hold: bool) -> Answered:
        """`lua/decide.lua`; `opened` is the version at which the attempt began."""
        return self._submit(self._decide, bulk(basket + encode_version(opened) + bytes((hold,))))

    def offer(self, argument: bytes, positions: int) -> Answered:
        """`lua/offer.lua`."""
        return self._submit(self._offer, argument, 2 * positions)

    def spread(self, reservation: bytes, part: bytes, version: tuple[int, int], positions: int) -> Answered:
        """`lua/spread.lua`; `version` is that of the record that was read."""
        seek_ms = limits.SEEK_MS.to_bytes(4, "little")
        return self._submit(
            self._spread, bulk(reservation + part + encode_version(version) + seek_ms), positions
        )

    def follow(
        self,
        part: bytes,
        version: tuple[int, int],
        plan: bytes = NO_POSITIONS,
        units: Sequence[tuple[int, int, int, int]] = (),
    ) -> Answered:
        """`lua/follow.lua`; `units` are held, committed, fulfilled and released of each position of the plan.
        Without positions nothing of the part stays open.
        """
        packed = b"".join([number.to_bytes(5, "little") for row in units for number in row])
        argument = b"".join((part, encode_version(version), plan, packed))
        return self._submit(self._follow, bulk(argument), len(units) or 1)

    def repair(self, limit: int) -> Answered:
        """`lua/repair.lua`: `[id, record, …]`."""
        return self._submit(self._repair, bulk(limit.to_bytes(2, "little")), limits.CALL_POSITIONS)

    def settle(self, basket: bytes, version: tuple[int, int]) -> Answered:
        """`lua/settle.lua`."""
        return self._submit(self._settle, bulk(basket + encode_version(version)))

    def bind(self, operation: bytes, fingerprint: bytes, keep_ms: int) -> Answered:
        """`lua/bind.lua`."""
        return self._submit(self._bind, bulk(operation + fingerprint + keep_ms.to_bytes(6, "little")))

    def unbind(self, operation: bytes, fingerprint: bytes) -> Answered:
        """`lua/unbind.lua`."""
        return self._submit(self._unbind, bulk(operation + fingerprint))

    def carry(self, operation: bytes, until_ms: int, route: int, record: bytes, positions: int) -> Answered:
        """`lua/carry.lua`; `until_ms` counts for the answer to an operation alone."""
        when = until_ms.to_bytes(6, "little") + route.to_bytes(2, "little")
        return self._submit(self._carry, bulk(operation + when + record), positions)

    def expire(self, limit: int) -> Answered:
        """`lua/expire.lua`: `[count, more, repairs]`; how far the clock went back, where no skew says so."""
        horizon = 0 if self.watch is None else self.watch.horizon()
        argument = limit.to_bytes(2, "little") + (horizon.to_bytes(6, "little") if horizon else b"")
        return self._submit(self._expire, bulk(argument), limits.CALL_POSITIONS)

    def forget(self, limit: int) -> Answered:
        """`lua/forget.lua`: `[count, more]`."""
        return self._submit(self._forget, bulk(limit.to_bytes(2, "little")), limits.CALL_POSITIONS)

    @property
    def epoch(self) -> int:
        """The newest epoch of the partition's books that an answer told of."""
        return self._home.epoch

    def take_over(self) -> Answered:
        """`lua/take_over.lua`: the epoch. For books that are taken over a write without an effect."""
        now = asyncio.get_running_loop().time()
        return self._submit(self._take_over, bulk(encode_known(self._home, now)))

    def pace(self, skew: int, *, ahead: int = 0, least: int = 0) -> Answered:
        """`lua/pace.lua`: the skew."""
        argument = (
            skew.to_bytes(6, "little", signed=True),
            ahead.to_bytes(6, "little"),
            least.to_bytes(6, "little"),
        )
        return self._submit(self._pace, bulk(b"".join(argument)))

    def find(self, operation: bytes) -> Answered:
        """`lua/find.lua`: `[seq, record]`."""
        return self._submit(self._find, bulk(operation))

    def index(
        self, prior: bytes, cursor: bytes, added: Sequence[bytes], gone: Sequence[bytes] = ()
    ) -> Answered:
        """`lua/index.lua`: goes on from the cursor `prior`, files entries and strikes out others."""
        head = bytes((len(prior),)) + prior + bytes((len(cursor),)) + cursor
        packed = head + _pack_entries(added) + _pack_entries(gone)
        return self._submit(self._index, bulk(packed), max(1, len(added) + len(gone)))

    def movement(self, argument: bytes) -> Answered:
        """`lua/movement.lua`; see `engine.moves` for the argument."""
        return self._submit(self._movement, argument, 2)

    def record_count(self, argument: bytes) -> Answered:
        """`lua/record_count.lua`; see `engine.moves` for the argument."""
        return self._submit(self._record_count, argument, 4)

    def opening(self, argument: bytes) -> Answered:
        """`lua/opening.lua`; see `engine.moves` for the argument."""
        return self._submit(self._opening, bulk(argument), 16)

    def trim(self, after: bytes) -> Answered:
        """`lua/trim.lua`: `[how many, the position that was looked at last]`."""
        limit = limits.TRIM_POSITIONS.to_bytes(2, "little") + limits.TRIM_MOVES.to_bytes(2, "little")
        return self._submit(self._trim, bulk(limit + after), limits.CALL_POSITIONS)

    def save_setting(
        self, kind: int, name: str, settings: bytes, *, at: int = 0, to: int = 0, caller: str = ""
    ) -> Answered:
        """`lua/save_setting.lua`: `[seq, number]`. Empty settings delete. With `to` it is a copy of what
        partition 0 decided, which leads from the number `at` to the number `to`; with `at` alone a decision
        that is made only if the settings still have that number.
        """
        packed = name.encode()
        numbers = at.to_bytes(6, "little") + to.to_bytes(6, "little")
        head = bytes((kind,)) + numbers + mark_for(caller) + len(packed).to_bytes(2, "little")
        return self._submit(self._save_setting, bulk(head + packed + settings))

    def save_policy(self, sku: str, location: str, numbers: Sequence[int], *, caller: str = "") -> Answered:
        """`lua/save_policy.lua`: safety stock, backorder limit and low-stock band, or none to delete."""
        packed = b"".join([number.to_bytes(7, "little") for number in numbers])
        head = mark_for(caller) + _pack_position(sku, location)
        return self._submit(self._save_policy, bulk(head + packed), 2)

    def inherit(self, sku: str, location: str) -> Answered:
        """`lua/inherit.lua` for a position."""
        return self._submit(self._inherit, bulk(_pack_position(sku, location)), 2)

    def end_inheriting(self, member: bytes) -> Answered:
        """`lua/inherit.lua` for a setting all of whose positions were brought to it."""
        return self._submit(self._inherit, bulk(b"\0" + len(member).to_bytes(2, "little") + member))

    def save_fence(
        self,
        channel: str,
        sku: str,
        location: str,
        quantity: int | None,
        *,
        spills: bool = False,
        used: int | None = None,
        caller: str = "",
    ) -> Answered:
        """`lua/save_fence.lua`; no quantity deletes."""
        name = channel.encode()
        packed = mark_for(caller) + bytes((len(name),)) + name + _pack_position(sku, location)
        if quantity is not None:
            packed += quantity.to_bytes(6, "little") + bytes((spills,))
        if used is not None:
            packed += used.to_bytes(6, "little")
        return self._submit(self._save_fence, bulk(packed), 2)

    def source(self, argument: bytes, positions: int) -> Answered:
        """`lua/source.lua`: `[seq, record]`."""
        return self._submit(self._source, bulk(argument), positions)

    def plan(self, request: bytes, positions: int, *, swept: bool, own: Sequence[bytes] = ()) -> Answered:
        """`lua/plan.lua`: `[seq, fits, candidates, …]`. What `own` reservations hold counts as free."""
        head = bytes((swept,)) + len(own).to_bytes(2, "little")
        return self._submit(self._plan, bulk(b"".join((head, *own, request))), positions + len(own))

    def supply(
        self,
        operation: bytes,
        fingerprint: bytes,
        supply: Supply,
        location: str,
        sku: str,
        *,
        received: int,
    ) -> Answered:
        """`lua/supply.lua`: the result. `received` came with this step."""
        place, name = place_of(location), sku.encode()
        packed = b"".join(
            (
                operation,
                fingerprint,
                encode_supply(supply, received=received),
                bytes((len(place),)),
                place,
                len(name).to_bytes(2, "little"),
                name,
            )
        )
        return self._submit(self._supply, bulk(packed), 2)

    def supplies(self, sku: str, *, swept: bool) -> Answered:
        """`lua/supplies.lua`: `[cards, [place, supplies, …]]`."""
        return self._submit(self._supplies, _ask_cards(sku, swept))

    def save_document(
        self,
        document: bytes,
        content: bytes,
        *,
        version: int,
        is_pending: bool,
        is_over: bool,
        added: Sequence[bytes] = (),
        gone: Sequence[bytes] = (),
        operation: bytes = NO_OPERATION,
        fingerprint: bytes = NO_FINGERPRINT,
    ) -> Answered:
        """`lua/save_document.lua`; `version` is the one to be replaced, 0 for none; `added` and `gone` are
        entries of the index.
        """
        flags = version.to_bytes(4, "little") + bytes((is_pending, is_over))
        entries = _pack_entries(added) + _pack_entries(gone)
        head = document + operation + fingerprint + flags + entries
        return self._submit(self._save_document, bulk(head + content))

    def forget_document(self, document: bytes, version: int, entries: Sequence[bytes]) -> Answered:
        """`lua/forget_document.lua`: whether it was, 1 or 0."""
        return self._submit(
            self._forget_document, bulk(document + version.to_bytes(4, "little") + _pack_entries(entries))
        )

    def find_document(self, document: bytes, operation: bytes) -> Answered:
        """`lua/find_document.lua`: `[seq, document, memory]`."""
        return self._submit(self._find_document, bulk(document + operation))

    def outbox(self, limit: int, offset: int) -> Answered:
        """`lua/outbox.lua`: the ids of documents."""
        return self._submit(self._outbox, bulk(limit.to_bytes(2, "little") + offset.to_bytes(4, "little")))

    def cards(self, sku: str, *, swept: bool) -> Answered:
        """`lua/cards.lua`: a card, `[pages, card, …]` of a divided SKU, nothing of an unknown one."""
        return self._submit(self._cards, _ask_cards(sku, swept))


def _pack_entries(entries: Sequence[bytes]) -> bytes:
    parts = [len(entries).to_bytes(2, "little")]
    for entry in entries:
        parts += (bytes((len(entry),)), entry)
    return b"".join(parts)


def _pack_position(sku: str, location: str) -> bytes:
    place, name = place_of(location), sku.encode()
    return b"".join((bytes((len(place),)), place, len(name).to_bytes(2, "little"), name))


_IDS_SIZE = OPERATION_ID_SIZE + FINGERPRINT_SIZE
_NO_IDS = NO_OPERATION + NO_FINGERPRINT


@lru_cache(maxsize=65_536)
def _ask_cards(sku: str, swept: bool) -> bytes:  # noqa: FBT001 - cached by place
    return bulk(bytes((swept,)) + sku.encode())
