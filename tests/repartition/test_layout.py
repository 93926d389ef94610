"""Where things come to lie: the order of promises, ids that meet, baskets that were under way."""

import pytest
from redis import Redis

import engine
from engine import Line, Location, LocationKind, Movement, MovementKind, keys
from engine.audit import audit
from engine.baskets import Sought, split_plan
from engine.errors import DatasetUnfit, IdempotencyMismatch, InsufficientStock, ReservationNotFound
from engine.ids import fingerprint, keeper_of, reservation_id
from engine.planner import plan_lines
from engine.records import KIND_BASKET, Detail, encode_detail
from engine.repartition import repartition
from engine.repartition.books import read_books
from engine.repartition.comparing import compare_books
from engine.repartition.layout import lay_out, order_claims
from engine.setting_forms import SettingClass
from engine.topology import open_topology
from engine.topology.embedded import EmbeddedServer
from tests.driver import skus_in

A, B, C = (next(skus_in(partition, 8)) for partition in range(3))

CHOICE = bytes((1, 1, 0, 1, 1)) + (1).to_bytes(5, "little")
"""To let one unit of the second position leave, and keep the others held."""


def test_an_order_that_all_cards_agree_on() -> None:
    """Each card's order is kept, whatever the moments say; they decide only where cards do not."""
    a, b, c, d = ((0, name.encode()) for name in "abcd")
    assert order_claims({a: 4, b: 3, c: 2, d: 1}, [[a, b], [b, c]]) == ([d, a, b, c], 0)
    assert order_claims({a: 1, b: 1, c: 1, d: 1}, [[d, c], [c, a]]) == ([b, d, c, a], 0)
    assert order_claims({}, []) == ([], 0)


def test_orders_that_cross() -> None:
    """Of promises that no order suits, the oldest goes first, once for each knot."""
    a, b, c = ((0, name.encode()) for name in "abc")
    assert order_claims({a: 2, b: 1, c: 0}, [[a, b], [b, a], [a, c]]) == ([b, a, c], 1)


async def stocked(url: str, partitions: int) -> engine.Inventory:
    inventory = await engine.connect(url, partitions=partitions)
    await inventory.save_location(Location("s1", LocationKind.STORE))
    for sku in (A, B, C):
        await inventory.record(Movement(f"in {sku}", MovementKind.RECEIVE, sku, "s1", 10))
    return inventory


async def available(inventory: engine.Inventory) -> list[int]:
    return [(await inventory.availability(sku)).available for sku in (A, B, C)]


class Coordinator:
    """Holds a basket step by step, and may die between any two."""

    def __init__(self, inventory: engine.Inventory, key: str, *lines: Line) -> None:
        self.commands, ids = inventory.dataset.commands, inventory.dataset.ids
        self.plan, shares = plan_lines(lines)
        detail = encode_detail(Detail(60, None, None, None, {}, shares))
        route = self.plan.route.to_bytes(2, "little")
        self.body = b"".join(((60_000).to_bytes(4, "little"), route, self.plan.packed, detail))
        self.operation = ids.of_request("", key)
        self.inventory = inventory
        self.home = self.commands[self.plan.route % len(self.commands)]
        self.public = reservation_id(self.plan.route, self.operation)

    async def open(self) -> None:
        count = len(self.plan.positions)
        argument = self.home.encode_reserve(
            self.operation, fingerprint(self.body), self.body, count, kind=KIND_BASKET
        )
        _, epoch, _, seq = await self.home.open_basket(argument, count)
        self.opened = epoch, seq

    async def hold(self, partition: int) -> None:
        (part,) = [one for one in split_plan(self.plan, len(self.commands)) if one.partition == partition]
        sought = Sought(self.home.partition, self.operation, b"", self.plan)
        reply = await self.inventory.baskets._hold_part(sought, part, self.opened)
        assert reply.word is None

    async def decide(self) -> None:
        await self.home.decide(self.operation, self.opened, hold=True)


@pytest.mark.parametrize("after", [1, 3, 64])
async def test_baskets_that_were_under_way(
    server: EmbeddedServer, other_server: EmbeddedServer, target: "Redis[bytes]", after: int
) -> None:
    """What was not decided never was; what was decided and not told is as if it had been told."""
    inventory = await stocked(server.url, 8)
    pending = Coordinator(inventory, "pending", Line(A, 3, "s1"), Line(B, 3, "s1"))
    await pending.open()
    await pending.hold(0)
    held = await inventory.reserve("held", [Line(A, 1, "s1"), Line(B, 2, "s1"), Line(C, 3, "s1")])
    # Decided on the home; nobody has told the parts.
    operation = inventory.dataset.ids.of_request("", "held")
    await inventory.dataset.commands[0].resolve("commit", operation, CHOICE, known=0)
    before = await inventory.reservation(held.id)
    assert [line.fulfilled for line in before.lines] == [0, 1, 0]
    assert await available(inventory) == [6, 8, 7]
    await inventory.close()
    await repartition(server.url, other_server.url, after)
    moved = await engine.connect(other_server.url)
    assert await moved.reservation(held.id) == before
    assert await available(moved) == [9, 8, 7]
    assert (await moved.stock(B))[0].on_hand == 9
    with pytest.raises(ReservationNotFound):
        await moved.reservation(pending.public)
    # Its id is free, and what was committed goes on.
    await moved.reserve("pending", [Line(A, 9, "s1")])
    await moved.commit(held.id, fulfil=True)
    assert [position.on_hand for sku in (A, B, C) for position in await moved.stock(sku)] == [9, 8, 7]
    assert (await audit(moved)).is_clean
    await moved.close()


async def test_baskets_that_crossed(
    server: EmbeddedServer, other_server: EmbeddedServer, target: "Redis[bytes]"
) -> None:
    """Two baskets were each the older one somewhere: in one partition they cannot be; the report says so."""
    inventory = await stocked(server.url, 8)
    one = Coordinator(inventory, "one", Line(A, 1, "s1"), Line(B, 1, "s1"))
    two = Coordinator(inventory, "two", Line(A, 2, "s1"), Line(B, 2, "s1"))
    await one.open()
    await two.open()
    for basket, partition in ((one, 0), (two, 0), (two, 1), (one, 1)):
        await basket.hold(partition)
    await one.decide()
    await two.decide()
    await inventory.close()
    assert (await repartition(server.url, other_server.url, 1)).crossed == 1
    target.flushall()
    assert (await repartition(server.url, other_server.url, 16)).crossed == 0
    moved = await engine.connect(other_server.url)
    assert (await audit(moved)).is_clean
    await moved.close()


async def test_ids_that_meet(
    server: EmbeddedServer, control: "Redis[bytes]", other_server: EmbeddedServer, target: "Redis[bytes]"
) -> None:
    """A key that was used again after its time may have two reservations: in one partition they cannot be."""
    inventory = await stocked(server.url, 8)
    ids = inventory.dataset.ids
    key = next(f"k{n}" for n in range(99) if keeper_of(ids.of_request("", f"k{n}"), 8) == 5)
    first = await inventory.reserve(key, [Line(A, 1, "s1")])
    # Its keeper has forgotten it.
    assert control.hdel(keys.operations(5), ids.of_request("", key))
    second = await inventory.reserve(key, [Line(B, 2, "s1")])
    await inventory.commit(first.id)
    await inventory.close()
    with pytest.raises(DatasetUnfit, match=r"reservations r_\w+.* and r_.* were made under one operation id"):
        await repartition(server.url, other_server.url, 1)
    assert not target.keys()
    assert (await repartition(server.url, other_server.url, 16)).gave_way == 0
    moved = await engine.connect(other_server.url)
    assert (await moved.reservation(first.id)).state == "committed"
    assert (await moved.reservation(second.id)).state == "held"
    assert (await audit(moved)).is_clean
    await moved.close()


async def test_an_answer_that_meets_a_reservation(
    server: EmbeddedServer,
    control: "Redis[bytes]",
    other_server: EmbeddedServer,
    target: "Redis[bytes]",
) -> None:
    """A key that was used again for something else: where both meet, the reservation stays."""
    inventory = await stocked(server.url, 8)
    ids = inventory.dataset.ids
    key = next(f"k{n}" for n in range(99) if keeper_of(ids.of_request("", f"k{n}"), 8) == 5)
    first = await inventory.reserve(key, [Line(A, 1, "s1")])
    assert control.hdel(keys.operations(5), ids.of_request("", key))
    second = await inventory.reserve("other", [Line(B, 2, "s1")])
    await inventory.commit(second.id, op_id=key)
    await inventory.close()
    assert (await repartition(server.url, other_server.url, 1)).gave_way == 1
    moved = await engine.connect(other_server.url)
    assert (await moved.reservation(first.id)).state == "held"
    assert (await moved.reservation(second.id)).state == "committed"
    assert (await audit(moved)).is_clean
    await moved.close()


@pytest.mark.parametrize(("before", "after"), [(1, 8), (8, 3)])
async def test_bound_keys(
    server: EmbeddedServer, other_server: EmbeddedServer, target: "Redis[bytes]", before: int, after: int
) -> None:
    """A key is good for its content alone, in whatever partition the other content lies; one of which nothing
    came is free.
    """
    inventory = await stocked(server.url, before)
    made = [await inventory.reserve(f"k{n}", [Line((A, B, C)[n % 3], 1, "s1")]) for n in range(9)]
    await inventory.commit(made[0].id, op_id="step")
    with pytest.raises(InsufficientStock):
        await inventory.reserve("free", [Line(A, 99, "s1")])
    await inventory.close()
    await repartition(server.url, other_server.url, after)
    moved = await engine.connect(other_server.url)
    for number in range(9):
        for sku in (A, B, C):
            if sku != (A, B, C)[number % 3]:
                with pytest.raises(IdempotencyMismatch):
                    await moved.reserve(f"k{number}", [Line(sku, 1, "s1")])
        with pytest.raises(IdempotencyMismatch):
            await moved.cancel(made[number].id, op_id="step")
        with pytest.raises(IdempotencyMismatch):
            await moved.record(Movement(f"in {A}", MovementKind.RECEIVE, (B, C)[number % 2], "s1", 10))
    await moved.reserve("free", [Line(C, 1, "s1"), Line(B, 1, "s1")])
    assert (await audit(moved)).is_clean
    await moved.close()


async def test_a_comparison_finds_what_differs(server: EmbeddedServer) -> None:
    """Of everything that is compared, one planted difference is named."""
    inventory = await stocked(server.url, 8)
    await inventory.reserve("k", [Line(A, 1, "s1"), Line(B, 1, "s1")])
    await inventory.close()
    topology = open_topology(server.url)
    fixed = await topology.read_hash(keys.dataset())
    source = await read_books(topology, 8, fixed[b"secret"], print)
    layout = lay_out(source, 8, retention_ms=10**7)
    assert compare_books(source, source, layout) == []
    for change, name in (
        (lambda books: books.settings.update({(SettingClass.POOL, "p"): b""}), "settings"),
        (lambda books: books.on_hand.update({(A, "s1"): 9}), "on_hand"),
        (lambda books: books.promises.clear(), "reservations"),
        (lambda books: books.memories.pop(), "answers"),
        (lambda books: books.claims.clear(), "order of promises"),
        (lambda books: books.bonds.clear(), "unknown to their keepers"),
    ):
        other = await read_books(topology, 8, fixed[b"secret"], print)
        change(other)
        found = compare_books(source, other, layout)
        assert found
        assert all(name in line for line in found)
    await topology.close()
