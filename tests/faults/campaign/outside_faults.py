"""Faults around a server: its disk, and the way to it."""

from tests.faults.campaign.faults import Evidence, Scene, fault
from tests.faults.campaign.machine import Traced, limit_file_size
from tests.faults.campaign.shoppers import wait_for
from tests.faults.campaign.sites import is_refused

ENDS_WITHIN_SECONDS = 5.0


@fault()
async def slow_fsync(scene: Scene) -> Evidence:
    """Each fsync takes tens of milliseconds."""
    async with Traced(scene.site.pid, _slowly(scene)) as trace:
        await scene.pause(0.2, 0.5)
    return {"slow fsyncs": trace.hits}


@fault()
async def slow_fsync_kill(scene: Scene) -> Evidence:
    """SIGKILL while an fsync takes its time."""
    before = scene.site.pid
    async with Traced(before, _slowly(scene)) as trace:
        await scene.pause(0.1, 0.3)
        await scene.site.kill()
    await scene.site.start()
    return {"slow fsyncs": trace.hits, "restarted": int(scene.site.pid != before)}


def _slowly(scene: Scene) -> str:
    return f"fdatasync:delay_enter={scene.chance.randrange(5_000, 50_000)}"


@fault()
async def disk_error(scene: Scene) -> Evidence:
    """The disk refuses to sync: a server that syncs always ends before it answers. Then the disk is well."""
    async with Traced(scene.site.pid, "fdatasync:error=EIO") as trace:
        has_ended = await scene.site.until_ended(ENDS_WITHIN_SECONDS)
    if has_ended:
        await scene.site.start()
    return {"failed fsyncs": trace.hits, "ended": int(has_ended)}


@fault()
async def disk_full(scene: Scene) -> Evidence:
    """The log may not grow any more: as `disk_error`, and the log may end in half a write."""
    room = scene.chance.randrange(0, 3000)
    limit_file_size(scene.site.pid, scene.site.log_file().stat().st_size + room)
    has_ended = await scene.site.until_ended(ENDS_WITHIN_SECONDS)
    if has_ended:
        await scene.pause(0.0, 0.1)
        await scene.site.start()
    return {"ended": int(has_ended)}


@fault(tier="none")
async def disk_full_unsynced(scene: Scene) -> Evidence:
    """The same for a server that syncs every second: it goes on, refuses to write, and recovers."""
    before = scene.crowd.counts["storage_unavailable"]
    limit_file_size(scene.site.pid, scene.site.log_file().stat().st_size)
    with scene.site.control() as client:
        refuses = await wait_for(lambda: is_refused(client, "MISCONF"), ENDS_WITHIN_SECONDS)
        await scene.pause(0.1, 0.3)
        limit_file_size(scene.site.pid, -1)
        recovers = await wait_for(lambda: bool(_writes(client)), ENDS_WITHIN_SECONDS)
        client.delete("campaign")
    refused = scene.crowd.counts["storage_unavailable"] - before
    return {"refuses": int(refuses), "refused": refused, "recovers": int(recovers)}


def _writes(client: object) -> bool:
    return not is_refused(client, "MISCONF")  # type: ignore[arg-type]


@fault(is_proxied=True)
async def slow_link(scene: Scene) -> Evidence:
    """Everything takes longer on the way, back and forth."""
    assert scene.proxy is not None
    before = scene.proxy.delayed
    scene.proxy.delay_seconds = scene.chance.uniform(0.002, 0.02)
    await scene.pause(0.2, 0.5)
    scene.proxy.delay_seconds = 0.0
    return {"delayed": scene.proxy.delayed - before}


@fault(is_proxied=True)
async def stalled_link(scene: Scene) -> Evidence:
    """Nothing passes for a while, and nobody is told."""
    assert scene.proxy is not None
    before = scene.proxy.stalled
    scene.proxy.flows.clear()
    await scene.pause(0.1, 0.4)
    scene.proxy.flows.set()
    return {"stalled": scene.proxy.stalled - before}


@fault(is_proxied=True)
async def cut_link(scene: Scene) -> Evidence:
    """Connections end after some bytes, in the middle of a request or an answer."""
    assert scene.proxy is not None
    before = scene.proxy.cuts
    for _ in range(scene.chance.randint(2, 5)):
        wanted = scene.proxy.cuts + 1
        scene.proxy.bytes_until_cut = scene.chance.randrange(0, 6000)
        await wait_for(lambda wanted=wanted: scene.proxy.cuts >= wanted, 1.0)
        await scene.pause(0.0, 0.1)
    scene.proxy.bytes_until_cut = -1
    return {"cut": scene.proxy.cuts - before}


@fault(is_proxied=True)
async def lost_answers(scene: Scene) -> Evidence:
    """The server does what it is asked, and its answers get lost with the connection."""
    assert scene.proxy is not None
    before = scene.proxy.lost_answers
    for _ in range(scene.chance.randint(1, 3)):
        scene.proxy.is_losing_answers = True
        await scene.pause(0.05, 0.15)
        scene.proxy.is_losing_answers = False
        await scene.pause(0.05, 0.1)
    return {"lost": scene.proxy.lost_answers - before}
