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
        await scene.until_bitten(lambda: trace.hits)
    return {"slow fsyncs": trace.hits}


@fault()
async def slow_fsync_kill(scene: Scene) -> Evidence:
    """SIGKILL while an fsync takes its time."""
    before = scene.site.pid
    async with Traced(before, _slowly(scene)) as trace:
        await scene.pause(0.1, 0.3)
        await scene.until_bitten(lambda: trace.hits)
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
        refused = await scene.until_bitten(lambda: scene.crowd.counts["storage_unavailable"] - before)
        limit_file_size(scene.site.pid, -1)
        recovers = await wait_for(lambda: bool(_writes(client)), ENDS_WITHIN_SECONDS)
        client.delete("campaign")
    return {"refuses": int(refuses), "refused": refused, "recovers": int(recovers)}


def _writes(client: object) -> bool:
    return not is_refused(client, "MISCONF")  # type: ignore[arg-type]


@fault(is_proxied=True)
async def slow_link(scene: Scene) -> Evidence:
    """Everything takes longer on the way, back and forth."""
    proxy = scene.relay()
    before = proxy.delayed
    proxy.delay_seconds = scene.chance.uniform(0.002, 0.02)
    await scene.pause(0.2, 0.5)
    delayed = await scene.until_bitten(lambda: proxy.delayed - before)
    proxy.delay_seconds = 0.0
    return {"delayed": delayed}


@fault(is_proxied=True)
async def stalled_link(scene: Scene) -> Evidence:
    """Nothing passes for a while, and nobody is told."""
    proxy = scene.relay()
    before = proxy.stalled
    proxy.flows.clear()
    await scene.pause(0.1, 0.4)
    stalled = await scene.until_bitten(lambda: proxy.stalled - before)
    proxy.flows.set()
    return {"stalled": stalled}


@fault(is_proxied=True)
async def cut_link(scene: Scene) -> Evidence:
    """Connections end after some bytes, in the middle of a request or an answer."""
    proxy, cuts = scene.relay(), 0
    for _ in range(scene.chance.randint(2, 5)):
        before = proxy.cuts
        proxy.bytes_until_cut = scene.chance.randrange(0, 6000)
        cuts += await scene.until_bitten(lambda before=before: proxy.cuts - before)
        await scene.pause(0.0, 0.1)
    return {"cut": cuts}


@fault(is_proxied=True)
async def lost_answers(scene: Scene) -> Evidence:
    """The server does what it is asked, and its answers get lost with the connection."""
    proxy, lost = scene.relay(), 0
    for _ in range(scene.chance.randint(1, 3)):
        before = proxy.lost_answers
        proxy.is_losing_answers = True
        await scene.pause(0.05, 0.15)
        lost += await scene.until_bitten(lambda before=before: proxy.lost_answers - before)
        proxy.is_losing_answers = False
        await scene.pause(0.05, 0.1)
    return {"lost": lost}
