"""The tier `replicated` on Sentinels and a cluster: what was acknowledged survives the loss of a node."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from time import monotonic

import pytest

import engine
from engine import Inventory, Line, Unavailable, Unconfirmed, keys
from engine.doctor import Severity, examine, is_ready
from engine.errors import ReservationNotFound
from engine.events import Gap, GapKind, LedgerReader, parse_version
from engine.topology.slots import slot_of
from tests.servers import find_program
from tests.topology.conftest import ADMIN, SENTINEL_SETTINGS, US
from tests.topology.groups import (
    ClusterGroup,
    Node,
    SentinelGroup,
    has_replica,
    start_cluster,
    start_sentinels,
    wait_until,
)
from tests.topology.traffic import PLACE, SKUS, Traffic, prove_books, stock_up

LOST = 20
WRITES_AGAIN_SECONDS = 15
REPLICAS = {"min-replicas-to-write": "1", "min-replicas-max-lag": "10"}


@pytest.fixture
def trio(server_name: str, deployed: Mapping[str, str]) -> Iterator[SentinelGroup]:
    """A primary and two replicas: the loss of one leaves one that confirms."""
    program = find_program(server_name).path
    with start_sentinels(
        program,
        replicas=2,
        settings={**deployed, **REPLICAS},
        sentinel_settings=SENTINEL_SETTINGS,
        entry=ADMIN,
    ) as group:
        group.url = group.url.replace("://", f"://{US}")
        yield group


@pytest.fixture
async def inventory(trio: SentinelGroup) -> AsyncIterator[Inventory]:
    """An engine of the tier."""
    opened = await engine.connect(trio.url, replicas=1)
    await stock_up(opened, "test")
    yield opened
    await opened.close()


def replicas_of(group: SentinelGroup) -> list[Node]:
    primary = group.primary()
    return [node for node in group.servers if node is not primary]


def cut_off(group: SentinelGroup) -> list[Node]:
    """Has both replicas stand still, with nothing on its way to them."""
    replicas = replicas_of(group)
    for replica in replicas:
        replica.pause()
    group.primary().call("CLIENT", "KILL", "TYPE", "replica")
    return replicas


async def promoted(group: SentinelGroup, victim: Node) -> None:
    await asyncio.to_thread(wait_until, lambda: group.primary() is not victim, "another is promoted")


async def test_nothing_acknowledged_is_lost_with_the_primary(
    inventory: Inventory, trio: SentinelGroup
) -> None:
    """Killed under load: the rest goes on, still waiting for a replica, in a new epoch."""
    before = await inventory.reserve("before", [Line(SKUS[0], 1, PLACE)])
    await inventory.release(before.id)
    traffic, victim = Traffic(inventory, "kill"), trio.primary()
    await traffic.until_answered(100)
    victim.kill()
    await traffic.until_answered(100, WRITES_AGAIN_SECONDS)
    await traffic.stop()
    assert traffic.answers["unavailable"] + traffic.answers["unconfirmed"] > 0
    await traffic.prove(inventory)
    await prove_books(inventory)
    after = await inventory.reserve("after", [Line(SKUS[0], 1, PLACE)])
    assert parse_version(after.version).epoch > parse_version(before.version).epoch
    reader = LedgerReader(inventory.dataset.topology, 0, after=parse_version(before.version))
    while items := await reader.read():
        assert not any(isinstance(item, Gap) for item in items)


async def test_what_no_replica_has_is_not_acknowledged(inventory: Inventory, trio: SentinelGroup) -> None:
    """Neither the first time nor as the repeat of what was done already; and it converges."""
    trio.primary().call("CONFIG", "SET", "min-replicas-to-write", 0)
    replicas = cut_off(trio)
    try:
        for _ in range(3):
            with pytest.raises(Unconfirmed):
                await inventory.reserve("once", [Line(SKUS[0], 1, PLACE)])
        read = await inventory.availability(SKUS[0])
    finally:
        for replica in replicas:
            replica.resume()
    traffic = Traffic(inventory, "again", shoppers=1)
    await traffic.until_answered(1)
    await traffic.stop()
    held = await inventory.reserve("once", [Line(SKUS[0], 1, PLACE)])
    assert held.replayed
    left = await inventory.availability(SKUS[0])
    assert left.available == read.available
    await prove_books(inventory)


async def test_a_repeat_by_one_who_wrote_nothing_is_not_acknowledged(
    inventory: Inventory, trio: SentinelGroup
) -> None:
    """What was done and is on its way to replicas that stand still is repeated over another connection: it
    has nothing of its own to wait for.
    """
    careless = await engine.connect(trio.url)
    other = await engine.connect(trio.url, replicas=1)
    await asyncio.to_thread(wait_until, lambda: has_replica(trio.primary()), "the replica has all")
    replicas = replicas_of(trio)
    for replica in replicas:
        replica.pause()
    try:
        await careless.reserve("once", [Line(SKUS[0], 1, PLACE)])
        with pytest.raises(Unconfirmed):
            await other.reserve("once", [Line(SKUS[0], 1, PLACE)])
    finally:
        for replica in replicas:
            replica.resume()
    await careless.close()
    await other.close()
    await prove_books(inventory)


async def test_without_the_tier_the_loss_is_seen(inventory: Inventory, trio: SentinelGroup) -> None:
    """What tier `none` acknowledged while the replicas stood still is gone, and a consumer is told so; in the
    same moments tier `replicated` acknowledged nothing.
    """
    careless = await engine.connect(trio.url)
    victim = trio.primary()
    victim.call("CONFIG", "SET", "min-replicas-to-write", 0)
    await asyncio.to_thread(wait_until, lambda: has_replica(victim), "the replica has all")
    replicas = cut_off(trio)
    held = [await careless.reserve(f"lost {n}", [Line(SKUS[n], 1, PLACE)]) for n in range(LOST)]
    with pytest.raises(Unconfirmed):
        await inventory.reserve("unconfirmed", [Line(SKUS[0], 1, PLACE)])
    victim.kill()
    for replica in replicas:
        replica.resume()
    await promoted(trio, victim)
    reader = LedgerReader(inventory.dataset.topology, 0, after=parse_version(held[-1].version))
    traffic = Traffic(inventory, "after")
    await traffic.until_answered(10)
    await traffic.stop()
    for reservation in held:
        with pytest.raises(ReservationNotFound):
            await careless.reservation(reservation.id)
    (gap, *_) = await reader.read()
    assert isinstance(gap, Gap)
    assert gap.kind is GapKind.ROLLED_BACK
    await traffic.prove(inventory)
    await prove_books(inventory)
    await careless.close()


async def refusals(inventory: Inventory) -> set[str]:
    findings = await examine(inventory.dataset, "replicated")
    found = {finding.name for finding in findings if finding.severity is Severity.REFUSAL}
    assert is_ready(findings) is (not found)
    return found


async def test_the_doctor_wants_replicas_that_keep_what_they_have(
    inventory: Inventory, trio: SentinelGroup
) -> None:
    """Each setting that breaks the tier is named, on whichever node it is; so is a replica that is gone."""
    primary, replicas = trio.primary(), replicas_of(trio)
    await asyncio.to_thread(wait_until, lambda: primary.info()["connected_slaves"] == "2", "both are there")
    assert await refusals(inventory) == set()
    for node, setting, wrong, right in (
        (primary, "min-replicas-to-write", "0", "1"),
        (primary, "appendfsync", "everysec", "always"),
        (replicas[0], "appendfsync", "everysec", "always"),
        (replicas[1], "no-appendfsync-on-rewrite", "yes", "no"),
        (replicas[1], "replica-read-only", "no", "yes"),
    ):
        node.call("CONFIG", "SET", setting, wrong)
        # A replica that does not answer in time is looked at the next time.
        async with asyncio.timeout(30):
            while not (found := await refusals(inventory)):  # noqa: ASYNC110 - of a server's settings
                await asyncio.sleep(0.05)
        assert found == {setting}
        node.call("CONFIG", "SET", setting, right)
    for replica in replicas:
        replica.kill()
    await asyncio.to_thread(wait_until, lambda: primary.info()["connected_slaves"] == "0", "both are gone")
    assert {"confirmation", "replicas"} <= await refusals(inventory)
    with pytest.raises(Unavailable):
        await inventory.reserve("no", [Line(SKUS[0], 1, PLACE)])
    assert (await inventory.availability(SKUS[0])).available
    replicas[0].start()
    await asyncio.to_thread(wait_until, lambda: primary.info()["connected_slaves"] == "1", "one is back")
    await asyncio.to_thread(wait_until, lambda: has_replica(primary), "it has all")
    assert await refusals(inventory) == set()


async def test_a_new_data_set_needs_its_replicas(trio: SentinelGroup) -> None:
    """Nothing is promised under a secret that the loss of a node would take along."""
    primary = trio.primary()
    primary.call("CONFIG", "SET", "min-replicas-to-write", 0)
    replicas = cut_off(trio)
    try:
        with pytest.raises(Unconfirmed):
            await engine.connect(trio.url, replicas=1)
    finally:
        for replica in replicas:
            replica.resume()


@pytest.fixture
def nine(server_name: str, deployed: Mapping[str, str]) -> Iterator[ClusterGroup]:
    """Three primaries with two replicas each."""
    program = find_program(server_name).path
    with start_cluster(program, replicas=2, settings={**deployed, **REPLICAS}, entry=ADMIN) as group:
        group.url = group.url.replace("://", f"://{US}")
        yield group


async def test_nothing_acknowledged_is_lost_with_a_primary_of_a_cluster(nine: ClusterGroup) -> None:
    """Killed under load: its partitions are written again in time, and the others were all the while."""
    inventory = await engine.connect(nine.url, replicas=1)
    await stock_up(inventory, "test")
    assert await refusals(inventory) == set()
    traffic = Traffic(inventory, "kill")
    await traffic.until_answered(100)
    victim = nine.primaries[0]
    mine = next(
        sku for sku in SKUS if nine.owner(slot_of(keys.meta(keys.partition_of(sku, 64)).encode())) is victim
    )
    victim.kill()
    began, tries = monotonic(), 0
    while True:
        try:
            held = await inventory.reserve("mine", [Line(mine, 1, PLACE)])
        except (Unavailable, Unconfirmed):
            tries += 1
            assert monotonic() - began < WRITES_AGAIN_SECONDS
            await asyncio.sleep(0.02)
        else:
            break
    assert tries
    await traffic.until_answered(200)
    await traffic.stop()
    await inventory.release(held.id)
    await traffic.prove(inventory)
    await prove_books(inventory)
    await inventory.close()
