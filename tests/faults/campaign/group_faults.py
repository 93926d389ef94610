"""Faults of servers that belong together: promotions, replicas that stand still, slots that move."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from engine import keys
from engine.keys import partition_of
from engine.topology.slots import slot_of
from tests.faults.campaign.faults import Evidence, Scene, fault
from tests.topology.groups import Node, ServerError, wait_until

SLOW_KEYS_SECONDS = 0.02
NONE, ANY = frozenset({"none"}), frozenset({"none", "replicated"})
OF_OTHERS = ("ping", "info", "psync", "replconf", "publish", "subscribe")
"""Commands that replicas and Sentinels need, and callers do not."""


@fault("sentinel", may_lose=NONE)
async def failover(scene: Scene) -> Evidence:
    """The primary is killed, its replica promoted; it comes back as a replica."""
    old = await asyncio.to_thread(scene.site.group.primary)
    await asyncio.to_thread(old.kill)
    await _until_promoted(scene, old)
    await asyncio.to_thread(scene.site.group.bring_back, old)
    return {"promoted": 1}


@fault("sentinel", may_lose=NONE)
async def failover_frozen(scene: Scene) -> Evidence:
    """The primary stands still until its replica is promoted, then goes on and thinks it is one yet."""
    old = await asyncio.to_thread(scene.site.group.primary)
    old.pause()
    try:
        await _until_promoted(scene, old)
    finally:
        old.resume()
    await scene.pause(0.05, 0.2)
    await asyncio.to_thread(scene.site.group.demote, old)
    return {"promoted": 1}


@fault("sentinel", may_lose=NONE)
async def failover_behind(scene: Scene) -> Evidence:
    """The link to the replica stalls, so that it is behind when the primary is killed."""
    old = await asyncio.to_thread(scene.site.group.primary)
    replica = scene.site.other(old)
    replica.pause()
    try:
        await scene.pause(0.1, 0.3)
        await asyncio.to_thread(old.kill)
    finally:
        replica.resume()
    await _until_promoted(scene, old)
    await asyncio.to_thread(scene.site.group.bring_back, old)
    return {"promoted": 1}


@fault("sentinel", may_lose=ANY)
async def failover_asked(scene: Scene) -> Evidence:
    """Somebody asks for a promotion though nothing is broken. Until the old primary hears of it, it goes on,
    with a replica that confirms: no tier can help.
    """
    old = await asyncio.to_thread(scene.site.group.primary)
    await asyncio.to_thread(wait_until, lambda: _agrees(scene), "a Sentinel agrees to promote")
    await _until_promoted(scene, old)
    await asyncio.to_thread(scene.site.group.demote, old)
    return {"promoted": 1}


@fault("sentinel", may_lose=NONE)
async def split_brain(scene: Scene) -> Evidence:
    """Sentinels and replica are cut off from the primary, callers are not: two take writes for a while."""
    old = await asyncio.to_thread(scene.site.group.primary)
    before = scene.crowd.operations
    await asyncio.to_thread(old.call, "ACL", "SETUSER", "default", *(f"-{word}" for word in OF_OTHERS))
    await asyncio.to_thread(old.call, "CLIENT", "KILL", "TYPE", "replica")
    try:
        await _until_promoted(scene, old)
    finally:
        await asyncio.to_thread(old.call, "ACL", "SETUSER", "default", "+@all")
    await asyncio.to_thread(scene.site.group.demote, old)
    return {"promoted": 1, "answered meanwhile": scene.crowd.operations - before}


@fault("sentinel")
async def replica_frozen(scene: Scene) -> Evidence:
    """The replica stands still, for less than it takes to be given up."""
    replica = scene.site.other(await asyncio.to_thread(scene.site.group.primary))
    replica.pause()
    await scene.pause(0.1, 0.4)
    replica.resume()
    return {"frozen": 1}


def _agrees(scene: Scene) -> bool:
    """Asks for a promotion. A Sentinel that is busy with one, or finds no replica good enough, refuses."""
    with suppress(ServerError):
        scene.site.group.promote_replica()
        return True
    return False


async def _until_promoted(scene: Scene, old: Node) -> None:
    group = scene.site.group

    def is_promoted() -> bool:
        new = group.primary()
        with suppress(ServerError):
            return new is not old and new.info().get("role") == "master"
        return False

    await asyncio.to_thread(wait_until, is_promoted, "the replica is the primary")


@fault("cluster", may_lose=NONE)
async def primary_killed(scene: Scene) -> Evidence:
    """A primary of the cluster that has what the crowd wants is killed; it comes back as a replica."""
    site, slot = scene.site, _slot(scene)
    old = await asyncio.to_thread(site.group.owner, slot)
    await asyncio.to_thread(old.kill)
    await asyncio.to_thread(
        wait_until, lambda: site.group.owner(slot) is not old, f"slot {slot} has another primary"
    )
    old.start()
    await asyncio.to_thread(site.until_following, old)
    return {"promoted": 1}


@fault("cluster", may_lose=NONE)
async def primary_frozen(scene: Scene) -> Evidence:
    """The same primary stands still until another took its place, then goes on."""
    site, slot = scene.site, _slot(scene)
    old = await asyncio.to_thread(site.group.owner, slot)
    others = [node for node in site.group.nodes if node is not old]
    old.pause()
    try:
        await asyncio.to_thread(wait_until, lambda: _has_taken(others, slot), f"slot {slot} is taken over")
    finally:
        old.resume()
    await asyncio.to_thread(site.until_following, old)
    return {"promoted": 1}


@fault("cluster")
async def replica_killed(scene: Scene) -> Evidence:
    """A replica of the cluster is killed and comes back."""
    site = scene.site
    replicas = [node for node in site.group.nodes if node not in site.primaries()]
    replica = scene.chance.choice(replicas)
    await asyncio.to_thread(replica.kill)
    await scene.pause(0.1, 0.3)
    replica.start()
    await asyncio.to_thread(site.until_following, replica)
    return {"restarted": 1}


@fault("cluster")
async def slot_moved(scene: Scene) -> Evidence:
    """What the crowd wants moves to another primary: key by key, or at once where the server can."""
    site, slot = scene.site, _slot(scene)
    old = await asyncio.to_thread(site.group.owner, slot)
    new = scene.chance.choice([node for node in site.primaries() if node is not old])
    has_moved = False
    if scene.chance.random() < 0.5:
        with suppress(ServerError):  # a Redis cannot
            await asyncio.to_thread(site.group.move_slot_at_once, slot, new)
            has_moved = True
    if not has_moved:
        await asyncio.to_thread(site.group.move_slot, slot, new, pause_seconds=SLOW_KEYS_SECONDS)
    return {"moved": int(await asyncio.to_thread(site.group.owner, slot) is new)}


def _has_taken(nodes: Sequence[Node], slot: int) -> bool:
    """Whether one of these says that one of these has the slot."""
    ports = {node.port for node in nodes}
    for node in nodes:
        with suppress(ServerError):
            for first, last, primary, *_ in node.call("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return primary[1] in ports
    return False


def _slot(scene: Scene) -> int:
    partition = partition_of(scene.crowd.shelves[0][0], scene.site.partitions)
    return slot_of(keys.meta(partition).encode())
