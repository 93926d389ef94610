"""A data set of 64 partitions on three primaries: verbs, slots that move, a primary that dies."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import chain

import pytest

import engine
import engine.audit
from engine import Inventory, Line, Reservation, ReserveRequest, cluster_link, keys
from engine.doctor import Severity, examine
from engine.errors import DatasetUnfit, StorageUnavailable
from engine.topology.slots import slot_of
from tests.topology.groups import ClusterGroup, Node, has_replica, wait_until
from tests.topology.traffic import PLACE, SHOPPERS, SKUS, STOCK, Traffic, prove_books, stock_up


@pytest.fixture
async def inventory(cluster: ClusterGroup) -> AsyncIterator[Inventory]:
    """A fresh data set on a cluster that is whole."""
    for node in owners(cluster):
        node.call("FLUSHALL")
        node.call("FUNCTION", "FLUSH")
    opened = await engine.connect(cluster.url)
    await stock_up(opened, "test")
    yield opened
    await opened.close()


def owners(cluster: ClusterGroup) -> list[Node]:
    """The primaries that have slots."""
    return list({node.port: node for node in map(cluster.owner, range(0, 16_384, 512))}.values())


def slot(partition: int) -> int:
    """Where a partition lies."""
    return slot_of(keys.meta(partition).encode())


def busiest(inventory: Inventory) -> int:
    """The slot of the partition with the most SKUs."""
    found = [keys.partition_of(sku, inventory.dataset.partitions) for sku in SKUS]
    return slot(max(set(found), key=found.count))


async def elsewhere(cluster: ClusterGroup, moving: int) -> Node:
    """A primary that does not have a slot."""
    return next(node for node in owners(cluster) if node is not cluster.owner(moving))


async def test_every_verb_and_the_audit(inventory: Inventory, cluster: ClusterGroup) -> None:
    """Partitions lie on all primaries, and what one server can do a cluster can."""
    assert inventory.dataset.partitions == 64
    assert {cluster.owner(slot(partition)).port for partition in range(64)} == {
        node.port for node in cluster.primaries
    }
    held = await asyncio.gather(*(inventory.reserve(f"r {sku}", [Line(sku, 3, PLACE)]) for sku in SKUS))
    await asyncio.gather(*(inventory.commit(one.id, op_id=f"c {one.id}") for one in held[::2]))
    await asyncio.gather(*(inventory.release(one.id, op_id=f"c {one.id}") for one in held[1::2]))
    found = await inventory.availability_of(SKUS)
    assert [one.available for one in found if one] == [STOCK - 3 * (at % 2 == 0) for at in range(len(SKUS))]
    assert [place.id for place in await inventory.locations()] == [PLACE]
    again = await inventory.reserve(f"r {SKUS[0]}", [Line(SKUS[0], 3, PLACE)])
    assert (again.id, again.replayed) == (held[0].id, True)
    report = await engine.audit.audit(inventory)
    assert report.is_clean, report.differences
    assert (report.positions, report.reservations) == (len(SKUS), len(SKUS))


async def test_an_audit_sees_a_count_that_was_changed_behind_our_back(
    inventory: Inventory, cluster: ClusterGroup
) -> None:
    """The keys of every primary are read."""
    for partition in {keys.partition_of(sku, 64): sku for sku in SKUS[:12]}:
        cluster.owner(slot(partition)).call("HSET", keys.meta(partition), "seq", "77")
    report = await engine.audit.audit(inventory)
    assert not report.is_clean


async def test_the_number_of_partitions_is_checked(inventory: Inventory, cluster: ClusterGroup) -> None:
    with pytest.raises(DatasetUnfit, match="64 partitions, not 3"):
        await engine.connect(cluster.url, partitions=3)


async def test_the_doctor_looks_at_every_primary(inventory: Inventory, cluster: ClusterGroup) -> None:
    """One with the wrong setting is named."""
    wrong = owners(cluster)[1]
    wrong.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    findings = await examine(inventory.dataset, "none")
    wrong.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    refused = [finding for finding in findings if finding.severity is Severity.REFUSAL]
    assert [finding.found for finding in refused] == [f"{wrong.address}: allkeys-lru"]


async def test_a_slot_moved_key_by_key_is_followed(inventory: Inventory, cluster: ClusterGroup) -> None:
    """MOVED, ASK and TRYAGAIN send calls elsewhere; nobody is refused for it and nothing happens twice."""
    traffic, moving = Traffic(inventory, "move"), busiest(inventory)
    await traffic.until_answered(50)
    target = await elsewhere(cluster, moving)
    moved = await asyncio.to_thread(cluster.move_slot, moving, target, pause_seconds=0.005)
    assert moved > 4
    await traffic.until_answered(200)
    await traffic.stop()
    assert set(traffic.answers) == {"ok"}
    await traffic.prove(inventory)
    await prove_books(inventory)


async def test_many_at_a_time_follow_a_slot_that_moves(inventory: Inventory, cluster: ClusterGroup) -> None:
    """Calls that were sent together have different fates, and every request has the answer of its own."""
    committed, moving = Counter[str](), busiest(inventory)
    move = asyncio.create_task(
        asyncio.to_thread(cluster.move_slot, moving, await elsewhere(cluster, moving), pause_seconds=0.02)
    )
    turn = 0
    while turn < 4 or not move.done():
        asked = [ReserveRequest(f"{turn} {sku} {n}", [Line(sku, 1, PLACE)]) for sku in SKUS for n in range(4)]
        ids = [id_in(answer) for answer in await inventory.reserve_many(asked)]
        answers = await asyncio.gather(inventory.commit_many(ids[::2]), inventory.release_many(ids[1::2]))
        assert [id_in(answer) for answer in chain(*answers)] == ids[::2] + ids[1::2]
        committed.update(one.lines[0].sku for one in asked[::2])
        turn += 1
    assert await move > 4
    found = await inventory.availability_of(SKUS)
    assert {one.sku: one.available for one in found if one} == {sku: STOCK - committed[sku] for sku in SKUS}
    await prove_books(inventory)


def id_in(answer: Reservation | Exception) -> str:
    """The id of a reservation that was made or changed."""
    assert isinstance(answer, Reservation), answer
    return answer.id


async def test_a_slot_moved_at_once_is_followed(
    inventory: Inventory, cluster: ClusterGroup, server_name: str
) -> None:
    """Valkey 9 moves all keys in one go; elsewhere a slot that is moved away and back is followed."""
    traffic, moving = Traffic(inventory, "whole"), busiest(inventory)
    await traffic.until_answered(50)
    origin, target = cluster.owner(moving), await elsewhere(cluster, moving)
    move = cluster.move_slot_at_once if server_name == "valkey" else cluster.move_slot
    for node in (target, origin):
        await asyncio.to_thread(move, moving, node)
        await traffic.until_answered(100)
    await traffic.stop()
    assert set(traffic.answers) == {"ok"}
    await traffic.prove(inventory)


async def test_a_slot_that_stays_half_moved_is_unavailable(
    inventory: Inventory, cluster: ClusterGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries are bounded; the rest of the data set works on."""
    monkeypatch.setattr(cluster_link, "LONGEST_WAIT_SECONDS", 0.02)
    moving = busiest(inventory)
    sku = next(sku for sku in SKUS if slot(keys.partition_of(sku, 64)) == moving)
    other = next(sku for sku in SKUS if slot(keys.partition_of(sku, 64)) != moving)
    source, target = cluster.owner(moving), await elsewhere(cluster, moving)
    ids = [node.call("CLUSTER", "MYID").decode() for node in (source, target)]
    target.call("CLUSTER", "SETSLOT", moving, "IMPORTING", ids[0])
    source.call("CLUSTER", "SETSLOT", moving, "MIGRATING", ids[1])
    source.call(
        *("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH2", "admin", "change-me-admin"),
        *("KEYS", keys.meta(keys.partition_of(sku, 64))),
    )
    with pytest.raises(StorageUnavailable, match="TRYAGAIN"):
        await inventory.reserve("half", [Line(sku, 1, PLACE)])
    await inventory.reserve("whole", [Line(other, 1, PLACE)])
    await asyncio.to_thread(cluster.move_slot, moving, target)
    assert not (await inventory.reserve("half", [Line(sku, 1, PLACE)])).replayed
    await prove_books(inventory)


async def test_a_primary_that_joins_later_is_used(inventory: Inventory, cluster: ClusterGroup) -> None:
    """It has no scripts and no connection of ours until it is given a slot."""
    traffic, moving = Traffic(inventory, "join"), busiest(inventory)
    joined = await asyncio.to_thread(cluster.add_node)
    await asyncio.to_thread(cluster.move_slot, moving, joined)
    await traffic.until_answered(200)
    await traffic.stop()
    assert set(traffic.answers) == {"ok"}
    assert cluster.owner(moving) is joined
    await traffic.prove(inventory)
    await asyncio.to_thread(cluster.move_slot, moving, cluster.primaries[0])


async def test_a_planned_promotion_loses_and_refuses_nothing(
    inventory: Inventory, cluster: ClusterGroup
) -> None:
    """The primary holds calls back until its replica has everything, then sends them there."""
    old = cluster.owner(busiest(inventory))
    replica = next(node for node in cluster.nodes if node.info().get("master_port") == str(old.port))
    traffic = Traffic(inventory, "planned")
    await traffic.until_answered(100)
    await asyncio.to_thread(replica.call, "CLUSTER", "FAILOVER")
    await asyncio.to_thread(
        wait_until, lambda: cluster.owner(busiest(inventory)) is replica, "the replica is promoted"
    )
    await traffic.until_answered(300)
    await traffic.stop()
    assert set(traffic.answers) == {"ok"}
    await traffic.prove(inventory)


async def test_writes_go_on_after_a_primary_is_killed(inventory: Inventory, cluster: ClusterGroup) -> None:
    """Its replica is promoted; what was under way is unknown, and repeating it converges."""
    victim = cluster.owner(busiest(inventory))
    await asyncio.to_thread(wait_until, lambda: has_replica(victim), "the replica has everything")
    traffic = Traffic(inventory, "kill")
    await traffic.until_answered(100)
    victim.kill()
    await asyncio.to_thread(
        wait_until, lambda: cluster.owner(busiest(inventory)) is not victim, "the replica is promoted"
    )
    await traffic.until_answered(400)
    await traffic.stop()
    assert traffic.answers["unavailable"] + traffic.answers["unconfirmed"] > 0
    await traffic.prove(inventory, may_lose=SHOPPERS)
    await prove_books(inventory)
    assert inventory.is_connected
    victim.start()
    await asyncio.to_thread(
        wait_until, lambda: victim.answers() and "slave" in victim.info()["role"], "it is back"
    )
    await asyncio.to_thread(cluster.wait_until_whole)
