"""Faults of one server: its process, its memory, its scripts, its clock, its data."""

import asyncio
import os
import shutil
import signal
from contextlib import suppress

from redis import RedisError

from engine.pace import PROBATION_MS
from engine.topology.aof import scan_append_only_file
from tests.faults.campaign.faults import Evidence, Scene, fault
from tests.faults.campaign.machine import is_stopped
from tests.faults.campaign.shoppers import wait_for
from tests.faults.campaign.sites import is_refused

HOUR_SECONDS = 3600
BUSY_AFTER_MS = 30
PROMPT_SECONDS = 5.0
WATCHES_VOUCH_AFTER_SECONDS = PROBATION_MS / 1000 + 0.3
MULTI, EXEC = b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n"


@fault()
async def kill(scene: Scene) -> Evidence:
    """SIGKILL under load, and a new start."""
    before = scene.site.pid
    await scene.site.kill()
    await scene.pause(0.0, 0.1)
    await scene.site.start()
    return {"restarted": int(scene.site.pid != before)}


@fault()
async def restart(scene: Scene) -> Evidence:
    """Ended in order under load, and a new start."""
    before = scene.site.pid
    await scene.site.stop()
    await scene.pause(0.0, 0.1)
    await scene.site.start()
    return {"restarted": int(scene.site.pid != before)}


@fault()
async def freeze(scene: Scene) -> Evidence:
    """SIGSTOP for a while."""
    os.kill(scene.site.pid, signal.SIGSTOP)
    was_stopped = await wait_for(lambda: is_stopped(scene.site.pid), PROMPT_SECONDS)
    await scene.pause(0.1, 0.5)
    os.kill(scene.site.pid, signal.SIGCONT)
    return {"stopped": int(was_stopped)}


@fault()
async def connections_killed(scene: Scene) -> Evidence:
    """The server closes all connections, again and again."""
    killed = 0
    with scene.site.control() as client:
        for _ in range(scene.chance.randint(2, 6)):
            killed += client.client_kill_filter(_type="normal", skipme=True)
            await scene.pause(0.02, 0.12)
    return {"connections": killed}


@fault()
async def timeouts(scene: Scene) -> Evidence:
    """Nobody waits for answers: half of all calls are cancelled while they are under way."""
    usual, before = scene.crowd.given_up, scene.crowd.counts["given up"]
    scene.crowd.given_up = 0.5
    await scene.pause(0.2, 0.5)
    given_up = await scene.until_bitten(lambda: scene.crowd.counts["given up"] - before)
    scene.crowd.given_up = usual
    return {"given up": given_up}


@fault()
async def memory_full(scene: Scene) -> Evidence:
    """No memory for writes that need some; what gives back goes on."""
    before = scene.crowd.counts["memory_full"]
    with scene.site.control() as client:
        client.config_set("maxmemory", "1")
        await scene.pause(0.1, 0.4)
        refused = await scene.until_bitten(lambda: scene.crowd.counts["memory_full"] - before)
        client.config_set("maxmemory", "0")
    return {"refused": refused}


@fault()
async def scripts_flushed(scene: Scene) -> Evidence:
    """The functions are gone, several times."""
    came_back = 0
    with scene.site.control() as client:
        for _ in range(scene.chance.randint(2, 5)):
            client.function_flush()
            came_back += await wait_for(lambda: bool(client.function_list()), PROMPT_SECONDS)
            await scene.pause(0.02, 0.08)
    return {"loaded again": came_back}


@fault()
async def endless_script(scene: Scene) -> Evidence:
    """Somebody else's script does not end; then it is killed."""
    with scene.site.control() as client, scene.site.control() as other:
        client.config_set("busy-reply-threshold", BUSY_AFTER_MS)
        endless = asyncio.ensure_future(asyncio.to_thread(_run_endless, other))
        was_busy = await wait_for(lambda: is_refused(client, "BUSY"), PROMPT_SECONDS)
        await scene.pause(0.05, 0.3)
        client.script_kill()
        await endless
        client.delete("campaign")
    return {"busy": int(was_busy)}


def _run_endless(client: object) -> None:
    with suppress(RedisError):
        client.eval("while true do end", 0)  # type: ignore[attr-defined]


@fault(has_clock=True)
async def clock_forward(scene: Scene) -> Evidence:
    """The server's clock jumps an hour ahead, and back."""
    return await _step_clock(scene, HOUR_SECONDS)


@fault(has_clock=True)
async def clock_back(scene: Scene) -> Evidence:
    """The server's clock jumps an hour back, and ahead again."""
    return await _step_clock(scene, -HOUR_SECONDS)


async def _step_clock(scene: Scene, seconds: int) -> Evidence:
    # A watch vouches when it has gone for a second. Until then the clock has the last word.
    await scene.pause(WATCHES_VOUCH_AFTER_SECONDS, WATCHES_VOUCH_AFTER_SECONDS + 0.3)
    with scene.site.control() as client:
        before = client.time()[0]
        scene.site.clock.step(seconds)
        # Valkey looks at the clock now and then, and goes by its own in between.
        has_stepped = await wait_for(lambda: abs(client.time()[0] - before - seconds) <= 2, PROMPT_SECONDS)
        # Some of it returns before any sweeper has seen it.
        await scene.pause(0.0, 0.5)
        scene.site.clock.step(0)
    return {"stepped": int(has_stepped)}


@fault()
async def comes_back_empty(scene: Scene) -> Evidence:
    """Another server answers, without any data. Nothing may be written there; then the right one is back."""
    site, kept = scene.site, scene.site.folder / "kept"
    await site.kill()
    site.data.rename(kept)
    await site.start()
    before = scene.crowd.counts["storage_unavailable"]
    await scene.pause(0.15, 0.4)
    refused = await scene.until_bitten(lambda: scene.crowd.counts["storage_unavailable"] - before)
    with site.control() as client:
        written = client.keys("*")
    assert not written, f"an empty server was written to: {written[:5]}"
    await site.kill()
    shutil.rmtree(site.data)
    kept.rename(site.data)
    await site.start()
    return {"refused": refused}


@fault(must_lose=True)
async def old_backup(scene: Scene) -> Evidence:
    """The server is killed, and its data of a while ago are put in place."""
    site, backup = scene.site, scene.site.folder / "backup"
    shutil.copytree(site.data / "appendonlydir", backup)
    before = scene.crowd.operations
    await scene.crowd.until(100)
    await site.kill()
    undone = scene.crowd.operations - before
    shutil.rmtree(site.data / "appendonlydir")
    shutil.move(backup, site.data / "appendonlydir")
    await site.start()
    return {"undone": undone}


@fault()
async def torn_tail(scene: Scene) -> Evidence:
    """Killed within a write that nobody was told of: some bytes of a transaction end the log. Two restarts
    after each, since half a script may come to life at the second.
    """
    site, torn = scene.site, 0
    for _ in range(scene.chance.randint(2, 3)):
        await site.kill()
        file = site.log_file()
        text = file.read_bytes()
        # The kill may have torn the very last one.
        ends = text.rindex(EXEC) + len(EXEC)
        last = text[text.rindex(MULTI, 0, ends) : ends]
        with file.open("ab") as end:
            end.write(last[: scene.chance.randrange(1, len(last))])
        torn += scan_append_only_file(file).torn_bytes > 0
        await site.start()
        await scene.pause(0.02, 0.1)
        await site.kill()
        await site.start()
        await scene.pause(0.02, 0.1)
    return {"torn": torn}
