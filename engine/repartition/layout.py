"""Where everything lies in a data set of another number of partitions."""

from collections.abc import Container, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from engine import limits
from engine.baskets import part_terms, split_plan
from engine.errors import DatasetUnfit
from engine.events import Followed
from engine.ids import fingerprint, keeper_of, part_id, reservation_id
from engine.keys import partition_of
from engine.lifecycle import COMMITTED, FULFILLED, HELD, VERBS, Line, units_of
from engine.records import (
    BLOCK_SIZE,
    HEAD_SIZE,
    KIND_BASKET,
    KIND_PART,
    KIND_RESERVATION,
    decode_terms,
    encode_plan,
    encode_tail,
    encode_version,
)
from engine.repartition.books import Books, Key, Memory, Promise
from engine.types import State

_FOLLOW = VERBS[Followed]


class Filed(Struct, frozen=True):
    """Something to be carried into a partition. `key` is set where it may have claims there."""

    operation: bytes
    until_ms: int
    route: int
    record: bytes
    positions: int
    key: Key | None = None


class Bond(Struct, frozen=True):
    """An operation id that its keeper must know."""

    keeper: int
    operation: bytes
    mark: bytes
    until_ms: int


class Layout(Struct):
    """What lies in each partition, in the order in which it is to be carried there."""

    partitions: int
    filed: list[list[Filed]]
    bonds: list[Bond]
    gave_way: list[Memory]
    """Answers to operations in place of which something else is filed, that had been in another partition."""
    crossed: int
    """Promises that no order of carrying leaves in the place that they had on every card."""


def lay_out(books: Books, partitions: int, *, retention_ms: int) -> Layout:
    """Where what the books hold lies. Raises `DatasetUnfit` where two open reservations have one id."""
    kept, gave_way = _choose(books, partitions)
    filed: list[list[Filed]] = [[] for _ in range(partitions)]
    units: list[dict[Key, Filed]] = [{} for _ in range(partitions)]
    for (partition, _), one in kept.items():
        if isinstance(one, Memory):
            filed[partition].append(Filed(one.operation, one.until_ms, one.route, one.record, 1))
    for (partition, operation), one in kept.items():
        if isinstance(one, Memory):
            continue
        key = one.route, operation
        plan = one.read_plan()
        parts = split_plan(plan, partitions)
        # Lines may all lie elsewhere: those that it was made with have told where it belongs.
        is_apart = any(own.partition != partition for own in parts)
        kind = KIND_BASKET if is_apart else KIND_RESERVATION
        record = b"".join(
            (
                bytes((kind,)),
                one.front[1:],
                one.plan,
                one.detail,
                bytes(BLOCK_SIZE * len(plan.positions)),
                one.tail,
            )
        )
        found = Filed(operation, 0, key[0], record, len(plan.positions), key)
        if kind == KIND_RESERVATION and one.is_open:
            units[partition][key] = found
        else:
            filed[partition].append(found)
        if kind == KIND_BASKET and one.is_open:
            for own in parts:
                units[own.partition][key] = _part(key, one, own.indexes, books.now_ms + retention_ms)
    crossed = 0
    cards = _cards_by_partition(books, partitions)
    for partition, waiting in enumerate(units):
        created = {key: books.promises[key].read_head().created_ms for key in waiting}
        order, more = order_claims(created, cards[partition])
        filed[partition] += [waiting[key] for key in order]
        crossed += more
    return Layout(partitions, filed, _bonds(books, kept, partitions, retention_ms), gave_way, crossed)


def order_claims(created: Mapping[Key, int], cards: Iterable[Sequence[Key]]) -> tuple[list[Key], int]:
    """All keys in an order that has those of each card in the order of the card; the older first where cards
    say nothing. Where cards contradict one another, the oldest of those that do: how often that was.
    """
    after: dict[Key, list[Key]] = {}
    before: dict[Key, list[Key]] = {}
    waits_for = dict.fromkeys(created, 0)
    for card in cards:
        for older, newer in pairwise(card):
            after.setdefault(older, []).append(newer)
            before.setdefault(newer, []).append(older)
            waits_for[newer] += 1
    ready = [(created[key], key) for key, count in waits_for.items() if not count]
    heapify(ready)
    # In the order in which they are looked at where nothing is ready.
    left = iter(created)
    order: list[Key] = []
    done: set[Key] = set()
    crossed = 0
    while len(order) < len(created):
        if not ready:
            crossed += 1
            knot = _find_knot(next(key for key in left if key not in done), before, done)
            left = iter([key for key in created if key not in done])
            ready.append(min((created[key], key) for key in knot))
        _, key = heappop(ready)
        if key in done:
            continue
        done.add(key)
        order.append(key)
        for newer in after.get(key, ()):
            waits_for[newer] -= 1
            if not waits_for[newer]:
                heappush(ready, (created[newer], newer))
    return order, crossed


def _find_knot(key: Key, before: Mapping[Key, Sequence[Key]], done: Container[Key]) -> list[Key]:
    """Keys of which each waits for the next, and the last for the first."""
    path: dict[Key, int] = {}
    while key not in path:
        path[key] = len(path)
        key = next(older for older in before[key] if older not in done)
    return list(path)[path[key] :]


def _cards_by_partition(books: Books, partitions: int) -> list[list[list[Key]]]:
    found: list[list[list[Key]]] = [[] for _ in range(partitions)]
    for field, claims in books.claims.items():
        found[partition_of(field.partition("\n")[0], partitions)].append(claims)
    return found


_Kept = dict[tuple[int, bytes], Promise | Memory]


def _choose(books: Books, partitions: int) -> tuple[_Kept, list[Memory]]:
    """What is filed under which id in which partition. Of two that would have one id there, a reservation
    is kept, or the answer that is remembered longer. Raises `DatasetUnfit` for two reservations.
    """
    kept: _Kept = {}
    for (route, operation), promise in books.promises.items():
        other = kept.setdefault((route % partitions, operation), promise)
        if isinstance(other, Promise) and other is not promise:
            names = f"{reservation_id(other.route, operation)} and {reservation_id(route, operation)}"
            raise DatasetUnfit(
                f"reservations {names} were made under one operation id and would meet in one partition: "
                "wait until one has ended and is forgotten, or choose another number of partitions"
            )
    memories = sorted(books.memories, key=lambda one: (-one.until_ms, one.operation))
    gave_way = [
        memory
        for memory in memories
        if kept.setdefault((memory.route % partitions, memory.operation), memory) is not memory
    ]
    return kept, gave_way


def _remembered_until(one: Promise | Memory, books: Books, retention_ms: int) -> int:
    if isinstance(one, Memory):
        return one.until_ms
    head = one.read_head()
    return max(head.deadline_ms, books.now_ms) + retention_ms if one.is_open else head.deadline_ms


def _bonds(books: Books, kept: _Kept, partitions: int, retention_ms: int) -> list[Bond]:
    """The bonds that keepers need: of each id whose effect is in another partition than its keeper."""
    found: dict[bytes, Bond] = {}
    for (partition, operation), one in kept.items():
        keeper = keeper_of(operation, partitions)
        if keeper == partition or (keeper, operation) in kept:
            continue
        until_ms = _remembered_until(one, books, retention_ms)
        mark, bound_until_ms = books.bonds.get(operation, (b"", 0))
        if mark == one.mark:
            until_ms = max(until_ms, bound_until_ms)
        elif operation in found and mark == found[operation].mark:
            continue
        known = found.get(operation)
        if known is None or mark == one.mark or known.until_ms < until_ms:
            found[operation] = Bond(keeper, operation, one.mark, until_ms)
    return [bond for bond in found.values() if bond.until_ms > books.now_ms]


def _part(key: Key, basket: Promise, indexes: Sequence[int], closed_until_ms: int) -> Filed:
    """The part of an open basket, as if it had followed it."""
    route, operation = key
    head, plan, units = basket.read_head(), basket.read_plan(), basket.read_units()
    own = tuple(units[index] for index in indexes)
    packed = encode_plan([plan.positions[index] for index in indexes])
    state = _state_of(own)
    is_open = state in {State.HELD, State.COMMITTED}
    following = replace(
        head,
        state=state,
        held_end=0 if state is State.HELD else _FOLLOW,
        closed_by=0 if is_open else _FOLLOW,
        revision=0,
        deadline_ms=head.deadline_ms if is_open else closed_until_ms,
        progress=(),
    )
    if units_of(following, packed) != own:
        following = replace(following, progress=own)
    body = b"".join(
        (
            limits.SEEK_MS.to_bytes(4, "little"),
            route.to_bytes(2, "little"),
            packed,
            encode_version((head.changed_epoch, head.changed_seq)),
            part_terms(decode_terms(basket.detail)[0]),
        )
    )
    name, count = part_id(operation, route), len(indexes)
    size = len(name) + 8 + len(body) + BLOCK_SIZE * count + HEAD_SIZE
    record = b"".join(
        (
            bytes((KIND_PART,)),
            size.to_bytes(3, "little"),
            name,
            fingerprint(body),
            body,
            bytes(BLOCK_SIZE * count),
            encode_tail(following),
        )
    )
    return Filed(name, 0, route, record, count, key)


def _state_of(units: Sequence[Line]) -> State:
    for column, state in ((HELD, State.HELD), (COMMITTED, State.COMMITTED), (FULFILLED, State.FULFILLED)):
        if any(line[column] for line in units):
            return state
    return State.RELEASED
