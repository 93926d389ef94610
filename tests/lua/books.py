"""The stored state of one partition, written and read by the tests themselves.

The layouts are spelled out here a second time, on purpose: a test that decoded with the engine's own
code would not see both change together.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import hiredis

from engine import keys
from engine.commands import Commands, Reply, Resolution, Resolve
from engine.lane import Script, _Call
from engine.script import Library, assemble, read_sources

NOW = 1_700_000_000_000
RETENTION_MS = 86_400_000
CLOCK_KEY = "test:clock"
CLOCK = f"local function read_clock()\n  return tonumber(redis.call('GET', '{CLOCK_KEY}'))\nend\n"
NO_OPERATION = bytes(12)

HELD, COMMITTED, FULFILLED, RELEASED, EXPIRED, CANCELLED = range(1, 7)
NO_VERB, RESERVE, COMMIT, RELEASE, EXTEND, FULFIL, CANCEL, EXPIRE, MOVEMENT, LOCATION = range(10)
_HEADER = struct.Struct("<BBBBHBHH")


Answer: TypeAlias = Any
"""Whatever a server says."""


BEHIND = {"h": 0, "p": 2**50}
"""How far behind its moment an entry of each kind stands in the deadline index."""


class ScriptError(Exception):
    """The server answered a call with an error."""


class Position(NamedTuple):
    """The counters of one SKU at one location."""

    on_hand: int = 0
    held: int = 0
    allocated: int = 0
    unsellable: int = 0
    safety_stock: int = 0
    backorder_limit: int = 0
    fenced: int = 0
    low_stock: int = 0


class Stock(NamedTuple):
    """A SKU: positions by location, order of promise by location and reservation."""

    positions: Mapping[str, Position]
    holders: Mapping[tuple[str, bytes], int] = {}


class Hold(NamedTuple):
    """A reservation's record. `lines` are (sku, location, quantity); `changed` and `created` are seqs."""

    lines: tuple[tuple[str, str, int], ...]
    state: int = HELD
    held_end: int = NO_VERB
    closed_by: int = NO_VERB
    revision: int = 0
    created: int = 1
    changed: int = 1
    created_ms: int = NOW - 1000
    deadline_ms: int = NOW + 60_000
    fingerprint: bytes = b"madeby00"
    progress: tuple[tuple[int, int, int, int], ...] = ()
    detail: bytes = b"detail"
    epoch: int = 1
    changed_epoch: int = 1

    @property
    def skus(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sku for sku, _, _ in self.lines))

    @property
    def plan(self) -> bytes:
        """The packed plan, its size first."""
        slots = {sku: slot for slot, sku in enumerate(self.skus)}
        parts = [bytes((len(slots), len(self.lines)))]
        for sku, location, quantity in self.lines:
            place = location.encode()
            parts.append(bytes((slots[sku],)) + _int(quantity, 5) + bytes((len(place),)) + place)
        parts += [_int(len(sku.encode()), 2) + sku.encode() for sku in slots]
        return _int(sum(map(len, parts)), 2) + b"".join(parts)

    @property
    def head(self) -> bytes:
        """What a script answers: header and progress."""
        return b"".join(
            (
                _HEADER.pack(
                    1,
                    self.state,
                    self.held_end,
                    self.closed_by,
                    self.revision,
                    len(self.progress),
                    self.epoch,
                    self.changed_epoch,
                ),
                _int(self.created, 7),
                _int(self.changed, 7),
                _int(self.created_ms, 6),
                _int(self.deadline_ms, 6),
                self.fingerprint,
                *(_int(units, 5) for row in self.progress for units in row),
            )
        )

    @property
    def packed(self) -> bytes:
        return self.head + self.plan + self.detail


class Memory(NamedTuple):
    """What is kept of an operation on a reservation."""

    verb: int
    fingerprint: bytes
    reservation: bytes
    head: bytes

    @property
    def packed(self) -> bytes:
        return bytes((2, self.verb)) + self.fingerprint + self.reservation + self.head


class Fact(NamedTuple):
    """What is kept of a movement, and what it answered. `uncovered` is (reservation, units)."""

    fingerprint: bytes
    seq: int
    on_hand: int
    available: int
    uncovered: tuple[tuple[bytes, int], ...] = ()

    @property
    def result(self) -> bytes:
        head = _int(self.seq, 7) + _signed(self.on_hand) + _signed(self.available)
        return head + b"".join(name + _int(units, 6) for name, units in self.uncovered)

    @property
    def packed(self) -> bytes:
        return b"\3" + self.fingerprint + self.result


class Reserved(NamedTuple):
    """The event of a reserve."""

    id: bytes
    hold: Hold

    @property
    def packed(self) -> tuple[int, bytes]:
        return RESERVE, self.id + self.hold.packed


class Resolved(NamedTuple):
    """The event of a step of a reservation. `deltas` are (held, allocated, on_hand) of each position."""

    verb: int
    id: bytes
    hold: Hold
    deltas: tuple[tuple[int, int, int], ...]
    operation: bytes = NO_OPERATION
    rest: bytes = b""

    @property
    def packed(self) -> tuple[int, bytes]:
        deltas = b"".join(delta.to_bytes(6, "little", signed=True) for row in self.deltas for delta in row)
        return self.verb, self.id + self.operation + self.hold.plan + self.hold.head + deltas + self.rest


class Moved(NamedTuple):
    """The event of a movement."""

    id: bytes
    fact: Fact
    quantity: int
    location: str
    sku: str
    rest: bytes = b"rest"

    @property
    def packed(self) -> tuple[int, bytes]:
        place, name, result = self.location.encode(), self.sku.encode(), self.fact.result
        text = bytes((len(place),)) + place + _int(len(name), 2) + name + self.rest
        return MOVEMENT, self.id + _int(len(result), 4) + result + _signed(self.quantity) + text


class Saved(NamedTuple):
    """The event of a location that was written, or deleted where settings are empty."""

    location: str
    settings: bytes

    @property
    def packed(self) -> tuple[int, bytes]:
        return LOCATION, bytes((len(self.location),)) + self.location.encode() + self.settings


Operation = Hold | Memory | Fact
Event = Reserved | Resolved | Moved | Saved
Due = Mapping[tuple[int, str, tuple[bytes, ...]], None] | set[tuple[int, str, tuple[bytes, ...]]]


class Books:
    """One partition on a real server: seed it, call a verb, compare all that is stored."""

    def __init__(self, connection: socket.socket, library: Library, partition: int = 0) -> None:
        self._connection = connection
        self._reader = hiredis.Reader()
        self.library = library
        self.partition = partition
        self.commands = Commands(self, library, partition, retention_ms=RETENTION_MS)  # type: ignore[arg-type]
        self._calls: dict[Script, _Call] = {}
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        """Ends what the tests' requests ran in."""
        self._loop.close()

    # ---------------------------------------------------------------- the server

    def raw(self, *words: str | bytes | int) -> Answer:
        """One command of any kind; an error of the server is raised."""
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return self._send(
            b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        )

    def _send(self, request: bytes) -> Answer:
        self._connection.sendall(request)
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._connection.recv(1 << 16))
        if isinstance(reply, hiredis.ReplyError):
            raise ScriptError(str(reply))
        return reply

    def turn_clock(self, now_ms: int) -> None:
        """Sets the moment at which every following script runs."""
        self.raw("SET", CLOCK_KEY, now_ms)

    # ---------------------------------------------------------------- calls

    def submit(
        self, script: Script, fixed: Sequence[bytes], argument: bytes, positions: int = 1
    ) -> "asyncio.Future[Any]":
        """Stands in for the lane: what is asked in one turn leaves as one script call a verb."""
        if not self._calls:
            self._loop.call_soon(self._flush)
        call = self._calls.setdefault(script, _Call(script))
        call.keys += fixed
        call.arguments.append(argument)
        future: asyncio.Future[Any] = self._loop.create_future()
        call.futures.append(future)
        return future

    def _flush(self) -> None:
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            try:
                now_ms, epoch, *answers = self._send(call.encode())
                assert len(answers) == len(call.futures), "one answer for each request"
                for future, answer in zip(call.futures, answers, strict=True):
                    future.set_result((now_ms, epoch, answer))
            except ScriptError as error:
                for future in call.futures:
                    future.set_exception(error)

    def batch(self, *requests: Awaitable[Reply]) -> list[Any]:
        """The answers of requests that go to the server together: one script call for each verb."""

        async def gather() -> list[Any]:
            return await asyncio.gather(*requests)

        replies = [
            reply if isinstance(reply, Reply) else Reply(*reply)
            for reply in self._loop.run_until_complete(gather())
        ]
        assert {reply.epoch for reply in replies} == {self.epoch}
        assert {reply.now_ms for reply in replies} == {int(self.raw("GET", CLOCK_KEY))}
        return [reply.answer for reply in replies]

    def one(self, request: Awaitable[Reply]) -> Answer:
        """The answer of one request."""
        return self.batch(request)[0]

    def reserve(
        self,
        name: bytes,
        hold: Hold,
        *,
        swept: bool = False,
        fingerprint: bytes | None = None,
        ttl_ms: int = 60_000,
    ) -> Awaitable[Reply]:
        return self.commands.reserve(
            name,
            fingerprint or hold.fingerprint,
            ttl_ms,
            hold.plan + hold.detail,
            hold.skus,
            swept=swept,
            positions=len(hold.lines),
        )

    def resolve(
        self,
        verb: Resolution,
        name: bytes,
        hold: Hold,
        own: bytes = b"\0",
        *,
        operation: bytes = NO_OPERATION,
        fingerprint: bytes = bytes(8),
        revision: int = 0,
    ) -> Awaitable[Reply]:
        request = Resolve(name, revision, hold.skus, operation, fingerprint, len(hold.lines))
        return self.commands.resolve(verb, request, own)

    # ---------------------------------------------------------------- the stored state

    epoch = 1

    def seed(
        self,
        *,
        seq: int = 1,
        epoch: int = 1,
        stock: Mapping[str, Stock] | None = None,
        operations: Mapping[bytes, Operation] | None = None,
        due: Due | None = None,
        locations: Mapping[str, bytes] | None = None,
        at: Mapping[str, set[str]] | None = None,
        now_ms: int = NOW,
    ) -> None:
        """Writes the whole state of the partition."""
        p, self.epoch = self.partition, epoch
        self.raw("FLUSHALL", "SYNC")
        self.turn_clock(now_ms)
        self.raw("HSET", keys.meta(p), "epoch", epoch, "seq", seq)
        for sku, item in (stock or {}).items():
            key = keys.stock(p, sku)
            places = b"".join(bytes((len(place),)) + place.encode() for place in item.positions)
            self.raw("HSET", key, "", places)
            for place, position in item.positions.items():
                self.raw("HSET", key, place, pack_position(position))
            for (place, name), order in item.holders.items():
                self.raw("HSET", key, place.encode() + b"\n" + name, order)
        for name, record in (operations or {}).items():
            self.raw("HSET", keys.operations(p), name, record.packed)
        for when, kind, names in due or ():
            self.raw("ZADD", keys.due(p), when + BEHIND[kind], kind.encode() + b"".join(names))
        for location, packed in (locations or {}).items():
            self.raw("HSET", keys.locations(p), location, packed)
        for location, skus in (at or {}).items():
            self.raw("SADD", keys.stocked(p, location), *skus)

    def expect(
        self,
        *,
        seq: int = 1,
        epoch: int = 1,
        stock: Mapping[str, Stock] | None = None,
        operations: Mapping[bytes, Operation] | None = None,
        due: Due | None = None,
        log: Sequence[tuple[int, Sequence[Event]]] = (),
        locations: Mapping[str, bytes] | None = None,
        at: Mapping[str, set[str]] | None = None,
    ) -> None:
        """All that the server stores is this, byte for byte, and no key besides.

        `log` has for each entry the sequence of its last event, then its events; each entry's moment is
        the present one.
        """
        found = self.read()
        p = self.partition
        wanted: dict[str, Any] = {keys.meta(p): {b"epoch": b"%d" % epoch, b"seq": b"%d" % seq}}
        for sku, item in (stock or {}).items():
            fields: dict[bytes, Any] = {
                place.encode(): pack_position(position) for place, position in item.positions.items()
            }
            fields |= {
                place.encode() + b"\n" + name: b"%d" % order for (place, name), order in item.holders.items()
            }
            fields[b""] = b"".join(bytes((len(place),)) + place.encode() for place in item.positions)
            wanted[keys.stock(p, sku)] = fields
        if operations:
            wanted[keys.operations(p)] = {name: record.packed for name, record in operations.items()}
        if due:
            wanted[keys.due(p)] = sorted(
                (kind.encode() + b"".join(names), when + BEHIND[kind]) for when, kind, names in due
            )
        if log:
            now = int(self.raw("GET", CLOCK_KEY))
            wanted[keys.log(p)] = [
                (f"{epoch}-{last}", now, [event.packed for event in events]) for last, events in log
            ]
        if locations:
            wanted[keys.locations(p)] = {place.encode(): packed for place, packed in locations.items()}
        for location, skus in (at or {}).items():
            wanted[keys.stocked(p, location)] = {sku.encode() for sku in skus}
        unknown = sorted(set(found) - set(wanted))
        assert not unknown, f"keys that nothing accounts for: {unknown}"
        assert found == wanted

    def read(self) -> dict[str, Any]:
        """Every key of the server with its value; events are taken apart, the clock is left out."""
        found: dict[str, Any] = {}
        for raw in self.raw("KEYS", "*"):
            key, kind = raw.decode(), self.raw("TYPE", raw)
            if key == CLOCK_KEY:
                continue
            if kind == b"hash":
                flat = self.raw("HGETALL", raw)
                found[key] = dict(zip(flat[::2], flat[1::2], strict=True))
            elif kind == b"zset":
                flat = self.raw("ZRANGE", raw, 0, -1, "WITHSCORES")
                found[key] = sorted(
                    (entry, int(score)) for entry, score in zip(flat[::2], flat[1::2], strict=True)
                )
            elif kind == b"set":
                found[key] = set(self.raw("SMEMBERS", raw))
            else:
                found[key] = [
                    (name.decode(), *split_events(packed))
                    for name, [field, packed] in self.raw("XRANGE", raw, "-", "+")
                    if field == b"e"
                ]
        return found


def split_events(packed: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """An entry of the ledger: its moment, and kind and body of each event."""
    count, cursor, events = int.from_bytes(packed[6:8], "little"), 8, []
    while cursor < len(packed):
        size, kind = int.from_bytes(packed[cursor : cursor + 4], "little"), packed[cursor + 4]
        events.append((kind, packed[cursor + 5 : cursor + 5 + size]))
        cursor += 5 + size
    assert cursor == len(packed)
    assert count == len(events)
    return int.from_bytes(packed[:6], "little"), events


def pack_position(position: Position) -> bytes:
    """The stored form: 4 or 8 counters of 4 or 7 bytes."""
    counters = position if any(position[4:]) else position[:4]
    size = 4 if all(-(2**31) <= counter < 2**31 for counter in counters) else 7
    return b"".join(counter.to_bytes(size, "little", signed=True) for counter in counters)


def name(number: int) -> bytes:
    """An operation id for tests; no two are equal."""
    return b"op%010d" % number


def choose(*chosen: tuple[int, int]) -> bytes:
    """The positions that a request names; none for all."""
    return bytes((len(chosen),)) + b"".join(bytes((index,)) + _int(quantity, 5) for index, quantity in chosen)


def tests_library(includes: Mapping[str, str], verbs: Mapping[str, str]) -> Library:
    """The library with a clock that tests can turn."""
    return assemble({**includes, "clock": CLOCK}, verbs)


def read_library() -> Library:
    """The library of this checkout with a clock that tests can turn."""
    return tests_library(*read_sources())


def _int(number: int, size: int) -> bytes:
    return number.to_bytes(size, "little")


def _signed(number: int) -> bytes:
    return number.to_bytes(7, "little", signed=True)
